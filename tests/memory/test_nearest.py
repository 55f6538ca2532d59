"""Exact search: the k nearest patterns, those within a radius, and the separation."""

from fractions import Fraction
from itertools import pairwise

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import hopmin
from hopmin.testing import lattice_problems


@given(problem=lattice_problems(), data=st.data())
def test_nearest_matches_plain_loops(problem, data):
    x, p, _ = problem
    k = data.draw(st.integers(1, len(p)))
    distances, indices = hopmin.nearest(x, p, k)
    for row, found, places in zip(x, distances, indices, strict=True):
        expected = helpers.nearest(row, p, k)
        assert [int(i) for i in places] == [i for _, i in expected]
        np.testing.assert_array_equal(found, np.array([distance for distance, _ in expected], p.dtype))


@given(problem=lattice_problems(), data=st.data())
def test_a_smaller_k_gives_the_first_of_a_larger_k(problem, data):
    x, p, _ = problem
    k = data.draw(st.integers(1, len(p)))
    few, all_of_them = hopmin.nearest(x, p, k), hopmin.nearest(x, p, len(p))
    np.testing.assert_array_equal(few[0], all_of_them[0][:, :k])
    np.testing.assert_array_equal(few[1], all_of_them[1][:, :k])


@given(problem=lattice_problems(), data=st.data())
def test_within_is_nearest_up_to_the_radius(problem, data):
    """The radius is compared with the distances in float64, before they are rounded to the dtype of the arrays."""
    x, p, _ = problem
    metric = data.draw(st.sampled_from(["euclidean", "dot", "cosine"]))
    if metric == "cosine" and not (x.any(axis=1).all() and p.any(axis=1).all()):
        return
    distances, indices = hopmin.nearest(x, p, len(p), metric=metric)
    unrounded = hopmin.nearest(x.astype(float), p.astype(float), len(p), metric=metric)[0]
    radii = np.array(
        [data.draw(st.sampled_from([*row, np.inf])) for row in unrounded.tolist()]
    )  # some patterns lie exactly there
    for radius in (radii, float(radii[0])):
        for i, (found, places) in enumerate(zip(*hopmin.within(x, p, radius, metric=metric), strict=True)):
            inside = unrounded[i] <= np.broadcast_to(radius, len(x))[i]
            np.testing.assert_array_equal(found, distances[i][inside])
            np.testing.assert_array_equal(places, indices[i][inside])
            assert found.dtype == p.dtype


@pytest.mark.parametrize("scale", [1e-320, 1e-170, 1e-160, 1e-150, 1e150, 1e155, 1e200, 1e300])
def test_within_agrees_with_nearest_out_of_the_range_of_squares(scale, backend):
    rng = np.random.default_rng(0)
    x, p = (scale * rng.integers(-3, 4, size).astype(float) for size in ((4, 3), (90, 3)))
    p[:20] = rng.normal(size=(20, 3))
    distances, indices = hopmin.nearest(x, p, 90)
    for laid in (p, hopmin.Packed(p)):
        for radius in (np.inf, *np.unique(distances)[[0, 5, -1]]):
            for i, (found, places) in enumerate(zip(*hopmin.within(x, laid, radius), strict=True)):
                inside = distances[i] <= radius
                np.testing.assert_array_equal(found, distances[i][inside])
                np.testing.assert_array_equal(places, indices[i][inside])


def test_within_compares_unrounded_distances(backend):
    """sqrt(2) rounds down in float32, and 1 - 1e-9 up to 1."""
    x, p = np.float32([0.0, 0.0]), np.float32([[1.0, 1.0], [1.0, 0.0]])
    assert hopmin.within(x, p, np.sqrt(2))[1].tolist() == [1, 0]
    assert hopmin.within(x, p, np.float32(np.sqrt(2)))[1].tolist() == [1]
    assert hopmin.within(x, p, np.nextafter(np.sqrt(2), 0))[1].tolist() == [1]
    assert hopmin.within(x, p, 1 - 1e-9)[1].tolist() == []


