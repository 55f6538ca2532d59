"""LogSumExp, softmax and their derivatives, on which the rest of the library is built.

- the soft maximum [`logsumexp`], a convex function within log n of the maximum
- its gradient, a distribution [`softmax`], and the logarithm of that [`log_softmax`]
- the derivative of softmax in a direction [`softmax_derivative`]
- a softmax whose entries can be exactly zero [`entmax`], and the entropy it comes from [`tsallis_entropy`]

`logsumexp`, `softmax` and `log_softmax` have the names, defaults and edge cases of `scipy.special`. No finite input
overflows or raises a warning. Floating-point dtypes are kept, in the machine's byte order; integers become float64.
Half precision is computed in float32 and returned as float16, in which a sum of 65,520 ones would already overflow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Axis, Floats


def logsumexp(a: ArrayLike, axis: Axis = None, b: ArrayLike | None = None, keepdims: bool = False) -> Floats:
    """Return log sum_i b_i exp(a_i), in nats, over the given axes.

    It is convex in a, and max a <= logsumexp(a) <= max a + log n for b = 1 (Niu et al. 2024, appendix C).

    Parameters
    ----------
    a : array_like
        Real numbers, any shape.
    axis : int, tuple of ints or None, default None
        Axis or axes to sum over; all of them by default.
    b : array_like, optional
        Real weights, broadcast against `a`; 1 by default.
    keepdims : bool, default False
        Keep the summed axes, with length one.

    Returns
    -------
    ndarray or scalar
        -inf for an empty sum and where all entries are -inf, inf where one is inf, NaN where an entry is NaN or the
        weighted sum is negative.

    Raises
    ------
    TypeError
        If `a` or `b` is not real.
    numpy.exceptions.AxisError
        If an axis does not exist.

    Examples
    --------
    >>> logsumexp([1000.0, 1000.0])
    np.float64(1000.6931471805599)
    >>> float(logsumexp([0.0, -40.0]))       # no digit is lost close to a single maximum
    4.248354255291589e-18
    """
    (a, dtype), keepdims = _widened(_check.real("a", a)), _check.boolean("keepdims", keepdims)
    sign: Floats | int = 1
    if b is not None:
        b, b_dtype = _widened(_check.real("b", b))
        dtype = np.result_type(dtype, b_dtype)
        a, b = _check.together(a=a, b=b)
        with np.errstate(all="ignore"):
            a, sign = np.where(b == 0, -np.inf, a + np.log(np.abs(b))), np.sign(b)
    axis = _check.axes(axis, a.ndim)
    peak = np.max(a, axis=axis, keepdims=True, initial=-np.inf)
    top = a == peak
    shift = np.where(np.isneginf(peak), 0, peak)  # -inf minus -inf would be NaN
    with np.errstate(all="ignore"):
        # Each maximum adds 1; smaller terms are summed separately, so that log1p keeps all their digits.
        count = np.sum(sign * top, axis=axis, keepdims=True, dtype=a.dtype)
        rest = np.sum(sign * np.exp(np.where(top, -np.inf, a) - shift), axis=axis, keepdims=True, dtype=a.dtype)
        kept = (peak + np.where(count == 1, np.log1p(rest), np.log(count + rest))).astype(dtype, copy=False)
    out: Floats = (kept if keepdims else np.squeeze(kept, axis=axis))[()]
    return out


def softmax(x: ArrayLike, axis: Axis = None) -> Floats:
    """Return exp(x_i) / sum_j exp(x_j), the gradient of logsumexp.

    The weights are positive and sum to one over the given axes. As in SciPy, a slice that contains inf, or nothing but
    -inf, gives NaN. Raises TypeError if x is not real, ValueError if a slice is empty.

    >>> softmax([0.0, np.log(3.0)])
    array([0.25, 0.75])
    """
    x, dtype = _widened(_check.slices("x", x, axis))
    with np.errstate(all="ignore"):
        weights = np.exp(x - np.max(x, axis=axis, keepdims=True))
        out: Floats = weights / np.sum(weights, axis=axis, keepdims=True)
        return out.astype(dtype, copy=False)[()]


def log_softmax(x: ArrayLike, axis: Axis = None) -> Floats:
    """Return x_i - logsumexp(x), the logarithm of softmax, in nats, accurate also where softmax underflows.

    Infinities and errors as for `softmax`, except that finite entries in a slice that contains inf give -inf.

    >>> log_softmax([0.0, -1000.0])
    array([    0., -1000.])
    """
    x, dtype = _widened(_check.slices("x", x, axis))
    peak = np.max(x, axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        shifted = x - np.where(np.isfinite(peak), peak, 0)
        out: Floats = shifted - logsumexp(shifted, axis=axis, keepdims=True)
        return out.astype(dtype, copy=False)[()]


def softmax_derivative(weights: ArrayLike, direction: ArrayLike, axis: Axis = None) -> Floats:
    """Return the derivative of softmax in a direction u, (diag(p) - p p^T) u for p = softmax(x).

    The matrix is symmetric, so the same function propagates a gradient backwards: dx = softmax_derivative(p, dp). Its
    eigenvalues lie between 0 and 1/2, so softmax is 1/2-Lipschitz (Niu et al. 2024, appendix C).

    Parameters
    ----------
    weights : array_like
        p, as `softmax` returns it.
    direction : array_like
        u, broadcast against `weights`.
    axis : int, tuple of ints or None, default None
        Axis or axes over which the weights sum to one.

    Returns
    -------
    ndarray or scalar
        Sums to zero over the given axes.

    Raises
    ------
    TypeError
        If an array is not real.

    Examples
    --------
    >>> softmax_derivative([0.25, 0.75], [1.0, 0.0])
    array([ 0.1875, -0.1875])
    """
    p, p_dtype = _widened(_check.real("weights", weights))
    u, u_dtype = _widened(_check.real("direction", direction))
    p, u = _check.together(weights=p, direction=u)
    axis = _check.axes(axis, p.ndim)
    with np.errstate(all="ignore"):
        out: Floats = p * (u - np.sum(p * u, axis=axis, keepdims=True))
        return out.astype(np.result_type(p_dtype, u_dtype), copy=False)


def entmax(x: ArrayLike, alpha: float = 1.5, axis: Axis = None) -> Floats:
    """Return the distribution p that maximizes <p, x> + H(p), with H the Tsallis entropy of order alpha.

    p_i = max(0, (alpha - 1) (x_i - tau))^(1 / (alpha - 1)), with tau such that the p_i sum to one (Peters, Niculae and
    Martins 2019, equation 10). alpha = 1 is softmax, alpha = 2 the projection onto the simplex (sparsemax); the larger
    alpha, the more entries are exactly 0. The largest entry has p = 1 exactly if and only if all others are at least
    1 / (alpha - 1) smaller.

    Parameters
    ----------
    x : array_like
        Real scores; infinities as for `softmax`.
    alpha : float, default 1.5
        Order of the entropy, finite and at least 1.
    axis : int, tuple of ints or None, default None
        Axis or axes over which p sums to one; all of them by default.

    Returns
    -------
    ndarray or scalar, the shape of `x`
        Accurate to about eps^(1 / (alpha - 1)) for alpha > 2, where small entries are steep functions of x.

    Raises
    ------
    TypeError
        If `x` or `alpha` is not real.
    ValueError
        If a slice is empty, or `alpha` is not a finite number >= 1.

    Examples
    --------
    >>> [entmax([-2.0, 0.0, 0.5], alpha).round(4).tolist() for alpha in (1, 1.5, 2)]
    [[0.0486, 0.3592, 0.5922], [0.0, 0.326, 0.674], [0.0, 0.25, 0.75]]
    """
    (x, dtype), alpha = _widened(_check.slices("x", x, axis)), _check.number("alpha", alpha, "[1, inf)")
    if alpha == 1:
        return softmax(x, axis).astype(dtype, copy=False)
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    kept, last = x.ndim - len(axes), range(-len(axes), 0)
    with np.errstate(all="ignore"):
        moved = np.moveaxis(x.astype(np.float64) - np.max(x, axis=axes, keepdims=True), axes, last)
        below = (alpha - 1) * moved.reshape(math.prod(moved.shape[:kept]), math.prod(moved.shape[kept:]))
        p = _largest_first(below, alpha - 1)
        return np.moveaxis(p.reshape(moved.shape), last, axes).astype(dtype)[()]


def _largest_first(below: Floats, power: float) -> Floats:
    """Return entmax of each row of x (m, n), given below = power (x - max x), by solving for the largest entry q.

    The other entries follow from p^power = q^power + below. The sum of p increases with q, from at most 1 at q = 1/n to
    at least 1 at q = 1, and its slope is at least 1. It is convex in q for power <= 1, so Newton's method from q = 1
    does not overshoot. For power > 1 it is concave, and Newton steps are short where it is steep: they alternate with
    bisection.
    """
    near = ~(below <= -1)  # as q <= 1, all other entries are 0; NaN is kept
    row, below = np.nonzero(near)[0], below[near]
    count = np.count_nonzero(near, axis=1)
    starts = np.cumsum(count) - count
    low, high = 1 / count, np.ones(len(count))
    q = high if power <= 1 else low
    tolerance = 8 * np.finfo(np.float64).eps
    for turn in range(200):
        depth = np.maximum(-1, below * np.minimum(q**-power, np.finfo(np.float64).max)[row])
        ratio = np.exp(np.log1p(depth) / power)  # p / q
        total = np.add.reduceat(ratio, starts)
        excess = q * total - 1
        slope = np.add.reduceat(np.where(ratio > 0, ratio / (1 + depth), 0), starts)
        low, high = np.where(excess < 0, q, low), np.where(excess > 0, q, high)
        newton = q - excess / slope
        taken = (low < newton) & (newton < high) & (power <= 1 or turn % 2 == 0)
        step = np.where(np.abs(excess) > tolerance, np.where(taken, newton, (low + high) / 2), q)
        if (step == q).all():
            break
        q = step
    p = np.zeros(near.shape)
    p[near] = ratio
    out: Floats = p / total[:, None]
    return out


def tsallis_entropy(p: ArrayLike, alpha: float = 1.5, axis: Axis = None) -> Floats:
    """Return the Tsallis entropy of order alpha, H(p) = (1 - sum_i p_i^alpha) / (alpha (alpha - 1)).

    For alpha = 1 it is the Shannon entropy -sum_i p_i log p_i, in nats. It is 0 if one p_i is 1, and largest for the
    uniform distribution: (1 - n^(1 - alpha)) / (alpha (alpha - 1)), or log n for alpha = 1.

    Parameters
    ----------
    p : array_like
        Distributions, each over the given axes.
    alpha : float, default 1.5
        Order of the entropy, finite and at least 1.
    axis : int, tuple of ints or None, default None
        Axis or axes to sum over; all of them by default.

    Returns
    -------
    ndarray or scalar
        NaN where an entry is negative or NaN.

    Raises
    ------
    TypeError
        If `p` or `alpha` is not real.
    ValueError
        If a slice is empty, or `alpha` is not a finite number >= 1.

    Examples
    --------
    >>> tsallis_entropy([0.5, 0.5], alpha=1), tsallis_entropy([0.5, 0.5], alpha=2)
    (np.float64(0.6931471805599453), np.float64(0.25))
    """
    (p, dtype), alpha = _widened(_check.slices("p", p, axis)), _check.number("alpha", alpha, "[1, inf)")
    with np.errstate(all="ignore"):
        surprise = -np.log(p) if alpha == 1 else -np.expm1((alpha - 1) * np.log(p)) / (alpha * (alpha - 1))
        out: Floats = np.sum(np.where(p == 0, 0, p * surprise), axis=axis)
        return out.astype(dtype, copy=False)


def _widened(a: Floats) -> tuple[Floats, np.dtype[Any]]:
    """Return `a` to compute with, half precision as float32, and the dtype of the result, which is that of `a`."""
    return a.astype(np.result_type(a, np.float32), copy=False), np.result_type(a)  # in the machine's byte order
