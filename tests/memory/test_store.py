"""Store: results compared with a memory's, changes with a dict, files that are damaged, full or foreign, and writers killed."""

import os
import pickle
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import hopmin
from hopmin import Memory, Store
from hopmin.memory import _packed_file

RNG = np.random.default_rng(0)
P = RNG.normal(size=(200, 8)).astype(np.float32)  # three panels and a part of one
X = P[:3] + RNG.normal(size=(3, 8)).astype(np.float32)
NAMES = [f"k{i}" for i in range(200)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "notes.hopmin"


@pytest.fixture
def store(path):
    """A store of P, with numbers as values, a year, and a language for every second entry."""
    with Store(path, d=8, columns={"lang": "text", "year": "integer", "weight": "real"}, indexes=["year"], synchronous="normal") as store:
        store.put(NAMES, P, np.arange(200.0), {"year": range(200), "lang": ["en", None] * 100, "weight": np.arange(200) / 2})
        yield store


def same(a, b):
    np.testing.assert_array_equal(a, b, strict=True)


def assert_answers(store, memory):
    """A store answers as a memory of the same patterns and values does; indices may differ."""
    for metric in ("euclidean", "dot", "cosine"):
        found, expected = store.nearest(X, 5, metric=metric), memory.nearest(X, 5, metric=metric)
        same(found.distances, expected.distances)
        assert found.keys.tolist() == expected.keys.tolist()
    same(store.energies(X), memory.energies(X))
    same(store.update(X), memory.update(X))
    found, expected = store.retrieve(X, max_steps=4), memory.retrieve(X, max_steps=4)
    same(found.states, expected.states)
    same(found.values, expected.values)
    found, expected = store.lookup(X, k=4, min_similarity=0.5), memory.lookup(X, k=4, min_similarity=0.5)
    same(found.values, expected.values)
    same(found.similarities, expected.similarities)
    assert found.keys.tolist() == expected.keys.tolist()
    distances, keys = store.within(X, 3.0)
    expected, indices = memory.within(X, 3.0)
    for i in range(len(X)):
        same(distances[i], expected[i])
        assert keys[i].tolist() == memory.keys[indices[i]].tolist()
    same(store.patterns, memory.patterns)
    same(store.values, memory.values)
    assert store.keys().tolist() == memory.keys.tolist()
    assert len(store) == len(memory)


# Questions


def test_a_store_answers_as_a_memory(store, path):
    memory = Memory(P, np.arange(200.0), keys=NAMES)
    assert_answers(store, memory)
    with Store(path) as again:
        assert_answers(again, memory)
    for keys in (["k0", "k70", "k199"], NAMES[64:128]):
        keys = [key for key in keys if key in store]
        store.remove(keys)
        memory.remove(keys=keys)
        assert_answers(store, memory)
    store.put(["k3", "new"], P[:2] + 1, [7, 8])
    memory.put(["k3", "new"], P[:2] + 1, [7, 8])
    assert_answers(store, memory)
    store.compact()
    assert_answers(store, memory)
    assert store.check() == []


def test_a_condition_selects_entries(store):
    memory = Memory(P[100::2], np.arange(100.0, 200, 2), keys=NAMES[100::2])
    where = {"where": "lang = ? AND year >= ?", "parameters": ["en", 100]}
    same(store.nearest(X, 5, **where).distances, memory.nearest(X, 5).distances)
    assert store.nearest(X, 5, **where).keys.tolist() == memory.nearest(X, 5).keys.tolist()
    same(store.energies(X, **where), memory.energies(X))
    same(store.update(X, **where), memory.update(X))
    same(store.retrieve(X, **where).states, memory.retrieve(X).states)
    same(store.lookup(X, **where).values, memory.lookup(X).values)
    assert store.keys(**where).tolist() == NAMES[100::2]
    assert store.keys("key = :key", {"key": "k5"}).tolist() == ["k5"]
    assert store.keys("weight BETWEEN 1 AND 2 OR upper(lang) = 'EN' AND year < 3").tolist() == ["k0", "k2", "k3", "k4"]
    found = store.nearest(X[0], 4, where="year < 2")
    assert found.keys[2:].tolist() == [None, None]
    assert found.indices[2:].tolist() == [-1, -1]
    assert np.isposinf(found.distances[2:]).all()
    assert store.nearest(X[0], 2, where="lang IS NULL AND lang = 'en'").keys.tolist() == [None, None]
    assert store.keys("year > ?", [198]).tolist() == ["k199"]
    store.put("k0", P[0], 0.0, {"year": 1000})  # the same condition again, after a change
    assert store.keys("year > ?", [198]).tolist() == ["k0", "k199"]


CLOSED = "its quotes, comments and parentheses must be closed, and it must be one expression"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("year >", 'near ")": syntax error'),
        ("size = 1", "no such column: size"),
        ("1); DELETE FROM entries; --", None),
        ("1) UNION SELECT number FROM panels WHERE (1", CLOSED),
        ("1) UNION SELECT 2 WHERE (1", CLOSED),
        ("1) LIMIT (3", CLOSED),
        ("1) LIMIT 3 /*", CLOSED),
        ("1) -- (", CLOSED),
        (":a(') ) LIMIT 1 /* ' )", CLOSED),
        ("lang = 'en", CLOSED),
        ("key IN (SELECT vectors FROM panels)", "panels.vectors cannot be read"),
        ("year IN (SELECT year FROM entries)", "a SELECT within it is not allowed"),
        ("year IN (VALUES (1))", "a SELECT within it is not allowed"),
        ("place = 1", "entries.place cannot be read"),
        ("RowID = 1", "entries.place cannot be read"),
        ("value IS NOT NULL", "entries.value cannot be read"),
        ("EXISTS (SELECT 1 FROM sqlite_master)", None),
        ("load_extension('evil')", "the function load_extension is not allowed"),
        ("length(randomblob(1000000000)) > 0", "the function randomblob is not allowed"),
        ("length(printf('%1000000000d', 1)) > 0", "the function printf is not allowed"),
        ("1 IN (WITH RECURSIVE a(i) AS (SELECT 1 UNION ALL SELECT i FROM a) SELECT i FROM a)", None),
        ("EXISTS (SELECT 1 FROM pragma_database_list)", None),
        ("year = ?", None),
    ],
)
def test_a_condition_only_reads_columns(store, where, reason):
    message = helpers.error_message(ValueError, store.nearest, X, where=where)
    assert message.startswith("where must be a condition on lang, year, weight, key, with a parameter for each ?; got ")
    assert reason is None or message.endswith(f": {reason}")
    assert len(store) == 200
    assert store.keys("year = ?", [3]).tolist() == ["k3"]  # the authorizer is gone


