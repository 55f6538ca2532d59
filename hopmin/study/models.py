"""The models of a study: a description as JSON [`Training`], and the model that it leads to [`fit`].

Several experiments look at the same models. `fit` keeps those that it trained in a folder, if `keep_in` named one; a
model depends on its description alone, so results are the same with and without the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hopmin._typing import Array, Integers
from hopmin.data.corpus import Corpus
from hopmin.data.open import open_corpus
from hopmin.data.question_formation import question_formation
from hopmin.study.measure import cross_entropy, ngram_cross_entropy
from hopmin.study.plan import Cost, Progress
from hopmin.transformer.model import GPT, GPTConfig, load_model
from hopmin.transformer.training import Trainer, default_learning_rate

HELD_OUT = 1000  # rows of the grammar that are held out
EVALUATED = 200  # rows of each split that are evaluated during training
EVALUATIONS = 8  # during a training
_folder: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Keep trained models in this folder, in this process."""
    global _folder
    _folder = folder


class Point(NamedTuple):
    """Cross-entropies on training and held-out rows after a number of steps, in nats per token."""

    step: int
    train: float
    held_out: float


@dataclass(frozen=True)
class Training:
    """A model and its training.

    Parameters
    ----------
    layers, heads, width : int
        Size of the model.
    rows : int
        Number of training rows: the first rows of the corpus.
    steps, batch_size : int
        Number of training steps, and rows per step.
    seed : int
        Seed of the initial parameters and of the batches.
    corpus : str
        "question-formation", or the path of a text or of a file of tokens.
    drawn : int
        Training rows of the whole corpus, of which models on fewer rows see the first ones; for the grammar only.
    positions : int
        Targets per row; for texts only.
    corpus_seed : int
        Seed of the corpus.
    nouns, verbs : int
        Size of the lexicon; for the grammar only.
    mix : {"published", "released"}
        Frequencies of the structures; for the grammar only.
    options : dict
        Other fields of the `GPTConfig`.
    """

    layers: int
    heads: int
    width: int
    rows: int
    steps: int
    batch_size: int = 16
    seed: int = 0
    corpus: str = "question-formation"
    drawn: int = 12_500
    positions: int = 32
    corpus_seed: int = 0
    nouns: int = 13
    verbs: int = 9
    mix: Any = "published"
    options: Any = None

    @property
    def language(self) -> Corpus:
        """The corpus, of which `rows` training rows are used."""
        if self.corpus == "question-formation":
            return _questions(max(self.drawn, self.rows), self.corpus_seed, self.nouns, self.verbs, self.mix)
        return _text(self.corpus, self.positions, self.corpus_seed)

    @property
    def reference(self) -> dict[str, Any]:
        """The entropy of the language in nats per token or, where it is unknown, an estimate, which is marked."""
        known = self.language.entropy
        if known is not None:
            return {"entropy": known}
        return {"entropy": _estimate(self.corpus, self.positions, self.corpus_seed), "estimated": True}

    @property
    def config(self) -> GPTConfig:
        """The sizes of the model."""
        corpus, sizes = self.language, (self.layers, self.heads, self.width)
        positions = corpus.train.shape[1] - 1
        options = {"init_std": None, **(self.options or {})}
        return GPTConfig(len(corpus.tokenizer.symbols), positions, *sizes, **options)

    @property
    def cost(self) -> Cost:
        """The approximate size of the model, without embeddings, and the tokens of its training.

        Three tokens that are evaluated count as one that is trained on.
        """
        length = 21 if self.corpus == "question-formation" else self.positions
        evaluated = EVALUATIONS * 2 * EVALUATED // 3
        return Cost(12 * self.layers * self.width**2, (self.steps * self.batch_size + evaluated) * length)

    @property
    def untrained(self) -> GPT:
        """The model before training."""
        return GPT(self.config, np.random.default_rng([self.seed, self.width]))


