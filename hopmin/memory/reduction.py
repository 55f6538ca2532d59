"""The one reduction that every answer of a memory is read off, and its merge.

Niu et al. 2024, equations 3 and 4: the nearest pattern and the soft nearest pattern are one walk over the patterns that
keeps a maximum in the one case and a LogSumExp in the other. LogSumExp is associative, so patterns may come in blocks,
in chunks of a file, from several threads: [`reduce`] each part, [`Reduction.merge`] the parts.

beta enters here, as the sharpness of the weights, and nowhere else: the scores know nothing of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hopmin import _backend
from hopmin._check import Array


class Reduction(NamedTuple):
    """What patterns answer to each of m queries, at sharpness `beta`; float64 whatever the input.

    `peak` (m,) the largest score, `total` (m,) the sum of weights exp(beta (score - peak)), `mix` (m, v) the sum of
    weight times value, `best` and `indices` (m, k) the k largest scores and where they are, ties to the lowest index.
    """

    beta: float
    peak: Array
    total: Array
    mix: Array
    best: Array
    indices: Array

    @classmethod
    def identity(cls, beta: float, m: int, v: int = 0, k: int = 0) -> Reduction:
        """The reduction of no patterns."""
        last = np.iinfo(np.int64).max
        return cls(
            beta, np.full(m, -np.inf), np.zeros(m), np.zeros((m, v)), np.full((m, k), -np.inf), np.full((m, k), last)
        )

    def absorb(self, queries: Array, patterns: Array, values: Array, metric: str, first: int = 0) -> Reduction:
        """Take in patterns whose indices start at `first`, in place."""
        _backend.core.absorb(queries, patterns, values, metric, self.beta, first, *self[1:])
        return self

    def merge(self, other: Reduction) -> Reduction:
        """Take in what other patterns answered to the same queries at the same beta, in place."""
        if other.beta != self.beta:
            raise ValueError(f"other must have been reduced at beta = {self.beta}; got {other.beta}")
        _backend.core.merge(self.beta, *self[1:], *other[1:])
        return self

    @property
    def soft_peak(self) -> Array:
        """(m,) beta^-1 log sum exp(beta score): at least the peak, at most log(n) / beta above it, exactly so in
        floats.
        """
        return self.peak + np.log(self.total) / self.beta

    @property
    def mean(self) -> Array:
        """(m, v) The values, averaged by weight."""
        return self.mix / self.total[:, None]


def reduce(
    queries: Array, patterns: Array, values: Array | None = None, *, metric: str, beta: float = 1.0, k: int = 0
) -> Reduction:
    """The reduction of patterns (n, d) for queries (m, d), in memory O(m (v + k)), never O(m n)."""
    values = np.empty((len(patterns), 0), patterns.dtype) if values is None else values
    return Reduction.identity(beta, len(queries), values.shape[1], k).absorb(queries, patterns, values, metric)


def scores(queries: Array, patterns: Array, metric: str) -> Array:
    """(m, n) float64: every score, -|x - p|^2 or x.p, for the few who need them all."""
    out = np.empty((len(queries), len(patterns)))
    _backend.core.scores(queries, patterns, metric, out)
    return out
