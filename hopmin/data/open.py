"""Open a corpus by its name [`open_corpus`]."""

from __future__ import annotations

from hopmin import _check
from hopmin._typing import Name
from hopmin.data.corpus import Corpus, TextOptions, from_file, python_topics
from hopmin.data.question_formation import question_formation
from hopmin.data.token_files import from_tokens
from hopmin.data.tokenizers import Tokenizer, TokenizerName

NAMES = ("question-formation", "python-topics")  # any other name is a path


def open_corpus(
    name: Name,
    *,
    rows: int,
    positions: int,
    seed: int,
    tokenizer: TokenizerName | Tokenizer | None = None,
    vocabulary: int = 1000,
) -> Corpus:
    """Open a corpus by the name that the commands accept.

    Parameters
    ----------
    name : str or path
        "question-formation", "python-topics", the path of a file of tokens (.npz), or the path of a text file.
    rows : int
        Training rows of "question-formation"; its held-out split has 1,000 rows.
    positions : int
        Targets per row of a text or of a file of tokens.
    seed : int
        Seed of the rows of "question-formation", or of the order of the rows of a text.
    tokenizer : {"characters", "words", "bytes", "bpe"} or Tokenizer, optional
        Tokenizer of a text, "characters" by default. Other corpora have their own.
    vocabulary : int
        Number of symbols of a "bpe" tokenizer.

    Returns
    -------
    Corpus
        The corpus.

    Raises
    ------
    TypeError
        If the name is neither a string nor a path.
    ValueError
        If a tokenizer is named for a corpus that has its own, if a file cannot be read or is too short, or if an option
        is out of range.
    """
    name = _check.path("corpus", name)
    own = name == "question-formation" or name.endswith(".npz")
    if own and isinstance(tokenizer, str):
        raise ValueError(f"tokenizer must not be given for a corpus that has its own; got {tokenizer!r} for {name}")
    if name == "question-formation":
        return question_formation(rows, seed=seed, dev=1, test=1_000, generalization=1)
    if name.endswith(".npz"):
        return from_tokens(name, positions=positions)
    options: TextOptions = {
        "positions": positions, "tokenizer": tokenizer or "characters", "vocabulary": vocabulary, "seed": seed,
    }  # fmt: skip
    return python_topics(**options) if name == "python-topics" else from_file(name, **options)
