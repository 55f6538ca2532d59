"""Generation for every [`CausalModel`]: sampling a token [`sample_token`], caching keys and values [`KVCache`]."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array, Floats, Integers
from hopmin.numerics import softmax
from hopmin.transformer.layers import cross_entropy


def sample_token(
    logits: Array,
    rng: np.random.Generator | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """A token (B,) for each row of logits (B, V), drawn from softmax(logits / temperature).

    top_k : among the k likeliest only, of equals the lowest first
    top_p : among the fewest that hold this share of the probability, after top_k (Holtzman et al. 2020)

    At temperature 0 the likeliest is taken, of equals the lowest, and no rng is needed. One number is drawn a row.

    >>> logits = np.log([[0.1, 0.6, 0.3]])
    >>> sample_token(logits, temperature=0)
    array([1])
    >>> rng = np.random.default_rng(0)
    >>> np.bincount([sample_token(logits, rng, top_p=0.7)[0] for _ in range(300)]).tolist()     # 1 and 2, as 2 to 1
    [0, 179, 121]
    """
    if temperature == 0 or rng is None:
        likeliest: Integers = logits.argmax(axis=-1)
        return likeliest
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :top_k]
    z = np.take_along_axis(logits, order, axis=-1).astype(np.float64)
    with np.errstate(over="ignore"):  # next to temperature 0 all but the likeliest are infinitely far off
        p = softmax((z - z[:, :1]) / temperature, axis=-1)
    before = np.cumsum(p, axis=-1) - p  # the probability of what is likelier
    if top_p is not None:
        p = np.where(before < top_p, p, 0)
    drawn = rng.random((len(p), 1)) * p.sum(axis=-1, keepdims=True)
    rank = np.sum((np.cumsum(p, axis=-1) <= drawn) & (p > 0), axis=-1, keepdims=True)
    rank = np.minimum(rank, np.count_nonzero(p, axis=-1)[:, None] - 1)  # a last share of rounding is the last one's
    return np.take_along_axis(order, rank, axis=-1)[:, 0]


class KVCache:
    """Keys and values (B, H, S, E) of each layer, for the S positions that a model has seen so far.

    Prompts of different lengths are set flush right: row b begins at `start[b]`, and what lies before is hidden.
    """

    def __init__(self, layers: int, batch: tuple[int, int, int, int], dtype: str, start: Array) -> None:
        B, H, S, E = batch
        self.values = np.empty((layers, B, H, S, E), dtype)
        self.keys = np.empty((layers, B, H, E, S), dtype).mT  # a coordinate of all keys side by side: see `attend`
        self.start, self.length = start, 0
        self.decoder: Callable[[Array], Floats] | None = None  # compiled, for one token at a time

    @property
    def full(self) -> bool:
        """Whether no position is left."""
        return self.length == self.keys.shape[3]

    def positions(self, count: int) -> Array:
        """(B, count) Where in its row each of the next tokens stands; 0 for what lies before it begins."""
        return np.maximum(0, np.arange(self.length, self.length + count) - self.start[:, None])

    def padding_mask(self, count: int) -> Array:
        """(B, 1, S + count) Which keys no token may see."""
        return (np.arange(self.length + count) < self.start[:, None])[:, None]

    def update(self, layer: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Store the next tokens' keys and values (B, H, T, E) of a layer; return all of that layer."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end], self.values[layer, :, :, self.length : end] = keys, values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class CausalModel(ABC):
    """A language model whose logits at a position depend on the tokens up to it alone; the base of GPT and Llama."""

    config: Any  # has vocabulary and positions

    @abstractmethod
    def _logits(self, tokens: Array) -> Floats:
        """Logits (B, T, V) of checked tokens (B, T)."""

    @abstractmethod
    def _new_cache(self, start: Array) -> KVCache:
        """An empty cache for rows that begin at `start` (B,)."""

    @abstractmethod
    def _next_logits(self, tokens: Array, cache: KVCache) -> Floats:
        """Logits (B, V) of the token after tokens (B, T), whose keys and values join the cache."""

    def logits(self, tokens: ArrayLike) -> Floats:
        """Return the unnormalised log-probabilities (B, T, V) of each next token; tokens (B, T) with T <= positions.

        Row t depends on tokens up to t alone. Raises ValueError for tokens outside the vocabulary or of another shape.
        """
        return self._logits(self._check_tokens(tokens))

    def cross_entropy(self, tokens: ArrayLike, targets: ArrayLike) -> float:
        """Return the mean negative log-likelihood of the targets (B, T) in nats; a target of -1 is not counted."""
        tokens, targets = self._check_examples(tokens, targets)
        return cross_entropy(self._logits(tokens), targets)[0]

    def generate(
        self,
        prompt: ArrayLike | Sequence[ArrayLike],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop_token: int | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> Any:
        """The prompt (T,) and up to `max_new_tokens` more tokens, each drawn from softmax(logits / temperature).

        At temperature 0 the likeliest token is taken, of equals the lowest. `top_k` draws among the k likeliest only,
        `top_p` among the fewest that hold this share of the probability. Ends early after a `stop_token`. Several
        prompts, of any lengths, are gone on from together, and give a list of arrays.

        The model sees the last `positions` tokens. Until there are more, keys and values are kept from step to step,
        and a step costs one token. Raises ValueError if a prompt is empty, an option is out of range, or rng is None
        where temperature is above 0.
        """
        rows, single = prompts("prompt", prompt, self.config.vocabulary)
        if _check.number("temperature", temperature, "[0, inf)") and rng is None:
            raise ValueError("rng must be given where temperature is above 0; got None")
        rng = None if rng is None else _check.generator("rng", rng)
        top_k = None if top_k is None else _check.integer("top_k", top_k)
        top_p = None if top_p is None else _check.number("top_p", top_p, "(0, 1]")
        going, cache, grown = np.ones(len(rows), bool), None, [row.tolist() for row in rows]
        for _ in range(_check.integer("max_new_tokens", max_new_tokens, 0)):
            if cache is None or cache.full:
                tokens, start = pad_left([np.array(row[-self.config.positions :]) for row in grown])
                cache = self._new_cache(start)
            else:
                tokens = np.array([row[-1:] for row in grown])
            logits = self._next_logits(tokens, cache)
            chosen = sample_token(logits, rng, temperature=temperature, top_k=top_k, top_p=top_p)
            for row, token, more in zip(grown, chosen.tolist(), going, strict=True):
                if more:
                    row.append(token)
            going &= chosen != stop_token
            if not going.any():
                break
        return np.array(grown[0]) if single else [np.array(row) for row in grown]

    def _check_tokens(self, tokens: ArrayLike) -> Array:
        return _check.tokens("tokens", tokens, self.config.vocabulary, T=self.config.positions)

    def _check_examples(self, tokens: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
        tokens = self._check_tokens(tokens)
        targets = _check.tokens("targets", targets, self.config.vocabulary, lowest=-1)
        if targets.shape != tokens.shape or targets.max() < 0:
            raise ValueError(f"targets must have shape {tokens.shape}, not all -1; got {targets.shape}")
        return tokens, targets


def pad_left(rows: list[Array]) -> tuple[Array, Array]:
    """Rows of different lengths as (B, T), with zeros before the shorter ones, and where each begins (B,)."""
    longest = max(map(len, rows))
    return (
        np.stack([np.pad(row, (longest - len(row), 0)) for row in rows]),
        np.array([longest - len(row) for row in rows]),
    )


def prompts(name: str, prompt: object, vocabulary: int) -> tuple[list[Array], bool]:
    """A list of prompts (T,), and whether it was a single one."""
    single = np.ndim(prompt[0]) == 0 if isinstance(prompt, list | tuple) and len(prompt) else np.ndim(prompt) < 2  # type: ignore[arg-type]
    rows = [prompt] if single else list(prompt)  # type: ignore[call-overload]
    if not rows:
        raise ValueError(f"{name} must hold at least one row; got none")
    return [_check.tokens(name, row, vocabulary, shape="T") for row in rows], single
