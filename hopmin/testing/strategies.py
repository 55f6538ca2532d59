"""Hypothesis strategies for the laws, which include difficult cases as well as ordinary ones.

- beta from 1e-3 to 1e3 [`betas`]
- queries and patterns [`problems`], and some whose differences are exact in floats [`lattice_problems`]
- vectors of scores [`scores`]
"""

from __future__ import annotations

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


def betas() -> st.SearchStrategy[float]:
    """Draw beta from 1e-3 to 1e3, uniform in the exponent, with extra weight on both ends and on 1."""
    return st.sampled_from([1.0, 1e-3, 1e3]) | st.floats(-3, 3).map(lambda exponent: 10.0**exponent)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    dtypes: tuple[str, ...] = ("float64", "float32"),
    offsets: tuple[float, ...] = (0.0, 1.0, 1e3, 1e6),
    beta: st.SearchStrategy[float] | None = None,
) -> Problem:
    """Draw 1 to 5 queries and 1 to 200 patterns in 1 to 6 dimensions.

    They include duplicates, ties, queries that are patterns, and scales from 1e-3 to 1e3.

    Parameters
    ----------
    dtypes : tuple of str
        The dtypes to draw from.
    offsets : tuple of float
        Offsets of all points to draw from.
    beta : search strategy, optional
        By default `betas()`.

    Returns
    -------
    search strategy of Problem
    """
    m, d = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    if draw(st.booleans()):  # few points, drawn one by one, so that a failing example shrinks to a readable one
        n = draw(st.integers(1, 6))
        elements = st.floats(-4, 4, width=16) | st.sampled_from([-1.0, 0.0, 1.0])
        points = draw(npst.arrays(np.float64, (m + n, d), elements=elements))
    else:  # more than a block of the core
        n = draw(st.integers(1, 200))
        points = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(m + n, d))
    if draw(st.booleans()):
        points[0] = points[-1]  # a query that is a pattern
    scale, offset = 10.0 ** draw(st.integers(-3, 3)), draw(st.sampled_from(offsets))
    points = (points * scale + offset).astype(draw(st.sampled_from(dtypes)))
    return Problem(points[:m], points[m:], draw(betas() if beta is None else beta))


@st.composite
def lattice_problems(draw: st.DrawFn, *, far: bool = True) -> Problem:
    """Draw integer coordinates from -8 to 8, some far from the origin: many ties, and all differences are exact."""
    m, n, d = draw(st.integers(1, 4)), draw(st.integers(1, 140)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype, away = draw(st.sampled_from([("float64", 2**40), ("float32", 2**20)]))  # where squares are no longer exact
    offsets = [0, 100, away, -away] if far else [0, 100]
    points = rng.integers(-draw(st.integers(0, 8)), 9, (m + n, d)) + draw(st.sampled_from(offsets))
    points = points.astype(dtype)
    return Problem(points[:m], points[m:], 1.0)


def scores(largest: float = 1e3) -> st.SearchStrategy[Array]:
    """Draw vectors of one to eight float64 numbers of at most the given magnitude, with ties."""
    elements = st.floats(-largest, largest) | st.sampled_from([0.0, 1.0, -largest, largest])
    return npst.arrays(np.float64, st.integers(1, 8), elements=elements)
