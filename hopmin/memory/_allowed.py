"""Queries that may see some of the patterns only: groups of them [`Groups`], and the patterns they see [`Selected`].

A result for allowed patterns is, bit for bit, that for these patterns alone, with their indices among all patterns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hopmin import _backend, _check
from hopmin._typing import Array, Integers

PANEL = _backend.core.PANEL
Seen = Integers | slice  # the indices of the patterns that a query may see


class Groups:
    """Queries grouped by the patterns they may see, so that each group is computed as one batch.

    Parameters
    ----------
    allowed : array_like, optional
        Booleans (n,) or (m, n), or the indices of the patterns that all queries may see. Default: all.
    m, n : int
        Numbers of queries and patterns.
    none : bool, default False
        Whether a query may see no pattern at all; otherwise that raises ValueError.
    """

    def __init__(self, allowed: ArrayLike | None, m: int, n: int, *, none: bool = False) -> None:
        self.seen: list[Seen] = [slice(None)]
        self.group = np.zeros(m, np.int64)
        if allowed is None:
            return
        rows, self.group = _check.allowed("allowed", allowed, m, n)
        self.seen = list(rows)
        for i, row in enumerate(rows):
            if len(row) == 0 and not none:
                place = f"query {np.argmax(self.group == i)}" if m else "any"
                raise ValueError(f"allowed must allow each query at least one pattern; got none for {place}")

    def split(self, queries: Integers) -> list[tuple[Integers, Any]]:
        """Split queries into groups, each with the indices of the patterns it sees, ascending."""
        if len(self.seen) == 1 or len(queries) == 0:
            return [(queries, self.seen[0])]
        group = self.group[queries]
        return [(queries[group == g], self.seen[g]) for g in np.unique(group)]

    def map(self, function: Callable[[Integers, Seen], Array], queries: Integers) -> Array:
        """Return function(queries, seen) of all groups, in the order of `queries`, which must be ascending."""
        parts = self.split(queries)
        if len(parts) == 1:
            return np.asarray(function(*parts[0]))
        results = np.concatenate([np.asarray(function(*part)) for part in parts])
        return results[np.argsort(np.concatenate([part for part, _ in parts]))]


class Selected:
    """Some of the patterns, as patterns of their own, which are read one part at a time."""

    def __init__(self, patterns: Any, seen: Integers) -> None:
        self.patterns, self.seen = patterns, seen
        self.shape, self.dtype = (len(seen), patterns.shape[1]), patterns.dtype

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, index: Any) -> Array:
        return self._read(self.seen[index])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self[:].astype(dtype or self.dtype, copy=False)

    def is_cheap(self, m: int, cost: int) -> bool:
        """Return whether to read them one by one, at a cost of so many scores each, rather than all of their panels."""
        work = len(self.seen) * (cost + m)
        return work < len(self.patterns) * m and work < len(np.unique(self.seen // PANEL)) * PANEL * m

    def _at(self, places: Integers) -> Array:
        """Return a copy (k, d) of the patterns at these places among those selected."""
        return self._read(self.seen[places])

    def _read(self, indices: Integers) -> Array:
        patterns = self.patterns
        return np.asarray(patterns._at(indices) if hasattr(patterns, "_at") else patterns[indices])


def select(patterns: Any, seen: Seen) -> Any:
    """Return the patterns that a group sees: an array if they are one in memory."""
    if isinstance(seen, slice):
        return patterns
    return patterns[seen] if type(patterns) is np.ndarray else Selected(patterns, seen)


def each(
    method: Callable[..., Array], allowed: ArrayLike, queries: ArrayLike, patterns: Any,
    values: ArrayLike | None = None, **by_query: Array | None,
) -> Array:  # fmt: skip
    """Return an energy's method(queries, patterns), or with values (n, v), for the patterns that each query may see."""
    x, p, shape = _check.pair(queries, patterns)
    v = None if values is None else _check.floats("values", values, "n v", n=len(p))

    def result(queries: Integers, seen: Seen) -> Array:
        options = {name: array[queries] for name, array in by_query.items() if array is not None}
        arguments = () if v is None else (v[seen],)
        return method(x[queries], select(p, seen), *arguments, **options)

    results = Groups(allowed, len(x), len(p)).map(result, np.arange(len(x)))
    found: Array = results.reshape((*shape, *results.shape[1:]))[()]
    return found
