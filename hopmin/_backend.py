"""Choose between the compiled modules and their NumPy twins at import: `core`, `layers` and `buffers`.

`core` is `_core.pyx` if it was compiled when hopmin was installed, otherwise its NumPy twin `_core_numpy.py`, and
likewise for the other two. Either all three are compiled or none is; if none is, a message is printed to stderr. It
says so if this package, such as a source tree, hides an installed one with a compiled core. Twins have the same
functions; their docstrings and types are written once, in the NumPy modules.

`HOPMIN_BACKEND=compiled` or `numpy` selects the backend, and `HOPMIN_SIMD` an instruction set of the compiled modules.
The import fails if the selected backend or instruction set is not available.
"""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from hopmin import _buffers_numpy, _core_numpy, _layers_numpy

__all__ = ["BACKEND", "buffers", "core", "layers"]

TWINS: tuple[ModuleType, ...] = _core_numpy, _layers_numpy, _buffers_numpy


def _hidden_by(folder: Path) -> Path | None:
    """Return the folder of the next hopmin on the path if it has the compiled core that the one in `folder` lacks."""
    if PathFinder.find_spec("hopmin._core", [str(folder)]):
        return None
    others = [entry for entry in sys.path if Path(entry).resolve() != folder.parent]
    spec = PathFinder.find_spec("hopmin", others)
    if not spec or not spec.origin or not PathFinder.find_spec("hopmin._core", [str(Path(spec.origin).parent)]):
        return None
    return Path(spec.origin).parent


def _missing(folder: Path) -> str:
    """Return what is missing, and what to do if it is there in an installed hopmin that the one in `folder` hides."""
    if not (hidden := _hidden_by(folder)):
        return "the compiled core is not available"
    return (
        f"the compiled core is not built in {folder}, which hides the hopmin installed in {hidden}; "
        f'start Python in another folder, or build the core with python -m pip install -e "{folder.parent}"'
    )


def _choose(wanted: str) -> tuple[str, tuple[ModuleType, ...]]:
    """Return the name of the backend and its modules: the compiled ones unless they are missing or not wanted."""
    if wanted not in ("", "compiled", "numpy"):
        raise ImportError(f"HOPMIN_BACKEND must be 'compiled' or 'numpy'; got {wanted!r}")
    if wanted == "numpy":
        return "numpy", TWINS
    try:
        from hopmin import _buffers, _core, _layers
    except ImportError as error:
        missing = _missing(Path(__file__).resolve().parent)
        if wanted == "compiled":
            raise ImportError(f"HOPMIN_BACKEND=compiled, but {missing}: {error}") from error
        print(f"hopmin: {missing}; using the much slower NumPy twin.", file=sys.stderr)
        return "numpy", TWINS
    compiled: tuple[ModuleType, ...] = _core, _layers, _buffers
    for module, twin in zip(compiled, TWINS, strict=True):
        for name in twin.FUNCTIONS:
            getattr(module, name).__doc__ = getattr(twin, name).__doc__
    return "compiled", compiled


BACKEND, _modules = _choose(os.environ.get("HOPMIN_BACKEND", ""))
if TYPE_CHECKING:  # twins have the same types
    from hopmin import _buffers as buffers
    from hopmin import _core as core
    from hopmin import _layers as layers
else:
    core, layers, buffers = _modules

if SIMD := os.environ.get("HOPMIN_SIMD", ""):
    if SIMD not in core.SIMD:
        raise ImportError(f"HOPMIN_SIMD must be one of {', '.join(map(repr, core.SIMD))} here; got {SIMD!r}")
    core.simd(SIMD)
    layers.simd(SIMD)
