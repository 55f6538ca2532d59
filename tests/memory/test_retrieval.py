"""Retrieval: fixed points, stopping reasons, the kinds of points, and the options."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, DotEnergy, _check
from hopmin.memory import reduction
from hopmin.testing import problems

FIG1 = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])


@settings(max_examples=60)
@given(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)))
def test_energy_decreases_and_converged_states_are_fixed(problem):
    x, p, beta = problem
    for energy in (DistanceEnergy(beta), DotEnergy(beta)):
        found = hopmin.retrieve(x, p, energy, max_steps=200)
        size = max(np.abs(x).max(), np.abs(p).max())
        slack = 1e-14 * (size**2 * p.shape[1] + np.log(len(p)) / beta)
        assert (np.diff(found.energies, axis=0) <= slack).all()
        converged = found.reason == "converged"
        moves = np.linalg.norm(energy.update(found.states, p) - found.states, axis=1)
        # the next step is no longer than the last, except where the update stretches distances, as at a saddle
        diameter = np.linalg.norm(p[:, None] - p, axis=-1).max()
        stretch = max(1, beta * diameter**2 / 2)  # the variance under the weights is at most diameter^2 / 4
        assert (moves[converged] <= stretch * (found.residual[converged] + 1e-14 * size * (4 + len(p)))).all()
        assert found.energies.shape == (found.steps.max() + 1, len(x))
        np.testing.assert_array_equal(found.energies[-1], energy.value(found.states, p))


def test_distance_energy_stores_every_pattern_of_figure_1(backend):
    found = hopmin.retrieve(FIG1 + 0.3, FIG1, DistanceEnergy())
    assert found.reason.tolist() == ["converged"] * 3
    assert found.nearest.tolist() == [0, 1, 2]
    assert (hopmin.nearest(found.states, FIG1)[0] < 0.15).all()
    assert (found.effective_patterns < 1.5).all()


def test_dot_energy_does_not_store_the_middle_pattern(backend):
    found = hopmin.retrieve(FIG1, FIG1, DotEnergy())
    assert 1 not in found.nearest.tolist()


def test_a_query_gives_the_same_result_alone_as_in_a_batch():
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


def test_a_fixed_point_need_not_be_a_pattern():
    """The midpoint of two patterns is a fixed point for every beta."""
    p = np.array([[-1.0, 0.0], [1.0, 0.0]])
    found = hopmin.retrieve([0.0, 0.0], p, DistanceEnergy(100.0))
    assert (found.reason, found.steps, found.effective_patterns) == ("converged", 1, 2.0)
    np.testing.assert_array_equal(found.states, [0.0, 0.0])


def test_retrieval_ends_at_the_mean_for_small_beta():
    found = hopmin.retrieve(FIG1[0], FIG1, DistanceEnergy(1e-3))
    np.testing.assert_allclose(found.states, FIG1.mean(axis=0), atol=0.02)
    assert found.effective_patterns == pytest.approx(3, abs=0.01)


def test_retrieval_stops_after_max_steps():
    found = hopmin.retrieve(FIG1[0] + 1, FIG1, DistanceEnergy(), max_steps=1, tolerance=0)
    assert (found.reason, found.steps, len(found.energies)) == ("max_steps", 1, 2)


def test_retrieval_stalls_if_the_energy_does_not_decrease():
    class Rotation:
        """An update that rotates by one radian, at constant energy, and never returns exactly."""

        def value(self, queries, patterns):
            return np.zeros(len(queries))

        def update(self, queries, patterns):
            return queries @ np.array([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]])

        def weights(self, queries, patterns):
            raise NotImplementedError

    found = hopmin.retrieve([[1.0, 0.0]], FIG1, Rotation())
    assert found.reason.tolist() == ["stalled"]
    assert found.steps.tolist() == [hopmin.memory.retrieval.PATIENCE]


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_retrieval_converges_far_from_the_origin(offset, dtype, backend):
    p = (np.random.default_rng(0).normal(size=(20, 4)) * 8 + offset).astype(dtype)
    found = hopmin.retrieve(p, p, DistanceEnergy(2.0))
    assert set(found.reason.tolist()) == {"converged"}
    np.testing.assert_array_equal(found.nearest, np.arange(20))


def test_damping_takes_a_fraction_of_the_step():
    p = np.array([[0.0, 0.0]])
    found = hopmin.retrieve([1.0, 0.0], p, DistanceEnergy(), damping=0.5, max_steps=3)
    np.testing.assert_allclose(found.states, [0.125, 0.0], rtol=1e-15)
    np.testing.assert_allclose(found.energies, [1, 1 / 4, 1 / 16, 1 / 64], rtol=1e-15)


def test_an_empty_batch_takes_no_steps():
    found = hopmin.retrieve(np.zeros((0, 2)), FIG1, DistanceEnergy())
    assert (found.states.shape, found.energies.shape, found.steps.shape) == ((0, 2), (1, 0), (0,))


def test_queries_are_not_modified():
    x = FIG1 + 0.4
    before = x.copy()
    hopmin.retrieve(x, FIG1, DistanceEnergy())
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 2}, "damping must be a number in (0, 2); got 2"),
        ({"damping": 0}, "damping must be a number in (0, 2); got 0"),
        ({"tolerance": -1}, "tolerance must be a finite number >= 0; got -1"),
        ({"max_steps": 0}, "max_steps must be an integer >= 1; got 0"),
    ],
)
def test_invalid_options_raise_one_line_errors(options, message):
    with pytest.raises(ValueError) as caught:
        hopmin.retrieve(FIG1, FIG1, DistanceEnergy(), **options)
    assert str(caught.value) == message


# The kind of the final point


PAIR = np.array([[-1.0, 0.0], [1.0, 0.0]])


def kinds(queries, patterns, energy, **options):
    found = hopmin.retrieve(queries, patterns, energy, **options)
    return np.atleast_1d(found.kind).tolist()


def test_kinds_of_points_between_two_patterns():
    """With |D|^2 = 4 there is one minimum up to beta = 1/2, and a saddle between two minima above."""
    assert kinds([[0.3, 0], [0, 0]], PAIR, DistanceEnergy(0.3)) == ["mean", "mean"]
    assert kinds([[0.3, 0], [0, 0]], PAIR, DistanceEnergy(4.0)) == ["pattern", "saddle"]
    assert kinds([[0.3, 0], [0, 0]], PAIR, DotEnergy(8.0)) == ["pattern", "saddle"]
    assert kinds([[0.3, 0], [0, 0]], PAIR, hopmin.EpanechnikovEnergy(0.3)) == ["mean", "mean"]
    assert kinds([[-0.9, 0], [0, 0], [9, 9]], PAIR, hopmin.EpanechnikovEnergy(1.9)) == ["pattern", "mean", "outside"]
    assert kinds([[0.3, 0], [0, 0.5]], PAIR, hopmin.EuclideanEnergy(4.0)) == ["pattern", "saddle"]


def test_mixture_of_counts_the_patterns_holding_the_weight():
    """For two close pairs, far apart, retrieval ends between the patterns of a pair; copies do not count."""
    p = np.array([[0.0, 0.0], [0.3, 0.0], [9.0, 0.0], [9.3, 0.0], [9.3, 0.0]])
    found = hopmin.retrieve(p, p, DistanceEnergy(2.0))
    assert found.kind.tolist() == ["mixture"] * 5
    assert found.mixture_of.tolist() == [2] * 5  # a copy is not a distinct pattern
    assert found.effective_patterns[0] == pytest.approx(2, abs=1e-6)
    assert kinds(p[:1], p[[3, 4]], DistanceEnergy(2.0)) == ["pattern"]


def test_kinds_of_minima_agree_with_the_hessian():
    """States of kind pattern, mixture or mean are minima: retrieval returns to them after a perturbation."""
    rng = np.random.default_rng(3)
    for beta in (0.2, 0.6, 2.0):
        p = rng.normal(size=(12, 3))
        energy = DistanceEnergy(beta)
        found = hopmin.retrieve(np.concatenate([p, (p[:-1] + p[1:]) / 2]), p, energy, tolerance=1e-13, max_steps=20000)
        assert {"converged", "stalled"} >= set(found.reason.tolist())
        minima = np.isin(found.kind, ["pattern", "mixture", "mean"])
        assert minima.any()
        assert (np.linalg.eigvalsh(energy.hessian(found.states[minima], p))[:, 0] > -1e-5).all()
        push = 1e-3 * rng.normal(size=found.states.shape)
        back = hopmin.retrieve(found.states + push, p, energy, tolerance=1e-13, max_steps=20000)
        moved = np.linalg.norm(back.states - found.states, axis=1)
        assert (moved[minima] < 1e-5).all()


def test_kind_is_moving_before_convergence():
    assert kinds(FIG1[0] + 1, FIG1, DistanceEnergy(), max_steps=1, tolerance=0) == ["moving"]


def test_margin_is_the_gap_between_the_two_nearest_patterns():
    found = hopmin.retrieve([0.9, 0.0], np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), DistanceEnergy(50.0))
    assert (found.nearest, found.margin) == (1, pytest.approx(1.0, abs=1e-12))
    assert hopmin.retrieve([0.9, 0.0], [[1.0, 0.0]], DistanceEnergy()).margin == np.inf
    assert hopmin.retrieve([0.9, 0.0], [[1.0, 0.0]] * 2, DistanceEnergy()).margin == 0


class Synchronous:
    """Two neurons that swap: a Hopfield network of the single pattern (1, -1), updated synchronously."""

    binary = True

    def value(self, x, patterns):
        return x[:, 0] * x[:, 1]

    def update(self, x, patterns, clamp=None):
        return np.where(clamp, x, -x[:, ::-1])

    def weights(self, x, patterns):
        return np.ones((len(x), 1))


def test_cycles_of_two_are_distinguished_from_fixed_points():
    found = hopmin.retrieve([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]], [[1.0, -1.0]], Synchronous())
    assert found.reason.tolist() == ["cycle", "converged", "converged"]
    assert found.steps.tolist() == [2, 1, 1]
    assert found.kind.tolist() == ["cycle", "pattern", "negated"]


def test_neurons_of_binary_energies_can_be_clamped():
    found = hopmin.retrieve([1.0, 1.0], [[1.0, -1.0]], Synchronous(), clamp=[True, False])
    assert (found.reason, found.kind, found.states.tolist()) == ("converged", "pattern", [1.0, -1.0])


def test_slow_oscillating_convergence_is_not_a_cycle():
    """With damping close to 2 the state overshoots the fixed point in every step and approaches it slowly."""
    found = hopmin.retrieve([1.0, 0.0], [[0.0, 0.0]], DistanceEnergy(), damping=1.9, max_steps=10_000)
    assert found.reason == "converged"
    assert abs(found.states).max() < 1e-7


# Masks, clamps, values and gradient descent


@settings(max_examples=40)
@given(problem=problems(dtypes=("float64",), offsets=(0.0,)), seed=st.integers(0, 2**32))
def test_a_mask_is_the_same_as_a_smaller_memory(problem, seed):
    """Bit for bit, for the queries of the same mask; a query alone may differ from one in a batch on the twin."""
    x, p, beta = problem
    mask = np.random.default_rng(seed).random((len(x), len(p))) < 0.5
    mask[np.arange(len(x)), np.arange(len(x)) % len(p)] = True
    energy = DistanceEnergy(beta)
    found = hopmin.retrieve(x, p, energy, allowed=mask, max_steps=50)
    for seen in np.unique(mask, axis=0):
        same = (mask == seen).all(axis=1)
        alone = hopmin.retrieve(x[same], p[seen], energy, max_steps=50)
        for name in ("states", "steps", "reason", "residual", "margin"):
            np.testing.assert_array_equal(getattr(found, name)[same], getattr(alone, name))
        np.testing.assert_array_equal(found.energies[: len(alone.energies), same], alone.energies)
        np.testing.assert_array_equal(found.nearest[same], np.flatnonzero(seen)[alone.nearest])
        np.testing.assert_array_equal(found.weights[np.ix_(same, seen)], alone.weights)
        assert not found.weights[np.ix_(same, ~seen)].any()


def test_a_single_mask_applies_to_all_queries():
    found = hopmin.retrieve(FIG1 + 0.1, FIG1, DistanceEnergy(9.0), allowed=[True, False, True])
    assert found.nearest.tolist() == [0, 2, 2]
    assert found.kind.tolist() == ["pattern"] * 3


@settings(max_examples=60)
@given(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), seed=st.integers(0, 2**32))
def test_clamped_coordinates_stay_and_the_energy_decreases(problem, seed):
    """The majorizing parabola is a sum over coordinates, so its minimum in the free ones is that of the update."""
    x, p, beta = problem
    clamp = np.random.default_rng(seed).random(x.shape) < 0.5
    for energy in (DistanceEnergy(beta), DotEnergy(beta)):
        found = hopmin.retrieve(x, p, energy, clamp=clamp, max_steps=100)
        np.testing.assert_array_equal(found.states[clamp], x[clamp])
        size = max(np.abs(x).max(), np.abs(p).max())
        slack = 1e-14 * (size**2 * p.shape[1] + np.log(len(p)) / beta)
        assert (np.diff(found.energies, axis=0) <= slack).all()
        converged = found.reason == "converged"
        free_gradient = np.where(clamp, 0, energy.gradient(found.states, p))[converged]
        assert (np.linalg.norm(free_gradient, axis=1) <= 2 * found.residual[converged] + 1e-14 * size * (4 + len(p))).all()


def test_patterns_are_completed_from_known_coordinates():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(50, 64))
    known = np.arange(64) < 32
    found = hopmin.retrieve(np.where(known, p, 0), p, DistanceEnergy(2.0), clamp=known)
    np.testing.assert_array_equal(found.nearest, np.arange(50))
    np.testing.assert_array_equal(found.states[:, known], p[:, known])
    assert np.abs(found.states - p).max() < 0.05


def test_a_saddle_may_be_a_minimum_in_the_free_coordinates():
    """Halfway between two patterns, with only the orthogonal coordinate free."""
    assert kinds([0.0, 0.1], PAIR, DistanceEnergy(4.0), clamp=[True, False]) == ["mean"]
    assert kinds([0.0, 0.1], PAIR, DistanceEnergy(4.0)) == ["saddle"]


@pytest.mark.parametrize("mask", [None, np.ones(3, bool), np.ones((0, 3), bool)])
def test_all_attributes_exist_for_an_empty_batch(mask):
    found = hopmin.retrieve(np.empty((0, 2)), FIG1, DistanceEnergy(), allowed=mask)
    assert [found.weights.shape, found.values.shape] == [(0, 3), (0, 2)]
    for attribute in (found.effective_patterns, found.mixture_of, found.nearest, found.margin, found.kind):
        assert attribute.shape == (0,)


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1e18])
def test_float32_converges_where_float64_does(scale):
    """The squared steps overflow or underflow in float32."""
    x, p = np.array([[0.3, 0.4]]), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    energy = hopmin.EuclideanEnergy(5 / scale)
    exact, single = (hopmin.retrieve((x * scale).astype(t), (p * scale).astype(t), energy) for t in ("f8", "f4"))
    assert single.kind.tolist() == exact.kind.tolist() == ["pattern"]
    assert np.abs(single.states - exact.states).max() < 1e-3 * scale
    assert 0 < single.residual[0] < 1e-3 * scale


def test_values_are_averaged_by_the_final_weights():
    values = [[10.0], [20.0], [30.0]]
    found = hopmin.retrieve(FIG1 + 0.2, FIG1, DistanceEnergy(9.0), values=values)
    np.testing.assert_allclose(found.values, found.weights @ values)
    np.testing.assert_allclose(found.values, values, atol=1e-3)
    one = hopmin.retrieve(FIG1[0], FIG1, DistanceEnergy(9.0))
    np.testing.assert_allclose(one.values, one.states, atol=1e-6)  # a fixed point is the average of the patterns under its weights


def test_gradient_descent_reaches_the_same_states_later():
    x = FIG1 + 0.3
    update = hopmin.retrieve(x, FIG1, DistanceEnergy())
    flow = hopmin.retrieve(x, FIG1, DistanceEnergy(), step_size=0.05, max_steps=5000)
    np.testing.assert_allclose(flow.states, update.states, atol=1e-5)
    assert (np.diff(flow.energies, axis=0) <= 1e-15).all()
    assert (flow.steps > update.steps).all()
    half = hopmin.retrieve(x, FIG1, DistanceEnergy(), step_size=0.5, max_steps=1)  # T(x) = x - grad E / 2
    np.testing.assert_allclose(half.states, DistanceEnergy().update(x, FIG1), rtol=1e-14)


def test_a_large_step_size_raises_the_energy_and_stalls():
    found = hopmin.retrieve([0.3, 0.0], PAIR, DistanceEnergy(0.1), step_size=1.4)
    assert found.reason in ("stalled", "cycle")
    assert found.energies.max() > found.energies[0]


@pytest.mark.parametrize("clamp", [None, [True, False]])
@pytest.mark.parametrize(("step_size", "dtype"), [(1e30, "f4"), (1e300, "f4"), (1e30, "f8"), (1e308, "f8")])
def test_a_step_size_that_overflows_raises(step_size, dtype, clamp):
    x, p = np.array([0.3, 0.4], dtype), FIG1.astype(dtype)
    with pytest.raises(ValueError, match=r"^queries (and patterns must be small enough to square|must be finite)"):
        hopmin.retrieve(x, p, DistanceEnergy(), step_size=step_size, clamp=clamp)


class Median:
    """A custom energy: the sum of the distances to the patterns, minimized by Weiszfeld's algorithm."""

    def value(self, queries, patterns):
        return np.linalg.norm(queries[:, None] - patterns, axis=2).sum(axis=1)

    def update(self, queries, patterns):
        w = self.weights(queries, patterns)
        return w @ patterns

    def weights(self, queries, patterns):
        w = 1 / np.maximum(np.linalg.norm(queries[:, None] - patterns, axis=2), 1e-300)
        return w / w.sum(axis=1, keepdims=True)


