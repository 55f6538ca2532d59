"""Public implementations in the form that the families of `hopmin.testing` ask for.

A library is imported only when it is called. Wrappers change names, shapes and units of arguments, never numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Judged(NamedTuple):
    """An implementation: its name, the module that must be importable, the distribution that has its version."""

    name: str
    module: str
    distribution: str
    family: str
    implementation: Any
    options: dict[str, Any]


JUDGED: list[Judged] = []


def judged(name: str, module: str, family: str, distribution: str = "", **options: Any) -> Callable[[Any], Any]:
    """Return a decorator that lists an implementation."""

    def decorate(implementation: Any) -> Any:
        JUDGED.append(Judged(name, module, distribution or module, family, implementation, options))
        return implementation

    return decorate


# logsumexp, softmax, log_softmax, entmax


@judged("SciPy logsumexp", "scipy", "logsumexp")
def scipy_logsumexp(a: Array, axis: int | None = None, **options: Any) -> Any:
    from scipy.special import logsumexp

    return logsumexp(a, axis, **options)


@judged("SciPy softmax", "scipy", "softmax")
def scipy_softmax(a: Array, axis: int | None = None) -> Any:
    from scipy.special import softmax

    return softmax(a, axis)


@judged("SciPy log_softmax", "scipy", "log_softmax")
def scipy_log_softmax(a: Array, axis: int | None = None) -> Any:
    from scipy.special import log_softmax

    return log_softmax(a, axis)


def _over_all(function: Any, a: Any, axis: int | None) -> Any:
    """Return a function along an axis, which its library requires, of all elements if it is None."""
    return function(a, axis) if axis is not None else function(a.reshape(-1), 0).reshape(a.shape)


@judged("PyTorch logsumexp", "torch", "logsumexp")
@judged("PyTorch logsumexp, float16", "torch", "logsumexp", dtype="float16")
@judged("PyTorch logsumexp, bfloat16", "torch", "logsumexp", dtype="bfloat16")
def torch_logsumexp(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    import torch

    return torch.logsumexp(a, tuple(range(a.ndim)) if axis is None else axis, keepdim=keepdims)


@judged("PyTorch softmax", "torch", "softmax")
@judged("PyTorch softmax, float16", "torch", "softmax", dtype="float16")
@judged("PyTorch softmax, bfloat16", "torch", "softmax", dtype="bfloat16")
def torch_softmax(a: Any, axis: int | None = None) -> Any:
    import torch

    return _over_all(torch.softmax, a, axis)


@judged("PyTorch log_softmax", "torch", "log_softmax")
def torch_log_softmax(a: Any, axis: int | None = None) -> Any:
    import torch

    return _over_all(torch.log_softmax, a, axis)


@judged("JAX logsumexp", "jax", "logsumexp", examples=25)
def jax_logsumexp(a: Any, axis: int | None = None, **options: Any) -> Any:
    import jax

    return jax.nn.logsumexp(a, axis, **options)


@judged("JAX softmax", "jax", "softmax", examples=25)
@judged("JAX softmax, bfloat16", "jax", "softmax", examples=25, dtype="bfloat16")
def jax_softmax(a: Any, axis: int | None = None) -> Any:
    import jax

    return jax.nn.softmax(a, axis)


@judged("JAX log_softmax", "jax", "log_softmax", examples=25)
def jax_log_softmax(a: Any, axis: int | None = None) -> Any:
    import jax

    return jax.nn.log_softmax(a, axis)


@judged("scikit-learn softmax", "sklearn", "softmax", "scikit-learn", batched=False)
def sklearn_softmax(a: Array) -> Any:
    from sklearn.utils.extmath import softmax

    return softmax(a[None])[0]


@judged("thinc softmax", "thinc", "softmax")
def thinc_softmax(a: Array, axis: int | None = None) -> Any:
    from thinc.backends import NumpyOps

    return _over_all(lambda a, axis: NumpyOps().softmax(a, axis=axis), a, axis)


@judged("autograd logsumexp", "autograd", "logsumexp")
def autograd_logsumexp(a: Array, axis: int | None = None, **options: Any) -> Any:
    from autograd.scipy.special import logsumexp

    return logsumexp(a, axis, **options)


def _keras() -> Any:
    import os

    os.environ.setdefault("KERAS_BACKEND", "numpy")
    import keras

    return keras.ops


@judged("Keras softmax, NumPy backend", "keras", "softmax")
def keras_softmax(a: Array, axis: int | None = None) -> Any:
    return _keras().softmax(a, axis)


@judged("Keras logsumexp, NumPy backend", "keras", "logsumexp")
def keras_logsumexp(a: Array, axis: int | None = None, **options: Any) -> Any:
    return _keras().logsumexp(a, axis, **options)


@judged("entmax, bisection", "entmax", "entmax")
def entmax_bisection(a: Any, alpha: float) -> Any:
    from entmax import entmax_bisect

    return entmax_bisect(a, alpha, dim=-1)


@judged("entmax, exact for alpha 1.5 and 2", "entmax", "entmax")
def entmax_exact(a: Any, alpha: float) -> Any:
    from entmax import entmax15, entmax_bisect, sparsemax

    exact = {1.5: entmax15, 2.0: sparsemax}.get(alpha, functools.partial(entmax_bisect, alpha=alpha))
    return exact(a, dim=-1)


# Nearest neighbours


def _sklearn_neighbors(algorithm: str) -> Any:
    def nearest(queries: Array, patterns: Array, k: int) -> tuple[Any, Any]:
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(algorithm=algorithm).fit(patterns).kneighbors(queries, k)  # type: ignore[no-any-return]

    def within(queries: Array, patterns: Array, radius: float) -> tuple[Any, Any]:
        from sklearn.neighbors import NearestNeighbors

        found = NearestNeighbors(algorithm=algorithm).fit(patterns).radius_neighbors(queries, radius)
        return list(found[0]), list(found[1])

    nearest.within = within  # type: ignore[attr-defined]
    return nearest


sklearn_brute = judged("scikit-learn NearestNeighbors, brute", "sklearn", "nearest", "scikit-learn")(
    _sklearn_neighbors("brute")
)
sklearn_kd_tree = judged("scikit-learn NearestNeighbors, kd_tree", "sklearn", "nearest", "scikit-learn")(
    _sklearn_neighbors("kd_tree")
)


def _sklearn_cosine(queries: Array, patterns: Array, k: int) -> Any:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(algorithm="brute", metric="cosine").fit(patterns).kneighbors(queries, k)


sklearn_brute.cosine = _sklearn_cosine


@judged("SciPy cKDTree", "scipy", "nearest")
def scipy_ckdtree(queries: Array, patterns: Array, k: int) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(patterns).query(queries, np.arange(1, k + 1))


@judged("SciPy cdist", "scipy", "nearest")
def scipy_cdist(queries: Array, patterns: Array, k: int) -> Any:
    from scipy.spatial.distance import cdist

    distances = cdist(queries, patterns)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@judged("PyTorch cdist and topk", "torch", "nearest")
def torch_cdist(queries: Any, patterns: Any, k: int) -> Any:
    import torch

    return tuple(torch.topk(torch.cdist(queries, patterns), k, largest=False))


def _faiss(index: Any, queries: Array, patterns: Array, k: int) -> tuple[Array, Array]:
    index.add(np.ascontiguousarray(patterns))
    found: tuple[Array, Array] = index.search(np.ascontiguousarray(queries), k)
    return found


@judged("FAISS IndexFlatL2 and IndexFlatIP", "faiss", "nearest", "faiss-cpu", dtype="float32")
def faiss_flat(queries: Array, patterns: Array, k: int) -> tuple[Array, Array]:
    import faiss

    squares, indices = _faiss(faiss.IndexFlatL2(patterns.shape[1]), queries, patterns, k)
    return np.sqrt(squares), indices


def _faiss_dot(queries: Array, patterns: Array, k: int) -> tuple[Array, Array]:
    import faiss

    return _faiss(faiss.IndexFlatIP(patterns.shape[1]), queries, patterns, k)


faiss_flat.dot = _faiss_dot


@judged("usearch, exact", "usearch", "nearest", dtype="float32")
def usearch_exact(queries: Array, patterns: Array, k: int) -> tuple[Array, Array]:
    from usearch.index import MetricKind, search

    found = search(np.ascontiguousarray(patterns), np.ascontiguousarray(queries), k, MetricKind.L2sq, exact=True)
    shape = (len(queries), -1)
    return np.sqrt(np.asarray(found.distances)).reshape(shape), np.asarray(found.keys).astype(np.int64).reshape(shape)


@judged("hnswlib BFIndex", "hnswlib", "nearest", dtype="float32")
def hnswlib_brute(queries: Array, patterns: Array, k: int) -> tuple[Array, Array]:
    import hnswlib

    index = hnswlib.BFIndex(space="l2", dim=patterns.shape[1])
    index.init_index(max_elements=len(patterns))
    index.add_items(patterns)
    indices, squares = index.knn_query(queries, k)
    return np.sqrt(squares), indices.astype(np.int64)


# Attention: PyTorch and JAX, whose functions take (batch, heads, positions, width) and (batch, positions, heads, width)


@judged("PyTorch scaled_dot_product_attention", "torch", "attention")
def torch_attention(q: Any, k: Any, v: Any) -> Any:
    return _sdpa(q, k, v, is_causal=True)


def _sdpa(q: Any, k: Any, v: Any, **options: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (a[None, None] for a in (q, k, v))
    return scaled_dot_product_attention(q, k, v, **options)[0, 0]


def _torch_grouped(q: Any, k: Any, v: Any, heads: int, key_heads: int) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    T = len(q)
    q, k, v = (a.reshape(T, n, -1).transpose(0, 1)[None] for a, n in ((q, heads), (k, key_heads), (v, key_heads)))
    y = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return y[0].transpose(0, 1).reshape(T, -1)


torch_attention.masked = lambda q, k, v, mask: _sdpa(q, k, v, attn_mask=mask)
torch_attention.heads = lambda q, k, v, heads: _torch_grouped(q, k, v, heads, heads)
torch_attention.grouped = _torch_grouped


@judged("JAX dot_product_attention", "jax", "attention", examples=25)
def jax_attention(q: Any, k: Any, v: Any) -> Any:
    import jax

    return jax.nn.dot_product_attention(*(jax.numpy.asarray(a)[:, None] for a in (q, k, v)), is_causal=True)[:, 0]


# Layers


def _torch_layer(kind: str, forward: Any) -> Any:
    """Return a PyTorch function as a layer, whose backward pass is autograd's."""
    from hopmin.testing.laws.layers import layer_inputs

    def layer(*inputs: Array) -> tuple[Array, Callable[[Any], Any]]:
        import torch

        tensors = [torch.tensor(a, requires_grad=np.issubdtype(a.dtype, np.floating)) for a in inputs]
        y = forward(*tensors)
        wanted = [t for t in tensors if t.requires_grad]

        def backward(dy: Any) -> tuple[Array, ...]:
            gradients = torch.autograd.grad(y, wanted, torch.as_tensor(dy, dtype=y.dtype).reshape(y.shape))
            return tuple(gradient.numpy() for gradient in gradients)

        return y.detach().numpy(), backward

    layer.kind, layer.inputs = kind, layer_inputs(kind)  # type: ignore[attr-defined]
    return layer


