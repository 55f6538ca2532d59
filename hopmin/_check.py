"""Argument checks, and all argument error messages. (Messages about files are in `_files`.)

Arguments are checked once, where they enter the library, and converted to C-contiguous float32 or float64 arrays, int64
arrays, or plain Python numbers.

- arrays: [`real`], [`slices`], [`axes`], [`together`], [`floats`], [`pair`], [`matching_values`], [`new_patterns`],
  [`storable`], [`keys`], [`indices`], [`boolean_mask`], [`allowed`], [`tokens`], [`token_rows`]
- their entries: [`finite`], [`is_finite`], [`binary`], [`numbers_below`], [`too_large`], [`cast`]
- numbers: [`number`], [`radii`], [`real_number`], [`integer`], [`boolean`]
- objects: [`instance`], [`energy`], [`generator`], [`update_order`], [`progress`]
- names: [`choice`], [`letters`], [`path`]; text of others in a message: [`printable`]

Each message is one sentence: the name of the argument, what was expected, what was given.
"""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from hopmin import _backend
from hopmin._typing import Array, Axis, Booleans, Energy, Floats, Integers, Progress

Kind = TypeVar("Kind")
Option = TypeVar("Option", bound=str)
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
ROUNDED_TO_INFINITY = 2.0**128 - 2.0**103  # the least number that float32 rounds to infinity
# Characters that move a terminal's cursor, recolour it, reorder its text, or cannot be printed
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Arrays


def real(name: str, a: Any) -> Floats:
    """Return `a` as a floating-point array of any shape; integers become float64. NaN and infinities are allowed."""
    array = _real(name, a)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def slices(name: str, a: Any, axis: Axis) -> Floats:
    """Return `a` as `real` does; raise if a slice along `axis` is empty."""
    array = real(name, a)
    axes(axis, array.ndim)
    if array.size == 0 and np.max(array, axis=axis, initial=0).size:
        raise ValueError(f"{name} must not be empty along axis {axis}; got shape {array.shape}")
    return array


def axes(axis: Any, ndim: int) -> Axis:
    """Return `axis` if it is None, an axis of an array of `ndim` dimensions, or a tuple of several."""
    listed = axis if isinstance(axis, tuple) else (axis,)
    expected = f"None, an integer or a tuple of different integers from {-ndim} to {ndim - 1}"
    if axis is not None:
        if not all(isinstance(i, numbers.Integral) and not isinstance(i, bool) for i in listed):
            raise TypeError(f"axis must be {expected}; got {_shown(axis)}")
        size = max(ndim, 1)  # NumPy lets a scalar have an axis 0
        if not all(-size <= i < size for i in listed) or len({i % size for i in listed}) < len(listed):
            raise np.exceptions.AxisError(f"axis must be {expected}; got {_shown(axis)}")
    checked: Axis = axis
    return checked


def together(**arrays: Array) -> list[Array]:
    """Return the arrays, broadcast to one shape."""
    try:
        return [*np.broadcast_arrays(*arrays.values())]
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in arrays.values())
        raise ValueError(f"{' and '.join(arrays)} must have shapes that broadcast to one; got {shapes}") from None


def floats(name: str, a: Any, shape: str, *, empty: str = "m", **sizes: int) -> Floats:
    """Return `a` as a finite C-contiguous float32 or float64 array; integers become float64, float16 becomes float32.

    `shape` names the axes in the library's letters ("n d"); `sizes` fixes the length of some (d=3). Only the axis named
    by `empty`, that of queries by default, may have length 0.
    """
    array = _shaped(name, _real(name, a), shape, empty=empty, **sizes)
    array = np.ascontiguousarray(array, _single_or_double(name, array))
    finite(name, array)
    return array


def pair(queries: Any, patterns: Any) -> tuple[Floats, Any, tuple[int, ...]]:
    """Return queries (m, d) in the common dtype, patterns (n, d), and the shape of the results: (m,) or ().

    Patterns may be large, mapped from a file, or packed, so they are returned as they are, of any real dtype: the
    search casts them to the queries' dtype and checks that they are finite, one block at a time.
    """
    if not hasattr(patterns, "_at"):  # neither packed nor selected
        patterns = _shaped("patterns", _real("patterns", patterns), "n d")
    dtype, d = _single_or_double("patterns", patterns), patterns.shape[1]
    x = _real("queries", queries)
    single = x.ndim == 1
    x = floats("queries", x[None] if single and len(x) == d else x, "m d", d=d)
    return x.astype(np.promote_types(x.dtype, dtype), copy=False), patterns, () if single else (len(x),)