def test_retrieval_accepts_a_custom_energy():
    """The geometric median of an equilateral triangle is its centre."""
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    found = hopmin.retrieve([[0.1, 0.2]], triangle, Median(), allowed=[True] * 3, tolerance=1e-10)
    np.testing.assert_allclose(found.states, [triangle.mean(axis=0)], atol=1e-7)
    assert found.kind.tolist() == ["mean"]  # without a Hessian, saddles are not detected
    assert (found.mixture_of, found.margin.round(6)) == ([3], [0.0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"allowed": [1.0, 0.0, 1.0]}, TypeError, "allowed must be booleans or integers; got dtype float64"),
        ({"allowed": [True]}, ValueError, "allowed must have shape (m, n) or (n,) with m = 3, n = 3; got (1,)"),
        ({"allowed": [False] * 3}, ValueError, "allowed must allow each query at least one pattern; got none for query 0"),
        ({"clamp": [[True]]}, ValueError, "clamp must have shape (m, d) or (d,) with m = 3, d = 2; got (1, 1)"),
        ({"values": [[1.0]]}, ValueError, "values must have shape (n, v) with n = 3; got (1, 1)"),
        ({"step_size": 0}, ValueError, "step_size must be a finite number > 0; got 0"),
        ({"step_size": 0.1, "damping": 0.5}, ValueError, "step_size must be given without damping; got damping = 0.5"),
    ],
)
def test_invalid_masks_clamps_and_step_sizes_raise(options, error, message):
    with pytest.raises(error) as caught:
        hopmin.retrieve(FIG1, FIG1, DistanceEnergy(), **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(("options", "given"), [({"damping": 0.5}, "damping = 0.5"), ({"step_size": 0.1}, "step_size = 0.1")])
def test_binary_energies_refuse_damping_and_step_size(options, given):
    with pytest.raises(ValueError) as caught:
        hopmin.retrieve([1.0, 1.0], [[1.0, -1.0]], Synchronous(), **options)
    assert str(caught.value) == f"damping and step_size must not be given for a binary energy; got {given}"


def test_step_size_needs_a_gradient():
    with pytest.raises(ValueError, match=r"^energy must have a gradient if step_size is given; got <"):
        hopmin.retrieve([[0.1, 0.2]], FIG1, Median(), step_size=0.1)


# Representations


def test_a_representation_tells_why_and_where_queries_stopped():
    p, energy = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), DistanceEnergy(8.0)
    found = hopmin.retrieve([[0.9, 0.2], [0.4, 0.1], [5.0, 5.0]], p, energy)
    steps = f"{found.steps.min()} to {found.steps.max()}"
    expected = f"Retrieval(states (3, 2), energies ({len(found.energies)}, 3), reason converged, steps {steps}, nearest [1 0 2], kind pattern)"
    assert repr(found) == str(found) == expected
    single = hopmin.retrieve([0.9, 0.2], p, energy)
    count = int(single.steps)
    assert repr(single) == f"Retrieval(states (2,), energies ({count + 1},), reason converged, steps {count}, nearest 1, kind pattern)"
    none = hopmin.retrieve(np.zeros((0, 2)), p, energy)
    assert repr(none) == "Retrieval(states (0, 2), energies (1, 0), reason none, steps none, nearest [], kind none)"
    mixed = hopmin.retrieve([[0.9, 0.2], [0.5, 0.0]], p, energy, max_steps=1)
    assert "reason converged (1), max_steps (1), steps 1, " in repr(mixed)


