"""Update until still: where it goes, why it stops, and that what stops there is what the record says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, DotEnergy
from hopmin.testing import problems

FIG1 = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])


@settings(max_examples=60)
@given(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)))
def test_the_energy_never_rises_and_converged_states_are_fixed_points(problem):
    x, p, beta = problem
    for energy in (DistanceEnergy(beta), DotEnergy(beta)):
        found = hopmin.retrieve(x, p, energy, max_steps=200)
        size = max(np.abs(x).max(), np.abs(p).max())
        slack = 1e-14 * (size**2 * p.shape[1] + np.log(len(p)) / beta)
        assert (np.diff(found.energies, axis=0) <= slack).all()
        still = found.reason == "converged"
        moves = np.linalg.norm(energy.update(found.states, p) - found.states, axis=1)
        # the last step was short, and so is the next: no longer, but where the update stretches, as at a saddle
        spread = np.linalg.norm(p[:, None] - p, axis=-1).max()
        stretch = max(1, beta * spread**2 / 2)  # for weights have a variance of at most spread^2 / 4 in any direction
        assert (moves[still] <= stretch * (found.residual[still] + 1e-14 * size * (4 + len(p)))).all()
        assert found.energies.shape == (found.steps.max() + 1, len(x))
        np.testing.assert_array_equal(found.energies[-1], energy.value(found.states, p))


def test_every_pattern_of_figure_1_is_stored_by_the_distance_energy(backend):
    found = hopmin.retrieve(FIG1 + 0.3, FIG1, DistanceEnergy())
    assert found.reason.tolist() == ["converged"] * 3
    assert found.nearest.tolist() == [0, 1, 2]
    assert (hopmin.nearest(found.states, FIG1)[0] < 0.15).all()
    assert (found.effective_patterns < 1.5).all()


def test_the_dot_energy_loses_the_middle_one(backend):
    found = hopmin.retrieve(FIG1, FIG1, DotEnergy())
    assert 1 not in found.nearest.tolist()


def test_a_query_alone_is_its_row_of_the_batch():
    energy = DistanceEnergy(2.0)
    batch = hopmin.retrieve(FIG1 + 0.4, FIG1, energy)
    for i, x in enumerate(FIG1 + 0.4):
        one = hopmin.retrieve(x, FIG1, energy)
        np.testing.assert_array_equal(one.states, batch.states[i])
        assert (one.steps, one.residual, one.reason) == (batch.steps[i], batch.residual[i], batch.reason[i])
        np.testing.assert_array_equal(one.energies, batch.energies[: one.steps + 1, i])
        assert one.nearest == batch.nearest[i]
        np.testing.assert_array_equal(one.weights, batch.weights[i])
        assert one.effective_patterns == pytest.approx(batch.effective_patterns[i], rel=1e-15)


def test_a_fixed_point_need_not_be_a_memory():
    """Halfway between two patterns the update stays where it is, whatever beta."""
    p = np.array([[-1.0, 0.0], [1.0, 0.0]])
    found = hopmin.retrieve([0.0, 0.0], p, DistanceEnergy(100.0))
    assert (found.reason, found.steps, found.effective_patterns) == ("converged", 1, 2.0)
    np.testing.assert_array_equal(found.states, [0.0, 0.0])


def test_a_small_beta_gives_the_mean():
    found = hopmin.retrieve(FIG1[0], FIG1, DistanceEnergy(1e-3))
    np.testing.assert_allclose(found.states, FIG1.mean(axis=0), atol=0.02)
    assert found.effective_patterns == pytest.approx(3, abs=0.01)


def test_steps_run_out():
    found = hopmin.retrieve(FIG1[0] + 1, FIG1, DistanceEnergy(), max_steps=1, tolerance=0)
    assert (found.reason, found.steps, len(found.energies)) == ("max_steps", 1, 2)


def test_a_step_that_does_not_descend_stalls():
    class Restless:
        """Goes round and round at one height, and never quite returns."""

        def value(self, queries, patterns):
            return np.zeros(len(queries))

        def update(self, queries, patterns):
            return queries @ np.array([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]])

        def weights(self, queries, patterns):
            raise NotImplementedError

    found = hopmin.retrieve([[1.0, 0.0]], FIG1, Restless())
    assert found.reason.tolist() == ["stalled"]
    assert found.steps.tolist() == [hopmin.memory.retrieval.PATIENCE]


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_retrieval_ends_far_from_the_origin_too(offset, dtype, backend):
    p = (np.random.default_rng(0).normal(size=(20, 4)) * 8 + offset).astype(dtype)
    found = hopmin.retrieve(p, p, DistanceEnergy(2.0))
    assert set(found.reason.tolist()) == {"converged"}
    np.testing.assert_array_equal(found.nearest, np.arange(20))


def test_damping_takes_part_of_the_way():
    p = np.array([[0.0, 0.0]])
    found = hopmin.retrieve([1.0, 0.0], p, DistanceEnergy(), damping=0.5, max_steps=3)
    np.testing.assert_allclose(found.states, [0.125, 0.0], rtol=1e-15)
    np.testing.assert_allclose(found.energies, [1, 1 / 4, 1 / 16, 1 / 64], rtol=1e-15)


def test_no_queries_need_no_steps():
    found = hopmin.retrieve(np.zeros((0, 2)), FIG1, DistanceEnergy())
    assert (found.states.shape, found.energies.shape, found.steps.shape) == ((0, 2), (1, 0), (0,))


def test_queries_stay_as_they_were():
    x = FIG1 + 0.4
    before = x.copy()
    hopmin.retrieve(x, FIG1, DistanceEnergy())
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"damping": 2}, "damping must be a number in (0, 2); got 2"),
        ({"damping": 0}, "damping must be a number in (0, 2); got 0"),
        ({"tolerance": -1}, "tolerance must be a finite number >= 0; got -1"),
        ({"max_steps": 0}, "max_steps must be an integer >= 1; got 0"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(ValueError) as caught:
        hopmin.retrieve(FIG1, FIG1, DistanceEnergy(), **options)
    assert str(caught.value) == sentence


# What kind of place it is


PAIR = np.array([[-1.0, 0.0], [1.0, 0.0]])


def kinds(queries, patterns, energy, **options):
    found = hopmin.retrieve(queries, patterns, energy, **options)
    return np.atleast_1d(found.kind).tolist()


def test_the_kinds_of_places_between_two_patterns():
    """|D|^2 = 4: one minimum up to beta = 1/2, a saddle between two minima above."""
    assert kinds([[0.3, 0], [0, 0]], PAIR, DistanceEnergy(0.3)) == ["mean", "mean"]
    assert kinds([[0.3, 0], [0, 0]], PAIR, DistanceEnergy(4.0)) == ["pattern", "saddle"]
    assert kinds([[0.3, 0], [0, 0]], PAIR, DotEnergy(8.0)) == ["pattern", "saddle"]
    assert kinds([[0.3, 0], [0, 0]], PAIR, hopmin.EpanechnikovEnergy(0.3)) == ["mean", "mean"]
    assert kinds([[-0.9, 0], [0, 0], [9, 9]], PAIR, hopmin.EpanechnikovEnergy(1.9)) == ["pattern", "mean", "outside"]
    assert kinds([[0.3, 0], [0, 0.5]], PAIR, hopmin.EuclideanEnergy(4.0)) == ["pattern", "saddle"]


def test_a_mixture_is_of_as_many_as_hold_nine_tenths_of_the_weight():
    """Two close pairs, far apart: retrieval from one of each ends between them, wherever copies are stored."""
    p = np.array([[0.0, 0.0], [0.3, 0.0], [9.0, 0.0], [9.3, 0.0], [9.3, 0.0]])
    found = hopmin.retrieve(p, p, DistanceEnergy(2.0))
    assert found.kind.tolist() == ["mixture"] * 5
    assert found.mixture_of.tolist() == [2] * 5  # the copy is no pattern of its own
    assert found.effective_patterns[0] == pytest.approx(2, abs=1e-6)
    assert kinds(p[:1], p[[3, 4]], DistanceEnergy(2.0)) == ["pattern"]


def test_the_kind_agrees_with_the_hessian():
    """Whatever is called a pattern, mixture or mean is a minimum: a push from there comes back."""
    rng = np.random.default_rng(3)
    for beta in (0.2, 0.6, 2.0):
        p = rng.normal(size=(12, 3))
        energy = DistanceEnergy(beta)
        found = hopmin.retrieve(np.concatenate([p, (p[:-1] + p[1:]) / 2]), p, energy, tolerance=1e-13, max_steps=20000)
        assert {"converged", "stalled"} >= set(found.reason.tolist())
        still = np.isin(found.kind, ["pattern", "mixture", "mean"])
        assert still.any()
        assert (np.linalg.eigvalsh(energy.hessian(found.states[still], p))[:, 0] > -1e-5).all()
        push = 1e-3 * rng.normal(size=found.states.shape)
        back = hopmin.retrieve(found.states + push, p, energy, tolerance=1e-13, max_steps=20000)
        moved = np.linalg.norm(back.states - found.states, axis=1)
        assert (moved[still] < 1e-5).all()


def test_unfinished_retrieval_has_no_kind_yet():
    assert kinds(FIG1[0] + 1, FIG1, DistanceEnergy(), max_steps=1, tolerance=0) == ["moving"]


def test_the_margin_is_the_gap_between_the_nearest_two():
    found = hopmin.retrieve([0.9, 0.0], np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), DistanceEnergy(50.0))
    assert (found.nearest, found.margin) == (1, pytest.approx(1.0, abs=1e-12))
    assert hopmin.retrieve([0.9, 0.0], [[1.0, 0.0]], DistanceEnergy()).margin == np.inf
    assert hopmin.retrieve([0.9, 0.0], [[1.0, 0.0]] * 2, DistanceEnergy()).margin == 0


class Synchronous:
    """Two neurons that swap: Hopfield's network of the one pattern (1, -1), updated all at once."""

    binary = True

    def value(self, x, patterns):
        return x[:, 0] * x[:, 1]

    def update(self, x, patterns, clamp=None):
        return np.where(clamp, x, -x[:, ::-1])

    def weights(self, x, patterns):
        return np.ones((len(x), 1))


