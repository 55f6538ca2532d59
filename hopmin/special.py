"""Special functions, computed without SciPy.

- the error function [`erf`], its complement [`erfc`], and the quantiles of the normal distribution [`ndtri`]
- the Wright omega function, which is Lambert's W of an exponential [`wrightomega`]
- the logarithm of the regularized lower incomplete gamma function [`log_gamma_p`], and of the distribution function of
  the noncentral chi-squared distribution [`log_noncentral_chi2`]

Functions that `scipy.special` also has are named and defined as there. Results are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Floats
from hopmin.numerics import logsumexp


@_arithmetic.standard
def erf(x: ArrayLike) -> Floats:
    """Return the error function of real numbers, elementwise.

    erf(x) = 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x. Raises TypeError if x is not
    real.

    >>> erf([0.0, 0.5, np.inf]).round(4)
    array([0.    , 0.5205, 1.    ])
    """
    return _elementwise(math.erf, "x", x)


@_arithmetic.standard
def erfc(x: ArrayLike) -> Floats:
    """Return the complementary error function 1 - erf(x) of real numbers, elementwise.

    It is computed without the subtraction, so that no digits are lost where erf(x) is close to 1. Raises TypeError if
    x is not real.

    >>> f"{erfc(10.0):.5g}"
    '2.0885e-45'
    """
    return _elementwise(math.erfc, "x", x)


@_arithmetic.standard
def ndtri(p: ArrayLike) -> Floats:
    """Return the quantiles of the standard normal distribution, elementwise.

    The x with P(X <= x) = p for a standard normal X, by the rational approximations of Wichura (1988, algorithm
    AS 241), to about 1e-15 relative to the larger of |x| and 1. -inf at 0, inf at 1, NaN outside [0, 1]. Raises
    TypeError if p is not real.

    >>> ndtri([0.0, 0.5, 0.995]).round(4)
    array([  -inf, 0.    , 2.5758])
    """
    return _elementwise(_normal_quantile, "p", p)


def _normal_quantile(p: float) -> float:
    if 0 < p < 1:
        return NormalDist().inv_cdf(p)
    return -math.inf if p == 0 else math.inf if p == 1 else math.nan


def _elementwise(function: Callable[[float], float], name: str, x: ArrayLike) -> Floats:
    x = _check.real(name, x)
    return np.array([function(y) for y in x.astype(np.float64).ravel().tolist()], np.float64).reshape(x.shape)[()]


@_arithmetic.standard
def wrightomega(z: float) -> float:
    """Return the Wright omega function of a real number: the root w of w + log w = z.

    It is W0(exp(z)), with W0 the principal branch of Lambert's W, also where exp(z) overflows. Newton's method
    converges to the root from below. The relative error is a few eps, times |z| for z < 0.

    >>> round(wrightomega(0.0), 6), wrightomega(1.0), round(wrightomega(1e6), 6)
    (0.567143, 1.0, 999986.184503)
    """
    z = _check.real_number("z", z)
    if z < -37:  # here w (1 + w) rounds to w
        return math.exp(z)
    if not z < math.inf:
        return z
    w = z - math.log(z) if z > 1 else math.exp(z - 1)
    for _ in range(6):
        w *= (1 + z - math.log(w)) / (1 + w)
    return w


@_arithmetic.standard
def log_gamma_p(a: ArrayLike, z: ArrayLike) -> Floats:
    """Return the logarithm of the regularized lower incomplete gamma function, log P(a, z), elementwise.

    P(a, z) = gamma(a, z) / Gamma(a), SciPy's `gammainc`, is the probability that a Gaussian of variance 1/2 in 2a
    dimensions lies within distance sqrt(z) of its mean. It is computed by the power series for z < a + 1 and by the
    continued fraction of 1 - P beyond, to 13 digits for a up to 10^5, also where P itself underflows.

    Parameters
    ----------
    a : array_like
        Shape parameter, in (0, 1e12]: the number of terms grows as sqrt(a).
    z : array_like
        Upper limit of the integral, from 0 to inf, broadcast against `a`.

    Returns
    -------
    ndarray or scalar, float64
        From -inf, at z = 0, to 0, at z = inf.

    Raises
    ------
    ValueError
        If a number lies outside its interval, or is NaN.
    TypeError
        If `a` or `z` is not real.

    Examples
    --------
    >>> round(float(log_gamma_p(1.0, 1.0)), 15) == round(math.log(1 - math.exp(-1)), 15)
    True
    >>> round(float(log_gamma_p(512.0, 50.0)), 6)
    -733.002167
    """
    a, z = _check.together(a=_check.real("a", a), z=_check.real("z", z))
    for name, numbers, inside, expected in (
        ("a", a, (a > 0) & (a <= 1e12), "in (0, 1e12]"),
        ("z", z, z >= 0, ">= 0"),
    ):
        if not inside.all():
            raise ValueError(f"{name} must be numbers {expected}; got {numbers[~inside][0]}")
    pairs = zip(a.ravel(), z.ravel(), strict=True)
    return np.array([_log_gamma_p(float(b), float(y)) for b, y in pairs], np.float64).reshape(a.shape)[()]


def _log_gamma_p(a: float, z: float) -> float:
    """Return log P(a, z) for numbers in their intervals."""
    if z == 0:
        return -math.inf
    if z == math.inf:
        return 0.0
    front = _log_poisson(a, z)
    if z < a + 1:  # P = z^a e^-z / Gamma(a + 1) (1 + z / (a + 1) + z^2 / ((a + 1) (a + 2)) + ...)
        term, terms, k = 1.0, [1.0], a
        while term > 1e-18 * len(terms):
            k += 1
            term *= z / k
            terms.append(term)
        return front + math.log(math.fsum(terms))
    # 1 - P = z^a e^-z / Gamma(a) / (z + 1 - a - 1 (1 - a) / (z + 3 - a - 2 (2 - a) / (z + 5 - a - ...))), by Lentz
    b = z + 1 - a
    c, d = math.inf, 1 / b
    h, i, change = d, 0, 0.0
    while abs(change - 1) > 1e-16 and i < 100_000:
        i += 1
        b += 2
        d = 1 / (b + i * (a - i) * d)
        c = b + i * (a - i) / c
        change = c * d
        h *= change
    q = math.exp(front + math.log(a) + math.log(h))
    return math.log1p(-min(q, 1.0)) if q < 1 else -math.inf


def _log_poisson(a: float, z: float) -> float:
    """Return the log of z^a e^-z / Gamma(a + 1), without subtracting large numbers where z is close to a."""
    u = (z - a) / a
    ratio = math.log1p(u) if abs(u) < 0.5 else math.log(z) - math.log(a)
    return a * (ratio - u) - _log_gamma_excess(a)


def _log_gamma_excess(a: float) -> float:
    """Return log Gamma(a + 1) - a log a + a; for large a by Stirling's series, log(2 pi a) / 2 + 1 / (12 a) - ..."""
    if a < 30:
        return math.lgamma(a + 1) - a * math.log(a) + a
    series = math.fsum(c * a ** -(2 * k + 1) for k, c in enumerate((1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)))
    return math.log(2 * math.pi * a) / 2 + series