def test_conditions_and_parameters_of_other_types_are_refused(store):
    message = "where must be a condition in SQL, a string; got True"
    assert helpers.error_message(TypeError, store.nearest, X, where=True) == message
    for parameters in ([object()], [[1]], [2**70], [b"en"], [1j], 3, "e", np.array(3), [np.datetime64("2020")]):
        with pytest.raises((TypeError, ValueError), match=r"^parameters must [^\n]*; got "):
            store.nearest(X, where="year = ?", parameters=parameters)
    for parameters in ([], [1, 2], ["\ud800"]):
        with pytest.raises(ValueError, match=r"^where must be a condition"):
            store.nearest(X, where="year = ?", parameters=parameters)


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16, np.float32, int])
def test_parameters_may_be_numbers_of_numpy(store, kind):
    assert store.keys("year = ?", [kind(3)]).tolist() == ["k3"]
    assert store.keys("year = ?", np.array([3], kind)).tolist() == ["k3"]
    assert store.keys("year = :y AND lang IS :l", {"y": kind(2), "l": np.str_("en")}).tolist() == ["k2"]


def test_conditions_may_quote_comment_and_nest(store):
    assert store.keys("((year) < 2 /* ) */ OR lang = ')') -- (").tolist() == ["k0", "k1"]
    assert store.keys("lang IS NOT '((' AND [Year] IN (1, 3) AND `Key` <> 'k3'").tolist() == ["k1"]


def test_entries_are_returned_by_key(store):
    entry = store.get("k5")
    assert (entry.keys, entry.values, entry.metadata) == ("k5", 5.0, {"lang": None, "year": 5, "weight": 2.5})
    same(entry.patterns, P[5])
    same(store["k5"], P[5])
    entries = store.get(["k7", "k2"])
    assert (entries.keys.tolist(), entries.values.tolist()) == (["k7", "k2"], [7.0, 2.0])
    assert entries.metadata == {"lang": [None, "en"], "year": [7, 2], "weight": [3.5, 1.0]}
    same(entries.patterns, P[[7, 2]])
    assert helpers.error_message(KeyError, store.get, ["k7", "zzz"]) == "'zzz'"
    assert ["k5" in store, "zzz" in store, 5 in store, None in store] == [True, False, False, False]


@pytest.mark.parametrize(
    ("values", "blank"),
    [(["é", "", "x" * 99], ""), ([True, False, True], False), (np.arange(12).reshape(3, 2, 2), np.zeros((2, 2))), ([["a", "b"]] * 3, ["", ""]), (None, np.zeros(2))],
)  # fmt: skip
def test_values_of_all_kinds(path, values, blank):
    with Store(path, d=2, dtype="float64") as store:
        store.put([3, -1, 2**62], np.eye(3, 2) + 1, values)
        expected = np.eye(3, 2) + 1 if values is None else np.asarray(values)
        found = store.lookup(np.eye(3, 2) + 1, k=4)
        np.testing.assert_array_equal(found.values[:, 0], expected)
        np.testing.assert_array_equal(found.values[:, 3], np.broadcast_to(blank, found.values[:, 3].shape))
        if values is not None:
            assert np.array_equal(store.values, expected)
            assert np.array_equal(store.get(-1).values, expected[1])
        if values is not None and expected.dtype.kind in "US":
            assert "values must be real numbers to be averaged; got dtype <U" in helpers.error_message(TypeError, store.update, [0.0, 0.0])
        else:
            same(store.update([0.0, 0.0]), Memory(np.eye(3, 2) + 1, values).update([0.0, 0.0]))


