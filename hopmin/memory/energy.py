"""Energies of an associative memory over R^d: value, gradient, weights and update as methods of one object.

- the soft squared distance to the nearest pattern [`DistanceEnergy`]
- the modern continuous Hopfield network, whose update is attention [`DotEnergy`]
- the soft distance, not squared [`EuclideanEnergy`]
- their base class [`ContinuousEnergy`], and the functions that they share: [`all_scores`],
  [`scaled_softmax`], [`covariance`], [`half_square`], [`in_chunks`]

Each energy is a soft minimum over the patterns, -1/beta log sum exp(beta score), up to constants and |x|^2 / 2. Its
derivative weights the patterns by a softmax. The mean of the patterns under these weights is the update of the first
two, and their gradient is a multiple of x minus the update: one step of attention is one step of descent. Value,
gradient, weights and update belong to one object because the step of one energy may raise another. Energies whose
weights can be exactly zero are in `sparse`, those over states of -1 and 1 in `binary`.

No base class is required of an energy: `retrieve` needs an object with `value`, `update` and `weights`.

All methods take queries (m, d) or (d,) and patterns (n, d). They raise ValueError if a shape does not fit, an array is
empty (m may be 0), an entry is not finite, or squared distances overflow, and TypeError if an array is not real.
Patterns may be `Packed`. The result is float32 if both arrays are float32, else float64.

`DistanceEnergy` and `DotEnergy` compute scores in that dtype, so weights may have relative errors of
beta (d + 3) eps |x - p|^2 or beta (d + 2) eps sum |x_c p_c|, with eps the resolution of the dtype. Where this is
expected to change float32 weights by more than 1/64, scores are computed again in float64. All other energies compute
scores in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check, _threads
from hopmin._typing import Array, Floats
from hopmin.memory._allowed import each
from hopmin.memory.reduction import BLOCK, Packed, Reduction, ScoreMetric, reduce, scores
from hopmin.numerics import logsumexp

MAX_SCORES = 1 << 20  # scores held in memory at a time, by methods that need all of them


@_arithmetic.standard_methods
class ContinuousEnergy:
    """Base class of the energies over R^d: argument checks, shapes and dtypes.

    A subclass defines `_value`, `_weights` and `_hessian`. By default the update is the weighted mean of the patterns,
    T(x), and the gradient is c (x - T(x)), with c the `_curvature`; a subclass may override `_mean`, `_gradient` and
    `_decrease`.

    Parameters
    ----------
    beta : float, default 1.0
        Sharpness, from 1e-30 to 1e30.

    Raises
    ------
    TypeError
        If `beta` is not a real number.
    ValueError
        If `beta` is out of range.
    """

    beta: float

    _metric: ClassVar[ScoreMetric] = "euclidean"
    _curvature: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        beta = _check.number("beta", self.beta, "(0, inf)")
        if not 1e-30 <= beta <= 1e30:
            raise ValueError(f"beta must lie between 1e-30 and 1e30, so that log(n) / beta fits a float32; got {beta}")
        object.__setattr__(self, "beta", beta)

    def value(self, queries: ArrayLike, patterns: ArrayLike, *, allowed: ArrayLike | None = None) -> Floats:
        """Return the energy E(x) of each query.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            States x.
        patterns : array_like or Packed, shape (n, d)
            Stored patterns.
        allowed : array_like of bool or int, optional
            As in `update`.

        Returns
        -------
        ndarray, shape (m,), or a scalar for a single query
            In the common dtype of the arguments.
        """
        if allowed is not None:
            return each(self.value, allowed, queries, patterns)
        x, p, shape = self._pair(queries, patterns)
        return _check.cast(self._value(x, p), x, p, x.dtype).reshape(shape)[()]

    def gradient(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """Return the gradient dE/dx at each query (m, d), or (d,) for a single query."""
        x, p, shape = self._pair(queries, patterns)
        return _check.cast(self._gradient(x, p), x, p, x.dtype).reshape(*shape, x.shape[1])

    def hessian(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """Return the matrix of second derivatives at each query (m, d, d), or (d, d) for a single query.

        The signs of its eigenvalues distinguish a minimum from a saddle.
        """
        x, p, shape = _pair_in_memory(queries, patterns)
        hessians = np.empty((len(x), x.shape[1], x.shape[1]))
        for i, query in enumerate(x.astype(np.float64)):
            hessians[i] = self._hessian(query, p.astype(np.float64), self._weights(x[i : i + 1], p)[0])
        return _check.cast(hessians, x, p, x.dtype).reshape(*shape, *hessians.shape[1:])

    def weights(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """Return the weight of each pattern in the update of each query (m, n), or (n,) for a single query."""
        x, p, shape = self._pair(queries, patterns)
        weights = np.empty((len(x), len(p)), x.dtype)

        def fill(part: slice) -> None:
            weights[part] = self._weights(x[part], p)

        _threads.run([partial(fill, part) for part in _chunks(x, p)])
        return weights.reshape(*shape, len(p))

    def update(
        self,
        queries: ArrayLike,
        patterns: ArrayLike,
        values: ArrayLike | None = None,
        *,
        allowed: ArrayLike | None = None,
    ) -> Floats:
        """Return T(x), the weighted mean of the patterns, or of values stored with them.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            States x.
        patterns : array_like or Packed, shape (n, d)
            Stored patterns.
        values : array_like, shape (n, v), optional
            One row for each pattern; the patterns themselves by default.
        allowed : array_like of bool, shape (m, n) or (n,), or of int, optional
            The patterns that each query may see, or their indices, if they are the same for all: the result is, bit for
            bit, that for these patterns alone. Default: all.

        Returns
        -------
        ndarray, shape (m, d), (m, v), (d,) or (v,)
            In the common dtype of the arguments.

        Raises
        ------
        ValueError
            If a shape does not fit, an array is empty (m may be 0) or not finite, squared distances overflow, or no
            pattern is allowed for a query.
        TypeError
            If an array is not real.
        """
        if allowed is not None:
            return each(self.update, allowed, queries, patterns, values)
        x, p, shape = self._pair(queries, patterns)
        x, v = (x, None) if values is None else _check.matching_values(values, x, p)
        mean = self._mean(x, p, v)
        return mean.astype(x.dtype).reshape(*shape, mean.shape[1])

    def guaranteed_decrease(self, queries: ArrayLike, updated: ArrayLike) -> Floats:
        """Return a lower bound on E(x) - E(T(x)) (m,), given x and T(x), that holds for every beta and all patterns."""
        queries, updated = _check.real("queries", queries), _check.real("updated", updated)
        y = _check.floats("updated", np.atleast_2d(updated), "m d")
        x = _check.floats("queries", np.atleast_2d(queries), "m d", m=len(y), d=y.shape[1])
        with np.errstate(over="ignore"):
            decrease = self._decrease(np.square(x - y.astype(np.float64)).sum(axis=1))
        return _check.cast(decrease, x, y, np.result_type(x, y)).reshape(np.shape(queries)[:-1])[()]

    def _pair(self, queries: ArrayLike, patterns: ArrayLike) -> tuple[Floats, Any, tuple[int, ...]]:
        """Return checked queries (m, d) and patterns, and the shape of the results, (m,) or ()."""
        return _pair_in_memory(queries, patterns)

    def _value(self, x: Floats, p: Any) -> Floats:
        raise NotImplementedError

    def _weights(self, x: Floats, p: Floats) -> Floats:
        raise NotImplementedError

    def _hessian(self, x: Floats, p: Floats, w: Floats) -> Floats:
        """Return the Hessian (d, d) at a single query x (d,) with weights w (n,)."""
        raise NotImplementedError

    def _mean(self, x: Floats, p: Any, v: Floats | None = None) -> Floats:
        """Return the weighted mean of the values v, of the patterns if None."""
        return in_chunks(lambda x: self._weights(x, p) @ (p if v is None else v), x, p)

    def _gradient(self, x: Floats, p: Any) -> Floats:
        return self._curvature * (x - self._mean(x, p))

    def _decrease(self, square: Floats) -> Floats:
        """Return the guaranteed decrease for squared step lengths (m,)."""
        return self._curvature / 2 * square


class _LogSumExpEnergy(ContinuousEnergy):
    """Base class of the energies -1/beta log sum exp(beta score) + simpler terms, computed by the reduction."""

    def _pair(self, queries: ArrayLike, patterns: ArrayLike) -> tuple[Floats, Any, tuple[int, ...]]:
        return _check.pair(queries, patterns)

    def _reduce(self, x: Floats, p: Any, values: Any = None) -> Reduction:
        return reduce(x, p, values, metric=self._metric, beta=self.beta)

    def _mean(self, x: Floats, p: Any, v: Floats | None = None) -> Floats:
        return self._reduce(x, p, p if v is None else v).mean

    def _weights(self, x: Floats, p: Floats) -> Floats:
        return scaled_softmax(self.beta, all_scores(x, p, self._metric))

    def _hessian(self, x: Floats, p: Floats, w: Floats) -> Floats:
        return self._curvature * np.eye(len(x)) - self._curvature**2 * self.beta * covariance(p, w)


@dataclass(frozen=True)
class DistanceEnergy(_LogSumExpEnergy):
    """The soft squared distance to the nearest pattern, -1/beta log sum_i exp(-beta |x - p_i|^2).

    Niu et al. 2024, equation 4 (beta = 1). The energy lies at most log(n) / beta below the squared distance to the
    nearest pattern (proposition 1), and does not change when queries and patterns are translated together.

    Parameters
    ----------
    beta : float, default 1.0
        Sharpness, from 1e-30 to 1e30: the arguments of the softmax are -beta |x - p_i|^2.

    Notes
    -----
    The methods compute

        value      E(x) = -1/beta log sum_i exp(-beta |x - p_i|^2)
        weights    w = softmax(-beta |x - p_i|^2)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   2 (x - T(x))
        Hessian    2 I - 4 beta C, with C the covariance of the patterns under w
        decrease   E(x) - E(T(x)) >= |x - T(x)|^2

    beta enters the gradient only through T(x). Scores are squares of differences, never an expanded square, so that no
    digits are lost close to a pattern or far from the origin.

    Examples
    --------
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

    def _value(self, x: Floats, p: Any) -> Floats:
        return 0.0 - self._reduce(x, p).soft_maximum  # a plain minus would turn 0 into -0


