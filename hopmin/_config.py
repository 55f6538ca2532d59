"""The configuration of this installation [`show_config`]."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import hopmin
from hopmin import _backend, _threads

EXTRAS = {  # the libraries of each extra
    "pretrained": ("gguf", "tokenizers"),
    "sklearn": ("scikit-learn",),
    "study": ("jinja2", "matplotlib", "scipy", "threadpoolctl", "tqdm"),
    "testing": ("hypothesis", "mpmath"),
    "test": ("mypy", "numpydoc", "playwright", "pytest", "pytest-xdist"),
    "dev": ("build", "cython-lint", "nox", "pre-commit", "ruff"),
}


def show_config() -> None:
    """Print the versions of hopmin, Python and its libraries, the backend, its SIMD variant, and the number of threads.

    >>> show_config()  # doctest: +ELLIPSIS
    hopmin ... backend...
    """
    print(f"hopmin {hopmin.__version__}, backend {hopmin.BACKEND}")
    core = _backend.core
    simd = f"SIMD {core.simd()} (of {', '.join(core.SIMD)}), " if hopmin.BACKEND == "compiled" else ""
    print(f"{simd}{_threads.get_threads()} threads")
    print(f"Python {platform.python_version()} on {sys.platform} {platform.machine()}, {os.cpu_count()} processors")
    print(_installed("numpy"))
    for extra, libraries in EXTRAS.items():
        print(f"{extra}: {', '.join(map(_installed, libraries))}")


def _installed(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} not installed"
