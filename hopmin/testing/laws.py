"""The laws. Each docstring states an equation; the docstring of the package explains how to use a law.

Comparisons are `<=` with a slack derived from the rounding errors of the quantities compared, in units of the dtype's
resolution. The slack is never fitted to the accuracy of an implementation.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol, cast

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.strategies import Array, Problem, betas, lattice_problems, problems, scores

with needed_by("hopmin.testing", "testing"):
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

Function = Callable[[Array], Any]  # of a vector (n,): softmax, logsumexp
Derivative = Callable[[Array, Array], Any]  # (p, u) -> the derivative of softmax at p along u
EnergyFactory = Callable[[float], Any]  # beta -> an energy, e.g. the class hopmin.DistanceEnergy
Attention = Callable[[Array, Array, Array], Array]  # (q, k, v) -> y, all of shape (T, E)
Search = Callable[[Array, Array, int], tuple[Any, Any]]  # (queries, patterns, k) -> (distances, indices)

# There is no deadline, because machines differ in speed, and only one failure is reported.
SETTINGS = settings(deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))


class Model(Protocol):
    """The methods of a language model that the laws of transformers use."""

    config: Any  # with `vocabulary` and `positions`
    parameters: dict[str, Array]

    def logits(self, tokens: Array) -> Array:
        """Return the logits (B, T, V) of tokens (B, T)."""

    def loss_and_gradients(self, tokens: Array, targets: Array, rng: Any) -> tuple[float, dict[str, Array]]:
        """Return the loss and its gradient by the name of each parameter; dropout is drawn with rng."""


class Law(Protocol):
    """A law: call it with an implementation, or call its `statement` with an implementation and one instance."""

    statement: Callable[..., None]

    def __call__(self, *implementation: Any, examples: int = 100) -> None:
        """Raise AssertionError if the implementation fails on one of the drawn examples."""


def law(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Law]:
    """Make a law of a statement: positional-only parameters are the implementation, the others are drawn."""

    def decorate(statement: Callable[..., None]) -> Law:
        @functools.wraps(statement)
        def judge(*implementation: Any, examples: int = 100) -> None:
            @settings(SETTINGS, max_examples=examples)
            @given(**drawn)
            def holds(**instance: Any) -> None:
                statement(*implementation, **instance)

            holds()

        takes = [p for p in inspect.signature(statement).parameters.values() if p.kind is p.POSITIONAL_ONLY]
        examples = inspect.Parameter("examples", inspect.Parameter.KEYWORD_ONLY, default=100)
        judge.__signature__ = inspect.Signature([*takes, examples])  # type: ignore[attr-defined]
        judge.statement = statement  # type: ignore[attr-defined]
        return cast(Law, judge)

    return decorate


def at_most(left: Any, right: Any, slack: Any, what: str) -> None:
    """Check left <= right + slack elementwise; NaN on either side fails, equal infinities pass."""
    left, right, slack = np.broadcast_arrays(np.asarray(left, float), right, slack)
    with np.errstate(invalid="ignore"):
        excess = np.where(left <= right + slack, -np.inf, left - right - slack)
    excess = np.where(np.isnan(excess), np.inf, excess)
    if excess.size and (worst := np.unravel_index(excess.argmax(), excess.shape)) is not None and excess[worst] > 0:
        place = f" at index {tuple(map(int, worst))}" if worst else ""
        bound = f"{right[worst]:.17g} (tolerance {slack[worst]:.3g})"
        raise AssertionError(f"{what}: {left[worst]:.17g} must be at most {bound}{place}")


def close(actual: Any, expected: Any, slack: Any, what: str) -> None:
    """Check |actual - expected| <= slack elementwise, and that shapes are equal."""
    if np.shape(actual) != np.shape(expected):
        raise AssertionError(f"{what}: shape must be {np.shape(expected)}; got {np.shape(actual)}")
    at_most(actual, expected, slack, what)
    at_most(expected, actual, slack, what)


def same(actual: Any, expected: Any, what: str) -> None:
    """Check that bits, shapes and dtypes are the same."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype != expected.dtype or actual.shape != expected.shape or actual.tobytes() != expected.tobytes():
        raise AssertionError(f"{what}: must be {expected!r}; got {actual!r}")


# Numerics: logsumexp(a) and softmax(a) of a vector


