"""The types of arguments and results: names for annotations, nothing to run.

A function that takes one query or many returns `Floats` for both: of a single query the result has no axis left, and
NumPy gives a scalar, which has the methods of an array.
"""

from __future__ import annotations

from os import PathLike
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

Axis = int | tuple[int, ...] | None
Name = str | PathLike[str]
Seed = np.random.Generator | int
Metric = Literal["euclidean", "dot", "cosine"]


class Energy(Protocol):
    """What `retrieve`, `Memory` and `LayeredMemory` ask of an energy; every energy of hopmin has more."""

    def value(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """E (m,) of queries (m, d) for patterns (n, d)."""

    def update(self, queries: ArrayLike, patterns: ArrayLike, values: ArrayLike | None = None) -> Floats:
        """T(x) (m, d), or (m, v) if the patterns stand for values (n, v)."""

    def weights(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """The share (m, n) of each pattern in the update."""
