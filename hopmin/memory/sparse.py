"""Energies whose weights can be exactly zero, so that a pattern far enough from the others is retrieved exactly.

- attention with entmax in place of softmax [`SparseEnergy`]
- a bowl of finite width around each pattern [`EpanechnikovEnergy`]

They have the methods of the energies in `energy`, whose module docstring describes shapes, dtypes and errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Booleans, Floats
from hopmin.memory._allowed import each
from hopmin.memory.energy import MAX_SCORES, ContinuousEnergy, all_scores, covariance, half_square, in_chunks
from hopmin.numerics import entmax, tsallis_entropy


@dataclass(frozen=True)
class SparseEnergy(ContinuousEnergy):
    """The Hopfield-Fenchel-Young energy, whose weights are the entmax of the scores.

    Santos et al. 2024. alpha = 1 is `DotEnergy`; alpha = 2 has the weights of sparsemax.

    Parameters
    ----------
    alpha : float, default 1.5
        Order of the Tsallis entropy H, finite and at least 1; the larger, the more weights are 0.
    beta : float, default 1.0
        Sharpness, from 1e-30 to 1e30: the arguments of entmax are beta x.p_i.

    Notes
    -----
    Let H*(z) be the maximum of w.z + H(w) over distributions w, which w = entmax(z, alpha) attains. The methods compute

        value      E(x) = -H*(beta P x) / beta + |x|^2 / 2 + H(1/n, ..., 1/n) / beta + max_i |p_i|^2 / 2
        weights    w = entmax(beta x.p_i, alpha)
        update     T(x) = sum_i w_i p_i, or of the values
        gradient   x - T(x)
        Hessian    I - beta G C, with G the sum of g_i = w_i^(2 - alpha) where w_i > 0, C the covariance under g / G
        decrease   E(x) - E(T(x)) >= |x - T(x)|^2 / 2

    One step from pattern i returns it exactly if and only if beta (p_i.p_i - max_j p_i.p_j) >= 1 / (alpha - 1).

    The Hessian is discontinuous where an entry of w reaches zero; there it is that of the entries above zero. The
    weights have the accuracy of `entmax`: for alpha far above 2, rounding may change them so much that a step raises
    the energy.

    Examples
    --------
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

    def _value(self, x: Floats, p: Floats) -> Floats:
        uniform = tsallis_entropy(np.full(len(p), 1 / len(p)), self.alpha)

        def conjugate(x: Floats) -> Floats:  # H*(beta P x) / beta
            s = all_scores(x, p, self._metric)
            peak = s.max(axis=1)
            w = self._entmax(s)
            mean: Floats = peak + (w * (s - peak[:, None])).sum(axis=1)
            return mean + tsallis_entropy(w, self.alpha, axis=1) / self.beta

        with np.errstate(over="ignore"):
            value: Floats = half_square(x) - in_chunks(conjugate, x, p) + uniform / self.beta + half_square(p).max()
        return value

    def _weights(self, x: Floats, p: Floats) -> Floats:
        return self._entmax(all_scores(x, p, self._metric))

    def _entmax(self, s: Floats) -> Floats:
        with np.errstate(over="ignore"):  # infinitely far below the peak: a weight of 0
            return entmax(self.beta * (s - s.max(axis=1, keepdims=True)), self.alpha, axis=1)

    def _hessian(self, x: Floats, p: Floats, w: Floats) -> Floats:
        p, w = p[w > 0], w[w > 0]
        with np.errstate(over="ignore", invalid="ignore"):  # `cast` raises if the result overflows
            g: Floats = w ** (2 - self.alpha)
            hessian: Floats = np.eye(len(x)) - self.beta * g.sum() * covariance(p, g / g.sum())
        return hessian


