"""The paper's statements, on instances that Hypothesis draws, on each backend; pinned counterexamples; related bounds.

The statements are the properties of `hopmin.paper.properties`. Those that fail as printed fail here on the pinned
instance that shows why.
"""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EuclideanEnergy, LayeredMemory, Memory, testing
from hopmin.paper import density, properties
from hopmin.paper.certificates import storing_beta
from hopmin.paper.claims import CLAIMS
from hopmin.paper.scaling import ModelShape
from hopmin.testing import problems

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
exact_scores = partial(testing.scores, dtypes=("float64",))
near = problems(dtypes=("float64",), offsets=(0.0, 1.0))
pytestmark = pytest.mark.usefixtures("backend")


def check(outcome):
    assert outcome.holds, outcome


@st.composite
def layered(draw):
    """Queries, anchors, a memory of one to five layers, and one of its layers."""
    x, p, beta = draw(near)
    count = draw(st.integers(1, min(5, len(p))))
    anchors = x + 10 ** draw(st.floats(-3, 1)) * np.random.default_rng(0).normal(size=x.shape)
    memory = LayeredMemory([p[t::count] for t in range(count)], DistanceEnergy(beta))
    return x, anchors, memory, draw(st.integers(0, count - 1))


@st.composite
def in_balls(draw):
    """Queries (5, d) in the ball of one pattern, its index, and the patterns and radius of disjoint balls."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p = rng.normal(size=(draw(st.integers(2, 8)), draw(st.integers(1, 5)))) * 10 ** draw(st.floats(-1, 1))
    radius = float(hopmin.separation(p).min()) * draw(st.floats(0.02, 0.499))
    own, u = draw(st.integers(0, len(p) - 1)), rng.normal(size=(5, p.shape[1]))
    directions = u / np.linalg.norm(u, axis=1, keepdims=True)
    return p[own] + radius * rng.choice([0.0, 0.5, 0.9, 0.999], (5, 1)) * directions, p, radius, own


# Appendices C and D


@few
@given(exact_scores(), exact_scores(), st.floats(0, 1), testing.betas())
def test_lemmas_on_logsumexp(a, b, weight, beta):
    b = np.resize(b, a.shape)
    check(properties.lemma_1(a, b, weight))
    check(properties.lemma_2(a))
    check(properties.lemma_3(a, beta=beta))
    check(properties.lemma_4(a, b))


@few
@given(exact_scores(10.0), st.integers(0, 2**32))
def test_softmax_is_the_gradient_of_logsumexp(a, seed):
    check(properties.softmax_is_gradient(a, np.random.default_rng(seed).normal(size=a.shape)))


@few
@given(st.integers(1, 500), st.floats(-3, 2))
def test_lemma_on_the_incomplete_gamma_function(n, exponent):
    check(properties.lemma_5(n, 10**exponent))


# Sections 3 and 4.1: energies


@pytest.mark.parametrize(
    "statement",
    [
        properties.proposition_1,
        properties.proposition_2,
        properties.proposition_3,
        properties.update_lowers_energy,
        properties.density_is_mixture,
        properties.cross_entropy_identity,
    ],
    ids=lambda statement: statement.__name__,
)
@few
@given(near)
def test_energies_at_every_beta(statement, problem):
    check(statement(problem.queries, problem.patterns, beta=problem.beta))


@few
@given(near)
def test_distance_is_zero_exactly_at_the_patterns(problem):
    check(properties.distance_to_patterns(problem.queries, problem.patterns))


@few
@given(near)
def test_flat_energy_is_convex(problem):
    x, p, _ = problem
    if (p != p[0]).any():
        check(properties.flat_energy_is_convex(x, p))


@few
@given(near)
def test_attention_among_keys_of_one_length_is_the_update(problem):
    x, p, _ = problem
    norms = np.linalg.norm(p, axis=1, keepdims=True)
    if norms.min() > 0:
        check(properties.attention_is_update(x, p / norms * norms[0]))


# Definition 1 and equation 5: balls


@few
@given(in_balls(), testing.betas())
def test_nearest_pattern_stands_for_the_energy_in_balls(instance, beta):
    x, p, radius, own = instance
    check(properties.own_pattern_is_nearest(x, p, radius, own))
    check(properties.nearest_replaces_energy(x, p, radius, own, beta=beta))


@few
@given(in_balls(), st.floats(1, 10))
def test_certified_balls_are_stored(instance, sharper):
    x, p, radius, own = instance
    check(properties.certified_ball_is_stored(x, x[::-1], p, radius, own, beta=sharper * storing_beta(p, radius)))


# Section 4.2: layers


@settings(few, max_examples=10)  # eight properties each
@given(layered(), st.floats(0, 4))
def test_layers_and_their_global_energy(instance, trust):
    x, anchors, memory, layer = instance
    check(properties.layer_step_lowers_its_energy(x, memory, layer, trust))
    check(properties.weighted_step_lowers_global_energy(x, memory))
    check(properties.layer_step_raises_at_most(x, memory))
    check(properties.surrogate_majorizes(x, anchors, memory))
    check(properties.global_energy_is_soft_minimum(x, memory))
    check(properties.global_energy_is_flat(x, memory))
    check(properties.some_layer_is_lowest(x, memory))
    check(properties.layer_partitions_add_up(x, memory))


# Section 5: densities


@few
@given(st.integers(1, 5000), st.floats(-3, 2))
def test_integrals_over_balls_lie_between_their_bounds(dimension, exponent):
    check(properties.equation_14(dimension, 10**exponent))
    check(properties.paper_radius_is_close(dimension))


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("radius", [0.3, 1.0, 2.0])
def test_integrals_over_balls_by_sampling(dimension, radius):
    check(properties.ball_integral(dimension, radius, np.random.default_rng(0).random(4000)))


@few
@given(in_balls(), testing.betas())
def test_cross_entropy_in_balls_is_log_z_plus_the_mean_energy(instance, beta):
    x, p, radius, _ = instance
    check(properties.cross_entropy_identity(x, p, radius, beta=beta))


@given(st.floats(-1e3, 1e3))
def test_log_z_plus_its_inverse_is_at_least_one(log_z):
    check(properties.proposition_4_inequality(log_z))


@few
@given(st.builds(ModelShape, st.integers(1, 96), st.integers(1, 4096), st.integers(1, 4096)))
def test_the_parameter_bound_is_necessary(shape):
    check(properties.proposition_5(shape))


# Section 6 and appendix E


@pytest.mark.parametrize("statement", [properties.parameters_per_layer, properties.table_3, properties.plateau_is_entropy])
def test_numbers_of_the_experiments(statement):
    check(statement())


# Counterexamples to statements as printed

FAR_LAYERS = LayeredMemory([[[0.0]], [[5.0]]])
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
COUNTEREXAMPLES = {
    properties.lemma_2_as_printed: ([0.0, -1e3],),
    properties.lemma_3_as_printed: ([0.0, 1e3],),
    properties.proposition_3_as_printed: ([3.0, 0.0], [[1.0, 0.0], [-1.0, 0.0]]),
    properties.mchn_is_convex_as_printed: ([-0.2], [[-2.0], [0.0], [1.0]]),
    properties.attention_is_update: ([1.0], [[1.0], [2.0]]),  # keys of different lengths
    properties.disjoint_ball_is_stored_as_printed: ([0.0], [[0.0], [1.0]], 0.2, 0),
    properties.own_pattern_is_nearest: ([0.9], [[0.0], [1.2]], [1.0, 0.1], 0),
    properties.nearest_replaces_energy_as_printed: ([0.45], [[0.0], [1.0]], 0.45, 0),
    properties.layer_step_lowers_global_energy_as_printed: ([0.5], FAR_LAYERS, 1, 1.0),
    properties.layer_majorizes_as_printed: ([2.5], [0.0], FAR_LAYERS, 1),
    properties.one_layer_is_lowest_as_printed: ([5.0], [0.0], FAR_LAYERS),
    properties.equation_12_as_printed: (5, 2.0),
    properties.equation_14_as_printed: (5, 2.0),
    properties.volume_is_one_as_printed: (1024,),
    properties.proposition_4_as_printed: (CORNERS, 0.1),
    properties.proposition_5_as_printed: (1024,),
}


@pytest.mark.parametrize("statement", COUNTEREXAMPLES, ids=lambda statement: statement.__name__)
def test_statement_as_printed_has_a_counterexample(statement):
    outcome = statement(*COUNTEREXAMPLES[statement])
    assert not outcome.holds
    assert outcome.instance


def test_every_failing_claim_has_a_pinned_counterexample():
    assert {row.check.statement for row in CLAIMS if row.corrected} == set(COUNTEREXAMPLES)


def test_a_margin_that_is_nan_fails():
    assert not properties.Outcome(math.nan, 1.0).holds
    assert not properties.proposition_4_inequality(math.nan).holds


def test_the_values_of_the_counterexamples():
    p, x = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([3.0, 0.0])
    assert hopmin.nearest(x, p)[0][0] ** 2 - 2 * DotEnergy(2.0).value(x, p) == pytest.approx(-0.6931, abs=5e-5)
    assert hopmin.nearest([0.9], [[0.0], [1.2]])[1].tolist() == [1]
    log_z = density.log_partition(CORNERS, 0.1, form="nearest")
    assert density.differential_cross_entropy(np.zeros(3), log_z) == pytest.approx(-2.37, abs=0.005)


def test_neither_energy_is_convex_among_three_patterns():
    p = np.array([[-2.0], [0.0], [1.0]])
    grid = np.linspace(-3, 2, 501)[:, None]
    for energy, least in ((DotEnergy(1.0), -0.62), (DistanceEnergy(1.0), -2.28)):
        assert energy.hessian(grid, p).min() == pytest.approx(least, abs=0.005)


def test_trusted_step_may_raise_the_global_energy():
    y = FAR_LAYERS.layer_step([0.5], 1, trust=1.0)
    assert FAR_LAYERS.layer_energies(y)[1] < FAR_LAYERS.layer_energies([0.5])[1]
    assert FAR_LAYERS.global_energy(y) > FAR_LAYERS.global_energy([0.5]) + 1.9


# Related bounds that the paper does not state


def squares(x, p):
    return np.square(x[:, None] - p).sum(axis=2)


def rounding(x, p, beta):
    return 1e-10 * (1 + squares(x, p).max() + np.square(x).sum(axis=1).max() + math.log(len(p)) / beta)


@pytest.mark.parametrize("energy", [DistanceEnergy, DotEnergy, EuclideanEnergy])
def test_updates_descend(energy):
    testing.law_descent(energy, examples=40)


@few
@given(near)
def test_dot_energy_lies_above_the_distance_energy(problem):
    """0 <= 2 E_MCHN - log(n) / beta - E <= Delta: proposition 2, one-sided."""
    x, p, beta = problem
    gap = 2 * DotEnergy(2 * beta).value(x, p) - math.log(len(p)) / beta - DistanceEnergy(beta).value(x, p)
    delta, slack = np.ptp(np.square(p).sum(axis=1)), rounding(x, p, beta)
    assert (gap >= -slack).all()
    assert (gap <= delta + slack).all()


def test_energies_agree_among_equal_norms():
    testing.law_equal_norms(DistanceEnergy, DotEnergy, examples=25)


@few
@given(near, st.floats(0, 2))
def test_partial_steps_descend(problem, fraction):
    """E(x) - E(x + t (T(x) - x)) >= t (2 - t) |x - T(x)|^2."""
    x, p, beta = problem
    energy = DistanceEnergy(beta)
    step = energy.update(x, p) - x
    decrease = energy.value(x, p) - energy.value(x + fraction * step, p)
    least = fraction * (2 - fraction) * np.square(step).sum(axis=1)
    assert (decrease >= least - rounding(x, p, beta)).all()


def test_more_than_twice_the_step_may_ascend():
    x, p = np.array([[1.0]]), np.array([[0.0]])
    energy = DistanceEnergy()
    assert energy.value(x + 2.1 * (energy.update(x, p) - x), p) > energy.value(x, p)


@few
@given(near)
def test_the_sum_of_squared_steps_is_bounded(problem):
    x, p, beta = problem
    energy, y, total = DistanceEnergy(beta), x, np.zeros(len(x))
    for _ in range(30):
        before, y = y, energy.update(y, p)
        total += np.square(y - before).sum(axis=1)
        assert (p.min(axis=0) - 1e-9 <= y).all()
        assert (y <= p.max(axis=0) + 1e-9).all()
    assert (total <= energy.value(x, p) + math.log(len(p)) / beta + rounding(x, p, beta)).all()


def test_attention_step_may_raise_the_euclidean_energy():
    """Patterns -1/2 and 1/2, x = .3: from -.2375 to -.2037; Weiszfeld's step descends."""
    p, x, energy = np.array([[-0.5], [0.5]]), np.array([0.3]), EuclideanEnergy(1.0)
    attention = hopmin.softmax(-np.abs(x - p[:, 0])) @ p
    assert energy.value(x, p) == pytest.approx(-0.2375, abs=5e-5)
    assert energy.value(attention, p) == pytest.approx(-0.2037, abs=5e-5)
    assert energy.value(energy.update(x, p), p) < energy.value(x, p)


