"""Benchmark hopmin's core against other libraries: `python -m benchmarks.core`; see benchmarks/README.md.

In reading order: the problems, the implementations that solve them, the targets, the measurements, and the report.

What depends only on the patterns (an index, norms, tensors) may be prepared outside the timed call. hopmin is timed on
plain arrays, which it packs during the call, on packed patterns, and on packing alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from functools import partial
from importlib import import_module
from io import StringIO
from multiprocessing import get_context
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

import hopmin
from benchmarks._measure import Contestant, cores, elsewhere, interleaved, machine, once, peak_memory, table
from hopmin._backend import core
from hopmin._core_numpy import _decoded

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, int, int]  # queries x patterns x dims
Call = Callable[[], Any]
Record = dict[str, Any]

MEMORY_LIMIT = 2e9  # bytes of memory that another library may need
TIME_LIMIT = 5.0  # seconds that another library may take
SEARCHES = ("hopmin", "NumPy", "PyTorch", "sklearn neighbours", "FAISS")  # the implementations whose recall is measured
DISTURBED = 0.25  # the share of timings during which other processes may be busy
LIBRARIES = ("hopmin", "numpy", "scipy", "torch", "scikit-learn", "faiss-cpu")


# The problems

BATCHED = [(1024, 16384, 16), (1024, 16384, 64), (1024, 65536, 128), (4096, 4096, 784)]
WIDE = (3000, 4000, 512)
FEW = [(1, 65536, 128), (16, 100000, 768)]
FULL = {
    "nearest": [*BATCHED, WIDE, *FEW],
    "nearest10": [(1024, 16384, 64), (1000, 100000, 64)],
    "energy": BATCHED + FEW,
    "dot energy": [(1024, 16384, 64), (4096, 4096, 784)],
    "update": BATCHED + FEW,
    "within": [(500, 50000, 384), (5000, 50000, 64)],
}
QUICK = {task: [(64, 512, 16)] for task in FULL} | {"nearest": [(64, 512, 16), (1, 2048, 32)]}


class Problem(NamedTuple):
    """Standard normal queries (m, d), patterns (n, d) and values (n, d), with the parameters of a task.

    The radius is one within which a query has few neighbours.
    """

    task: str
    queries: Array
    patterns: Array
    values: Array
    beta: float
    k: int
    radius: float = 0.0


def problem(task: str, shape: Shape) -> Problem:
    """Return the same problem every time.

    With its beta, the scores beta |x - p|^2 or beta x.p have a standard deviation of about one.
    """
    m, n, d = shape
    rng = np.random.default_rng(0)
    x, p, v = (rng.standard_normal((rows, d), np.float32) for rows in (m, n, n))
    a = Problem(task, x, p, v, (8 * d if task == "energy" else d) ** -0.5, 10 if task == "nearest10" else 1)
    return a if task != "within" else a._replace(radius=float(np.median(hopmin.nearest(x[:100], p, 5)[0][:, -1])))


def shape_name(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


# The implementations: each turns a problem into a call that solves it


class Implementation(NamedTuple):
    """A way to solve a problem, and what it needs: a module, or a name in a module."""

    name: str
    needs: str
    prepare: Callable[[Problem], Call]
    bytes_per_score: int = 0  # memory per score, if it forms all (m, n) scores
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


IMPLEMENTATIONS: dict[str, list[Implementation]] = defaultdict(list)


def register(tasks: str | Iterable[str], name: str, needs: str, *more: Any) -> Callable[..., Any]:
    """Return a decorator that registers a function as the implementation of one task or several."""

    def decorate(prepare: Callable[[Problem], Call]) -> Callable[[Problem], Call]:
        for task in [tasks] if isinstance(tasks, str) else tasks:
            IMPLEMENTATIONS[task].append(Implementation(name, needs, prepare, *more))
        return prepare

    return decorate


def available(needs: str) -> bool:
    """Return whether "module" can be imported, or the module of "module.name" has that name."""
    module, _, name = needs.partition(".")
    try:
        return hasattr(import_module(module), name or "__name__")
    except ImportError:
        return False


# hopmin


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = hopmin.get_threads()
    hopmin.set_threads(count)
    try:
        yield
    finally:
        hopmin.set_threads(before)


def solved(a: Problem, patterns: Any) -> Call:
    if a.task.startswith("nearest"):
        return lambda: hopmin.nearest(a.queries, patterns, a.k)
    if a.task == "within":
        return lambda: hopmin.within(a.queries, patterns, a.radius, csr=True)
    if a.task == "energy":
        return lambda: hopmin.DistanceEnergy(a.beta).value(a.queries, patterns)
    if a.task == "dot energy":
        return lambda: hopmin.DotEnergy(a.beta).value(a.queries, patterns)
    return lambda: hopmin.DotEnergy(a.beta).update(a.queries, patterns, a.values)


@register(FULL, "hopmin 2 threads", "hopmin.set_threads", 0, partial(threads, 2))
@register(FULL, "hopmin 1 thread", "hopmin.set_threads", 0, partial(threads, 1))
@register(FULL, "hopmin", "hopmin")
def plain(a: Problem) -> Call:
    return solved(a, a.patterns)


@register(FULL, "hopmin packed", "hopmin.Packed")
def packed(a: Problem) -> Call:
    return solved(a, hopmin.Packed(a.patterns))


@register(FULL, "packing alone", "hopmin.Packed")
def packing(a: Problem) -> Call:
    return lambda: hopmin.Packed(a.patterns)


@register(FULL, "hopmin float64", "hopmin")
def double(a: Problem) -> Call:
    x, p, v = (array.astype(np.float64) for array in (a.queries, a.patterns, a.values))
    return plain(a._replace(queries=x, patterns=p, values=v))


# NumPy: the formula with the square expanded, first as usually written, then in place and in blocks


def squares(a: Array) -> Array:
    return np.einsum("ij,ij->i", a, a)


def in_blocks(solve: Callable[[Array], Any], queries: Array, rows: int = 128) -> Any:
    """Solve for a block of queries at a time, so that intermediate arrays fit in a cache."""
    parts = [solve(queries[first : first + rows]) for first in range(0, len(queries), rows)]
    return (
        tuple(map(np.concatenate, zip(*parts, strict=True))) if isinstance(parts[0], tuple) else np.concatenate(parts)
    )


def numpy_smallest(scores: Array, k: int) -> Array:
    """Return the indices (m, k) of the k smallest scores of each row, in order."""
    if k == 1:
        return scores.argmin(axis=1)[:, None]
    found = np.argpartition(scores, k - 1, axis=1)[:, :k]
    return np.take_along_axis(found, np.take_along_axis(scores, found, axis=1).argsort(axis=1), axis=1)


def numpy_logsumexp(scores: Array) -> Array:
    peak = scores.max(axis=1)
    scores -= peak[:, None]
    return np.log(np.exp(scores, out=scores).sum(axis=1)) + peak


@register(("nearest", "nearest10"), "NumPy", "numpy", 12)
def numpy_nearest(a: Problem) -> Call:
    def call() -> tuple[Array, Array]:
        x, p = a.queries, a.patterns
        s = (x**2).sum(axis=1)[:, None] - 2 * x @ p.T + (p**2).sum(axis=1)
        i = numpy_smallest(s, a.k)
        return np.sqrt(np.maximum(np.take_along_axis(s, i, axis=1), 0)), i

    return call


@register(("nearest", "nearest10"), "NumPy blocks", "numpy")
def numpy_nearest_blocks(a: Problem) -> Call:
    pp = squares(a.patterns)

    def solve(x: Array) -> tuple[Array, Array]:
        s = (-2 * x) @ a.patterns.T
        s += pp
        i = numpy_smallest(s, a.k)
        return np.sqrt(np.maximum(np.take_along_axis(s, i, axis=1) + squares(x)[:, None], 0)), i

    return lambda: in_blocks(solve, a.queries)


@register("energy", "NumPy", "numpy", 8)
def numpy_energy(a: Problem) -> Call:
    def call() -> Array:
        x, p = a.queries, a.patterns
        s = (x**2).sum(axis=1)[:, None] - 2 * x @ p.T + (p**2).sum(axis=1)
        return -numpy_logsumexp(-a.beta * s) / a.beta

    return call


@register("energy", "NumPy blocks", "numpy")
def numpy_energy_blocks(a: Problem) -> Call:
    scaled = a.beta * squares(a.patterns)

    def solve(x: Array) -> Array:
        s = (2 * a.beta * x) @ a.patterns.T
        s -= scaled
        return squares(x) - numpy_logsumexp(s) / a.beta

    return lambda: in_blocks(solve, a.queries)


def dot_constants(a: Problem) -> float:
    return math.log(len(a.patterns)) / a.beta + float(squares(a.patterns).max()) / 2


@register("dot energy", "NumPy blocks", "numpy")
def numpy_dot_energy(a: Problem) -> Call:
    constants = dot_constants(a)

    def solve(x: Array) -> Array:
        return squares(x) / 2 - numpy_logsumexp((a.beta * x) @ a.patterns.T) / a.beta + constants

    return lambda: in_blocks(solve, a.queries)


@register("update", "NumPy blocks", "numpy")
def numpy_update(a: Problem) -> Call:
    def solve(x: Array) -> Array:
        s = (a.beta * x) @ a.patterns.T
        s -= s.max(axis=1, keepdims=True)
        np.exp(s, out=s)
        return s @ a.values / s.sum(axis=1, keepdims=True)

    return lambda: in_blocks(solve, a.queries)


# SciPy


@register(("nearest", "nearest10"), "SciPy", "scipy", 16)
def scipy_nearest(a: Problem) -> Call:
    from scipy.spatial.distance import cdist

    def call() -> tuple[Array, Array]:
        distances = cdist(a.queries, a.patterns)
        i = numpy_smallest(distances, a.k)
        return np.take_along_axis(distances, i, axis=1), i

    return call


@register("energy", "SciPy", "scipy", 48)
def scipy_energy(a: Problem) -> Call:
    from scipy.spatial.distance import cdist
    from scipy.special import logsumexp

    return lambda: -logsumexp(-a.beta * cdist(a.queries, a.patterns, "sqeuclidean"), axis=1) / a.beta


# PyTorch


def tensors(a: Problem) -> tuple[Any, Any, Any]:
    import torch

    x, p, v = map(torch.from_numpy, (a.queries, a.patterns, a.values))
    return x, p, v


@register(("nearest", "nearest10"), "PyTorch", "torch", 8)
def torch_nearest(a: Problem) -> Call:
    import torch

    x, p, _ = tensors(a)
    return lambda: torch.cdist(x, p).topk(a.k, largest=False) if a.k > 1 else torch.cdist(x, p).min(dim=1)


@register("energy", "PyTorch", "torch", 12)
def torch_energy(a: Problem) -> Call:
    import torch

    x, p, _ = tensors(a)
    return lambda: -torch.logsumexp(torch.cdist(x, p).square_().mul_(-a.beta), dim=1) / a.beta


@register("dot energy", "PyTorch", "torch", 12)
def torch_dot_energy(a: Problem) -> Call:
    import torch

    x, p, _ = tensors(a)
    constants = dot_constants(a)
    return lambda: x.square().sum(1) / 2 - torch.logsumexp(a.beta * x @ p.T, dim=1) / a.beta + constants


@register("update", "PyTorch", "torch")
def torch_update(a: Problem) -> Call:
    from torch.nn.functional import scaled_dot_product_attention

    x, p, v = (tensor[None, None] for tensor in tensors(a))  # batch, heads: the fast path wants all four axes
    return lambda: scaled_dot_product_attention(x, p, v)[0, 0]


# scikit-learn, FAISS


@register("nearest", "sklearn argmin", "sklearn")
def sklearn_argmin(a: Problem) -> Call:
    from sklearn.metrics import pairwise_distances_argmin_min

    return lambda: pairwise_distances_argmin_min(a.queries, a.patterns)[::-1]


@register(("nearest", "nearest10"), "sklearn neighbours", "sklearn")
def sklearn_neighbours(a: Problem) -> Call:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=a.k, algorithm="brute").fit(a.patterns)
    return lambda: index.kneighbors(a.queries)


@register("within", "sklearn neighbours", "sklearn")
def sklearn_within(a: Problem) -> Call:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(radius=a.radius, algorithm="brute").fit(a.patterns)
    return lambda: tuple(map(np.concatenate, index.radius_neighbors(a.queries, sort_results=True)))


@register(("nearest", "nearest10"), "FAISS", "faiss")
def faiss_nearest(a: Problem) -> Call:
    import faiss

    index = faiss.IndexFlatL2(a.patterns.shape[1])
    index.add(a.patterns)

    def call() -> tuple[Array, Array]:
        squared, i = index.search(a.queries, a.k)
        return np.sqrt(squared), i

    return call


# The targets


class Target(NamedTuple):
    """Bounds for the time of the fastest rival divided by the time of `whose`."""

    task: str
    shape: Shape
    rivals: tuple[str, ...]
    least: float = 0.0
    most: float = math.inf
    whose: str = "hopmin"


SKLEARN = ("sklearn argmin", "sklearn neighbours")
TARGETS = [
    *(Target("nearest", shape, SKLEARN, 6.0) for shape in BATCHED[1:]),
    *(
        Target("nearest", shape, ("FAISS",), least)
        for shape, least in zip([*BATCHED[1:], WIDE], [5, 4, 2.5, 2.5], strict=True)
    ),
    Target("nearest10", (1000, 100000, 64), SKLEARN, 5.0),
    Target("nearest10", (1000, 100000, 64), ("FAISS",), 6.0),
    *(Target("within", shape, SKLEARN, 3.0) for shape in FULL["within"]),
    *(Target("energy", shape, ("NumPy", "NumPy blocks", "PyTorch", "SciPy"), 7.0) for shape in BATCHED),
    *(Target("update", shape, ("PyTorch",), 1.0) for shape in BATCHED),
    Target("nearest", FEW[0], ("NumPy", "NumPy blocks"), 0.9),
    Target("nearest", FEW[0], ("NumPy", "NumPy blocks"), 3.0, whose="hopmin packed"),
    Target("energy", FEW[0], ("NumPy", "NumPy blocks"), 1.0),
    *(Target("nearest", shape, ("hopmin float64",), most=1.2) for shape in BATCHED[1:3]),
    *(Target("energy", shape, ("hopmin float64",), most=2.2) for shape in BATCHED[1:3]),
    *(
        Target(task, shape, ("hopmin 1 thread",), 1.8, whose="hopmin 2 threads")
        for task in ("nearest", "energy")
        for shape in BATCHED[1:3]
    ),
]


def judge(target: Target, cases: Iterable[Record]) -> Record:
    """Return the target with its ratio, on plain arrays and on packed patterns, and a verdict."""
    case = next((c for c in cases if (c["task"], c["shape"]) == (target.task, shape_name(target.shape))), {"times": {}})
    times = case["times"]
    measured = [name for name in target.rivals if name in times]
    rival = min(measured, key=lambda name: times[name]["median_ms"], default="")

    def ratio(whose: str) -> float | None:
        return times[rival]["median_ms"] / times[whose]["median_ms"] if rival and whose in times else None

    def reached(ratio: float | None) -> bool:
        return ratio is not None and target.least <= ratio <= target.most

    ours = ratio(target.whose)
    prepared = ratio("hopmin packed") if target.whose == "hopmin" and "hopmin float64" not in target.rivals else None
    if ours is None:
        verdict = "not measured"
    elif reached(ours):
        verdict = "reached"
    else:
        verdict = "reached if packed" if reached(prepared) else "not reached"
    if ours is not None and disturbed(case):
        verdict += " (disturbed)"
    return {
        "target": f"{target.task}/{shape_name(target.shape)}",
        "of": target.whose,
        "against": rival or " or ".join(target.rivals),
        "needed": f"at least {target.least:g}" if target.most == math.inf else f"at most {target.most:g}",
        "ratio": ours and round(ours, 3),
        "packed": prepared and round(prepared, 3),
        "verdict": verdict,
    }


# Measuring


def disturbed(case: Record) -> bool:
    """Return whether other processes were so often busy that the times are unreliable."""
    return bool(max(time["disturbed"] for time in case["times"].values()) > DISTURBED)


def measure(task: str, shape: Shape, rounds: int, side: int) -> Record:
    """Measure one task on one shape: each implementation once, to warm up and to check it, then in rounds."""
    a = problem(task, shape)
    square = np.random.default_rng(0).standard_normal((side, side), np.float32)
    contestants = {"product": Contestant(lambda: square @ square)}
    absent = {}
    expected = answer(plain(a)())
    for implementation in IMPLEMENTATIONS[task]:
        contestant, reason = admit(implementation, a, expected)
        if contestant:
            contestants[implementation.name] = contestant
        else:
            absent[implementation.name] = reason
    start, before = perf_counter(), elsewhere()
    times = interleaved(contestants, rounds)
    others = None if before is None else round(max(0.0, elsewhere() - before) / (perf_counter() - start), 2)
    rate = 2 * side**3 / times.pop("product")["median_ms"]
    operations = 2 * math.prod(shape) * (2 if task == "update" else 1)
    for name, time in times.items():
        time["ratio"] = round(time["median_ms"] / times["hopmin"]["median_ms"], 3)
        if name != "packing alone":
            time["efficiency"] = round(operations / time["median_ms"] / rate, 4)
    return {
        "task": task,
        "shape": shape_name(shape),
        "beta": None if task.startswith("nearest") or task == "within" else a.beta,
        "product_gflops": round(rate / 1e6, 1),
        "others": others,
        "times": times,
        "absent": absent,
    }


def admit(implementation: Implementation, a: Problem, expected: Array) -> tuple[Contestant | None, str]:
    """Return the contestant, or None and the reason."""
    if reason := reason_to_skip(implementation, len(a.queries), len(a.patterns)):
        return None, reason
    contestant = Contestant(implementation.prepare(a), implementation.context)
    seconds, result = once(contestant)
    if seconds > TIME_LIMIT and not implementation.needs.startswith("hopmin"):
        return None, f"skipped: took {seconds:.1f} s (limit {TIME_LIMIT:g})"
    if implementation.name != "packing alone" and not agree(answer(result), expected):
        return None, "disagrees with hopmin"
    return contestant, ""


def reason_to_skip(implementation: Implementation, m: int, n: int) -> str:
    """Return why an implementation is skipped, or an empty string."""
    need = m * n * implementation.bytes_per_score
    if not available(implementation.needs):
        return f"missing: {implementation.needs}"
    if need > MEMORY_LIMIT:
        return f"skipped: would need {need / 1e9:.1f} GB (limit {MEMORY_LIMIT / 1e9:g})"
    if implementation.name == "hopmin 2 threads" and cores() < 2:
        return "skipped: a single core"
    return ""


def answer(result: Any) -> Array:
    """Return the distances of a search, or the array that any other task returns."""
    return np.asarray(result[0] if isinstance(result, tuple) else result)


def agree(answer: Array, expected: Array) -> bool:
    """Return whether the results agree to a loose tolerance: enough to see that the same thing was computed."""
    return answer.size == expected.size and np.allclose(
        answer.reshape(expected.shape), expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max())
    )


def recall(shape: Shape) -> Record:
    """Return, for each offset of all data, the fraction of queries for which each search finds a nearest pattern."""
    searches = [e for e in IMPLEMENTATIONS["nearest"] if e.name in SEARCHES and not reason_to_skip(e, *shape[:2])]
    lines = [{"offset": offset, "recall": recalls(shape, offset, searches)} for offset in (0.0, 1e2, 1e3, 1e4, 1e6)]
    return {"shape": shape_name(shape), "lines": lines}


def recalls(shape: Shape, offset: float, searches: Iterable[Implementation], judged: int = 256) -> dict[str, float]:
    """Return the recall of each search on the first queries, by float64 differences; of ties, any one is correct."""
    a = problem("nearest", shape)
    a = a._replace(queries=a.queries + np.float32(offset), patterns=a.patterns + np.float32(offset))
    squared = [np.square(query.astype(np.float64) - a.patterns).sum(axis=1) for query in a.queries[:judged]]

    def correct(search: Implementation) -> float:
        found = np.asarray(search.prepare(a)()[1]).reshape(-1)
        return float(np.mean([s[i] == s.min() for s, i in zip(squared, found[:judged], strict=True)]))

    return {search.name: correct(search) for search in searches}


# Codes


def kinds_of_data() -> dict[str, tuple[Array, Array]]:
    """Return queries and patterns of each kind."""
    rng, (m, n, d) = np.random.default_rng(0), (1000, 16384, 64)
    x, p = (rng.standard_normal((rows, d), np.float32) for rows in (m, n))
    centres, t = rng.standard_normal((100, d), np.float32), rng.standard_t(2, (m + n, d)).astype(np.float32)
    outliers, where = p.copy(), rng.integers(64, size=n // 64) + np.arange(0, n, 64)
    outliers[where] *= 1e4
    one, other = (0.01 * a + 100 * np.float32(rng.integers(2, size=(len(a), 1))) for a in (x, p))
    kinds = {
        "normal": (x, p),
        "shifted by 1e4": (x + np.float32(1e4), p + np.float32(1e4)),
        "shifted by 1e6": (x + np.float32(1e6), p + np.float32(1e6)),
        "100 clusters": (0.1 * x + centres[rng.integers(100, size=m)], 0.1 * p + centres[rng.integers(100, size=n)]),
        "two far clusters": (one, other),
        "heavy tails": (t[:m], t[m:]),
        "an outlier in each panel": (x, outliers),
        "copies of one": (x, np.repeat(p[:1], n, axis=0)),
    }
    if available("sklearn"):
        from sklearn.datasets import load_digits

        digits = load_digits().data.astype(np.float32)
        kinds["digits"] = digits[:300], digits[300:]
    return kinds


def second_looks(x: Array, packed: hopmin.Packed) -> float:
    """Return the share of pairs in the first block that codes leave open, given the distance of the nearest pattern."""
    (words, bounds), radius = packed._codes[0][1:], hopmin.nearest(x, packed)[0]
    own = hopmin.Packed(x)
    own._codes[0].centre[:] = packed._codes[0].centre
    core.encode(own._blocks[0], len(x), *own._codes[0])
    q, (scale, away, _) = _decoded(*own._codes[0][1:], len(x))
    p, (other_scale, other_away, _) = _decoded(words, bounds, min(len(packed), 8192))
    q, p = q * scale[:, None], p * other_scale[:, None]
    squares = (q * q).sum(axis=1)[:, None] - 2 * q @ p.T + (p * p).sum(axis=1)
    return float(np.mean(squares <= (radius + away[:, None] + other_away) ** 2))


def codes(rounds: int) -> list[Record]:
    """Return, for each kind of data, the share of second looks, and the time without codes over that with them."""
    lines = []
    for kind, (x, p) in kinds_of_data().items():
        packed, without = hopmin.Packed(p), hopmin.Packed(p, codes=False)
        calls = {name: partial(hopmin.nearest, x, a) for name, a in (("codes", packed), ("without", without))}
        times = interleaved({name: Contestant(call) for name, call in calls.items()}, rounds)
        gain = times["without"]["fastest_ms"] / times["codes"]["fastest_ms"]
        lines.append({"data": kind, "second looks": second_looks(x, packed), "gain": round(gain, 2), "times": times})
    return lines


def growth(task: str, shape: Shape, name: str) -> float:
    """Return the MB of resident memory that a call and its preparation add at peak; runs in a process of its own."""
    implementation = next(e for e in IMPLEMENTATIONS[task] if e.name == name)
    implementation.prepare(problem(task, (2, 32, 8)))()  # imports and thread pools are loaded before the measurement
    a = problem(task, shape)
    before = peak_memory()
    implementation.prepare(a)()
    return round(peak_memory() - before, 1)


def memory(task: str, shape: Shape, names: Iterable[str] | None = None) -> Record:
    """Return the memory growth of each implementation, measured in a fresh process each."""
    candidates = [e.name for e in IMPLEMENTATIONS[task] if not reason_to_skip(e, *shape[:2]) and "thread" not in e.name]
    names = [name for name in candidates if names is None or name in names]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        grown = pool.map(partial(growth, task, shape), names)
        return {"task": task, "shape": shape_name(shape), "growth_mb": dict(zip(names, grown, strict=True))}


# The report


def introduction(report: Record) -> str:
    of, missing = report["machine"], report["missing"]
    versions = ", ".join(f"{name} {version}" for name, version in of["libraries"].items() if version)
    return "\n".join(
        [
            f"{of['processor']}, {of['cores']} cores (load {of['load']}), {of['system']}, Python {of['python']}",
            versions,
            f"missing: {', '.join(missing) or 'none'}",
            *(f"  {line}" for line in report["config"]),
            f"Medians of {report['rounds']} interleaved rounds. Ratio: time divided by hopmin's.",
            "Efficiency: the rate of 2 m n d operations (update: twice that), divided by the rate at which NumPy",
            f"multiplies {report['side']} x {report['side']} float32 matrices.",
        ]
    )


def case_text(case: Record) -> str:
    title = f"\n{case['task']}, {case['shape']}"
    title += f", beta {case['beta']:.3g}" if case["beta"] else ""
    title += f"   (product: {case['product_gflops']:.0f} GFLOP/s)"
    if disturbed(case):
        title += f"\nDISTURBED: other processes kept {case['others']:.2f} cores busy, some in all tries"
    rows = [
        [
            name,
            *(f"{t[key]:.2f}" for key in ("median_ms", "fastest_ms", "slowest_ms", "ratio")),
            f"{t['efficiency']:.3f}" if "efficiency" in t else "-",
        ]
        for name, t in case["times"].items()
    ]
    notes = [f"{name}: {reason}" for name, reason in case["absent"].items()]
    return "\n".join([title, table(["", "median ms", "fastest", "slowest", "ratio", "efficiency"], rows), *notes])


def recall_text(record: Record) -> str:
    rows = [[f"{line['offset']:g}", *map(number, line["recall"].values())] for line in record["lines"]]
    title = f"\nrecall in float32, {record['shape']}, all data shifted by an offset (NumPy: the square expanded)"
    return f"{title}\n{table(['offset', *record['lines'][0]['recall']], rows)}"


def codes_text(lines: Iterable[Record]) -> str:
    rows = [[line["data"], f"{line['second looks']:.4f}", number(line["gain"])] for line in lines]
    title = "\ncodes: the share of pairs that they leave open, and the time without them over that with them"
    return f"{title}\n{table(['data', 'second looks', 'gain'], rows)}"


def memory_text(record: Record) -> str:
    rows = [[name, f"{grown:.0f}"] for name, grown in record["growth_mb"].items()]
    return f"\npeak memory, {record['task']}, {record['shape']}\n{table(['', 'MB grown'], rows)}"


def targets_text(targets: Iterable[Record]) -> str:
    header = ["target", "of", "against", "needed", "ratio", "packed", "verdict"]
    rows = [[number(t[key]) if key in ("ratio", "packed") else t[key] for key in header] for t in targets]
    return f"\nTargets\n{table(header, rows)}"


def number(x: float | None) -> str:
    return "-" if x is None else f"{x:.2f}"


def config() -> list[str]:
    """Return the lines of hopmin.show_config() about hopmin itself."""
    others = ("Python", "numpy", "scipy", "scikit-learn", "matplotlib", "jinja2", "tqdm", "hypothesis")
    with redirect_stdout(StringIO()) as out:
        hopmin.show_config()
    return [line for line in out.getvalue().splitlines() if not line.startswith(others)]


def run(options: argparse.Namespace, write: Callable[[str], None]) -> Record:
    """Run the selected measurements, and report each as it finishes."""
    needs = {e.needs for implementations in IMPLEMENTATIONS.values() for e in implementations}
    report: Record = {
        "machine": machine(LIBRARIES),
        "missing": sorted(need for need in needs if not available(need)),
        "config": config(),
        "rounds": options.rounds,
        "side": 512 if options.quick else 2048,
        "cases": [],
        "recall": [],
        "memory": [],
    }
    write(introduction(report))

    def wanted(name: str) -> bool:
        return options.only in name

    for task, shapes in (QUICK if options.quick else FULL).items():
        for shape in shapes:
            if wanted(f"{task}/{shape_name(shape)}"):
                report["cases"].append(measure(task, shape, options.rounds, report["side"]))
                write(case_text(report["cases"][-1]))
    if wanted("recall"):
        # FAISS expands the square if queries times dims is at least 128,000, and subtracts otherwise: one of each
        for shape in [(32, 512, 16)] if options.quick else [(256, 4096, 16), (2048, 4096, 128)]:
            report["recall"].append(recall(shape))
            write(recall_text(report["recall"][-1]))
    if wanted("codes"):
        report["codes"] = codes(options.rounds)
        write(codes_text(report["codes"]))
    if wanted("memory"):
        for task in ("nearest", "energy"):
            shape, names = (QUICK[task][0], ["hopmin"]) if options.quick else (BATCHED[1], None)
            report["memory"].append(memory(task, shape, names))
            write(memory_text(report["memory"][-1]))
    report["peak_memory_mb"] = round(peak_memory(), 1)
    chosen = [target for target in TARGETS if wanted(f"{target.task}/{shape_name(target.shape)}")]
    report["targets"] = [judge(target, report["cases"]) for target in chosen]
    write(f"\nPeak memory of the whole run, including all libraries: {report['peak_memory_mb']:.0f} MB")
    if report["targets"]:
        write(targets_text(report["targets"]))
    return report


def main() -> int:
    """Run the benchmark; the exit code is 1 if any result disagrees with hopmin's."""
    description = "Benchmark hopmin's core against other libraries."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description=description)
    parser.add_argument("--rounds", type=int, help="number of rounds (default 9; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small shapes, only to check that everything runs")
    parser.add_argument("--only", default="", metavar="TEXT", help="run what has TEXT in its name: update, recall")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write results as JSON; - prints them")
    options = parser.parse_args()
    options.rounds = (3 if options.quick else 9) if options.rounds is None else options.rounds
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    report = run(options, write=partial(print, flush=True, file=sys.stderr if options.json == "-" else sys.stdout))
    if options.json:
        text = json.dumps(report, indent=1)
        if options.json == "-":
            print(text)
        else:
            with open(options.json, "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
    return int(any("disagrees" in reason for case in report["cases"] for reason in case["absent"].values()))


if __name__ == "__main__":
    sys.exit(main())
