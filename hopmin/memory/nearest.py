"""Exact nearest neighbours, the limit of retrieval at infinite beta.

- the k nearest patterns [`nearest`]
- all patterns within a radius [`within`]
- the distance of each pattern to the nearest other one [`separation`]

Distances are computed as differences first, then squares, summed in float64 for any dtype, so the distance of a pattern
to itself is exactly 0, however far the data are from the origin. Ties are broken by the lowest index.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Array, Floats, Integers, Metric
from hopmin.memory.reduction import BLOCK, reduce, scores


@_arithmetic.standard
def nearest(
    queries: ArrayLike, patterns: ArrayLike, k: int = 1, *, metric: Metric = "euclidean"
) -> tuple[Floats, Integers]:
    """Return the distances and indices of the k nearest patterns of each query (Niu et al. 2024, equation 3).

    Indices and their order are those of differences, squares and sums in float64. float32 distances are within 1 ulp
    of the true ones, float64 distances within (d + 2) eps. Results are bit for bit the same for any number of threads,
    any memory layout, and for a query alone or in a batch.

    Parameters
    ----------
    queries : array_like, shape (m, d) or (d,)
        The queries.
    patterns : array_like or Packed, shape (n, d)
        The patterns. A memory-mapped array is read one block at a time.
    k : int, default 1
        Number of neighbours, from 1 to n.
    metric : {"euclidean", "dot", "cosine"}, default "euclidean"
        "dot" finds the largest products x.p; their distance is defined as -x.p. "cosine" is one minus the cosine of
        the angle, computed as |x/|x| - p/|p||^2 / 2, so that small angles keep their digits.

    Returns
    -------
    distances : ndarray, shape (m, k) or (k,)
        Distances in ascending order; float32 if queries and patterns are float32, otherwise float64.
    indices : ndarray of int64, shape (m, k) or (k,)
        The indices of the patterns at these distances.

    Raises
    ------
    ValueError
        If a shape does not fit, an array is empty (except for m = 0) or not finite, a distance or product overflows,
        a row is zero for "cosine", k is not in 1..n, or the metric is unknown.
    TypeError
        If an array is not real or k is not an integer.

    Examples
    --------
    >>> nearest([0.9, 0.0], [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], k=2)
    (array([0.1, 0.9]), array([1, 0]))
    """
    metric = _check.choice("metric", metric, get_args(Metric))
    x, p, shape = _check.pair(queries, patterns)
    k = _check.integer("k", k, 1, len(p))
    distances: Floats
    if metric == "cosine":
        r = reduce(_directions("queries", x), _Directions(p), metric="euclidean", beta=None, k=k)
        distances = _distances(r.best, "dot") / 2
    else:
        r = reduce(x, p, metric=metric, beta=None, k=k)
        distances = _distances(r.best, metric)
    return _check.cast(distances, x, p, x.dtype).reshape(*shape, k), r.indices.reshape(*shape, k)


@_arithmetic.standard
def within(
    queries: ArrayLike, patterns: ArrayLike, radius: float
) -> tuple[list[Floats], list[Integers]] | tuple[Floats, Integers]:
    """Return the distances and indices of all patterns within a Euclidean radius of each query, nearest first.

    Parameters
    ----------
    queries : array_like, shape (m, d) or (d,)
        The queries.
    patterns : array_like or Packed, shape (n, d)
        The patterns. A memory-mapped array is read one block at a time.
    radius : float
        The largest distance, inclusive; at least 0.

    Returns
    -------
    distances : list of m ndarrays, or ndarray for a single query
        The distances of all patterns within the radius, in ascending order.
    indices : list of m ndarrays of int64, or ndarray for a single query
        The indices of these patterns.

    Raises
    ------
    ValueError or TypeError
        As for `nearest`, and if the radius is not a finite number >= 0.

    Examples
    --------
    >>> within([[0.0], [5.0]], [[0.0], [1.0], [2.0]], radius=1)
    ([array([0., 1.]), array([], dtype=float64)], [array([0, 1]), array([], dtype=int64)])
    """
    x, p, shape = _check.pair(queries, patterns)
    radius = _check.number("radius", radius, "[0, inf)")
    found: list[list[tuple[Floats, Integers]]] = [[] for _ in x]
    for first in range(0, len(p), BLOCK):
        block = np.asarray(p[first : first + BLOCK])
        _check.finite("patterns", block, first)
        for query, parts in zip(x, found, strict=True):
            with np.errstate(over="ignore"):  # a distance too large for the dtype is outside any radius
                distance = _distances(scores(query[None], block, "euclidean")[0], "euclidean").astype(x.dtype)
            inside = np.flatnonzero(distance <= radius)
            parts.append((distance[inside], first + inside))
    pairs = [_sorted(*map(np.concatenate, zip(*parts, strict=True))) for parts in found]
    distances, indices = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return (distances, indices) if shape else (distances[0], indices[0])


def _sorted(distances: Floats, indices: Integers) -> tuple[Floats, Integers]:
    order = np.argsort(distances, kind="stable")
    return distances[order], indices[order]


@_arithmetic.standard
def separation(patterns: ArrayLike) -> Floats:
    """Return the Euclidean distance (n,) of each pattern to the nearest other one.

    It is 0 for duplicates and infinite if n = 1. Half of the smallest separation is the largest common radius at which
    the balls around all patterns are disjoint (Niu et al. 2024, assumption 3). Raises as `nearest`.

    >>> separation([[0.0], [1.0], [3.0]])
    array([1., 1., 2.])
    """
    p = _check.floats("patterns", patterns, "n d")
    if len(p) == 1:
        return np.full(1, np.inf, p.dtype)
    return nearest(p, p, k=2)[0][:, 1]


class _Directions:
    """Patterns normalized to length one, one block at a time."""

    def __init__(self, patterns: Any) -> None:
        self.patterns = patterns

    def __len__(self) -> int:
        return len(self.patterns)

    def __getitem__(self, block: slice) -> Floats:
        return _directions("patterns", np.asarray(self.patterns[block]), block.start)


def _directions(name: str, vectors: Array, first: int = 0) -> Floats:
    """Scale vectors to length one in float64, first by their largest coordinates so that no square overflows."""
    _check.finite(name, vectors, first)
    vectors = vectors.astype(np.float64, order="C")  # sums are then the same for any layout
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    if not largest.all():
        zero = first + int(largest.argmin())
        raise ValueError(f"{name} must have no row of zeros for metric 'cosine'; got one at index {zero}")
    vectors /= largest
    directions: Floats = vectors / np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return directions


def _distances(scores: Floats, metric: str) -> Floats:
    """Turn scores, -|x - p|^2 or x.p, into distances."""
    distances: Floats = 0.0 - scores  # a plain minus would turn 0 into -0
    return np.sqrt(distances) if metric == "euclidean" else distances
