"""Laws of logsumexp, softmax, log_softmax and entmax.

Slacks are in units of eps, the resolution of the dtype, for n terms: n eps for a sum in any order, eps |a| for every
rounding of a number as large as a, and a few eps for exp, log and a quotient. An exponent that is off by e changes its
exponential by the factor 1 + e. Results may be flushed to zero below the smallest normal number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, Slices, dtypes, laid_out, layouts, scores, slices

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

Function = Callable[..., Any]  # of an array and an axis: softmax, logsumexp, log_softmax
Derivative = Callable[[Array, Array], Any]  # (p, u) -> the derivative of softmax at p along u

_ALL = st.floats(-1e3, 1e3)
_HARD = st.sampled_from([1.0, 1e3, 1e-30, 1e30]).flatmap(scores)
_EDGES = st.lists(st.sampled_from([-np.inf, -np.inf, np.inf, np.nan, -1.0, 0.0, 2.0]), min_size=1, max_size=4)


def _resolution(a: Array) -> float:
    return float(np.finfo(a.dtype).eps)


def _tiny(a: Array) -> float:
    return float(np.finfo(a.dtype).tiny)


def _size(a: Any) -> float:
    return float(np.abs(np.asarray(a, float)).max(initial=0))


def _sum(a: Array, axis: int | None) -> Array:
    """Return the sum over an axis, which is kept, without rounding of the partial sums."""
    axis = tuple(range(a.ndim)) if axis is None else axis  # type: ignore[assignment]
    return np.sum(a.astype(np.longdouble), axis=axis, keepdims=True).astype(float)


def _log_sum_exp(a: Array, axis: int | None = None) -> Array:
    """Return logsumexp in float64 over an axis, which is kept."""
    a = a.astype(float)
    peak = a.max(axis=axis, keepdims=True)
    out: Array = peak + np.log(_sum(np.exp(a - peak), axis))
    return out


def _length(a: Array, axis: int | None) -> int:
    return a.size if axis is None else a.shape[axis]


def _log_slack(a: Array, n: int) -> Any:
    """Bound the error of logsumexp of n terms: that of the sum, and a few roundings of numbers as large as a."""
    return _resolution(a) * (4 + n + 4 * _size(a))


def _check_log_sum_exp(actual: Any, a: Array, axis: int | None, expected: Array, what: str) -> None:
    close(np.asarray(actual, float), expected, _log_slack(a, _length(a, axis)), what)


def _check_softmax(actual: Any, a: Array, axis: int | None, what: str) -> None:
    """Compare with exp(a - LSE(a)); the exponent may be rounded as a number as large as a, or as max a - a."""
    p = np.exp(a.astype(float) - _log_sum_exp(a, axis))
    relative = _resolution(a) * (8 + _length(a, axis) + 4 * _size(a))
    close(np.asarray(actual, float), p, np.expm1(min(relative, 700.0)) * p + _tiny(a), what)


def _check_log_softmax(actual: Any, a: Array, axis: int | None, what: str) -> None:
    close(np.asarray(actual, float), a.astype(float) - _log_sum_exp(a, axis), _log_slack(a, _length(a, axis)), what)


def _takes(function: Function, **options: Any) -> bool:
    """Return whether a function takes the options at all."""
    try:
        function(np.zeros((2, 2)), **options)
    except Exception:
        return False
    return True


def _keeps(function: Function, a: Array, layout: str, reduces: bool = False) -> None:
    """Check that a function keeps dtype and shape, does not change its input, and reads any layout."""
    given = laid_out(a, layout)
    got = np.asarray(function(given))
    same(np.asarray(given, a.dtype), a, "the input after the call")
    shape = () if reduces else a.shape
    if got.dtype.newbyteorder("=") != a.dtype or got.shape != shape:
        raise Violation(
            f"result for {a.dtype} of shape {a.shape}: must be {a.dtype} of shape {shape}; "
            f"got {got.dtype} of shape {got.shape}", "dtype and shape",
        )  # fmt: skip
    slack = _resolution(a) * (8 + a.size + 4 * _size(a))
    close(got.astype(float), np.asarray(function(a.copy()), float), slack, f"result for a {layout} array")


@law("softmax", a=scores(10.0), b=scores(1e3), shift=_ALL)
def law_softmax(logsumexp: Function, softmax: Function, /, a: Array, b: Array, shift: float) -> None:
    """softmax is the gradient of logsumexp; it sums to one, is non-negative, and is invariant to a common shift.

    Central differences with step h err by h^2 / 6 times the third derivative (below 1/4), and by the error of
    logsumexp over h. A sum of n rounded terms errs by n eps, an exponent by eps (|b| + |shift|).
    """
    h, p = _resolution(a) ** (1 / 3), softmax(a)
    same(np.shape(p), np.shape(a), "shape of softmax")
    for i in range(min(len(a), 8)):
        step = (h * (np.arange(len(a)) == i)).astype(a.dtype)
        up, down = a + step, a - step
        slope = (float(logsumexp(up)) - float(logsumexp(down))) / (float(up[i]) - float(down[i]))
        slack = h * h / 12 + _log_slack(a, len(a)) / h
        close(float(p[i]), slope, slack, f"softmax[{i}] and the derivative of logsumexp")
    p = np.asarray(softmax(b), float)
    at_most(0, p, 0, "softmax >= 0")
    close(math.fsum(p), 1, _resolution(b) * (4 + len(b) + 4 * _size(b)), "sum of softmax")
    moved = b + b.dtype.type(shift)
    rounding = _resolution(b) * (4 * (_size(b) + abs(shift)) * 2 + 8 + len(b))
    close(np.asarray(softmax(moved), float), p, np.expm1(min(rounding, 700.0)) * p + _tiny(b), "softmax after a shift")


@law("logsumexp", a=scores(), move=scores(), fraction=st.floats(0, 1))
def law_logsumexp(logsumexp: Function, /, a: Array, move: Array, fraction: float) -> None:
    """max a <= LSE(a) <= max a + log n; LSE is convex, and 1-Lipschitz in the maximum norm.

    Each value of LSE errs by eps (4 + n + 4 |a|), and the mixed point by eps |a|.
    """
    b = (a + np.resize(move, a.shape)).astype(a.dtype)
    slack = 2 * (_log_slack(a, len(a)) + _log_slack(b, len(b)))
    la, lb = float(logsumexp(a)), float(logsumexp(b))
    at_most(float(a.max()), la, _resolution(a) * _size(a), "max <= logsumexp")
    at_most(la, float(a.max()) + math.log(len(a)), slack, "logsumexp <= max + log n")
    mixed = (fraction * a.astype(float) + (1 - fraction) * b.astype(float)).astype(a.dtype)
    bound = fraction * la + (1 - fraction) * lb
    at_most(float(logsumexp(mixed)), bound, slack, "convexity of logsumexp")
    at_most(abs(la - lb), float(np.abs(a.astype(float) - b).max()), slack, "Lipschitz bound of logsumexp")


@law("logsumexp", a=_HARD)
def law_logsumexp_value(logsumexp: Function, /, a: Array) -> None:
    """LSE(a) = log sum_i exp(a_i), up to eps (4 + n + 4 |a|), for any scale that exp alone would overflow at."""
    _check_log_sum_exp(logsumexp(a.copy()), a, None, _log_sum_exp(a).reshape(()), "logsumexp and its definition")


@law("softmax", a=_HARD)
def law_softmax_value(softmax: Function, /, a: Array) -> None:
    """softmax(a)_i = exp(a_i) / sum_j exp(a_j), up to the factor 1 + eps (8 + n + 4 |a|)."""
    _check_softmax(softmax(a.copy()), a, None, "softmax and its definition")


@law("log_softmax", a=_HARD, shift=_ALL)
def law_log_softmax(log_softmax: Function, /, a: Array, shift: float) -> None:
    """log_softmax(a)_i = a_i - LSE(a), finite wherever a is; normalised; invariant to a common shift.

    It errs by eps (4 + n + 4 |a|), which bounds the relative error of its exponentials, too.
    """
    result = np.asarray(log_softmax(a.copy()), float)
    _check_log_softmax(result, a, None, "log_softmax and its definition")
    slack = math.expm1(min(_log_slack(a, len(a)), 700.0)) + 4 * _resolution(a)
    close(math.fsum(np.exp(np.minimum(result, 700.0))), 1.0, slack, "sum of exp(log_softmax)")
    moved = (a + a.dtype.type(shift)).astype(a.dtype)
    slack = _log_slack(a, len(a)) + _log_slack(moved, len(a)) + 4 * _resolution(a) * (abs(shift) + _size(a))
    close(np.asarray(log_softmax(moved), float), result, slack, "log_softmax after a shift")


@law("logsumexp", case=slices(), keepdims=st.booleans())
def law_logsumexp_axis(logsumexp: Function, /, case: Slices, keepdims: bool) -> None:
    """logsumexp(a, axis) is that of each slice, for negative axes and None, and with keepdims, where it is taken."""
    a, axis = case
    expected = _log_sum_exp(a, axis)
    options = {"keepdims": True} if keepdims and _takes(logsumexp, keepdims=True) else {}
    wanted = expected if options else np.squeeze(expected, axis=axis)
    _check_log_sum_exp(logsumexp(a, axis=axis, **options), a, axis, wanted, f"logsumexp along axis {axis}")
    if a.ndim > 1 and _takes(logsumexp, axis=(0, 1)):
        joined = a.reshape(-1, *a.shape[2:])
        wanted = _log_sum_exp(joined, 0)[0]
        _check_log_sum_exp(logsumexp(a, axis=(0, 1)), joined, 0, wanted, "logsumexp along axes (0, 1)")


@law("softmax", case=slices())
def law_softmax_axis(softmax: Function, /, case: Slices) -> None:
    """softmax(a, axis) is that of each slice, for negative axes and None; no slice depends on another's level."""
    a, axis = case
    _check_softmax(softmax(a, axis=axis), a, axis, f"softmax along axis {axis}")
    if a.ndim > 1 and _takes(softmax, axis=(0, 1)):
        joined = a.reshape(-1, *a.shape[2:])
        _check_softmax(np.reshape(softmax(a, axis=(0, 1)), joined.shape), joined, 0, "softmax along axes (0, 1)")


