"""Closed forms, compared with mpmath and SciPy, with the quantities they bound, and with printed numbers."""

import math

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import hopmin
from hopmin.paper import capacity
from hopmin.testing import problems

LOADS = np.array([0.01, 0.05, 0.105, 0.138, 0.185, 0.37, 0.61, 3.0])
POWERS = {2: 1, 3: 3, 4: 15, 5: 105, 6: 945}  # power: (2 power - 3)!!


# Random patterns, and the overlap to a power


@pytest.mark.parametrize(("power", "moment"), POWERS.items())
def test_one_step_error_is_a_normal_tail(power, moment):
    expected = scipy.stats.norm.sf(1 / np.sqrt(moment * LOADS))
    np.testing.assert_allclose(capacity.one_step_error(LOADS, power=power), expected, rtol=1e-12)


def test_one_step_matches_the_textbook_table():
    np.testing.assert_array_equal(
        capacity.one_step_error([0.105, 0.138, 0.185, 0.37, 0.61]).round(6),
        [0.001014, 0.003552, 0.010037, 0.050089, 0.100208],
    )
    np.testing.assert_array_equal(
        [capacity.one_step_load(0.005, power=power).round(6) for power in (2, 3, 4)], [0.150718, 0.050239, 0.010048]
    )


@given(error=st.floats(1e-300, 0.499), power=st.integers(2, 8))
def test_load_and_error_are_inverses(error, power):
    load = capacity.one_step_load(error, power=power)
    assert capacity.one_step_error(load, power=power) == pytest.approx(error, rel=1e-9, abs=0)


def test_huge_loads_and_dimensions():
    assert capacity.one_step_error(1e308) == capacity.one_step_error(1e308, power=151) == 0.5
    assert capacity.hebb_overlap(1e308) == 0
    assert capacity.exact_capacity(10**9, power=40) == pytest.approx(
        float(mpmath.mpf(10) ** 351 / (2 * mpmath.fac2(77) * mpmath.log(10**9))), rel=1e-13
    )


def test_zero_load_has_no_errors():
    assert capacity.one_step_error(0) == capacity.one_step_load(0) == 0
    assert capacity.one_step_error(np.zeros((0, 2))).shape == capacity.one_step_load(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    ("d", "power", "most", "every"),
    [(1000, 2, 72.38, 36.19), (100, 2, 10.86, 5.43), (100, 3, 361.91, 120.64), (100, 4, 7238.24, 1809.56)],
)
def test_exact_capacities(d, power, most, every):
    assert round(capacity.exact_capacity(d, power=power), 2) == most
    assert round(capacity.exact_capacity(d, power=power, every=True), 2) == every


@pytest.mark.parametrize("power", POWERS)
def test_expected_wrong_bits_around_the_exact_capacity(power):
    """The expected number vanishes below and diverges above; in logarithms, at a d large enough for asymptotics."""
    log_d = 1e6
    for every in (False, True):
        for factor, sign in ((0.99, -1), (1.01, 1)):
            # load = n / d^(power - 1) = factor / (2 (2 power - 3)!! log d), over power if every
            z = math.sqrt(2 * log_d * (power if every else 1) / factor)
            wrong = log_d * (power if every else 1) + scipy.stats.norm.logsf(z)
            assert math.copysign(1, wrong) == sign
    for d in (10, 1000):
        load = capacity.exact_capacity(d, power=power) / d ** (power - 1)
        assert 1 / (POWERS[power] * load) == pytest.approx(2 * math.log(d), rel=1e-13)


# The Hebb rule, in the limit


def test_capacity_of_the_hebb_rule():
    """The maximum of the curve, which mpmath finds from numerical derivatives."""
    with mpmath.workdps(40):
        root_load = lambda y: mpmath.erf(y) / y - 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-(y**2))  # noqa: E731
        y = mpmath.findroot(lambda y: mpmath.diff(root_load, y), 1.5)
        expected = float(root_load(y) ** 2 / 2), float(mpmath.erf(y))
    hebb = capacity.hebb_capacity()
    assert hebb == pytest.approx(expected, rel=1e-13)
    assert (round(hebb.load, 6), round(hebb.overlap, 5)) == (0.137906, 0.96742)


@given(load=st.floats(1e-3, 0.1379))
def test_overlap_solves_the_mean_field_equations(load):
    """m = erf(m / sqrt(2 load r)), r = (1 - C)^-2, C = sqrt(2 / (pi load r)) exp(-m^2 / (2 load r)), by iteration.

    These are the equations of Amit, Gutfreund and Sompolinsky before elimination of r.
    """
    overlap = capacity.hebb_overlap(load)
    m, r = 1.0, 1.0
    for _ in range(5000):
        c = math.sqrt(2 / (math.pi * load * r)) * math.exp(-(m**2) / (2 * load * r))
        m, r = math.erf(m / math.sqrt(2 * load * r)), (1 - c) ** -2
    assert overlap == pytest.approx(m, abs=1e-3 if load > 0.137 else 1e-9)  # the iteration converges slowly near the capacity


