"""softmax that is right in several styles, or wrong by a line or two."""

from types import SimpleNamespace

import numpy as np
import scipy.special

import hopmin

from . import Mutant
from .logsumexp import shifted as logsumexp


def softmax(a, axis=None):
    """Plain NumPy, in the dtype of a."""
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def derivative(p, u):
    return p * (u - p @ u)


def functions(softmax=softmax, logsumexp=logsumexp, softmax_derivative=derivative):
    return SimpleNamespace(softmax=softmax, logsumexp=logsumexp, softmax_derivative=softmax_derivative)


def by_logsumexp(a, axis=None):
    return np.exp(a - logsumexp(a, axis, keepdims=True))


def in_double(a, axis=None):
    return softmax(a.astype(float), axis).astype(a.dtype)


def with_limit(a, axis=None):
    """The limit where one number is inf."""
    top = a.max(axis=axis, keepdims=True)
    e = np.where(np.isposinf(top), np.isposinf(a), np.exp(a - np.where(np.isfinite(top), top, 0)))
    e = np.where(np.isnan(a), np.nan, e).astype(a.dtype)
    return e / e.sum(axis=axis, keepdims=True)


def jacobian(p, u):
    return (np.diag(p) - np.outer(p, p)) @ u


def no_shift(a, axis=None):
    return np.exp(a) / np.exp(a).sum(axis=axis, keepdims=True)


def in_place(a, axis=None):
    a -= a.max(axis=axis, keepdims=True)
    return softmax(a, axis)


