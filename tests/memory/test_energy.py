"""Energies over R^d, compared with plain loops; the paper's statements about them and their conditions."""

import math
import re

import helpers
import numpy as np
import pytest
from hypothesis import given

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EuclideanEnergy, retrieve, testing
from hopmin.memory import energy as energy_module

FIG1 = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])


def instances():
    rng = np.random.default_rng(0)
    for beta in (1e-3, 0.3, 1.0, 7.0, 1e3):
        for n, d in ((1, 1), (1, 4), (5, 1), (70, 3)):
            for offset in (0.0, 1e6):
                yield beta, rng.normal(size=(3, d)) + offset, rng.normal(size=(n, d)) + offset


def test_distance_energy_matches_plain_loops(backend):
    for beta, x, p in instances():
        energy, d = DistanceEnergy(beta), p.shape[1]
        expected = [helpers.distance_energy(row, p, beta) for row in x]
        largest = max(helpers.squared_distance(row, one) for row in x for one in p)
        slack = (d + 4) * 2.3e-16 * (largest + math.log(len(p)) / beta)
        np.testing.assert_allclose(energy.value(x, p), expected, rtol=0, atol=slack)
        for row, weights, updated in zip(x, energy.weights(x, p), energy.update(x, p), strict=True):
            w = helpers.weights([-beta * helpers.squared_distance(row, one) for one in p])
            np.testing.assert_allclose(weights, w, rtol=0, atol=1e-15 * (4 + beta * largest))
            mean = helpers.average(w, p)
            np.testing.assert_allclose(updated, mean, rtol=1e-15 * (len(p) + 4), atol=1e-15 * (4 + beta * largest))


def test_dot_energy_matches_plain_loops(backend):
    for beta, x, p in instances():
        if np.abs(p).max() > 1e3:
            continue  # squares of positions, not of differences: far from the origin no digits are left to compare
        energy, values = DotEnergy(beta), np.arange(2.0 * len(p)).reshape(-1, 2)
        scale = max(helpers.product(p_, p_) for p_ in [*p, *x])
        np.testing.assert_allclose(
            energy.value(x, p), [helpers.dot_energy(row, p, beta) for row in x], rtol=0, atol=2e-15 * (scale + 5 / beta)
        )
        for row, updated in zip(x, energy.update(x, p, values), strict=True):
            w = helpers.weights([beta * helpers.product(row, one) for one in p])
            np.testing.assert_allclose(updated, helpers.average(w, values), rtol=1e-14 * (4 + beta * scale))


def test_guaranteed_decrease_is_the_squared_step_or_half_of_it():
    x, y = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[3.0, 4.0], [1.0, 1.0]])
    np.testing.assert_array_equal(DistanceEnergy(5.0).guaranteed_decrease(x, y), [25.0, 0.0])
    np.testing.assert_array_equal(DotEnergy(5.0).guaranteed_decrease(x, y), [12.5, 0.0])
    assert DotEnergy().guaranteed_decrease(x[0], y[0]) == 12.5


def test_guaranteed_decrease_is_sharp_for_one_pattern(backend):
    """With one pattern the energy is the squared distance, and the step reaches the minimum: no larger bound holds."""
    for energy in (DistanceEnergy(3.0), DotEnergy(3.0)):
        x, p = np.array([3.0, 0.0]), np.array([[0.0, 4.0]])
        fall = energy.value(x, p) - energy.value(energy.update(x, p), p)
        assert fall == pytest.approx(energy.guaranteed_decrease(x, p[0]), rel=1e-15)


def test_proposition_3_fails_as_printed_and_holds_with_log_n():
    """Two patterns of one norm, x = (3, 0): g - 2E = -log 2, outside the printed [0, log 2]; adding log n corrects it."""
    p, x = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([3.0, 0.0])
    g = hopmin.nearest(x, p)[0][0] ** 2
    gap = g - 2 * DotEnergy(2.0).value(x, p)
    assert gap == pytest.approx(-math.log(2), abs=1e-5)
    assert 0 <= gap + math.log(2) <= math.log(2)


