"""A small pool of threads, shared by all of hopmin: [`set_threads`], [`get_threads`], [`run`].

The core lets go of the interpreter while it works, so large jobs are cut into tasks that several threads take from one
list. The caller is one of these threads: it never waits for a worker to become free, only for those that have begun.
How a job is cut may depend on the number of threads; what is computed does not (see `memory/reduction.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hopmin import _check

Result = TypeVar("Result")

_lock = threading.Lock()
_pool: Any = None  # a ThreadPoolExecutor, made when first needed
_count = 0  # 0: not yet asked for


def get_threads() -> int:
    """How many threads large jobs are given.

    Unless set, what the variable HOPMIN_THREADS says, or as many as there are processors for this process.

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
    """Give large jobs so many threads, the caller's own included; 1 keeps all work on the caller's.

    The results are the same bits whatever the number. Raises ValueError if it is not at least 1, TypeError if not
    whole.

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
    """What each task returns, in order; the tasks run on the caller's thread and on helpers, as many as there are."""
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
        for i in todo:  # after an error: let the others stop
            del i
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    return results


def _helpers(work: Callable[[], None], count: int) -> list[Any]:
    """`count` threads of the pool at work; fewer where none can be had, as when the interpreter is about to end."""
    global _pool
    if count < 1:
        return []
    helpers: list[Any] = []
    with _lock:
        try:
            if _pool is None:
                from concurrent.futures import ThreadPoolExecutor  # only now: half of what importing hopmin takes

                _pool = ThreadPoolExecutor(max(1, get_threads() - 1), thread_name_prefix="hopmin")
            for _ in range(count):
                helpers.append(_pool.submit(work))
        except (RuntimeError, ImportError):
            pass
    return helpers


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _forget() -> None:
    """In a forked child: threads are not inherited, and the lock may have been held by one."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
