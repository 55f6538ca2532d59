"""Laws of nearest-neighbour search, and of functions of queries and patterns."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import as_tuple, at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, Problem, lattice_problems, problems, squared_distances

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

Search = Callable[[Array, Array, int], tuple[Any, Any]]  # (queries, patterns, k) -> (distances, indices)


@law("nearest", problem=lattice_problems(), data=st.data())
def law_nearest(nearest: Search, /, problem: Problem, data: st.DataObject) -> None:
    """Distances and indices are those of exact arithmetic for every k: nearest first, ties by lowest index."""
    x, p, _ = problem
    k = data.draw(st.integers(1, len(p)), label="k")
    distances, indices = nearest(x, p, k)
    for i, query in enumerate(x):
        exact = [sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(query, q, strict=True)) for q in p]
        order = sorted(range(len(p)), key=lambda j: (exact[j], j))[:k]
        same(
            np.asarray(indices)[i].astype(np.int64),
            np.array(order, np.int64),
            f"indices of the patterns nearest to {query}",
        )
        expected = np.sqrt([float(exact[j]) for j in order])
        close(distances[i], expected, np.finfo(p.dtype).eps * expected, f"distances of the patterns nearest to {query}")


@law("nearest", problem=problems())
def law_nearest_accuracy(nearest: Search, /, problem: Problem) -> None:
    """Distances of arbitrary floats are accurate, ascending, and belong to the returned indices.

    They are those of real numbers, rounded once to the dtype: distances of float32 arrays must be summed in float64.
    """
    x, p, _ = problem
    distances, indices = nearest(x, p, len(p))
    resolution = np.finfo(np.result_type(x, p)).eps
    exact = np.sqrt(squared_distances(problem))
    for row, found, true in zip(distances, indices, exact, strict=True):
        same(np.sort(np.asarray(found, np.int64)), np.arange(len(p)), "indices, each exactly once")
        at_most(row[:-1], row[1:], 0, "distances in ascending order")
        slack = (1 + 4 * (np.finfo(float).eps / resolution) * (2 + x.shape[1])) * resolution * true[found]
        close(row, true[found], slack, "distances")


# Functions of queries and patterns


@law(problem=problems())
def law_memory_layout(function: Callable[[Any, Any], Any], /, problem: Problem) -> None:
    """function(queries, patterns) gives the same result for any memory order, strides and writability, and for lists.

    The inputs are not changed.
    """
    x, p, _ = problem
    expected = as_tuple(function(x.copy(), p.copy()))

    def strided(a: Array) -> Array:
        return np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3]

    def read_only(a: Array) -> Array:
        a = a.copy()
        a.flags.writeable = False
        return a

    for layout in (np.asfortranarray, strided, read_only):
        a, b = layout(x), layout(p)
        for got, wanted in zip(as_tuple(function(a, b)), expected, strict=True):
            same(got, wanted, f"result for {layout.__name__} arrays")
        same(a, x, "queries after the call")
        same(b, p, "patterns after the call")
    if x.dtype == np.float64:
        for got, wanted in zip(as_tuple(function(x.tolist(), p.tolist())), expected, strict=True):
            same(got, wanted, "result for lists")


@law(problem=problems())
def law_batching(function: Callable[[Array, Array], Any], /, problem: Problem) -> None:
    """function(queries, patterns) of a batch equals that of its rows; the result of a single query has no axis m."""
    x, p, _ = problem
    resolution = np.finfo(np.result_type(x, p)).eps
    for whole, *rows in zip(as_tuple(function(x, p)), *(as_tuple(function(row, p)) for row in x), strict=True):
        slack = 16 * resolution * max(np.abs(whole).max(), np.abs(x).max(), np.abs(p).max())
        close(np.stack(rows), whole, slack, "rows one by one, and as a batch")