def matching_values(values: Any, queries: Floats, patterns: Any) -> tuple[Floats, Floats]:
    """Return queries and values (n, v), one row for each pattern, both in their common dtype."""
    v = floats("values", values, "n v", n=len(patterns))
    dtype = np.result_type(queries, v)
    return queries.astype(dtype, copy=False), v.astype(dtype, copy=False)


def finite(name: str, a: Array, first: int = 0) -> None:
    """Raise if an entry is not finite; the index in the message counts rows from `first`."""
    if is_finite(a):
        return
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(a))[0])
    place = (index[0] + first, *index[1:])
    raise ValueError(f"{name} must be finite; got {a[index]} at index {place[0] if len(place) == 1 else place}")


def is_finite(a: Array, bound: float = math.inf) -> bool:
    """Return whether all entries are finite, and their magnitudes less than a bound."""
    if a.dtype in (DOUBLE, SINGLE) and a.flags.c_contiguous:
        return _backend.core.max_abs(a.reshape(-1)) < bound  # NaN if one is not finite
    return bool((np.abs(a) < bound).all())


def binary(name: str, a: Array) -> None:
    """Raise if an entry of `a` (m, d) is neither -1 nor 1."""
    if (wrong := np.abs(a) != 1).any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must contain only -1 and 1; got {a[index]} at index {index}")


def numbers_below(name: str, a: Any, limit: float) -> Floats:
    """Return numbers in [0, limit), of any shape, as float64."""
    array = real(name, a).astype(np.float64)
    if (wrong := ~((array >= 0) & (array < limit))).any():
        raise ValueError(f"{name} must be numbers in [0, {limit:g}); got {array[wrong][0]}")
    return array


def too_large(queries: Array, patterns: Any, dtype: Any) -> ValueError:
    """Return the error to raise when scores of finite numbers overflow."""
    reach = _magnitude(patterns) + (_magnitude(queries) if len(queries) else 0)
    return ValueError(f"queries and patterns must be small enough to square in {dtype}; got values up to {reach:.3g}")


def cast(result: Floats, queries: Floats, patterns: Any, dtype: Any) -> Floats:
    """Return the result in `dtype`; raise if it overflows."""
    fits = is_finite(result, ROUNDED_TO_INFINITY if dtype == SINGLE else math.inf)
    if not fits:
        raise too_large(queries, np.asarray(patterns), dtype)
    return result.astype(dtype, copy=False)


def _magnitude(a: Array) -> float:
    return max(float(a.max()), -float(a.min()))  # the absolute value of an integer may overflow


def new_patterns(name: str, a: Any, d: int, dtype: Any) -> tuple[Floats, bool]:
    """Return patterns to store, (k, d) in `dtype`, and whether a single one, (d,), was given."""
    array = _real(name, a)
    single = array.ndim == 1 and len(array) == d
    array = floats(name, array[None] if single else array, "k d", d=d)
    with np.errstate(over="ignore"):
        rounded: Floats = array.astype(dtype, copy=False)
    if not np.isfinite(rounded).all():
        raise ValueError(f"{name} must fit into {dtype}; got values up to {np.abs(array).max():.3g}")
    return rounded, single


def storable(name: str, a: Any, n: int, single: bool = False) -> Array:
    """Return a copy (n, ...) of values to store, of any dtype but object; with `single`, `a` is one value, n = 1."""
    array = _array(name, a)
    array = array[None] if single else array
    if array.dtype.hasobject:
        raise TypeError(f"{name} must not be an object array; got dtype {array.dtype}")
    if array.dtype.kind in "US" and not isinstance(a, np.ndarray):
        _one_kind(name, a, "all strings or all numbers, or a structured array")
    if array.ndim == 0 or len(array) != n:
        raise ValueError(f"{name} must have shape (n, ...) with n = {n}; got {array.shape}")
    return array.copy()


