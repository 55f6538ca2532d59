"""A GPT made of the layers in `layers.py`.

- sizes and options [`GPTConfig`], and named configurations [`PRESETS`]
- the model [`GPT`], its intermediate results [`Activations`], and the contents of a model file [`load_model`]
- its parts, each with its backward: `block`, `residual`, `attend`, `energy_step`, `feed_forward`
- rows of unequal length without padding: `groups_by_length`, `Context.split`, `multi_head_attention`

The default is GPT-2's architecture (Radford et al. 2019): learned positions; blocks of causal attention and a GELU
layer of width 4 D, each with a layer norm before it and a residual connection around it; a last layer norm; output
weights tied to the embedding. With norms after the residual sums, ReLU and sinusoidal positions it is the decoder of
the first transformer (Vaswani et al. 2017). With energy attention, the attention of a block is a gradient step on an
energy of part I.

All parts but attention treat each position by itself. So the loss packs its rows: states are (N, D), the positions of
one group of rows after those of another, and only attention sees the groups (B, T, D), each of rows of about one
length. Without packing, states are (B, T, D). Both are written (..., D) below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._files import load_arrays, save_arrays
from hopmin._typing import Array, Booleans, Floats, Name, Seed
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

Parameters = dict[str, Floats]
Gradients = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]
ACTIVATIONS = {"gelu": gelu, "relu": relu}

Norm = Literal["pre", "post"]
Activation = Literal["gelu", "relu"]
PositionEncoding = Literal["learned", "sinusoidal"]
Attention = Literal["dot", "energy"]
DType = Literal["float32", "float64"]
OPTIONS = {
    "norm": Norm,
    "activation": Activation,
    "position_encoding": PositionEncoding,
    "attention": Attention,
    "dtype": DType,
}


@dataclass(frozen=True)
class GPTConfig:
    """The sizes and options of a GPT.

    Parameters
    ----------
    vocabulary, positions, layers, heads, width : int
        V tokens; T, the longest sequence; L blocks; H heads, which divide the width; D, the residual stream's size.
    dropout : float, default 0.0
        Fraction of the embeddings, the attention weights and each layer's output that training sets to zero, in [0, 1).
    init_std : float or None, default 0.02
        Standard deviation of the initial weights, embeddings included. GPT-2's 0.02 suits widths near a thousand;
        narrower models learn faster with None, 1 / sqrt(D).
    dtype : {"float32", "float64"}
        Of parameters, activations and gradients.
    hidden : int or None
        Width of the layer between `expand` and `contract`; None is 4 D; 0 leaves both out.
    norm : {"pre", "post"}
        "pre" is x + f(norm(x)), with one more norm at the end (GPT-2); "post" is norm(x + f(x)) (Vaswani et al. 2017).
    activation : {"gelu", "relu"}
        GELU is in GPT-2's form (`layers.gelu`).
    position_encoding : {"learned", "sinusoidal"}
        Sinusoids are added to embeddings that are scaled by sqrt(D).
    tied_embeddings : bool, default True
        Whether the embedding is also used as output weights.
    bias : bool, default True
        Whether linear layers and norms have biases.
    attention : {"dot", "energy"}
        "energy" is x + eta (u - x), where u is the update of x in a DistanceEnergy (`energy_step`).
    eta : float, default 0.5
        Step size of energy attention; the energy falls for 0 < eta < 2.
    shared_layers : bool, default False
        Whether all blocks have the same weights.

    Raises
    ------
    TypeError or ValueError
        If a size is not an integer >= 1, the heads do not divide the width, a number is out of its range, or an option
        is unknown.

    Examples
    --------
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
    init_std: float | None = 0.02
    dtype: DType = "float32"
    hidden: int | None = None
    norm: Norm = "pre"
    activation: Activation = "gelu"
    position_encoding: PositionEncoding = "learned"
    tied_embeddings: bool = True
    bias: bool = True
    attention: Attention = "dot"
    eta: float = 0.5
    shared_layers: bool = False

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {}
        for name in ("vocabulary", "positions", "layers", "heads", "width"):
            checked[name] = _check.integer(name, getattr(self, name))
        D = checked["width"]
        if D % checked["heads"]:
            raise ValueError(f"width must be a multiple of heads; got {D} and {checked['heads']}")
        checked["dropout"] = _check.number("dropout", self.dropout, "[0, 1)")
        checked["init_std"] = D**-0.5 if self.init_std is None else _check.number("init_std", self.init_std, "(0, inf)")
        checked["hidden"] = 4 * D if self.hidden is None else _check.integer("hidden", self.hidden, 0)
        checked["eta"] = _check.number("eta", self.eta, "(0, inf)")
        for name, options in OPTIONS.items():
            checked[name] = _check.choice(name, getattr(self, name), get_args(options))
        for name in ("tied_embeddings", "bias", "shared_layers"):
            checked[name] = _check.boolean(name, getattr(self, name))
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> GPTConfig:
        """Return a configuration of [`PRESETS`] by name, with changes, if any.

        >>> GPTConfig.preset("questions-6", layers=1).norm
        'post'
        """
        return cls(**{**PRESETS[_check.choice("preset", name, PRESETS)], **changes})

    @property
    def shapes(self) -> Shapes:
        """Shapes of all parameters, by name, in the order of the forward pass."""
        V, T, D, M = self.vocabulary, self.positions, self.width, self.hidden
        assert M is not None  # a number since __post_init__

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
        """Number of parameters; tied output weights count once."""
        return sum(map(math.prod, self.shapes.values()))


