"""Exact nearest neighbours, the limit of retrieval at infinite beta.

- the k nearest patterns [`nearest`]
- all patterns within a radius [`within`]
- the distance of each pattern to the nearest other one [`separation`]

Distances are computed as differences first, then squares, summed in float64 for any dtype, so the distance of a pattern
to itself is exactly 0, however far the data are from the origin. `nearest` scales differences whose squares would
underflow or overflow. Ties are broken by the lowest index.
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

    Indices and their order are those of scores computed in float64, one coordinate after another; see Notes for their
    accuracy. Results are bit for bit the same for any number of threads, any memory layout, and for a query alone or in
    a batch.

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

    Notes
    -----
    With eps = 2^-52, a distance t is returned with an error of at most

        euclidean    (d + 2) eps t
        dot          (d + 1)/2 eps sum_c |x_c p_c| + d 2^-1074
        cosine       u sqrt(2 t) + u^2 + (d + 4) eps t, where u = 2 (d + 6) eps

    before it is rounded to the dtype of the result, and of two patterns whose distances differ by more than the sum of
    their errors the nearer one comes first. So Euclidean distances of float32 arrays are within 1 ulp. A product has
    few correct digits if its terms nearly cancel, and a cosine distance if the angle is not much larger than d eps.

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
        if metric == "euclidean":
            for i in _out_of_range(x, p, r.best, r.indices):
                distances[i], r.indices[i] = _nearest_scaled(x[i], p, k)
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


def _out_of_range(x: Floats, p: Any, best: Floats, indices: Integers) -> Integers:
    """Return the queries with a neighbour whose square overflows, is subnormal, or is 0 although it differs."""
    if x.dtype == np.float32:  # never in float64
        return np.empty(0, np.int64)
    odd = np.isneginf(best) | ((best > -np.finfo(np.float64).tiny) & (best < 0))
    rows, places = np.nonzero(best == 0)
    size = 1 + (1 << 20) // x.shape[1]
    for i in range(0, len(rows), size):  # a few patterns at a time
        row, place = rows[i : i + size], places[i : i + size]
        j = indices[row, place]
        found = p[j] if isinstance(p, np.ndarray) else np.concatenate([p[k : k + 1] for k in j])
        odd[row, place] = (found != x[row]).any(axis=1)
    return np.flatnonzero(odd.any(axis=1))


def _nearest_scaled(x: Floats, p: Any, k: int) -> tuple[Floats, Integers]:
    """Return the distances and indices (k,) of the patterns nearest to a query x (d,), whatever their magnitude.

    Distances below 2^-88 are found in a search with differences scaled up, those above 2^512 with differences scaled
    down. Scaling by a power of two does not change the digits.
    """
    distances, indices = np.empty(0), np.empty(0, np.int64)
    for factor in (2.0**600, 1.0, 2.0**-600):
        r = reduce(np.zeros((1, len(x))), _Differences(x, p, factor), metric="euclidean", beta=None, k=k)
        new = np.isfinite(r.best[0]) & ~np.isin(r.indices[0], indices)
        with np.errstate(over="ignore"):
            distances = np.append(distances, _distances(r.best[0, new], "euclidean") / factor)
        indices = np.append(indices, r.indices[0, new])
    return distances[:k], indices[:k]


class _Differences:
    """The differences of patterns and a query x (d,), times a factor, block by block; infinite ones are cut off."""

    def __init__(self, x: Floats, patterns: Any, factor: float) -> None:
        self.x, self.patterns, self.factor = x, patterns, factor

    def __len__(self) -> int:
        return len(self.patterns)

    def __getitem__(self, block: slice) -> Floats:
        p, largest = np.asarray(self.patterns[block], np.float64), np.finfo(np.float64).max
        _check.finite("patterns", p, block.start)
        with np.errstate(over="ignore"):
            differences: Floats = (
                self.factor * p - self.factor * self.x if self.factor < 1 else self.factor * (p - self.x)
            )
        return differences.clip(-largest, largest)


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
