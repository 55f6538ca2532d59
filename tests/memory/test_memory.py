"""Memory: changes compared with a list, queries compared with functions, lookups, files, copies and threads."""

import copy
import math
import os
import pickle
import re
import signal
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import hopmin
from hopmin import (
    DistanceEnergy,
    DotEnergy,
    EpanechnikovEnergy,
    EuclideanEnergy,
    ExponentialEnergy,
    HopfieldEnergy,
    Memory,
    PolynomialEnergy,
    SparseEnergy,
    _backend,
)
from hopmin.memory import reduction
from hopmin.memory._directions import directions

ENERGIES = [
    DistanceEnergy(0.3), DotEnergy(0.1), EuclideanEnergy(2.0), SparseEnergy(alpha=1.25, beta=0.5), EpanechnikovEnergy(0.01),
]  # fmt: skip


@dataclass(frozen=True)
class Bowl:
    """A custom energy: the distance energy in a few lines of NumPy."""

    beta: float = 1.0

    def value(self, queries, patterns):
        square = ((np.asarray(queries)[..., None, :] - patterns) ** 2).sum(axis=-1)
        return -np.log(np.exp(-self.beta * square).sum(axis=-1)) / self.beta

    def weights(self, queries, patterns):
        square = ((np.asarray(queries)[..., None, :] - patterns) ** 2).sum(axis=-1)
        return hopmin.softmax(-self.beta * square, axis=-1)

    def update(self, queries, patterns, values=None):
        return self.weights(queries, patterns) @ (patterns if values is None else values)


def state(memory):
    """Return the contents of a memory, for comparison."""
    values = memory.values
    return (
        memory.shape, memory.dtype, memory.patterns.tobytes(), repr(memory),
        None if values is None else (values.dtype, values.shape, values.tobytes()),
    )  # fmt: skip


