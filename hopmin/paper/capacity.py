"""How much fits, in closed form: capacities, and the margins at which retrieval is exact.

- random patterns of -1 and 1, the overlap raised to a power: bits that one step gets wrong [`one_step_error`], the load
  at which so many are [`one_step_load`], how many patterns are kept to the bit [`exact_capacity`]
- the Hebb rule in the limit of infinitely many neurons [`hebb_capacity`], [`hebb_overlap`]
- exponentially many: states of -1 and 1 [`exponential_rate`], points on a sphere [`sphere_capacity`]
- given patterns: by how much each is its own best match [`dot_separation`], and what that promises of one step of
  attention [`retrieval_error`] and of its sparse kin [`sparse_margin`]

A load is a number of patterns over d^(power - 1), which is d for the Hebb rule. What is said of random patterns holds
as d grows; what is said of given ones holds for them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.nearest import nearest
from hopmin.special import erf, erfc, ndtri, wrightomega

# Random patterns, and the overlap to a power


def one_step_error(load: ArrayLike, *, power: int = 2) -> Any:
    """erfc(1 / sqrt(2 (2 power - 3)!! load)) / 2: the share of bits that the first step from a pattern turns wrong.

    The other n patterns add noise to each neuron's signal, normal with (2 power - 3)!! load times its square as
    variance. Hopfield 1982 (power 2, the Hebb rule), Krotov and Hopfield 2016 (any power; they print the tail of it).

    Raises ValueError if a load is not finite and >= 0, or the power is not from 2 to 151.

    >>> one_step_error([0.105, 0.138, 0.185, 0.37, 0.61]).round(5)
    array([0.00101, 0.00355, 0.01004, 0.05009, 0.10021])
    """
    load = _check.numbers_below("load", load, np.inf)
    with np.errstate(divide="ignore", over="ignore"):
        return erfc(1 / np.sqrt(2 * _double_factorial(power) * load))[()] / 2


def one_step_load(error: ArrayLike, *, power: int = 2) -> Any:
    """The load at which [`one_step_error`] is `error`.

    Raises ValueError if an error is not in [0, 0.5), or the power is not from 2 to 151.

    >>> [float(one_step_load(0.005, power=power).round(5)) for power in (2, 3, 4)]
    [0.15072, 0.05024, 0.01005]
    """
    return (1 / (np.square(ndtri(_check.numbers_below("error", error, 0.5))) * _double_factorial(power)))[()]


def exact_capacity(d: int, *, power: int = 2, every: bool = False) -> float:
    """d^(power - 1) / (2 (2 power - 3)!! log d): how many patterns one step keeps to the bit, asymptotically.

    Most of them; if `every` one is to be kept, a share 1/power of that. It is where the expected number of wrong bits,
    d or n d times [`one_step_error`], goes to zero. McEliece et al. 1987 (power 2: d / (2 log d) and d / (4 log d)),
    Krotov and Hopfield 2016 (any power, most).

    Raises ValueError if d is below 2 or the power not from 2 to 151, OverflowError if there is no such float.

    >>> round(exact_capacity(1000), 2), round(exact_capacity(1000, every=True), 2)
    (72.38, 36.19)
    >>> [round(exact_capacity(100, power=power), 1) for power in (2, 3, 4)]
    [10.9, 361.9, 7238.2]
    """
    d, moment = _check.integer("d", d, 2), _double_factorial(power)
    most = d ** (power - 1) / (2 * moment) / math.log(d)  # whole numbers divide, however large
    return most / power if every else most


def _double_factorial(power: int) -> int:
    """(2 power - 3)!! = 1 3 5 ... (2 power - 3): the moment of order 2 power - 2 of a standard normal number.

    Of powers beyond 151, twice it is no float.
    """
    return math.prod(range(1, 2 * _check.integer("power", power, 2, 151) - 2, 2))


# The Hebb rule, in the limit


class Capacity(NamedTuple):
    """Where the states next to the patterns vanish.

    load : patterns over neurons
    overlap : x.p / d there, between such a state and its pattern
    """

    load: float
    overlap: float


def hebb_capacity() -> Capacity:
    """The largest load at which states next to the patterns are minima, and their overlap there.

    Amit, Gutfreund and Sompolinsky 1985, replica-symmetric, at zero temperature: with the overlap m = erf(y), such a
    state solves sqrt(2 load) = erf(y) / y - 2 exp(-y^2) / sqrt(pi). Here the right side is largest.

    >>> load, overlap = hebb_capacity()
    >>> round(load, 6), round(overlap, 5)
    (0.137906, 0.96742)
    """
    return Capacity(float(_root_load(_TURN) ** 2 / 2), math.erf(_TURN))


def hebb_overlap(load: ArrayLike) -> Any:
    """The overlap x.p / d between a pattern and the state next to it, at this load; 0 beyond the capacity.

    Raises ValueError if a load is not finite and >= 0.

    >>> hebb_overlap([0.0, 0.05, 0.1, 0.12, 0.137, 0.138]).round(5)
    array([1.     , 0.99999, 0.998  , 0.99322, 0.97544, 0.     ])
    """
    root = math.sqrt(2) * np.sqrt(_check.numbers_below("load", load, np.inf))
    low, high = np.full(root.shape, _TURN), np.full(root.shape, 6.0)  # where erf is 1 in floats
    for _ in range(60):
        y = (low + high) / 2
        low, high = np.where(_root_load(y) > root, (y, high), (low, y))
    return np.where(root > _root_load(_TURN), 0.0, erf(low))[()]


def _root_load(y: Any) -> Any:
    """sqrt(2 load)"""
    return erf(y) / y - 2 / math.sqrt(math.pi) * np.exp(-np.square(y))


def _turn() -> float:
    """Where `_root_load` is largest: its derivative, times y^2, is 2 exp(-y^2) (y + 2 y^3) / sqrt(pi) - erf(y)."""
    low, high = 1.0, 2.0
    for _ in range(60):
        y = (low + high) / 2
        rises = 2 / math.sqrt(math.pi) * math.exp(-y * y) * (y + 2 * y**3) > math.erf(y)
        low, high = (y, high) if rises else (low, y)
    return low


_TURN = _turn()


# Exponentially many


def exponential_rate(flipped: ArrayLike = 0.0) -> Any:
    """(log 2 - H(flipped)) / 2, in nats: exp(rate d) patterns mend that share of flipped bits in one step.

    Of the exponential memory, for random patterns of -1 and 1, at any rate below this (Demircigil et al. 2017, theorem
    3, whose I(1 - 2 flipped) is log 2 minus the binary entropy H). Without flips it is log(2) / 2: 2^(d / 2) patterns.

    Raises ValueError if a share is not in [0, 0.5).

    >>> exponential_rate([0, 0.05, 0.1, 0.2, 0.3]).round(5)
    array([0.34657, 0.24732, 0.18403, 0.09637, 0.04114])
    """
    flipped = _check.numbers_below("flipped", flipped, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        turned = np.where(flipped > 0, flipped * np.log(2 * flipped), 0)
    return (turned + (1 - flipped) * np.log1p(1 - 2 * flipped))[()] / 2  # near 1/2, log 2 - H would cancel


class SphereCapacity(NamedTuple):
    """What `sphere_capacity` promises.

    growth : c, the base
    patterns : sqrt(failure) c^((d - 1) / 4), how many can be stored; inf beyond floats
    holds : whether c >= (2 / sqrt(failure))^(4 / (d - 1)), without which nothing is promised
    """

    growth: float
    patterns: float
    holds: bool


def sphere_capacity(d: int, *, beta: float = 1.0, radius: float = 1.0, failure: float = 1e-3) -> SphereCapacity:
    """How many random points on a sphere DotEnergy(beta) can store, but for a probability `failure`, at least.

    Ramsauer et al. 2020, theorem 3, for a sphere of Euclidean radius K sqrt(d - 1), where K is `radius`:

        a = 2 / (d - 1) (1 + log(2 beta K^2 failure (d - 1)))      b = 2 K^2 beta / 5      c = b / W0(exp(a + log b))

    Raises ValueError if d < 2, beta or the radius is not finite and > 0, or the probability is not in (0, 1].

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