@law(a=scores(10.0), b=scores(1e3), shift=st.floats(-1e3, 1e3))
def law_softmax(logsumexp: Function, softmax: Function, /, a: Array, b: Array, shift: float) -> None:
    """softmax is the gradient of logsumexp; it sums to one, is non-negative, and is invariant to a common shift."""
    h = 1e-5
    for i, p in enumerate(softmax(a)):
        step = h * (np.arange(len(a)) == i)
        # central differences err by h^2 / 6 times the third derivative (below 1/4), and by rounding over h
        close(
            p,
            (logsumexp(a + step) - logsumexp(a - step)) / (2 * h),
            1e-9,
            f"softmax[{i}] and the derivative of logsumexp",
        )
    p = softmax(b)
    at_most(0, p, 0, "softmax >= 0")
    close(math.fsum(p), 1, 1e-15 * len(b), "sum of softmax")
    rounding = np.finfo(float).eps * (4 * (np.abs(b).max() + abs(shift)) + p * (8 + len(b)))  # of b + shift, and of p
    close(softmax(b + shift), p, rounding, "softmax after a shift")


@law(a=scores(), move=scores(), fraction=st.floats(0, 1))
def law_logsumexp(logsumexp: Function, /, a: Array, move: Array, fraction: float) -> None:
    """max a <= LSE(a) <= max a + log n; LSE is convex, and 1-Lipschitz in the maximum norm."""
    b = a + np.resize(move, a.shape)
    slack = 8 * np.finfo(float).eps * (1 + np.abs(a).max() + np.abs(b).max())
    la, lb = logsumexp(a), logsumexp(b)
    at_most(a.max(), la, 0, "max <= logsumexp")
    at_most(la, a.max() + math.log(len(a)), slack, "logsumexp <= max + log n")
    mixed, bound = fraction * a + (1 - fraction) * b, fraction * la + (1 - fraction) * lb
    at_most(logsumexp(mixed), bound, slack, "convexity of logsumexp")
    at_most(abs(la - lb), np.abs(a - b).max(), slack, "Lipschitz bound of logsumexp")


@law(a=scores(700.0))
def law_accuracy(logsumexp: Function, softmax: Function, /, a: Array) -> None:
    """logsumexp and softmax agree with arithmetic of 400 digits, which resolves exp(-700) next to 1 (needs mpmath)."""
    with needed_by("law_accuracy", "testing"):
        import mpmath

    eps = np.finfo(float).eps
    with mpmath.workdps(400):
        terms = [mpmath.exp(mpmath.mpf(float(x))) for x in a]
        total = mpmath.fsum(terms)
        exact = float(mpmath.log(total))
        # relative to the result itself where the maximum dominates the sum: log1p keeps those digits
        close(logsumexp(a), exact, 4 * eps * max(abs(exact), abs(float(a.max()))), "logsumexp at 400 digits")
        p = np.array([float(term / total) for term in terms])
    depth = a.max() - a
    close(softmax(a), p, eps * p * (8 + len(a) + depth) + np.finfo(float).tiny, "softmax at 400 digits")


@law(a=scores(10.0), seed=st.integers(0, 2**32))
def law_softmax_derivative(softmax: Function, derivative: Derivative, /, a: Array, seed: int) -> None:
    """derivative(p, u) = (diag p - p p^T) u = J u is the derivative of softmax along u.

    J is symmetric, and 0 <= <u, J u> <= |u|^2 / 2.
    """
    u, v = np.random.default_rng(seed).normal(size=(2, len(a)))
    h, p = 1e-5, softmax(a)
    close(derivative(p, u), (softmax(a + h * u) - softmax(a - h * u)) / (2 * h), 1e-8, "derivative of softmax")
    close(u @ derivative(p, v), v @ derivative(p, u), 1e-13, "symmetry of the derivative of softmax")
    at_most(0, u @ derivative(p, u), 1e-14, "lower bound of <u, J u>")
    at_most(u @ derivative(p, u), u @ u / 2, 1e-14, "upper bound of <u, J u>")


@law(a=scores(10.0), alpha=st.sampled_from([1.0, 1.5, 2.0, 3.0]) | st.floats(1, 4), shift=st.floats(-1e3, 1e3))
def law_entmax(entmax: Callable[[Array, float], Any], /, a: Array, alpha: float, shift: float) -> None:
    """entmax(a, alpha) maximizes <p, a> + H(p) over distributions p, with H the Tsallis entropy of order alpha.

    The optimality conditions are checked: the marginal value, a minus the logarithm of order alpha of p, is the same
    wherever p > 0 and not larger elsewhere. They are checked for shifted and reversed a, too.
    """
    for b in (a, a + shift, a[::-1]):
        p = np.asarray(entmax(b, alpha))
        at_most(0, p, 0, "entmax >= 0")
        close(math.fsum(p), 1, 2 * np.finfo(float).eps * (2 + len(b)), "sum of entmax")
        at_most(p[np.argsort(b)][:-1], p[np.argsort(b)][1:], 4 * np.finfo(float).eps, "entmax in ascending order of a")
        with np.errstate(divide="ignore"):
            log = np.log(p)
            marginal = b - (np.expm1((alpha - 1) * log) / (alpha - 1) if alpha > 1 else log)
        steep = max(
            1.0, p[p > 0].min() ** (2 - alpha)
        )  # dp/da of the smallest p > 0; the others compensate for its error
        slack = 32 * np.finfo(float).eps * (1 + np.abs(b).max() + np.ptp(b)) * steep
        at_most(marginal[p > 0].max(), marginal[p > 0].min(), slack, "marginal values where entmax > 0")
        at_most(marginal[p == 0], marginal[p > 0].max(), slack, "marginal values where entmax = 0")


