"""The SQLite database of a store: its tables, panels and conditions, and its errors in one sentence.

- describe and create a store [`State`], [`read_state`], [`save_state`], [`is_empty`], [`create`]
- find entries: by key, by place, by a condition that SQLite compiles under an authorizer [`selected`]
- read and write panels of 64 patterns, each with a checksum [`panels`], [`write_panels`], [`blocks`], [`close_gaps`]
- keys, values and metadata as SQLite stores them
"""

from __future__ import annotations

import json
import math
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from hopmin import _backend, _check
from hopmin._typing import Array, Booleans, Floats, Integers
from hopmin.memory.reduction import BLOCK, PANEL, Packed

APPLICATION = 0x686F706D  # "hopm", in the header of the file
FORMAT = 1  # of the file, likewise
COLUMN_TYPES: dict[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "real": (float, int)}
RESERVED = {"key", "place", "value"}
COLUMNS = 1997  # SQLite allows 2000 in a table, and three are taken
MANY = 500  # keys or places in a statement
CLOCKS = frozenset("date datetime julianday strftime time unixepoch".split())
FUNCTIONS = CLOCKS | set(
    "abs ceil ceiling coalesce floor glob ifnull iif instr length like likelihood likely lower ltrim max min nullif "
    "round rtrim sign substr substring trim typeof unlikely upper".split()
)  # that a condition may call: they read nothing but their arguments
Parameters = Sequence[Any] | Mapping[str, Any]
TOKENS = re.compile(  # of a condition, as far as they decide which parentheses belong together
    r"""'[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/"""  # quoted, or a comment
    r"""|(?P<open>\()|(?P<close>\))|(?P<wrong>['"`\[;]|/\*|[$@#:](?:[\w$:]|[^\x00-\x7f])*\()""",
    re.DOTALL,
)


class State(NamedTuple):
    """The row that describes a store: what it is, and what it holds after the latest change."""

    id: str
    d: int
    dtype: str
    columns: str  # JSON: names and types
    counter: int  # of changes
    epoch: int  # of changes of places
    places: int  # entries and holes
    entries: int
    key_type: str | None  # "str" or "int", of the first key
    value_dtype: str | None
    value_shape: str | None  # JSON


