"""Store: patterns with keys, values and metadata in one SQLite file [`Store`], and what it returns [`Entries`].

The database holds everything. Patterns are kept in blobs of one panel, 64 patterns in the layout of the core, so that a
store is opened by reading panels, or by mapping a packed copy from a file beside it. SQLite is responsible for
transactions, locks and metadata, the core for the search.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hopmin import _arithmetic, _check
from hopmin._lock import renew_after_fork
from hopmin._typing import Array, Booleans, Energy, Floats, Integers, Metric, Name, Progress
from hopmin.memory import _database as db
from hopmin.memory._allowed import each
from hopmin.memory._packed_file import PackedFile, has_own_codes
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.memory import Lookup, Neighbours, looked_up
from hopmin.memory.nearest import METRICS, nearest, within
from hopmin.memory.reduction import BLOCK, PANEL, Packed
from hopmin.memory.retrieval import Retrieval, RetrievalOptions, retrieve, shortened

FILTERS = 16  # conditions whose results are kept
Synchronous = Literal["full", "normal"]


class Entries(NamedTuple):
    """Entries of a store. For a single key, `key` is that key and all parts lack the axis of length n.

    Attributes
    ----------
    keys : ndarray, shape (n,)
        Their keys, strings or integers.
    patterns : ndarray, shape (n, d)
        Their patterns.
    values : ndarray, shape (n, ...), or None
        Their values; None if the store has none.
    metadata : dict
        For each column, a list of n entries: strings, integers, floats or None.
    """

    keys: Any
    patterns: Floats
    values: Any
    metadata: dict[str, Any]


class _Snapshot(NamedTuple):
    """What a store keeps in memory of one state."""

    state: db.State
    packed: Packed
    owned: bool  # whether the last block is not that of a mapped file
    live: Booleans | None  # which places (n,) hold an entry; None for all


@_arithmetic.standard_methods
class Store:
    """Patterns with keys, values and metadata in a file, for any number of readers and one writer at a time.

    A change that has returned is on the disk; one that has not is not in the store at all, even if the process is
    killed or the power fails. Every question sees the store as it is at that moment, with the changes of others.

    Parameters
    ----------
    path : path-like
        The file. It is created if it is missing and `d` is given.
    d : int, optional
        The number of dimensions. Required to create a store; otherwise it must be that of the file, if given.
    dtype : {"float32", "float64"}, optional
        Likewise, the dtype of the patterns; float32 for a new store.
    columns : dict, optional
        For a new store, the metadata columns: names and the types "text", "integer" or "real". Entries may lack any of
        them. For a store that exists, they must be those of the file, if given.
    indexes : sequence of str, default ()
        For a new store, the columns with an index, which makes conditions on them faster.
    energy : Energy, default DistanceEnergy()
        The energy; it is not stored.
    synchronous : {"full", "normal"}, default "full"
        With "normal", the latest changes may be lost, as a whole, when the power fails, but not when the process is
        killed; changes are faster.
    read_only : bool, default False
        Whether to refuse changes.
    timeout : float, default 30.0
        How long a change waits for another writer, in seconds, 2147482 at most.

    Attributes
    ----------
    energy : Energy
        The energy.
    path : str
        The file.
    columns : dict
        The metadata columns and their types.

    Raises
    ------
    ValueError or TypeError
        If an argument is invalid, or the file is not a store, damaged, of a newer format or cannot be opened. The
        methods raise the errors of the functions they call, and ValueError if the file cannot be read or written; a
        change that raises changes nothing.

    Notes
    -----
    Beside `path`, SQLite keeps `path-wal` and `path-shm` while the store is open, and a store of more than 16 MiB of
    patterns keeps a packed copy in `path-packed`, from which the next process maps it. The copy may be deleted.

    Indices are places: those of entries do not change when others are removed, until `compact` closes the gaps.

    A `where` is a condition of SQL on the metadata columns and `key`, such as "lang = ? and year > ?", with a parameter
    for each ?, or named ones. SQLite compiles it under an authorizer that refuses everything but reading these columns
    and calling functions that compute on them.

    A store may be used by several threads, which take turns.

    Examples
    --------
    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "notes.hopmin")
    >>> with Store(path, d=2, columns={"lang": "text"}) as store:
    ...     store.put(["a", "b"], [[0.0, 1.0], [1.0, 0.0]], metadata={"lang": ["en", "de"]})
    ...     store.nearest([0.1, 0.9], k=2).keys, store.nearest([0.1, 0.9], where="lang = ?", parameters=["de"]).keys
    (array(['a', 'b'], dtype=object), array(['b'], dtype=object))
    >>> with Store(path) as store:
    ...     store
    Store(2 entries, d = 2, float32, columns lang, DistanceEnergy(beta=1.0))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: Name,
        *,
        d: int | None = None,
        dtype: DTypeLike | None = None,
        columns: Mapping[str, str] | None = None,
        indexes: Sequence[str] = (),
        energy: Energy = DistanceEnergy(),  # noqa: B008
        synchronous: Synchronous = "full",
        read_only: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self.path = os.path.abspath(_check.path("path", path))
        self.energy: Energy = _check.energy(energy)
        self._synchronous = _check.choice("synchronous", synchronous, ("full", "normal"))
        self._read_only = _check.boolean("read_only", read_only)
        self._timeout = _check.number("timeout", timeout, "[0, 2147482]")  # below 2^31 ms
        d = None if d is None else _check.integer("d", d)
        name = None if dtype is None else db.dtype_name(dtype)
        declared = None if columns is None else db.declared(columns)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._closed, self._process = False, os.getpid()
        self._snapshot: _Snapshot | None = None
        self._filters: OrderedDict[Any, Booleans] = OrderedDict()
        self._averaged: tuple[int, Floats] | None = None
        if os.path.isdir(self.path):
            raise ValueError(f"path must be a file; {self.path} is a folder")
        new = not os.path.exists(self.path)
        if new and (d is None or read_only):
            raise ValueError(f"path must be an existing store, or d be given to create one; got {self.path}")
        if new:  # before there is a file
            db.checked_indexes(indexes, declared or {})
        try:
            with db.errors(self.path):
                connection = self._connected()
                if db.is_empty(connection, self.path):
                    if d is None or read_only:
                        raise ValueError(f"path must be a store, or d be given to create one; {self.path} is empty")
                    db.create(
                        connection, d, name or "float32", declared or {}, db.checked_indexes(indexes, declared or {})
                    )
                state = db.read_state(connection)
            found = (state.d, state.dtype, json.loads(state.columns))
            for option, given, stored in zip(("d", "dtype", "columns"), (d, name, declared), found, strict=True):
                if given is not None and given != stored:
                    raise ValueError(f"{option} must be that of the store, {stored}; got {given}")
        except BaseException:
            self.close()
            raise
        self.columns: dict[str, str] = found[2]
        self._d, self._dtype = state.d, np.dtype(state.dtype)
        renew_after_fork(self)

    # Contents

    def __len__(self) -> int:
        with self._reading(refresh=False) as connection:
            return db.read_state(connection).entries

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, d) of the patterns."""
        return len(self), self._d

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the patterns, float32 or float64."""
        return self._dtype

    @property
    def patterns(self) -> Floats:
        """A copy (n, d) of the patterns, in the order of their places."""
        with self._reading():
            return self._rows()

    @property
    def values(self) -> Array | None:
        """A copy (n, ...) of the values, in the order of their places; None if the store has none."""
        with self._reading() as connection:
            return self._values(connection, self._live_places())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("the patterns of a store can only be returned as a copy; got copy=False")
        return self.patterns.astype(dtype or self._dtype, copy=False)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str | int | np.integer):
            return False
        with self._reading(refresh=False) as connection, suppress(OverflowError, UnicodeEncodeError):
            return bool(db.places(connection, [key if isinstance(key, str) else int(key)]))
        return False  # no key is an integer of more bits or a string that is not Unicode

    def __getitem__(self, key: str | int) -> Floats:
        """Return the pattern (d,) of a key; raise KeyError if there is none."""
        pattern: Floats = self.get(key).patterns
        return pattern

    def __repr__(self) -> str:
        if self._closed:
            return f"Store(closed, {self.path})"
        n, columns = len(self), f", columns {', '.join(self.columns)}" if self.columns else ""
        entries = f"{n} entr{'y' if n == 1 else 'ies'}"
        return f"Store({entries}, d = {self._d}, {self._dtype}{columns}, {shortened(self.energy)})"

    def keys(self, where: str | None = None, parameters: db.Parameters = ()) -> Array:
        """Return the keys (n,) of all entries, or of those that a condition selects, in the order of their places."""
        with self._reading() as connection:
            allowed = self._allowed(connection, where, parameters)
            places = self._live_places() if allowed is None else np.flatnonzero(allowed)
            return db.as_keys(self._keys_at(connection, places).tolist())

    def get(self, keys: ArrayLike) -> Entries:
        """Return the entries of keys (n,), or of a single one; raise KeyError if one is not stored."""
        single = np.ndim(keys) == 0
        names = _check.keys("keys", keys)
        with self._reading() as connection:
            found = db.places(connection, names)
            if missing := [name for name in names if name not in found]:
                raise KeyError(missing[0])
            places = np.array([found[name] for name in names], np.int64)
            snapshot = self._current()
            values = self._values(connection, places)
            rows = db.rows_at(connection, self._metadata_columns(), places)
            columns = {name: [rows[place][i] for place in places.tolist()] for i, name in enumerate(self.columns)}
            patterns = snapshot.packed._at(places)
        if not single:
            return Entries(db.as_keys(names), patterns, values, columns)
        metadata = {name: column[0] for name, column in columns.items()}
        return Entries(names[0], patterns[0], None if values is None else values[0], metadata)

    # Changes

    def put(
        self,
        keys: ArrayLike,
        patterns: ArrayLike,
        values: ArrayLike | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store entries: replace those whose keys are stored, with their values and metadata, and add the others.

        It is one transaction. Many entries in one call are stored much faster than in many calls.

        Parameters
        ----------
        keys : array_like, shape (k,), or a single key
            The keys, all different: strings, or integers of 64 bits.
        patterns : array_like, shape (k, d) or (d,)
            The patterns.
        values : array_like, shape (k, ...), or the value of a single pattern
            Their values, strings or numbers; required if and only if the first entries had values. Numbers are
            converted to the dtype of the first ones, if that is exact.
        metadata : dict, optional
            For some columns, a list of k entries, or one for a single pattern.

        Raises
        ------
        ValueError or TypeError
            If an argument does not fit the store, or the file cannot be written.
        """
        self._insert(keys, patterns, values, metadata, replace=True)

    def add(
        self,
        keys: ArrayLike,
        patterns: ArrayLike,
        values: ArrayLike | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store new entries, as `put` does, but raise ValueError if a key is stored already.

        Parameters
        ----------
        keys, patterns, values, metadata
            As in `put`.

        Raises
        ------
        ValueError or TypeError
            As `put`, and if a key is stored already.
        """
        self._insert(keys, patterns, values, metadata, replace=False)

    def remove(self, keys: ArrayLike) -> None:
        """Remove the entries with these keys (k,), or with a single one.

        Their patterns stay in the file until `compact`. Raises ValueError if a key is not stored.
        """
        names = _check.keys("keys", keys)
        with self._writing() as (connection, state):
            found = db.places(connection, names)
            if missing := [name for name in names if name not in found]:
                raise ValueError(f"keys must be stored; got {missing[0]!r:.60}, which is not")
            gone = [(place,) for place in found.values()]
            connection.executemany("DELETE FROM entries WHERE place = ?", gone)
            connection.executemany("INSERT INTO holes VALUES (?)", gone)
            db.save_state(connection, state._replace(entries=state.entries - len(gone)))

    def compact(self) -> None:
        """Close the gaps that removed entries left, and return the space to the system if nobody else is using it.

        It takes as long as writing the patterns anew, in one transaction. Places change; keys do not.
        """
        with self._writing() as (connection, state):
            holes = db.holes(connection)
            if len(holes):  # otherwise there is nothing to do
                live = np.delete(np.arange(state.places), holes)
                db.close_gaps(connection, state, live)
                db.save_state(connection, state._replace(places=len(live), epoch=state.epoch + 1))
        if len(holes):
            with self._lock, db.errors(self.path), suppress(sqlite3.OperationalError):
                self._connected().execute("VACUUM")

    def _insert(
        self, keys: ArrayLike, patterns: ArrayLike, values: ArrayLike | None, metadata: Any, *, replace: bool
    ) -> None:
        rows, single = _check.new_patterns("patterns", patterns, self._d, self._dtype)
        names = _check.keys("keys", keys, len(rows), single)
        new = None if values is None else _check.storable("values", values, len(rows), single)
        columns = db.checked_metadata(metadata, self.columns, len(rows), single)
        if not names:
            return
        with self._writing() as (connection, state):
            state = db.with_kinds(state, names, new)
            found = db.places(connection, names) if state.entries else {}
            if found and not replace:
                raise ValueError(f"keys must be new; got {next(iter(found))!r:.60}, which is stored")
            fresh = iter(range(state.places, state.places + len(names)))
            places = [found[name] if name in found else next(fresh) for name in names]
            db.write_panels(connection, state, np.array(places), rows)
            marks = ", ".join("?" * (3 + len(self.columns)))
            stored = [None] * len(names) if new is None else db.encoded_values(new, state)
            connection.executemany(
                f"INSERT OR REPLACE INTO entries VALUES ({marks})", zip(places, names, stored, *columns, strict=True)
            )
            added = len(names) - len(found)
            db.save_state(connection, state._replace(entries=state.entries + added, places=state.places + added))

    # Questions

    def nearest(
        self,
        queries: ArrayLike,
        k: int = 1,
        *,
        metric: Metric = "euclidean",
        where: str | None = None,
        parameters: db.Parameters = (),
        progress: Progress | None = None,
    ) -> Neighbours:
        """Return the distances, indices and keys of the k nearest patterns of each query.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        k : int, default 1
            Number of neighbours; it may be larger than the number of entries.
        metric : {"euclidean", "dot", "cosine"}, default "euclidean"
            As in `hopmin.nearest`.
        where : str, optional
            A condition that entries must satisfy. Default: all entries.
        parameters : sequence or dict, default ()
            The parameters of the condition.
        progress : callable, optional
            Called as `progress(done, total)`, as by `hopmin.nearest`.

        Returns
        -------
        Neighbours
            The pair (distances, indices) of arrays (m, k) or (k,), and `keys`. Where there are fewer than k entries,
            the distance is infinite, the index -1 and the key None.

        Raises
        ------
        ValueError or TypeError
            As `hopmin.nearest`, and if the condition is not valid.
        """
        metric, k = _check.choice("metric", metric, METRICS), _check.integer("k", k)
        with self._reading() as connection:
            packed, allowed = self._current().packed, self._allowed(connection, where, parameters)
            x, _, shape = _check.pair(queries, packed)
            kept = min(k, len(packed))
            distances, indices = np.full((*shape, k), np.inf, x.dtype), np.full((*shape, k), -1)
            if kept:
                x = x.reshape(*shape, self._d)
                found = nearest(x, packed, kept, metric=metric, allowed=allowed, progress=progress)
                distances[..., :kept], indices[..., :kept] = found
            return Neighbours._of(distances, indices, self._keys_at(connection, indices))

    def within(
        self,
        queries: ArrayLike,
        radius: ArrayLike,
        *,
        metric: Metric = "euclidean",
        where: str | None = None,
        parameters: db.Parameters = (),
    ) -> tuple[list[Floats], list[Array]] | tuple[Floats, Array]:
        """Return the distances and keys of all patterns within a radius of each query, sorted by distance.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        radius : float or array_like, shape (m,)
            The largest distance, inclusive.
        metric, where, parameters
            As in `nearest`.

        Returns
        -------
        distances : list of m ndarrays, or ndarray for a single query
            The distances.
        keys : list of m ndarrays, or ndarray for a single query
            The keys.

        Raises
        ------
        ValueError or TypeError
            As `hopmin.within`, and if the condition is not valid.
        """
        with self._reading() as connection:
            packed, allowed = self._filled(), self._allowed(connection, where, parameters)
            _, _, shape = _check.pair(queries, packed)
            distances, indices, offsets = within(queries, packed, radius, metric=metric, allowed=allowed, csr=True)
            keys = self._keys_at(connection, indices)
        if not shape:
            return distances, keys
        return np.split(distances, offsets[1:-1]), np.split(keys, offsets[1:-1])

    def energies(self, queries: ArrayLike, *, where: str | None = None, parameters: db.Parameters = ()) -> Floats:
        """Return the energy (m,) of each query.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        where, parameters
            As in `nearest`.

        Returns
        -------
        ndarray, shape (m,), or a scalar for a single query

        Raises
        ------
        ValueError or TypeError
            As the energy, and if no entry is left.
        """
        with self._reading() as connection:
            return self._by_energy(self.energy.value, connection, queries, where, parameters)

    def update(self, queries: ArrayLike, *, where: str | None = None, parameters: db.Parameters = ()) -> Floats:
        """Return the values (m, ...) averaged by weight; without values, the patterns (m, d).

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        where, parameters
            As in `nearest`.

        Returns
        -------
        ndarray, shape (m, ...) or (...)

        Raises
        ------
        ValueError or TypeError
            As `energies`, and TypeError if the values are not real numbers.
        """
        with self._reading() as connection:
            state = self._current().state
            if state.value_dtype is None:
                return self._by_energy(self.energy.update, connection, queries, where, parameters)
            mean = self._by_energy(
                self.energy.update, connection, queries, where, parameters, self._numbers(connection)
            )
            shaped: Floats = mean.reshape((*mean.shape[:-1], *json.loads(state.value_shape or "[]")))[()]
            return shaped

    def retrieve(
        self,
        queries: ArrayLike,
        *,
        where: str | None = None,
        parameters: db.Parameters = (),
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Repeat the update until the state stops moving, with the options of `hopmin.retrieve`.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            Initial states.
        where, parameters
            As in `nearest`.
        **options
            The options of `hopmin.retrieve`, except `allowed`.

        Returns
        -------
        Retrieval
            Its patterns and indices are those of all places. All patterns must fit into memory.

        Raises
        ------
        ValueError or TypeError
            As `hopmin.retrieve`, and if the condition is not valid.
        """
        with self._reading() as connection:
            packed, allowed = self._filled(), self._allowed(connection, where, parameters)
            state = self._current().state
            if state.value_dtype is not None and np.dtype(state.value_dtype).kind in "biuf":
                options.setdefault("values", self._numbers(connection))
            options["allowed"] = allowed
            return retrieve(queries, packed, self.energy, **options)

    def lookup(
        self,
        queries: ArrayLike,
        *,
        k: int | None = None,
        min_similarity: float | None = None,
        where: str | None = None,
        parameters: db.Parameters = (),
    ) -> Lookup:
        """Return the values of the patterns of greatest cosine similarity, if it is at least `min_similarity`.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        k, min_similarity
            As in `Memory.lookup`.
        where, parameters
            As in `nearest`.

        Returns
        -------
        Lookup
            As `Memory.lookup`, with keys.

        Raises
        ------
        ValueError or TypeError
            As `Memory.lookup`, and if the condition is not valid.
        """
        with self._reading() as connection:
            packed, allowed = self._current().packed, self._allowed(connection, where, parameters)

            def values_at(indices: Integers) -> Array:
                values, found = self._blank(len(indices)), indices >= 0
                stored = self._values(connection, indices[found])
                some = packed._at(indices[found]) if stored is None else stored
                values = values.astype(np.promote_types(values.dtype, some.dtype), copy=False)
                values[found] = some
                return values

            options: Any = {"k": k, "min_similarity": min_similarity, "allowed": allowed}
            return looked_up(queries, packed, values_at, lambda i: self._keys_at(connection, i), **options)

    def info(self) -> dict[str, Any]:
        """Return what the store holds, as a JSON record."""
        with self._reading(refresh=False) as connection:
            state = db.read_state(connection)
        values = "str" if (state.value_dtype or "").startswith("U") else state.value_dtype
        return {
            "entries": state.entries, "removed": state.places - state.entries, "d": state.d, "dtype": state.dtype,
            "keys": state.key_type, "values": values,
            "columns": self.columns, "changes": state.counter, "bytes": os.path.getsize(self.path),
        }  # fmt: skip

    def check(self, progress: Progress | None = None) -> list[str]:
        """Return what is wrong with the file, in sentences: nothing if the list is empty.

        All pages, panels, keys and counts are read and verified, and so is the packed copy, which is deleted if it
        differs: the next question makes a new one.
        """
        progress = _check.progress(progress)
        with self._reading(refresh=False) as connection:
            state = db.read_state(connection)
            problems = [f"database: {row[0]}" for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            if problems:
                return problems
            n, holes = connection.execute("SELECT count(*) FROM entries").fetchone()[0], db.holes(connection)
            if n != state.entries or n + len(holes) != state.places:
                problems.append(f"entries: {state.entries} of {state.places} places expected, {n} found")
            copy = self._packed_file(state).load()
            copied = copy[0] if copy is not None and copy[1] == state.counter else None
            found, same = 0, True
            for number, panel in db.panels(connection, state, check=False):
                found += 1
                if isinstance(panel, str):
                    problems.append(panel)
                elif copied is not None:
                    block, at = divmod(number, BLOCK // PANEL)
                    lanes = min(PANEL, state.places - number * PANEL)
                    same &= np.array_equal(copied._blocks[block][at][:, :lanes], panel[:, :lanes])
                if progress is not None:
                    progress(number + 1, -(-state.places // PANEL))
            if found != -(-state.places // PANEL):
                problems.append(f"panels: {-(-state.places // PANEL)} expected, {found} found")
            if not same or (copied is not None and not has_own_codes(copied)):
                os.unlink(self._packed_file(state).path)
                problems.append("packed copy: it differed from the database, and was deleted")
        return problems

    # Files

    def close(self) -> None:
        """Close the file; a closed store raises ValueError."""
        with self._lock:
            self._closed, self._snapshot = True, None
            if self._connection is not None and self._process == os.getpid():
                with suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a store cannot be copied or pickled; open its path again")

    # Connections

    def _connected(self) -> sqlite3.Connection:
        """Return the connection of this process, which a fork must not share."""
        if self._closed:
            raise ValueError(f"store must be open; got one that has been closed, {self.path}")
        if self._connection is None or self._process != os.getpid():
            if self._process != os.getpid():  # the parent's connection stays open, and unused
                _orphans.append(self._connection)
            self._process, self._connection = os.getpid(), self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self._read_only else "rw" if os.path.exists(self.path) else "rwc"
        try:
            return self._configured(f"mode={mode}")
        except sqlite3.OperationalError as error:
            # SQLite reads a database in WAL mode only if it can write beside it, or nobody else can write it
            refused = db.code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if refused and os.path.exists(self.path) and not os.path.exists(f"{self.path}-wal"):
                return self._configured("mode=ro&immutable=1")
            raise

    def _configured(self, options: str) -> sqlite3.Connection:
        uri = f"{Path(self.path).as_uri()}?{options}"
        connection = sqlite3.connect(
            uri, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA fullfsync = {self._synchronous == 'full'}")  # on macOS
            connection.execute("PRAGMA application_id").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _reading(self, *, refresh: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold one state of the store, and what is kept of it in memory."""
        with self._lock, db.errors(self.path):
            connection = self._connected()
            if connection.in_transaction:  # in a callback of another question
                yield connection
                return
            connection.execute("BEGIN")
            try:
                if refresh:
                    self._refresh(connection)
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, db.State]]:
        """Hold the lock of the only writer; commit what it has written, or nothing."""
        if self._read_only:
            raise ValueError(f"store must not be read-only to be changed; got {self.path}")
        with self._lock, db.errors(self.path):
            connection = self._connected()
            if connection.in_transaction:
                raise ValueError("store must not be changed while it answers a question; got a change in a callback")
            connection.execute("BEGIN IMMEDIATE")
            try:
                state = db.read_state(connection)
                yield connection, state._replace(counter=state.counter + 1)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    # What is kept in memory

    def _current(self) -> _Snapshot:
        assert self._snapshot is not None
        return self._snapshot

    def _filled(self) -> Packed:
        packed = self._current().packed
        if len(packed) == 0:
            raise ValueError("store must hold at least one entry to be queried; got an empty one")
        return packed

    def _packed_file(self, state: db.State) -> PackedFile:
        origin = {"id": state.id, "epoch": state.epoch}
        return PackedFile(f"{self.path}-packed", self.path, origin, state.d, np.dtype(state.dtype))

    def _refresh(self, connection: sqlite3.Connection) -> None:
        """Bring the snapshot up to the state of the database."""
        before, state = self._snapshot, db.read_state(connection)
        if before is not None and before.state == state:
            return
        self._filters.clear()
        self._averaged = None
        base, counter, owned = None, -1, False
        if before is not None and (before.state.id, before.state.epoch) == (state.id, state.epoch):
            base, counter, owned = before.packed, before.state.counter, before.owned
        elif (found := self._packed_file(state).load()) and len(found[0]) <= state.places and found[1] <= state.counter:
            base, counter = found
        (changed,) = connection.execute("SELECT count(*) FROM panels WHERE counter > ?", (counter,)).fetchone()
        if base is None and changed != -(-state.places // PANEL):
            raise sqlite3.DatabaseError(f"{-(-state.places // PANEL)} panels expected, {changed} found")
        if state.places == 0:
            packed, owned = Packed._empty(state.d, self._dtype), True
        elif (
            base is None
            or len(base) == 0
            or counter > state.counter
            or changed * PANEL > 64 * PANEL + state.places // 8
        ):
            packed = self._packed_file(state).build(lambda: db.blocks(connection, state), state.places, state.counter)
            owned = False
        else:
            packed, owned = db.changed(base, db.panels(connection, state, counter), state.places, owned)
        holes, live = db.holes(connection), None
        if len(holes):
            live = np.ones(state.places, bool)
            live[holes] = False
        self._snapshot = _Snapshot(state, packed, owned, live)

    def _allowed(self, connection: sqlite3.Connection, where: str | None, parameters: db.Parameters) -> Booleans | None:
        """Return which places (n,) hold entries that satisfy a condition; None for all."""
        snapshot = self._current()
        if where is None:
            return snapshot.live
        if not isinstance(where, str):
            raise TypeError(f"where must be a condition in SQL, a string; got {where!r:.60}")
        parameters = db.bound(parameters)
        listed = parameters.items() if isinstance(parameters, dict) else parameters
        name = where, *((type(parameter), repr(parameter)) for parameter in listed)
        if (kept := self._filters.get(name)) is None:
            kept, steady = db.selected(connection, where, parameters, self.columns, len(snapshot.packed))
            if steady:
                self._filters[name] = kept
            while len(self._filters) > FILTERS:
                self._filters.popitem(last=False)
        return kept

    def _live_places(self) -> Integers:
        snapshot = self._current()
        return np.arange(len(snapshot.packed)) if snapshot.live is None else np.flatnonzero(snapshot.live)

    def _rows(self) -> Floats:
        packed, live = self._current().packed, self._current().live
        return packed[:] if live is None else packed[:][live]

    def _by_energy(
        self,
        method: Callable[..., Floats],
        connection: sqlite3.Connection,
        queries: ArrayLike,
        where: str | None,
        parameters: db.Parameters,
        *values: Floats,
    ) -> Floats:
        packed, allowed = self._filled(), self._allowed(connection, where, parameters)
        patterns: Any = packed if isinstance(self.energy, DistanceEnergy | DotEnergy) else packed[:]
        if allowed is None:
            return method(queries, patterns, *values)
        return each(method, allowed, queries, patterns, *values)

    def _keys_at(self, connection: sqlite3.Connection, places: Integers) -> Array:
        """Return the keys (...) of places, None for -1."""
        flat = places.reshape(-1)
        rows = db.rows_at(connection, ["key"], np.unique(flat[flat >= 0]))
        keys = np.empty(places.shape, object)
        keys.reshape(-1)[:] = [rows[place][0] if place >= 0 else None for place in flat.tolist()]
        return keys

    def _next_key(self) -> int:
        """Return one more than the largest integer key; 0 if there is none."""
        with self._reading(refresh=False) as connection:
            (largest,) = connection.execute("SELECT max(key) FROM entries").fetchone()
        return largest + 1 if isinstance(largest, int) else 0

    def _metadata_columns(self) -> list[str]:
        return [f'"{name}"' for name in self.columns]

    def _blank(self, n: int) -> Array:
        """Return n values that stand for none: zero or "", or patterns if there are no values."""
        state = self._current().state
        if state.value_dtype is None:
            return np.zeros((n, self._d), self._dtype)
        return np.zeros((n, *json.loads(state.value_shape or "[]")), state.value_dtype)

    def _values(self, connection: sqlite3.Connection, places: Integers) -> Array | None:
        """Return the values of entries at these places; None if there are none."""
        state = self._current().state
        if state.value_dtype is None:
            return None
        rows = db.rows_at(connection, ["value"], np.unique(places))
        return db.decoded_values([rows[place][0] for place in places.tolist()], state)

    def _numbers(self, connection: sqlite3.Connection) -> Floats:
        """Return the values of all places as numbers (n, v) to average, 0 for those without an entry."""
        state = self._current().state
        dtype = np.dtype(state.value_dtype)
        if dtype.kind not in "biuf":
            raise TypeError(f"values must be real numbers to be averaged; got dtype {dtype}")
        if self._averaged is None or self._averaged[0] != state.counter:
            values, places = self._blank(state.places), self._live_places()
            values[places] = self._values(connection, places)
            self._averaged = state.counter, values.reshape(len(values), -1)
        return self._averaged[1]


_orphans: list[Any] = []  # connections of a parent process, which SQLite forbids to close in a child