def assert_same(found, expected):
    """Assert that arrays, or lists of arrays, have the same bits, dtypes and shapes."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


# Changes, compared with a list

KINDS = {
    "none": None,
    "strings": lambda i: "x" * (i % 7) + str(i),
    "numbers": lambda i: i if i < 50 else i + 0.5,
    "vectors": lambda i: [i, -i, i * i],
    "booleans": lambda i: i % 3 == 0,
    "days": lambda i: np.datetime64("2024-01-01") + np.timedelta64(i, "D"),
}


class Changes(RuleBasedStateMachine):
    """Add, remove, replace and query, and do the same to a list.

    The contents before each change are what a query on another thread may be reading: they must stay as they are.
    """

    @initialize(
        dtype=st.sampled_from(["float32", "float64"]), d=st.integers(1, 3), n=st.integers(0, 140),
        kind=st.sampled_from(sorted(KINDS)), block=st.sampled_from([128, reduction.BLOCK]),
        seed=st.integers(0, 2**32 - 1),
    )  # fmt: skip
    def start(self, dtype, d, n, kind, block, seed):
        self.block, reduction.BLOCK = reduction.BLOCK, block
        self.rng, self.d, self.value, self.count = np.random.default_rng(seed), d, KINDS[kind], 0
        rows = self.rows(n).astype(dtype)
        self.dtype, self.patterns, self.values = rows.dtype, list(rows), self.new_values(n)
        self.memory = Memory(rows, self.values)
        self.returned, self.read = [], []

    def rows(self, k):
        rows = self.rng.integers(-9, 10, (k, self.d)).astype(float)
        rows[:, 0] += 0.5  # none is zero, so that all have a direction
        return rows

    def new_values(self, k):
        self.count += k
        return None if self.value is None else [self.value(i) for i in range(self.count - k, self.count)]

    def answers(self, contents):
        """Return all that a query may read in the contents."""
        patterns, values = contents.patterns, contents.values
        answers = [patterns[:], [] if values is None else values.copy()]
        if len(patterns):
            x = np.full((2, self.d), 1.25)
            answers += [DotEnergy().value(x, patterns), *hopmin.nearest(x, patterns, metric="cosine")]
        return answers

    def keep_what_is_returned(self):
        """Keep the arrays that the memory returns now, and the contents, to compare them at the end."""
        given = [self.memory.patterns]
        if self.value is not None:
            given.append(self.memory.values)
        self.returned.append((given, copy.deepcopy(given)))
        self.read.append((self.memory._contents, self.answers(self.memory._contents)))

    @rule(k=st.integers(1, 70))
    def add_many(self, k):
        self.keep_what_is_returned()
        rows, values = self.rows(k), self.new_values(k)
        indices = self.memory.add(rows, values)
        assert indices.tolist() == list(range(len(self.patterns), len(self.patterns) + k))
        self.patterns += list(rows)
        self.values = values and self.values + values

    @rule()
    def add_one(self):
        self.keep_what_is_returned()
        row, values = self.rows(1)[0], self.new_values(1)
        assert self.memory.add(row, values and values[0]) == len(self.patterns)
        self.patterns.append(row)
        self.values = values and self.values + values

    @rule(data=st.data())
    def remove(self, data):
        self.keep_what_is_returned()
        n = len(self.patterns)
        some = st.sets(st.integers(0, n - 1)) | st.integers(0, n - 1) if n else st.nothing()
        gone = data.draw(some | st.just(set(range(n))))
        self.memory.remove(gone if isinstance(gone, int) else list(gone))
        gone = {gone} if isinstance(gone, int) else gone
        self.patterns = [row for i, row in enumerate(self.patterns) if i not in gone]
        self.values = self.values and [value for i, value in enumerate(self.values) if i not in gone]

    @precondition(lambda self: self.patterns)
    @rule(data=st.data())
    def replace(self, data):
        self.keep_what_is_returned()
        places = data.draw(st.lists(st.integers(0, len(self.patterns) - 1), min_size=1, max_size=70, unique=True))
        rows, values = self.rows(len(places)), self.new_values(len(places))
        if len(places) == 1:
            self.memory.replace(places[0], rows[0], values and values[0])
        else:
            self.memory.replace(places, rows, values)
        for j, i in enumerate(places):
            self.patterns[i] = rows[j]
            if values:
                self.values[i] = values[j]

    @rule()
    def replace_by_a_copy(self):
        self.memory = pickle.loads(pickle.dumps(self.memory))

    @precondition(lambda self: self.patterns)
    @rule(k=st.integers(1, 3))
    def query(self, k):
        x, p = self.rows(3), np.array(self.patterns, self.dtype)
        assert_same(self.memory.nearest(x)[1], helpers.ranked(x, p, 1)[1])
        assert_same(self.memory.energies(x), DistanceEnergy().value(x, p))
        k = min(k, len(p))
        assert_same(self.memory.nearest(x, k, metric="cosine"), hopmin.nearest(x, p, k, metric="cosine"))

    @invariant()
    def equals_the_list(self):
        if not hasattr(self, "memory"):
            return
        n, patterns = len(self.patterns), np.array(self.patterns, self.dtype).reshape(-1, self.d)
        assert (len(self.memory), self.memory.shape, self.memory.dtype) == (n, (n, self.d), self.dtype)
        assert_same(self.memory.patterns, patterns)
        assert_same(list(self.memory), list(patterns))
        if self.values is None:
            assert self.memory.values is None
        else:
            assert len(self.memory.values) == n
            assert n == 0 or np.array_equal(self.memory.values, self.values)

    @invariant()
    def directions_follow_the_patterns(self):
        if hasattr(self, "memory") and (kept := self.memory._settled().patterns._directions) is not None:
            assert_same(kept[:], directions("patterns", self.memory.patterns).astype(np.float32))

    def teardown(self):
        for arrays, before in getattr(self, "returned", []):
            assert_same(arrays, before)
        for contents, before in getattr(self, "read", []):
            assert_same(self.answers(contents), before)
        reduction.BLOCK = getattr(self, "block", reduction.BLOCK)


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)


# Queries


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("energy", [*ENERGIES, Bowl(0.3)], ids=repr)
def test_queries_match_the_functions_on_the_patterns(backend, dtype, energy):
    rng = np.random.default_rng(0)
    p, x, v = (rng.normal(size=size).astype(dtype) for size in ((130, 3), (5, 3), (130, 2)))
    bare, full = Memory(p[:64], energy=energy), Memory(p[:64], v[:64], energy)
    bare.add(p[64:])
    full.add(p[64:], v[64:])
    for q in (x, x[0]):
        for memory in (bare, full):
            assert_same(memory.energies(q), energy.value(q, p))
            assert_same(memory.weights(q), energy.weights(q, p))
            for metric in ("euclidean", "dot", "cosine"):
                assert_same(memory.nearest(q, 3, metric=metric), hopmin.nearest(q, p, 3, metric=metric))
            assert_same(memory.within(q, 1.0), hopmin.within(q, p, 1.0))
            options = {"metric": "dot", "sort": False, "csr": True}
            assert_same(memory.within(q, 1.0, **options), hopmin.within(q, p, 1.0, **options))
            found, expected = memory.retrieve(q), hopmin.retrieve(q, p, energy)
            for name in ("states", "energies", "steps", "residual", "weights", "nearest", "kind"):
                assert_same(getattr(found, name), getattr(expected, name))
        assert_same(bare.update(q), energy.update(q, p))
        assert_same(full.update(q), energy.update(q, p, v))
        assert_same(full.retrieve(q).values, hopmin.retrieve(q, p, energy, values=v).values)


def test_options_are_passed_to_retrieve():
    p, v, x = np.eye(3), np.arange(3.0)[:, None], np.full((2, 3), 0.4)
    memory = Memory(p, v, DistanceEnergy(5.0))
    options = {"allowed": np.array([[True, True, False], [False, True, True]]), "clamp": [True, False, False], "damping": 0.5, "max_steps": 7}
    found = memory.retrieve(x, **options)
    expected = hopmin.retrieve(x, p, DistanceEnergy(5.0), values=v, **options)
    for name in ("states", "steps", "weights", "values"):
        assert_same(getattr(found, name), getattr(expected, name))
    assert (found.weights[[0, 1], [2, 0]] == 0).all()
    assert (found.states[:, 0] == 0.4).all()
    assert_same(memory.retrieve(x, values=-v).values, hopmin.retrieve(x, p, DistanceEnergy(5.0), values=-v).values)
    with pytest.raises(TypeError, match="beat"):
        memory.retrieve(x, beat=3)


def test_update_averages_values_of_any_numeric_dtype_and_shape():
    p, x, w = np.array([[0.0], [1.0]]), [[0.2], [0.9]], DistanceEnergy().weights([[0.2], [0.9]], [[0.0], [1.0]])
    truth = Memory(p, [True, False])
    assert_same(truth.update(x), w[:, 0])
    assert_same(truth.update(x[0]), w[0, 0])
    boxes = np.arange(12).reshape(2, 2, 3)
    np.testing.assert_allclose(Memory(p, boxes).update(x), np.einsum("mn,nab->mab", w, boxes), rtol=1e-15)
    assert Memory(p, boxes).update(x[0]).shape == (2, 3)
    assert Memory(p, boxes).update(np.zeros((0, 1))).shape == (0, 2, 3)
    assert Memory(p, boxes).retrieve(x).values.shape == (2, 6)
    assert Memory(p.astype("float32"), np.float16([1, 2])).update(np.float32([0.5])).dtype == np.float32


@pytest.mark.parametrize("values", [["a", "b"], np.array([1j, 2.0]), np.array(["2024-01-01", "2024-01-02"], "M8[D]")])
def test_update_refuses_values_that_are_not_numbers(values):
    memory = Memory([[0.0], [1.0]], values)
    with pytest.raises(TypeError) as caught:
        memory.update([0.5])
    assert str(caught.value) == f"values must be real numbers to be averaged; got dtype {memory.values.dtype}"
    assert_same(memory.retrieve([0.1]).values, hopmin.retrieve([0.1], memory.patterns, DistanceEnergy()).values)


def test_update_refuses_empty_values():
    memory = Memory([[0.0], [1.0]], np.zeros((2, 0)))
    assert_same(memory.retrieve([0.1]).states, Memory([[0.0], [1.0]]).retrieve([0.1]).states)
    with pytest.raises(ValueError, match=r"^values must not be empty; got shape \(2, 0\)$"):
        memory.update([0.1])


def test_an_empty_batch_gives_empty_results():
    none = np.zeros((0, 2))
    for memory in (Memory(np.eye(2)), Memory(np.eye(2), ["a", "b"])):
        assert memory.energies(none).shape == memory.lookup(none).indices.shape == (0,)
        assert memory.nearest(none)[0].shape == (0, 1)
        assert memory.retrieve(none).states.shape == (0, 2)
    assert Memory(np.eye(2)).lookup(none).values.shape == (0, 2)
    assert Memory(np.eye(2), [[[1]], [[2]]]).lookup(none).values.shape == (0, 1, 1)


def test_many_threads_may_query():
    rng = np.random.default_rng(0)
    memory = Memory(rng.normal(size=(300, 4)), rng.normal(size=300))
    x = rng.normal(size=(20, 4))

    def query():
        return [memory.energies(x), memory.update(x), *memory.nearest(x, 3), *memory.lookup(x), memory.patterns, memory.values]

    expected, wrong = query(), []

    def reader():
        try:
            for _ in range(20):
                assert_same(query(), expected)
        except AssertionError as error:
            wrong.append(error)

    readers = [threading.Thread(target=reader) for _ in range(8)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join()
    assert wrong == []


# Changes


def labelled():
    return Memory(np.arange(200.0, dtype="float32").reshape(100, 2), [f"v{i}" for i in range(100)])


def bare():
    return Memory(np.arange(200.0).reshape(100, 2))


def numbered():
    return Memory(np.arange(200.0).reshape(100, 2), np.arange(300.0).reshape(100, 3))


REFUSED = [
    (labelled, lambda m: m.add([1.0, 2.0, 3.0], "a"), "patterns must have shape (k, d) with d = 2; got (3,)"),
    (labelled, lambda m: m.add([], []), "patterns must have shape (k, d) with d = 2; got (0,)"),
    (labelled, lambda m: m.add(np.zeros((0, 2)), []), "patterns must not be empty; got shape (0, 2)"),
    (labelled, lambda m: m.add([[0.0, 0.0], [1.0, math.nan]], ["a", "b"]), "patterns must be finite; got nan at index (1, 1)"),
    (labelled, lambda m: m.add([1e39, 0.0], "a"), "patterns must fit into float32; got values up to 1e+39"),
    (labelled, lambda m: m.add(["a", "b"], "a"), "patterns must be real numbers; got dtype <U1"),
    (labelled, lambda m: m.add([1.0, 2.0]), "values must be given if and only if the memory has values; got None"),
    (bare, lambda m: m.add([1.0, 2.0], "a"), "values must be given if and only if the memory has values; got <U1 of shape (k)"),
    (labelled, lambda m: m.add([1.0, 2.0], 7), "values must match the stored ones, <U3 of shape (k); got int64 of shape (k)"),
    (labelled, lambda m: m.add([1.0, 2.0], b"a"), "values must match the stored ones, <U3 of shape (k); got |S1 of shape (k)"),
    (labelled, lambda m: m.add([1.0, 2.0], ["a"]), "values must match the stored ones, <U3 of shape (k); got <U1 of shape (k, 1)"),
    (labelled, lambda m: m.add([[1.0, 2.0]] * 2, ["a"]), "values must have shape (n, ...) with n = 2; got (1,)"),
    (labelled, lambda m: m.add([1.0, 2.0], {}), "values must not be an object array; got dtype object"),
    (numbered, lambda m: m.add([1.0, 2.0], ["1", "2", "3"]), "values must match the stored ones, float64 of shape (k, 3); got <U1 of shape (k, 3)"),
    (numbered, lambda m: m.add([1.0, 2.0], np.zeros(3, "m8[s]")), "values must match the stored ones, float64 of shape (k, 3); got timedelta64[s] of shape (k, 3)"),
    (numbered, lambda m: m.add([1.0, 2.0], [1.0, 2.0]), "values must match the stored ones, float64 of shape (k, 3); got float64 of shape (k, 2)"),
    (numbered, lambda m: m.add([1.0, 2.0], np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0])), "values must not be a masked array; got one"),
    (numbered, lambda m: m.add([[1.0, 2.0]] * 2, [[1.0], [2.0, 3.0]]), "values must be a rectangular array; got rows of different lengths"),
    (labelled, lambda m: m.remove(100), "indices must be unique integers from 0 to 99; got [100]"),
    (labelled, lambda m: m.remove([3, -1]), "indices must be unique integers from 0 to 99; got [3, -1]"),
    (labelled, lambda m: m.remove([3, 3]), "indices must be unique integers from 0 to 99; got [3, 3]"),
    (labelled, lambda m: m.remove([[3]]), "indices must be unique integers from 0 to 99; got [[3]]"),
    (labelled, lambda m: m.remove([True] * 100), "indices must be integers; got dtype bool"),
    (labelled, lambda m: m.remove(1.0), "indices must be integers; got dtype float64"),
    (labelled, lambda m: m.remove("1"), "indices must be integers; got dtype <U1"),
    (labelled, lambda m: m.remove(10**30), "indices must be integers; got dtype object"),
    (labelled, lambda m: m.replace([0, 1], [1.0, 2.0], "a"), "indices must have one entry for each of the 1 patterns; got 2"),
    (labelled, lambda m: m.replace([0, 0], [[1.0, 2.0]] * 2, ["a", "b"]), "indices must be unique integers from 0 to 99; got [0, 0]"),
    (labelled, lambda m: m.replace(0, [1.0, math.inf], "a"), "patterns must be finite; got inf at index (0, 1)"),
    (labelled, lambda m: m.replace(0, [1.0, -1e39], "a"), "patterns must fit into float32; got values up to 1e+39"),
    (labelled, lambda m: m.replace(0, [1.0, 2.0]), "values must be given if and only if the memory has values; got None"),
    (numbered, lambda m: m.replace([0, 1], [[1.0, 2.0]] * 2, [["a"] * 3] * 2), "values must match the stored ones, float64 of shape (k, 3); got <U1 of shape (k, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "change", "expected"), REFUSED, ids=[expected for _, _, expected in REFUSED])
def test_a_change_that_raises_changes_nothing(make, change, expected):
    memory = make()
    before = state(memory)
    with pytest.raises((ValueError, TypeError)) as caught:
        change(memory)
    assert str(caught.value) == expected
    assert state(memory) == before


def test_running_out_of_memory_changes_nothing(monkeypatch):
    memory, original = labelled(), np.zeros

    def zeros(shape, dtype=float):
        if np.ndim(shape) and len(shape) == 3:  # a buffer of panels
            raise MemoryError
        return original(shape, dtype)

    before = state(memory)
    with monkeypatch.context() as patch:
        patch.setattr(np, "zeros", zeros)
        with pytest.raises(MemoryError):
            memory.add(np.ones((1000, 2)), ["wide enough to be copied"] * 1000)
    assert state(memory) == before


@pytest.mark.parametrize(
    ("patterns", "values", "expected"),
    [
        (np.zeros((2, 0)), None, "patterns must not be empty; got shape (2, 0)"),
        (np.zeros((0, 0)), None, "patterns must not be empty; got shape (0, 0)"),
        ([], None, "patterns must have shape (n, d); got (0,)"),
        (np.zeros((0, 2)), ["a"], "values must have shape (n, ...) with n = 0; got (1,)"),
        ([1.0, 2.0], None, "patterns must have shape (n, d); got (2,)"),
        ([[1.0, math.inf]], None, "patterns must be finite; got inf at index (0, 1)"),
        ([[1.0]], "a", "values must have shape (n, ...) with n = 1; got ()"),
        ([[1.0]], ["a", "b"], "values must have shape (n, ...) with n = 1; got (2,)"),
        ([[1.0]], [None], "values must not be an object array; got dtype object"),
    ],
)
def test_invalid_patterns_and_values_raise(patterns, values, expected):
    with pytest.raises((ValueError, TypeError)) as caught:
        Memory(patterns, values)
    assert str(caught.value) == expected


def test_an_object_without_the_methods_of_an_energy_raises():
    for wrong in (DistanceEnergy, 3.0, object()):
        with pytest.raises(TypeError, match=r"^energy must be an object with value, update and weights, such as"):
            Memory([[1.0]], energy=wrong)


def test_removing_no_patterns_changes_nothing():
    memory = labelled()
    before = state(memory)
    memory.remove([])
    assert state(memory) == before


@pytest.mark.parametrize("change", [lambda m: m.replace(1, [1.0]), lambda m: m.remove(1)])
def test_a_pattern_too_large_to_query_leaves_no_copies(backend, change):
    """The rest of its panel was filled with it."""
    memory = Memory([[0.0]])
    memory.add([1e200])
    with pytest.raises(ValueError, match=r"^queries and patterns must be small enough to square in float64"):
        memory.energies([0.5])
    change(memory)
    assert memory.energies([0.5]) <= 0.25


@pytest.mark.parametrize("n", [63, 64, 65, 127, 128])
def test_changes_at_the_ends_of_panels_and_blocks(backend, monkeypatch, n):
    monkeypatch.setattr(reduction, "BLOCK", 128)
    rows = np.arange(2.0 * 200).reshape(200, 2)
    memory = Memory(rows[:n])
    memory.add(rows[n:])
    memory.remove(range(n, 200))
    memory.replace(n - 1, [-1.0, -2.0])
    memory.add(rows[:1])
    expected = np.array([*rows[: n - 1], [-1.0, -2.0], rows[0]])
    assert_same(memory.patterns, expected)
    assert_same(memory.energies(rows[:3]), DistanceEnergy().value(rows[:3], expected))
    for part in (slice(60, 66), slice(120, None), slice(None, None, 7), slice(-2, None)):
        assert_same(memory[part], expected[part])


def test_adding_takes_amortized_constant_time(monkeypatch):
    """Over many additions, the rows packed and the buffers allocated are a constant for each row added."""
    core, packed, allocated = _backend.core, [], []

    class Counting:
        def __getattr__(self, name):
            return getattr(core, name)

        def pack(self, rows, panels):
            packed.append(len(rows))
            core.pack(rows, panels)

    def counted(original):
        def allocate(shape, dtype=float):
            allocated.append(math.prod(np.atleast_1d(shape)))
            return original(shape, dtype)

        return allocate

    monkeypatch.setattr(reduction, "BLOCK", 512)
    monkeypatch.setattr(_backend, "core", Counting())
    memory = Memory(np.zeros((1, 1)), [0])
    for name in ("empty", "zeros"):
        monkeypatch.setattr(np, name, counted(getattr(np, name)))
    for i in range(2000):
        memory.add([float(i)], i)
    monkeypatch.undo()
    assert sum(packed) <= 2000
    assert sum(allocated) < 5 * 2001 + 64 * 2
    assert memory.values.tolist() == [0, *range(2000)]


def test_longer_strings_do_not_enlarge_the_buffer():
    memory = Memory([[0.0]], [""])
    for i in range(1, 40):
        memory.add([float(i)], "x" * i)
    assert len(memory._contents.buffer) == 64
    assert memory.values.tolist() == ["x" * i for i in range(40)]


@pytest.mark.parametrize(
    ("first", "then", "dtype"),
    [
        ([1, 2], 0.5, "float64"),
        ([True, False], 7, "int64"),
        ([1, 2], 0.5j, "complex128"),
        (["a", "b"], "longer", "<U6"),
        ([b"a", b"b"], b"longer", "|S6"),
        (np.float32([1, 2]), 0.1, "float64"),
        (np.int8([1, 2]), np.int8(3), "int8"),
        (np.array(["2024", "2025"], "M8[Y]"), np.datetime64("2026-01-02"), "M8[D]"),
        (np.array(["NaT", "2025"], "M8[Y]"), np.datetime64("2026-01-02"), "M8[D]"),
        (np.array([(1, 2.0), (3, 4.0)], "i4,f8"), np.array((5, 6.0), "i4,f8"), "i4,f8"),
    ],
)
def test_values_are_widened_without_loss(first, then, dtype):
    memory = Memory([[0.0], [1.0]], first)
    memory.add([2.0], then)
    memory.replace(0, [9.0], then)
    assert memory.values.dtype == dtype
    assert memory.values.tolist() == np.array([then, first[1], then], dtype).tolist()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (np.uint64([2**63 + 1, 2]), 7),  # their common dtype is float64
        (np.int64([2**53 + 1, 2]), 0.5),
        (np.int64([1, 2]), np.uint64(2**63 + 1)),
        (np.int64([2**63 - 1, 2]), 0.5j),
        (np.array(["20200-01-01", "2025-01-01"], "M8[D]"), np.datetime64("2026-01-01T00:00:00.000000001")),
    ],
)
def test_values_without_an_exact_common_dtype_raise(first, then):
    memory = Memory([[0.0], [1.0]], first)
    for change in (lambda: memory.add([2.0], then), lambda: memory.replace(1, [2.0], then)):
        with pytest.raises(TypeError, match=r"^values must match the stored ones, "):
            change()
    np.testing.assert_array_equal(memory.values, first, strict=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.replace(0, [9.0, 9.0], [9.0, 9.0, 9.0]),
        lambda m: m.remove(0),
        lambda m: m.add([9.0, 9.0], [9.0, 9.0, 9.0]),
    ],
)
def test_returned_arrays_are_not_affected_by_changes(change):
    memory, x = numbered(), [[3.0, 4.0], [0.0, 1.0]]
    found, same = memory.retrieve(x), memory.retrieve(x)
    given = [memory.patterns, memory.values, *memory.lookup(x), *list(memory)]
    before = copy.deepcopy(given)
    expected = [same.values, same.weights, same.margin]
    change(memory)
    assert_same(given, before)
    assert_same([found.values, found.weights, found.margin], expected)


def test_modifying_returned_arrays_does_not_affect_the_memory():
    p, v = np.eye(2), np.array([1.0, 2.0])
    memory = Memory(p, v)
    before = state(memory)
    for array in (p, v, memory.patterns, memory.values, memory.lookup(p).values, memory.retrieve(p).states, next(iter(memory))):
        array += 7
    assert state(memory) == before


@pytest.mark.parametrize("make", [labelled, bare, numbered])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_independent(make, copied):
    memory = make()
    memory.remove(range(50))
    before, other = state(memory), copied(memory)
    assert state(other) == before
    assert other.energy == memory.energy
    other.remove(0)
    assert state(memory) == before
    assert len(pickle.dumps(other)) < len(pickle.dumps(make()))  # removed patterns are not pickled


# Empty memories


QUERIES_OF_NONE = {
    "energies": lambda m: m.energies([1.0, 2.0]), "weights": lambda m: m.weights([1.0, 2.0]),
    "update": lambda m: m.update([1.0, 2.0]), "retrieve": lambda m: m.retrieve([1.0, 2.0]),
    "nearest": lambda m: m.nearest([1.0, 2.0]), "cosine": lambda m: m.nearest([1.0, 2.0], metric="cosine"),
    "within": lambda m: m.within([1.0, 2.0], 3.0),
}  # fmt: skip


@pytest.mark.parametrize("energy", [DistanceEnergy(), Bowl()], ids=repr)
@pytest.mark.parametrize("query", QUERIES_OF_NONE)
def test_queries_of_an_empty_memory_raise(query, energy):
    for memory in (Memory(np.empty((0, 2)), energy=energy), Memory([[1.0, 2.0]], [3.0], energy)):
        if len(memory):
            memory.remove(0)
        with pytest.raises(ValueError, match=r"^memory must hold at least one pattern to be queried; got an empty one$"):
            QUERIES_OF_NONE[query](memory)


@pytest.mark.parametrize(("values", "zero"), [(None, [0.0, 0.0]), (["a"], ""), ([7], 0), ([[1.0, 2.0, 3.0]], [0.0, 0.0, 0.0])])
def test_a_lookup_in_an_empty_memory_finds_nothing(values, zero):
    memory = Memory([[1.0, 2.0]], values)
    memory.remove(0)
    found = memory.lookup([3.0, 4.0])
    assert_same(found.values, np.array(zero, found.values.dtype))
    assert (found.indices, found.similarities) == (-1, -np.inf)
    batch = memory.lookup(np.ones((3, 2)), k=2, min_similarity=0.5)
    assert_same(batch.indices, np.full((3, 2), -1))
    assert batch.values.shape == (3, 2, *np.shape(zero))
    with pytest.raises(ValueError, match=r"^queries must have shape \(m, d\) with d = 2; got \(3,\)$"):
        memory.lookup([1.0, 2.0, 3.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("declared", "values"), [(None, None), (None, ["a", "bc"]), ([], ["a", "bc"]), ([], [[1.0], [2.0]])])
def test_the_first_patterns_decide_on_the_values(declared, values, dtype):
    memory = Memory(np.empty((0, 2), dtype), declared)
    assert (memory.shape, memory.dtype, list(memory), memory.patterns.shape) == ((0, 2), dtype, [], (0, 2))
    assert memory.add(np.eye(2), values).tolist() == [0, 1]
    assert state(memory) == state(Memory(np.eye(2, dtype=dtype), values))
    memory.remove([0, 1])
    assert (memory.values is None) == (values is None)
    assert memory.add([5.0, 6.0], None if values is None else 7) == 0
    assert values is None or memory.values.tolist() == [7]


def test_an_empty_memory_with_values_requires_values():
    memory = Memory(np.empty((0, 2)), [])
    with pytest.raises(ValueError, match=r"^values must be given if and only if the memory has values; got None$"):
        memory.add([1.0, 2.0])


@pytest.mark.parametrize("values", [None, [], np.empty((0, 3), "float32"), np.empty(0, "U5")])
@pytest.mark.parametrize("mmap", [False, True])
def test_empty_memories_are_saved_and_copied(tmp_path, values, mmap):
    memory = Memory(np.empty((0, 3), "float32"), values, DotEnergy(2.0))
    for back in (saved(tmp_path / "memory.npz", memory, mmap=mmap), copy.copy(memory), pickle.loads(pickle.dumps(memory))):
        assert (back.shape, back.dtype, back.energy) == ((0, 3), "float32", DotEnergy(2.0))
        assert_same(back.values is None, values is None)
        assert values is None or back.values.dtype == np.asarray(values).dtype
        assert back.lookup([1.0, 2.0, 3.0]).indices == -1


# One pattern, several patterns


@pytest.mark.parametrize("index", [0, 3, -1, -100, np.int64(64), slice(2, 9), slice(None, None, -3), [3, 1, 3], [-1, 2], np.arange(100) > 90, (5, 1)])
def test_indexing_is_that_of_the_patterns(tmp_path, index):
    memory = labelled()
    for each in (memory, saved(tmp_path / "memory.npz", memory, mmap=True)):
        assert_same(each[index], memory.patterns[index])
    part = np.asarray(memory[index])
    part += part.dtype.type(1)
    assert state(memory) == state(labelled())


@pytest.mark.parametrize("index", [100, -101])
def test_an_index_outside_raises(index):
    empty = Memory(np.empty((0, 2)))
    with pytest.raises(IndexError, match=r"^index must be a slice, as there are no patterns; got 0$"):
        empty[0]
    with pytest.raises(ValueError, match=r"^indices must be empty, as nothing is stored; got \[0\]$"):
        empty.remove(0)
    with pytest.raises(IndexError) as caught:
        labelled()[index]
    assert str(caught.value) == f"index must be from -100 to 99; got {index}"
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 100"):
        labelled()[np.array([0, index])]


# Values of mixed types


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([("a", 1), ("b", 2)], "'a' and 1"),
        ([1, "a"], "1 and 'a'"),
        ([1.5, "a"], "1.5 and 'a'"),
        ([True, "a"], "True and 'a'"),
        (["a", b"b"], "'a' and b'b'"),
        ([np.float32(1), "a"], "np.float32(1.0) and 'a'"),
    ],
)
def test_strings_mixed_with_numbers_raise(values, found):
    message = f"values must be all strings or all numbers, or a structured array; got {found}"
    memory = Memory(np.eye(2), ["a", "b"])
    for store in (lambda: Memory(np.eye(2), values), lambda: memory.add(np.eye(2), values), lambda: memory.replace([0, 1], np.eye(2), values)):
        with pytest.raises(TypeError) as caught:
            store()
        assert str(caught.value) == message
    assert memory.values.tolist() == ["a", "b"]


@pytest.mark.parametrize("values", [["a", np.str_("b")], np.array(["a", "b"]), [["a", "b"], ["c", "d"]], [b"a", np.bytes_(b"b")], [1, True], [np.array(["a"]), np.array(["b"])]])
def test_values_of_one_type_are_stored(values):
    assert_same(Memory(np.eye(2), values).values, np.asarray(values))


def test_structured_values_hold_strings_and_numbers():
    memory = Memory(np.eye(2), np.array([("a", 1), ("b", 2)], [("name", "U8"), ("count", int)]))
    memory.add([2.0, 1.0], np.array(("c", 3), memory.values.dtype))
    assert memory.values["count"].tolist() == [1, 2, 3]
    assert memory.lookup([0.1, 1.0]).values["name"] == "b"
    assert memory.lookup([0.1, -1.0], min_similarity=0.9).values["name"] == ""


# Lookup


@pytest.mark.parametrize("values", [None, [f"v{i}" for i in range(9)], np.arange(18.0).reshape(9, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lookup_of_several_gives_the_best_first(values, dtype, backend):
    rng = np.random.default_rng(0)
    p, x = rng.normal(size=(9, 4)).astype(dtype), rng.normal(size=(5, 4)).astype(dtype)
    memory, stored = Memory(p, values), p if values is None else np.asarray(values)
    distances, indices = hopmin.nearest(x, p, 9, metric="cosine")
    for k in (1, 4, 9, 12):
        found, kept = memory.lookup(x, k=k), min(k, 9)
        assert_same(found.indices[:, :kept], indices[:, :kept])
        assert_same(found.similarities[:, :kept], 1 - distances[:, :kept])
        assert_same(found.values[:, :kept], stored[indices[:, :kept]])
        assert (found.indices[:, kept:] == -1).all()
        assert (found.similarities[:, kept:] == -np.inf).all()
        assert_same(found.values[:, kept:], np.zeros((5, k - kept, *stored.shape[1:]), stored.dtype))
        for i in range(5):
            assert_same(memory.lookup(x[i], k=k), [field[i] for field in found])
    least = float(np.median(1 - distances))
    gated = memory.lookup(x, k=9, min_similarity=least)
    assert_same(gated.indices, np.where(gated.similarities >= least, indices, -1))
    assert_same([field[:, 0] for field in memory.lookup(x, k=1)], list(memory.lookup(x)))


def test_directions_are_kept_after_the_first_lookup(monkeypatch):
    memory, scaled = bare(), []
    memory.remove(0)  # a pattern of zeros would have no direction
    original = reduction.directions
    monkeypatch.setattr(reduction, "directions", lambda name, rows, first=0: scaled.append(len(rows)) or original(name, rows, first))
    memory.lookup([1.0, 2.0])
    memory.nearest([1.0, 2.0], metric="cosine")
    assert scaled == [99]
    memory.add([1.0, 2.0])
    memory.replace([0, 1], [[1.0, 2.0]] * 2)
    memory.remove([4, 5])
    assert memory.lookup([1.0, 2.0]).indices == 0
    assert scaled == [99, 1, 2]
    assert len(pickle.dumps(memory)) < 2 * memory.patterns.nbytes


def test_a_pattern_of_zeros_has_no_direction_until_removed():
    memory = Memory([[1.0, 0.0], [0.0, 1.0]], ["a", "b"])
    assert memory.lookup([1.0, 0.1]).values == "a"
    memory.add([0.0, 0.0], "zero")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^patterns must have no row of zeros for metric 'cosine'; got one at index 2$"):
            memory.lookup([1.0, 0.1])
    memory.replace(2, [5.0, 0.5], "c")
    assert memory.lookup([1.0, 0.1]).values == "c"


def test_representations_are_short():
    rng = np.random.default_rng(0)
    memory = Memory(rng.normal(size=(3000, 50)), ["long text " * 50] * 3000)
    small, large = memory.lookup(rng.normal(size=50)), memory.lookup(rng.normal(size=(2000, 50)), k=3, min_similarity=0.3)
    assert repr(small) == str(small) == f"Lookup(values <U500 (), indices {small.indices}, similarities {small.similarities:.3f})"
    assert re.fullmatch(r"Lookup\(values <U500 \(2000, 3\), indices int64 \(2000, 3\), similarities float64 \(2000, 3\)\)", repr(large))
    for each in (small, large, memory, Memory(np.ones((2, 900)), energy=HopfieldEnergy(bias=[0.5] * 900))):
        assert len(repr(each)) < 200
        assert "\n" not in repr(each)


def vectors(least=1):
    return st.lists(st.integers(-50, 50), min_size=3, max_size=3).filter(lambda v: any(v))


@given(st.lists(vectors(), min_size=1, max_size=6, unique_by=tuple), vectors(), st.sampled_from([-1.0, -0.3, 0.0, 0.65, 0.9, 1.0]))
def test_the_threshold_is_a_ball_around_directions(keys, query, least):
    """cos >= threshold if and only if |u - v|^2 <= 2 (1 - threshold), for u and v of length one (NeuralDB)."""
    found = Memory(keys, values=np.arange(1, len(keys) + 1)).lookup(query, min_similarity=least)
    distances = [helpers.cosine_distance(query, key) for key in keys]
    assert abs(found.similarities - (1 - min(distances))) < 1e-15
    if abs((1 - min(distances)) - least) > 1e-15:  # otherwise the result depends on rounding
        units = [[a / math.hypot(*v) for a in v] for v in (query, *keys)]
        inside = any(helpers.squared_distance(units[0], unit) < 2 * (1 - least) for unit in units[1:])
        assert inside == (found.indices >= 0) == (found.values > 0)
    if found.indices >= 0:
        assert distances[found.indices] <= min(distances) + 1e-15
        assert found.values == found.indices + 1
    else:
        assert (found.indices, found.values) == (-1, 0)


def test_the_threshold_is_exact_for_an_exact_cosine():
    """The cosine of (3, 4) and (1, 0) is 3/5; the nearest float lies below it."""
    memory = Memory([[3.0, 4.0]], ["stored"])
    assert Fraction(0.6) < Fraction(3, 5)
    assert memory.lookup([1.0, 0.0], min_similarity=0.599999).values == "stored"
    assert memory.lookup([1.0, 0.0], min_similarity=0.600001).values == ""


@given(st.lists(vectors(), min_size=1, max_size=6), st.sampled_from([2.0**-20, 0.3, 7.0, 2.0**20]))
def test_stored_keys_are_found_exactly_at_any_length(keys, scale):
    memory = Memory(keys, values=np.arange(len(keys)))
    found = memory.lookup(np.array(keys), min_similarity=1 - 1e-12)
    scaled = memory.lookup(scale * np.array(keys), min_similarity=1 - 1e-12)
    assert (found.similarities == 1).all()
    assert_same(memory.lookup(np.array(keys), min_similarity=1.0), found)
    for i, key in enumerate(keys):  # the first key of the same direction
        first = min(j for j, other in enumerate(keys) if helpers.cosine_distance(key, other) < 1e-12)
        assert np.array_equal(np.cross(keys[found.indices[i]], key), [0, 0, 0])
        assert first <= found.indices[i] <= i
    np.testing.assert_allclose(scaled.similarities, 1, rtol=0, atol=1e-15)
    assert (scaled.indices >= 0).all()


def test_lookup_follows_changes():
    """The three edits of NeuralDB: append, replace, remove."""
    keys = np.eye(4)
    memory = Memory(keys[:2], values=[[1.0, 1.0], [2.0, 2.0]])
    threshold = {"min_similarity": 0.65}
    assert_same(memory.lookup(keys[2], **threshold).values, np.zeros(2))
    memory.add(keys[2], [3.0, 3.0])
    assert_same(memory.lookup(5 * keys[2], **threshold).values, np.array([3.0, 3.0]))
    memory.replace(2, keys[2], [4.0, 4.0])
    assert_same(memory.lookup(keys[2], **threshold).values, np.array([4.0, 4.0]))
    memory.remove(0)
    assert_same(memory.lookup(keys[[0, 1, 2]], **threshold).values, np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]]))
    assert_same(memory.lookup(keys[[0, 1, 2]], **threshold).indices, np.array([-1, 0, 1]))


def test_similarities_stay_within_minus_one_and_one():
    x = np.random.default_rng(0).normal(size=(500, 7))
    lowest = [Memory(-row[None]).lookup(row, min_similarity=-1) for row in x]
    assert all(-1 <= found.similarities < -1 + 2e-15 and found.indices == 0 for found in lowest)
    single = np.float32(x)
    assert_same([Memory(-row[None]).lookup(row, min_similarity=-1).indices for row in single], [np.int64(0)] * 500)


def test_lookup_of_a_single_query_gives_results_without_m():
    for memory in (numbered(), labelled(), bare(), Memory(np.eye(2), np.arange(8).reshape(2, 2, 2))):
        for least in (None, 0.99):
            x = memory.patterns[:2] + 0.1
            batch = memory.lookup(x, min_similarity=least)
            for i in range(2):
                single = memory.lookup(x[i], min_similarity=least)
                assert_same(single, [field[i] for field in batch])
                assert isinstance(single.values, np.ndarray) == (batch.values.ndim > 1)
                assert isinstance(single.indices, np.int64)


@pytest.mark.parametrize(
    ("values", "zero"),
    [(["a", "b"], ""), ([1, 2], 0), ([True, True], False), ([[1.0, 2.0]] * 2, [0.0, 0.0]), (None, [0.0, 0.0])],
)
def test_lookup_gives_zero_below_the_threshold(values, zero):
    found = Memory(np.eye(2), values).lookup([-1.0, -1.0], min_similarity=0)
    assert_same(found.values, np.array(zero, found.values.dtype))
    assert found.indices == -1
    assert found.similarities == pytest.approx(-math.sqrt(0.5), rel=1e-15)


@pytest.mark.parametrize(
    ("memory", "query", "options", "expected"),
    [
        (np.eye(2), [0.0, 0.0], {}, "queries must have no row of zeros for metric 'cosine'; got one at index 0"),
        ([[1.0, 0.0], [0.0, 0.0]], [1.0, 0.0], {}, "patterns must have no row of zeros for metric 'cosine'; got one at index 1"),
        (np.eye(2), [1.0, 0.0], {"min_similarity": 1.5}, "min_similarity must be a number in [-1, 1]; got 1.5"),
        (np.eye(2), [1.0, 0.0], {"min_similarity": math.nan}, "min_similarity must be a number in [-1, 1]; got nan"),
        (np.eye(2), [1.0, 0.0], {"k": 0}, "k must be an integer >= 1; got 0"),
        (np.eye(2), [1.0, 0.0], {"k": 1.0}, "k must be an integer >= 1; got 1.0"),
        (np.eye(2), [1.0, 0.0], {"min_similarity": "0"}, "min_similarity must be a number in [-1, 1]; got '0'"),
    ],
)
def test_invalid_lookups_raise(memory, query, options, expected):
    with pytest.raises((ValueError, TypeError)) as caught:
        Memory(memory).lookup(query, **options)
    assert str(caught.value) == expected


# Files


def saved(path, memory, **options):
    memory.save(path)
    return Memory.load(path, **options)


VALUES = {
    "none": None,
    "strings": ["", "short", "naïve β, and longer"],
    "empty strings": ["", "", ""],
    "bytes": [b"", b"a", b"bc"],
    "booleans": [True, False, True],
    "integers": np.array([2**62, -1, 0]),
    "vectors": np.array([[0.1, -0.0], [math.inf, 1e-320], [math.nan, 2.0]]),
    "matrices": np.arange(12.0).reshape(3, 2, 2),
    "empty": np.zeros((3, 0)),
    "days": np.array(["2024-01-01", "NaT", "1900-12-31"], "M8[D]"),
    "complex": np.array([1j, 2.0, 3.0]),
    "records": np.array([(1, 2.0), (3, 4.0), (5, 6.0)], [("a", "i4"), ("b", "f8")]),
    "big-endian": np.array([1.0, 2.0, 3.0], ">f8"),
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_saved_memories_are_loaded_bit_for_bit(tmp_path, values, dtype, mmap):
    path = tmp_path / "memory.npz"
    memory = Memory(np.array([[0.1, -0.0], [1e-30, 2.0], [3.0, -4.0]], dtype), values, DotEnergy(3.0))
    back = saved(path, memory, mmap=mmap)
    assert (back.shape, back.dtype, len(back), back.energy) == ((3, 2), dtype, 3, DotEnergy(3.0))
    assert_same(back.patterns, memory.patterns)
    assert (back.values is None) == (values is None)
    if values is not None:
        assert_same(back.values, np.asarray(values))
    with np.load(path) as file:  # NumPy reads it too
        assert_same(file["patterns"], memory.patterns)
        assert set(file) == {"hopmin", "patterns"} | (set() if values is None else {"values"})


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("n", [1, 63, 64, 65])
def test_unused_capacity_is_not_saved(tmp_path, n, mmap):
    memory = Memory(np.ones((200, 2)), range(200))
    memory.remove(range(n, 200))
    back = saved(tmp_path / "memory.npz", memory, mmap=mmap)
    assert_same([back.patterns, back.values], [np.ones((n, 2)), np.arange(n)])


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("energy", ENERGIES, ids=repr)
def test_continuous_energies_are_saved(tmp_path, energy, mmap):
    back = saved(tmp_path / "memory.npz", Memory(np.eye(2), energy=energy), mmap=mmap)
    assert back.energy == energy
    assert_same(back.update([0.3, 0.1]), energy.update([0.3, 0.1], np.eye(2)))
    assert Memory.load(tmp_path / "memory.npz", mmap=mmap, energy=DotEnergy(9.0)).energy == DotEnergy(9.0)


BINARY = [
    HopfieldEnergy(), HopfieldEnergy(rule="pseudo-inverse", order="synchronous", self_coupling=True),
    HopfieldEnergy(bias=0.5, order=[2, 0]), HopfieldEnergy(bias=[0.1, -0.2, 0.3]), PolynomialEnergy(4, rectified=True),
    ExponentialEnergy(order=(1,)),
]  # fmt: skip


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("energy", BINARY, ids=repr)
def test_binary_energies_are_saved(tmp_path, energy, mmap):
    p = np.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    back = saved(tmp_path / "memory.npz", Memory(p, ["a", "b"], energy), mmap=mmap)
    assert back.energy == energy
    assert_same(back.retrieve(-p).states, hopmin.retrieve(-p, p, energy).states)
    assert_same(back.energies(p[0]), energy.value(p[0], p))


def test_an_energy_with_a_generator_must_be_given_to_load(tmp_path):
    path = tmp_path / "memory.npz"
    Memory([[1.0, -1.0]], energy=HopfieldEnergy(order=np.random.default_rng(0))).save(path)
    with pytest.raises(ValueError, match=r"^energy must be given to load [^\n]*, which was saved with HopfieldEnergy but not"):
        Memory.load(path)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_custom_energy_must_be_given_to_load(tmp_path, mmap):
    path, own = tmp_path / "memory.npz", type("DistanceEnergy", (Bowl,), {})(2.0)  # the name alone is not enough
    for energy, name in ((Bowl(2.0), "Bowl"), (own, "DistanceEnergy")):
        Memory(np.eye(2), [[1.0], [2.0]], energy).save(path)
        with pytest.raises(ValueError) as caught:
            Memory.load(path, mmap=mmap)
        expected = f"energy must be given to load {path}, which was saved with {name} but not its options; got None"
        assert str(caught.value) == expected
        back = Memory.load(path, mmap=mmap, energy=energy)
        np.testing.assert_allclose(back.update([0.2, 0.1]), DistanceEnergy(2.0).update([0.2, 0.1], np.eye(2), [[1.0], [2.0]]))
        with pytest.raises(TypeError, match=r"^energy must be an object with value, update and weights"):
            Memory.load(path, mmap=mmap, energy=Bowl)


@pytest.fixture
def mapped(tmp_path):
    """A memory, and the same memory mapped from a file."""
    rng = np.random.default_rng(0)
    memory = Memory(rng.normal(size=(20000, 3)).astype("float32"), rng.normal(size=20000), DistanceEnergy(9.0))
    return memory, saved(tmp_path / "memory.npz", memory, mmap=True)


def test_a_mapped_memory_gives_the_same_results(backend, mapped, tmp_path):
    loaded, memory = mapped
    assert repr(memory) == "Memory(20000 patterns, d = 3, float32, mapped, values float64, DistanceEnergy(beta=9.0))"
    for x in (loaded.patterns[:7] + np.float32(0.1), loaded.patterns[5], np.zeros((2, 3)) + 0.1):
        for query in (
            lambda m, x=x: [m.energies(x), m.weights(x), m.update(x)],
            lambda m, x=x: [m.nearest(x, 4), m.nearest(x, metric="cosine"), m.within(x, 0.1)],
            lambda m, x=x: [m.lookup(x), m.lookup(x, min_similarity=1.0)],
            lambda m, x=x: [m.retrieve(x, max_steps=2).states, m.retrieve(x, max_steps=2).values],
        ):
            assert_same(query(memory), query(loaded))
    assert_same(np.stack(list(memory)), loaded.patterns)
    assert_same(np.stack(list(loaded)), loaded.patterns)
    loaded.save(tmp_path / "bare.npz")
    bare = Memory.load(tmp_path / "bare.npz", mmap=True)
    assert_same(bare.lookup(np.eye(3), min_similarity=0), loaded.lookup(np.eye(3), min_similarity=0))


def test_lookup_in_a_mapped_memory_returns_copies_of_patterns(tmp_path):
    memory = saved(tmp_path / "memory.npz", Memory(np.eye(2)), mmap=True)
    found = memory.lookup([[1.0, 0.1], [-1.0, 0.0]], min_similarity=0.9)
    assert_same(found.values, np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert type(found.values) is type(memory.patterns) is np.ndarray


def test_a_mapped_memory_cannot_be_changed(mapped):
    _, memory = mapped
    for change in (
        lambda: memory.add([1.0, 2.0, 3.0], 1.0),
        lambda: memory.remove(0),
        lambda: memory.replace(0, [1.0, 2.0, 3.0], 1.0),
    ):
        with pytest.raises(ValueError) as caught:
            change()
        assert str(caught.value) == "memory must be loaded without mmap to be changed; got one mapped from a file"
    for array in (memory.patterns, memory.values, next(iter(memory))):
        with pytest.raises(ValueError, match="read-only"):
            array += 1
    assert len(memory) == 20000


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a mapped file cannot be replaced, and save says so")
def test_a_mapped_memory_can_be_saved_onto_its_own_file(mapped, tmp_path):
    loaded, memory = mapped
    path = tmp_path / "memory.npz"
    before = path.read_bytes()
    memory.save(tmp_path / "other.npz")
    assert (tmp_path / "other.npz").read_bytes() == before
    memory.save(path)
    assert path.read_bytes() == before
    Memory([[7.0]]).save(path)  # the old file is still mapped
    assert_same([memory.patterns, memory.values], [loaded.patterns, loaded.values])
    assert len(Memory.load(path)) == 1


def test_a_copy_of_a_mapped_memory_can_be_changed(mapped):
    loaded, memory = mapped
    for back in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert state(back) == state(loaded)
        back.remove(0)


LIMITED = """
import resource, sys, threading
import numpy as np
import hopmin
hopmin.set_threads(2)
threading.stack_size(1 << 19)  # the limit counts the stacks of threads
path, small, available = sys.argv[1], sys.argv[2], int(sys.argv[3])
def answers(path):
    memory = hopmin.Memory.load(path, mmap=True)
    x = np.stack([memory.patterns[0], memory.patterns[-1]]) + np.float32(0.25)
    inside = [np.concatenate(parts) for parts in memory.within(x.astype(float), 150.0)]
    return [*memory.nearest(x, 3), memory.energies(x), memory.update(x), *memory.lookup(x, min_similarity=0.5), *inside]