@pytest.mark.parametrize("metric", ["euclidean", "dot", "cosine"])
def test_an_infinite_radius_finds_all_patterns(metric, backend):
    x, p = np.random.default_rng(0).normal(size=(3, 4)), np.random.default_rng(1).normal(size=(70, 4))
    everything = hopmin.within(x, p, np.inf, metric=metric)
    for found, expected in zip(everything, hopmin.nearest(x, p, 70, metric=metric), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_dot_takes_the_radius_of_a_product(backend):
    distances, indices = hopmin.within(
        [1.0, 2.0], [[1.0, 1.0], [0.0, 1.0], [2.0, 2.0], [-1.0, 0.0]], -2.0, metric="dot"
    )
    assert (distances.tolist(), indices.tolist()) == ([-6.0, -3.0, -2.0], [2, 0, 1])
    assert len(hopmin.within([1.0, 2.0], [[1.0, 1.0]], -np.inf, metric="dot")[1]) == 0


def test_within_sorts_by_distance_or_by_index(backend):
    rng = np.random.default_rng(0)
    x, p = rng.integers(0, 3, (40, 2)), rng.integers(0, 3, (600, 2))
    by_distance, by_index = (hopmin.within(x, p, 1.5, sort=sort, csr=True) for sort in (True, False))
    np.testing.assert_array_equal(by_distance[2], by_index[2])
    for i in range(len(x)):
        part = slice(by_index[2][i], by_index[2][i + 1])
        squares = ((x[i] - p) ** 2).sum(axis=1)
        inside = np.flatnonzero(squares <= 2)
        np.testing.assert_array_equal(by_index[1][part], inside)
        order = np.argsort(squares[inside], kind="stable")
        np.testing.assert_array_equal(by_distance[1][part], inside[order])
        np.testing.assert_array_equal(by_distance[0][part], np.sqrt(squares[inside][order]))


def test_csr_holds_the_lists_one_after_another():
    x, p = np.random.default_rng(0).normal(size=(9, 3)), np.random.default_rng(1).normal(size=(50, 3))
    distances, indices, offsets = hopmin.within(x, p, 1.5, csr=True)
    lists = hopmin.within(x, p, 1.5)
    np.testing.assert_array_equal(distances, np.concatenate(lists[0]))
    np.testing.assert_array_equal(indices, np.concatenate(lists[1]))
    assert offsets.tolist() == [0, *np.cumsum([len(found) for found in lists[0]])]
    single = hopmin.within(x[0], p, 1.5, csr=True)
    assert [a.tolist() for a in single] == [lists[0][0].tolist(), lists[1][0].tolist(), [0, len(lists[0][0])]]


def test_within_of_no_queries_is_empty():
    none = np.empty((0, 2), np.float32)
    assert hopmin.within(none, np.float32(P), 1) == ([], [])
    distances, indices, offsets = hopmin.within(none, np.float32(P), np.empty(0), csr=True)
    assert (distances.dtype, distances.shape) == (np.float32, (0,))
    assert (indices.dtype, indices.shape, offsets.dtype, offsets.tolist()) == (np.int64, (0,), np.int64, [0])


@pytest.mark.parametrize(
    "search", [lambda *a, **o: hopmin.nearest(*a, 2, **o), lambda *a, **o: hopmin.within(*a, 1.0, **o)]
)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_progress_counts_the_pairs(search, metric):
    x, p = np.random.default_rng(0).normal(size=(800, 2)), np.random.default_rng(1).normal(size=(20_000, 2))
    calls = []
    expected = search(x, p, metric=metric)
    found = search(x, p, metric=metric, progress=lambda done, total: calls.append((done, total)))
    done = [done for done, _ in calls]
    assert done == sorted(set(done))
    assert len(done) > 1
    assert calls[-1] == (800 * 20_000, 800 * 20_000)
    assert {total for _, total in calls} == {800 * 20_000}
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(np.concatenate(a), np.concatenate(b))


@pytest.mark.parametrize("offset", [0, 1e2, 1e3, 1e4])
def test_float32_neighbours_match_float64_at_any_offset(offset, backend):
    """An expanded square finds the right five in .979, .353 and .008 of the cases with an offset."""
    x = (offset + np.random.default_rng(0).normal(size=(300, 64))).astype(np.float32)
    exact = np.array([[i for _, i in helpers.nearest(row, x, 5)] for row in x[:10]])
    np.testing.assert_array_equal(hopmin.nearest(x[:10], x, 5)[1], exact)


def test_dot_finds_the_largest_products(backend):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(4, 3)), rng.normal(size=(100, 3))
    distances, indices = hopmin.nearest(x, p, 3, metric="dot")
    products = x @ p.T
    np.testing.assert_array_equal(indices, np.argsort(-products, axis=1, kind="stable")[:, :3])
    np.testing.assert_allclose(distances, -np.sort(products)[:, ::-1][:, :3], rtol=1e-14)


