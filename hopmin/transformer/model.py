"""A GPT of the layers in `layers.py`: [`GPTConfig`], [`GPT`], and what it thinks on the way, [`Activations`].

GPT-2's architecture (Radford et al. 2019): learned positions; blocks of causal attention and a GELU layer four times as
wide, each behind a layer norm and added to what came in; a last layer norm; output weights tied to the embedding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._check import Array
from hopmin._files import Name, load_arrays, save_arrays
from hopmin.numerics import softmax
from hopmin.transformer.corpus import Tokenizer
from hopmin.transformer.layers import (
    Backward,
    attention,
    cross_entropy,
    dropout,
    embedding,
    gelu,
    layer_norm,
    linear,
)  # fmt: skip

Gradients = dict[str, Array]


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT: V vocabulary, T positions, L layers, H heads, D width; its dropout rate and dtype; and
    `spread`, the standard deviation of its initial weights, embeddings included: GPT-2's 0.02, made for widths near a
    thousand, leaves small models all but silent; 1 / sqrt(D) suits every width.

    Raises ValueError or TypeError if a size is not a whole number >= 1, heads do not divide width, dropout is not in
    [0, 1) or dtype is neither "float32" nor "float64".

    >>> GPTConfig(vocabulary=50257, positions=1024, layers=12, heads=12, width=768).parameter_count     # GPT-2 small
    124439808
    """

    vocabulary: int
    positions: int
    layers: int
    heads: int
    width: int
    dropout: float = 0.0
    spread: float = 0.02
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("vocabulary", "positions", "layers", "heads", "width"):
            object.__setattr__(self, name, _check.whole(name, getattr(self, name)))
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads; got {self.width} and {self.heads}")
        object.__setattr__(self, "dropout", _check.fraction("dropout", self.dropout))
        object.__setattr__(self, "spread", _check.positive("spread", self.spread))
        object.__setattr__(self, "dtype", _check.choice("dtype", self.dtype, ("float32", "float64")))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, by name, in the order of the forward pass."""
        V, T, D = self.vocabulary, self.positions, self.width
        norm: dict[str, tuple[int, ...]] = {"gain": (D,), "bias": (D,)}
        block: dict[str, dict[str, tuple[int, ...]]] = {
            "norm1": norm,
            "attention": {"weight": (D, 3 * D), "bias": (3 * D,)},
            "output": {"weight": (D, D), "bias": (D,)},
            "norm2": norm,
            "expand": {"weight": (D, 4 * D), "bias": (4 * D,)},
            "contract": {"weight": (4 * D, D), "bias": (D,)},
        }
        shapes: dict[str, tuple[int, ...]] = {"tokens": (V, D), "positions": (T, D)}
        for layer in range(self.layers):
            for part, of in block.items():
                shapes |= {f"layers.{layer}.{part}.{name}": shape for name, shape in of.items()}
        return shapes | {f"norm.{name}": shape for name, shape in norm.items()}

    @property
    def parameter_count(self) -> int:
        """How many numbers the parameters hold; the tied output counts once."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())


@dataclass(frozen=True)
class Activations:
    """What a GPT computes for tokens (B, T) on the way to its logits.

    states (L + 1, B, T, D): the residual stream before the first block and after each;
    outputs (B, T, D): the last state after the last layer norm, of which the logits are a product;
    queries, keys, values (L, B, H, T, E) and weights (L, B, H, T, T) of every head.
    """

    states: Array
    outputs: Array
    queries: Array
    keys: Array
    values: Array
    weights: Array