def test_a_cycle_of_two_is_told_from_rest():
    found = hopmin.retrieve([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]], [[1.0, -1.0]], Synchronous())
    assert found.reason.tolist() == ["cycle", "converged", "converged"]
    assert found.steps.tolist() == [2, 1, 1]
    assert found.kind.tolist() == ["cycle", "pattern", "negated"]


def test_neurons_can_be_clamped():
    found = hopmin.retrieve([1.0, 1.0], [[1.0, -1.0]], Synchronous(), clamp=[True, False])
    assert (found.reason, found.kind, found.states.tolist()) == ("converged", "pattern", [1.0, -1.0])


def test_a_slow_spiral_is_no_cycle():
    """Damping close to 2 swings around the end and comes closer: it must be let go on until it is there."""
    found = hopmin.retrieve([1.0, 0.0], [[0.0, 0.0]], DistanceEnergy(), damping=1.9, max_steps=10_000)
    assert found.reason == "converged"
    assert abs(found.states).max() < 1e-7


# Masks, clamps, values, and the plain gradient


@settings(max_examples=40)
@given(problem=problems(dtypes=("float64",), offsets=(0.0,)), seed=st.integers(0, 2**32))
def test_a_mask_is_a_smaller_memory(problem, seed):
    x, p, beta = problem
    mask = np.random.default_rng(seed).random((len(x), len(p))) < 0.5
    mask[np.arange(len(x)), np.arange(len(x)) % len(p)] = True
    energy = DistanceEnergy(beta)
    found = hopmin.retrieve(x, p, energy, mask=mask, max_steps=50)
    for i, seen in enumerate(mask):
        alone = hopmin.retrieve(x[i], p[seen], energy, max_steps=50)
        np.testing.assert_array_equal(found.states[i], alone.states)
        assert (found.steps[i], found.reason[i], found.residual[i]) == (alone.steps, alone.reason, alone.residual)
        np.testing.assert_array_equal(found.energies[: alone.steps + 1, i], alone.energies)
        assert found.nearest[i] == np.flatnonzero(seen)[alone.nearest]
        assert found.margin[i] == alone.margin
        np.testing.assert_array_equal(found.weights[i, seen], alone.weights)
        assert not found.weights[i, ~seen].any()


