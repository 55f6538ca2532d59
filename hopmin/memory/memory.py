"""Memory: a store of patterns, their values, and an energy [`Memory`].

- add, remove and replace patterns [`Memory.add`], [`Memory.remove`], [`Memory.replace`]
- energies, updates, retrieval and exact search, as in their modules [`Memory.update`], [`Memory.retrieve`], ...
- name patterns by keys, under which they are found and replaced [`Memory.put`], and results named [`Neighbours`]
- look up values, with a threshold on the similarity [`Memory.lookup`]
- save to a file, load it, or map it into memory [`Memory.save`], [`Memory.load`]
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import Any, Literal, NamedTuple, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check, _files
from hopmin._lock import renew_after_fork
from hopmin._typing import Array, Energy, Floats, Integers, Metric, Name, Progress
from hopmin.memory._allowed import each
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.nearest import METRICS, RadiusOptions, nearest, within
from hopmin.memory.reduction import Packed
from hopmin.memory.retrieval import Retrieval, RetrievalOptions, abbreviated, retrieve, shortened

FILE_KIND = "memory"
NONE = np.empty(0, np.int64)
ENERGY_MODULES = {
    "DistanceEnergy": "energy", "DotEnergy": "energy", "EuclideanEnergy": "energy",
    "SparseEnergy": "sparse", "EpanechnikovEnergy": "sparse",
    "HopfieldEnergy": "binary", "PolynomialEnergy": "binary", "ExponentialEnergy": "binary",
}  # fmt: skip


class _Lookup(NamedTuple):
    values: Array
    indices: Integers
    similarities: Floats


class Lookup(_Lookup):
    """The result of `Memory.lookup` for m queries. For a single query all arrays lack the axis of length m.

    Attributes
    ----------
    values : ndarray, shape (m, ...) or (m, k, ...)
        The values of the patterns of greatest cosine similarity; zero or "" where the similarity is too small.
    indices : ndarray of int64, shape (m,) or (m, k)
        The indices of these patterns; -1 where the similarity is too small.
    similarities : ndarray, shape (m,) or (m, k)
        The greatest cosine similarities, in [-1, 1], including those that are too small; -inf where there is no
        pattern, for k > n.
    keys : ndarray of object, shape (m,) or (m, k), or None
        The keys of these patterns, if the memory has keys; None where the index is -1. It is not part of the tuple.
    """

    keys: Any = None

    def __repr__(self) -> str:
        return f"Lookup({', '.join(f'{name} {abbreviated(a)}' for name, a in self._asdict().items())})"


class _Nearest(NamedTuple):
    distances: Floats
    indices: Integers


class Neighbours(_Nearest):
    """The pair (distances, indices) that `nearest` returns for a memory with keys, and the keys of the patterns found.

    Attributes
    ----------
    distances : ndarray, shape (m, k) or (k,)
        Distances in ascending order.
    indices : ndarray of int64, shape (m, k) or (k,)
        The indices of the patterns at these distances, -1 for none.
    keys : ndarray of object, shape (m, k) or (k,)
        Their keys, None for none.
    """

    keys: Array

    @classmethod
    def _of(cls, distances: Floats, indices: Integers, keys: Array) -> Neighbours:
        found = cls(distances, indices)
        found.keys = keys
        return found

    def __repr__(self) -> str:
        parts = {"distances": self.distances, "keys": self.keys}
        return f"Neighbours({', '.join(f'{name} {abbreviated(a)}' for name, a in parts.items())})"


class _Keys:
    """The keys of patterns by their places, and the places by keys.

    Contents share it as they share unused places: the keys after the last pattern of one belong to a later one, or to
    none.
    """

    __slots__ = ("_places", "names")

    def __init__(self, names: list[Any]) -> None:
        self.names = names
        self._places = {name: place for place, name in enumerate(names)}

    def added(self, names: list[Any], n: int, *, in_place: bool) -> _Keys:
        """Return keys with those of the patterns from place n on."""
        if not in_place:
            return _Keys(self.names[:n] + names)
        self.names[n:] = names
        self._places.update(zip(names, range(n, n + len(names)), strict=True))
        return self

    def place(self, key: Any, n: int) -> int:
        """Return the place of a key among the first n; -1 if it has none."""
        place = self._places.get(key, n)
        return place if place < n and self.names[place] == key else -1


class _Contents(NamedTuple):
    """The patterns of a memory and their values at one moment; a change makes new contents and swaps them in.

    Removed patterns are only noted at first, and left out before the next query: `settled` does it for all of them at
    once. Nothing that a query can see here is overwritten. Contents share the blocks of patterns in which they do not
    differ, and the unused places after the last pattern and value. One change may fill these in place: the one that
    takes the entry of `unused`. If it fails or is interrupted, the next change copies the last block instead.
    """

    patterns: Any  # Packed, or the map of a file
    buffer: Array | None  # the values, and unused places
    unused: list[None]  # one entry, until it is taken
    removed: Integers = NONE  # the places of patterns that are still stored although removed, ascending
    keys: _Keys | None = None

    @property
    def number(self) -> int:
        """The number of patterns."""
        return len(self.patterns) - len(self.removed)

    @property
    def values(self) -> Array | None:
        """The values (n, ...), if there are any, of all patterns that are stored."""
        return None if self.buffer is None else self.buffer[: len(self.patterns)]

    def values_at(self, indices: Integers) -> Array:
        """Return the values (k, ...) at these indices, without values the patterns; zero or "" for an index of -1."""
        stored, found = self.patterns if self.values is None else self.values, indices >= 0
        values = np.zeros((len(indices), *stored.shape[1:]), stored.dtype)
        values[found] = stored[indices[found]]
        return values

    def place(self, key: Any) -> int:
        """Return the place of a key, -1 if it has none."""
        if self.keys is None:
            raise TypeError(f"memory must have keys to find one; got {key!r:.60} for a memory without")
        place = self.keys.place(key, len(self.patterns)) if isinstance(key, str | int | np.integer) else -1
        return -1 if place >= 0 and place in self.removed else place

    def keys_at(self, indices: Integers) -> Array:
        """Return the keys of patterns, of contents without removed ones; None for an index of -1."""
        assert self.keys is not None
        names = self.keys.names
        found = np.empty(indices.shape, object)
        found.reshape(-1)[:] = [names[index] if index >= 0 else None for index in indices.reshape(-1).tolist()]
        return found

    def added(self, rows: Floats, values: Array | None, keys: list[Any] | None) -> _Contents:
        """Return contents with rows (k, d), values and keys after the last pattern, in amortized O(k d) time."""
        if keys is not None and (known := [key for key in keys if self.place(key) >= 0]):
            raise ValueError(f"keys must be new; got {known[0]!r:.60}, which is stored")
        n, end = len(self.patterns), len(self.patterns) + len(rows)
        if len(self.removed) and values is not None and self.buffer is not None and values.dtype != self.buffer.dtype:
            return self.settled().added(rows, values, keys)
        dtype = self._dtype_with(values)
        try:
            self.unused.pop()
            in_place = True
        except IndexError:
            in_place = False
        buffer = self.buffer
        if values is None or buffer is None or n == 0:
            buffer = values
        else:
            if dtype != buffer.dtype or end > len(buffer) or not in_place:
                size = len(buffer) if end <= len(buffer) else max(end, 2 * len(buffer))
                buffer = np.empty((size, *buffer.shape[1:]), dtype)
                buffer[:n] = self.values
            buffer[n:end] = values
        names = None if self.keys is None or keys is None else self.keys.added(keys, n, in_place=in_place)
        return _Contents(self.patterns._added(rows, in_place=in_place), buffer, [None], self.removed, names)

    def without(self, indices: Integers) -> _Contents:
        """Return contents without the patterns at these indices, which are ascending."""
        before = np.searchsorted(self.removed - np.arange(len(self.removed)), indices, side="right")
        noted = self._replace(removed=np.union1d(self.removed, indices + before))
        return noted if noted.number >= len(noted.removed) else noted.settled()

    def settled(self) -> _Contents:
        """Return contents that do not store patterns that have been removed."""
        if len(self.removed) == 0:
            return self
        values = None if self.values is None else np.delete(self.values, self.removed, axis=0)
        removed = set(self.removed.tolist())
        names = self.keys and _Keys([self.keys.names[i] for i in range(len(self.patterns)) if i not in removed])
        return _Contents(self.patterns._without(self.removed), values, [None], keys=names)

    def replaced(self, indices: Integers, rows: Floats, values: Array | None) -> _Contents:
        """Return contents, settled ones, with rows (k, d) and their values at these indices."""
        dtype, buffer = self._dtype_with(values), None
        if self.values is not None:
            buffer = self.values.astype(dtype)
            buffer[indices] = values
        return _Contents(self.patterns._with(indices, rows), buffer, self.unused, keys=self.keys)

    def _dtype_with(self, new: Array | None) -> Any:
        """Return a dtype for the values and new ones (k, ...); raise if they do not match."""
        old, free = self.values, len(self.patterns) == 0  # what an empty memory holds is up to the first patterns
        if (new is None) != (old is None) and not (free and old is None):
            given = None if new is None else _described(new)
            raise ValueError(f"values must be given if and only if the memory has values; got {given}")
        if new is None or old is None or free:
            return None if new is None else new.dtype
        dtype = _common_dtype(old.dtype, new.dtype)
        fit = dtype is not None and _is_exact(old, dtype) and _is_exact(new, dtype)
        if not fit or new.shape[1:] != old.shape[1:]:
            raise TypeError(f"values must match the stored ones, {_described(old)}; got {_described(new)}")
        return dtype


@_arithmetic.standard_methods
class Memory:
    """A store of patterns, optionally with one value for each, and an energy.

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        The initial patterns; n may be 0, as in `Memory(np.empty((0, 384)))`. float16 and float32 are stored as float32,
        other numbers as float64; patterns added later are converted to this dtype.
    values : array_like, shape (n, ...), optional
        One value for each pattern: labels, strings, numbers or vectors, of any dtype but object. Without values the
        patterns are used in their place. In an empty memory, the first patterns added decide on values and their dtype.
    energy : Energy, default DistanceEnergy()
        An object with `value`, `update` and `weights`.
    keys : array_like of str or int, shape (n,), optional
        A key for each pattern, all different: strings, or integers of 64 bits. Without, the memory has no keys.

    Attributes
    ----------
    energy : Energy
        The energy.

    Raises
    ------
    ValueError or TypeError
        If patterns or values cannot be stored, or energy is not an energy. The methods raise the errors of the
        functions they call; a change that raises leaves the memory unchanged.

    Notes
    -----
    Patterns are stored packed, in blocks of 8192. Adding one takes amortized O(d) time, and replacing one copies its
    block. Removing one only notes it; the next query copies all from the first block with a removed pattern on, once
    for all that were removed before it. Indices are positions in the order of insertion, counted from 0;
    removing a pattern decrements the indices of those after it. Keys do not change; in a memory with integer keys
    `memory[7]` is the pattern with the key 7, not that at index 7.

    Any number of threads may query and change a memory: a query sees it before or after a change, as a whole, and so
    does an interrupt leave it. Arrays that were returned are not affected by later changes.

    Queries of an empty memory raise ValueError, except for `lookup`, which finds nothing.

    Examples
    --------
    >>> import hopmin
    >>> memory = hopmin.Memory([[0.0, 0.0], [1.0, 0.0]], values=["origin", "east"], energy=hopmin.DistanceEnergy(8.0))
    >>> memory.add([0.0, 2.0], "north")
    2
    >>> memory.retrieve([0.2, 1.7]).states.round(3) + 0.0
    array([0., 2.])
    >>> memory.values[memory.nearest([[0.2, 1.7], [0.8, 0.1]])[1][:, 0]].tolist()
    ['north', 'east']
    >>> memory.remove(0)
    >>> memory
    Memory(2 patterns, d = 2, float64, values <U6, DistanceEnergy(beta=8.0))
    """

    def __init__(
        self,
        patterns: ArrayLike,
        values: ArrayLike | None = None,
        energy: Energy = DistanceEnergy(),  # noqa: B008
        *,
        keys: ArrayLike | None = None,
    ) -> None:
        first = _check.floats("patterns", patterns, "n d", empty="n")
        self.energy: Energy = _check.energy(energy)
        stored = None if values is None else _check.storable("values", values, len(first))
        packed = Packed._empty(first.shape[1], first.dtype)._added(first, in_place=True)
        names = None if keys is None else _Keys(_check.keys("keys", keys, len(first)))
        self._contents = _Contents(packed, stored, [None], keys=names)
        self._lock = threading.RLock()  # held by the thread that changes the memory; its signal handlers may, too
        renew_after_fork(self)

    # Contents

    def __len__(self) -> int:
        return self._contents.number

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, d) of the patterns."""
        contents = self._contents
        return contents.number, contents.patterns.shape[1]

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """The dtype of the patterns, float32 or float64."""
        dtype: np.dtype[np.floating[Any]] = self._contents.patterns.dtype
        return dtype

    @property
    def patterns(self) -> Floats:
        """A copy (n, d) of the patterns; for a mapped memory, the read-only map of the file."""
        return np.asarray(self._settled().patterns[:])

    @property
    def values(self) -> Array | None:
        """A copy (n, ...) of the values, or the read-only map of the file; None if the memory has no values."""
        values = self._settled().values
        if values is None:
            return None
        return np.asarray(values) if self._mapped else values.copy()

    @property
    def keys(self) -> Array | None:
        """A copy (n,) of the keys, strings or integers; None if the memory has no keys."""
        contents = self._settled()
        return None if contents.keys is None else _key_array(contents.keys.names[: contents.number])

    def __getitem__(self, index: Any) -> Floats:
        """Return the patterns at an index or slice, as `memory.patterns[index]`, or that of a key; see Notes."""
        contents = self._settled()
        if contents.keys is not None and (isinstance(index, str) or self._has_integer_keys(index)):
            if (place := contents.place(index)) < 0:
                raise KeyError(index)
            index = place
        return np.asarray(contents.patterns[index])

    def __contains__(self, key: object) -> bool:
        """Return whether a pattern has this key; raise TypeError if the memory has no keys."""
        return self._contents.place(key) >= 0

    def __iter__(self) -> Iterator[Floats]:
        """Iterate over the patterns (d,), as they are when the iteration begins."""
        patterns = self._settled().patterns
        for start in range(0, len(patterns), 1024):
            yield from np.asarray(patterns[start : start + 1024])

    def __reduce__(self) -> tuple[Any, ...]:
        contents = self._settled()
        return partial(type(self), keys=self.keys), (np.asarray(contents.patterns[:]), contents.values, self.energy)

    def __repr__(self) -> str:
        contents = self._contents
        values = "" if contents.values is None else f", values {contents.values.dtype}"
        mapped = ", mapped" if self._mapped else ""
        mapped += "" if contents.keys is None else ", keys"
        n, (_, d), dtype = contents.number, contents.patterns.shape, contents.patterns.dtype
        return f"Memory({_check.counted(n, 'pattern')}, d = {d}, {dtype}{mapped}{values}, {shortened(self.energy)})"

    # Changes

    def add(
        self, patterns: ArrayLike, values: ArrayLike | None = None, *, keys: ArrayLike | None = None
    ) -> int | Integers:
        """Store patterns and return their indices.

        Parameters
        ----------
        patterns : array_like, shape (k, d) or (d,)
            The patterns to add.
        values : array_like, shape (k, ...), or the value of a single pattern
            Their values, required if and only if the memory has values. The dtype of the stored values is widened if
            necessary: strings are never truncated and integers never rounded.
        keys : array_like, shape (k,), or the key of a single pattern
            Their keys, required if and only if the memory has keys.

        Returns
        -------
        ndarray of int64, shape (k,), or int for a single pattern
            The indices of the new patterns.

        Raises
        ------
        ValueError or TypeError
            If the memory is mapped from a file, patterns or values cannot be stored, or a key is stored already.
        """
        rows, single = self._check_patterns(patterns)
        new = None if values is None else _check.storable("values", values, len(rows), single)
        names = self._check_keys(keys, len(rows), single)
        n = self._change(lambda contents: contents.added(rows, new, names)).number
        return n - 1 if single else np.arange(n - len(rows), n)

    def put(self, keys: ArrayLike, patterns: ArrayLike, values: ArrayLike | None = None) -> None:
        """Store patterns under keys: replace those whose keys are stored, and add the others.

        Parameters
        ----------
        keys : array_like, shape (k,), or a single key
            The keys, all different.
        patterns : array_like, shape (k, d) or (d,)
            The patterns.
        values : array_like, shape (k, ...), or the value of a single pattern
            Their values, required if and only if the memory has values.

        Raises
        ------
        ValueError or TypeError
            If the memory has no keys or is mapped from a file, or keys, patterns or values cannot be stored.

        Examples
        --------
        >>> memory = Memory([[0.0], [1.0]], keys=["a", "b"])
        >>> memory.put(["b", "c"], [[2.0], [3.0]])
        >>> memory["b"], memory.nearest([2.9]).keys, "d" in memory
        (array([2.]), array(['c'], dtype=object), False)
        """
        rows, single = self._check_patterns(patterns)
        new = None if values is None else _check.storable("values", values, len(rows), single)
        names = self._check_keys(keys, len(rows), single)

        def put(contents: _Contents) -> _Contents:
            contents = contents.settled()
            places = np.array([contents.place(key) for key in names or ()], np.int64)
            old, fresh = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
            if len(old):
                contents = contents.replaced(places[old], rows[old], None if new is None else new[old])
            if len(fresh):
                some = [(names or [])[i] for i in fresh]
                contents = contents.added(rows[fresh], None if new is None else new[fresh], some)
            return contents

        self._change(put)

    def remove(self, indices: ArrayLike | None = None, *, keys: ArrayLike | None = None) -> None:
        """Remove the patterns at these indices or with these keys (k,), or a single one; the others keep their order.

        Raises ValueError or TypeError if the memory is mapped from a file, or an index or a key is invalid.
        """
        if (indices is None) == (keys is None):
            given = "neither" if indices is None else "both"
            raise TypeError(f"remove must be given either indices or keys; got {given}")

        def without(contents: _Contents) -> _Contents:
            if keys is None:
                removed = np.unique(_check.indices("indices", indices, contents.number))
                return contents.without(removed) if len(removed) else contents
            names = _check.keys("keys", keys)
            places = np.array([contents.place(name) for name in names], np.int64)
            if (places < 0).any():
                raise ValueError(f"keys must be stored; got {names[int(places.argmin())]!r:.60}, which is not")
            return contents.without(np.sort(places - np.searchsorted(contents.removed, places))) if names else contents

        self._change(without)

    def compact(self) -> None:
        """Leave removed patterns out now, rather than at the next query; the memory they took becomes free."""
        self._change(_Contents.settled)

    def replace(self, indices: ArrayLike, patterns: ArrayLike, values: ArrayLike | None = None) -> None:
        """Replace the patterns, and their values, at the given indices.

        Parameters
        ----------
        indices : array_like of int, shape (k,), or int
            The indices of the patterns to replace, each at most once.
        patterns : array_like, shape (k, d) or (d,)
            The new patterns.
        values : array_like, shape (k, ...), or the value of a single pattern
            The new values, required if and only if the memory has values.

        Raises
        ------
        ValueError or TypeError
            If the memory is mapped from a file, an index is invalid, or patterns or values cannot be stored.
        """

        def replaced(contents: _Contents) -> _Contents:
            contents = contents.settled()
            places = _check.indices("indices", indices, contents.number)
            rows, single = self._check_patterns(patterns)
            if len(rows) != len(places):
                raise ValueError(f"indices must have one entry for each of the {len(rows)} patterns; got {len(places)}")
            new = None if values is None else _check.storable("values", values, len(rows), single)
            return contents.replaced(places, rows, new)

        self._change(replaced)

    def _change(self, change: Callable[[_Contents], _Contents]) -> _Contents:
        """Swap in the changed contents, and return them."""
        with self._lock:
            while True:
                before = self._contents
                if self._mapped:
                    raise ValueError("memory must be loaded without mmap to be changed; got one mapped from a file")
                after = change(before)
                if self._contents is before:  # otherwise a signal handler has changed it meanwhile
                    self._contents = after
                    return after

    # Queries

    def energies(self, queries: ArrayLike, *, allowed: ArrayLike | None = None) -> Floats:
        """Return the energy (m,) of each query, for the patterns that `allowed` selects as in `nearest`."""
        patterns = self._for_energy(self._filled())
        return (
            self.energy.value(queries, patterns)
            if allowed is None
            else each(self.energy.value, allowed, queries, patterns)
        )

    def weights(self, queries: ArrayLike) -> Floats:
        """Return the weight (m, n) of each pattern in the update of each query."""
        return self.energy.weights(queries, self._for_energy(self._filled()))

    def update(self, queries: ArrayLike, *, allowed: ArrayLike | None = None) -> Floats:
        """Return the values (m, ...) averaged by weight; without values, the patterns (m, d).

        Booleans and integers are averaged as float64. `allowed` selects patterns as in `nearest`. Raises TypeError if
        the values are not real numbers.
        """
        contents = self._filled()
        patterns, values = self._for_energy(contents), contents.values
        update = self.energy.update if allowed is None else partial(each, self.energy.update, allowed)
        if values is None:
            return update(queries, patterns)
        mean = update(queries, patterns, _numeric(values))
        shaped: Floats = mean.reshape((*mean.shape[:-1], *values.shape[1:]))[()]
        return shaped

    def retrieve(self, queries: ArrayLike, **options: Unpack[RetrievalOptions]) -> Retrieval:
        """Repeat the update until the state stops moving, with the options of `hopmin.retrieve`.

        Stored values, if they are real numbers, are passed on as `values` (n, v).
        """
        contents = self._filled()
        values = contents.values
        if values is not None and values.size and values.dtype.kind in "biuf":
            options.setdefault("values", _numeric(values).copy())
        return retrieve(queries, contents.patterns, self.energy, **options)

    def nearest(
        self,
        queries: ArrayLike,
        k: int = 1,
        *,
        metric: Metric = "euclidean",
        allowed: ArrayLike | None = None,
        progress: Progress | None = None,
    ) -> tuple[Floats, Integers]:
        """Return the distances and indices of the k nearest patterns of each query, as `hopmin.nearest`.

        The metric is Euclidean by default, whatever the energy. The first search with "cosine" keeps the directions of
        all patterns, as `lookup` does.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        k : int, default 1
            Number of neighbours, from 1 to n.
        metric : {"euclidean", "dot", "cosine"}, default "euclidean"
            The distance of "dot" is -x.p, that of "cosine" one minus the cosine of the angle.
        allowed : array_like of bool, shape (m, n) or (n,), or of int, optional
            The patterns that each query may find, or their indices, if they are the same for all. Default: all.
        progress : callable, optional
            Called as `progress(done, total)` with numbers of pairs of a query and a pattern.

        Returns
        -------
        distances : ndarray, shape (m, k) or (k,)
            Distances in ascending order.
        indices : ndarray of int64, shape (m, k) or (k,)
            The indices of the patterns at these distances; -1, at an infinite distance, where fewer than k are allowed.
            If the memory has keys, the pair is a `Neighbours`, which holds the keys of the patterns too.

        Raises
        ------
        ValueError or TypeError
            As `hopmin.nearest`.
        """
        metric = _check.choice("metric", metric, METRICS)
        contents = self._filled(directed=metric == "cosine")
        found = nearest(queries, contents.patterns, k, metric=metric, allowed=allowed, progress=progress)
        return found if contents.keys is None else Neighbours._of(*found, contents.keys_at(found[1]))

    @overload
    def within(
        self, queries: ArrayLike, radius: ArrayLike, *, csr: Literal[True], **options: Unpack[RadiusOptions]
    ) -> tuple[Floats, Integers, Integers]: ...
    @overload
    def within(
        self, queries: ArrayLike, radius: ArrayLike, *, csr: Literal[False] = ..., **options: Unpack[RadiusOptions]
    ) -> tuple[list[Floats], list[Integers]] | tuple[Floats, Integers]: ...
    def within(self, queries: ArrayLike, radius: ArrayLike, **options: Any) -> tuple[Any, ...]:
        """Return the distances and indices of all patterns within a radius of each query, as `hopmin.within`.

        The metric is Euclidean by default, whatever the energy.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        radius : float or array_like, shape (m,)
            The largest distance, inclusive.
        **options
            The options `metric`, `sort`, `csr`, `allowed` and `progress` of `hopmin.within`.

        Returns
        -------
        distances : list of m ndarrays, or ndarray for a single query
            The distances of all patterns within the radius; with `csr`, one array of all.
        indices : list of m ndarrays of int64, or ndarray for a single query
            The indices of these patterns; with `csr`, one array of all.
        offsets : ndarray of int64, shape (m + 1,)
            Only with `csr`: where the patterns of each query begin and end.

        Raises
        ------
        ValueError or TypeError
            As `hopmin.within`.
        """
        return within(queries, self._filled().patterns, radius, **options)

    def lookup(
        self,
        queries: ArrayLike,
        *,
        k: int | None = None,
        min_similarity: float | None = None,
        allowed: ArrayLike | None = None,
    ) -> Lookup:
        """Return the values of the patterns of greatest cosine similarity, if it is at least `min_similarity`.

        Queries that resemble no pattern get zero or "" instead of the value of the nearest pattern. With values this
        is the key-value lookup of knowledge editing (NeuralDB, arXiv 2507.18028). Lengths do not matter; among vectors
        of length one it is membership in a ball of squared radius 2 (1 - min_similarity).

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        k : int, optional
            Return the k best patterns of each query, the best first; where there are fewer, they are followed by the
            index -1. Default: the best one, in arrays without the axis of length k.
        min_similarity : float, optional
            The least cosine similarity, in [-1, 1]. Default: none, so that a pattern is always found, unless the memory
            is empty.
        allowed : array_like of bool, shape (m, n) or (n,), or of int, optional
            The patterns that each query may find, or their indices, if they are the same for all. Default: all.

        Returns
        -------
        Lookup
            `values` (m, ...) or (m, k, ...), or without values the patterns themselves; `indices` and `similarities`,
            (m,) or (m, k). The index of a pattern that is not similar enough is -1, beside its similarity; where fewer
            than k patterns are stored or allowed, the index is -1 and the similarity -inf.

        Raises
        ------
        ValueError or TypeError
            As `nearest` with metric "cosine", and if min_similarity is not in [-1, 1] or k is not an integer >= 1.

        Notes
        -----
        The first call scales all patterns to length one. Their directions are then kept in float32 and follow changes,
        which takes as much memory as the patterns in float32; a lookup is about as fast as `nearest`. A mapped memory
        keeps nothing, but scales its patterns in each call, a block at a time.

        Examples
        --------
        >>> facts = Memory([[1.0, 0.0], [0.0, 1.0]], values=["Paris", "Rome"])
        >>> facts.lookup([[0.9, 0.2], [0.7, -0.7]], min_similarity=0.8)
        Lookup(values ['Paris' ''], indices [ 0 -1], similarities [0.976 0.707])
        >>> facts.lookup([0.9, 0.2], k=2).values
        array(['Paris', 'Rome'], dtype='<U5')
        """
        contents = self._directed()
        keys_at = None if contents.keys is None else contents.keys_at
        at = contents.values_at, keys_at
        return looked_up(queries, contents.patterns, *at, k=k, min_similarity=min_similarity, allowed=allowed)

    # Files

    def save(self, path: Name) -> None:
        """Write the memory to an `.npz` file, atomically: `patterns` (n, d), `values`, and the energy.

        numpy.load can read the file. Options are saved for hopmin's energies; for other energies, only the name.
        Raises ValueError if the file cannot be written.
        """
        contents = self._settled()
        arrays = {"patterns": np.asarray(contents.patterns[:])}
        if contents.values is not None:
            arrays["values"] = contents.values
        if contents.keys is not None:
            arrays["keys"] = _key_array(contents.keys.names[: contents.number])
        energy = {"name": type(self.energy).__name__, "options": _energy_options(self.energy)}
        _files.save_arrays(path, FILE_KIND, arrays, energy=energy)

    @classmethod
    def load(cls, path: Name, *, mmap: bool = False, energy: Energy | None = None) -> Memory:
        """Load a memory that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.
        mmap : bool, default False
            Map patterns and values from the file and read them one block at a time, for memories larger than RAM. Such
            a memory cannot be changed. Checksums are not verified: a damaged number is detected only if it is infinite
            or NaN. Without mmap, every byte is verified.
        energy : Energy, optional
            The energy to use. Required if the file was saved with an energy that is not hopmin's. Default: the energy
            in the file.

        Returns
        -------
        Memory
            The memory.

        Raises
        ------
        ValueError
            If the file is missing, damaged or not that of a memory, or if its energy is not known.
        """
        arrays, records = (_files.map_arrays if mmap else _files.load_arrays)(path, FILE_KIND)
        patterns, values, keys = arrays.get("patterns", np.empty(0)), arrays.get("values"), arrays.get("keys")
        whole = patterns.ndim == 2 and patterns.shape[1] and (values is None or values.shape[:1] == patterns.shape[:1])
        if not whole or patterns.dtype not in (np.float32, np.float64):
            found = f"{patterns.dtype}, {patterns.shape}"
            raise ValueError(f"{path} must hold patterns (n, d) and, if any, n values; got {found}")
        energy = _energy_from(path, records) if energy is None else energy
        if not mmap:
            return cls(patterns, values, energy, keys=keys)
        memory = cls(patterns[:1], None, energy)
        names = None if keys is None else _Keys(_check.keys("keys", np.array(keys), len(patterns)))
        memory._contents = _Contents(patterns, values, [], keys=names)
        return memory

    # Storage

    @property
    def _mapped(self) -> bool:
        return not isinstance(self._contents.patterns, Packed)

    def _settled(self) -> _Contents:
        """Return the contents without removed patterns, and keep them unless one is changing them."""
        before = self._contents
        after = before.settled()
        if after is not before and self._lock.acquire(blocking=False):
            try:
                if self._contents is before:
                    self._contents = after
            finally:
                self._lock.release()
        return after

    def _filled(self, *, directed: bool = False) -> _Contents:
        """Return the contents to query, with the directions of the patterns if asked; raise if there are none."""
        contents = self._directed() if directed else self._settled()
        if len(contents.patterns) == 0:
            raise ValueError("memory must hold at least one pattern to be queried; got an empty one")
        return contents

    def _directed(self) -> _Contents:
        """Return the contents after making them keep the directions of their patterns, unless they are mapped."""
        contents = self._settled()
        if isinstance(contents.patterns, Packed) and contents.patterns._directions is None:
            with self._lock:  # otherwise a change would go on without them
                contents = self._settled()
                with suppress(ValueError):  # a pattern of zeros, which matters only if it is allowed
                    contents.patterns._directed()
        return contents

    def _for_energy(self, contents: _Contents) -> Any:
        """Return the patterns to pass to the energy: packed or mapped if it accepts packed patterns, else an array."""
        packed = isinstance(self.energy, DistanceEnergy | DotEnergy)
        return contents.patterns if packed else np.asarray(contents.patterns[:])

    def _has_integer_keys(self, index: Any) -> bool:
        keys = self._contents.keys
        integer = isinstance(index, int | np.integer) and not isinstance(index, bool)
        return integer and keys is not None and bool(keys.names) and isinstance(keys.names[0], int)

    def _check_keys(self, keys: ArrayLike | None, n: int, single: bool) -> list[Any] | None:
        stored = self._contents.keys
        if (keys is None) != (stored is None):
            given = "None" if keys is None else "some"
            raise ValueError(f"keys must be given if and only if the memory has keys; got {given}")
        if keys is None or stored is None:
            return None
        names = _check.keys("keys", keys, n, single)
        if names and stored.names and type(names[0]) is not type(stored.names[0]):
            kind = type(stored.names[0]).__name__
            raise TypeError(f"keys must match the stored ones, of type {kind}; got {names[0]!r:.60}")
        return names

    def _check_patterns(self, patterns: ArrayLike) -> tuple[Floats, bool]:
        return _check.new_patterns("patterns", patterns, self.shape[1], self.dtype)


