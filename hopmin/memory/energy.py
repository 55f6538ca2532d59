"""Energies of an associative memory over R^d: value, gradient, weights and update as one object.

- the soft squared distance to the nearest pattern [`DistanceEnergy`]
- the modern continuous Hopfield network, attention's own energy [`DotEnergy`]
- the soft distance, not squared [`EuclideanEnergy`]

At the heart of each is a soft minimum over the patterns, -1/beta log sum exp(beta score). Its derivative weighs the
patterns by a softmax; their average under these weights is the update of the first two, and the gradient of either
points from there to x. So one step of attention is one step of descent, and gradient, weights and update all follow
from the value. They travel together because the step of one energy may raise another. Energies whose weights can be
exactly zero are in `sparse`, those of states of -1 and 1 in `binary`.

Anything with these methods is an energy; no base class is needed, and `retrieve` asks for `value`, `update` and
`weights` alone.

Every method takes queries (m, d) or (d,) and patterns (n, d), and raises ValueError if a shape does not fit, an array
is empty (but for m = 0), an entry is not finite, or squared distances overflow; TypeError if an array is not real.
Patterns may be `Packed`. float32 in both gives float32, anything else float64.

Scores of the first two are computed in that dtype, so weights may be off by shares of beta (d + 3) eps |x - p|^2, where
eps is the dtype's resolution, or of beta (d + 2) eps sum |x_c p_c|. In float32, where this can be expected to change
weights by more than 1/64, they are computed again in float64. All others score in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.reduction import BLOCK, Reduction, reduce, scores
from hopmin.numerics import logsumexp

SCORES = 1 << 20  # that are held at a time, where all of them are needed


class Continuous:
    """What all energies over R^d share: the door, shapes and dtypes. Each gives its `_value` and its `_weights`.

    Most step to the mean by weight, T(x), and have the gradient c (x - T(x)), with c the `_curvature`.
    """

    beta: float

    _metric: ClassVar[str] = "euclidean"
    _curvature: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        beta = _check.number("beta", self.beta, "(0, inf)")
        if not 1e-30 <= beta <= 1e30:
            raise ValueError(f"beta must lie between 1e-30 and 1e30, so that log(n) / beta fits a float32; got {beta}")
        object.__setattr__(self, "beta", beta)

    def value(self, queries: ArrayLike, patterns: ArrayLike) -> Any:
        """E (m,): the energy of each query; a scalar for a single one."""
        x, p, shape = self._pair(queries, patterns)
        return _check.cast(self._value(x, p), x, p, x.dtype).reshape(shape)[()]

    def gradient(self, queries: ArrayLike, patterns: ArrayLike) -> Array:
        """dE/dx (m, d), or (d,) for a single query."""
        x, p, shape = self._pair(queries, patterns)
        return _check.cast(self._gradient(x, p), x, p, x.dtype).reshape(*shape, x.shape[1])

    def hessian(self, queries: ArrayLike, patterns: ArrayLike) -> Array:
        """d^2E/dx^2 (m, d, d), or (d, d): the signs of its eigenvalues tell a minimum from a saddle."""
        x, p, shape = _whole_pair(queries, patterns)
        hessians = np.empty((len(x), x.shape[1], x.shape[1]))
        for i, row in enumerate(x.astype(np.float64)):
            hessians[i] = self._hessian(row, p.astype(np.float64), self._weights(x[i : i + 1], p)[0])
        return _check.cast(hessians, x, p, x.dtype).reshape(*shape, *hessians.shape[1:])

    def weights(self, queries: ArrayLike, patterns: ArrayLike) -> Array:
        """(m, n), or (n,): the share each pattern has in the update of each query."""
        x, p, shape = _whole_pair(queries, patterns)
        return self._weights(x, p).astype(x.dtype).reshape(*shape, len(p))

    def update(self, queries: ArrayLike, patterns: ArrayLike, values: ArrayLike | None = None) -> Array:
        """T(x) (m, d), or (m, v): the patterns, or the `values` (n, v) they stand for, averaged by weight."""
        x, p, shape = self._pair(queries, patterns)
        x, v = (x, None) if values is None else _check.matching_values(values, x, p)
        mean = self._mean(x, p, v)
        return mean.astype(x.dtype).reshape(*shape, mean.shape[1])

    def guaranteed_decrease(self, queries: ArrayLike, updated: ArrayLike) -> Any:
        """A lower bound (m,) on E(x) - E(T(x)), given x and T(x): it holds for every beta and all patterns."""
        y = _check.floats("updated", np.atleast_2d(updated), "m d")
        x = _check.floats("queries", np.atleast_2d(queries), "m d", m=len(y), d=y.shape[1])
        with np.errstate(over="ignore"):
            decrease = self._decrease(np.square(x - y.astype(np.float64)).sum(axis=1))
        return _check.cast(decrease, x, y, np.result_type(x, y)).reshape(np.shape(queries)[:-1])[()]

    def _pair(self, queries: ArrayLike, patterns: ArrayLike) -> tuple[Array, Any, tuple[int, ...]]:
        return _whole_pair(queries, patterns)

    def _value(self, x: Array, p: Any) -> Array:
        raise NotImplementedError

    def _weights(self, x: Array, p: Array) -> Array:
        raise NotImplementedError

    def _hessian(self, x: Array, p: Array, w: Array) -> Array:
        """Of a single query x (d,), with weights w (n,)."""
        raise NotImplementedError

    def _mean(self, x: Array, p: Any, v: Array | None = None) -> Array:
        """Of the patterns, or of what they stand for."""
        return in_chunks(lambda x: self._weights(x, p) @ (p if v is None else v), x, p)

    def _gradient(self, x: Array, p: Any) -> Array:
        return self._curvature * (x - self._mean(x, p))

    def _decrease(self, square: Array) -> Array:
        """The guarantee for steps whose lengths have these squares."""
        return self._curvature / 2 * square


class _SoftMinimum(Continuous):
    """What the first two share: -1/beta log sum exp(beta score), for the score that `_metric` names, by reduction."""

    def _pair(self, queries: ArrayLike, patterns: ArrayLike) -> tuple[Array, Any, tuple[int, ...]]:
        return _check.pair(queries, patterns)

    def _reduce(self, x: Array, p: Any, values: Any = None) -> Reduction:
        return reduce(x, p, values, metric=self._metric, beta=self.beta)

    def _mean(self, x: Array, p: Any, v: Array | None = None) -> Array:
        return self._reduce(x, p, p if v is None else v).mean

    def _weights(self, x: Array, p: Array) -> Array:
        return scaled_softmax(self.beta, all_scores(x, p, self._metric))

    def _hessian(self, x: Array, p: Array, w: Array) -> Array:
        return self._curvature * np.eye(len(x)) - self._curvature**2 * self.beta * covariance(p, w)


@dataclass(frozen=True)
class DistanceEnergy(_SoftMinimum):
    """E(x) = -1/beta log sum_i exp(-beta |x - p_i|^2): the soft squared distance to the nearest pattern.

    Niu et al. 2024, equation 4 (beta = 1). It lies at most log(n) / beta below the squared distance to the nearest
    pattern (proposition 1), does not change when everything is moved together, and

        weights    w = softmax(-beta |x - p_i|^2)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   2 (x - T(x))
        Hessian    2 I - 4 beta C, with C the covariance of the patterns under w
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

    beta: float = 1.0

    _curvature = 2.0

    def _value(self, x: Array, p: Any) -> Array:
        return 0.0 - self._reduce(x, p).soft_maximum  # a plain minus would turn 0 into -0


