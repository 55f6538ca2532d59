"""LogSumExp, softmax and their derivatives: what everything else is made of.

- the soft maximum [`logsumexp`], a convex function within log n of the maximum
- its gradient, a distribution [`softmax`], and the logarithm of that [`log_softmax`]
- the gradient's own derivative [`softmax_derivative`]
- a softmax that can be exactly zero [`entmax`], and the entropy it comes from [`tsallis_entropy`]

Names, defaults and edge cases of the first three are those of `scipy.special`; no finite input overflows or warns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
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

    p_i = max(0, 1 + (alpha - 1) (x_i - tau))^(1 / (alpha - 1)), with tau such that they sum to one (Peters, Niculae and
    Martins 2019, equation 10). alpha = 1 is softmax, 2 the projection onto the simplex (sparsemax); the larger alpha,
    the more entries are exactly 0. The largest entry has p = 1 exactly if and only if all others lie at least
    1 / (alpha - 1) below it.

    Dtype is kept, integers become float64. Infinities as for softmax. Raises TypeError if x is not real, ValueError if
    a slice is empty or alpha is not a finite number >= 1.

    >>> [entmax([-2.0, 0.0, 0.5], alpha).round(4).tolist() for alpha in (1, 1.5, 2)]
    [[0.0486, 0.3592, 0.5922], [0.0, 0.326, 0.674], [0.0, 0.25, 0.75]]
    """
    x, alpha = _check.slices("x", x, axis), _check.order("alpha", alpha)
    if alpha == 1:
        return softmax(x, axis)
    power = 1 / (alpha - 1)
    with np.errstate(all="ignore"):
        u = (alpha - 1) * (x - np.max(x, axis=axis, keepdims=True)).astype(np.float64)
        # With u <= 0 = max u, the sum of (1 + u - tau)^power falls from >= 1 at tau = 0 to <= 1 where n of the largest
        # make one. Newton's steps from the left do not overshoot (alpha <= 2), or give way to halving.
        tau = low = np.zeros(np.sum(u, axis=axis, keepdims=True).shape)
        high = np.full(low.shape, -np.expm1((1 - alpha) * np.log(u.size / low.size)))
        for _ in range(200):
            p = np.exp(power * np.log1p(np.maximum(u - tau, -1)))
            excess = np.sum(p, axis=axis, keepdims=True) - 1
            slope = power * np.sum(np.where(p > 0, p / (1 + u - tau), 0), axis=axis, keepdims=True)
            low, high = np.where(excess >= 0, tau, low), np.where(excess <= 0, tau, high)
            newton = tau + excess / slope
            step = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
            if np.all((np.abs(step - tau) <= np.finfo(float).eps * tau) | np.isnan(step)):
                break
            tau = step
        return (p / np.sum(p, axis=axis, keepdims=True)).astype(x.dtype)[()]


def tsallis_entropy(p: ArrayLike, alpha: float = 1.5, axis: Axis = None) -> Any:
    """H(p) = (1 - sum p_i^alpha) / (alpha (alpha - 1)) of distributions p, in nats for alpha = 1, -sum p_i log p_i.

    From 0, for a single outcome, to (1 - n^(1 - alpha)) / (alpha (alpha - 1)), log n for alpha = 1, if all count alike.
    Raises as `entmax`.

    >>> tsallis_entropy([0.5, 0.5], alpha=1), tsallis_entropy([0.5, 0.5], alpha=2)
    (np.float64(0.6931471805599453), np.float64(0.25))
    """
    p, alpha = _check.slices("p", p, axis), _check.order("alpha", alpha)
    with np.errstate(all="ignore"):
        surprise = -np.log(p) if alpha == 1 else -np.expm1((alpha - 1) * np.log(p)) / (alpha * (alpha - 1))
        return np.sum(np.where(p > 0, p * surprise, 0), axis=axis)
