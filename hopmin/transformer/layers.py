"""The layers of a transformer, each with its backward right below its forward.

- [`linear`], [`embedding`], [`layer_norm`], [`gelu`], [`relu`], [`dropout`]
- [`attention`], which is one update of a DotEnergy for each head and position
- [`cross_entropy`]

A layer returns its output y and a function `backward`, which takes dy, the gradient of the final scalar with respect to
y, and returns the gradients with respect to the layer's inputs, in their order. What can be differentiated is an
argument; nothing is accumulated and no input is changed. Axes before the last are batch axes.

Arguments are arrays that the model has checked; there is no second door here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hopmin import _backend
from hopmin._typing import Array
from hopmin.numerics import log_softmax

Backward = Callable[[Any], Any]


def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Backward]:
    """y = x W + b, with x (..., i), W (i, o), b (o,); without b, its gradient is None."""
    rows = x.reshape(-1, x.shape[-1])  # one large product, not one for each row of the batch
    y = rows @ weight
    if bias is not None:
        y += bias

    def backward(dy: Array) -> tuple[Array, Array, Array | None]:
        dy = dy.reshape(len(rows), -1)
        return (dy @ weight.T).reshape(x.shape), rows.T @ dy, None if bias is None else dy.sum(axis=0)

    return y.reshape(*x.shape[:-1], weight.shape[-1]), backward


def embedding(indices: Array, table: Array) -> tuple[Array, Backward]:
    """y = table[indices], with indices (...) and a table (V, D): (...) -> (..., D). Returns the table's gradient
    alone.
    """
    y = table[indices]

    def backward(dy: Array) -> Array:
        dtable, order = np.zeros_like(table), np.argsort(indices, axis=None, kind="stable")
        found, starts = np.unique(indices.ravel()[order], return_index=True)
        dtable[found] = np.add.reduceat(dy.reshape(-1, dy.shape[-1])[order], starts)  # the rows of each index, summed
        return dtable

    return y, backward


def layer_norm(x: Array, gain: Array, bias: Array | None = None, epsilon: float = 1e-5) -> tuple[Array, Backward]:
    """Return y = gain z + bias, where z = (x - mean) / sqrt(variance + epsilon) over the last axis (Ba et al. 2016).

    As z has mean 0 and a fixed norm, dz = gain dy loses its components along 1 and along z:
    dx = (dz - mean(dz) - z mean(dz z)) / sqrt(variance + epsilon).
    """
    y, z, scale = _backend.layers.layer_norm_forward(x, gain, bias, epsilon)  # scale: 1 / sqrt(variance + epsilon)

    def backward(dy: Array) -> tuple[Array, Array, Array | None]:
        return _backend.layers.layer_norm_backward(dy, z, scale, gain, bias)

    return y, backward


def gelu(x: Array) -> tuple[Array, Backward]:
    """Return y = x w, where w = (1 + tanh(u)) / 2 and u = sqrt(2/pi) (x + 0.044715 x^3).

    This is GPT-2's approximation of x Phi(x) (Hendrycks & Gimpel 2016). As dw/du = 2 w (1 - w), the derivative is
    dy/dx = w + 2 x w (1 - w) du/dx.
    """
    y, slope = _backend.layers.gelu_and_derivative(x)  # slope: dy/dx

    def backward(dy: Array) -> Array:
        return dy * slope

    return y, backward


def relu(x: Array) -> tuple[Array, Backward]:
    """y = max(x, 0), with slope 0 at 0."""
    y = np.maximum(x, 0)

    def backward(dy: Array) -> Array:
        return dy * (x > 0)

    return y, backward


def dropout(x: Array, rate: float, rng: np.random.Generator | None) -> tuple[Array, Backward]:
    """y = x with a share `rate` of the entries at zero and the others scaled up to make good; y = x without an rng."""
    if rng is None or rate == 0:
        return x, lambda dy: dy
    kept = (rng.random(x.shape, dtype=np.float32) >= rate) * x.dtype.type(1 / (1 - rate))

    def backward(dy: Array) -> Array:
        return dy * kept

    return x * kept, backward


def attention(
    queries: Array,
    keys: Array,
    values: Array,
    rate: float = 0.0,
    rng: np.random.Generator | None = None,
    padding_mask: Array | None = None,
    *,
    distances: bool = False,
) -> tuple[Array, Array, Backward]:
    """y = softmax(q k^T / sqrt(E)) v over the keys up to each query's own position, for arrays (..., T, E).

    Row t is DotEnergy(1 / sqrt(E)).update(q[t], k[: t + 1], v[: t + 1]); with `distances`, which take |k|^2 / 2 off
    each product, DistanceEnergy(1 / (2 sqrt(E))).update of the same. What lies ahead has score -inf, before
    anything is subtracted, and so a weight of exactly 0. Of S keys and values, the last T are at the queries'
    positions, the others before them; `padding_mask` (..., S) is true at those before a row starts. Returns y, the
    weights (..., T, S), and backward.
    """
    (T, E), S = queries.shape[-2:], keys.shape[-2]
    beta = 1 / math.sqrt(E)
    scores = queries @ keys.mT
    if distances:  # -|q - k|^2 / 2, but for |q|^2 / 2, which softmax does not see
        scores -= np.vecdot(keys, keys)[..., None, :] / 2
    if padding_mask is not None:  # but a query always sees its own position
        np.copyto(scores, -np.inf, where=padding_mask[..., None, :] & ~np.eye(T, S, k=S - T, dtype=bool))
    weights = _backend.layers.causal_softmax(scores, beta)  # softmax(beta scores), where what lies ahead has score -inf
    kept, back_dropout = dropout(weights, rate, rng)
    # each result is laid out in memory as its like among the arguments, so that heads can be joined without a copy
    y = np.matmul(kept, values, out=np.empty_like(queries, shape=(*queries.shape[:-1], values.shape[-1])))

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        # dscores = beta weights (dweights - their mean under the weights)
        dscores = _backend.layers.causal_softmax_backward(back_dropout(dy @ values.mT), weights, beta)
        dkeys = np.matmul(dscores.mT, queries, out=np.empty_like(keys))
        if distances:
            dkeys -= keys * dscores.sum(axis=-2)[..., None]
        dvalues = np.matmul(kept.mT, dy, out=np.empty_like(values))
        return np.matmul(dscores, keys, out=np.empty_like(queries)), dkeys, dvalues

    return y, weights, backward


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Backward]:
    """y = the mean of -log softmax(logits)[target], in nats, over targets that are not -1: (B, T, V), (B, T) ->
    scalar.
    """
    log_p = log_softmax(logits, axis=-1)
    counted = targets >= 0
    index = np.where(counted, targets, 0)[..., None]
    y = -np.take_along_axis(log_p, index, axis=-1)[..., 0][counted].mean(dtype=np.float64)

    def backward(dy: float) -> Array:
        dlogits = np.exp(log_p)
        np.put_along_axis(dlogits, index, np.take_along_axis(dlogits, index, axis=-1) - 1, axis=-1)
        return dlogits * (counted * (dy / counted.sum())).astype(logits.dtype)[..., None]

    return float(y), backward
