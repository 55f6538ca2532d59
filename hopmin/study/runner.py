"""Run the cells of a study in processes, and keep a journal of them: [`study`]."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hopmin import _signals
from hopmin.study import models
from hopmin.study.journal import Entry, Journal
from hopmin.study.plan import Job, Record, Settings, experiments, plan
from hopmin.study.processes import run_tasks
from hopmin.study.results import results, settings_record, write_results

Progress = Callable[[Job, float, str], None]


class Outcome(NamedTuple):
    """A job that has ended: its record, or the error that ended it, and the seconds that it took."""

    job: Job
    record: Record | None
    error: str | None
    seconds: float


def study(
    settings: Settings,
    folder: Path,
    names: Sequence[str] = (),
    *,
    workers: int | None = None,
    progress: Progress = lambda job, fraction, doing: None,
    finished: Callable[[Job, Entry], None] = lambda job, entry: None,
) -> Record:
    """Run all cells that the folder has no record of; write and return its results.

    Every finished cell is appended to the folder's journal at once, so that a study that was stopped continues with
    what is missing. The results are the same for any number of workers and of interruptions. A cell that fails is
    recorded with its error, and the others go on; it is run again the next time.

    Parameters
    ----------
    settings : Settings
    folder : Path
        A new folder, or that of the same study.
    names : sequence of str
        Names of experiments; by default all that can run on the corpus.
    workers : int, optional
        Number of processes; by default the number of processors, at most 8.
    progress : callable
        Called about three times a second per process with the job, the fraction done, and a short text.
    finished : callable
        Called after each cell with the job and its entry in the journal.

    Returns
    -------
    dict
        The contents of `results.json`.

    Raises
    ------
    ValueError
        If an experiment is unknown or does not run on the corpus, or the folder holds another study.
    """
    with _signals.deferred():  # Python drops what a signal raises in the callbacks of an import
        jobs, record = plan(settings, names), settings_record(settings)
        journal = Journal(folder, record)

    def keep(outcome: Outcome) -> None:
        finished(outcome.job, journal.add(*outcome))

    try:
        todo = _in_order([job for job in jobs if not journal.done(job)])
        run_tasks(
            _work,
            [(job, folder / "models") for job in todo],
            workers=workers,
            received=lambda message: progress(*message),
            finished=keep,
            lost=lambda task, sentence: Outcome(task[0], None, sentence, 0.0),
        )
    finally:
        journal.close()
        found = results(record, journal.entries, [job.experiment for job in jobs])
        write_results(folder, found)
    return found


def missing(jobs: Sequence[Job], folder: Path, settings: Settings) -> list[Job]:
    """Return the jobs that a folder has no record of.

    Parameters
    ----------
    jobs : sequence of Job
    folder : Path
        A new folder, or that of the same study.
    settings : Settings
        The settings of the study.

    Returns
    -------
    list of Job

    Raises
    ------
    ValueError
        If the folder holds another study.
    """
    journal = Journal(folder, settings_record(settings))
    journal.close()
    return [job for job in jobs if not journal.done(job)]


def check_corpus(settings: Settings) -> None:
    """Raise ValueError if the corpus cannot be read or is too short."""
    if not settings.grammar:
        models.Training(1, 1, 1, rows=1, steps=1, corpus=settings.corpus, corpus_seed=settings.seed).language  # noqa: B018


def default_workers() -> int:
    """Return the number of processors, at most 8."""
    return min(os.cpu_count() or 1, 8)


def run(job: Job, folder: Path | None, progress: Progress) -> Outcome:
    """Run one cell in this process.

    Parameters
    ----------
    job : Job
    folder : Path or None
        Folder in which to keep the models that it trains, and to look for them.
    progress : callable
        Called with the job, the fraction done, and a short text.

    Returns
    -------
    Outcome
    """
    models.keep_in(folder)
    began = time.perf_counter()
    try:
        record, error = (
            experiments()[job.experiment].run(job.cell, lambda share, doing: progress(job, share, doing)),
            None,
        )
    except Exception as problem:
        record, error = None, f"{type(problem).__name__}: {problem}"
    return Outcome(job, record, error, time.perf_counter() - began)


def _work(task: tuple[Job, Path], send: Callable[[Any], None]) -> Outcome:
    """Run one cell in a worker; report at most three times a second."""
    last = 0.0

    def progress(job: Job, share: float, doing: str) -> None:
        nonlocal last
        if time.monotonic() - last > 0.3:
            last = time.monotonic()
            send((job, share, doing))

    return run(*task, progress)


def _in_order(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs in the order in which they start.

    The longest start first, so that no process is left with one. Of the cells that share a model one comes before the
    others, which then find it trained.
    """
    longest = sorted(jobs, key=_size, reverse=True)
    models = {json.dumps(job.cell.get("training", job.cell), sort_keys=True): job for job in reversed(longest)}
    first = {job.key for job in models.values()}
    return sorted(longest, key=lambda job: job.key not in first)


def _size(job: Job) -> float:
    """Return a measure of how long a cell takes."""
    cost = experiments()[job.experiment].cost(job.cell)
    return cost.parameters * cost.tokens + 1e10 * cost.seconds
