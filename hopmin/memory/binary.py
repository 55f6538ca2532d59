"""Binary associative memories: energies over states of -1 and 1, whose neurons flip one at a time or all at once.

- the network of Hopfield (1982), with the Hebb rule or the projection on the patterns [`HopfieldEnergy`]
- dense associative memory, a power of each overlap instead of its square [`PolynomialEnergy`]
- the exponential of each overlap, whose update is closely related to attention [`ExponentialEnergy`]

Each energy is E(x) = -sum_i F(o_i), a function of the overlaps o_i = p_i.x alone. A flip of neuron k changes o_i by
-2 x_k p_ik, which is 2 or -2. With two differences of F,

    slope_i = (F(o_i + 2) - F(o_i - 2)) / 4        bend_i = (F(o_i + 2) - 2 F(o_i) + F(o_i - 2)) / 4

the flip changes E by 2 (x_k sum_i p_ik slope_i - sum_i bend_i), computed for all neurons by one matrix product. There
are two update rules:

    rule             a neuron flips if and only if                         the energy
    difference       that lowers E, the other neurons fixed                never rises in asynchronous updates, any F
    tangent          x_k sum_i p_ik F'(o_i) < 0                            never rises, synchronously either, convex F

The tangent rule is the difference rule with slope F' and no bend. It is used with `self_coupling`, because the bend
removes the input of a neuron to itself. Ties keep the state, and so do differences within the rounding error. Every
flip by the difference rule therefore lowers the energy of exact arithmetic, and repeated asynchronous updates reach a
fixed point.

The methods are those of the energies in `energy`, whose module docstring describes shapes, dtypes and errors. In
addition, they raise ValueError if queries or patterns contain anything but -1 and 1. There is no gradient: the energy
is defined on the corners of a cube only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hopmin import _arithmetic, _check
from hopmin._typing import Booleans, Floats
from hopmin.memory._allowed import each
from hopmin.memory.energy import in_chunks
from hopmin.numerics import logsumexp, softmax

Order = Literal["asynchronous", "synchronous"] | Sequence[int] | np.random.Generator


@_arithmetic.standard_methods
@dataclass(frozen=True, kw_only=True)
class _BinaryEnergy:
    """Base class of the binary energies; a subclass defines `_value`, `_slopes` and `_pull`."""

    order: Order = "asynchronous"
    self_coupling: bool = False

    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", _check.update_order("order", self.order, ("asynchronous", "synchronous")))
        object.__setattr__(self, "self_coupling", _check.boolean("self_coupling", self.self_coupling))

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
        x, p, shape, dtype = self._pair(queries, patterns)
        return in_chunks(lambda x: self._value(x, p), x, p).astype(dtype).reshape(shape)[()]

    def weights(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """Return |F'(o_i)| of each pattern divided by their sum (m, n), or (n,) for a single query.

        Weights are uniform where the sum is 0.
        """
        x, p, shape, dtype = self._pair(queries, patterns)
        return self._weights(x, p).astype(dtype).reshape(*shape, len(p))

    def update(
        self,
        queries: ArrayLike,
        patterns: ArrayLike,
        values: ArrayLike | None = None,
        *,
        clamp: ArrayLike | None = None,
        allowed: ArrayLike | None = None,
    ) -> Floats:
        """Return the states after each neuron has been updated once, in the order set by `order`.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            States of -1 and 1.
        patterns : array_like or Packed, shape (n, d)
            Patterns of -1 and 1.
        values : array_like, shape (n, v), optional
            One row for each pattern; if given, their weighted mean is returned instead.
        clamp : array_like of bool, shape (m, d) or (d,), optional
            Neurons that keep their state.
        allowed : array_like of bool, shape (m, n) or (n,), or of int, optional
            The patterns that each query may see, or their indices, if they are the same for all: the result is that for
            these patterns alone. Default: all.

        Returns
        -------
        ndarray, shape (m, d), (m, v), (d,) or (v,)
            In the common dtype of the arguments. If the order is a generator, all queries share one permutation.

        Raises
        ------
        ValueError
            If a shape does not fit, an array is empty (m may be 0) or not finite, or a state is not of -1 and 1.
        TypeError
            If an array is not real, or `clamp` not of booleans.
        """
        if allowed is not None:
            x, _, _ = _check.pair(queries, patterns)
            fixed = None if clamp is None else _check.boolean_mask("clamp", clamp, "m d", m=len(x), d=x.shape[1])
            return each(self.update, allowed, queries, patterns, values, clamp=fixed)
        x, p, shape, dtype = self._pair(queries, patterns)
        m, d = x.shape
        free = np.ones((m, d), bool) if clamp is None else ~_check.boolean_mask("clamp", clamp, "m d", m=m, d=d)
        if values is not None:
            _, v = _check.matching_values(values, x.astype(dtype), p)
            return in_chunks(lambda x: self._weights(x, p) @ v, x, p).astype(v.dtype).reshape(*shape, v.shape[1])
        basis, blocks = self._basis(p), self._blocks(d)
        updated = in_chunks(lambda i: self._sweep(x[i], basis, free[i], blocks), np.arange(m), p)
        return updated.astype(dtype).reshape(*shape, d)

    def guaranteed_decrease(self, queries: ArrayLike, updated: ArrayLike) -> Floats:
        """Return a lower bound on E(x) - E(T(x)) (m,): 0 if the update never raises the energy, else -inf."""
        queries, updated = _check.real("queries", queries), _check.real("updated", updated)
        x = _check.floats("queries", np.atleast_2d(queries), "m d")
        y = _check.floats("updated", np.atleast_2d(updated), "m d", m=len(x), d=x.shape[1])
        _check.binary("queries", x)
        _check.binary("updated", y)
        descends = self._convex if self.self_coupling else self.order != "synchronous"
        bound: Floats = np.full(len(x), 0.0 if descends else -np.inf, np.result_type(x, y))
        return bound.reshape(np.shape(queries)[:-1])[()]

    def _pair(self, queries: ArrayLike, patterns: ArrayLike) -> tuple[Floats, Floats, tuple[int, ...], np.dtype[Any]]:
        """Return checked queries and patterns in float64, and the shape and the dtype of the results."""
        x, p, shape = _check.pair(queries, _check.floats("patterns", patterns, "n d"))
        _check.binary("queries", x)
        _check.binary("patterns", p)
        self._check_fit(len(p), p.shape[1], x.dtype)
        return x.astype(np.float64), p.astype(np.float64), shape, x.dtype

    def _check_fit(self, n: int, d: int, dtype: DTypeLike) -> None:
        """Raise if the options do not fit n patterns in d dimensions."""
        if isinstance(self.order, tuple) and max(self.order) >= d:
            raise ValueError(f"order must visit neurons below d = {d}; got {max(self.order)}")

    def _blocks(self, d: int) -> list[slice]:
        """Return the neurons that are visited together, in order."""
        if self.order == "synchronous":
            return [slice(0, d)]
        visits: Iterable[int] = range(d)
        if isinstance(self.order, np.random.Generator):
            visits = self.order.permutation(d).tolist()
        elif not isinstance(self.order, str):
            visits = self.order
        return [slice(k, k + 1) for k in visits]

    def _sweep(self, x: Floats, basis: Floats, free: Booleans, blocks: list[slice]) -> Floats:
        """Visit the blocks in order and return the states x (m, d), changed in place.

        The overlaps with the basis (r, d) are updated after every flip; no d x d matrix is formed.
        """
        (m, d), r = x.shape, len(basis)
        columns, diagonal = np.ascontiguousarray(basis.T), np.square(basis).sum(axis=0)
        bias, rounding = np.broadcast_to(self._bias, d), 4 * (r + d) * np.finfo(np.float64).eps
        inexact = basis[basis != np.rint(basis)]  # overlaps of integers are exact
        other = np.abs(bias).max() + np.abs(inexact).sum()
        overlaps, slope, bend, tie = x @ columns, np.empty((m, r)), np.empty((m, 1)), np.empty((m, 1))
        moved = np.ones(m, bool)
        for block in blocks:
            slope[moved], bend[moved] = self._slopes(overlaps[moved])
            terms = np.abs(slope[moved]).sum(axis=1, keepdims=True) + np.abs(bend[moved]) * diagonal.max()
            tie[moved] = rounding * (terms + other)
            support = x[:, block] * (slope @ columns[block].T + bias[block]) - bend * diagonal[block]
            flip = free[:, block] & (support < -tie)
            moved = flip.any(axis=1)
            x[:, block][flip] *= -1
            overlaps[moved] += 2 * (x[:, block] * flip)[moved] @ columns[block]
        return x

    def _basis(self, p: Floats) -> Floats:
        """Return vectors (r, d), with entries from -1 to 1; the energy is a function of the overlaps with them."""
        return p

    @property
    def _bias(self) -> ArrayLike:
        return 0.0

    @property
    def _convex(self) -> bool:
        return True

    def _value(self, x: Floats, p: Floats) -> Floats:
        raise NotImplementedError

    def _slopes(self, o: Floats) -> tuple[Floats, Any]:
        """Return slopes (m, r) and mean bends (m, 1) for overlaps o (m, r): F' and 0 with self-coupling."""
        raise NotImplementedError

    def _pull(self, x: Floats, p: Floats) -> Floats:
        """Return |F'(o)| (m, n), or a multiple of it."""
        raise NotImplementedError

    def _weights(self, x: Floats, p: Floats) -> Floats:
        pull = self._pull(x, p)
        pull[~pull.any(axis=1)] = 1
        weights: Floats = pull / pull.sum(axis=1, keepdims=True)
        return weights


