"""Threads for large jobs: [`set_threads`], [`get_threads`], [`run`], [`run_steps`].

The compiled core releases the GIL, so a large job is split into tasks that several threads take from a shared list. The
calling thread is one of them; the others, its helpers, are started for the job, and are waited for only if they have
taken a task. How a job is split may depend on the number of threads; its result does not (see `memory/reduction.py`).

A long task is an iterator of steps. An interrupt, or an error on any thread, ends a job after the steps that are being
computed. Jobs share no lock, and a helper is started in a single call of the interpreter, which no signal divides: a
signal handler may set the number of threads and run jobs of its own. (An executor's locks would not allow that, and an
interrupt while it starts a thread keeps the interpreter from exiting.)
"""

from __future__ import annotations

import os
import threading
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from hopmin import _check

Result = TypeVar("Result")

MOST = 1024  # threads
POLL = 0.05  # seconds between reports of progress while the calling thread waits for others

_count = 0  # 0: not yet determined


def get_threads() -> int:
    """Return the number of threads for large jobs.

    Unless set by `set_threads`, it is the environment variable HOPMIN_THREADS, or the number of processors that this
    process may use. Raises ValueError if the variable is not an integer from 1 to 1024.

    >>> get_threads() >= 1
    True
    """
    global _count
    if not _count:
        wanted = os.environ.get("HOPMIN_THREADS", "")
        if wanted and not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= MOST):
            raise ValueError(f"HOPMIN_THREADS must be an integer from 1 to {MOST}; got {wanted!r}")
        _count = int(wanted) if wanted else min(_processors(), MOST)
    return _count


def set_threads(threads: int) -> None:
    """Set the number of threads for large jobs, including the calling thread.

    With 1, all work is done on the calling thread. Results are bit for bit the same for any number. Jobs that are
    running keep their threads, so this may be called at any time, also from a signal handler. Raises ValueError if the
    number is not from 1 to 1024, TypeError if it is not an integer.

    >>> before = get_threads()
    >>> set_threads(2); get_threads()
    2
    >>> set_threads(before)
    """
    global _count
    _count = _check.integer("threads", threads, 1, MOST)


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return the results of the tasks, in order, after running them on the calling thread and its helpers.

    If a task raises an exception, the tasks that have not started are dropped, and the exception is raised here.
    """
    results: list[Any] = [None] * len(tasks)

    def step(i: int) -> Iterator[int]:
        results[i] = tasks[i]()
        yield 0

    run_steps([step(i) for i in range(len(tasks))])
    return results


def run_steps(tasks: Sequence[Iterator[int]], progress: Callable[[int], object] | None = None) -> None:
    """Run tasks in steps, on the calling thread and its helpers.

    A task does its work while it is iterated over, and yields the amount of work of each step. If a step or `progress`
    raises an exception, or the calling thread is interrupted, the steps that have not started are dropped, and the
    exception is raised when the others have ended.

    Parameters
    ----------
    tasks : sequence of iterators of int
        The tasks, which may run in any order.
    progress : callable, optional
        Called on the calling thread, from time to time and at the end, with the amount of work done so far.
    """
    done = 0
    if len(tasks) == 1:  # the calling thread needs no help
        for amount in tasks[0]:
            done += amount
            if progress is not None:
                progress(done)
        return
    todo, amounts, stop = deque(tasks), deque[int](), threading.Event()

    def report() -> None:
        nonlocal done
        if progress is not None and amounts:
            while amounts:
                done += amounts.popleft()
            progress(done)

    def work(calling: bool = False) -> None:
        try:
            while task := _next(todo):
                for amount in task:
                    amounts.append(amount)
                    if calling:
                        report()
                    if stop.is_set():
                        return
        except BaseException:
            stop.set()
            todo.clear()
            raise

    started: list[threading.Event] = []
    errors: list[BaseException] = []

    def help() -> None:
        ended = threading.Event()
        started.append(ended)
        try:
            if not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    try:
        with suppress(RuntimeError):  # no more threads can be started, as at interpreter exit
            for _ in range(min(get_threads(), len(tasks)) - 1):
                start_new_thread(help, ())
        work(calling=True)
        for ended in tuple(started):  # those that start later find no task
            while not ended.wait(POLL):
                report()
        report()
    finally:
        stop.set()
        todo.clear()
        for ended in tuple(started):
            ended.wait()
    if errors:
        raise errors[0]


def _next(todo: deque[Iterator[int]]) -> Iterator[int] | None:
    """Take the next task, if there is one; safe on any number of threads."""
    try:
        return todo.popleft()
    except IndexError:
        return None


def _processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on this system
        return os.cpu_count() or 1
