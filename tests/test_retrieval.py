"""Update until still: where it goes, why it stops, and that what stops there is what the record says."""

import numpy as np
import pytest
from hypothesis import given, settings

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
        # the last step was short; a contraction makes the next one no longer
        assert (moves[still] <= found.residual[still] + 1e-14 * size * (4 + len(p))).all()
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
        ({"damping": 2}, "damping must be a number in (0, 2); got 2.0"),
        ({"damping": 0}, "damping must be a finite number > 0; got 0"),
        ({"tolerance": -1}, "tolerance must be a finite number >= 0; got -1"),
        ({"max_steps": 0}, "max_steps must be a whole number >= 1; got 0"),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(ValueError) as caught:
        hopmin.retrieve(FIG1, FIG1, DistanceEnergy(), **options)
    assert str(caught.value) == sentence