def test_partition_functions_in_the_plane():
    """Z(r) = pi (1 - exp(-r^2)) for one ball, n pi / beta everywhere."""
    ball = density.log_partition([[1.0, 2.0]], 1.5)
    assert math.exp(ball) == pytest.approx(math.pi * (1 - math.exp(-2.25)), rel=1e-13)
    assert math.exp(density.log_partition(np.eye(2), beta=3.0)) == pytest.approx(2 * math.pi / 3, rel=1e-14)


@few
@given(near, st.integers(0, 2**32))
def test_symmetries_and_monotonicity_of_the_energy(problem, seed):
    """Invariant under rotations and shifts; duplicates lower it by log(2) / beta; it falls with every new pattern.

    It rises with beta, and E + log(n) / beta falls.
    """
    x, p, beta = problem
    rng, energy, slack = np.random.default_rng(seed), DistanceEnergy(beta), rounding(x, p, beta)
    value = energy.value(x, p)
    turn, _ = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))
    np.testing.assert_allclose(energy.value(x @ turn, p @ turn), value, rtol=0, atol=slack)
    np.testing.assert_allclose(energy.value(x + 3, p + 3), value, rtol=0, atol=slack)
    np.testing.assert_allclose(energy.value(x, np.concatenate([p, p])), value - math.log(2) / beta, rtol=0, atol=slack)
    assert (energy.value(x, np.concatenate([p, rng.normal(size=(1, x.shape[1]))])) <= value + slack).all()
    sharper = DistanceEnergy(2 * beta)
    assert (sharper.value(x, p) >= value - slack).all()
    assert (sharper.value(x, p) + math.log(len(p)) / (2 * beta) <= value + math.log(len(p)) / beta + slack).all()


