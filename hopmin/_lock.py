"""Locks.

- on a folder, which one process at a time can hold [`locked`]
- of an object, new in each forked child [`renew_after_fork`]
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

from hopmin._typing import Name

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def locked(out: Name) -> Iterator[None]:
    """Hold the lock of a folder; raise ValueError if it is held already, here or in another process.

    The lock is on the file `.lock`. The operating system releases it when the process ends, however it ends, so a file
    that a killed process leaves is not a lock.
    """
    path = Path(out, ".lock").absolute()  # whatever the working folder becomes
    with open(path, "ab") as file:
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is(path, file.fileno()):  # removed by its holder, which has only just released it
                    raise BlockingIOError
        except (BlockingIOError, PermissionError):  # as flock and msvcrt say that the lock is held
            raise ValueError(f"out must be a folder that no other run is using; {out} is in use") from None
        except OSError:
            pass  # the file system has no locks
        try:
            yield
        finally:
            if sys.platform != "win32":  # where an open file cannot be removed
                path.unlink(missing_ok=True)


def _is(path: Path, descriptor: int) -> bool:
    return path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor))


_holders: WeakSet[Any] = WeakSet()


def renew_after_fork(holder: Any) -> None:
    """Give an object a new `_lock` in each forked child, because a thread of the parent may have held the old one."""
    _holders.add(holder)


def _renew_locks() -> None:
    for holder in _holders:
        holder._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
