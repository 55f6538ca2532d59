"""Helpers of the benchmarks.

- timing of contestants in interleaved rounds [`Contestant`, `once`, `quietest`, `interleaved`, `wait_until_idle`]
- the machine, its load, and memory [`machine`, `cores`, `elsewhere`, `peak_memory`]
- tables of results [`table`]
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

SHORT = 0.1  # seconds: shorter calls are made twice, because the first one pays for waking threads and cold caches
SETTLE = 0.5  # seconds to wait at most for threads to become idle
TRIES = 4  # of a timing during which other processes were busy


class Contestant(NamedTuple):
    """A call to time, and a context to run it in, which is not timed."""

    call: Callable[[], Any]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def once(contestant: Contestant) -> tuple[float, Any]:
    """Return seconds and result of a call, or of the second of two calls if they are short."""
    wait_until_idle()
    with contestant.context():
        seconds, result = timed(contestant.call)
        return timed(contestant.call) if seconds < SHORT else (seconds, result)


def quietest(contestant: Contestant) -> tuple[float, bool]:
    """Return seconds of a call in the quietest of some tries, and whether other processes were busy in all of them."""
    tries: list[tuple[float, float]] = []
    while len(tries) < TRIES:
        start, before = time.perf_counter(), elsewhere()
        seconds, _ = once(contestant)
        if before is None:
            return seconds, False
        # more than two ticks of the clock, and a tenth of a core
        excess = (elsewhere() or 0.0) - before - 0.02 - 0.1 * (time.perf_counter() - start)
        if excess <= 0:
            return seconds, False
        tries.append((excess, seconds))
    return min(tries)[1], True


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result of a call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def wait_until_idle() -> None:
    """Wait until this process is idle.

    A BLAS keeps its threads spinning for 20 to 100 ms after a product, which would slow down the next contestant.
    """
    deadline = time.perf_counter() + SETTLE
    while time.perf_counter() < deadline:
        busy = time.process_time()
        time.sleep(0.01)
        if time.process_time() - busy < 0.001:
            return


def interleaved(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each contestant, timed once per round, and the share of timings that were disturbed.

    Each round starts with another contestant.
    """
    names = list(contestants)
    samples: dict[str, list[tuple[float, bool]]] = {name: [] for name in names}
    for r in range(rounds):
        first = r % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(quietest(contestants[name]))
    return {name: _summary(some) for name, some in samples.items()}


def _summary(samples: Sequence[tuple[float, bool]]) -> dict[str, float]:
    seconds = [time for time, _ in samples]
    summary = {"median": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return {f"{key}_ms": round(1000 * value, 4) for key, value in summary.items()} | {
        "disturbed": sum(busy for _, busy in samples) / len(samples)
    }


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(libraries: Iterable[str]) -> dict[str, Any]:
    """Return processor, system, load, and the versions of the libraries; None for a library that is not installed."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "libraries": {library: _version(library) for library in libraries},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def elsewhere() -> float | None:
    """Return the seconds of processor time that all other processes have used; None where this is not known."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - time.process_time()


def peak_memory() -> float:
    """Return the peak resident memory of this process so far, in MB; NaN where this is not known."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would include the memory of the parent at the time of the fork
        lines = status.read_text().splitlines()
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))
    if sys.platform == "win32":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with aligned columns, numbers to the right and words to the left."""
    lines = [list(header), *map(list, rows)]
    columns = [_aligned(column) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _aligned(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    numbers = all(cell[:1].isdigit() or cell in ("", "-", "nan") for cell in column[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]
