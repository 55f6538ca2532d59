"""Standard arithmetic for public functions, whatever the calling program has set: [`standard`], [`standard_methods`].

A program may turn NumPy's floating-point errors into exceptions (`np.seterr(all="raise")`), and then every weight that
underflows to 0 would raise one. A library compiled with -ffast-math makes its thread replace subnormal numbers by zero,
and another one may change the direction of rounding. Inside the functions decorated here NumPy handles errors as it
does by default (or ignores them, if the program does), and the processor computes as IEEE 754 prescribes; both are
restored afterwards. The compiled core sets the state of the processor for each thread that it runs on. The NumPy twin
cannot set it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import isfunction
from typing import Any, ParamSpec, TypeVar

import numpy as np

from hopmin import _backend

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)

STANDARD = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # NumPy's default


def standard(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function with standard arithmetic."""

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        state = _backend.core.standard_state()
        try:
            handling = np.geterr()
            if handling == STANDARD:  # as everywhere inside a decorated function
                return function(*args, **kwargs)
            with np.errstate(**_standardized(handling)):
                return function(*args, **kwargs)
        finally:
            _backend.core.restore_state(state)

    return call


def _standardized(handling: Mapping[str, Any]) -> dict[str, Any]:
    """Return NumPy's default handling of errors, except that those ignored by the caller remain ignored."""
    return {error: "ignore" if handling[error] == "ignore" else default for error, default in STANDARD.items()}


def standard_methods(cls: Class) -> Class:
    """Give all public methods and properties that a class defines standard arithmetic."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isfunction(member):
            setattr(cls, name, standard(member))
        elif isinstance(member, property) and member.fget:
            setattr(cls, name, member.getter(standard(member.fget)))
    return cls
