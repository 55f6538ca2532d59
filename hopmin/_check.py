"""Argument checks, and all argument error messages. (Messages about files are in `_files`.)

Arguments are checked once, where they enter the library. What comes out is a C-contiguous float32 or float64 array, an
int64 array, or a plain Python number.

- arrays: [`real`], [`slices`], [`floats`], [`pair`], [`matching_values`], [`new_patterns`], [`storable`], [`indices`],
  [`boolean_mask`], [`tokens`], [`token_rows`]
- their numbers: [`finite`], [`binary`], [`numbers_below`], [`too_large`], [`cast`]
- single numbers: [`number`], [`integer`], [`boolean`]
- objects: [`energy`], [`generator`], [`update_order`]
- names: [`choice`], [`letters`]

Each message is one sentence: the name of the argument, what was expected, what was given.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

from hopmin import _backend
from hopmin._typing import Array

# Arrays


def real(name: str, a: Any) -> Array:
    """Return `a` as a floating-point array of any shape; integers become float64. NaN and infinities are allowed."""
    a = _array(name, a)
    if a.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers; got dtype {a.dtype}")
    return a if a.dtype.kind == "f" else a.astype(np.float64)


def slices(name: str, a: Any, axis: int | tuple[int, ...] | None) -> Array:
    """Return `a` as `real` does; raise if a slice along `axis` is empty."""
    a = real(name, a)
    if a.size == 0 and np.max(a, axis=axis, initial=0).size:
        raise ValueError(f"{name} must not be empty along axis {axis}; got shape {a.shape}")
    return a


def floats(name: str, a: Any, shape: str, **sizes: int) -> Array:
    """Return `a` as a finite C-contiguous float32 or float64 array; integers become float64, float16 becomes float32.

    `shape` names the axes in the library's letters ("n d"); `sizes` fixes the length of some (d=3). Only the axis of
    queries, m, may be empty.
    """
    a = _shaped(name, _single_or_double(name, a), shape, **sizes)
    a = np.ascontiguousarray(a)
    finite(name, a)
    return a


def pair(queries: Any, patterns: Any) -> tuple[Array, Any, tuple[int, ...]]:
    """Return queries (m, d) in the common dtype, patterns (n, d), and the shape of the results: (m,) or ().

    Patterns may be large, mapped from a file, or packed, so they are returned as they are: the search casts them to the
    queries' dtype and checks that they are finite, one block at a time.
    """
    if not hasattr(patterns, "_panels"):  # not packed
        patterns = _shaped("patterns", real("patterns", patterns), "n d")
        _single_or_double("patterns", patterns[:0])
    d = patterns.shape[1]
    queries = _single_or_double("queries", queries)
    single = queries.ndim == 1
    queries = floats("queries", queries[None] if single and len(queries) == d else queries, "m d", d=d)
    dtype = np.result_type(queries, _single_or_double("patterns", patterns[:0]))
    return queries.astype(dtype, copy=False), patterns, () if single else (len(queries),)


def matching_values(values: Any, queries: Array, patterns: Any) -> tuple[Array, Array]:
    """Return queries and values (n, v), one row for each pattern, both in their common dtype."""
    values = floats("values", values, "n v", n=len(patterns))
    dtype = np.result_type(queries, values)
    return queries.astype(dtype, copy=False), values.astype(dtype, copy=False)


def finite(name: str, a: Array, first: int = 0) -> None:
    """Raise if an entry is not finite; the index in the message counts rows from `first`."""
    if a.flags.c_contiguous and a.dtype in (np.float32, np.float64):
        if np.isfinite(_backend.core.max_abs(a.reshape(-1))):
            return
    elif np.isfinite(a).all():
        return
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(a))[0])
    place = (index[0] + first, *index[1:])
    raise ValueError(f"{name} must be finite; got {a[index]} at index {place[0] if len(place) == 1 else place}")


def binary(name: str, a: Array) -> None:
    """Raise if an entry of `a` (m, d) is neither -1 nor 1."""
    if (wrong := np.abs(a) != 1).any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must contain only -1 and 1; got {a[index]} at index {index}")


def numbers_below(name: str, a: Any, limit: float) -> Array:
    """Return numbers in [0, limit), of any shape, as float64."""
    a = real(name, a).astype(np.float64)
    if (wrong := ~((a >= 0) & (a < limit))).any():
        raise ValueError(f"{name} must be numbers in [0, {limit:g}); got {a[wrong][0]}")
    return a


def too_large(queries: Array, patterns: Any, dtype: Any) -> ValueError:
    """The error to raise when scores of finite numbers overflow."""
    reach = float(np.abs(patterns).max()) + float(np.abs(queries).max(initial=0))
    return ValueError(f"queries and patterns must be small enough to square in {dtype}; got values up to {reach:.3g}")


def cast(result: Array, queries: Array, patterns: Any, dtype: Any) -> Array:
    """Return the result in `dtype`; raise if it overflows."""
    with np.errstate(over="ignore"):
        rounded = result.astype(dtype, copy=False)
    if not np.isfinite(rounded).all():
        raise too_large(queries, np.asarray(patterns), dtype)
    return rounded


def new_patterns(name: str, a: Any, d: int, dtype: Any) -> tuple[Array, bool]:
    """Return patterns to store, (k, d) in `dtype`, and whether a single one, (d,), was given."""
    a = _single_or_double(name, a)
    single = a.ndim == 1 and len(a) == d
    a = floats(name, a[None] if single else a, "k d", d=d)
    with np.errstate(over="ignore"):
        rounded = a.astype(dtype, copy=False)
    if not np.isfinite(rounded).all():
        raise ValueError(f"{name} must fit into {dtype}; got values up to {np.abs(a).max():.3g}")
    return rounded, single


def storable(name: str, a: Any, n: int, single: bool = False) -> Array:
    """Return values to store, a copy (n, ...) of any dtype but object; with `single`, one value without its axis."""
    a = _array(name, a)
    a = a[None] if single else a
    if a.dtype.hasobject:
        raise TypeError(f"{name} must not be an object array; got dtype {a.dtype}")
    if a.ndim == 0 or len(a) != n:
        raise ValueError(f"{name} must have shape (n, ...) with n = {n}; got {a.shape}")
    return a.copy()


def indices(name: str, a: Any, n: int) -> Array:
    """Return unique integers from 0 to n - 1 as int64 (k,)."""
    a = np.atleast_1d(_array(name, a))
    if a.dtype.kind not in "iu" and a.size:
        raise TypeError(f"{name} must be integers; got dtype {a.dtype}")
    if a.ndim != 1 or (a.size and (a.min() < 0 or a.max() >= n)) or len(np.unique(a)) != len(a):
        raise ValueError(f"{name} must be unique integers from 0 to {n - 1}; got {a.tolist()!s:.60}")
    return a.astype(np.int64)


def boolean_mask(name: str, a: Any, shape: str, **sizes: int) -> Array:
    """Return booleans, one row for each query; a single row is broadcast to all of them."""
    a = _array(name, a)
    if a.dtype != bool:
        raise TypeError(f"{name} must be booleans; got dtype {a.dtype}")
    if a.shape not in ((*sizes.values(),), (*sizes.values(),)[1:]):
        axes = shape.split()
        known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
        raise ValueError(f"{name} must have shape {letters(axes)} or {letters(axes[1:])} with {known}; got {a.shape}")
    return np.broadcast_to(a, tuple(sizes.values()))


def tokens(name: str, a: Any, vocabulary: int, *, shape: str = "B T", lowest: int = 0, **sizes: int) -> Array:
    """Return integers from `lowest` to vocabulary - 1 as int64."""
    a = _array(name, a)
    wanted = shape.split()
    if (
        a.ndim != len(wanted)
        or a.size == 0
        or any(size > sizes.get(axis, size) for axis, size in zip(wanted, a.shape, strict=True))
    ):
        known = ", ".join(f"{axis} <= {size}" for axis, size in sizes.items())
        raise ValueError(
            f"{name} must have shape {letters(wanted)}{known and f' with {known}'}, not empty; got {a.shape}"
        )
    if a.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {a.dtype}")
    if a.min() < lowest or a.max() >= vocabulary:
        raise ValueError(f"{name} must lie between {lowest} and {vocabulary - 1}; got {a.min()} to {a.max()}")
    return a.astype(np.int64, copy=False)


def token_rows(name: str, a: Any) -> Array:
    """Return rows of tokens (n, T + 1) of any integer dtype, without a copy: they may be mapped from a large file."""
    a = _array(name, a)
    if a.ndim != 2 or a.size == 0:
        raise ValueError(f"{name} must have shape (n, T + 1), not empty; got {a.shape}")
    if a.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {a.dtype}")
    return a


def _array(name: str, a: Any) -> Array:
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array; got one")
    try:
        return np.asarray(a)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array; got rows of different lengths") from None


def _shaped(name: str, a: Array, shape: str, **sizes: int) -> Array:
    wanted = shape.split()
    if a.ndim != len(wanted) or any(size != sizes.get(axis, size) for axis, size in zip(wanted, a.shape, strict=True)):
        known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items() if axis in wanted)
        raise ValueError(f"{name} must have shape {letters(wanted)}{known and f' with {known}'}; got {a.shape}")
    if any(size == 0 for axis, size in zip(wanted, a.shape, strict=True) if axis != "m"):
        raise ValueError(f"{name} must not be empty; got shape {a.shape}")
    return a


def _single_or_double(name: str, a: Any) -> Array:
    a = real(name, a)
    if a.dtype.itemsize > 8:
        raise TypeError(f"{name} must be real numbers of at most 64 bits; got dtype {a.dtype}")
    return a.astype(np.float64 if a.dtype.itemsize == 8 else np.float32, copy=False)


def letters(axes: Iterable[str]) -> str:
    """Format axes as a shape: (n,) or (n, d)."""
    axes = tuple(axes)
    return f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"


# Numbers and names


def _number(name: str, x: Any, expected: str, kind: Any = numbers.Real) -> Any:
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, kind):
        raise TypeError(f"{name} must be {expected}; got {x!r}")
    try:
        number = float(x)
    except OverflowError:
        raise ValueError(f"{name} must be {expected}; got a number too large for a float") from None
    return x if kind is numbers.Integral else number


def number(name: str, x: Any, interval: str) -> float:
    """Return a float in an interval, written as in mathematics: "[0, 1)", or "(0, inf)" for any finite number above 0.

    >>> number("dropout", 0.5, "[0, 1)")
    0.5
    """
    low, high = map(float, interval[1:-1].split(","))
    closed_low, closed_high = interval[0] == "[", interval[-1] == "]"
    bounded = f"a finite number {'>=' if closed_low else '>'} {low:g}"
    expected = f"a number in {interval}" if high < np.inf else bounded
    number = _number(name, x, expected)
    above = number >= low if closed_low else number > low
    below = number <= high if closed_high else number < high
    if not (above and below):
        raise ValueError(f"{name} must be {expected}; got {x!r}")
    return number


def integer(name: str, x: Any, lowest: int = 1, highest: int | None = None) -> int:
    """Return an int from `lowest` to `highest`, inclusive."""
    expected = f"an integer >= {lowest}" if highest is None else f"an integer from {lowest} to {highest}"
    number = _number(name, x, expected, numbers.Integral)
    if number < lowest or (highest is not None and number > highest):
        raise ValueError(f"{name} must be {expected}; got {x!r}")
    return int(number)


def energy(x: Any) -> Any:
    """Return `x` if it has the methods of an energy."""
    if isinstance(x, type) or not all(callable(getattr(x, name, None)) for name in ("value", "update", "weights")):
        raise TypeError(f"energy must be an object with value, update and weights, such as DistanceEnergy(); got {x!r}")
    return x


def generator(name: str, rng: Any) -> np.random.Generator:
    """Return a numpy Generator as it is, or make one from a seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    expected = "a numpy Generator or a seed, an integer >= 0"
    if _number(name, rng, expected, numbers.Integral) < 0:
        raise ValueError(f"{name} must be {expected}; got {rng!r}")
    return np.random.default_rng(int(rng))


def boolean(name: str, x: Any) -> bool:
    """Return True or False; other truthy or falsy values are refused."""
    if not isinstance(x, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {x!r}")
    return bool(x)


def choice(name: str, x: Any, options: Iterable[str]) -> str:
    """Return one of the options."""
    options = tuple(options)
    for option in options:
        if x == option:
            return option
    raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {x!r}")


def update_order(name: str, x: Any, words: Iterable[str]) -> Any:
    """Return one of `words` or a numpy Generator unchanged, or a sequence of neurons to visit as a tuple."""
    if isinstance(x, np.random.Generator) or (isinstance(x, str) and x in words):
        return x
    expected = f"{', '.join(map(repr, words))}, a numpy Generator or a sequence of integers >= 0"
    a = _array(name, None if isinstance(x, str) else x)
    if a.ndim != 1 or a.size == 0 or a.dtype.kind not in "iu" or a.min() < 0:
        raise ValueError(f"{name} must be {expected}; got {x!r}")
    return tuple(a.tolist())