# Energies: `energy(beta)` has value, gradient, hessian, weights, update and guaranteed_decrease


def _slack(problem: Problem, ulps: float = 16.0) -> Array:
    """Bound the rounding error (m,) of a squared distance, an energy, or the square of a rounded state, in float64."""
    x, p, beta = problem.queries.astype(float), problem.patterns.astype(float), problem.beta
    resolution = np.finfo(np.result_type(problem.queries, problem.patterns)).eps
    far = np.sqrt(np.square(x[:, None] - p).sum(axis=2).max(axis=1))
    size = max(np.abs(x).max(), np.abs(p).max()) * math.sqrt(x.shape[1])
    slack: Array = ulps * resolution * (far**2 + far * size + math.log(len(p)) / beta) + ulps * (resolution * size) ** 2
    return slack


def _dot_slack(problem: Problem) -> Array:
    """Bound the rounding error (m,) of energies that square positions rather than differences."""
    resolution = np.finfo(np.result_type(problem.queries, problem.patterns)).eps
    size = max(np.abs(problem.queries).max(), np.abs(problem.patterns).max()) ** 2 * problem.patterns.shape[1]
    return cast(Array, _slack(problem) + 32 * resolution * float(size))


def _sensitivity(energy: EnergyFactory, problem: Problem, states: Array) -> Array:
    """Return the change (m,) of the energy when states and beta change by a few units in the last place."""
    _, p, beta = problem
    resolution = 8 * float(np.finfo(np.result_type(problem.queries, p)).eps)
    x, p = states.astype(float), p.astype(float)
    shift = (
        resolution * max(np.abs(x).max(), np.abs(p).max()) * np.cos(np.arange(x.shape[1]))
    )  # not along a symmetry axis
    e, value = energy(beta), np.asarray(energy(beta).value(x, p), float)
    moved = [e.value(x + shift, p), e.value(x - shift, p), energy(beta * (1 + resolution)).value(x, p)]
    with np.errstate(invalid="ignore"):
        change = np.abs(np.array(moved, float) - value).max(axis=0)
    return np.where(np.isnan(change), 0, change)  # NaN where both values are infinite


def _differences(function: Callable[[Array], Array], x: Array, u: Array, h: float) -> tuple[Array, Array]:
    """Return the derivative of function(x) (m, ...) along u by finite differences, and an estimate of its error.

    The estimate is the change when the step is halved. At a kink it is as large as the change of slope; where a value
    is infinite it is NaN.
    """
    with np.errstate(invalid="ignore"):
        at = {step: np.asarray(function(x + step * h * u), float) for step in (-2, -1, -0.5, 0, 0.5, 1, 2)}

        def slope(s: float) -> Array:  # of fourth order
            return cast(Array, (8 * (at[s] - at[-s]) - (at[2 * s] - at[-2 * s])) / (12 * s * h))

        def bend(s: float) -> Array:  # second difference over the step: halves with the step where there is no kink
            return cast(Array, (at[s] - 2 * at[0] + at[-s]) / (s * h))

        return slope(0.5), 4 * (np.abs(slope(1) - slope(0.5)) + np.abs(bend(1) - 2 * bend(0.5)))


def _weight_slack(problem: Problem) -> float:
    """Bound the error of a weight: beta times the rounding error of a score, at most 1/32."""
    x, p, beta = problem
    size = float(np.abs(x).sum(axis=1).max()) * float(np.abs(p).max()) + float(np.abs(p).max()) ** 2
    return float(min(2 * beta * (8 + x.shape[1]) * float(np.finfo(np.result_type(x, p)).eps) * size, 1 / 32))


def _steepness(x: Array, updated: Array, gradient: Array) -> Array:
    """Return |gradient| / |x - T(x)| (m, 1), at least 2: how much the gradient amplifies rounding errors of T(x)."""
    length, steep = (np.linalg.norm(a, axis=1, keepdims=True) for a in (x - updated, gradient))
    return cast(Array, np.maximum(2, np.divide(steep, length, out=np.zeros_like(length), where=length > 0)))