def test_nearest_breaks_ties_by_lowest_index(backend):
    p = np.zeros((150, 2))
    np.testing.assert_array_equal(hopmin.nearest([1.0, 0.0], p, 150)[1], np.arange(150))


def test_a_single_query_gives_results_without_m():
    p = [[0.0, 0.0], [3.0, 4.0]]
    distances, indices = hopmin.nearest([0.0, 0.0], p, k=2)
    assert (distances.tolist(), indices.tolist()) == ([0.0, 5.0], [0, 1])
    distances, indices = hopmin.within([0.0, 0.0], p, 5)
    assert (distances.tolist(), indices.tolist()) == ([0.0, 5.0], [0, 1])
    assert not np.signbit(distances).any()


def test_separation_of_duplicates_and_of_a_lone_pattern():
    np.testing.assert_array_equal(hopmin.separation([[0.0], [1.0], [3.0], [3.0]]), [1, 1, 0, 0])
    np.testing.assert_array_equal(hopmin.separation([[5.0, 5.0]]), [np.inf])
    assert hopmin.separation(np.float32([[1], [2]])).dtype == np.float32


def test_large_float32_values_are_searched_exactly(backend):
    p = np.array([[1e18, 0], [1e18, 1e12], [-3e37, 0]], np.float32)
    distances, indices = hopmin.nearest(p, p, 2)
    np.testing.assert_array_equal(indices, [[0, 1], [1, 0], [2, 0]])
    np.testing.assert_array_equal(distances[:2, 1], np.float32(1e12))