def is_empty(connection: sqlite3.Connection, path: str) -> bool:
    """Return whether a database holds nothing yet; raise if it is not a store of a format that is known."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != APPLICATION:
        raise ValueError(f"path must be a store; {path} is an SQLite database of another program")
    if version != FORMAT:
        raise ValueError(
            f"path must be a store in format {FORMAT}; {path} has format {version}: a newer hopmin wrote it"
        )
    return False


def create(connection: sqlite3.Connection, d: int, dtype: str, columns: dict[str, str], indexes: Sequence[str]) -> None:
    state = State(secrets.token_hex(16), d, dtype, json.dumps(columns), 0, 0, 0, 0, None, None, None)
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    declared = "".join(f', "{name}" {kind.upper()}' for name, kind in columns.items())
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):  # not created meanwhile
            connection.execute(f"CREATE TABLE state ({', '.join(State._fields)})")
            connection.execute(f"INSERT INTO state VALUES ({', '.join('?' * len(state))})", state)
            connection.execute(
                f"CREATE TABLE entries (place INTEGER PRIMARY KEY, key UNIQUE NOT NULL, value{declared})"
            )
            connection.execute("CREATE TABLE holes (place INTEGER PRIMARY KEY)")
            connection.execute(
                "CREATE TABLE panels (number INTEGER PRIMARY KEY, counter INTEGER NOT NULL, checksum INTEGER NOT NULL, "
                "vectors BLOB NOT NULL)"
            )
            connection.execute("CREATE INDEX panels_by_counter ON panels (counter)")
            for name in indexes:
                connection.execute(f'CREATE INDEX "entries_by_{name}" ON entries ("{name}")')
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def read_state(connection: sqlite3.Connection) -> State:
    rows = connection.execute(f"SELECT {', '.join(State._fields)} FROM state").fetchall()
    if len(rows) != 1:
        raise sqlite3.DatabaseError(f"{len(rows)} rows of state")
    state = State(*rows[0])
    numbers = (state.d, state.counter, state.epoch, state.places, state.entries)
    try:
        kind = np.dtype(state.value_dtype or "f8").kind
        valid = state.dtype in ("float32", "float64") and all(isinstance(n, int) and n >= 0 for n in numbers)
        valid = valid and kind in "biufU"
        declared(json.loads(state.columns))
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise sqlite3.DatabaseError("its state cannot be read")
    return state


def save_state(connection: sqlite3.Connection, state: State) -> None:
    connection.execute(f"UPDATE state SET ({', '.join(State._fields)}) = ({', '.join('?' * len(state))})", state)


def holes(connection: sqlite3.Connection) -> Integers:
    return np.array([row[0] for row in connection.execute("SELECT place FROM holes ORDER BY place")], np.int64)


def places(connection: sqlite3.Connection, keys: list[Any]) -> dict[Any, int]:
    """Return the places of those keys that are stored."""
    found: dict[Any, int] = {}
    for i in range(0, len(keys), MANY):
        some = keys[i : i + MANY]
        marks = ", ".join("?" * len(some))
        found.update(connection.execute(f"SELECT key, place FROM entries WHERE key IN ({marks})", some))
    return found


def rows_at(connection: sqlite3.Connection, columns: list[str], places: Integers) -> dict[int, tuple[Any, ...]]:
    """Return columns of the entries at these places."""
    found: dict[int, tuple[Any, ...]] = {}
    names, listed = ", ".join(["place", *columns]), places.tolist()
    if len(listed) > 20 * MANY:  # most of them, as a rule
        wanted = set(listed)
        rows = connection.execute(f"SELECT {names} FROM entries")
        found, listed = {row[0]: row[1:] for row in rows if row[0] in wanted}, []
    for i in range(0, len(listed), MANY):
        some = listed[i : i + MANY]
        marks = ", ".join("?" * len(some))
        rows = connection.execute(f"SELECT {names} FROM entries WHERE place IN ({marks})", some)
        found.update((row[0], row[1:]) for row in rows)
    if len(found) < len(places):
        raise sqlite3.DatabaseError("an entry is missing")
    return found


def selected(
    connection: sqlite3.Connection, where: str, parameters: Parameters, columns: Mapping[str, str], n: int
) -> tuple[Booleans, bool]:
    """Return which of n places satisfy a condition, and whether they do so until the store changes.

    SQLite compiles the condition, whose parentheses must belong together, so that it cannot end the one around it,
    under an authorizer, which refuses a second SELECT.
    """
    readable = {"key", *(name.lower() for name in columns)}
    own = {"SELECT", "place"}  # what the statement itself needs, once and before the condition

    def authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
        match action:
            case sqlite3.SQLITE_SELECT:
                allowed = "SELECT" in own
                own.discard("SELECT")
            case sqlite3.SQLITE_READ:
                allowed = first == "entries" and (second in own or str(second).lower() in readable)
                own.discard(str(second))
            case sqlite3.SQLITE_FUNCTION:
                allowed = second in FUNCTIONS
                timeless.append(second not in CLOCKS)
            case _:
                allowed = False
        if not allowed:
            refused.append(refusal(action, first, second))
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    refused: list[str] = []
    timeless: list[bool] = []
    known = ", ".join([*columns, "key"])
    connection.set_authorizer(authorize)
    try:
        if not is_closed(where):
            raise ValueError("its quotes, comments and parentheses must be closed, and it must be one expression")
        rows = connection.execute(f"SELECT place FROM entries WHERE (\n{where}\n)", parameters)
        places = np.fromiter(chain.from_iterable(rows), np.int64)
    except (sqlite3.Error, sqlite3.Warning, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, sqlite3.Error) and code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR):
            raise
        reason = refused[0] if refused else " ".join(str(error).split())
        shown = f"{_check.printable(where)!r:.60}: {_check.printable(reason)}"
        raise ValueError(f"where must be a condition on {known}, with a parameter for each ?; got {shown}") from None
    finally:
        connection.set_authorizer(None)
    mask = np.zeros(n, bool)
    mask[places] = True
    return mask, all(timeless)


def is_closed(where: str) -> bool:
    """Return whether every quote, comment and parenthesis of a condition is closed within it, and no other one."""
    depth = 0
    for token in TOKENS.finditer(where):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if depth < 0 or token["wrong"]:
            return False
    return depth == 0


def bound(parameters: Any) -> list[Any] | dict[str, Any]:
    """Return the parameters of a condition as SQLite takes them: None, numbers of 64 bits and strings."""
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence | Mapping | np.ndarray):
        raise TypeError(f"parameters must be a sequence or a dict; got {parameters!r:.60}")
    if isinstance(parameters, np.ndarray) and parameters.ndim != 1:
        raise ValueError(f"parameters must have shape (n,); got {parameters.shape}")

    def converted(parameter: Any) -> Any:
        value = parameter.item() if isinstance(parameter, np.generic) else parameter
        if not isinstance(value, str | int | float | None):
            raise TypeError(f"parameters must be strings, real numbers or None; got {parameter!r:.60}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"parameters must be integers of 64 bits; got {parameter!r:.60}")
        return value

    if isinstance(parameters, Mapping):
        return {name: converted(parameter) for name, parameter in parameters.items()}
    return [converted(parameter) for parameter in parameters]


def refusal(action: int, first: str | None, second: str | None) -> str:
    if action == sqlite3.SQLITE_FUNCTION:
        return f"the function {second} is not allowed"
    if action == sqlite3.SQLITE_READ:
        return f"{first}.{second} cannot be read"
    if action == sqlite3.SQLITE_SELECT:
        return "a SELECT within it is not allowed"
    return "only reading is allowed"


def write_panels(connection: sqlite3.Connection, state: State, places: Integers, rows: Floats) -> None:
    """Write rows (k, d) at their places, in the panels that hold these."""
    order = np.argsort(places, kind="stable")
    numbers, starts = np.unique(places[order] // PANEL, return_index=True)
    stored = -(-state.places // PANEL)

    def written() -> Iterator[tuple[int, int, int, bytes]]:
        for number, part in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            panel = np.zeros((state.d, PANEL), rows.dtype)
            if number < stored:
                ((_, old),) = panels(connection, state, number=number)
                panel[:] = old
            panel[:, places[part] % PANEL] = rows[part].T
            content = panel.astype(panel.dtype.newbyteorder("<"), copy=False).tobytes()
            yield number, state.counter, zlib.crc32(content), content

    connection.executemany("INSERT OR REPLACE INTO panels VALUES (?, ?, ?, ?)", written())


def panels(
    connection: sqlite3.Connection, state: State, after: int = -1, *, number: int | None = None, check: bool = True
) -> Iterator[tuple[int, Any]]:
    """Yield panels (d, PANEL) with their numbers, ascending: those that changed after a counter, or a single one.

    A panel that is damaged raises, or with `check` False is yielded as a sentence.
    """
    of, argument = ("counter > ?", after) if number is None else ("number = ?", number)
    rows = connection.execute(f"SELECT number, checksum, vectors FROM panels WHERE {of} ORDER BY number", (argument,))
    dtype = np.dtype(state.dtype).newbyteorder("<")
    for at, checksum, content in rows:
        whole = isinstance(content, bytes) and len(content) == state.d * PANEL * dtype.itemsize
        if whole and zlib.crc32(content) == checksum:
            yield at, np.frombuffer(content, dtype).reshape(state.d, PANEL).astype(state.dtype, copy=False)
        elif check:
            raise sqlite3.DatabaseError(f"panel {at} does not match its checksum")
        else:
            yield at, f"panel {at}: it does not match its checksum"


def blocks(connection: sqlite3.Connection, state: State) -> Iterator[Floats]:
    """Yield all panels in blocks (BLOCK / PANEL, d, PANEL), as `Packed` holds them; raise if one is missing."""
    size = BLOCK // PANEL
    total, found = -(-state.places // PANEL), 0
    for at, part in groupby(panels(connection, state), lambda pair: pair[0] // size):
        block = np.empty(0, state.dtype)
        for number, panel in part:
            if number != found or number >= total:
                break
            if not len(block):  # not before a panel has shown that there are d numbers
                block = np.empty((min(size, total - at * size), state.d, PANEL), state.dtype)
            block[number - at * size] = panel
            found += 1
        if found != min(total, (at + 1) * size):
            break
        yield block
    if found != total:
        raise sqlite3.DatabaseError(f"panel {found} is missing")


def changed(base: Packed, panels: Iterable[tuple[int, Floats]], n: int, owned: bool) -> tuple[Packed, bool]:
    """Return packed patterns with changed panels, n patterns in all, and whether their last block may be added to."""
    places, rows = [], []
    for number, panel in panels:
        lanes = np.arange(number * PANEL, min(n, (number + 1) * PANEL))
        places.append(lanes)
        rows.append(panel[:, : len(lanes)].T)
    if not places:
        return base, owned
    at, new = np.concatenate(places), np.ascontiguousarray(np.concatenate(rows))
    old = np.flatnonzero(at < len(base))
    differ = old[(base._at(at[old]) != new[old]).any(axis=1)]
    if len(differ):
        base = base._with(at[differ], new[differ])
        last = (len(base) - 1) // BLOCK
        owned = owned or bool((at[differ] // BLOCK == last).any())
    added = np.flatnonzero(at >= len(base))
    if len(added):
        base, owned = base._added(new[added], in_place=owned), True
    return base, owned


def close_gaps(connection: sqlite3.Connection, state: State, live: Integers) -> None:
    """Move the entries at the places `live`, ascending, to the places 0, 1, ..."""
    moved = np.flatnonzero(live != np.arange(len(live)))
    first = int(moved[0]) // PANEL if len(moved) else len(live) // PANEL
    waiting: list[Floats] = []
    number, total = first, -(-state.places // PANEL)
    ends = np.searchsorted(live, np.arange(total + 1) * PANEL)
    for at in range(first, total):
        ((_, panel),) = panels(connection, state, number=at)
        waiting.append(panel[:, live[ends[at] : ends[at + 1]] % PANEL].T)
        while sum(map(len, waiting)) >= PANEL:
            rows = np.concatenate(waiting)
            write_whole(connection, state, number, rows[:PANEL])
            waiting, number = [rows[PANEL:]], number + 1
    if waiting and (rows := np.concatenate(waiting)).size:
        write_whole(connection, state, number, rows)
        number += 1
    connection.execute("DELETE FROM panels WHERE number >= ?", (number,))
    connection.execute("DELETE FROM holes")
    pairs = zip(moved.tolist(), live[moved].tolist(), strict=True)
    connection.executemany("UPDATE entries SET place = ? WHERE place = ?", pairs)


def write_whole(connection: sqlite3.Connection, state: State, number: int, rows: Floats) -> None:
    panel = np.zeros((1, state.d, PANEL), rows.dtype)
    _backend.core.pack(np.ascontiguousarray(rows), panel)
    content = panel.astype(panel.dtype.newbyteorder("<"), copy=False).tobytes()
    stored = (number, state.counter, zlib.crc32(content), content)
    connection.execute("INSERT OR REPLACE INTO panels VALUES (?, ?, ?, ?)", stored)


# Arguments and values


def dtype_name(dtype: DTypeLike) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    return _check.choice("dtype", name, ("float32", "float64"))


def declared(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the names and types of metadata columns."""
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns must be a dict of names and types; got {columns!r:.60}")
    for name, kind in columns.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name.lower() in RESERVED:
            raise ValueError(
                f"columns must be named by letters, digits and _, not key, place or value; got {name!r:.60}"
            )
        _check.choice(f"columns[{name!r}]", kind, COLUMN_TYPES)
    if len(columns) > COLUMNS:
        raise ValueError(f"columns must be at most {COLUMNS}; got {len(columns)}")
    if len({name.lower() for name in columns}) < len(columns):
        raise ValueError(f"columns must have names that differ in more than case; got {', '.join(columns)}")
    return dict(columns)