def test_one_mask_serves_all_queries():
    found = hopmin.retrieve(FIG1 + 0.1, FIG1, DistanceEnergy(9.0), mask=[True, False, True])
    assert found.nearest.tolist() == [0, 2, 2]
    assert found.kind.tolist() == ["pattern"] * 3


@settings(max_examples=60)
@given(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), seed=st.integers(0, 2**32))
def test_clamped_coordinates_stay_and_the_energy_falls_still(problem, seed):
    """The majorizing parabola is a sum over coordinates: its minimum in some of them is the update's."""
    x, p, beta = problem
    clamp = np.random.default_rng(seed).random(x.shape) < 0.5
    for energy in (DistanceEnergy(beta), DotEnergy(beta)):
        found = hopmin.retrieve(x, p, energy, clamp=clamp, max_steps=100)
        np.testing.assert_array_equal(found.states[clamp], x[clamp])
        size = max(np.abs(x).max(), np.abs(p).max())
        slack = 1e-14 * (size**2 * p.shape[1] + np.log(len(p)) / beta)
        assert (np.diff(found.energies, axis=0) <= slack).all()
        still = found.reason == "converged"
        free_gradient = np.where(clamp, 0, energy.gradient(found.states, p))[still]
        assert (np.linalg.norm(free_gradient, axis=1) <= 2 * found.residual[still] + 1e-14 * size * (4 + len(p))).all()


