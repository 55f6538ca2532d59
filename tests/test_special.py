"""Special functions against SciPy, against mpmath where SciPy has too few digits, and at the ends of their domains."""

import math

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hopmin.special import erf, erfc, log_gamma_p, log_noncentral_chi2, ndtri, wrightomega

INF, NAN = math.inf, math.nan


# The normal distribution


@pytest.mark.parametrize("function", [erf, erfc])
@pytest.mark.parametrize("x", [0.0, 1e-300, 1e-9, 0.3, 1.0, 2.5, 6.0, 10.0, 26.0])
def test_error_functions_match_mpmath(function, x):
    for signed in (x, -x):
        with mpmath.workdps(40):
            exact = float(getattr(mpmath, function.__name__)(mpmath.mpf(signed)))
        assert function(signed) == pytest.approx(exact, rel=4e-16, abs=0)


@pytest.mark.parametrize("function", [erf, erfc, ndtri])
def test_elementwise_functions_keep_the_shape(function):
    x = np.linspace(0.1, 0.9, 6).reshape(2, 3)
    assert function(x).shape == (2, 3)
    assert function(np.zeros((0, 3))).shape == (0, 3)
    assert isinstance(function(0.5), np.float64)
    assert function(np.float32(x)).dtype == np.float64
    np.testing.assert_array_equal(function(x), [[function(y) for y in row] for row in x.tolist()])


@pytest.mark.parametrize("function", [erf, erfc, ndtri])
def test_edge_values_match_scipy(function):
    x = [-INF, -1.0, -0.0, 0.0, 1, 2, INF, NAN]
    np.testing.assert_allclose(function(x), getattr(scipy.special, function.__name__)(x), rtol=4e-16)


@given(st.floats(1e-300, 1, exclude_max=True))
def test_ndtri_matches_scipy(p):
    assert ndtri(p) == pytest.approx(scipy.special.ndtri(p), rel=2e-15, abs=2e-15)


@given(st.floats(-37, 8))
def test_ndtri_inverts_the_normal_distribution(x):
    p = scipy.special.ndtr(x)
    # rounding p moves x by eps p / density(x), about eps sqrt(2 pi) exp(x^2 / 2) for large x
    assert ndtri(p) == pytest.approx(x, rel=2e-15, abs=2e-15 * max(1, math.exp(x * x / 2) if x > 0 else 1))


@pytest.mark.parametrize("function", [erf, erfc, ndtri])
def test_complex_numbers_are_refused(function):
    with pytest.raises(TypeError, match=r"^[xp] must be real numbers; got dtype complex128$"):
        function(1j)


# The Wright omega function


@given(z=st.floats(-1e300, 1e300))
def test_wrightomega_matches_scipy(z):
    """The accuracy is relative to |z| where z is below zero: log w rounds it."""
    expected = float(scipy.special.wrightomega(z))
    assert wrightomega(z) == pytest.approx(expected, rel=3e-16 * (10 - max(-40, min(z, 0))), abs=0)


def test_wrightomega_matches_mpmath():
    for z in (*np.linspace(-700, -40, 34), *np.linspace(-40, 40, 81)):
        with mpmath.workdps(40):
            expected = float(mpmath.lambertw(mpmath.exp(mpmath.mpf(z))))
        assert wrightomega(z) == pytest.approx(expected, rel=5e-16 * (1 + min(abs(z), 40)), abs=0)


def test_wrightomega_at_infinity_matches_scipy():
    for z in (-INF, INF, NAN):
        np.testing.assert_array_equal(wrightomega(z), scipy.special.wrightomega(z))


# The incomplete gamma function


@pytest.mark.parametrize("a", [0.5, 1.0, 1.5, 2.0, 5.0, 29.5, 30.0, 64.0, 511.5, 2048.0, 131071.5])
def test_log_gamma_p_has_thirteen_digits(a):
    """a = n/2 up to n = 262143, from where P underflows to where it is 1 up to the last digits."""
    ratios = [1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0, 1 + 0.99 / a, 1 + 1 / a, 1 + 3 / math.sqrt(a), 1 + 8 / math.sqrt(a), 5.0]
    for z in (a * ratio for ratio in ratios):
        with mpmath.workdps(60):
            exact = mpmath.log(mpmath.gammainc(a, 0, mpmath.mpf(z), regularized=True))
            error = abs(float(mpmath.mpf(float(log_gamma_p(a, z))) - exact))
            assert error <= 1e-13 * max(1, abs(float(exact))), (a, z)


def test_log_gamma_p_at_the_ends_of_its_domain():
    assert log_gamma_p(3.0, 0.0) == -INF
    assert log_gamma_p(3.0, INF) == 0
    assert log_gamma_p([1.0, 2.0], 1.0).shape == (2,)
    assert log_gamma_p(1e12, 1e-300) == pytest.approx(1e12 * (1 - 312 * math.log(10)), rel=1e-9)  # z / a underflows
    assert log_gamma_p(5e-324, 1e10) == 0