def keys(name: str, a: Any, n: int | None = None, single: bool | None = None) -> list[Any]:
    """Return n different keys, all strings or all integers of 64 bits; any number by default.

    `single` says whether `a` is one key, n = 1; by default its shape does.
    """
    array = _array(name, a)
    single = array.ndim == 0 if single is None else single
    n = 1 if single else np.size(array) if n is None else n
    array = array[None] if single else array
    if array.ndim != 1 or len(array) != n:
        raise ValueError(f"{name} must have shape (n,) with n = {n}; got {array.shape}")
    if array.dtype.kind == "U" and not isinstance(a, np.ndarray):
        _one_kind(name, a, "all strings or all integers")
    found: list[Any] = array.tolist() if array.dtype.kind in "iu" else [str(key) for key in ([a] if single else a)]
    fits = array.dtype.kind == "U" or all(-(2**63) <= key < 2**63 for key in found if array.dtype.kind in "iu")
    if n and (array.dtype.kind not in "iuU" or not fits):
        raise TypeError(f"{name} must be strings, or integers of 64 bits; got dtype {array.dtype}")
    if nul := [key for key in found if isinstance(key, str) and "\0" in key]:
        raise ValueError(f"{name} must not contain NUL; got {_shown(nul[0])}")
    if len(set(found)) < n:
        twice = next(key for i, key in enumerate(found) if key in found[:i])
        raise ValueError(f"{name} must be unique; got {_shown(twice)} twice")
    return found


def _one_kind(name: str, a: Any, expected: str) -> None:
    """Raise if numbers or bytes stand between strings, which NumPy would turn into strings."""
    kinds: dict[type, Any] = {}
    for entry in np.asarray(a, object).flat:
        kinds.setdefault(next((kind for kind in (str, bytes) if isinstance(entry, kind)), type(entry)), entry)
    if len(kinds) > 1:
        found = " and ".join(f"{entry!r:.20}" for entry in list(kinds.values())[:2])
        raise TypeError(f"{name} must be {expected}; got {found}")


def indices(name: str, a: Any, n: int) -> Integers:
    """Return unique integers from 0 to n - 1 as int64 (k,)."""
    array = np.atleast_1d(_array(name, a))
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be integers; got dtype {array.dtype}")
    outside = array.size and (array.min() < 0 or array.max() >= n)
    if array.ndim != 1 or outside or len(np.unique(array)) != len(array):
        wanted = f"unique integers from 0 to {n - 1}" if n else "empty, as nothing is stored"
        raise ValueError(f"{name} must be {wanted}; got {array.tolist()!s:.60}")
    return array.astype(np.int64)


def boolean_mask(name: str, a: Any, shape: str, **sizes: int) -> Booleans:
    """Return booleans, one row for each query; a single row is broadcast to all of them."""
    array, full = _array(name, a), tuple(sizes.values())
    if array.dtype != bool:
        raise TypeError(f"{name} must be booleans; got dtype {array.dtype}")
    if array.shape not in (full, full[1:]):
        axes = shape.split()
        known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
        expected = f"{letters(axes)} or {letters(axes[1:])} with {known}"
        raise ValueError(f"{name} must have shape {expected}; got {array.shape}")
    return np.broadcast_to(array, full)


def allowed(name: str, a: Any, m: int, n: int) -> tuple[list[Integers], Integers]:
    """Return the distinct sets of patterns that queries may see, as ascending indices, and the set (m,) of each query.

    `a` holds booleans (m, n) or (n,), or unique indices of patterns that all queries may see.
    """
    array, group = _array(name, a), np.zeros(m, np.int64)
    if array.dtype != bool:
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"{name} must be booleans or integers; got dtype {array.dtype}")
        return [np.sort(indices(name, array, n))], group
    rows = boolean_mask(name, array, "m n", m=m, n=n)
    if array.ndim == 1 or m == 0:
        return [np.flatnonzero(array) if array.ndim == 1 else np.arange(n)], group
    sets: dict[bytes, tuple[int, int]] = {}
    for i, bits in enumerate(np.packbits(rows, axis=1)):
        group[i] = sets.setdefault(bits.tobytes(), (len(sets), i))[0]
    return [np.flatnonzero(rows[i]) for _, i in sets.values()], group


def tokens(name: str, a: Any, vocabulary: int, *, shape: str = "B T", lowest: int = 0, **sizes: int) -> Integers:
    """Return integers from `lowest` to vocabulary - 1 as int64; `sizes` limits the length of some axes (T=8)."""
    array, axes = _array(name, a), shape.split()
    fits = array.ndim == len(axes) and all(
        size <= sizes.get(axis, size) for axis, size in zip(axes, array.shape, strict=True)
    )
    if not fits or array.size == 0:
        known = ", ".join(f"{axis} <= {size}" for axis, size in sizes.items())
        expected = f"{letters(axes)}{known and f' with {known}'}"
        raise ValueError(f"{name} must have shape {expected}, not empty; got {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {array.dtype}")
    if array.min() < lowest or array.max() >= vocabulary:
        raise ValueError(f"{name} must lie between {lowest} and {vocabulary - 1}; got {array.min()} to {array.max()}")
    return array.astype(np.int64, copy=False)


