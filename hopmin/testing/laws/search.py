"""Laws of nearest-neighbour search: `nearest(queries, patterns, k)` returns distances and indices, each (m, k).

How wrong a right distance t = |x - p| may be depends on the formula. A law is about one of three bounds, with eps the
resolution of the dtype of the arguments:

    expanded    (d + 6) eps (|x|^2 + |p|^2) in t^2, for |x|^2 - 2 x.p + |p|^2
    centred     the same for points whose origin is among them
    relative    (d + 5) / 2 eps t, for differences first, then squares

Everybody must keep the first. An expanded square breaks the laws of the second, `law_nearest_translation`, and of the
third, `law_nearest_accuracy`; it breaks only the third if the data are centred first. It matters where distances are
less than sqrt(eps) times the distance from the origin, which is 3e-4 in float32: beside near copies of a query, and in
data far from the origin. An index that expands may list these laws as expected failures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import (
    LAYOUTS,
    Array,
    Problem,
    asked_dtypes,
    dtypes,
    laid_out,
    lattice_problems,
    problems,
)

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

Search = Callable[[Array, Array, int], tuple[Any, Any]]  # (queries, patterns, k) -> (distances, indices)

parts = st.sampled_from([0.0, 0.5, 1.0, 0.1, 0.9])  # of the number of patterns: how many neighbours
seeds = st.integers(0, 2**32)


def number_of_neighbours(problem: Problem, part: float) -> int:
    """Return k, from 1 to n."""
    return 1 + int(part * (len(problem.patterns) - 1))


def resolution(problem: Problem) -> float:
    """Return the resolution of the dtype of the arguments."""
    return float(np.finfo(np.result_type(*problem[:2])).eps)


def exact_distances(x: Array, p: Array) -> Array:
    """Return the distances (m, n) by differences in float64, with a relative error of (d + 3) / 4 of its resolution."""
    squares = [np.square(row.astype(float) - p.astype(float)).sum(axis=1) for row in x]
    return np.sqrt(np.reshape(squares, (len(x), len(p))))


def relative_slack(problem: Problem, true: Array) -> Array:
    """Return (d + 5) / 2 eps t, half of which is for the known distances, and what is lost where squares underflow."""
    d, tiny = problem.queries.shape[1], float(np.finfo(np.result_type(*problem[:2])).tiny)
    slack: Array = (d + 5) / 2 * resolution(problem) * true + np.sqrt(d * tiny)
    return slack


def expanded_slack(problem: Problem, true: Array) -> Array:
    """Bound the error of a distance if its square has that of |x|^2 - 2 x.p + |p|^2: (d + 6) eps (|x|^2 + |p|^2).

    The mean of the patterns is added to these sizes, because subtracting it first is right, too.
    """
    x, p = (np.square(a.astype(float)).sum(axis=1) for a in problem[:2])
    mean = np.square(problem.patterns.mean(axis=0, dtype=float)).sum()
    return _of_squares(problem, true, x[:, None] + p + 4 * mean)


def _centred_slack(problem: Problem, true: Array) -> Array:
    """Bound the error of an expanded square of points whose origin is anywhere among them."""
    points = np.concatenate(problem[:2]).astype(float)
    return _of_squares(problem, true, 4 * np.square(points - points.mean(axis=0)).sum(axis=1).max())


def _of_squares(problem: Problem, true: Array, sizes: Any) -> Array:
    """Return what an error E of (d + 6) eps sizes in t^2 is in t: at most E / t, and at most sqrt(E)."""
    error = (problem.queries.shape[1] + 6) * resolution(problem) * sizes
    slack: Array = np.minimum(np.sqrt(error), error / np.maximum(true, 1e-300)) + relative_slack(problem, true)
    return slack


def check_order(indices: Any, k: int, scores: Array, slack: Any, what: str) -> Array:
    """Check that indices (m, k) are k different ones in an order by scores (m, n) that may be wrong by the slack.

    If each score is, then the j-th smallest lies between the j-th smallest of scores - slack and of scores + slack.

    Returns
    -------
    ndarray of int64
        The indices.
    """
    found, slack = np.asarray(indices), np.broadcast_to(slack, scores.shape)
    if found.shape != (len(scores), k) or found.dtype.kind not in "iu":
        got = f"{found.dtype} of shape {found.shape}"
        raise Violation(f"{what}: must be integers of shape (m, k) = {(len(scores), k)}; got {got}", what)
    found = found.astype(np.int64)
    at_most(0, found, 0, what)
    at_most(found, scores.shape[1] - 1, 0, what)
    repeated = np.diff(np.sort(found, axis=1), axis=1) == 0
    same(repeated.any(), np.False_, f"{what}: whether a pattern is found twice")
    at, error = (np.take_along_axis(a, found, axis=1) for a in (scores, slack))
    largest, smallest = (np.sort(np.partition(scores + e, k - 1, axis=1)[:, :k], axis=1) for e in (slack, -slack))
    at_most(at, largest, error, f"{what}: exact scores of those found, and the best")
    at_most(smallest, at, error, f"{what}: the best exact scores, and those of the ones found")
    return found


def _judge(nearest: Search, problem: Problem, k: int, slack: Callable[[Problem, Array], Array]) -> None:
    """Check distances and order against exact ones; the slack is a function of the problem and the exact distances."""
    x, p, _ = problem
    values, indices = nearest(x, p, k)
    true = exact_distances(x, p)
    free = slack(problem, true)
    found = check_order(indices, k, true, free, "indices of the nearest patterns")
    at = np.take_along_axis(true, found, axis=1)
    close(values, at, np.take_along_axis(free, found, axis=1), "distances of the nearest patterns")
    values = np.asarray(values)
    at_most(values[:, :-1], values[:, 1:], 0, "distances in ascending order")


@law("nearest", problem=lattice_problems(far=False), part=parts)
def law_nearest(nearest: Search, /, problem: Problem, part: float) -> None:
    """The k nearest patterns, nearest first, each once, with their Euclidean distances; equal distances in any order.

    Coordinates are integers with many ties. The slack is an error of (d + 6) eps (|x|^2 + |p|^2) in the square of a
    distance, that of the expanded square.
    """
    _judge(nearest, problem, number_of_neighbours(problem, part), expanded_slack)


@law("nearest", promises=("ties",), source="scikit-learn #23667", problem=lattice_problems(far=False), part=parts)
def law_nearest_ties(nearest: Search, /, problem: Problem, part: float) -> None:
    """Patterns at equal distances are in order of index, also those at the k-th distance; squares are exact."""
    _judge_ties(nearest, problem, part)


@law("nearest", promises=("ties", "digits"), source="scipy #12011", problem=lattice_problems(), part=parts)
def law_nearest_ties_far(nearest: Search, /, problem: Problem, part: float) -> None:
    """Ties are in order of index far from the origin too, where differences are exact but squares of positions not."""
    _judge_ties(nearest, problem, part)


def _judge_ties(nearest: Search, problem: Problem, part: float) -> None:
    k = number_of_neighbours(problem, part)
    expected = np.argsort(exact_distances(*problem[:2]), axis=1, kind="stable")[:, :k]
    found = np.asarray(nearest(*problem[:2], k)[1]).astype(np.int64)
    same(found, expected.astype(np.int64), "indices of the nearest patterns, ties by lowest index")


@law("nearest", source="faiss #297", problem=problems(offsets=(0.0, 0.0, 1.0, 1e3)), part=parts)
def law_nearest_floats(nearest: Search, /, problem: Problem, part: float) -> None:
    """The k nearest patterns of arbitrary floats, up to the rounding error of an expanded square.

    The slack is an error of (d + 6) eps (|x|^2 + |p|^2) in the square of a distance; closer ones may change places.
    """
    _judge(nearest, problem, number_of_neighbours(problem, part), expanded_slack)


@law("nearest", source="scikit-learn #9354", problem=problems(), part=parts)
def law_nearest_accuracy(nearest: Search, /, problem: Problem, part: float) -> None:
    """Distances have a small relative error, (d + 5) / 2 eps, however far from the origin, and that of a copy is 0.

    It is that of differences, then squares, in the dtype of the arguments. Expanded squares err by
    eps (|x|^2 + |p|^2) / t instead, which matters where t < sqrt(eps) |x|; see `law_nearest_floats`.
    """
    _judge(nearest, problem, number_of_neighbours(problem, part), relative_slack)


@law("nearest", source="faiss #5329", problem=lattice_problems(far=False), part=parts, sign=st.sampled_from([1, -1]))
def law_nearest_translation(nearest: Search, /, problem: Problem, part: float, sign: int) -> None:
    """Translating queries and patterns by 1 / (8 eps) changes no distance, because their differences are still exact.

    The slack is that of an expanded square after the origin has been moved among the points. Squares of differences are
    integers, so that an order by them is exact; ties may be in any order.
    """
    away = sign / (8 * _real_resolution(problem.queries.dtype))
    x, p = (a + a.dtype.type(away) for a in problem[:2])
    _judge(nearest, Problem(x, p, 1.0), number_of_neighbours(problem, part), _centred_slack)


def _real_resolution(dtype: Any) -> float:
    """Return the resolution of a dtype, or of bfloat16, whose numbers are float32 in NumPy."""
    return 2.0**-7 if asked_dtypes() == ("bfloat16",) else float(np.finfo(dtype).eps)


@st.composite
def _normal(draw: st.DrawFn) -> Problem:
    """Draw points of which every digit matters."""
    m, n, d = draw(st.sampled_from([(2, 40, 3), (1, 7, 1), (3, 20, 30), (1, 5, 300)]))
    points = np.random.default_rng(draw(seeds)).normal(size=(m + n, d)) + draw(st.sampled_from([0, 1, 1e6]))
    points = points.astype(draw(dtypes()))
    return Problem(points[:m], points[m:], 1.0)


@law("nearest", promises=("digits",), problem=_normal() | problems())
def law_nearest_digits(nearest: Search, /, problem: Problem) -> None:
    """Distances are rounded once to the dtype: those of float32 arrays are summed in float64 and err by half an ulp."""
    x, fine = problem.queries, float(np.finfo(float).eps)

    def slack(problem: Problem, true: Array) -> Array:
        bound = relative_slack(Problem(x.astype(float), problem.patterns.astype(float), 1.0), true)
        return bound + (resolution(problem) > fine) * resolution(problem) / 2 * true

    _judge(nearest, problem, len(problem.patterns), slack)


@st.composite
def _ranges(draw: st.DrawFn) -> Problem:
    """Draw points at scales whose squares underflow or overflow in the dtype."""
    x, p, _ = draw(lattice_problems(far=False))
    power = draw(st.sampled_from([-1, 1])) * (30 if x.dtype == np.float32 else 200)
    scale = 10.0 ** (power if np.finfo(x.dtype).max > 1e30 else 0)
    points = (np.concatenate([x, p]) * scale).astype(x.dtype)
    return Problem(points[: len(x)], points[len(x) :], 1.0)


@law("nearest", promises=("range",), problem=_ranges(), part=parts)
def law_nearest_range(nearest: Search, /, problem: Problem, part: float) -> None:
    """Distances of 1e-30 and 1e30 in float32, 1e-200 and 1e200 in float64, whose squares underflow or overflow."""
    x, p, _ = problem
    k = number_of_neighbours(problem, part)
    size = float(max(np.abs(x).max(), np.abs(p).max())) or 1.0
    scale = 2.0 ** np.frexp(size)[1]
    true = exact_distances(x / scale, p / scale) * scale if size > 1e100 or size < 1e-100 else exact_distances(x, p)
    values, indices = nearest(x, p, k)
    slack = (x.shape[1] + 5) / 2 * resolution(problem) * true
    found = check_order(indices, k, true, slack, "indices of the nearest patterns")
    free = np.take_along_axis(slack, found, axis=1)
    close(values, np.take_along_axis(true, found, axis=1), free, "distances of the nearest patterns")


# Arrays


@law("nearest", problem=lattice_problems(far=False), part=parts)
def law_nearest_array(nearest: Search, /, problem: Problem, part: float) -> None:
    """Both results have shape (m, k), for k = 1 and m = 1 too; indices are integers, distances floats of enough digits.

    They are right for any memory layout, byte order and for read-only arrays; inputs are not changed.
    """
    k, shape = number_of_neighbours(problem, part), (len(problem.queries), number_of_neighbours(problem, part))
    for layout in LAYOUTS:
        x, p = (laid_out(a, layout) for a in problem[:2])
        values, indices = (np.asarray(a) for a in nearest(x, p, k))
        check_unchanged(problem, x, p)
        same((values.shape, indices.shape), (shape, shape), "shapes (m, k) of distances and indices")
        same((values.dtype.kind, indices.dtype.kind in "iu"), ("f", True), "kinds of distances and indices")
        if asked_dtypes() != ("bfloat16",):
            at_most(np.finfo(values.dtype).eps, resolution(problem), 0, "resolution of the dtype of distances")
        _judge(lambda *_, found=(values, indices): found, problem, k, expanded_slack)


def check_unchanged(problem: Problem, x: Array, p: Array) -> None:
    """Check that queries and patterns, in any layout, still have their numbers."""
    for array, given, what in ((x, problem.queries, "queries"), (p, problem.patterns, "patterns")):
        same(array.astype(given.dtype), given, f"{what} after the call")


@law("nearest", promises=("dtype",), problem=problems(offsets=(0.0,)))
def law_nearest_dtype(nearest: Search, /, problem: Problem) -> None:
    """Distances have the dtype of queries and patterns."""
    values = np.asarray(nearest(*problem[:2], len(problem.patterns))[0])
    same(values.dtype.name, problem.queries.dtype.name, "dtype of distances")


@law("nearest", promises=("mixed",), problem=problems(offsets=(0.0,), dtypes=("float64",)), finer=st.booleans())
def law_nearest_mixed(nearest: Search, /, problem: Problem, finer: bool) -> None:
    """If queries or patterns are of float64, distances are as accurate as if all were; the others are float32."""
    kinds = ("float64", "float32") if finer else ("float32", "float64")
    x, p = (a.astype(kind) for a, kind in zip(problem[:2], kinds, strict=True))
    _judge(nearest, Problem(x, p, 1.0), len(p), expanded_slack)


@law("nearest", promises=("integers",), problem=lattice_problems(far=False), kind=st.sampled_from(["uint8", "int64"]))
def law_nearest_integers(nearest: Search, /, problem: Problem, kind: str) -> None:
    """Arrays of integers are numbers: differences of unsigned ones are not taken modulo 256."""
    x, p = (np.abs(a).astype(kind) for a in problem[:2])
    floats = Problem(x.astype(float), p.astype(float), 1.0)
    _judge(lambda x, p, k: nearest(x.astype(kind), p.astype(kind), k), floats, len(p), expanded_slack)


@law("nearest", promises=("lists",), problem=lattice_problems(far=False), part=parts)
def law_nearest_lists(nearest: Search, /, problem: Problem, part: float) -> None:
    """Nested lists stand for arrays of float64."""
    x, p = (a.astype(float) for a in problem[:2])
    k = number_of_neighbours(problem, part)
    _judge(lambda x, p, k: nearest(x.tolist(), p.tolist(), k), Problem(x, p, 1.0), k, expanded_slack)


# Sizes: arrays are made from a few numbers, which a report can show


class Grid(NamedTuple):
    """Numbers of queries, patterns and dimensions of integer points, and the index of a pattern that is special."""

    m: int
    n: int
    d: int
    at: int


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Draw sizes beyond one block of patterns or dimensions, with the special pattern near an edge or anywhere."""
    sizes = [(2, 66_000, 2), (3, 8200, 3), (1, 66_000, 3), (2, 300, 130), (3, 1030, 16), (2, 5, 603), (1, 40, 601)]
    m, n, d = draw(st.sampled_from(sizes))
    edges = [i for i in (0, n - 1, n - 2, n // 2, 8191, 8192, 4096, 1024, 256, 255, 64) if i < n]
    return Grid(m, n, d, draw(st.sampled_from(edges) | st.integers(0, n - 1)))


def on_grid(grid: Grid, dtype: str, seed: int, special: Callable[[Array, int], Array]) -> Problem:
    """Return points of integers; two patterns, the last too, are made of the first query and of a bound of all numbers.

    Numbers are so small that different squares differ by more than the error of an expanded square.
    """
    m, n, d, at = grid
    bound = max(1, int(min((8 * d * (d + 6) * _real_resolution(dtype)) ** -0.5, 2**11)))
    points = np.random.default_rng(seed).integers(-bound, bound + 1, (m + n, d)).astype(dtype)
    points[[m + at, -1]] = special(points[0], bound)
    return Problem(points[:m], points[m:], 1.0)


few = st.integers(1, 40)


@law("nearest", source="faiss #3245", grid=grids(), dtype=dtypes(), seed=seeds, k=few)
def law_nearest_blocks(nearest: Search, /, grid: Grid, dtype: str, seed: int, k: int) -> None:
    """The k nearest of up to 66 000 patterns in up to 600 dimensions, of which one, anywhere, is a copy of a query.

    Points are integers. The slack is that of an expanded square, which is less than the difference of two squares.
    """
    problem = on_grid(grid, dtype, seed, lambda x, bound: x)
    _judge(nearest, problem, min(k, grid.n), expanded_slack)


@law("nearest", source="faiss #563", dtype=dtypes(), seed=seeds, m=st.sampled_from([300, 21, 3, 70, 1100]), part=parts)
def law_nearest_batch(nearest: Search, /, dtype: str, seed: int, m: int, part: float) -> None:
    """Each of up to 1100 queries has its own neighbours; alone it has the distances that it has in the batch.

    Queries may be far apart, and equal. The slack is that of an expanded square, twice for two computations.
    """
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 12)), int(rng.integers(1, 5))
    points = rng.normal(size=(m + n, d)) * rng.choice([1.0, 8.0], (m + n, 1))
    points[1 : m // 2 : 3] = points[0]
    problem = Problem(points[:m].astype(dtype), points[m:].astype(dtype), 1.0)
    k = number_of_neighbours(problem, part)
    _judge(nearest, problem, k, expanded_slack)
    whole = np.asarray(nearest(*problem[:2], k)[0])
    free = 2 * expanded_slack(problem, exact_distances(*problem[:2])).max(axis=1)
    for i in (0, m // 2, m - 1):
        alone = nearest(problem.queries[i : i + 1], problem.patterns, k)[0]
        close(alone, whole[i : i + 1], free[i], "distances of a query alone and in a batch")


# Edges


@law("nearest", promises=("single",), problem=problems(offsets=(0.0, 1.0)), part=parts)
def law_nearest_single(nearest: Search, /, problem: Problem, part: float) -> None:
    """A query (d,) has results (k,), those of a batch of it up to twice the rounding error of an expanded square."""
    x, p, _ = problem
    k = number_of_neighbours(problem, part)
    for i, row in enumerate(x[:2]):
        values, indices = (np.asarray(a) for a in nearest(row, p, k))
        same((values.shape, indices.shape), ((k,), (k,)), "shapes (k,) of the results of a single query")
        _judge(lambda *_, found=(values[None], indices[None]): found, Problem(x[i : i + 1], p, 1.0), k, expanded_slack)


@law("nearest", promises=("empty",), problem=problems(), part=parts)
def law_nearest_empty(nearest: Search, /, problem: Problem, part: float) -> None:
    """No queries, (0, d), have results of shape (0, k)."""
    k = number_of_neighbours(problem, part)
    values, indices = nearest(problem.queries[:0], problem.patterns, k)
    same((np.shape(values), np.shape(indices)), ((0, k), (0, k)), "shapes of the results of no queries")


def judge_many(search: Search, problem: Problem, extra: int) -> None:
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


@law("nearest", promises=("many",), source="scipy #6515", problem=problems(offsets=(0.0,)), extra=st.integers(1, 70))
def law_nearest_many(nearest: Search, /, problem: Problem, extra: int) -> None:
    """For k > n: all n patterns, then nothing or places whose index is -1 or at least n, and whose distance is largest.

    The distance of a missing pattern is inf, NaN or any number that is larger than the others.
    """
    judge_many(nearest, problem, extra)
    n = len(problem.patterns)
    values = np.asarray(nearest(*problem[:2], n + extra)[0])
    at_most(values[:, n - 1 : n], np.where(np.isnan(values[:, n:]), np.inf, values[:, n:]), 0, "the largest distance")


@law("nearest", promises=("refused",), source="hnswlib #244", problem=problems(offsets=(0.0,)))
def law_nearest_refused(nearest: Search, /, problem: Problem) -> None:
    """These raise an error: k = 0, k = n + 1, queries of another width, and numbers that are NaN or infinite."""
    x, p, _ = problem
    bad, worse = x.copy(), p.copy()
    bad[0, 0], worse[-1, -1] = np.nan, np.inf
    wide = np.concatenate([x, x[:, :1]], axis=1)
    calls: dict[str, tuple[Array, Array, int]] = {
        "k = 0": (x, p, 0), "k = n + 1": (x, p, len(p) + 1), "queries of another width": (wide, p, 1),
        "a query of NaN": (bad, p, 1), "an infinite pattern": (x, worse, 1),
    }  # fmt: skip
    for what, call in calls.items():
        try:
            nearest(*call)
        except Exception:
            continue
        raise Violation(f"{what}: must be refused with an error; got a result", what)