def _squared_distances(problem: Problem) -> Array:
    """Return the squared distances (m, n), summed without rounding."""
    return np.array(
        [
            [math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x, p, strict=True)) for p in problem.patterns]
            for x in problem.queries
        ]
    )


@law(problem=problems())
def law_bounds(energy: EnergyFactory, /, problem: Problem) -> None:
    """g - log(n) / beta <= E <= g, where g is the squared distance to the nearest pattern (proposition 1)."""
    x, p, beta = problem
    g, value = _squared_distances(problem).min(axis=1), energy(beta).value(x, p)
    resolution = np.finfo(np.result_type(x, p)).eps
    slack = resolution * (g + math.log(len(p)) / beta) * (4 + x.shape[1])
    at_most(value, g, slack, "E <= g")
    at_most(g - math.log(len(p)) / beta, value, slack, "g - log(n) / beta <= E")


@law(problem=problems())
def law_descent(energy: EnergyFactory, /, problem: Problem) -> None:
    """E(x) - E(T(x)) >= guaranteed_decrease(x, T(x)) for every beta and all patterns; where E(x) = inf it holds."""
    x, p, beta = problem
    e = energy(beta)
    updated = e.update(x, p)
    least = np.asarray(e.value(updated, p), float) + e.guaranteed_decrease(x, updated)
    slack = 2 * _dot_slack(problem) + _sensitivity(energy, problem, x) + _sensitivity(energy, problem, updated)
    at_most(least, e.value(x, p), slack, "energy after the update, plus the guaranteed decrease")