@dataclass(frozen=True)
class DotEnergy(_LogSumExpEnergy):
    """The modern continuous Hopfield network, whose update is scaled dot-product attention.

    Ramsauer et al. 2020, equation 2, with all constants, so that the energy is nonnegative. The update is attention
    with the patterns as keys and beta = 1/sqrt(d).

    Parameters
    ----------
    beta : float, default 1.0
        Sharpness, from 1e-30 to 1e30: the arguments of the softmax are beta x.p_i.

    Notes
    -----
    The methods compute

        value      E(x) = -1/beta log sum_i exp(beta x.p_i) + |x|^2 / 2 + log(n) / beta + max_i |p_i|^2 / 2
        weights    w = softmax(beta x.p_i)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   x - T(x)
        Hessian    I - beta C, with C the covariance of the patterns under w
        decrease   E(x) - E(T(x)) >= |x - T(x)|^2 / 2

    For patterns of equal norm it is half the DistanceEnergy of beta/2, plus log(n) / beta (Niu et al. 2024,
    proposition 2). Otherwise longer patterns have larger products with distant queries, and a stored pattern need not
    be its own best match.

    Examples
    --------
    >>> keys = np.array([[0.0, 4.0], [3.0, 0.0]])
    >>> DotEnergy(beta=0.5).update([1.0, 1.0], keys, values=[[10.0], [20.0]]).round(3)
    array([13.775])
    >>> DotEnergy(beta=9.0).value(keys, keys).round(3)        # |p|^2 / 2 + ... : the shorter pattern lies higher
    array([0.077, 3.577])
    """

    beta: float = 1.0

    _metric = "dot"

    def _value(self, x: Floats, p: Any) -> Floats:
        with np.errstate(over="ignore"):
            largest = _largest_half_square(p)
            value: Floats = half_square(x) - self._reduce(x, p).soft_maximum + np.log(len(p)) / self.beta + largest
        return value


