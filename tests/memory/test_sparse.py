"""Energies whose weights can be exactly zero: exact retrieval in one step, all minima, states outside every reach."""

import itertools
import math
from fractions import Fraction

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hopmin
from hopmin import DotEnergy, EpanechnikovEnergy, SparseEnergy, retrieve, testing

TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
LINE = np.array([[-1.0], [1.0]])
ENERGIES = [SparseEnergy(1.5, 0.7), SparseEnergy(2.0, 3.0), EpanechnikovEnergy(0.3)]


def instances():
    rng = np.random.default_rng(0)
    for beta in (1e-3, 0.3, 1.0, 7.0, 1e3):
        for n, d in ((1, 1), (1, 4), (5, 1), (12, 3)):
            yield beta, rng.normal(size=(3, d)), rng.normal(size=(n, d))


# SparseEnergy


@pytest.mark.parametrize("alpha", [1.0, 1.2, 1.5, 2.0, 3.0])
def test_sparse_energy_matches_plain_loops(alpha, backend):
    for beta, x, p in instances():
        energy, values = SparseEnergy(alpha, beta), np.arange(2.0 * len(p)).reshape(-1, 2)
        scale = max(helpers.product(one, one) for one in [*p, *x])
        for row, value, weights, updated in zip(
            x, energy.value(x, p), energy.weights(x, p), energy.update(x, p, values), strict=True
        ):
            w = helpers.entmax([beta * helpers.product(row, one) for one in p], alpha)
            # beyond alpha = 2 a small entry is a root of a difference, and its error the root of the rounding error
            rounding = (1e-14 * (1 + beta * scale)) ** min(1, 1 / (alpha - 1 or 1))
            np.testing.assert_allclose(weights, w, rtol=0, atol=rounding)
            np.testing.assert_allclose(updated, helpers.average(w, values), rtol=0, atol=rounding * values.size)
            exact = helpers.sparse_energy(row, p, alpha, beta)
            assert value == pytest.approx(exact, rel=0, abs=1e-14 * (scale + 5 / beta))


def test_step_with_large_alpha_may_raise_the_energy():
    """Weights are accurate to about eps^(1 / (alpha - 1)), which is 0.15 here."""
    x, p = np.array([0.07]), np.array([[-0.25], [0.12]])
    for alpha, rises in ((5.0, False), (20.0, True)):
        energy = SparseEnergy(alpha)
        assert (energy.value(energy.update(x, p), p) > energy.value(x, p)) == rises


def test_sparse_energy_of_order_1_is_the_dot_energy(backend):
    for beta, x, p in instances():
        sparse, dot = SparseEnergy(1, beta), DotEnergy(beta)
        scale = np.square(p).sum(axis=1).max() + np.square(x).sum(axis=1).max()
        np.testing.assert_allclose(sparse.value(x, p), dot.value(x, p), rtol=0, atol=1e-15 * (scale * 16 + 9 / beta))
        for name in ("weights", "update", "gradient", "hessian"):
            one, other = (getattr(energy, name)(x, p) for energy in (sparse, dot))
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-14 * (1 + beta * scale) ** 2)


@given(testing.problems(dtypes=("float64",), offsets=(0.0, 1.0)), st.sampled_from([1.0, 1.5, 2.0, 3.0]))
def test_sparse_energy_is_nonnegative(problem, alpha):
    x, p, beta = problem
    size = np.square(p).sum(axis=1).max() + np.square(x).sum(axis=1).max()
    assert (SparseEnergy(alpha, beta).value(x, p) >= -1e-14 * (size + math.log(len(p)) / beta)).all()


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.0])
def test_one_step_is_exact_iff_the_margin_suffices(alpha):
    """beta (p_i.p_i - max_j p_i.p_j) >= 1 / (alpha - 1): 10 000 patterns on whole coordinates, no exception."""
    rng, seen = np.random.default_rng(1), {True: 0, False: 0}
    while sum(seen.values()) < 10_000:
        n, d = rng.integers(2, 8, 2)
        p = rng.integers(-3, 4, (n, d)).astype(float)
        beta = float(rng.choice([0.0625, 0.125, 0.25, 0.5, 1.0]))  # powers of two: no product is rounded
        products = p @ p.T
        margin = products.diagonal() - np.where(np.eye(n, dtype=bool), -np.inf, products).max(axis=1)
        retrieved = (SparseEnergy(alpha, beta).update(p, p) == p).all(axis=1)
        alone = (SparseEnergy(alpha, beta).weights(p, p).diagonal() == 1) & retrieved
        expected = (alpha - 1) * beta * margin >= 1
        # a mean may coincide with the pattern, as that of duplicates does; then the pattern has not all the weight
        np.testing.assert_array_equal(alone, expected)
        for flag in expected:
            seen[bool(flag)] += 1
    assert min(seen.values()) > 1000


