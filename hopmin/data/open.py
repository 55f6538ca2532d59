"""Any corpus by its name: [`open_corpus`]."""

from __future__ import annotations

from typing import Any

from hopmin.data.corpus import Corpus, TokenizerName, from_file, python_topics
from hopmin.data.question_formation import question_formation
from hopmin.data.token_files import from_tokens
from hopmin.data.tokenizers import Tokenizer


def open_corpus(
    name: str,
    *,
    rows: int,
    positions: int,
    seed: int,
    tokenizer: TokenizerName | Tokenizer | None = None,
    vocabulary: int = 1000,
) -> Corpus:
    """A corpus as the commands name it: question-formation (of so many `rows`), python-topics, a file of tokens (.npz),
    or else a text file. Those of text are cut into "characters", unless another tokenizer is asked for.
    """
    own = name == "question-formation" or name.endswith(".npz")
    if own and isinstance(tokenizer, str):
        raise ValueError(f"tokenizer must not be given where the corpus has its own; got {tokenizer!r} for {name}")
    if name == "question-formation":
        return question_formation(rows, seed=seed, dev=1, test=1_000, generalization=1)
    if name.endswith(".npz"):
        return from_tokens(name, positions=positions)
    options: dict[str, Any] = {"tokenizer": tokenizer or "characters", "vocabulary": vocabulary, "seed": seed}
    if name == "python-topics":
        return python_topics(positions=positions, **options)
    return from_file(name, positions=positions, **options)