@law(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), seed=st.integers(0, 2**32))
def law_gradient(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """The gradient is the derivative of the value along a random direction, where the value is finite and smooth."""
    (x, p, beta), u, h = _smoothed(problem, seed)
    e = energy(beta)
    slope, error = _differences(lambda x: e.value(x, p), x, u, h)
    known = np.isfinite(error)
    slack = 1e-3 * h + 1e-11 / (beta * h) + error[known]
    close((e.gradient(x, p) * u).sum(axis=1)[known], slope[known], slack, "gradient along a direction")


@law(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), seed=st.integers(0, 2**32))
def law_hessian(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """The Hessian is symmetric, and the derivative of the gradient along a random direction, where that is smooth."""
    (x, p, beta), u, h = _smoothed(problem, seed)
    e, x = energy(beta), x + 20 * h * np.roll(u, 1, axis=1)  # away from patterns, where there may be a kink
    hessian, gradient = e.hessian(x, p), np.abs(e.gradient(x, p)).max()
    slope, error = _differences(lambda x: e.gradient(x, p), x, u, h)
    known = np.isfinite(e.value(x, p))
    slack = 1e-6 * np.abs(hessian).max() + 1e-11 * (1 + gradient) / h + error[known]
    close((hessian @ u[:, :, None])[known, :, 0], slope[known], slack, "Hessian along a direction")
    close(hessian, hessian.transpose(0, 2, 1), 1e-12 * np.abs(hessian).max(), "symmetry of the Hessian")


def _smoothed(problem: Problem, seed: int) -> tuple[Problem, Array, float]:
    """Return the problem with beta limited by its scale, random unit directions (m, d), and a small step."""
    x, p, beta = problem
    scale = float(max(np.abs(x).max(), np.abs(p).max(), 1e-3))
    u = np.random.default_rng(seed).normal(size=x.shape)
    return Problem(x, p, min(beta, 10 / scale**2)), u / np.linalg.norm(u, axis=1, keepdims=True), 1e-3 * scale


@law(problem=problems())
def law_gradient_step(energy: EnergyFactory, /, problem: Problem) -> None:
    """The gradient is c (x - T(x)), with c = 2 guaranteed_decrease / |x - T(x)|^2.

    The update is a gradient step with the same step size 1 / c for all x.
    """
    x, p, beta = problem
    e = energy(beta)
    step = x.astype(float) - e.update(x, p)
    bound, square = np.asarray(e.guaranteed_decrease(x, e.update(x, p)), float), np.square(step).sum(axis=1)
    c = np.divide(2 * bound, square, out=np.zeros_like(bound), where=square > 1e-30)[:, None]
    resolution, size = np.finfo(np.result_type(x, p)).eps, max(np.abs(x).max(), np.abs(p).max())
    slack = 16 * resolution * (float(size) + np.abs(step)) * (1 + c)
    close(np.where(square[:, None] > 1e-30, e.gradient(x, p), 0), c * step, slack, "gradient and c (x - T(x))")


@law(problem=problems())
def law_descent_direction(energy: EnergyFactory, /, problem: Problem) -> None:
    """The gradient points from T(x) to x, and <gradient, x - T(x)> >= 2 guaranteed_decrease."""
    x, p, beta = problem
    e = energy(beta)
    updated, gradient = e.update(x, p), np.asarray(e.gradient(x, p), float)
    step = x.astype(float) - updated
    resolution, size = np.finfo(np.result_type(x, p)).eps, float(max(np.abs(x).max(), np.abs(p).max()))
    along, square = (gradient * step).sum(axis=1), np.square(step).sum(axis=1)
    length, steep = np.sqrt(square), np.linalg.norm(gradient, axis=1)
    rounding = 16 * resolution * (size + length)
    decrease = np.asarray(e.guaranteed_decrease(x, updated), float)
    at_most(2 * decrease, along, rounding * (steep + length), "2 guaranteed_decrease")
    moved = length > 0
    rate, error = (along[moved] / square[moved])[:, None], (rounding * steep)[moved] / length[moved]
    close(gradient[moved], rate * step[moved], error[:, None], "gradient and its component along x - T(x)")


@law(problem=problems(), seed=st.integers(0, 2**32))
def law_weights(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """Weights are non-negative and sum to one; the update is the weighted mean of the patterns or values.

    The update therefore lies within the range of the patterns. Only where E = inf, all weights may be 0; the update
    then returns the query.
    """
    x, p, beta = problem
    e, resolution = energy(beta), np.finfo(np.result_type(x, p)).eps
    weights, updated = np.asarray(e.weights(x, p), float), e.update(x, p)
    at_most(0, weights, 0, "weights >= 0")
    none = ~weights.any(axis=1)
    same(none, none & np.isposinf(e.value(x, p)), "queries without weights, only where E = inf")
    close(weights.sum(axis=1), 1.0 - none, 4 * resolution * (2 + math.sqrt(len(p))), "sum of weights")
    same(updated[none], x.astype(updated.dtype)[none], "update of queries without weights")
    values = np.random.default_rng(seed).normal(size=(len(p), 3)).astype(p.dtype)
    slack = 64 * resolution + _weight_slack(problem)
    close(e.update(x, p, values), weights @ values, slack * np.abs(values).max(), "weighted mean of the values")
    close(updated[~none], (weights @ p)[~none], slack * np.abs(p).max(), "weighted mean of the patterns")
    x, updated = x[~none], updated[~none]
    at_most(p.min(axis=0), updated, 4 * resolution * np.abs(p).max(), "update >= smallest coordinate of the patterns")
    at_most(updated, p.max(axis=0), 4 * resolution * np.abs(p).max(), "update <= largest coordinate of the patterns")


@law(problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)))
def law_equal_norms(distance: EnergyFactory, dot: EnergyFactory, /, problem: Problem) -> None:
    """0 <= E_dot(beta) - log(n) / beta - E_distance(beta / 2) / 2 <= (max |p|^2 - min |p|^2) / 2.

    This sharpens proposition 2; for patterns of equal norm, the gap is 0.
    """
    x, p, beta = problem
    square = np.square(p).sum(axis=1)
    gap = dot(beta).value(x, p) - math.log(len(p)) / beta - distance(beta / 2).value(x, p) / 2
    at_most(0, gap, _dot_slack(problem), "lower bound of the gap between the energies")
    at_most(gap, np.ptp(square) / 2, _dot_slack(problem), "upper bound of the gap between the energies")
    norms = np.sqrt(square)
    if norms.min() > 0:
        level = Problem(x, p / norms[:, None] * norms[0], beta)
        expected = distance(beta / 2).value(x, level.patterns) / 2 + math.log(len(p)) / beta
        close(dot(beta).value(x, level.patterns), expected, _dot_slack(level), "energies of patterns of equal norm")