def token_rows(name: str, a: Any) -> Array:
    """Return rows of tokens (n, T + 1) of any integer dtype, without a copy: they may be mapped from a large file."""
    array = _array(name, a)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have shape (n, T + 1), not empty; got {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {array.dtype}")
    return array


def _array(name: str, a: Any) -> Array:
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array; got one")
    try:
        return np.asarray(a)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array; got rows of different lengths") from None


def _real(name: str, a: Any) -> Array:
    """Return `a` as an array of real numbers in their own dtype."""
    array = _array(name, a)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers; got dtype {array.dtype}")
    return array


def _shaped(name: str, a: Array, shape: str, *, empty: str = "m", **sizes: int) -> Array:
    axes = shape.split()
    if a.size and not sizes and a.ndim == len(axes):
        return a
    if a.ndim != len(axes) or a.shape != tuple(map(sizes.get, axes, a.shape)):
        known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items() if axis in axes)
        raise ValueError(f"{name} must have shape {letters(axes)}{known and f' with {known}'}; got {a.shape}")
    if 0 in a.shape and any(size == 0 for axis, size in zip(axes, a.shape, strict=True) if axis != empty):
        raise ValueError(f"{name} must not be empty; got shape {a.shape}")
    return a


def _single_or_double(name: str, a: Any) -> np.dtype[Any]:
    """Return the dtype in which to compute with real numbers: float32 for short floats, otherwise float64."""
    dtype: np.dtype[Any] = a.dtype
    if dtype.itemsize > 8:
        raise TypeError(f"{name} must be real numbers of at most 64 bits; got dtype {dtype}")
    return SINGLE if dtype.kind == "f" and dtype.itemsize < 8 else DOUBLE


def letters(axes: Iterable[str]) -> str:
    """Format axes as a shape: (n,) or (n, d)."""
    axes = tuple(axes)
    return f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"


# Numbers and names


def _shown(x: Any) -> str:
    """Return the repr of `x` in one line of at most 100 characters."""
    try:
        line = " ".join(repr(x).split())
    except ValueError:  # an integer of thousands of digits
        return f"an {type(x).__name__} too long to print"
    return line if len(line) <= 100 else f"{line[:97]}..."


def _number(name: str, x: Any, expected: str, kind: Any = numbers.Real) -> Any:
    """Return `x` if it is a number of this kind, not a boolean, and finite as a float."""
    if type(x) is not int and (isinstance(x, (bool, np.bool_)) or not isinstance(x, kind)):
        raise TypeError(f"{name} must be {expected}; got {_shown(x)}")
    try:
        as_float = float(x)
    except OverflowError:
        raise ValueError(f"{name} must be {expected}; got a number too large for a float") from None
    return x if kind is numbers.Integral else as_float


def number(name: str, x: Any, interval: str) -> float:
    """Return a float in an interval, written as in mathematics: "[0, 1)", or "(0, inf)" for any finite number above 0.

    >>> number("dropout", 0.5, "[0, 1)")
    0.5
    """
    low, high = map(float, interval[1:-1].split(","))
    closed_low, closed_high = interval[0] == "[", interval[-1] == "]"
    bounded = f"a finite number {'>=' if closed_low else '>'} {low:g}"
    expected = f"a number in {interval}" if high < np.inf else bounded
    value: float = _number(name, x, expected)
    above = value >= low if closed_low else value > low
    below = value <= high if closed_high else value < high
    if not (above and below):
        raise ValueError(f"{name} must be {expected}; got {_shown(x)}")
    return value


def real_number(name: str, x: Any) -> float:
    """Return a float, which may be infinite or NaN."""
    value: float = _number(name, x, "a real number")
    return value


