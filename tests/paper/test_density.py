"""Energies as densities, compared with arithmetic of fifty digits, quadrature and sampling."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import hopmin
from hopmin import DistanceEnergy
from hopmin.paper import density
from hopmin.paper.density import log_partition, log_volume
from hopmin.special import log_gamma_p

UNSIGNED = np.uint8(3)
TRIANGLE = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def test_volumes_of_balls():
    assert [math.exp(log_volume(d)) for d in (1, 2, 3)] == pytest.approx([2, math.pi, 4 / 3 * math.pi], rel=1e-14)
    assert log_volume(1024, 2.0) - log_volume(1024) == pytest.approx(1024 * math.log(2), rel=1e-14)
    assert log_volume(1024, density.unit_volume_radius(1024)) == pytest.approx(0, abs=1e-10)
    assert density.paper_radius(1024) == pytest.approx(7.74306, abs=5e-6)
    assert density.unit_volume_radius(1024) == pytest.approx(7.774, abs=5e-4)


@settings(max_examples=40)
@given(st.integers(1, 1024), st.floats(-2, 1.3))
def test_ball_integral_lies_between_its_bounds(d, exponent):
    """exp(-r^2) V <= integral <= V."""
    r = 10**exponent
    log_z = log_partition(np.zeros((1, d)), r, form="nearest")
    assert log_volume(d, r) - r * r - 1e-9 <= log_z <= log_volume(d, r) + 1e-9 * abs(log_z)


def test_equation_12_integrates_the_plain_distance():
    """Equation 12 at (n, r) = (5, 2): 33.26 as printed, 14.76 exactly; the printed lower bound exceeds it."""
    true = math.exp(log_partition(np.zeros((1, 5)), 2.0, form="nearest"))
    printed = 2 * math.pi**2.5 * math.exp(log_gamma_p(5, 2.0)) * math.gamma(5) / math.gamma(2.5)
    assert (round(true, 2), round(printed, 2)) == (14.76, 33.26)
    assert math.exp(log_volume(5, 2.0) - 2.0) > true > math.exp(log_volume(5, 2.0) - 4.0)
    r = np.linspace(0, 2, 200_001)
    for integrand, value in ((np.exp(-(r**2)), true), (np.exp(-r), printed)):
        shells = integrand * r**4 * 5 * math.exp(log_volume(5))
        assert np.trapezoid(shells, r) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8])
def test_partition_functions_match_sampling(d):
    """Within four standard errors: both forms, unequal radii, two betas."""
    rng = np.random.default_rng(d)
    p = np.concatenate([np.zeros((1, d)), 3.1 * np.eye(d)[:2]])[: d + 1]
    r = np.array([1.5, 1.5, 1.2])[: len(p)]
    for beta in (0.3, 1.0):
        for form in ("soft", "nearest"):
            radii = r if form == "soft" else r * 0 + 1.5
            parts, variance = 0.0, 0.0
            for centre, radius in zip(p, radii, strict=True):
                u = rng.normal(size=(100_000, d))
                x = centre + radius * rng.random((len(u), 1)) ** (1 / d) * u / np.linalg.norm(u, axis=1, keepdims=True)
                squares = np.square(x[:, None] - p).sum(axis=2)
                f = np.exp(-beta * squares).sum(axis=1) if form == "soft" else np.exp(-beta * squares.min(axis=1))
                f *= math.exp(log_volume(d, radius))
                parts, variance = parts + f.mean(), variance + f.var() / len(f)
            z = math.exp(log_partition(p, radii, beta=beta, form=form))
            assert abs(z - parts) <= 4 * math.sqrt(variance), (beta, form)


@settings(max_examples=60)
@given(st.integers(1, 300), st.floats(-2, 1.5), st.floats(0, 30))
def test_off_centre_balls_match_noncentral_chi_squared(d, exponent, away):
    r = 10**exponent
    p = np.zeros((2, d))
    p[1, 0] = 2 * r + away
    own, other = (stats.ncx2.logcdf(2 * r * r, d, 2 * square) for square in (1e-300, p[1, 0] ** 2))
    expected = d / 2 * math.log(math.pi) + math.log(2) + np.logaddexp(own, other)
    if own > -680:  # below, SciPy's value underflows
        assert log_partition(p, r) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_large_balls_approach_all_of_space():
    assert log_partition(TRIANGLE) == pytest.approx(math.log(3) + math.log(math.pi), rel=1e-15)
    assert log_partition(TRIANGLE, beta=4.0) == pytest.approx(math.log(3) + math.log(math.pi / 4), rel=1e-15)
    assert log_partition([[1.0, 2.0]], 50.0) == pytest.approx(math.log(math.pi), abs=1e-12)
    far = TRIANGLE * 100  # so far apart that both forms agree
    assert log_partition(far, 2.0) == pytest.approx(log_partition(far, 2.0, form="nearest"), rel=1e-14)


def test_distant_patterns_and_tiny_balls():
    """Negligible terms of distant patterns are left out of the sum."""
    far = TRIANGLE * 1e5
    assert log_partition(far, 1e5) == pytest.approx(log_partition(far), rel=1e-14)
    assert log_partition(far, 1e-150) == pytest.approx(math.log(3) + log_volume(2, 1e-150), rel=1e-14)
    assert log_partition(far, 1e-170, beta=1e300) == pytest.approx(math.log(3) + log_volume(2, 1e-170), rel=1e-14)
    assert log_partition(far, 1.0, beta=1e306) == pytest.approx(log_partition(far, beta=1e306), rel=1e-14)


def test_soft_form_is_at_least_the_nearest_form():
    """E <= g, so exp(-E) has the larger integral."""
    for r in (0.5, 1.0, 2.0):
        assert log_partition(TRIANGLE, r) >= log_partition(TRIANGLE, r, form="nearest")


def test_mixture_integrates_to_one_and_matches_its_samples():
    p, beta = np.array([[-1.0], [2.0], [2.5]]), 3.0
    x = np.linspace(-6, 8, 20_001)[:, None]
    assert np.trapezoid(np.exp(density.log_density(x, p, beta=beta)), x.ravel()) == pytest.approx(1, abs=1e-9)
    drawn = density.sample(p, 20_000, 0, beta=beta)
    edges = np.linspace(-3, 5, 33)
    counts, _ = np.histogram(drawn, edges)
    inside = np.array([
        np.trapezoid(np.exp(density.log_density((t := np.linspace(a, b, 201))[:, None], p, beta=beta)), t)
        for a, b in pairwise(edges)
    ])  # fmt: skip
    errors = (counts - 20_000 * inside) / np.sqrt(20_000 * inside + 1)
    assert np.abs(errors).max() < 4.5
    np.testing.assert_array_equal(drawn, density.sample(p, 20_000, np.random.default_rng(0), beta=beta))


def test_cross_entropy_identity_and_proposition_4_differ():
    """Three balls of radius .1 in the plane: Z = .094, so L = -2.37, while log Z + 1/Z = 8.30."""
    p = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    log_z = log_partition(p, 0.1, form="nearest")
    assert math.exp(log_z) == pytest.approx(0.0938, abs=5e-5)
    g = hopmin.nearest(p, p)[0][:, 0] ** 2
    assert density.differential_cross_entropy(g, log_z) == pytest.approx(-2.3668, abs=5e-4)
    assert density.paper_cross_entropy(log_z) == pytest.approx(8.30, abs=0.01)
    x = np.random.default_rng(0).normal(size=(50, 2))
    for beta in (0.5, 2.0):
        by_hand = -np.mean([density.log_density(row, p, beta=beta) for row in x])
        energies = DistanceEnergy(beta).value(x, p)
        assert density.differential_cross_entropy(energies, log_partition(p, beta=beta), beta=beta) == pytest.approx(
            by_hand
        )


@given(st.floats(-1e4, 1e4))
def test_paper_cross_entropy_is_at_least_one(log_z):
    assert density.paper_cross_entropy(log_z) >= 1 - 2e-16


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (
            lambda: log_partition(TRIANGLE, 2.5),
            "radii must leave the balls disjoint; got 2.5 and 2.5 for patterns 0 and 1 at distance 4",
        ),
        (
            lambda: log_partition([[0.0], [1.2]], [1.0, 0.1], form="nearest"),
            "radii must be equal, or at most half the distance to the nearest other pattern; got 1 for pattern 0, at distance 1.2",
        ),
        (
            lambda: log_partition(TRIANGLE, form="nearest"),
            "radii must be given for form 'nearest', which has no closed form without; got None",
        ),
        (lambda: log_partition(TRIANGLE, 0.0), "radii must be finite and > 0; got 0.0"),
        (
            lambda: log_partition(TRIANGLE, 1e-200),
            "radii must have squares, times beta, that are floats > 0; got 1e-200 to 1e-200",
        ),
        (lambda: density.differential_cross_entropy([], 0.0), "energies must not be empty; got shape (0,)"),
        (lambda: log_partition(TRIANGLE, [1.0, 2.0]), "radii must be one number or (n,) with n = 3; got (2,)"),
        (lambda: log_partition(TRIANGLE, form="hard"), "form must be one of 'soft', 'nearest'; got 'hard'"),
        (lambda: log_volume(0), "d must be an integer >= 1; got 0"),
        (lambda: density.sample(TRIANGLE, 0, 0), "size must be an integer >= 1; got 0"),
    ],
)
def test_invalid_arguments_are_refused(attempt, message):
    with pytest.raises(ValueError) as caught:
        attempt()
    assert str(caught.value) == message


def test_touching_balls_are_allowed():
    assert np.isfinite(log_partition(TRIANGLE, 2.0))


def test_an_unsigned_beta_is_a_number_like_any_other():
    x, p = np.eye(3) / 2, np.eye(3)
    np.testing.assert_array_equal(density.log_density(x, p, beta=UNSIGNED), density.log_density(x, p, beta=3.0))
    assert density.paper_cross_entropy(UNSIGNED) == density.paper_cross_entropy(3.0)
