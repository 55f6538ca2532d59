"""The configuration of this installation [`show_config`]."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import hopmin
from hopmin import _backend, _threads


def show_config() -> None:
    """Print the versions of hopmin, Python and its libraries, the backend, its SIMD variant, and the number of threads.

    >>> show_config()  # doctest: +ELLIPSIS
    hopmin ... backend...
    """
    print(f"hopmin {hopmin.__version__}, backend {hopmin.BACKEND}")
    core = _backend.core
    print(f"SIMD {core.simd()} (of {', '.join(core.SIMD)}), {_threads.get_threads()} threads")
    print(f"Python {platform.python_version()} on {sys.platform} {platform.machine()}, {os.cpu_count()} processors")
    for library in ("numpy", "matplotlib", "jinja2", "tqdm", "hypothesis", "scipy", "scikit-learn"):
        try:
            print(f"{library} {version(library)}")
        except PackageNotFoundError:
            print(f"{library} not installed")