def test_smallest_sufficient_margin_is_sharp():
    for alpha in (1.5, 2.0, 3.0):
        for margin, exact in ((1 / (alpha - 1), True), (1 / (alpha - 1) - 1e-6, False)):
            p = np.array([[1.0, 0.0], [1.0 - margin, 1.0]])
            weights = SparseEnergy(alpha).weights(p[0], p)
            assert (weights[1] == 0) == exact


def test_entmax_retrieves_exactly_where_softmax_does_not():
    p = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert (SparseEnergy(1.5).update(p, p) == p).all()
    assert (DotEnergy().update(p, p) != p).all()


def test_hessian_depends_on_the_support_only():
    """alpha = 2: all patterns in the support have the same g, and a single one gives I."""
    p = np.array([[0.0, 2.0], [1.0, 0.0], [-1.0, -1.0]])
    np.testing.assert_array_equal(SparseEnergy(2.0).hessian([0.0, 1.0], p), np.eye(2))
    pair = p[:2] - p[:2].mean(axis=0)
    np.testing.assert_allclose(SparseEnergy(2.0).hessian([0.5, 0.5], p), np.eye(2) - pair.T @ pair, atol=1e-15)


# Properties of the distance energy that the sparse energy lacks


def test_sparse_energy_depends_on_the_origin():
    x, p = np.array([0.25]), np.array([[0.0], [1.0]])
    assert SparseEnergy(2.0).value(x + 1, p + 1) != pytest.approx(SparseEnergy(2.0).value(x, p), abs=0.1)
    assert SparseEnergy(2.0).update(x + 1, p + 1) - 1 == pytest.approx(1.0)
    assert SparseEnergy(2.0).update(x, p) == pytest.approx(0.625)
    assert DotEnergy().value(x + 1, p + 1) != pytest.approx(DotEnergy().value(x, p), abs=0.1)


def test_storing_patterns_twice_changes_the_sparse_update():
    """The threshold rises with the number of patterns: the copy of the best pattern takes the weight of the other."""
    x, p = [1.0], np.array([[0.0], [0.5]])
    assert SparseEnergy(2.0).weights(x, p) == pytest.approx([0.25, 0.75], rel=1e-15)
    assert SparseEnergy(2.0).weights(x, np.concatenate([p, p])).tolist() == [0, 0.5, 0, 0.5]
    for energy in (DotEnergy(), EpanechnikovEnergy()):
        assert energy.update(x, np.concatenate([p, p])) == pytest.approx(energy.update(x, p), rel=1e-15)


def test_sparse_best_match_need_not_be_the_nearest():
    p = np.array([[1.0, 0.0], [3.0, 1.0]])
    assert (SparseEnergy(2.0, 1e4).update(p[0], p) == p[1]).all()


# EpanechnikovEnergy


def test_epanechnikov_energy_matches_plain_loops(backend):
    for beta, x, p in instances():
        energy = EpanechnikovEnergy(beta)
        for row, value, weights, updated, gradient in zip(
            x, energy.value(x, p), energy.weights(x, p), energy.update(x, p), energy.gradient(x, p), strict=True
        ):
            support = [helpers.exact_squared_distance(row, one) * Fraction(beta) < 2 for one in p]
            assert (weights > 0).tolist() == support
            if not any(support):
                assert value == math.inf
                assert not gradient.any()
                assert not weights.any()
                np.testing.assert_array_equal(updated, row)
                continue
            assert value == pytest.approx(helpers.epanechnikov_energy(row, p, beta), rel=1e-13, abs=1e-13 / beta)
            near = p[support]
            np.testing.assert_array_equal(weights[support], 1 / len(near))
            np.testing.assert_allclose(
                updated, helpers.average([1 / len(near)] * len(near), near), rtol=1e-14, atol=1e-15
            )
            slope = helpers.gradient(helpers.epanechnikov_energy, row, near, beta)
            np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-12)


def test_reach_is_the_root_of_2_over_beta():
    for beta in (0.5, 2.0, 8.0):  # powers of two: the roots are exact
        energy, reach = EpanechnikovEnergy(beta), math.sqrt(2 / beta)
        assert energy.reach == reach
        assert energy.weights([0.0], [[reach]]).tolist() == [0]
        assert energy.weights([0.0], [[np.nextafter(reach, 0)]]).tolist() == [1]
    assert EpanechnikovEnergy(3.0).reach == pytest.approx(math.sqrt(2 / 3), rel=1e-15)