@dataclass(frozen=True)
class DotEnergy(_SoftMinimum):
    """E(x) = -1/beta log sum_i exp(beta x.p_i) + |x|^2 / 2 + log(n) / beta + max_i |p_i|^2 / 2.

    The modern continuous Hopfield network (Ramsauer et al. 2020, equation 2), with all constants kept, so that E >= 0.
    Its update is scaled dot-product attention, with the patterns as keys and beta = 1/sqrt(d):

        weights    w = softmax(beta x.p_i)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   x - T(x)
        Hessian    I - beta C, with C the covariance of the patterns under w
        decrease   E(x) - E(T(x)) >= |x - T(x)|^2 / 2

    Among patterns of one norm it is half the DistanceEnergy of beta/2, plus log(n) / beta (Niu et al. 2024,
    proposition 2). Otherwise longer patterns win from afar: a stored pattern need not be its own best match.

    >>> keys = np.array([[0.0, 4.0], [3.0, 0.0]])
    >>> DotEnergy(beta=0.5).update([1.0, 1.0], keys, values=[[10.0], [20.0]]).round(3)
    array([13.775])
    >>> DotEnergy(beta=9.0).value(keys, keys).round(3)        # |p|^2 / 2 + ... : the shorter pattern lies higher
    array([0.077, 3.577])
    """

    beta: float = 1.0

    _metric = "dot"

    def _value(self, x: Array, p: Any) -> Array:
        with np.errstate(over="ignore"):
            longest = max(half_square(p[start : start + BLOCK]).max() for start in range(0, len(p), BLOCK))
            return half_square(x) - self._reduce(x, p).soft_maximum + np.log(len(p)) / self.beta + longest


