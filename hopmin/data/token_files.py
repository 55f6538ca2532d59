"""Text larger than memory, and batches of it.

- write the tokens of a text file to a file [`write_tokens`], and map that file [`from_tokens`]
- batches in which each row occurs once per epoch [`shuffled_batches`], or continues a row of the previous batch
  [`contiguous_batches`]

A batch depends on the number of its step alone, so a run resumes at its next step without a saved generator state.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from hopmin import _check
from hopmin._files import map_arrays, read_chunks, save_arrays
from hopmin._typing import Array, Integers, Name
from hopmin.data.corpus import Corpus, held_out_count, split_into_rows
from hopmin.data.tokenizers import ByteTokenizer, Tokenizer, TokenizerName, fit_tokenizer, tokenizer_from_record

# Python counts the four separators \x1c-\x1f as white space; the library `tokenizers` does not.
CUT = re.compile(r"(?<=\S)[^\S\x1c-\x1f]")


def write_tokens(
    source: Name, path: Name, tokenizer: TokenizerName | Tokenizer = "characters", *, vocabulary: int = 1000
) -> int:
    """Write the tokens of a text file, and their tokenizer, to a file; return the number of tokens.

    Neither the text nor the tokens are held in memory as a whole. The text is read once to fit the tokenizer, unless
    it is already fitted, and once to encode it, in pieces that end before white space. A token takes 1, 2 or 4 bytes.

    Parameters
    ----------
    source : str or path
        A UTF-8 text file; with the tokenizer "bytes", any file. It is read more than once, so it cannot be a pipe.
    path : str or path
        The file to write, in a folder that exists. Its name ends in .npz, by which `open_corpus` recognizes it.
    tokenizer : {"characters", "words", "bytes", "bpe"} or Tokenizer
        Name of a tokenizer that is fitted to the text, or a fitted one.
    vocabulary : int
        Number of symbols of a "bpe" tokenizer.

    Returns
    -------
    int
        The number of tokens.

    Raises
    ------
    ValueError
        If the source is unreadable, empty, not UTF-8 or not a regular file, or if the path is the source, its
        folder does not exist, or it does not end in .npz.
    """
    source, path = _check.path("source", source), _check.path("path", path)
    if Path(path).suffix != ".npz" or not Path(path).absolute().parent.is_dir():
        raise ValueError(f"path must end in .npz, in a folder that exists; got {path}")
    if os.path.exists(source) and not os.path.isfile(source):
        raise ValueError(f"corpus must be a regular file, to be read more than once; {source} is not")
    if not any(read_chunks(source, binary=True)):
        raise ValueError(f"corpus must not be empty; {source} has 0 bytes")
    if os.path.exists(path) and os.path.samefile(source, path):
        raise ValueError(f"path must not be the corpus itself; got {path}")
    chosen = ByteTokenizer() if tokenizer == "bytes" else fit_tokenizer(tokenizer, _pieces(source), vocabulary)
    dtype = np.min_scalar_type(len(chosen.symbols) - 1)
    with tempfile.TemporaryFile(dir=Path(path).absolute().parent) as file:
        for piece in read_chunks(source, binary=True) if isinstance(chosen, ByteTokenizer) else _pieces(source):
            chosen.encode(piece).astype(dtype).tofile(file)
        count = file.tell() // dtype.itemsize
        save_arrays(path, "tokens", {"tokens": np.memmap(file, dtype, "r", shape=count)}, tokenizer=chosen.record)
    return count


def _pieces(source: Name) -> Iterator[str]:
    """Yield a text in pieces that end before white space, so that no word and no pair of a BPE is split."""
    rest = ""
    for piece in read_chunks(source):
        rest += piece
        *_, last = [0, *(match.start() for match in CUT.finditer(rest, len(rest) - len(piece)))]
        yield rest[:last]
        rest = rest[last:]
    yield rest


def from_tokens(path: Name, *, positions: int = 64, held_out: float = 0.1) -> Corpus:
    """Return the corpus of a file that `write_tokens` wrote.

    The rows are views of the mapped file, read when they are used. They stay in the order of the text, and the last
    ones are held out.

    Parameters
    ----------
    path : str or path
        The file.
    positions : int
        Targets per row, T.
    held_out : float
        Fraction of the rows to hold out, in [0, 1); at least one row is held out.

    Returns
    -------
    Corpus
        A contiguous corpus, whose entropy is None.

    Raises
    ------
    ValueError
        If the file is unreadable, damaged or too short, or was not written by `write_tokens`.
    """
    positions, fraction = _check.integer("positions", positions), _check.number("held_out", held_out, "[0, 1)")
    path = _check.path("path", path)
    arrays, records = map_arrays(path, "tokens")
    try:
        tokens, tokenizer = arrays["tokens"], tokenizer_from_record(records["tokenizer"])
        if tokens.ndim != 1 or tokens.dtype.kind != "u":
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tokens must be a file that hopmin tokenize wrote; {path} is not") from None
    rows = split_into_rows(tokens, positions, tokenizer)
    cut = len(rows) - held_out_count(len(rows), fraction)
    return Corpus(Path(path).name, tokenizer, train=rows[:cut], held_out=rows[cut:], contiguous=True)


def shuffled_batches(rows: Array, batch_size: int, seed: int = 0) -> Callable[[int], Array]:
    """Return a function from the step to its batch of `batch_size` rows; each row occurs once per epoch.

    The order of the rows in an epoch is drawn from (seed, epoch). A batch may contain the end of one epoch and the
    beginning of the next.

    Parameters
    ----------
    rows : ndarray, shape (n, T + 1)
        Rows to train on.
    batch_size : int
        Rows per step.
    seed : int
        Seed of the orders.

    Returns
    -------
    callable
        The rows (batch_size, T + 1) of a step, from 0; an argument of `Trainer.run`.

    Examples
    --------
    >>> batches = shuffled_batches(np.arange(5)[:, None], 2, seed=0)
    >>> [batches(step).ravel().tolist() for step in range(5)]         # two epochs
    [[2, 4], [3, 0], [1, 1], [4, 3], [0, 2]]
    """
    rows, batch_size = _check.token_rows("rows", rows), _check.integer("batch_size", batch_size)
    seed = _check.integer("seed", seed, 0)

    @lru_cache(maxsize=2)  # a batch spans two epochs
    def order(epoch: int) -> Integers:
        return np.random.default_rng([seed, epoch]).permutation(len(rows))

    def batch(step: int) -> Array:
        places = range(step * batch_size, (step + 1) * batch_size)
        return rows[[order(place // len(rows))[place % len(rows)] for place in places]]

    return batch


def contiguous_batches(rows: Array, batch_size: int) -> Callable[[int], Array]:
    """Return a function from the step to its batch of `batch_size` rows; each continues a row of the previous batch.

    The rows must be in the order of the text (`Corpus.contiguous`). They are divided into `batch_size` segments of the
    same length; leftover rows are not used. After the last row of the segments, batches start again with the first.

    >>> batches = contiguous_batches(np.arange(7)[:, None], 2)
    >>> [batches(step).ravel().tolist() for step in range(4)]
    [[0, 3], [1, 4], [2, 5], [0, 3]]
    """
    rows, batch_size = _check.token_rows("rows", rows), _check.integer("batch_size", batch_size)
    if (stretch := len(rows) // batch_size) < 1:
        raise ValueError(f"rows must be at least {batch_size}, one for each of a batch; got {len(rows)}")
    return lambda step: rows[np.arange(batch_size) * stretch + step % stretch]
