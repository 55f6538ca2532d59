"""Energies whose weights can be exactly zero, so that a pattern far enough from the others is retrieved exactly.

- attention with entmax in the place of softmax [`SparseEnergy`]
- a bowl of finite width around each pattern [`EpanechnikovEnergy`]

They have the methods of the energies in `energy`, and what is said there of shapes, dtypes and errors holds here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.energy import MAX_SCORES, ContinuousEnergy, all_scores, covariance, half_square, in_chunks
from hopmin.numerics import entmax, tsallis_entropy


@dataclass(frozen=True)
class SparseEnergy(ContinuousEnergy):
    """E(x) = -H*(beta P x) / beta + |x|^2 / 2 + H(1/n, ..., 1/n) / beta + max_i |p_i|^2 / 2.

    H*(z) is the maximum of w.z + H(w) over distributions w, reached by entmax, where H is the Tsallis entropy of order
    alpha >= 1 (Santos et al. 2024, Hopfield-Fenchel-Young networks). alpha = 1 is `DotEnergy`, 2 has the weights of
    sparsemax.

        weights    w = entmax(beta x.p_i, alpha)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   x - T(x)
        Hessian    I - beta G C, with G the sum of g_i = w_i^(2 - alpha) where w_i > 0, C the covariance under g / G
        decrease   E(x) - E(T(x)) >= |x - T(x)|^2 / 2

    One step from pattern i ends exactly there if and only if beta (p_i.p_i - max_j p_i.p_j) >= 1 / (alpha - 1).
    Where an entry of w reaches zero the Hessian jumps; it is that of the entries above zero. Weights are those of
    `entmax`: far beyond alpha = 2 rounding moves them so far that a step may rise.

    >>> keys = np.array([[0.0, 2.0], [1.0, 0.0], [-1.0, -1.0]])
    >>> SparseEnergy(2.0).weights([[0.5, 0.5], [0.0, 1.0]], keys)
    array([[0.75, 0.25, 0.  ],
           [1.  , 0.  , 0.  ]])
    >>> SparseEnergy(1.0).value([0.5, 0.5], keys).round(3), SparseEnergy(2.0).value([0.5, 0.5], keys).round(3)
    (np.float64(1.794), np.float64(1.521))
    """

    alpha: float = 1.5
    beta: float = 1.0

    _metric = "dot"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "alpha", _check.number("alpha", self.alpha, "[1, inf)"))

    def _value(self, x: Array, p: Array) -> Array:
        even = tsallis_entropy(np.full(len(p), 1 / len(p)), self.alpha)

        def best(x: Array) -> Array:  # H*(beta P x) / beta
            s = all_scores(x, p, self._metric)
            peak = s.max(axis=1)
            w = self._choice(s)
            return peak + (w * (s - peak[:, None])).sum(axis=1) + tsallis_entropy(w, self.alpha, axis=1) / self.beta

        with np.errstate(over="ignore"):
            return half_square(x) - in_chunks(best, x, p) + even / self.beta + half_square(p).max()

    def _weights(self, x: Array, p: Array) -> Array:
        return self._choice(all_scores(x, p, self._metric))

    def _choice(self, s: Array) -> Array:
        with np.errstate(over="ignore"):  # infinitely far below the peak: a weight of 0
            return entmax(self.beta * (s - s.max(axis=1, keepdims=True)), self.alpha, axis=1)

    def _hessian(self, x: Array, p: Array, w: Array) -> Array:
        p, w = p[w > 0], w[w > 0]
        with np.errstate(over="ignore", invalid="ignore"):  # then it is refused
            g = w ** (2 - self.alpha)
            return np.eye(len(x)) - self.beta * g.sum() * covariance(p, g / g.sum())


@dataclass(frozen=True)
class EpanechnikovEnergy(ContinuousEnergy):
    """E(x) = -1/beta log sum_i max(0, 1 - beta |x - p_i|^2 / 2): each pattern reaches as far as sqrt(2 / beta).

    The log-sum-ReLU energy (Hoover et al. 2025). The patterns within reach of x are its support, B of them.

        weights    1/B for each pattern in the support, 0 for the others
        update     T(x) = the mean of the support, or of its values
        gradient   B (x - T(x)) / S, where S is the sum
        Hessian    B I / S + beta B^2 (x - T(x)) (x - T(x))^T / S^2
        decrease   E(x) - E(T(x)) >= log(1 + beta |x - T(x)|^2 / 2) / beta

    The update is a step of mean shift; where it rests is a minimum, never a saddle. A pattern without another in its
    reach is retrieved exactly, and so are centres of several that overlap: memories nobody stored [`minima`].

    Outside every reach nothing is known: the energy is +inf, the weights and the gradient are 0, the update leaves x
    where it is, and values average to 0.

    >>> energy = EpanechnikovEnergy(beta=1.0)                 # a reach of 1.414
    >>> energy.update([[0.3], [1.0], [9.0]], [[0.0], [2.0]])
    array([[0.],
           [1.],
           [9.]])
    >>> energy.value([[0.3], [1.0], [9.0]], [[0.0], [2.0]])
    array([0.04604394, 0.        ,        inf])
    """

    beta: float = 1.0

    @property
    def reach(self) -> float:
        """sqrt(2 / beta), the Euclidean distance at which a pattern ceases to count."""
        return float(np.sqrt(2 / self.beta))

    def value(self, queries: ArrayLike, patterns: ArrayLike) -> Any:
        """E (m,): the energy of each query; a scalar for a single one. +inf outside every reach."""
        x, p, shape = self._pair(queries, patterns)
        with np.errstate(divide="ignore"):
            value = 0.0 - np.log(in_chunks(lambda x: self._bowls(x, p).sum(axis=1), x, p)) / self.beta
        return value.astype(x.dtype).reshape(shape)[()]

    def minima(self, patterns: ArrayLike) -> tuple[Array, Array]:
        """Every minimum of the energy (c, d), and its support (c, n) bool; stored patterns first, then by size.

        The centre of a set of patterns is a minimum if and only if its support is that set. All 2^n - 1 sets are tried:
        ValueError if n > 20.

        >>> EpanechnikovEnergy(beta=1.0).minima([[-1.0], [1.0]])
        (array([[-1.],
               [ 1.],
               [ 0.]]), array([[ True, False],
               [False,  True],
               [ True,  True]]))
        """
        p = _check.floats("patterns", patterns, "n d")
        n, dtype, p = _check.integer("n", len(p), 1, 20), p.dtype, p.astype(np.float64)
        found: list[Array] = []
        for start in range(1, 1 << n, MAX_SCORES >> 5):
            numbers = np.arange(start, min(1 << n, start + (MAX_SCORES >> 5)))
            sets = (numbers[:, None] >> np.arange(n) & 1).astype(bool)
            found.extend(sets[((self._bowls(_centres(sets, p), p) > 0) == sets).all(axis=1)])
        supports = np.array(sorted(found, key=lambda s: (s.sum(), *np.flatnonzero(s))), bool).reshape(-1, n)
        return _centres(supports, p).astype(dtype), supports

    def _bowls(self, x: Array, p: Array) -> Array:
        """(m, n) max(0, 1 - beta |x - p|^2 / 2)"""
        with np.errstate(over="ignore"):
            return np.maximum(0, 1 + self.beta / 2 * all_scores(x, p, self._metric))

    def _weights(self, x: Array, p: Array) -> Array:
        support = self._bowls(x, p) > 0
        return support / np.maximum(1, support.sum(axis=1, keepdims=True))

    def _mean(self, x: Array, p: Array, v: Array | None = None) -> Array:
        def rows(x: Array) -> Array:
            w = self._weights(x, p)
            return w @ v if v is not None else np.where(w.any(axis=1, keepdims=True), w @ p, x)

        return in_chunks(rows, x, p)

    def _gradient(self, x: Array, p: Array) -> Array:
        def rows(x: Array) -> Array:
            bowls = self._bowls(x, p)
            count, total = (bowls > 0).sum(axis=1), bowls.sum(axis=1)
            return (count / np.where(count, total, 1))[:, None] * (x - self._mean(x, p))

        return in_chunks(rows, x, p)

    def _hessian(self, x: Array, p: Array, w: Array) -> Array:
        total, step = self._bowls(x[None], p).sum(), x - w @ p
        rate = np.count_nonzero(w) / total if total else 0.0
        return rate * np.eye(len(x)) + self.beta * rate**2 * np.outer(step, step)

    def _decrease(self, square: Array) -> Array:
        return np.log1p(self.beta / 2 * square) / self.beta


def _centres(sets: Array, p: Array) -> Array:
    """(c, d) The means of sets (c, n) of patterns."""
    return sets @ p / sets.sum(axis=1, keepdims=True)
