"""The house: imports point one way, optional libraries stay optional, and the public names are where they are said to be."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hopmin

PACKAGE = Path(hopmin.__file__).parent
ROOMS = ["numerics", "memory", "data", "transformer", "paper", "study"]  # each may import from those before it
OPTIONAL = {"matplotlib", "jinja2", "tqdm", "hypothesis", "mpmath", "scipy", "sklearn", "pytest", "gguf", "safetensors", "threadpoolctl", "tokenizers"}
MAY_IMPORT = {
    "study/figures.py": {"matplotlib"},
    "study/report.py": {"matplotlib", "jinja2"},
    "cli.py": {"tqdm"},
    "transformer/pretrained.py": {"gguf", "safetensors", "tokenizers"},
    "transformer/data_parallel.py": {"threadpoolctl"},
    "data/tokenizers.py": {"tokenizers"},
    "sklearn.py": {"scipy", "sklearn"},
    "testing/laws.py": {"hypothesis", "mpmath"},
    "testing/strategies.py": {"hypothesis"},
}


def imports(path):
    """Full names of the modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    return [(path.relative_to(PACKAGE).as_posix(), path) for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize(("name", "path"), files(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_one_way(name, path):
    room = name.split("/")[0].removesuffix(".py")
    for module in imports(path):
        if not module.startswith("hopmin."):
            assert module.split(".")[0] not in OPTIONAL - MAY_IMPORT.get(name, set()), f"{name} imports {module}"
            continue
        target = module.split(".")[1]
        if room in ROOMS and target in ROOMS:
            assert ROOMS.index(target) <= ROOMS.index(room), f"{name} imports {module}"
        assert target != "testing" or room == "testing", f"{name} imports {module}"
        assert room != "testing" or target in ("testing", "numerics"), f"{name} imports {module}"
        assert {room, target} != {"memory", "data"}, f"{name} imports {module}"


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=PACKAGE.anchor,
        check=False,
    )


def test_importing_hopmin_imports_numpy_and_nothing_else():
    code = """
import sys, numpy
before = set(sys.modules)
import hopmin
new = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(name for name in new if "cython" not in name))  # what a Cython module calls its runtime
"""
    assert run(code).stdout == "['hopmin']\n"


def test_every_public_name_is_there_and_documented():
    for name in hopmin.__all__:
        assert name in dir(hopmin)
        value = getattr(hopmin, name)
        if callable(value):
            assert value.__doc__, name
            assert value.__name__ == name
    with pytest.raises(AttributeError, match="module 'hopmin' has no attribute 'nothing'"):
        hopmin.nothing  # noqa: B018


def test_every_module_opens_with_a_sentence():
    for name, path in files():
        if name != "_version.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name


def test_a_forced_backend_is_the_one_in_use():
    code = "import hopmin, hopmin._backend as b; print(hopmin.BACKEND, b.core.__name__)"
    assert run(code, HOPMIN_BACKEND="numpy").stdout == "numpy hopmin._core_numpy\n"
    assert run(code, HOPMIN_BACKEND=hopmin.BACKEND).stdout.startswith(hopmin.BACKEND)
    assert run(code, HOPMIN_BACKEND="numpy").stderr == ""


def test_a_backend_of_another_name_is_refused():
    finished = run("import hopmin", HOPMIN_BACKEND="cuda")
    assert finished.stderr.splitlines()[-1] == "ImportError: HOPMIN_BACKEND must be 'compiled' or 'numpy'; got 'cuda'"


MISSING = "import sys; sys.modules['hopmin._core'] = None; import hopmin, hopmin.cli; print(hopmin.BACKEND)"


def test_without_the_compiled_core_it_says_so_once_in_one_line():
    finished = run(MISSING, HOPMIN_BACKEND="")
    assert finished.stdout == "numpy\n"
    assert finished.stderr == "hopmin: the compiled core is not available; using the much slower NumPy twin.\n"


def test_a_forced_backend_that_is_missing_fails():
    finished = run(MISSING, HOPMIN_BACKEND="compiled")
    assert finished.returncode == 1
    assert "ImportError: HOPMIN_BACKEND=compiled, but the compiled core cannot be imported" in finished.stderr
