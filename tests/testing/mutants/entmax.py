"""entmax that is right in several styles, or wrong by a line or two."""

import numpy as np

import hopmin

from . import Mutant
from .softmax import softmax


def bisected(a, alpha, rounds=80):
    """The threshold by bisection, in float64."""
    if alpha == 1:
        return softmax(a)
    b = (alpha - 1) * a.astype(float)

    def p(threshold):
        return np.maximum(b - threshold, 0) ** (1 / (alpha - 1))

    low, high = b.max() - 1, b.max()
    for _ in range(rounds):
        middle = (low + high) / 2
        low, high = (middle, high) if p(middle).sum() >= 1 else (low, middle)
    return (p(low) / p(low).sum()).astype(a.dtype)


def one_and_a_half(a, scale=2, up_to=1):
    """The threshold from the sorted numbers, as in the package entmax; in the dtype of a."""
    b = (a - a.max()) / scale
    down = np.sort(b)[::-1]
    k = np.arange(1, len(a) + 1, dtype=a.dtype)
    mean, square = np.cumsum(down) / k, np.cumsum(down**2) / k
    delta = (up_to - k * (square - mean**2)) / k
    threshold = mean - np.sqrt(np.maximum(delta, 0))
    return np.maximum(b - threshold[(threshold <= down).sum() - 1], 0) ** 2


def sparsemax(a, one=1):
    down = np.sort(a)[::-1]
    k = np.arange(1, len(a) + 1, dtype=a.dtype)
    totals = np.cumsum(down) - one
    size = (k * down > totals).sum()
    return np.maximum(a - totals[size - 1] / size, 0)


def sorted_ones(a, alpha):
    """The special cases by sorting, in float64."""
    special = {1.0: softmax, 1.5: one_and_a_half, 2.0: sparsemax}
    if alpha in special and np.isfinite(a).all():
        return special[alpha](a.astype(float)).astype(a.dtype)
    return bisected(a, alpha)


def unscaled(a, alpha):
    """Clipped and divided by the sum: a distribution with zeros, but another."""
    if alpha == 1:
        return softmax(a)
    p = np.maximum(0, 1 + (alpha - 1) * (a - a.max())) ** (1 / (alpha - 1))
    return p / p.sum()


def in_place(a, alpha):
    a -= a.max()
    return bisected(a, alpha)


def axes(a, alpha, axis=None):
    return hopmin.entmax(a, alpha, axis=axis)


def wrong(law, function, origin="natural", dtype=None):
    return Mutant(function, law, origin, dtype)


RIGHT = {"hopmin": hopmin.entmax, "bisection": bisected, "sorting": sorted_ones}
PROMISES = {"hopmin": ("axis", "limit")}
MUTANTS = {
    "softmax": wrong("law_entmax", lambda a, alpha: softmax(a)),
    "sparsemax": wrong("law_entmax", lambda a, alpha: bisected(a, 2.0)),
    "1.5-entmax": wrong("law_entmax", lambda a, alpha: bisected(a, 1.5)),
    "alpha twice as far from 1": wrong("law_entmax", lambda a, alpha: bisected(a, 2 * alpha - 1)),
    "clipped and divided by the sum": wrong("law_entmax", unscaled),
    "the sum slightly below one": wrong("law_entmax", lambda a, alpha: bisected(a, alpha) * (1 - 32 * np.finfo(a.dtype).eps * len(a))),
    "only the largest": wrong("law_entmax", lambda a, alpha: ((a == a.max()) / (a == a.max()).sum()).astype(a.dtype)),
    "single precision": wrong("law_entmax", lambda a, alpha: bisected(np.float32(a), alpha).astype(a.dtype)),
    "uniform at alpha = 1": wrong("law_entmax", lambda a, alpha: np.full_like(a, 1 / len(a)) if alpha == 1 else bisected(a, alpha), "entmax #23"),
    "five rounds of bisection": wrong("law_entmax", lambda a, alpha: bisected(a, alpha, 5)),
    "not halved": wrong("law_entmax", lambda a, alpha: one_and_a_half(a, 1) if alpha == 1.5 else bisected(a, alpha)),
    "the wrong threshold of sparsemax": wrong(
        "law_entmax", lambda a, alpha: np.maximum(a - (np.sort(a).sum() - 1) / len(a), 0) if alpha == 2 else bisected(a, alpha), "keras #23426"
    ),
    "divided by alpha": wrong("law_entmax", lambda a, alpha: bisected(a / a.dtype.type(alpha), alpha)),
    "the largest eight": wrong("law_entmax", lambda a, alpha: bisected(np.where(a >= np.sort(a)[-8:][0], a, -np.inf), alpha)),
    "zeros of softmax": wrong("law_entmax", lambda a, alpha: (lambda p: np.where(p < 1e-3, 0, p).astype(a.dtype))(softmax(a))),
    "the exponent alpha - 1": wrong("law_entmax", lambda a, alpha: (lambda p: p / p.sum())(bisected(a, alpha) ** a.dtype.type(alpha - 1)) if alpha > 1 else softmax(a)),
    "reversed": wrong("law_entmax", lambda a, alpha: bisected(a, alpha)[::-1]),
    "float64 for float32": wrong("law_entmax_array", lambda a, alpha: bisected(a.astype(float), alpha)),
    "a row": wrong("law_entmax_array", lambda a, alpha: bisected(a, alpha)[None]),
    "the input changed": wrong("law_entmax_array", in_place),
    "NaN for -inf": wrong("law_entmax_edges", lambda a, alpha: bisected(a, alpha) + 0 * a),
    "a weight for -inf": wrong("law_entmax_edges", lambda a, alpha: bisected(np.maximum(a, -1), alpha)),
    "0 for NaN": wrong("law_entmax_edges", lambda a, alpha: np.nan_to_num(bisected(a, alpha))),
    "the axis ignored": wrong("law_entmax_axis", lambda a, alpha, axis=None: axes(a, alpha)),
    "the last axis for None": wrong("law_entmax_axis", lambda a, alpha, axis=None: axes(a, alpha, -1 if axis is None else axis)),
    "the first axis": wrong("law_entmax_axis", lambda a, alpha, axis=None: axes(a, alpha, None if axis is None else 0)),
    "argmax near softmax": wrong("law_entmax_limit", lambda a, alpha: unscaled(a, alpha) if alpha > 1.04 else (a == a.max()) / (a == a.max()).sum()),
    "the power of a large number": wrong(
        "law_entmax_limit", lambda a, alpha: (lambda p: p / p.sum())((1 + (a - a.max()) * (alpha - 1) + 1e-9) ** (1 / (alpha - 1)))
    ),
}  # fmt: skip