def test_neither_energy_is_convex():
    """On {-2, 0, 1} at beta = 1 the second derivative falls to -2.28 and -0.62: the regulariser does not make it convex."""
    p, x, h = np.array([[-2.0], [0.0], [1.0]]), np.linspace(-3, 2, 2001)[:, None], 1e-3
    for energy, least in ((DistanceEnergy(), -2.28), (DotEnergy(), -0.62)):
        bend = (energy.value(x + h, p) - 2 * energy.value(x, p) + energy.value(x - h, p)) / h**2
        assert bend.min() == pytest.approx(least, abs=0.01)


def test_update_of_one_energy_may_raise_the_other():
    """Patterns of unequal norm: the step of the distance energy may raise the dot energy."""
    rng = np.random.default_rng(0)
    x, rises = rng.normal(size=(2000, 2)), 0
    for p in rng.normal(size=(20, 3, 2)) * 2:
        stepped = DistanceEnergy().update(x, p)
        rises += int((DotEnergy().value(stepped, p) > DotEnergy().value(x, p) + 1e-9).sum())
    assert rises > 100


def test_longer_pattern_may_be_the_best_match_by_dot_product(backend):
    """A stored pattern is its own nearest neighbour, but need not have the largest product with itself."""
    p = np.array([[1.0, 0.0], [3.0, 1.0]])
    assert DotEnergy(10.0).weights(p[0], p).argmax() == 1
    assert DistanceEnergy(10.0).weights(p[0], p).argmax() == 0


def test_distance_to_itself_is_zero_far_from_the_origin(backend):
    p = (np.random.default_rng(0).normal(size=(50, 8)) + 1e6).astype("float32")
    np.testing.assert_array_equal(hopmin.nearest(p, p)[0], 0)
    assert (DistanceEnergy(1e3).value(p, p) <= 0).all()


def test_single_query_gives_results_without_the_m_axis():
    for energy in (DistanceEnergy(), DotEnergy(), EuclideanEnergy()):
        x = FIG1[0] + 0.1
        for name in ("value", "gradient", "hessian", "weights", "update"):
            single, batch = getattr(energy, name)(x, FIG1), getattr(energy, name)(x[None], FIG1)
            assert np.shape(single) == batch.shape[1:]
            np.testing.assert_allclose(single, batch[0], rtol=1e-15, atol=1e-16)
        assert isinstance(energy.value(x, FIG1), np.float64)
        assert energy.update(x, FIG1, values=np.zeros((3, 5))).shape == (5,)


def test_no_queries_give_no_results():
    for energy in (DistanceEnergy(), DotEnergy(), EuclideanEnergy()):
        none = np.zeros((0, 2))
        assert energy.value(none, FIG1).shape == (0,)
        assert energy.gradient(none, FIG1).shape == energy.update(none, FIG1).shape == (0, 2)
        assert energy.weights(none, FIG1).shape == (0, 3)
        assert energy.hessian(none, FIG1).shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("x", "p", "dtype"),
    [
        ("float32", "float32", "float32"),
        ("float64", "float32", "float64"),
        ("int64", "int8", "float64"),
        ("float16", "float16", "float32"),
    ],
)
def test_result_is_float32_only_if_both_arrays_are(x, p, dtype):
    x, p = np.ones((2, 3), x), np.zeros((4, 3), p)
    for energy in (DistanceEnergy(), DotEnergy(), EuclideanEnergy()):
        for name in ("value", "gradient", "hessian", "weights", "update"):
            assert getattr(energy, name)(x, p).dtype == dtype


def test_float64_values_give_a_float64_update():
    p = np.float32([[0.0], [1.0]])
    updated = DistanceEnergy().update(p[0], p, values=[[1e300], [1e300]])
    assert (updated.dtype, updated.tolist()) == (np.float64, [1e300])
    assert DistanceEnergy().update(p[0], p, values=np.float32([[1], [2]])).dtype == np.float32