@law(problem=problems(), seed=st.integers(0, 2**32))
def law_permutation(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """Reordering the patterns reorders the weights and changes nothing else."""
    x, p, beta = problem
    e, order = energy(beta), np.random.default_rng(seed).permutation(len(p))
    resolution = np.finfo(np.result_type(x, p)).eps
    close(e.value(x, p[order]), e.value(x, p), _dot_slack(problem), "energy of reordered patterns")
    slack, error = 8 * resolution * np.abs(p).max(axis=0), _weight_slack(problem)
    close(e.update(x, p[order]), e.update(x, p), slack + error * np.ptp(p, axis=0), "update of reordered patterns")
    close(e.weights(x, p[order]), e.weights(x, p)[:, order], 16 * resolution + error, "weights of reordered patterns")


@law(problem=problems())
def law_duplication(energy: EnergyFactory, /, problem: Problem) -> None:
    """Storing every pattern twice halves every weight and does not change the update."""
    x, p, beta = problem
    e, twice = energy(beta), np.concatenate([p, p])
    resolution = np.finfo(np.result_type(x, p)).eps
    # a mean of 2n terms of that size, summed one by one, errs by up to that many roundings
    slack, error = (8 + len(twice)) * resolution * np.abs(p).max(axis=0), _weight_slack(problem)
    close(e.update(x, twice), e.update(x, p), slack + error * np.ptp(p, axis=0), "update of duplicated patterns")
    halves = e.weights(x, twice)[:, : len(p)]
    close(2 * halves, e.weights(x, p), 16 * resolution + error, "weights of duplicated patterns")


@law(problem=lattice_problems(), beta=betas(), shift=st.sampled_from([-(2**30), -7, 64, 2**40]))
def law_translation(energy: EnergyFactory, /, problem: Problem, beta: float, shift: int) -> None:
    """Translating queries and patterns together translates the update and does not change energy and gradient.

    The energy stays the same bit for bit, because differences of the drawn coordinates are exact.
    """
    x, p = (a.astype(float) for a in problem[:2])
    e = energy(beta)
    same(e.value(x + shift, p + shift), e.value(x, p), "energy after a translation")
    size = abs(shift) + max(np.abs(x).max(), np.abs(p).max())
    slack = (8 + len(p)) * np.finfo(float).eps * size  # a mean of n terms of that size
    updated, gradient = e.update(x, p), e.gradient(x, p)
    close(e.update(x + shift, p + shift), updated + shift, slack, "update after a translation")
    slack = slack * _steepness(x, updated, gradient)
    close(e.gradient(x + shift, p + shift), gradient, slack, "gradient after a translation")


@law(problem=lattice_problems(far=False), beta=betas(), seed=st.integers(0, 2**32))
def law_rotation(energy: EnergyFactory, /, problem: Problem, beta: float, seed: int) -> None:
    """Rotating queries and patterns together rotates update and gradient and does not change energy and weights.

    The entries of the rotations are multiples of 1/5, so that rotating multiples of 5 is exact.
    """
    x, p = (a.astype(float) for a in problem[:2])
    rng, d = np.random.default_rng(seed), x.shape[1]
    turn = 5 * np.eye(d)[rng.permutation(d)] * rng.choice([-1, 1], d)
    if d > 1:
        turn[:2] = np.array([[3, -4], [4, 3]]) / 5 @ turn[:2]
    e, eps, size = energy(beta), np.finfo(float).eps, 10 * d * max(np.abs(x).max(), np.abs(p).max(), 1)
    before, after = (5 * x, 5 * p), (x @ turn.T, p @ turn.T)
    drift = eps * (32 + 4 * beta * np.abs(before[0] @ before[1].T).max())  # of weights, from rounded beta x . p
    updated, gradient = e.update(*before), e.gradient(*before)
    close(e.value(*after), e.value(*before), 32 * eps * (size**2 + math.log(len(p)) / beta), "energy after a rotation")
    close(e.weights(*after), e.weights(*before), drift, "weights after a rotation")
    slack = (drift + len(p) * eps) * size
    close(e.update(*after), updated @ turn.T / 5, slack, "update after a rotation")
    slack = slack * _steepness(before[0], updated, gradient)
    close(e.gradient(*after), gradient @ turn.T / 5, slack, "gradient after a rotation")


@law(problem=lattice_problems())
def law_large_beta_nearest(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta grows, the update converges to the nearest pattern, or to the mean of the nearest patterns if several."""
    _large_beta(energy, problem, -_squared_distances(problem), "nearest pattern")


@law(problem=lattice_problems(far=False))
def law_large_beta_match(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta grows, the update converges to the pattern with the largest dot product, or to the mean if several."""
    _large_beta(energy, problem, problem.queries.astype(float) @ problem.patterns.T.astype(float), "best match")


def _large_beta(energy: EnergyFactory, problem: Problem, scores: Array, what: str) -> None:
    """Check that the update at beta = 1e4 is the mean of the patterns with the largest score."""
    x, p, _ = problem
    slack = 4 * np.finfo(p.dtype).eps * np.abs(p).max()
    for row, updated, query in zip(scores, energy(1e4).update(x, p), x, strict=True):
        best = p[row == row.max()].astype(float).mean(axis=0)
        close(updated, best, slack, f"update of {query} at beta = 1e4, and its {what}")


@law(problem=problems(dtypes=("float64",), offsets=(0.0,)))
def law_small_beta_mean(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta goes to 0, every weight converges to 1/n and the update to the mean of the patterns."""
    x, p, _ = problem
    size = float(max(np.abs(x).max(), np.abs(p).max(), 1e-3))
    e = energy(1e-14 / (size * size * x.shape[1]))
    close(e.weights(x, p), np.full((len(x), len(p)), 1 / len(p)), 1e-8 / len(p), "weights as beta -> 0")
    close(e.update(x, p), np.broadcast_to(p.mean(axis=0), x.shape), 1e-8 * size, "update as beta -> 0")


# Search: nearest(queries, patterns, k) gives (distances, indices)


@law(problem=lattice_problems(), data=st.data())
def law_nearest(nearest: Search, /, problem: Problem, data: st.DataObject) -> None:
    """Distances and indices are those of exact arithmetic for every k: nearest first, ties by lowest index."""
    x, p, _ = problem
    k = data.draw(st.integers(1, len(p)), label="k")
    distances, indices = nearest(x, p, k)
    for i, query in enumerate(x):
        exact = [sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(query, q, strict=True)) for q in p]
        order = sorted(range(len(p)), key=lambda j: (exact[j], j))[:k]
        same(
            np.asarray(indices)[i].astype(np.int64),
            np.array(order, np.int64),
            f"indices of the patterns nearest to {query}",
        )
        expected = np.sqrt([float(exact[j]) for j in order])
        close(distances[i], expected, np.finfo(p.dtype).eps * expected, f"distances of the patterns nearest to {query}")


@law(problem=problems())
def law_nearest_accuracy(nearest: Search, /, problem: Problem) -> None:
    """Distances of arbitrary floats are accurate, ascending, and belong to the returned indices.

    They are those of real numbers, rounded once to the dtype: distances of float32 arrays must be summed in float64.
    """
    x, p, _ = problem
    distances, indices = nearest(x, p, len(p))
    resolution = np.finfo(np.result_type(x, p)).eps
    exact = np.sqrt(_squared_distances(problem))
    for row, found, true in zip(distances, indices, exact, strict=True):
        same(np.sort(np.asarray(found, np.int64)), np.arange(len(p)), "indices, each exactly once")
        at_most(row[:-1], row[1:], 0, "distances in ascending order")
        slack = (1 + 4 * (np.finfo(float).eps / resolution) * (2 + x.shape[1])) * resolution * true[found]
        close(row, true[found], slack, "distances")


# Functions of queries and patterns


@law(problem=problems())
def law_memory_layout(function: Callable[[Any, Any], Any], /, problem: Problem) -> None:
    """function(queries, patterns) gives the same result for any memory order, strides and writability, and for lists.

    The inputs are not changed.
    """
    x, p, _ = problem
    expected = _tuple(function(x.copy(), p.copy()))

    def strided(a: Array) -> Array:
        return np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3]

    def read_only(a: Array) -> Array:
        a = a.copy()
        a.flags.writeable = False
        return a

    for layout in (np.asfortranarray, strided, read_only):
        a, b = layout(x), layout(p)
        for got, wanted in zip(_tuple(function(a, b)), expected, strict=True):
            same(got, wanted, f"result for {layout.__name__} arrays")
        same(a, x, "queries after the call")
        same(b, p, "patterns after the call")
    if x.dtype == np.float64:
        for got, wanted in zip(_tuple(function(x.tolist(), p.tolist())), expected, strict=True):
            same(got, wanted, "result for lists")


@law(problem=problems())
def law_batching(function: Callable[[Array, Array], Any], /, problem: Problem) -> None:
    """function(queries, patterns) of a batch equals that of its rows; the result of a single query has no axis m."""
    x, p, _ = problem
    resolution = np.finfo(np.result_type(x, p)).eps
    for whole, *rows in zip(_tuple(function(x, p)), *(_tuple(function(row, p)) for row in x), strict=True):
        slack = 16 * resolution * max(np.abs(whole).max(), np.abs(x).max(), np.abs(p).max())
        close(np.stack(rows), whole, slack, "rows one by one, and as a batch")


def _tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


# Transformers


def law_backward(
    layer: Callable[..., tuple[Any, Callable[[Any], Any]]],
    inputs: st.SearchStrategy[tuple[Array, ...]],
    *,
    examples: int = 50,
) -> None:
    """The backward pass is the transpose of the Jacobian J of the forward pass: <u, J v> = <J^T u, v>.

    J v is computed by finite differences, for drawn inputs and random u and v.

    Parameters
    ----------
    layer : callable
        `layer(*inputs)` returns (y, backward), and `backward(dy)` one gradient per input, or a single array.
    inputs : search strategy
        Draws tuples of float64 arrays.
    examples : int
        Number of examples to draw.

    Raises
    ------
    AssertionError
        If a gradient differs from the finite differences, or has another shape than its input.
    """

    @settings(SETTINGS, max_examples=examples)
    @given(inputs, st.integers(0, 2**32))
    def holds(arrays: tuple[Array, ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        y, backward = layer(*arrays)
        u, h = rng.normal(size=np.shape(y)), 1e-6
        gradients = backward(u if np.ndim(y) else float(u))
        for i, gradient in enumerate(_tuple(gradients)):
            if gradient.shape != arrays[i].shape:
                raise AssertionError(f"gradient {i} must have shape {arrays[i].shape}; got {gradient.shape}")
            v = rng.normal(size=arrays[i].shape)
            ahead, behind = ((*arrays[:i], arrays[i] + step * v, *arrays[i + 1 :]) for step in (h, -h))
            forward = float(np.vdot(u, (np.asarray(layer(*ahead)[0]) - layer(*behind)[0]) / (2 * h)))
            scale = np.linalg.norm(u) * (1 + np.linalg.norm(y)) + np.linalg.norm(gradient) * np.linalg.norm(v)
            close(float(np.vdot(gradient, v)), forward, 1e-7 * scale, f"<J^T u, v> for input {i}")

    holds()


@law(seed=st.integers(0, 2**32))
def law_model_gradient(model: Model, /, seed: int) -> None:
    """model.loss_and_gradients(tokens, targets, rng) agrees with finite differences to 1e-6.

    The derivative is taken along a random direction in each of model.parameters (float64, changed and restored);
    `model.config` has vocabulary and positions.
    """
    rng = np.random.default_rng(seed)
    V, T = model.config.vocabulary, model.config.positions
    tokens = rng.integers(0, V, (2, int(rng.integers(1, T + 1))))
    targets = rng.integers(-1, V, tokens.shape)
    targets[0, 0] = 0  # at least one target is counted
    draw = None if rng.random() < 0.5 else seed  # with and without dropout, the mask fixed by its seed
    _, gradients = model.loss_and_gradients(tokens, targets, draw)
    for name, parameter in model.parameters.items():
        direction: Array = rng.normal(size=parameter.shape)
        direction /= np.linalg.norm(direction)
        kept, h = parameter.copy(), 1e-5
        losses = []
        for step in (2, 1, -1, -2):
            parameter[...] = kept + step * h * direction
            losses.append(model.loss_and_gradients(tokens, targets, draw)[0])
        parameter[...] = kept
        slope = (8 * (losses[1] - losses[2]) - (losses[0] - losses[3])) / (12 * h)
        size = np.linalg.norm(gradients[name])
        close(float(np.vdot(gradients[name], direction)), slope, 1e-6 * size + 1e-10, f"gradient of {name}")


@law(seed=st.integers(0, 2**32))
def law_causal(model: Model, /, seed: int) -> None:
    """model.logits(tokens) (B, T, V) at a position is the same bit for bit whatever tokens follow."""
    rng = np.random.default_rng(seed)
    V, T = model.config.vocabulary, model.config.positions
    tokens = rng.integers(0, V, (2, T))
    changed, t = tokens.copy(), int(rng.integers(0, T))
    changed[:, t + 1 :] = rng.integers(0, V, (2, T - t - 1))
    same(model.logits(changed)[:, : t + 1], model.logits(tokens)[:, : t + 1], f"logits up to position {t}")


@law(seed=st.integers(0, 2**32), dtype=st.sampled_from(["float64", "float32"]))
def law_attention_is_update(attention: Attention, energy: EnergyFactory, /, seed: int, dtype: str) -> None:
    """Row t of causal attention(q, k, v) (T, E) is energy(1 / sqrt(E)).update(q[t], k[: t + 1], v[: t + 1])."""
    rng = np.random.default_rng(seed)
    T, E = (int(size) for size in rng.integers(1, 9, 2))
    q, k, v = rng.normal(size=(3, T, E)).astype(dtype) * 10.0 ** rng.integers(-2, 2)
    y, e = attention(q, k, v), energy(1 / math.sqrt(E))
    for t in range(T):
        expected = e.update(q[t], k[: t + 1], v[: t + 1])
        # rounding a score of size s changes its weight by s ulps
        ulps = 16 + 4 * np.abs(q[t] @ k[: t + 1].T).max()
        close(y[t], expected, ulps * np.finfo(dtype).eps * np.abs(v).max(), f"attention at position {t}")
