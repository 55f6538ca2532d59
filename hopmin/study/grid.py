"""A grid of models and amounts of data: [`Preset`] sets its sizes; [`study`] trains and measures every combination.

The runs are spread over processes (`processes.py`). A run depends only on its task and seed, not on the other runs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import hopmin
from hopmin._typing import Integers
from hopmin.data.corpus import Corpus
from hopmin.study.measure import activation_distances, cross_entropy, extraction_rate, head_agreement, predicted_radius
from hopmin.study.processes import run_tasks
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import EVALUATION_ROWS, Trainer, default_learning_rate

Record = dict[str, Any]
Progress = tuple[int, str, float, float]  # steps since the last report, name of the run, loss, tokens per second


@dataclass(frozen=True)
class Preset:
    """The sizes of a study: models, amounts of data, and training.

    Parameters
    ----------
    models : tuple of (int, int, int)
        Layers, heads and width of each model. Widths must differ: figures and results identify a model by its width.
    rows : (int, int)
        The smallest and the largest number of training rows.
    amounts : int
        Number of amounts of training rows, evenly spaced on a log scale.
    steps, batch_size : int
        Training steps of each model, and rows per step.
    measured : int
        Rows of each split on which to measure extraction.
    text_positions : int
        Characters per row of a plain text.

    Raises
    ------
    ValueError
        If two models have the same width.
    """

    models: tuple[tuple[int, int, int], ...] = ((2, 2, 16), (2, 4, 32), (2, 4, 64))
    rows: tuple[int, int] = (100, 12_500)
    amounts: int = 4
    steps: int = 1000
    batch_size: int = 16
    measured: int = 300
    text_positions: int = 32

    def __post_init__(self) -> None:
        widths = [width for _, _, width in self.models]
        if len(set(widths)) != len(widths):
            raise ValueError(f"models must differ in width; got {widths}")


PRESETS = {
    "quick": Preset(),
    "smoke": Preset(models=((1, 1, 4), (1, 2, 8), (2, 2, 16)), rows=(10, 40), amounts=3, steps=5, measured=20),
}


@dataclass(frozen=True)
class Task:
    """One run of a study: a model's size, its training rows, and the rows it is measured on.

    Attributes
    ----------
    number : int
        Position of the run in the study, from 0.
    config : GPTConfig
        Sizes of the model.
    train, held_out : ndarray, shape (n, T + 1)
        Rows to train on, and rows to hold out.
    common : ndarray, shape (n, T + 1)
        Training rows of every run of the study, so that measurements on them are comparable.
    preset : Preset
        Sizes of the study.
    seed : int
        Seed of the initial parameters, together with the width, and of the batches.
    """

    number: int
    config: GPTConfig
    train: Integers
    held_out: Integers
    common: Integers
    preset: Preset
    seed: int


def tasks(corpus: Corpus, preset: Preset, seed: int) -> list[Task]:
    """Return a task for every model and every amount of data.

    The sets of training rows are nested. The largest models come first, so that no long run starts last.

    Parameters
    ----------
    corpus : Corpus
        Its first training rows are used; if it has fewer than the preset's largest number, all of them are.
    preset : Preset
    seed : int

    Returns
    -------
    list of Task
        In the order in which a study starts them.
    """
    largest = min(preset.rows[1], len(corpus.train))
    smallest = min(preset.rows[0], max(1, len(corpus.train) // 8))
    amounts = np.unique(np.geomspace(smallest, largest, preset.amounts).round().astype(int)).tolist()
    positions, V = corpus.train.shape[1] - 1, len(corpus.tokenizer.symbols)
    sizes = sorted(preset.models, key=lambda size: -size[2])
    return [
        Task(
            number, GPTConfig(V, positions, L, H, D, init_std=None),
            corpus.train[:rows], corpus.held_out, corpus.train[: amounts[0]], preset, seed,
        )
        for number, ((L, H, D), rows) in enumerate(itertools.product(sizes, amounts))
    ]  # fmt: skip


def study(
    corpus: Corpus,
    preset: Preset,
    seed: int,
    *,
    progress: Callable[[int, str, float, float], None] = lambda steps, name, loss, speed: None,
    finished: Callable[[Record, Record], None] = lambda record, run: None,
    workers: int | None = None,
) -> Record:
    """Train every model of the preset on every amount of data, and measure each.

    Parameters
    ----------
    corpus : Corpus
    preset : Preset
    seed : int
        Seed of the initial parameters, together with the width, and of the batches.
    progress : callable, optional
        Called about three times a second per run as `progress(steps, name, loss, tokens_per_second)`, with the number
        of steps since the run's last call.
    finished : callable, optional
        Called after each run as `finished(record, run)`, with the record so far.
    workers : int, optional
        Number of processes; by default the number of processors, at most 8.

    Returns
    -------
    dict
        The record of the study, which can be written as JSON: version, seed, corpus, preset, and the results of all
        runs. `complete` is True once all runs are in it.

    Raises
    ------
    ValueError
        If workers is not a positive integer, or an option of the preset is out of range.
    BrokenProcessPool
        If a process ends before its run; see `run_tasks`.
    """
    todo = tasks(corpus, preset, seed)
    record: Record = {
        "hopmin": hopmin.__version__,
        "seed": seed,
        "complete": False,
        "corpus": {
            "name": corpus.name,
            "vocabulary": len(corpus.tokenizer.symbols),
            "positions": corpus.train.shape[1] - 1,
            "entropy": corpus.entropy,
            "held_out_floor": corpus.floors.get("test"),
            "held_out_rows": len(corpus.held_out),
        },
        "preset": asdict(preset),
        "runs": [],
    }

    def add(run: Record) -> None:
        record["runs"] = sorted([*record["runs"], run], key=lambda run: run["number"])
        record["complete"] = len(record["runs"]) == len(todo)
        finished(record, run)

    run_tasks(run, todo, workers=workers, received=lambda report: progress(*report), finished=add)
    return record


def run(task: Task, send: Callable[[Progress], None]) -> Record:
    """Train and measure one model.

    Parameters
    ----------
    task : Task
    send : callable
        Called with progress reports while the model trains.

    Returns
    -------
    dict
        Sizes, loss curve and measurements of the run: one entry of the record's `runs`.
    """
    preset, config = task.preset, task.config
    name = f"width {config.width}, {len(task.train)} rows"
    model = GPT(config, np.random.default_rng([task.seed, config.width]))
    train, held_out = task.train[: preset.measured], task.held_out[: preset.measured]
    untrained = _measure(model, task.common)
    trainer = Trainer(
        model,
        steps=preset.steps,
        batch_size=preset.batch_size,
        micro_batches=1,
        seed=task.seed,
        learning_rate=default_learning_rate(config.width),
    )
    curve: list[float] = []
    steps, seen, since = 0, 0, time.perf_counter()

    def callback(step: int, loss: float, tokens: int, **_: Any) -> None:
        nonlocal steps, seen, since
        curve.append(loss)
        steps, seen = steps + 1, seen + tokens
        elapsed = time.perf_counter() - since
        if elapsed > 0.3 or step == preset.steps:
            send((steps, name, loss, seen / elapsed))
            steps, seen, since = 0, 0, time.perf_counter()

    began = time.perf_counter()
    trainer.run(task.train, callback=callback)
    seconds = time.perf_counter() - began
    return {
        "number": task.number,
        "layers": config.layers,
        "heads": config.heads,
        "width": config.width,
        "parameters": config.parameter_count,
        "rows": len(task.train),
        "tokens": int((task.train[:, 1:] >= 0).sum()),
        "seconds": round(seconds, 2),
        "curve": [round(float(np.mean(part)), 4) for part in np.array_split(curve, min(50, len(curve)))],
        "cross_entropy": {
            "train": cross_entropy(model, task.train[:EVALUATION_ROWS]),
            "held_out": cross_entropy(model, task.held_out),
        },
        "extraction_rate": {"train": extraction_rate(model, train), "held_out": extraction_rate(model, held_out)},
        "measured": {"train": len(train), "held_out": len(held_out)},
        "predicted_radius": predicted_radius(config.width),
        "untrained": untrained,
        **_measure(model, task.common),
    }


def _measure(model: GPT, rows: Integers) -> Record:
    """Return the measurements made both before and after training, rounded for the record."""
    agreement, chance = head_agreement(model, rows[:100])
    distances = np.sort(activation_distances(model, rows)).astype(float).round(4).tolist() if len(rows) > 1 else []
    return {"distances": distances, "head_agreement": agreement.round(4).tolist(), "head_chance": round(chance, 4)}
