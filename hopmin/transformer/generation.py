"""Generation of text, token by token.

- the base class of language models [`CausalModel`], with `generate`
- a token drawn from logits [`sample_token`]
- keys and values of earlier positions [`KVCache`]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Array, Floats, Integers, Seed
from hopmin.numerics import softmax
from hopmin.transformer.layers import Backward, cross_entropy


@_arithmetic.standard
def sample_token(
    logits: Floats,
    rng: np.random.Generator | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Integers:
    """Return a token for each row of logits, drawn from softmax(logits / temperature).

    Parameters
    ----------
    logits : ndarray, shape (B, V)
    rng : Generator, optional
        One uniform number is drawn for each row. Without an rng, the most likely token is returned.
    temperature : float, default 1.0
        At 0, the most likely token is returned; ties go to the lowest token.
    top_k : int, optional
        Draw from the k most likely tokens only; ties go to the lowest tokens.
    top_p : float, optional
        Draw from the smallest set of most likely tokens whose probability is at least `top_p` (Holtzman et al. 2020),
        after `top_k`.

    Returns
    -------
    tokens : ndarray of int, shape (B,)

    Examples
    --------
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
    with np.errstate(over="ignore"):  # close to temperature 0, all but the largest become -inf
        p = softmax((z - z[:, :1]) / temperature, axis=-1)
    before = np.cumsum(p, axis=-1) - p  # total probability of the more likely tokens
    if top_p is not None:
        p = np.where(before < top_p, p, 0)
    drawn = rng.random((len(p), 1)) * p.sum(axis=-1, keepdims=True)
    rank = np.sum((np.cumsum(p, axis=-1) <= drawn) & (p > 0), axis=-1, keepdims=True)
    rank = np.minimum(rank, np.count_nonzero(p, axis=-1)[:, None] - 1)  # rounding of the sums may add one too many
    return np.take_along_axis(order, rank, axis=-1)[:, 0]


