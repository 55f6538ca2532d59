"""Memory: a store of patterns, their values, and an energy [`Memory`].

- add, remove and replace patterns [`Memory.add`], [`Memory.remove`], [`Memory.replace`]
- energies, updates, retrieval and exact search, as in their modules [`Memory.update`], [`Memory.retrieve`], ...
- look up values, with a threshold on the similarity [`Memory.lookup`]
- save to a file, load it, or map it into memory [`Memory.save`], [`Memory.load`]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _backend, _check, _files
from hopmin._typing import Array, Energy, Floats, Integers, Metric, Name
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.nearest import nearest, within
from hopmin.memory.reduction import Packed
from hopmin.memory.retrieval import Retrieval, RetrievalOptions, retrieve

FILE_KIND = "memory"
ENERGY_MODULES = {
    "DistanceEnergy": "energy", "DotEnergy": "energy", "EuclideanEnergy": "energy",
    "SparseEnergy": "sparse", "EpanechnikovEnergy": "sparse",
    "HopfieldEnergy": "binary", "PolynomialEnergy": "binary", "ExponentialEnergy": "binary",
}  # fmt: skip


class Lookup(NamedTuple):
    """The result of `Memory.lookup` for m queries. For a single query all arrays lack the axis of length m.

    Attributes
    ----------
    values : ndarray, shape (m, ...)
        The values of the patterns of greatest cosine similarity; zero or "" where the similarity is too small.
    indices : ndarray of int64, shape (m,)
        The indices of these patterns; -1 where the similarity is too small.
    similarities : ndarray, shape (m,)
        The greatest cosine similarities, in [-1, 1], including those that are too small.
    """

    values: Array
    indices: Integers
    similarities: Floats


class Memory:
    """A store of patterns, optionally with one value for each, and an energy.

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        The initial patterns. float16 and float32 are stored as float32, other numbers as float64; patterns added later
        are converted to the dtype of the first ones.
    values : array_like, shape (n, ...), optional
        One value for each pattern: labels, strings, numbers or vectors, of any dtype but object. Without values the
        patterns are used in their place.
    energy : Energy, default DistanceEnergy()
        An object with `value`, `update` and `weights`.

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
    Patterns are stored packed, in a buffer that doubles in size when it is full and never shrinks, so adding a pattern
    takes amortized O(d) time. Indices are positions in the order of insertion, counted from 0; removing a pattern
    decrements the indices of those after it.

    Any number of threads may query a memory while none changes it. Arrays that were returned are not affected by later
    changes.

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
    ) -> None:
        first = _check.floats("patterns", patterns, "n d")
        self.energy: Energy = _check.energy(energy)
        self._values: Array | None = None if values is None else _check.storable("values", values, len(first))
        self._mapped: Floats | None = None
        self._panels: Floats = np.empty((0, first.shape[1], _backend.core.PANEL), first.dtype)
        self._write(0, first)

    # Contents

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, d) of the patterns."""
        return self._length, self._panels.shape[1]

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """The dtype of the patterns, float32 or float64."""
        return self._panels.dtype

    @property
    def patterns(self) -> Floats:
        """A copy (n, d) of the patterns; for a mapped memory, the read-only map of the file."""
        return np.asarray(self._held_patterns[:])

    @property
    def values(self) -> Array | None:
        """A copy (n, ...) of the values, or the read-only map of the file; None if the memory has no values."""
        if self._values is None:
            return None
        return np.asarray(self._values) if self._mapped is not None else self._values[: self._length].copy()

    def __iter__(self) -> Iterator[Floats]:
        """Iterate over the patterns (d,)."""
        for start in range(0, self._length, 1024):
            yield from self._held_patterns[start : start + 1024]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.patterns, self.values, self.energy)

    def __repr__(self) -> str:
        values = "" if self._values is None else f", values {self._values.dtype}"
        mapped = "" if self._mapped is None else ", mapped"
        (n, d), energy = self.shape, self.energy
        return f"Memory({n} patterns, d = {d}, {self.dtype}{mapped}{values}, {energy})"

    # Changes

    def add(self, patterns: ArrayLike, values: ArrayLike | None = None) -> int | Integers:
        """Store patterns and return their indices.

        Parameters
        ----------
        patterns : array_like, shape (k, d) or (d,)
            The patterns to add.
        values : array_like, shape (k, ...), or the value of a single pattern
            Their values, required if and only if the memory has values. The dtype of the stored values is widened if
            necessary: strings are never truncated and integers never rounded.

        Returns
        -------
        ndarray of int64, shape (k,), or int for a single pattern
            The indices of the new patterns.

        Raises
        ------
        ValueError or TypeError
            If the memory is mapped from a file, or patterns or values cannot be stored.
        """
        self._require_writable()
        rows, single = self._check_patterns(patterns)
        extended = self._extended_values(values, len(rows), single)
        first = self._length
        self._write(first, rows)
        self._values = extended
        return first if single else np.arange(first, self._length)

    def remove(self, indices: ArrayLike) -> None:
        """Remove the patterns at these indices (k,), or at a single one; the others keep their order.

        Raises ValueError or TypeError if the memory is mapped from a file, an index is invalid, or no pattern would be
        left.
        """
        self._require_writable()
        removed = np.unique(_check.indices("indices", indices, self._length))
        if len(removed) == self._length:
            raise ValueError(f"indices must leave at least one pattern in the memory; got all {self._length}")
        if len(removed) == 0:
            return
        first = int(removed[0])
        kept = np.delete(self._held_patterns[first:], removed - first, axis=0)
        if self._values is not None:
            values = np.delete(self._values[first : self._length], removed - first, axis=0)
            self._values[first : first + len(kept)] = values
        self._write(first, kept)

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
        self._require_writable()
        places = _check.indices("indices", indices, self._length)
        rows, single = self._check_patterns(patterns)
        if len(rows) != len(places):
            raise ValueError(f"indices must have one entry for each of the {len(rows)} patterns; got {len(places)}")
        extended = self._extended_values(values, len(rows), single)
        panel, lane = np.divmod(places, self._panels.shape[2])
        self._panels[panel, :, lane] = rows
        self._fill_last_panel()
        if extended is not None:
            extended[places] = extended[self._length : self._length + len(places)]
            self._values = extended

    # Queries

    def energies(self, queries: ArrayLike) -> Floats:
        """Return the energy (m,) of each query."""
        return self.energy.value(queries, self._energy_patterns)

    def weights(self, queries: ArrayLike) -> Floats:
        """Return the weight (m, n) of each pattern in the update of each query."""
        return self.energy.weights(queries, self._energy_patterns)

    def update(self, queries: ArrayLike) -> Floats:
        """Return the values (m, ...) averaged by weight; without values, the patterns (m, d).

        Booleans and integers are averaged as float64. Raises TypeError if the values are not real numbers.
        """
        if self._values is None:
            return self.energy.update(queries, self._energy_patterns)
        mean = self.energy.update(queries, self._energy_patterns, self._numeric_values())
        shaped: Floats = mean.reshape((*mean.shape[:-1], *self._values.shape[1:]))[()]
        return shaped

    def retrieve(self, queries: ArrayLike, **options: Unpack[RetrievalOptions]) -> Retrieval:
        """Repeat the update until the state stops moving, with the options of `hopmin.retrieve`.

        Stored values, if they are real numbers, are passed on as `values` (n, v).
        """
        if self._values is not None and self._values.size and self._values.dtype.kind in "biuf":
            options.setdefault("values", self._numeric_values().copy())
        return retrieve(queries, self._held_patterns[:], self.energy, **options)

    def nearest(self, queries: ArrayLike, k: int = 1, *, metric: Metric = "euclidean") -> tuple[Floats, Integers]:
        """Return the distances and indices of the k nearest patterns of each query, as `hopmin.nearest`.

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The queries.
        k : int, default 1
            Number of neighbours, from 1 to n.
        metric : {"euclidean", "dot", "cosine"}, default "euclidean"
            The distance of "dot" is -x.p, that of "cosine" one minus the cosine of the angle.

        Returns
        -------
        distances : ndarray, shape (m, k) or (k,)
            Distances in ascending order.
        indices : ndarray of int64, shape (m, k) or (k,)
            The indices of the patterns at these distances.

        Raises
        ------
        ValueError or TypeError
            As `hopmin.nearest`.
        """
        return nearest(queries, self._held_patterns, k, metric=metric)

    def within(
        self, queries: ArrayLike, radius: float
    ) -> tuple[list[Floats], list[Integers]] | tuple[Floats, Integers]:
        """Return the distances and indices of all patterns within a Euclidean radius, as `hopmin.within`."""
        return within(queries, self._held_patterns, radius)

    def lookup(self, queries: ArrayLike, *, min_similarity: float | None = None) -> Lookup:
        """Return the values of the patterns of greatest cosine similarity, if it is at least `min_similarity`.

        Queries that resemble no pattern get zero or "" instead of the value of the nearest pattern. With values this
        is the key-value lookup of knowledge editing (NeuralDB, arXiv 2507.18028). Lengths do not matter; among vectors
        of length one it is membership in a ball of squared radius 2 (1 - min_similarity). Without values the patterns
        are returned. Raises as `nearest` with metric="cosine", and ValueError if min_similarity is not in [-1, 1].

        >>> facts = Memory([[1.0, 0.0], [0.0, 1.0]], values=["Paris", "Rome"])
        >>> facts.lookup([[0.9, 0.2], [0.7, -0.7]], min_similarity=0.8)
        Lookup(values=array(['Paris', ''], dtype='<U5'), indices=array([ 0, -1]),
               similarities=array([0.97618706, 0.70710678]))
        """
        threshold = -2.0 if min_similarity is None else _check.number("min_similarity", min_similarity, "[-1, 1]")
        distances, indices = nearest(queries, self._held_patterns, metric="cosine")
        similarities: Floats = np.maximum(1 - distances[..., 0], -1)  # rounding may give less than -1
        indices = indices[..., 0]
        found, best = similarities >= threshold, np.atleast_1d(indices)
        values = self._patterns_at(best) if self._values is None else self._values[best]
        values[~np.atleast_1d(found)] = np.zeros((), values.dtype)
        shaped = values.reshape((*indices.shape, *values.shape[1:]))[()]
        return Lookup(shaped, np.where(found, indices, -1)[()], similarities)

    # Files

    def save(self, path: Name) -> None:
        """Write the memory to an `.npz` file, atomically: `patterns` (n, d), `values`, and the energy.

        numpy.load can read the file. Options are saved for hopmin's energies; for other energies, only the name.
        Raises ValueError if the file cannot be written.
        """
        arrays = {"patterns": self.patterns} | ({} if self._values is None else {"values": self._values[: len(self)]})
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
        patterns, values = arrays.get("patterns", np.empty(0)), arrays.get("values")
        whole = patterns.ndim == 2 and patterns.size and (values is None or values.shape[:1] == patterns.shape[:1])
        if not whole or patterns.dtype not in (np.float32, np.float64):
            found = f"{patterns.dtype}, {patterns.shape}"
            raise ValueError(f"{path} must hold patterns (n, d) and, if any, n values; got {found}")
        energy = _energy_from(path, records) if energy is None else energy
        if not mmap:
            return cls(patterns, values, energy)
        memory = cls(patterns[:1], None, energy)
        memory._mapped, memory._values, memory._length = patterns, values, len(patterns)
        return memory

    # Storage

    @property
    def _held_patterns(self) -> Any:
        """The patterns as a view: packed, or mapped from the file. Later changes of the memory change it."""
        if self._mapped is not None:
            return self._mapped
        return Packed._of(self._panels[: -(-self._length // self._panels.shape[2])], self.shape)

    @property
    def _energy_patterns(self) -> Any:
        """The patterns to pass to the energy: packed or mapped if it accepts packed patterns, otherwise an array."""
        return self._held_patterns if isinstance(self.energy, DistanceEnergy | DotEnergy) else self.patterns

    def _patterns_at(self, indices: Integers) -> Floats:
        """Return a copy (k, d) of the patterns at these indices."""
        if self._mapped is not None:
            return np.asarray(self._mapped[indices])
        panel, lane = np.divmod(indices, self._panels.shape[2])
        return self._panels[panel, :, lane]

    def _write(self, first: int, rows: Floats) -> None:
        """Write patterns (k, d) from index `first` to the new end: fill the last panel, then write whole panels."""
        panel, end = self._panels.shape[2], first + len(rows)
        last, lane, needed = first // panel, first % panel, -(-end // panel)
        if needed > len(self._panels):
            grown = np.empty((max(needed, 2 * len(self._panels)), *self._panels.shape[1:]), self.dtype)
            grown[: len(self._panels)] = self._panels
            self._panels = grown
        fill = min(-first % panel, len(rows))
        self._panels[last : last + 1, :, lane : lane + fill] = rows[:fill].T
        _backend.core.pack(rows[fill:], self._panels[-(-first // panel) : needed])
        self._length = end
        self._fill_last_panel()

    def _fill_last_panel(self) -> None:
        """Fill the rest of the last panel with copies of the last pattern, as `pack` does."""
        last, lane = divmod(self._length - 1, self._panels.shape[2])
        self._panels[last, :, lane:] = self._panels[last, :, lane, None]

    def _check_patterns(self, patterns: ArrayLike) -> tuple[Floats, bool]:
        return _check.new_patterns("patterns", patterns, self._panels.shape[1], self.dtype)

    def _extended_values(self, values: ArrayLike | None, k: int, single: bool) -> Array | None:
        """Return the buffer of values, in a dtype wide enough for all, with the k new values after those in use."""
        if (values is None) != (self._values is None):
            raise ValueError(f"values must be given if and only if the memory has values; got {values!r:.40}")
        if self._values is None:
            return None
        old, new = self._values, _check.storable("values", values, k, single)
        dtype = _common_dtype(old.dtype, new.dtype)
        fit = dtype is not None and _is_exact(old[: self._length], dtype) and _is_exact(new, dtype)
        if not fit or new.shape[1:] != old.shape[1:]:
            raise TypeError(f"values must match the stored ones, {_described(old)}; got {_described(new)}")
        n, end = self._length, self._length + k
        if dtype != old.dtype or end > len(old):
            old = np.empty((len(old) if end <= len(old) else max(end, 2 * len(old)), *old.shape[1:]), dtype)
            old[:n] = self._values[:n]
        old[n:end] = new
        return old

    def _numeric_values(self) -> Floats:
        """Return the values as an array (n, v) to average."""
        assert self._values is not None
        if self._values.dtype.kind not in "biuf":
            raise TypeError(f"values must be real numbers to be averaged; got dtype {self._values.dtype}")
        return np.asarray(self._values[: self._length]).reshape(self._length, -1)

    def _require_writable(self) -> None:
        if self._mapped is not None:
            raise ValueError("memory must be loaded without mmap to be changed; got one mapped from a file")


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
    raise ValueError(f"energy must be given to load {path}, which was saved with {name} but not its options; got None")
