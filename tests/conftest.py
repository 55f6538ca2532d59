"""What all tests share: the installed package, both backends, and Hypothesis' profile."""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `python -m pytest` puts the source tree first on the path, where no compiled core is; test what is installed.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

import hopmin  # noqa: E402
from hopmin import _backend  # noqa: E402

settings.register_profile("hopmin", deadline=None, print_blob=True)  # machines are shared: no test is timed
settings.load_profile("hopmin")

CORES = {"compiled": "hopmin._core", "numpy": "hopmin._core_numpy"}
BACKENDS = ("compiled", "numpy") if hopmin.BACKEND == "compiled" else ("numpy",)


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Runs a test on each backend that is installed."""
    monkeypatch.setattr(_backend, "core", import_module(CORES[request.param]))
    return request.param