@pytest.mark.parametrize("beta", [1e-31, 5e-324, 1e31, 1e300])
def test_beta_outside_1e_30_to_1e30_is_refused(beta):
    with pytest.raises(ValueError, match=r"^beta must lie between 1e-30 and 1e30, so that log\(n\) / beta fits a float32; got"):
        DotEnergy(beta)


def test_extreme_beta_is_finite_without_warnings(backend):
    for energy in (DistanceEnergy, DotEnergy, EuclideanEnergy):
        for beta in (1e-30, 1e30):
            for scale in (1e-18, 1.0, 1e17):
                x, p = np.float32(FIG1[:1] * scale), np.float32(FIG1 * scale)
                for name in ("value", "gradient", "weights", "update"):
                    with np.errstate(all="raise", under="ignore"):
                        assert np.isfinite(getattr(energy(beta), name)(x, p)).all()


def test_energies_compare_hash_and_print_by_value():
    assert DistanceEnergy(2) == DistanceEnergy(2.0) != DotEnergy(2.0)
    assert hash(DotEnergy()) == hash(DotEnergy(1.0))
    assert repr(DistanceEnergy(0.5)) == "DistanceEnergy(beta=0.5)"
    with pytest.raises(AttributeError):
        DistanceEnergy().beta = 2.0


@pytest.mark.parametrize("beta", [0, -1, math.inf, math.nan, "1", None, True, [1.0]])
def test_beta_that_is_not_a_positive_number_is_refused(beta):
    with pytest.raises((TypeError, ValueError)) as caught:
        DistanceEnergy(beta)
    assert str(caught.value) == f"beta must be a finite number > 0; got {beta!r}"


# EuclideanEnergy


def test_euclidean_energy_matches_plain_loops(backend):
    for beta, x, p in instances():
        energy, values = EuclideanEnergy(beta), np.arange(2.0 * len(p)).reshape(-1, 2)
        far = max(math.sqrt(helpers.squared_distance(row, one)) for row in x for one in p)
        for row, value, gradient, weights, updated in zip(
            x, energy.value(x, p), energy.gradient(x, p), energy.weights(x, p), energy.update(x, p, values), strict=True
        ):
            distances = [math.sqrt(helpers.squared_distance(row, one)) for one in p]
            exact = helpers.euclidean_energy(row.tolist(), p.tolist(), beta).real
            assert value == pytest.approx(exact, rel=0, abs=1e-14 * (far + math.log(len(p)) / beta))
            pulls = helpers.softmax([-beta * r for r in distances])
            total = math.fsum(s / r for s, r in zip(pulls, distances, strict=True))
            w = [s / r / total for s, r in zip(pulls, distances, strict=True)]
            np.testing.assert_allclose(weights, w, rtol=0, atol=1e-14 * (1 + beta * far))
            np.testing.assert_allclose(updated, helpers.average(w, values), rtol=0, atol=1e-14 * (1 + beta * far) * values.size)
            slope = helpers.gradient(helpers.euclidean_energy, (row - p[0]).tolist(), (p - p[0]).tolist(), beta)
            np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-13 * (1 + beta * far))


def test_attention_step_may_raise_the_euclidean_energy():
    """Patterns -1/2 and 1/2, x = 0.3: attention's mean raises the energy from -0.2375 to -0.2037, Weiszfeld's step lowers it."""
    energy, x, p = EuclideanEnergy(), np.array([0.3]), np.array([[-0.5], [0.5]])
    attention = hopmin.softmax(-np.abs(x - p[:, 0])) @ p
    assert energy.value(x, p) == pytest.approx(-0.2375, abs=5e-5)
    assert energy.value(attention, p) == pytest.approx(-0.2037, abs=5e-5)
    assert energy.value(energy.update(x, p), p) < energy.value(x, p) - 0.01


