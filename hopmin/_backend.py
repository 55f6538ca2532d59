"""Picks one of the two cores, loudly: the compiled one where it was built, else its NumPy twin.

`HOPMIN_BACKEND=compiled` or `numpy` forces one, and fails if it is missing; so does `HOPMIN_SIMD` for a variant of it.
"""

import functools
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar, cast

from hopmin import _core_numpy

Function = TypeVar("Function", bound=Callable[..., Any])
core: ModuleType = _core_numpy
layers: ModuleType | None = None  # the transformer's rows, where they are compiled
BACKEND = os.environ.get("HOPMIN_BACKEND", "")
if BACKEND not in ("", "compiled", "numpy"):
    raise ImportError(f"HOPMIN_BACKEND must be 'compiled' or 'numpy'; got {BACKEND!r}")
if BACKEND != "numpy":
    try:
        from hopmin import _core, _layers
    except ImportError as error:
        if BACKEND == "compiled":
            raise ImportError(f"HOPMIN_BACKEND=compiled, but the compiled core cannot be imported: {error}") from error
        print("hopmin: the compiled core is missing here; its NumPy twin is in use, slower by far.", file=sys.stderr)
        BACKEND = "numpy"
    else:
        for name in _core_numpy.FUNCTIONS:  # one docstring, two bodies
            getattr(_core, name).__doc__ = getattr(_core_numpy, name).__doc__
        core, layers, BACKEND = _core, _layers, "compiled"

if SIMD := os.environ.get("HOPMIN_SIMD", ""):
    if SIMD not in core.SIMD:
        raise ImportError(f"HOPMIN_SIMD must be one of {', '.join(map(repr, core.SIMD))} here; got {SIMD!r}")
    core.simd(SIMD)
    if layers:
        layers.simd(SIMD)


def compiled(function: Function) -> Function:
    """What `_layers.pyx` has under the function's name, where that was built: the same in one pass over memory.

    The function itself says what is meant, and is what runs elsewhere; it stays at hand as `__wrapped__`.
    """
    if layers is None:
        return function
    return cast(Function, functools.update_wrapper(getattr(layers, function.__name__), function))