@law("log_softmax", case=slices())
def law_log_softmax_axis(log_softmax: Function, /, case: Slices) -> None:
    """log_softmax(a, axis) is that of each slice, for negative axes and None; none depends on another's level."""
    a, axis = case
    _check_log_softmax(log_softmax(a, axis=axis), a, axis, f"log_softmax along axis {axis}")
    if a.ndim > 1 and _takes(log_softmax, axis=(0, 1)):
        joined = a.reshape(-1, *a.shape[2:])
        got = np.reshape(log_softmax(a, axis=(0, 1)), joined.shape)
        _check_log_softmax(got, joined, 0, "log_softmax along axes (0, 1)")


@law("logsumexp", a=scores(10.0), layout=layouts())
def law_logsumexp_array(logsumexp: Function, /, a: Array, layout: str) -> None:
    """The result has the dtype of a, for any memory layout and byte order; the input is not changed."""
    _keeps(logsumexp, a, layout, reduces=True)


@law("softmax", a=scores(10.0), layout=layouts())
def law_softmax_array(softmax: Function, /, a: Array, layout: str) -> None:
    """The result has dtype and shape of a, for any memory layout and byte order; the input is not changed."""
    _keeps(softmax, a, layout)


@law("log_softmax", a=scores(10.0), layout=layouts())
def law_log_softmax_array(log_softmax: Function, /, a: Array, layout: str) -> None:
    """The result has dtype and shape of a, for any memory layout and byte order; the input is not changed."""
    _keeps(log_softmax, a, layout)


