"""The layout: imports have one direction, every module has tests and a chapter, optional libraries stay optional."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import helpers
import numpy as np
import pytest

import hopmin

PACKAGE = Path(hopmin.__file__).resolve().parent
ROOT = Path(__file__).resolve().parents[1]
ORDER = ["numerics", "special", "memory", "data", "transformer", "paper", "study"]  # each may import those before it
APART = {"memory", "data"}  # neither imports the other
OPTIONAL = {"pytest", "scipy", *(library for libraries in helpers.EXTRAS.values() for library in libraries)}
MAY_IMPORT = {
    "study/figures.py": {"matplotlib"},
    "study/charts.py": {"matplotlib"},
    "study/report.py": {"jinja2"},
    "study/statistics.py": {"scipy"},
    "study/experiments/grid.py": {"scipy"},
    "study/experiments/memorization.py": {"scipy"},
    "cli.py": {"tqdm"},
    "transformer/pretrained.py": {"gguf", "tokenizers"},
    "transformer/data_parallel.py": {"threadpoolctl"},
    "data/tokenizers.py": {"tokenizers"},
    "sklearn.py": {"scipy", "sklearn"},
    "testing/laws/energies.py": {"hypothesis"},
    "testing/laws/memories.py": {"hypothesis"},
    "testing/laws/metrics.py": {"hypothesis"},
    "testing/laws/numerics.py": {"hypothesis", "mpmath"},
    "testing/laws/retrieval.py": {"hypothesis"},
    "testing/laws/search.py": {"hypothesis"},
    "testing/laws/transformers.py": {"hypothesis"},
    "testing/laws/layers.py": {"hypothesis", "mpmath"},
    "testing/laws/optimizers.py": {"hypothesis", "mpmath"},
    "testing/laws/samplers.py": {"hypothesis", "mpmath"},
    "testing/registry.py": {"hypothesis"},
    "testing/conformance.py": {"hypothesis", "pytest"},
    "testing/strategies.py": {"hypothesis"},
}
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
PUBLIC = [name for name in FILES if not any(part.startswith("_") for part in name.split("/"))]
LAWS = "testing/laws/"  # all of these have one test file


def imports(tree):
    """Yield the full names that the statements of a syntax tree import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def header(chapter):
    """Return the modules and the tests that the header of a chapter, "Module: ... Tests: ...", links."""
    text = re.search(r"^Modules?: .*?(?=\n\n)", chapter.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    parts = text[0].partition("Tests:") if text else ("", "", "")
    return [{(chapter.parent / link).resolve() for link in re.findall(r"\]\(([^)]+)\)", part)} for part in parts[::2]]


HEADERS = {path.name: header(path) for path in sorted((ROOT / "docs").glob("*.md"))}


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name):
    package = name.split("/")[0].removesuffix(".py")
    for module in imports(parsed(name)):
        if not module.startswith("hopmin."):
            assert module.split(".")[0] not in OPTIONAL - MAY_IMPORT.get(name, set()), f"{name} imports {module}"
            continue
        target = module.split(".")[1]
        if package in ORDER and target in ORDER:
            assert ORDER.index(target) <= ORDER.index(package), f"{name} imports {module}"
        assert {package, target} != APART, f"{name} imports {module}"
        assert target != "testing" or package in ("testing", "cli"), f"{name} imports {module}"
        assert package != "testing" or target in ("testing", "numerics", "_extras", "_version"), f"{name} imports {module}"


def test_imports_have_no_cycle():
    """Only imports that run on import count: not those in functions or under TYPE_CHECKING."""
    modules = {("hopmin." + name.removesuffix(".py").replace("/", ".")).removesuffix(".__init__"): name for name in FILES}
    graph = {}
    for module, name in modules.items():
        run = [node for node in parsed(name).body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)]
        imported = {full if full in modules else full.rpartition(".")[0] for full in imports(ast.Module(run))}
        graph[module] = imported & modules.keys() - {module}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_module_has_tests_and_one_chapter(name):
    tested = Path("testing/laws.py" if name.startswith(LAWS) else name)
    tests = ROOT / "tests" / tested.parent / f"test_{tested.name}"
    assert tests.exists(), f"{name} has no {tests.relative_to(ROOT)}"
    chapters = [chapter for chapter, (modules, _) in HEADERS.items() if ROOT / "hopmin" / name in modules]
    assert len(chapters) == 1, f"{name} must be named by one chapter's header; it is by {chapters}"
    assert tests in HEADERS[chapters[0]][1], f"the header of {chapters[0]} does not link {tests.relative_to(ROOT)}"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_names_of_tests_are_short(path):
    functions = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef))
    assert [node.name for node in functions if node.name.startswith("test_") and len(node.name) >= 60] == []


def test_importing_hopmin_imports_numpy_and_nothing_else(run):
    code = """
import sys, numpy
before = set(sys.modules)
import hopmin
new = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(name for name in new if "cython" not in name))  # the runtime module of Cython
"""
    assert run(code).stdout == "['hopmin']\n"


def test_the_extras_are_those_of_pyproject():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, libraries in helpers.EXTRAS.items():
        named = [requirement.partition(">=")[0].replace("scikit-learn", "sklearn") for requirement in pyproject[extra]]
        assert named == libraries