answers(small)  # imports and warms up everything
status = dict(line.split(":") for line in open("/proc/self/status"))
limit = 1024 * int(status["VmData"].split()[0]) + available
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
found = answers(path)
memory = hopmin.Memory.load(path, mmap=True)
memory.save(path + ".copy")  # one block at a time, too
try:
    hopmin.Memory.load(path)
except MemoryError:
    print("limited")
np.savez(small, *found)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is one of Linux")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer keeps what is freed")
def test_a_file_four_times_the_free_memory_is_queried_and_saved(tmp_path, run):
    n, d, available = 800_000, 32, 25_000_000
    p = np.random.default_rng(0).integers(-50, 50, (n, d), np.int8).astype(np.float32)
    memory = Memory(p, np.arange(n, dtype=float), DistanceEnergy(1.0))
    path, small = tmp_path / "memory.npz", tmp_path / "small.npz"
    memory.save(path)
    Memory(p[:20_000], np.arange(20_000.0)).save(small)
    assert path.stat().st_size > 4 * available
    finished = run(LIMITED, path, small, available)
    assert (finished.stderr, finished.stdout) == ("", "limited\n")
    x = p[[0, -1]] + np.float32(0.25)
    inside = [np.concatenate(parts) for parts in memory.within(x.astype(float), 150.0)]
    assert 100 < len(inside[0]) < n
    expected = [*memory.nearest(x, 3), memory.energies(x), memory.update(x), *memory.lookup(x, min_similarity=0.5), *inside]
    with np.load(small) as found:
        assert_same([found[name] for name in found.files], expected)
    assert (tmp_path / "memory.npz.copy").read_bytes() == path.read_bytes()


