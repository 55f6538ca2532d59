"""What is installed here: [`show_config`]."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import hopmin


def show_config() -> None:
    """Print hopmin's version and backend, and the versions of Python, NumPy and the optional libraries.

    >>> show_config()  # doctest: +ELLIPSIS
    hopmin ... backend...
    """
    print(f"hopmin {hopmin.__version__}, backend {hopmin.BACKEND}")
    print(f"Python {platform.python_version()} on {sys.platform} {platform.machine()}, {os.cpu_count()} processors")
    for library in ("numpy", "matplotlib", "jinja2", "tqdm", "hypothesis", "scipy", "scikit-learn"):
        try:
            print(f"{library} {version(library)}")
        except PackageNotFoundError:
            print(f"{library} not installed")
