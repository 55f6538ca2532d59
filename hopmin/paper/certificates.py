"""What can be promised about given patterns: that they are stored, and that the energy has a single minimum.

- balls around the patterns that retrieval cannot leave, and in which it contracts [`certify`]
- how sharp it must be for that [`storing_beta`], and how flat for a convex energy [`convex_beta`]

Definition 1 of Niu et al. 2024, which is that of Ramsauer et al. 2020, calls a pattern stored if a ball around it holds
one fixed point, to which the whole ball converges, and the balls are disjoint. It does not say how to see that. Here
are inequalities, in the distances alone, that suffice. They are of DistanceEnergy, and cost O(n^2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.reduction import scores


class Certificate(NamedTuple):
    """What `certify` can promise of each pattern.

    stored : (n,) whether it is, for certain; the pattern may be stored all the same if not
    drift : (n,) how far from the pattern an update of a point in its ball can lead at most, Euclidean; at most the
        radius if it is stored
    contraction : (n,) an update multiplies the distance of any two points of the ball by this at most; below 1 if it is
        stored
    """

    stored: Array
    drift: Array
    contraction: Array


def certify(patterns: ArrayLike, radius: float, *, beta: float = 1.0) -> Certificate:
    """Which patterns are stored by DistanceEnergy(beta) in balls of this Euclidean radius, for certain.

    With D_ij the distances between patterns, r the radius, and w_ij = exp(-beta (D_ij^2 - 2 r D_ij)), the largest
    weight that pattern j can have next to i within the ball,

        drift_i        sum_{j != i} D_ij w_ij             at most r: the update maps the ball into itself
        contraction_i  2 beta sum_{j != i} D_ij^2 w_ij    below 1: it brings any two points closer

    and 2 r < D_ij for all j, so that the balls are disjoint. Then there is one fixed point, no farther from the pattern
    than the drift, and retrieval from anywhere in the ball closes in on it at least by the factor in every step. The
    update's derivative is 2 beta times a covariance, which is what the second inequality bounds.

    Raises ValueError if shapes do not fit, or radius or beta is not finite and > 0.

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


def storing_beta(patterns: ArrayLike, radius: float) -> float:
    """The smallest beta at which all patterns are certified in balls of this radius; 0 for a single pattern.

    Raises ValueError if the balls are not disjoint, for then there is none, or if it is beyond floats.

    >>> round(storing_beta([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], 0.1), 4)
    2.879
    """
    distances, radius = _distances(patterns), _check.number("radius", radius, "(0, inf)")
    if (closest := float(distances.min(initial=np.inf))) <= 2 * radius:
        raise ValueError(f"radius must be below {closest / 2:.6g}, half the least distance of two; got {radius:.6g}")
    if closest == np.inf:
        return 0.0

    def certified(beta: float) -> bool:
        drift, contraction = _bounds(distances, radius, beta)
        return bool((drift <= radius).all() and (contraction < 1).all())

    # While the drift is at most r, which is below D / 2, all weights are below 1/2: beta (D^2 - 2 r D) > log 2. What
    # is certified stays so for larger beta, though the contraction may rise before: docs/certificates.md proves it.
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


def convex_beta(patterns: ArrayLike) -> float:
    """2 / diameter^2, up to which DistanceEnergy is convex, so that it has one minimum; infinite for a single pattern.

    Its Hessian is 2 I - 4 beta C, and a covariance C of points is at most a quarter of their squared diameter.

    >>> convex_beta([[-1.0], [1.0]])                          # below, (x - T(x)) has one zero; above, three
    0.5
    """
    p = _check.floats("patterns", patterns, "n d")
    square = max(float(-scores(row[None], p, "euclidean").min()) for row in p)
    return 2 / square if square else np.inf


def _distances(patterns: ArrayLike) -> Array:
    """(n, n) Euclidean, infinite from a pattern to itself."""
    p = _check.floats("patterns", patterns, "n d")
    distances = np.sqrt(np.maximum(0, -scores(p, p, "euclidean")))
    np.fill_diagonal(distances, np.inf)
    return distances


def _bounds(distances: Array, radius: float, beta: float) -> tuple[Array, Array]:
    with np.errstate(over="ignore", invalid="ignore"):
        w = np.exp(-beta * distances * (distances - 2 * radius))
        drift, spread = (np.where(w > 0, distances**power * w, 0).sum(axis=1) for power in (1, 2))
        return drift, 2 * (beta * spread)