@dataclass(frozen=True)
class EuclideanEnergy(ContinuousEnergy):
    """The soft distance to the nearest pattern, not squared, -1/beta log sum_i exp(-beta |x - p_i|).

    Around each pattern the energy is a cone rather than a bowl. Distant patterns attract no more strongly than close
    ones, which makes it as robust against outliers as a median.

    Parameters
    ----------
    beta : float, default 1.0
        Sharpness, from 1e-30 to 1e30: the arguments of the softmax are -beta |x - p_i|.

    Notes
    -----
    The methods compute, with s = softmax(-beta |x - p_i|) and u_i the unit vectors (x - p_i) / |x - p_i|,

        value      E(x) = -1/beta log sum_i exp(-beta |x - p_i|)
        gradient   sum_i s_i u_i
        weights    w_i proportional to s_i / |x - p_i|
        update     T(x) = sum_i w_i p_i, or of the values: Weiszfeld's step (1937)
        Hessian    sum_i s_i (I - u_i u_i^T) / |x - p_i| - beta C, with C the covariance of the u_i under s
        decrease   E(x) - E(T(x)) >= 0

    The mean under s, the update of attention, may raise the energy.

    At a pattern k the energy has a kink. Let r be the norm of the gradient of the other patterns there. The gradient is
    the shortest subgradient, of norm max(0, r - s_k). The step is that of Vardi and Zhang (2000): pattern k has the
    weight min(1, s_k / r), and the other patterns share the rest as in Weiszfeld's step. A pattern is therefore a fixed
    point if and only if r <= s_k. `hessian` raises ValueError at a pattern.

    Examples
    --------
    >>> patterns = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> energy = EuclideanEnergy(beta=2.0)
    >>> energy.update(patterns, patterns).round(3)            # each pattern is a fixed point
    array([[0., 0.],
           [1., 0.],
           [0., 2.]])
    >>> energy.update([0.2, 0.1], patterns).round(3)
    array([0.079, 0.007])
    """

    beta: float = 1.0

    def _value(self, x: Floats, p: Floats) -> Floats:
        return in_chunks(lambda x: 0.0 - logsumexp(-self.beta * _distances(x, p), axis=1) / self.beta, x, p)

    def _gradient(self, x: Floats, p: Floats) -> Floats:
        gradient = np.empty(x.shape)
        for i in range(len(x)):
            pull, own, norm, _ = self._pull(x[i], p, _distances(x[i : i + 1], p)[0])
            gradient[i] = 0 if own >= norm else pull * (1 - own / norm)
        return gradient

    def _weights(self, x: Floats, p: Floats) -> Floats:
        distances = _distances(x, p)
        with np.errstate(divide="ignore"):
            others = -self.beta * distances - np.where(distances > 0, np.log(distances), np.inf)
        at_pattern = (distances == 0).any(axis=1)
        others[at_pattern & np.isneginf(others).all(axis=1)] = 0  # no other patterns: their weights will be scaled by 0
        weights = scaled_softmax(1.0, others)
        for i in np.flatnonzero(at_pattern):
            _, own, norm, here = self._pull(x[i], p, distances[i])
            weight = min(1.0, own / norm) if norm else 1.0
            weights[i] = (1 - weight) * weights[i] + weight * here / here.sum()
        return weights

    def _hessian(self, x: Floats, p: Floats, w: Floats) -> Floats:
        distances = _distances(x[None], p)[0]
        if not distances.all():
            raise ValueError(
                f"queries must not be patterns, where the energy has a kink; got pattern {distances.argmin()}"
            )
        s, units = scaled_softmax(self.beta, -distances[None])[0], (x - p) / distances[:, None]
        across: Floats = (s / distances).sum() * np.eye(len(x)) - (units.T * (s / distances)) @ units
        return across - self.beta * covariance(units, s)

    def _pull(self, x: Floats, p: Floats, distances: Floats) -> tuple[Floats, float, float, Array]:
        """Return the gradient of the patterns not at a query x (d,), s of those at x, its norm, and which are at x."""
        s, here = scaled_softmax(self.beta, -distances[None])[0], distances == 0
        pull = np.divide(s, distances, out=np.zeros(len(p)), where=~here) @ (x.astype(np.float64) - p)
        return pull, float(s[here].sum()), float(np.linalg.norm(pull)), here

    def _decrease(self, square: Floats) -> Floats:
        return np.zeros_like(square)