def test_outside_every_reach_the_state_does_not_move():
    energy, far = EpanechnikovEnergy(2.0), np.array([[5.0], [0.1]])
    assert energy.value(far, [[0.0]]).tolist() == [math.inf, pytest.approx(-math.log(0.99) / 2)]
    assert energy.weights(far, [[0.0]]).tolist() == [[0.0], [1.0]]
    assert energy.update(far, [[0.0]]).tolist() == [[5.0], [0.0]]
    assert energy.update(far, [[0.0]], values=[[7.0]]).tolist() == [[0.0], [7.0]]
    assert energy.gradient(far, [[0.0]])[0] == 0
    assert energy.hessian(far, [[0.0]])[0] == 0
    assert energy.guaranteed_decrease(far, far).tolist() == [0, 0]


def test_patterns_passed_as_values_are_treated_as_values():
    p = np.array([[0.0], [1.0]])
    for values in (p, p.copy(), p.tolist()):
        assert EpanechnikovEnergy(2.0).update([9.0], p, values=values) == [0.0]


def test_epanechnikov_decrease_for_a_single_pattern():
    energy, x, p = EpanechnikovEnergy(2.0), np.array([0.6]), np.array([[0.0]])
    assert energy.guaranteed_decrease(x, p[0]) == pytest.approx(math.log(1 + 0.36) / 2)
    assert energy.value(x, p) - energy.value(p[0], p) == pytest.approx(
        -math.log(1 - 0.36) / 2
    )  # -log(1 - y) >= log(1 + y)


@given(testing.problems(dtypes=("float64",), offsets=(0.0,)))
def test_epanechnikov_hessian_is_positive_semidefinite(problem):
    x, p, beta = problem
    for hessian in EpanechnikovEnergy(beta).hessian(x, p):
        assert np.linalg.eigvalsh(hessian).min() >= -1e-12 * max(1, np.abs(hessian).max())


def test_large_beta_is_not_the_nearest_pattern():
    """The reach goes to 0: a query that is not a pattern does not move."""
    assert EpanechnikovEnergy(1e4).update([0.4], LINE) == [0.4]
    assert EpanechnikovEnergy(1e4).update([1.01], LINE) == [1.0]
    assert EpanechnikovEnergy(1e-9).update([0.4], LINE) == [0.0]


def test_gradient_is_not_a_fixed_multiple_of_the_step():
    """It is steeper towards the edge of the reach: (x - T(x)) / (1 - x^2) here."""
    energy, p = EpanechnikovEnergy(2.0), np.array([[0.0]])
    np.testing.assert_allclose(energy.gradient([[0.1], [0.9]], p), [[0.1 / 0.99], [0.9 / 0.19]], rtol=1e-14)


# Minima of the Epanechnikov energy


def counts(patterns, reach):
    """Return the number of minima that are stored patterns, and of those that are not."""
    centres, supports = EpanechnikovEnergy(2 / reach**2).minima(patterns)
    assert centres.shape == (len(supports), np.shape(patterns)[1])
    return int((supports.sum(axis=1) == 1).sum()), int((supports.sum(axis=1) > 1).sum())


@pytest.mark.parametrize(
    ("beta", "expected"), [(0.3, (0, 1)), (0.49, (0, 1)), (0.51, (2, 1)), (1.9, (2, 1)), (2.1, (2, 0))]
)
def test_minima_of_two_patterns(beta, expected):
    assert counts(LINE, math.sqrt(2 / beta)) == expected


@pytest.mark.parametrize(
    ("reach", "expected"),
    [(0.49, (3, 0)), (0.51, (3, 3)), (0.57, (3, 3)), (0.58, (3, 4)), (0.86, (3, 4)), (0.87, (3, 1)), (0.99, (3, 1)), (1.01, (0, 1))],
)  # fmt: skip
def test_minima_of_a_triangle(reach, expected):
    assert counts(TRIANGLE, reach) == expected


@pytest.mark.parametrize(
    ("reach", "expected"),
    [(0.3, (12, 1)), (0.5, (10, 15)), (0.6, (10, 37)), (0.7, (8, 60)), (0.8, (6, 75)), (0.9, (2, 57)), (1.0, (0, 9)), (1.2, (0, 1))],
)  # fmt: skip
def test_minima_of_twelve_patterns_in_a_cube(reach, expected):
    assert counts(np.random.default_rng(0).uniform(size=(12, 8)), reach) == expected


