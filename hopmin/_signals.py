"""SIGTERM as an exception [`Terminated`, `terminable`], and signals held back for a while [`deferred`].

Python handles signals on its main thread; on other threads, the blocks below change nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, as KeyboardInterrupt is SIGINT."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated on SIGTERM inside the block."""

    def terminate(*_: object) -> None:
        raise Terminated

    with _handling(terminate, signal.SIGTERM):
        yield


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM inside the block; the last one acts after it, unless it ends by an exception."""
    received: list[int] = []
    with _handling(lambda number, _: received.append(number), signal.SIGINT, signal.SIGTERM):
        yield received
    if received:
        signal.raise_signal(received[-1])


@contextmanager
def _handling(handler: Callable[[int, Any], None], *numbers: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
