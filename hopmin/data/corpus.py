"""Languages to learn.

- what a corpus is [`Corpus`], and its rows as a model takes them [`inputs_and_targets`]
- English that needs no download [`python_topics`], and any text [`from_text`], [`from_file`]

Question Formation is in `question_formation.py`, text larger than memory in `token_files.py`.

A corpus is a set of *rows*, each learned from its first token to its last: an integer array (n, T + 1), where -1 pads
what is shorter. Its loss is counted on the T tokens after the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hopmin import _check
from hopmin._files import read_bytes, read_text
from hopmin._typing import Array, Name
from hopmin.data.tokenizers import ByteTokenizer, Tokenizer, fit_tokenizer

TokenizerName = Literal["characters", "words", "bytes", "bpe"]


@dataclass(frozen=True)
class Corpus:
    """Rows to train on, and others to be judged by.

    train, held_out : (n, T + 1) integer rows, padded with -1
    entropy : nats per token of the language itself, where it is known: what no model can expect to go below on fresh
        rows
    floors : for each split, the nats per token that the true distribution itself needs for just those rows
    splits : further splits by name
    contiguous : whether each row goes on where the one before it ended
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
    """Tokens and targets (B, T) of rows (B, T + 1): each token's target is the next one; -1 is not counted.

    >>> inputs_and_targets(np.array([[7, 8, 9, -1], [7, 5, -1, -1]]))
    (array([[7, 8],
           [7, 5]]), array([[ 8,  9],
           [ 5, -1]]))
    """
    rows = _check.token_rows("rows", rows)
    longest = int((rows >= 0).sum(axis=1).max())
    return np.maximum(rows[:, : longest - 1], 0), rows[:, 1:longest]


def pad(rows: list[Array]) -> Array:
    out = np.full((len(rows), max(map(len, rows))), -1, np.int64)
    for padded, row in zip(out, rows, strict=True):
        padded[: len(row)] = row
    return out


# Plain text


def from_text(
    text: str | bytes,
    *,
    name: str = "text",
    positions: int = 64,
    held_out: float = 0.1,
    tokenizer: str | Tokenizer = "characters",
    vocabulary: int = 1000,
    seed: int = 0,
) -> Corpus:
    """Any text, cut into rows of `positions` tokens and the one after; a share of the rows is held out (one at least).

    `tokenizer` is "characters", "words", "bytes", "bpe" (of `vocabulary` symbols), or one that is there already. The
    rows are shuffled, so that the splits, and the first rows of either, are all of one kind. The entropy is not known.
    Raises ValueError if there are fewer than ten rows.

    >>> corpus = from_text("to be or not to be, " * 20, positions=8)
    >>> len(corpus.train), len(corpus.held_out), corpus.tokenizer.decode(corpus.train[0])
    (44, 5, 'e or not ')
    """
    positions, share = _check.integer("positions", positions), _check.number("held_out", held_out, "[0, 1)")
    chosen = fit_tokenizer(tokenizer, [text], vocabulary)  # type: ignore[list-item]  # bytes for bytes alone
    rows = split_into_rows(chosen.encode(text), positions, chosen)  # type: ignore[arg-type]
    order = _check.generator("seed", seed).permutation(len(rows))
    cut = held_out_count(len(rows), share)
    return Corpus(name, chosen, train=rows[order[cut:]], held_out=rows[order[:cut]])


def split_into_rows(tokens: Array, positions: int, tokenizer: Tokenizer) -> Array:
    """(n, T + 1) The tokens as rows, each of which begins with the last token of the one before; a view."""
    count = (len(tokens) - 1) // positions
    if count < 10:
        raise ValueError(f"corpus must have more than {10 * positions} {tokenizer.unit}; got {len(tokens)}")
    return np.lib.stride_tricks.sliding_window_view(tokens, positions + 1)[::positions][:count]


def held_out_count(count: int, share: float) -> int:
    """How many of the rows are held out: neither split is empty."""
    return min(max(1, round(share * count)), count - 1)


def python_topics(**options: Any) -> Corpus:
    """The help texts that ship with Python (`pydoc_data.topics`), half a megabyte of English; as `from_text`.

    They differ from one Python version to the next, and so do results.
    """
    from pydoc_data.topics import topics

    return from_text("\n\n".join(topics[topic].strip() for topic in sorted(topics)), name="python-topics", **options)


def from_file(path: Name, **options: Any) -> Corpus:
    """A UTF-8 text file, or any file where the tokenizer is "bytes"; as `from_text`. Raises ValueError if it cannot be
    read, is not UTF-8, or is too short.
    """
    text = read_bytes(path) if options.get("tokenizer") in ("bytes", ByteTokenizer()) else read_text(path)
    return from_text(text, name=re.split(r"[\\/]", str(path))[-1], **options)
