"""Keys of a memory: changes compared with a dict, files and copies, and what is refused."""

import copy
import pickle

import helpers
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import hopmin
from hopmin import Memory

NAMES = st.sampled_from("abcdefgh")
POINTS = st.tuples(st.integers(0, 4), st.integers(0, 4))


class Keyed(RuleBasedStateMachine):
    """A memory with keys is a dict from keys to patterns and values, in order of insertion."""

    @initialize(integers=st.booleans())
    def begin(self, integers):
        self.named = (lambda name: ord(name) - 99) if integers else (lambda name: name)
        self.memory, self.model = Memory(np.empty((0, 2)), keys=[]), {}

    @rule(entries=st.dictionaries(NAMES, POINTS, max_size=4))
    def put(self, entries):
        entries = {self.named(name): point for name, point in entries.items()}
        if entries:
            self.memory.put(list(entries), np.array(list(entries.values()), float), [str(key) for key in entries])
            self.model.update(entries)

    @rule(name=NAMES, point=POINTS)
    def add(self, name, point):
        key = self.named(name)
        if key in self.model:
            message = f"keys must be new; got {key!r}, which is stored"
            assert helpers.error_message(ValueError, self.memory.add, [point], [str(key)], keys=[key]) == message
        else:
            assert self.memory.add(point, str(key), keys=key) == len(self.model)
            self.model[key] = point

    @rule(name=NAMES)
    def remove(self, name):
        key = self.named(name)
        if key in self.model:
            self.memory.remove(keys=key)
            del self.model[key]
        else:
            message = f"keys must be stored; got {key!r}, which is not"
            assert helpers.error_message(ValueError, self.memory.remove, keys=[key]) == message

    @rule(which=st.integers(0, 7))
    def remove_at(self, which):
        if which < len(self.model):
            self.memory.remove(which)
            del self.model[list(self.model)[which]]

    @rule()
    def compact(self):
        self.memory.compact()

    @rule()
    def copied(self):
        self.memory = pickle.loads(pickle.dumps(self.memory))

    @rule(point=POINTS)
    def nearest(self, point):
        if self.model:
            found = self.memory.nearest(np.array(point, float), len(self.model))
            distances = {key: np.hypot(*np.subtract(p, point)) for key, p in self.model.items()}
            assert list(found.keys) == sorted(self.model, key=distances.get)  # stable: ties by the lowest index
            assert [list(self.model)[i] for i in found.indices] == list(found.keys)

    @invariant()
    def equals_the_model(self):
        assert len(self.memory) == len(self.model)
        for name in "abcdefgh":
            key = self.named(name)
            assert (key in self.memory) == (key in self.model)
            if key in self.model:
                assert self.memory[key].tolist() == list(self.model[key])
        if self.model:
            assert self.memory.keys.tolist() == list(self.model)
            assert self.memory.values.tolist() == [str(key) for key in self.model]
            assert self.memory.patterns.tolist() == [list(point) for point in self.model.values()]


TestKeyed = Keyed.TestCase
TestKeyed.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_results_name_the_patterns_found():
    memory = Memory([[0.0, 1.0], [1.0, 0.0]], ["x", "y"], keys=["a", "b"])
    distances, indices = found = memory.nearest([[1.0, 0.0]], 2)
    assert found.keys.tolist() == [["b", "a"]]
    assert indices.tolist() == [[1, 0]]
    assert distances[0, 0] == 0
    assert repr(found) == "Neighbours(distances [[0.    1.414]], keys [['b' 'a']])"
    assert memory.nearest([0.0, 1.0], 2, allowed=[1]).keys.tolist() == ["b", None]
    found = memory.lookup([[1.0, 0.0], [-1.0, 0.0]], k=2, min_similarity=0.5)
    assert found.keys.tolist() == [["b", None], [None, None]]
    assert memory.lookup([1.0, 0.0]).keys == "b"
    assert len(found) == 3
    assert Memory([[1.0]]).lookup([1.0]).keys is None
    assert type(Memory([[1.0]]).nearest([1.0])) is tuple