def test_other_energies(path):
    energy = hopmin.SparseEnergy(1.5)
    with Store(path, d=8, energy=energy) as store:
        store.put(NAMES, P)
        same(store.energies(X), energy.value(X, P))
        store.remove("k0")
        same(store.update(X), energy.update(X, P[1:]))


def test_an_empty_store(path):
    with Store(path, d=2) as store:
        assert store.nearest([0.0, 1.0], 2).keys.tolist() == [None, None]
        assert store.lookup([0.0, 1.0]).indices == -1
        assert (len(store), store.keys().size, store.patterns.shape, store.check()) == (0, 0, (0, 2), [])
        message = "store must hold at least one entry to be queried; got an empty one"
        for question in (store.energies, store.update, store.retrieve):
            assert helpers.error_message(ValueError, question, [0.0, 1.0]) == message
        store.put("a", [0.0, 1.0])
        store.remove("a")
        assert store.nearest([0.0, 1.0]).keys.tolist() == [None]
        store.compact()
        assert (len(store), store.check()) == (0, [])
        assert repr(store) == "Store(0 entries, d = 2, float32, DistanceEnergy(beta=1.0))"
    assert repr(store).startswith("Store(closed, ")


def test_indices_stay_until_compact(store):
    before = store.nearest(P[150])
    store.remove(NAMES[:100])
    assert store.nearest(P[150]).indices == before.indices == 150
    store.compact()
    assert (store.nearest(P[150]).indices, before.indices) == (50, 150)


# Changes


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.add(["new", "k1"], P[:2], [1.0, 2.0]), ValueError, "keys must be new; got 'k1', which is stored"),
        (lambda s: s.remove(["k0", "zz"]), ValueError, "keys must be stored; got 'zz', which is not"),
        (lambda s: s.put(1, P[0], 1.0), TypeError, "keys must match the stored ones, of type str; got 1"),
        (lambda s: s.put(["a", "a"], P[:2], [1.0, 2.0]), ValueError, "keys must be unique; got 'a' twice"),
        (lambda s: s.put("a", P[0]), ValueError, "values must be given if and only if the store has values; got None"),
        (lambda s: s.put("a", P[0], "x"), TypeError, "values must match the stored ones, float64 of shape (1,); got <U1 of shape (1,)"),
        (lambda s: s.put("a", P[0], [1.0, 2.0]), TypeError, "values must match the stored ones, float64 of shape (1,); got float64 of shape (1, 2)"),
        (lambda s: s.put("a", P[0, :2], 1.0), ValueError, "patterns must have shape (k, d) with d = 8; got (2,)"),
        (lambda s: s.put("a", np.full(8, np.nan), 1.0), ValueError, "patterns must be finite; got nan at index (0, 0)"),
        (lambda s: s.put("a", P[0], 1.0, {"nope": 1}), ValueError, "metadata must name columns of the store, lang, year, weight; got 'nope'"),
        (lambda s: s.put("a", P[0], 1.0, {"year": "x"}), TypeError, "metadata['year'] must be integer or None; got 'x'"),
        (lambda s: s.put("a", P[0], 1.0, {"year": 2**63}), TypeError, "metadata['year'] must be integer or None; got 9223372036854775808"),
        (lambda s: s.put("a", P[0], 1.0, {"weight": np.nan}), TypeError, "metadata['weight'] must be real or None; got nan"),
        (lambda s: s.put(["a", "b"], P[:2], [1.0, 2.0], {"year": [1]}), ValueError, "metadata['year'] must have one entry for each of 2 keys; got 1"),
        (lambda s: s.put("a", P[0], 1.0, [1]), TypeError, "metadata must be a dict of columns; got [1]"),
        (lambda s: pickle.dumps(s), TypeError, "a store cannot be copied or pickled; open its path again"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(store, change, error, message):
    assert helpers.error_message(error, change, store) == message
    assert store.keys().tolist() == NAMES
    assert store.get("k0").values == 0.0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"d": 0}, ValueError, "d must be an integer >= 1; got 0"),
        ({"d": 2, "dtype": "int8"}, ValueError, "dtype must be one of 'float32', 'float64'; got 'int8'"),
        ({"d": 2, "columns": {"key": "text"}}, ValueError, "columns must be named by letters, digits and _, not key, place or value; got 'key'"),
        ({"d": 2, "columns": {'a"b': "text"}}, ValueError, "columns must be named by letters, digits and _, not key, place or value; got 'a\"b'"),
        ({"d": 2, "columns": {"a": "blob"}}, ValueError, "columns['a'] must be one of 'text', 'integer', 'real'; got 'blob'"),
        ({"d": 2, "columns": {"a": "text", "A": "text"}}, ValueError, "columns must have names that differ in more than case; got a, A"),
        ({"d": 2, "columns": {"a": "text"}, "indexes": ["b"]}, ValueError, "indexes must be metadata columns; got 'b'"),
        ({"d": 2, "synchronous": "off"}, ValueError, "synchronous must be one of 'full', 'normal'; got 'off'"),
    ],
)  # fmt: skip
def test_stores_that_cannot_be_created(path, options, error, message):
    assert helpers.error_message(error, Store, path, **options) == message