@_arithmetic.standard_methods
@dataclass(frozen=True)
class EpanechnikovEnergy(ContinuousEnergy):
    """The log-sum-ReLU energy, to which each pattern contributes only within a distance of sqrt(2 / beta).

    Hoover et al. 2025. The patterns within reach of x are its support. The update is a step of mean shift: the mean of
    the support. Its fixed points are minima, never saddles. A pattern with no other pattern in its reach is retrieved
    exactly. The centre of several patterns whose bowls overlap can also be a minimum, although it was never stored
    [`minima`].

    Outside the reach of every pattern the energy is inf, weights and gradient are 0, the update returns x unchanged,
    and values average to 0.

    Parameters
    ----------
    beta : float, default 1.0
        Sharpness, from 1e-30 to 1e30.

    Attributes
    ----------
    reach : float
        sqrt(2 / beta).

    Notes
    -----
    With S the sum below and B the number of patterns in the support, the methods compute

        value      E(x) = -1/beta log S, S = sum_i max(0, 1 - beta |x - p_i|^2 / 2)
        weights    1/B for each pattern in the support, 0 for the others
        update     T(x) = the mean of the support, or of its values
        gradient   B (x - T(x)) / S
        Hessian    B I / S + beta B^2 (x - T(x)) (x - T(x))^T / S^2
        decrease   E(x) - E(T(x)) >= log(1 + beta |x - T(x)|^2 / 2) / beta

    Examples
    --------
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
        """sqrt(2 / beta), the Euclidean distance from which a pattern has no weight."""
        return float(np.sqrt(2 / self.beta))

    def value(self, queries: ArrayLike, patterns: ArrayLike, *, allowed: ArrayLike | None = None) -> Floats:
        """Return the energy E(x) of each query; inf outside every reach.

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
        with np.errstate(divide="ignore"):
            value: Floats = 0.0 - np.log(in_chunks(lambda x: self._bowls(x, p).sum(axis=1), x, p)) / self.beta
        return value.astype(x.dtype).reshape(shape)[()]

    def minima(self, patterns: ArrayLike) -> tuple[Floats, Booleans]:
        """Return all minima of the energy (c, d), and the support of each (c, n).

        Stored patterns come first, then minima with larger supports. The centre of a set of patterns is a minimum if
        and only if its support is that set; all 2^n - 1 sets are tried. Raises as `value`, and ValueError if n > 20.

        >>> EpanechnikovEnergy(beta=1.0).minima([[-1.0], [1.0]])
        (array([[-1.],
               [ 1.],
               [ 0.]]), array([[ True, False],
               [False,  True],
               [ True,  True]]))
        """
        p = _check.floats("patterns", patterns, "n d")
        n, dtype, p = _check.integer("n", len(p), 1, 20), p.dtype, p.astype(np.float64)
        found: list[Booleans] = []
        for start in range(1, 1 << n, MAX_SCORES >> 5):
            numbers = np.arange(start, min(1 << n, start + (MAX_SCORES >> 5)))
            sets = (numbers[:, None] >> np.arange(n) & 1).astype(bool)
            found.extend(sets[((self._bowls(_centres(sets, p), p) > 0) == sets).all(axis=1)])
        supports = np.array(sorted(found, key=lambda s: (s.sum(), *np.flatnonzero(s))), bool).reshape(-1, n)
        return _centres(supports, p).astype(dtype), supports

    def _bowls(self, x: Floats, p: Floats) -> Floats:
        """Return max(0, 1 - beta |x - p|^2 / 2) (m, n)."""
        with np.errstate(over="ignore"):
            bowls: Floats = np.maximum(0, 1 + self.beta / 2 * all_scores(x, p, self._metric))
        return bowls

    def _weights(self, x: Floats, p: Floats) -> Floats:
        support = self._bowls(x, p) > 0
        weights: Floats = support / np.maximum(1, support.sum(axis=1, keepdims=True))
        return weights

    def _mean(self, x: Floats, p: Floats, v: Floats | None = None) -> Floats:
        def mean(x: Floats) -> Floats:
            w = self._weights(x, p)
            return w @ v if v is not None else np.where(w.any(axis=1, keepdims=True), w @ p, x)

        return in_chunks(mean, x, p)

    def _gradient(self, x: Floats, p: Floats) -> Floats:
        def gradient(x: Floats) -> Floats:
            bowls = self._bowls(x, p)
            size, total = (bowls > 0).sum(axis=1), bowls.sum(axis=1)
            slope: Floats = (size / np.where(size, total, 1))[:, None] * (x - self._mean(x, p))
            return slope

        return in_chunks(gradient, x, p)

    def _hessian(self, x: Floats, p: Floats, w: Floats) -> Floats:
        total, step = self._bowls(x[None], p).sum(), x - w @ p
        rate = np.count_nonzero(w) / total if total else 0.0
        return rate * np.eye(len(x)) + self.beta * rate**2 * np.outer(step, step)

    def _decrease(self, square: Floats) -> Floats:
        decrease: Floats = np.log1p(self.beta / 2 * square) / self.beta
        return decrease


def _centres(sets: Booleans, p: Floats) -> Floats:
    """Return the mean (c, d) of each set of patterns, for sets (c, n) of booleans."""
    centres: Floats = sets @ p / sets.sum(axis=1, keepdims=True)
    return centres
