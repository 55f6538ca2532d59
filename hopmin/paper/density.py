"""Energies as densities: balls, partition functions, mixtures, and the cross-entropy of points under them.

- the volume of a ball, and two radii of interest [`log_volume`], [`paper_radius`], [`unit_radius`]
- the incomplete gamma function beneath it all, in log space [`log_gamma_p`]
- what exp(-beta energy) integrates to [`log_partition`]
- exp(-beta E) as a density: a mixture of Gaussians [`log_density`], [`sample`]
- cross-entropy of points under a density, exactly and as the paper reads it [`differential_cross_entropy`],
  [`paper_cross_entropy`]

Niu et al. 2024, section 5. All logarithms are natural, all cross-entropies here are differential: in nats, they depend
on the unit of length and may be negative. That of tokens is another thing, `GPT.cross_entropy`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._check import Array
from hopmin.memory.energy import DistanceEnergy
from hopmin.memory.nearest import separation
from hopmin.memory.reduction import scores
from hopmin.numerics import logsumexp


def log_volume(d: int, radius: float = 1.0) -> float:
    """log of the volume pi^(d/2) r^d / Gamma(1 + d/2) of a ball in d dimensions, of Euclidean radius r.

    >>> math.exp(log_volume(2)), math.exp(log_volume(3, radius=2.0))
    (3.141592653589793, 33.51032163829111)
    """
    d, radius = _check.integer("d", d), _check.number("radius", radius, "(0, inf)")
    return d / 2 * math.log(math.pi) + d * math.log(radius) - math.lgamma(1 + d / 2)


def paper_radius(d: int) -> float:
    """sqrt(d / (2 pi e)), at which the paper takes the volume of a ball to be of order one (section 5.2).

    By Stirling's formula it is 1 / sqrt(pi d) there; it is one at [`unit_radius`].

    >>> round(paper_radius(1024), 3), round(math.exp(log_volume(1024, paper_radius(1024))), 5)
    (7.743, 0.01763)
    """
    return math.sqrt(_check.integer("d", d) / (2 * math.pi * math.e))


def unit_radius(d: int) -> float:
    """Gamma(1 + d/2)^(1/d) / sqrt(pi), the radius of a ball of volume one.

    >>> round(unit_radius(1024), 3)
    7.774
    """
    d = _check.integer("d", d)
    return math.exp(math.lgamma(1 + d / 2) / d) / math.sqrt(math.pi)


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


def log_partition(
    patterns: ArrayLike, radii: ArrayLike | None = None, *, beta: float = 1.0, form: str = "soft"
) -> float:
    """log Z, the integral of exp(-beta energy) over balls around the patterns, or over everything.

    Parameters
    ----------
    patterns : (n, d)
    radii : (n,) Euclidean radii of disjoint balls, or one for all; None for all of R^d
    form : "soft" for the energy E (equation 4), "nearest" for g, the squared distance to the nearest pattern (3)

        soft, everywhere     log n + d/2 log(pi / beta)
        soft, on balls       d/2 log(pi / beta) + log sum_ij F(2 beta r_i^2), F the noncentral chi-squared distribution
                             of d degrees of freedom and noncentrality 2 beta |p_i - p_j|^2
        nearest, on balls    d/2 log(pi / beta) + log sum_i P(d/2, beta r_i^2)

    The last is equation 12 for the squared distance; as printed it is the integral of the exponential of the plain one.
    Costs O(n^2) on balls.

    Raises
    ------
    ValueError if two balls overlap, naming them; for "nearest", if a ball holds points that are nearer to another
    pattern, which takes unequal radii; or if it is asked for everywhere, where it has no closed form.

    >>> corners = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]
    >>> log_partition(corners) == math.log(3 * math.pi)
    True
    >>> round(log_partition(corners, 1.0, form="nearest"), 6), round(log_partition(corners, 1.0), 6)
    (1.784667, 1.784678)
    """
    p = _check.floats("patterns", patterns, "n d").astype(np.float64)
    beta, form = _check.number("beta", beta, "(0, inf)"), _check.choice("form", form, ("soft", "nearest"))
    n, d = p.shape
    if radii is None:
        if form == "nearest":
            raise ValueError("radii must be given for form 'nearest', which has no closed form without; got None")
        return math.log(n) + d / 2 * math.log(math.pi / beta)
    r = _check.real("radii", radii).astype(np.float64)
    if r.shape not in ((), (n,)):
        raise ValueError(f"radii must be one number or (n,) with n = {n}; got {r.shape}")
    r = np.broadcast_to(r, (n,))
    if not (np.isfinite(r).all() and (r > 0).all()):
        raise ValueError("radii must be finite and > 0; got otherwise")
    _disjoint(p, r)
    with np.errstate(over="ignore"):
        z, centres = np.square(math.sqrt(beta) * r), beta * np.maximum(0, -scores(p, p, "euclidean"))
    if not (np.isfinite(z) & (z > 0)).all():
        raise ValueError(
            f"radii must have squares, times beta, that are floats > 0; got {r.min():.3g} to {r.max():.3g}"
        )
    if form == "nearest":
        _nearest_is_own(p, r)
        parts = log_gamma_p(d / 2, z)
    else:
        parts = np.concatenate([_log_noncentral(d, own, row) for own, row in zip(z.tolist(), centres, strict=True)])
    return d / 2 * math.log(math.pi / beta) + float(logsumexp(parts))


def _disjoint(p: Array, r: Array) -> None:
    for i, row in enumerate(np.sqrt(np.maximum(0, -scores(p, p, "euclidean")))):
        overlap = np.flatnonzero(row[i + 1 :] < (r[i] + r[i + 1 :]) * (1 - 4e-16)) + i + 1  # they may touch
        if len(overlap):
            j = overlap[0]
            raise ValueError(
                f"radii must leave the balls disjoint; got {r[i]:.6g} and {r[j]:.6g} for patterns {i} and {j} at "
                f"distance {row[j]:.6g}"
            )


def _nearest_is_own(p: Array, r: Array) -> None:
    if len(p) > 1 and (too_large := np.flatnonzero((r > separation(p) / 2 * (1 + 4e-16)) & (r != r.min()))).size:
        i = too_large[0]
        raise ValueError(
            f"radii must be equal, or at most half the distance to the nearest other pattern; got {r[i]:.6g} for "
            f"pattern {i}, at distance {separation(p)[i]:.6g}"
        )


def _log_noncentral(d: int, z: float, centres: Array) -> Array:
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


def log_density(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Any:
    """log of exp(-beta E(x)) / Z (m,), over all of R^d: the mixture of n Gaussians of variance 1 / (2 beta).

    >>> round(float(log_density([0.3], [[0.0]])), 6)          # a Gaussian of variance 1/2
    -0.662365
    """
    value = DistanceEnergy(beta).value(queries, patterns)
    return -beta * value - log_partition(patterns, beta=beta)


def sample(patterns: ArrayLike, size: int, rng: Any, *, beta: float = 1.0) -> Array:
    """Points (size, d) drawn from that mixture, in float64.

    >>> sample([[0.0], [9.0]], 4, rng=0, beta=50.0).round(1).ravel()
    array([9.1, 9. , 8.9, 0. ])
    """
    p = _check.floats("patterns", patterns, "n d")
    size, beta, rng = (
        _check.integer("size", size),
        _check.number("beta", beta, "(0, inf)"),
        _check.generator("rng", rng),
    )
    return p[rng.integers(len(p), size=size)] + rng.normal(scale=(2 * beta) ** -0.5, size=(size, p.shape[1]))


def differential_cross_entropy(energies: ArrayLike, log_z: float, *, beta: float = 1.0) -> float:
    """log Z + beta mean_i E(x_i), in nats: of points of these energies (n,) under the density exp(-beta E) / Z.

    An identity (Niu et al. 2024, section 5.1), for any energy that Z was integrated from. At the patterns themselves g
    is zero and log Z is all: not bounded below, and dependent on the unit of length.

    >>> from hopmin import nearest
    >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> g = nearest(corners, corners)[0][:, 0] ** 2
    >>> round(differential_cross_entropy(g, log_partition(corners, 0.1, form="nearest")), 2)
    -2.37
    """
    energies = _check.floats("energies", energies, "n")
    return float(log_z + _check.number("beta", beta, "(0, inf)") * np.mean(energies, dtype=np.float64))


def paper_cross_entropy(log_z: float) -> float:
    """log Z + 1/Z (Niu et al. 2024, proposition 4): at least 1, at Z = 1.

    The 1/Z is the energy of a pattern if a layer's energy is taken to be its density, exp(-g) / Z, as section 4.2
    prints it. With the energy g the cross-entropy at the patterns is log Z alone: [`differential_cross_entropy`].

    >>> paper_cross_entropy(0.0), round(paper_cross_entropy(-2.3668), 2)
    (1.0, 8.3)
    """
    return log_z + (math.exp(-log_z) if log_z > -700 else math.inf)