@dataclass(frozen=True)
class HopfieldEnergy(_BinaryEnergy):
    """The network of Hopfield (1982), E(x) = -x^T W x / 2 - b.x, with states -1 and 1 instead of 0 and 1.

    With the pseudo-inverse rule, linearly independent patterns are all fixed points, up to n = d; with the Hebb rule
    they interfere with each other (crosstalk).

    Parameters
    ----------
    rule : {"hebb", "pseudo-inverse"}, default "hebb"
        W = sum_i p_i p_i^T, or the projection on the span of the patterns (Personnaz, Guyon and Dreyfus 1985).
    bias : array_like, a number or shape (d,), default 0.0
        b.
    order : {"asynchronous", "synchronous"}, sequence of int, or numpy.random.Generator, default "asynchronous"
        Visit neurons 0 to d - 1 one at a time; all at once; the given neurons one at a time, in their order; or all
        neurons one at a time, in an order drawn for each update.
    self_coupling : bool, default False
        Keep the diagonal of W, which is 0 otherwise, in the energy and the update.

    Raises
    ------
    ValueError
        If an option is unknown. When a method is called, if `bias` or `order` does not fit d, or the sum of the biases
        overflows the dtype.
    TypeError
        If an option has a wrong type.

    Notes
    -----
    The methods compute, with F(o) = o^2 / 2 of the overlaps with the patterns or with an orthonormal basis of their
    span,

        value        E(x) = -x^T W x / 2 - b.x
        weights      |o_i| divided by their sum; |c_i| for the projection sum_i c_i p_i of x
        update       x_k <- sign((W x)_k + b_k)
        decrease     E(x) - E(T(x)) >= 0, unless synchronous without self_coupling

    Examples
    --------
    >>> energy, patterns = HopfieldEnergy(), [[1, 1, 1, 1, -1, -1], [1, -1, 1, -1, 1, -1]]
    >>> energy.update([1, 1, 1, 1, -1, 1], patterns)             # one wrong bit
    array([ 1.,  1.,  1.,  1., -1., -1.])
    >>> energy.value([[1, 1, 1, 1, -1, 1], [1, 1, 1, 1, -1, -1]], patterns)
    array([ -4., -12.])
    """

    rule: Literal["hebb", "pseudo-inverse"] = field(default="hebb", kw_only=True)
    bias: ArrayLike = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rule", _check.choice("rule", self.rule, ("hebb", "pseudo-inverse")))
        bias = _check.floats("bias", np.atleast_1d(_check.real("bias", self.bias)), "d").tolist()
        object.__setattr__(self, "bias", tuple(bias) if np.ndim(self.bias) else bias[0])

    @property
    def _bias(self) -> ArrayLike:
        return self.bias

    def _check_fit(self, n: int, d: int, dtype: DTypeLike) -> None:
        super()._check_fit(n, d, dtype)
        if isinstance(self.bias, tuple):
            _check.floats("bias", self.bias, "d", d=d)
        if (largest := np.abs(self.bias).max()) > np.finfo(dtype).max / (8 * d):
            raise ValueError(f"bias must be small enough to be summed in {dtype}; got numbers up to {largest:.3g}")

    def _basis(self, p: Floats) -> Floats:
        if self.rule == "hebb":
            return p
        _, s, vectors = np.linalg.svd(p, full_matrices=False)
        basis: Floats = vectors[s > s[0] * max(p.shape) * np.finfo(np.float64).eps]
        return basis

    def _value(self, x: Floats, p: Floats) -> Floats:
        basis = self._basis(p)
        diagonal = 0.0 if self.self_coupling else np.square(basis).sum()
        quadratic = (diagonal - np.square(x @ basis.T).sum(axis=1)) / 2
        value: Floats = quadratic - x @ np.broadcast_to(self.bias, x.shape[1])
        return value

    def _slopes(self, o: Floats) -> tuple[Floats, Any]:
        return o, 0.0 if self.self_coupling else 1.0

    def _pull(self, x: Floats, p: Floats) -> Floats:
        pull: Floats = np.abs(x @ p.T if self.rule == "hebb" else np.linalg.lstsq(p.T, x.T)[0].T)
        return pull