@pytest.mark.parametrize("seed", range(5))
def test_pattern_is_fixed_iff_the_pull_is_at_most_its_weight(seed):
    rng, stayed = np.random.default_rng(seed), []
    for _ in range(200):
        n, d = int(rng.integers(2, 7)), int(rng.integers(1, 4))
        p, beta = rng.normal(size=(n, d)), 10.0 ** rng.uniform(-2, 0.5)
        energy = EuclideanEnergy(beta)
        distances = [math.dist(p[0], one) for one in p]
        s = helpers.softmax([-beta * r for r in distances])
        pull = [math.fsum(s[i] * (p[0, c] - p[i, c]) / distances[i] for i in range(1, n)) for c in range(d)]
        length = math.hypot(*pull)
        stays = length <= s[0]
        stayed.append(stays)
        np.testing.assert_allclose(energy.gradient(p[0], p), np.multiply(pull, max(0, 1 - s[0] / length)), atol=1e-13)
        assert (energy.update(p[0], p) == p[0]).all() == stays
        assert energy.weights(p[0], p)[0] == pytest.approx(min(1, s[0] / length), rel=1e-12)
        if not stays:
            assert energy.value(energy.update(p[0], p), p) < energy.value(p[0], p)
        nearby = p[0] + 1e-7 * rng.normal(size=(50, d))
        assert (energy.value(nearby, p) >= energy.value(p[0], p)).all() or not stays
    assert 20 < sum(stayed) < 180


def test_duplicates_of_a_pattern_share_its_weight():
    p = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(EuclideanEnergy().weights(p[0], p), [0.5, 0, 0.5])
    p = np.array([[0.0], [1.0], [0.0], [1.0], [1.0]])  # for beta -> 0 the median: the three copies of 1
    np.testing.assert_allclose(EuclideanEnergy(1e-9).weights(p[0], p), [1 / 3, 1 / 9, 1 / 3, 1 / 9, 1 / 9], rtol=1e-6)
    np.testing.assert_allclose(EuclideanEnergy().update([7.0, 7.0], [[7.0, 7.0]] * 3), [7.0, 7.0], rtol=1e-15)


def test_gradient_close_to_a_pattern_has_norm_one():
    for distance in (1e-3, 1e-9, 1e-100, 1e-150):
        gradient = EuclideanEnergy(5.0).gradient([distance, 0.0], [[0.0, 0.0], [9.0, 0.0]])
        np.testing.assert_allclose(gradient, [1.0, 0.0], rtol=1e-12, atol=1e-15)
    assert not EuclideanEnergy(5.0).gradient([1e-160, 0.0], [[0.0, 0.0], [9.0, 0.0]]).any()  # treated as being at the pattern


def test_small_beta_retrieves_the_geometric_median():
    """Not at the mean: in one dimension at the median, in a triangle at the point that sees each side under 120 degrees."""
    line = np.array([[0.0], [1.0], [2.0], [50.0], [51.0]])
    assert retrieve([[7.0], [30.0]], line, EuclideanEnergy(1e-9), max_steps=2000).states == pytest.approx(2.0, abs=1e-5)
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]])
    x = retrieve([2.0, 2.0], triangle, EuclideanEnergy(1e-9), tolerance=1e-12, max_steps=2000).states
    to = (triangle - x) / np.linalg.norm(triangle - x, axis=1)[:, None]
    np.testing.assert_allclose(to @ to.T, np.where(np.eye(3), 1, -0.5), atol=1e-6)
    x = np.array([1.0])  # for beta -> 0 the weights are proportional to 1 / distance
    np.testing.assert_allclose(EuclideanEnergy(1e-9).weights(x, [[0.0], [3.0]]), [2 / 3, 1 / 3], rtol=1e-6)


@given(testing.problems(dtypes=("float64",), offsets=(0.0,)))
def test_weiszfeld_step_falls_by_half_the_linear_decrease(problem):
    """E(x) - E(T(x)) >= gradient.(x - T(x)) / 2: its majorizer is a parabola."""
    x, p, beta = problem
    energy = EuclideanEnergy(beta)
    updated = energy.update(x, p)
    promised = (energy.gradient(x, p) * (x - updated)).sum(axis=1) / 2
    fall = energy.value(x, p) - energy.value(updated, p)
    assert (fall >= promised - 1e-14 * (np.abs(p).max() + np.abs(x).max() + math.log(len(p)) / beta)).all()


