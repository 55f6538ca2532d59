"""Energies as densities: balls, partition functions, mixtures, and the cross-entropy of points under them.

- the volume of a ball [`log_volume`], and two radii [`paper_radius`], [`unit_volume_radius`]
- the integral of exp(-beta energy): over one ball [`log_ball_integral`], over several or all of space [`log_partition`]
- exp(-beta E) as a density, a mixture of Gaussians [`log_density`], [`sample`]
- the cross-entropy of points under a density, exactly [`differential_cross_entropy`] and in the paper's form
  [`paper_cross_entropy`]

Niu et al. 2024, section 5. All logarithms are natural. All cross-entropies here are differential: in nats, dependent on
the unit of length, possibly negative. The cross-entropy of tokens is `GPT.cross_entropy`.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Array, Floats, Seed
from hopmin.memory.energy import DistanceEnergy
from hopmin.memory.nearest import separation
from hopmin.memory.reduction import scores
from hopmin.numerics import logsumexp
from hopmin.special import log_gamma_p, log_noncentral_chi2

Form = Literal["soft", "nearest"]


def log_volume(d: int, radius: float = 1.0) -> float:
    """Return the log of pi^(d/2) r^d / Gamma(1 + d/2), the volume of a ball of Euclidean radius r in d dimensions.

    Raises ValueError if d is not an integer >= 1, or the radius is not finite and > 0.

    >>> math.exp(log_volume(2)), math.exp(log_volume(3, radius=2.0))
    (3.141592653589793, 33.51032163829111)
    """
    d, radius = _check.integer("d", d), _check.number("radius", radius, "(0, inf)")
    return d / 2 * math.log(math.pi) + d * math.log(radius) - math.lgamma(1 + d / 2)


def paper_radius(d: int) -> float:
    """Return sqrt(d / (2 pi e)), the radius at which the paper takes a ball's volume to be of order one (section 5.2).

    By Stirling's formula the volume is about 1 / sqrt(pi d) there; it is one at [`unit_volume_radius`]. Raises
    ValueError if d is not an integer >= 1.

    >>> round(paper_radius(1024), 3), round(math.exp(log_volume(1024, paper_radius(1024))), 5)
    (7.743, 0.01763)
    """
    return math.sqrt(_check.integer("d", d) / (2 * math.pi * math.e))


def unit_volume_radius(d: int) -> float:
    """Return Gamma(1 + d/2)^(1/d) / sqrt(pi), the radius of a ball of volume one.

    Raises ValueError if d is not an integer >= 1.

    >>> round(unit_volume_radius(1024), 3)
    7.774
    """
    d = _check.integer("d", d)
    return math.exp(math.lgamma(1 + d / 2) / d) / math.sqrt(math.pi)


@_arithmetic.standard
def log_ball_integral(d: int, radius: float, *, beta: float = 1.0) -> float:
    """Return the log of the integral of exp(-beta |x|^2) over a ball: d/2 log(pi / beta) + log P(d/2, beta r^2).

    P is the regularized lower incomplete gamma function. It is equation 12 of Niu et al. 2024 for the squared distance;
    as printed, the equation is the integral of exp(-|x|).

    Parameters
    ----------
    d : int
        The dimension.
    radius : float
        The Euclidean radius r of the ball.
    beta : float, default 1.0
        The inverse temperature.

    Returns
    -------
    float
        The logarithm, where the integral itself may underflow.

    Raises
    ------
    ValueError
        If d is not an integer >= 1, or the radius or beta is not finite and > 0.

    Examples
    --------
    >>> math.exp(log_ball_integral(2, 1.5)) / math.pi, 1 - math.exp(-(1.5**2))
    (0.8946007754381357, 0.8946007754381357)
    >>> round(log_ball_integral(1024, paper_radius(1024)), 1)
    -63.9
    """
    d, radius = _check.integer("d", d), _check.number("radius", radius, "(0, inf)")
    beta = _check.number("beta", beta, "(0, inf)")
    return d / 2 * math.log(math.pi / beta) + float(log_gamma_p(d / 2, beta * radius * radius))


@_arithmetic.standard
def log_partition(
    patterns: ArrayLike, radii: ArrayLike | None = None, *, beta: float = 1.0, form: Form = "soft"
) -> float:
    """Return log Z, with Z the integral of exp(-beta energy) over disjoint balls around patterns, or over all of R^d.

        soft, all of R^d     log n + d/2 log(pi / beta)
        soft, on balls       d/2 log(pi / beta) + log sum_ij F(2 beta r_i^2), F the noncentral chi-squared distribution
                             with d degrees of freedom and noncentrality 2 beta |p_i - p_j|^2
        nearest, on balls    d/2 log(pi / beta) + log sum_i P(d/2, beta r_i^2)

    P is the regularized lower incomplete gamma function. The last form is equation 12 of Niu et al. 2024 for the
    squared distance; as printed, the equation integrates exp(-|x|). The cost on balls is O(n^2).

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        The centres of the balls.
    radii : array_like, shape (n,), or float, optional
        Euclidean radii of the balls, or one radius for all. None integrates over all of R^d.
    beta : float, default 1.0
        The inverse temperature.
    form : {"soft", "nearest"}, default "soft"
        "soft" for the energy E of equation 4, "nearest" for g, the squared distance to the nearest pattern (equation
        3).

    Returns
    -------
    float
        log Z, computed in float64.

    Raises
    ------
    ValueError
        If two balls overlap; for "nearest", if radii are unequal and a ball reaches beyond half the distance to the
        nearest other pattern, or radii is None, which has no closed form; or if shapes do not fit, or a radius or
        beta is not finite and > 0.

    Examples
    --------
    >>> corners = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]
    >>> log_partition(corners) == math.log(3 * math.pi)
    True
    >>> round(log_partition(corners, 1.0, form="nearest"), 6), round(log_partition(corners, 1.0), 6)
    (1.784667, 1.784678)
    """
    p = _check.floats("patterns", patterns, "n d").astype(np.float64)
    beta = _check.number("beta", beta, "(0, inf)")
    _check.choice("form", form, get_args(Form))
    n, d = map(int, p.shape)
    if radii is None:
        if form == "nearest":
            raise ValueError("radii must be given for form 'nearest', which has no closed form without; got None")
        return math.log(n) + d / 2 * math.log(math.pi / beta)
    r = _check.real("radii", radii).astype(np.float64)
    if r.shape not in ((), (n,)):
        raise ValueError(f"radii must be one number or (n,) with n = {n}; got {r.shape}")
    r = np.broadcast_to(r, (n,))
    if not (np.isfinite(r).all() and (r > 0).all()):
        raise ValueError(f"radii must be finite and > 0; got {r[~(np.isfinite(r) & (r > 0))][0]}")
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
        pairs = zip(z.tolist(), centres, strict=True)
        parts = np.concatenate([log_noncentral_chi2(d, own, _near(d, own, row)) for own, row in pairs])
    return d / 2 * math.log(math.pi / beta) + float(logsumexp(parts))


def _near(d: int, z: float, centres: Array) -> Array:
    """Return the centres to sum: for the others, F(2z; d, 2c) <= exp(-(sqrt(c) - sqrt(z))^2) < exp(-50) P(d/2, z)."""
    return centres[centres < (math.sqrt(z) + math.sqrt(50 - float(log_gamma_p(d / 2, z)))) ** 2]


def _disjoint(p: Array, r: Array) -> None:
    """Raise if two balls overlap."""
    for i, row in enumerate(np.sqrt(np.maximum(0, -scores(p, p, "euclidean")))):
        overlap = np.flatnonzero(row[i + 1 :] < (r[i] + r[i + 1 :]) * (1 - 4e-16)) + i + 1  # touching is allowed
        if len(overlap):
            j = overlap[0]
            raise ValueError(
                f"radii must leave the balls disjoint; got {r[i]:.6g} and {r[j]:.6g} for patterns {i} and {j} at "
                f"distance {row[j]:.6g}"
            )


def _nearest_is_own(p: Array, r: Array) -> None:
    """Raise if a ball may hold points that are nearer to another pattern."""
    if len(p) > 1 and (too_large := np.flatnonzero((r > separation(p) / 2 * (1 + 4e-16)) & (r != r.min()))).size:
        i = too_large[0]
        raise ValueError(
            f"radii must be equal, or at most half the distance to the nearest other pattern; got {r[i]:.6g} for "
            f"pattern {i}, at distance {separation(p)[i]:.6g}"
        )


@_arithmetic.standard
def log_density(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Floats:
    """Return log(exp(-beta E(x)) / Z), with Z over all of R^d: the equal mixture of n Gaussians.

    Each Gaussian is centred at a pattern and has variance 1 / (2 beta) in every direction.

    Parameters
    ----------
    queries : array_like, shape (m, d) or (d,)
        The points.
    patterns : array_like, shape (n, d)
        The centres.
    beta : float, default 1.0
        The inverse temperature.

    Returns
    -------
    ndarray, shape (m,) or ()
        Log densities, in nats.

    Raises
    ------
    ValueError
        If shapes do not fit, an array is not finite, or beta is not finite and > 0.

    Examples
    --------
    >>> round(float(log_density([0.3], [[0.0]])), 6)          # a Gaussian of variance 1/2
    -0.662365
    """
    energies: Floats = DistanceEnergy(beta).value(queries, patterns)
    return -_check.number("beta", beta, "(0, inf)") * energies - log_partition(patterns, beta=beta)


@_arithmetic.standard
def sample(patterns: ArrayLike, size: int, rng: Seed, *, beta: float = 1.0) -> Floats:
    """Draw points from the mixture of `log_density`.

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        The centres.
    size : int
        The number of points.
    rng : Generator or int
        A random generator, or a seed for a new one.
    beta : float, default 1.0
        The inverse temperature.

    Returns
    -------
    ndarray of float64, shape (size, d)
        The points.

    Raises
    ------
    ValueError
        If patterns have no shape (n, d), size is not an integer >= 1, or beta is not finite and > 0.

    Examples
    --------
    >>> sample([[0.0], [9.0]], 4, rng=0, beta=50.0).round(1).ravel()
    array([9.1, 9. , 8.9, 0. ])
    """
    p = _check.floats("patterns", patterns, "n d")
    size, beta = _check.integer("size", size), _check.number("beta", beta, "(0, inf)")
    rng = _check.generator("rng", rng)
    return p[rng.integers(len(p), size=size)] + rng.normal(scale=(2 * beta) ** -0.5, size=(size, p.shape[1]))


@_arithmetic.standard
def differential_cross_entropy(energies: ArrayLike, log_z: float, *, beta: float = 1.0) -> float:
    """Return log Z + beta mean_i E(x_i), the mean negative log-likelihood of points under exp(-beta E) / Z.

    It is an identity (Niu et al. 2024, section 5.1), for any energy whose integral is Z. At the patterns themselves g
    is zero and the cross-entropy is log Z, which is not bounded below and depends on the unit of length.

    Parameters
    ----------
    energies : array_like, shape (m,)
        The energies E(x_i) of the points.
    log_z : float
        The logarithm of the partition function, as `log_partition` returns it.
    beta : float, default 1.0
        The inverse temperature that log_z was computed with.

    Returns
    -------
    float
        The cross-entropy, in nats.

    Raises
    ------
    ValueError
        If energies are empty or not finite, or beta is not finite and > 0.

    Examples
    --------
    >>> from hopmin import nearest
    >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> g = nearest(corners, corners)[0][:, 0] ** 2
    >>> round(differential_cross_entropy(g, log_partition(corners, 0.1, form="nearest")), 2)
    -2.37
    """
    energies = _check.floats("energies", energies, "n")
    return float(log_z + _check.number("beta", beta, "(0, inf)") * np.mean(energies, dtype=np.float64))


def paper_cross_entropy(log_z: float) -> float:
    """Return log Z + 1/Z (Niu et al. 2024, proposition 4), which is least, 1, at Z = 1.

    The term 1/Z is the value at a pattern of exp(-g) / Z, the density that section 4.2 prints for a layer's energy.
    With the energy g, the cross-entropy at the patterns is log Z: see [`differential_cross_entropy`].

    >>> paper_cross_entropy(0.0), round(paper_cross_entropy(-2.3668), 2)
    (1.0, 8.3)
    """
    log_z = _check.real_number("log_z", log_z)
    return log_z + (math.exp(-log_z) if log_z > -700 else math.inf)
