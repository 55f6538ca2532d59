"""Sufficient conditions that given patterns are stored, and that the energy has a single minimum.

- balls around the patterns that updates map into themselves and contract [`certify`]
- the smallest beta that guarantees this [`storing_beta`]
- the largest beta that guarantees a convex energy [`convex_beta`]

Definition 1 of Niu et al. 2024, which is that of Ramsauer et al. 2020, calls a pattern stored if a ball around it holds
one fixed point, to which the whole ball converges, and the balls are disjoint. It gives no way to check this. The
inequalities here are sufficient, and need only the distances between patterns. They apply to DistanceEnergy and take
O(n^2) time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Booleans, Floats
from hopmin.memory.reduction import scores


class Certificate(NamedTuple):
    """The guarantees of `certify` for each of n patterns.

    Attributes
    ----------
    stored : ndarray of bool, shape (n,)
        True where the pattern is certainly stored. It may be stored even where this is False.
    drift : ndarray, shape (n,)
        A bound on the Euclidean distance from the pattern to the update of any point in its ball; at most the radius
        where `stored`.
    contraction : ndarray, shape (n,)
        A bound on the factor by which an update multiplies the distance of two points in the ball; below 1 where
        `stored`.
    """

    stored: Booleans
    drift: Floats
    contraction: Floats


@_arithmetic.standard
def certify(patterns: ArrayLike, radius: float, *, beta: float = 1.0) -> Certificate:
    """Certify which patterns DistanceEnergy(beta) stores in balls of this radius.

    With D_ij the distances between patterns, r the radius, and w_ij = exp(-beta (D_ij^2 - 2 r D_ij)), a bound on the
    weight of pattern j relative to pattern i within the ball of i, a pattern is certified if

        drift_i        sum_{j != i} D_ij w_ij             is at most r: the update maps the ball into itself,
        contraction_i  2 beta sum_{j != i} D_ij^2 w_ij    is below 1: the update brings any two points closer,

    and 2 r < D_ij for all j, so that the balls are disjoint. Then the ball holds one fixed point, no farther from the
    pattern than the drift, and each step of retrieval from anywhere in the ball multiplies the distance to it by at
    most the contraction. The derivative of the update is 2 beta times a covariance, which the second inequality bounds.

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        The patterns.
    radius : float
        The Euclidean radius of all balls.
    beta : float, default 1.0
        The inverse temperature.

    Returns
    -------
    Certificate
        `stored`, `drift` and `contraction`, each of shape (n,).

    Raises
    ------
    ValueError
        If patterns have no shape (n, d) or are not finite, or the radius or beta is not finite and > 0.

    Examples
    --------
    >>> patterns = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
    >>> stored, drift, contraction = certify(patterns, 0.1, beta=2.8)
    >>> stored, drift.round(3), contraction.round(3)
    (array([False, False,  True]), array([0.107, 0.106, 0.   ]), array([0.597, 0.596, 0.001]))
    >>> certify(patterns, 0.1, beta=2.9).stored.tolist()
    [True, True, True]
    """
    distances = _distances(patterns)
    radius, beta = _check.number("radius", radius, "(0, inf)"), _check.number("beta", beta, "(0, inf)")
    drift, contraction = _bounds(distances, radius, beta)
    disjoint = 2 * radius < distances.min(axis=1, initial=np.inf)
    return Certificate((drift <= radius) & (contraction < 1) & disjoint, drift, contraction)


@_arithmetic.standard
def storing_beta(patterns: ArrayLike, radius: float) -> float:
    """Return the smallest beta at which all patterns are certified in balls of this radius; 0 for a single pattern.

    Raises ValueError if the balls touch or overlap, as no beta is large enough then, or if beta overflows.

    >>> round(storing_beta([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], 0.1), 4)
    2.879
    """
    distances, radius = _distances(patterns), _check.number("radius", radius, "(0, inf)")
    if (closest := float(distances.min(initial=np.inf))) <= 2 * radius:
        raise ValueError(
            f"radius must be below {closest / 2:.6g}, half the least distance between patterns; got {radius:.6g}"
        )
    if closest == np.inf:
        return 0.0

    def certified(beta: float) -> bool:
        drift, contraction = _bounds(distances, radius, beta)
        return bool((drift <= radius).all() and (contraction < 1).all())

    # If the drift is at most r < D / 2, all weights are below 1/2: beta (D^2 - 2 r D) > log 2. A pattern certified at
    # one beta is certified at every larger one, although the contraction may rise before (docs/certificates.md).
    gap = closest * (closest - 2 * radius)
    low = high = math.log(2) / gap if gap else math.inf
    while high < math.inf and not certified(high):
        low, high = high, 2 * high
    if high == math.inf:
        raise ValueError(f"patterns must be far enough apart for beta to be a float; got a distance of {closest:.3g}")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if certified(middle) else (middle, high)
    return float(high)


@_arithmetic.standard
def convex_beta(patterns: ArrayLike) -> float:
    """Return 2 / diameter^2: up to this beta, DistanceEnergy is convex and has one minimum; infinite for one pattern.

    The Hessian is 2 I - 4 beta C, and the covariance C of points is at most a quarter of their squared diameter. Raises
    ValueError if patterns have no shape (n, d) or are not finite.

    >>> convex_beta([[-1.0], [1.0]])                          # below it x - T(x) has one zero, above it three
    0.5
    """
    p = _check.floats("patterns", patterns, "n d")
    square = max(float(-scores(row[None], p, "euclidean").min()) for row in p)
    return 2 / square if square else np.inf


def _distances(patterns: ArrayLike) -> Floats:
    """Return Euclidean distances (n, n), infinite on the diagonal."""
    p = _check.floats("patterns", patterns, "n d")
    distances = np.sqrt(np.maximum(0, -scores(p, p, "euclidean")))
    np.fill_diagonal(distances, np.inf)
    return distances


def _bounds(distances: Floats, radius: float, beta: float) -> tuple[Floats, Floats]:
    """Return drift and contraction (n,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        w = np.exp(-beta * distances * (distances - 2 * radius))
        drift, squares = (np.where(w > 0, distances**power * w, 0).sum(axis=1) for power in (1, 2))
        return drift, 2 * (beta * squares)
