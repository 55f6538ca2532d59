"""The binary ancestors: energies of states of -1 and 1, whose neurons flip one after another or all at once.

- the network of Hopfield (1982), by the Hebb rule or by projection [`HopfieldEnergy`]
- a power of each overlap instead of its square: dense associative memory [`PolynomialEnergy`]
- its exponential, the last step before attention [`ExponentialEnergy`]

Each is E(x) = -sum_i F(o_i), a function of the overlaps o_i = p_i.x alone. A flip of neuron k moves o_i by -2 x_k p_ik,
which is 2 or -2. So with two differences of F,

    slope_i = (F(o_i + 2) - F(o_i - 2)) / 4        bend_i = (F(o_i + 2) - 2 F(o_i) + F(o_i - 2)) / 4

it changes E by 2 (x_k sum_i p_ik slope_i - sum_i bend_i), for all neurons by one matrix product.

    rule             a neuron flips if and only if                         the energy
    difference       that lowers E, all others fixed                       never rises, asynchronously, for any F
    tangent          x_k sum_i p_ik F'(o_i) < 0                            never rises, even all at once, for convex F

The second is the first with F' for the slope and no bend; it is taken with `self_coupling`, because the bend takes out
what a neuron says to itself. A tie keeps the state, and so does what rounding might have decided: then every flip by
the difference rule lowers the energy of exact arithmetic, and a repeated asynchronous update comes to rest.

Methods are those of the energies in `energy`, and what is said there of shapes, dtypes and errors holds here. In
addition, ValueError if queries or patterns hold anything but -1 and 1. There is no gradient: on the corners of a cube
there is nothing to differentiate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.energy import in_chunks
from hopmin.numerics import logsumexp, softmax


@dataclass(frozen=True, kw_only=True)
class _Binary:
    """What the three share: the door, the order, the sweep. Each gives its `_value`, its `_slopes` and its `_pull`.

    order : "asynchronous": neurons 0 to d - 1, one after another; "synchronous": all at once; a sequence of neurons, to
        be visited one after another; or a numpy Generator, of which each update draws a new permutation
    self_coupling : whether a neuron hears itself: the tangent rule instead of the difference rule
    """

    order: Any = "asynchronous"
    self_coupling: bool = False

    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", _check.update_order("order", self.order, ("asynchronous", "synchronous")))
        object.__setattr__(self, "self_coupling", _check.boolean("self_coupling", self.self_coupling))

    def value(self, queries: ArrayLike, patterns: ArrayLike) -> Any:
        """E (m,): the energy of each query; a scalar for a single one."""
        x, p, shape, dtype = self._pair(queries, patterns)
        return in_chunks(lambda x: self._value(x, p), x, p).astype(dtype).reshape(shape)[()]

    def weights(self, queries: ArrayLike, patterns: ArrayLike) -> Array:
        """(m, n), or (n,): each pattern's share in the pull on the neurons, |F'(o_i)| of their sum (if 0: even)."""
        x, p, shape, dtype = self._pair(queries, patterns)
        return self._weights(x, p).astype(dtype).reshape(*shape, len(p))

    def update(
        self,
        queries: ArrayLike,
        patterns: ArrayLike,
        values: ArrayLike | None = None,
        *,
        clamp: ArrayLike | None = None,
    ) -> Array:
        """(m, d): the states after each neuron was visited; with `values` (n, v), their average by weight (m, v).

        Neurons in `clamp` (m, d) or (d,) bool keep their state. A permutation that is drawn is one for all queries.
        """
        x, p, shape, dtype = self._pair(queries, patterns)
        m, d = x.shape
        free = np.ones((m, d), bool) if clamp is None else ~_check.boolean_mask("clamp", clamp, "m d", m=m, d=d)
        if values is not None:
            _, v = _check.matching_values(values, x.astype(dtype), p)
            return in_chunks(lambda x: self._weights(x, p) @ v, x, p).astype(v.dtype).reshape(*shape, v.shape[1])
        rows, blocks = self._rows(p), self._blocks(d)
        swept = in_chunks(lambda i: self._sweep(x[i], rows, free[i], blocks), np.arange(m), p)
        return swept.astype(dtype).reshape(*shape, d)

    def guaranteed_decrease(self, queries: ArrayLike, updated: ArrayLike) -> Any:
        """A lower bound (m,) on E(x) - E(T(x)): 0 where the rule never raises the energy, -inf where it may."""
        x = _check.floats("queries", np.atleast_2d(queries), "m d")
        y = _check.floats("updated", np.atleast_2d(updated), "m d", m=len(x), d=x.shape[1])
        _check.binary("queries", x)
        _check.binary("updated", y)
        descends = self._convex if self.self_coupling else self.order != "synchronous"
        bound = np.full(len(x), 0.0 if descends else -np.inf, np.result_type(x, y))
        return bound.reshape(np.shape(queries)[:-1])[()]

    def _pair(self, queries: ArrayLike, patterns: ArrayLike) -> tuple[Array, Array, tuple[int, ...], Any]:
        """Both in float64, the shape that results take, and their dtype."""
        x, p, shape = _check.pair(queries, _check.floats("patterns", patterns, "n d"))
        _check.binary("queries", x)
        _check.binary("patterns", p)
        self._fit(len(p), p.shape[1], x.dtype)
        return x.astype(np.float64), p.astype(np.float64), shape, x.dtype

    def _fit(self, n: int, d: int, dtype: Any) -> None:
        """Raise if n patterns in d dimensions are not what this energy is for."""
        if isinstance(self.order, tuple) and max(self.order) >= d:
            raise ValueError(f"order must visit neurons below d = {d}; got {max(self.order)}")

    def _blocks(self, d: int) -> list[slice]:
        """Neurons that move together, in their order."""
        if self.order == "synchronous":
            return [slice(0, d)]
        visits = range(d) if self.order == "asynchronous" else self.order
        if isinstance(visits, np.random.Generator):
            visits = visits.permutation(d).tolist()
        return [slice(k, k + 1) for k in visits]

    def _sweep(self, x: Array, rows: Array, free: Array, blocks: list[slice]) -> Array:
        """The states x (m, d), in place, after each block has moved. Overlaps follow the flips; no matrix is d x d."""
        (m, d), r = x.shape, len(rows)
        columns, diagonal = np.ascontiguousarray(rows.T), np.square(rows).sum(axis=0)
        bias, rounding = np.broadcast_to(self._bias, d), 4 * (r + d) * np.finfo(np.float64).eps
        other = np.abs(bias).max() + np.abs(rows[rows != np.rint(rows)]).sum()  # of whole numbers overlaps are exact
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

    def _rows(self, p: Array) -> Array:
        """(r, d): what overlaps are taken with, none of whose entries is beyond 1."""
        return p

    @property
    def _bias(self) -> Any:
        return 0.0

    @property
    def _convex(self) -> bool:
        return True

    def _value(self, x: Array, p: Array) -> Array:
        raise NotImplementedError

    def _slopes(self, o: Array) -> tuple[Array, Any]:
        """Of overlaps o (m, r): the slopes (m, r), and the mean (m, 1) of the bends; F' and 0 with self-coupling."""
        raise NotImplementedError

    def _pull(self, x: Array, p: Array) -> Array:
        """(m, n) |F'(o)|, or a multiple of it."""
        raise NotImplementedError

    def _weights(self, x: Array, p: Array) -> Array:
        pull = self._pull(x, p)
        pull[~pull.any(axis=1)] = 1
        return pull / pull.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class HopfieldEnergy(_Binary):
    """E(x) = -x^T W x / 2 - b.x: the network of Hopfield (1982), with states of -1 and 1 in the place of 0 and 1.

    rule : "hebb": W = sum_i p_i p_i^T; "pseudo-inverse": W projects on the span of the patterns (Personnaz, Guyon and
        Dreyfus 1985)
    bias : b, a number or (d,)
    order, self_coupling : as `update` uses them, below

        F            o^2 / 2, of the overlaps with the patterns, or with an orthonormal basis of their span
        update       x_k <- sign((W x)_k + b_k), one after another; order="synchronous": all at once; a sequence of
                     neurons: in that order; a numpy Generator: in a new random order each time
        W_kk         taken as 0, in energy and update, unless self_coupling
        weights      |o_i| of their sum; |c_i| for the projection sum_i c_i p_i of x
        decrease     >= 0, unless synchronous without self_coupling

    By projection, patterns that are linearly independent are all at rest, up to n = d; by the Hebb rule they disturb
    each other (crosstalk). Raises ValueError if b does not fit d, or its sum the dtype.

    >>> energy, patterns = HopfieldEnergy(), [[1, 1, 1, 1, -1, -1], [1, -1, 1, -1, 1, -1]]
    >>> energy.update([1, 1, 1, 1, -1, 1], patterns)             # one wrong bit
    array([ 1.,  1.,  1.,  1., -1., -1.])
    >>> energy.value([[1, 1, 1, 1, -1, 1], [1, 1, 1, 1, -1, -1]], patterns)
    array([ -4., -12.])
    """

    rule: str = field(default="hebb", kw_only=True)
    bias: Any = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rule", _check.choice("rule", self.rule, ("hebb", "pseudo-inverse")))
        bias = _check.floats("bias", np.atleast_1d(_check.real("bias", self.bias)), "d").tolist()
        object.__setattr__(self, "bias", tuple(bias) if np.ndim(self.bias) else bias[0])

    @property
    def _bias(self) -> Any:
        return self.bias

    def _fit(self, n: int, d: int, dtype: Any) -> None:
        super()._fit(n, d, dtype)
        if isinstance(self.bias, tuple):
            _check.floats("bias", self.bias, "d", d=d)
        if (largest := np.abs(self.bias).max()) > np.finfo(dtype).max / (8 * d):
            raise ValueError(f"bias must be small enough to be summed in {dtype}; got numbers up to {largest:.3g}")

    def _rows(self, p: Array) -> Array:
        if self.rule == "hebb":
            return p
        _, s, basis = np.linalg.svd(p, full_matrices=False)
        return basis[s > s[0] * max(p.shape) * np.finfo(np.float64).eps]

    def _value(self, x: Array, p: Array) -> Array:
        rows = self._rows(p)
        own = 0.0 if self.self_coupling else np.square(rows).sum()
        return (own - np.square(x @ rows.T).sum(axis=1)) / 2 - x @ np.broadcast_to(self.bias, x.shape[1])

    def _slopes(self, o: Array) -> tuple[Array, Any]:
        return o, 0.0 if self.self_coupling else 1.0

    def _pull(self, x: Array, p: Array) -> Array:
        return np.abs(x @ p.T if self.rule == "hebb" else np.linalg.lstsq(p.T, x.T)[0].T)