_GPT2 = {"vocabulary": 50257, "positions": 1024}
_QUESTIONS = {
    "vocabulary": 69, "positions": 5000, "heads": 4, "width": 512, "dropout": 0.1, "norm": "post",
    "activation": "relu", "position_encoding": "sinusoidal", "tied_embeddings": False, "init_std": None,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": {**_GPT2, "layers": 12, "heads": 12, "width": 768},
    "gpt2-medium": {**_GPT2, "layers": 24, "heads": 16, "width": 1024},
    "gpt2-large": {**_GPT2, "layers": 36, "heads": 20, "width": 1280},
    "gpt2-xl": {**_GPT2, "layers": 48, "heads": 25, "width": 1600},
    "questions-6": {**_QUESTIONS, "layers": 6},  # Niu et al. 2024, section 6.2: Question Formation
    "questions-10": {**_QUESTIONS, "layers": 10},
    "tiny": {"vocabulary": 69, "positions": 64, "layers": 4, "heads": 4, "width": 128, "init_std": None},
}


@dataclass(frozen=True)
class Activations:
    """Intermediate results of a forward pass for tokens (B, T).

    Attributes
    ----------
    states : ndarray, shape (L + 1, B, T, D)
        The residual stream before the first block and after each block.
    outputs : ndarray, shape (B, T, D)
        The last state, after the last norm if there is one; the logits are its product with the output weights.
    queries, keys, values : ndarray, shape (L, B, H, T, E)
        Of each head, with E = D / H.
    weights : ndarray, shape (L, B, H, T, T)
        Attention weights.
    hidden : ndarray, shape (L, B, T, M), or None
        Activations of the feed-forward layers, whose products with `contract.weight` are their outputs; None if the
        model has no such layers.
    """

    states: Array
    outputs: Array
    queries: Array
    keys: Array
    values: Array
    weights: Array
    hidden: Array | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """State that all layers of a forward pass share.

    Parameters
    ----------
    rng : Generator, optional
        Source of the dropout masks; there is no dropout without it.
    recorded : dict of str to list of ndarray, optional
        Activations by name, appended to layer by layer; nothing is recorded without it.
    cache : KVCache, optional
        Keys and values of the positions before the tokens.
    layer : int
        Index of the layer in the cache.
    shapes : tuple of (int, int)
        The shape (B, T) of each group of packed rows, in order; empty if the rows are not packed.
    """

    rng: np.random.Generator | None = None
    recorded: dict[str, list[Array]] | None = None
    cache: KVCache | None = None
    layer: int = 0
    shapes: tuple[tuple[int, int], ...] = ()

    def at(self, layer: int) -> Context:
        """Return the same context for another layer."""
        return replace(self, layer=layer)

    def split(self, a: Array) -> list[Array]:
        """Return the groups (B, T, ...) of packed positions (N, ...), as views; an array that is not packed is one."""
        if not self.shapes:
            return [a]
        groups, end = [], 0
        for B, T in self.shapes:
            start, end = end, end + B * T
            groups.append(a[start:end].reshape(B, T, *a.shape[1:]))
        return groups

    def join(self, groups: Sequence[Array]) -> Array:
        """Return the array that `split` splits into these groups."""
        return np.concatenate([a.reshape(-1, *a.shape[2:]) for a in groups]) if self.shapes else groups[0]

    def record(self, **arrays: Array) -> None:
        """Append arrays to the recorded activations."""
        if self.recorded is not None:
            for name, a in arrays.items():
                self.recorded.setdefault(name, []).append(a)

    def activations(self) -> Activations:
        """Return the recorded activations, stacked over layers."""
        assert self.recorded is not None
        stacked = {name: np.array(arrays) for name, arrays in self.recorded.items()}
        return Activations(**{**stacked, "outputs": stacked["outputs"][0]})

    def extend(self, keys: Array, values: Array) -> tuple[Array, Array, Array | None]:
        """Return the layer's cached and new keys and values (B, H, S, E), and the padding mask (B, 1, S)."""
        if self.cache is None:
            return keys, values, None
        padding_mask = self.cache.padding_mask(keys.shape[2])
        return *self.cache.update(self.layer, keys, values), padding_mask


