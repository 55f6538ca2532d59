"""Threads: bit for bit the same results for any number of threads and callers, before and after a fork."""

import multiprocessing
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

import hopmin
from hopmin import _threads
from hopmin.memory import reduction
from hopmin.memory.reduction import reduce


@pytest.fixture
def split(monkeypatch, threads):
    """Make every job large enough to be split, in blocks of two panels; return set_threads."""
    monkeypatch.setattr(reduction, "SMALL", 0)
    monkeypatch.setattr(reduction, "BLOCK", 128)
    return threads


def problem(m, n, d, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)).astype(dtype), rng.normal(size=(n, d)).astype(dtype)


def bits(r):
    return [a.tobytes() for a in r[1:]]


# Results


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="BLAS sums depend on the batch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize(("m", "n"), [
    (1, 1), (1, 129), (3, 2000), (reduction.TASK - 1, 300), (reduction.TASK, 300), (reduction.TASK + 1, 128), (1000, 20),
])  # fmt: skip
def test_results_are_bit_for_bit_the_same_for_any_threads(m, n, metric, dtype, split):
    """Jobs are split by queries in some cases, and by blocks of patterns in others."""
    x, p = problem(m, n, 3, dtype)
    results = []
    for count in (1, 2, 3, 16):
        split(count)
        results.append(bits(reduce(x, p, p, metric=metric, beta=2.0, k=min(n, 5))))
        results.append(bits(reduce(x, hopmin.Packed(p), p, metric=metric, beta=2.0, k=min(n, 5))))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("m", "n"), [(2, 2000), (2 * reduction.TASK, 300)])
def test_neighbours_are_the_same_for_any_threads(m, n, split):
    x, p = problem(m, n, 3)
    x, p = x.round(), p.round()  # ties, across blocks
    results = []
    for count in (1, 2, 3, 16):
        split(count)
        results.append([a.tobytes() for a in hopmin.nearest(x, p, 200) + hopmin.within(x, p, 2.0, csr=True)])
        results[-1] += [a.tobytes() for a in hopmin.within(x, p, 0.5, metric="dot", csr=True, sort=False)]
    assert all(result == results[0] for result in results)


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="BLAS sums depend on the batch")
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize(("m", "n"), [(2, 2000), (300, 1100), (2 * reduction.TASK, 600)])
def test_results_are_bit_for_bit_the_same_for_any_steps(m, n, metric, threads, monkeypatch):
    """From one call of the core for a block to one for each tile and six queries."""
    x, p = problem(m, n, 3)
    results = []
    for step in (reduction.STEP, 1 << 20, 1):
        monkeypatch.setattr(reduction, "STEP", step)
        found = hopmin.within(x, hopmin.Packed(p), 0.5, metric=metric, csr=True)
        results.append(bits(reduce(x, p, p, metric=metric, beta=2.0, k=5)) + [a.tobytes() for a in found])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("m", "d"), [(1, 2), (5000, 2), (5000, 400), (5000, 40_000), (5000, 10**6), (1, 10**6)])
def test_steps_are_of_bounded_size_and_cover_everything(m, d):
    """An interrupt waits for a step. The least step is a tile of patterns for six queries."""
    x, block = np.broadcast_to(np.float32(0), (m, d)), slice(reduction.BLOCK, 2 * reduction.BLOCK - 100)
    tile, count = hopmin._backend.core.TILE, np.zeros((m, reduction.BLOCK - 100), np.int8)
    for rows, part in reduction._steps(x, block):
        count[rows, part] += 1
        a, b = rows.stop - rows.start, part.stop - part.start
        assert a * b * d <= max(reduction.STEP, 6 * tile * d)
        assert part.start % tile == 0
        assert a <= reduction.TASK
    assert (count == 1).all()