def test_euclidean_guaranteed_decrease_is_zero():
    """The gradient is not a multiple of the step, so the step length alone implies no decrease."""
    energy, x, p = EuclideanEnergy(), np.array([[3.0]]), np.array([[0.0]])
    assert energy.guaranteed_decrease(x, p) == [0]
    assert energy.gradient(x, p) == [[1.0]]


# Hessians


def test_hessian_is_indefinite_between_two_patterns():
    p = np.array([[-1.0, 0.0], [1.0, 0.0]])
    for energy, along, across in ((DistanceEnergy(2.0), -6, 2), (DotEnergy(4.0), -3, 1), (EuclideanEnergy(3.0), -3, 1)):
        np.testing.assert_allclose(energy.hessian([0.0, 0.0], p), [[along, 0], [0, across]], atol=1e-14)
    for energy in (DistanceEnergy(2.0), DotEnergy(4.0)):
        assert np.linalg.eigvalsh(energy.hessian(p, p)).min() > 0


def test_hessian_at_a_kink_is_refused():
    with pytest.raises(ValueError, match=r"^queries must not be patterns, where the energy has a kink; got pattern 1$"):
        EuclideanEnergy().hessian(FIG1[1], FIG1)


def test_distance_energy_of_close_patterns_is_convex(backend):
    """No eigenvalue is negative for diam^2 <= 2 / beta, and the bound is sharp."""
    rng = np.random.default_rng(0)
    for beta in (0.1, 1.0, 30.0):
        p = rng.uniform(-1, 1, (6, 2))
        p *= math.sqrt(2 / beta) / max(math.dist(a, b) for a in p for b in p)
        for hessian in DistanceEnergy(beta).hessian(rng.normal(size=(200, 2)) / math.sqrt(beta), p):
            assert np.linalg.eigvalsh(hessian).min() >= 0
        pair = np.array([[0.0], [1.01 * math.sqrt(2 / beta)]])
        assert DistanceEnergy(beta).hessian(pair.mean(axis=0), pair) < 0


def test_packed_patterns_keep_their_largest_norm(monkeypatch):
    patterns = np.random.default_rng(0).standard_normal((300, 4))
    packed, energy, rows = hopmin.Packed(patterns), hopmin.DotEnergy(2.0), []
    value = energy.value(patterns[:2], packed)
    np.testing.assert_array_equal(value, energy.value(patterns[:2], patterns))
    half_square = energy_module.half_square
    monkeypatch.setattr(energy_module, "half_square", lambda a: (rows.append(len(a)), half_square(a))[1])
    np.testing.assert_array_equal(energy.value(patterns[:2], packed), value)
    assert rows == [2]


@pytest.mark.parametrize("energy", [hopmin.DistanceEnergy(), hopmin.DotEnergy(), hopmin.EuclideanEnergy()])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_refuse_patterns_that_are_not_finite(energy, wrong):
    patterns = np.zeros((70, 3))
    patterns[65, 1] = wrong
    for m in (0, 1):
        with pytest.raises(ValueError, match=re.escape(f"patterns must be finite; got {wrong} at index (65, 1)")):
            energy.weights(np.zeros((m, 3)), patterns)


def test_weights_are_the_same_packed_and_in_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    patterns, queries = rng.standard_normal((8192 + 70, 2)), rng.standard_normal((5, 2))
    expected = hopmin.DistanceEnergy(3.0).weights(queries, patterns)
    monkeypatch.setattr(energy_module, "MAX_SCORES", 1 << 14)  # a chunk for each query
    np.testing.assert_array_equal(hopmin.DistanceEnergy(3.0).weights(queries, patterns), expected)
    np.testing.assert_array_equal(hopmin.DistanceEnergy(3.0).weights(queries, hopmin.Packed(patterns)), expected)