INFERENCE = Context()  # no dropout, no recording, no cache


@_arithmetic.standard_methods
class GPT(CausalModel):
    """A causal language model, from tokens (B, T) to logits (B, T, V), with a hand-written backward.

    Parameters
    ----------
    config : GPTConfig
    rng : Generator or int
        A generator or a seed for the initial parameters (`initial_parameters`).

    Attributes
    ----------
    parameters : dict of str to ndarray
        Arrays by the names of `config.shapes`; training changes them in place.

    Raises
    ------
    TypeError
        If `config` is not a GPTConfig.

    Notes
    -----
    `copy.deepcopy` and `pickle` make an independent model. `copy.copy` makes one that shares all parameters: training
    either of the two changes both.

    Examples
    --------
    >>> model = GPT(GPTConfig(vocabulary=5, positions=8, layers=2, heads=2, width=16), rng=0)
    >>> model.logits([[1, 2, 3]]).shape
    (1, 3, 5)
    >>> loss, gradients = model.loss_and_gradients([[1, 2, 3]], [[2, 3, 4]])
    >>> round(loss, 1), round(np.log(5), 1), gradients.keys() == model.parameters.keys()
    (1.6, np.float64(1.6), True)
    """

    config: GPTConfig

    def __init__(self, config: GPTConfig, rng: Seed) -> None:
        _check.instance("config", config, GPTConfig)
        self.config, self.parameters = config, initial_parameters(config, _check.generator("rng", rng))

    def __repr__(self) -> str:
        c = self.config
        layers, heads = _check.counted(c.layers, "layer"), _check.counted(c.heads, "head")
        tokens, positions = _check.counted(c.vocabulary, "token"), _check.counted(c.positions, "position")
        sizes = f"{layers}, {heads}, width {c.width}, {tokens}, {positions}, {c.parameter_count:,} parameters"
        return f"GPT({sizes}, {c.dtype})"

    @classmethod
    def _from_parameters(cls, config: GPTConfig, parameters: Parameters) -> GPT:
        model = cls.__new__(cls)
        model.config, model.parameters = config, parameters
        return model

    def loss_and_gradients(
        self, tokens: ArrayLike, targets: ArrayLike, rng: Seed | None = None
    ) -> tuple[float, Gradients]:
        """Return the cross-entropy and its gradients with respect to all parameters.

        Parameters
        ----------
        tokens, targets : array_like of int, shape (B, T)
            Targets of -1 are not counted.
        rng : Generator or int, optional
            A generator or a seed for dropout, which is off without it.

        Returns
        -------
        loss : float
            Mean negative log-likelihood of the targets, in nats.
        gradients : dict of str to ndarray
            Gradients by the names of the parameters.

        Raises
        ------
        TypeError or ValueError
            If tokens or targets are not integers, outside the vocabulary or of another shape, or no target is counted.
        """
        tokens, targets = self._check_examples(tokens, targets)
        loss, backward = self._loss(tokens, targets, None if rng is None else _check.generator("rng", rng))
        return loss, backward(1.0)

    def activations(self, tokens: ArrayLike) -> Activations:
        """Return the intermediate results for tokens (B, T), without dropout."""
        context = Context(recorded={})
        self._forward(self._check_tokens(tokens), context)
        return context.activations()

    def save(
        self,
        path: Name,
        tokenizer: Tokenizer | None = None,
        *,
        extra: dict[str, Array] | None = None,
        **records: Any,
    ) -> None:
        """Write the model to an .npz file, without pickle; an existing file is replaced atomically.

        Parameters
        ----------
        path : str or path
        tokenizer : tokenizer, optional
            Its number of symbols must equal the vocabulary.
        extra : dict of str to ndarray, optional
            More arrays to save.
        **records
            More JSON values to save. `load_model` returns both.

        Raises
        ------
        ValueError
            If the tokenizer is of another size.
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
        """Return the model saved at `path`; ValueError if the file is missing, damaged or of another kind."""
        return load_model(path).model

    def _logits(self, tokens: Array) -> Floats:
        return self._forward(tokens)[0]

    def _loss(self, tokens: Array, targets: Array, rng: np.random.Generator | None = None) -> tuple[float, Backward]:
        """Return the cross-entropy, and backward from its gradient to {name: gradient}.

        Positions after the last target of a row cannot change the loss. Nearly all are left out.
        """
        lengths = np.where(targets >= 0, np.arange(1, targets.shape[1] + 1), 0).max(axis=1)
        groups = [(tokens[rows, :T], targets[rows, :T]) for rows, T in groups_by_length(lengths)]
        context = Context(rng, shapes=tuple(group.shape for group, _ in groups))
        tokens, targets = map(context.join, zip(*groups, strict=True))
        logits, backward = self._forward(tokens, context)
        loss, back_loss = cross_entropy(logits, targets)
        return loss, lambda dy: backward(back_loss(dy))

    def _new_cache(self, start: Array) -> KVCache:
        c = self.config
        return KVCache(c.layers, (len(start), c.heads, c.positions, c.width // c.heads), c.dtype, start)

    def _next_logits(self, tokens: Array, cache: KVCache) -> Floats:
        if tokens.shape[1] > 1 or not supports(self.config):
            return self._forward(tokens, Context(cache=cache), last=True)[0][:, -1]
        cache.decoder = cache.decoder or Decoder(self, cache)
        return cache.decoder(tokens)

    def _forward(self, tokens: Array, context: Context = INFERENCE, *, last: bool = False) -> tuple[Floats, Backward]:
        """Return logits (..., V) of tokens (...), packed or not, and their backward.

        There is no backward for `last`, which returns the logits (B, 1, V) of the last position, or with a cache.
        """
        p, c, cache = self.parameters, self.config, context.cache
        T = max(group.shape[1] for group in context.split(tokens))
        encoding = self._position_encoding(np.arange(T) if cache is None else cache.positions(T))
        embedded, back_embedding = embedding(tokens, p["tokens"])
        embedded = self._embedding_scale * embedded
        for group in context.split(embedded):
            group += encoding[..., : group.shape[1], :]
        x0, back_dropout = dropout(embedded, c.dropout, context.rng)
        x = x0
        context.record(states=x)
        backs = []
        for layer in range(c.layers):
            x, back = block(x, x0, self._layer_parameters(layer), c, context.at(layer))
            backs.append(back)
        if cache is not None:
            cache.length += T
        logits, back_head = self._output_head(x[:, -1:] if last else x, context)

        def backward(dlogits: Array) -> Gradients:
            dx, d = back_head(dlogits)
            dx0: Any = 0
            for layer in reversed(range(c.layers)):
                dx, dlayer_x0, dlayer = backs.pop()(dx)  # pop frees the arrays that the layer holds
                dx0 = dx0 + dlayer_x0
                for name, gradient in dlayer.items():
                    name = f"layers.{0 if c.shared_layers else layer}.{name}"
                    d[name] = gradient if d.get(name) is None else d[name] + gradient  # None if there is no bias
            dx = back_dropout(dx + dx0)
            if c.position_encoding == "learned":
                d["positions"] = np.zeros_like(p["positions"])
                for group in context.split(dx):
                    d["positions"][: group.shape[1]] += group.sum(axis=0)
            d["tokens"] = d.get("tokens", 0) + back_embedding(self._embedding_scale * dx)
            return {name: d[name] for name in p}

        return logits, backward

    def _output_head(self, x: Array, context: Context) -> tuple[Floats, Backward]:
        """Return logits (..., V) of last states (..., D), and backward, from dlogits to dx and {name: gradient}."""
        p, c = self.parameters, self.config
        if c.norm == "pre":
            outputs, back_norm = layer_norm(x, p["norm.gain"], p.get("norm.bias"))
        else:
            outputs, back_norm = x, lambda dy: (dy, None, None)
        logits, back_unembed = self._unembed(outputs)
        context.record(outputs=outputs)

        def backward(dlogits: Array) -> tuple[Array, dict[str, Any]]:
            d: dict[str, Any] = {}
            doutputs, dweight, d["head.bias"] = back_unembed(dlogits)
            dx, d["norm.gain"], d["norm.bias"] = back_norm(doutputs)
            return dx, d | ({"tokens": dweight.T} if c.tied_embeddings else {"head.weight": dweight})

        return logits, backward

    def _unembed(self, outputs: Array) -> tuple[Floats, Backward]:
        """Return logits (..., V) of outputs (..., D); tied output weights are the embedding."""
        p = self.parameters
        if self.config.tied_embeddings:
            return linear(outputs, p["tokens"].T)
        return linear(outputs, p["head.weight"], p.get("head.bias"))

    @property
    def _embedding_scale(self) -> np.floating[Any]:
        """The factor by which token embeddings are scaled: sqrt(D) with sinusoids, else 1."""
        scale = 1.0 if self.config.position_encoding == "learned" else np.sqrt(self.config.width)
        return np.dtype(self.config.dtype).type(scale)

    def _position_encoding(self, positions: Array) -> Array:
        """Return the encoding (..., D) of positions (...), which is added to the embeddings."""
        if self.config.position_encoding == "learned":
            return self.parameters["positions"][positions]
        return sinusoids(positions, self.config.width).astype(self.config.dtype)

    def _layer_parameters(self, layer: int) -> Parameters:
        """Return the parameters of a layer, by their names without the prefix."""
        prefix = f"layers.{0 if self.config.shared_layers else layer}."
        return {name.removeprefix(prefix): a for name, a in self.parameters.items() if name.startswith(prefix)}


def groups_by_length(lengths: Array) -> Iterator[tuple[Booleans, int]]:
    """Yield groups of rows of about one length: the mask of a group (B,), and the length of its longest row.

    The shortest row of a group is at least 7/8 as long as the longest, so at most an eighth of a group is padding, and
    the number of groups grows with the logarithm of the range of the lengths. Rows of length 0 are in none.

    >>> [(rows.tolist(), T) for rows, T in groups_by_length(np.array([7, 3, 8, 0, 3]))]
    [([True, False, True, False, False], 8), ([False, True, False, False, True], 3)]
    """
    while T := int(lengths.max()):
        rows = 8 * lengths >= 7 * T
        yield rows, T
        lengths = np.where(rows, 0, lengths)


def initial_parameters(config: GPTConfig, rng: np.random.Generator) -> Parameters:
    """Return GPT-2's initial parameters: gains of one, biases of zero, and normal weights.

    Their standard deviation is `init_std`, and init_std / sqrt(2 L) for weights whose products are added to the
    residual stream (Radford et al. 2019, section 2.3).
    """

    std = config.init_std
    assert std is not None  # a number since __post_init__

    def draw(name: str, shape: tuple[int, ...]) -> Array:
        if name.endswith("gain"):
            return np.ones(shape)
        if name.endswith("bias"):
            return np.zeros(shape)
        adds = name.endswith(("output.weight", "contract.weight"))
        return rng.normal(0, std / np.sqrt(2 * config.layers) if adds else std, shape)

    return {name: draw(name, shape).astype(config.dtype) for name, shape in config.shapes.items()}


def sinusoids(positions: Array, width: int) -> Floats:
    """Return sines and cosines of positions / 10000^(2i / D), alternating (Vaswani et al. 2017, section 3.5).

    Positions (...) become (..., D).

    >>> sinusoids(np.array([0, 1]), 4).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]])
    """
    i = np.arange(width)
    angles = positions[..., None] / 10000.0 ** (2 * (i // 2) / width)
    return np.where(i % 2 == 0, np.sin(angles), np.cos(angles))


def block(x: Array, x0: Array, p: Parameters, config: GPTConfig, context: Context) -> tuple[Array, Backward]:
    """Apply attention, then the feed-forward layer, each with its residual connection.

    Parameters
    ----------
    x : ndarray, shape (..., D)
        Input states.
    x0 : ndarray, shape (..., D)
        Input states of the first block, from which energy attention computes its patterns.
    p : dict of str to ndarray
        Parameters of the layer, by their names without the prefix.
    config : GPTConfig
        Sizes and options of the model.
    context : Context
        Source of dropout, cache of keys and values, and record of activations.

    Returns
    -------
    y : ndarray, shape (..., D)
    backward : function
        From dy to dx, dx0 and {name: gradient}; without energy attention dx0 is 0.
    """
    energy = config.attention == "energy"
    if energy:
        y, back_attention = energy_step(x, x0, p, config, context)
    else:
        y, back_attention = residual(x, attend, "norm1", p, config, context)
    if config.hidden:
        y, back_feed_forward = residual(y, feed_forward, "norm2", p, config, context)
    context.record(states=y)

    def backward(dy: Array) -> tuple[Array, Any, Gradients]:
        dy, d2 = back_feed_forward(dy) if config.hidden else (dy, {})
        if energy:
            dx, dx0, d1 = back_attention(dy)
        else:
            (dx, d1), dx0 = back_attention(dy), 0
        return dx, dx0, d1 | d2

    return y, backward


Sublayer = Callable[[Array, Parameters, GPTConfig, Context], tuple[Array, Backward]]


def residual(
    x: Array, sublayer: Sublayer, norm: str, p: Parameters, config: GPTConfig, context: Context
) -> tuple[Array, Backward]:
    """Return y = x + f(norm(x)) if norms are "pre", y = norm(x + f(x)) if they are "post", for a sublayer f.

    Parameters
    ----------
    x : ndarray, shape (..., D)
        Input states.
    sublayer : callable
        The sublayer f: `attend` or `feed_forward`.
    norm : str
        Name of the norm in the layer, "norm1" or "norm2".
    p : dict of str to ndarray
        Parameters of the layer, by their names without the prefix.
    config : GPTConfig
        Sizes and options of the model.
    context : Context
        Source of dropout, cache of keys and values, and record of activations.

    Returns
    -------
    y : ndarray, shape (..., D)
    backward : function
        From dy to dx and {name: gradient}.
    """
    gain, bias = p[f"{norm}.gain"], p.get(f"{norm}.bias")
    if config.norm == "pre":
        normalized, back_norm = layer_norm(x, gain, bias)
        y, back_f = sublayer(normalized, p, config, context)
        y += x
    else:
        change, back_f = sublayer(x, p, config, context)
        change += x
        y, back_norm = layer_norm(change, gain, bias)

    def backward(dy: Array) -> tuple[Array, Gradients]:
        if config.norm == "pre":
            dnormalized, d = back_f(dy)
            dx, dgain, dbias = back_norm(dnormalized)
            dx += dy
        else:
            dsum, dgain, dbias = back_norm(dy)
            dx, d = back_f(dsum)
            dx += dsum
        return dx, {**d, f"{norm}.gain": dgain, f"{norm}.bias": dbias}

    return y, backward


def attend(x: Array, p: Parameters, config: GPTConfig, context: Context) -> tuple[Array, Backward]:
    """Return the causal multi-head attention of x over itself and the positions in the cache, if any.

    Parameters
    ----------
    x : ndarray, shape (..., D)
        Input states, normalized if norms are "pre".
    p : dict of str to ndarray
        Parameters of the layer, by their names without the prefix.
    config : GPTConfig
        Sizes and options of the model.
    context : Context
        Source of dropout, cache of keys and values, and record of activations.

    Returns
    -------
    y : ndarray, shape (..., D)
    backward : function
        From dy to dx and {name: gradient}.
    """
    projected, back_project = linear(x, p["attention.weight"], p.get("attention.bias"))
    q, k, v = np.split(projected, 3, axis=-1)
    mixed, back_mix = multi_head_attention(q, k, v, config, context)
    attended, back_output = linear(mixed, p["output.weight"], p.get("output.bias"))
    y, back_dropout = dropout(attended, config.dropout, context.rng)

    def backward(dy: Array) -> tuple[Array, Gradients]:
        d: Gradients = {}
        dmixed, d["output.weight"], d["output.bias"] = back_output(back_dropout(dy))
        dx, d["attention.weight"], d["attention.bias"] = back_project(np.concatenate(back_mix(dmixed), axis=-1))
        return dx, d

    return y, backward


def multi_head_attention(
    queries: Array, keys: Array, values: Array, config: GPTConfig, context: Context, *, distances: bool = False
) -> tuple[Array, Backward]:
    """Return the causal attention of all heads, each on E of the D coordinates, within each group of rows.

    Parameters
    ----------
    queries, keys, values : ndarray, shape (..., D)
        The cache, if any, holds the keys and values of earlier positions.
    config : GPTConfig
        Sizes and options of the model.
    context : Context
        Source of dropout, cache of keys and values, and record of activations.
    distances : bool
        As for `layers.attention`.

    Returns
    -------
    y : ndarray, shape (..., D)
    backward : function
        From dy to dqueries, dkeys and dvalues.
    """
    outputs, backs = [], []
    for group in zip(*map(context.split, (queries, keys, values)), strict=True):
        q, k, v = (split_heads(a, config.heads) for a in group)
        k, v, padding_mask = context.extend(k, v)
        y, weights, back = attention(q, k, v, config.dropout, context.rng, padding_mask, distances=distances)
        context.record(queries=q, keys=k, values=v, weights=weights)
        outputs.append(merge_heads(y))
        backs.append(back)

    def backward(dy: Array) -> list[Array]:
        groups = [
            map(merge_heads, back(split_heads(group, config.heads)))
            for back, group in zip(backs, context.split(dy), strict=True)
        ]
        return [context.join(a) for a in zip(*groups, strict=True)]

    return context.join(outputs), backward


def split_heads(a: Array, heads: int) -> Array:
    """(B, T, D) -> (B, H, T, E), a view with E = D / H coordinates for each head."""
    return a.reshape(*a.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge_heads(a: Array) -> Array:
    """(B, H, T, E) -> (B, T, D); a view if the memory is laid out as `split_heads` returns it."""
    B, H, T, E = a.shape
    return a.transpose(0, 2, 1, 3).reshape(B, T, H * E)


def energy_step(x: Array, x0: Array, p: Parameters, config: GPTConfig, context: Context) -> tuple[Array, Backward]:
    """Return y = x + eta (u - x), where u is the update of x in an energy.

    For each head, on E of the D coordinates, it is DistanceEnergy(1 / (2 sqrt(E))). The patterns are a linear function
    of the first states x0 up to the position, so with shared weights they are the same in all blocks, and the whole
    stack descends one energy. Summed over heads, y - x is -eta / 2 times the gradient, and the energy decreases by at
    least eta (2 - eta) |u - x|^2 (Niu et al. 2024, equation 4; `DistanceEnergy.guaranteed_decrease`).

    Parameters
    ----------
    x : ndarray, shape (..., D)
        Input states.
    x0 : ndarray, shape (..., D)
        Input states of the first block.
    p : dict of str to ndarray
        Parameters of the layer, by their names without the prefix.
    config : GPTConfig
        Sizes and options of the model.
    context : Context
        Source of dropout, cache of keys and values, and record of activations.

    Returns
    -------
    y : ndarray, shape (..., D)
    backward : function
        From dy to dx, dx0 and {name: gradient}.
    """
    eta = x.dtype.type(config.eta)
    patterns, back_patterns = linear(x0, p["patterns.weight"], p.get("patterns.bias"))
    mixed, back_mix = multi_head_attention(x, patterns, patterns, config, context, distances=True)
    y = x + eta * (mixed - x)

    def backward(dy: Array) -> tuple[Array, Array, Gradients]:
        d: Gradients = {}
        dq, dk, dv = back_mix(eta * dy)
        dx0, d["patterns.weight"], d["patterns.bias"] = back_patterns(dk + dv)
        return (1 - eta) * dy + dq, dx0, d

    return y, backward


def feed_forward(x: Array, p: Parameters, config: GPTConfig, context: Context) -> tuple[Array, Backward]:
    """Return y = contract(activation(expand(x))), with dropout.

    Parameters
    ----------
    x : ndarray, shape (..., D)
        Input states, normalized if norms are "pre".
    p : dict of str to ndarray
        Parameters of the layer, by their names without the prefix.
    config : GPTConfig
        Sizes and options of the model.
    context : Context
        Source of dropout.

    Returns
    -------
    y : ndarray, shape (..., D)
    backward : function
        From dy to dx and {name: gradient}.
    """
    wide, back_expand = linear(x, p["expand.weight"], p.get("expand.bias"))
    active, back_active = ACTIVATIONS[config.activation](wide)
    context.record(hidden=active)
    narrow, back_contract = linear(active, p["contract.weight"], p.get("contract.bias"))
    y, back_dropout = dropout(narrow, config.dropout, context.rng)

    def backward(dy: Array) -> tuple[Array, Gradients]:
        d: Gradients = {}
        dactive, d["contract.weight"], d["contract.bias"] = back_contract(back_dropout(dy))
        dx, d["expand.weight"], d["expand.bias"] = back_expand(back_active(dactive))
        return dx, d

    return y, backward


@dataclass(frozen=True)
class SavedModel:
    """The contents of a model file.

    Attributes
    ----------
    model : GPT
        The model.
    tokenizer : Tokenizer or None
        Its tokenizer, if one was saved.
    extra : dict of str to ndarray
        Further arrays, by name.
    records : dict
        All records of the file, among them the configuration and the tokenizer.
    """

    model: GPT
    tokenizer: Tokenizer | None
    extra: dict[str, Array]
    records: dict[str, Any]


def load_model(path: Name) -> SavedModel:
    """Return the contents of the file at `path`; ValueError if the file is missing, damaged or of another kind."""
    arrays, records = load_arrays(path, "model")
    try:
        config = GPTConfig(**records["config"])
        if config.layers > len(arrays) and not config.shared_layers:  # before building a name per layer
            raise ValueError("fewer arrays than layers")
        parameters = {name: arrays.pop(f"parameters/{name}") for name in config.shapes}
        extra = {name: a for name, a in arrays.items() if not name.startswith("parameters/")}
        tokenizer = tokenizer_from_record(records["tokenizer"]) if records["tokenizer"] else None
        check_shapes(config.shapes, {name: a.shape for name, a in parameters.items()}, path)
        if len(extra) < len(arrays) or any(a.dtype != config.dtype for a in parameters.values()):
            raise ValueError("parameters beyond those of the configuration, or of another dtype")
        if tokenizer is not None and len(tokenizer.symbols) != config.vocabulary:
            raise ValueError("a tokenizer of another size")
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"model must hold the parameters that its configuration names; {path} does not") from None
    return SavedModel(GPT._from_parameters(config, parameters), tokenizer, extra, records)


def check_shapes(expected: Shapes, found: Shapes, where: Name) -> None:
    """Raise ValueError unless the same names have the same shapes.

    Parameters
    ----------
    expected, found : dict of str to tuple of int
        Shapes by name.
    where : str or path
        Source of the shapes that were found, for the error message.

    Raises
    ------
    ValueError
        If a name is missing or unknown, or has another shape.
    """
    for name in [*expected, *found]:
        wanted, got = (f"of shape {shapes[name]}" if name in shapes else "absent" for shapes in (expected, found))
        if wanted != got:
            raise ValueError(f"{_check.printable(name):.60} must be {wanted}; in {where} it is {got}")