def looked_up(
    queries: ArrayLike,
    patterns: Any,
    values_at: Callable[[Integers], Array],
    keys_at: Callable[[Integers], Array] | None,
    *,
    k: int | None,
    min_similarity: float | None,
    allowed: ArrayLike | None,
) -> Lookup:
    """Return the result of `Memory.lookup`.

    Parameters
    ----------
    queries
        As in `Memory.lookup`.
    patterns : Packed, or the map of a file
        The patterns (n, d); n may be 0.
    values_at : callable
        Returns the values (c, ...) of patterns at indices (c,), zero or "" for an index of -1.
    keys_at : callable, optional
        Returns keys in the same way, for indices of any shape.
    k, min_similarity, allowed
        As in `Memory.lookup`.

    Returns
    -------
    Lookup
    """
    count = 1 if k is None else _check.integer("k", k)
    threshold = -2.0 if min_similarity is None else _check.number("min_similarity", min_similarity, "[-1, 1]")
    kept = min(count, len(patterns))
    x, _, shape = _check.pair(queries, patterns if kept else Packed._of((), None, patterns.shape, patterns.dtype))
    similarities = np.full((*shape, count), -np.inf, x.dtype)
    indices = np.full((*shape, count), -1)
    if kept:
        x = x.reshape(*shape, x.shape[1])
        distances, indices[..., :kept] = nearest(x, patterns, kept, metric="cosine", allowed=allowed)
        lowest = np.where(np.isinf(distances), -np.inf, -1)  # rounding may give less than -1
        similarities[..., :kept] = np.maximum(1 - distances, lowest)
    indices[similarities < threshold] = -1
    values = values_at(indices.reshape(-1))
    if k is None:
        indices, similarities = indices[..., 0], similarities[..., 0][()]
    found = Lookup(values.reshape((*indices.shape, *values.shape[1:]))[()], indices[()], similarities)
    if keys_at is not None:
        found.keys = keys_at(indices)[()]
    return found