def test_only_large_jobs_start_threads(split, monkeypatch):
    x, p = problem(2, 300, 2)
    started, start = [], _threads.start_new_thread
    monkeypatch.setattr(_threads, "start_new_thread", lambda *arguments: started.append(start(*arguments)))
    for search in (lambda: reduce(x, p, metric="dot", k=1), lambda: hopmin.within(x, p, 1.0)):
        for count, excess, expected in [(2, 1, 0), (1, 0, 0), (2, 0, 1)]:
            split(count)
            monkeypatch.setattr(reduction, "SMALL", x.shape[0] * p.size + excess)
            started.clear()
            search()
            assert len(started) == expected


# Tasks


def test_each_task_runs_once_and_results_are_in_order(threads):
    for count in (1, 2, 16):
        threads(count)
        done = []
        assert _threads.run([partial(done.append, i) for i in range(100)]) == [None] * 100
        assert _threads.run([partial(pow, i, 2) for i in range(100)]) == [i * i for i in range(100)]
        assert sorted(done) == list(range(100))
        assert _threads.run([]) == []


def test_tasks_run_concurrently(threads):
    threads(3)
    meeting = threading.Barrier(3, timeout=60)

    def meet():
        meeting.wait()
        return threading.get_ident()

    met = _threads.run([meet] * 3)
    assert len(set(met)) == 3
    assert threading.get_ident() in met


def test_tasks_may_run_tasks(threads):
    threads(2)
    nested = [lambda i=i: sum(_threads.run([lambda j=j: i * j for j in range(10)])) for i in range(20)]
    assert _threads.run(nested) == [45 * i for i in range(20)]


@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("bad", [0, 7, 99])
def test_an_error_in_a_task_is_raised_and_the_next_job_runs(count, bad, threads):
    threads(count)

    def task(i):
        if i == bad:
            raise ZeroDivisionError(f"task {i}")
        return i

    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match=f"^task {bad}$"):
            _threads.run([lambda i=i: task(i) for i in range(100)])
    assert _threads.run([lambda i=i: i for i in range(50)]) == list(range(50))


def test_an_error_on_a_helper_is_raised_by_the_caller(threads):
    threads(2)
    caller, meeting = threading.get_ident(), threading.Barrier(2, timeout=60)

    def task():
        meeting.wait()
        if threading.get_ident() != caller:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _threads.run([task, task])


@pytest.mark.parametrize("had", [0, 1, 2])
def test_tasks_finish_if_no_thread_can_be_started(had, threads, monkeypatch):
    """The number of threads of a process may be limited; the threads that did start are waited for."""
    threads(4)
    start, helpers = _threads.start_new_thread, iter(range(had))

    def limited(*arguments):
        if next(helpers, None) is None:
            raise RuntimeError("can't start new thread")
        return start(*arguments)

    monkeypatch.setattr(_threads, "start_new_thread", limited)
    caller, meeting = threading.get_ident(), threading.Barrier(had + 1, timeout=60)

    def task():
        meeting.wait()
        if threading.get_ident() != caller:
            time.sleep(0.2)
        return 1

    assert _threads.run([task] * (had + 1) + [int]) == [1] * (had + 1) + [0]


@pytest.mark.parametrize(("m", "n"), [(2, 1000), (2 * reduction.TASK, 1000)])
def test_non_finite_patterns_are_rejected_on_any_thread(m, n, split):
    for count in (2, 16):
        split(count)
        for i in (0, 127, 128, 700, n - 1):
            x, p = problem(m, n, 2)
            p[i, 1] = np.nan
            for call in (hopmin.nearest, hopmin.DistanceEnergy().value, hopmin.DotEnergy().update):
                with pytest.raises(ValueError) as caught:
                    call(x, p)
                assert str(caught.value) == f"patterns must be finite; got nan at index ({i}, 1)"
        x, p = problem(m, n, 2)
        assert hopmin.nearest(x, p)[0].shape == (m, 1)


# Steps, progress and interrupts


def steps(count, done, fail=None):
    """A task of `count` steps, which are appended to `done`; the step number `fail` raises an error."""
    for i in range(count):
        if i == fail:
            raise ZeroDivisionError(f"step {i}")
        time.sleep(1e-4)
        done.append(i)
        yield 2