@pytest.mark.parametrize("name", ["put", "remove", "compact"])
def test_an_interrupted_change_is_undone(store, name, monkeypatch):
    """At its end, when everything has been written but the state."""
    store.remove("k3")
    before = store.get(store.keys())
    change = {"put": lambda: store.put(["k0", "new"], P[:2] + 1, [7.0, 8.0]), "remove": lambda: store.remove("k0"), "compact": store.compact}[name]

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hopmin.memory._database.save_state", interrupt)
        with pytest.raises(KeyboardInterrupt):
            change()
    after = store.get(store.keys())
    assert after.keys.tolist() == before.keys.tolist()
    same(after.patterns, before.patterns)
    assert store.nearest(P[4]).indices == 4
    assert store.check() == []
    change()
    assert store.check() == []


def test_options_must_be_those_of_the_store(store, path):
    for options, message in [
        ({"d": 9}, "d must be that of the store, 8; got 9"),
        ({"dtype": float}, "dtype must be that of the store, float32; got float64"),
        ({"columns": {}}, "columns must be that of the store, {'lang': 'text', 'year': 'integer', 'weight': 'real'}; got {}"),
    ]:
        assert helpers.error_message(ValueError, Store, path, **options) == message
    with Store(path, d=8, dtype="float32", columns=store.columns) as again:
        assert again.shape == (200, 8)


# Several of them


def test_a_reader_notices_changes_at_its_next_question(store, path):
    with Store(path, read_only=True) as reader:
        assert reader.nearest(P[0]).keys == ["k0"]
        store.put("k0", P[0] + 100, 0.0)
        store.put([f"n{i}" for i in range(100)], P[:100] + 7, np.zeros(100))
        assert reader.nearest(P[0] + 100).keys == ["k0"]
        assert reader.nearest(P[99] + 7).keys == ["n99"]
        store.compact()
        store.remove("n99")
        assert reader.nearest(P[99] + 7).keys != ["n99"]
        assert len(reader) == 299
        message = f"store must not be read-only to be changed; got {path}"
        assert helpers.error_message(ValueError, reader.remove, "k0") == message


def test_a_question_sees_one_state(store, path):
    """Even if another connection commits while it computes."""
    seen = []

    def commit_meanwhile(done, total):
        if not seen:
            with Store(path, synchronous="normal") as other:
                other.remove(["k0"])
                seen.append(len(other))

    assert store.nearest(P[0], progress=commit_meanwhile).keys == ["k0"]
    assert seen == [199]
    assert store.nearest(P[0]).keys != ["k0"]


def test_a_callback_may_ask_but_not_change(store):
    told = []

    def ask(done, total):
        told.append(len(store))
        told.append(helpers.error_message(ValueError, store.remove, "k0"))

    store.nearest(P[0], progress=ask)
    assert told[:2] == [200, "store must not be changed while it answers a question; got a change in a callback"]


def test_a_second_writer_waits_or_is_told(store, path):
    with Store(path, timeout=0.0) as other, store._writing():
        message = f"path must be a store that no other process is writing to for long; {path} is locked"
        assert helpers.error_message(ValueError, other.remove, "k0") == message
        assert other.nearest(P[0]).keys == ["k0"]  # readers do not wait


def test_threads_take_turns(store):
    failed = []

    def work(i):
        try:
            for j in range(5):
                store.put(f"t{i}", P[i] + j, 0.0)
                store.nearest(X, 3)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(store) == 204


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_child_has_its_own_connection(store):
    child = os.fork()
    if child == 0:
        inherited = store._connection
        good = store.nearest(P[0]).keys == ["k0"] and store._connection is not inherited
        store.put("child", P[0] + 50, 0.0)
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.nearest(P[0] + 50).keys == ["child"]


# The packed copy


@pytest.fixture
def small_copies(monkeypatch):
    monkeypatch.setattr(_packed_file, "LEAST", 0)


@pytest.mark.usefixtures("small_copies")
def test_the_copy_is_mapped_if_it_fits(store, path, monkeypatch):
    memory, copy = Memory(P, np.arange(200.0), keys=NAMES), path.with_name("notes.hopmin-packed")
    assert_answers(store, memory)
    content = copy.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hopmin.memory._database.blocks", None)  # nothing is packed again
        with Store(path) as again:
            assert_answers(again, memory)
    store.put("k3", P[3] + 1, 3.0)  # a newer database: what has changed is read from it
    memory.put("k3", P[3] + 1, 3.0)
    with Store(path) as again:
        assert_answers(again, memory)
    for damaged in (content[:-1], b"", b"{}", content[:4096] + content[8192:], content.replace(b'"epoch": 0', b'"epoch": 1', 1), content.replace(b'"n": 200', b'"n": 10**9', 1), content.replace(b'"n": 200', b'"n": 999', 1)):
        copy.write_bytes(damaged)
        with Store(path) as again:
            assert_answers(again, memory)
            assert again.check() == []
    copy.unlink()
    with Store(path) as again:
        assert_answers(again, memory)
    store.remove(NAMES[:100])
    store.compact()
    memory.remove(np.arange(100))
    with Store(path) as again:
        assert_answers(again, memory)


