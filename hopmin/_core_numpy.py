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
- encode patterns as small integers, with certain bounds on their distances [`encode`]
- score every pattern exactly [`scores`], the only function whose result takes (m, n) memory
- gather the patterns whose score is large enough [`gather`]
- find the k best of more patterns that have codes [`search`]
- reduce more patterns, a tile at a time [`absorb`]
- merge two reductions [`merge`]

Arrays are C-contiguous and allocated by the caller. Results are written into them; `simd`, `max_abs`, `encode`,
`search` and `absorb` also return a value, and `gather` allocates its results, whose length is not known before. The
compiled functions raise ValueError for arrays whose sizes do not fit together, and compute in the standard
floating-point state on whichever thread they run; those of this module do neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # numpy.typing takes time to import
    from hopmin._typing import Floats, Integers

PANEL = 64  # patterns in a panel
TILE = 512  # patterns scored together; weights are summed tile by tile, so the results depend on it
SMALLEST, LARGEST = 2.0**-40, 2.0**50  # the range of the largest coordinate, less the centre, of patterns with codes
OUTWARDS = 2.0**-21  # by which the bounds of codes are enlarged, for rounding in float32
FUNCTIONS = (
    "simd", "standard_state", "restore_state", "max_abs", "exp_nonpositive", "pack", "unpack", "encode",
    "scores", "gather", "search", "absorb", "merge",
)  # fmt: skip
_BYTES = np.array([0, 8, 16, 24], np.uint32)  # the lowest bits of the bytes of a word
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


def encode(panels: Floats, n: int, centre: Floats, words: Integers, bounds: Floats) -> bool:
    """Encode each pattern, less a centre, as a scale times integers from -127 to 127.

    The codes of a pattern depend on the pattern and the centre alone, and are bit for bit the same in both twins and
    for all instruction sets. `docs/core.md` derives the bounds.

    Parameters
    ----------
    panels : ndarray, shape (ceil(n / PANEL), d, PANEL)
        The places after pattern n in the last panel may hold anything.
    n : int
    centre : ndarray, shape (d,)
        A point among the patterns.
    words : ndarray of uint32, shape (ceil(n / PANEL), ceil(d / 4), PANEL)
        Overwritten with the integers plus 128, four in a word, the first in its lowest byte.
    bounds : ndarray of float32, shape (ceil(n / PANEL), 3, PANEL)
        Overwritten with the scale; a bound on the distance of the pattern to what its integers stand for; and a bound
        on the square of their length less that of this distance, which is -inf if the pattern has no code.

    Returns
    -------
    finite : bool
        Whether all patterns are finite.
    """
    dtype, d = panels.dtype, panels.shape[1]
    epsilon = float(np.finfo(dtype).eps)
    slack = (d + 8) * epsilon
    # 1. scales
    places = np.minimum(np.arange(len(panels) * PANEL), n - 1).reshape(-1, PANEL)
    filled = panels[places // PANEL, :, places % PANEL].transpose(0, 2, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        u = filled - centre[:, None]
        largest = np.abs(u).max(axis=1)
        usable = (largest >= SMALLEST) & (largest <= LARGEST)
        scale = np.where(usable, largest / dtype.type(127), 0).astype(np.float32).astype(dtype)
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=usable)
        # 2. integers, and what rounding takes away
        u *= inverse[:, None]
        q = np.rint(u)
        square, rest = np.zeros_like(scale), np.zeros_like(scale)
        for c in range(d):
            square += q[:, c] * q[:, c]
            rest += (u[:, c] - q[:, c]) ** 2
        q[~np.isfinite(q)] = 0
        padded = np.pad(q, ((0, 0), (0, -d % 4), (0, 0))).reshape(len(q), -1, 4, PANEL)
        words[:] = ((padded + 128).astype(np.uint32) << _BYTES[:, None]).sum(axis=2, dtype=np.uint32)
        # 3. bounds, rounded outwards
        image = scale.astype(np.float64) ** 2 * square
        away = scale.astype(np.float64) * np.sqrt(rest.astype(np.float64)) * (1 + slack)
        away = (away + 2 * epsilon * np.sqrt(image)) * (1 + OUTWARDS)
        least = image * (1 - slack - 2 * OUTWARDS) - away * away * (1 + 2 * OUTWARDS)
    usable |= largest == 0
    bounds[:, 0], bounds[:, 1], bounds[:, 2] = scale, np.where(usable, away, 0), np.where(usable, least, -np.inf)
    return bool(np.isfinite(filled).all())


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