# Functions that energies share


def all_scores(x: Floats, p: Any, metric: ScoreMetric) -> Floats:
    """Return the scores of all patterns for each query.

    Parameters
    ----------
    x : ndarray, shape (m, d)
        Queries.
    p : ndarray or Packed, shape (n, d)
        Patterns.
    metric : {"euclidean", "dot"}
        Score of a pattern p for a query x: -|x - p|^2 or x.p.

    Returns
    -------
    ndarray of float64, shape (m, n)

    Raises
    ------
    ValueError
        If a score overflows.
    """
    s = scores(x, p, metric)
    if len(x) == 0 or not _check.is_finite(s):
        rows = np.asarray(p)
        _check.finite("patterns", rows)
        if len(x):
            raise _check.too_large(x, rows, s.dtype)
    return s


def scaled_softmax(beta: float, s: Floats) -> Floats:
    """Return softmax(beta s) (m, n) of scores of any size, which are overwritten."""
    s -= s.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # infinitely far below the peak: a weight of 0
        s *= beta
    np.exp(s, out=s)
    s /= s.sum(axis=1, keepdims=True)
    return s


def covariance(points: Floats, w: Floats) -> Floats:
    """Return the covariance (d, d) of points (n, d) under weights w (n,)."""
    centred = points - w @ points
    return (centred.T * w) @ centred


