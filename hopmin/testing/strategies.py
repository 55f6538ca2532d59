"""What the laws draw: the awkward as well as the ordinary.

- sharpness from 1e-3 to 1e3 [`betas`]
- queries and patterns [`problems`], and such that floats hold them and their distances exactly [`lattice_problems`]
- vectors of scores [`scores`]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

Array = np.ndarray[Any, np.dtype[Any]]


class Problem(NamedTuple):
    """Queries (m, d) for patterns (n, d), and a sharpness."""

    queries: Array
    patterns: Array
    beta: float


def betas() -> st.SearchStrategy[float]:
    """From 1e-3 to 1e3, evenly in the exponent, with both ends and 1 among them."""
    return st.sampled_from([1.0, 1e-3, 1e3]) | st.floats(-3, 3).map(lambda exponent: 10.0**exponent)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    dtypes: tuple[str, ...] = ("float64", "float32"),
    offsets: tuple[float, ...] = (0.0, 1.0, 1e3, 1e6),
    sharpness: st.SearchStrategy[float] | None = None,
) -> Problem:
    """Anything of 1 to 5 queries, 1 to 200 patterns, 1 to 6 dimensions: duplicates, ties, queries that are patterns,
    scales from 1e-3 to 1e3, offsets up to 1e6, both dtypes.
    """
    m, d = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    if draw(st.booleans()):  # few and drawn one by one, so that a failing example shrinks to something one can read
        n = draw(st.integers(1, 6))
        elements = st.floats(-4, 4, width=16) | st.sampled_from([-1.0, 0.0, 1.0])
        points = draw(npst.arrays(np.float64, (m + n, d), elements=elements))
    else:  # more than fit in one block of any core
        n = draw(st.integers(1, 200))
        points = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(m + n, d))
    if draw(st.booleans()):
        points[0] = points[-1]  # a query that is a pattern
    points = (points * 10.0 ** draw(st.integers(-3, 3)) + draw(st.sampled_from(offsets))).astype(
        draw(st.sampled_from(dtypes))
    )
    return Problem(points[:m], points[m:], draw(betas() if sharpness is None else sharpness))


@st.composite
def lattice_problems(draw: st.DrawFn, *, far: bool = True) -> Problem:
    """Whole coordinates from -8 to 8, perhaps far from the origin: many ties, and no difference is ever rounded."""
    m, n, d = draw(st.integers(1, 4)), draw(st.integers(1, 140)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype, away = draw(st.sampled_from([("float64", 2**40), ("float32", 2**20)]))  # where squares do not fit any more
    offsets = [0, 100, away, -away] if far else [0, 100]
    points = rng.integers(-draw(st.integers(0, 8)), 9, (m + n, d)) + draw(st.sampled_from(offsets))
    points = points.astype(dtype)
    return Problem(points[:m], points[m:], 1.0)


def scores(largest: float = 1e3) -> st.SearchStrategy[Array]:
    """One to eight float64 numbers of at most the given size, with ties."""
    elements = st.floats(-largest, largest) | st.sampled_from([0.0, 1.0, -largest, largest])
    return npst.arrays(np.float64, st.integers(1, 8), elements=elements)
