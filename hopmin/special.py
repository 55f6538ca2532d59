"""Special functions that SciPy has, for those who do not have SciPy.

- the error function, elementwise [`erf`], [`erfc`], and the quantiles of the normal distribution [`normal_quantile`]
- Lambert's W of a large argument [`lambert_w_exp`]
- logarithms of the regularized incomplete gamma function [`log_gamma_p`] and of the noncentral chi-squared
  distribution [`log_noncentral_chi2`]
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.numerics import logsumexp

erf, erfc = (np.vectorize(f, otypes=[np.float64]) for f in (math.erf, math.erfc))
normal_quantile = np.vectorize(lambda share: NormalDist().inv_cdf(share) if share else -math.inf, otypes=[np.float64])


def lambert_w_exp(y: float) -> float:
    """W0(exp(y)), the root w of w + log w = y, by Newton's steps, which climb towards it from below."""
    if y < -37:  # where w (1 + w) is w in floats
        return math.exp(y)
    w = y - math.log(y) if y > 1 else math.exp(y - 1)
    for _ in range(6):
        w *= (1 + y - math.log(w)) / (1 + w)
    return w


def log_gamma_p(a: ArrayLike, z: ArrayLike) -> Any:
    """log P(a, z), of the regularized lower incomplete gamma function, for a > 0 and z >= 0; -inf at z = 0.

    P(a, z) = gamma(a, z) / Gamma(a): the share of a Gaussian of variance 1/2 in 2a dimensions that lies within distance
    sqrt(z) of its centre. By its power series for z < a + 1, by the continued fraction of 1 - P beyond; to 13 digits
    for a up to 10^5, also where P itself would underflow. Raises ValueError if a is not in (0, 1e12], or z is below 0.

    >>> round(float(log_gamma_p(1.0, 1.0)), 15) == round(math.log(1 - math.exp(-1)), 15)
    True
    >>> round(float(log_gamma_p(512.0, 50.0)), 6)
    -733.002167
    """
    a, z = np.broadcast_arrays(_check.real("a", a), _check.real("z", z))
    if not ((a > 0).all() and (a <= 1e12).all() and (z >= 0).all()):  # beyond, sqrt(a) terms are too many
        raise ValueError("a must be in (0, 1e12], and z >= 0; got otherwise")
    out = [_log_gamma_p(float(b), float(y)) for b, y in zip(a.ravel(), z.ravel(), strict=True)]
    return np.array(out, np.float64).reshape(a.shape)[()]


def _log_gamma_p(a: float, z: float) -> float:
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
    """log z^a e^-z / Gamma(a + 1), without subtracting large numbers where z is close to a."""
    u = (z - a) / a
    ratio = math.log1p(u) if abs(u) < 0.5 else math.log(z) - math.log(a)
    return a * (ratio - u) - _log_gamma_excess(a)


def _log_gamma_excess(a: float) -> float:
    """log Gamma(a + 1) - a log a + a, without subtracting two large numbers: log(2 pi a) / 2 + 1 / (12 a) - ..."""
    if a < 30:
        return math.lgamma(a + 1) - a * math.log(a) + a
    series = math.fsum(c * a ** -(2 * k + 1) for k, c in enumerate((1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)))
    return math.log(2 * math.pi * a) / 2 + series


def log_noncentral_chi2(d: int, z: float, centres: Array) -> Array:
    """log F(2 z; d, 2 c) = log sum_k exp(-c) c^k / k! P(d/2 + k, z), for each c in `centres` (n,) that is not too far.

    As F <= exp(-(sqrt(c) - sqrt(z))^2), those beyond add to the ball's own, c = 0, less than the share exp(-50) each.
    """
    centres = centres[centres < (math.sqrt(z) + math.sqrt(50 - _log_gamma_p(d / 2, z))) ** 2]
    middle = math.sqrt(z * centres.max(initial=0))  # the largest term lies below
    k = np.arange(int(middle + 12 * math.sqrt(middle) + 60))
    a = d / 2 + k
    # downwards, P(a, z) = P(a + 1, z) + z^a e^-z / Gamma(a + 1): only additions
    steps = np.array([_log_poisson(b, z) for b in a.tolist()])
    upwards = np.concatenate([[_log_gamma_p(d / 2 + len(k), z)], steps[::-1]])
    log_p = np.logaddexp.accumulate(upwards)[::-1][:-1]
    log_factorial = np.array([math.lgamma(i + 1) for i in k])
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where(k > 0, k * np.log(centres)[:, None], 0.0)
    return logsumexp(powers - centres[:, None] - log_factorial + log_p, axis=1)