class KVCache:
    """Keys and values of the positions that a model has processed, for each layer.

    Prompts of different lengths are padded on the left: row b begins at position `start[b]`, and the keys before it
    are masked.

    Parameters
    ----------
    layers : int
    shape : tuple of int, (B, H, S, E)
        Rows, heads, capacity in positions, and width of a head.
    dtype : str
    start : ndarray of int, shape (B,)

    Attributes
    ----------
    keys, values : ndarray, shape (L, B, H, S, E)
    length, capacity : int
        Number of positions in use, and at most.
    """

    def __init__(self, layers: int, shape: tuple[int, int, int, int], dtype: str, start: Integers) -> None:
        B, H, S, E = shape
        self.values: Floats = np.empty((layers, B, H, S, E), dtype)
        # each coordinate of all keys is contiguous: `attend` in _layers.pyx reads them so
        self.keys: Floats = np.empty((layers, B, H, E, S), dtype).mT
        self.start, self.length, self.capacity = start, 0, S
        self.decoder: Callable[[Array], Floats] | None = None  # the compiled decoder of this cache, once there is one

    @property
    def full(self) -> bool:
        """True if no position is left."""
        return self.length == self.capacity

    def positions(self, count: int) -> Integers:
        """Return the positions (B, count) of the next tokens in their rows; 0 for padding."""
        positions: Integers = np.maximum(0, np.arange(self.length, self.length + count) - self.start[:, None])
        return positions

    def padding_mask(self, count: int) -> Array:
        """Return the mask (B, 1, S + count) that is true at padding, for the S positions in use and the next tokens."""
        return (np.arange(self.length + count) < self.start[:, None])[:, None]

    def update(self, layer: int, keys: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Store the keys and values of the next tokens in a layer, and return all of that layer.

        The length of the cache is not changed, because the other layers have yet to store theirs.

        Parameters
        ----------
        layer : int
            Index of the layer.
        keys, values : ndarray, shape (B, H, T, E)
            Those of the T next tokens, as many as there are free positions at most.

        Returns
        -------
        keys, values : ndarray, shape (B, H, S + T, E)
            Views of the layer's cache; S is the number of positions in use before them.
        """
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end], self.values[layer, :, :, self.length : end] = keys, values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


@_arithmetic.standard_methods
class CausalModel(ABC):
    """The base class of GPT and Llama: logits at a position depend only on the tokens up to it."""

    config: Any  # has vocabulary and positions

    @abstractmethod
    def _logits(self, tokens: Array) -> Floats:
        """Return the logits (B, T, V) of checked tokens (B, T)."""

    def _loss(self, tokens: Array, targets: Array) -> tuple[float, Backward]:
        """Return the cross-entropy of checked tokens and targets (B, T), and its backward."""
        return cross_entropy(self._logits(tokens), targets)

    @abstractmethod
    def _new_cache(self, start: Integers) -> KVCache:
        """Return an empty cache for rows that begin at `start` (B,)."""

    @abstractmethod
    def _next_logits(self, tokens: Array, cache: KVCache) -> Floats:
        """Return the logits (B, V) of the token after tokens (B, T), which are added to the cache."""

    def logits(self, tokens: ArrayLike) -> Floats:
        """Return the unnormalised log-probabilities (B, T, V) of each next token; tokens (B, T) with T <= positions.

        Row t depends on tokens up to t alone. Raises ValueError for tokens outside the vocabulary or of another shape.
        """
        return self._logits(self._check_tokens(tokens))

    def cross_entropy(self, tokens: ArrayLike, targets: ArrayLike) -> float:
        """Return the mean negative log-likelihood of the targets (B, T) in nats; targets of -1 are not counted.

        Raises ValueError for tokens or targets outside the vocabulary or of another shape, or if no target is counted.
        """
        return self._loss(*self._check_examples(tokens, targets))[0]

    def generate(
        self,
        prompt: ArrayLike | Sequence[ArrayLike],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop_token: int | None = None,
        rng: Seed | None = None,
    ) -> Integers | list[Integers]:
        """Return the prompt followed by up to `max_new_tokens` more tokens.

        The model sees the last `positions` tokens. Until there are more, keys and values are cached, and each step
        computes one position. Prompts of different lengths are continued as one batch.

        Parameters
        ----------
        prompt : array_like of int, shape (T,), or sequence of such
            One prompt, or several.
        max_new_tokens : int
        temperature : float, default 0.0
            At 0, the most likely token is chosen, and ties go to the lowest; otherwise tokens are drawn from
            softmax(logits / temperature).
        top_k : int, optional
            Draw from the k most likely tokens only.
        top_p : float, optional
            Draw from the smallest set of most likely tokens whose probability is at least `top_p`.
        stop_token : int, optional
            A row ends after this token.
        rng : Generator or int, optional
            A generator or a seed; needed where temperature is above 0.

        Returns
        -------
        tokens : ndarray of int, shape (T + new tokens,), or list of such
            A list if there are several prompts, one array for each.

        Raises
        ------
        ValueError
            If a prompt is empty or has tokens outside the vocabulary, an option or `stop_token` is out of range, or rng
            is None where temperature is above 0.
        """
        prompts, single = _check_prompts("prompt", prompt, self.config.vocabulary)
        if _check.number("temperature", temperature, "[0, inf)") and rng is None:
            raise ValueError("rng must be given where temperature is above 0; got None")
        rng = None if rng is None else _check.generator("rng", rng)
        top_k = None if top_k is None else _check.integer("top_k", top_k)
        top_p = None if top_p is None else _check.number("top_p", top_p, "(0, 1]")
        if stop_token is not None:
            _check.integer("stop_token", stop_token, 0, self.config.vocabulary - 1)
        rows, unfinished, cache = [row.tolist() for row in prompts], np.ones(len(prompts), bool), None
        for _ in range(_check.integer("max_new_tokens", max_new_tokens, 0)):
            if cache is None or cache.full:
                tokens, start = pad_left([np.array(row[-self.config.positions :]) for row in rows])
                cache = self._new_cache(start)
            else:
                tokens = np.array([row[-1:] for row in rows])
            logits = self._next_logits(tokens, cache)
            chosen = sample_token(logits, rng, temperature=temperature, top_k=top_k, top_p=top_p)
            for row, token, append in zip(rows, chosen.tolist(), unfinished, strict=True):
                if append:
                    row.append(token)
            unfinished &= chosen != stop_token
            if not unfinished.any():
                break
        return np.array(rows[0]) if single else [np.array(row) for row in rows]

    def _check_tokens(self, tokens: ArrayLike) -> Array:
        return _check.tokens("tokens", tokens, self.config.vocabulary, T=self.config.positions)

    def _check_examples(self, tokens: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
        tokens = self._check_tokens(tokens)
        targets = _check.tokens("targets", targets, self.config.vocabulary, lowest=-1)
        if targets.shape != tokens.shape or targets.max() < 0:
            raise ValueError(f"targets must have shape {tokens.shape}, not all -1; got {targets.shape}")
        return tokens, targets


def pad_left(rows: Sequence[Array]) -> tuple[Array, Integers]:
    """Return rows of different lengths as one array (B, T), padded with zeros on the left, and their starts (B,).

    >>> pad_left([np.array([7]), np.array([8, 9])])
    (array([[0, 7],
           [8, 9]]), array([1, 0]))
    """
    longest = max(map(len, rows))
    start = np.array([longest - len(row) for row in rows])
    return np.stack([np.pad(row, (before, 0)) for row, before in zip(rows, start, strict=True)]), start


def _check_prompts(name: str, prompt: Any, vocabulary: int) -> tuple[list[Array], bool]:
    """Return a list of prompts (T,), and whether a single prompt was given."""
    first = prompt[0] if isinstance(prompt, list | tuple) and prompt else None
    single = np.ndim(prompt) < 2 if first is None else np.ndim(first) == 0
    prompts = [prompt] if single else list(prompt)
    if not prompts:
        raise ValueError(f"{name} must hold at least one row; got none")
    return [_check.tokens(name, row, vocabulary, shape="T") for row in prompts], single
