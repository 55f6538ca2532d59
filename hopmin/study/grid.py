"""Models times amounts of data: [`Preset`], [`study`], which trains them all and returns a record of what came out.

Each run is a process of its own with one BLAS thread: small models keep no more than one core busy. A run depends on
its seed alone, not on its neighbours.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.managers import SyncManager
from typing import Any

import numpy as np

import hopmin
from hopmin import _check
from hopmin._typing import Array
from hopmin.data.corpus import Corpus
from hopmin.study.measure import activation_distances, cross_entropy, extraction_rate, head_agreement, predicted_radius
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import EVALUATION_ROWS, Trainer, default_learning_rate

Record = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """The sizes of a study: (layers, heads, width) of each model, no two equally wide; the least and the most rows to
    train on, and how many amounts from one to the other; and the training."""

    models: tuple[tuple[int, int, int], ...] = ((2, 2, 16), (2, 4, 32), (2, 4, 64))
    rows: tuple[int, int] = (100, 12_500)
    amounts: int = 4
    steps: int = 1000
    batch_size: int = 16
    measured: int = 300  # rows that each measurement looks at
    text_positions: int = 32  # characters in a row of a plain text

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
    """One run: a model's size, the rows it is trained on, and those it is judged by."""

    number: int
    config: GPTConfig
    train: Array
    held_out: Array
    common: Array  # rows that every run was trained on, so that what is measured on them can be compared
    preset: Preset
    seed: int


def tasks(corpus: Corpus, preset: Preset, seed: int) -> list[Task]:
    """Every model on every amount of data, on nested sets of rows; the largest first, so that no long run comes
    last.
    """
    most = min(preset.rows[1], len(corpus.train))
    least = min(preset.rows[0], max(1, len(corpus.train) // 8))
    amounts = np.unique(np.geomspace(least, most, preset.amounts).round().astype(int)).tolist()
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

    `progress(steps, name, loss, tokens per second)` is called now and then with the steps taken since the last call;
    `finished(record, run)` after each run, with the record so far, which is returned, `complete`, in the end.
    """
    workers = min(os.cpu_count() or 1, 8) if workers is None else _check.integer("workers", workers)
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
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    manager.start(_ignore_interrupt)
    with manager:
        news, stop = manager.Queue(), manager.Event()
        reader = threading.Thread(target=_read, args=(news, progress), daemon=True)
        reader.start()
        with _one_blas_thread(), ProcessPoolExecutor(min(workers, len(todo)), context, _ignore_interrupt) as pool:
            try:
                futures = [pool.submit(run, task, news, stop) for task in todo]
                for future in as_completed(futures):
                    done = future.result()
                    record["runs"] = sorted([*record["runs"], done], key=lambda run: run["number"])
                    record["complete"] = len(record["runs"]) == len(todo)
                    finished(record, done)
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                news.put(None)
        reader.join()
    return record


def run(task: Task, news: Any, stop: Any) -> Record:
    """Train and measure one model; stops early, with an exception, once `stop` is set."""
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
    since = {"time": time.perf_counter(), "steps": 0, "tokens": 0}

    def callback(step: int, loss: float, tokens: int, **_: Any) -> None:
        curve.append(loss)
        since["steps"] += 1
        since["tokens"] += tokens
        elapsed = time.perf_counter() - since["time"]
        if elapsed > 0.3 or step == preset.steps:
            if stop.is_set():
                raise KeyboardInterrupt
            news.put((since["steps"], name, loss, since["tokens"] / elapsed))
            since.update(time=time.perf_counter(), steps=0, tokens=0)

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


def _measure(model: GPT, rows: Array) -> Record:
    agreement, chance = head_agreement(model, rows[:100])
    distances = np.sort(activation_distances(model, rows)).astype(float).round(4).tolist() if len(rows) > 1 else []
    return {"distances": distances, "head_agreement": agreement.round(4).tolist(), "head_chance": round(chance, 4)}


def _read(news: Any, progress: Callable[[int, str, float, float], None]) -> None:
    with suppress(EOFError, ConnectionError):  # the sender has gone
        while (message := news.get()) is not None:
            progress(*message)


def _ignore_interrupt() -> None:
    """In a helper process: the one that started it hears the interrupt, and says when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Processes started inside inherit the limit; this one's BLAS has read its own already."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "HOPMIN_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