def test_known_coordinates_complete_a_pattern():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(50, 64))
    known = np.arange(64) < 32
    found = hopmin.retrieve(np.where(known, p, 0), p, DistanceEnergy(2.0), clamp=known)
    np.testing.assert_array_equal(found.nearest, np.arange(50))
    np.testing.assert_array_equal(found.states[:, known], p[:, known])
    assert np.abs(found.states - p).max() < 0.05


def test_a_saddle_on_the_whole_may_be_a_minimum_where_it_is_free():
    """Halfway between two patterns, free to move across the line only."""
    assert kinds([0.0, 0.1], PAIR, DistanceEnergy(4.0), clamp=[True, False]) == ["mean"]
    assert kinds([0.0, 0.1], PAIR, DistanceEnergy(4.0)) == ["saddle"]


@pytest.mark.parametrize("mask", [None, np.ones(3, bool), np.ones((0, 3), bool)])
def test_of_no_queries_everything_can_be_asked(mask):
    found = hopmin.retrieve(np.empty((0, 2)), FIG1, DistanceEnergy(), mask=mask)
    assert [found.weights.shape, found.values.shape] == [(0, 3), (0, 2)]
    for answer in (found.effective_patterns, found.mixture_of, found.nearest, found.margin, found.kind):
        assert answer.shape == (0,)


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1e18])
def test_in_float32_it_is_still_when_it_is_in_float64(scale):
    """Squares of the steps are beyond float32, at either end."""
    x, p = np.array([[0.3, 0.4]]), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    energy = hopmin.EuclideanEnergy(5 / scale)
    exact, single = (hopmin.retrieve((x * scale).astype(t), (p * scale).astype(t), energy) for t in ("f8", "f4"))
    assert single.kind.tolist() == exact.kind.tolist() == ["pattern"]
    assert np.abs(single.states - exact.states).max() < 1e-3 * scale
    assert 0 < single.residual[0] < 1e-3 * scale


def test_values_are_what_the_patterns_stand_for():
    values = [[10.0], [20.0], [30.0]]
    found = hopmin.retrieve(FIG1 + 0.2, FIG1, DistanceEnergy(9.0), values=values)
    np.testing.assert_allclose(found.values, found.weights @ values)
    np.testing.assert_allclose(found.values, values, atol=1e-3)
    one = hopmin.retrieve(FIG1[0], FIG1, DistanceEnergy(9.0))
    np.testing.assert_allclose(one.values, one.states, atol=1e-6)  # a fixed point is its own average