@law("logsumexp", source="rmcgibbo/logsumexp #2", a=_EDGES, others=scores(10.0, dtypes=("float64",)))
def law_logsumexp_edges(logsumexp: Function, /, a: list[float], others: Array) -> None:
    """LSE is NaN if a number is, else inf if one is; -inf adds nothing, and LSE of nothing but -inf is -inf.

    The same holds for each slice, and other slices do not change.
    """
    row = np.array(a)
    _compare_edges(_quietly(logsumexp, row.copy()), _edge_value(a), "logsumexp")
    both = np.stack([row, np.resize(others, row.shape)])
    got = np.asarray(_quietly(logsumexp, both.copy(), axis=1), float)
    _compare_edges(got[:1], [_edge_value(a)], "logsumexp of a row")
    expected = _log_sum_exp(both[1]).reshape(())
    _check_log_sum_exp(got[1], both[1], None, expected, "logsumexp beside a row of infinities or NaN")


@law("logsumexp", promises=("empty",), dtype=dtypes())
def law_logsumexp_empty(logsumexp: Function, /, dtype: str) -> None:
    """The sum of no exponentials is 0, and its logarithm -inf."""
    _compare_edges(_quietly(logsumexp, np.array([], dtype)), -np.inf, "logsumexp of an empty array")


