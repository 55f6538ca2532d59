"""The layers of a transformer, with the backward pass of each next to its forward pass.

- [`linear`], [`embedding`], [`layer_norm`], [`gelu`], [`relu`], [`dropout`]
- [`attention`], which is one update of a DotEnergy for each head and position
- [`cross_entropy`]

A layer returns its output y and a function `backward`. Given dy, the gradient of a scalar with respect to y, `backward`
returns the gradients of that scalar with respect to the inputs of the layer, in the order of the arguments. No gradient
is accumulated and no input is changed. All axes before the last are batch axes.

Matrix products and simple operations are computed here. Operations that take NumPy many passes over memory are in
`_layers_numpy.py` and, compiled, in `_layers.pyx`; `_backend.layers` is the module in use. Their formulas are repeated
here. Arguments are not checked, because the model has checked them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hopmin import _backend
from hopmin._typing import Array, Booleans, Floats
from hopmin.numerics import log_softmax

Backward = Callable[[Any], Any]


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> tuple[Floats, Backward]:
    """Return y = x W + b.

        dx = dy W^T      dW = x^T dy      db = sum of dy over the batch

    Parameters
    ----------
    x : ndarray, shape (..., i)
    weight : ndarray, shape (i, o)
    bias : ndarray, shape (o,), optional
        Without it, its gradient is None.

    Returns
    -------
    y : ndarray, shape (..., o)
    backward : function
        From dy to dx, dweight and dbias.
    """
    batch = x.reshape(-1, x.shape[-1])  # one large product instead of one for each row of the batch
    y = batch @ weight
    if bias is not None:
        y += bias

    def backward(dy: Floats) -> tuple[Floats, Floats, Floats | None]:
        dy = dy.reshape(len(batch), -1)
        return (dy @ weight.T).reshape(x.shape), batch.T @ dy, None if bias is None else dy.sum(axis=0)

    return y.reshape(*x.shape[:-1], weight.shape[-1]), backward


def embedding(indices: Array, table: Floats) -> tuple[Floats, Backward]:
    """Return y = table[indices] (..., D) for indices (...) and a table (V, D).

    `backward` returns the gradient of the table only: in each row, the sum of dy over the positions of its index.
    """
    y = table[indices]

    def backward(dy: Floats) -> Floats:
        dtable, order = np.zeros_like(table), np.argsort(indices, axis=None, kind="stable")
        found, starts = np.unique(indices.ravel()[order], return_index=True)
        dtable[found] = np.add.reduceat(dy.reshape(-1, dy.shape[-1])[order], starts)
        return dtable

    return y, backward


def layer_norm(x: Floats, gain: Floats, bias: Floats | None = None, epsilon: float = 1e-5) -> tuple[Floats, Backward]:
    """Return y = gain z + bias, where z = (x - mean) / sqrt(variance + epsilon) over the last axis (Ba et al. 2016).

    As z has mean 0 and a fixed norm, dz = gain dy loses its components along 1 and along z:

        dx = (dz - mean(dz) - z mean(dz z)) / sqrt(variance + epsilon)

    Parameters
    ----------
    x : ndarray, shape (..., D)
    gain : ndarray, shape (D,)
    bias : ndarray, shape (D,), optional
        Without it, its gradient is None.
    epsilon : float

    Returns
    -------
    y : ndarray, shape (..., D)
    backward : function
        From dy to dx, dgain = sum of dy z and dbias = sum of dy, over the batch.
    """
    y, z, scale = _backend.layers.layer_norm_forward(x, gain, bias, epsilon)  # scale: 1 / sqrt(variance + epsilon)

    def backward(dy: Floats) -> tuple[Floats, Floats, Floats | None]:
        return _backend.layers.layer_norm_backward(dy, z, scale, gain, bias)

    return y, backward


def gelu(x: Floats) -> tuple[Floats, Backward]:
    """Return y = x w, where w = (1 + tanh(u)) / 2 and u = sqrt(2/pi) (x + 0.044715 x^3).

    This is GPT-2's approximation of x Phi(x) (Hendrycks & Gimpel 2016). As dw/du = 2 w (1 - w), the derivative is
    dy/dx = w + 2 x w (1 - w) du/dx.
    """
    y, derivative = _backend.layers.gelu_and_derivative(x)

    def backward(dy: Floats) -> Floats:
        return dy * derivative

    return y, backward


def relu(x: Floats) -> tuple[Floats, Backward]:
    """Return y = max(x, 0), whose derivative at 0 is taken to be 0."""
    y: Floats = np.maximum(x, 0)

    def backward(dy: Floats) -> Floats:
        return dy * (x > 0)

    return y, backward


def dropout(x: Floats, rate: float, rng: np.random.Generator | None) -> tuple[Floats, Backward]:
    """Return y = x with a fraction `rate` of the entries set to 0, and the others scaled by 1 / (1 - rate).

    Parameters
    ----------
    x : ndarray, any shape
    rate : float
        The probability of each entry to become 0, in [0, 1).
    rng : Generator or None
        Without it, y = x.

    Returns
    -------
    y : ndarray, the shape of x
    backward : function
        From dy to dx, with the mask of the forward pass.
    """
    if rng is None or rate == 0:
        return x, lambda dy: dy
    kept = (rng.random(x.shape, dtype=np.float32) >= rate) * x.dtype.type(1 / (1 - rate))

    def backward(dy: Floats) -> Floats:
        return dy * kept

    return x * kept, backward


def attention(
    queries: Floats,
    keys: Floats,
    values: Floats,
    rate: float = 0.0,
    rng: np.random.Generator | None = None,
    padding_mask: Booleans | None = None,
    *,
    distances: bool = False,
) -> tuple[Floats, Floats, Backward]:
    """Return y = weights v, where weights = softmax(q k^T / sqrt(E)) over the keys up to each query's own position.

    Row t is DotEnergy(1 / sqrt(E)).update(q[t], k[: t + 1], v[: t + 1]); with `distances`,
    DistanceEnergy(1 / (2 sqrt(E))).update of the same. With beta = 1 / sqrt(E),

        dscores = beta weights (dweights - sum_s weights dweights)      dweights = dy v^T
        dq = dscores k      dk = dscores^T q      dv = weights^T dy

    Parameters
    ----------
    queries : ndarray, shape (..., T, E)
    keys, values : ndarray, shape (..., S, E)
        The last T of them are at the positions of the queries, the others before.
    rate : float
        The fraction of the weights that are dropped; see `dropout`.
    rng : Generator, optional
        Without it, no weight is dropped.
    padding_mask : ndarray of bool, shape (..., S), optional
        True at the positions before a row starts, which no query sees, except at its own position.
    distances : bool
        Subtract |k|^2 / 2 from each product. The score is then -|q - k|^2 / 2 up to a term in q alone, which softmax
        ignores.

    Returns
    -------
    y : ndarray, shape (..., T, E)
    weights : ndarray, shape (..., T, S)
        Before dropout. They are exactly 0 for positions that a query does not see.
    backward : function
        From dy to dqueries, dkeys and dvalues.
    """
    (T, E), S = queries.shape[-2:], keys.shape[-2]
    beta = 1 / math.sqrt(E)
    scores = queries @ keys.mT
    if distances:
        scores -= np.vecdot(keys, keys)[..., None, :] / 2
    if padding_mask is not None:
        np.copyto(scores, -np.inf, where=padding_mask[..., None, :] & ~np.eye(T, S, k=S - T, dtype=bool))
    weights = _backend.layers.causal_softmax(scores, beta)  # in place of scores
    kept, back_dropout = dropout(weights, rate, rng)
    # each result has the memory layout of the corresponding argument, so that heads can be joined without a copy
    y = np.matmul(kept, values, out=np.empty_like(queries, shape=(*queries.shape[:-1], values.shape[-1])))

    def backward(dy: Floats) -> tuple[Floats, Floats, Floats]:
        dscores = _backend.layers.causal_softmax_backward(back_dropout(dy @ values.mT), weights, beta)
        dkeys = np.matmul(dscores.mT, queries, out=np.empty_like(keys))
        if distances:
            dkeys -= keys * dscores.sum(axis=-2)[..., None]
        dvalues = np.matmul(kept.mT, dy, out=np.empty_like(values))
        return np.matmul(dscores, keys, out=np.empty_like(queries)), dkeys, dvalues

    return y, weights, backward


def cross_entropy(logits: Floats, targets: Array) -> tuple[float, Backward]:
    """Return y = the mean of -log softmax(logits)[target], in nats, over the targets that are not -1.

    The logits have shape (B, T, V), the targets (B, T). The gradient is softmax(logits), minus 1 at the target, divided
    by the number of targets; it is 0 where the target is -1.
    """
    log_p: Floats = log_softmax(logits, axis=-1)
    counted = targets >= 0
    index = np.where(counted, targets, 0)[..., None]
    y = -np.take_along_axis(log_p, index, axis=-1)[..., 0][counted].mean(dtype=np.float64)

    def backward(dy: float) -> Floats:
        dlogits: Floats = np.exp(log_p)
        np.put_along_axis(dlogits, index, np.take_along_axis(dlogits, index, axis=-1) - 1, axis=-1)
        dlogits *= (counted * (dy / counted.sum())).astype(logits.dtype)[..., None]
        return dlogits

    return float(y), backward
