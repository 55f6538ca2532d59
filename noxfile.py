"""Development tasks: `nox -l` lists them, `nox -s quick` runs one, `nox -R -s quick` runs it again without installing.

Arguments after `--` go to the tool: `nox -s "tests(compiled)" -- tests/memory -k nearest`. The full gate is `.ci/run`.
"""

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["quick"]
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
LINTERS = ("ruff", "cython-lint")
CORE = ("tests/core", "tests/memory/test_reduction.py", "tests/memory/test_nearest.py", "tests/memory/test_energy.py")
# Tests that take long even with few examples
SLOW = "test_laws or test_mutants or test_conformance or test_docs or test_cli or test_report"
BENCHMARKS = [[f"benchmarks.{name}", "--quick"] for name in ("core", "capacity", "transformer", "store")]


def install(session: nox.Session, *others: str) -> None:
    """Install hopmin in editable mode with its test dependencies; this builds the extensions in the source tree."""
    session.install("-e", ".[test]", *others)


def run_linters(session: nox.Session) -> None:
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", "hopmin", "noxfile.py")
    session.run("cython-lint", "hopmin")


@nox.session
def quick(session: nox.Session) -> None:
    """Run linters, mypy, and most tests with few examples: under two minutes on two cores."""
    install(session, *LINTERS, "mypy")
    run_linters(session)
    session.run("mypy")
    session.run("python", "-m", "pytest", "-k", f"not ({SLOW})", *session.posargs, env={"HYPOTHESIS_PROFILE": "few"})


@nox.session
@nox.parametrize("backend", ["compiled", "numpy"], ids=["compiled", "numpy"])
def tests(session: nox.Session, backend: str) -> None:
    """Run the whole test suite on one backend."""
    install(session)
    session.run("python", "-m", "pytest", *session.posargs, env={"HOPMIN_BACKEND": backend})


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """Run the whole test suite on the oldest versions that pyproject.toml allows."""
    floors = Path(session.create_tmp()) / "floors.txt"
    floors.write_text(session.run("python", ".ci/floors", silent=True), encoding="utf-8")
    install(session, "-c", str(floors))
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=["3.12", "3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """Run the whole test suite on newer versions of Python, and on the newest versions of all libraries."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Check the examples in chapters and docstrings, links, and figures."""
    install(session)
    session.run("python", "-m", "pytest", "tests/docs", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run all benchmarks on small shapes, or the given one: nox -s bench -- benchmarks.core --only energy/1024."""
    install(session)
    for arguments in [session.posargs] if session.posargs else BENCHMARKS:
        session.run("python", "-m", *arguments)


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff and cython-lint."""
    session.install(*LINTERS)
    run_linters(session)


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy, and stubtest on the stubs of the compiled modules."""
    install(session, "mypy")
    session.run("mypy", *session.posargs)
    stubs = ("hopmin._core", "hopmin._layers", "hopmin._buffers")
    session.run("python", "-m", "mypy.stubtest", "--mypy-config-file", "pyproject.toml", *stubs)


@nox.session
def cross(session: nox.Session) -> None:
    """Compile the C sources for every platform that gets a wheel, and run the core tests on emulated 64-bit ARM."""
    session.run("bash", ".ci/cross", external=True)
    session.run("bash", ".ci/emulate", external=True)


@nox.session
def debug(session: nox.Session) -> None:
    """Run the core tests on a build without optimisation that checks every index."""
    special_build(session, "HOPMIN_DEBUG")


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the core tests under AddressSanitizer and UndefinedBehaviorSanitizer (GCC)."""
    libraries = (
        session.run_always("gcc", f"-print-file-name={name}.so", external=True, silent=True)
        for name in ("libasan", "libubsan")
    )
    special_build(
        session,
        "HOPMIN_SANITIZE",
        LD_PRELOAD=" ".join(path.strip() for path in libraries),
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1",
    )


def special_build(session: nox.Session, variable: str, **environment: str) -> None:
    """Build a copy of the source tree with one of setup.py's variables set, and run the core tests on it."""
    install(session, "setuptools>=77", "Cython>=3.1")
    copy = Path(session.create_tmp()) / "hopmin"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "*.so", "*.c", "build", "dist", "*.egg-info"))
    session.chdir(copy)
    session.run("python", "setup.py", "-q", "build_ext", "--inplace", env={"HOPMIN_STRICT": "1", variable: "1"})
    session.run(
        *("python", "-m", "pytest", "-p", "no:cacheprovider", *(session.posargs or CORE)),
        env={
            "PYTHONPATH": str(copy),
            "HOPMIN_TESTED": "source",
            "HOPMIN_BACKEND": "compiled",
            "HYPOTHESIS_PROFILE": "few",
            **environment,
        },
    )