def radii(name: str, a: Any, m: int, lowest: float) -> Floats:
    """Return a radius for each query as float64 (m,): a single one is for all of them. Infinite radii are allowed."""
    expected = f"a number >= {lowest:g}" if lowest > -np.inf else "a number"
    array = np.asarray(_number(name, a, expected)) if a is None or np.isscalar(a) else real(name, a)
    if array.shape not in ((), (m,)):
        raise ValueError(f"{name} must be {expected}, or have shape (m,) with m = {m}; got {array.shape}")
    if (wrong := ~(array >= lowest)).any():
        raise ValueError(f"{name} must be {expected}; got {array[wrong][0].item() if array.ndim else a!r}")
    return np.broadcast_to(array.astype(np.float64), m)


def integer(name: str, x: Any, lowest: int = 1, highest: int | None = None) -> int:
    """Return an int from `lowest` to `highest`, inclusive."""
    expected = f"an integer >= {lowest}" if highest is None else f"an integer from {lowest} to {highest}"
    value = int(_number(name, x, expected, numbers.Integral))
    if value < lowest or (highest is not None and value > highest):
        raise ValueError(f"{name} must be {expected}; got {_shown(x)}")
    return value


def energy(x: Any) -> Energy:
    """Return `x` if it has the methods of an energy."""
    if isinstance(x, type) or not all(callable(getattr(x, name, None)) for name in ("value", "update", "weights")):
        raise TypeError(
            f"energy must be an object with value, update and weights, such as DistanceEnergy(); got {_shown(x)}"
        )
    checked: Energy = x
    return checked


def generator(name: str, rng: Any) -> np.random.Generator:
    """Return a numpy Generator as it is, or make one from a seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    expected = "a numpy Generator or a seed, an integer >= 0"
    if _number(name, rng, expected, numbers.Integral) < 0:
        raise ValueError(f"{name} must be {expected}; got {_shown(rng)}")
    return np.random.default_rng(int(rng))


def instance(name: str, x: Any, kind: type[Kind]) -> Kind:
    """Return `x` if it is an object of this class."""
    if not isinstance(x, kind):
        raise TypeError(f"{name} must be a {kind.__name__}; got {_shown(x)}")
    return x


def boolean(name: str, x: Any) -> bool:
    """Return True or False; raise TypeError for other truthy or falsy values."""
    if not isinstance(x, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {_shown(x)}")
    return bool(x)


def progress(x: Any) -> Progress | None:
    """Return a function to call with the work done and the whole of it, or None."""
    if x is not None and not callable(x):
        raise TypeError(f"progress must be a function of two integers, or None; got {_shown(x)}")
    checked: Progress | None = x
    return checked


def choice(name: str, x: Any, options: Iterable[Option]) -> Option:
    """Return the option that equals `x`."""
    options = tuple(options)
    for option in options:
        if isinstance(x, str | np.dtype) and x == option:  # other objects compare in ways of their own
            return option
    raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {_shown(x)}")


def path(name: str, x: Any) -> str:
    """Return a path as a string; numbers, which `open` takes for descriptors of open files, are no paths.

    >>> path("path", "folder/file.npz")
    'folder/file.npz'
    """
    found = os.fspath(x) if isinstance(x, os.PathLike) else x
    if not isinstance(found, str):
        raise TypeError(f"{name} must be a string or a path object; got {_shown(x)}")
    try:
        valid = b"\0" not in os.fsencode(found)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise ValueError(f"{name} must be a path that the system can encode, without NUL; got {found!r:.60}")
    return found


def printable(text: object, *, keep: str = "") -> str:
    r"""Return text with its control characters escaped, but those in `keep`: a terminal would obey them.

    >>> print(printable("plain, \x1b[31mred"))
    plain, \x1b[31mred
    """
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], str(text))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> counted(1, "pattern"), counted(0, "pattern")
    ('1 pattern', '0 patterns')
    """
    return f"{number:d} {noun}{'s' * (number != 1)}"


def update_order(name: str, x: Any, words: Iterable[str]) -> Any:
    """Return one of `words` or a numpy Generator unchanged, or a sequence of neurons to visit as a tuple."""
    if isinstance(x, np.random.Generator) or (isinstance(x, str) and x in words):
        return x
    expected = f"{', '.join(map(repr, words))}, a numpy Generator or a sequence of integers >= 0"
    a = _array(name, None if isinstance(x, str) else x)
    if a.ndim != 1 or a.size == 0 or a.dtype.kind not in "iu" or a.min() < 0:
        raise ValueError(f"{name} must be {expected}; got {_shown(x)}")
    return tuple(a.tolist())
