"""The readable twin of the compiled core, `_core.pyx`: the same functions, in the same order, in the same steps.

A memory answers a query by one reduction over its patterns. For the patterns seen so far it keeps, per query,

    peak    the largest score
    total   the sum of the weights exp(beta (score - peak))
    mix     the sum of weight times value
    best    the k largest scores, and their indices: larger first, of equals the lower index first

and two such reductions of different patterns merge into that of both. Energy, update and nearest neighbours are
read off it. Scores are -|x - p|^2 (metric "euclidean": subtract first, then square) or x.p ("dot"); the work is done
in float64 whatever the dtype of the arrays, which the door has made equal, contiguous and finite.

- score every pattern [`scores`], the only one that takes (m, n) memory
- take patterns in, a block at a time [`absorb`]
- join two reductions [`merge`]

The caller owns all memory; these functions fill it and return nothing.
"""

from __future__ import annotations

import numpy as np

BLOCK = 64  # patterns that are scored together; also how floats are grouped in the sums, so part of the results
FUNCTIONS = ("scores", "absorb", "merge")


def scores(queries, patterns, metric, out):
    """out (m, n) float64: -|x - p|^2 or x.p for every query x and pattern p."""
    out[:] = 0
    # One coordinate after the other: no (m, n, d) array, and a fixed order of summation.
    for c in range(queries.shape[1]):
        x, p = queries[:, c, None].astype(np.float64), patterns[None, :, c].astype(np.float64)
        if metric == "euclidean":
            out -= (x - p) ** 2
        else:
            out += x * p


def absorb(queries, patterns, values, metric, beta, first, peak, total, mix, best, indices):
    """Take patterns (n, d), with values (n, v) and indices from `first` on, into the reduction, in place.

    peak, total (m,), mix (m, v), best (m, k) float64 and indices (m, k) int64 hold the reduction; v and k may be 0.
    Memory beyond that is O(BLOCK), whatever m and n.
    """
    k = best.shape[1]
    tile = np.empty((BLOCK, BLOCK))
    for start in range(0, len(patterns), BLOCK):
        block = slice(start, start + BLOCK)
        for row in range(0, len(queries), BLOCK):
            i = slice(row, row + BLOCK)
            # 1. scores of this block
            s = tile[: len(queries[i]), : len(patterns[block])]
            scores(queries[i], patterns[block], metric, s)
            # 2. its peak
            s_peak = s.max(axis=1)
            # 3. its weights, relative to its peak
            with np.errstate(over="ignore"):  # infinitely far below the peak: a weight of 0
                w = np.exp(beta * (s - s_peak[:, None]))
            # 4. its total and mix
            s_total = w.sum(axis=1)
            s_mix = w @ values[block].astype(np.float64)
            # 5. its k best
            j = np.argsort(-s, axis=1, kind="stable")[:, :k]
            s_best = np.take_along_axis(s, j, axis=1)
            # 6. merge
            merge(
                beta, peak[i], total[i], mix[i], best[i], indices[i], s_peak, s_total, s_mix, s_best, first + start + j
            )


def merge(beta, peak, total, mix, best, indices, other_peak, other_total, other_mix, other_best, other_indices):
    """Join another reduction into this one, in place; the other is left as it was.

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
    # 3. the k best of 2k, larger first, of equals the lower index first
    both, which = np.hstack([best, other_best]), np.hstack([indices, other_indices])
    order = np.lexsort((which, -both), axis=1)[:, : best.shape[1]]
    best[:] = np.take_along_axis(both, order, axis=1)
    indices[:] = np.take_along_axis(which, order, axis=1)