LARGEST_MIDDLE = 1e6  # of the sum in log_noncentral_chi2: more terms would fill the memory


@_arithmetic.standard
def log_noncentral_chi2(d: int, z: float, centres: ArrayLike) -> Floats:
    """Return the logarithm of the noncentral chi-squared distribution function, log F(2z; d, 2c), for several c.

    The probability that a Gaussian of variance 1/2 in d dimensions, whose mean is at distance sqrt(c) from a point,
    lies within distance sqrt(z) of that point: `log_gamma_p(d / 2, z)` for c = 0. It is a Poisson mixture,

        F(2z; d, 2c) = sum_k exp(-c) c^k / k! P(d/2 + k, z)

    SciPy's `chndtr(2 * z, d, 2 * c)` is F itself.

    Parameters
    ----------
    d : int
        Degrees of freedom, at least 1.
    z : float
        Half the upper limit, finite and above 0.
    centres : array_like, shape (n,)
        Halves c of the noncentrality parameters, finite and not below 0. Time and memory grow as n sqrt(z max c).

    Returns
    -------
    ndarray, shape (n,), float64
        Also where F itself underflows.

    Raises
    ------
    ValueError
        If an argument lies outside its interval.
    TypeError
        If an argument is not real, or `d` not an integer.

    Examples
    --------
    >>> log_noncentral_chi2(3, 2.0, [0.0, 1.0, 9.0]).round(6)
    array([-0.303086, -0.725916, -5.327913])
    """
    d, z = _check.integer("d", d), _check.number("z", z, "(0, inf)")
    c = np.atleast_1d(_check.numbers_below("centres", centres, math.inf))
    middle = math.sqrt(z) * math.sqrt(c.max(initial=0))  # the largest term comes before this k
    if c.ndim > 1 or middle > LARGEST_MIDDLE:
        expected = f"at most {LARGEST_MIDDLE**2:.0e} / z, in a vector (n,)"
        raise ValueError(f"centres must be numbers {expected}; got shape {c.shape} and values up to {c.max():.3g}")
    k = np.arange(int(middle + 12 * math.sqrt(middle) + 60))
    a = d / 2 + k
    # downwards, P(a, z) = P(a + 1, z) + z^a e^-z / Gamma(a + 1): only additions
    steps = np.array([_log_poisson(b, z) for b in a.tolist()])
    upwards = np.concatenate([[_log_gamma_p(d / 2 + len(k), z)], steps[::-1]])
    log_p = np.logaddexp.accumulate(upwards)[::-1][:-1]
    log_factorial = np.array([math.lgamma(i + 1) for i in k])
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where(k > 0, k * np.log(c)[:, None], 0.0)
    return logsumexp(powers - c[:, None] - log_factorial + log_p, axis=1)
