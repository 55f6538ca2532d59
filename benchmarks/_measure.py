"""What benchmarks share.

- contestants measured in turns [`Contestant`, `once`, `interleaved`, `wait_until_idle`]
- the machine they ran on, and the memory they took [`machine`, `cores`, `elsewhere`, `peak_memory`]
- a table that a person can read [`table`]
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

SHORT = 0.1  # seconds: what takes less is called twice, for the first call pays for waking threads and cold caches
SETTLE = 0.5  # seconds we wait at most for threads to come to rest


class Contestant(NamedTuple):
    """What is timed, and what surrounds it untimed."""

    call: Callable[[], Any]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def once(contestant: Contestant) -> tuple[float, Any]:
    """(seconds, result) of one turn: a call, or the second of two if they are short."""
    wait_until_idle()
    with contestant.context():
        seconds, result = timed(contestant.call)
        return timed(contestant.call) if seconds < SHORT else (seconds, result)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of a call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def wait_until_idle() -> None:
    """Wait until this process is at rest: a BLAS keeps its threads spinning for 20 to 100 ms after a product, and
    whoever comes next would pay for that.
    """
    deadline = time.perf_counter() + SETTLE
    while time.perf_counter() < deadline:
        busy = time.process_time()
        time.sleep(0.01)
        if time.process_time() - busy < 0.001:
            return


def interleaved(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each: in every round everyone has one turn, and every round someone else begins."""
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        first = r % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(once(contestants[name])[0])
    return {name: _summary(times) for name, times in seconds.items()}


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    summary = {"median": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return {f"{key}_ms": round(1000 * value, 4) for key, value in summary.items()}


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(libraries: Iterable[str]) -> dict[str, Any]:
    """Processor, system, how busy it was, and the versions of what is measured; None for what is not installed."""
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
    """Seconds of processor time that all other processes have used so far; None where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - time.process_time()


def peak_memory() -> float:
    """Most resident memory of this process so far, in MB; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would begin with what the parent had when it started us
        lines = status.read_text().splitlines()
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))
    if sys.platform == "win32":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns: a column of numbers to the right, of words to the left."""
    lines = [list(header), *map(list, rows)]
    columns = [_aligned(column) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _aligned(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    numbers = all(cell[:1].isdigit() or cell in ("", "-", "nan") for cell in column[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]