@law("logsumexp", promises=("long",), dtype=dtypes(), n=st.integers(65_521, 70_000), x=st.integers(-9, 9))
def law_logsumexp_long(logsumexp: Function, /, dtype: str, n: int, x: int) -> None:
    """LSE of n equal numbers is x + log(n), also where float16 cannot hold n; sums by pairs err by eps log2(n)."""
    a = np.full(n, x, dtype)
    slack = _resolution(a) * (4 + math.log2(n) + 4 * (abs(x) + math.log(n)))
    close(float(logsumexp(a)), x + math.log(n), slack, "logsumexp of n equal numbers")


@law("softmax", promises=("empty",), dtype=dtypes(), shape=st.sampled_from([(0, 1), (0, 3), (2, 0, 3)]))
def law_softmax_empty(softmax: Function, /, dtype: str, shape: tuple[int, ...]) -> None:
    """softmax of no slices is an empty array of the same shape and dtype."""
    a = np.zeros(shape, dtype)
    same(_quietly(softmax, a, axis=-1), a, "softmax of an empty array")


@law("log_softmax", promises=("empty",), dtype=dtypes(), shape=st.sampled_from([(0, 1), (0, 3), (2, 0, 3)]))
def law_log_softmax_empty(log_softmax: Function, /, dtype: str, shape: tuple[int, ...]) -> None:
    """log_softmax of no slices is an empty array of the same shape and dtype."""
    a = np.zeros(shape, dtype)
    same(_quietly(log_softmax, a, axis=-1), a, "log_softmax of an empty array")


@law("softmax", source="scipy #23225, allennlp #890", a=_EDGES, others=scores(10.0, dtypes=("float64",)))
def law_softmax_edges(softmax: Function, /, a: list[float], others: Array) -> None:
    """-inf has weight 0, and NaN makes its slice NaN; other slices do not change.

    What a slice with inf, or of nothing but -inf, becomes is a legal choice (`law_softmax_limit`).
    """
    row = np.array(a)
    both = np.stack([row, np.resize(others, row.shape)])
    got = np.asarray(_quietly(softmax, both, axis=-1), float)
    _check_softmax(got[1], both[1], None, "softmax beside a row of infinities or NaN")
    if np.isnan(row).any():
        _compare_edges(got[0], np.full(len(row), np.nan), "softmax of a row with NaN")
    elif np.isfinite(row.max()):
        top = np.exp(row - row.max())
        _compare_edges(got[0], top / top.sum(), "softmax of a row with -inf")
        same(got[0][np.isneginf(row)] == 0, np.isneginf(row)[np.isneginf(row)], "weights of -inf that are exactly 0")


@law(
    "softmax", promises=("limit",), source="scipy #23225", a=st.lists(st.floats(-9, 9), max_size=3), i=st.integers(0, 3)
)
def law_softmax_limit(softmax: Function, /, a: list[float], i: int) -> None:
    """The weight of a single inf is 1 and all others are 0: the limit of large numbers."""
    i = min(i, len(a))
    row = np.array([*a[:i], np.inf, *a[i:]])
    _compare_edges(_quietly(softmax, row), (np.arange(len(row)) == i) * 1.0, "softmax of a row with one inf")


@law("log_softmax", a=_EDGES, others=scores(10.0, dtypes=("float64",)))
def law_log_softmax_edges(log_softmax: Function, /, a: list[float], others: Array) -> None:
    """-inf stays -inf, and NaN makes its slice NaN; other slices do not change."""
    row = np.array(a)
    both = np.stack([row, np.resize(others, row.shape)])
    got = np.asarray(_quietly(log_softmax, both, axis=-1), float)
    _check_log_softmax(got[1], both[1], None, "log_softmax beside a row of infinities or NaN")
    if np.isnan(row).any():
        _compare_edges(got[0], np.full(len(row), np.nan), "log_softmax of a row with NaN")
    elif np.isfinite(row.max()):
        _compare_edges(got[0], row - _edge_value(a), "log_softmax of a row with -inf")


def _quietly(function: Function, *arguments: Any, **options: Any) -> Any:
    with np.errstate(all="ignore"):
        return function(*arguments, **options)


def _edge_value(a: list[float]) -> float:
    if any(math.isnan(x) for x in a):
        return math.nan
    peak = max(a)
    return peak if math.isinf(peak) else peak + math.log(math.fsum(math.exp(x - peak) for x in a))


