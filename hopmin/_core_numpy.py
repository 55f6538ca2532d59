"""The readable twin of the compiled core, `_core.pyx`: the same functions, in the same order, in the same steps.

A memory answers a query by one reduction over its patterns. For the patterns seen so far it keeps, per query,

    peak    the largest score
    total   the sum of the weights exp(beta (score - peak))
    mix     the sum of weight times value
    best    the k largest scores, and their indices: larger first, of equals the lower index first

and two such reductions of different patterns merge into that of both. Energy and update are read off the first three,
the soft half; nearest neighbours off the last, the hard half; either may be left out. Scores are -|x - p|^2 (metric
"euclidean": subtract first, then square) or x.p ("dot").

Here all work is done in float64. The compiled core scores in the arrays' own dtype first, on panels of PANEL patterns
at a time, and looks again, exactly, at whatever might be among the k best: so `best` and `indices` are the same bits
here and there; peak, total and mix are the same to within rounding of that dtype.

- which instructions are used [`simd`]
- the largest magnitude, which tells whether all are finite [`max_abs`]
- the exponential of the weights [`exp_nonpositive`]
- patterns into panels, and back [`pack`], [`unpack`]
- score every pattern, exactly [`scores`], the only one that takes (m, n) memory
- take patterns in, a tile at a time [`absorb`]
- join two reductions [`merge`]

The caller owns all memory, and these functions fill it; three have something to tell as well.
"""

from __future__ import annotations

import numpy as np

PANEL = 64  # patterns in a panel
TILE = 512  # patterns that are scored together; also how floats are grouped in the sums, so part of the results
FUNCTIONS = ("simd", "max_abs", "exp_nonpositive", "pack", "unpack", "scores", "absorb", "merge")
SIMD = ("numpy",)  # the variants that run here, plainest first; the compiled core has one for each set of instructions


def simd(name=None):
    """The name of the variant in use; first takes up another, if one is given."""
    return SIMD[0 if name is None else SIMD.index(name)]


def max_abs(numbers):
    """The largest magnitude of numbers (n,), 0 if there are none; NaN if one of them is not finite."""
    magnitude = np.abs(numbers).max(initial=0)
    return float(magnitude) if np.isfinite(magnitude) else np.nan


def exp_nonpositive(x, out):
    """out (n,): e^x for x (n,) <= 0, within 2 ulp and monotone; 1 at 0, and 0 where it would be subnormal."""
    with np.errstate(under="ignore"):
        out[:] = np.exp(x.astype(np.float64))
    out[out < np.finfo(out.dtype).tiny] = 0


def pack(patterns, panels):
    """panels (ceil(n / PANEL), d, PANEL): patterns (n, d), coordinate by coordinate, the last repeated to the end."""
    rows = np.minimum(np.arange(len(panels) * PANEL), len(patterns) - 1)
    panels[:] = patterns[rows].reshape(len(panels), PANEL, patterns.shape[1]).transpose(0, 2, 1)


def unpack(panels, patterns):
    """patterns (n, d): what was packed."""
    patterns[:] = panels.transpose(0, 2, 1).reshape(-1, patterns.shape[1])[: len(patterns)]


def scores(queries, patterns, metric, out):
    """out (m, n) float64: -|x - p|^2 or x.p for every query x and pattern p, patterns (n, d) or in panels.

    Rounded after each operation, coordinate by coordinate: of two cores, and of all variants, the same bits.
    """
    patterns = _rows(patterns, out.shape[1])
    out[:] = 0
    for c in range(queries.shape[1]):  # no (m, n, d) array
        x, p = queries[:, c, None].astype(np.float64), patterns[None, :, c].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            if metric == "euclidean":
                out -= (x - p) ** 2
            else:
                out += x * p


def absorb(queries, patterns, values, metric, beta, first, peak, total, mix, best, indices):
    """Take patterns (n, d) or in panels, with values (n, v) and indices from `first` on, into the reduction, in place.

    peak, total (m,), mix (m, v), best (m, k) float64 and indices (m, k) int64 hold the reduction; v and k may be 0, and
    without a soft half m is 0 in the first three. Working space is that of a tile, whatever m and n.

    Returns whether every score was finite, in the dtype of the arrays at least: if so, all of patterns was.
    """
    k, soft, finite = best.shape[1], len(peak) > 0, True
    tile = np.empty((PANEL, TILE))
    patterns = _rows(patterns, len(values))
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
            # 4. the common peak, to which what is there shrinks
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


def merge(beta, peak, total, mix, best, indices, other_peak, other_total, other_mix, other_best, other_indices):
    """Join another reduction into this one, in place; the other is left as it was, and may have fewer best.

    Associative and commutative but for rounding (the k best: exactly); the identity has peak = best = -inf,
    total = mix = 0 and an index above all others.
    """
    # 1. the common peak; where nothing has been absorbed yet any finite one will do
    top = np.maximum(peak, other_peak)
    top[np.isneginf(top)] = 0
    # 2. both sides shrink to it
    with np.errstate(over="ignore"):
        shrink, other_shrink = np.exp(beta * (peak - top)), np.exp(beta * (other_peak - top))
    np.maximum(peak, other_peak, out=peak)
    total *= shrink
    total += other_shrink * other_total
    mix *= shrink[:, None]
    mix += other_shrink[:, None] * other_mix
    # 3. the k best of both, larger first, of equals the lower index first
    _merge_best(best, indices, other_best, other_indices)


# What they share.


def _rows(patterns, n):
    """Patterns (n, d), whether they come in panels or not."""
    return patterns if patterns.ndim == 2 else patterns.transpose(0, 2, 1).reshape(-1, patterns.shape[1])[:n]


def _merge_best(best, indices, other, other_indices):
    both, which = np.hstack([best, other]), np.hstack([indices, other_indices])
    order = np.lexsort((which, -both), axis=1)[:, : best.shape[1]]
    best[:] = np.take_along_axis(both, order, axis=1)
    indices[:] = np.take_along_axis(which, order, axis=1)