P = [[0.0, 1.0], [2.0, 3.0]]
EPS = np.finfo(float).eps


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hopmin.nearest([[1.0]], P), ValueError, "queries must have shape (m, d) with d = 2; got (1, 1)"),
        (lambda: hopmin.nearest([1.0, 2.0, 3.0], P), ValueError, "queries must have shape (m, d) with d = 2; got (3,)"),
        (lambda: hopmin.nearest(5.0, P), ValueError, "queries must have shape (m, d) with d = 2; got ()"),
        (lambda: hopmin.nearest([0.0, 0.0], [1.0, 2.0]), ValueError, "patterns must have shape (n, d); got (2,)"),
        (lambda: hopmin.nearest([0.0, 0.0], np.zeros((0, 2))), ValueError, "patterns must not be empty; got shape (0, 2)"),
        (lambda: hopmin.nearest([0.0, np.nan], P), ValueError, "queries must be finite; got nan at index (0, 1)"),
        (lambda: hopmin.nearest([0.0, 0.0], [[0.0, np.inf]]), ValueError, "patterns must be finite; got inf at index (0, 1)"),
        (lambda: hopmin.nearest([0.0, 0.0], [[1.0], [1.0, 2.0]]), ValueError, "patterns must be a rectangular array; got rows of different lengths"),
        (lambda: hopmin.nearest([0.0, 0.0], [["a", "b"]]), TypeError, "patterns must be real numbers; got dtype <U1"),
        (lambda: hopmin.nearest([0.0, 0.0], np.ma.masked_less(P, 1)), TypeError, "patterns must not be a masked array; got one"),
        (lambda: hopmin.nearest([0.0, 0.0], [[1j, 0]]), TypeError, "patterns must be real numbers; got dtype complex128"),
        (lambda: hopmin.nearest(P, P, k=3), ValueError, "k must be an integer from 1 to 2; got 3"),
        (lambda: hopmin.nearest(P, P, k=0), ValueError, "k must be an integer from 1 to 2; got 0"),
        (lambda: hopmin.nearest(P, P, k=1.0), TypeError, "k must be an integer from 1 to 2; got 1.0"),
        (lambda: hopmin.nearest(P, P, metric="cosin"), ValueError, "metric must be one of 'euclidean', 'dot', 'cosine'; got 'cosin'"),
        (lambda: hopmin.within(P, P, -1), ValueError, "radius must be a number >= 0; got -1"),
        (lambda: hopmin.within(P, P, [1.0, -2.0], metric="cosine"), ValueError, "radius must be a number >= 0; got -2.0"),
        (lambda: hopmin.within(P, P, np.nan), ValueError, "radius must be a number >= 0; got nan"),
        (lambda: hopmin.within(P, P, np.nan, metric="dot"), ValueError, "radius must be a number; got nan"),
        (lambda: hopmin.within(P, P, "1"), TypeError, "radius must be a number >= 0; got '1'"),
        (lambda: hopmin.within(P, P, True), TypeError, "radius must be a number >= 0; got True"),
        (lambda: hopmin.within(P, P, None), TypeError, "radius must be a number >= 0; got None"),
        (lambda: hopmin.within(P, P, [1.0]), ValueError, "radius must be a number >= 0, or have shape (m,) with m = 2; got (1,)"),
        (lambda: hopmin.within(P, P, 1, sort=1), TypeError, "sort must be True or False; got 1"),
        (lambda: hopmin.within(P, P, 1, csr="yes"), TypeError, "csr must be True or False; got 'yes'"),
        (lambda: hopmin.within(P, P, 1, metric="l2"), ValueError, "metric must be one of 'euclidean', 'dot', 'cosine'; got 'l2'"),
        (lambda: hopmin.within(P, [[0.0, 0.0]], 1, metric="cosine"), ValueError, "patterns must have no row of zeros for metric 'cosine'; got one at index 0"),
        (lambda: hopmin.within(P, P, 1, progress=3), TypeError, "progress must be a function of two integers, or None; got 3"),
        (lambda: hopmin.nearest(P, P, progress="bar"), TypeError, "progress must be a function of two integers, or None; got 'bar'"),
        (lambda: hopmin.within([1e200, -1e200], [[1e200, 1e200]], 1, metric="dot"), ValueError, "queries and patterns must be small enough to square in float64; got values up to 2e+200"),
        (lambda: hopmin.within(np.float32([1e30]), np.float32([[1e30]]), 0, metric="dot"), ValueError, "queries and patterns must be small enough to square in float32; got values up to 2e+30"),

        (lambda: hopmin.separation([1.0]), ValueError, "patterns must have shape (n, d); got (1,)"),
        (lambda: hopmin.nearest(np.float32([1e30]), np.float32([[1e30]]), metric="dot"), ValueError, "queries and patterns must be small enough to square in float32; got values up to 2e+30"),
        (lambda: hopmin.nearest([1e308], [[-1e308]]), ValueError, "queries and patterns must be small enough to square in float64; got values up to inf"),
        (lambda: hopmin.DistanceEnergy().value([1e200], [[-1e200]]), ValueError, "queries and patterns must be small enough to square in float64; got values up to 2e+200"),
        (lambda: hopmin.DistanceEnergy().value(np.float32([1e30]), np.float32([[0]])), ValueError, "queries and patterns must be small enough to square in float32; got values up to 1e+30"),
        (lambda: hopmin.DotEnergy().update(P, P, values=[[1.0]]), ValueError, "values must have shape (n, v) with n = 2; got (1, 1)"),
        (lambda: hopmin.DotEnergy().update(P, P, values=[1.0, 2.0]), ValueError, "values must have shape (n, v) with n = 2; got (2,)"),
    ],
)  # fmt: skip
def test_invalid_arguments_raise_one_line_errors(call, error, message, backend):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2], lambda a: a[::-1].copy()[::-1]]
)
def test_cosine_distances_do_not_depend_on_the_layout(layout, backend):
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(50, 33)), rng.normal(size=(4, 33))
    expected, found = (hopmin.nearest(f(q), f(p), 5, metric="cosine") for f in (np.ascontiguousarray, layout))
    for a, b in zip(expected, found, strict=True):
        assert a.tobytes() == b.tobytes()