def test_a_representation_of_much_is_short_and_computes_nothing():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(2000, 100))
    found = hopmin.retrieve(p, p, DistanceEnergy(2.0), max_steps=2)
    assert re.fullmatch(r"Retrieval\(states \(2000, 100\), energies \(\d, 2000\), reason \S+, steps [12to ]+\)", repr(found))
    assert not found.__dict__.keys() & {"weights", "kind", "nearest"}
    assert found.nearest[0] == 0
    assert "nearest [   0    1    2 ... 1997 1998 1999]" in repr(found)
    assert len(repr(found)) < 250


@pytest.mark.parametrize("kind", [np.asarray, hopmin.Packed])
@pytest.mark.parametrize("energy", [DistanceEnergy(2.0), DotEnergy(2.0)])
def test_retrieval_packs_and_checks_patterns_once(kind, energy, monkeypatch):
    patterns = np.random.default_rng(0).standard_normal((200, 3))
    given, sizes, packed = kind(patterns), [], []
    finite, pack = _check.finite, reduction._packed_blocks
    monkeypatch.setattr(_check, "finite", lambda name, a, *first: (sizes.append(len(a)), finite(name, a, *first)))
    monkeypatch.setattr(reduction, "_packed_blocks", lambda rows: (packed.append(len(rows)), pack(rows))[1])
    found = hopmin.retrieve(patterns[:2] + 0.1, given, energy, tolerance=0, max_steps=20)
    assert found.steps.max() > 3
    assert packed == ([] if given is not patterns else [200])
    assert sizes.count(200) <= 2


def test_a_mask_retrieves_as_from_the_visible_patterns():
    visible = np.array([True, False, True])
    found = hopmin.retrieve(FIG1 + 0.2, FIG1, DotEnergy(3.0), allowed=visible)
    expected = hopmin.retrieve(FIG1 + 0.2, FIG1[visible], DotEnergy(3.0))
    np.testing.assert_array_equal(found.states, expected.states)
    np.testing.assert_array_equal(found.energies, expected.energies)