def search(
    queries: Floats, patterns: Floats, n: int, centre: Floats, words: Integers, bounds: Floats, metric: str,
    allowed: Integers, first: int, best: Floats, indices: Integers,
) -> bool:  # fmt: skip
    """Add patterns to the k best, in place, as `absorb` does without the soft half.

    The codes of queries and patterns rule out most patterns, and only the others are scored.

    Parameters
    ----------
    queries : ndarray, shape (m, d)
        d is at most 4096.
    patterns : ndarray, shape (ceil(n / PANEL), d, PANEL)
        Panels of finite patterns.
    n : int
    centre, words, bounds : ndarray
        The codes of the patterns, as `encode` returns them.
    metric : "euclidean" or "dot"
    allowed : ndarray of uint64, shape (ceil(n / PANEL),) or (0,)
        One bit for each pattern, the first in the lowest: whether to add it. All are added if there are no bits.
    first : int
        The index of the first pattern.
    best : ndarray of float64, shape (m, k)
        k is at least 1.
    indices : ndarray of int64, shape (m, k)

    Returns
    -------
    finite : bool
        Whether all scores were finite in the dtype of the arrays; for "euclidean" it is not checked, and True.
    """
    (m, d), rows, difference, finite = queries.shape, _unpacked(patterns, n), metric == "euclidean", True
    if m == 0:
        return True
    # 1. the codes of the queries
    count = -(-m // PANEL)
    panels, own_words = np.empty((count, d, PANEL), queries.dtype), np.empty((count, words.shape[1], PANEL), np.uint32)
    own_bounds = np.empty((count, 3, PANEL), np.float32)
    pack(queries, panels)
    encode(panels, m, centre if difference else np.zeros_like(centre), own_words, own_bounds)
    integers, (scale, away, rest) = _decoded(own_words, own_bounds, m)
    added = np.unpackbits(allowed.astype("<u8").view(np.uint8), bitorder="little").astype(bool)
    slack, epsilon = 2 * (d + 8) * np.finfo(np.float64).eps, (d + 8) * float(np.finfo(queries.dtype).eps)
    if not difference:  # at least the length of a query and of what its code leaves out; its product with the centre
        wide = queries.astype(np.float64)
        size = np.abs(wide).sum(axis=1)
        reach = np.abs(centre).max() + 128 * float(bounds[:, 0].max())
        offset = wide @ centre.astype(np.float64) + slack * size * reach + d * np.finfo(np.float64).tiny
        length = (np.sqrt((wide * wide).sum(axis=1)) * (1 + slack) + 2 * away) * (1 + OUTWARDS)
        share = (away / np.maximum(length, np.finfo(np.float32).tiny)).max() + 2 * OUTWARDS
        safe = np.isfinite(bounds[:, 2]).all() and size.max() * reach < np.finfo(queries.dtype).max / 8
    for start in range(0, n, TILE):
        tile = slice(start, min(start + TILE, n))
        part = slice(start // PANEL, -(-tile.stop // PANEL))
        # 2. those whose codes are near enough
        other, (other_scale, other_away, other_rest) = _decoded(words[part], bounds[part], tile.stop - start)
        with np.errstate(over="ignore", invalid="ignore"):
            reached = scale[:, None] * other_scale * (integers @ other.T)
            if difference:
                radius = np.sqrt(np.finfo(np.float32).tiny - best[:, -1] * (1 + slack / 2))
                least = rest - radius * (radius + 2 * away) * (1 + OUTWARDS)
                reached = 2 * reached - other_rest + 2 * (radius + away)[:, None] * other_away * (1 + 2 * OUTWARDS)
                near = (reached >= least[:, None]) | ~np.isfinite(radius + rest)[:, None]
            else:
                other_length = np.sqrt(np.abs(other_rest + other_away**2) * (1 + 2 * epsilon + 8 * OUTWARDS))
                reached += length[:, None] * (other_away + share * other_length) * (1 + 4 * OUTWARDS)
                near = (reached >= (best[:, -1] - offset)[:, None]) | ~(np.isfinite(best[:, -1] + rest)[:, None] & safe)
        if len(added):
            near &= added[tile]
        # 3. their scores
        i, j = np.nonzero(near)
        x, p = queries[i], rows[tile][j]
        found = np.zeros(len(i))
        with np.errstate(over="ignore", invalid="ignore"):
            for c in range(d):
                x_c, p_c = x[:, c].astype(np.float64), p[:, c].astype(np.float64)
                found += -((x_c - p_c) ** 2) if difference else x_c * p_c
        finite &= difference or bool(np.abs(found).max(initial=0) <= np.finfo(queries.dtype).max)
        # 4. the k best
        s = np.full(near.shape, -np.inf)
        s[i, j] = found
        j = np.argsort(-s, axis=1, kind="stable")[:, : best.shape[1]]
        _merge_best(best, indices, np.take_along_axis(s, j, axis=1), first + start + j)
    return finite


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


def _decoded(words: Integers, bounds: Floats, n: int) -> tuple[Floats, Floats]:
    """Return the integers (n, ..) of n patterns as floats, and their bounds (3, n)."""
    codes = words[:, :, None] >> _BYTES[:, None] & 255
    integers = codes.reshape(len(words), -1, PANEL).astype(np.float64) - 128
    return _unpacked(integers, n), bounds.transpose(1, 0, 2).reshape(3, -1)[:, :n].astype(np.float64)


def _merge_best(best: Floats, indices: Integers, other: Floats, other_indices: Integers) -> None:
    """Keep the k best of both, in place."""
    both, which = np.hstack([best, other]), np.hstack([indices, other_indices])
    order = np.lexsort((which, -both), axis=1)[:, : best.shape[1]]
    best[:] = np.take_along_axis(both, order, axis=1)
    indices[:] = np.take_along_axis(which, order, axis=1)