@pytest.mark.parametrize("seed", range(6))
def test_mean_shift_ends_in_every_listed_minimum_only(seed):
    """Mean shift from many starts ends in listed minima only, and in each of them; around each the energy rises."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 7)), int(rng.integers(1, 3))
    p = rng.uniform(size=(n, d))
    energy = EpanechnikovEnergy(2 / rng.uniform(0.2, 0.6) ** 2)
    centres, supports = energy.minima(p)
    subsets = [p[list(s)].mean(axis=0) for k in range(1, n + 1) for s in itertools.combinations(range(n), k)]
    starts = np.concatenate(
        [rng.uniform(-0.5, 1.5, (2000, d)), centres + 1e-6 * rng.normal(size=centres.shape), subsets]
    )
    starts = starts[np.isfinite(energy.value(starts, p))]
    ends = retrieve(starts, p, energy, max_steps=500).states
    distances = np.linalg.norm(ends[:, None] - centres, axis=2)
    assert distances.min(axis=1).max() < 1e-9
    assert distances.min(axis=0).max() < 1e-9
    np.testing.assert_array_equal(energy.weights(centres, p) > 0, supports)
    for u in rng.normal(size=(20, d)):
        assert (energy.value(centres + 1e-4 * u / np.linalg.norm(u), p) > energy.value(centres, p)).all()


def test_minima_of_duplicates_and_of_a_single_pattern():
    centres, supports = EpanechnikovEnergy().minima([[3.0], [3.0]])
    assert (centres.tolist(), supports.tolist()) == ([[3.0]], [[True, True]])
    centres, supports = EpanechnikovEnergy().minima(np.float32([[3.0, 1.0]]))
    assert (centres.dtype, centres.tolist(), supports.tolist()) == (np.float32, [[3.0, 1.0]], [[True]])


def test_minima_are_invariant_under_translation():
    far = np.float32(1e6) + np.float32([[0.0], [1.0], [2.0], [7.0]])
    near = far.astype(float) - 1e6
    for beta in (0.3, 1.0, 3.0):
        there, here = EpanechnikovEnergy(beta).minima(far), EpanechnikovEnergy(beta).minima(near)
        np.testing.assert_array_equal(there[1], here[1])
        np.testing.assert_array_equal(there[0], (here[0] + 1e6).astype("float32"))


def test_minima_of_more_than_twenty_patterns_are_refused():
    with pytest.raises(ValueError, match=r"^n must be an integer from 1 to 20; got 21$"):
        EpanechnikovEnergy().minima(np.zeros((21, 1)))


# Both energies


@pytest.mark.parametrize("energy", ENERGIES, ids=repr)
def test_shapes_and_dtypes(energy):
    for dtype in ("float32", "float64"):
        x, p = np.ones((2, 3), dtype), np.random.default_rng(0).normal(size=(4, 3)).astype(dtype)
        shapes = {"value": (2,), "gradient": (2, 3), "hessian": (2, 3, 3), "weights": (2, 4), "update": (2, 3)}
        for name, shape in shapes.items():
            batch, single, none = (getattr(energy, name)(rows, p) for rows in (x, x[0], x[:0]))
            assert (batch.shape, batch.dtype) == (shape, dtype)
            assert (none.shape, none.dtype) == ((0, *shape[1:]), dtype)
            np.testing.assert_allclose(single, batch[0], rtol=8 * np.finfo(dtype).eps, atol=1e-16)
            np.testing.assert_array_equal(getattr(energy, name)(x, hopmin.Packed(p)), batch)
        assert energy.update(x, p, values=np.ones((4, 5), dtype)).shape == (2, 5)
        assert energy.guaranteed_decrease(x, x).dtype == dtype


@pytest.mark.parametrize("energy", ENERGIES, ids=repr)
def test_invalid_queries_and_patterns_are_refused(energy):
    for arguments, text in {
        ((1.0, 2.0), (1.0, 2.0)): "patterns must have shape (n, d); got (2,)",
        ((1.0, 2.0), ((1.0,),)): "queries must have shape (m, d) with d = 1; got (2,)",
        ((1.0,), ((math.nan,),)): "patterns must be finite; got nan at index (0, 0)",
        ((math.inf,), ((1.0,),)): "queries must be finite; got inf at index (0, 0)",
        (
            (1e200,),
            ((-1e200,),),
        ): "queries and patterns must be small enough to square in float64; got values up to 2e+200",
    }.items():
        for name in ("value", "gradient", "hessian", "weights", "update"):
            with pytest.raises(ValueError) as caught:
                getattr(energy, name)(*arguments)
            assert str(caught.value) == text, name


@pytest.mark.parametrize("alpha", [0.99, 0, -1.0, math.inf, math.nan, "1", None, True])
def test_alpha_below_1_or_not_finite_is_refused(alpha):
    with pytest.raises((TypeError, ValueError)) as caught:
        SparseEnergy(alpha)
    assert str(caught.value) == f"alpha must be a finite number >= 1; got {alpha!r}"


def test_sparse_energies_compare_and_print_by_value():
    assert SparseEnergy(2, 1) == SparseEnergy(2.0) != SparseEnergy()
    assert repr(SparseEnergy()) == "SparseEnergy(alpha=1.5, beta=1.0)"
    assert repr(EpanechnikovEnergy(2)) == "EpanechnikovEnergy(beta=2.0)"
    for energy in (SparseEnergy, EpanechnikovEnergy):
        with pytest.raises(ValueError, match=r"^beta must be a finite number > 0; got 0$"):
            energy(beta=0)
