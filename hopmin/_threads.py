"""A pool of threads, shared by all of hopmin: [`set_threads`], [`get_threads`], [`run`], [`run_steps`].

The compiled core releases the GIL, so a large job is split into tasks that several threads take from a shared list. The
calling thread is one of them: it never waits for a worker to become free, only for tasks that have started. How a job
is split may depend on the number of threads; its result does not (see `memory/reduction.py`).

A long task is an iterator of steps. An interrupt, or an error on any thread, ends a job after the steps that are being
computed. There are no locks, so a signal handler may call `set_threads`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from hopmin import _check

Result = TypeVar("Result")

MOST = 1024  # threads
POLL = 0.05  # seconds between reports of progress while the calling thread waits for others

_pool: Any = None  # a ThreadPoolExecutor, created when first needed; its threads end when it is dropped
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
    global _count, _pool
    _count = _check.integer("threads", threads, 1, MOST)
    _pool = None


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return the results of the tasks, in order, after running them on the calling thread and on those of the pool.

    If a task raises an exception, the tasks that have not started are dropped, and the exception is raised here.
    """
    results: list[Any] = [None] * len(tasks)

    def step(i: int) -> Iterator[int]:
        results[i] = tasks[i]()
        yield 0

    run_steps([step(i) for i in range(len(tasks))])
    return results


def run_steps(tasks: Sequence[Iterator[int]], progress: Callable[[int], object] | None = None) -> None:
    """Run tasks in steps, on the calling thread and on those of the pool.

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
    todo, amounts, stop = deque(tasks), deque[int](), threading.Event()
    done = 0

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

    def help() -> None:
        ended = threading.Event()
        started.append(ended)
        try:
            if not stop.is_set():
                work()
        finally:
            ended.set()

    helpers: list[Any] = []
    try:
        helpers += _helpers(help, min(get_threads(), len(tasks)) - 1)
        work(calling=True)
        while _running(helpers, POLL):
            report()
        report()
    finally:
        stop.set()
        todo.clear()
        for ended in tuple(started):  # not `helpers`: an interrupt may have come between a start and its record there
            ended.wait()
    for helper in helpers:
        if not helper.cancelled():
            helper.result()


def _next(todo: deque[Iterator[int]]) -> Iterator[int] | None:
    """Take the next task, if there is one; safe on any number of threads."""
    try:
        return todo.popleft()
    except IndexError:
        return None


def _helpers(work: Callable[[], None], count: int) -> list[Any]:
    """Start `work` on `count` threads of the pool, or on fewer if no thread can be started, as at interpreter exit."""
    global _pool
    helpers: list[Any] = []
    if count < 1:
        return helpers
    try:
        if (pool := _pool) is None:
            from concurrent.futures import ThreadPoolExecutor  # takes half as long as importing hopmin

            threads = get_threads()
            pool = _pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="hopmin")
            if get_threads() != threads:  # set_threads was called meanwhile
                _pool = None
        for _ in range(count):
            helpers.append(pool.submit(work))
    except (RuntimeError, ImportError):
        pass
    return helpers


def _running(helpers: list[Any], seconds: float) -> bool:
    """Return whether helpers are still running after this time; those that have not started are cancelled."""
    running = [helper for helper in helpers if not helper.cancel() and not helper.done()]
    if not running:
        return False
    from concurrent.futures import wait

    return bool(wait(running, seconds).not_done)


def _processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on this system
        return os.cpu_count() or 1


def _forget() -> None:
    """Drop the pool in a forked child, which inherits no threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