def checked_indexes(indexes: Any, columns: Mapping[str, str]) -> list[str]:
    if isinstance(indexes, str) or not isinstance(indexes, Sequence):
        raise TypeError(f"indexes must be a sequence of metadata columns; got {indexes!r:.60}")
    if unknown := [name for name in indexes if not isinstance(name, str) or name not in columns]:
        raise ValueError(f"indexes must be metadata columns; got {unknown[0]!r:.60}")
    return list(dict.fromkeys(indexes))


def checked_metadata(metadata: Any, columns: Mapping[str, str], n: int, single: bool) -> list[list[Any]]:
    """Return n entries for each column."""
    given = {} if metadata is None else metadata
    if not isinstance(given, Mapping):
        raise TypeError(f"metadata must be a dict of columns; got {metadata!r:.60}")
    if unknown := [name for name in given if name not in columns]:
        known = ", ".join(columns) or "none"
        raise ValueError(f"metadata must name columns of the store, {known}; got {unknown[0]!r:.60}")
    checked = []
    for name, kind in columns.items():
        entries = given.get(name, None if single else [None] * n)
        several = isinstance(entries, Iterable) and not isinstance(entries, str | bytes)
        if not single and (not several or (isinstance(entries, np.ndarray) and entries.ndim != 1)):
            raise TypeError(f"metadata[{name!r}] must be a list with an entry for each key; got {entries!r:.60}")
        entries = [entries] if single else entries.tolist() if isinstance(entries, np.ndarray) else list(entries)
        if len(entries) != n:
            raise ValueError(f"metadata[{name!r}] must have one entry for each of {n} keys; got {len(entries)}")
        checked.append([checked_entry(name, kind, entry) for entry in entries])
    return checked


