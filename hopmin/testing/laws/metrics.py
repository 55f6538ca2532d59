"""Laws of search by other metrics and of radius search: `cosine`, `dot` and `within` of a nearest-neighbour search.

    cosine(queries, patterns, k)         distances 1 - x.p / (|x| |p|), smallest first
    dot(queries, patterns, k)            largest products x.p first; the first result holds x.p, -x.p or 1 - x.p
    within(queries, patterns, radius)    all patterns within a Euclidean radius: lists of arrays (distances, indices),
                                         or (distances, indices, offsets) as in a sparse matrix by rows

A right order is one by exact scores, except that scores closer than the rounding error of a sum of d products in the
dtype of the arguments may change places.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.laws.search import (
    Grid,
    Search,
    check_order,
    check_unchanged,
    exact_distances,
    expanded_slack,
    few,
    grids,
    judge_many,
    number_of_neighbours,
    on_grid,
    parts,
    resolution,
    seeds,
)
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, Problem, dtypes, laid_out, lattice_problems, layouts, problems

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

_pairs = st.tuples(layouts(), layouts())  # of queries and of patterns
Within = Callable[[Array, Array, float], tuple[Any, ...]]  # (queries, patterns, radius) -> (distances, indices)


@st.composite
def directions(draw: st.DrawFn, *, decades: int = 12, double: int = 12) -> Problem:
    """Draw queries and patterns of lengths from 10^-decades to 10^decades, some parallel; none is zero.

    For float64 there are `double` decades.
    """
    dtype = draw(dtypes())
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 8) | st.sampled_from([33, 300]))
    d = draw(st.integers(1, 6) | st.sampled_from([48, 130]))
    rng = np.random.default_rng(draw(seeds))
    points = rng.integers(-9, 10, (m + n, d)) / 8.0
    points[:, 0][~points.any(axis=1)] = 1.0
    if draw(st.booleans()):
        points[-1] = points[0]  # a pattern with the direction of a query
        points[m] = -points[0]
    decades = double if dtype == "float64" else decades
    powers = rng.integers(-decades, decades + 1, (m + n, 1)) * draw(st.integers(0, 1))
    points = (points * 10.0**powers).astype(dtype)
    return Problem(points[:m], points[m:], 1.0)


def _few_positive(dtype: str, seed: int) -> Problem:
    """Return 3 queries and 40 patterns of positive integers."""
    points = np.random.default_rng(seed).integers(1, 9, (43, 4)).astype(dtype)
    return Problem(points[:3], points[3:], 8.0)


@st.composite
def _products(draw: st.DrawFn) -> Problem:
    """Draw patterns of very different lengths, so that the largest product is not that of the nearest pattern."""
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 8) | st.sampled_from([33, 300]))
    d = draw(st.integers(1, 6) | st.sampled_from([48, 130]))
    rng = np.random.default_rng(draw(seeds))
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
    scores = np.reshape([np.square(row - v).sum(axis=1) / 2 for row in u], (len(u), len(v)))
    return scores, 2 * (u.shape[1] + 6) * resolution(problem)


def _exact_products(problem: Problem) -> tuple[Array, Array]:
    """Return the products (m, n), summed exactly and rounded once, and the rounding error of a sum of d products."""
    x, p = problem.queries.astype(float), problem.patterns.astype(float)
    sizes = np.abs(x) @ np.abs(p).T
    slack = (x.shape[1] + 1) * resolution(problem) * sizes
    if not (np.fmod(x, 1).any() or np.fmod(p, 1).any()) and sizes.max() < 2**53:
        return x @ p.T, slack  # integers, which float64 holds
    shift = 2 ** max(53 - min(int(np.frexp(a[a != 0])[1].min(initial=53)) for a in (x, p)), 0)

    def whole(a: Array) -> Array:  # Python integers
        return np.array([int(b.as_integer_ratio()[0] * shift // b.as_integer_ratio()[1]) for b in a.ravel().tolist()],
                        object).reshape(a.shape)  # fmt: skip

    products = (whole(x) @ whole(p).T / shift**2).astype(float)
    return products, slack


def _judge_cosine(cosine: Search, problem: Problem, k: int, pair: tuple[str, str] = ("C", "C")) -> None:
    x, p = (laid_out(a, layout) for a, layout in zip(problem[:2], pair, strict=True))
    values, indices = cosine(x, p, k)
    scores, slack = _cosine_distances(problem)
    found = check_order(indices, k, scores, slack, "indices by cosine distance")
    close(values, np.take_along_axis(scores, found, axis=1), slack, "cosine distances")
    at_most(np.asarray(values)[:, :-1], np.asarray(values)[:, 1:], 0, "cosine distances in ascending order")
    check_unchanged(problem, x, p)


@law("nearest", source="hnswlib #592, usearch #320", problem=directions(), part=parts)
def law_cosine(cosine: Search, /, problem: Problem, part: float) -> None:
    """The k smallest 1 - x.p / (|x| |p|), ascending, for vectors of any length, down to 1e-12.

    The slack is the rounding error of a product and two lengths, 2 (d + 6) ulp.
    """
    _judge_cosine(cosine, problem, number_of_neighbours(problem, part))


@law("nearest", dtype=dtypes(), seed=seeds, pair=_pairs)
def law_cosine_array(cosine: Search, /, dtype: str, seed: int, pair: tuple[str, str]) -> None:
    """Cosine distances hold for any memory layout, byte order and for read-only arrays; inputs are not changed."""
    _judge_cosine(cosine, _few_positive(dtype, seed), 20, pair)


@law("nearest", source="faiss #3245", grid=grids(), dtype=dtypes(), seed=seeds, k=few)
def law_cosine_blocks(cosine: Search, /, grid: Grid, dtype: str, seed: int, k: int) -> None:
    """Cosine distances hold for up to 66 000 patterns in up to 600 dimensions, of which one is twice a query."""
    problem = on_grid(grid, dtype, seed, lambda x, bound: 2 * x)
    for points in problem[:2]:
        points[:, 0][~points.any(axis=1)] = 1
    _judge_cosine(cosine, problem, min(k, grid.n))


@law("nearest", promises=("range",), problem=directions(decades=30, double=200), part=parts)
def law_cosine_range(cosine: Search, /, problem: Problem, part: float) -> None:
    """Cosine distances hold for lengths whose squares underflow or overflow: 1e30 in float32, 1e200 in float64."""
    _judge_cosine(cosine, problem, number_of_neighbours(problem, part))


@law("nearest", source="hnswlib #592", problem=directions(), scale=st.sampled_from([2.0**-20, 0.25, 8.0, 2.0**20]))
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


@law("nearest", promises=("ties",), source="scikit-learn #15592", problem=directions(decades=0, double=0))
def law_cosine_ties(cosine: Search, /, problem: Problem) -> None:
    """Of equal patterns, the one with the lowest index comes first."""
    x, p = problem.queries, np.concatenate([problem.patterns, problem.patterns])
    found, n = np.asarray(cosine(x, p, len(p))[1]), len(problem.patterns)
    place = np.argsort(found, axis=1)
    at_most(place[:, :n] + 1, place[:, n:], 0, "place of a pattern before that of its copy")


@law(
    "nearest",
    promises=("many",),
    source="esa/pykep #220",
    problem=directions(decades=0, double=0),
    extra=st.integers(1, 70),
)
def law_cosine_many(cosine: Search, /, problem: Problem, extra: int) -> None:
    """For k > n: all n patterns, then nothing or places whose index is -1 or at least n."""
    judge_many(cosine, problem, extra)


@law("nearest", source="faiss #563", problem=directions(), part=parts)
def law_cosine_batch(cosine: Search, /, problem: Problem, part: float) -> None:
    """A query alone has the cosine distances that it has in a batch, to twice their rounding error."""
    x, p, _ = problem
    k = number_of_neighbours(problem, part)
    alone = np.concatenate([np.asarray(cosine(x[i : i + 1], p, k)[0]) for i in range(len(x))])
    close(
        alone, cosine(x, p, k)[0], 2 * _cosine_distances(problem)[1], "cosine distances of a query alone and in a batch"
    )


# Products


dot_problems = _products() | problems(offsets=(0.0, 1.0))


def _judge_dot(dot: Search, problem: Problem, k: int, pair: tuple[str, str] = ("C", "C")) -> tuple[Array, Array, Array]:
    """Check the order, and return the first result, the exact products and their rounding errors, each (m, k)."""
    x, p = (laid_out(a, layout) for a, layout in zip(problem[:2], pair, strict=True))
    values, indices = dot(x, p, k)
    products, slack = _exact_products(problem)
    found = check_order(indices, k, -products, slack, "indices by largest product")
    check_unchanged(problem, x, p)
    exact, free = (np.take_along_axis(a, found, axis=1) for a in (products, slack))
    return np.asarray(values), exact, free


@law("nearest", problem=dot_problems, part=parts)
def law_dot(dot: Search, /, problem: Problem, part: float) -> None:
    """The k largest products x.p, largest first, by exact integer arithmetic; products within rounding may tie.

    A sum of d products has an error of (d + 1) ulp of the sum of their absolute values.
    """
    _judge_dot(dot, problem, number_of_neighbours(problem, part))


@law("nearest", dtype=dtypes(), seed=seeds, pair=_pairs)
def law_dot_array(dot: Search, /, dtype: str, seed: int, pair: tuple[str, str]) -> None:
    """Products hold for any memory layout, byte order and for read-only arrays; inputs are not changed."""
    _judge_dot(dot, _few_positive(dtype, seed), 20, pair)


@law("nearest", source="faiss #3245", grid=grids(), dtype=dtypes(), seed=seeds, k=few)
def law_dot_blocks(dot: Search, /, grid: Grid, dtype: str, seed: int, k: int) -> None:
    """The k largest of up to 66 000 products of up to 600 terms; one pattern has the largest that there can be."""
    _judge_dot(dot, on_grid(grid, dtype, seed, lambda x, bound: bound * np.sign(x)), min(k, grid.n))


@law("nearest", problem=dot_problems)
def law_dot_values(dot: Search, /, problem: Problem) -> None:
    """The first result is x.p, -x.p or 1 - x.p, the same for all; 1 - x.p has one more rounding."""
    n = len(problem.patterns)
    values, exact, slack = _judge_dot(dot, problem, n)
    same(values.shape, exact.shape, "shape (m, k) of the first result")
    forms = {"x.p": exact, "-x.p": -exact, "1 - x.p": 1 - exact}
    slack = slack + resolution(problem) * (1 + np.abs(exact))
    what = min(forms, key=lambda name: float(np.abs(values - forms[name]).max()))
    close(values, forms[what], slack, f"{what}, which the first result is closest to")


@law("nearest", promises=("products",), problem=dot_problems)
def law_dot_products(dot: Search, /, problem: Problem) -> None:
    """The first result of `dot` is -x.p, ascending, for those who promise that rather than x.p or 1 - x.p."""
    values, exact, slack = _judge_dot(dot, problem, len(problem.patterns))
    close(values, -exact, slack + resolution(problem) * np.abs(exact), "-x.p")
    at_most(values[:, :-1], values[:, 1:], 0, "-x.p in ascending order")


@law("nearest", promises=("ties",), source="scikit-learn #23667", problem=lattice_problems(far=False), part=parts)
def law_dot_ties(dot: Search, /, problem: Problem, part: float) -> None:
    """Equal products, of integers and therefore exact, are in order of index."""
    x, p, _ = problem
    k = number_of_neighbours(problem, part)
    products = x.astype(float) @ p.astype(float).T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :k]
    found = np.asarray(dot(x, p, k)[1]).astype(np.int64)
    same(found, expected.astype(np.int64), "indices by largest product, ties by lowest index")


@law("nearest", promises=("many",), source="esa/pykep #220", problem=_products(), extra=st.integers(1, 70))
def law_dot_many(dot: Search, /, problem: Problem, extra: int) -> None:
    """For k > n: all n patterns, then nothing or places whose index is -1 or at least n."""
    judge_many(dot, problem, extra)


@law("nearest", source="faiss #563", problem=dot_problems, part=parts)
def law_dot_batch(dot: Search, /, problem: Problem, part: float) -> None:
    """A query alone has the products that it has in a batch, to twice their rounding error."""
    x, p, _ = problem
    k = number_of_neighbours(problem, part)
    whole, _, _ = _judge_dot(dot, problem, k)
    slack = 2 * (_exact_products(problem)[1] + resolution(problem) * (1 + np.abs(_exact_products(problem)[0])))
    for i in range(len(x)):
        alone = np.asarray(dot(x[i : i + 1], p, k)[0])
        close(alone, whole[i : i + 1], slack[i].max(), "products of a query alone and in a batch")


# Within a radius


def rows_of(result: tuple[Any, ...], m: int) -> list[tuple[Array, Array]]:
    """Return distances and indices for each query, of lists or of a sparse matrix by rows."""
    values, indices, *offsets = result
    if offsets:
        ends = np.asarray(offsets[0]).tolist()
        same((len(ends), ends[0], ends[-1]), (m + 1, 0, len(indices)), "number of offsets, the first and the last")
        values, indices = ([a[start:stop] for start, stop in pairwise(ends)] for a in (values, indices))
    same((len(values), len(indices)), (m, m), "number of lists of distances and of indices")
    rows = []
    for t, i in zip(values, indices, strict=True):
        whole = not isinstance(i, np.ndarray) or i.dtype.kind in "iu"
        t, i = np.asarray(t), np.asarray(i)
        if t.shape != i.shape or t.ndim != 1 or not whole:
            got = f"{t.dtype} {t.shape}, {i.dtype} {i.shape}"
            what = "distances and indices of a query"
            raise Violation(f"{what} must be a vector of floats and one of integers, of one length; got {got}", what)
        rows.append((t, i.astype(np.int64)))
    return rows


@st.composite
def radius_problems(draw: st.DrawFn) -> Problem:
    """Draw a problem, with a larger one at times, and as its last number a radius that some patterns are within."""
    if draw(st.booleans()):
        x, p, _ = draw(problems(offsets=(0.0, 1.0)))
    else:
        m, n, d = draw(st.sampled_from([(9, 40, 3), (300, 7, 2), (2, 700, 8), (40, 65, 50), (1, 9, 130)]))
        points = np.random.default_rng(draw(seeds)).normal(size=(m + n, d)).astype(draw(dtypes()))
        x, p = points[:m], points[m:]
    known = exact_distances(x[:1], p)
    return Problem(x, p, float(np.quantile(known, draw(st.floats(0, 1))) * draw(st.sampled_from([0.75, 1.0, 1.1]))))


def _judge_within(within: Within, problem: Problem, pair: tuple[str, str] = ("C", "C")) -> None:
    radius = problem.beta
    x, p = (laid_out(a, layout) for a, layout in zip(problem[:2], pair, strict=True))
    rows = rows_of(within(x, p, radius), len(x))
    true = exact_distances(*problem[:2])
    slack = expanded_slack(problem, true)
    for (t, i), exact, free in zip(rows, true, slack, strict=True):
        same(len(set(i.tolist())), len(i), "number of different indices, each pattern at most once")
        at_most(0, i, 0, "indices")
        at_most(i, len(p) - 1, 0, "indices")
        close(t, exact[i], free[i], "distances within the radius")
        at_most(exact[i], radius, free[i], "exact distances of the patterns found, and the radius")
        left_out = np.setdiff1d(np.arange(len(p)), i)
        at_most(radius, exact[left_out], free[left_out], "the radius, and exact distances of the patterns left out")
    check_unchanged(problem, x, p)


@law("nearest", problem=radius_problems())
def law_within(within: Within, /, problem: Problem) -> None:
    """Exactly the patterns with |x - p| <= radius, each once, with their distances; those within rounding are free.

    The slack is an error of (d + 6) eps (|x|^2 + |p|^2) in the square of a distance, that of an expanded square.
    """
    _judge_within(within, problem)


@law("nearest", dtype=dtypes(), seed=seeds, pair=_pairs)
def law_within_array(within: Within, /, dtype: str, seed: int, pair: tuple[str, str]) -> None:
    """Radius search holds for any memory layout, byte order and for read-only arrays; inputs are not changed."""
    _judge_within(within, _few_positive(dtype, seed), pair)


@law("nearest", grid=grids(), dtype=dtypes(), seed=seeds, reach=st.integers(0, 3))
def law_within_blocks(within: Within, /, grid: Grid, dtype: str, seed: int, reach: int) -> None:
    """Up to 1000 or so of 66 000 patterns, in up to 600 dimensions, are within the radius, among them a copy."""
    problem = on_grid(grid, dtype, seed, lambda x, bound: x)
    closest = np.sort(exact_distances(*problem[:2]).min(axis=0))[: 10**reach]
    _judge_within(within, problem._replace(beta=float(closest[-1]) + 0.25))


@law("nearest", promises=("inclusive",), problem=lattice_problems(), radius=st.integers(0, 12))
def law_within_boundary(within: Within, /, problem: Problem, radius: int) -> None:
    """A pattern at exactly the radius is found, a copy of the query within radius 0 too: |x - p|^2 <= radius^2.

    All differences and squares are integers and exact in float64, however far from the origin the points are.
    """
    x, p, _ = problem
    squares = np.square(x[:, None].astype(float) - p).sum(axis=2)
    for (_, found), row in zip(rows_of(within(x, p, float(radius)), len(x)), squares, strict=True):
        same(np.sort(found), np.flatnonzero(row <= radius**2), "indices within the radius")


@law("nearest", promises=("sorted",), problem=radius_problems())
def law_within_sorted(within: Within, /, problem: Problem) -> None:
    """The patterns found are in ascending order of their distances."""
    for values, _ in rows_of(within(*problem), len(problem.queries)):
        at_most(values[:-1], values[1:], 0, "distances within the radius in ascending order")


@law("nearest", problem=radius_problems())
def law_within_nearest(nearest: Search, within: Within, /, problem: Problem) -> None:
    """`within` finds what `nearest` with k = n has within the radius, at the same distances.

    The slack is twice that of an expanded square.
    """
    x, p, radius = problem
    slack = 2 * expanded_slack(problem, exact_distances(x, p))
    everything = (np.asarray(a) for a in nearest(x, p, len(p)))
    for (found, indices), t, order, free in zip(rows_of(within(x, p, radius), len(x)), *everything, slack, strict=True):
        known = np.empty(len(p))
        known[order] = t
        close(np.asarray(found, float), known[indices], free[indices], "distances by `within`, and by `nearest`")
        sure = np.flatnonzero(known <= radius - free).tolist()
        left_out = sorted(set(sure) - set(indices.tolist()))
        same(left_out, [], "indices by `nearest` inside the radius that `within` left out")


@law("nearest", source="faiss #563", problem=radius_problems())
def law_within_batch(within: Within, /, problem: Problem) -> None:
    """A radius that no pattern, or every pattern, is within gives none, or all, for each query, alone or not."""
    x, p, _ = problem
    farthest = float(exact_distances(x, p).max())
    for values, found in rows_of(within(x, p, 2 * farthest + 1), len(x)):
        same(np.sort(found), np.arange(len(p)), "indices within a radius that includes all patterns")
        same(len(values), len(p), "number of distances")
    away = x + x.dtype.type(8 * (farthest + float(np.abs(p).max()) + 1))
    for batch in (away, away[:1]):
        for _, found in rows_of(within(batch, p, farthest), len(batch)):
            same(len(found), 0, "number of patterns within a radius that is less than all distances")


@law("nearest", promises=("radii",), problem=radius_problems())
def law_within_radii(within: Callable[..., Any], /, problem: Problem) -> None:
    """A radius for each query, (m,), gives what each query has alone with its own."""
    x, p, radius = problem
    radii = radius * (1 + np.arange(len(x)) % 3) / 2
    rows = rows_of(within(x, p, radii), len(x))
    for i, (_, found) in enumerate(rows[:5]):
        ((_, alone),) = rows_of(within(x[i : i + 1], p, float(radii[i])), 1)
        same(np.sort(found), np.sort(alone), "indices within its own radius, of a query in a batch and alone")