@settings(max_examples=100)
@given(st.floats(0.3, 3000), st.floats(-4, 4))
def test_log_gamma_p_rises_and_satisfies_its_recurrence(a, exponent):
    """P(a, z) - P(a + 1, z) = z^a e^-z / Gamma(a + 1)."""
    z = a * 10**exponent
    low, high = log_gamma_p(a, z), log_gamma_p(a, z * 1.001)
    assert low <= high + 1e-13 * (1 + abs(low))
    step = a * math.log(z) - z - math.lgamma(a + 1)
    if step > -600:
        assert np.logaddexp(log_gamma_p(a + 1, z), step) == pytest.approx(low, rel=1e-11, abs=1e-10)


@pytest.mark.parametrize(
    ("a", "z", "message"),
    [
        (0.0, 1.0, r"a must be numbers in \(0, 1e12\]; got 0\.0"),
        (-1.0, 1.0, r"a must be numbers in \(0, 1e12\]; got -1\.0"),
        ([1.0, NAN], 1.0, r"a must be numbers in \(0, 1e12\]; got nan"),
        (INF, 1.0, r"a must be numbers in \(0, 1e12\]; got inf"),
        (1e13, 1.0, r"a must be numbers in \(0, 1e12\]; got 10000000000000\.0"),
        (1.0, -1.0, r"z must be numbers >= 0; got -1\.0"),
        (1.0, [2.0, NAN], r"z must be numbers >= 0; got nan"),
    ],
)
def test_log_gamma_p_refuses_numbers_outside_its_domain(a, z, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        log_gamma_p(a, z)


# The noncentral chi-squared distribution


@pytest.mark.parametrize(("d", "z"), [(1, 0.01), (3, 2.0), (10, 30.0), (300, 100.0), (2, 400.0)])
def test_log_noncentral_chi2_has_twelve_digits(d, z):
    """Against the Poisson mixture in forty digits, also where F underflows."""
    centres = [0.0, 1e-3, 1.0, 10.0, 100.0, 2000.0]
    for c, value in zip(centres, log_noncentral_chi2(d, z, centres), strict=True):
        with mpmath.workdps(40):
            total, weight = mpmath.mpf(0), mpmath.exp(-mpmath.mpf(c))
            for k in range(1500):  # the terms rise to one maximum, and then fall
                term = weight * mpmath.gammainc(mpmath.mpf(d) / 2 + k, 0, z, regularized=True)
                total += term
                if term < 1e-30 * total:
                    break
                weight *= mpmath.mpf(c) / (k + 1)
            exact = float(mpmath.log(total))
        assert value == pytest.approx(exact, rel=1e-12, abs=1e-12)


@settings(max_examples=60)
@given(st.integers(1, 300), st.floats(-2, 3), st.lists(st.floats(0, 500), max_size=4))
def test_log_noncentral_chi2_matches_scipy(d, exponent, centres):
    z = 10**exponent
    values = log_noncentral_chi2(d, z, centres)
    assert values.shape == (len(centres),)
    for c, value in zip(centres, values, strict=True):
        expected = scipy.stats.ncx2.logcdf(2 * z, d, max(2 * c, 1e-300))
        if expected > -100:  # below, SciPy loses digits
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(-2, 3), st.floats(0.1, 500))
def test_log_noncentral_chi2_in_one_dimension_is_normal(exponent, c):
    """The square of a normal variable of mean sqrt(2 c) is at most 2 z."""
    root, mean = math.sqrt(2 * 10**exponent), math.sqrt(2 * c)
    below, above = scipy.special.log_ndtr([-root - mean, root - mean])
    expected = above + math.log1p(-math.exp(below - above))
    assert log_noncentral_chi2(1, 10**exponent, [c]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.integers(1, 300), st.floats(-3, 3))
def test_log_noncentral_chi2_at_centre_0_is_log_gamma_p(d, exponent):
    z = 10**exponent
    assert log_noncentral_chi2(d, z, [0.0]) == pytest.approx(log_gamma_p(d / 2, z), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("z", [1.0, 100.0, 1e4])
def test_log_noncentral_chi2_of_large_centres(z):
    """In one dimension F(2 z; 1, 2 z) is Phi(0) - Phi(-2 sqrt(2 z)), one half but for the second term."""
    exact = math.log(0.5 - math.erfc(2 * math.sqrt(z)) / 2)
    rounding = 2 * np.finfo(float).eps * z * max(1, math.log(z))  # of k log(z) - z - log(k!), for k close to z
    assert log_noncentral_chi2(1, z, [z]) == pytest.approx(exact, rel=0, abs=rounding)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1.0, [1.0]), "d must be an integer >= 1; got 0"),
        ((1, 0.0, [1.0]), "z must be a finite number > 0; got 0.0"),
        ((1, INF, [1.0]), "z must be a finite number > 0; got inf"),
        ((1, 1.0, [-1.0]), "centres must be numbers in [0, inf); got -1.0"),
        ((1, 1.0, [INF]), "centres must be numbers in [0, inf); got inf"),
    ],
)
def test_log_noncentral_chi2_refuses_numbers_outside_its_domain(arguments, message):
    with pytest.raises(ValueError) as caught:
        log_noncentral_chi2(*arguments)
    assert str(caught.value) == message
