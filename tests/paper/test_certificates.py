"""Certified balls are mapped into themselves, contract, and hold one fixed point."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy
from hopmin.paper.certificates import certify, convex_beta, storing_beta

TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


def in_ball(rng, centre, radius, size):
    """Draw points inside the ball and on its boundary."""
    u = rng.normal(size=(size, len(centre)))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    return centre + radius * rng.choice([0.0, 0.5, 0.9, 1.0], (size, 1)) * u


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.floats(-1, 2), st.floats(0.02, 0.49))
def test_certified_patterns_are_stored(seed, exponent, fraction):
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(rng.integers(1, 8), rng.integers(1, 5)))
    radius = fraction * min(float(hopmin.separation(p).min()), 10.0)
    beta = 10**exponent
    found = certify(p, radius, beta=beta)
    energy = DistanceEnergy(beta)
    for i in np.flatnonzero(found.stored):
        x = in_ball(rng, p[i], radius, 20)
        y = energy.update(x, p)
        assert (np.linalg.norm(y - p[i], axis=1) <= found.drift[i] + 1e-12).all()
        assert found.drift[i] <= radius
        before, after = (np.linalg.norm(a - a[::-1], axis=1) for a in (x, y))
        assert (after <= found.contraction[i] * before + 1e-12).all()
        ends = hopmin.retrieve(x, p, energy, tolerance=1e-14, max_steps=20_000).states
        assert np.abs(ends - ends[0]).max() <= 1e-6 / (1 - found.contraction[i])
        assert np.linalg.norm(ends[0] - p[i]) <= found.drift[i] + 1e-6


def test_certificate_matches_the_formula():
    """Two patterns at distance 1, radius .1: w = exp(-.8 beta)."""
    for beta in (0.5, 2.0, 8.0):
        w = math.exp(-0.8 * beta)
        found = certify([[0.0], [1.0]], 0.1, beta=beta)
        np.testing.assert_allclose(found.drift, w, rtol=1e-14)
        np.testing.assert_allclose(found.contraction, 2 * beta * w, rtol=1e-14)
        assert found.stored.tolist() == [w <= 0.1 and 2 * beta * w < 1] * 2


def test_disjoint_balls_alone_do_not_store():
    """Radius .45 around 0 and 1: from .45 retrieval at beta = 1 ends at the midpoint, and nothing is certified."""
    assert not certify([[0.0], [1.0]], 0.45).stored.any()
    end = hopmin.retrieve([0.45], [[0.0], [1.0]], DistanceEnergy(1.0)).states
    assert end[0] == pytest.approx(0.5, abs=1e-3)


def test_overlapping_balls_are_never_certified():
    assert not certify(TRIANGLE, 0.5, beta=1e3).stored[:2].any()
    assert certify(TRIANGLE, 0.5, beta=1e3).stored[2]


def test_single_pattern_is_stored_at_any_radius():
    assert certify([[3.0]], 1e6).stored.tolist() == [True]
    assert storing_beta([[3.0]], 1.0) == 0
    assert convex_beta([[3.0]]) == math.inf


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.floats(0.02, 0.48))
def test_storing_beta_is_the_smallest(seed, fraction):
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(rng.integers(2, 8), rng.integers(1, 5)))
    radius = fraction * float(hopmin.separation(p).min())
    beta = storing_beta(p, radius)
    assert certify(p, radius, beta=beta).stored.all()
    assert not certify(p, radius, beta=beta * (1 - 1e-9)).stored.all()
    for more in (1.001, 1.5, 10.0):
        assert certify(p, radius, beta=beta * more).stored.all()


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.floats(0.02, 0.499))
def test_certificates_persist_at_larger_beta(seed, fraction):
    """For each pattern: once it is certified, both bounds fall as beta grows."""
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(rng.integers(2, 8), rng.integers(1, 5)))
    radius = fraction * float(hopmin.separation(p).min())
    found = [certify(p, radius, beta=beta) for beta in np.geomspace(0.01, 1e4, 60)]
    for flat, sharp in itertools.pairwise(found):
        for i in np.flatnonzero(flat.stored):
            assert sharp.stored[i]
            assert sharp.drift[i] <= flat.drift[i]
            assert sharp.contraction[i] <= flat.contraction[i]


def test_contraction_may_rise_before_certification():
    """Patterns 0 and 1, radius .1: 2 beta exp(-.8 beta), largest at beta = 1.25."""
    low, top, high = (certify([[0.0], [1.0]], 0.1, beta=beta).contraction[0] for beta in (0.5, 1.25, 2.0))
    assert top == pytest.approx(2.5 / math.e)
    assert low < top > high


def test_digits_are_certified_and_retrieved():
    """Scikit-learn's digits: at the smallest beta for a radius of a tenth of the least distance."""
    datasets = pytest.importorskip("sklearn.datasets")
    p = datasets.load_digits().data[:200]
    radius = float(hopmin.separation(p).min()) / 10
    beta = storing_beta(p, radius)
    assert certify(p, radius, beta=beta).stored.all()
    rng = np.random.default_rng(0)
    noisy = np.concatenate([in_ball(rng, row, radius, 1) for row in p])
    found = hopmin.retrieve(noisy, p, DistanceEnergy(beta))
    assert (found.nearest == np.arange(200)).all()
    assert (np.linalg.norm(found.states - p, axis=1) <= radius).all()


@settings(max_examples=80)
@given(st.integers(0, 2**32))
def test_energy_is_convex_up_to_the_convex_beta(seed):
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(rng.integers(2, 6), rng.integers(1, 4)))
    energy = DistanceEnergy(convex_beta(p))
    x = rng.normal(size=(20, p.shape[1])) * 2
    assert np.linalg.eigvalsh(energy.hessian(x, p)).min() >= -1e-12
    ends = hopmin.retrieve(x, p, DistanceEnergy(0.9 * energy.beta), max_steps=20_000, tolerance=1e-12).states
    # the energy is flat there: rounding limits states to about the square root of its precision
    np.testing.assert_allclose(ends, np.broadcast_to(ends[0], ends.shape), atol=1e-6)


def test_two_minima_just_above_the_convex_beta():
    assert convex_beta([[-1.0], [1.0]]) == 0.5
    assert (
        DistanceEnergy(0.51).hessian([0.0], [[-1.0], [1.0]])[0, 0]
        < 0
        < DistanceEnergy(0.49).hessian([0.0], [[-1.0], [1.0]])[0, 0]
    )


def test_certificates_at_the_largest_beta():
    stored, drift, contraction = certify(TRIANGLE, 0.1, beta=1.7e308)
    assert stored.all()
    assert not drift.any()
    assert not contraction.any()


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: certify(TRIANGLE, 0), "radius must be a finite number > 0; got 0"),
        (lambda: certify(TRIANGLE, 0.1, beta=-1), "beta must be a finite number > 0; got -1"),
        (
            lambda: storing_beta(TRIANGLE, 0.5),
            "radius must be below 0.5, half the least distance between patterns; got 0.5",
        ),
        (
            lambda: storing_beta([[0.0], [1e-155], [1.0]], 1e-160),
            "patterns must be far enough apart for beta to be a float; got a distance of 1e-155",
        ),
        (lambda: convex_beta([]), "patterns must have shape (n, d); got (0,)"),
    ],
)
def test_invalid_arguments_are_refused(attempt, message):
    with pytest.raises(ValueError) as caught:
        attempt()
    assert str(caught.value) == message