@dataclass(frozen=True)
class PolynomialEnergy(_BinaryEnergy):
    """Dense associative memory, E(x) = -sum_i F(p_i.x) with F a power, rectified or not.

    Krotov and Hopfield 2016, equations 1 and 2. With power 2 it is HopfieldEnergy, as E = 2 E_Hopfield - n d. The
    higher the power, the more the nearest patterns dominate; about d^(power - 1) patterns can be stored.

    Parameters
    ----------
    power : int, default 3
        The exponent, at least 1.
    rectified : bool, default False
        Replace negative overlaps by 0: F(o) = max(o, 0)^power instead of o^power. An even power that is not rectified
        stores -p_i with every p_i.
    order : {"asynchronous", "synchronous"}, sequence of int, or numpy.random.Generator, default "asynchronous"
        Visit neurons 0 to d - 1 one at a time; all at once; the given neurons one at a time, in their order; or all
        neurons one at a time, in an order drawn for each update.
    self_coupling : bool, default False
        Use the tangent rule instead of the difference rule.

    Raises
    ------
    ValueError
        If an option is out of range. When a method is called, if `order` does not fit d, or n (d + 2)^power overflows.
    TypeError
        If an option has a wrong type.

    Notes
    -----
    The methods compute, with overlaps o_i = p_i.x,

        value        E(x) = -sum_i F(o_i)
        weights      |F'(o_i)| divided by their sum
        update       x_k <- sign(sum_i F(o_i with x_k = 1) - F(o_i with x_k = -1)), equation 2;
                     x_k <- sign(sum_i p_ik F'(o_i)) with self_coupling
        decrease     E(x) - E(T(x)) >= 0, unless synchronous without self_coupling, or with self_coupling and an odd
                     power above 1 that is not rectified

    Examples
    --------
    >>> energy, patterns = PolynomialEnergy(3), [[1, 1, 1, 1, -1, -1], [1, -1, 1, -1, 1, -1]]
    >>> energy.update([1, 1, 1, 1, -1, 1], patterns)             # one wrong bit
    array([ 1.,  1.,  1.,  1., -1., -1.])
    >>> energy.value([[1, 1, 1, 1, -1, 1], [1, 1, 1, 1, -1, -1]], patterns)
    array([ -56., -216.])
    """

    power: int = 3
    rectified: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "power", _check.integer("power", self.power))
        object.__setattr__(self, "rectified", _check.boolean("rectified", self.rectified))

    @property
    def _convex(self) -> bool:
        return self.rectified or self.power == 1 or self.power % 2 == 0

    def _check_fit(self, n: int, d: int, dtype: DTypeLike) -> None:
        super()._check_fit(n, d, dtype)
        if self.power > math.log(np.finfo(dtype).max / (4 * n)) / math.log(d + 2):
            raise ValueError(f"power must be small enough for n (d + 2)^power to fit {dtype}; got {self.power}")

    def _f(self, o: Floats) -> Floats:
        return _power(np.maximum(o, 0) if self.rectified else o, self.power)

    def _derivative(self, o: Floats) -> Floats:
        slope = self.power * _power(o, self.power - 1)
        return slope * (o > 0) if self.rectified else slope

    def _value(self, x: Floats, p: Floats) -> Floats:
        value: Floats = 0.0 - self._f(x @ p.T).sum(axis=1)
        return value

    def _slopes(self, o: Floats) -> tuple[Floats, Any]:
        if self.self_coupling:
            return self._derivative(o), 0.0
        up, here, down = (self._f(o + step) for step in (2, 0, -2))
        return (up - down) / 4, (up - 2 * here + down).mean(axis=1, keepdims=True) / 4

    def _pull(self, x: Floats, p: Floats) -> Floats:
        return np.abs(self._derivative(x @ p.T))


