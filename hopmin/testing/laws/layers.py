"""Laws of layers: forward passes by definition, backward passes by differences, and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import as_tuple, at_most, close, same
from hopmin.testing.laws.transformers import attend, causal
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, dtypes

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

Layer = Callable[..., tuple[Any, Callable[[Any], Any]]]


class Kind(NamedTuple):
    """A kind of layer: the names and axes of its inputs, and its definition in float64.

    `definition(eps, epsilon, *inputs)` returns y and a bound on the rounding of an evaluation with machine epsilon eps;
    epsilon is that of norms.
    """

    axes: dict[str, str]
    definition: Callable[..., tuple[Any, Any]]


def _tiny(eps: float) -> float:
    """Return the smallest normal number of float16 or float32, by its machine epsilon; that of float64 is smaller."""
    return float(np.finfo(np.float16 if eps > 1e-4 else np.float32).tiny)


def _linear(eps: float, _: float, x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    slack = (len(weight) + 2) * eps * (np.abs(x) @ np.abs(weight) + np.abs(bias))  # a sum of products
    return x @ weight + bias, slack


def _embedding(eps: float, _: float, tokens: Array, table: Array) -> tuple[Array, float]:
    return table[tokens], 0.0  # a copy


def _tied(eps: float, _: float, tokens: Array, table: Array) -> tuple[Array, Array]:
    x = table[tokens]
    return x @ table.T, (table.shape[1] + 2) * eps * (np.abs(x) @ np.abs(table).T)


def _layer_norm(eps: float, epsilon: float, x: Array, gain: Array, bias: Array) -> tuple[Array, Array]:
    # the mean is off by D eps max|x|, and the deviations and sigma with it; the others are a few operations each
    deviation = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt(np.square(deviation).mean(axis=-1, keepdims=True) + epsilon)
    z, D = deviation / sigma, x.shape[-1]
    moved = (D + 8) * eps * np.abs(x).max(axis=-1, keepdims=True) / sigma
    return gain * z + bias, np.abs(gain) * (moved * (1 + np.abs(z)) + (D + 8) * eps * np.abs(z)) + 2 * eps * np.abs(
        bias
    )


def _rms_norm(eps: float, epsilon: float, x: Array, gain: Array) -> tuple[Array, Array]:
    y = gain * x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon)
    return y, (x.shape[-1] + 8) * eps * np.abs(y)  # a sum of positive terms, a root, and a few operations


def _relu(eps: float, _: float, x: Array) -> tuple[Array, float]:
    return np.maximum(x, 0), 0.0


# 1 + erf and 1 + tanh cancel for negative x, so errors of GELU are relative to x.
def _gelu(eps: float, _: float, x: Array) -> tuple[Array, Array]:
    return x * np.vectorize(lambda a: math.erfc(-a / math.sqrt(2)) / 2, otypes=[float])(x), 16 * eps * np.abs(x)


def _gelu_tanh(eps: float, _: float, x: Array) -> tuple[Array, Array]:
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2, 16 * eps * np.abs(x)


def _silu(eps: float, _: float, x: Array) -> tuple[Array, Array]:
    return x * (1 + np.tanh(x / 2)) / 2, 16 * eps * np.abs(x)


def _softmax(eps: float, _: float, x: Array) -> tuple[Array, Array]:
    largest = x.max(axis=-1, keepdims=True)
    y = np.exp(x - largest)
    y /= y.sum(axis=-1, keepdims=True)
    return y, y * eps * (x.shape[-1] + 8 + 2 * np.abs(x - largest)) + 4 * _tiny(eps)  # a difference d is off by eps |d|


def _attention(eps: float, _: float, q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    rows = [attend(*row, causal(q.shape[1]), eps) for row in zip(q, k, v, strict=True)]
    return np.array([y for y, _ in rows]), np.array([slack for _, slack in rows]) + _tiny(eps) * np.abs(v).sum()


def _cross_entropy(eps: float, _: float, logits: Array, targets: Array) -> tuple[Array, float]:
    largest = logits.max(axis=-1, keepdims=True)
    log_z = np.log(np.exp(logits - largest).sum(axis=-1)) + largest[..., 0]
    terms = (log_z - np.take_along_axis(logits, np.maximum(targets, 0)[..., None], axis=-1)[..., 0])[targets >= 0]
    # each term is off by a few ulps of the logits and by V eps from the sum; the mean adds one eps for each term
    return terms.mean(), eps * (logits.shape[-1] + 8 + 8 * np.abs(logits).max() + (terms.size + 1) * terms.mean())


KINDS = {
    "linear": Kind({"x": "BTi", "weight": "io", "bias": "o"}, _linear),
    "embedding": Kind({"tokens": "BT", "table": "VD"}, _embedding),
    "tied_embedding": Kind({"tokens": "BT", "table": "VD"}, _tied),
    "layer_norm": Kind({"x": "BTD", "gain": "D", "bias": "D"}, _layer_norm),
    "rms_norm": Kind({"x": "BTD", "gain": "D"}, _rms_norm),
    "relu": Kind({"x": "BTD"}, _relu),
    "gelu": Kind({"x": "BTD"}, _gelu),
    "gelu_tanh": Kind({"x": "BTD"}, _gelu_tanh),
    "silu": Kind({"x": "BTD"}, _silu),
    "softmax": Kind({"x": "BTD"}, _softmax),
    "attention": Kind({"q": "BTD", "k": "BTD", "v": "BTD"}, _attention),
    "cross_entropy": Kind({"logits": "BTV", "targets": "BT"}, _cross_entropy),
}


@st.composite
def layer_inputs(
    draw: st.DrawFn,
    kind: str,
    dtype: st.SearchStrategy[Any] | None = None,
    scales: tuple[float, ...] = (0.1, 1.0),
) -> tuple[Array, ...]:
    """Draw the inputs of a kind of layer: tokens repeat, targets of -1 are not counted, at least one is.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    dtype : search strategy, optional
        Draws the dtype; by default float64, which differences need.
    scales : tuple of float
        Scales of the first input to draw from.

    Returns
    -------
    search strategy of tuple of ndarray
    """
    sizes = {axis: draw(st.integers(1, 5)) for axis in "BT"}
    wide = draw(st.integers(0, 3)) == 0
    sizes |= {axis: draw(st.integers(6, 40) if wide else st.integers(1, 6)) for axis in "ioDV"}
    float_dtype = np.dtype(np.float64 if dtype is None else draw(dtype))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = float(rng.choice(scales))  # by the seed, so that each occurs in every run
    if float_dtype.itemsize < 4:
        scale = min(max(scale, 0.1), 10.0)  # products neither overflow nor lose digits in float16
    arrays = []
    for name, axes in KINDS[kind].axes.items():
        shape = tuple(sizes[axis] for axis in axes)
        if name == "tokens":
            arrays.append(rng.integers(0, sizes["V"], shape))
        elif name == "targets":
            targets = rng.integers(-1, sizes["V"], shape)
            targets[-1, -1] = max(targets[-1, -1], 0)
            arrays.append(targets)
        else:
            arrays.append((rng.normal(size=shape) * (scale if not arrays else 1.0)).astype(float_dtype))
    return tuple(arrays)


def _forward_inputs(layer: Any, kind: str) -> st.SearchStrategy[tuple[Array, ...]]:
    if kind not in KINDS:
        raise ValueError(f"layer.kind must be one of {', '.join(KINDS)}; got {kind!r}")
    drawn = layer_inputs(kind, dtypes(), (1.0, 1e-3, 10.0, 0.1, 100.0, 3e3))
    if "norm" not in kind:
        return drawn
    offsets = st.sampled_from([0.0, 1.0, 1e3])  # where squares cancel
    return st.tuples(drawn, offsets).map(lambda pair: (pair[0][0] + pair[0][0].dtype.type(pair[1]), *pair[0][1:]))


def _backward_inputs(layer: Any, inputs: Any) -> st.SearchStrategy[tuple[Array, ...]]:
    """Return the strategy, or one that draws normal floats and keeps the integers of an example."""
    if isinstance(inputs, st.SearchStrategy):
        return inputs

    def normal(seed: int) -> tuple[Array, ...]:
        rng = np.random.default_rng(seed)
        return tuple(rng.normal(size=np.shape(a)) if np.asarray(a).dtype.kind == "f" else np.copy(a) for a in inputs)

    return st.integers(0, 2**32).map(normal)


@law("layer", source="cs249r_book PR #1336, mlpack #2360", arrays=_backward_inputs, seed=st.integers(0, 2**32))
def law_backward(layer: Layer, inputs: Any, /, arrays: tuple[Array, ...], seed: int) -> None:
    """The backward pass is the transpose of the Jacobian J of the forward pass: <u, J v> = <J^T u, v>.

    `layer(*inputs)` returns (y, backward), and `backward(dy)` the gradient of each floating input, or a single array;
    an input of integers may have None. `inputs` is a strategy of tuples of float64 arrays, or an example of one.

    J v is a central difference with h = 1e-6 for random u and v. Its rounding is about eps |u| |y| / h = 2e-10 |u| |y|,
    its truncation h^2 = 1e-12 times a third derivative. The slack is 1e-7 times |u| (1 + |y|) + |J^T u| |v|.
    """
    rng = np.random.default_rng(seed)
    y, backward = layer(*(a.copy() for a in arrays))
    u, h = rng.normal(size=np.shape(y)), 1e-6
    given = u.copy()
    gradients = as_tuple(backward(given if np.ndim(y) else float(u)))
    same(given, u, "dy after the backward pass")
    floating = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    judged = range(len(arrays)) if len(gradients) == len(arrays) else floating
    if len(gradients) < len(judged):
        raise AssertionError(f"backward must return {len(judged)} gradients; got {len(gradients)}")
    for i, gradient in zip(judged, gradients, strict=False):
        if i not in floating:
            continue
        if np.shape(gradient) != arrays[i].shape:
            raise AssertionError(f"gradient {i} must have shape {arrays[i].shape}; got {np.shape(gradient)}")
        v = rng.normal(size=arrays[i].shape)
        ahead, behind = ((*arrays[:i], arrays[i] + step * v, *arrays[i + 1 :]) for step in (h, -h))
        forward = float(np.vdot(u, (np.asarray(layer(*ahead)[0]) - layer(*behind)[0]) / (2 * h)))
        scale = np.linalg.norm(u) * (1 + np.linalg.norm(y)) + np.linalg.norm(gradient) * np.linalg.norm(v)
        close(float(np.vdot(gradient, v)), forward, 1e-7 * scale, f"<J^T u, v> for input {i}")


@law("layer", arrays=_forward_inputs)
def law_forward(layer: Layer, kind: str, /, arrays: tuple[Array, ...]) -> None:
    """The forward pass is what `layer.kind` says (a key of `KINDS`), keeps the dtype, and does not change its inputs.

    The slack of each kind is derived from its sums and operations, next to its definition. Norms add
    `layer.epsilon`, by default 1e-5, to the mean of the squares.
    """
    given = [a.copy() for a in arrays]
    y = np.asarray(layer(*given)[0])
    for name, before, after in zip(KINDS[kind].axes, arrays, given, strict=True):
        same(after, before, f"{name} after the call")
    dtype = next(a.dtype for a in arrays if a.dtype.kind == "f")
    exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    expected, slack = KINDS[kind].definition(float(np.finfo(dtype).eps), getattr(layer, "epsilon", 1e-5), *exact)
    close(y, expected, slack, kind)
    if y.ndim and y.dtype != dtype:
        raise AssertionError(f"y must have dtype {dtype}; got {y.dtype}")


@law(
    "layer", source="Ultron09/Numpy-Transformer: dropout without evaluation mode",
    rate=st.sampled_from([0.1, 0.5, 0.9]), dtype=dtypes(), seed=st.integers(0, 2**32),
)  # fmt: skip
def law_dropout(dropout: Layer, /, rate: float, dtype: Any, seed: int) -> None:
    """Without rng, y = x bit for bit; with it, each entry is 0 with probability `rate`, and else x / (1 - rate).

    The backward pass uses the mask of the forward pass. The number of zeros among n = 2000 is rejected where
    n kl(zeros / n, rate) > 36: by Chernoff's bound a right layer meets that with probability below 5e-16.
    """
    x = np.random.default_rng(seed + 1).normal(size=2000).astype(dtype)
    y, backward = dropout(x.copy(), rate, None)
    same(y, x, "y without rng")
    same(np.asarray(backward(x.copy())), x, "dx without rng")
    y, backward = dropout(x.copy(), rate, np.random.default_rng(seed))
    dropped = np.asarray(y) == 0
    scaled, eps = x.astype(np.float64) / (1 - rate), np.finfo(dtype).eps
    close(y, np.where(dropped, 0, scaled), 8 * eps / (1 - rate) * np.abs(scaled), "y")
    ones = np.ones_like(x)
    close(backward(ones), np.where(dropped, 0, 1 / (1 - rate)), 8 * eps / (1 - rate) ** 2, "dx of the same mask")
    zeros = dropped.mean()
    terms = [a * math.log(a / b) for a, b in ((zeros, rate), (1 - zeros, 1 - rate)) if a > 0]
    at_most(x.size * sum(terms), 36.0, 0, f"n kl(zeros / n, {rate})")
