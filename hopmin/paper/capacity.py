"""Capacities in closed form, and the margins at which retrieval is exact.

- random patterns of -1 and 1, under the Hebb rule or a higher power of the overlap: the fraction of bits that one step
  gets wrong [`one_step_error`], the load at a given fraction [`one_step_load`], the number of patterns without a wrong
  bit [`exact_capacity`]
- the Hebb rule in the limit of infinitely many neurons [`hebb_capacity`], [`hebb_overlap`]
- exponentially many patterns: states of -1 and 1 [`exponential_rate`], points on a sphere [`sphere_capacity`]
- given patterns: the margin by which each is its own best match [`dot_separation`], the bound that it puts on the error
  of one step of attention [`retrieval_error_bound`], and the margin of exact retrieval with sparse weights
  [`sparse_margin`]

A load is a number of patterns over d^(power - 1), which is d for the Hebb rule. Statements about random patterns hold
as d grows; statements about given patterns hold for those patterns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Floats
from hopmin.memory.nearest import nearest
from hopmin.special import erf, erfc, ndtri, wrightomega

# Random patterns, and the overlap to a power


@_arithmetic.standard
def one_step_error(load: ArrayLike, *, power: int = 2) -> Floats:
    """Return erfc(1 / sqrt(2 (2 power - 3)!! load)) / 2, the fraction of bits that one step from a pattern gets wrong.

    The other patterns add normal noise to each neuron's signal; its variance is (2 power - 3)!! load times the squared
    signal. Hopfield 1982 (power 2, the Hebb rule), Krotov and Hopfield 2016 (any power; they print its asymptotic
    tail).

    Parameters
    ----------
    load : array_like
        Numbers of patterns over d^(power - 1), of any shape.
    power : int, default 2
        The power of the overlap, from 2 to 151.

    Returns
    -------
    ndarray of float64
        Fractions in [0, 0.5], in the shape of `load`.

    Raises
    ------
    ValueError
        If a load is not finite and >= 0, or the power is not from 2 to 151.

    Examples
    --------
    >>> one_step_error([0.105, 0.138, 0.185, 0.37, 0.61]).round(5)
    array([0.00101, 0.00355, 0.01004, 0.05009, 0.10021])
    """
    load = _check.numbers_below("load", load, np.inf)
    with np.errstate(divide="ignore", over="ignore"):
        error: Floats = erfc(1 / np.sqrt(2 * _double_factorial(power) * load))[()] / 2
    return error


@_arithmetic.standard
def one_step_load(error: ArrayLike, *, power: int = 2) -> Floats:
    """Return the load at which `one_step_error` is `error`.

    Raises ValueError if an error is not in [0, 0.5), or the power is not from 2 to 151.

    >>> [float(one_step_load(0.005, power=power).round(5)) for power in (2, 3, 4)]
    [0.15072, 0.05024, 0.01005]
    """
    quantiles = ndtri(_check.numbers_below("error", error, 0.5))
    load: Floats = (1 / (np.square(quantiles) * _double_factorial(power)))[()]
    return load


@_arithmetic.standard
def exact_capacity(d: int, *, power: int = 2, every: bool = False) -> float:
    """Return d^(power - 1) / (2 (2 power - 3)!! log d), the number of patterns that one step keeps exactly.

    Below this number the expected number of wrong bits, d or n d times `one_step_error`, goes to zero as d grows.
    McEliece et al. 1987 (power 2: d / (2 log d) and d / (4 log d)), Krotov and Hopfield 2016 (any power, most
    patterns).

    Parameters
    ----------
    d : int
        The number of neurons, at least 2.
    power : int, default 2
        The power of the overlap, from 2 to 151.
    every : bool, default False
        If False, most patterns are kept exactly; if True, all of them, and the number is divided by the power.

    Returns
    -------
    float
        The number of patterns.

    Raises
    ------
    ValueError
        If d is below 2, or the power is not from 2 to 151.
    OverflowError
        If the number is too large for a float.

    Examples
    --------
    >>> round(exact_capacity(1000), 2), round(exact_capacity(1000, every=True), 2)
    (72.38, 36.19)
    >>> [round(exact_capacity(100, power=power), 1) for power in (2, 3, 4)]
    [10.9, 361.9, 7238.2]
    """
    d, moment = _check.integer("d", d, 2), _double_factorial(power)
    most: float = d ** (power - 1) / (2 * moment) / math.log(d)  # the division of integers cannot overflow midway
    return most / power if every else most


def _double_factorial(power: int) -> int:
    """Return (2 power - 3)!!, the moment of order 2 power - 2 of a normal number; a float up to power 151."""
    return math.prod(range(1, 2 * _check.integer("power", power, 2, 151) - 2, 2))


# The Hebb rule, in the limit


class HebbCapacity(NamedTuple):
    """The capacity of the Hebb rule, beyond which no minimum is next to a pattern.

    Parameters
    ----------
    load : float
        The number of patterns over the number of neurons.
    overlap : float
        x.p / d of a pattern p and the minimum x next to it, at this load.
    """

    load: float
    overlap: float


def hebb_capacity() -> HebbCapacity:
    """Return the largest load at which there are minima next to the patterns, and their overlap there.

    Amit, Gutfreund and Sompolinsky 1985, replica-symmetric, at zero temperature: with the overlap m = erf(y), such a
    minimum solves sqrt(2 load) = erf(y) / y - 2 exp(-y^2) / sqrt(pi). The capacity is the maximum of the right side.

    >>> load, overlap = hebb_capacity()
    >>> round(load, 6), round(overlap, 5)
    (0.137906, 0.96742)
    """
    return HebbCapacity(float(_root_load(_MAXIMUM) ** 2 / 2), math.erf(_MAXIMUM))


@_arithmetic.standard
def hebb_overlap(load: ArrayLike) -> Floats:
    """Return the overlap x.p / d between a pattern and the minimum next to it at this load; 0 beyond the capacity.

    Raises ValueError if a load is not finite and >= 0.

    >>> hebb_overlap([0.0, 0.05, 0.1, 0.12, 0.137, 0.138]).round(5)
    array([1.     , 0.99999, 0.998  , 0.99322, 0.97544, 0.     ])
    """
    root = math.sqrt(2) * np.sqrt(_check.numbers_below("load", load, np.inf))
    low, high = np.full(root.shape, _MAXIMUM), np.full(root.shape, 6.0)  # erf(6) rounds to 1
    for _ in range(60):
        y = (low + high) / 2
        low, high = np.where(_root_load(y) > root, (y, high), (low, y))
    overlap: Floats = np.where(root > _root_load(_MAXIMUM), 0.0, erf(low))[()]
    return overlap


def _root_load(y: Floats | float) -> Floats:
    """Return sqrt(2 load)."""
    root: Floats = erf(y) / y - 2 / math.sqrt(math.pi) * np.exp(-np.square(y))
    return root


def _maximum() -> float:
    """Return the y at which `_root_load` is largest, where 2 exp(-y^2) (y + 2 y^3) / sqrt(pi) = erf(y)."""
    low, high = 1.0, 2.0
    for _ in range(60):
        y = (low + high) / 2
        increasing = 2 / math.sqrt(math.pi) * math.exp(-y * y) * (y + 2 * y**3) > math.erf(y)
        low, high = (y, high) if increasing else (low, y)
    return low


_MAXIMUM = _maximum()


# Exponentially many


@_arithmetic.standard
def exponential_rate(flipped: ArrayLike = 0.0) -> Floats:
    """Return (log 2 - H(flipped)) / 2, in nats: below this rate, exp(rate d) patterns can be stored.

    One step of the exponential memory then corrects a fraction `flipped` of wrong bits, for random patterns of -1 and 1
    (Demircigil et al. 2017, theorem 3, whose I(1 - 2 flipped) is log 2 minus the binary entropy H). Without flipped
    bits the rate is log(2) / 2: 2^(d / 2) patterns.

    Raises ValueError if a fraction is not in [0, 0.5).

    >>> exponential_rate([0, 0.05, 0.1, 0.2, 0.3]).round(5)
    array([0.34657, 0.24732, 0.18403, 0.09637, 0.04114])
    """
    flipped = _check.numbers_below("flipped", flipped, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        wrong = np.where(flipped > 0, flipped * np.log(2 * flipped), 0)
    rate: Floats = (wrong + (1 - flipped) * np.log1p(1 - 2 * flipped))[()] / 2  # log 2 - H would cancel near 1/2
    return rate


class SphereCapacity(NamedTuple):
    """A lower bound on the number of random points on a sphere that can be stored.

    Parameters
    ----------
    growth : float
        c, the base of the exponential.
    patterns : float
        sqrt(failure) c^((d - 1) / 4), the number of patterns; inf if it is too large for a float.
    holds : bool
        True if c >= (2 / sqrt(failure))^(4 / (d - 1)), the condition of the theorem.
    """

    growth: float
    patterns: float
    holds: bool


@_arithmetic.standard
def sphere_capacity(d: int, *, beta: float = 1.0, radius: float = 1.0, failure: float = 1e-3) -> SphereCapacity:
    """Return a lower bound on the number of random points on a sphere that DotEnergy(beta) stores.

    Ramsauer et al. 2020, theorem 3, for a sphere of Euclidean radius K sqrt(d - 1):

        a = 2 / (d - 1) (1 + log(2 beta K^2 failure (d - 1)))      b = 2 K^2 beta / 5      c = b / W0(exp(a + log b))

    Parameters
    ----------
    d : int
        The dimension, at least 2.
    beta : float, default 1.0
        The inverse temperature.
    radius : float, default 1.0
        K, the radius of the sphere over sqrt(d - 1).
    failure : float, default 1e-3
        The largest probability that the statement fails, in (0, 1].

    Returns
    -------
    SphereCapacity
        The base c, the number of patterns, and whether the theorem's condition holds.

    Raises
    ------
    ValueError
        If d < 2, beta or the radius is not finite and > 0, or the probability is not in (0, 1].

    Examples
    --------
    >>> [round(sphere_capacity(d, radius=radius).growth, 5) for d, radius in ((20, 3.0), (75, 1.0))]
    [3.15461, 1.37188]
    >>> growth, patterns, holds = sphere_capacity(20, radius=3.0)
    >>> round(patterns, 2), holds
    (7.41, True)
    """
    d, failure = _check.integer("d", d, 2), _check.number("failure", failure, "(0, 1]")
    log_square = 2 * math.log(_check.number("radius", radius, "(0, inf)")) + math.log(
        _check.number("beta", beta, "(0, inf)")
    )
    a = 2 / (d - 1) * (1 + log_square + math.log(2 * failure * (d - 1)))
    log_c = wrightomega(a + math.log(2 / 5) + log_square) - a  # W0(e^y) + log W0(e^y) = y
    holds = log_c >= 4 / (d - 1) * math.log(2 / math.sqrt(failure))
    with np.errstate(over="ignore"):
        growth, patterns = np.exp([log_c, log_c * (d - 1) / 4 + math.log(failure) / 2]).tolist()
    return SphereCapacity(growth, patterns, holds)


# Given patterns


@_arithmetic.standard
def dot_separation(patterns: ArrayLike) -> Floats:
    """Return p_i.p_i - max_{j != i} p_i.p_j (n,), the margin by which each pattern is its own best match.

    It is Delta_i of Ramsauer et al. 2020: infinite if n = 1, and negative where a longer pattern matches better. Raises
    the same errors as `nearest`.

    >>> dot_separation([[1.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])
    array([-1.,  3.,  5.])
    """
    p = _check.floats("patterns", patterns, "n d")
    if len(p) == 1:
        return np.full(1, np.inf, p.dtype)
    best, found = nearest(p.astype(np.float64), p, k=2, metric="dot")
    others = np.where(found[:, 0] == np.arange(len(p)), best[:, 1], best[:, 0])
    return _check.cast(np.square(p, dtype=np.float64).sum(axis=1) + others, p, p, p.dtype)


@_arithmetic.standard
def retrieval_error_bound(patterns: ArrayLike, distance: float, *, beta: float = 1.0) -> Floats:
    """Return 2 M min(1, (n - 1) exp(-beta (Delta_i - 2 M r))), a bound on the distance of an update from pattern i.

    It holds for DotEnergy(beta) and every query at a Euclidean distance of at most r from the pattern, with M the
    largest norm and Delta_i the `dot_separation` (Ramsauer et al. 2020, theorem 5). In the theorem r is the larger of
    the query's distance and the fixed point's; the query's distance is enough.

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        The patterns.
    distance : float
        r, the largest distance of a query from its pattern.
    beta : float, default 1.0
        The inverse temperature.

    Returns
    -------
    ndarray, shape (n,)
        Euclidean distances, in the dtype of the patterns.

    Raises
    ------
    ValueError
        If patterns do not have shape (n, d), are not finite or too large to square, the distance is not finite and
        >= 0, or beta is not finite and > 0.

    Examples
    --------
    >>> retrieval_error_bound([[3.0, 0.0], [0.0, 3.0], [-3.0, -3.0]], 0.7, beta=2.0).round(3)
    array([0.037, 0.037, 0.   ])
    """
    p = _check.floats("patterns", patterns, "n d")
    r, beta = _check.number("distance", distance, "[0, inf)"), _check.number("beta", beta, "(0, inf)")
    delta = dot_separation(p.astype(np.float64))
    norm = np.sqrt(np.square(p, dtype=np.float64).sum(axis=1).max())
    with np.errstate(over="ignore", divide="ignore"):
        weight = np.exp(np.log(len(p) - 1) - beta * (delta - 2 * norm * r))
    bound: Floats = (2 * norm * np.minimum(1, weight)).astype(p.dtype)
    return bound


def sparse_margin(alpha: float) -> float:
    """Return 1 / (alpha - 1), the margin of entmax; infinite at alpha = 1.

    One step of SparseEnergy(alpha, beta) keeps pattern i exactly if and only if beta Delta_i is at least this margin,
    with Delta_i the `dot_separation`; otherwise other patterns have weight (Santos et al. 2024; Blondel, Martins and
    Niculae 2020).

    Raises ValueError if alpha is not finite and >= 1.

    >>> sparse_margin(2.0), sparse_margin(1.5), sparse_margin(1.0)
    (1.0, 2.0, inf)
    """
    alpha = _check.number("alpha", alpha, "[1, inf)")
    return 1 / (alpha - 1) if alpha > 1 else math.inf