def checked_entry(name: str, kind: str, entry: Any) -> Any:
    entry = entry.item() if isinstance(entry, np.generic) else entry
    if entry is None:
        return None
    if isinstance(entry, bool) and kind == "integer":
        return int(entry)
    fits = type(entry) in COLUMN_TYPES[kind] and not (isinstance(entry, int) and not -(2**63) <= entry < 2**63)
    if not fits or (isinstance(entry, float) and entry != entry):  # SQLite would store NaN as nothing
        raise TypeError(f"metadata[{name!r}] must be {kind} or None; got {entry!r:.60}")
    return float(entry) if kind == "real" else entry


def with_kinds(state: State, keys: list[Any], values: Array | None) -> State:
    """Return the state with the kinds of keys and values, which the first ones decide; raise if they do not fit."""
    if state.key_type is None:
        state = state._replace(key_type=type(keys[0]).__name__)
        if values is not None:
            if values.dtype.kind not in "biufU":
                raise TypeError(f"values must be strings or real numbers; got dtype {values.dtype}")
            kind = "U1" if values.dtype.kind == "U" else values.dtype.newbyteorder("=").str
            state = state._replace(value_dtype=kind, value_shape=json.dumps(values.shape[1:]))
    if type(keys[0]).__name__ != state.key_type:
        raise TypeError(f"keys must match the stored ones, of type {state.key_type}; got {keys[0]!r:.60}")
    if (values is None) != (state.value_dtype is None):
        given = None if values is None else f"values of dtype {values.dtype}"
        raise ValueError(f"values must be given if and only if the store has values; got {given}")
    if values is not None:
        dtype, shape = np.dtype(state.value_dtype), tuple(json.loads(state.value_shape or "[]"))
        text = dtype.kind == "U"
        fits = values.shape[1:] == shape and (values.dtype.kind == "U") == text and values.dtype.kind in "biufU"
        if fits and not text and values.dtype != dtype:
            with np.errstate(all="ignore"):
                fits = np.array_equal(values.astype(dtype).astype(values.dtype), values, equal_nan=True)
        if not fits:
            wanted = f"{'str' if text else dtype} of shape {(len(values), *shape)}"
            raise TypeError(f"values must match the stored ones, {wanted}; got {values.dtype} of shape {values.shape}")
    return state