@dataclass(frozen=True)
class ExponentialEnergy(_BinaryEnergy):
    """The memory of exponential capacity, E(x) = -log sum_i exp(p_i.x).

    Demircigil et al. 2017 use the sum without the logarithm, which changes neither the minima nor the updates and
    prevents overflow.

    Parameters
    ----------
    order : {"asynchronous", "synchronous"}, sequence of int, or numpy.random.Generator, default "asynchronous"
        Visit neurons 0 to d - 1 one at a time; all at once; the given neurons one at a time, in their order; or all
        neurons one at a time, in an order drawn for each update.
    self_coupling : bool, default False
        Use the tangent rule instead of the difference rule.

    Raises
    ------
    ValueError
        If an option is unknown. When a method is called, if `order` does not fit d.
    TypeError
        If an option has a wrong type.

    Notes
    -----
    Both rules are functions of attention, A(x) = sum_i w_i p_i with w the softmax of the overlaps. The methods compute

        value        E(x) = -log sum_i exp(p_i.x)
        weights      w
        update       x_k <- -x_k if and only if x_k A_k < tanh(1), the difference rule;
                     x_k <- sign(A_k) with self_coupling: attention, rounded to signs
        decrease     E(x) - E(T(x)) >= 0, unless synchronous without self_coupling

    Examples
    --------
    >>> energy, patterns = ExponentialEnergy(), [[1, 1, 1, 1, -1, -1], [1, -1, 1, -1, 1, -1]]
    >>> energy.update([1, 1, 1, 1, -1, 1], patterns)             # one wrong bit
    array([ 1.,  1.,  1.,  1., -1., -1.])
    >>> energy.value([[1, 1, 1, 1, -1, 1], [1, 1, 1, 1, -1, -1]], patterns).round(3)
    array([-4.002, -6.002])
    """

    def _value(self, x: Floats, p: Floats) -> Floats:
        return 0.0 - logsumexp(x @ p.T, axis=1)

    def _slopes(self, o: Floats) -> tuple[Floats, Any]:
        w = softmax(o, axis=1)  # slope and bend are divided by the same factor, sum_i exp(o_i) sinh(2) / 2
        return w, 0.0 if self.self_coupling else np.tanh(1) * w.mean(axis=1, keepdims=True)

    def _pull(self, x: Floats, p: Floats) -> Floats:
        return softmax(x @ p.T, axis=1)


def _power(z: Floats, k: int) -> Floats:
    """Return z^k, computed for small k as a product, which is ten times as fast."""
    return math.prod([z] * k) if 0 < k <= 8 else z**k  # type: ignore[return-value]