@dataclass(frozen=True)
class EuclideanEnergy(Continuous):
    """E(x) = -1/beta log sum_i exp(-beta |x - p_i|): the soft distance, not squared, to the nearest pattern.

    A cone over each pattern instead of a bowl. Far patterns pull no harder than near ones, as for a median:

        pull       s = softmax(-beta |x - p_i|)
        gradient   sum_i s_i (x - p_i) / |x - p_i|
        weights    w_i proportional to s_i / |x - p_i|
        update     T(x) = sum_i w_i p_i, or of the values: Weiszfeld's step (1937)
        Hessian    sum_i s_i (I - u_i u_i^T) / |x - p_i| - beta C
        decrease   E(x) - E(T(x)) >= 0

    Here u_i are the unit vectors from p_i to x, and C is their covariance under s. The average under s, which attention
    would take, need not descend.

    At a pattern the energy has a kink. Let r be the length of the others' pull there, and s_k the pattern's own share.
    The gradient is the shortest of the subgradients, of length max(0, r - s_k). The step is that of Vardi and Zhang
    (2000): the pattern has the weight s_k / r, but at most 1, and Weiszfeld's step among the others the rest. So a
    pattern stays where it is if and only if r <= s_k. `hessian` raises ValueError there.

    >>> patterns = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> energy = EuclideanEnergy(beta=2.0)
    >>> energy.update(patterns, patterns).round(3)            # the first two pull the third, but not from its place
    array([[0., 0.],
           [1., 0.],
           [0., 2.]])
    >>> energy.update([0.2, 0.1], patterns).round(3)
    array([0.079, 0.007])
    """

    beta: float = 1.0

    def _value(self, x: Array, p: Array) -> Array:
        return in_chunks(lambda x: 0.0 - logsumexp(-self.beta * _distances(x, p), axis=1) / self.beta, x, p)

    def _gradient(self, x: Array, p: Array) -> Array:
        gradient = np.empty(x.shape)
        for i in range(len(x)):
            pull, own, length, _ = self._pull(x[i], p, _distances(x[i : i + 1], p)[0])
            gradient[i] = 0 if own >= length else pull * (1 - own / length)
        return gradient

    def _weights(self, x: Array, p: Array) -> Array:
        distances = _distances(x, p)
        with np.errstate(divide="ignore"):
            others = -self.beta * distances - np.where(distances > 0, np.log(distances), np.inf)
        hit = (distances == 0).any(axis=1)
        others[hit & np.isneginf(others).all(axis=1)] = 0  # nobody else: all weight will be the pattern's own
        weights = scaled_softmax(1.0, others)
        for i in np.flatnonzero(hit):
            _, own, length, here = self._pull(x[i], p, distances[i])
            share = min(1.0, own / length) if length else 1.0
            weights[i] = (1 - share) * weights[i] + share * here / here.sum()
        return weights

    def _hessian(self, x: Array, p: Array, w: Array) -> Array:
        distances = _distances(x[None], p)[0]
        if not distances.all():
            raise ValueError(
                f"queries must not be patterns, where the energy has a kink; got pattern {distances.argmin()}"
            )
        s, units = scaled_softmax(self.beta, -distances[None])[0], (x - p) / distances[:, None]
        bend = (s / distances).sum() * np.eye(len(x)) - (units.T * (s / distances)) @ units
        return bend - self.beta * covariance(units, s)

    def _pull(self, x: Array, p: Array, distances: Array) -> tuple[Array, float, float, Array]:
        """Of a single query: the others' pull, the share of patterns it lies on, the pull's length, who they are."""
        s, here = scaled_softmax(self.beta, -distances[None])[0], distances == 0
        pull = np.divide(s, distances, out=np.zeros(len(p)), where=~here) @ (x.astype(np.float64) - p)
        return pull, float(s[here].sum()), float(np.linalg.norm(pull)), here

    def _decrease(self, square: Array) -> Array:
        return np.zeros_like(square)


# What energies are made of


def all_scores(x: Array, p: Array, metric: str) -> Array:
    """(m, n) float64: every score; ValueError if one is beyond float64."""
    s = scores(x, p, metric)
    if not np.isfinite(s).all():
        raise _check.too_large(x, p, s.dtype)
    return s


def scaled_softmax(beta: float, s: Array) -> Array:
    """softmax(beta s) (m, n), of scores of any size."""
    with np.errstate(over="ignore"):  # infinitely far below the peak: a share of 0
        s = np.exp(beta * (s - s.max(axis=1, keepdims=True)))
    s /= s.sum(axis=1, keepdims=True)
    return s


def covariance(points: Array, w: Array) -> Array:
    """(d, d) of points (n, d) under weights w (n,)."""
    centred = points - w @ points
    return (centred.T * w) @ centred


def half_square(a: Array) -> Array:
    """|a|^2 / 2 (m,) in float64."""
    return np.square(a, dtype=np.float64).sum(axis=1) / 2


def in_chunks(function: Callable[[Array], Array], x: Array, p: Array) -> Array:
    """function(x), a few queries at a time, so that no more than about SCORES scores are held."""
    rows = max(1, SCORES // len(p))
    return np.concatenate([function(x[i : i + rows]) for i in range(0, max(len(x), 1), rows)])


def _distances(x: Array, p: Array) -> Array:
    """(m, n) |x - p|; 0 below 1.5e-154, where squares lose their digits."""
    squares = -all_scores(x, p, "euclidean")
    return np.sqrt(np.where(squares < np.finfo(np.float64).tiny, 0, squares))


def _whole_pair(queries: ArrayLike, patterns: ArrayLike) -> tuple[Array, Array, tuple[int, ...]]:
    return _check.pair(queries, _check.floats("patterns", patterns, "n d"))
