"""Run tasks in worker processes that end with their parent, however it ends [`run_tasks`].

Each worker has one BLAS thread, because small models cannot keep more than one core busy.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from hopmin import _check, _signals

Task = TypeVar("Task")
Message = TypeVar("Message")
Result = TypeVar("Result")
Send = Callable[[Message], None]

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "HOPMIN_THREADS")


def run_tasks(
    function: Callable[[Task, Send[Message]], Result],
    tasks: Iterable[Task],
    *,
    workers: int | None = None,
    received: Send[Message] = lambda message: None,
    finished: Send[Result] = lambda result: None,
    lost: Callable[[Task, str], Result] | None = None,
) -> None:
    """Call `function(task, send)` for every task, in worker processes.

    The workers are killed if an exception ends this function, such as KeyboardInterrupt, and end by themselves if this
    process is killed. They ignore SIGINT, which Ctrl-C sends to all processes of a terminal.

    Parameters
    ----------
    function : callable
        A function of a module, so that it can be pickled. It may report its progress with `send(message)`.
    tasks : iterable
        The tasks, in the order in which they are started.
    workers : int, optional
        Largest number of processes; by default the number of processors, at most 8.
    received : callable, optional
        Called in this thread with each message that a task sends.
    finished : callable, optional
        Called in this thread with the result of each task, in the order in which they finish.
    lost : callable, optional
        Called as `lost(task, sentence)` if a worker ends before its task, because it was killed or crashed; it returns
        the result of the task, and another worker takes over.

    Raises
    ------
    ValueError
        If `workers` is not a positive integer.
    BrokenProcessPool
        If a worker ends before its task, and `lost` is not given.
    Exception
        Whatever `function` raises, with the worker's traceback as a note.
    """
    workers = min(os.cpu_count() or 1, 8) if workers is None else _check.integer("workers", workers)
    waiting, context = deque(tasks), multiprocessing.get_context("spawn")
    running: dict[Any, SpawnProcess] = {}  # the worker at the other end of each connection
    assigned: dict[Any, Task] = {}  # what it is working on
    connection: Any

    def start() -> None:
        with _signals.deferred(), _one_thread_each(), _sigint_blocked():  # the worker inherits the last two
            end, other_end = context.Pipe()
            worker = context.Process(target=_work, args=(function, other_end), daemon=True)
            worker.start()
            running[end] = worker
            other_end.close()  # the worker has its own, which closes when it ends

    def replace(connection: Any) -> None:
        """Account for the task of a worker that has ended, and start another; it is an error if it had no task."""
        worker = running.pop(connection)
        worker.join()
        sentence = f"a worker process ended with exit code {worker.exitcode} before its task"
        if lost is None or connection not in assigned:
            raise BrokenProcessPool(sentence)
        finished(lost(assigned.pop(connection), sentence))
        if waiting:
            start()

    try:
        for _ in range(min(workers, len(waiting))):
            start()
        while running:
            with _signals.deferred():  # Python drops what a signal raises in the callback of a weak reference
                ready = wait(running, timeout=0.2)
            for connection in ready:
                try:
                    kind, content = connection.recv()
                except (EOFError, ConnectionError):
                    replace(connection)
                    continue
                if kind == "message":
                    received(content)
                    continue
                if kind == "error":
                    raise content
                if kind == "result":
                    del assigned[connection]
                    finished(content)
                if waiting:
                    assigned[connection] = waiting.popleft()
                    with suppress(ConnectionError):  # if the worker has ended, the next `recv` finds it
                        connection.send(assigned[connection])
                else:
                    connection.close()  # ends the worker
                    running.pop(connection).join()
    finally:
        for worker in running.values():
            worker.kill()
        for worker in running.values():
            worker.join()


def _work(function: Callable[[Any, Send[Any]], Any], connection: Any) -> None:
    """Work on the tasks that arrive, one at a time, until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reply: tuple[str, Any] = ("ready", None)
    with suppress(EOFError, ConnectionError):
        while True:
            connection.send(reply)
            task = connection.recv()
            try:
                reply = ("result", function(task, lambda message: connection.send(("message", message))))
            except Exception as error:
                error.add_note(traceback.format_exc())
                reply = ("error", error)


def _end_with_parent() -> None:
    """Wait for the end of the parent process, then end this one, whatever its other threads are doing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in this thread; processes started inside never receive it, even before they can ignore it."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # now, because it would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limit the BLAS of processes started inside to one thread; this process's BLAS has already read its limit."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