def test_what_was_handed_out_does_not_change():
    memory = Memory([[0.0], [1.0]], keys=["a", "b"])
    found, keys = memory.nearest([[0.9]]), memory.keys
    memory.put("b", [5.0])
    memory.remove(keys="a")
    memory.compact()
    assert (found.keys.tolist(), keys.tolist()) == ([["b"]], ["a", "b"])


@pytest.mark.parametrize("keys", [["a", "é"], [-(2**63), 2**63 - 1]])
@pytest.mark.parametrize("mmap", [False, True])
def test_keys_are_saved_and_loaded(tmp_path, keys, mmap):
    memory = Memory([[0.0], [1.0]], keys=keys)
    memory.save(tmp_path / "m.npz")
    loaded = Memory.load(tmp_path / "m.npz", mmap=mmap)
    assert loaded.keys.tolist() == keys
    assert loaded[keys[1]].tolist() == [1.0]
    assert loaded.nearest([1.0]).keys.tolist() == keys[1:]
    assert copy.deepcopy(loaded).keys.tolist() == keys


def test_a_failed_change_adds_no_key():
    memory = Memory([[0.0]], ["x"], keys=["a"])
    for change in (lambda: memory.add([[np.nan]], ["y"], keys=["b"]), lambda: memory.put(["b"], [[1.0]], [3])):
        with pytest.raises((TypeError, ValueError)):
            change()
        assert "b" not in memory
    memory.add([2.0], "z", keys="c")
    assert memory.keys.tolist() == ["a", "c"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: m.add([2.0]), ValueError, "keys must be given if and only if the memory has keys; got None"),
        (lambda m: Memory([[1.0]]).add([2.0], keys="a"), ValueError, "keys must be given if and only if the memory has keys; got some"),
        (lambda m: m.put(7, [2.0]), TypeError, "keys must match the stored ones, of type str; got 7"),
        (lambda m: m.put([True], [[2.0]]), TypeError, "keys must be strings, or integers of 64 bits; got dtype bool"),
        (lambda m: m.put([2**70], [[2.0]]), TypeError, "keys must be strings, or integers of 64 bits; got dtype object"),
        (lambda m: m.put(["a", "a"], [[2.0], [3.0]]), ValueError, "keys must be unique; got 'a' twice"),
        (lambda m: m.put(["x\0"], [[2.0]]), ValueError, r"keys must not contain NUL; got 'x\x00'"),
        (lambda m: m.put(["x", "y"], [[2.0]]), ValueError, "keys must have shape (n,) with n = 1; got (2,)"),
        (lambda m: m.put(["x", 1], [[2.0], [1.0]]), TypeError, "keys must be all strings or all integers; got 'x' and 1"),
        (lambda m: m.remove(), TypeError, "remove must be given either indices or keys; got neither"),
        (lambda m: m.remove(0, keys="a"), TypeError, "remove must be given either indices or keys; got both"),
        (lambda m: m["z"], KeyError, "'z'"),
        (lambda m: "a" in Memory([[1.0]]), TypeError, "memory must have keys to find one; got 'a' for a memory without"),
        (lambda m: Memory([[1.0]], keys=["a", "b"]), ValueError, "keys must have shape (n,) with n = 1; got (2,)"),
    ],
)  # fmt: skip
def test_invalid_keys_are_refused(change, error, message):
    memory = Memory([[0.0], [1.0]], keys=["a", "b"])
    assert helpers.error_message(error, change, memory) == message
    assert memory.keys.tolist() == ["a", "b"]


def test_integers_are_keys_where_keys_are_integers():
    memory = Memory([[0.0], [1.0]], keys=[1, 0])
    assert (memory[0].tolist(), memory[:1].tolist()) == ([1.0], [[0.0]])
    assert Memory([[0.0], [1.0]], keys=["1", "0"])[0].tolist() == [0.0]
    assert hopmin.Memory(np.empty((0, 1)), keys=np.empty(0, int)).keys.size == 0