@st.composite
def directions_with_ties(draw):
    """Queries and patterns of few directions, some of them equal up to the last bits, none of them zero."""
    d, rng = draw(st.integers(1, 6)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    few = rng.integers(-1, 2, (draw(st.integers(1, 9)), d)) + draw(st.sampled_from([0.5, 1e6]))
    p, x = (few[rng.integers(0, len(few), size)] for size in (draw(st.integers(1, 300)), 5))
    p = (
        p
        * 2.0 ** rng.integers(-40, 40, (len(p), 1))
        * (1 + draw(st.sampled_from([0, 1e-15, 1e-9, 1e-7])) * rng.normal(size=p.shape))
    )
    dtype = draw(st.sampled_from(["float32", "float64"]))
    return x.astype(dtype), p.astype(dtype)


@given(problem=directions_with_ties(), data=st.data())
def test_kept_directions_give_the_bits_of_rows(problem, data):
    """They are rounded to float32, which must never decide."""
    x, p = problem
    k = data.draw(st.integers(1, len(p)))
    packed = hopmin.Packed(p)
    for _ in range(2):  # the second search finds the directions kept
        for a, b in zip(
            hopmin.nearest(x, packed, k, metric="cosine"), hopmin.nearest(x, p, k, metric="cosine"), strict=True
        ):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_packed_patterns_of_zeros_have_no_direction():
    p = np.ones((9000, 2))
    p[8999] = 0
    for patterns in (p, hopmin.Packed(p)):
        with pytest.raises(
            ValueError, match=r"^patterns must have no row of zeros for metric 'cosine'; got one at index 8999$"
        ):
            hopmin.nearest([1.0, 0.0], patterns, metric="cosine")


# Accuracy: what the Notes of `nearest` promise, judged by exact fractions, and where it ends


@pytest.mark.parametrize("scale", [1e-170, 1e-308, 1e-320, 1e160, 1e300])
def test_squares_out_of_range_are_ordered(scale, backend):
    p = scale * np.array([[2.0], [1.0], [4.0], [1.0], [0.0]])
    for patterns in (p, hopmin.Packed(p)):
        distances, indices = hopmin.nearest([0.0], patterns, 5)
        assert indices.tolist() == [4, 1, 3, 0, 2]
        np.testing.assert_array_equal(distances, p[indices, 0])
    np.testing.assert_array_equal(hopmin.separation(p[[0, 1, 2]]), (p[0] - p[1]) * [1, 1, 2])


def test_neighbours_of_any_magnitude_are_found_together(backend):
    """With a coordinate that all share, so large that it cannot be scaled."""
    sizes = np.array([1e300, 3e-170, 0.0, 2e-320, 1.0, 1e-170, 1e155, 2.0, 1e-320, 5e-100])
    order = np.argsort(sizes)
    for shared in (0.0, 1e308):
        p = np.stack([sizes, np.full(10, shared)], axis=1)
        for k in (1, 4, 10):
            distances, indices = hopmin.nearest([0.0, shared], p, k)
            assert indices.tolist() == order[:k].tolist()
            np.testing.assert_array_equal(distances, sizes[order[:k]])


magnitudes = st.floats(-1e300, 1e300, allow_subnormal=True) | st.floats(-2, 2) | st.floats(-1e-160, 1e-160)


@given(data=st.data(), n=st.integers(1, 5), d=st.integers(1, 4))
def test_euclidean_distances_are_accurate_at_any_magnitude(data, n, d):
    x = data.draw(npst.arrays(np.float64, d, elements=magnitudes))
    p = data.draw(npst.arrays(np.float64, (n, d), elements=magnitudes))
    if data.draw(st.booleans()):
        p[0] = x
    distances, indices = hopmin.nearest(x, p, n)
    squares = [helpers.exact_squared_distance(x, q) for q in p]
    relative = Fraction((d + 2) * EPS)
    for distance, i in zip(map(Fraction, distances.tolist()), indices, strict=True):
        slack = relative * distance + Fraction(5e-324)
        assert max(0, distance - slack) ** 2 <= squares[i] <= (distance + slack) ** 2
    for i, j in pairwise(indices.tolist()):
        assert squares[i] * (1 - relative) ** 2 <= squares[j] * (1 + relative) ** 2
    assert sorted(indices.tolist()) == list(range(n))
    assert (np.diff(distances) >= 0).all()


@given(data=st.data(), n=st.integers(1, 6), d=st.integers(1, 6), dtype=st.sampled_from([np.float32, np.float64]))
def test_products_are_accurate_and_ordered(data, n, d, dtype):
    elements = st.floats(-(2.0**50), 2.0**50, width=8 * np.dtype(dtype).itemsize) | st.integers(-3, 3).map(float)
    x = data.draw(npst.arrays(dtype, d, elements=elements))
    p = data.draw(npst.arrays(dtype, (n, d), elements=elements))
    distances, indices = hopmin.nearest(x, p, n, metric="dot")
    terms = [[Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, q, strict=True)] for q in p]
    true = [-sum(t) for t in terms]
    slack = [Fraction((d + 1) * EPS / 2) * sum(map(abs, t)) + d * Fraction(2) ** -1074 for t in terms]
    for distance, i in zip(distances, indices, strict=True):
        rounding = Fraction(float(np.spacing(abs(distance)))) if dtype is np.float32 else 0
        assert abs(Fraction(float(distance)) - true[i]) <= slack[i] + rounding
    for i, j in pairwise(indices.tolist()):
        assert true[i] <= true[j] + slack[i] + slack[j]


