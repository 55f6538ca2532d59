"""Energies of an associative memory over R^d: value, gradient, weights and update as one object.

- the soft squared distance to the nearest pattern [`DistanceEnergy`]
- the modern continuous Hopfield network, attention's own energy [`DotEnergy`]

At the heart of both is a soft minimum over the patterns, -1/beta log sum exp(beta score). Its derivative weighs the
patterns by a softmax; their average under these weights is the update, and the gradient of either energy points from
there to x. So one step of attention is one step of descent, and gradient, weights and update all follow from the
value. They travel together because the step of one energy may raise another.

Anything with these five methods is an energy; no base class is needed.

Every method takes queries (m, d) or (d,) and patterns (n, d), and raises ValueError if a shape does not fit, an array
is empty (but for m = 0), an entry is not finite, or squared distances overflow; TypeError if an array is not real.
Patterns may be `Packed`. float32 in both gives float32, anything else float64.

Scores are computed in that dtype, so weights may be off by shares of beta (d + 3) eps |x - p|^2, where eps is the
dtype's resolution, or of beta (d + 2) eps sum |x_c p_c|. In float32, where this can be expected to change weights
by more than 1/64, they are computed again in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._check import Array
from hopmin.memory.reduction import BLOCK, Reduction, reduce, scores


@dataclass(frozen=True)
class _SoftMinimum:
    """What the two energies share: -1/beta log sum exp(beta score), for the score that `_metric` names."""

    beta: float = 1.0

    _metric: ClassVar[str]
    _curvature: ClassVar[float]  # the gradient of either energy is _curvature (x - T(x))

    def __post_init__(self) -> None:
        beta = _check.positive("beta", self.beta)
        if not 1e-30 <= beta <= 1e30:
            raise ValueError(f"beta must lie between 1e-30 and 1e30, so that log(n) / beta fits a float32; got {beta}")
        object.__setattr__(self, "beta", beta)

    def value(self, queries: ArrayLike, patterns: ArrayLike) -> Any:
        """E (m,): the energy of each query; a scalar for a single one."""
        x, p, shape = _check.pair(queries, patterns)
        value = self._value(self._reduce(x, p), x, p)
        return _check.rounded(value, x, p, x.dtype).reshape(shape)[()]

    def gradient(self, queries: ArrayLike, patterns: ArrayLike) -> Array:
        """dE/dx (m, d), or (d,) for a single query."""
        x, p, shape = _check.pair(queries, patterns)
        gradient = self._curvature * (x - self._reduce(x, p, p).mean)
        return _check.rounded(gradient, x, p, x.dtype).reshape(*shape, x.shape[1])

    def weights(self, queries: ArrayLike, patterns: ArrayLike) -> Array:
        """softmax(beta score) (m, n), or (n,): the share each pattern has in the update of each query."""
        x, p, shape = _check.pair(queries, _check.floats("patterns", patterns, "n d"))
        weights = scores(x, p, self._metric)
        if not np.isfinite(weights).all():
            raise _check.too_large(x, p, weights.dtype)
        with np.errstate(over="ignore"):  # infinitely far below the peak: a weight of 0
            weights = np.exp(self.beta * (weights - weights.max(axis=1, keepdims=True)))
        weights /= weights.sum(axis=1, keepdims=True)
        return weights.astype(x.dtype).reshape(*shape, len(p))

    def update(self, queries: ArrayLike, patterns: ArrayLike, values: ArrayLike | None = None) -> Array:
        """T(x) (m, d), or (m, v): the patterns, or the `values` (n, v) they stand for, averaged by weight."""
        x, p, shape = _check.pair(queries, patterns)
        x, v = (x, p) if values is None else _check.companions(values, x, p)
        return self._reduce(x, p, v).mean.astype(x.dtype).reshape(*shape, v.shape[1])

    def guaranteed_decrease(self, queries: ArrayLike, updated: ArrayLike) -> Any:
        """A lower bound (m,) on E(x) - E(T(x)), given x and T(x): it holds for every beta and all patterns."""
        x, y, shape = _check.pair(queries, _check.floats("updated", np.atleast_2d(updated), "m d"))
        with np.errstate(over="ignore"):
            decrease = self._curvature / 2 * np.square(x - y.astype(np.float64)).sum(axis=1)
        return _check.rounded(decrease, x, y, x.dtype).reshape(shape)[()]

    def _reduce(self, x: Array, p: Any, values: Any = None) -> Reduction:
        return reduce(x, p, values, metric=self._metric, beta=self.beta)

    def _value(self, r: Reduction, x: Array, p: Any) -> Array:
        raise NotImplementedError


class DistanceEnergy(_SoftMinimum):
    """E(x) = -1/beta log sum_i exp(-beta |x - p_i|^2): the soft squared distance to the nearest pattern.

    Niu et al. 2024, equation 4 (beta = 1). It lies at most log(n) / beta below the squared distance to the nearest
    pattern (proposition 1), does not change when everything is moved together, and

        weights    w = softmax(-beta |x - p_i|^2)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   2 (x - T(x))
        decrease   E(x) - E(T(x)) >= |x - T(x)|^2

    The 2 has no beta in it. Scores are squared differences, never an expanded square, so that nothing is lost next to a
    pattern or far from the origin.

    >>> energy = DistanceEnergy(beta=2.0)
    >>> patterns = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> energy.value([0.5, 0.0], patterns)                    # 1/4 - log(2)/2: halfway, both patterns count
    np.float64(-0.09657359027997264)
    >>> energy.update([[0.4, 1.0], [0.6, 1.0]], patterns).round(3)
    array([[0.401, 0.   ],
           [0.599, 0.   ]])
    """

    _metric = "euclidean"
    _curvature = 2.0

    def _value(self, r: Reduction, x: Array, p: Any) -> Array:
        return 0.0 - r.soft_peak  # a plain minus would turn 0 into -0


class DotEnergy(_SoftMinimum):
    """E(x) = -1/beta log sum_i exp(beta x.p_i) + |x|^2 / 2 + log(n) / beta + max_i |p_i|^2 / 2.

    The modern continuous Hopfield network (Ramsauer et al. 2020, equation 2), with all constants kept, so that E >= 0.
    Its update is scaled dot-product attention, with the patterns as keys and beta = 1/sqrt(d):

        weights    w = softmax(beta x.p_i)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   x - T(x)
        decrease   E(x) - E(T(x)) >= |x - T(x)|^2 / 2

    Among patterns of one norm it is half the DistanceEnergy of beta/2, plus log(n) / beta (Niu et al. 2024,
    proposition 2). Otherwise longer patterns win from afar: a stored pattern need not be its own best match.

    >>> keys = np.array([[0.0, 4.0], [3.0, 0.0]])
    >>> DotEnergy(beta=0.5).update([1.0, 1.0], keys, values=[[10.0], [20.0]]).round(3)
    array([13.775])
    >>> DotEnergy(beta=9.0).value(keys, keys).round(3)        # |p|^2 / 2 + ... : the shorter pattern lies higher
    array([0.077, 3.577])
    """

    _metric = "dot"
    _curvature = 1.0

    def _value(self, r: Reduction, x: Array, p: Any) -> Array:
        def half_square(a: Array) -> Array:
            return np.square(a, dtype=np.float64).sum(axis=1) / 2

        with np.errstate(over="ignore"):
            longest = max(half_square(p[start : start + BLOCK]).max() for start in range(0, len(p), BLOCK))
            return half_square(x) - r.soft_peak + np.log(len(p)) / self.beta + longest