@lru_cache(4)
def _questions(rows: int, seed: int, nouns: int, verbs: int, mix: Any) -> Corpus:
    return question_formation(
        rows, seed=seed, mix=mix, nouns=nouns, verbs=verbs, dev=1, test=HELD_OUT, generalization=1
    )


@lru_cache(4)
def _text(corpus: str, positions: int, seed: int) -> Corpus:
    return open_corpus(corpus, rows=1, positions=positions, seed=seed)


@lru_cache(4)
def _estimate(corpus: str, positions: int, seed: int) -> float:
    text = _text(corpus, positions, seed)
    return ngram_cross_entropy(text.train, text.held_out[:HELD_OUT], len(text.tokenizer.symbols))


def entropy_name(record: Mapping[str, Any]) -> str:
    """Return what the entropy in a record is: that of the language, or an estimate.

    >>> entropy_name({"entropy": 0.987}), entropy_name({"entropy": 1.9, "estimated": True})
    ('entropy', '4-gram estimate')
    """
    return "4-gram estimate" if record.get("estimated") else "entropy"


class Fit(NamedTuple):
    """A trained model, its training rows and the held-out rows (n, T + 1), and its losses along the way."""

    model: GPT
    train: Integers
    held_out: Integers
    curve: list[Point]


def fit(training: Training, progress: Progress = lambda fraction, doing: None) -> Fit:
    """Return the model that a training leads to: a saved one, if there is one, or a new one.

    `progress` is called with the fraction done and a short text.
    """
    corpus = training.language
    rows, held_out = corpus.train[: training.rows], corpus.held_out
    path = _folder and _folder / f"{hashlib.sha256(json.dumps(asdict(training)).encode()).hexdigest()[:20]}.npz"
    if path and path.exists():
        saved = load_model(path)
        return Fit(saved.model, rows, held_out, [Point(*point) for point in saved.records["curve"]])
    model = training.untrained
    curve = train(
        model, rows, held_out, steps=training.steps, batch_size=training.batch_size, seed=training.seed,
        progress=lambda done, loss: progress(done, f"width {training.width}, {len(rows):,} rows, loss {loss:.2f}"),
    )  # fmt: skip
    if path:
        path.parent.mkdir(exist_ok=True)
        model.save(path, curve=curve)
    return Fit(model, rows, held_out, curve)


def train(
    model: GPT,
    rows: Array,
    held_out: Array | None = None,
    *,
    steps: int,
    batch_size: int = 16,
    seed: int = 0,
    evaluations: int = EVALUATIONS,
    learning_rate: float | None = None,
    progress: Callable[[float, float], None] = lambda fraction, loss: None,
) -> list[Point]:
    """Train a model in place and return its losses on EVALUATED rows of each split, at evenly spaced steps.

    Parameters
    ----------
    model : GPT
    rows, held_out : ndarray, shape (n, T + 1)
        Rows to train on and rows to hold out; without the latter their loss is NaN.
    steps, batch_size, seed : int
        As for `Trainer`.
    evaluations : int
        Number of evaluations, the last of which is after the last step.
    learning_rate : float, optional
        Peak learning rate; by default that for the model's width.
    progress : callable
        Called about three times a second with the fraction done and the loss of the batch.

    Returns
    -------
    list of Point
        The losses.
    """
    trainer = Trainer(
        model, steps=steps, batch_size=batch_size, micro_batches=1, seed=seed,
        learning_rate=default_learning_rate(model.config.width) if learning_rate is None else learning_rate,
    )  # fmt: skip
    evaluated = {round(steps * (i + 1) / evaluations) for i in range(evaluations)}
    curve: list[Point] = []

    def callback(*, step: int, loss: float, **_: Any) -> None:
        progress(step / steps, loss)
        if step in evaluated:
            unseen = float("nan") if held_out is None else cross_entropy(model, held_out[:EVALUATED])
            curve.append(Point(step, cross_entropy(model, rows[:EVALUATED]), unseen))

    trainer.run(rows, callback=callback)
    return curve