@pytest.mark.parametrize("count", [1, 2, 16])
def test_progress_is_reported_on_the_calling_thread(count, threads):
    threads(count)
    caller, reports, done = threading.current_thread(), [], []

    def report(amount):
        assert threading.current_thread() is caller
        reports.append(amount)

    _threads.run_steps([steps(5, done) for _ in range(20)], report)
    assert len(done) == 100
    assert reports == sorted(set(reports))
    assert reports[-1] == 200
    _threads.run_steps([], report)
    assert reports[-1] == 200


@pytest.mark.parametrize("count", [1, 2, 16])
def test_an_error_drops_the_steps_that_have_not_started(count, threads):
    threads(count)
    done = []
    with pytest.raises(ZeroDivisionError, match=r"^step 2$"):
        _threads.run_steps([steps(10**5, done, fail=2)] + [steps(10**5, done) for _ in range(20)])
    ended = len(done)
    assert _threads.run([int] * 50) == [0] * 50
    assert len(done) == ended
    with pytest.raises(ValueError, match=r"^enough$"):
        _threads.run_steps(
            [steps(10**5, done) for _ in range(20)], lambda amount: (_ for _ in ()).throw(ValueError("enough"))
        )


def test_an_error_in_progress_ends_a_search(split):
    x, p = problem(2 * reduction.TASK, 2000, 3)
    split(2)
    expected = [a.tobytes() for a in hopmin.nearest(x, p, 3)]

    def report(done, total):
        assert 0 < done < total
        raise LookupError("enough")

    for search in (lambda: hopmin.nearest(x, p, 3, progress=report), lambda: hopmin.within(x, p, 1.0, progress=report)):
        with pytest.raises(LookupError, match=r"^enough$"):
            search()
    assert [a.tobytes() for a in hopmin.nearest(x, p, 3)] == expected


INTERRUPTED = """
import faulthandler, os, signal, sys, threading, time
import numpy as np, hopmin
from hopmin import _backend, _threads
from hopmin.memory import reduction
faulthandler.dump_traceback_later(60, exit=True)
hopmin.set_threads(int(sys.argv[2]))
reduction.SMALL, reduction.STEP = 0, 1 << 19
x, p = (np.random.default_rng(i).normal(size=(size, 4)).astype("f4") for i, size in enumerate((int(sys.argv[3]), 40_000)))
search = {
    "nearest": lambda x: hopmin.nearest(x, p, 3), "cosine": lambda x: hopmin.nearest(x, p, metric="cosine"),
    "within": lambda x: hopmin.within(x, p, 0.1, csr=True), "energy": lambda x: hopmin.DistanceEnergy().value(x, p),
}[sys.argv[1]]
few = [a.tobytes() for a in search(x[:1])]
name = "gather" if sys.argv[1] == "within" else "absorb"
core, calls, running, sent = getattr(_backend.core, name), [], set(), threading.Event()
def counted(*arguments):
    me = threading.get_ident()
    running.add(me)
    try:
        calls.append(sent.is_set())
        if len(calls) == 5:
            sent.set()
            os.kill(os.getpid(), signal.SIGINT)
        if sent.is_set():
            time.sleep(0.01)  # long enough for the calling thread to take notice
        return core(*arguments)
    finally:
        running.discard(me)
setattr(_backend.core, name, counted)
try:
    search(x)
    print("not interrupted")
except KeyboardInterrupt:
    print(not running, calls.count(True) < 12, [a.tobytes() for a in search(x[:1])] == few)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
@pytest.mark.parametrize("search", ["nearest", "cosine", "within", "energy"])
@pytest.mark.parametrize(("count", "m"), [(1, 1000), (3, 1000), (3, 100)])
def test_an_interrupt_ends_a_search_after_the_steps_in_progress(search, count, m, run):
    """A real SIGINT: no step starts after those in progress, nothing is left running, and the next search works."""
    finished = run(INTERRUPTED, search, count, m)
    assert (finished.stdout, finished.stderr) == ("True True True\n", "")


WAITING = """
import faulthandler, os, signal, threading, time
from hopmin import _threads
faulthandler.dump_traceback_later(60, exit=True)
_threads.set_threads(2)
caller, meeting, done = threading.get_ident(), threading.Barrier(2), []
def task():
    meeting.wait()
    if threading.get_ident() == caller:
        return
    for i in range(10_000):
        if i == 5:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)
        done.append(i)
        yield 1
