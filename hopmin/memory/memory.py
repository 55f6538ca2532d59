"""A memory one can keep: patterns, what they stand for, and an energy to ask them by [`Memory`].

- grows by the pattern, forgets, and corrects [`Memory.add`], [`Memory.remove`], [`Memory.replace`]
- answers as the functions of the modules beside it do [`Memory.update`], [`Memory.retrieve`], [`Memory.nearest`], ...
- tells what is stored from what is not [`Memory.lookup`]
- lives in a file, and need not leave it [`Memory.save`], [`Memory.load`]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _backend, _check, _files
from hopmin._typing import Array, Name
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.nearest import nearest, within
from hopmin.memory.reduction import Packed
from hopmin.memory.retrieval import Retrieval, retrieve

KIND = "memory"  # in files
ENERGIES = {
    "DistanceEnergy": "energy", "DotEnergy": "energy", "EuclideanEnergy": "energy",
    "SparseEnergy": "sparse", "EpanechnikovEnergy": "sparse",
    "HopfieldEnergy": "binary", "PolynomialEnergy": "binary", "ExponentialEnergy": "binary",
}  # fmt: skip


class Lookup(NamedTuple):
    """What `Memory.lookup` found for m queries; without the m for a single one.

    values : (m, ...) what the pattern of greatest cosine similarity stands for; zero (or "") where that is too small
    indices : (m,) which pattern that is; -1 where it is too small
    similarities : (m,) its cosine similarity, in [-1, 1], whether or not it is large enough
    """

    values: Any
    indices: Any
    similarities: Any


class Memory:
    """Patterns one can add to, correct, ask, save, and map from a file; each may stand for a value.

    Parameters
    ----------
    patterns : (n, d); float32 stays float32, half precision becomes it, anything else float64. What is added later is
        brought into the dtype of the first.
    values : (n, ...) of any dtype but Python objects: labels, strings, numbers, vectors; none by default, and the
        patterns answer for themselves
    energy : anything with `value`, `update` and `weights`; DistanceEnergy() by default

    Patterns are kept packed, in a buffer that doubles when it is full and never shrinks: to add one costs O(d),
    averaged over many. Indices are positions: they count from 0 in the order of adding, and those after a removed
    pattern fall.

    Any number of threads may ask at the same time while none changes the memory. What cannot be stored is refused with
    ValueError or TypeError, and leaves the memory as it was. What was handed out does not change with the memory.

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

    def __init__(self, patterns: ArrayLike, values: Any = None, energy: Any = DistanceEnergy()) -> None:  # noqa: B008
        rows = _check.floats("patterns", patterns, "n d")
        self.energy = _check.energy(energy)
        self._values: Array | None = None if values is None else _check.storable("values", values, len(rows))
        self._mapped: Array | None = None
        self._panels = np.empty((0, rows.shape[1], _backend.core.PANEL), rows.dtype)
        self._write(0, rows)

    # What is stored

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)"""
        return self._length, self._panels.shape[1]

    @property
    def dtype(self) -> Any:
        """float32 or float64: of the patterns."""
        return self._panels.dtype

    @property
    def patterns(self) -> Array:
        """(n, d) A copy of the patterns; if they are mapped from a file, the file."""
        return np.asarray(self._stored[:])

    @property
    def values(self) -> Array | None:
        """(n, ...) A copy of what the patterns stand for, or the file; None if they answer for themselves."""
        if self._values is None:
            return None
        return np.asarray(self._values) if self._mapped is not None else self._values[: self._length].copy()

    def __iter__(self) -> Iterator[Array]:
        """The patterns (d,), one after another."""
        for start in range(0, self._length, 1024):
            yield from self._stored[start : start + 1024]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.patterns, self.values, self.energy)

    def __repr__(self) -> str:
        values = "" if self._values is None else f", values {self._values.dtype}"
        mapped = "" if self._mapped is None else ", mapped"
        (n, d), energy = self.shape, self.energy
        return f"Memory({n} patterns, d = {d}, {self.dtype}{mapped}{values}, {energy})"

    # Change

    def add(self, patterns: ArrayLike, values: Any = None) -> Any:
        """Store patterns (k, d) with values (k, ...), or one (d,) with its value; returns their indices (k,), or its.

        Values must be given if and only if the memory has any; their dtype widens where it must: no string is cut, no
        whole number rounded.
        """
        self._changeable()
        rows, single = self._rows(patterns)
        widened = self._widened(values, len(rows), single)
        first = self._length
        self._write(first, rows)
        self._values = widened
        return first if single else np.arange(first, self._length)

    def remove(self, indices: Any) -> None:
        """Forget the patterns of these indices (k,), or of one; the others keep their order, and move up."""
        self._changeable()
        gone = np.unique(_check.indices("indices", indices, self._length))
        if len(gone) == self._length:
            raise ValueError(f"indices must leave a pattern in the memory; got all {self._length}")
        if len(gone) == 0:
            return
        first = int(gone[0])
        kept = np.delete(self._stored[first:], gone - first, axis=0)
        if self._values is not None:
            values = np.delete(self._values[first : self._length], gone - first, axis=0)
            self._values[first : first + len(kept)] = values
        self._write(first, kept)

    def replace(self, indices: Any, patterns: ArrayLike, values: Any = None) -> None:
        """Put patterns (k, d), with values (k, ...) if the memory has any, in the place of those at `indices` (k,)."""
        self._changeable()
        places = _check.indices("indices", indices, self._length)
        rows, single = self._rows(patterns)
        if len(rows) != len(places):
            raise ValueError(f"indices must name a place for each of {len(rows)} patterns; got {len(places)}")
        widened = self._widened(values, len(rows), single)
        panel, lane = np.divmod(places, self._panels.shape[2])
        self._panels[panel, :, lane] = rows
        self._pad()
        if widened is not None:
            widened[places] = widened[self._length : self._length + len(places)]
            self._values = widened

    # Answers

    def energies(self, queries: ArrayLike) -> Any:
        """(m,) The energy of each query."""
        return self.energy.value(queries, self._asked)

    def weights(self, queries: ArrayLike) -> Array:
        """(m, n) The share of each pattern in the update of each query."""
        return self.energy.weights(queries, self._asked)

    def update(self, queries: ArrayLike) -> Array:
        """(m, ...) The values, or else the patterns (m, d), averaged by weight.

        TypeError if values are not real numbers; truth values and whole numbers are averaged as float64.
        """
        if self._values is None:
            return self.energy.update(queries, self._asked)
        flat = self._numbers()
        mean = self.energy.update(queries, self._asked, flat)
        return mean.reshape((*mean.shape[:-1], *self._values.shape[1:]))[()]

    def retrieve(self, queries: ArrayLike, **options: Any) -> Retrieval:
        """Update until still, with the options of `hopmin.retrieve`; `values`, if they are real numbers, as (n, v)."""
        if self._values is not None and self._values.size and self._values.dtype.kind in "biuf":
            options = {"values": self._numbers().copy(), **options}
        return retrieve(queries, self._stored[:], self.energy, **options)

    def nearest(self, queries: ArrayLike, k: int = 1, *, metric: str = "euclidean") -> tuple[Array, Array]:
        """The k nearest patterns of each query, exactly: distances and indices (m, k), as `hopmin.nearest`."""
        return nearest(queries, self._stored, k, metric=metric)

    def within(self, queries: ArrayLike, radius: float) -> Any:
        """All patterns within a Euclidean radius of each query, as `hopmin.within`."""
        return within(queries, self._stored, radius)

    def lookup(self, queries: ArrayLike, *, min_similarity: float | None = None) -> Lookup:
        """What the pattern at the smallest angle stands for, if its cosine similarity is at least `min_similarity`.

        A gate that answers "not stored" rather than with the nearest wrong thing: with values, the key-value lookup of
        knowledge editing (NeuralDB, arXiv 2507.18028). Lengths do not matter; among vectors of length one it is
        membership in a ball of squared radius 2 (1 - min_similarity). Without values the patterns answer.

        Raises as `nearest` by cosine, and ValueError if min_similarity is not in [-1, 1].

        >>> facts = Memory([[1.0, 0.0], [0.0, 1.0]], values=["Paris", "Rome"])
        >>> facts.lookup([[0.9, 0.2], [0.7, -0.7]], min_similarity=0.8)
        Lookup(values=array(['Paris', ''], dtype='<U5'), indices=array([ 0, -1]),
               similarities=array([0.97618706, 0.70710678]))
        """
        least = -2.0 if min_similarity is None else _check.number("min_similarity", min_similarity, "[-1, 1]")
        distances, indices = nearest(queries, self._stored, metric="cosine")
        similarities, indices = np.maximum(1 - distances[..., 0], -1), indices[..., 0]  # rounding may take it below
        stored, rows = similarities >= least, np.atleast_1d(indices)
        values = self._patterns_at(rows) if self._values is None else self._values[rows]
        values[~np.atleast_1d(stored)] = np.zeros((), values.dtype)
        return Lookup(
            values.reshape((*indices.shape, *values.shape[1:]))[()], np.where(stored, indices, -1)[()], similarities
        )

    # Files

    def save(self, path: Name) -> None:
        """Write all to a `.npz` file, whole or not at all: `patterns` (n, d), `values`, and which energy it is.

        numpy.load reads it too. The energy is saved if it is one of hopmin's; of one's own the name only.
        """
        values = {} if self._values is None else {"values": self._values[: self._length]}
        energy = {"name": type(self.energy).__name__, "options": _options(self.energy)}
        _files.save_arrays(path, KIND, {"patterns": self.patterns, **values}, energy=energy)

    @classmethod
    def load(cls, path: Name, *, mmap: bool = False, energy: Any = None) -> Memory:
        """The memory that `save` wrote; with `energy` for one that was not hopmin's, or to ask by another.

        With mmap=True patterns and values stay in the file, of which a block at a time is read: for memories larger
        than the machine's. Such a memory cannot be changed, and what is damaged in the midst of the file goes unnoticed
        unless a number becomes infinite or NaN; otherwise every byte is checked.

        Raises ValueError if the file is missing, damaged or holds something else, or if the energy is not known.
        """
        arrays, records = (_files.map_arrays if mmap else _files.load_arrays)(path, KIND)
        rows, values = arrays.get("patterns", np.empty(0)), arrays.get("values")
        whole = rows.ndim == 2 and rows.size and (values is None or values.shape[:1] == rows.shape[:1])
        if not whole or rows.dtype not in (np.float32, np.float64):
            raise ValueError(f"{path} must hold patterns (n, d), each with a value; got {rows.dtype}, {rows.shape}")
        energy = _energy(path, records) if energy is None else energy
        if not mmap:
            return cls(rows, values, energy)
        memory = cls(rows[:1], None, energy)
        memory._mapped, memory._values, memory._length = rows, values, len(rows)
        return memory

    # How it is held

    @property
    def _stored(self) -> Any:
        """What is searched: packed, or in the file. Not to be kept: a later change writes to it."""
        panel = self._panels.shape[2]
        return (
            self._mapped
            if self._mapped is not None
            else Packed._of(self._panels[: -(-self._length // panel)], self.shape)
        )

    @property
    def _asked(self) -> Any:
        """The same, as rows for energies that know nothing of panels."""
        return self._stored if isinstance(self.energy, DistanceEnergy | DotEnergy) else self.patterns

    def _patterns_at(self, indices: Array) -> Array:
        """(k, d) A copy."""
        if self._mapped is not None:
            return np.asarray(self._mapped[indices])
        panel, lane = np.divmod(indices, self._panels.shape[2])
        return self._panels[panel, :, lane]

    def _write(self, first: int, rows: Array) -> None:
        """Rows (k, d) from `first` on, where the memory ends: some fill its last panel, the rest is packed."""
        panel, end = self._panels.shape[2], first + len(rows)
        last, lane, need = first // panel, first % panel, -(-end // panel)
        if need > len(self._panels):
            grown = np.empty((max(need, 2 * len(self._panels)), *self._panels.shape[1:]), self.dtype)
            grown[: len(self._panels)] = self._panels
            self._panels = grown
        fill = min(-first % panel, len(rows))
        self._panels[last : last + 1, :, lane : lane + fill] = rows[:fill].T
        _backend.core.pack(rows[fill:], self._panels[-(-first // panel) : need])
        self._length = end
        self._pad()

    def _pad(self) -> None:
        """The last pattern fills its panel, as `pack` leaves it."""
        last, lane = divmod(self._length - 1, self._panels.shape[2])
        self._panels[last, :, lane:] = self._panels[last, :, lane, None]

    def _rows(self, patterns: ArrayLike) -> tuple[Array, bool]:
        return _check.new_patterns("patterns", patterns, self._panels.shape[1], self.dtype)

    def _widened(self, values: Any, k: int, single: bool) -> Array | None:
        """The buffer of values, its dtype wide enough for all, with k more beyond those that are stored."""
        if (values is None) != (self._values is None):
            raise ValueError(f"values must be given if and only if the memory has any; got {values!r:.40}")
        if self._values is None:
            return None
        old, new = self._values, _check.storable("values", values, k, single)
        dtype = _common(old.dtype, new.dtype)
        fit = dtype is not None and _exact(old[: self._length], dtype) and _exact(new, dtype)
        if not fit or new.shape[1:] != old.shape[1:]:
            raise TypeError(f"values must be like those stored, {_like(old)}; got {_like(new)}")
        n, end = self._length, self._length + k
        if dtype != old.dtype or end > len(old):
            old = np.empty((len(old) if end <= len(old) else max(end, 2 * len(old)), *old.shape[1:]), dtype)
            old[:n] = self._values[:n]
        old[n:end] = new
        return old

    def _numbers(self) -> Array:
        assert self._values is not None
        if self._values.dtype.kind not in "biuf":
            raise TypeError(f"values must be real numbers to be averaged; got dtype {self._values.dtype}")
        return np.asarray(self._values[: self._length]).reshape(self._length, -1)

    def _changeable(self) -> None:
        if self._mapped is not None:
            raise ValueError("memory must be loaded without mmap to be changed; got one mapped from a file")


def _common(a: Any, b: Any) -> Any:
    """A dtype that holds both, if both are numbers or both are of one other kind; None if there is none."""
    try:
        return np.result_type(a, b) if a.kind == b.kind or {a.kind, b.kind} <= set("biufc") else None
    except TypeError:
        return None


def _exact(values: Array, dtype: Any) -> bool:
    """Whether the wider dtype holds these very values: float64 does not hold all whole numbers, nor ns all days."""
    if values.dtype == dtype or values.dtype.kind not in "iumM":
        return True
    with np.errstate(invalid="ignore"):
        return np.array_equal(values.astype(dtype).real.astype(values.dtype), values, equal_nan=True)


def _like(values: Array) -> str:
    return f"{values.dtype} of shape ({', '.join(['k', *map(str, values.shape[1:])])})"


def _options(energy: Any) -> dict[str, Any] | None:
    """The fields of an energy of ours, if they can be written as JSON; a generator, which draws its order, cannot."""
    home = ENERGIES.get(type(energy).__name__)
    if home is None or type(energy).__module__ != f"hopmin.memory.{home}":
        return None
    try:
        return json.loads(json.dumps(asdict(energy)))
    except TypeError:
        return None


def _energy(path: Name, records: dict[str, Any]) -> Any:
    try:
        name, options = records["energy"]["name"], records["energy"]["options"]
        if options is not None:
            return getattr(import_module(f"hopmin.memory.{ENERGIES[name]}"), name)(**options)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} must name an energy of hopmin's with its options; got {records!s:.60}") from None
    raise ValueError(f"energy must be given to load {path}, which names its {name} but does not hold it; got None")