def test_overlap_falls_to_zero_beyond_the_capacity():
    load, overlap = capacity.hebb_capacity()
    overlaps = capacity.hebb_overlap([0, 1e-9, 0.05, 0.1, load * (1 - 1e-14), load * (1 + 1e-9), 5.0])
    assert (np.diff(overlaps) <= 0).all()
    assert overlaps[:2].tolist() == [1, 1]
    assert overlaps[4] == pytest.approx(overlap, abs=1e-6)
    assert overlaps[5:].tolist() == [0, 0]


# Exponentially many


def test_exponential_rate_is_half_of_cramers_function():
    """I(a) = ((1 + a) log(1 + a) + (1 - a) log(1 - a)) / 2 at a = 1 - 2 flipped, in mpmath because
    the printed form cancels near 1/2.
    """
    for flipped in (1e-300, 1e-17, 1e-9, 1e-3, 0.1, 0.25, 0.3, 0.49, 0.4999, 0.499999):
        with mpmath.workdps(400):
            a = 1 - 2 * mpmath.mpf(flipped)
            expected = float(((1 + a) * mpmath.log(1 + a) + (1 - a) * mpmath.log(1 - a)) / 4)
        assert capacity.exponential_rate(flipped) == pytest.approx(expected, rel=1e-15 / (1 - 2 * flipped), abs=0)
    assert (capacity.exponential_rate(0.5 - np.logspace(-15, -1, 500)) > 0).all()
    np.testing.assert_array_equal(
        capacity.exponential_rate([0, 0.05, 0.1, 0.2, 0.3]).round(5), [0.34657, 0.24732, 0.18403, 0.09637, 0.04114]
    )
    assert capacity.exponential_rate() == math.log(2) / 2


@pytest.mark.parametrize(
    ("d", "radius", "growth", "a_plus_log_b"), [(20, 3.0, 3.15461, 1.2733), (75, 1.0, 1.37188, -0.9409)]
)
def test_sphere_capacity_matches_the_printed_constants(d, radius, growth, a_plus_log_b):
    found = capacity.sphere_capacity(d, beta=1.0, radius=radius, failure=1e-3)
    assert round(found.growth, 5) == growth
    a = 2 / (d - 1) * (1 + math.log(2 * radius**2 * 1e-3 * (d - 1)))
    b = 2 * radius**2 / 5
    assert round(a + math.log(b), 4) == a_plus_log_b
    assert found.growth == pytest.approx(b / scipy.special.lambertw(math.exp(a + math.log(b))).real, rel=1e-13)
    assert found.patterns == pytest.approx(math.sqrt(1e-3) * found.growth ** ((d - 1) / 4), rel=1e-12)
    assert found.holds


def test_sphere_capacity_beyond_floats():
    """The number of patterns is inf; the base is finite for any beta and radius."""
    wide = capacity.sphere_capacity(4096, radius=3.0)
    assert (round(wide.growth, 5), wide.patterns, wide.holds) == (3.13954, math.inf, True)
    for beta, radius in ((1e-300, 1.0), (1e-300, 1e-200), (1e300, 1.0), (1e-300, 1e300)):
        with mpmath.workdps(40):
            square = mpmath.mpf(radius) ** 2 * beta
            a = mpmath.mpf(2) / 19 * (1 + mpmath.log(2 * square * mpmath.mpf(1e-3) * 19))
            b = 2 * square / 5
            expected = mpmath.log(b / mpmath.lambertw(mpmath.exp(a + mpmath.log(b))))
        growth = capacity.sphere_capacity(20, beta=beta, radius=radius).growth
        assert math.log(growth) == pytest.approx(float(expected), rel=1e-13)


def test_sphere_capacity_reports_where_it_does_not_hold():
    """c >= (2 / sqrt(p))^(4 / (d - 1)): false in few dimensions, or for a flat energy."""
    found = {(d, radius): capacity.sphere_capacity(d, radius=radius) for d in (5, 15, 20, 75) for radius in (1.0, 2.5, 3.0)}
    for (d, _), sphere in found.items():
        assert sphere.holds == (sphere.growth >= (2 / math.sqrt(1e-3)) ** (4 / (d - 1)))
    assert [key for key, sphere in found.items() if sphere.holds] == [(20, 2.5), (20, 3.0), (75, 1.0), (75, 2.5), (75, 3.0)]


# Given patterns


@given(p=npst.arrays(np.int64, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=st.integers(-5, 5)))
def test_dot_separation_matches_a_plain_loop(p):
    rows = p.tolist()
    product = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    expected = [products[i] - max(products[:i] + products[i + 1 :]) for i, products in enumerate(product)]
    np.testing.assert_array_equal(capacity.dot_separation(p), expected)


def test_single_pattern_has_infinite_separation():
    assert capacity.dot_separation([[1.0, 2.0]]).tolist() == [math.inf]
    assert capacity.retrieval_error_bound([[1.0, 2.0]], 5.0).tolist() == [0.0]