reports = []
try:
    _threads.run_steps([task(), task()], reports.append)
except KeyboardInterrupt:
    ended = len(done)
    time.sleep(0.01)
    print(5 <= ended == len(done) < 10_000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
def test_an_interrupt_ends_the_wait_for_another_thread(run):
    finished = run(WAITING)
    assert (finished.stdout, finished.stderr) == ("True\n", "")


# Concurrent callers


def callers(count, function):
    """Call function(0), function(1), ... concurrently, and return their results or exceptions."""
    results, start = [None] * count, threading.Barrier(count)

    def call(i):
        start.wait()
        try:
            results[i] = function(i)
        except BaseException as error:
            results[i] = error

    together = [threading.Thread(target=call, args=(i,)) for i in range(count)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join(60)
        assert not thread.is_alive()
    return results


def results_for(i):
    x, p = problem((3, 2 * reduction.TASK)[i % 2], 300 + i, 4, seed=i)
    distances, indices = hopmin.nearest(x, p, 1 + i)
    return distances.tobytes(), indices.tobytes(), hopmin.DotEnergy().update(x, p).round(4).tobytes()


def test_concurrent_callers_get_their_own_results(split):
    split(1)
    alone = [results_for(i) for i in range(8)]
    split(3)
    for _ in range(5):
        assert callers(8, results_for) == alone


def test_set_threads_is_safe_during_computations(split):
    split(1)
    alone = [results_for(i) for i in range(6)]

    def call(i):
        if i == 6:
            for count in (1, 2, 16, 3) * 20:
                split(count)
            return None
        return [results_for(i) for _ in range(6)]

    assert callers(7, call)[:6] == [[alone[i]] * 6 for i in range(6)]


HANDLED = """
import faulthandler, signal
import numpy as np, hopmin
from hopmin import _threads
from hopmin.memory import reduction
faulthandler.dump_traceback_later(60, exit=True)
reduction.SMALL = 0
x = np.random.default_rng(0).normal(size=(1000, 3))
hopmin.set_threads(3)
expected = [a.tobytes() for a in hopmin.nearest(x, x, 3)]
count, searches = 0, 0
def handler(*_):
    global count, searches
    count += 1
    hopmin.set_threads(1 + count % 4)
    assert 1 <= hopmin.get_threads() <= 4
    if not searches:  # not in a handler that interrupts this search
        searches = 1
        assert [a.tobytes() for a in hopmin.nearest(x, x, 3)] == expected
        searches = 0
signal.signal(signal.SIGALRM, handler)
start = _threads.start_new_thread
def signalled(*arguments):  # as threads are started
    signal.raise_signal(signal.SIGALRM)
    start(*arguments)
    signal.raise_signal(signal.SIGALRM)
_threads.start_new_thread = signalled
for _ in range(10):
    hopmin.set_threads(3)
    assert [a.tobytes() for a in hopmin.nearest(x, x, 3)] == expected
_threads.start_new_thread = start
signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)  # and anywhere
for _ in range(30):
    assert [a.tobytes() for a in hopmin.nearest(x, x, 3)] == expected
signal.setitimer(signal.ITIMER_REAL, 0)
print(count > 20)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGALRM")
def test_a_signal_handler_may_set_threads_and_search(run):
    finished = run(HANDLED)
    assert (finished.stdout, finished.stderr) == ("True\n", "")


STARTING = """
import faulthandler, signal, threading
import numpy as np, hopmin
from hopmin.memory import reduction
faulthandler.dump_traceback_later(60, exit=True)
reduction.SMALL = 0
hopmin.set_threads(2)
x = np.random.default_rng(0).normal(size=(1000, 3))
wait = threading.Event.wait
def interrupted(*arguments):
    done = wait(*arguments)
    threading.Event.wait = wait
    signal.raise_signal(signal.SIGINT)
    return done
threading.Event.wait = interrupted
try:
    while True:  # until a helper has started before the caller is done, so that the caller waits for it
        hopmin.nearest(x, x)
except KeyboardInterrupt:
    pass
print(hopmin.nearest(x, x)[1].sum())
"""


def test_the_interpreter_exits_after_an_interrupt_of_a_wait(run):
    """An interrupt while an executor waits for a thread to start would keep the interpreter from exiting."""
    finished = run(STARTING)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, f"{sum(range(1000))}\n", "")


# The number of threads


def test_get_threads_returns_the_number_set(threads):
    for count in (1, 7, np.int64(3)):
        threads(count)
        assert hopmin.get_threads() == count
        assert type(hopmin.get_threads()) is int


@pytest.mark.parametrize(("count", "error"), [
    (0, ValueError), (-1, ValueError), (1025, ValueError), (10**9, ValueError), (1.5, TypeError), (2.0, TypeError), (True, TypeError), ("2", TypeError), (None, TypeError),
])  # fmt: skip
def test_set_threads_rejects_invalid_numbers(count, error):
    before = hopmin.get_threads()
    with pytest.raises(error) as caught:
        hopmin.set_threads(count)
    assert str(caught.value) == f"threads must be an integer from 1 to 1024; got {count!r}"
    assert hopmin.get_threads() == before


GET = "import hopmin; print(hopmin.get_threads())"


def test_the_environment_sets_the_number_of_threads(run):
    assert run(GET, HOPMIN_THREADS="5").stdout == "5\n"
    assert (
        run(GET, HOPMIN_THREADS="").stdout
        == run(
            "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())"
        ).stdout
    )
    finished = run("import hopmin; hopmin.set_threads(2); hopmin.show_config()", HOPMIN_THREADS="5")
    assert finished.stdout.splitlines()[1].endswith("2 threads")


@pytest.mark.parametrize("wanted", ["0", "-1", "1.5", "two", " 2", "²", "1025"])
def test_an_invalid_environment_variable_is_rejected(wanted, run):
    finished = run(GET, HOPMIN_THREADS=wanted, PYTHONUTF8="1")
    assert (
        finished.stderr.splitlines()[-1]
        == f"ValueError: HOPMIN_THREADS must be an integer from 1 to 1024; got {wanted!r}"
    )


# Forking and exiting


def search_in_child(queue, x, p, expected):
    queue.put([a.tobytes() for a in hopmin.nearest(x, p, 3)] == expected)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # the test needs a fork
def test_a_forked_child_has_its_own_threads(split):
    split(3)
    x, p = problem(2, 1000, 3)
    expected = [a.tobytes() for a in hopmin.nearest(x, p, 3)]
    fork = multiprocessing.get_context("fork")
    for busy in (False, True):  # whether helpers are running at the moment of the fork
        queue, meeting = fork.SimpleQueue(), threading.Barrier(3, timeout=60)
        child = fork.Process(target=search_in_child, args=(queue, x, p, expected))

        def start(child=child, meeting=meeting):
            meeting.wait()
            if threading.current_thread() is threading.main_thread():
                child.start()
            meeting.wait()

        if busy:
            _threads.run([start] * 3)
        else:
            child.start()
        child.join(60)
        assert child.exitcode == 0
        assert queue.get()
    assert [a.tobytes() for a in hopmin.nearest(x, p, 3)] == expected


LARGE = """
import numpy as np, hopmin
from hopmin.memory import reduction
reduction.SMALL = 0
hopmin.set_threads(4)
x, nearest = np.random.default_rng(0).normal(size=(1000, 3)), hopmin.nearest
"""


@pytest.mark.parametrize("code", [
    "print(nearest(x, x)[1].sum())",
    "import atexit; atexit.register(lambda: print(nearest(x, x)[1].sum()))",
    "import threading; threading.Thread(target=lambda: print(nearest(x, x)[1].sum())).start()",
])  # fmt: skip
def test_the_interpreter_exits_cleanly_after_late_calls(code, run):
    finished = run(LARGE + code)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, f"{sum(range(1000))}\n", "")