class GPT:
    """A causal language model: tokens (B, T) to logits (B, T, V), with a backward written by hand.

    `config` is a GPTConfig; `rng`, a Generator or a seed, draws the initial parameters: normal with standard
    deviation `spread`, or spread / sqrt(2 L) where a block adds to the residual stream; gains one, biases zero.
    `parameters` maps names to arrays, which training changes in place. Without an rng, nothing is ever dropped out.

    >>> model = GPT(GPTConfig(vocabulary=5, positions=8, layers=2, heads=2, width=16), rng=0)
    >>> model.logits([[1, 2, 3]]).shape
    (1, 3, 5)
    >>> loss, gradients = model.loss_and_gradients([[1, 2, 3]], [[2, 3, 4]])
    >>> round(loss, 1), round(np.log(5), 1), gradients.keys() == model.parameters.keys()
    (1.6, np.float64(1.6), True)
    """

    def __init__(self, config: GPTConfig, rng: np.random.Generator | int) -> None:
        rng = _check.generator("rng", rng)
        self.config = config
        self.parameters: dict[str, Array] = {}
        for name, shape in config.shapes.items():
            if name.endswith("gain"):
                drawn = np.ones(shape)
            elif name.endswith("bias"):
                drawn = np.zeros(shape)
            else:
                adds = name.endswith(("output.weight", "contract.weight"))
                drawn = rng.normal(0, config.spread / np.sqrt(2 * config.layers) if adds else config.spread, shape)
            self.parameters[name] = drawn.astype(config.dtype)

    def logits(self, tokens: ArrayLike) -> Array:
        """(B, T, V) The unnormalised log-probabilities of each next token; tokens (B, T) with T <= positions.

        Row t depends on tokens up to t alone. Raises ValueError for tokens outside the vocabulary or of another shape.
        """
        return self._forward(self._tokens(tokens))[0]

    def cross_entropy(self, tokens: ArrayLike, targets: ArrayLike) -> float:
        """The mean negative log-likelihood of the targets in nats; a target of -1 is not counted."""
        tokens, targets = self._examples(tokens, targets)
        return cross_entropy(self._forward(tokens)[0], targets)[0]

    def loss_and_gradients(
        self, tokens: ArrayLike, targets: ArrayLike, rng: np.random.Generator | int | None = None
    ) -> tuple[float, Gradients]:
        """The cross-entropy and its gradient for every parameter. With an rng, dropout is on, and drawn from it."""
        tokens, targets = self._examples(tokens, targets)
        logits, backward = self._forward(tokens, None if rng is None else _check.generator("rng", rng))
        loss, back_loss = cross_entropy(logits, targets)
        return loss, backward(back_loss(1.0))

    def activations(self, tokens: ArrayLike) -> Activations:
        """All that is computed on the way, for tokens (B, T), without dropout."""
        seen: dict[str, list[Array]] = {}
        self._forward(self._tokens(tokens), seen=seen)
        return Activations(
            np.array(seen["states"]), seen["outputs"][0],
            *(np.array(seen[name]) for name in ("queries", "keys", "values", "weights")),
        )  # fmt: skip

    def generate(
        self,
        prompt: ArrayLike,
        count: int,
        *,
        temperature: float = 0.0,
        stop: int | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> Array:
        """The prompt (T,) and up to `count` more tokens, each drawn from softmax(logits / temperature).

        At temperature 0 the likeliest token is taken, of equals the lowest. Ends early after a `stop` token. The
        model sees the last `positions` tokens. Raises ValueError if the prompt is empty, or if temperature > 0 and
        rng is None.
        """
        tokens = _check.tokens("prompt", prompt, self.config.vocabulary, shape="T")
        if _check.nonnegative("temperature", temperature) and rng is None:
            raise ValueError("rng must be given where temperature is above 0; got None")
        rng = None if rng is None else _check.generator("rng", rng)
        for _ in range(_check.whole("count", count, 0)):
            logits = self.logits(tokens[None, -self.config.positions :])[0, -1].astype(np.float64)
            likeliest = int(logits.argmax())
            token = likeliest
            if rng is not None and temperature:
                with np.errstate(over="ignore"):  # next to temperature 0 all but the likeliest are infinitely far off
                    token = int(rng.choice(len(logits), p=softmax((logits - logits.max()) / temperature)))
            tokens = np.append(tokens, token)
            if token == stop:
                break
        return tokens

    def save(
        self, path: Name, tokenizer: Tokenizer | None = None, *, extra: dict[str, Array] | None = None, **records: Any
    ) -> None:
        """Write configuration, parameters and tokenizer, if given, to `path`: .npz without pickle, whole or not at all.

        `extra` arrays and JSON records are kept beside them, for whoever asks `load_model`.
        """
        if tokenizer is not None and len(tokenizer.symbols) != self.config.vocabulary:
            found = len(tokenizer.symbols)
            raise ValueError(f"tokenizer must have {self.config.vocabulary} symbols, the vocabulary; got {found}")
        symbols = tokenizer and {"symbols": tokenizer.symbols, "separator": tokenizer.separator}
        arrays = {f"parameters/{name}": a for name, a in self.parameters.items()} | (extra or {})
        save_arrays(path, "model", arrays, config=asdict(self.config), tokenizer=symbols, **records)

    @classmethod
    def load(cls, path: Name) -> GPT:
        """The model saved at `path`. Raises ValueError if there is none, it is damaged, or it is something else."""
        return load_model(path).model

    def _tokens(self, tokens: ArrayLike) -> Array:
        return _check.tokens("tokens", tokens, self.config.vocabulary, T=self.config.positions)

    def _examples(self, tokens: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
        tokens = self._tokens(tokens)
        targets = _check.tokens("targets", targets, self.config.vocabulary, lowest=-1)
        if targets.shape != tokens.shape or targets.max() < 0:
            raise ValueError(f"targets must have shape {tokens.shape}, not all -1; got {targets.shape}")
        return tokens, targets

    def _forward(
        self, tokens: Array, rng: np.random.Generator | None = None, seen: dict[str, list[Array]] | None = None
    ) -> tuple[Array, Backward]:
        p, rate = self.parameters, self.config.dropout
        T = tokens.shape[1]
        words, back_words = embedding(tokens, p["tokens"])
        x, back_dropout = dropout(words + p["positions"][:T], rate, rng)
        record(seen, states=x)
        backs = []
        for layer in range(self.config.layers):
            x, back = block(x, self._layer(layer), self.config.heads, rate, rng, seen)
            backs.append(back)
        y, back_norm = layer_norm(x, p["norm.gain"], p["norm.bias"])
        record(seen, outputs=y)
        logits = y @ p["tokens"].T  # tied: the embedding is the output weight too

        def backward(dlogits: Array) -> Gradients:
            d: Gradients = {}
            dx, d["norm.gain"], d["norm.bias"] = back_norm(dlogits @ p["tokens"])
            for layer in reversed(range(self.config.layers)):
                dx, dlayer = backs[layer](dx)
                d |= {f"layers.{layer}.{name}": gradient for name, gradient in dlayer.items()}
            dx = back_dropout(dx)
            d["positions"] = np.zeros_like(p["positions"])
            d["positions"][:T] = dx.sum(axis=0)
            V, D = p["tokens"].shape
            d["tokens"] = dlogits.reshape(-1, V).T @ y.reshape(-1, D) + back_words(dx)  # it was used twice
            return {name: d[name] for name in p}

        return logits, backward

    def _layer(self, layer: int) -> dict[str, Array]:
        prefix = f"layers.{layer}."
        return {name.removeprefix(prefix): a for name, a in self.parameters.items() if name.startswith(prefix)}


def block(
    x: Array,
    p: dict[str, Array],
    heads: int,
    rate: float = 0.0,
    rng: np.random.Generator | None = None,
    seen: dict[str, list[Array]] | None = None,
) -> tuple[Array, Backward]:
    """x (B, T, D) -> x + attention(norm(x)) -> ... + contract(gelu(expand(norm(...)))). Returns dx and {name:
    gradient}.
    """
    B, T, D = x.shape

    # attend
    normed, back_norm1 = layer_norm(x, p["norm1.gain"], p["norm1.bias"])
    projected, back_attention = linear(normed, p["attention.weight"], p["attention.bias"])
    q, k, v = projected.reshape(B, T, 3, heads, D // heads).transpose(2, 0, 3, 1, 4)  # each (B, H, T, E)
    mixed, weights, back_mix = attention(q, k, v, rate, rng)
    joined = mixed.transpose(0, 2, 1, 3).reshape(B, T, D)
    attended, back_output = linear(joined, p["output.weight"], p["output.bias"])
    attended, back_dropout1 = dropout(attended, rate, rng)
    middle = x + attended

    # feed forward
    renormed, back_norm2 = layer_norm(middle, p["norm2.gain"], p["norm2.bias"])
    wide, back_expand = linear(renormed, p["expand.weight"], p["expand.bias"])
    active, back_gelu = gelu(wide)
    narrow, back_contract = linear(active, p["contract.weight"], p["contract.bias"])
    narrow, back_dropout2 = dropout(narrow, rate, rng)
    y = middle + narrow
    record(seen, queries=q, keys=k, values=v, weights=weights, states=y)

    def backward(dy: Array) -> tuple[Array, Gradients]:
        d: Gradients = {}
        # feed forward
        dactive, d["contract.weight"], d["contract.bias"] = back_contract(back_dropout2(dy))
        drenormed, d["expand.weight"], d["expand.bias"] = back_expand(back_gelu(dactive))
        dmiddle, d["norm2.gain"], d["norm2.bias"] = back_norm2(drenormed)
        dmiddle = dmiddle + dy
        # attend
        djoined, d["output.weight"], d["output.bias"] = back_output(back_dropout1(dmiddle))
        dmixed = djoined.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)
        dprojected = np.stack(back_mix(dmixed)).transpose(1, 3, 0, 2, 4).reshape(B, T, 3 * D)
        dnormed, d["attention.weight"], d["attention.bias"] = back_attention(dprojected)
        dx, d["norm1.gain"], d["norm1.bias"] = back_norm1(dnormed)
        return dx + dmiddle, d

    return y, backward


def record(seen: dict[str, list[Array]] | None, **arrays: Array) -> None:
    """Keep the arrays, if anybody wants to see them."""
    if seen is not None:
        for name, a in arrays.items():
            seen.setdefault(name, []).append(a)


@dataclass(frozen=True)
class Saved:
    """What a model file holds: the model, its tokenizer, if any, and whatever else was kept beside them."""

    model: GPT
    tokenizer: Tokenizer | None
    extra: dict[str, Array]
    records: dict[str, Any]


def load_model(path: Name) -> Saved:
    """All that is saved at `path`. Raises ValueError if there is nothing, it is damaged, or it is something else."""
    arrays, records = load_arrays(path, "model")
    model = GPT.__new__(GPT)
    try:
        model.config = GPTConfig(**records["config"])
        if 4 + 12 * model.config.layers != sum(name.startswith("parameters/") for name in arrays):
            raise ValueError("not as many arrays as layers need")
        model.parameters = {name: arrays.pop(f"parameters/{name}") for name in model.config.shapes}
        fitting = all(
            a.shape == model.config.shapes[name] and a.dtype == model.config.dtype
            for name, a in model.parameters.items()
        )
        symbols = records["tokenizer"]
        tokenizer = Tokenizer(tuple(symbols["symbols"]), symbols["separator"]) if symbols else None
    except (KeyError, TypeError, ValueError):
        fitting = False
    if not fitting:
        raise ValueError(f"model must hold the parameters that its configuration names; {path} does not")
    return Saved(model, tokenizer, arrays, records)
