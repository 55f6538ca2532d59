"""Tasks in worker processes: results, messages, errors, and that no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures.process import BrokenProcessPool

import pytest

from hopmin.study.processes import THREADS, run_tasks

TASKS = """
import os, signal, sys, time

def square(number, send):
    send(f"squaring {number}")
    return number * number

def double(text, send):
    return 2 * text

def report(name, send):
    return os.getpid(), {name: os.environ.get(name) for name in os.environ}

def fail(number, send):
    raise ValueError(f"number must not be {number}")

def end(code, send):
    os.kill(os.getpid(), signal.SIGKILL) if code < 0 else os._exit(code)

def end_if_odd(number, send):
    if number % 2:
        os._exit(number)
    return number

def hang(_, send):
    send(os.getpid())
    time.sleep(600)
"""

# Starts three workers that sleep for minutes, and writes a line once all of them run, or when the first one starts up.
HANGING = """
import time
from multiprocessing.context import SpawnProcess
from hopmin.study.processes import run_tasks
from tasks import hang

running = []

def received(pid):
    running.append(pid)
    if len(running) == 3:
        print("running", flush=True)

def start(process, start=SpawnProcess.start):
    start(process)
    if process.name == "SpawnProcess-1":
        time.sleep(0.15)  # now it imports, and has time for a traceback
        print("running", flush=True)
        time.sleep(0.5)

if {early}:
    SpawnProcess.start = start
run_tasks(hang, range(5), workers=3, received=received)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A module of functions that workers can import."""
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    import tasks

    yield tasks
    del sys.modules["tasks"]


@pytest.fixture
def hanging(tasks, tmp_path):
    """hanging(early=False): start a process of sleeping workers, in a session of its own, and wait for its first line."""
    started = []

    def start(early=False):
        process = subprocess.Popen(
            [sys.executable, "-c", HANGING.format(early=early)],
            cwd=tmp_path, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "running\n"
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def outcome(process):
    """Return exit code and standard error. Its pipes stay open until the last worker, which inherits them, has ended."""
    _, error = process.communicate(timeout=30)
    return process.returncode, error


# Results


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_gives_its_result_and_its_messages(tasks, workers):
    messages, results = [], []
    run_tasks(tasks.square, range(4), workers=workers, received=messages.append, finished=results.append)
    assert sorted(results) == [0, 1, 4, 9]
    assert sorted(messages) == [f"squaring {number}" for number in range(4)]


def test_one_worker_finishes_tasks_in_order(tasks):
    seen = []
    run_tasks(tasks.square, [3, 1, 2], workers=1, received=seen.append, finished=seen.append)
    assert seen == ["squaring 3", 9, "squaring 1", 1, "squaring 2", 4]


def test_without_tasks_no_process_is_started(tasks, monkeypatch):
    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", None)
    run_tasks(tasks.square, [], workers=3)


def test_callbacks_run_in_the_calling_thread(tasks):
    threads = []
    note = lambda _: threads.append(threading.get_ident())  # noqa: E731
    run_tasks(tasks.square, [1], received=note, finished=note)
    assert set(threads) == {threading.get_ident()}


def test_workers_are_reused_and_have_one_blas_thread(tasks, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before, found = dict(os.environ), []
    run_tasks(tasks.report, range(3), workers=1, finished=found.append)
    assert len({pid for pid, _ in found}) == 1
    assert {environment[name] for _, environment in found for name in THREADS} == {"1"}
    assert dict(os.environ) == before


def test_large_tasks_and_results_are_passed(tasks):
    found, large = [], bytes(10**6)
    run_tasks(tasks.double, [large, large], workers=1, finished=found.append)
    assert found == [large + large] * 2


# Ends


def test_an_error_of_a_task_ends_all_workers(tasks):
    with pytest.raises(ValueError, match=r"(?m)^number must not be 3$") as caught:
        run_tasks(tasks.fail, [3, 3], workers=2)
    assert "in fail" in caught.value.__notes__[0]  # the worker's traceback


@pytest.mark.parametrize("code", [7, -signal.SIGKILL])
def test_a_worker_that_ends_early_is_an_error(tasks, code):
    with pytest.raises(BrokenProcessPool, match=rf"^a worker process ended with exit code {code} before its task$"):
        run_tasks(tasks.end, [int(code)], workers=1)


def test_a_lost_task_is_reported_and_the_rest_goes_on(tasks):
    found = []
    run_tasks(
        tasks.end_if_odd, range(5), workers=2, finished=found.append, lost=lambda number, sentence: (number, sentence)
    )
    lost = [(code, f"a worker process ended with exit code {code} before its task") for code in (1, 3)]
    assert sorted(found, key=str) == sorted([0, 2, 4, *lost], key=str)


def test_an_error_of_a_callback_ends_a_sleeping_worker(tasks):
    pids = []

    def received(pid):
        pids.append(pid)
        raise BrokenPipeError("standard output is closed")

    with pytest.raises(BrokenPipeError, match="standard output"):
        run_tasks(tasks.hang, [0], received=received)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_worker_outlives_a_killed_parent(hanging, number):
    process = hanging()
    process.send_signal(number)
    assert outcome(process)[0] == -number


@pytest.mark.parametrize("early", [False, True])
def test_ctrl_c_ends_the_workers_without_their_tracebacks(hanging, early):
    """Ctrl-C reaches all processes of the terminal, even workers that have not started up yet."""
    process = hanging(early)
    os.killpg(process.pid, signal.SIGINT)
    code, error = outcome(process)
    assert code == -signal.SIGINT
    assert error.count("Traceback") == 1
    assert error.splitlines()[-1] == "KeyboardInterrupt"


def test_wrong_numbers_of_workers_are_rejected(tasks):
    with pytest.raises(ValueError, match=r"^workers must be an integer >= 1; got 0$"):
        run_tasks(tasks.square, [1], workers=0)