@few
@given(near)
def test_update_ends_near_the_nearest_pattern(problem):
    """|T(x) - p_i| <= sum_j |p_j - p_i| exp(-beta (|x - p_j|^2 - |x - p_i|^2)), with p_i the nearest pattern."""
    x, p, beta = problem
    d = squares(x, p)
    first = d.argmin(axis=1)
    apart = np.linalg.norm(p - p[first][:, None], axis=2)
    bound = (apart * np.exp(-beta * (d - d.min(axis=1, keepdims=True)))).sum(axis=1)
    away = np.linalg.norm(DistanceEnergy(beta).update(x, p) - p[first], axis=1)
    assert (away <= bound * (1 + 1e-9) + 1e-12 * np.abs(p).max()).all()


@few
@given(st.integers(0, 2**32), st.floats(-0.9, 0.99), st.floats(-3, 3))
def test_memory_looks_up_within_its_similarity_threshold(seed, gamma, scale):
    """cos > gamma is |u - v|^2 < 2 (1 - gamma) for unit vectors; stored keys are found at any scale."""
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


# A bound that is attained cannot be larger than stated


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    ("statement", "instance"),
    [
        (properties.lemma_3, ([0.25, 0.25, 0.25],)),  # equal numbers: log(n) / beta below the least
        (properties.update_lowers_energy, ([3.0, -1.0], [[0.5, 2.0]])),  # one pattern: exactly |x - T(x)|^2
        (properties.proposition_2, ([-10.0], [[0.0], [10.0]])),  # the shortest pattern has all the weight
    ],
)
def test_bounds_are_attained(statement, instance, beta):
    outcome = statement(*instance, beta=beta)
    assert outcome.holds
    assert abs(outcome.margin) <= 1e-10