@settings(max_examples=200)
@given(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), fraction=st.floats(0, 1))
def test_updates_stay_within_the_error_bound(problem, fraction):
    """For queries at distances at which the bound is informative, and beyond."""
    _, p, beta = problem
    assume(np.abs(p).max() > 1e-150)  # otherwise squares underflow
    norm = np.linalg.norm(p, axis=1).max()
    rng = np.random.default_rng(0)
    r = fraction * np.abs(capacity.dot_separation(p)[np.isfinite(capacity.dot_separation(p))]).max(initial=0) / (2 * norm)
    direction = rng.normal(size=p.shape)
    queries = p + r * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    ends = hopmin.DotEnergy(beta).update(queries, p)
    bound = capacity.retrieval_error_bound(p, r, beta=beta)
    rounding = 1e-14 * norm * (len(p) + p.shape[1] + beta * norm * (norm + r))
    assert (np.linalg.norm(ends - p, axis=1) <= bound * (1 + 1e-9) + rounding).all()


def test_error_bound_is_the_printed_one_where_informative():
    p = 4 * np.eye(3)
    expected = 2 * 2 * math.exp(-1.5 * (16 - 2 * 0.5 * 4)) * 4
    np.testing.assert_allclose(capacity.retrieval_error_bound(p, 0.5, beta=1.5), [expected] * 3, rtol=1e-13)
    np.testing.assert_array_equal(capacity.retrieval_error_bound(p, 1e9, beta=1e9), [8.0] * 3)  # no farther than the diameter
    assert capacity.retrieval_error_bound(p.astype(np.float32), 0.5).dtype == np.float32


def test_float32_patterns_are_computed_in_float64():
    """Rounding a separation of 4e6 to float32 changes it by up to 1/4, and the bound by a factor."""
    p = np.array([[2000.1, 0.0], [0.3, 1999.7], [-1500.0, -1700.0]], np.float32)
    p64 = p.astype(np.float64)
    distance = (capacity.dot_separation(p64)[0] - 1) / (2 * np.linalg.norm(p64, axis=1).max())
    assert 0 < capacity.retrieval_error_bound(p64, distance, beta=8.0)[0] < 2 * 2268
    for call in (capacity.dot_separation, lambda p: capacity.retrieval_error_bound(p, distance, beta=8.0)):
        assert call(p).dtype == np.float32
        np.testing.assert_array_equal(call(p), call(p64).astype(np.float32))


def test_margin_of_entmax():
    assert [capacity.sparse_margin(alpha) for alpha in (1, 1.25, 1.5, 2, 3)] == [math.inf, 4, 2, 1, 0.5]


# Argument checks


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: capacity.one_step_error(-0.1), r"load must be numbers in \[0, inf\); got -0.1"),
        (lambda: capacity.one_step_error([0.1, np.nan]), r"load must be numbers in \[0, inf\); got nan"),
        (lambda: capacity.one_step_error(np.inf), r"load must be numbers in \[0, inf\); got inf"),
        (lambda: capacity.one_step_error(0.1, power=1), r"power must be an integer from 2 to 151; got 1"),
        (lambda: capacity.exact_capacity(9, power=10**9), r"power must be an integer from 2 to 151; got 1000000000"),
        (lambda: capacity.one_step_load([[0.1, 0.5]]), r"error must be numbers in \[0, 0.5\); got 0.5"),
        (lambda: capacity.exact_capacity(1), r"d must be an integer >= 2; got 1"),
        (lambda: capacity.hebb_overlap(-1), r"load must be numbers in \[0, inf\); got -1.0"),
        (lambda: capacity.exponential_rate(0.5), r"flipped must be numbers in \[0, 0.5\); got 0.5"),
        (lambda: capacity.sphere_capacity(1), r"d must be an integer >= 2; got 1"),
        (lambda: capacity.sphere_capacity(9, failure=0), r"failure must be a number in \(0, 1\]; got 0"),
        (lambda: capacity.sphere_capacity(9, failure=1.5), r"failure must be a number in \(0, 1\]; got 1.5"),
        (lambda: capacity.sphere_capacity(9, beta=0), r"beta must be a finite number > 0; got 0"),
        (lambda: capacity.sphere_capacity(9, radius=-1), r"radius must be a finite number > 0; got -1"),
        (lambda: capacity.retrieval_error_bound([[1.0]], -1), r"distance must be a finite number >= 0; got -1"),
        (lambda: capacity.dot_separation([1.0]), r"patterns must have shape \(n, d\); got \(1,\)"),
        (
            lambda: capacity.dot_separation(1e20 * np.eye(2, dtype=np.float32)),
            r"queries and patterns must be small enough to square in float32; got values up to 2e\+20",
        ),
        (
            lambda: capacity.retrieval_error_bound(np.full((2, 1), 1e200), 1.0),
            r"queries and patterns must be small enough to square in float64; got values up to 2e\+200",
        ),
        (lambda: capacity.sparse_margin(0.5), r"alpha must be a finite number >= 1; got 0.5"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


@pytest.mark.parametrize("failure", [0.001, 1.0])
def test_any_failure_probability_is_allowed(failure):
    assert capacity.sphere_capacity(9, failure=failure).patterns > 0
