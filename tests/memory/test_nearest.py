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
    x, p, _ = problem
    distances, indices = hopmin.nearest(x, p, len(p))
    radius = float(data.draw(st.sampled_from(sorted(set(distances.ravel().tolist())))))  # some patterns lie exactly at this distance
    for i, (found, places) in enumerate(zip(*hopmin.within(x, p, radius), strict=True)):
        inside = distances[i] <= radius
        np.testing.assert_array_equal(found, distances[i][inside])
        np.testing.assert_array_equal(places, indices[i][inside])


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
        (lambda: hopmin.within(P, P, -1), ValueError, "radius must be a finite number >= 0; got -1"),
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


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2], lambda a: a[::-1].copy()[::-1]])
def test_cosine_distances_do_not_depend_on_the_layout(layout, backend):
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(50, 33)), rng.normal(size=(4, 33))
    expected, found = (hopmin.nearest(f(q), f(p), 5, metric="cosine") for f in (np.ascontiguousarray, layout))
    for a, b in zip(expected, found, strict=True):
        assert a.tobytes() == b.tobytes()


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