def _compare_edges(actual: Any, expected: Any, what: str) -> None:
    """Compare numbers of order one, infinities and NaN included."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    same(actual.shape, expected.shape, f"shape of {what}")
    same(np.isnan(actual), np.isnan(expected), f"NaN in {what}")
    known = ~np.isnan(expected)
    close(actual[known], expected[known], 16 * np.finfo(float).eps, what)


@law("logsumexp", "softmax", promises=("digits",), a=scores(700.0, dtypes=("float64",)))
def law_accuracy(logsumexp: Function, softmax: Function, /, a: Array) -> None:
    """logsumexp and softmax agree with arithmetic of 400 digits, which resolves exp(-700) next to 1 (needs mpmath).

    logsumexp is judged relative to the result itself: where the maximum dominates the sum, log1p keeps those digits. A
    sum of n terms errs by n eps.
    """
    with needed_by("law_accuracy", "testing"):
        import mpmath

    eps, a = np.finfo(float).eps, a[:8]
    for b in (a, a - a.max()):  # where the largest is 0, the result has the digits of the others alone
        with mpmath.workdps(400):
            terms = [mpmath.exp(mpmath.mpf(float(x))) for x in b]
            total = mpmath.fsum(terms)
            exact = float(mpmath.log(total))
            p = np.array([float(term / total) for term in terms])
        slack = (4 + len(b)) * eps * max(abs(exact), abs(float(b.max())))
        close(logsumexp(b), exact, slack + np.finfo(float).tiny, "logsumexp at 400 digits")
        depth = b.max() - b
        close(softmax(b), p, eps * p * (8 + len(b) + depth) + np.finfo(float).tiny, "softmax at 400 digits")


@law("softmax", needs=("softmax_derivative",), a=scores(10.0), seed=st.integers(0, 2**32))
def law_softmax_derivative(softmax: Function, softmax_derivative: Derivative, /, a: Array, seed: int) -> None:
    """derivative(p, u) = (diag p - p p^T) u = J u is the derivative of softmax along u.

    J is symmetric, and 0 <= <u, J u> <= |u|^2 / 2. A component errs by eps |u| times a few and the n terms of <p, u>.
    """
    u, v = np.random.default_rng(seed).normal(size=(2, len(a))).astype(a.dtype)
    given = softmax(a)
    p = np.asarray(given, float)
    eps, size, wide = _resolution(a), max(_size(u), _size(v)), (8 + len(a)) * _resolution(a)

    def derivative(u: Array) -> Array:
        return np.asarray(softmax_derivative(given, u), float)

    exact = p * (u.astype(float) - math.fsum(p * u.astype(float)))
    close(derivative(u), exact, 4 * wide * size * p + 4 * eps * size * p, "derivative of softmax and its definition")
    slack = 4 * wide * size * size + math.sqrt(len(a)) * _tiny(a)
    wu, wv = u.astype(float), v.astype(float)
    close(wu @ derivative(v), wv @ derivative(u), slack, "symmetry of the derivative of softmax")
    at_most(0, wu @ derivative(u), slack, "lower bound of <u, J u>")
    at_most(wu @ derivative(u), wu @ wu / 2, slack, "upper bound of <u, J u>")
    h = eps ** (1 / 3)
    ends = [(a.astype(float) + t * h * wu).astype(a.dtype) for t in (1, -1)]
    up, down = (np.asarray(softmax(end), float) for end in ends)
    error = h * h * size**3 + (4 * _size(a) + 8 + len(a)) * eps / h
    close(derivative(u), (up - down) / (2 * h), error, "derivative of softmax and finite differences")


@law("entmax", a=scores(10.0), alpha=st.sampled_from([1.0, 1.5, 2.0, 3.0]) | st.floats(1.0625, 4), shift=_ALL)
def law_entmax(entmax: Callable[[Array, float], Any], /, a: Array, alpha: float, shift: float) -> None:
    """entmax(a, alpha) maximizes <p, a> + H(p) over distributions p, with H the Tsallis entropy of order alpha.

    The optimality conditions are checked: the marginal value, a minus the logarithm of order alpha of p, is the same
    wherever p > 0 and not larger elsewhere. They are checked for shifted and reversed a, too, and for orders 1.5 and 2,
    which have algorithms of their own. The smallest p > 0 changes by p^(2 - alpha) with a, and the others compensate
    for its error; a sum of n terms errs by n eps.
    """
    eps = _resolution(a)
    for b, order in ((a, alpha), (a + a.dtype.type(shift), alpha), (a[::-1], alpha), (a, 1.5), (a, 2.0)):
        p, b = np.asarray(entmax(b, order), float), b.astype(float)
        same(p.shape, b.shape, "shape of entmax")
        at_most(0, p, 0, "entmax >= 0")
        close(math.fsum(p), 1, 2 * eps * (2 + len(b)), "sum of entmax")
        at_most(p[np.argsort(b)][:-1], p[np.argsort(b)][1:], 4 * eps, "entmax in ascending order of a")
        with np.errstate(divide="ignore"):
            log = np.log(p)
            marginal = b - (np.expm1((order - 1) * log) / (order - 1) if order > 1 else log)
        steep = max(1.0, p[p > 0].min() ** (2 - order))
        depth = -np.log(p[p > 0].min()) if order < 1.5 else 0  # of exp, whose argument is rounded
        slack = 32 * eps * (1 + np.abs(b).max() + np.ptp(b) + depth + len(b) / 8) * steep
        # where p is subnormal, its last digits are lost
        normal = p > 16 * _tiny(a) / eps
        at_most(marginal[normal].max(), marginal[normal].min(), slack, "marginal values where entmax > 0")
        at_most(marginal[p == 0], marginal[normal].max(), slack + _lost(order, a), "marginal values where entmax = 0")


@law("entmax", promises=("limit",), a=scores(10.0), distance=st.integers(5, 52).map(lambda n: 2.0**-n))
def law_entmax_limit(entmax: Callable[[Array, float], Any], /, a: Array, distance: float) -> None:
    """As alpha goes to 1, entmax goes to softmax: by less than (alpha - 1) (1 + spread of a)^2."""
    p = np.exp(a.astype(float) - _log_sum_exp(a))
    slack = distance * (1 + float(np.ptp(a.astype(float)))) ** 2 + _resolution(a) * (8 + len(a) + 4 * _size(a))
    close(np.asarray(entmax(a, 1 + distance), float), p, slack, "entmax near softmax")


@law("entmax", a=_EDGES, alpha=st.sampled_from([1.5, 1.0, 2.0]))
def law_entmax_edges(entmax: Callable[[Array, float], Any], /, a: list[float], alpha: float) -> None:
    """-inf has weight 0 and changes no other weight; NaN makes all NaN."""
    row = np.array(a)
    if np.isnan(row).any():
        _compare_edges(_quietly(entmax, row, alpha), np.full(len(row), np.nan), "entmax with NaN")
    elif np.isfinite(row.max()):
        expected = np.zeros(len(row))
        expected[np.isfinite(row)] = np.asarray(entmax(row[np.isfinite(row)], alpha), float)
        got = np.asarray(_quietly(entmax, row, alpha), float)
        close(got, expected, 64 * len(row) * np.finfo(float).eps, "entmax with -inf")
        same(got[np.isneginf(row)] == 0, np.isneginf(row)[np.isneginf(row)], "weights of -inf that are exactly 0")


def _lost(alpha: float, a: Array) -> float:
    """Bound the change of the marginal value when p underflows to 0."""
    if alpha == 1:
        return math.inf
    return float((16 * _tiny(a) / _resolution(a)) ** (alpha - 1) / (alpha - 1))


@law("entmax", a=scores(10.0), alpha=st.sampled_from([1.5, 1.0, 2.0]), layout=layouts())
def law_entmax_array(entmax: Callable[[Array, float], Any], /, a: Array, alpha: float, layout: str) -> None:
    """The result has dtype and shape of a, for any memory layout and byte order; the input is not changed."""
    _keeps(lambda b: entmax(b, alpha), a, layout)


@law("entmax", case=slices(10.0, dtypes=("float64",)), alpha=st.sampled_from([1.5, 2.0, 1.25]), promises=("axis",))
def law_entmax_axis(entmax: Function, /, case: Slices, alpha: float) -> None:
    """entmax(a, alpha, axis=axis) is that of each slice, for negative axes and None."""
    a, axis = case
    got = np.asarray(entmax(a, alpha, axis=axis), float)
    same(got.shape, a.shape, "shape of entmax")
    if axis is None:
        close(got, np.reshape(entmax(a.ravel(), alpha), a.shape), 64 * _resolution(a) * a.size, "entmax of all")
        return
    last, moved = np.moveaxis(a, axis, -1), np.moveaxis(got, axis, -1)
    for index in itertools.product(*map(range, last.shape[:-1])):
        slack = 64 * _resolution(a) * last.shape[-1]
        close(moved[index], entmax(last[index].copy(), alpha), slack, f"entmax of slice {index} along axis {axis}")
