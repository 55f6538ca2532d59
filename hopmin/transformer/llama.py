"""A decoder of the Llama family (Touvron et al. 2023), forward only.

- sizes and model [`LlamaConfig`, `Llama`]
- the layers that GPT-2 does not have [`rms_norm`, `silu`, `apply_rope`]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Array, Floats
from hopmin.data.tokenizers import Tokenizer
from hopmin.transformer.generation import CausalModel, KVCache
from hopmin.transformer.layers import attention
from hopmin.transformer.model import (
    INFERENCE,
    Activations,
    Context,
    Shapes,
    check_shapes,
    merge_heads,
    split_heads,
)


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes of a Llama.

    Parameters
    ----------
    vocabulary, positions, layers, heads, key_heads, width, hidden : int
        V tokens; T, the longest sequence; L blocks; H heads of queries; G heads of keys and values, each shared by
        H / G heads of queries; D, the size of the residual stream; M, the width of the gated layer.
    base : float, default 10000.0
        Base of the rotary position encoding (`apply_rope`).
    epsilon : float, default 1e-5
        Added to the mean square in norms.
    tied_embeddings : bool, default True
        Whether the embedding is also used as output weights.

    Raises
    ------
    TypeError or ValueError
        If a size is not an integer >= 1, `base` or `epsilon` is not a finite number > 0, `key_heads` does not divide
        `heads`, or the width of a head is not an even integer.

    Examples
    --------
    >>> LlamaConfig(49152, 8192, layers=30, heads=9, key_heads=3, width=576, hidden=1536).parameter_count
    134515008
    """

    vocabulary: int
    positions: int
    layers: int
    heads: int
    key_heads: int
    width: int
    hidden: int
    base: float = 10000.0
    epsilon: float = 1e-5
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        for name in ("vocabulary", "positions", "layers", "heads", "key_heads", "width", "hidden"):
            object.__setattr__(self, name, _check.integer(name, getattr(self, name)))
        for name in ("base", "epsilon"):
            object.__setattr__(self, name, _check.number(name, getattr(self, name), "(0, inf)"))
        if self.heads % self.key_heads:
            raise ValueError(f"heads must be a multiple of key_heads; got {self.heads} and {self.key_heads}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of twice the heads; got {self.width} and {self.heads}")
        object.__setattr__(self, "tied_embeddings", _check.boolean("tied_embeddings", self.tied_embeddings))

    @property
    def shapes(self) -> Shapes:
        """Shapes of all parameters, by name, in the order of the forward pass."""
        V, D, M, K = self.vocabulary, self.width, self.hidden, self.key_heads * self.width // self.heads
        block = {
            "norm1.gain": (D,), "queries.weight": (D, D), "keys.weight": (D, K), "values.weight": (D, K),
            "output.weight": (D, D),
            "norm2.gain": (D,), "gate.weight": (D, M), "expand.weight": (D, M), "contract.weight": (M, D),
        }  # fmt: skip
        layers = {f"layers.{layer}.{name}": shape for layer in range(self.layers) for name, shape in block.items()}
        head = {} if self.tied_embeddings else {"head.weight": (D, V)}
        return {"tokens": (V, D), **layers, "norm.gain": (D,), **head}

    @property
    def parameter_count(self) -> int:
        """Number of parameters; tied output weights count once."""
        return sum(map(math.prod, self.shapes.values()))


