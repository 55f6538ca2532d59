"""Evaluate a trained model on rows [`evaluate`] and on the splits of its corpus [`evaluate_checkpoint`]."""

from __future__ import annotations

import math
from typing import NamedTuple

from hopmin._typing import Array, Name
from hopmin.study.measure import extraction_rate
from hopmin.transformer.experiment import corpus_of
from hopmin.transformer.model import GPT, load_model
from hopmin.transformer.training import EVALUATION_ROWS, cross_entropy


class Evaluation(NamedTuple):
    """The evaluation of a model on rows of tokens.

    Attributes
    ----------
    rows, tokens : int
        Number of rows, and of the tokens in them that are predicted: all but the first of each row.
    nats_per_token, bits_per_token : float
        The cross-entropy.
    perplexity : float
        Exponential of the cross-entropy in nats; infinite if it exceeds the largest float.
    extraction_rate : float
        Fraction of rows whose second half the model reproduces from the first; see `measure.extraction_rate`.
    """

    rows: int
    tokens: int
    nats_per_token: float
    bits_per_token: float
    perplexity: float
    extraction_rate: float


class CheckpointEvaluation(NamedTuple):
    """The evaluations of a checkpoint, one for each of the splits "train" and "held_out".

    `corpus` is the corpus's name, and `entropy` the entropy of its language in nats per token, None if it is unknown.
    """

    corpus: str
    entropy: float | None
    splits: dict[str, Evaluation]


def evaluate(model: GPT, rows: Array) -> Evaluation:
    """Evaluate a model on rows (n, T + 1), padded with -1.

    >>> import numpy as np
    >>> from hopmin.transformer.model import GPTConfig
    >>> model = GPT(GPTConfig(vocabulary=5, positions=3, layers=1, heads=1, width=8), rng=0)
    >>> found = evaluate(model, np.array([[0, 1, 2], [3, 4, -1]]))
    >>> found.tokens, round(found.perplexity)                        # of an untrained model: the vocabulary
    (3, 5)
    """
    loss = cross_entropy(model, rows)
    return Evaluation(
        rows=len(rows),
        tokens=int((rows[:, 1:] >= 0).sum()),
        nats_per_token=loss,
        bits_per_token=loss / math.log(2),
        perplexity=math.exp(loss) if loss < 709 else math.inf,  # exp(710) overflows
        extraction_rate=extraction_rate(model, rows),
    )


def evaluate_checkpoint(checkpoint: Name) -> CheckpointEvaluation:
    """Evaluate the model of a checkpoint on the first EVALUATION_ROWS rows of its training and held-out splits.

    Raises ValueError if the file is not a checkpoint of an experiment, or if its corpus has changed since.
    """
    saved = load_model(checkpoint)
    _, corpus = corpus_of(saved, checkpoint)
    splits = {"train": corpus.train, "held_out": corpus.held_out}
    found = {name: evaluate(saved.model, rows[:EVALUATION_ROWS]) for name, rows in splits.items()}
    return CheckpointEvaluation(corpus.name, corpus.entropy, found)
