"""LogSumExp that is right in several styles, or wrong by a line or two."""

import numpy as np
import scipy.special

import hopmin

from . import Mutant


def shifted(a, axis=None, keepdims=False):
    """Plain NumPy, in the dtype of a; -inf alone and inf are not subtracted from themselves."""
    top = np.max(a, axis=axis, keepdims=True)
    finite = np.where(np.isfinite(top), top, 0).astype(a.dtype)
    out = np.log(np.exp(a - finite).sum(axis=axis, keepdims=True)) + finite
    out = out.astype(a.dtype.newbyteorder("="))
    return out if keepdims else np.squeeze(out, axis)[()]


def in_double(a, axis=None):
    return np.asarray(shifted(a.astype(float), axis)).astype(a.dtype)[()]


def pairs(a, axis=None):
    """Two by two, from the first to the last."""
    rows = a.reshape(-1) if axis is None else np.moveaxis(a, axis, 0)
    return np.logaddexp.reduce(rows.astype(a.dtype.newbyteorder("=")), axis=0)


def naive(a, axis=None):
    return np.log(np.exp(a).sum(axis=axis))


def without_guard(a, axis=None):
    """-inf - -inf is NaN."""
    top = np.max(a, axis=axis, keepdims=True)
    return np.squeeze(top + np.log(np.exp(a - top).sum(axis=axis, keepdims=True)), axis)[()]


def in_place(a, axis=None):
    top = np.max(a, axis=axis, keepdims=True)
    a -= top
    return np.squeeze(top + np.log(np.exp(a).sum(axis=axis, keepdims=True)), axis)[()]


def one_maximum(a, axis=None):
    """The maximum of all slices, which others underflow at."""
    return a.max() + np.log(np.exp(a - a.max()).sum(axis=axis))


def keeps_axes(a, axis=None, keepdims=False):
    return shifted(a, axis, keepdims=axis is not None)


def last_axis(a, axis=None, keepdims=False):
    return shifted(a, -1 if axis is None else axis, keepdims)


def from_the_front(a, axis=None, keepdims=False):
    """Negative axes are counted from the wrong end."""
    return shifted(a, abs(axis) - (axis < 0) if isinstance(axis, int) else axis, keepdims)


def without_nan(a, axis=None):
    return shifted(np.where(np.isnan(a), -np.inf, a), axis)


def clipped(a, axis=None):
    return shifted(np.clip(a, -700, 700).astype(a.dtype), axis)


def with_epsilon(a, axis=None):
    top = np.max(a, axis=axis, keepdims=True)
    return np.squeeze(top + np.log(np.exp(a - top).sum(axis=axis, keepdims=True) + a.dtype.type(1e-6)), axis)[()]



def in_half(a, axis=None):
    """The number of terms overflows float16."""
    top = a.max()
    return top + np.log(np.exp(a - top).sum(dtype=a.dtype))


def tuple_as_last(a, axis=None, keepdims=False):
    return shifted(a, axis[-1:] if isinstance(axis, tuple) else axis, keepdims)


def keepdims_in_front(a, axis=None, keepdims=False):
    out = shifted(a, axis)
    return np.expand_dims(out, tuple(range(a.ndim)) if axis is None else 0) if keepdims else out


def lse(law, function, origin="natural", dtype=None):
    return Mutant(function, law, origin, dtype)


RIGHT = {
    "hopmin": hopmin.logsumexp, "SciPy": scipy.special.logsumexp, "NumPy": shifted, "in float64": in_double, "in pairs": pairs,
}  # fmt: skip
PROMISES = {"hopmin": ("empty", "long")}
MUTANTS = {
    "no shift": lse("law_logsumexp_value", naive, "rmcgibbo/logsumexp #2"),
    "the maximum plus a constant": lse("law_logsumexp", lambda a, axis=None: np.max(a, axis) + 0.1),
    "the maximum": lse("law_logsumexp_value", lambda a, axis=None: np.max(a, axis)),
    "another base": lse("law_logsumexp", lambda a, axis=None: shifted(a, axis) / np.log(2)),
    "mean instead of sum": lse("law_logsumexp", lambda a, axis=None: shifted(a, axis) - np.log(np.size(a)).astype(a.dtype)),
    "the maximum added twice": lse("law_logsumexp_value", lambda a, axis=None: shifted(a, axis) + np.max(a, axis)),
    "the maximum not added": lse("law_logsumexp_value", lambda a, axis=None: shifted(a, axis) - np.max(a, axis)),
    "shifted by the minimum": lse("law_logsumexp_value", lambda a, axis=None: np.min(a, axis) + naive(a - np.min(a, axis, keepdims=True), axis)),
    "shifted by the mean": lse("law_logsumexp_value", lambda a, axis=None: np.mean(a, axis) + naive(a - np.mean(a, axis, keepdims=True), axis)),
    "clipped at 700": lse("law_logsumexp_value", clipped),
    "an epsilon in the logarithm": lse("law_logsumexp_value", with_epsilon),
    "log1p of the sum": lse("law_logsumexp_value", lambda a, axis=None: np.max(a, axis) + np.log1p(np.exp(a - np.max(a, axis, keepdims=True)).sum(axis))),
    "single precision inside": lse("law_logsumexp_value", lambda a, axis=None: np.asarray(shifted(np.float32(a), axis)).astype(a.dtype)),
    "the first eight": lse("law_logsumexp_value", lambda a, axis=None: shifted(a[:8], axis)),
    "one maximum for all slices": lse("law_logsumexp_axis", one_maximum),
    "the axis ignored": lse("law_logsumexp_axis", lambda a, axis=None: shifted(a)),
    "the last axis for None": lse("law_logsumexp_axis", last_axis),
    "negative axes from the front": lse("law_logsumexp_axis", from_the_front),
    "the axis kept": lse("law_logsumexp_axis", keeps_axes),
    "keepdims ignored": lse("law_logsumexp_axis", lambda a, axis=None, keepdims=False: shifted(a, axis)),
    "keepdims in front": lse("law_logsumexp_axis", keepdims_in_front),
    "the last of two axes": lse("law_logsumexp_axis", tuple_as_last),
    "float64 for float32": lse("law_logsumexp_array", lambda a, axis=None: np.float64(shifted(a, axis))),
    "float32 for float64": lse("law_logsumexp_array", lambda a, axis=None: np.float32(shifted(a, axis))),
    "an array of one": lse("law_logsumexp_array", lambda a, axis=None: np.atleast_1d(shifted(a, axis))),
    "the input changed": lse("law_logsumexp_array", in_place),
    "bytes as they lie": lse("law_logsumexp_array", lambda a, axis=None: shifted(np.frombuffer(a.tobytes(), a.dtype.newbyteorder("=")), axis)),
    "NaN for -inf alone": lse("law_logsumexp_edges", without_guard, "rmcgibbo/logsumexp #2"),
    "NaN left out": lse("law_logsumexp_edges", without_nan),
    "-inf as a large number": lse("law_logsumexp_edges", lambda a, axis=None: shifted(np.nan_to_num(a, nan=np.nan), axis)),
    "an empty sum is 0": lse("law_logsumexp_empty", lambda a, axis=None: shifted(a, axis) if a.size else np.zeros((), a.dtype)),
    "an empty sum raises": lse("law_logsumexp_empty", shifted),
    "no shift in float16": lse("law_logsumexp_value", naive, dtype="float16"),
    "a sum in float16": lse("law_logsumexp_long", in_half, dtype="float16"),
}  # fmt: skip