def test_where_exactness_ends(backend):
    """Pinned: pairs of patterns that differ by less than the promised errors, and come out in the wrong order."""
    x, p = [1e16, 1.0, -1e16], [[0.0, 0.5, 0.0], [1.0, 1.0, 1.0]]
    true = [-sum(Fraction(a) * Fraction(b) for a, b in zip(x, q, strict=True)) for q in p]
    assert true == [-0.5, -1]
    distances, indices = hopmin.nearest(x, p, 2, metric="dot")
    assert (distances.tolist(), indices.tolist()) == ([-0.5, 0.0], [0, 1])

    x, p = [0.0, 0.0, 0.0], [[0.4, 1.1, 1.1], [0.1, 0.1, 1.6]]
    squares = [helpers.exact_squared_distance(x, q) for q in p]
    assert squares[1] < squares[0] < squares[1] * (1 + Fraction(2 * EPS))
    assert hopmin.nearest(x, p, 2)[1].tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i4"])
def test_any_byte_order_gives_the_same_neighbours(kind, backend):
    p = np.random.default_rng(0).integers(-9, 9, (40, 3)).astype(kind)
    swapped = p.astype(p.dtype.newbyteorder("S"))
    for search in (lambda p: hopmin.nearest(p[:5], p, 3), lambda p: hopmin.Memory(p).nearest(p[:5], 3)):
        for one, other in zip(search(p), search(swapped), strict=True):
            assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
