"""Values of beta for given patterns, from the distances between them [`suggest_beta`]."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin.memory.nearest import separation


class Betas(NamedTuple):
    """The result of `suggest_beta`, in ascending order.

    Attributes
    ----------
    typical : float
        At this beta, at least half of the patterns have at least 90 % of the weight at themselves.
    certified : float
        From this beta on, every pattern is stored.
    sharp : float
        From this beta on, an update near a pattern gives that pattern, up to rounding.
    """

    typical: float
    certified: float
    sharp: float


def suggest_beta(patterns: ArrayLike) -> Betas:
    """Return three values of beta for a DistanceEnergy with these patterns: typical, certified and sharp.

    They follow from the separations D_i, the distances of each pattern to the nearest different one, and their number
    n. Copies of a pattern count as one place with several times the weight.

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        The patterns; at least two of them must differ.

    Returns
    -------
    Betas
        typical, certified and sharp.

    Raises
    ------
    ValueError or TypeError
        If patterns are not valid, all equal, or too close or too far apart for beta to be a float.

    Notes
    -----
    With D the least and D' the median separation, and L = log(4 (n - 1))::

        typical    log(9 (n - 1)) / D'^2
        certified  2 (L + log L + 1) / D^2
        sharp      2 log((n - 1) / eps) / D^2

    At a pattern with separation D' or more, the n - 1 others have at most (n - 1) exp(-beta D'^2) times its weight,
    which is 1/9 for `typical`. In the ball of radius D/4 around a pattern, another one at distance D_j has at most
    exp(-beta D_j (D_j - D/2)) <= exp(-beta D_j^2 / 2) times its weight, all others together at most
    (n - 1) exp(-beta D^2 / 2). For `certified` this is at most 1/15, so that the pattern has more than 93 % of the
    weight, an update leads from anywhere in the ball to within 0.07 D of the pattern, and any two points come closer
    to each other: the ball holds one fixed point, which retrieval from everywhere in the ball finds. (These are the
    inequalities of `hopmin.certify`, which needs all distances and certifies smaller beta.) For `sharp` it is at most
    eps, the resolution of the dtype, so that one update is `nearest`.

    For DotEnergy and patterns of equal length, take twice these values.

    Examples
    --------
    >>> betas = suggest_beta([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> [round(beta, 2) for beta in betas]
    [2.89, 7.62, 73.47]
    """
    p = _check.floats("patterns", patterns, "n d")
    distances = separation(p)
    if not distances.all():
        distances = separation(np.unique(p, axis=0))
    if len(distances) == 1:
        raise ValueError(f"patterns must be at least two different ones; got {len(p)} of which none differ")
    others = len(p) - 1
    D, median_D = float(distances.min()), float(np.median(distances))
    least, median = D * D, median_D * median_D
    if least < 1e-300:
        raise ValueError(f"patterns must be far enough apart for beta to be a float; got a distance of {D:.3g}")
    if median > 1e300:
        raise ValueError(f"patterns must be close enough for beta to be a float; got a distance of {median_D:.3g}")
    L = math.log(4 * others)
    sharpness = math.log(others / float(np.finfo(p.dtype).eps))
    return Betas(math.log(9 * others) / median, 2 * (L + math.log(L) + 1) / least, 2 * sharpness / least)
