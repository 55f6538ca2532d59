"""Run the cells of a study in processes, and keep a journal of them: [`study`]."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hopmin.study import models
from hopmin.study.journal import Entry, Journal
from hopmin.study.plan import Job, Record, Settings, experiments, plan
from hopmin.study.results import results, settings_record, write_results

Progress = Callable[[Job, float, str], None]


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
    recorded with its error, and the others go on.

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
    jobs = plan(settings, names)
    record = settings_record(settings)
    journal = Journal(folder, record)
    try:
        todo = sorted((job for job in jobs if not journal.done(job)), key=_size, reverse=True)
        for job, outcome, error, seconds in _run_all(todo, folder / "models", workers, progress):
            finished(job, journal.add(job, outcome, error, seconds))
    finally:
        journal.close()
        found = results(record, journal.entries, [job.experiment for job in jobs])
        write_results(folder, found)
    return found


def _size(job: Job) -> float:
    """Return a measure of how long a cell takes: the longest start first, so that no process is left with one."""
    cost = experiments()[job.experiment].cost(job.cell)
    return cost.parameters * cost.tokens + 1e10 * cost.seconds


def run(job: Job, folder: Path, progress: Progress) -> tuple[Record | None, str | None, float]:
    """Run one cell in this process; return its record or its error, and the seconds that it took."""
    models.keep_in(folder)
    began = time.perf_counter()
    try:
        record = experiments()[job.experiment].run(job.cell, lambda fraction, doing: progress(job, fraction, doing))
        return record, None, time.perf_counter() - began
    except Exception as error:
        return None, f"{type(error).__name__}: {error}", time.perf_counter() - began


def _run_all(
    jobs: Sequence[Job], folder: Path, workers: int | None, progress: Progress
) -> Iterator[tuple[Job, Record | None, str | None, float]]:
    for job in jobs:
        yield job, *run(job, folder, progress)
