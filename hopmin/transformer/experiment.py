"""Train a model on a corpus, with checkpoints in a folder: [`Experiment`], the work of `hopmin train`.

- the corpus of a checkpoint [`CorpusRecord`], opened again and compared [`corpus_of`]
- a log of JSON lines, one for each step [`Log`]
- text that a trained model generates [`generate_text`], the work of `hopmin generate`

Nothing here prints. `hopmin evaluate` is in `study/evaluation.py`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import index
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from hopmin import _check
from hopmin._files import atomic_write, writable_folder
from hopmin._typing import Array, Name
from hopmin.data.corpus import Corpus
from hopmin.data.open import open_corpus
from hopmin.data.question_formation import END
from hopmin.data.token_files import contiguous_batches, shuffled_batches
from hopmin.data.tokenizers import TOKENIZERS, TokenizerName
from hopmin.transformer.model import GPT, PRESETS, GPTConfig, SavedModel, load_model
from hopmin.transformer.training import (
    EVALUATION_ROWS,
    Callback,
    Trainer,
    cross_entropy,
    default_learning_rate,
)

BatchOrder = Literal["random", "shuffled", "contiguous"]
BATCH_ORDERS: tuple[BatchOrder, ...] = get_args(BatchOrder)


@dataclass(frozen=True)
class CorpusRecord:
    """The arguments with which a corpus was opened, as a checkpoint holds them, and the CRC-32 of its rows.

    Attributes
    ----------
    name : str
        Name or path of the corpus, as `open_corpus` takes it.
    rows, positions, seed, vocabulary : int
        Arguments of `open_corpus`.
    tokenizer : {"characters", "words", "bytes", "bpe"} or None
        Name of the tokenizer; None if none was given.
    batches : {"random", "shuffled", "contiguous"}
        Order of the rows in training; see `Experiment.create`.
    crc32 : int
        CRC-32 of all rows, which shows whether the corpus has changed.

    Raises
    ------
    TypeError
        If the name is not a string.
    ValueError
        If the tokenizer or the order of the batches is unknown.
    """

    name: str
    rows: int
    positions: int
    seed: int
    tokenizer: TokenizerName | None
    vocabulary: int
    batches: BatchOrder
    crc32: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"corpus must be a name or a path; got {self.name!r}")
        if self.tokenizer is not None:
            _check.choice("tokenizer", self.tokenizer, TOKENIZERS)
        _check.choice("batches", self.batches, BATCH_ORDERS)


def corpus_of(saved: SavedModel, path: Name) -> tuple[CorpusRecord, Corpus]:
    """Open the corpus that the checkpoint at `path` was trained on; a fitted BPE is taken from the checkpoint.

    Raises ValueError if the checkpoint does not name its corpus, or if the corpus has changed since.
    """
    try:
        record = CorpusRecord(**saved.records["corpus"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"checkpoint must name its corpus; {path} was not made by hopmin train") from None
    corpus = open_corpus(
        record.name,
        rows=record.rows,
        positions=record.positions,
        seed=record.seed,
        tokenizer=saved.tokenizer if record.tokenizer == "bpe" else record.tokenizer,
        vocabulary=record.vocabulary,
    )
    if corpus.tokenizer != saved.tokenizer or _checksum(corpus) != record.crc32:
        raise ValueError(f"corpus must be the one that training began with; {record.name} has changed")
    return record, corpus


def _checksum(corpus: Corpus) -> int:
    """Return the CRC-32 of all rows, read in blocks because they may be mapped from a large file."""
    crc = 0
    for rows in (corpus.train, corpus.held_out):
        for start in range(0, len(rows), 10_000):
            crc = zlib.crc32(rows[start : start + 10_000].tobytes(), crc)
    return crc


class Log:
    """A file of JSON lines, one for each step.

    Opening it keeps the lines of the first `step` steps and removes those after them, which a resumed run writes again.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.jsonl")
    ...     for step in (0, 1):                                      # the second begins after step 1
    ...         with Log(path, step) as log:
    ...             log(step=step + 1, loss=2.5)
    ...             log(step=step + 2, loss=1.5)
    ...     path.read_text().splitlines()
    ['{"step": 1, "loss": 2.5}', '{"step": 2, "loss": 2.5}', '{"step": 3, "loss": 1.5}']
    """

    def __init__(self, path: Name, step: int) -> None:
        lines = Path(path).read_bytes().splitlines(keepends=True)[:step] if Path(path).exists() else []
        with atomic_write(path) as file:
            file.writelines(lines)
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __call__(self, **record: Any) -> None:
        self.file.write(f"{json.dumps(record)}\n")
        self.file.flush()


class Experiment:
    """A model in training, its corpus, and a folder of checkpoints.

    `create` prepares a new experiment, `resume` one to continue; `run` trains and writes three files into the folder:

    - `model.npz`, the checkpoint, every `checkpoint_every` steps, after the last step, and when training is interrupted
    - `best.npz`, the model with the lowest held-out cross-entropy so far
    - `log.jsonl`, one line for each step with the arguments of its `Callback`

    Parameters
    ----------
    out : str or path
        The folder, created if it is missing.
    trainer : Trainer
        The trainer, which holds the model.
    corpus : Corpus
        The corpus.
    record : CorpusRecord
        How the corpus was opened.
    checkpoint_every : int
        Steps between two checkpoints.

    Attributes
    ----------
    trainer, corpus
        As given.
    checkpoint, best_checkpoint : Path
        The paths of `model.npz` and `best.npz`.
    saved_steps : int
        Number of steps after which the checkpoint was taken; 0 if there is none yet.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sizes = {"layers": 1, "heads": 2, "width": 8, "positions": 8}
    ...     experiment = Experiment.create(folder, corpus="python-topics", steps=3, batch_size=4, **sizes)
    ...     loss = experiment.run()
    ...     again = Experiment.resume(folder)
    ...     again.saved_steps, again.run() == loss                     # no step is left
    (3, True)
    """

    def __init__(
        self, out: Name, trainer: Trainer, corpus: Corpus, record: CorpusRecord, *, checkpoint_every: int
    ) -> None:
        self.trainer, self.corpus = trainer, corpus
        self.checkpoint, self.best_checkpoint = Path(out, "model.npz"), Path(out, "best.npz")
        self.saved_steps = trainer.steps_taken
        self._record, self._checkpoint_every = record, checkpoint_every
        self._rows = _batches(corpus, record.batches, trainer.options.batch_size, trainer.options.seed)
        self._held_out = corpus.held_out[:EVALUATION_ROWS]
        writable_folder(out)  # last: wrong arguments leave no folder behind

    @classmethod
    def create(
        cls,
        out: Name,
        *,
        corpus: Name = "question-formation",
        rows: int = 20_000,
        positions: int = 64,
        tokenizer: TokenizerName | None = None,
        vocabulary: int = 1000,
        batches: BatchOrder = "random",
        preset: str | None = None,
        layers: int = 2,
        heads: int = 4,
        width: int = 64,
        dropout: float = 0.0,
        steps: int = 2000,
        learning_rate: float | None = None,
        batch_size: int = 32,
        micro_batches: int = 2,
        evaluate_every: int = 500,
        patience: int | None = None,
        checkpoint_every: int = 500,
        seed: int = 0,
    ) -> Experiment:
        """Prepare the training of a new model in the folder `out`.

        Parameters
        ----------
        out : str or path
            Folder of the checkpoints, created if it is missing.
        corpus : str or path
            "question-formation", "python-topics", the path of a file of tokens (.npz), or the path of a text file.
        rows : int
            Training rows of "question-formation".
        positions : int
            Targets per row of a text or of a file of tokens.
        tokenizer : {"characters", "words", "bytes", "bpe"}, optional
            Tokenizer of a text, "characters" by default.
        vocabulary : int
            Number of symbols of a "bpe" tokenizer.
        batches : {"random", "shuffled", "contiguous"}
            "random": rows drawn with replacement. "shuffled": each row once per epoch. "contiguous": each row of a
            batch continues the same row of the batch before, for corpora whose rows follow on one another.
        preset : str, optional
            Name of a GPTConfig preset whose architecture and sizes replace `layers`, `heads` and `width`.
        layers, heads, width : int
            Sizes of the model. Its initial weights have the standard deviation 1 / sqrt(width).
        dropout : float
            Dropout rate, in [0, 1).
        steps : int
            Number of training steps.
        learning_rate : float, optional
            Peak learning rate, `default_learning_rate(width)` by default.
        batch_size, micro_batches : int
            Rows per batch, and the parts of a batch, each of which takes a thread.
        evaluate_every : int
            Steps between evaluations on the first EVALUATION_ROWS held-out rows.
        patience : int, optional
            Evaluations in a row without improvement after which training ends; by default no limit.
        checkpoint_every : int
            Steps between two checkpoints.
        seed : int
            Seed of the corpus, of the initial weights, and of batches and dropout.

        Returns
        -------
        Experiment
            The experiment, before its first step.

        Raises
        ------
        ValueError, TypeError
            If `out` already holds a model or cannot be written to, or if an option is wrong. Nothing is written.
        """
        checkpoint_every = _check.integer("checkpoint_every", checkpoint_every)
        if (checkpoint := Path(out, "model.npz")).exists():
            raise ValueError(f"out must hold no model yet, unless training is resumed; {checkpoint} exists")
        seed, name = _check.integer("seed", seed, 0), os.fspath(corpus)
        opened = open_corpus(
            name, rows=rows, positions=positions, seed=seed, tokenizer=tokenizer, vocabulary=vocabulary
        )
        record = CorpusRecord(
            name, index(rows), index(positions), seed, tokenizer, index(vocabulary), batches, _checksum(opened)
        )
        width = _check.integer("width", width)
        architecture: dict[str, Any] = {"layers": layers, "heads": heads, "width": width, "init_std": None}
        if preset is not None:
            architecture = PRESETS[_check.choice("preset", preset, PRESETS)]
        V, T = len(opened.tokenizer.symbols), opened.train.shape[1] - 1
        config = GPTConfig(**{**architecture, "vocabulary": V, "positions": T, "dropout": dropout})
        trainer = Trainer(
            GPT(config, seed),
            steps=steps,
            learning_rate=default_learning_rate(config.width) if learning_rate is None else learning_rate,
            batch_size=batch_size,
            micro_batches=micro_batches,
            evaluate_every=evaluate_every,
            patience=patience,
            seed=seed,
        )
        return cls(out, trainer, opened, record, checkpoint_every=checkpoint_every)

    @classmethod
    def resume(cls, out: Name, *, checkpoint_every: int = 500) -> Experiment:
        """Prepare to continue the experiment in the folder `out` from its checkpoint.

        All options but `checkpoint_every` are those it was created with. Raises ValueError if there is no checkpoint,
        if it was not written by an experiment, or if its corpus has changed.
        """
        checkpoint_every = _check.integer("checkpoint_every", checkpoint_every)
        path = Path(out, "model.npz")
        saved = load_model(path)
        trainer = Trainer.from_saved(saved, path)
        record, corpus = corpus_of(saved, path)
        return cls(out, trainer, corpus, record, checkpoint_every=checkpoint_every)

    def run(self, callback: Callback = lambda **_: None) -> float:
        """Train until no step is left or patience runs out; return the held-out cross-entropy in nats per token.

        An experiment that was stopped and resumed ends with the same parameters and the same log, bit for bit, as one
        that was not.

        Parameters
        ----------
        callback : callable
            Called after each step and its checkpoint with the keyword arguments of `Callback`.

        Returns
        -------
        float
            The cross-entropy of the model on the first EVALUATION_ROWS held-out rows.

        Raises
        ------
        KeyboardInterrupt
            On SIGINT or SIGTERM, after the step that was under way and its checkpoint. (Signals are handled only on
            the main thread.)
        FloatingPointError
            If the training diverges; see `Trainer.run`. The last checkpoint stays as it is.
        """
        trainer = self.trainer
        with Log(self.checkpoint.with_name("log.jsonl"), trainer.steps_taken) as log, _interrupts() as interrupted:

            def after_step(*, step: int, loss: float, tokens: int, **more: Any) -> None:
                improved = more.get("improved", False)
                log(**{"step": step, "loss": loss, "tokens": tokens, "improved": improved, **more})
                if improved:
                    self._save(self.best_checkpoint)
                if step % self._checkpoint_every == 0 or interrupted.is_set() or trainer.done:
                    self._save(self.checkpoint)
                    self.saved_steps = step
                callback(step=step, loss=loss, tokens=tokens, **more)
                if interrupted.is_set():
                    raise KeyboardInterrupt

            trainer.run(self._rows, held_out=self._held_out, callback=after_step)
        return cross_entropy(trainer.model, self._held_out)

    def _save(self, path: Path) -> None:
        self.trainer.save(path, self.corpus.tokenizer, corpus=asdict(self._record))


def _batches(corpus: Corpus, order: BatchOrder, batch_size: int, seed: int) -> Array | Callable[[int], Array]:
    """Return the rows to draw from, or a function that returns the rows of a step."""
    if order == "random":
        return corpus.train
    if order == "shuffled":
        return shuffled_batches(corpus.train, batch_size, seed)
    if not corpus.contiguous:
        raise ValueError(f"batches must not be 'contiguous' for a corpus of shuffled rows; got {corpus.name}")
    return contiguous_batches(corpus.train, batch_size)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set an event on SIGINT and SIGTERM instead of interrupting a step: half a step cannot be resumed."""
    interrupted = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in numbers}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def generate_text(
    checkpoint: Name,
    prompt: str,
    *,
    max_new_tokens: int = 100,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """Continue a prompt with the model saved at `checkpoint`, and return the prompt and its continuation.

    A model of Question Formation continues a row: `<end>` is put before the prompt, generation stops at the next
    `<end>`, and neither is part of the text returned.

    Parameters
    ----------
    checkpoint : str or path
        A file with a model and its tokenizer: what an experiment writes, or `GPT.save` with a tokenizer.
    prompt : str
        Text of the tokenizer's symbols.
    max_new_tokens : int
        Largest number of tokens to add.
    temperature : float
        Temperature of the softmax from which tokens are sampled; at 0 the most likely token is taken.
    top_k : int, optional
        Sample only among the k most likely tokens.
    top_p : float, optional
        Sample only among the fewest tokens whose probabilities sum to `top_p`.
    seed : int
        Seed of the samples.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        If the file holds no model or no tokenizer, if the prompt is empty or has an unknown symbol, or if an option is
        out of range.
    """
    saved = load_model(checkpoint)
    if (tokenizer := saved.tokenizer) is None:
        raise ValueError(f"model must come with a tokenizer to generate text; {checkpoint} has none")
    framed = END in tokenizer.symbols
    stop = tokenizer.symbols.index(END) if framed else None
    tokens = saved.model.generate(
        tokenizer.encode(f"{END} {prompt}" if framed else prompt),
        max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop_token=stop,
        rng=np.random.default_rng(_check.integer("seed", seed, 0)),
    )
    return tokenizer.decode(token for token in np.asarray(tokens) if token != stop)