def _largest_half_square(p: Any) -> float:
    """Return the largest |p|^2 / 2 of the patterns, in float64; packed patterns keep it."""
    largest = p._half_square if isinstance(p, Packed) else None
    if largest is None:
        largest = max(float(half_square(p[i : i + BLOCK]).max()) for i in range(0, len(p), BLOCK))
        if isinstance(p, Packed):
            object.__setattr__(p, "_half_square", largest)
    return largest


def half_square(a: Floats) -> Floats:
    """Return |a|^2 / 2 of each row of a (m, d), in float64."""
    squares: Floats = np.square(a, dtype=np.float64, order="C").sum(axis=1)  # the same sums for any layout
    return squares / 2


def in_chunks(function: Callable[[Array], Floats], x: Array, p: Floats) -> Floats:
    """Return function(x), computed for a part of the queries at a time.

    Parameters
    ----------
    function : callable
        Maps queries (c, ...) to results (c, ...), each query independently of the others.
    x : ndarray, shape (m, ...)
        Queries, or their indices.
    p : ndarray, shape (n, d)
        Patterns. Each part has about MAX_SCORES / n queries, so that their scores fit in memory.

    Returns
    -------
    ndarray, shape (m, ...)
    """
    return np.concatenate([function(x[part]) for part in _chunks(x, p)])


def _chunks(x: Array, p: Any) -> list[slice]:
    size = max(1, MAX_SCORES // len(p))
    return [slice(i, i + size) for i in range(0, max(len(x), 1), size)]


def _distances(x: Floats, p: Floats) -> Floats:
    """Return |x - p| (m, n); 0 below 1.5e-154, where squares are subnormal."""
    squares = -all_scores(x, p, "euclidean")
    return np.sqrt(np.where(squares < np.finfo(np.float64).tiny, 0, squares))


def _pair_in_memory(queries: ArrayLike, patterns: ArrayLike) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Return checked queries (m, d), checked patterns as one array, and the shape of the results, (m,) or ()."""
    return _check.pair(queries, _check.floats("patterns", patterns, "n d"))
