"""The paper's properties, P1 to P20, one after another, on each backend; and the counterexamples that are pinned.

Where a property is a law of hopmin.testing it is called here; where a module's own tests look closer, they are named.
"""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EuclideanEnergy, LayeredMemory, Memory, certify, testing
from hopmin.paper import density
from hopmin.paper.certificates import storing_beta
from hopmin.testing import problems

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
near = problems(dtypes=("float64",), offsets=(0.0, 1.0))
pytestmark = pytest.mark.usefixtures("backend")


def squares(x, p):
    return np.square(x[:, None] - p).sum(axis=2)


def slack(x, p, beta):
    return 1e-10 * (1 + squares(x, p).max() + np.square(x).sum(axis=1).max() + math.log(len(p)) / beta)


def test_p1_softmax_is_the_gradient():
    testing.law_softmax(hopmin.logsumexp, hopmin.softmax, examples=25)


def test_p2_logsumexp_is_convex_and_close_to_the_maximum():
    testing.law_logsumexp(hopmin.logsumexp, examples=50)
    testing.law_softmax_derivative(hopmin.softmax, hopmin.softmax_derivative, examples=25)


@few
@given(testing.scores(), testing.betas())
def test_p3_the_soft_minimum(a, beta):
    soft = -hopmin.logsumexp(-beta * a) / beta
    room = 1e-12 * (1 + np.abs(a).max() + 1 / beta)
    assert a.min() - math.log(len(a)) / beta - room <= soft <= a.min() + room


def test_p4_proposition_1():
    testing.law_bounds(DistanceEnergy, examples=25)


@few
@given(near)
def test_p5_propositions_2_and_3(problem):
    x, p, _ = problem
    energy, dot, shift = DistanceEnergy(1.0).value(x, p), DotEnergy(2.0).value(x, p), math.log(len(p))
    delta, g, room = np.ptp(np.square(p).sum(axis=1)), squares(x, p).min(axis=1), slack(x, p, 1.0)
    gap = 2 * dot - shift - energy
    assert (gap >= -room).all()
    assert (gap <= delta + room).all()
    assert (-delta - room <= g - 2 * dot + shift).all()
    assert (g - 2 * dot + shift <= shift + room).all()


def test_p5_among_equal_norms():
    testing.law_equal_norms(DistanceEnergy, DotEnergy, examples=25)


@pytest.mark.parametrize("energy", [DistanceEnergy, DotEnergy, EuclideanEnergy])
def test_p6_p9_p10_an_update_descends(energy):
    testing.law_descent(energy, examples=40)


@few
@given(near, st.floats(0, 2))
def test_p7_so_does_a_part_of_it(problem, share):
    x, p, beta = problem
    energy = DistanceEnergy(beta)
    step = energy.update(x, p) - x
    fall = energy.value(x, p) - energy.value(x + share * step, p)
    assert (fall >= share * (2 - share) * np.square(step).sum(axis=1) - slack(x, p, beta)).all()


def test_p7_more_than_twice_the_step_may_climb():
    x, p = np.array([[1.0]]), np.array([[0.0]])
    energy = DistanceEnergy()
    assert energy.value(x + 2.1 * (energy.update(x, p) - x), p) > energy.value(x, p)


@few
@given(near)
def test_p8_all_steps_together_are_bounded(problem):
    x, p, beta = problem
    energy, y, total = DistanceEnergy(beta), x, np.zeros(len(x))
    for _ in range(30):
        before, y = y, energy.update(y, p)
        total += np.square(y - before).sum(axis=1)
        assert (p.min(axis=0) - 1e-9 <= y).all()
        assert (y <= p.max(axis=0) + 1e-9).all()
    assert (total <= energy.value(x, p) + math.log(len(p)) / beta + slack(x, p, beta)).all()


def test_p10_the_attention_step_of_the_plain_distance_may_climb():
    """Patterns -1/2 and 1/2, x = .3: from -.2375 to -.2037; Weiszfeld's step goes down."""
    p, x, energy = np.array([[-0.5], [0.5]]), np.array([0.3]), EuclideanEnergy(1.0)
    attention = hopmin.softmax(-np.abs(x - p[:, 0])) @ p
    assert energy.value(x, p) == pytest.approx(-0.2375, abs=5e-5)
    assert energy.value(attention, p) == pytest.approx(-0.2037, abs=5e-5)
    assert energy.value(energy.update(x, p), p) < energy.value(x, p)


# P11, the binary ancestors: tests/memory/test_binary.py. P12, P13, layers: tests/memory/test_layered.py, and here what is pinned.


def test_p12_layers_together_are_one_memory():
    rng = np.random.default_rng(0)
    for beta in (0.1, 1.0, 10.0):
        parts, x = [rng.normal(size=(n, 3)) for n in (1, 4, 2)], rng.normal(size=(20, 3))
        energy = DistanceEnergy(beta)
        together = energy.value(x, np.concatenate(parts))
        np.testing.assert_allclose(LayeredMemory(parts, energy).global_energy(x), together, rtol=1e-12, atol=1e-12)


def test_p12_p13_a_trusted_step_descends_in_its_layer_and_may_climb_in_all():
    memory = LayeredMemory([[[0.0]], [[5.0]]])
    y = memory.layer_step([0.5], 1, trust=1.0)
    assert memory.layer_energies(y)[1] < memory.layer_energies([0.5])[1]
    assert memory.global_energy(y) > memory.global_energy([0.5]) + 1.9


