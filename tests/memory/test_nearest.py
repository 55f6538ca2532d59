"""Exact search: the k nearest patterns, those within a radius, and the separation."""

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        (lambda: hopmin.nearest([1e200], [[-1e200]]), ValueError, "queries and patterns must be small enough to square in float64; got values up to 2e+200"),
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


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i4"])
def test_any_byte_order_gives_the_same_neighbours(kind, backend):
    p = np.random.default_rng(0).integers(-9, 9, (40, 3)).astype(kind)
    swapped = p.astype(p.dtype.newbyteorder("S"))
    for search in (lambda p: hopmin.nearest(p[:5], p, 3), lambda p: hopmin.Memory(p).nearest(p[:5], 3)):
        for one, other in zip(search(p), search(swapped), strict=True):
            assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
