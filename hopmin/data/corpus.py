"""Corpora: rows of tokens for training and for evaluation.

- a corpus [`Corpus`], and its rows as inputs and targets of a model [`inputs_and_targets`]
- corpora of Python's help texts [`python_topics`] and of any other text [`from_text`], [`from_file`]

`question_formation.py` has a language of known entropy, `token_files.py` texts larger than memory.

A *row* is one training sequence of tokens. Rows are an integer array (n, T + 1); shorter rows
are padded with -1. The loss of a row counts the T tokens after the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import numpy as np

from hopmin import _check
from hopmin._files import read_bytes, read_text
from hopmin._typing import Array, Integers, Name, Seed
from hopmin.data.tokenizers import ByteTokenizer, Tokenizer, TokenizerName, fit_tokenizer


@dataclass(frozen=True)
class Corpus:
    """Training rows, held-out rows, and the entropy of their language if it is known.

    Parameters
    ----------
    name : str
        Name of the corpus.
    tokenizer : Tokenizer
        The tokenizer of the rows.
    train, held_out : ndarray, shape (n, T + 1)
        Integer rows, padded with -1.
    entropy : float, optional
        Entropy of the language in nats per token, None if it is unknown. No model can expect a lower cross-entropy on
        rows drawn from the language.
    floors : mapping of str to float
        For each split, the cross-entropy in nats per token of exactly its rows under the distribution they were drawn
        from. It differs from `entropy` because a split is finite and, in Question Formation, holds each row once.
        Empty if the distribution is unknown.
    splits : mapping of str to ndarray
        All splits by name, if there are more than two.
    contiguous : bool
        True if each row begins with the last token of the row before it, so that the rows are in the order of the text;
        False if they are shuffled or independent.
    """

    name: str
    tokenizer: Tokenizer
    train: Array
    held_out: Array
    entropy: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    splits: Mapping[str, Array] = field(default_factory=dict)
    contiguous: bool = False


def inputs_and_targets(rows: Array) -> tuple[Array, Array]:
    """Return the tokens and the targets (B, T) of rows (B, T + 1): the target of a token is the token after it.

    Targets of -1 are padding and are not counted in a loss. Columns that hold only padding are left out.

    >>> inputs_and_targets(np.array([[7, 8, 9, -1], [7, 5, -1, -1]]))
    (array([[7, 8],
           [7, 5]]), array([[ 8,  9],
           [ 5, -1]]))
    """
    rows = _check.token_rows("rows", rows)
    longest = int((rows >= 0).sum(axis=1).max())
    return np.maximum(rows[:, : longest - 1], 0), rows[:, 1:longest]


def pad(rows: list[Array]) -> Integers:
    """Return rows of different lengths as one array, padded with -1."""
    padded = np.full((len(rows), max(map(len, rows))), -1, np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


# Plain text


class TextOptions(TypedDict, total=False):
    """The options of `from_text`, which explains them."""

    positions: int
    held_out: float
    tokenizer: TokenizerName | Tokenizer
    vocabulary: int
    seed: Seed


def from_text(
    text: str | bytes,
    *,
    name: str = "text",
    positions: int = 64,
    held_out: float = 0.1,
    tokenizer: TokenizerName | Tokenizer = "characters",
    vocabulary: int = 1000,
    seed: Seed = 0,
) -> Corpus:
    """Return a corpus of a text, cut into rows of `positions` + 1 tokens.

    Each row begins with the last token of the row before it, so that every token but the first is a target once. The
    rows are shuffled before they are split, so both splits come from all parts of the text.

    Parameters
    ----------
    text : str or bytes
        The text; bytes only with the tokenizer "bytes".
    name : str
        Name of the corpus.
    positions : int
        Targets per row, T.
    held_out : float
        Fraction of the rows to hold out, in [0, 1); at least one row is held out.
    tokenizer : {"characters", "words", "bytes", "bpe"} or Tokenizer
        Name of a tokenizer that is fitted to the text, or a fitted one.
    vocabulary : int
        Number of symbols of a "bpe" tokenizer.
    seed : Generator or int
        Seed of the order of the rows.

    Returns
    -------
    Corpus
        Its entropy is None.

    Raises
    ------
    TypeError
        If the text is not a string, nor bytes for the tokenizer "bytes".
    ValueError
        If the text is empty or has fewer than ten rows, or an option is out of range.

    Examples
    --------
    >>> corpus = from_text("to be or not to be, " * 20, positions=8)
    >>> len(corpus.train), len(corpus.held_out), corpus.tokenizer.decode(corpus.train[0])
    (44, 5, 'e or not ')
    """
    positions, fraction = _check.integer("positions", positions), _check.number("held_out", held_out, "[0, 1)")
    if not isinstance(text, (str, bytes) if _takes_bytes(tokenizer) else str):
        raise TypeError(f"text must be a string, or bytes for the tokenizer 'bytes'; got {text!r:.60}")
    if not text:
        raise ValueError(f"text must not be empty; got {text!r}")
    chosen = fit_tokenizer(tokenizer, [text], vocabulary)  # type: ignore[list-item]  # bytes only for "bytes"
    rows = split_into_rows(chosen.encode(text), positions, chosen)  # type: ignore[arg-type]
    order = _check.generator("seed", seed).permutation(len(rows))
    count = held_out_count(len(rows), fraction)
    return Corpus(name, chosen, train=rows[order[count:]], held_out=rows[order[:count]])


def _takes_bytes(tokenizer: TokenizerName | Tokenizer | None) -> bool:
    return tokenizer == "bytes" or isinstance(tokenizer, ByteTokenizer)


def split_into_rows(tokens: Array, positions: int, tokenizer: Tokenizer) -> Array:
    """Return the tokens as rows, each beginning with the last token of the row before it.

    Parameters
    ----------
    tokens : ndarray of int, shape (N,)
        The tokens of a text. Those after the last complete row are left out.
    positions : int
        Targets per row, T.
    tokenizer : Tokenizer
        Its `unit` names the tokens in the error message.

    Returns
    -------
    ndarray, shape (n, T + 1)
        A read-only view of the tokens.

    Raises
    ------
    ValueError
        If there are fewer than ten rows.

    Examples
    --------
    >>> split_into_rows(np.arange(25), 2, ByteTokenizer())[:2]
    array([[0, 1, 2],
           [2, 3, 4]])
    """
    count = (len(tokens) - 1) // positions
    if count < 10:
        raise ValueError(f"corpus must have more than {10 * positions} {tokenizer.unit}; got {len(tokens)}")
    return np.lib.stride_tricks.sliding_window_view(tokens, positions + 1)[::positions][:count]


def held_out_count(rows: int, fraction: float) -> int:
    """Return the number of rows to hold out: a fraction of all, such that neither split is empty."""
    return min(max(1, round(fraction * rows)), rows - 1)


def python_topics(**options: Unpack[TextOptions]) -> Corpus:
    """Return a corpus of the help texts that ship with Python (`pydoc_data.topics`), half a megabyte of English.

    The options are those of `from_text`. The texts differ between Python versions, and so do results.
    """
    return from_text(python_topics_text(), name="python-topics", **options)


def python_topics_text() -> str:
    """Return the help texts that ship with Python as one text."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[topic].strip() for topic in sorted(topics))


def from_file(path: Name, **options: Unpack[TextOptions]) -> Corpus:
    """Return a corpus of a UTF-8 text file or, with the tokenizer "bytes", of any file.

    The options are those of `from_text`. Raises ValueError if the file cannot be read, is not UTF-8, or is too short.
    """
    path = _check.path("path", path)
    text = read_bytes(path) if _takes_bytes(options.get("tokenizer")) else read_text(path)
    return from_text(text, name=re.split(r"[\\/]", path)[-1], **options)