def _functional(name: str) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        import torch

        return getattr(torch.nn.functional, name)(*arguments, **options)

    return call


torch_layer_norm = judged("PyTorch layer_norm", "torch", "layer")(
    _torch_layer("layer_norm", lambda x, gain, bias: _functional("layer_norm")(x, x.shape[-1:], gain, bias))
)
torch_gelu = judged("PyTorch gelu", "torch", "layer")(_torch_layer("gelu", _functional("gelu")))
torch_gelu_tanh = judged("PyTorch gelu, tanh", "torch", "layer")(
    _torch_layer("gelu_tanh", lambda x: _functional("gelu")(x, approximate="tanh"))
)
torch_cross_entropy = judged("PyTorch cross_entropy", "torch", "layer")(
    _torch_layer(
        "cross_entropy",
        lambda a, y: _functional("cross_entropy")(a.reshape(-1, a.shape[-1]), y.reshape(-1), ignore_index=-1),
    )
)
torch_embedding = judged("PyTorch embedding", "torch", "layer")(_torch_layer("embedding", _functional("embedding")))


# Optimizers


@judged("PyTorch AdamW", "torch", "optimizer")
class TorchAdamW:
    """torch.optim.AdamW on NumPy arrays, with which its parameters share memory."""

    def __init__(self, parameters: dict[str, Array], **options: Any) -> None:
        import torch

        self.parameters = {name: torch.nn.Parameter(torch.from_numpy(a)) for name, a in parameters.items()}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), **options)

    def step(self, gradients: dict[str, Array]) -> None:
        import torch

        for name, gradient in gradients.items():
            self.parameters[name].grad = torch.from_numpy(gradient)
        self.optimizer.step()

    @staticmethod
    def clip(gradients: dict[str, Array], max_norm: float) -> float:
        import torch

        parameters = [torch.nn.Parameter(torch.from_numpy(np.zeros_like(a))) for a in gradients.values()]
        for parameter, gradient in zip(parameters, gradients.values(), strict=True):
            parameter.grad = torch.from_numpy(gradient)
        return float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))


@judged("Optax adamw", "optax", "optimizer", examples=25)
class OptaxAdamW:
    """optax.adamw, whose updates are written to NumPy arrays."""

    def __init__(self, parameters: dict[str, Array], *, lr: float, betas: Any, eps: float, weight_decay: float) -> None:
        import optax

        self.parameters = parameters
        self.rule = optax.adamw(lr, b1=betas[0], b2=betas[1], eps=eps, weight_decay=weight_decay)
        self.state = self.rule.init(parameters)

    def step(self, gradients: dict[str, Array]) -> None:
        import optax

        updates, self.state = self.rule.update(gradients, self.state, self.parameters)
        for name, new in optax.apply_updates(self.parameters, updates).items():
            self.parameters[name][...] = new


# hopmin


def _hopmin() -> None:
    import hopmin

    for family in ("logsumexp", "softmax", "log_softmax", "entmax", "nearest"):
        judged(f"hopmin {family}", "hopmin", family)(getattr(hopmin, family))
    for energy in ("DistanceEnergy", "DotEnergy"):
        judged(f"hopmin {energy}", "hopmin", "energy")(getattr(hopmin, energy))
    judged("hopmin Memory", "hopmin", "memory")(hopmin.Memory)


_hopmin()
