"""Comparisons with a slack; a failure is a `Violation`, which keeps the numbers compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

_tolerance: ContextVar[float] = ContextVar("tolerance", default=1.0)


class Violation(AssertionError):
    """A law does not hold: a number is too large, or two results that must be equal differ.

    Attributes
    ----------
    message : str
        The sentence that is printed.
    what : str
        What was compared.
    left, right, slack : float or None
        The worst element: the number that is judged, the bound or the number that it must equal, and the slack between
        them. None if shapes, dtypes or bits differ.
    """

    def __init__(
        self, message: str, what: str, left: float | None = None, right: float | None = None, slack: float | None = None
    ) -> None:
        super().__init__(message)
        self.what, self.left, self.right, self.slack = what, left, right, slack


@contextmanager
def tolerance(factor: float) -> Iterator[None]:
    """Multiply every slack by a factor."""
    token = _tolerance.set(factor)
    try:
        yield
    finally:
        _tolerance.reset(token)


def at_most(left: Any, right: Any, slack: Any, what: str) -> None:
    """Check left <= right + slack elementwise; NaN on either side fails, equal infinities pass.

    Parameters
    ----------
    left, right, slack : array_like
        Numbers that broadcast.
    what : str
        What is compared, for the message.

    Raises
    ------
    Violation
        With the numbers of the worst element.
    """
    _compare(left, right, slack, what, equal=False)


def close(actual: Any, expected: Any, slack: Any, what: str) -> None:
    """Check |actual - expected| <= slack elementwise, and that shapes are equal.

    Parameters
    ----------
    actual, expected, slack : array_like
        Numbers; the slack broadcasts.
    what : str
        What is compared, for the message.

    Raises
    ------
    Violation
        With the numbers of the worst element, or the shapes if they differ.
    """
    if np.shape(actual) != np.shape(expected):
        raise Violation(f"{what}: shape must be {np.shape(expected)}; got {np.shape(actual)}", what)
    _compare(actual, expected, slack, what, equal=True)


def _compare(left: Any, right: Any, slack: Any, what: str, *, equal: bool) -> None:
    """Check left <= right + slack, and with `equal` right <= left + slack too; raise with the worst element."""
    left, right, slack = np.broadcast_arrays(
        np.asarray(left, float), np.asarray(right, float), np.asarray(slack, float) * _tolerance.get()
    )
    with np.errstate(invalid="ignore"):
        holds, excess = left <= right + slack, left - right
        if equal:
            holds, excess = holds & (right <= left + slack), np.abs(excess)
        excess = np.where(holds, -np.inf, excess - slack)
    excess = np.where(np.isnan(excess), np.inf, excess)  # also of arrays without axes
    if holds.all():
        return
    worst = np.unravel_index(excess.argmax(), excess.shape)
    place = f" at index {tuple(map(int, worst))}" if worst else ""
    relation, tolerance = "be" if equal else "be at most", f"(tolerance {slack[worst]:.3g})"
    numbers = f"{left[worst]:.17g} must {relation} {right[worst]:.17g}"
    raise Violation(
        f"{what}: {numbers} {tolerance}{place}", what, float(left[worst]), float(right[worst]), float(slack[worst])
    )


def same(actual: Any, expected: Any, what: str) -> None:
    """Check that bits, shapes and dtypes are the same.

    Parameters
    ----------
    actual, expected : array_like
        What is compared.
    what : str
        A name of it, for the message.

    Raises
    ------
    Violation
        If they differ.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        wanted, got = (f"{a.dtype} of shape {a.shape}" for a in (expected, actual))
        raise Violation(f"{what}: must be {wanted}; got {got}", what)
    differ = _bits(actual) != _bits(expected)
    if differ.any():
        raise Violation(f"{what}: {_difference(actual, expected, differ)}", what)


def _bits(a: Any) -> Any:
    """Return the bytes of each element (size, itemsize)."""
    return np.frombuffer(a.tobytes(), np.uint8).reshape(a.size, -1) if a.size else np.empty((0, 1), np.uint8)


def _difference(actual: Any, expected: Any, differ: Any) -> str:
    """Return both arrays if they print whole and differently, and else the first elements that differ, exactly."""
    if repr(actual) != repr(expected) and "..." not in repr(expected) and actual.size <= 20:
        return f"must be {expected!r}; got {actual!r}"
    elements = np.flatnonzero(differ.any(axis=1))
    index = tuple(map(int, np.unravel_index(elements[0], actual.shape)))
    wanted, got = (repr(a[index]) for a in (expected, actual))
    if wanted == got:  # NaN with another payload
        wanted, got = (f"{a[index]!r} with the bits 0x{a[index].tobytes()[::-1].hex()}" for a in (expected, actual))
    place = f" at index {index}" if index else ""
    others = f", and {len(elements) - 1} more of {actual.size} differ" if len(elements) > 1 else ""
    return f"must be {wanted}; got {got}{place}{others}"


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to every leaf of nested tuples, named tuples, lists and dicts.

    >>> mapped(abs, (-1, {"a": [-2]}))
    (1, {'a': [2]})
    """
    match value:
        case dict():
            return {name: mapped(function, part) for name, part in value.items()}
        case list():
            return [mapped(function, part) for part in value]
        case tuple():
            parts = [mapped(function, part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return function(value)


def as_tuple(result: Any) -> tuple[Any, ...]:
    """Return a tuple as it is, and anything else as a tuple of one."""
    return result if isinstance(result, tuple) else (result,)
