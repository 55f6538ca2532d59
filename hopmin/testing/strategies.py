"""Hypothesis strategies for the laws, which include difficult cases as well as ordinary ones.

- the dtypes asked for [`dtypes`, `only_dtypes`], beta from 1e-3 to 1e3 [`betas`]
- layouts in memory [`layouts`, `laid_out`]
- queries and patterns [`problems`], and some whose differences are exact in floats [`lattice_problems`]
- vectors of scores [`scores`], and arrays of them with an axis [`slices`]

Most examples are small and drawn number by number, so that a failing one shrinks to a readable one. The others have
many rows or dimensions, because blocks, chunks and long sums go wrong only there; they are drawn by a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hopmin._extras import needed_by

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as npst

Array = NDArray[Any]


class Problem(NamedTuple):
    """Queries (m, d), patterns (n, d) and beta."""

    queries: Array
    patterns: Array
    beta: float


KINDS = ("any", "ties", "duplicates", "near duplicates", "collinear", "equal norms")
LAYOUTS = ("C", "Fortran", "strided", "reversed", "read-only", "big-endian")
DTYPES = ("float64", "float32", "float16", "bfloat16")
_asked: ContextVar[tuple[str, ...]] = ContextVar("asked", default=("float64", "float32"))


@contextmanager
def only_dtypes(*names: str) -> Iterator[None]:
    """Make `dtypes` draw these dtypes only."""
    token = _asked.set(names)
    try:
        yield
    finally:
        _asked.reset(token)


def asked_dtypes() -> tuple[str, ...]:
    """Return the dtypes that are judged, float64 and float32 by default."""
    return _asked.get()


@st.composite
def dtypes(draw: st.DrawFn) -> str:
    """Draw one of the dtypes that are judged: float64 or float32, or what `conformance` is asked for.

    NumPy has no bfloat16: it is drawn as float32, of which every number is rounded to bfloat16 before a law sees it.
    """
    return draw(st.sampled_from(asked_dtypes())).replace("bfloat16", "float32")


def rounded_to_bfloat16(a: Array) -> Array:
    """Return float32 numbers rounded to the nearest with the eight bits of bfloat16."""
    bits = np.asarray(a, np.float32).view(np.uint32)
    rounded: Array = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(a), rounded, a).astype(np.float32)


def layouts() -> st.SearchStrategy[str]:
    """Draw the name of a layout in memory, for `laid_out`."""
    return st.sampled_from(LAYOUTS)


def laid_out(a: Array, layout: str) -> Array:
    """Return a copy of an array with the same numbers in another layout.

    >>> laid_out(np.eye(2), "strided").strides
    (96, 24)
    """
    if layout == "Fortran":
        return np.array(a, order="F")
    if layout == "strided":
        wide = a
        for axis in range(a.ndim):
            wide = np.repeat(wide, 2 + axis, axis=axis)
        return wide[tuple(slice(None, None, 2 + axis) for axis in range(a.ndim))]
    if layout == "reversed":
        back = (slice(None, None, -1),) * a.ndim
        return a[back].copy()[back]
    a = a.astype(a.dtype.newbyteorder(">")) if layout == "big-endian" else a.copy()
    a.flags.writeable = layout != "read-only"
    return a


def betas() -> st.SearchStrategy[float]:
    """Draw beta from 1e-3 to 1e3, uniform in the exponent, with extra weight on both ends and on 1."""
    return st.sampled_from([1.0, 1e-3, 1e3]) | st.floats(-3, 3).map(lambda exponent: 10.0**exponent)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    dtypes: tuple[str, ...] | st.SearchStrategy[Any] | None = None,
    offsets: tuple[float, ...] = (0.0, 1.0, 1e3, 1e6),
    scales: tuple[float, ...] = (1.0, 1e-3, 1e-2, 0.1, 10.0, 1e2, 1e3),
    kinds: tuple[str, ...] = KINDS,
    beta: st.SearchStrategy[float] | None = None,
) -> Problem:
    """Draw 1 to 5 queries and 1 to 700 patterns in 1 to 70 dimensions.

    They include single patterns and dimensions, queries that are patterns, and the kinds named by `KINDS`.

    Parameters
    ----------
    dtypes : tuple of str or search strategy, optional
        The dtypes to draw from; by default `strategies.dtypes()`.
    offsets, scales : tuple of float
        Offsets and scales of all points to draw from.
    kinds : tuple of str
        From `KINDS`. "any" points are drawn one by one or normally distributed; "ties" are rounded to integers;
        "duplicates" occur twice, "near duplicates" but for the last bit of one coordinate; "collinear" points lie on a
        line through the origin, those of "equal norms" on a sphere (both before the offset is added).
    beta : search strategy, optional
        By default `betas()`.

    Returns
    -------
    search strategy of Problem
    """
    m = draw(st.integers(1, 5))
    if draw(st.booleans()):
        n, d = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        elements = st.floats(-4, 4, width=16) | st.sampled_from([-1.0, 0.0, 1.0])
        points = draw(npst.arrays(np.float64, (m + n, d), elements=elements))
    else:  # several blocks of the core, or wide
        n, d = draw(_sizes())
        points = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(m + n, d))
    kind = draw(st.sampled_from(kinds))
    if draw(st.booleans()):
        points[0] = points[-1]  # a query that is a pattern
    points = _of_kind(points, m, kind) * draw(st.sampled_from(scales)) + draw(st.sampled_from(offsets))
    points = points.astype(draw(_dtypes(dtypes)))
    if kind == "near duplicates":
        points[-1] = points[m]
        points[-1, 0] = np.nextafter(points[m, 0], np.inf, dtype=points.dtype)
    return Problem(points[:m], points[m:], draw(betas() if beta is None else beta))


def _dtypes(given: tuple[str, ...] | st.SearchStrategy[Any] | None) -> st.SearchStrategy[Any]:
    return dtypes() if given is None else st.sampled_from(given) if isinstance(given, tuple) else given


def _sizes() -> st.SearchStrategy[tuple[int, int]]:
    """Draw a number of patterns and of dimensions: at most one of them is large."""
    usual = st.tuples(st.integers(1, 200), st.integers(1, 6))
    long = st.tuples(st.integers(201, 700), st.integers(1, 6))
    wide = st.tuples(st.integers(1, 100), st.integers(7, 70))
    return usual | long | wide


def _of_kind(points: Array, m: int, kind: str) -> Array:
    """Return points of one of the `KINDS`; the first m are queries."""
    if kind == "ties":
        return np.rint(points)
    if kind == "duplicates":
        half = (len(points) - m + 1) // 2
        return np.concatenate([points[: m + half], points[m : len(points) - half]])
    if kind == "collinear":
        return np.outer(points[:, 0], points[0])
    if kind == "equal norms":
        norms = np.linalg.norm(points, axis=1, keepdims=True)
        units: Array = np.eye(1, points.shape[1]).repeat(len(points), 0)
        np.divide(points, norms, out=units, where=norms > 0)
        return units
    return points


@st.composite
def lattice_problems(draw: st.DrawFn, *, far: bool = True) -> Problem:
    """Draw integer coordinates from -8 to 8, some far from the origin: many ties, and all differences are exact.

    1 to 4 queries, 1 to 700 patterns, 1 to 70 dimensions.
    """
    m = draw(st.integers(1, 4))
    n, d = draw(st.tuples(st.integers(1, 140), st.integers(1, 4)) | _sizes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = np.dtype(draw(dtypes()))
    away = 2**40 if dtype == np.float64 else 2**20  # where squares are no longer exact
    offsets = [0, 100, away, -away] if far else [0, 100]
    points = rng.integers(-draw(st.integers(0, 8)), 9, (m + n, d)) + draw(st.sampled_from(offsets))
    points = points.astype(dtype)
    return Problem(points[:m], points[m:], 1.0)


@st.composite
def scores(draw: st.DrawFn, largest: float = 1e3, *, dtypes: Any = None) -> Array:
    """Draw vectors of numbers of at most the given magnitude: one to eight, with ties, or hundreds.

    The dtypes are drawn from `dtypes`, by default `strategies.dtypes()`.
    """
    dtype = np.dtype(draw(_dtypes(dtypes)))
    largest = min(largest, float(np.finfo(dtype).max) / 4)
    if draw(st.integers(0, 7)) < 7:
        elements = st.floats(-largest, largest) | st.sampled_from([0.0, 1.0, -largest, largest])
        return draw(npst.arrays(np.float64, st.integers(1, 8), elements=elements)).astype(dtype)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.uniform(-largest, largest, draw(st.integers(100, 700))).astype(dtype)


class Slices(NamedTuple):
    """An array and one of its axes, negative or not, or None for all of them."""

    array: Array
    axis: int | None


@st.composite
def slices(draw: st.DrawFn, largest: float = 1e3, *, dtypes: Any = None) -> Slices:
    """Draw arrays of one to three axes, with an axis; slices may lie thousands apart, or have hundreds of numbers.

    Shapes and axes are drawn by the seed, because Hypothesis may prefer some to others.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = tuple(rng.integers(1, 5, rng.integers(1, 4)).tolist())
    axis = None if rng.random() < 0.15 else int(rng.integers(-len(shape), len(shape)))
    if axis is not None and rng.random() < 0.15:
        shape = tuple(300 if i == axis % len(shape) else n for i, n in enumerate(shape))
    apart = np.array(shape) if axis is None else np.delete(shape, axis)
    level = np.zeros(1) if axis is None else np.expand_dims(rng.choice([-1.0, 0.0, 1.0], tuple(apart)) * largest, axis)
    spread = draw(st.sampled_from([1.0, 10.0, largest]))
    return Slices((level + rng.normal(size=shape) * spread).astype(np.dtype(draw(_dtypes(dtypes)))), axis)


def squared_distances(problem: Problem) -> Array:
    """Return the squared distances (m, n), summed without rounding."""
    return np.array(
        [
            [math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x, p, strict=True)) for p in problem.patterns]
            for x in problem.queries
        ]
    )