def test_p14_partition_functions():
    """Closed forms in the plane: Z(r) = pi (1 - exp(-r^2)) for one ball, n pi / beta everywhere."""
    assert math.exp(density.log_partition([[1.0, 2.0]], 1.5)) == pytest.approx(math.pi * (1 - math.exp(-2.25)), rel=1e-13)
    assert math.exp(density.log_partition(np.eye(2), beta=3.0)) == pytest.approx(2 * math.pi / 3, rel=1e-14)


@given(st.floats(1e-6, 1e6))
def test_p15_log_z_plus_its_inverse_is_at_least_one(z):
    assert density.paper_cross_entropy(math.log(z)) >= 1 - 1e-15


def test_p16_what_is_certified_is_stored():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(6, 3))
    radius = float(hopmin.separation(p).min()) / 4
    beta = storing_beta(p, radius)
    assert certify(p, radius, beta=beta).stored.all()
    u = rng.normal(size=(6, 3))
    x = p + radius * u / np.linalg.norm(u, axis=1, keepdims=True)
    assert (np.linalg.norm(DistanceEnergy(beta).update(x, p) - p, axis=1) <= radius).all()


@few
@given(near, st.integers(0, 2**32))
def test_p17_what_does_not_matter_and_what_only_lowers(problem, seed):
    x, p, beta = problem
    rng, energy, room = np.random.default_rng(seed), DistanceEnergy(beta), slack(x, p, beta)
    value = energy.value(x, p)
    turn, _ = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))
    np.testing.assert_allclose(energy.value(x @ turn, p @ turn), value, rtol=0, atol=room)
    np.testing.assert_allclose(energy.value(x + 3, p + 3), value, rtol=0, atol=room)
    np.testing.assert_allclose(energy.value(x, np.concatenate([p, p])), value - math.log(2) / beta, rtol=0, atol=room)
    assert (energy.value(x, np.concatenate([p, rng.normal(size=(1, x.shape[1]))])) <= value + room).all()
    sharper = DistanceEnergy(2 * beta)
    assert (sharper.value(x, p) >= value - room).all()
    assert (sharper.value(x, p) + math.log(len(p)) / (2 * beta) <= value + math.log(len(p)) / beta + room).all()


@few
@given(near)
def test_p18_the_update_goes_to_the_nearest_pattern_within_a_bound(problem):
    x, p, beta = problem
    d = squares(x, p)
    first = d.argmin(axis=1)
    apart = np.linalg.norm(p - p[first][:, None], axis=2)
    bound = (apart * np.exp(-beta * (d - d.min(axis=1, keepdims=True)))).sum(axis=1)
    away = np.linalg.norm(DistanceEnergy(beta).update(x, p) - p[first], axis=1)
    assert (away <= bound * (1 + 1e-9) + 1e-12 * np.abs(p).max()).all()


@few
@given(near)
def test_p19_attention_among_keys_of_one_length_is_the_update(problem):
    x, p, _ = problem
    norms = np.linalg.norm(p, axis=1, keepdims=True)
    if norms.min() == 0:
        return
    keys, d = p / norms * norms[0], x.shape[1]
    attention = hopmin.softmax(x @ keys.T / math.sqrt(d), axis=1) @ keys
    size = (np.abs(x).max() + np.abs(keys).max()) ** 2 * d
    room = 1e-13 * (1 + size) * np.abs(keys).max()
    np.testing.assert_allclose(DistanceEnergy(1 / (2 * math.sqrt(d))).update(x, keys), attention, rtol=0, atol=room)


@few
@given(st.integers(0, 2**32), st.floats(-0.9, 0.99), st.floats(-3, 3))
def test_p20_the_gate(seed, gamma, scale):
    rng = np.random.default_rng(seed)
    keys, values = rng.normal(size=(9, 4)), rng.normal(size=(9, 3))
    memory = Memory(keys, values)
    found = memory.lookup(keys * 10**scale, min_similarity=gamma)
    np.testing.assert_array_equal(found.indices, np.arange(9))
    np.testing.assert_array_equal(found.values, values)
    x = rng.normal(size=(30, 4))
    found, unit = memory.lookup(x, min_similarity=gamma), lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
    distances = squares(unit(x), unit(keys)).min(axis=1)
    clear = abs(distances - 2 * (1 - gamma)) > 1e-12
    np.testing.assert_array_equal((found.indices >= 0)[clear], (distances < 2 * (1 - gamma))[clear])
    assert not found.values[found.indices < 0].any()


# Counterexamples


def test_in_a_ball_of_its_own_radius_another_pattern_may_be_nearest():
    assert hopmin.nearest([0.9], [[0.0], [1.2]])[1].tolist() == [1]  # radii 1 and .1 are disjoint; .9 is in the first


def test_proposition_3_as_printed():
    p, x = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([3.0, 0.0])
    assert hopmin.nearest(x, p)[0][0] ** 2 - 2 * DotEnergy(2.0).value(x, p) == pytest.approx(-0.6931, abs=5e-5)


def test_the_regularizer_does_not_make_it_convex():
    p = np.array([[-2.0], [0.0], [1.0]])
    grid = np.linspace(-3, 2, 501)[:, None]
    for energy, least in ((DotEnergy(1.0), -0.62), (DistanceEnergy(1.0), -2.28)):
        assert energy.hessian(grid, p).min() == pytest.approx(least, abs=0.005)


def test_a_cross_entropy_below_one():
    p = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    log_z = density.log_partition(p, 0.1, form="nearest")
    assert density.differential_cross_entropy(np.zeros(3), log_z) == pytest.approx(-2.37, abs=0.005)
