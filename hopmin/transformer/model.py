"""A GPT of the layers in `layers.py`: [`GPTConfig`], [`GPT`], and what it thinks on the way, [`Activations`].

By default GPT-2's architecture (Radford et al. 2019): learned positions; blocks of causal attention and a GELU layer
four times as wide, each behind a layer norm and added to what came in; a last layer norm; output weights tied to the
embedding. With norms after the sums, ReLU and sinusoids it is the first transformer's (Vaswani et al. 2017). With
energy attention a block's attention is a step down an energy of part I, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._files import load_arrays, save_arrays
from hopmin._typing import Array, Name
from hopmin.data.tokenizers import Tokenizer, tokenizer_from_record
from hopmin.transformer.decoding import Decoder, supports
from hopmin.transformer.generation import CausalModel, KVCache
from hopmin.transformer.layers import (
    Backward,
    attention,
    cross_entropy,
    dropout,
    embedding,
    gelu,
    layer_norm,
    linear,
    relu,
)  # fmt: skip

Gradients = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]
ACTIVATIONS = {"gelu": gelu, "relu": relu}


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT: V vocabulary, T positions, L layers, H heads, D width; its dropout rate and dtype; and
    `init_std`, the standard deviation of its initial weights, embeddings included: GPT-2's 0.02, made for widths near a
    thousand, leaves small models all but silent; 1 / sqrt(D) suits every width.

    hidden : width of the layer between `expand` and `contract`; 4 D if None; 0 leaves both out
    norm : "pre", x + f(norm(x)), with one more norm at the end; or "post", norm(x + f(x))
    activation : "gelu", in GPT-2's form, or "relu"
    position_encoding : of positions, "learned", or "sinusoidal" with embeddings scaled by sqrt(D)
    tied_embeddings : whether the output weights are the embedding's
    bias : whether linear layers and norms have any
    attention : "dot", or "energy", x + eta (u - x), where u is the update of x in a DistanceEnergy (`energy_step`)
    eta : how far energy attention goes; the energy falls for 0 < eta < 2
    shared_layers : whether all blocks have the same weights

    Raises ValueError or TypeError if a size is not an integer >= 1, heads do not divide width, dropout is not in
    [0, 1), or an option is none of those named.

    >>> GPTConfig(vocabulary=50257, positions=1024, layers=12, heads=12, width=768).parameter_count     # GPT-2 small
    124439808
    >>> GPTConfig.preset("gpt2-medium").parameter_count
    354823168
    """

    vocabulary: int
    positions: int
    layers: int
    heads: int
    width: int
    dropout: float = 0.0
    init_std: float = 0.02
    dtype: str = "float32"
    hidden: int | None = None
    norm: str = "pre"
    activation: str = "gelu"
    position_encoding: str = "learned"
    tied_embeddings: bool = True
    bias: bool = True
    attention: str = "dot"
    eta: float = 0.5
    shared_layers: bool = False

    def __post_init__(self) -> None:
        for name in ("vocabulary", "positions", "layers", "heads", "width"):
            object.__setattr__(self, name, _check.integer(name, getattr(self, name)))
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads; got {self.width} and {self.heads}")
        object.__setattr__(self, "dropout", _check.number("dropout", self.dropout, "[0, 1)"))
        object.__setattr__(self, "init_std", _check.number("init_std", self.init_std, "(0, inf)"))
        object.__setattr__(self, "dtype", _check.choice("dtype", self.dtype, ("float32", "float64")))
        hidden = 4 * self.width if self.hidden is None else _check.integer("hidden", self.hidden, 0)
        object.__setattr__(self, "hidden", hidden)
        object.__setattr__(self, "norm", _check.choice("norm", self.norm, ("pre", "post")))
        object.__setattr__(self, "activation", _check.choice("activation", self.activation, ACTIVATIONS))
        object.__setattr__(
            self,
            "position_encoding",
            _check.choice("position_encoding", self.position_encoding, ("learned", "sinusoidal")),
        )
        object.__setattr__(self, "attention", _check.choice("attention", self.attention, ("dot", "energy")))
        object.__setattr__(self, "eta", _check.number("eta", self.eta, "(0, inf)"))
        for name in ("tied_embeddings", "bias", "shared_layers"):
            object.__setattr__(self, name, _check.boolean(name, getattr(self, name)))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> GPTConfig:
        """A configuration by its name, one of [`PRESETS`], with whatever else is to be changed."""
        return cls(**{**PRESETS[_check.choice("preset", name, PRESETS)], **changes})

    @property
    def shapes(self) -> Shapes:
        """The shape of every parameter, by name, in the order of the forward pass."""
        V, T, D, M = self.vocabulary, self.positions, self.width, self.hidden
        assert M is not None  # None has become a number

        def affine(i: int, o: int) -> Shapes:
            return {"weight": (i, o), "bias": (o,)} if self.bias else {"weight": (i, o)}

        norm: Shapes = {"gain": (D,), "bias": (D,)} if self.bias else {"gain": (D,)}
        block = {"norm1": norm, "attention": affine(D, 3 * D), "output": affine(D, D)}
        if self.attention == "energy":
            block = {"patterns": affine(D, D)}
        if M:
            block |= {"norm2": norm, "expand": affine(D, M), "contract": affine(M, D)}
        layers = 1 if self.shared_layers else self.layers
        parts = {f"layers.{layer}.{part}": of for layer in range(layers) for part, of in block.items()}
        if self.norm == "pre":
            parts["norm"] = norm
        if not self.tied_embeddings:
            parts["head"] = affine(D, V)
        shapes: Shapes = {"tokens": (V, D)}
        if self.position_encoding == "learned":
            shapes["positions"] = (T, D)
        return shapes | {f"{part}.{name}": shape for part, of in parts.items() for name, shape in of.items()}

    @property
    def parameter_count(self) -> int:
        """How many numbers the parameters hold; a tied output counts once."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())


_GPT2 = {"vocabulary": 50257, "positions": 1024}
_QUESTIONS = {
    "vocabulary": 69, "positions": 5000, "heads": 4, "width": 512, "dropout": 0.1, "norm": "post",
    "activation": "relu", "position_encoding": "sinusoidal", "tied_embeddings": False, "init_std": 512**-0.5,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": {**_GPT2, "layers": 12, "heads": 12, "width": 768},
    "gpt2-medium": {**_GPT2, "layers": 24, "heads": 16, "width": 1024},
    "gpt2-large": {**_GPT2, "layers": 36, "heads": 20, "width": 1280},
    "gpt2-xl": {**_GPT2, "layers": 48, "heads": 25, "width": 1600},
    "questions-6": {**_QUESTIONS, "layers": 6},  # Niu et al. 2024, section 6.2: Question Formation
    "questions-10": {**_QUESTIONS, "layers": 10},
    "tiny": {"vocabulary": 69, "positions": 64, "layers": 4, "heads": 4, "width": 128, "init_std": 128**-0.5},
}


@dataclass(frozen=True)
class Activations:
    """What a GPT computes for tokens (B, T) on the way to its logits.

    states (L + 1, B, T, D): the residual stream before the first block and after each;
    outputs (B, T, D): the last state, after the last layer norm if there is one, of which the logits are a product;
    queries, keys, values (L, B, H, T, E) and weights (L, B, H, T, T) of every head.
    """

    states: Array
    outputs: Array
    queries: Array
    keys: Array
    values: Array
    weights: Array


class GPT(CausalModel):
    """A causal language model: tokens (B, T) to logits (B, T, V), with a backward written by hand.

    `config` is a GPTConfig; `rng`, a Generator or a seed, draws the initial parameters: normal with standard
    deviation `init_std`, or init_std / sqrt(2 L) where a block adds to the residual stream; gains one, biases zero.
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
                drawn = rng.normal(0, config.init_std / np.sqrt(2 * config.layers) if adds else config.init_std, shape)
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

    def save(
        self,
        path: Name,
        tokenizer: Tokenizer | None = None,
        *,
        extra: dict[str, Array] | None = None,
        **records: Any,
    ) -> None:
        """Write configuration, parameters and tokenizer, if given, to `path`: .npz without pickle, whole or not at all.

        `extra` arrays and JSON records are kept beside them, for whoever asks `load_model`.
        """
        if tokenizer is not None and len(tokenizer.symbols) != self.config.vocabulary:
            found = len(tokenizer.symbols)
            raise ValueError(f"tokenizer must have {self.config.vocabulary} symbols, the vocabulary; got {found}")
        arrays = {f"parameters/{name}": a for name, a in self.parameters.items()} | (extra or {})
        save_arrays(
            path, "model", arrays, config=asdict(self.config), tokenizer=tokenizer and tokenizer.record, **records
        )

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

    def _cache(self, start: Array) -> KVCache:
        c = self.config
        return KVCache(c.layers, (len(start), c.heads, c.positions, c.width // c.heads), c.dtype, start)

    def _next(self, tokens: Array, cache: KVCache) -> Array:
        if tokens.shape[1] > 1 or not supports(self.config):
            return self._forward(tokens, cache=cache, last=True)[0][:, -1]
        cache.decoder = cache.decoder or Decoder(self, cache)
        return cache.decoder(tokens)

    def _forward(
        self,
        tokens: Array,
        rng: np.random.Generator | None = None,
        *,
        seen: dict[str, list[Array]] | None = None,
        cache: KVCache | None = None,
        last: bool = False,
    ) -> tuple[Array, Backward]:
        """Logits (B, T, V), or of the last position only (B, 1, V), which has no backward; nor has what is cached."""
        p, c, T = self.parameters, self.config, tokens.shape[1]
        places = np.arange(T) if cache is None else cache.positions(T)
        words, back_words = embedding(tokens, p["tokens"])
        x0, back_dropout = dropout(self._scale * words + self._encoded(places), c.dropout, rng)
        x = x0
        record(seen, states=x)
        backs = []
        for layer in range(c.layers):
            x, back = block(x, x0, self._layer(layer), c, rng, seen, None if cache is None else (cache, layer))
            backs.append(back)
        if cache is not None:
            cache.length += T
        if last:
            x = x[:, -1:]
        outputs, logits, back_read = self._read(x)
        record(seen, outputs=outputs)

        def backward(dlogits: Array) -> Gradients:
            dx, d = back_read(dlogits)
            dx0: Any = 0
            for layer in reversed(range(c.layers)):
                dx, dlater, dlayer = backs.pop()(dx)  # and what it kept goes with it
                dx0 = dx0 + dlater
                for name, gradient in dlayer.items():
                    name = f"layers.{0 if c.shared_layers else layer}.{name}"
                    d[name] = gradient if d.get(name) is None else d[name] + gradient  # None: no bias
            dx = back_dropout(dx + dx0)
            if c.position_encoding == "learned":
                d["positions"] = np.zeros_like(p["positions"])
                d["positions"][:T] = dx.sum(axis=0)
            d["tokens"] = d.get("tokens", 0) + back_words(self._scale * dx)
            return {name: d[name] for name in p}

        return logits, backward

    def _read(self, x: Array) -> tuple[Array, Array, Backward]:
        """Outputs (..., D), their logits (..., V), and backward: from dlogits to dx and {name: gradient}."""
        p, c = self.parameters, self.config
        y, back_norm = (
            layer_norm(x, p["norm.gain"], p.get("norm.bias")) if c.norm == "pre" else (x, lambda dy: (dy, None, None))
        )
        logits, back_head = self._unembedded(y)

        def backward(dlogits: Array) -> tuple[Array, dict[str, Any]]:
            d: dict[str, Any] = {}
            dy, dweight, d["head.bias"] = back_head(dlogits)
            dx, d["norm.gain"], d["norm.bias"] = back_norm(dy)
            return dx, d | ({"tokens": dweight.T} if c.tied_embeddings else {"head.weight": dweight})

        return y, logits, backward

    def _unembedded(self, y: Array) -> tuple[Array, Backward]:
        """The logits of outputs; if tied, the embedding is the output weight too."""
        p = self.parameters
        return (
            linear(y, p["tokens"].T) if self.config.tied_embeddings else linear(y, p["head.weight"], p.get("head.bias"))
        )

    @property
    def _scale(self) -> Any:
        """What embeddings are multiplied by."""
        scale = 1.0 if self.config.position_encoding == "learned" else np.sqrt(self.config.width)
        return np.dtype(self.config.dtype).type(scale)

    def _encoded(self, places: Array) -> Array:
        """(..., D) What is added to the embeddings of tokens at these places."""
        if self.config.position_encoding == "learned":
            return self.parameters["positions"][places]
        return sinusoids(places, self.config.width).astype(self.config.dtype)

    def _layer(self, layer: int) -> dict[str, Array]:
        prefix = f"layers.{0 if self.config.shared_layers else layer}."
        return {name.removeprefix(prefix): a for name, a in self.parameters.items() if name.startswith(prefix)}


def sinusoids(places: Array, width: int) -> Array:
    """(..., D) sin and cos, in turn, of places (...) over 10000^(2i / D) (Vaswani et al. 2017, section 3.5).

    >>> sinusoids(np.array([0, 1]), 4).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]])
    """
    i = np.arange(width)
    angles = places[..., None] / 10000.0 ** (2 * (i // 2) / width)
    return np.where(i % 2 == 0, np.sin(angles), np.cos(angles))


Sublayer = Callable[[Array], tuple[Array, Backward]]


def block(
    x: Array,
    x0: Array,
    p: dict[str, Array],
    config: GPTConfig,
    rng: np.random.Generator | None = None,
    seen: dict[str, list[Array]] | None = None,
    past: tuple[KVCache, int] | None = None,
) -> tuple[Array, Backward]:
    """Attention, then two linear layers, each added to what came in: x (B, T, D); `x0` is what came into the first
    block. Returns dx, dx0 and {name: gradient}.
    """
    if config.attention == "energy":
        y, back_attention = energy_step(x, x0, p, config, rng, seen, past)
    else:
        y, back_attention = residual(x, lambda x: attend(x, p, config, rng, seen, past), p, "norm1", config.norm)
    back_feed: Backward = lambda dy: (dy, {})  # noqa: E731
    if config.hidden:
        y, back_feed = residual(y, lambda x: feed_forward(x, p, config, rng), p, "norm2", config.norm)
    record(seen, states=y)

    def backward(dy: Array) -> tuple[Array, Any, Gradients]:
        dy, d2 = back_feed(dy)
        dx, *dx0, d1 = back_attention(dy)
        return dx, sum(dx0), d1 | d2

    return y, backward


def residual(x: Array, f: Sublayer, p: dict[str, Array], name: str, norm: str) -> tuple[Array, Backward]:
    """ "pre": y = x + f(norm(x)); "post": y = norm(x + f(x))."""
    gain, bias = p[f"{name}.gain"], p.get(f"{name}.bias")
    if norm == "pre":
        normalized, back_norm = layer_norm(x, gain, bias)
        y, back_f = f(normalized)
        y += x
    else:
        change, back_f = f(x)
        change += x
        y, back_norm = layer_norm(change, gain, bias)

    def backward(dy: Array) -> tuple[Array, Gradients]:
        if norm == "pre":
            dnormalized, d = back_f(dy)
            dx, dgain, dbias = back_norm(dnormalized)
            dx += dy
        else:
            dsum, dgain, dbias = back_norm(dy)
            dx, d = back_f(dsum)
            dx += dsum
        return dx, {**d, f"{name}.gain": dgain, f"{name}.bias": dbias}

    return y, backward


def attend(
    x: Array,
    p: dict[str, Array],
    config: GPTConfig,
    rng: np.random.Generator | None,
    seen: dict[str, list[Array]] | None,
    past: tuple[KVCache, int] | None,
) -> tuple[Array, Backward]:
    """The heads' updates, joined; with a past, over the keys that are kept there too."""
    T, H, rate = x.shape[1], config.heads, config.dropout
    projected, back_project = linear(x, p["attention.weight"], p.get("attention.bias"))
    q, k, v = (split_heads(a, H) for a in np.split(projected, 3, axis=-1))
    padding_mask = None
    if past is not None:
        cache, layer = past
        padding_mask = cache.padding_mask(T)
        k, v = cache.extended(layer, k, v)
    mixed, weights, back_mix = attention(q, k, v, rate, rng, padding_mask)
    attended, back_output = linear(merge_heads(mixed), p["output.weight"], p.get("output.bias"))
    y, back_dropout = dropout(attended, rate, rng)
    record(seen, queries=q, keys=k, values=v, weights=weights)

    def backward(dy: Array) -> tuple[Array, Gradients]:
        d: Gradients = {}
        djoined, d["output.weight"], d["output.bias"] = back_output(back_dropout(dy))
        dprojected = np.concatenate([merge_heads(a) for a in back_mix(split_heads(djoined, H))], axis=-1)
        dx, d["attention.weight"], d["attention.bias"] = back_project(dprojected)
        return dx, d

    return y, backward


def split_heads(a: Array, heads: int) -> Array:
    """(B, T, D) -> (B, H, T, E), a view: E of the coordinates for each head."""
    return a.reshape(*a.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge_heads(a: Array) -> Array:
    """(B, H, T, E) -> (B, T, D), and a view too where `split_heads` made it."""
    B, H, T, E = a.shape
    return a.transpose(0, 2, 1, 3).reshape(B, T, H * E)


def energy_step(
    x: Array,
    x0: Array,
    p: dict[str, Array],
    config: GPTConfig,
    rng: np.random.Generator | None,
    seen: dict[str, list[Array]] | None,
    past: tuple[KVCache, int] | None,
) -> tuple[Array, Backward]:
    """y = x + eta (u - x), where u is the update of x in an energy: for each head, on E of the D coordinates,
    DistanceEnergy(1 / (2 sqrt(E))) of patterns that are a linear image of the first states up to the position.

    So y - x is -eta / 2 times the gradient of the energy, summed over heads, and the energy falls by at least
    eta (2 - eta) |u - x|^2 (Niu et al. 2024, equation 4; `DistanceEnergy.guaranteed_decrease`). The patterns do not
    change from block to block: with shared weights the whole stack goes down one energy.
    """
    T, H, eta = x.shape[1], config.heads, x.dtype.type(config.eta)
    patterns, back_patterns = linear(x0, p["patterns.weight"], p.get("patterns.bias"))
    q, k = split_heads(x, H), split_heads(patterns, H)
    padding_mask = None
    if past is not None:
        cache, layer = past
        padding_mask = cache.padding_mask(T)
        k, _ = cache.extended(layer, k, k)
    mixed, weights, back_mix = attention(q, k, k, config.dropout, rng, padding_mask, distances=True)
    y = x + eta * (merge_heads(mixed) - x)
    record(seen, queries=q, keys=k, values=k, weights=weights)

    def backward(dy: Array) -> tuple[Array, Array, Gradients]:
        d: Gradients = {}
        dq, dk, dv = map(merge_heads, back_mix(split_heads(eta * dy, H)))
        dx0, d["patterns.weight"], d["patterns.bias"] = back_patterns(dk + dv)
        return (1 - eta) * dy + dq, dx0, d

    return y, backward


def feed_forward(
    x: Array, p: dict[str, Array], config: GPTConfig, rng: np.random.Generator | None
) -> tuple[Array, Backward]:
    """contract(activation(expand(x)))."""
    wide, back_expand = linear(x, p["expand.weight"], p.get("expand.bias"))
    active, back_active = ACTIVATIONS[config.activation](wide)
    narrow, back_contract = linear(active, p["contract.weight"], p.get("contract.bias"))
    y, back_dropout = dropout(narrow, config.dropout, rng)

    def backward(dy: Array) -> tuple[Array, Gradients]:
        d: Gradients = {}
        dactive, d["contract.weight"], d["contract.bias"] = back_contract(back_dropout(dy))
        dx, d["expand.weight"], d["expand.bias"] = back_expand(back_active(dactive))
        return dx, d

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
        if (
            model.config.layers > len(arrays) and not model.config.shared_layers
        ):  # before the shapes of all of them are made
            raise ValueError("not as many arrays as layers need")
        shapes = model.config.shapes
        if len(shapes) != sum(name.startswith("parameters/") for name in arrays):
            raise ValueError("not as many arrays as layers need")
        model.parameters = {name: arrays.pop(f"parameters/{name}") for name in shapes}
        fitting = all(a.shape == shapes[name] and a.dtype == model.config.dtype for name, a in model.parameters.items())
        tokenizer = tokenizer_from_record(records["tokenizer"]) if records["tokenizer"] else None
        fitting &= tokenizer is None or len(tokenizer.symbols) == model.config.vocabulary
    except (KeyError, TypeError, ValueError):
        fitting = False
    if not fitting:
        raise ValueError(f"model must hold the parameters that its configuration names; {path} does not")
    return Saved(model, tokenizer, arrays, records)
