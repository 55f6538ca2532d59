"""The NumPy twin of `_core.pyx`: the same functions, in the same order, with the same numbered steps. Read it first.

A memory answers a query by one reduction over its patterns. For the patterns seen so far it keeps, per query,

    peak      the largest score
    total     the sum of the weights exp(beta (score - peak))
    mix       the sum of weight times value
    best      the k largest scores, in descending order
    indices   their patterns; of equal scores, the lower index comes first

Two reductions of disjoint sets of patterns merge into the reduction of their union. Energy and update are computed from
peak, total and mix (the soft half), nearest neighbours are best and indices (the hard half); either half may be left
out. The score of a pattern p for a query x is -|x - p|^2 (metric "euclidean": differences first, then squares) or x.p
("dot").

Here everything is computed in float64. The compiled core computes scores in the dtype of the arrays first, on panels of
PANEL patterns, and then once more, exactly, wherever a pattern might be among the k best, or large enough. So `best`,
`indices` and the results of `gather` are bit for bit the same in both twins; peak, total and mix agree to within the
rounding of that dtype.

- select the instruction set [`simd`]
- the floating-point state of the calling thread [`standard_state`], [`restore_state`]
- the largest magnitude, which shows whether all numbers are finite [`max_abs`]
- the exponential of the weights [`exp_nonpositive`]
- pack patterns into panels, and unpack them [`pack`], [`unpack`]
- score every pattern exactly [`scores`], the only function whose result takes (m, n) memory
- gather the patterns whose score is large enough [`gather`]
- reduce more patterns, a tile at a time [`absorb`]
- merge two reductions [`merge`]

Arrays are C-contiguous and allocated by the caller. Results are written into them; `simd`, `max_abs` and `absorb` also
return a value, and `gather` allocates its results, whose length is not known before. The compiled functions raise
ValueError for arrays whose sizes do not fit together, and compute in the standard floating-point state on whichever
thread they run; those of this module do neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # numpy.typing takes time to import
    from hopmin._typing import Floats, Integers

PANEL = 64  # patterns in a panel
TILE = 512  # patterns scored together; weights are summed tile by tile, so the results depend on it
FUNCTIONS = (
    "simd", "standard_state", "restore_state", "max_abs", "exp_nonpositive", "pack", "unpack", "scores", "gather",
    "absorb", "merge",
)  # fmt: skip
SIMD: tuple[str, ...] = ("numpy",)  # the instruction sets available here, the most basic first


def simd(name: str | None = None) -> str:
    """Return the name of the instruction set in use, after switching to `name` if one is given.

    Raises ValueError, without switching, if `name` is not in SIMD.
    """
    return SIMD[0 if name is None else SIMD.index(name)]


def standard_state() -> int:
    """Make this thread round to nearest, keep subnormal numbers and not trap; return its floating-point state before.

    The NumPy twin cannot change the state, and returns 0.
    """
    return 0


def restore_state(state: int) -> None:
    """Restore a floating-point state that `standard_state` returned."""


def max_abs(numbers: Floats) -> float:
    """Return the largest magnitude of numbers (n,): 0 if there are none, NaN if one of them is not finite."""
    magnitude = np.abs(numbers).max(initial=0)
    return float(magnitude) if np.isfinite(magnitude) else np.nan


def exp_nonpositive(x: Floats, out: Floats) -> None:
    """Compute e^x for x (n,) <= 0 into out (n,): within 2 ulp, monotone, 1 at 0, and 0 instead of subnormal numbers."""
    with np.errstate(under="ignore"):
        out[:] = np.exp(x.astype(np.float64))
    out[out < np.finfo(out.dtype).tiny] = 0


def pack(patterns: Floats, panels: Floats) -> None:
    """Pack patterns (n, d) into panels (ceil(n / PANEL), d, PANEL), filling the last one with the last pattern."""
    places = np.minimum(np.arange(len(panels) * PANEL), len(patterns) - 1)
    panels[:] = patterns[places].reshape(len(panels), PANEL, patterns.shape[1]).transpose(0, 2, 1)


def unpack(panels: Floats, patterns: Floats) -> None:
    """Unpack panels (ceil(n / PANEL), d, PANEL) into patterns (n, d)."""
    patterns[:] = _unpacked(panels, len(patterns))


def scores(queries: Floats, patterns: Floats, metric: str, out: Floats) -> None:
    """Compute the exact score of every query and pattern.

    Scores are float64, summed coordinate by coordinate and rounded after each operation: bit for bit the same in both
    twins and for all instruction sets.

    Parameters
    ----------
    queries : ndarray, shape (m, d)
    patterns : ndarray, shape (n, d) or (ceil(n / PANEL), d, PANEL)
        Rows or panels. The places after pattern n in the last panel may hold anything.
    metric : "euclidean" or "dot"
        -|x - p|^2 or x.p.
    out : ndarray of float64, shape (m, n)
        Overwritten with the scores.
    """
    patterns = _unpacked(patterns, out.shape[1])
    out[:] = 0
    for c in range(queries.shape[1]):  # no (m, n, d) array
        x, p = queries[:, c, None].astype(np.float64), patterns[None, :, c].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            if metric == "euclidean":
                out -= (x - p) ** 2
            else:
                out += x * p


def gather(
    queries: Floats, patterns: Floats, n: int, metric: str, least: Floats, first: int
) -> tuple[Integers, Floats, Integers, bool]:
    """Return all pairs of a query and a pattern whose exact score is large enough.

    Parameters
    ----------
    queries : ndarray, shape (m, d)
    patterns : ndarray, shape (n, d) or (ceil(n / PANEL), d, PANEL)
    n : int
    metric : "euclidean" or "dot"
    least : ndarray of float64, shape (m,)
        The least score of each query's patterns; -inf for all patterns.
    first : int
        The index of the first pattern.

    Returns
    -------
    rows : ndarray of int64, shape (h,)
        The queries of the h pairs: panel by panel, those of a panel in ascending order.
    found : ndarray of float64, shape (h,)
        The exact scores.
    indices : ndarray of int64, shape (h,)
        The indices of the patterns, in ascending order for each query.
    finite : bool
        Whether all patterns and, for "dot", all exact scores were finite. If not, pairs may be missing.
    """
    patterns = _unpacked(patterns, n)
    finite = bool(np.isfinite(max_abs(patterns.reshape(-1))))
    hits = [(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))]
    for start in range(0, n, PANEL):
        # 1. scores
        panel = patterns[start : start + PANEL]
        s = np.empty((len(queries), len(panel)))
        scores(queries, panel, metric, s)
        finite &= metric == "euclidean" or bool(np.isfinite(s).all())
        # 2. those that are large enough
        rows, places = np.nonzero(s >= least[:, None])
        hits.append((rows, s[rows, places], first + start + places))
    rows, found, indices = map(np.concatenate, zip(*hits, strict=True))
    return rows, found, indices, finite


def absorb(
    queries: Floats, patterns: Floats, values: Floats, metric: str, beta: float, first: int,
    peak: Floats, total: Floats, mix: Floats, best: Floats, indices: Integers,
) -> bool:  # fmt: skip
    """Add patterns to a reduction, in place.

    The working memory is that of one tile, whatever m and n. In the compiled core it does not grow with d or v either:
    4096 coordinates, and 4096 columns of the values, are taken at a time, in less than 36 MiB. Without the soft half,
    `peak`, `total` and `mix` have length 0, and `beta` is not used.

    Parameters
    ----------
    queries : ndarray, shape (m, d)
    patterns : ndarray, shape (n, d) or (ceil(n / PANEL), d, PANEL)
        Rows or panels, as in `scores`.
    values : ndarray, shape (n, v)
        v may be 0.
    metric : "euclidean" or "dot"
    beta : float
    first : int
        The index of the first pattern.
    peak, total : ndarray of float64, shape (m,)
    mix : ndarray of float64, shape (m, v)
    best : ndarray of float64, shape (m, k)
        k may be 0.
    indices : ndarray of int64, shape (m, k)

    Returns
    -------
    finite : bool
        Whether all scores were finite in the dtype of the arrays, which implies that all patterns are.
    """
    k, soft, finite = best.shape[1], len(peak) > 0, True
    tile = np.empty((PANEL, TILE))
    patterns = _unpacked(patterns, len(values))
    for start in range(0, len(values), TILE):
        block = slice(start, start + TILE)
        for row in range(0, len(queries), PANEL):
            i = slice(row, row + PANEL)
            # 1. scores of this tile
            s = tile[: len(queries[i]), : len(patterns[block])]
            scores(queries[i], patterns[block], metric, s)
            # 2. their peak
            s_peak = s.max(axis=1)
            finite &= bool(np.abs(s).max(initial=0) <= np.finfo(queries.dtype).max)
            # 3. their k best
            if k:
                j = np.argsort(-s, axis=1, kind="stable")[:, :k]
                _merge_best(best[i], indices[i], np.take_along_axis(s, j, axis=1), first + start + j)
            if not soft or not finite:
                continue
            # 4. the common peak, to which the sums so far are rescaled
            top = np.maximum(peak[i], s_peak)
            shrink = np.exp(beta * (peak[i] - top))
            peak[i] = top
            total[i] *= shrink
            mix[i] *= shrink[:, None]
            # 5. their weights, relative to the peak, and the total
            with np.errstate(over="ignore"):  # infinitely far below the peak: a weight of 0
                w = np.exp(beta * (s - top[:, None]))
            total[i] += w.sum(axis=1)
            # 6. the mix
            mix[i] += w @ values[block].astype(np.float64)
    return finite


def merge(
    beta: float, peak: Floats, total: Floats, mix: Floats, best: Floats, indices: Integers,
    other_peak: Floats, other_total: Floats, other_mix: Floats, other_best: Floats, other_indices: Integers,
) -> None:  # fmt: skip
    """Merge another reduction into this one, in place.

    Merging is associative and commutative, exactly for the k best, and to within rounding for the rest. The identity
    has peak = best = -inf, total = mix = 0 and an index above all others.

    Parameters
    ----------
    beta : float
        That of both reductions.
    peak, total, mix, best, indices : ndarray
        The reduction that is changed; shapes as in `absorb`.
    other_peak, other_total, other_mix, other_best, other_indices : ndarray
        The reduction that is merged into it. It may hold fewer best.
    """
    # 1. the common peak; where nothing has been absorbed yet any finite one will do
    top = np.maximum(peak, other_peak)
    top[np.isneginf(top)] = 0
    # 2. both sides are rescaled to it
    with np.errstate(over="ignore"):
        shrink, other_shrink = np.exp(beta * (peak - top)), np.exp(beta * (other_peak - top))
    np.maximum(peak, other_peak, out=peak)
    total *= shrink
    total += other_shrink * other_total
    mix *= shrink[:, None]
    mix += other_shrink[:, None] * other_mix
    # 3. the k best of both in descending order, ties by the lower index
    _merge_best(best, indices, other_best, other_indices)


def _unpacked(patterns: Floats, n: int) -> Floats:
    """Return patterns (n, d), given as such or as panels."""
    return patterns if patterns.ndim == 2 else patterns.transpose(0, 2, 1).reshape(-1, patterns.shape[1])[:n]


def _merge_best(best: Floats, indices: Integers, other: Floats, other_indices: Integers) -> None:
    """Keep the k best of both, in place."""
    both, which = np.hstack([best, other]), np.hstack([indices, other_indices])
    order = np.lexsort((which, -both), axis=1)[:, : best.shape[1]]
    best[:] = np.take_along_axis(both, order, axis=1)
    indices[:] = np.take_along_axis(which, order, axis=1)
