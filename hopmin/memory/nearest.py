"""Exact nearest neighbours, the limit of retrieval at infinite beta.

- the k nearest patterns [`nearest`]
- all patterns within a radius [`within`]
- the distance of each pattern to the nearest other one [`separation`]

Distances are computed as differences first, then squares, summed in float64 for any dtype, so the distance of a pattern
to itself is exactly 0, however far the data are from the origin. Differences whose squares would underflow or overflow
are scaled. Ties are broken by the lowest index.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check, _threads
from hopmin._typing import Array, Floats, Integers, Metric, Progress
from hopmin.memory._allowed import Groups, Selected
from hopmin.memory._directions import directions
from hopmin.memory.reduction import PANEL, Packed, bits, gather, has_codes, reduce, scores

EPS, TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)
METRICS = get_args(Metric)


@_arithmetic.standard
def nearest(
    queries: ArrayLike,
    patterns: ArrayLike,
    k: int = 1,
    *,
    metric: Metric = "euclidean",
    allowed: ArrayLike | None = None,
    progress: Progress | None = None,
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
    allowed : array_like of bool, shape (m, n) or (n,), or of int, optional
        The patterns that each query may find, or their indices, if they are the same for all: the results are, bit for
        bit, those for these patterns alone. Default: all.
    progress : callable, optional
        Called as `progress(done, total)` on the calling thread, from time to time and at the end, with the number of
        pairs of a query and a pattern that have been compared, and that of all pairs. An exception that it raises ends
        the search, as an interrupt does.

    Returns
    -------
    distances : ndarray, shape (m, k) or (k,)
        Distances in ascending order; float32 if queries and patterns are float32, otherwise float64.
    indices : ndarray of int64, shape (m, k) or (k,)
        The indices of the patterns at these distances. If fewer than k patterns are allowed for a query, they are
        followed by the index -1 at an infinite distance.

    Raises
    ------
    ValueError
        If a shape does not fit, an array is empty (except for m = 0) or not finite, a distance or product overflows,
        a row is zero for "cosine", k is not in 1..n, or the metric is unknown.
    TypeError
        If an array is not real, k is not an integer or `progress` not callable.

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
    metric = _check.choice("metric", metric, METRICS)
    x, p, shape = _check.pair(queries, patterns)
    k, progress = _check.integer("k", k, 1, len(p)), _check.progress(progress)
    if allowed is None:
        distances, indices = _nearest(x, p, k, metric, progress)
    else:
        groups = Groups(allowed, len(x), len(p), none=True)
        indices, distances = np.full((len(x), k), -1), np.full((len(x), k), np.inf, x.dtype)
        for queries, seen in groups.split(np.arange(len(x))):
            if count := min(k, len(seen)):
                found = _nearest(x[queries], Selected(p, seen), count, metric, progress)
                distances[queries, :count], indices[queries, :count] = found[0], seen[found[1]]
    return distances.reshape(*shape, k), indices.reshape(*shape, k)


def _nearest(x: Floats, p: Any, k: int, metric: Metric, progress: Progress | None) -> tuple[Floats, Integers]:
    """Return the distances and indices (m, k) of the nearest patterns of checked queries (m, d)."""
    if metric == "cosine":
        packed = isinstance(p.patterns if isinstance(p, Selected) else p, Packed)
        search = _nearest_directions if packed else _nearest_by_block
        best, indices = search(directions("queries", x), p, k, progress)
    else:
        best, indices = _k_best(x, p, k, metric, progress)
    distances = _distances(best, metric)
    if metric == "euclidean":
        for i in _out_of_range(x, p, best, indices):
            distances[i], indices[i] = _nearest_scaled(x[i], p, k)
    return _check.cast(distances, x, p, x.dtype), indices


def _k_best(x: Floats, p: Any, k: int, metric: Any, progress: Progress | None) -> tuple[Floats, Integers]:
    """Return the k best scores (m, k) and the indices of their patterns."""
    if isinstance(p, Selected) and has_codes(p.patterns, x.dtype) and not p.is_cheap(len(x), 4 * PANEL):
        allowed = bits(p.seen, len(p.patterns))
        r = reduce(x, p.patterns, metric=metric, beta=None, k=k, progress=progress, allowed=allowed)
        return r.best, np.searchsorted(p.seen, r.indices)
    r = reduce(x, p, metric=metric, beta=None, k=k, progress=progress)
    return r.best, r.indices


class RadiusOptions(TypedDict, total=False):
    """The options of `within`, except `csr`."""

    metric: Metric
    sort: bool
    allowed: ArrayLike | None
    progress: Progress | None


@overload
def within(
    queries: ArrayLike, patterns: ArrayLike, radius: ArrayLike, *, csr: Literal[True], **options: Unpack[RadiusOptions]
) -> tuple[Floats, Integers, Integers]: ...
@overload
def within(
    queries: ArrayLike,
    patterns: ArrayLike,
    radius: ArrayLike,
    *,
    csr: Literal[False] = ...,
    **options: Unpack[RadiusOptions],
) -> tuple[list[Floats], list[Integers]] | tuple[Floats, Integers]: ...
@_arithmetic.standard
def within(
    queries: ArrayLike,
    patterns: ArrayLike,
    radius: ArrayLike,
    *,
    metric: Metric = "euclidean",
    sort: bool = True,
    csr: bool = False,
    allowed: ArrayLike | None = None,
    progress: Progress | None = None,
) -> tuple[list[Floats], list[Integers]] | tuple[Floats, Integers] | tuple[Floats, Integers, Integers]:
    """Return the distances and indices of all patterns within a radius of each query.

    These are the patterns whose distance, in float64 and before it is rounded to the dtype of the result, is at most
    the radius; the distance is that of `nearest`. Results are bit for bit the same for any number of threads, any
    memory layout, and for a query alone or in a batch. They take memory in proportion to the number of patterns found.

    Parameters
    ----------
    queries : array_like, shape (m, d) or (d,)
        The queries.
    patterns : array_like or Packed, shape (n, d)
        The patterns. A memory-mapped array is read one block at a time.
    radius : float or array_like, shape (m,)
        The largest distance, inclusive, for all queries or for each of them; it may be infinite. At least 0, except for
        "dot".
    metric : {"euclidean", "dot", "cosine"}, default "euclidean"
        As for `nearest`: the distance of "dot" is -x.p, so that products of at least t are within a radius of -t; that
        of "cosine" lies between 0 and 2.
    sort : bool, default True
        Whether to sort the patterns of each query as `nearest` does: by distance, ties by the lowest index. Otherwise
        they are in order of index.
    csr : bool, default False
        Whether to return the results of all queries in one array each, as in a sparse matrix by rows.
    allowed : array_like of bool, shape (m, n) or (n,), or of int, optional
        The patterns that each query may find, or their indices, if they are the same for all. Default: all.
    progress : callable, optional
        Called as `progress(done, total)` on the calling thread, from time to time and at the end, with the number of
        pairs of a query and a pattern that have been compared, and that of all pairs. An exception that it raises ends
        the search, as an interrupt does.

    Returns
    -------
    distances : list of m ndarrays, or ndarray for a single query
        The distances of all patterns within the radius; float32 if queries and patterns are float32, otherwise float64.
        With `csr`, a single array (h,) for h patterns found in total.
    indices : list of m ndarrays of int64, or ndarray for a single query
        The indices of these patterns. With `csr`, a single array (h,).
    offsets : ndarray of int64, shape (m + 1,)
        Only with `csr`: those of query i are at `offsets[i]` to `offsets[i + 1]`.
        `scipy.sparse.csr_array(within(..., csr=True), shape=(m, n))` is the matrix of the distances.

    Raises
    ------
    ValueError
        As for `nearest`, and if the radius is negative (except for "dot") or NaN, or does not have shape (m,).
    TypeError
        As for `nearest`, and if the radius is not real, or an option not a boolean.

    Examples
    --------
    >>> within([[0.0], [5.0]], [[0.0], [1.0], [2.0]], radius=1)
    ([array([0., 1.]), array([], dtype=float64)], [array([0, 1]), array([], dtype=int64)])
    >>> within([[0.0], [5.0]], [[0.0], [1.0], [2.0]], radius=[1, 3], csr=True)
    (array([0., 1., 3.]), array([0, 1, 2]), array([0, 2, 3]))
    """
    metric = _check.choice("metric", metric, METRICS)
    x, p, shape = _check.pair(queries, patterns)
    radii = _check.radii("radius", radius, len(x), -np.inf if metric == "dot" else 0.0)
    sort, csr, progress = _check.boolean("sort", sort), _check.boolean("csr", csr), _check.progress(progress)
    if allowed is None:
        distances, indices, offsets = _within(x, p, radii, metric, sort, None, progress)
    else:
        groups = [
            (queries, _within(x[queries], p, radii[queries], metric, sort, seen, progress))
            for queries, seen in Groups(allowed, len(x), len(p), none=True).split(np.arange(len(x)))
        ]
        distances, indices, offsets = _joined(groups, len(x))
    if csr:
        return distances, indices, offsets
    if not shape:
        return distances, indices
    each = [slice(*ends) for ends in pairwise(offsets.tolist())]
    return [distances[part] for part in each], [indices[part] for part in each]


def _within(
    x: Floats, p: Any, radii: Floats, metric: Metric, sort: bool, seen: Integers | None, progress: Progress | None
) -> tuple[Floats, Integers, Integers]:
    """Return the results of `within` with `csr` for checked queries (m, d) and the patterns that they all see."""
    if seen is not None:
        if len(seen) == 0:
            return np.empty(0, x.dtype), seen, np.zeros(len(x) + 1, np.int64)
        alone = Selected(p, seen)
        if not isinstance(p, Packed) or metric == "cosine" or alone.is_cheap(len(x), PANEL):
            p, seen = alone, None
    least = _least_scores(radii, metric)
    if metric == "cosine":
        parts = gather(directions("queries", x), _Directions(p), least, metric="euclidean", progress=progress)
    else:
        parts = gather(x, p, least, metric=metric, progress=progress, allowed=seen)

    def select(part: slice, rows: Integers, found: Floats, indices: Integers) -> tuple[Integers, Floats, Integers]:
        """Return the number of neighbours of each query in a part, their distances and their indices."""
        distances, keys = _distances(found, metric), [0.0 - found]
        if metric == "euclidean" and x.dtype == np.float64:
            keys.append(_scale_out_of_range(distances, keys[0], x[part], p, rows, indices))
        inside = distances <= radii[part][rows]
        rows, distances, indices, keys = rows[inside], distances[inside], indices[inside], [key[inside] for key in keys]
        counts = np.bincount(rows, minlength=part.stop - part.start)
        order = np.argsort(rows.astype(np.int16), kind="stable")  # a radix sort
        if sort:
            for start, stop in pairwise([0, *counts.cumsum().tolist()]):
                if stop - start > 1:
                    mine = order[start:stop]
                    order[start:stop] = mine[_order([key[mine] for key in keys])]
        return counts, _check.cast(distances[order], x, p, x.dtype), indices[order]

    selected = _threads.run([partial(select, *part) for part in parts])
    offsets = np.concatenate([[0], *(counts for counts, _, _ in selected)]).cumsum()
    distances = np.concatenate([np.empty(0, x.dtype), *(some for _, some, _ in selected)])
    indices = np.concatenate([np.empty(0, np.int64), *(some for _, _, some in selected)])
    return distances, p.seen[indices] if isinstance(p, Selected) else indices, offsets


def _joined(
    parts: list[tuple[Integers, tuple[Floats, Integers, Integers]]], m: int
) -> tuple[Floats, Integers, Integers]:
    """Join results of `within` with `csr` for parts of m queries, given with the queries of each."""
    offsets = np.zeros(m + 1, np.int64)
    for queries, (_, _, ends) in parts:
        offsets[queries + 1] = np.diff(ends)
    offsets = offsets.cumsum()
    distances, indices = np.empty(offsets[-1], parts[0][1][0].dtype), np.empty(offsets[-1], np.int64)
    for queries, (some, places, ends) in parts:
        to = np.arange(ends[-1]) + np.repeat(offsets[queries] - ends[:-1], np.diff(ends))
        distances[to], indices[to] = some, places
    return distances, indices, offsets


def _order(keys: list[Array]) -> Integers:
    """Return the stable order by the last key, then by the one before it; a key that is 0 throughout orders nothing."""
    if len(keys) > 1 and not keys[-1].any():
        keys = keys[:-1]
    return np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys)


def _least_scores(radii: Floats, metric: str) -> Floats:
    """Return scores (m,) that all patterns within a radius reach, and hardly any others."""
    if metric == "dot":
        return -radii
    with np.errstate(over="ignore"):
        largest = radii**2 if metric == "euclidean" else 2 * radii
    # more than the rounding of this square and of the root of a score, and than what may underflow in them
    return -largest * (1 + 8 * EPS) - TINY


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
    usual = best <= -TINY
    if np.count_nonzero(usual) == best.size and _check.is_finite(best):
        return np.empty(0, np.int64)
    odd = np.isneginf(best) | (~usual & (best < 0))
    rows, places = np.nonzero(best == 0)
    size = 1 + (1 << 20) // x.shape[1]
    for i in range(0, len(rows), size):  # a few patterns at a time
        row, place = rows[i : i + size], places[i : i + size]
        odd[row, place] = (_at(p, indices[row, place]) != x[row]).any(axis=1)
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


def _scale_out_of_range(
    distances: Floats, squares: Floats, x: Floats, p: Any, rows: Integers, indices: Integers
) -> Array:
    """Compute distances and squares of pairs again, in place, if they are out of range, scaled as in `_nearest_scaled`.

    Returns -1 for squares that are scaled up, 0 for those that are not scaled, and 1 for those that are scaled down.
    """
    size: Array = np.isinf(squares).astype(np.int8) - (squares < 2.0**-176)
    odd, count = np.flatnonzero(size), 1 + (1 << 20) // x.shape[1]
    for i in range(0, len(odd), count):  # a few patterns at a time
        part = odd[i : i + count]
        query, pattern = x[rows[part]], np.asarray(_at(p, indices[part]), np.float64)
        down, up = (np.where(size[part] > 0, *factors)[:, None] for factors in ((2.0**-600, 1.0), (1.0, 2.0**600)))
        differences = up * (down * pattern - down * query)
        squares[part] = 0.0 - scores(np.zeros((1, x.shape[1])), differences, "euclidean")[0]
        with np.errstate(over="ignore"):
            distances[part] = np.sqrt(squares[part]) / (up * down)[:, 0]
    return size


def _at(p: Any, indices: Integers) -> Floats:
    """Return patterns (k, d) at these indices."""
    if isinstance(p, Packed | Selected):
        return p._at(indices)
    found: Floats = p[indices] if isinstance(p, np.ndarray) else np.concatenate([p[j : j + 1] for j in indices])
    return found


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
        return directions("patterns", np.asarray(self.patterns[block]), block.start)


def _nearest_by_block(x: Floats, patterns: Any, k: int, progress: Progress | None = None) -> tuple[Floats, Integers]:
    """Return the k best scores (m, k) of directions x, and the indices of their patterns, normalized block by block."""
    r = reduce(x, _Directions(patterns), metric="euclidean", beta=None, k=k, progress=progress)
    return r.best, r.indices


def _nearest_directions(
    x: Floats, patterns: Any, k: int, progress: Progress | None = None, spare: int = 3
) -> tuple[Floats, Integers]:
    """Return the k best scores (m, k) of directions x, and the indices of their patterns, packed ones or some of these.

    Packed patterns keep their directions in float32. Rounding x and them moves a distance by at most 2^-23, and the
    sums of squares are good to (d + 2) eps: patterns farther than the k-th by more than twice that are not among the k
    nearest, and the others are compared in float64. Queries for which they are all of the k + spare are searched again.
    """
    n, d = patterns.shape
    near_k = min(n, k + spare)
    try:
        directed = (
            Selected(patterns.patterns._directed(), patterns.seen)
            if isinstance(patterns, Selected)
            else patterns._directed()
        )
    except ValueError:  # a pattern of zeros, perhaps not one of those selected
        if not isinstance(patterns, Selected):
            raise
        return _nearest_by_block(x, patterns, k, progress)
    scored, near_indices = _k_best(x.astype(np.float32), directed, near_k, "euclidean", progress)
    rough = _distances(scored, "euclidean")
    near = rough <= rough[:, k - 1 : k] + 2 * (2.0**-22 + (d + 8) * 2.0**-50)
    exact, (row, column) = np.full(rough.shape, -np.inf), np.nonzero(near)
    step = max(1, (1 << 18) // d)
    for i in range(0, len(row), step):
        pairs = row[i : i + step], column[i : i + step]
        squares = np.square(x[pairs[0]] - directions("patterns", patterns._at(near_indices[pairs])))
        exact[pairs] = 0.0 - np.add.accumulate(squares, axis=1)[:, -1]  # in order, as the core sums
    order = np.lexsort((near_indices, -exact), axis=1)[:, :k]
    best, indices = np.take_along_axis(exact, order, axis=1), np.take_along_axis(near_indices, order, axis=1)
    if k + spare < n and (many := near[:, -1]).any():
        again = partial(_nearest_directions, spare=8 * spare) if spare < 100 else _nearest_by_block
        best[many], indices[many] = again(x[many], patterns, k)
    return best, indices


def _distances(scores: Floats, metric: str) -> Floats:
    """Turn scores into distances: -|x - p|^2, that of directions for "cosine", or x.p."""
    distances: Floats = 0.0 - scores  # a plain minus would turn 0 into -0
    return np.sqrt(distances) if metric == "euclidean" else distances / 2 if metric == "cosine" else distances
