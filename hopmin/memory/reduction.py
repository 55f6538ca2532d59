"""The reduction over stored patterns from which all results of a memory are computed, and its merge.

The nearest pattern and its soft counterpart (Niu et al. 2024, equations 3 and 4) are the same pass over the patterns,
which keeps a maximum in one case and a LogSumExp in the other. Both are associative, so patterns may be processed in
tiles, in blocks, in chunks of a file or by several threads: [`reduce`] each part, then [`Reduction.merge`] the parts.
Patterns that are searched many times are best packed once [`Packed`]. [`gather`] returns the patterns whose score is
large enough, [`scores`] all scores at once.

beta enters only here, as the sharpness of the weights; scores do not depend on it.

Floating-point addition is not associative, so the order of summation is fixed: patterns are summed in blocks of BLOCK,
and the blocks are merged in order, whichever thread summed them. Results are therefore the same bit for bit for any
number of threads, and for patterns given as a whole or in chunks of whole blocks. In the compiled core each query has
sums of its own, so results are also the same for a query alone or in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hopmin import _backend, _check, _threads
from hopmin._typing import Array, Booleans, Floats, Integers, Progress
from hopmin.memory._directions import directions

PANEL = _backend.core.PANEL
BLOCK = 8192  # patterns summed before a merge; the rounding of results depends on it
TASK = 384  # queries in a task: enough to outweigh packing the patterns again for each task
STEP = 1 << 29  # m n d of a call of the core: a fraction of a second, during which an interrupt has to wait
CODED = range(8, 4097)  # numbers of dimensions for which there are codes
ENOUGH = 192  # queries from which on patterns that are not packed are encoded for them
CODES = 1 << 21  # numbers that are encoded together for this, so that they take little memory
SINGLE_BITS = np.int32(~0x7000_0000 & ~0x1FFF)  # the sign, five bits of the exponent and ten of the fraction
LAST = np.iinfo(np.int64).max  # an index above all others
NONE = np.empty(0)
NO_BITS: Array = np.empty(0, np.uint64)
SMALL = 1 << 23  # m n d, the number of coordinates compared, below which starting threads does not pay off

ScoreMetric = Literal["euclidean", "dot"]


class Packed:
    """Patterns in the layout of the core, for patterns that are searched many times.

    The core reads patterns in panels of 64, one coordinate after another. From rows, it builds panels in each call;
    this class builds them once. `Packed(patterns)` is accepted wherever patterns (n, d) are, with the same results bit
    for bit; `nearest`, `DistanceEnergy` and `DotEnergy` are faster with it, most of all for few queries. The object is
    immutable and takes the memory of a copy, with n rounded up to a multiple of 64, and that of the codes; the first
    search with metric "cosine" adds that of a copy in float32, the patterns scaled to length one. Slices and
    `np.asarray` return the patterns as rows.

    Codes are the patterns rounded to 8 bits. `nearest` reads them first, and the patterns themselves only where the
    codes leave open which is nearer. They take d + 12 bytes for each pattern, a quarter as much as float32 patterns of
    many dimensions. There are none if d is less than 8 or more than 4096.

    Parameters
    ----------
    patterns : array_like, shape (n, d)
        float32 stays float32; other real dtypes become float64, float16 becomes float32.
    codes : bool, default True
        Whether to hold codes.

    Attributes
    ----------
    shape : tuple of int
        (n, d).
    dtype : numpy.dtype
        float32 or float64.

    Raises
    ------
    ValueError
        If `patterns` is not of shape (n, d), empty or not finite.
    TypeError
        If `patterns` is not real, or `codes` not a boolean.

    Examples
    --------
    >>> import hopmin
    >>> packed = hopmin.Packed([[0.0, 0.0], [1.0, 0.0]])
    >>> packed
    Packed(2 patterns, d = 2, float64)
    >>> hopmin.nearest([0.9, 0.0], packed)
    (array([0.1]), array([1]))
    """

    __slots__ = ("_blocks", "_codes", "_directions", "_half_square", "dtype", "shape")
    _blocks: tuple[Floats, ...]
    _codes: tuple[_Codes, ...] | None
    _directions: Packed | None
    _half_square: float | None  # the largest |p|^2 / 2, once it is known
    dtype: np.dtype[np.floating[Any]]
    shape: tuple[int, int]

    def __init__(self, patterns: ArrayLike, *, codes: bool = True) -> None:
        p = _check.floats("patterns", patterns, "n d")
        coded = _check.boolean("codes", codes) and p.shape[1] in CODED
        blocks = _packed_blocks(p)
        self._hold(blocks, _encoded(blocks, len(p)) if coded else None, (len(p), p.shape[1]), p.dtype)

    @classmethod
    def _of(
        cls, blocks: tuple[Floats, ...], codes: tuple[_Codes, ...] | None, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> Packed:
        packed = cls.__new__(cls)
        packed._hold(blocks, codes, shape, dtype)
        return packed

    @classmethod
    def _empty(cls, d: int, dtype: np.dtype[Any]) -> Packed:
        return cls._of((), () if d in CODED else None, (0, d), dtype)

    def _hold(
        self, blocks: tuple[Floats, ...], codes: tuple[_Codes, ...] | None, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> None:
        attributes = {"_blocks": blocks, "_codes": codes, "shape": shape, "dtype": dtype}
        attributes |= {"_directions": None, "_half_square": None}
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"packed patterns cannot be changed; got a new {name}")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Floats:
        if isinstance(index, int | np.integer) and not isinstance(index, bool):
            if not -len(self) <= index < len(self):
                wanted = f"from {-len(self)} to {len(self) - 1}" if len(self) else "a slice, as there are no patterns"
                raise IndexError(f"index must be {wanted}; got {index}")
            pattern: Floats = self._at(np.array([int(index) % len(self)]))[0]
            return pattern
        places = isinstance(index, np.ndarray) and index.ndim == 1 and index.dtype == np.int64
        if places and ((index >= 0) & (index < len(self))).all():
            return self._at(index)
        if not isinstance(index, slice) or (index.step or 1) < 0:
            selected: Floats = self[:][index]
            return selected
        start, stop, step = index.indices(len(self))
        first = start // PANEL * PANEL
        part = np.empty((max(0, stop - first), self.shape[1]), self.dtype)
        for at in range(first // BLOCK, -(-stop // BLOCK)):
            block = slice(max(first, at * BLOCK), min(stop, (at + 1) * BLOCK))
            _backend.core.unpack(self._block(block, self.dtype), part[block.start - first : block.stop - first])
        return part[start - first :: step]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("packed patterns can only be returned as a copy; got copy=False")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Callable[..., Packed], tuple[Floats]]:
        return partial(Packed, codes=self._codes is not None), (self[:],)

    def __repr__(self) -> str:
        n, d = self.shape
        return f"Packed({_check.counted(n, 'pattern')}, d = {d}, {self.dtype})"

    def _block(self, block: slice, dtype: DTypeLike) -> Floats:
        """Return the panels of a block of patterns that starts with a panel and lies in one of the blocks stored."""
        first = block.start // BLOCK * BLOCK
        panels = self._blocks[block.start // BLOCK]
        part: Floats = panels[(block.start - first) // PANEL : -(-(block.stop - first) // PANEL)]
        return part.astype(dtype, copy=False)

    def _at(self, indices: Integers) -> Floats:
        """Return a copy (k, d) of the patterns at these indices (k,)."""
        rows = np.empty((len(indices), self.shape[1]), self.dtype)
        for at, here, panel, lane in self._places(indices):
            rows[here] = self._blocks[at][panel, :, lane]
        return rows

    def _places(self, indices: Integers) -> Iterator[tuple[int, Booleans, Integers, Integers]]:
        """Yield, for each block that holds some of the patterns, its number, which it holds, their panels and lanes."""
        for at in np.unique(indices // BLOCK).tolist():
            here = indices // BLOCK == at
            yield at, here, *np.divmod(indices[here] - at * BLOCK, PANEL)

    def _directed(self) -> Packed:
        """Return the patterns scaled to length one, in float32, which are kept; raise if one is zero."""
        if self._directions is None:
            parts = (_packed_blocks(_rounded(self[i : i + BLOCK], i)) for i in range(0, len(self), BLOCK))
            blocks = tuple(block for part in parts for block in part)
            codes = None if self._codes is None else _encoded(blocks, len(self))
            self._keep(Packed._of(blocks, codes, self.shape, np.dtype(np.float32)))
        assert self._directions is not None
        return self._directions

    def _keep(self, directions: Packed) -> None:
        object.__setattr__(self, "_directions", directions)

    # Changed copies, which share the blocks that do not change. Nothing that this object holds is overwritten.

    def _added(self, rows: Floats, *, in_place: bool) -> Packed:
        """Return a copy with rows (k, d) after the last pattern, in amortized O(k d) time if `in_place`.

        It then writes to the unused places of the last block, which at most one copy may do.
        """
        n, k = len(self), len(rows)
        lane, fill = n % BLOCK, min(-n % BLOCK, k)
        blocks, codes = self._blocks, self._codes
        if fill:
            last, panels = blocks[-1], -(-(lane + fill) // PANEL)
            grow = panels > len(last) or not in_place
            if grow:
                grown = np.zeros((min(max(panels, 2 * len(last)), BLOCK // PANEL), *last.shape[1:]), last.dtype)
                grown[: len(last)] = last
                last = grown
            head = min(-n % PANEL, fill)  # in the panel that is not full
            last[lane // PANEL : lane // PANEL + 1, :, lane % PANEL : lane % PANEL + head] = rows[:head].T
            _backend.core.pack(rows[head:fill], last[-(-lane // PANEL) : panels])
            blocks = (*blocks[:-1], last)
            if codes is not None:
                codes = (*codes[:-1], _codes(last, lane + fill) if grow else codes[-1]._extended(last, lane, fill))
        rest = _packed_blocks(rows[fill:])
        if codes is not None:
            codes += _encoded(rest, k - fill)
        added = Packed._of(blocks + rest, codes, (n + k, self.shape[1]), self.dtype)
        return self._change_directions(added, lambda kept: kept._added(_rounded(rows), in_place=in_place))

    def _without(self, indices: Integers) -> Packed:
        """Return a copy without the patterns at these indices, which are ascending."""
        first = int(indices[0]) // BLOCK * BLOCK  # of the blocks that change
        kept = np.delete(np.arange(first, len(self)), indices - first)
        rest: tuple[Floats, ...] = ()
        for i in range(0, len(kept), BLOCK):
            part = kept[i : i + BLOCK]
            rest += _packed_blocks(self[part[0] : part[-1] + 1][part - part[0]])
        codes = None if self._codes is None else self._codes[: first // BLOCK] + _encoded(rest, len(kept))
        shape = first + len(kept), self.shape[1]
        fewer = Packed._of(self._blocks[: first // BLOCK] + rest, codes, shape, self.dtype)
        return self._change_directions(fewer, lambda kept: kept._without(indices))

    def _with(self, indices: Integers, rows: Floats) -> Packed:
        """Return a copy with rows (k, d) at these indices (k,)."""
        blocks, codes = list(self._blocks), None if self._codes is None else list(self._codes)
        for at, here, panel, lane in self._places(indices):
            blocks[at] = blocks[at].copy()
            blocks[at][panel, :, lane] = rows[here]
            if codes is not None:
                codes[at] = _codes(blocks[at], min(BLOCK, len(self) - at * BLOCK))
        replaced = Packed._of(tuple(blocks), None if codes is None else tuple(codes), self.shape, self.dtype)
        return self._change_directions(replaced, lambda kept: kept._with(indices, _rounded(rows)))

    def _change_directions(self, changed: Packed, change: Callable[[Packed], Packed]) -> Packed:
        """Change the directions too, if they are kept; a pattern of zeros has none, so that they are dropped."""
        if self._directions is not None:
            with suppress(ValueError):
                changed._keep(change(self._directions))
        return changed


class _Codes(NamedTuple):
    """The codes of a block of panels, as `encode` in the core describes them."""

    centre: Floats
    words: Integers
    bounds: Floats

    def part(self, part: slice) -> _Codes:
        """Return the codes of a part of the block, which starts with a panel."""
        panels = slice(part.start // PANEL, -(-part.stop // PANEL))
        return _Codes(self.centre, self.words[panels], self.bounds[panels])

    def _extended(self, panels: Floats, n: int, k: int) -> _Codes:
        """Write the codes of k patterns after the first n, which others may be reading; return the object itself."""
        first, last = n // PANEL, -(-(n + k) // PANEL)
        words, bounds = np.empty_like(self.words[first:last]), np.empty_like(self.bounds[first:last])
        _backend.core.encode(panels[first:last], n + k - first * PANEL, self.centre, words, bounds)
        for old, new in ((self.words, words), (self.bounds, bounds)):
            old[first, :, n % PANEL :] = new[0, :, n % PANEL :]
            old[first + 1 : last] = new[1:]
        return self


def _codes(panels: Floats, n: int) -> _Codes:
    """Return the codes of n patterns, the first in some panels; the centre is about their median."""
    count, d = len(panels), panels.shape[1]
    filled = panels[: -(-n // PANEL)]
    sample = filled[:: max(1, len(filled) // 16), :, : min(n, PANEL) : 8].transpose(1, 0, 2).reshape(d, -1)
    middle = sample.shape[1] // 2
    centre = np.partition(sample, middle, axis=1)[:, middle].copy()  # not the mean, which an outlier may move far away
    codes = _Codes(centre, np.empty((count, -(-d // 4), PANEL), np.uint32), np.empty((count, 3, PANEL), np.float32))
    _backend.core.encode(filled, n, *codes.part(slice(0, n)))
    return codes


def _encoded(blocks: tuple[Floats, ...], n: int) -> tuple[_Codes, ...]:
    """Return the codes of n patterns in blocks."""
    return tuple(_threads.run([partial(_codes, block, min(BLOCK, n - i * BLOCK)) for i, block in enumerate(blocks)]))


def _rounded(patterns: Floats, first: int = 0) -> Floats:
    return directions("patterns", patterns, first).astype(np.float32)


def _packed_blocks(rows: Floats) -> tuple[Floats, ...]:
    """Return rows (n, d) as blocks of panels, (BLOCK / PANEL, d, PANEL) but for the last."""

    def pack(block: Floats) -> Floats:
        panels = np.empty((-(-len(block) // PANEL), rows.shape[1], PANEL), rows.dtype)
        _backend.core.pack(block, panels)
        return panels

    return tuple(_threads.run([partial(pack, rows[block]) for block in _blocks(len(rows))]))


class Reduction(NamedTuple):
    """The reduction of patterns for each of m queries, in float64 whatever the dtype of the arrays.

    Attributes
    ----------
    beta : float or None
        Sharpness of the weights; with None, `peak`, `total` and `mix` have no rows.
    peak : ndarray, shape (m,)
        Largest score.
    total : ndarray, shape (m,)
        Sum of the weights exp(beta (score - peak)).
    mix : ndarray, shape (m, v)
        Sum of weight times value.
    best : ndarray, shape (m, k)
        The k largest scores, in descending order, -inf where there are fewer than k patterns.
    indices : ndarray, shape (m, k), int64
        The indices of their patterns; ties are broken by the lowest index.
    """

    beta: float | None
    peak: Floats
    total: Floats
    mix: Floats
    best: Floats
    indices: Integers

    @classmethod
    def identity(cls, beta: float | None, m: int, v: int = 0, k: int = 0) -> Reduction:
        """Return the reduction of no patterns, the identity element of `merge`.

        Parameters
        ----------
        beta : float or None
            Sharpness of the weights; None leaves out `peak`, `total` and `mix`.
        m : int
            Number of queries.
        v : int, default 0
            Number of dimensions of the values.
        k : int, default 0
            How many of the largest scores to keep.

        Returns
        -------
        Reduction
        """
        best, indices = np.empty((m, k)), np.empty((m, k), np.int64)
        best.fill(-np.inf)
        indices.fill(LAST)
        if beta is None:
            return cls(beta, NONE, NONE, np.empty((0, v)), best, indices)
        peak = np.empty(m)
        peak.fill(-np.inf)
        return cls(beta, peak, np.zeros(m), np.zeros((m, v)), best, indices)

    def absorb(
        self,
        queries: Floats,
        patterns: Any,
        values: Any,
        metric: ScoreMetric,
        first: int = 0,
        progress: Progress | None = None,
        allowed: Integers | None = None,
    ) -> Reduction:
        """Add patterns to the reduction, in place.

        Patterns and values may be any objects whose slices are arrays, such as memory-mapped files. They are read one
        block at a time and cast to the queries' dtype.

        Parameters
        ----------
        queries : ndarray, shape (m, d)
            C-contiguous, float32 or float64, finite.
        patterns : ndarray or Packed, shape (n, d)
            The patterns to add.
        values : ndarray, shape (n, v)
            One row for each pattern; v may be 0.
        metric : {"euclidean", "dot"}
            Score of a pattern p for a query x: -|x - p|^2 or x.p.
        first : int, default 0
            Index of the first pattern.
        progress : callable, optional
            Called as `nearest` does.
        allowed : ndarray of uint64, shape (ceil(n / PANEL),), optional
            A bit for each pattern, as `search` in the core takes them, for patterns with codes. Default: all.

        Returns
        -------
        Reduction
            The object itself.

        Raises
        ------
        ValueError
            If a pattern is not finite, or a score that the result depends on overflows.
        """
        (m, d), n, threads = queries.shape, len(patterns), _threads.get_threads()
        if m == 0:
            _check.finite("patterns", np.asarray(patterns[0:n]))
        if (
            0 < n <= BLOCK
            and m * n * d < SMALL
            and progress is None
            and allowed is None
            and not np.count_nonzero(self.total)
        ):
            p, v = _read(patterns, values, slice(0, n), queries.dtype)
            if not _backend.core.absorb(queries, p, v, metric, self.beta or 0.0, first, *self[1:]):
                self._refuse(queries, patterns[0:n], metric, first)
            if self.mix.size:
                np.add(self.mix, 0.0, out=self.mix)  # turns -0 into 0, as a merge does
            return self
        blocks = _blocks(n)
        if allowed is not None:
            blocks = [block for block in blocks if _bits(allowed, block).any()]
            n = sum(block.stop - block.start for block in blocks)

        def absorb_all(part: slice) -> Iterator[int]:  # all patterns, for a part of the queries
            r = self if part == slice(0, m) else Reduction._make((self.beta, *(a[part] for a in self[1:])))
            for block in blocks:
                yield from r._absorb_block(queries[part], patterns, values, metric, block, first, allowed)

        def identity(block: slice) -> Reduction:  # of one block of patterns, for all queries
            return self.identity(self.beta, m, self.mix.shape[1], min(self.best.shape[1], block.stop - block.start))

        if threads == 1 or m * n * d < SMALL:
            _threads.run_steps([absorb_all(slice(0, m))], _of(m * n, progress))
        elif m >= TASK or len(blocks) == 1:
            encoding = self._searches(d) and not isinstance(patterns, Packed)  # again for each part
            task = 4 * TASK if encoding else TASK
            _threads.run_steps([absorb_all(part) for part in _parts(m, threads, task)], _of(m * n, progress))
        else:
            for i in range(0, len(blocks), 4 * threads):  # a few at a time, to limit the memory of their results
                some = blocks[i : i + 4 * threads]
                parts = [identity(block) for block in some]
                tasks = [
                    part._absorb_block(queries, patterns, values, metric, block, first, allowed)
                    for part, block in zip(parts, some, strict=True)
                ]
                _threads.run_steps(tasks, _of(m * n, progress, m * i * BLOCK))
                for part in parts:
                    self.merge(part)
        return self

    def _absorb_block(
        self,
        queries: Floats,
        patterns: Any,
        values: Any,
        metric: ScoreMetric,
        block: slice,
        first: int,
        allowed: Integers | None = None,
    ) -> Iterator[int]:
        """Reduce one block separately, then merge it. The k best need no merge, because they are exact.

        Yields the number of scores after each step.
        """
        dtype, core = queries.dtype, _backend.core
        if len(queries) >= ENOUGH and self._searches(queries.shape[1]) and not isinstance(patterns, Packed):
            yield from self._search_block(queries, patterns, metric, block, first)
            return
        p, v = _read(patterns, values, block, dtype)
        codes = _block_codes(self, patterns, block, dtype)
        own = Reduction.identity(self.beta, len(queries), self.mix.shape[1])
        beta, none = self.beta or 0.0, (self.best[:, :0], self.indices[:, :0])
        for rows, part in _steps(queries, block):
            x, index = queries[rows], first + block.start + part.start
            soft, hard = (own.peak[rows], own.total[rows], own.mix[rows]), (self.best[rows], self.indices[rows])
            if codes is not None:
                n, some = part.stop - part.start, NO_BITS if allowed is None else _bits(allowed, _shifted(part, block))
                done = core.search(x, _rows(p, part), n, *codes.part(part), metric, some, index, *hard)
            else:
                done = core.absorb(x, _rows(p, part), v[part], metric, beta, index, *soft, *hard)
            if not done:
                self._refuse(queries, patterns[block], metric, first + block.start)
            yield len(x) * (part.stop - part.start)
        core.merge(beta, *self[1:4], *none, *own[1:4], *none)

    def _searches(self, d: int) -> bool:
        """Return whether codes help: to find the k best."""
        return self.beta is None and self.best.shape[1] > 0 and d in CODED

    def _search_block(
        self, queries: Floats, patterns: Any, metric: ScoreMetric, block: slice, first: int
    ) -> Iterator[int]:
        """Add a block of patterns that are not packed to the k nearest, after encoding them. Yields as above."""
        d, core = queries.shape[1], _backend.core
        p, size = _block(patterns, block, queries.dtype), max(1, CODES // (core.TILE * d)) * core.TILE
        for start in range(0, block.stop - block.start, size):
            part = slice(start, min(start + size, block.stop - block.start))
            n, panels = part.stop - start, _rows(p, part)
            if panels.ndim == 2:
                (panels,) = _packed_blocks(panels)
            if not _check.is_finite(panels):
                _check.finite("patterns", patterns[block], first + block.start)
            codes = _codes(panels, n)
            for rows, some in _steps(queries, slice(0, n)):
                x, count, index = queries[rows], some.stop - some.start, first + block.start + start + some.start
                hard = self.best[rows], self.indices[rows]
                if not core.search(x, _rows(panels, some), count, *codes.part(some), metric, NO_BITS, index, *hard):
                    self._refuse(queries, patterns[block], metric, first + block.start)
                yield len(x) * count

    def _refuse(self, queries: Floats, patterns: Array, metric: ScoreMetric, first: int) -> None:
        """Raise because a pattern or a score is not finite; nothing depends on a squared distance that overflows."""
        _check.finite("patterns", patterns, first)
        if self.beta is not None or metric == "dot":
            raise _check.too_large(queries, patterns, queries.dtype)

    def merge(self, other: Reduction) -> Reduction:
        """Add a reduction of other patterns for the same queries, in place, and return the object itself.

        Raises ValueError if the other reduction has a different beta.
        """
        if other.beta != self.beta:
            raise ValueError(f"other must be a reduction with beta = {self.beta}; got beta = {other.beta}")
        _backend.core.merge(self.beta or 0.0, *self[1:], *other[1:])
        return self

    @property
    def soft_maximum(self) -> Floats:
        """1/beta log sum_i exp(beta s_i) (m,) of the scores s_i: from the peak to log(n) / beta above it."""
        maximum: Floats = self.peak + np.log(self.total) / self.beta
        return maximum

    @property
    def mean(self) -> Floats:
        """The weighted mean of the values (m, v)."""
        return self.mix / self.total[:, None]


def reduce(
    queries: Floats,
    patterns: Any,
    values: Any = None,
    *,
    metric: ScoreMetric,
    beta: float | None = 1.0,
    k: int = 0,
    progress: Progress | None = None,
    allowed: Integers | None = None,
) -> Reduction:
    """Return the reduction of patterns for each query, in memory O(m (v + k)) rather than O(m n).

    Arguments are not checked: the energies and `nearest` check them.

    Parameters
    ----------
    queries, patterns, values, metric
        As in `Reduction.absorb`; no values by default.
    beta : float or None, default 1.0
        Sharpness of the weights; None leaves out `peak`, `total` and `mix`.
    k : int, default 0
        Number of largest scores to keep.
    progress, allowed
        As in `Reduction.absorb`.

    Returns
    -------
    Reduction

    Raises
    ------
    ValueError
        If a pattern is not finite, or a score that the result depends on overflows.

    Examples
    --------
    >>> r = reduce(np.array([[0.9]]), np.array([[0.0], [1.0], [2.0]]), metric="euclidean", beta=None, k=2)
    >>> r.indices
    array([[1, 0]])
    """
    values = np.empty((len(patterns), 0), queries.dtype) if values is None else values
    none = Reduction.identity(beta, len(queries), values.shape[1], k)
    return none.absorb(queries, patterns, values, metric, progress=progress, allowed=allowed)


def gather(
    queries: Floats,
    patterns: Any,
    least: Floats,
    *,
    metric: ScoreMetric,
    progress: Progress | None = None,
    allowed: Integers | None = None,
) -> list[tuple[slice, Integers, Floats, Integers]]:
    """Return the patterns whose score is large enough, for one part of the queries after the other.

    Arguments are not checked. Patterns are read as `reduce` does. Memory is proportional to the number of pairs found.

    Parameters
    ----------
    queries, patterns
        As in `Reduction.absorb`.
    least : ndarray of float64, shape (m,)
        The least score of each query's patterns.
    metric, progress
        As in `Reduction.absorb`.
    allowed : ndarray of int64, shape (a,), optional
        The indices of the patterns to return, ascending. Default: all patterns.

    Returns
    -------
    list of tuple
        For each part of at most TASK queries: its slice, and for each pair of a query and a pattern in it the position
        of the query in the part, the exact score in float64, and the index of the pattern. Those of a query are in
        order of index.

    Raises
    ------
    ValueError
        If a pattern is not finite, or a product overflows.

    Examples
    --------
    >>> gather(np.array([[0.9]]), np.array([[0.0], [1.0], [2.0]]), np.array([-1.0]), metric="euclidean")
    [(slice(0, 1, None), array([0, 0]), array([-0.81, -0.01]), array([0, 1]))]
    """
    (m, d), n, dtype = queries.shape, len(patterns), queries.dtype
    threads, blocks = 1 if m * n * d < SMALL else _threads.get_threads(), _blocks(n)
    if allowed is not None:
        blocks = [blocks[i] for i in np.unique(allowed // BLOCK)]
        n, chosen = sum(block.stop - block.start for block in blocks), np.zeros(n, bool)
        chosen[allowed] = True
    if m == 0:
        _check.finite("patterns", np.asarray(patterns[0:n]))
        return []
    parts = [slice(0, m)] if m < TASK and len(blocks) > 1 else _parts(m, threads)
    found: dict[tuple[int, int], list[tuple[Integers, Floats, Integers]]] = {}

    def search(part: slice, block: slice) -> Iterator[int]:
        x, p, pairs = queries[part], _block(patterns, block, dtype), found.setdefault((part.start, block.start), [])
        for rows, some in _steps(x, block):
            index, count = block.start + some.start, some.stop - some.start
            i, s, j, finite = _backend.core.gather(x[rows], _rows(p, some), count, metric, least[part][rows], index)
            if not finite:
                _check.finite("patterns", patterns[block], block.start)
                raise _check.too_large(queries, patterns[block], dtype)
            if allowed is not None:
                of_these = chosen[j]
                i, s, j = i[of_these], s[of_these], j[of_these]
            pairs.append((i + rows.start, s, j))
            yield len(x[rows]) * count

    def search_all(part: slice) -> Iterator[int]:
        for block in blocks:
            yield from search(part, block)

    alone = len(parts) == 1 and threads > 1  # few queries: the threads share the blocks
    tasks = [search(parts[0], block) for block in blocks] if alone else [search_all(part) for part in parts]
    _threads.run_steps(tasks, _of(m * n, progress))

    def joined(part: slice) -> tuple[slice, Integers, Floats, Integers]:
        rows, scores, indices = zip(*(pairs for b in blocks for pairs in found[part.start, b.start]), strict=True)
        return part, np.concatenate(rows), np.concatenate(scores), np.concatenate(indices)

    return [joined(part) for part in parts]


def scores(queries: Floats, patterns: Any, metric: ScoreMetric) -> Floats:
    """Return the scores of all patterns for each query, in float64, rounded after each operation.

    Parameters
    ----------
    queries : ndarray, shape (m, d)
        C-contiguous, float32 or float64.
    patterns : ndarray or Packed, shape (n, d)
        The patterns, cast to the dtype of the queries.
    metric : {"euclidean", "dot"}
        Score of a pattern p for a query x: -|x - p|^2 or x.p.

    Returns
    -------
    ndarray of float64, shape (m, n)
        Scores that overflow are infinite or NaN.

    Examples
    --------
    >>> scores(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 0.0]]), "euclidean")
    array([[-25.,  -1.]])
    """
    out, blocks = np.empty((len(queries), len(patterns))), _blocks(len(patterns))
    for block in blocks:
        part = out if len(blocks) == 1 else np.empty((len(queries), block.stop - block.start))
        _backend.core.scores(queries, _block(patterns, block, queries.dtype), metric, part)
        if part is not out:
            out[:, block] = part
    return out


def _blocks(n: int) -> list[slice]:
    """Split n patterns into blocks."""
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def _block(patterns: Any, block: slice, dtype: DTypeLike) -> Array:
    """Return a block of patterns for the core: rows, or panels if they are packed."""
    if isinstance(patterns, Packed):
        return patterns._block(block, dtype)
    rows = patterns[block]
    return _panels(rows, dtype) if _by_columns(rows) else _contiguous(rows, dtype)


def _read(patterns: Any, values: Any, block: slice, dtype: DTypeLike) -> tuple[Array, Array]:
    """Return a block of patterns for the core, and the rows of their values, which may be the patterns themselves."""
    p = _block(patterns, block, dtype)
    return p, p if values is patterns and p.ndim == 2 else _contiguous(values[block], dtype)


def _by_columns(a: Array) -> bool:
    """Return whether the numbers of a column are contiguous, as in Fortran order."""
    return not a.flags.c_contiguous and a.ndim == 2 and a.strides[0] == a.itemsize


def _panels(rows: Array, dtype: DTypeLike) -> Floats:
    """Return rows (n, d) in Fortran order as panels: their columns are read in runs of PANEL, instead of one by one."""
    (n, d), columns = rows.shape, _single(rows).T
    full, rest = divmod(n, PANEL)
    panels = np.empty((full + (rest > 0), d, PANEL), dtype)
    panels[:full] = columns[:, : n - rest].reshape(d, full, PANEL).transpose(1, 0, 2)
    if rest:
        panels[full, :, :rest], panels[full, :, rest:] = columns[:, n - rest :], columns[:, -1:]
    return panels


def _contiguous(a: Array, dtype: DTypeLike) -> Array:
    if a.dtype == dtype and a.flags.c_contiguous:
        return a
    if _by_columns(a):
        rows = np.empty(a.shape, dtype)
        _backend.core.unpack(_panels(a, dtype), rows)
        return rows
    return np.ascontiguousarray(_single(a), dtype)


def _single(a: Array) -> Array:
    """Return half precision as float32, in the same order; other dtypes unchanged.

    The 15 bits of a half, shifted to those of a float32, are its magnitude times 2^-112, unless it is not finite. NumPy
    converts one number at a time.
    """
    if a.dtype != np.float16:
        return a
    bits = a.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= SINGLE_BITS
    numbers = bits.view(np.float32)
    numbers *= np.float32(2.0**112)
    finite = _backend.core.max_abs(numbers.ravel(order="K")) < 2.0**16
    return numbers if finite else a.astype(np.float32)


def _block_codes(r: Reduction, patterns: Any, block: slice, dtype: np.dtype[Any]) -> _Codes | None:
    """Return the codes of a block if there are any, and they help."""
    if not isinstance(patterns, Packed) or not r._searches(patterns.shape[1]):
        return None
    if patterns.dtype != dtype or patterns._codes is None:
        return None
    first = block.start // BLOCK * BLOCK
    codes: _Codes = patterns._codes[block.start // BLOCK]
    return codes.part(slice(block.start - first, block.stop - first))


def has_codes(patterns: Any, dtype: DTypeLike) -> bool:
    """Return whether patterns have codes for queries of this dtype, which help to find the k best."""
    return isinstance(patterns, Packed) and patterns._codes is not None and patterns.dtype == dtype


def bits(places: Integers, n: int) -> Integers:
    """Return a bit for each of n patterns, as `search` in the core takes them: 1 for those at these places."""
    mask = np.zeros(-(-n // PANEL) * PANEL, bool)
    mask[places] = True
    words: Integers = np.packbits(mask, bitorder="little").view("<u8").astype(np.uint64)
    return words


def _bits(allowed: Integers, block: slice) -> Integers:
    """Return the bits of a block, which starts with a panel."""
    return allowed[block.start // PANEL : -(-block.stop // PANEL)]


def _shifted(part: slice, block: slice) -> slice:
    """Return a part of a block as a slice of all patterns."""
    return slice(block.start + part.start, block.start + part.stop)


def _rows(patterns: Array, part: slice) -> Array:
    """Return a part of a block, which starts with a panel."""
    lanes = patterns.shape[-1]
    return patterns[part] if patterns.ndim == 2 else patterns[part.start // lanes : -(-part.stop // lanes)]


def _steps(queries: Floats, block: slice) -> Iterator[tuple[slice, slice]]:
    """Split the queries and a block of patterns, whole tiles of them, into pairs of parts for one call of the core."""
    (m, d), n, tile = queries.shape, block.stop - block.start, _backend.core.TILE
    rows = max(6, min(TASK, STEP // (tile * d)) // 6 * 6)
    count = max(1, STEP // (rows * tile * d)) * tile
    for i in range(0, m, rows):
        for j in range(0, n, count):
            yield slice(i, min(i + rows, m)), slice(j, min(j + count, n))


def _of(total: int, progress: Progress | None, before: int = 0) -> Callable[[int], object] | None:
    """Return progress(done, total) as a function of the work done since the job's first part, `before`."""
    return None if progress is None else lambda done: progress(before + done, total)


def _parts(m: int, threads: int, task: int = TASK) -> list[slice]:
    """Split m queries into parts of about `task` or less, equally many per thread, in nearly equal multiples of 6."""
    parts = threads * -(-m // (task * threads))
    ends = [min(m, 6 * round(m / 6 * i / parts)) for i in range(parts)] + [m]
    return [slice(start, stop) for start, stop in pairwise(ends) if start < stop]
