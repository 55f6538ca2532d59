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

from collections.abc import Callable
from typing import Any

import numpy as np

from hopmin._check import Array
from hopmin.numerics import log_softmax, softmax, softmax_derivative

Backward = Callable[[Any], Any]


def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Backward]:
    """y = x W + b, with x (..., i), W (i, o), b (o,); without b, its gradient is None."""
    y = x @ weight
    if bias is not None:
        y += bias

    def backward(dy: Array) -> tuple[Array, Array, Array | None]:
        rows_x, rows_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        return dy @ weight.T, rows_x.T @ rows_dy, None if bias is None else rows_dy.sum(axis=0)

    return y, backward


def embedding(indices: Array, table: Array) -> tuple[Array, Backward]:
    """y = table[indices], with indices (...) and a table (V, D): (...) -> (..., D). Returns the table's gradient
    alone.
    """
    y = table[indices]

    def backward(dy: Array) -> Array:
        dtable = np.zeros_like(table)
        np.add.at(dtable, indices, dy)
        return dtable

    return y, backward


def layer_norm(x: Array, gain: Array, bias: Array | None = None, epsilon: float = 1e-5) -> tuple[Array, Backward]:
    """y = gain z + bias, where z = (x - mean) / sqrt(variance + epsilon) over the last axis (Ba et al. 2016)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon)
    z = centred * scale
    y = gain * z
    if bias is not None:
        y += bias

    def backward(dy: Array) -> tuple[Array, Array, Array | None]:
        dz = dy * gain
        # z has mean 0 and norm fixed, so dz loses what points along 1 and along z
        dx = scale * (dz - dz.mean(axis=-1, keepdims=True) - z * (dz * z).mean(axis=-1, keepdims=True))
        batch = tuple(range(dy.ndim - 1))
        return dx, (dy * z).sum(axis=batch), None if bias is None else dy.sum(axis=batch)

    return y, backward


def gelu(x: Array) -> tuple[Array, Backward]:
    """y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: GPT-2's form of x Phi(x) (Hendrycks & Gimpel 2016)."""
    a, c = np.sqrt(2 / np.pi).astype(x.dtype), x.dtype.type(0.044715)
    square = x * x
    t = np.tanh(a * x * (1 + c * square))
    y = x * (1 + t) / 2

    def backward(dy: Array) -> Array:
        return dy * (1 + t + x * (1 - t * t) * a * (1 + 3 * c * square)) / 2

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
    hidden: Array | None = None,
) -> tuple[Array, Array, Backward]:
    """y = softmax(q k^T / sqrt(E)) v over the keys up to each query's own position, for arrays (..., T, E).

    Row t is DotEnergy(1 / sqrt(E)).update(q[t], k[: t + 1], v[: t + 1]). What lies ahead has score -inf, before
    anything is subtracted, and so a weight of exactly 0. Of S keys and values, the last T are at the queries'
    positions, the others before them; the first of them may be `hidden` (..., S), for rows that start later. Returns
    y, the weights (..., T, S), and backward.
    """
    (T, E), S = queries.shape[-2:], keys.shape[-2]
    beta = queries.dtype.type(1 / np.sqrt(E))
    unseen = np.triu(np.ones((T, S), bool), k=1 + S - T)
    if hidden is not None:  # but a query always sees its own position
        unseen = unseen | (hidden[..., None, :] & ~np.eye(T, S, k=S - T, dtype=bool))
    scores = np.where(unseen, -np.inf, beta * queries @ keys.mT)
    weights = softmax(scores, axis=-1)
    kept, back_dropout = dropout(weights, rate, rng)
    y = kept @ values

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        dweights = back_dropout(dy @ values.mT)
        dscores = softmax_derivative(weights, dweights, axis=-1)  # 0 where the weight is: nothing flows from ahead
        return beta * dscores @ keys, beta * dscores.mT @ queries, kept.mT @ dy

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
