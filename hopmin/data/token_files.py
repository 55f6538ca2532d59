"""Text larger than memory, and batches of it.

- a text file to a file of tokens, piece by piece [`write_tokens`], which is then mapped, not read [`from_tokens`]
- the rows of a step: each row once an epoch [`shuffled_batches`], or each where it ended before [`contiguous_batches`]

Batches are functions of the number of the step alone. So a run resumes by asking for the next step, and there is no
state of a generator to be kept.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hopmin import _check
from hopmin._files import map_arrays, read_chunks, save_arrays
from hopmin._typing import Array, Name
from hopmin.data.corpus import Corpus, held_out_count, split_into_rows
from hopmin.data.tokenizers import ByteTokenizer, Tokenizer, fit_tokenizer, tokenizer_from_record

CUT = re.compile(r"(?<=\S)[^\S\x1c-\x1f]")  # the four separators are white space to Python, not to a bpe


def write_tokens(source: Name, path: Name, tokenizer: str | Tokenizer = "characters", *, vocabulary: int = 1000) -> int:
    """Write the tokens of a UTF-8 text file (of any file, for bytes) to `path`, with their tokenizer; returns how many.

    Neither text nor tokens are ever in memory as a whole: the text is read once to fit the tokenizer, where it must be,
    and once to be encoded, and cut only before white space. Tokens take 1, 2 or 4 bytes each. ValueError if the file is
    not readable, not UTF-8 or empty, and if `path` is in no folder or does not end in .npz, by which corpora of tokens
    are told from text, or if the corpus is no file one can come back to, as a pipe is none.
    """
    if Path(path).suffix != ".npz" or not Path(path).absolute().parent.is_dir():
        raise ValueError(f"path must end in .npz, in a folder that exists; got {path}")
    if os.path.exists(source) and not os.path.isfile(source):
        raise ValueError(f"corpus must be a file, for it is read more than once; {source} is something else")
    if not any(read_chunks(source, binary=True)):
        raise ValueError(f"corpus must not be empty; {source} holds nothing")
    if os.path.exists(path) and os.path.samefile(source, path):
        raise ValueError(f"path must not be the corpus itself; got {path}")
    kind = fit_tokenizer(tokenizer, _pieces(source), vocabulary) if tokenizer != "bytes" else ByteTokenizer()
    dtype = np.min_scalar_type(len(kind.symbols) - 1)
    with tempfile.TemporaryFile(dir=Path(path).absolute().parent) as file:
        for piece in read_chunks(source, binary=True) if isinstance(kind, ByteTokenizer) else _pieces(source):
            kind.encode(piece).astype(dtype).tofile(file)
        count = file.tell() // dtype.itemsize
        save_arrays(path, "tokens", {"tokens": np.memmap(file, dtype, "r", shape=count)}, tokenizer=kind.record)
    return count


def _pieces(source: Name) -> Iterator[str]:
    """A text, cut where white space begins: no word is torn, nor what a bpe takes together."""
    rest = ""
    for piece in read_chunks(source):
        rest += piece
        *_, last = [0, *(match.start() for match in CUT.finditer(rest, len(rest) - len(piece)))]
        yield rest[:last]
        rest = rest[last:]
    yield rest


def from_tokens(path: Name, *, positions: int = 64, held_out: float = 0.1) -> Corpus:
    """The corpus of a file that `write_tokens` wrote; its rows are views of the file, read as they are asked for.

    The last rows are held out: a share of all, one at least. ValueError if the file is damaged, something else, or too
    short.
    """
    positions, share = _check.integer("positions", positions), _check.number("held_out", held_out, "[0, 1)")
    arrays, records = map_arrays(path, "tokens")
    try:
        tokens, tokenizer = arrays["tokens"], tokenizer_from_record(records["tokenizer"])
        if tokens.ndim != 1 or tokens.dtype.kind != "u":
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tokens must be a file that hopmin tokenize wrote; {path} is not") from None
    rows = split_into_rows(tokens, positions, tokenizer)
    cut = len(rows) - held_out_count(len(rows), share)
    return Corpus(Path(path).name, tokenizer, train=rows[:cut], held_out=rows[cut:], contiguous=True)


def shuffled_batches(rows: Array, batch_size: int, seed: int = 0) -> Callable[[int], Array]:
    """`batch_size` rows a step, in an order drawn for each epoch from (seed, epoch): each once before any comes again.

    >>> step = shuffled_batches(np.arange(5)[:, None], 2, seed=0)
    >>> [step(i).ravel().tolist() for i in range(5)]                  # two epochs
    [[2, 4], [3, 0], [1, 1], [4, 3], [0, 2]]
    """
    rows, batch_size, seed = (
        _check.token_rows("rows", rows),
        _check.integer("batch_size", batch_size),
        _check.integer("seed", seed, 0),
    )
    known: dict[int, Array] = {}  # the orders of the last two epochs

    def order(epoch: int) -> Array:
        if epoch not in known:
            known.pop(min(known), None) if len(known) > 1 else None
            known[epoch] = np.random.default_rng([seed, epoch]).permutation(len(rows))
        return known[epoch]

    def at(step: int) -> Array:
        places = range(step * batch_size, (step + 1) * batch_size)
        return rows[[order(place // len(rows))[place % len(rows)] for place in places]]

    return at


def contiguous_batches(rows: Array, batch_size: int) -> Callable[[int], Array]:
    """`batch_size` rows a step, each of which goes on where it ended in the step before; at the end they begin again.

    The rows must follow on one another (Corpus.contiguous). What is left over after dividing them by `batch_size` is
    not used.

    >>> step = contiguous_batches(np.arange(7)[:, None], 2)
    >>> [step(i).ravel().tolist() for i in range(4)]
    [[0, 3], [1, 4], [2, 5], [0, 3]]
    """
    rows, batch_size = _check.token_rows("rows", rows), _check.integer("batch_size", batch_size)
    if (each := len(rows) // batch_size) < 1:
        raise ValueError(f"rows must be at least {batch_size}, one for each of a batch; got {len(rows)}")
    return lambda step: rows[np.arange(batch_size) * each + step % each]