def encoded_values(values: Array, state: State) -> list[Any]:
    """Return values as SQLite stores them: strings as text (as JSON if there are several), numbers as their bytes."""
    if values.dtype.kind == "U":
        return [value if isinstance(value, str) else json.dumps(value) for value in values.tolist()]
    stored = np.ascontiguousarray(values, np.dtype(state.value_dtype).newbyteorder("<"))
    return [value.tobytes() for value in stored]


def decoded_values(stored: list[Any], state: State) -> Array:
    shape, dtype = tuple(json.loads(state.value_shape or "[]")), np.dtype(state.value_dtype)
    if dtype.kind == "U":
        texts = stored if not shape else [json.loads(text) for text in stored]
        return np.array(texts, str).reshape(len(stored), *shape)
    content = b"".join(stored)
    if len(content) != len(stored) * dtype.itemsize * math.prod(shape):
        raise sqlite3.DatabaseError("a value has another size")
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(len(stored), *shape)


def as_keys(keys: list[Any]) -> Array:
    return np.array(keys, np.int64 if keys and isinstance(keys[0], int) else str)


# Errors


def code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def errors(path: str) -> Iterator[None]:
    """Turn errors of SQLite into one sentence that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise ValueError(sentence(path, error)) from None
    except UnicodeEncodeError as error:
        raise ValueError(f"strings must be Unicode without lone surrogates; got {error.object!a:.60}") from None


def sentence(path: str, error: sqlite3.Error) -> str:
    reason = " ".join(str(error).split())
    match code(error):
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return f"path must be a store that can be read and written; {path}: {reason}, and nothing was changed"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return f"path must be a store that can be written to; {path} is read-only"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"path must be a store that no other process is writing to for long; {path} is locked"
        case sqlite3.SQLITE_CANTOPEN:
            return f"path must be a file that can be opened; {path} cannot"
        case sqlite3.SQLITE_NOTADB:
            return f"path must be a store; {path} is not an SQLite database"
    return f"path must be a store that is not damaged; {path}: {reason}"
