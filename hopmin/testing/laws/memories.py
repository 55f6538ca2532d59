"""Laws of memories that change: the model is a list of rows, and every answer is compared with it.

Instances are short: a shape, a seed for all numbers, and a list of operations such as ("add", 2) or ("remove", (0, 3)).
Numbers are small integers, so that squared distances are exact in any order of summation, and there are many ties.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, dtypes

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

MemoryFactory = Callable[[Array], Any]  # patterns -> an object with nearest(queries, k), len() and methods to change it
Operation = tuple[str, Any]

shapes = st.sampled_from([(3, 2), (1, 1), (5, 3), (2, 1), (70, 4), (300, 9), (9000, 2)])
seeds = st.integers(0, 2**32)


def _operations(*names: str) -> st.SearchStrategy[list[Operation]]:
    """Draw up to 12 operations of those names; places are taken modulo the length that the memory has then."""
    places = st.lists(st.integers(0, 400), min_size=1, max_size=4).map(tuple)
    counts = st.sampled_from([1, 2, 3, 1, 5, 70])
    drawn = {
        "add": counts,
        "remove": places,
        "replace": places,
        "nearest": counts,
        "reload": st.just(0),
        "clear": st.just(0),
    }
    return st.lists(
        st.one_of([st.tuples(st.just(name), drawn[name]) for name in names for _ in range(4 - 3 * (name == "clear"))]),
        min_size=1, max_size=12,
    )  # fmt: skip


class _Model:
    """A memory beside the list that it must equal; each method does the same to both."""

    def __init__(self, memory: MemoryFactory, shape: tuple[int, int], seed: int, dtype: str) -> None:
        self.rng, self.dtype, self.d = np.random.default_rng(seed), dtype, shape[1]
        self.rows = self.draw(shape[0])
        self.memory = memory(self.rows.copy())

    def draw(self, n: int) -> Array:
        return self.rng.integers(-6, 7, (n, self.d)).astype(self.dtype)

    def has(self, *names: str) -> bool:
        return all(hasattr(self.memory, name) for name in names)

    def places(self, drawn: tuple[int, ...]) -> Array:
        return np.unique(np.array(drawn) % len(self.rows))[:: -1 if len(drawn) % 2 else 1]

    def apply(self, name: str, argument: Any) -> None:
        """Do it to the memory and to the list; what the memory has no method for is left out."""
        needs = {"reload": ("save", "load"), "clear": ("remove",)}.get(name, (name,))
        if not self.has(*needs) or (name in ("remove", "replace", "clear") and not len(self.rows)):
            return
        if name == "add":
            new = self.draw(argument)
            self.rows = np.concatenate([self.rows, new])
            self.memory.add(new)
            new[:] = 99  # the memory must have its own copy
        elif name == "remove":
            places = self.places(argument)
            self.memory.remove(places)
            self.rows = np.delete(self.rows, places, axis=0)
        elif name == "replace":
            places = self.places(argument)
            new = self.draw(len(places))
            self.rows = self.rows.copy()
            self.rows[places] = new
            self.memory.replace(places, new)
            new[:] = 99
        elif name == "clear":
            self.memory.remove(np.arange(len(self.rows)))
            self.rows = self.rows[:0]
        elif name == "reload":
            with tempfile.TemporaryDirectory() as folder:
                self.memory.save(Path(folder) / "memory.npz")
                self.memory = self.memory.load(Path(folder) / "memory.npz")
        else:
            self.check(argument)
        same(len(self.memory), len(self.rows), f"number of patterns after {name}")

    def check(self, k: int) -> tuple[Array, Array]:
        """Check the k nearest patterns, at most all, of some queries: their distances, and that they are theirs."""
        n = len(self.rows)
        if not n:
            return np.empty((0, 0)), np.empty((0, 0), int)
        k, queries = min(k, n), np.concatenate([self.draw(2), self.rows[[0, n // 2, n - 1]]])
        distances, indices = self.memory.nearest(queries.copy(), k)
        squares = np.square(queries[:, None].astype(float) - self.rows).sum(axis=2)
        found, expected = np.asarray(indices, np.int64), np.sqrt(np.sort(squares, axis=1)[:, :k])
        close(distances, expected, 4 * np.finfo(self.dtype).eps * expected, "distances of the nearest patterns")
        same(found.shape, expected.shape, "shape of the indices")
        at_most(0, found, 0, "indices")
        at_most(found, n - 1, 0, "indices, below the number of patterns")
        for row in found:
            same(len(set(row.tolist())), k, "number of different indices")
        at = np.sqrt(np.take_along_axis(squares, found, axis=1))
        same(at, expected, "distances of the patterns at the indices, which are positions in the order of insertion")
        return np.asarray(distances), np.asarray(indices)


changes = _operations("add", "remove", "replace", "nearest", "clear")


@law("memory", source="faiss #1164, hnswlib #321", shape=shapes, seed=seeds, dtype=dtypes(), operations=changes)
def law_memory_model(
    memory: MemoryFactory, /, shape: tuple[int, int], seed: int, dtype: str, operations: list[Operation]
) -> None:
    """After any additions, removals and replacements a memory finds what a list of the same rows would.

    Removing shifts the positions after it; distances are those of integers, rounded once and with a square root: 4 ulp.
    """
    model = _Model(memory, shape, seed, dtype)
    model.check(3)
    for name, argument in operations:
        model.apply(name, argument)
        model.check(2)
    model.check(len(model.rows))


@law("memory", needs=("save", "load"), shape=shapes, seed=seeds, dtype=dtypes(), before=changes, after=changes)
def law_memory_file(
    memory: MemoryFactory, /, shape: tuple[int, int], seed: int, dtype: str, before: list[Operation],
    after: list[Operation],
) -> None:  # fmt: skip
    """A loaded memory is what was saved last, and goes on from there; neither changes with the other."""
    model = _Model(memory, shape, seed, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.npz"
        model.memory.save(path)
        for name, argument in before:
            model.apply(name, argument)
        model.memory.save(path)
        original, rows = model.memory, model.rows
        model.memory = original.load(path)
        model.check(3)
        for name, argument in after:
            model.apply(name, argument)
            model.check(2)
        loaded, model.memory = (model.memory, model.rows), original
        model.rows = rows
        same(len(original), len(rows), "number of patterns of the saved memory after the loaded one has changed")
        model.check(3)
        model.memory = original.load(path)
        model.check(3)
        model.memory, model.rows = loaded
        model.check(3)


@law("memory", shape=shapes, seed=seeds, dtype=dtypes(), operations=_operations("add", "remove", "replace"))
def law_memory_copies(
    memory: MemoryFactory, /, shape: tuple[int, int], seed: int, dtype: str, operations: list[Operation]
) -> None:
    """What was handed out does not change with the memory, nor the memory with what was passed in or handed out."""
    model = _Model(memory, shape, seed, dtype)
    given = model.rows.copy()
    model.memory, queries = memory(given), model.draw(2)
    given[:] = 99
    model.check(3)
    handed = [np.asarray(a) for a in model.memory.nearest(queries, 1)]
    if isinstance(patterns := getattr(model.memory, "patterns", None), np.ndarray):
        handed.append(patterns)
    copies = [a.copy() for a in handed]
    for name, argument in operations:
        model.apply(name, argument)
        model.memory.nearest(model.draw(2), 1) if len(model.rows) else None
        for now, then in zip(handed, copies, strict=True):
            same(now, then, f"what was handed out before {name}")
    for array in handed:
        if array.flags.writeable:
            array[:] = 0
    if isinstance(patterns, np.ndarray):
        model.check(3)


@law("memory", shape=shapes, seed=seeds, dtype=dtypes(), operations=_operations("add", "remove", "replace"))
def law_memory_errors(
    memory: MemoryFactory, /, shape: tuple[int, int], seed: int, dtype: str, operations: list[Operation]
) -> None:
    """Rows of another width and positions beyond the last raise an error, and leave the memory as it was."""
    model = _Model(memory, shape, seed, dtype)
    for name, argument in operations:
        model.apply(name, argument)
        n, wide = len(model.rows), np.ones((2, model.d + 1), dtype)
        bad: list[tuple[str, tuple[Any, ...]]] = [("add", (wide,)), ("nearest", (wide, 1))]
        if n:
            bad += [
                ("remove", (np.array([0, n]),)),
                ("replace", (np.array([0]), wide[:1])),
                ("replace", (np.array([0, n]), model.draw(2))),
                ("remove", (np.array([n + 5]),)),
            ]
        for method, arguments in bad:
            if not model.has(method):
                continue
            try:
                getattr(model.memory, method)(*arguments)
            except Exception:  # of any class
                same(len(model.memory), n, f"number of patterns after an error in {method}")
                model.check(2)
            else:
                shown = ", ".join(f"{np.asarray(a).tolist()}" for a in arguments)
                raise Violation(f"{method} must raise an error for {shown} and {n} patterns (n, {model.d})", method)


@law("memory", needs=("remove",), shape=shapes, seed=seeds, dtype=dtypes(), count=st.integers(1, 3))
def law_memory_empty(memory: MemoryFactory, /, shape: tuple[int, int], seed: int, dtype: str, count: int) -> None:
    """A memory of which all is removed has length 0, finds nothing or raises, and takes patterns again."""
    model = _Model(memory, shape, seed, dtype)
    model.apply("clear", 0)
    try:
        found = np.asarray(model.memory.nearest(np.zeros((1, model.d), dtype), 1)[1])
    except Exception:  # of any class
        found = np.empty(0)
    same((found >= 0).any(), np.False_, "indices found in an empty memory")
    for _ in range(2):
        model.apply("add", count)
        model.check(2)


@law(
    "memory",
    promises=("empty",),
    needs=("add",),
    d=st.integers(1, 5),
    seed=seeds,
    dtype=dtypes(),
    count=st.integers(1, 70),
)
def law_memory_from_nothing(memory: MemoryFactory, /, d: int, seed: int, dtype: str, count: int) -> None:
    """A memory may begin with patterns (0, d)."""
    model = _Model(memory, (0, d), seed, dtype)
    same(len(model.memory), 0, "number of patterns")
    model.apply("add", count)
    model.check(3)


@law(
    "memory",
    promises=("ties",),
    shape=shapes,
    seed=seeds,
    dtype=dtypes(),
    operations=_operations("add", "remove", "replace"),
)
def law_memory_ties(
    memory: MemoryFactory, /, shape: tuple[int, int], seed: int, dtype: str, operations: list[Operation]
) -> None:
    """Of patterns at the same distance, the one at the lowest position is found first, after any change."""
    model = _Model(memory, shape, seed, dtype)
    for name, argument in operations:
        model.apply(name, argument)
    if n := len(model.rows):
        queries = model.draw(3)
        squares = np.square(queries[:, None].astype(float) - model.rows).sum(axis=2)
        expected = np.argsort(squares, axis=1, kind="stable")[:, : min(n, 8)]
        same(np.asarray(model.memory.nearest(queries, min(n, 8))[1], np.int64), expected, "indices, ties by position")
