"""The one reduction that every answer of a memory is read off, and its merge.

Niu et al. 2024, equations 3 and 4: the nearest pattern and the soft nearest pattern are one walk over the patterns that
keeps a maximum in the one case and a LogSumExp in the other. Both are associative, so patterns may come in tiles, in
blocks, in chunks of a file, from several threads: [`reduce`] each part, [`Reduction.merge`] the parts. Patterns that
are asked many times are worth packing once [`Packed`].

beta enters here, as the sharpness of the weights, and nowhere else: the scores know nothing of it.

Floats do not add up associatively, so what is added to what is fixed: patterns are summed in blocks of BLOCK, and the
blocks merged in order, whoever summed them. Hence the same bits for any number of threads, and for patterns that come
whole or in chunks of whole blocks; and in the compiled core each query has its own sums, hence the same bits in a batch
or alone.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from hopmin import _backend, _check, _threads
from hopmin._typing import Array

BLOCK = 8192  # patterns that are summed before they are merged: part of the results
TASK = 384  # queries in a task: enough to make up for packing the patterns once more
SMALL = 1 << 23  # coordinates to compare, below which a helper would come too late


class Packed:
    """Patterns as the core takes them, for memories that are asked again and again.

    The core reads patterns in panels of 64, coordinate by coordinate. Given rows it makes these on the way; this does
    it once. Wherever patterns (n, d) are welcome, so is `Packed(patterns)`, and the answers are the same bits. Those of
    `nearest` and of energies come sooner, above all if queries are few. It cannot be changed, and takes the memory of a
    copy.

    `shape` (n, d), `dtype` and `len` are those of the patterns; slices, and `np.asarray`, give them back.

    Raises ValueError if patterns are not of shape (n, d), empty or not finite, TypeError if they are not real.

    >>> import hopmin
    >>> packed = hopmin.Packed([[0.0, 0.0], [1.0, 0.0]])
    >>> packed
    Packed(2 patterns, d = 2, float64)
    >>> hopmin.nearest([0.9, 0.0], packed)
    (array([0.1]), array([1]))
    """

    __slots__ = ("_panels", "shape")
    _panels: Array
    shape: tuple[int, int]

    def __init__(self, patterns: Any) -> None:
        rows = _check.floats("patterns", patterns, "n d")
        panel = _backend.core.PANEL
        panels = np.empty((-(-len(rows) // panel), rows.shape[1], panel), rows.dtype)
        _backend.core.pack(rows, panels)
        panels.flags.writeable = False
        self._hold(panels, rows.shape)

    @classmethod
    def of(cls, panels: Array, shape: tuple[int, int]) -> Packed:
        """A view of panels that someone else keeps."""
        packed = cls.__new__(cls)
        packed._hold(panels, shape)
        return packed

    def _hold(self, panels: Array, shape: tuple[int, int]) -> None:
        object.__setattr__(self, "_panels", panels)
        object.__setattr__(self, "shape", shape)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"packed patterns cannot be changed; got a new {name}")

    @property
    def dtype(self) -> Any:
        """float32 or float64."""
        return self._panels.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        if not isinstance(rows, slice) or (rows.step or 1) < 0:
            return self[:][rows]
        start, stop, step = rows.indices(len(self))
        panel = self._panels.shape[2]
        first = start // panel
        part = np.empty((max(0, stop - first * panel), self.shape[1]), self.dtype)
        _backend.core.unpack(self._panels[first:], part)
        return part[start - first * panel :: step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("packed patterns can only be given back as a copy; got copy=False")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Packed, (self[:],)

    def __repr__(self) -> str:
        return f"Packed({self.shape[0]} patterns, d = {self.shape[1]}, {self.dtype})"

    def block(self, rows: slice, dtype: Any) -> Array:
        """The panels of some rows, which start where a panel starts."""
        panel = self._panels.shape[2]
        return self._panels[rows.start // panel : -(-rows.stop // panel)].astype(dtype, copy=False)


class Reduction(NamedTuple):
    """What patterns answer to each of m queries, at sharpness `beta`; held in float64 whatever the input.

    `peak` (m,) the largest score, `total` (m,) the sum of weights exp(beta (score - peak)), `mix` (m, v) the sum of
    weight times value; all three of no queries if beta is None. `best` and `indices` (m, k) the k largest scores and
    where they are, ties to the lowest index.
    """

    beta: float | None
    peak: Array
    total: Array
    mix: Array
    best: Array
    indices: Array

    @classmethod
    def identity(cls, beta: float | None, m: int, v: int = 0, k: int = 0) -> Reduction:
        """The reduction of no patterns."""
        soft, last = 0 if beta is None else m, np.iinfo(np.int64).max
        return cls(
            beta, np.full(soft, -np.inf), np.zeros(soft), np.zeros((soft, v)),
            np.full((m, k), -np.inf), np.full((m, k), last),
        )  # fmt: skip

    def absorb(self, queries: Array, patterns: Any, values: Any, metric: str, first: int = 0) -> Reduction:
        """Take in patterns (n, d) with values (n, v), whose indices start at `first`, in place.

        Patterns and values may be anything that is sliced into rows, such as a file; blocks of them are brought into
        the queries' dtype. Raises ValueError if a pattern is not finite, or if a score overflows where it matters.
        """
        (m, d), n, threads = queries.shape, len(patterns), _threads.get_threads()
        if m == 0:
            _check.finite("patterns", np.asarray(patterns[0:n]))
        blocks = [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]

        def rows(part: slice) -> None:  # some queries, all patterns
            r = Reduction(self.beta, *(a[part] for a in self[1:]))
            for block in blocks:
                r._take(queries[part], patterns, values, metric, block, first)

        def apart(block: slice) -> Reduction:  # all queries, some patterns
            r = Reduction.identity(self.beta, m, self.mix.shape[1], min(self.best.shape[1], block.stop - block.start))
            return r._take(queries, patterns, values, metric, block, first)

        if threads == 1 or m * n * d < SMALL:
            rows(slice(0, m))
        elif m >= TASK or len(blocks) == 1:
            _threads.run([partial(rows, part) for part in _parts(m, threads)])
        else:
            for i in range(0, len(blocks), 4 * threads):  # a few at a time: what they return takes memory
                for r in _threads.run([partial(apart, block) for block in blocks[i : i + 4 * threads]]):
                    self.merge(r)
        return self

    def _take(self, queries: Array, patterns: Any, values: Any, metric: str, rows: slice, first: int) -> Reduction:
        """Take in one block: summed on its own, then merged. (The k best need no merge: they are exact.)"""
        dtype, core = queries.dtype, _backend.core
        p = patterns.block(rows, dtype) if isinstance(patterns, Packed) else _contiguous(patterns[rows], dtype)
        v = _contiguous(values[rows], dtype)
        block = Reduction.identity(self.beta, len(queries), self.mix.shape[1])
        beta, none = self.beta or 0.0, (self.best[:, :0], self.indices[:, :0])
        finite = core.absorb(queries, p, v, metric, beta, first + rows.start, *block[1:4], self.best, self.indices)
        if not finite:
            _check.finite("patterns", patterns[rows], first + rows.start)
            if self.beta is not None or metric == "dot":
                raise _check.too_large(queries, patterns[rows], dtype)
        core.merge(beta, *self[1:4], *none, *block[1:4], *none)
        return self

    def merge(self, other: Reduction) -> Reduction:
        """Take in what other patterns answered to the same queries at the same beta, in place."""
        if other.beta != self.beta:
            raise ValueError(f"other must have been reduced at beta = {self.beta}; got {other.beta}")
        _backend.core.merge(self.beta or 0.0, *self[1:], *other[1:])
        return self

    @property
    def soft_maximum(self) -> Array:
        """(m,) beta^-1 log sum exp(beta score): at least the peak, at most log(n) / beta above it."""
        return self.peak + np.log(self.total) / self.beta

    @property
    def mean(self) -> Array:
        """(m, v) The values, averaged by weight."""
        return self.mix / self.total[:, None]


def reduce(
    queries: Array, patterns: Any, values: Any = None, *, metric: str, beta: float | None = 1.0, k: int = 0
) -> Reduction:
    """The reduction of patterns (n, d) for queries (m, d), in memory O(m (v + k)), never O(m n)."""
    values = np.empty((len(patterns), 0), queries.dtype) if values is None else values
    return Reduction.identity(beta, len(queries), values.shape[1], k).absorb(queries, patterns, values, metric)


def scores(queries: Array, patterns: Array, metric: str) -> Array:
    """(m, n) float64: every score, -|x - p|^2 or x.p, exactly, for the few who need them all."""
    out = np.empty((len(queries), len(patterns)))
    _backend.core.scores(queries, _contiguous(patterns[:], queries.dtype), metric, out)
    return out


def _contiguous(rows: Any, dtype: Any) -> Array:
    return np.ascontiguousarray(rows, dtype)


def _parts(m: int, threads: int) -> list[slice]:
    """The queries in about as many parts for each thread, none much longer than TASK, as even as groups of 6 allow."""
    parts = threads * -(-m // (TASK * threads))
    ends = [min(m, 6 * round(m / 6 * i / parts)) for i in range(parts)] + [m]
    return [slice(start, stop) for start, stop in pairwise(ends) if start < stop]
