"""Directions: vectors scaled to length one, which the metric "cosine" compares [`directions`]."""

from __future__ import annotations

import numpy as np

from hopmin import _check
from hopmin._typing import Array, Floats


def directions(name: str, vectors: Array, first: int = 0) -> Floats:
    """Scale vectors to length one in float64, first by their largest coordinates so that no square overflows."""
    _check.finite(name, vectors, first)
    vectors = vectors.astype(np.float64, order="C")  # sums are then the same for any layout
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    if not largest.all():
        zero = first + int(largest.argmin())
        raise ValueError(f"{name} must have no row of zeros for metric 'cosine'; got one at index {zero}")
    vectors /= largest
    scaled: Floats = vectors / np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return scaled
