"""The logarithm of softmax that is right in several styles, or wrong by a line or two."""

import numpy as np
import scipy.special

import hopmin

from . import Mutant
from .logsumexp import from_the_front, shifted


def by_logsumexp(a, axis=None):
    return a - shifted(a, axis, keepdims=True)


def log_softmax(a, axis=None):
    """Plain NumPy, in the dtype of a."""
    top = a.max(axis=axis, keepdims=True)
    below = a - np.where(np.isfinite(top), top, 0).astype(a.dtype)
    return below - np.log(np.exp(below).sum(axis=axis, keepdims=True))


def in_double(a, axis=None):
    return log_softmax(a.astype(float), axis).astype(a.dtype)


def without_shift(a, axis=None):
    return a - np.log(np.exp(a).sum(axis=axis, keepdims=True))


def of_softmax(a, axis=None, epsilon=0.0):
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return np.log(e / e.sum(axis=axis, keepdims=True) + a.dtype.type(epsilon))


def in_place(a, axis=None):
    a -= a.max(axis=axis, keepdims=True)
    return log_softmax(a, axis)


def one_maximum(a, axis=None):
    return a - a.max() - np.log(np.exp(a - a.max()).sum(axis=axis, keepdims=True))


def finite(a, axis=None):
    """-inf becomes a large finite number."""
    return np.maximum(log_softmax(a, axis), np.finfo(a.dtype).min)


def wrong(law, function, origin="natural", dtype=None):
    return Mutant(function, law, origin, dtype)


RIGHT = {
    "hopmin": hopmin.log_softmax, "SciPy": scipy.special.log_softmax, "NumPy": log_softmax, "by logsumexp": by_logsumexp,
    "in float64": in_double,
}  # fmt: skip
PROMISES = {"hopmin": ("empty",)}
MUTANTS = {
    "the logarithm of softmax": wrong("law_log_softmax", of_softmax),
    "an epsilon in the logarithm": wrong("law_log_softmax", lambda a, axis=None: of_softmax(a, axis, 1e-9)),
    "no shift": wrong("law_log_softmax", without_shift),
    "the shift not undone in the sum": wrong("law_log_softmax", lambda a, axis=None: a - np.log(np.exp(a - a.max(axis, keepdims=True)).sum(axis, keepdims=True))),
    "the maximum taken off twice": wrong("law_log_softmax", lambda a, axis=None: log_softmax(a, axis) - a.max(axis, keepdims=True)),
    "the maximum for the sum": wrong("law_log_softmax", lambda a, axis=None: a - a.max(axis, keepdims=True)),
    "sign flipped": wrong("law_log_softmax", lambda a, axis=None: -log_softmax(a, axis)),
    "base 2": wrong("law_log_softmax", lambda a, axis=None: log_softmax(a, axis) / a.dtype.type(np.log(2))),
    "softmax": wrong("law_log_softmax", lambda a, axis=None: np.exp(log_softmax(a, axis))),
    "clipped at 700": wrong("law_log_softmax", lambda a, axis=None: log_softmax(np.clip(a, -700, 700), axis)),
    "a mean": wrong("law_log_softmax", lambda a, axis=None: log_softmax(a, axis) + a.dtype.type(np.log(len(a)))),
    "single precision inside": wrong("law_log_softmax", lambda a, axis=None: log_softmax(np.float32(a), axis).astype(a.dtype)),
    "the first eight": wrong("law_log_softmax", lambda a, axis=None: a - shifted(a[:8])),
    "one maximum for all slices": wrong("law_log_softmax_axis", one_maximum),
    "the axis ignored": wrong("law_log_softmax_axis", lambda a, axis=None: log_softmax(a)),
    "the last axis for None": wrong("law_log_softmax_axis", lambda a, axis=None: log_softmax(a, -1 if axis is None else axis)),
    "negative axes from the front": wrong("law_log_softmax_axis", lambda a, axis=None: a - from_the_front(a, axis, True)),
    "the first of two axes": wrong("law_log_softmax_axis", lambda a, axis=None: log_softmax(a, axis[0] if isinstance(axis, tuple) else axis)),
    "flat for None": wrong("law_log_softmax_axis", lambda a, axis=None: log_softmax(a.ravel()) if axis is None else log_softmax(a, axis)),
    "float64 for float32": wrong("law_log_softmax_array", lambda a, axis=None: log_softmax(a.astype(float), axis)),
    "a row": wrong("law_log_softmax_array", lambda a, axis=None: np.atleast_2d(log_softmax(a, axis))),
    "the input changed": wrong("law_log_softmax_array", in_place),
    "finite for -inf": wrong("law_log_softmax_edges", finite),
    "NaN left out": wrong("law_log_softmax_edges", lambda a, axis=None: log_softmax(np.where(np.isnan(a), -np.inf, a), axis)),
    "all slices NaN": wrong("law_log_softmax_edges", lambda a, axis=None: log_softmax(a, axis) + 0 * a.max()),
    "no shift in float16": wrong("law_log_softmax", without_shift, dtype="float16"),
    "empty rows become one": wrong("law_log_softmax_empty", lambda a, axis=None: log_softmax(a, axis) if a.size else np.zeros(1, a.dtype)),
}  # fmt: skip