def dot_separation(patterns: ArrayLike) -> Array:
    """p_i.p_i - max_{j != i} p_i.p_j (n,): by how much each pattern is its own best match; infinite if n = 1.

    Delta_i of Ramsauer et al. 2020. Not a distance, and negative where a longer pattern matches better.
    Raises as `nearest`.

    >>> dot_separation([[1.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])
    array([-1.,  3.,  5.])
    """
    p = _check.floats("patterns", patterns, "n d")
    if len(p) == 1:
        return np.full(1, np.inf, p.dtype)
    best, found = nearest(p.astype(np.float64), p, k=2, metric="dot")
    others = np.where(found[:, 0] == np.arange(len(p)), best[:, 1], best[:, 0])
    return _check.cast(np.square(p, dtype=np.float64).sum(axis=1) + others, p, p, p.dtype)


def retrieval_error(patterns: ArrayLike, distance: float, *, beta: float = 1.0) -> Array:
    """2 M min(1, (n - 1) exp(-beta (Delta_i - 2 M r))) (n,): how far from pattern i an update can end at most.

    Of DotEnergy(beta), for every query at a Euclidean distance of at most r from the pattern, with M the largest norm
    and Delta_i the [`dot_separation`] (Ramsauer et al. 2020, theorem 5). The theorem takes for r the larger of that
    distance and the fixed point's; the query's alone is enough.

    Raises as `nearest`, and ValueError if the distance is not finite and >= 0, or beta not finite and > 0.

    >>> retrieval_error([[3.0, 0.0], [0.0, 3.0], [-3.0, -3.0]], 0.7, beta=2.0).round(3)
    array([0.037, 0.037, 0.   ])
    """
    p = _check.floats("patterns", patterns, "n d")
    r, beta = _check.number("distance", distance, "[0, inf)"), _check.number("beta", beta, "(0, inf)")
    delta = dot_separation(p.astype(np.float64))
    norm = np.sqrt(np.square(p, dtype=np.float64).sum(axis=1).max())
    with np.errstate(over="ignore", divide="ignore"):
        weight = np.exp(np.log(len(p) - 1) - beta * (delta - 2 * norm * r))
    return (2 * norm * np.minimum(1, weight)).astype(p.dtype)


def sparse_margin(alpha: float) -> float:
    """1 / (alpha - 1): from which beta Delta_i on SparseEnergy(alpha, beta) keeps pattern i exactly; infinite at 1.

    In nats, with Delta_i the [`dot_separation`]. If and only if: below, other patterns have weight (Santos et al. 2024;
    the margin of entmax, Blondel, Martins and Niculae 2020).

    Raises ValueError if alpha is not finite and >= 1.

    >>> sparse_margin(2.0), sparse_margin(1.5), sparse_margin(1.0)
    (1.0, 2.0, inf)
    """
    alpha = _check.number("alpha", alpha, "[1, inf)")
    return 1 / (alpha - 1) if alpha > 1 else math.inf
