"""The hard limit of retrieval: exact nearest neighbours.

- the k nearest patterns [`nearest`]
- all patterns within a radius [`within`]
- how far each pattern is from the next one [`separation`]

Distances are differences first, then squares, summed in float64 whatever the dtype: a pattern is at distance exactly
0 from itself, however far from the origin the data lie. Of equally distant patterns the one with the lowest index comes
first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.reduction import BLOCK, reduce, scores

METRICS = ("euclidean", "dot", "cosine")


def nearest(queries: ArrayLike, patterns: ArrayLike, k: int = 1, *, metric: str = "euclidean") -> tuple[Array, Array]:
    """The k nearest patterns of each query: min_i |x - p_i| (Niu et al. 2024, equation 3) and its runners-up.

    Parameters
    ----------
    queries : (m, d), or (d,) for a single one
    patterns : (n, d), or `Packed`; they may lie in a file, of which a block at a time is read
    k : from 1 to n
    metric : "euclidean"; "dot" for the largest products x.p, whose distance is taken to be -x.p; or "cosine", one minus
        the cosine of the angle, computed as |x/|x| - p/|p||^2 / 2, so that small angles keep their digits

    Returns
    -------
    distances (m, k), ascending, in the arrays' common dtype (float32 in both, else float64), and indices (m, k), int64.
    Both (k,) for a single query. Indices and order are those of differences, squares and sums in float64; float32
    distances are within 1 ulp of the true ones, float64 within (d + 2) eps of them. The same bits for any number of
    threads, any memory order, and a query alone or in a batch.

    Raises
    ------
    ValueError if a shape does not fit, an array is empty (but for m = 0) or not finite, a distance or product
    overflows, a row is zero for "cosine", k is not in 1..n, or the metric is unknown; TypeError if an array is not real
    or k not whole.

    >>> nearest([0.9, 0.0], [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], k=2)
    (array([0.1, 0.9]), array([1, 0]))
    """
    metric = _check.choice("metric", metric, METRICS)
    x, p, shape = _check.pair(queries, patterns)
    k = _check.integer("k", k, 1, len(p))
    if metric == "cosine":
        r = reduce(_directions("queries", x), _Directions(p), metric="euclidean", beta=None, k=k)
        distances = _distances(r.best, "dot") / 2
    else:
        r = reduce(x, p, metric=metric, beta=None, k=k)
        distances = _distances(r.best, metric)
    return _check.cast(distances, x, p, x.dtype).reshape(*shape, k), r.indices.reshape(*shape, k)


def within(queries: ArrayLike, patterns: ArrayLike, radius: float) -> Any:
    """All patterns at a Euclidean distance of at most `radius` from each query, nearest first.

    Returns (distances, indices), each a list of m arrays of various lengths; two arrays for a single query. Patterns
    may lie in a file, of which a block at a time is read. Raises as `nearest`, and ValueError if the radius is not a
    finite number >= 0.

    >>> within([[0.0], [5.0]], [[0.0], [1.0], [2.0]], radius=1)
    ([array([0., 1.]), array([], dtype=float64)], [array([0, 1]), array([], dtype=int64)])
    """
    x, p, shape = _check.pair(queries, patterns)
    radius = _check.number("radius", radius, "[0, inf)")
    found: list[list[tuple[Array, Array]]] = [[] for _ in x]
    for first in range(0, len(p), BLOCK):
        rows = np.asarray(p[first : first + BLOCK])
        _check.finite("patterns", rows, first)
        for query, parts in zip(x, found, strict=True):
            with np.errstate(over="ignore"):  # too far for the dtype is outside any radius
                distance = _distances(scores(query[None], rows, "euclidean")[0], "euclidean").astype(x.dtype)
            inside = np.flatnonzero(distance <= radius)
            parts.append((distance[inside], first + inside))
    pairs = [_sorted(*map(np.concatenate, zip(*parts, strict=True))) for parts in found]
    distances, indices = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return (distances, indices) if shape else (distances[0], indices[0])


def _sorted(distances: Array, indices: Array) -> tuple[Array, Array]:
    order = np.argsort(distances, kind="stable")
    return distances[order], indices[order]


def separation(patterns: ArrayLike) -> Array:
    """(n,) The Euclidean distance of each pattern to the nearest other one: 0 for duplicates, infinite if n = 1.

    Half of it is the largest radius at which all balls around the patterns are disjoint, if all have the same
    (Niu et al. 2024, assumption 3). Raises as `nearest`.

    >>> separation([[0.0], [1.0], [3.0]])
    array([1., 1., 2.])
    """
    patterns = _check.floats("patterns", patterns, "n d")
    if len(patterns) == 1:
        return np.full(1, np.inf, patterns.dtype)
    return nearest(patterns, patterns, k=2)[0][:, 1]


class _Directions:
    """Patterns of length one, made a block at a time."""

    def __init__(self, patterns: Any) -> None:
        self.patterns = patterns

    def __len__(self) -> int:
        return len(self.patterns)

    def __getitem__(self, rows: slice) -> Array:
        return _directions("patterns", np.asarray(self.patterns[rows]), rows.start)


def _directions(name: str, rows: Array, first: int = 0) -> Array:
    """Rows over their lengths, in float64; first over their largest coordinates, so that no square overflows."""
    _check.finite(name, rows, first)
    rows = rows.astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        zero = first + int(largest.argmin())
        raise ValueError(f"{name} must have no row of zeros for metric 'cosine'; got one at index {zero}")
    rows /= largest
    return rows / np.sqrt(np.square(rows).sum(axis=1, keepdims=True))


def _distances(scores: Array, metric: str) -> Array:
    distances = 0.0 - scores  # a plain minus would turn 0 into -0
    return np.sqrt(distances) if metric == "euclidean" else distances