@dataclass(frozen=True)
class PolynomialEnergy(_Binary):
    """E(x) = -sum_i F(p_i.x), F(z) = z^power, or max(z, 0)^power if rectified: dense associative memory.

    Krotov and Hopfield 2016, equations 1 and 2. With power 2 it is HopfieldEnergy, as E = 2 E_Hopfield - n d; with
    higher powers the nearest patterns pull the harder, and about d^(power - 1) of them can be stored.

    power : 1 or more
    rectified : whether negative overlaps count as 0; an even power without it keeps -p_i wherever it keeps p_i
    order, self_coupling : as `update` uses them, below

        update       x_k <- sign(sum_i F(o_i with x_k = 1) - F(o_i with x_k = -1)), their equation 2, one after another;
                     order="synchronous": all at once; a sequence of neurons: in that order; a numpy Generator: in a new
                     random order each time
                     x_k <- sign(sum_i p_ik F'(o_i)) with self_coupling
        weights      |F'(o_i)| of their sum
        decrease     >= 0, unless synchronous without self_coupling, or with it for an odd power that is not rectified

    Raises ValueError if n (d + 2)^power does not fit the dtype.

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

    def _fit(self, n: int, d: int, dtype: Any) -> None:
        super()._fit(n, d, dtype)
        if self.power > math.log(np.finfo(dtype).max / (4 * n)) / math.log(d + 2):
            raise ValueError(f"power must be small enough for n (d + 2)^power to fit {dtype}; got {self.power}")

    def _f(self, o: Array) -> Array:
        return _power(np.maximum(o, 0) if self.rectified else o, self.power)

    def _derivative(self, o: Array) -> Array:
        slope = self.power * _power(o, self.power - 1)
        return slope * (o > 0) if self.rectified else slope

    def _value(self, x: Array, p: Array) -> Array:
        return 0.0 - self._f(x @ p.T).sum(axis=1)

    def _slopes(self, o: Array) -> tuple[Array, Any]:
        if self.self_coupling:
            return self._derivative(o), 0.0
        up, here, down = (self._f(o + step) for step in (2, 0, -2))
        return (up - down) / 4, (up - 2 * here + down).mean(axis=1, keepdims=True) / 4

    def _pull(self, x: Array, p: Array) -> Array:
        return np.abs(self._derivative(x @ p.T))


@dataclass(frozen=True)
class ExponentialEnergy(_Binary):
    """E(x) = -log sum_i exp(p_i.x): the memory of exponential capacity.

    Demircigil et al. 2017, who leave out the logarithm: the minima and the updates are the same, and this does not
    overflow. With the softmax w of the overlaps, both rules are about attention, T(x) = sum_i w_i p_i:

        update       x_k <- -x_k if and only if x_k T_k < tanh(1), which is the difference rule, one after another;
                     order="synchronous": all at once; a sequence of neurons: in that order; a numpy Generator: in a new
                     random order each time
                     x_k <- sign(T_k) with self_coupling: attention, rounded to signs
        weights      w
        decrease     >= 0, unless synchronous without self_coupling

    >>> energy, patterns = ExponentialEnergy(), [[1, 1, 1, 1, -1, -1], [1, -1, 1, -1, 1, -1]]
    >>> energy.update([1, 1, 1, 1, -1, 1], patterns)             # one wrong bit
    array([ 1.,  1.,  1.,  1., -1., -1.])
    >>> energy.value([[1, 1, 1, 1, -1, 1], [1, 1, 1, 1, -1, -1]], patterns).round(3)
    array([-4.002, -6.002])
    """

    def _value(self, x: Array, p: Array) -> Array:
        return 0.0 - logsumexp(x @ p.T, axis=1)

    def _slopes(self, o: Array) -> tuple[Array, Any]:
        w = softmax(o, axis=1)  # slope and bend over the same factor, sum_i exp(o_i) sinh(2) / 2
        return w, 0.0 if self.self_coupling else np.tanh(1) * w.mean(axis=1, keepdims=True)

    def _pull(self, x: Array, p: Array) -> Array:
        return softmax(x @ p.T, axis=1)


def _power(z: Array, k: int) -> Array:
    """z^k; low powers as products, which are ten times as fast."""
    return math.prod([z] * k) if 0 < k <= 8 else z**k  # type: ignore[return-value]