def test_the_gradient_leads_to_the_same_places_more_slowly():
    x = FIG1 + 0.3
    update = hopmin.retrieve(x, FIG1, DistanceEnergy())
    flow = hopmin.retrieve(x, FIG1, DistanceEnergy(), step_size=0.05, max_steps=5000)
    np.testing.assert_allclose(flow.states, update.states, atol=1e-5)
    assert (np.diff(flow.energies, axis=0) <= 1e-15).all()
    assert (flow.steps > update.steps).all()
    half = hopmin.retrieve(x, FIG1, DistanceEnergy(), step_size=0.5, max_steps=1)  # T(x) = x - grad E / 2
    np.testing.assert_allclose(half.states, DistanceEnergy().update(x, FIG1), rtol=1e-14)


def test_too_long_a_gradient_step_climbs_and_says_that_it_stalled():
    found = hopmin.retrieve([0.3, 0.0], PAIR, DistanceEnergy(0.1), step_size=1.4)
    assert found.reason in ("stalled", "cycle")
    assert found.energies.max() > found.energies[0]


@pytest.mark.parametrize("clamp", [None, [True, False]])
@pytest.mark.parametrize(("step_size", "dtype"), [(1e30, "f4"), (1e300, "f4"), (1e30, "f8"), (1e308, "f8")])
def test_a_gradient_step_beyond_floats_is_refused(step_size, dtype, clamp):
    x, p = np.array([0.3, 0.4], dtype), FIG1.astype(dtype)
    with pytest.raises(ValueError, match=r"^queries (and patterns must be small enough to square|must be finite)"):
        hopmin.retrieve(x, p, DistanceEnergy(), step_size=step_size, clamp=clamp)


class Median:
    """A user's own: the sum of the distances to the patterns, lowered by plain averaging towards the nearest two."""

    def value(self, queries, patterns):
        return np.linalg.norm(queries[:, None] - patterns, axis=2).sum(axis=1)

    def update(self, queries, patterns):
        w = self.weights(queries, patterns)
        return w @ patterns

    def weights(self, queries, patterns):
        w = 1 / np.maximum(np.linalg.norm(queries[:, None] - patterns, axis=2), 1e-300)
        return w / w.sum(axis=1, keepdims=True)


def test_an_energy_of_ones_own_works():
    """The geometric median of an equilateral triangle is its centre; of three on a line, the middle one."""
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    found = hopmin.retrieve([[0.1, 0.2]], triangle, Median(), mask=[True] * 3, tolerance=1e-10)
    np.testing.assert_allclose(found.states, [triangle.mean(axis=0)], atol=1e-7)
    assert found.kind.tolist() == ["mean"]  # no Hessian, no saddle
    assert (found.mixture_of, found.margin.round(6)) == ([3], [0.0])


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"mask": [1, 0, 1]}, TypeError, "mask must be booleans; got dtype int64"),
        ({"mask": [True]}, ValueError, "mask must have shape (m, n) or (n,) with m = 3, n = 3; got (1,)"),
        ({"mask": [False] * 3}, ValueError, "mask must allow each query at least one pattern; got none for query 0"),
        ({"clamp": [[True]]}, ValueError, "clamp must have shape (m, d) or (d,) with m = 3, d = 2; got (1, 1)"),
        ({"values": [[1.0]]}, ValueError, "values must have shape (n, v) with n = 3; got (1, 1)"),
        ({"step_size": 0}, ValueError, "step_size must be a finite number > 0; got 0"),
        (
            {"step_size": 0.1, "damping": 0.5},
            ValueError,
            "step_size must be given without damping; got damping = 0.5",
        ),
    ],
)
def test_bad_masks_clamps_and_steps_get_one_sentence(options, error, sentence):
    with pytest.raises(error) as caught:
        hopmin.retrieve(FIG1, FIG1, DistanceEnergy(), **options)
    assert str(caught.value) == sentence


def test_states_of_minus_one_and_one_are_not_damped():
    with pytest.raises(ValueError) as caught:
        hopmin.retrieve([1.0, 1.0], [[1.0, -1.0]], Synchronous(), damping=0.5)
    assert str(caught.value) == "damping and step_size must not be given for a binary energy; got damping = 0.5"
