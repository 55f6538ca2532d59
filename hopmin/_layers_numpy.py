"""The NumPy twin of `_layers.pyx`: the element-wise and row-wise operations of a transformer.

Both twins leave matrix products to NumPy. The operations between them take NumPy several passes over memory, and the
compiled twin one. The first group is used by `transformer/layers.py` and `transformer/training.py`:

- layer norm [`layer_norm_forward`], [`layer_norm_backward`]
- GELU and its derivative [`gelu_and_derivative`]
- attention's softmax [`causal_softmax`], [`causal_softmax_backward`]
- a step of the optimizer [`adamw`]

The second group computes the next token of a GPT (`transformer/decoding.py`), where the overhead of NumPy's calls would
exceed the time for the arithmetic:

- one head's attention over the cache [`attend`]
- the activation of the hidden layer [`activate`]
- a residual sum and the layer norm after it [`add_and_norm`]

[`simd`] selects the instruction set, as in `_core_numpy.py`. Arrays are float32 or float64, all of one dtype in a call.
The compiled functions raise TypeError for other dtypes, and ValueError for arrays of the wrong size or mixed dtypes;
those of this module check nothing. Letters: B batch, T queries, S keys, D width, H heads, E = D / H, M hidden units.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # numpy.typing takes time to import
    from hopmin._typing import Floats, Integers

FUNCTIONS = (
    "simd", "layer_norm_forward", "layer_norm_backward", "gelu_and_derivative", "causal_softmax",
    "causal_softmax_backward", "adamw", "attend", "activate", "add_and_norm",
)  # fmt: skip
SIMD: tuple[str, ...] = ("numpy",)  # the instruction sets available here, the most basic first


def simd(name: str | None = None) -> str:
    """Return the name of the instruction set in use, after switching to `name` if one is given.

    Raises ValueError, without switching, if `name` is not in SIMD.
    """
    return SIMD[0 if name is None else SIMD.index(name)]


def layer_norm_forward(x: Floats, gain: Floats, bias: Floats | None, epsilon: float) -> tuple[Floats, Floats, Floats]:
    """Return the layer norm of x, and the arrays that its gradient needs (Ba et al. 2016).

    y = gain z + bias, where z = (x - mean) / sqrt(variance + epsilon) over the last axis.

    Parameters
    ----------
    x : ndarray, shape (..., D)
    gain, bias : ndarray, shape (D,)
        `bias` may be None.
    epsilon : float
        Added to the variance.

    Returns
    -------
    y, z : ndarray, shape (..., D)
    scale : ndarray, shape (..., 1)
        1 / sqrt(variance + epsilon).
    """
    z = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((z * z).mean(axis=-1, keepdims=True) + epsilon)
    z *= scale
    return gain * z if bias is None else gain * z + bias, z, scale


def layer_norm_backward(
    dy: Floats, z: Floats, scale: Floats, gain: Floats, bias: Floats | None
) -> tuple[Floats, Floats, Floats | None]:
    """Return the gradients of a layer norm with respect to x, gain and bias.

    dx = scale (dz - mean(dz) - z mean(dz z)), where dz = gain dy: z has mean 0 and a fixed norm, so dz loses its
    components along 1 and along z.

    Parameters
    ----------
    dy : ndarray, shape (..., D)
        The gradient with respect to y.
    z, scale : ndarray, shapes (..., D) and (..., 1)
        As returned by `layer_norm_forward`.
    gain, bias : ndarray, shape (D,)
        As given to `layer_norm_forward`.

    Returns
    -------
    dx : ndarray, shape (..., D)
    dgain, dbias : ndarray, shape (D,)
        Summed over all rows; `dbias` is None if `bias` is.
    """
    dz, batch = gain * dy, tuple(range(dy.ndim - 1))
    dx = scale * (dz - dz.mean(axis=-1, keepdims=True) - z * (dz * z).mean(axis=-1, keepdims=True))
    return dx, (dy * z).sum(axis=batch), None if bias is None else dy.sum(axis=batch)


def gelu_and_derivative(x: Floats) -> tuple[Floats, Floats]:
    """Return y = gelu(x) and dy/dx, in the form of GPT-2 (Hendrycks & Gimpel 2016).

    y = x w, where w = (1 + tanh(u)) / 2 and u = a (x + c x^3), with a = sqrt(2/pi) and c = 0.044715. As
    dw/du = 2 w (1 - w), the derivative is w + 2 x w (1 - w) a (1 + 3 c x^2).
    """
    a, c, square = math.sqrt(2 / math.pi), 0.044715, x * x
    w = (1 + np.tanh(a * x * (1 + c * square))) / 2
    return x * w, w + x * 2 * w * (1 - w) * a * (1 + 3 * c * square)


def causal_softmax(scores: Floats, beta: float) -> Floats:
    """Return softmax(beta scores) over the positions up to each query's own, computed in place.

    Of S positions, the T queries are at the last T: query t sees the first S - T + t + 1. The others get weight 0.

    Parameters
    ----------
    scores : ndarray, shape (..., T, S)
        Overwritten if it is contiguous. A score of -inf hides a position, but at least one must be finite.
    beta : float

    Returns
    -------
    weights : ndarray, shape (..., T, S)
        The array `scores`; for the compiled twin, a copy if `scores` is not contiguous.
    """
    T, S = scores.shape[-2:]
    np.copyto(scores, -np.inf, where=np.triu(np.ones((T, S), bool), k=1 + S - T))
    scores -= scores.max(axis=-1, keepdims=True)
    scores *= beta
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def causal_softmax_backward(dweights: Floats, weights: Floats, beta: float) -> Floats:
    """Return dscores = beta weights (dweights - sum_s weights dweights), computed in place.

    Where a weight is 0, so is the gradient: nothing flows from hidden positions.

    Parameters
    ----------
    dweights : ndarray, shape (..., T, S)
        The gradient with respect to the weights; overwritten if it is contiguous.
    weights : ndarray, shape (..., T, S)
        As returned by `causal_softmax`.
    beta : float

    Returns
    -------
    dscores : ndarray, shape (..., T, S)
        The array `dweights`; for the compiled twin, a copy if `dweights` is not contiguous.
    """
    dweights -= np.vecdot(weights, dweights)[..., None]
    dweights *= weights
    dweights *= beta
    return dweights


def adamw(
    p: Floats, g: Floats, m: Floats, v: Floats, b1: float, b2: float, kept: float, rate: float, epsilon: float
) -> None:
    """Take one step of AdamW, in place (Loshchilov & Hutter 2019).

        m <- b1 m + (1 - b1) g      v <- b2 v + (1 - b2) g^2      p <- kept p - rate m / (sqrt(v) + epsilon)

    The caller puts the bias corrections of step t into `rate` and `epsilon`: with r2 = sqrt(1 - b2^t) they are
    rate r2 / (1 - b1^t) and epsilon r2.

    Parameters
    ----------
    p, g, m, v : ndarray, any one shape
        Parameters, their gradient, and the running means of g and g^2. All but `g` are overwritten. Here they may have
        any strides; the compiled twin raises ValueError for `p`, `m` or `v` that is not contiguous.
    b1, b2 : float
        The decay of the running means.
    kept : float
        1 minus learning rate times weight decay.
    rate, epsilon : float
        Learning rate and epsilon, with the bias corrections.
    """
    m += (1 - b1) * (g - m)
    v += (1 - b2) * (g * g - v)
    p *= kept
    p -= rate * m / (np.sqrt(v) + epsilon)


def attend(
    projected: Floats, bias: Floats, keys: Floats, values: Floats, start: Integers, length: int, joined: Floats
) -> None:
    """Write the attention output for the next token of each row into `joined`, and add its key and value to the cache.

    joined[b, h] = softmax(q k^T / sqrt(E)) v over the positions from start[b] to `length`.

    Parameters
    ----------
    projected : ndarray, shape (B, 3 D)
        Queries, keys and values of the tokens, without `bias`, which is added in place.
    bias : ndarray, shape (3 D,)
    keys, values : ndarray, shape (B, H, S, E)
        The cache, whose position `length` is overwritten. In memory, keys are laid out as (B, H, E, S), so that
        neighbouring positions are scored together. Entries before position `length` must be finite.
    start : ndarray of intp, shape (B,)
        The first position that each row sees. A token before it, which is padding, sees its own position.
    length : int
        The number of positions that the cache holds before the call.
    joined : ndarray, shape (B, D)
        Overwritten with the results of all heads.

    Raises
    ------
    ValueError
        If the cache is full.
    """
    B, H, S, E = keys.shape
    if length >= S:
        raise ValueError("cache must have a position left")
    projected += bias
    query, key, value = projected.reshape(B, 3, H, E).swapaxes(0, 1)
    # 1. the token's key and value are added to the cache
    keys[:, :, length], values[:, :, length] = key, value
    # 2. weights of the positions that it sees
    scores = query[:, :, None] @ keys[:, :, : length + 1].mT
    hidden = np.arange(length + 1) < np.minimum(start, length)[:, None]
    np.copyto(scores, -np.inf, where=hidden[:, None, None])
    weights = causal_softmax(scores, 1 / math.sqrt(E))
    # 3. the weighted mean of their values
    joined[:] = (weights @ values[:, :, : length + 1]).reshape(B, H * E)


def activate(x: Floats, bias: Floats, relu: bool) -> Floats:
    """Return relu(x + bias) or gelu(x + bias), computed in place.

    Parameters
    ----------
    x : ndarray, shape (B, M)
        Overwritten.
    bias : ndarray, shape (M,)
    relu : bool
        Use max(x, 0) instead of GELU.

    Returns
    -------
    x : ndarray, shape (B, M)
    """
    x += bias
    x[:] = np.maximum(x, 0) if relu else gelu_and_derivative(x)[0]
    return x


def add_and_norm(
    x: Floats, change: Floats, bias: Floats, gain: Floats, shift: Floats,
    z: Floats, scale: Floats, out: Floats, post: bool,
) -> None:  # fmt: skip
    """Compute x <- x + change + bias in place, and write the layer norm of the sum into `out`.

    Parameters
    ----------
    x : ndarray, shape (B, D)
        The residual stream; overwritten.
    change : ndarray, shape (B, D)
        The output of a sublayer, without its bias.
    bias : ndarray, shape (D,)
        The bias of the sublayer.
    gain, shift : ndarray, shape (D,)
        Gain and bias of the layer norm, whose epsilon is 1e-5.
    z, scale, out : ndarray, shapes (B, D), (B,) and (B, D)
        Overwritten with the results of `layer_norm_forward`; `out` is its y.
    post : bool
        Normalize after the sum (Vaswani et al. 2017): x becomes `out`.
    """
    # 1. the sum
    x += change
    x += bias
    # 2. its layer norm
    out[:], z[:], scale[:, None] = layer_norm_forward(x, gain, shift, 1e-5)
    if post:
        x[:] = out
