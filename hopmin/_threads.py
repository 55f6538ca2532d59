"""A pool of threads, shared by all of hopmin: [`set_threads`], [`get_threads`], [`run`].

The compiled core releases the GIL, so a large job is split into tasks that several threads take from a shared list. The
calling thread is one of them: it never waits for a worker to become free, only for tasks that have started. How a job
is split may depend on the number of threads; its result does not (see `memory/reduction.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hopmin import _check

Result = TypeVar("Result")

_lock = threading.Lock()
_pool: Any = None  # a ThreadPoolExecutor, created when first needed
_count = 0  # 0: not yet determined


def get_threads() -> int:
    """Return the number of threads for large jobs.

    Unless set by `set_threads`, it is the environment variable HOPMIN_THREADS, or the number of processors that this
    process may use. Raises ValueError if the variable is not an integer >= 1.

    >>> get_threads() >= 1
    True
    """
    global _count
    if not _count:
        wanted = os.environ.get("HOPMIN_THREADS", "")
        if wanted and not (wanted.isascii() and wanted.isdigit() and int(wanted) > 0):
            raise ValueError(f"HOPMIN_THREADS must be an integer >= 1; got {wanted!r}")
        _count = int(wanted) if wanted else _processors()
    return _count


def set_threads(threads: int) -> None:
    """Set the number of threads for large jobs, including the calling thread.

    With 1, all work is done on the calling thread. Results are bit for bit the same for any number. Raises ValueError
    if it is below 1, TypeError if it is not an integer.

    >>> before = get_threads()
    >>> set_threads(2); get_threads()
    2
    >>> set_threads(before)
    """
    global _count, _pool
    threads = _check.integer("threads", threads)
    with _lock:
        _count = threads
        pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=False)


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return the results of the tasks, in order, after running them on the calling thread and on those of the pool.

    If a task raises an exception, the tasks that have not started are dropped, and the exception is raised here.
    """
    results: list[Any] = [None] * len(tasks)
    todo = iter(range(len(tasks)))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                i = next(todo, None)
            if i is None:
                return
            results[i] = tasks[i]()

    helpers = _helpers(work, min(get_threads(), len(tasks)) - 1)
    try:
        work()
    finally:
        for _ in todo:  # after an error, drop the tasks that have not started
            pass
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    return results


def _helpers(work: Callable[[], None], count: int) -> list[Any]:
    """Start `work` on `count` threads of the pool, or on fewer if no thread can be started, as at interpreter exit."""
    global _pool
    if count < 1:
        return []
    helpers: list[Any] = []
    with _lock:
        try:
            if _pool is None:
                from concurrent.futures import ThreadPoolExecutor  # takes half as long as importing hopmin

                _pool = ThreadPoolExecutor(max(1, get_threads() - 1), thread_name_prefix="hopmin")
            for _ in range(count):
                helpers.append(_pool.submit(work))
        except (RuntimeError, ImportError):
            pass
    return helpers


def _processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on this system
        return os.cpu_count() or 1


def _forget() -> None:
    """Reset the pool in a forked child: it inherits no threads, and perhaps a lock that one of them held."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
