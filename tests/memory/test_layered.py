"""Layered memories: global energy, single layer steps, sequential passes and weighted steps."""

import math

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopmin import DistanceEnergy, DotEnergy, EpanechnikovEnergy, LayeredMemory, Packed, SparseEnergy
from hopmin.testing import betas

PINNED = LayeredMemory([[[0.0]], [[5.0]]])


@st.composite
def stacks(draw, energies=(DistanceEnergy,)):
    """Queries (m, d) and a layered memory of 1 to 4 layers, of any beta."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    d, scale = draw(st.integers(1, 4)), 10.0 ** draw(st.integers(-1, 1))
    layers = [rng.normal(size=(rng.integers(1, 5), d)) * scale for _ in range(draw(st.integers(1, 4)))]
    energy = draw(st.sampled_from(energies))(beta=draw(betas()))
    return rng.normal(size=(3, d)) * scale * 2, LayeredMemory(layers, energy)


def slack(x, memory, ulps=64):
    size = max(np.abs(x).max(), max(np.abs(p).max() for p in memory.layers))
    return ulps * np.finfo(float).eps * (x.shape[-1] * size**2 * 9 + (1 + math.log(9)) / memory.beta)


@settings(max_examples=60)
@given(stacks())
def test_global_energy_is_that_of_all_patterns_together(stack):
    x, memory = stack
    union = np.concatenate(memory.layers)
    expected = [helpers.distance_energy(row, union, memory.beta) for row in x]
    np.testing.assert_allclose(memory.global_energy(x), expected, rtol=0, atol=slack(x, memory))
    np.testing.assert_allclose(
        memory.weighted_step(x), memory.energy.update(x, union), rtol=1e-9, atol=1e-9 * np.abs(union).max()
    )


@settings(max_examples=60)
@given(stacks((DistanceEnergy, DotEnergy)))
def test_global_energy_lies_just_below_the_lowest_layer_energy(stack):
    """Equation 8, with <= for <."""
    x, memory = stack
    lowest = memory.layer_energies(x).min(axis=0)
    assert (memory.global_energy(x) <= lowest + slack(x, memory)).all()
    assert (memory.global_energy(x) >= lowest - math.log(len(memory)) / memory.beta - slack(x, memory)).all()
    np.testing.assert_allclose(memory.responsibilities(x).sum(axis=0), 1, rtol=1e-14)


@settings(max_examples=60)
@given(stacks((DistanceEnergy, DotEnergy, lambda beta: SparseEnergy(1.5, beta))), st.floats(0, 9))
def test_layer_step_stays_in_the_trust_region_and_descends(stack, trust):
    x, memory = stack
    for t in range(len(memory)):
        whole = memory.layer_step(x, t)
        np.testing.assert_array_equal(whole, memory.energy.update(x, memory.layers[t]))
        y = memory.layer_step(x, t, trust=trust)
        assert (np.linalg.norm(y - x, axis=1) <= math.sqrt(trust) + 1e-14 * np.abs(x).max()).all()
        before, after = (memory.layer_energies(s)[t] for s in (x, y))
        assert (after <= before + slack(x, memory)).all()
        inside = np.square(whole - x).sum(axis=1) <= trust * (1 - 1e-12)
        np.testing.assert_allclose(y[inside], whole[inside], rtol=1e-12, atol=1e-12 * np.abs(x).max())
        # no point of the region is closer to T(x): the step ends on the way there
        lengths = np.linalg.norm(whole - x, axis=1)
        np.testing.assert_allclose(
            np.linalg.norm(whole - y, axis=1),
            np.maximum(0, lengths - math.sqrt(trust)),
            atol=1e-9 * (1 + lengths.max()),
        )


@settings(max_examples=80)
@given(stacks((DistanceEnergy, DotEnergy, lambda beta: SparseEnergy(2.0, beta))))
def test_weighted_step_lowers_the_global_energy_as_guaranteed(stack):
    x, memory = stack
    y = memory.weighted_step(x)
    fall = memory.global_energy(x) - memory.global_energy(y)
    assert (fall >= memory.energy.guaranteed_decrease(x, y) - 4 * slack(x, memory)).all()


@settings(max_examples=80)
@given(stacks((DistanceEnergy, DotEnergy)), st.integers(0, 2**32), st.floats(-3, 1))
def test_surrogate_majorizes_the_global_energy(stack, seed, reach):
    x, memory = stack
    y = x + np.random.default_rng(seed).normal(size=x.shape) * np.abs(x).max() * 10**reach
    atol = 4 * slack(np.concatenate([x, y]), memory)
    np.testing.assert_allclose(memory.surrogate(x, x), memory.global_energy(x), rtol=0, atol=atol)
    assert (memory.surrogate(y, x) >= memory.global_energy(y) - atol).all()


@given(st.integers(0, 2**32))
def test_surrogate_keeps_its_digits_where_energies_are_large(seed):
    """beta E is 1e9, so that a responsibility from the difference of two such numbers has lost nine of its digits."""
    layers = 1000 + np.random.default_rng(seed).normal(size=(3, 1, 1)) * 1e-6
    memory, x = LayeredMemory(layers, DistanceEnergy(1000.0)), np.array([[0.0]])
    np.testing.assert_allclose(memory.surrogate(x, x), memory.global_energy(x), rtol=16 * np.finfo(float).eps)


@settings(max_examples=60)
@given(stacks(), st.none() | st.floats(0, 9))
def test_pass_records_all_steps_and_keeps_its_bounds(stack, trust):
    x, memory = stack
    trace, L = memory.sequential_pass(x, trust=trust), len(memory)
    assert trace.states.shape == (L + 1, *x.shape)
    assert trace.layer_energies.shape == (L + 1, L, len(x))
    for t in range(L):
        np.testing.assert_array_equal(trace.states[t + 1], memory.layer_step(trace.states[t], t, trust=trust))
        np.testing.assert_array_equal(trace.layer_energies[t], memory.layer_energies(trace.states[t]))
        np.testing.assert_array_equal(trace.global_energies[t], memory.global_energy(trace.states[t]))
    assert (np.diff(trace.global_energies, axis=0) <= trace.bounds + slack(x, memory)).all()
    w = np.array([memory.responsibilities(s)[t] for t, s in enumerate(trace.states[:-1])])
    normal = w >= np.finfo(float).tiny  # subnormal responsibilities have lost digits
    expected = -np.log(w[normal]) / memory.beta
    np.testing.assert_allclose(trace.bounds[normal], expected, rtol=1e-6, atol=slack(x, memory))
    one = memory.sequential_pass(x[1], trust=trust)
    for batch, part, axis in zip(trace, one, (1, 2, 1, 1), strict=True):
        np.testing.assert_allclose(part, np.take(batch, 1, axis=axis), rtol=1e-12, atol=slack(x, memory))


def test_a_layer_step_may_raise_the_global_energy():
    """With layers of the single patterns 0 and 5, the step from 0.5 to 1.5 raises it from 0.25 to 2.25."""
    y = PINNED.layer_step([0.5], 1, trust=1.0)
    np.testing.assert_allclose(y, [1.5], rtol=1e-15)
    assert PINNED.global_energy([0.5]) == pytest.approx(0.25, abs=1e-8)
    assert PINNED.global_energy(y) == pytest.approx(2.25, abs=1e-4)
    assert PINNED.layer_energies([0.5]).tolist() == [0.25, 20.25]
    assert PINNED.layer_energies(y).tolist() == [2.25, 12.25]


def test_a_layer_energy_does_not_majorize_the_global_one():
    """It lies above, but the gap is not smallest where the step starts, so it does not touch there."""
    gaps = [PINNED.layer_energies([s])[1] - PINNED.global_energy([s]) for s in (0.5, 1.5)]
    assert gaps[1] < gaps[0] - 9


def test_layers_of_dot_energies_are_not_one_flat_memory():
    """Each layer has its own additive constants."""
    memory = LayeredMemory([[[1.0]], [[2.0]]], DotEnergy())
    assert abs(memory.global_energy([0.5]) - DotEnergy().value([0.5], [[1.0], [2.0]])) > 0.1


def test_a_custom_energy_without_beta_gets_beta_one():
    class Mean:
        def value(self, queries, patterns):
            return np.square(np.asarray(queries) - patterns.mean(axis=0)).sum(axis=-1)

        def update(self, queries, patterns):
            return np.broadcast_to(patterns.mean(axis=0), np.shape(queries))

        def weights(self, queries, patterns):
            return np.full((len(queries), len(patterns)), 1 / len(patterns))

    memory = LayeredMemory([[[0.0], [2.0]], [[5.0]]], Mean())
    assert memory.beta == 1
    np.testing.assert_allclose(memory.sequential_pass([[3.0]]).states.ravel(), [3, 1, 5])
    assert memory.global_energy([1.0]) == pytest.approx(-math.log(1 + math.exp(-16)), abs=1e-15)


def test_responsibilities_are_equal_outside_every_reach():
    memory = LayeredMemory([[[0.0]], [[5.0]]], EpanechnikovEnergy())
    x = [[0.5], [50.0]]  # within reach of the first layer only; of no layer
    np.testing.assert_array_equal(memory.global_energy(x), [-math.log1p(-0.125), math.inf])
    np.testing.assert_array_equal(memory.responsibilities(x), [[1, 0.5], [0, 0.5]])
    np.testing.assert_array_equal(memory.weighted_step(x), [[0], [50]])
    np.testing.assert_array_equal(memory.surrogate(x, x), memory.global_energy(x))
    trace = memory.sequential_pass(x)
    np.testing.assert_array_equal(trace.states[:, :, 0], [[0.5, 50], [0, 50], [0, 50]])
    np.testing.assert_array_equal(trace.bounds, [[0, math.log(2)], [math.inf, math.log(2)]])
    assert memory.responsibilities(x[1]).tolist() == [0.5, 0.5]


def test_layers_are_copied():
    patterns = np.zeros((2, 1))
    memory = LayeredMemory([patterns])
    patterns += 7
    assert memory.global_energy([7.0]) > 40


def test_float32_stays_float32():
    memory = LayeredMemory([np.float32([[0.0]]), np.float32([[5.0]])])
    x = np.float32([[0.5]])
    assert memory.layer_step(x, 0, trust=0.1).dtype == memory.weighted_step(x).dtype == np.float32


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: LayeredMemory([]), "layers must hold at least one array of patterns; got none"),
        (lambda: LayeredMemory([[[0.0]], [[1.0, 2.0]]]), "layers[1] must have shape (n, d) with d = 1; got (1, 2)"),
        (lambda: PINNED.layer_step([0.0], 2), "layer must be an integer from 0 to 1; got 2"),
        (lambda: PINNED.layer_step([0.0], 0, trust=-1), "trust must be a finite number >= 0; got -1"),
        (lambda: PINNED.global_energy([math.nan]), "queries must be finite; got nan at index (0, 0)"),
    ],
)
def test_invalid_arguments_raise_one_line_errors(attempt, message):
    with pytest.raises(ValueError) as caught:
        attempt()
    assert str(caught.value) == message


def test_a_representation_is_short():
    one, many = LayeredMemory([[[0.0]], [[5.0]]]), LayeredMemory([np.zeros((1 + i % 3, 2)) for i in range(500)])
    assert repr(one) == "LayeredMemory(2 layers of 1 pattern, d = 1, DistanceEnergy(beta=1.0))"
    assert repr(LayeredMemory([[[1.0]]])) == "LayeredMemory(1 layer of 1 pattern, d = 1, DistanceEnergy(beta=1.0))"
    assert repr(Packed([[1.0]])) == "Packed(1 pattern, d = 1, float64)"
    assert repr(many) == "LayeredMemory(500 layers of 1 to 3 patterns, d = 2, DistanceEnergy(beta=1.0))"
