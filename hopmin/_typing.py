"""Type aliases for the annotations of arguments and results.

A function that takes one query or many is declared to return `Floats` in both cases. For a single query the result may
be a NumPy scalar, which has the methods of an array.
"""

from __future__ import annotations

from collections.abc import Callable
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
Progress = Callable[[int, int], object]  # progress(done, total)


class Energy(Protocol):
    """The methods of an energy that `retrieve`, `Memory` and `LayeredMemory` use; hopmin's energies have more."""

    def value(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """Return E (m,) of queries (m, d) for patterns (n, d)."""

    def update(self, queries: ArrayLike, patterns: ArrayLike, values: ArrayLike | None = None) -> Floats:
        """Return T(x) (m, d), or (m, v) if values (n, v) are given."""

    def weights(self, queries: ArrayLike, patterns: ArrayLike) -> Floats:
        """Return the weight (m, n) of each pattern in the update."""
