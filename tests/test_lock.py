"""The lock of a folder: held once, released at the end of the block and of the process."""

import errno
import os
import subprocess
import sys
import threading

import pytest
from helpers import error_message

from hopmin._lock import locked, renew_after_fork


def lock(folder):
    with locked(folder):
        pass


def test_a_lock_is_held_once_and_released(tmp_path):
    sentence = f"out must be a folder that no other run is using; {tmp_path} is in use"
    with locked(tmp_path):
        assert error_message(ValueError, lock, tmp_path) == sentence
        assert error_message(ValueError, lock, tmp_path) == sentence
    lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        1 / 0  # noqa: B018
    lock(tmp_path)


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = f"import time, hopmin._lock as l\nwith l.locked({str(tmp_path)!r}): print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert error_message(ValueError, lock, tmp_path).endswith("is in use")
        holder.kill()
    assert (tmp_path / ".lock").exists()  # but nobody holds it
    lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_removed_file_is_none(tmp_path, monkeypatch):
    """Its holder removed the file after this process had opened it; others may lock a new one."""
    fcntl = pytest.importorskip("fcntl", reason="Windows removes no open file")
    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda *of: (flock(*of), (tmp_path / ".lock").unlink()))
    assert error_message(ValueError, lock, tmp_path).endswith("is in use")


def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="Windows has other locks")

    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    lock(tmp_path)


class Holder:
    def __init__(self):
        self._lock = threading.RLock()
        renew_after_fork(self)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads
def test_a_forked_child_has_a_lock_of_its_own():
    holder, held, done = Holder(), threading.Event(), threading.Event()

    def hold():
        with holder._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(not holder._lock.acquire(timeout=1))
    assert os.waitpid(child, 0)[1] == 0
    assert not holder._lock.acquire(timeout=0.01)
    done.set()
    thread.join()
