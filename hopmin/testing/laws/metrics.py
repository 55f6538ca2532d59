"""Laws of search by other metrics and of radius search: `cosine`, `dot` and `within` of a nearest-neighbour search.

    cosine(queries, patterns, k)         distances 1 - x.p / (|x| |p|), smallest first
    dot(queries, patterns, k)            largest products x.p first; what the first result holds is a promise
    within(queries, patterns, radius)    all patterns within a Euclidean radius: lists of arrays (distances, indices),
                                         or (distances, indices, offsets) as in a sparse matrix by rows

A right order is one by exact scores, except that scores closer than the rounding error of a sum of d products in the
dtype of the arguments may change places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, Problem, dtypes, lattice_problems, problems, squared_distances

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

Search = Callable[[Array, Array, int], tuple[Any, Any]]  # (queries, patterns, k) -> (values, indices)
Within = Callable[[Array, Array, float], tuple[Any, ...]]  # (queries, patterns, radius) -> (distances, indices)


@st.composite
def _directions(draw: st.DrawFn, *, decades: int = 12) -> Problem:
    """Draw queries and patterns of lengths from 10^-decades to 10^decades, some parallel; none is zero."""
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 8) | st.sampled_from([33, 300]))
    d = draw(st.integers(1, 6) | st.sampled_from([48, 130]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = rng.integers(-9, 10, (m + n, d)) / 8.0
    points[:, 0][~points.any(axis=1)] = 1.0
    if draw(st.booleans()):
        points[-1] = points[0]  # a pattern with the direction of a query
        points[m] = -points[0]
    powers = rng.integers(-decades, decades + 1, (m + n, 1)) * draw(st.integers(0, 1))
    points = (points * 10.0**powers).astype(draw(dtypes()))
    return Problem(points[:m], points[m:], 1.0)


@st.composite
def _products(draw: st.DrawFn) -> Problem:
    """Draw patterns of very different lengths, so that the largest product is not that of the nearest pattern."""
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 8) | st.sampled_from([33, 300]))
    d = draw(st.integers(1, 6) | st.sampled_from([48, 130]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = rng.integers(-9, 10, (m + n, d)) * draw(st.sampled_from([1.0, 0.1, 1e3]))
    points[m:] *= rng.integers(1, 9, (n, 1))
    points = points.astype(draw(dtypes()))
    return Problem(points[:m], points[m:], 1.0)


def _unit(a: Array) -> Array:
    """Return the directions of rows (n, d) in float64; rows are first scaled by powers of two, which is exact."""
    a = a.astype(float)
    a = np.ldexp(a, -np.frexp(np.abs(a).max(axis=1, keepdims=True))[1])
    unit: Array = a / np.sqrt(np.square(a).sum(axis=1, keepdims=True))
    return unit


def _cosine_distances(problem: Problem) -> tuple[Array, float]:
    """Return 1 - cos (m, n) as |u - v|^2 / 2 of directions, and the rounding error of that and of a usual computation.

    Two lengths and a product are sums of d squares, each with an error of (d + 2) ulp of the dtype.
    """
    u, v = _unit(problem.queries), _unit(problem.patterns)
    d, resolution = u.shape[1], np.finfo(np.result_type(*problem[:2])).eps
    return np.square(u[:, None] - v).sum(axis=2) / 2, float(2 * (d + 6) * resolution)


def _exact_products(problem: Problem) -> tuple[Array, Array]:
    """Return the products (m, n), summed exactly and rounded once, and the rounding error of a sum of d products."""
    x, p = problem.queries.astype(float), problem.patterns.astype(float)
    shift = 2 ** max(53 - min(int(np.frexp(a[a != 0])[1].min(initial=53)) for a in (x, p)), 0)

    def whole(a: Array) -> Array:  # Python integers
        return np.array([int(b.as_integer_ratio()[0] * shift // b.as_integer_ratio()[1]) for b in a.ravel().tolist()],
                        object).reshape(a.shape)  # fmt: skip

    products = (whole(x) @ whole(p).T / shift**2).astype(float)
    resolution = np.finfo(np.result_type(*problem[:2])).eps
    return products, (x.shape[1] + 1) * float(resolution) * (np.abs(x) @ np.abs(p).T)


def _check_order(indices: Any, k: int, scores: Array, slack: Any, what: str) -> Array:
    """Check that indices (m, k) are k different ones in ascending order of the scores (m, n); return them."""
    found, slack = np.asarray(indices), np.broadcast_to(slack, scores.shape)
    if found.shape != (len(scores), k) or found.dtype.kind not in "iu":
        raise AssertionError(f"{what}: must be integers (m, k) = {(len(scores), k)}; got {found.dtype} {found.shape}")
    found = found.astype(np.int64)
    at_most(0, found, 0, what)
    at_most(found, scores.shape[1] - 1, 0, what)
    for row in found:
        same(len(set(row.tolist())), k, f"{what}, each pattern at most once: number of different ones")
    at = np.take_along_axis(scores, found, axis=1)
    error = 2 * np.take_along_axis(slack, found, axis=1)
    best = np.sort(scores, axis=1)[:, :k]
    close(at, best, error + 2 * slack.max(axis=1, keepdims=True), f"{what}: exact scores of those found, and the best")
    return found


def _drawn_k(problem: Problem, part: float) -> int:
    return 1 + int(part * (len(problem.patterns) - 1))


parts = st.floats(0, 1)


def _judge_cosine(cosine: Search, problem: Problem, part: float) -> None:
    k = _drawn_k(problem, part)
    x, p = problem.queries.copy(), problem.patterns.copy()
    values, indices = cosine(x, p, k)
    scores, slack = _cosine_distances(problem)
    found = _check_order(indices, k, scores, slack, "indices by cosine distance")
    close(values, np.take_along_axis(scores, found, axis=1), slack, "cosine distances")
    at_most(np.asarray(values)[:, :-1], np.asarray(values)[:, 1:], 0, "cosine distances in ascending order")
    same(x, problem.queries, "queries after the call")
    same(p, problem.patterns, "patterns after the call")


@law("nearest", source="hnswlib #592, usearch #320", problem=_directions(), part=parts)
def law_cosine(cosine: Search, /, problem: Problem, part: float) -> None:
    """The k smallest 1 - x.p / (|x| |p|), ascending, for vectors of any length, down to 1e-12.

    The slack is the rounding error of a product and two lengths, 2 (d + 6) ulp.
    """
    _judge_cosine(cosine, problem, part)


@law("nearest", promises=("range",), problem=_directions(decades=30), part=parts)
def law_cosine_range(cosine: Search, /, problem: Problem, part: float) -> None:
    """Cosine distances hold for lengths from 1e-30 to 1e30, whose squares underflow or overflow in float32."""
    _judge_cosine(cosine, problem, part)


@law("nearest", source="hnswlib #592", problem=_directions(), scale=st.sampled_from([2.0**-20, 0.25, 8.0, 2.0**20]))
def law_cosine_scale(cosine: Search, /, problem: Problem, scale: float) -> None:
    """Multiplying queries or patterns by a positive number changes no cosine distance; those lie between 0 and 2."""
    x, p, _ = problem
    slack = _cosine_distances(problem)[1]
    plain = np.asarray(cosine(x, p, len(p))[0])
    at_most(-slack, plain, 0, "cosine distances at least 0")
    at_most(plain, 2 + slack, 0, "cosine distances at most 2")
    factor = x.dtype.type(scale)
    close(cosine(x * factor, p, len(p))[0], plain, 2 * slack, "cosine distances of scaled queries")
    close(cosine(x, p * factor, len(p))[0], plain, 2 * slack, "cosine distances to scaled patterns")


@law("nearest", problem=_products() | problems(offsets=(0.0, 1.0)), part=parts)
def law_dot(dot: Search, /, problem: Problem, part: float) -> None:
    """The k largest products x.p, largest first, by exact integer arithmetic; products within rounding may tie.

    A sum of d products has an error of (d + 1) ulp of the sum of their absolute values.
    """
    k = _drawn_k(problem, part)
    x, p = problem.queries.copy(), problem.patterns.copy()
    _, indices = dot(x, p, k)
    products, slack = _exact_products(problem)
    _check_order(indices, k, -products, slack, "indices by largest product")
    same(x, problem.queries, "queries after the call")
    same(p, problem.patterns, "patterns after the call")


@law("nearest", promises=("products",), problem=_products() | problems(offsets=(0.0, 1.0)))
def law_dot_products(dot: Search, /, problem: Problem) -> None:
    """The first result of `dot` is -x.p, ascending, for those who promise that rather than x.p or 1 - x.p."""
    n = len(problem.patterns)
    values, indices = dot(*problem[:2], n)
    products, slack = _exact_products(problem)
    found = np.asarray(indices, np.int64)
    close(values, -np.take_along_axis(products, found, axis=1), np.take_along_axis(slack, found, axis=1), "-x.p")
    at_most(np.asarray(values)[:, :-1], np.asarray(values)[:, 1:], 0, "-x.p in ascending order")


@law("nearest", promises=("ties",), source="scikit-learn #23667", problem=lattice_problems(far=False), part=parts)
def law_dot_ties(dot: Search, /, problem: Problem, part: float) -> None:
    """Equal products, of integers and therefore exact, are in order of index."""
    x, p, _ = problem
    k = _drawn_k(problem, part)
    products = x.astype(float) @ p.astype(float).T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :k]
    same(np.asarray(dot(x, p, k)[1]).astype(np.int64), expected, "indices by largest product, ties by lowest index")


@law("nearest", promises=("ties",), source="scikit-learn #15592", problem=_directions(decades=0))
def law_cosine_ties(cosine: Search, /, problem: Problem) -> None:
    """Of equal patterns, the one with the lowest index comes first."""
    x, p = problem.queries, np.concatenate([problem.patterns, problem.patterns])
    found, n = np.asarray(cosine(x, p, len(p))[1]), len(problem.patterns)
    place = np.argsort(found, axis=1)
    at_most(place[:, :n] + 1, place[:, n:], 0, "place of a pattern before that of its copy")


def _judge_many(search: Search, problem: Problem, extra: int) -> None:
    """Check what a search with k > n returns: all n patterns, then places marked as missing."""
    x, p, _ = problem
    n = len(p)
    values, indices = (np.asarray(a) for a in search(x, p, n + extra))
    whole = np.asarray(search(x, p, n)[1])
    same(values.shape == indices.shape and indices.ndim == 2, True, "two results of one shape (m, k)")
    at_most(n, indices.shape[1], 0, "number of columns, for k > n at least n")
    same(indices[:, :n].astype(np.int64), whole.astype(np.int64), "the n patterns, before missing ones")
    missing = indices[:, n:]
    same(((missing < 0) | (missing >= n)).all(), np.True_, "indices of missing patterns, which are no pattern's")


@law("nearest", promises=("many",), source="esa/pykep #220", problem=_directions(decades=0), extra=st.integers(1, 70))
def law_cosine_many(cosine: Search, /, problem: Problem, extra: int) -> None:
    """For k > n: all n patterns, then nothing or places whose index is -1 or at least n."""
    _judge_many(cosine, problem, extra)


@law("nearest", promises=("many",), source="esa/pykep #220", problem=_products(), extra=st.integers(1, 70))
def law_dot_many(dot: Search, /, problem: Problem, extra: int) -> None:
    """For k > n: all n patterns, then nothing or places whose index is -1 or at least n."""
    _judge_many(dot, problem, extra)


@law("nearest", source="faiss #563", problem=_directions(), part=parts)
def law_cosine_batch(cosine: Search, /, problem: Problem, part: float) -> None:
    """A query alone has the cosine distances that it has in a batch, to twice their rounding error."""
    x, p, _ = problem
    k = _drawn_k(problem, part)
    alone = np.concatenate([np.asarray(cosine(x[i : i + 1], p, k)[0]) for i in range(len(x))])
    close(
        alone, cosine(x, p, k)[0], 2 * _cosine_distances(problem)[1], "cosine distances of a query alone and in a batch"
    )


# Within a radius


def _rows(result: tuple[Any, ...], m: int) -> list[tuple[Array, Array]]:
    """Return distances and indices for each query, of lists or of a sparse matrix by rows."""
    distances, indices, *offsets = result
    if offsets:
        ends = np.asarray(offsets[0]).tolist()
        same((len(ends), ends[0], ends[-1]), (m + 1, 0, len(indices)), "number of offsets, the first and the last")
        distances, indices = ([a[start:stop] for start, stop in pairwise(ends)] for a in (distances, indices))
    same((len(distances), len(indices)), (m, m), "number of lists of distances and of indices")
    each = [(np.asarray(t), np.asarray(i)) for t, i in zip(distances, indices, strict=True)]
    for t, i in each:
        if t.shape != i.shape or t.ndim != 1:
            raise AssertionError(
                f"distances and indices of a query must be vectors of one length; got {t.shape}, {i.shape}"
            )
    return [(t, i.astype(np.int64)) for t, i in each]


@st.composite
def _radius_problems(draw: st.DrawFn) -> Problem:
    """Draw a problem, with a larger one at times, and as its last number a radius that some patterns are within."""
    if draw(st.booleans()):
        x, p, _ = draw(problems(offsets=(0.0, 1.0)))
    else:
        m, n, d = draw(st.sampled_from([(9, 40, 3), (2, 700, 8), (40, 65, 50), (1, 9, 130)]))
        points = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(m + n, d)).astype(draw(dtypes()))
        x, p = points[:m], points[m:]
    distances = np.sqrt(np.square(x[:1].astype(float) - p).sum(axis=1))
    return Problem(x, p, float(np.quantile(distances, draw(st.floats(0, 1))) * draw(st.sampled_from([0.75, 1.0, 1.1]))))


@law("nearest", problem=_radius_problems())
def law_within(within: Within, /, problem: Problem) -> None:
    """Exactly the patterns with |x - p| <= radius, each once, with their distances; those within rounding are free.

    The slack of a distance is (d + 2) ulp of the dtype of the squares |x|^2 + |p|^2, over the distance: the error of an
    expanded square near the origin.
    """
    x, p, radius = problem
    x, p = x.copy(), p.copy()
    rows = _rows(within(x, p, radius), len(x))
    resolution = float(np.finfo(np.result_type(x, p)).eps)
    true = np.sqrt(squared_distances(problem)) if x.size * len(p) < 4000 else _distances(x, p)
    squares = (np.square(x.astype(float)).sum(axis=1)[:, None] + np.square(p.astype(float)).sum(axis=1)) * 2
    error = (x.shape[1] + 4) * resolution * squares
    slack = np.minimum(np.sqrt(error), error / np.maximum(true, 1e-300)) + 4 * resolution * true
    for t, i, exact, free in zip(*zip(*rows, strict=True), true, slack, strict=True):
        same(len(set(i.tolist())), len(i), "number of different indices, each pattern at most once")
        at_most(0, i, 0, "indices")
        at_most(i, len(p) - 1, 0, "indices")
        close(t, exact[i], free[i], "distances within the radius")
        at_most(exact[i], radius, free[i], "exact distances of the patterns found, and the radius")
        left_out = np.setdiff1d(np.arange(len(p)), i)
        at_most(radius, exact[left_out], free[left_out], "the radius, and exact distances of the patterns left out")
    same(x, problem.queries, "queries after the call")
    same(p, problem.patterns, "patterns after the call")


def _distances(x: Array, p: Array) -> Array:
    distances: Array = np.sqrt(np.square(x[:, None].astype(float) - p).sum(axis=2))
    return distances


@law("nearest", promises=("inclusive",), problem=lattice_problems(), radius=st.integers(0, 12))
def law_within_boundary(within: Within, /, problem: Problem, radius: int) -> None:
    """A pattern at exactly the radius is found, a copy of the query within radius 0 too: |x - p|^2 <= radius^2.

    All differences and squares are integers and exact in float64, however far from the origin the points are.
    """
    x, p, _ = problem
    squares = np.square(x[:, None].astype(float) - p).sum(axis=2)
    for (_, found), row in zip(_rows(within(x, p, float(radius)), len(x)), squares, strict=True):
        same(np.sort(found), np.flatnonzero(row <= radius**2), "indices within the radius")


@law("nearest", promises=("sorted",), problem=_radius_problems())
def law_within_sorted(within: Within, /, problem: Problem) -> None:
    """The patterns found are in ascending order of their distances."""
    for distances, _ in _rows(within(*problem), len(problem.queries)):
        at_most(distances[:-1], distances[1:], 0, "distances within the radius in ascending order")


@law("nearest", problem=_radius_problems())
def law_within_nearest(nearest: Search, within: Within, /, problem: Problem) -> None:
    """`within` finds what `nearest` with k = n has within the radius, at the same distances.

    The slack is twice the error of an expanded square, 2 (d + 4) ulp of |x|^2 + |p|^2.
    """
    x, p, radius = problem
    all_distances, all_indices = (np.asarray(a) for a in nearest(x, p, len(p)))
    size = 2 * (np.square(x.astype(float)).sum(axis=1).max() + np.square(p.astype(float)).sum(axis=1).max())
    error = 2 * (x.shape[1] + 4) * float(np.finfo(np.result_type(x, p)).eps) * size
    for (found, indices), t, order in zip(_rows(within(x, p, radius), len(x)), all_distances, all_indices, strict=True):
        known = np.empty(len(p))
        known[order] = t
        slack = np.minimum(math.sqrt(error), error / np.maximum(known, 1e-300))
        close(np.asarray(found, float), known[indices], slack[indices], "distances by `within`, and by `nearest`")
        inside = set(indices.tolist())
        sure = np.flatnonzero(known <= radius - slack).tolist()
        same(sorted(set(sure) - inside), [], "indices by `nearest` inside the radius that `within` left out")


@law("nearest", source="faiss #563", problem=_radius_problems())
def law_within_batch(within: Within, /, problem: Problem) -> None:
    """A radius that no pattern, or every pattern, is within gives none, or all, for each query, alone or not."""
    x, p, _ = problem
    farthest = float(_distances(x, p).max())
    for distances, found in _rows(within(x, p, 2 * farthest + 1), len(x)):
        same(np.sort(found), np.arange(len(p)), "indices within a radius that includes all patterns")
        same(len(distances), len(p), "number of distances")
    away = x + x.dtype.type(8 * (farthest + float(np.abs(p).max()) + 1))
    for batch in (away, away[:1]):
        for _, found in _rows(within(batch, p, farthest), len(batch)):
            same(len(found), 0, "number of patterns within a radius that is less than all distances")