@pytest.mark.parametrize("name", FILES)
def test_optional_imports_name_their_extra(name):
    """Each stands in a `with needed_by(...)` block, but threadpoolctl, without which it works, and pytest, which then runs."""
    text = FILES[name].read_text(encoding="utf-8")
    guarded = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.With) and "needed_by(" in ast.unparse(node.items[0]):
            (call,) = (item.context_expr for item in node.items)
            guarded |= {module.split(".")[0]: call.args[1].value for module in imports(node)}
    for module in {module.split(".")[0] for module in imports(ast.parse(text))} & OPTIONAL - {"threadpoolctl", "pytest"}:
        assert module in [*helpers.EXTRAS[guarded[module]], "scipy"], module


def test_a_missing_extra_is_named_in_one_sentence(run):
    """Every module can be imported with NumPy alone, or says which extra it needs."""
    code = """
import importlib, pkgutil, sys
sys.modules |= dict.fromkeys(sys.argv[1:])
import hopmin
for module in pkgutil.walk_packages(hopmin.__path__, "hopmin.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(f"{module.name}: {error}")
"""
    found = dict(line.split(": ", 1) for line in run(code, *OPTIONAL).stdout.splitlines())
    study = {name: found.pop(name) for name in list(found) if name.startswith("hopmin.study.")}
    command = "python -m pip install"
    assert found == {
        "hopmin.sklearn": f'hopmin.sklearn needs scipy: {command} "hopmin[sklearn]"',
        "hopmin.testing": f'hopmin.testing needs hypothesis: {command} "hopmin[testing]"',
    }
    assert {"hopmin.study.figures", "hopmin.study.report", "hopmin.study.experiments.floor"} <= study.keys()
    for sentence in study.values():
        assert re.fullmatch(rf'hopmin\.study\.\w+ needs \w+: {command} "hopmin\[study\]"', sentence)


def test_public_names_exist_and_are_documented():
    for name in hopmin.__all__:
        assert name in dir(hopmin)
        value = getattr(hopmin, name)
        if callable(value):
            assert value.__doc__, name
            assert value.__name__ == name
    with pytest.raises(AttributeError, match="module 'hopmin' has no attribute 'nothing'"):
        hopmin.nothing  # noqa: B018


def test_every_module_has_a_docstring():
    for name in FILES:
        if name != "_version.py":
            assert ast.get_docstring(parsed(name)), name


def test_a_forced_backend_is_the_one_in_use(run):
    code = "import hopmin, hopmin._backend as b; print(hopmin.BACKEND, b.core.__name__)"
    assert run(code, HOPMIN_BACKEND="numpy").stdout == "numpy hopmin._core_numpy\n"
    assert run(code, HOPMIN_BACKEND=hopmin.BACKEND).stdout.startswith(hopmin.BACKEND)
    assert run(code, HOPMIN_BACKEND="numpy").stderr == ""


def test_unknown_backends_are_rejected(run):
    finished = run("import hopmin", HOPMIN_BACKEND="cuda")
    assert finished.stderr.splitlines()[-1] == "ImportError: HOPMIN_BACKEND must be 'compiled' or 'numpy'; got 'cuda'"


MISSING = "import sys; sys.modules['hopmin._core'] = None; import hopmin, hopmin.cli; print(hopmin.BACKEND)"


def test_a_missing_core_is_reported_in_one_line(run):
    finished = run(MISSING, HOPMIN_BACKEND="")
    assert finished.stdout == "numpy\n"
    assert finished.stderr == "hopmin: the compiled core is not available; using the much slower NumPy twin.\n"


def test_a_tree_that_hides_a_compiled_core_is_reported(tmp_path):
    """As in a clone after an installation that is not editable: both paths are named, and what to do."""
    clone, site = tmp_path / "clone", tmp_path / "site"
    for folder in (clone, site):
        shutil.copytree(PACKAGE, folder / "hopmin", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    (site / "hopmin" / f"_core{EXTENSION_SUFFIXES[-1]}").touch()

    def message(backend):
        path = os.pathsep.join(map(str, [site, Path(np.__file__).parents[1]]))
        environment = {**os.environ, "PYTHONPATH": path, "HOPMIN_BACKEND": backend}
        command = [sys.executable, "-S", "-c", "import hopmin"]  # -S: an editable install would find its core anywhere
        return subprocess.run(command, capture_output=True, text=True, cwd=clone, env=environment, check=False).stderr

    told = (
        f"the compiled core is not built in {clone / 'hopmin'}, which hides the hopmin installed in {site / 'hopmin'}; "
        f'start Python in another folder, or build the core with python -m pip install -e "{clone}"'
    )
    assert message("") == f"hopmin: {told}; using the much slower NumPy twin.\n"
    assert f"ImportError: HOPMIN_BACKEND=compiled, but {told}: " in message("compiled")
    assert "hides" not in message("numpy")


def test_a_forced_backend_that_is_missing_fails(run):
    finished = run(MISSING, HOPMIN_BACKEND="compiled")
    assert finished.returncode == 1
    assert "ImportError: HOPMIN_BACKEND=compiled, but the compiled core is not available" in finished.stderr
