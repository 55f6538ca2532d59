"""Configuration and fixtures of all tests: the package under test, both backends, and Hypothesis profiles."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `python -m pytest` puts the source tree, which has no compiled core, first on the path; test the installed package.
if os.environ.get("HOPMIN_TESTED") != "source":
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

import hopmin  # noqa: E402
from hopmin import _backend  # noqa: E402

# No profile has a deadline, because the time of a test varies on shared machines.
settings.register_profile("default", deadline=None, print_blob=True, max_examples=30)
settings.register_profile("ci", settings.get_profile("default"), max_examples=100, derandomize=True)
settings.register_profile(
    "few", settings.get_profile("ci"), max_examples=10
)  # for debug and sanitizer builds, which are slow
settings.register_profile("many", settings.get_profile("default"), max_examples=1000)  # for overnight runs
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

KINDS = {"compiled": "", "numpy": "_numpy"}
BACKENDS = ("compiled", "numpy") if hopmin.BACKEND == "compiled" else ("numpy",)


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Run a test on each installed backend."""
    for name in ("core", "layers", "buffers"):
        monkeypatch.setattr(_backend, name, import_module(f"hopmin._{name}{KINDS[request.param]}"))
    return request.param


@pytest.fixture(params=_backend.core.SIMD, scope="module")
def simd(request):
    """Run a test on each instruction set of the core in use; the NumPy twin has only one."""
    core, before = _backend.core, _backend.core.simd()
    yield core.simd(request.param)
    core.simd(before)


@pytest.fixture
def threads():
    """set_threads, whose effect is undone after the test."""
    before = hopmin.get_threads()
    yield hopmin.set_threads
    hopmin.set_threads(before)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """run(code, *arguments, VARIABLE=value): run code in a new interpreter that imports the hopmin under test."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")  # outside the source tree

    def run(code, *arguments, **environment):
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "HOPMIN_BACKEND": hopmin.BACKEND, **environment},
            cwd=elsewhere,
            check=False,
            timeout=300,
        )

    return run


def pytest_collection_modifyitems(config, items):
    if not config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: run with -m slow"))