@_arithmetic.standard_methods
class Llama(CausalModel):
    """A causal language model (Touvron et al. 2023), forward only.

    It differs from a GPT in four ways: norms divide by the root of the mean square and do not subtract the mean
    (`rms_norm`); positions rotate queries and keys (`apply_rope`); several heads of queries may share one head of keys
    and values (Ainslie et al. 2023); the feed-forward layer is gated (`silu`). There are no biases.

    Parameters
    ----------
    config : LlamaConfig
    parameters : mapping of str to array_like
        The arrays that `config.shapes` names. They are cast to float32, or to float64 if one of them is; results have
        the same dtype.
    tokenizer : tokenizer, optional
        Stored as an attribute.

    Raises
    ------
    ValueError
        If a parameter is missing, unknown, of another shape, or not finite.

    Examples
    --------
    >>> config = LlamaConfig(vocabulary=5, positions=8, layers=2, heads=4, key_heads=2, width=16, hidden=24)
    >>> rng = np.random.default_rng(0)
    >>> model = Llama(config, {name: rng.normal(size=shape) / 4 for name, shape in config.shapes.items()})
    >>> model.logits([[1, 2, 3]]).shape, model.generate([1, 2, 3], 4).shape
    ((1, 3, 5), (7,))
    """

    config: LlamaConfig

    def __init__(
        self, config: LlamaConfig, parameters: Mapping[str, ArrayLike], tokenizer: Tokenizer | None = None
    ) -> None:
        arrays = {name: _check.real(name, a) for name, a in parameters.items()}
        check_shapes(config.shapes, {name: a.shape for name, a in arrays.items()}, "parameters")
        dtype = np.result_type(np.float32, *arrays.values())
        for name, a in arrays.items():
            _check.finite(name, a)
        self.config, self.tokenizer = config, tokenizer
        self.parameters = {name: arrays[name].astype(dtype, copy=False) for name in config.shapes}

    def activations(self, tokens: ArrayLike) -> Activations:
        """Return the intermediate results for tokens (B, T); queries and keys are those after rotation.

        Keys and values that heads share are repeated for each of them.
        """
        context = Context(recorded={})
        self._outputs(self._check_tokens(tokens), context)
        return context.activations()

    @property
    def _head(self) -> Floats:
        """The output weights (D, V)."""
        return self.parameters["tokens"].T if self.config.tied_embeddings else self.parameters["head.weight"]

    def _logits(self, tokens: Array) -> Floats:
        return self._outputs(tokens) @ self._head

    def _new_cache(self, start: Array) -> KVCache:
        c, dtype = self.config, self.parameters["tokens"].dtype
        return KVCache(c.layers, (len(start), c.key_heads, c.positions, c.width // c.heads), dtype.name, start)

    def _next_logits(self, tokens: Array, cache: KVCache) -> Floats:
        return self._outputs(tokens, Context(cache=cache))[:, -1] @ self._head

    def _outputs(self, tokens: Array, context: Context = INFERENCE) -> Floats:
        """Return the last state (B, T, D) after the last norm; the cache gets the keys and values of the G heads."""
        c, p, cache = self.config, self.parameters, context.cache
        # products of rotated vectors depend on differences of positions only, so rows need not start at position 0
        first = 0 if cache is None else cache.length
        x = p["tokens"][tokens]
        context.record(states=x)
        for layer in range(c.layers):
            w = {name: p[f"layers.{layer}.{name}.weight"] for name in _WEIGHTS}

            # attention: q is (B, H, T, E), k and v are (B, G, S, E) and then repeated for the heads that share them
            z = rms_norm(x, p[f"layers.{layer}.norm1.gain"], c.epsilon)
            q = apply_rope(split_heads(z @ w["queries"], c.heads), first, c.base)
            k = apply_rope(split_heads(z @ w["keys"], c.key_heads), first, c.base)
            k, v, padding_mask = context.at(layer).extend(k, split_heads(z @ w["values"], c.key_heads))
            k, v = (np.repeat(a, c.heads // c.key_heads, axis=1) for a in (k, v))
            mixed, weights, _ = attention(q, k, v, padding_mask=padding_mask)
            x = x + merge_heads(mixed) @ w["output"]

            # feed forward
            z = rms_norm(x, p[f"layers.{layer}.norm2.gain"], c.epsilon)
            hidden = silu(z @ w["gate"]) * (z @ w["expand"])
            x = x + hidden @ w["contract"]
            context.record(queries=q, keys=k, values=v, weights=weights, hidden=hidden, states=x)
        if cache is not None:
            cache.length += tokens.shape[1]
        outputs = rms_norm(x, p["norm.gain"], c.epsilon)
        context.record(outputs=outputs)
        return outputs


_WEIGHTS = ("queries", "keys", "values", "output", "gate", "expand", "contract")


def rms_norm(x: Floats, gain: Floats, epsilon: float = 1e-5) -> Floats:
    """Return gain x / sqrt(mean(x^2) + epsilon) (Zhang & Sennrich 2019).

    Parameters
    ----------
    x : ndarray, shape (..., D)
        The mean is over the last axis.
    gain : ndarray, shape (D,)
    epsilon : float, default 1e-5

    Returns
    -------
    y : ndarray, shape (..., D)
    """
    y: Floats = gain * x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + x.dtype.type(epsilon))
    return y


def silu(x: Floats) -> Floats:
    """Return x / (1 + exp(-x)), the gate of SwiGLU (Shazeer 2020)."""
    y: Floats = x * (1 + np.tanh(x / 2)) / 2  # the same function; exp would overflow
    return y


def apply_rope(x: Floats, first: int = 0, base: float = 10000.0) -> Floats:
    """Rotate the pairs (2j, 2j + 1) of vectors at position t by the angle t base^(-2j/E).

    The product of a rotated query and a rotated key depends on the difference of their positions only (Su et al. 2021,
    equation 34). Norms do not change.

    Parameters
    ----------
    x : ndarray, shape (..., T, E)
        Vectors at positions `first` to first + T - 1; E is even.
    first : int, default 0
    base : float, default 10000.0

    Returns
    -------
    rotated : ndarray, shape (..., T, E)

    Examples
    --------
    >>> apply_rope(np.array([[1.0, 0.0], [1.0, 0.0]])).round(3)     # position 0 does not rotate; position 1, one radian
    array([[1.   , 0.   ],
           [0.54 , 0.841]])
    """
    T, E = x.shape[-2:]
    angles = np.arange(first, first + T)[:, None] * base ** (-np.arange(0, E, 2) / E)
    pairs = np.ascontiguousarray(x).view(np.result_type(x, np.complex64))
    rotated: Floats = (pairs * np.exp(1j * angles).astype(pairs.dtype)).view(x.dtype)
    return rotated