@pytest.mark.usefixtures("small_copies")
def test_the_copy_of_another_store_is_not_used(store, path, tmp_path):
    with Store(tmp_path / "other", d=8) as other:
        other.put(NAMES, P + 1)
        other.nearest(X)
    shutil.copy(tmp_path / "other-packed", path.with_name("notes.hopmin-packed"))
    assert_answers(store, Memory(P, np.arange(200.0), keys=NAMES))


@pytest.mark.usefixtures("small_copies")
def test_the_copy_is_as_private_as_the_database(store, path):
    path.chmod(0o600)
    store.nearest(X)
    assert path.with_name("notes.hopmin-packed").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("place", [4096, -4], ids=["of the patterns", "of their codes"])
def test_check_compares_the_copy(store, path, place):
    store.nearest(X)
    copy = path.with_name("notes.hopmin-packed")
    content = bytearray(copy.read_bytes())
    content[place] ^= 1
    copy.write_bytes(content)
    assert store.check() == ["packed copy: it differed from the database, and was deleted"]
    assert not copy.exists()


@pytest.mark.usefixtures("small_copies")
def test_a_copy_that_cannot_be_written_is_done_without(store, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hopmin._files.atomic_write", full)
    assert_answers(store, Memory(P, np.arange(200.0), keys=NAMES))
    assert not path.with_name("notes.hopmin-packed").exists()


@given(sizes=st.lists(st.integers(1, 150), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_what_is_kept_follows_changes(tmp_path_factory, sizes, seed):
    """The packed patterns of a reader that looks now and then are those of one that opens the file."""
    rng, path = np.random.default_rng(seed), tmp_path_factory.mktemp("store") / "s"
    with Store(path, d=8, synchronous="normal") as store, Store(path) as reader:
        for size in sizes:
            keys = rng.choice(300, size, replace=False)
            store.put(keys, rng.normal(size=(size, 8)))
            if rng.random() < 0.7:
                gone = rng.choice(keys, 1 + size // 4, replace=False)
                store.remove(gone)
            if rng.random() < 0.5:
                reader.nearest(np.zeros(8))
        with Store(path) as fresh:
            kept = [s.nearest(np.zeros(8), 400) for s in (store, reader, fresh)]
            for other in kept[1:]:
                same(other.distances, kept[0].distances)
                same(other.indices, kept[0].indices)
            same(reader.patterns, fresh.patterns)


# Files


def test_files_that_are_no_stores(path, tmp_path):
    message = f"path must be an existing store, or d be given to create one; got {path}"
    assert helpers.error_message(ValueError, Store, path) == message
    path.write_bytes(b"hello " * 1000)
    assert helpers.error_message(ValueError, Store, path, d=2) == f"path must be a store; {path} is not an SQLite database"
    path.unlink()
    path.touch()
    assert helpers.error_message(ValueError, Store, path) == f"path must be a store, or d be given to create one; {path} is empty"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (a)")
    connection.close()
    before = path.read_bytes()
    assert helpers.error_message(ValueError, Store, path, d=2) == f"path must be a store; {path} is an SQLite database of another program"
    assert path.read_bytes() == before
    assert helpers.error_message(ValueError, Store, tmp_path, d=2) == f"path must be a file; {tmp_path} is a folder"


def test_a_newer_format_is_refused(store, path):
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    message = f"path must be a store in format 1; {path} has format 2: a newer hopmin wrote it"
    assert helpers.error_message(ValueError, Store, path) == message


def test_an_empty_file_becomes_a_store(path):
    """As a writer leaves it that is killed before its first commit."""
    path.touch()
    with Store(path, d=2) as store:
        store.put("a", [0.0, 1.0])
        assert len(store) == 1


def test_a_closed_store_says_so(store, path):
    store.close()
    store.close()
    assert helpers.error_message(ValueError, len, store) == f"store must be open; got one that has been closed, {path}"


def test_a_damaged_panel_is_found(store, path):
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE panels SET vectors = zeroblob(length(vectors)) WHERE number = 1")
    connection.close()
    with Store(path) as store:
        message = f"path must be a store that is not damaged; {path}: panel 1 does not match its checksum"
        assert helpers.error_message(ValueError, store.nearest, X) == message
        assert store.check() == ["panel 1: it does not match its checksum"]
        assert store.keys is not None
        assert len(store) == 200


@pytest.mark.parametrize("change", ["columns = '{\"a\"\"b\": 1}'", "dtype = 'int8'", "places = 'x'", "d = -1", "value_dtype = '?!'"])
def test_a_damaged_state_is_found(store, path, change):
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE state SET {change}")
    connection.close()
    message = f"path must be a store that is not damaged; {path}: its state cannot be read"
    assert helpers.error_message(ValueError, Store, path) == message


@pytest.mark.parametrize(("change", "reason"), [("DELETE FROM entries WHERE place = 3", "an entry is missing"), ("UPDATE entries SET value = x'00' WHERE place = 3", "a value has another size")])
def test_a_damaged_entry_is_found(store, path, change, reason):
    store._connection.execute(change)
    message = f"path must be a store that is not damaged; {path}: {reason}"
    assert helpers.error_message(ValueError, lambda: store.values) == message


def test_a_missing_panel_is_found(store, path):
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM panels WHERE number = 1")
    connection.close()
    with Store(path) as store:
        assert "4 panels expected, 3 found" in helpers.error_message(ValueError, store.nearest, X)
        assert store.check() == ["panels: 4 expected, 3 found"]


def test_damaged_pages_raise_one_sentence(store, path):
    """Whatever is overwritten or cut off: a question answers as before, or raises a sentence, and the file is not changed."""
    expected = store.nearest(X, 3)
    store.close()
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(40):
        damaged = bytearray(content)
        start = int(rng.integers(len(content)))
        if i % 4 == 0:
            damaged = damaged[:start]
        else:
            damaged[start : start + 64] = rng.bytes(64)[: len(content) - start]
        path.write_bytes(damaged)
        for name in ("wal", "shm", "packed"):
            path.with_name(f"{path.name}-{name}").unlink(missing_ok=True)
        told = str(path)
        try:
            with Store(path) as opened:
                found = opened.nearest(X, 3)
                if opened.check() == []:
                    same(found.distances, expected.distances)
        except ValueError as error:
            told = str(error)
        assert str(path) in told
        assert "\n" not in told


def test_a_read_only_folder(store, path):
    """As a user who may not write there; the superuser becomes one for a moment."""
    store.close()
    superuser = os.geteuid() == 0
    with helpers.temporary_folder() as folder:
        copy = shutil.copy(path, folder)
        os.chmod(copy, 0o444)
        os.chmod(folder, 0o555)
        if superuser:
            os.seteuid(65534)
        try:
            with Store(copy) as opened:
                assert opened.nearest(P[0]).keys == ["k0"]
                assert helpers.error_message(ValueError, opened.remove, "k0") == f"path must be a store that can be written to; {copy} is read-only"
                assert opened.check() == []
        finally:
            if superuser:
                os.seteuid(0)
            os.chmod(folder, 0o755)


# Crashes

WRITER = """
import os, sys
import numpy as np
from hopmin import Store
path, size = sys.argv[1], int(sys.argv[2])
with Store(path, d=8) as store:
    for i in range(len(store) // size, 10**6):
        if i % 7 == 6:
            store.compact()
        store.put(np.arange(i * size, (i + 1) * size), np.full((size, 8), i), np.full(size, i))
        os.write(1, b"%d\\n" % i)
"""


def acknowledged(path, size, told):
    """Assert that the store holds all batches that were acknowledged, at most one more, and each of them whole."""
    with Store(path) as store:
        n = len(store)
        batches, rest = divmod(n, size)
        assert rest == 0
        assert len(told) <= batches <= len(told) + 1
        if n:
            assert store.keys().tolist() == list(range(n))
            same(store.patterns[:, 0], np.repeat(np.arange(batches, dtype=np.float32), size))
            same(store.values, np.repeat(np.arange(batches), size))
            assert store.nearest(np.zeros(8)).keys == [0]
        assert store.check() == []


def kill_writers(path, times, rng):
    told = []
    for _ in range(times):
        command = [sys.executable, "-c", WRITER, str(path), "50"]
        environment = {**os.environ, "HOPMIN_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=path.parent, env=environment) as writer:
            first = writer.stdout.readline()
            threading.Timer(rng.random() * 0.05, writer.kill).start()
            told += [first, *writer.stdout.readlines()] if first else []
        told = [line for line in told if line.endswith(b"\n")]
        acknowledged(path, 50, told)
        with Store(path) as store:  # one more may have been committed
            told += [b"\n"] * (len(store) // 50 - len(told))


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path):
    kill_writers(path, 3, random.Random(0))


@pytest.mark.slow
def test_two_hundred_killed_writers_lose_nothing(path):
    kill_writers(path, 200, random.Random(1))


@contextmanager
def file_size_limit(size):
    """A disk that is full: files cannot grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_loses_nothing(store, path):
    wal = path.with_name("notes.hopmin-wal")
    for spare in (0, 1, 5000, 20_000, 60_000):
        before = store.keys().tolist()
        with file_size_limit(wal.stat().st_size + spare):
            keys = [f"{spare}-{i}" for i in range(2000)]
            message = helpers.error_message(ValueError, store.put, keys, np.ones((2000, 8)), np.zeros(2000))
            assert message.startswith(f"path must be a store that can be read and written; {path}: ")
            assert message.endswith(", and nothing was changed")
            assert store.keys().tolist() == before
        assert_answers(store, Memory(P, np.arange(200.0), keys=NAMES))
    store.put("after", P[0] + 9, 1.0)
    assert len(store) == 201
    assert store.check() == []


@pytest.mark.parametrize("step", [pytest.param(1009), pytest.param(1, marks=pytest.mark.slow)])
def test_a_write_that_is_cut_anywhere(path, tmp_path, step):
    """A log cut after any byte: the store is that before the change or after it."""
    with Store(path, d=2) as store:
        store.put(["a", "b"], np.eye(2))
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.put(["b", "c"], np.eye(2) + 1)
        wal = path.with_name("notes.hopmin-wal").read_bytes()
        database = path.read_bytes()
    cut, seen = tmp_path / "cut", set()
    for size in [*range(0, len(wal), step), len(wal)]:
        cut.write_bytes(database)
        cut.with_name("cut-wal").write_bytes(wal[:size])
        cut.with_name("cut-shm").unlink(missing_ok=True)
        with Store(cut) as opened:
            keys, rows = opened.keys().tolist(), opened.patterns.tolist()
        assert (keys, rows) in [(["a", "b"], [[1, 0], [0, 1]]), (["a", "b", "c"], [[1, 0], [2, 1], [1, 2]])]
        seen.add(len(keys))
    assert seen == {2, 3}


# Compared with a dict

KEYS = st.integers(0, 12)
POINTS = st.tuples(st.integers(0, 4), st.integers(0, 4))


class Stored(RuleBasedStateMachine):
    """A store is a dict from keys to patterns, values and metadata, whichever of two connections asks."""

    @initialize(least=st.sampled_from([0, 1 << 24]))
    def begin(self, least):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(_packed_file, "LEAST", least)
        self.folder = helpers.temporary_folder()
        self.path = os.path.join(self.folder.name, "s")
        self.stores = [Store(self.path, d=2, columns={"year": "integer"}, synchronous="normal"), Store(self.path)]
        self.model = {}

    @rule(which=st.integers(0, 1), entries=st.dictionaries(KEYS, st.tuples(POINTS, st.integers(0, 3)), max_size=90))
    def put(self, which, entries):
        if entries:
            points, years = zip(*entries.values(), strict=True)
            self.stores[which].put(list(entries), np.array(points, float), list(entries), {"year": years})
            self.model.update(entries)

    @rule(which=st.integers(0, 1), start=st.integers(0, 5))
    def put_many(self, which, start):
        keys = range(100 * start, 100 * start + 70)
        self.stores[which].put(list(keys), [[key, 9] for key in keys], list(keys), {"year": list(keys)})
        self.model.update((key, ((key, 9), key)) for key in keys)

    @rule(which=st.integers(0, 1), keys=st.sets(KEYS, max_size=4))
    def remove(self, which, keys):
        keys &= self.model.keys()
        if keys:
            self.stores[which].remove(sorted(keys))
            self.model = {key: entry for key, entry in self.model.items() if key not in keys}

    @precondition(lambda self: self.model)
    @rule(which=st.integers(0, 1), data=st.data())
    def fail(self, which, data):
        key = data.draw(st.sampled_from(sorted(self.model)))
        with pytest.raises(ValueError, match=r"^keys must be new"):
            self.stores[which].add([10**6, key], np.zeros((2, 2)), [0, 0])

    @rule(which=st.integers(0, 1))
    def compact(self, which):
        self.stores[which].compact()

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.stores[which].close()
        self.stores[which] = Store(self.path, synchronous="normal")

    @rule(which=st.integers(0, 1), point=POINTS, year=st.none() | st.integers(0, 4))
    def ask(self, which, point, year):
        allowed = {key: p for key, (p, y) in self.model.items() if year is None or y <= year}
        options = {} if year is None else {"where": "year <= ?", "parameters": [year]}
        found = self.stores[which].nearest(np.array(point, float), 5, **options)
        distances = sorted(np.hypot(*np.subtract(p, point)) for p in allowed.values())[:5]
        np.testing.assert_allclose(found.distances[: len(distances)], distances, rtol=1e-6)
        assert all(np.hypot(*np.subtract(allowed[key], point)) <= distances[-1] + 1e-5 for key in found.keys if key is not None)
        assert sum(key is None for key in found.keys) == 5 - len(distances)

    @invariant()
    def equals_the_model(self):
        for store in getattr(self, "stores", []):
            assert len(store) == len(self.model)
            assert set(store.keys().tolist()) == self.model.keys()
        if getattr(self, "model", None):
            entries = store.get(list(self.model))
            assert entries.patterns.tolist() == [list(point) for point, _ in self.model.values()]
            assert entries.metadata["year"] == [year for _, year in self.model.values()]
            assert entries.values.tolist() == list(self.model)

    def teardown(self):
        for store in getattr(self, "stores", []):
            assert store.check() == []
            store.close()
        if hasattr(self, "patch"):
            self.patch.undo()
            self.folder.cleanup()


class SlowlyStored(Stored):
    """The same, with many more examples."""


TestStored = Stored.TestCase
TestStored.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
TestSlowlyStored = pytest.mark.slow(SlowlyStored.TestCase)
TestSlowlyStored.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)

OTHER = """
import sys
from hopmin import Store
with Store(sys.argv[1], read_only=True) as store:
    for line in sys.stdin:
        found = store.nearest([float(line), 0.0], 3)
        print(len(store), found.keys.tolist(), store.get(found.keys[0]).values, flush=True)
"""


def test_another_process_sees_each_change(path):
    with Store(path, d=2) as store:
        store.put(["a", "b", "c"], [[0, 0], [1, 0], [2, 0]], ["x", "y", "z"])
        command = [sys.executable, "-c", OTHER, str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=path.parent, **pipes) as reader:

            def ask(x):
                reader.stdin.write(f"{x}\n")
                reader.stdin.flush()
                return reader.stdout.readline()

            assert ask(0) == "3 ['a', 'b', 'c'] x\n"
            store.put("d", [0.1, 0], "w")
            assert ask(0.1) == "4 ['d', 'a', 'b'] w\n"
            store.remove(["a", "d"])
            assert ask(0) == "2 ['b', 'c', None] y\n"
            store.compact()
            assert ask(2) == "2 ['c', 'b', None] z\n"
            reader.stdin.close()


def test_importing_hopmin_does_not_import_sqlite(run):
    assert run("import sys, hopmin; print('sqlite3' in sys.modules)").stdout == "False\n"


def test_a_pattern_of_zeros_matters_only_where_it_is_allowed(path):
    rows, rest = P.copy(), np.arange(200) != 70
    rows[70] = 0
    with Store(path, d=8, columns={"year": "integer"}) as store:
        store.put(range(200), rows, metadata={"year": range(200)})
        for call in (store.nearest, store.within):
            radius = {"radius": 0.3} if call == store.within else {}
            with pytest.raises(ValueError, match="must have no row of zeros for metric 'cosine'"):
                call(X, metric="cosine", **radius)
        expected = hopmin.nearest(X, rows, 5, metric="cosine", allowed=rest)
        same(store.nearest(X, 5, metric="cosine", where="year <> 70").distances, expected[0])
        for patterns in (hopmin.Packed(rows), Memory(rows)):
            nearest = patterns.nearest if isinstance(patterns, Memory) else lambda *a, p=patterns, **o: hopmin.nearest(a[0], p, *a[1:], **o)
            found = nearest(X, 5, metric="cosine", allowed=rest)
            same(found[0], expected[0])
            same(found[1], expected[1])
        assert Memory(rows).lookup(X, allowed=rest).indices.tolist() == expected[1][:, 0].tolist()
        with pytest.raises(ValueError, match="must have no row of zeros for metric 'cosine'"):
            Memory(rows).lookup(X)
        store.remove(70)
        found = store.nearest(X, 5, metric="cosine")
        same(found.distances, expected[0])
        same(found.indices, expected[1])
        assert store.lookup(X).indices.tolist() == expected[1][:, 0].tolist()


@pytest.mark.parametrize(
    "options",
    [{"indexes": ["b"]}, {"indexes": "a"}, {"indexes": [[]]}, {"indexes": 3}, {"columns": {f"c{i}": "text" for i in range(1998)}}, {"timeout": 1e9}],
)
def test_a_store_that_cannot_be_created_leaves_no_file(path, options):
    with pytest.raises((TypeError, ValueError), match=r"^(indexes|columns|timeout) must [^\n]*; got "):
        Store(path, **{"d": 2, "columns": {"a": "text"}} | options)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("metadata", [{"lang": 5}, {"lang": "en"}, {"year": np.array(5)}, {"year": 2**70}, {"year": [2**70, 1]}, {"lang": ["\ud800", ""]}])
def test_metadata_that_does_not_fit_is_one_sentence(store, metadata):
    with pytest.raises((TypeError, ValueError), match=r"^[^\n]* must [^\n]*; got [^\n]*$"):
        store.put(["k0", "k1"], P[:2], [0.0, 1.0], metadata)
    assert store.get("k1").metadata == {"lang": None, "year": 1, "weight": 0.5}


def test_keys_that_do_not_fit_are_one_sentence(store, tmp_path):
    for call in (lambda: store.put("\ud800", P[0], 0.0), lambda: store.get("\ud800"), lambda: store.remove(["\ud800"])):
        with pytest.raises(ValueError, match=r"^strings must be Unicode without lone surrogates; got '\\ud800'$"):
            call()
    assert "\ud800" not in store
    with Store(tmp_path / "t", d=8) as numbers:
        with pytest.raises(TypeError, match=r"^keys must be strings, or integers of 64 bits; got "):
            numbers.put([2**63], P[:1])
        with pytest.raises(TypeError, match=r"^keys must be strings, or integers of 64 bits; got "):
            numbers.put([2**70], P[:1])
        assert 2**70 not in numbers