KILLED = """
import importlib, os, signal, sys
import numpy as np
import hopmin
memory = hopmin.Memory(np.ones((100_000, 8)))
module, name = sys.argv[2:]
module = importlib.import_module(module)
function = getattr(module, name)
def dies(*arguments):
    function(*arguments)
    if name == "fsync" or arguments[1]["shape"]:  # not at the first member, which describes the file
        os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, dies)
memory.save(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
@pytest.mark.parametrize("last", [("numpy.lib.format", "write_array_header_1_0"), ("os", "fsync")])
def test_killing_the_process_while_saving_keeps_the_old_file(tmp_path, run, last):
    path = tmp_path / "memory.npz"
    labelled().save(path)
    before = path.read_bytes()
    assert run(KILLED, path, *last).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # the incomplete new file is next to it
    assert path.read_bytes() == before
    assert state(Memory.load(path)) == state(labelled())


def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "memory.npz"
    labelled().save(path)
    before = path.read_bytes()

    def full(out, header):
        out.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(OSError, match="No space left"):
        bare().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def foreign(path, patterns, values=None, records=None, kind="memory"):
    """Write a file as `save` does, with any contents."""
    arrays = {"patterns": patterns} | ({} if values is None else {"values": values})
    records = {"energy": {"name": "DistanceEnergy", "options": {"beta": 1.0}}} if records is None else records
    hopmin._files.save_arrays(path, kind, {k: np.asarray(a) for k, a in arrays.items() if a is not None}, **records)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"patterns": None}, "{} must hold patterns (n, d) and, if any, n values; got float64, (0,)"),
        ({"patterns": [[1, 2]]}, "{} must hold patterns (n, d) and, if any, n values; got int64, (1, 2)"),
        ({"patterns": [["a"]]}, "{} must hold patterns (n, d) and, if any, n values; got <U1, (1, 1)"),
        ({"patterns": [1.0]}, "{} must hold patterns (n, d) and, if any, n values; got float64, (1,)"),
        ({"patterns": np.ones((2, 0))}, "{} must hold patterns (n, d) and, if any, n values; got float64, (2, 0)"),
        ({"patterns": np.ones((2, 1), ">f8")}, "{} must hold patterns (n, d) and, if any, n values; got >f8, (2, 1)"),
        ({"patterns": np.ones((2, 1)), "values": [1]}, "{} must hold patterns (n, d) and, if any, n values; got float64, (2, 1)"),
        ({"patterns": np.ones((2, 1)), "values": 1}, "{} must hold patterns (n, d) and, if any, n values; got float64, (2, 1)"),
        ({"patterns": [[math.nan]]}, "patterns must be finite; got nan at index (0, 0)"),
    ],
)
def test_files_without_valid_patterns_raise(tmp_path, arrays, expected, mmap):
    foreign(tmp_path / "memory.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        Memory.load(tmp_path / "memory.npz", mmap=mmap)
    assert str(caught.value) == expected.format(tmp_path / "memory.npz")


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    "described",
    [
        {}, {"energy": None}, {"energy": []}, {"energy": {"name": "DistanceEnergy"}}, {"energy": {"options": {}}},
        {"energy": {"name": "GPT", "options": {}}}, {"energy": {"name": ["DotEnergy"], "options": {}}},
        {"energy": {"name": "DotEnergy", "options": {"gamma": 1}}}, {"energy": {"name": "DotEnergy", "options": {"beta": -1}}},
        {"energy": {"name": "DotEnergy", "options": 3}}, {"energy": {"name": "SparseEnergy", "options": {"alpha": "2"}}},
    ],
)  # fmt: skip
def test_files_without_a_valid_energy_raise(tmp_path, described, mmap):
    path = tmp_path / "memory.npz"
    foreign(path, np.eye(2), records=described)
    with pytest.raises(ValueError) as caught:
        Memory.load(path, mmap=mmap)
    assert str(caught.value) == f"{path} must describe one of hopmin's energies and its options; got {described!s:.60}"
    assert len(Memory.load(path, mmap=mmap, energy=DistanceEnergy())) == 2


@pytest.mark.parametrize("mmap", [False, True])
def test_a_file_of_another_kind_raises(tmp_path, mmap):
    path = tmp_path / "memory.npz"
    foreign(path, np.eye(2), kind="model")
    with pytest.raises(ValueError) as caught:
        Memory.load(path, mmap=mmap)
    assert str(caught.value) == f"{path} must hold a memory in format 1; got a model in format 1"
    with pytest.raises(ValueError) as caught:
        Memory.load(tmp_path / "none.npz", mmap=mmap)
    assert str(caught.value) == f"memory must be a readable file; {tmp_path / 'none.npz'}: No such file or directory"


def test_infinite_numbers_in_a_mapped_file_raise_when_queried(tmp_path):
    path = tmp_path / "memory.npz"
    foreign(path, [[0.0, 1.0], [0.0, math.inf]])
    memory = Memory.load(path, mmap=True)
    for query in (memory.energies, memory.update, memory.nearest, memory.lookup, memory.retrieve):
        with pytest.raises(ValueError, match=r"^patterns must be finite; got inf at index \(1, 1\)$"):
            query([0.0, 1.0])


def test_removed_patterns_are_left_out_once(monkeypatch):
    patterns, moved = np.random.default_rng(0).standard_normal((500, 3)), []
    without = hopmin.Packed._without
    monkeypatch.setattr(hopmin.Packed, "_without", lambda packed, indices: (moved.append(1), without(packed, indices))[1])
    memory, model = hopmin.Memory(patterns, values=np.arange(500)), [*range(500)]
    for index in [0, 0, 7, 490, 0, 493, 3]:
        memory.remove(index)
        del model[index]
    assert memory.add([9.0, 9.0, 9.0], 500) == len(model) == 493
    memory.remove([0, 493])
    del model[0]
    assert moved == []
    assert len(memory) == len(model) == 492
    np.testing.assert_array_equal(memory.values, model)
    np.testing.assert_array_equal(memory.patterns, patterns[model])
    distances = hopmin.DistanceEnergy().value(patterns[:3], patterns[model])
    np.testing.assert_array_equal(memory.energies(patterns[:3]), distances)
    assert len(moved) == 1


def test_a_memory_does_not_keep_most_of_what_it_removed():
    memory = hopmin.Memory(np.eye(100, 4))
    for _ in range(99):
        memory.remove(0)
        assert len(memory._contents.patterns) <= 2 * len(memory)