def shifted_by(level):
    def shifted(a, axis=None):
        e = np.exp(a - level(a, axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    return shifted


def with_epsilon(a, axis=None):
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return e / (e.sum(axis=axis, keepdims=True) + a.dtype.type(1e-8))


def one_sum(a, axis=None):
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return e / e.sum()


def one_maximum(a, axis=None):
    e = np.exp(a - a.max())
    return e / e.sum(axis=axis, keepdims=True)


def zero_for_nan(a, axis=None):
    return np.nan_to_num(softmax(a, axis))


def quiet(a, axis=None):
    """softmax_one: a zero more in the sum."""
    top = np.maximum(a.max(axis=axis, keepdims=True), 0)
    e = np.exp(a - top)
    return e / (np.exp(-top) + e.sum(axis=axis, keepdims=True))



def wrong(law, function, origin="natural", dtype=None):
    return Mutant(function, law, origin, dtype)


def pair(law, origin="natural", **others):
    return Mutant(functions(**others), law, origin)


RIGHT = {
    "hopmin": hopmin,
    "SciPy": scipy.special,
    "NumPy": functions(),
    "by logsumexp": functions(by_logsumexp),
    "in float64": functions(in_double, softmax_derivative=jacobian),
    "the limit for inf": with_limit,
}
PROMISES = {"hopmin": ("empty", "digits"), "NumPy": ("empty",), "the limit for inf": ("limit",)}
MUTANTS = {
    "uniform": pair("law_softmax", softmax=lambda a, axis=None: np.full_like(a, 1 / a.size)),
    "not normalised": pair("law_softmax", softmax=lambda a, axis=None: np.exp(a - a.max(axis, keepdims=True))),
    "exponents clipped": pair("law_softmax", softmax=lambda a, axis=None: no_shift(np.minimum(a, 700), axis)),
    "of another logsumexp": pair("law_softmax", logsumexp=lambda a, axis=None: logsumexp(2 * a, axis)),
    "two to the power": pair("law_softmax", softmax=lambda a, axis=None: softmax(a * a.dtype.type(np.log(2)), axis)),
    "no shift": wrong("law_softmax_value", no_shift, "pytorch #25110"),
    "shifted by the mean": wrong("law_softmax_value", shifted_by(np.mean)),
    "shifted by the minimum": wrong("law_softmax_value", shifted_by(np.min)),
    "shifted by the largest magnitude": wrong("law_softmax_value", lambda a, axis=None: no_shift(a - np.abs(a).max(axis, keepdims=True), axis)),
    "of -a": wrong("law_softmax_value", lambda a, axis=None: softmax(-a, axis)),
    "squared": wrong("law_softmax_value", lambda a, axis=None: softmax(2 * a, axis)),
    "a fixed temperature": wrong("law_softmax_value", lambda a, axis=None: softmax(a / a.dtype.type(1.01), axis)),
    "an epsilon in the sum": wrong("law_softmax_value", with_epsilon),
    "a zero more in the sum": wrong("law_softmax_value", quiet),
    "argmax": wrong("law_softmax_value", lambda a, axis=None: (a == a.max(axis, keepdims=True)).astype(a.dtype)),
    "rounded to six digits": wrong("law_softmax_value", lambda a, axis=None: np.round(softmax(a, axis), 6)),
    "single precision inside": wrong("law_softmax_value", lambda a, axis=None: softmax(np.float32(a), axis).astype(a.dtype)),
    "the sum of the first eight": wrong(
        "law_softmax_value", lambda a, axis=None: np.exp(a - a.max(axis, keepdims=True)) / np.exp(a - a.max(axis, keepdims=True))[:8].sum(axis, keepdims=True)
    ),
    "one sum for all slices": wrong("law_softmax_axis", one_sum),
    "one maximum for all slices": wrong("law_softmax_axis", one_maximum),
    "the axis ignored": wrong("law_softmax_axis", lambda a, axis=None: softmax(a)),
    "the last axis always": wrong("law_softmax_axis", lambda a, axis=None: softmax(a, -1)),
    "the first axis always": wrong("law_softmax_axis", lambda a, axis=None: softmax(a, 0)),
    "the last axis for None": wrong("law_softmax_axis", lambda a, axis=None: softmax(a, -1 if axis is None else axis)),
    "axis 0 is taken for None": wrong("law_softmax_axis", lambda a, axis=None: softmax(a, axis or None)),
    "negative axes from the front": wrong("law_softmax_axis", lambda a, axis=None: softmax(a, -1 - axis if isinstance(axis, int) and axis < 0 else axis)),
    "the last of two axes": wrong("law_softmax_axis", lambda a, axis=None: softmax(a, axis[-1] if isinstance(axis, tuple) else axis)),
    "the axis moved to the end": wrong("law_softmax_axis", lambda a, axis=None: softmax(a) if axis is None else softmax(np.moveaxis(a, axis, -1), -1)),
    "float64 for float32": wrong("law_softmax_array", lambda a, axis=None: softmax(a.astype(float), axis)),
    "float32 for float64": wrong("law_softmax_array", lambda a, axis=None: softmax(a, axis).astype(np.float32)),
    "a row": wrong("law_softmax_array", lambda a, axis=None: np.atleast_2d(softmax(a, axis))),
    "the input changed": wrong("law_softmax_array", in_place),
    "bytes as they lie": wrong("law_softmax_array", lambda a, axis=None: softmax(np.frombuffer(a.tobytes(), a.dtype.newbyteorder("=")).reshape(a.shape), axis)),
    "0 for NaN": wrong("law_softmax_edges", zero_for_nan),
    "-inf has a weight": wrong("law_softmax_edges", lambda a, axis=None: np.maximum(softmax(a, axis), 1e-30)),
    "NaN where -inf is": wrong("law_softmax_edges", lambda a, axis=None: softmax(a, axis) + 0 * a, "allennlp #890"),
    "all slices NaN": wrong("law_softmax_edges", lambda a, axis=None: softmax(a, axis) + 0 * np.where(np.isinf(a), 0, a).max()),
    "NaN for inf": wrong("law_softmax_limit", softmax, "scipy #23225"),
    "0 for inf": wrong("law_softmax_limit", zero_for_nan, "scipy #23225"),
    "empty slices become one": wrong("law_softmax_empty", lambda a, axis=None: softmax(a, axis) if a.size else np.zeros(1, a.dtype)),
    "no shift in float16": wrong("law_softmax_value", no_shift, dtype="float16"),
    "without log1p": pair("law_accuracy", softmax=hopmin.softmax),
    "in single precision": pair("law_accuracy", logsumexp=hopmin.logsumexp, softmax=lambda a: hopmin.softmax(np.float32(a))),
    "the diagonal alone": pair("law_softmax_derivative", softmax_derivative=lambda p, u: p * (1 - p) * u),
    "without the diagonal": pair("law_softmax_derivative", softmax_derivative=lambda p, u: -p * (p @ u)),
    "fused with a loss": pair("law_softmax_derivative", softmax_derivative=lambda p, u: p - u),
    "the mean for the product": pair("law_softmax_derivative", softmax_derivative=lambda p, u: p * (u - u.mean())),
    "twice": pair("law_softmax_derivative", "fromscratchtoml #65", softmax_derivative=lambda p, u: 2 * derivative(p, u)),
    "its sign flipped": pair("law_softmax_derivative", softmax_derivative=lambda p, u: -derivative(p, u)),
    "of log_softmax": pair("law_softmax_derivative", softmax_derivative=lambda p, u: u - p @ u),
}  # fmt: skip