def _key_array(names: list[Any]) -> Array:
    """Return keys as an array of strings or of int64."""
    return np.array(names, np.int64 if names and isinstance(names[0], int) else str)


def _numeric(values: Array) -> Floats:
    """Return values (n, ...) as an array (n, v) to average."""
    if values.dtype.kind not in "biuf":
        raise TypeError(f"values must be real numbers to be averaged; got dtype {values.dtype}")
    return np.asarray(values).reshape(len(values), -1)


def _common_dtype(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return a dtype for both if both are numeric or of the same other kind, otherwise None."""
    try:
        return np.result_type(a, b) if a.kind == b.kind or {a.kind, b.kind} <= set("biufc") else None
    except TypeError:
        return None


def _is_exact(values: Array, dtype: np.dtype[Any]) -> bool:
    """Return whether the wider dtype holds these values exactly; float64 may not hold integers, nor ns days."""
    if values.dtype == dtype or values.dtype.kind not in "iumM":
        return True
    with np.errstate(invalid="ignore"):
        try:
            return np.array_equal(values.astype(dtype).real.astype(values.dtype), values, equal_nan=True)
        except OverflowError:  # from NumPy 2.5 on, of dates; before, they wrap around
            return False


def _described(values: Array) -> str:
    return f"{values.dtype} of shape ({', '.join(['k', *map(str, values.shape[1:])])})"


def _energy_options(energy: Any) -> dict[str, Any] | None:
    """Return the fields of one of hopmin's energies; None for others, or if a field (a generator) is not JSON."""
    module = ENERGY_MODULES.get(type(energy).__name__)
    if module is None or type(energy).__module__ != f"hopmin.memory.{module}":
        return None
    try:
        options: dict[str, Any] = json.loads(json.dumps(asdict(energy)))
    except TypeError:
        return None
    return options


def _energy_from(path: Name, records: dict[str, Any]) -> Energy:
    """Return the energy described in a file."""
    try:
        name, options = records["energy"]["name"], records["energy"]["options"]
        if options is not None:
            kind = getattr(import_module(f"hopmin.memory.{ENERGY_MODULES[name]}"), name)
            return _check.energy(kind(**options))
    except (KeyError, TypeError, ValueError):
        found = f"{records!s:.60}"
        raise ValueError(f"{path} must describe one of hopmin's energies and its options; got {found}") from None
    name = f"{_check.printable(name):.60}"
    raise ValueError(f"energy must be given to load {path}, which was saved with {name} but not its options; got None")
