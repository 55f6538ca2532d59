"""LogSumExp, softmax and their derivatives: what everything else is made of.

- the soft maximum [`logsumexp`], a convex function within log n of the maximum
- its gradient, a distribution [`softmax`], and the logarithm of that [`log_softmax`]
- the gradient's own derivative [`softmax_derivative`]
- a softmax that can be exactly zero [`entmax`], and the entropy it comes from [`tsallis_entropy`]

Names, defaults and edge cases of the first three are those of `scipy.special`; no finite input overflows or warns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import ArrayLike

from hopmin import _check

Axis = int | tuple[int, ...] | None


def logsumexp(a: ArrayLike, axis: Axis = None, b: ArrayLike | None = None, keepdims: bool = False) -> Any:
    """log sum_i b_i exp(a_i), in nats, over the given axes.

    Niu et al. 2024, appendix C: convex in a, and max a <= logsumexp(a) <= max a + log n (b = 1).

    Parameters
    ----------
    a : array of real numbers, any shape; integers become float64, other dtypes are kept
    axis : the axis or axes to sum over; all by default
    b : weights, broadcast against a; where the weighted sum is negative the result is NaN
    keepdims : keep the summed axes with length one

    Returns
    -------
    array or scalar. An empty sum, or one of -inf alone, is -inf; +inf gives +inf; NaN gives NaN.

    Raises
    ------
    TypeError if a or b is not real; numpy.exceptions.AxisError for an axis that is not there.

    >>> logsumexp([1000.0, 1000.0])
    np.float64(1000.6931471805599)
    >>> float(logsumexp([0.0, -40.0]))       # close to a lone maximum no digit is lost
    4.248354255291589e-18
    """
    a = _check.real("a", a)
    sign: Any = 1
    if b is not None:
        a, b = np.broadcast_arrays(a, _check.real("b", b))
        with np.errstate(all="ignore"):
            a, sign = np.where(b == 0, -np.inf, a + np.log(np.abs(b))), np.sign(b)
    peak = np.max(a, axis=axis, keepdims=True, initial=-np.inf)
    top = a == peak
    shift = np.where(np.isneginf(peak), 0, peak)  # -inf minus -inf would be NaN
    with np.errstate(all="ignore"):
        # The maxima count one each; what lies below them is summed apart, so that log1p sees it undisturbed.
        count = np.sum(sign * top, axis=axis, keepdims=True, dtype=a.dtype)
        rest = np.sum(sign * np.exp(np.where(top, -np.inf, a) - shift), axis=axis, keepdims=True, dtype=a.dtype)
        out = peak + np.where(count == 1, np.log1p(rest), np.log(count + rest))
    return (out if keepdims else np.squeeze(out, axis=axis))[()]


def softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """exp(x_i) / sum_j exp(x_j): the gradient of logsumexp, positive and summing to one over the given axes.

    Dtype is kept, integers become float64. As in SciPy a slice that holds +inf, or -inf alone, gives NaN.
    Raises TypeError if x is not real, ValueError if a slice is empty.

    >>> softmax([0.0, np.log(3.0)])
    array([0.25, 0.75])
    """
    x = _check.slices("x", x, axis)
    with np.errstate(all="ignore"):
        weights = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return (weights / np.sum(weights, axis=axis, keepdims=True))[()]


def log_softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """x_i - logsumexp(x): the logarithm of softmax, in nats, with no digit lost where softmax underflows.

    Dtype, infinities and errors as for softmax, but beside a +inf every finite entry is -inf.

    >>> log_softmax([0.0, -1000.0])
    array([    0., -1000.])
    """
    x = _check.slices("x", x, axis)
    peak = np.max(x, axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        shifted = x - np.where(np.isfinite(peak), peak, 0)
        return (shifted - logsumexp(shifted, axis=axis, keepdims=True))[()]


def softmax_derivative(weights: ArrayLike, direction: ArrayLike, axis: Axis = None) -> Any:
    """(diag(p) - p p^T) u for p = softmax(x) and a direction u: how the weights move when x moves along u.

    The matrix is symmetric, so the same function carries a gradient back: dx = softmax_derivative(p, dp).
    It is positive semidefinite and at most one half (Niu et al. 2024, appendix C): softmax is 1/2-Lipschitz.

    >>> softmax_derivative([0.25, 0.75], [1.0, 0.0])
    array([ 0.1875, -0.1875])
    """
    weights, direction = _check.real("weights", weights), _check.real("direction", direction)
    with np.errstate(all="ignore"):
        return weights * (direction - np.sum(weights * direction, axis=axis, keepdims=True))


def entmax(x: ArrayLike, alpha: float = 1.5, axis: Axis = None) -> Any:
    """The distribution p that maximizes <p, x> + H(p), with H the Tsallis entropy of order alpha >= 1.

    p_i = max(0, (alpha - 1) (x_i - tau))^(1 / (alpha - 1)), with tau such that they sum to one (Peters, Niculae and
    Martins 2019, equation 10). alpha = 1 is softmax, 2 the projection onto the simplex (sparsemax); the larger alpha,
    the more entries are exactly 0. The largest entry has p = 1 exactly if and only if all others lie at least
    1 / (alpha - 1) below it.

    Dtype is kept, integers become float64. Infinities as for softmax. Beyond alpha = 2 entries rise from 0 ever more
    steeply, and are known to about eps^(1 / (alpha - 1)). Raises TypeError if x is not real, ValueError if a slice is
    empty or alpha is not a finite number >= 1.

    >>> [entmax([-2.0, 0.0, 0.5], alpha).round(4).tolist() for alpha in (1, 1.5, 2)]
    [[0.0486, 0.3592, 0.5922], [0.0, 0.326, 0.674], [0.0, 0.25, 0.75]]
    """
    x, alpha = _check.slices("x", x, axis), _check.number("alpha", alpha, "[1, inf)")
    if alpha == 1:
        return softmax(x, axis)
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    first, last = x.ndim - len(axes), range(-len(axes), 0)
    with np.errstate(all="ignore"):
        moved = np.moveaxis(x.astype(np.float64) - np.max(x, axis=axes, keepdims=True), axes, last)
        rows = moved.reshape(math.prod(moved.shape[:first]), math.prod(moved.shape[first:]))
        p = _largest_first((alpha - 1) * rows, alpha - 1)
        return np.moveaxis(p.reshape(moved.shape), last, axes).astype(x.dtype)[()]


def _largest_first(below: _check.Array, power: float) -> _check.Array:
    """entmax of rows (m, n), given below = power (x - max x), by its largest entry q: p^power = q^power + below.

    The sum of p grows with q, from at most 1 at q = 1/n to at least 1 at q = 1, and no slower than q. It is convex in q
    for power <= 1, and concave beyond: Newton's steps from the right end do not overshoot. Where the slope is steep
    they are short, so beyond 1 they take turns with halving.
    """
    near = ~(below <= -1)  # as q <= 1, all others are 0; NaN stays
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
    return p / total[:, None]


def tsallis_entropy(p: ArrayLike, alpha: float = 1.5, axis: Axis = None) -> Any:
    """H(p) = (1 - sum p_i^alpha) / (alpha (alpha - 1)) of distributions p, in nats for alpha = 1, -sum p_i log p_i.

    From 0, for a single outcome, to (1 - n^(1 - alpha)) / (alpha (alpha - 1)), log n for alpha = 1, if all count alike.
    NaN, and numbers below 0, give NaN. Raises as `entmax`.

    >>> tsallis_entropy([0.5, 0.5], alpha=1), tsallis_entropy([0.5, 0.5], alpha=2)
    (np.float64(0.6931471805599453), np.float64(0.25))
    """
    p, alpha = _check.slices("p", p, axis), _check.number("alpha", alpha, "[1, inf)")
    with np.errstate(all="ignore"):
        surprise = -np.log(p) if alpha == 1 else -np.expm1((alpha - 1) * np.log(p)) / (alpha * (alpha - 1))
        return np.sum(np.where(p == 0, 0, p * surprise), axis=axis)
