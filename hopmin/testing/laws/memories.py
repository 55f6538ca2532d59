"""Laws of memories that change: the model is an array of rows, and every answer is compared with it.

An instance is the first patterns and a list of operations, each the name of a method and its arguments, such as
("remove", [0, 3]); so a failing one reads like the program that it is. Numbers are small integers: squared distances
are exact in any order of summation, and there are many ties. Only the methods that a memory has are drawn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.registry import NotJudged, law
from hopmin.testing.strategies import Array, dtypes

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

MemoryFactory = Callable[[Array], Any]  # patterns -> an object with nearest(queries, k), len() and methods to change it
Operation = tuple[Any, ...]  # the name of a method, and its arguments
Program = tuple[Array, list[Operation]]  # the first patterns, and what follows

CHANGES = ("add", "remove", "replace")
seeds = st.integers(0, 2**32)


def _rows(rng: np.random.Generator, n: int, d: int, dtype: str, reach: int = 6) -> Array:
    return rng.integers(-reach, reach + 1, (n, d)).astype(dtype)


@st.composite
def _programs(draw: st.DrawFn, names: tuple[str, ...] = CHANGES) -> Program:
    """Draw patterns and up to 10 operations of these names; now and then all patterns are removed.

    The number of operations is drawn, all else by a seed: Hypothesis spends most examples on variations of one another
    where many draws are alike.
    """
    steps, dtype, rng = draw(st.sampled_from(range(11))), draw(dtypes()), np.random.default_rng(draw(seeds))
    d, reach, n = int(rng.choice([1, 2, 3, 9])), int(rng.choice([1, 6])), int(rng.choice([1, 2, 3, 5, 40]))

    def rows(n: int) -> Array:
        return _rows(rng, n, d, dtype, reach)

    patterns, queries, operations, saved = rows(n), rows(2), list[Operation](), 0
    for _ in range(steps if names else 0):
        name, count = names[rng.integers(len(names))], int(rng.choice([1, 2, 3, 70]))
        places = rng.permutation(n)[:count].tolist()
        if name == "add":
            operations.append((name, rows(count)))
            n += count
        elif name == "nearest" and n:
            operations.append((name, queries, min(count, n)))
        elif name == "remove" and n:
            operations.append((name, places))
            n -= len(places)
        elif name == "replace" and n:  # between two questions, for what remembers answers
            asked = [("nearest", queries, min(count, n))] if "nearest" in names else []
            operations += [*asked, (name, places, rows(len(places))), *asked]
        elif name == "save":
            operations.append((name,))
            saved = n
        elif name == "load" and ("save",) in operations:
            operations.append((name,))
            n = saved
    return patterns, operations


def _drawn_from(*names: str) -> Callable[[MemoryFactory], st.SearchStrategy[Program]]:
    """Draw programs of those operations that a memory has methods for; `load` needs `save`, too."""

    def programs(memory: MemoryFactory) -> st.SearchStrategy[Program]:
        made = memory(np.eye(2))
        files = hasattr(made, "save") and hasattr(made, "load")
        return _programs(tuple(n for n in names if hasattr(made, n) and (files or n not in ("save", "load"))))

    return programs


def _needs_a_change(memory: MemoryFactory) -> None:
    made = memory(np.eye(2))
    if not any(hasattr(made, name) for name in CHANGES):
        raise NotJudged("there is no method add, remove or replace")


@contextmanager
def _file() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "memory.npz")


class _Model:
    """A memory beside the rows that it must hold; `apply` does the same to both."""

    def __init__(self, memory: Any, rows: Array, path: str = "") -> None:
        self.memory, self.rows, self.path, self.saved = memory, rows, path, rows

    def apply(self, name: str, *arguments: Any) -> None:
        if name == "nearest":
            self.check(*arguments)
        elif name == "save":
            self.memory.save(self.path)
            self.saved = self.rows
        elif name == "load":
            self.memory, self.rows = self.memory.load(self.path), self.saved
        else:
            self.change(name, *arguments)
        same(len(self.memory), len(self.rows), f"number of patterns after {name}")

    def change(self, name: str, *arguments: Any) -> None:
        passed = [np.array(a) for a in arguments]  # copies, which are overwritten: the memory must have its own
        getattr(self.memory, name)(*passed)
        for a, argument in zip(passed, arguments, strict=True):
            same(a, np.array(argument), f"what was passed to {name}")
            a[:] = 99
        rows = self.rows.copy()
        if name == "add":
            rows = np.concatenate([rows, *arguments])
        elif name == "remove":
            rows = np.delete(rows, arguments[0], axis=0)
        else:
            rows[arguments[0]] = arguments[1]
        self.rows = rows

    def check_all(self, *ks: int) -> None:
        """Check what is nearest to the first, middle and last row and to these plus 1, for some k or those given."""
        if n := len(self.rows):
            some = self.rows[[0, n // 2, n - 1]]
            for k in ks or sorted({1, min(n, 3), min(n, 40)}):
                self.check(np.concatenate([some, some + some.dtype.type(1)]), k)

    def check(self, queries: Array, k: int) -> None:
        """Check distances, and that the rows at the indices are at these distances."""
        given = queries.copy()
        distances, indices = self.memory.nearest(given, k)
        same(given, queries, "queries after the call")
        squares = np.square(queries[:, None].astype(float) - self.rows).sum(axis=2)
        found, expected = np.asarray(indices, np.int64), np.sqrt(np.sort(squares, axis=1)[:, :k])
        slack = 4 * np.finfo(self.rows.dtype).eps * expected
        close(distances, expected, slack, "distances of the nearest patterns")
        same(found.shape, expected.shape, "shape of the indices")
        at_most(0, found, 0, "indices")
        at_most(found, len(self.rows) - 1, 0, "indices, below the number of patterns")
        for row in found.tolist():
            same(len(set(row)), k, "number of different indices")
        at = np.sqrt(np.take_along_axis(squares, found, axis=1))
        same(at, expected, "distances of the patterns at the indices, which are positions in the order of insertion")


@law("memory", program=_programs(()), k=st.sampled_from(range(1, 41)))
def law_memory_nearest(memory: MemoryFactory, /, program: Program, k: int) -> None:
    """A memory of n patterns has length n, and finds the k of least Euclidean distance, in ascending order.

    The memory has its own copy of the patterns. Distances are those of integers, and err by 4 eps.
    """
    patterns, _ = program
    given = patterns.copy()
    model = _Model(memory(given), patterns)
    same(given, patterns, "patterns after the call")
    given[:] = 99
    same(len(model.memory), len(patterns), "number of patterns")
    model.check_all()
    model.check(patterns[:1] - patterns.dtype.type(2), min(k, len(patterns)))


@law(
    "memory",
    source="faiss #1164, hnswlib #321",
    program=_drawn_from("add", "remove", "nearest", "replace", "save", "load", "nearest", "remove", "replace"),
)
def law_memory_model(memory: MemoryFactory, /, program: Program) -> None:
    """After any additions, removals, replacements, saves and loads a memory finds what an array of its rows would.

    Removing shifts the positions after it. Distances are those of integers, and err by 4 eps.
    """
    _needs_a_change(memory)
    patterns, operations = program
    with _file() if ("save",) in operations else nullcontext("") as path:
        model = _Model(memory(patterns.copy()), patterns, path)
        for operation in operations:
            model.apply(*operation)
        model.check_all()


lengths = st.sampled_from([300, 301, 500, 600, 700, 1025, 8193])


@law("memory", source="hnswlib #321", n=lengths, d=st.sampled_from([2, 1]), seed=seeds)
def law_memory_blocks(memory: MemoryFactory, /, n: int, d: int, seed: int) -> None:
    """Thousands of patterns are found like few, and still after some are added and removed."""
    rng = np.random.default_rng(seed)
    patterns = _rows(rng, n, d, "float32")
    patterns[::7] += 20
    model = _Model(memory(patterns.copy()), patterns)
    model.check_all(3)
    if hasattr(model.memory, "add"):
        model.apply("add", _rows(rng, 300, d, "float32") - np.float32(20))
        model.check_all(3)
    if hasattr(model.memory, "remove"):
        model.apply("remove", [n // 2, 0, *range(5, 90)])
        model.check_all(3)


@law("memory", dtype=dtypes(), seed=seeds, n=st.sampled_from([1, 2, 3, 4]), d=st.sampled_from([1, 2, 3]))
def law_memory_digits(memory: MemoryFactory, /, dtype: str, seed: int, n: int, d: int) -> None:
    """Patterns keep all their digits, in a file too: distances err by what expanded squares of d terms err by.

    These are 4 (d + 4) eps (|x| + |p|)^2, divided by twice the distance.
    """
    rng = np.random.default_rng(seed)
    p, x = (rng.normal(size=(rows, d)).astype(dtype) for rows in (n, 2))
    exact = np.sort(np.linalg.norm(x[:, None].astype(float) - p, axis=2), axis=1)
    size = sum(float(np.linalg.norm(a.astype(float), axis=1).max()) for a in (x, p))
    error = 4 * (d + 4) * float(np.finfo(dtype).eps) * size**2
    slack, made = np.minimum(np.sqrt(error), error / (exact + np.sqrt(error))), memory(p.copy())
    close(made.nearest(x, n)[0], exact, slack, "distances of all patterns")
    if hasattr(made, "add"):
        made.add(p.copy())
        close(made.nearest(x, 2 * n)[0], np.repeat(exact, 2, axis=1), slack.repeat(2, axis=1), "distances, added twice")
        exact, slack = np.repeat(exact, 2, axis=1), slack.repeat(2, axis=1)
    if hasattr(made, "save") and hasattr(made, "load"):
        with _file() as path:
            made.save(path)
            close(made.load(path).nearest(x, len(exact[0]))[0], exact, slack, "distances of a loaded memory")


@law("memory", needs=("save", "load"), program=_drawn_from(*CHANGES), other=st.booleans())
def law_memory_file(memory: MemoryFactory, /, program: Program, other: bool) -> None:
    """A file holds what was saved last; the memory saved and the one loaded do not change with each other.

    The loaded one is changed, or if `other`, the one that was saved over another file.
    """
    patterns, operations = program
    with _file() as path:
        if other:
            memory(patterns[:1].copy()).save(path)  # a file that is overwritten
        saved = _Model(memory(patterns.copy()), patterns, path)
        saved.memory.save(path)
        loaded = _Model(saved.memory.load(path), patterns, path)
        for operation in operations:
            (saved if other else loaded).apply(*operation)
        again = _Model(saved.memory.load(path), patterns, path)
        for model in (saved, loaded, again):
            same(len(model.memory), len(model.rows), "number of patterns of each memory")
            model.check_all()


@law("memory", program=_drawn_from(*CHANGES))
def law_memory_answers(memory: MemoryFactory, /, program: Program) -> None:
    """Distances and indices that were handed out do not change with the memory, nor the memory with them."""
    patterns, operations = program
    model = _Model(memory(patterns.copy()), patterns)
    queries = patterns[:1] + patterns.dtype.type(1)
    handed = [np.asarray(a) for a in model.memory.nearest(queries.copy(), 1)]
    then = [a.copy() for a in handed]
    for name, *arguments in operations:
        model.apply(name, *arguments)
        if len(model.rows):
            model.memory.nearest(queries.copy(), 1)
        for now, before in zip(handed, then, strict=True):
            same(now, before, f"an answer given before {name}")
    for array in handed:
        if array.flags.writeable:
            array[:] = 0
    model.check_all()


@law("memory", program=_drawn_from(*CHANGES))
def law_memory_errors(memory: MemoryFactory, /, program: Program) -> None:
    """Rows of another width and positions beyond the last raise an error of any class, and change nothing.

    A position beyond the last may also be removed as if it were not there.
    """
    patterns, operations = program
    if patterns.shape[1] == 1:  # a width that broadcasts to any other
        patterns, operations = np.repeat(patterns, 2, axis=1), []
    model = _Model(memory(patterns.copy()), patterns)
    for operation in operations:
        model.apply(*operation)
    n, d = model.rows.shape
    wide, row = np.ones((2, d + 1), patterns.dtype), np.ones((2, d), patterns.dtype)
    bad: list[Operation] = [("add", wide)]
    if n:
        bad += [("nearest", wide, 1), ("replace", [0], wide[:1]), ("replace", [0, n], row), ("remove", [0, n])]
    for name, *arguments in bad:
        if not hasattr(model.memory, name):
            continue
        try:
            getattr(model.memory, name)(*(np.array(a) if isinstance(a, list) else a for a in arguments))
        except Exception:  # of any class
            same(len(model.memory), n, f"number of patterns after an error in {name}")
        else:
            if name != "remove":
                shown = ", ".join(f"{np.asarray(a).tolist()}" for a in arguments)
                raise Violation(f"{name} must raise an error for {shown} and {n} patterns (n, {d})", name)
            model.rows = model.rows[1:]
        model.check_all()


@law("memory", needs=("add", "remove"), program=_programs(("add",)))
def law_memory_empty(memory: MemoryFactory, /, program: Program) -> None:
    """A memory of which all is removed has length 0, finds nothing or raises, and takes patterns again."""
    patterns, operations = program
    model = _Model(memory(patterns.copy()), patterns)
    for operation in operations[:1]:
        model.apply(*operation)
    model.apply("remove", list(range(len(model.rows))))
    try:
        found = np.asarray(model.memory.nearest(patterns[:1].copy(), 1)[1])
    except Exception:  # of any class
        found = np.empty(0)
    same(bool((found >= 0).any()), False, "whether an index was found in an empty memory")
    model.apply("add", patterns)
    model.check_all()


@law("memory", promises=("empty",), needs=("add",), program=_programs(("add",)))
def law_memory_from_nothing(memory: MemoryFactory, /, program: Program) -> None:
    """A memory may begin with patterns (0, d)."""
    patterns, operations = program
    model = _Model(memory(patterns[:0].copy()), patterns[:0])
    same(len(model.memory), 0, "number of patterns")
    for operation in (("add", patterns), *operations):
        model.apply(*operation)
    model.check_all()


@law("memory", promises=("ties",), program=_drawn_from(*CHANGES))
def law_memory_ties(memory: MemoryFactory, /, program: Program) -> None:
    """Of patterns at the same distance, the one at the lowest position is found first, after any change."""
    patterns, operations = program
    model = _Model(memory(patterns.copy()), patterns)
    for operation in operations:
        model.apply(*operation)
    if n := len(model.rows):
        queries, k = np.concatenate([model.rows[:2], -model.rows[-1:]]), min(n, 8)
        squares = np.square(queries[:, None].astype(float) - model.rows).sum(axis=2)
        expected = np.argsort(squares, axis=1, kind="stable")[:, :k]
        found = np.asarray(model.memory.nearest(queries.copy(), k)[1], np.int64)
        same(found, expected, "indices, equal distances in the order of positions")
