"""Laws of energies: `energy(beta)` has value, gradient, hessian, weights, update and guaranteed_decrease."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, Problem, betas, lattice_problems, problems, squared_distances

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

EnergyFactory = Callable[[float], Any]  # beta -> an energy, e.g. the class hopmin.DistanceEnergy


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

    The estimate compares slopes of fourth order: those at half the step, and those from the left and from the right
    alone, one of which is right at a kink or beside one. Where a value is infinite it is NaN.
    """
    with np.errstate(invalid="ignore"):
        at = {step: np.asarray(function(x + step * h * u), float) for step in np.arange(-4, 5) / 2}

        def slope(s: float) -> Array:
            return cast(Array, (8 * (at[s] - at[-s]) - (at[2 * s] - at[-2 * s])) / (12 * s * h))

        def side(s: float) -> Array:
            weights = zip((-25, 48, -36, 16, -3), range(5), strict=True)
            return cast(Array, sum(w * at[i * s] for w, i in weights) / (12 * s * h))

        half = slope(0.5)
        return half, 4 * sum(np.abs(other - half) for other in (slope(1), side(0.5), side(-0.5)))


def _weight_slack(problem: Problem) -> float:
    """Bound the error of a weight: beta times the rounding error of a score, at most 1."""
    x, p, beta = problem
    size = float(np.abs(x).sum(axis=1).max()) * float(np.abs(p).max()) + float(np.abs(p).max()) ** 2
    return float(min(2 * beta * (8 + x.shape[1]) * float(np.finfo(np.result_type(x, p)).eps) * size, 1.0))


def _mean_slack(problem: Problem) -> float:
    """Bound the rounding error of a weighted mean: that of a sum of n terms as large as the patterns, in any order."""
    p = problem.patterns
    return (8 + len(p)) * float(np.finfo(np.result_type(problem.queries, p)).eps) * float(np.abs(p).max())


def _decrease(e: Any, x: Array, updated: Array) -> Array:
    """Return the guaranteed decrease (m,), 0 for an energy that does not guarantee any."""
    return np.asarray(
        e.guaranteed_decrease(x, updated) if hasattr(e, "guaranteed_decrease") else np.zeros(len(x)), float
    )


def _steepness(x: Array, updated: Array, gradient: Array) -> Array:
    """Return |gradient| / |x - T(x)| (m, 1), at least 2: how much the gradient amplifies rounding errors of T(x)."""
    length, steep = (np.linalg.norm(a, axis=1, keepdims=True) for a in (x - updated, gradient))
    return cast(Array, np.maximum(2, np.divide(steep, length, out=np.zeros_like(length), where=length > 0)))


@law("energy", problem=problems())
def law_bounds(energy: EnergyFactory, /, problem: Problem) -> None:
    """g - log(n) / beta <= E <= g, where g is the squared distance to the nearest pattern (proposition 1)."""
    x, p, beta = problem
    g, value = squared_distances(problem).min(axis=1), energy(beta).value(x, p)
    resolution = np.finfo(np.result_type(x, p)).eps
    slack = resolution * (g + math.log(len(p)) / beta) * (4 + x.shape[1])
    at_most(value, g, slack, "E <= g")
    at_most(g - math.log(len(p)) / beta, value, slack, "g - log(n) / beta <= E")


@law("energy", problem=problems())
def law_descent(energy: EnergyFactory, /, problem: Problem) -> None:
    """E(x) - E(T(x)) >= guaranteed_decrease(x, T(x)) for every beta and all patterns; where E(x) = inf it holds.

    An energy without guaranteed_decrease must not increase.
    """
    x, p, beta = problem
    e = energy(beta)
    updated = e.update(x, p)
    least = np.asarray(e.value(updated, p), float) + _decrease(e, x, updated)
    slack = 2 * _dot_slack(problem) + _sensitivity(energy, problem, x) + _sensitivity(energy, problem, updated)
    at_most(least, e.value(x, p), slack, "energy after the update, plus the guaranteed decrease")


@law("energy", problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), seed=st.integers(0, 2**32))
def law_gradient(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """The gradient is the derivative of the value along a random direction, where the value is finite and smooth."""
    (x, p, beta), u, h = _smoothed(problem, seed)
    e = energy(beta)
    slope, error = _differences(lambda x: e.value(x, p), x, u, h)
    known = np.isfinite(error)
    slack = 1e-3 * h + 1e-11 / (beta * h) + error[known]
    close((e.gradient(x, p) * u).sum(axis=1)[known], slope[known], slack, "gradient along a direction")


@law("energy", problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), seed=st.integers(0, 2**32))
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


@law("energy", problem=problems())
def law_gradient_step(energy: EnergyFactory, /, problem: Problem) -> None:
    """The gradient is c (x - T(x)), with the same c for all x: the update is a gradient step of size 1 / c.

    If there is a guaranteed_decrease, it is c / 2 |x - T(x)|^2. Update and gradient may be computed one by one, so that
    both have the errors of a mean of n patterns and of its weights.
    """
    x, p, beta = problem
    e = energy(beta)
    updated, gradient = np.asarray(e.update(x, p), float), np.asarray(e.gradient(x, p), float)
    step = x.astype(float) - updated
    square = float(np.square(step).sum())
    if hasattr(e, "guaranteed_decrease"):
        c = 2 * float(_decrease(e, x, updated.astype(x.dtype)).sum()) / square if square > 1e-30 else 0.0
    else:
        c = float((gradient * step).sum()) / square if square > 1e-30 else 0.0
    resolution, size = np.finfo(np.result_type(x, p)).eps, float(max(np.abs(x).max(), np.abs(p).max()))
    error = (
        16 * resolution * (size + np.abs(step))
        + 2 * _mean_slack(problem)
        + 2 * _weight_slack(problem) * float(np.ptp(p, axis=0).max())
    )
    close(gradient if square > 1e-30 else 0 * gradient, c * step, error * (1 + abs(c)), "gradient and c (x - T(x))")


@law("energy", problem=problems())
def law_descent_direction(energy: EnergyFactory, /, problem: Problem) -> None:
    """The gradient points from T(x) to x, and <gradient, x - T(x)> >= 2 guaranteed_decrease."""
    x, p, beta = problem
    e = energy(beta)
    updated, gradient = e.update(x, p), np.asarray(e.gradient(x, p), float)
    step = x.astype(float) - updated
    resolution, size = np.finfo(np.result_type(x, p)).eps, float(max(np.abs(x).max(), np.abs(p).max()))
    along, square = (gradient * step).sum(axis=1), np.square(step).sum(axis=1)
    length, steep = np.sqrt(square), np.linalg.norm(gradient, axis=1)
    wrong = 2 * _weight_slack(problem) * float(np.linalg.norm(np.ptp(p, axis=0)))
    rounding = 16 * resolution * (size + length) + 2 * _mean_slack(problem) * math.sqrt(x.shape[1]) + wrong
    decrease = _decrease(e, x, updated)
    at_most(2 * decrease, along, rounding * (steep + length), "2 guaranteed_decrease")
    moved = length > 0
    rate, error = (along[moved] / square[moved])[:, None], (rounding * steep)[moved] / length[moved]
    close(gradient[moved], rate * step[moved], error[:, None], "gradient and its component along x - T(x)")


@law("energy", problem=problems(), seed=st.integers(0, 2**32))
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
    close(weights.sum(axis=1), 1.0 - none, resolution * (8 + len(p)), "sum of weights")
    same(updated[none], x.astype(updated.dtype)[none], "update of queries without weights")
    values = np.random.default_rng(seed).normal(size=(len(p), 3)).astype(p.dtype)
    slack = (64 + len(p)) * resolution + _weight_slack(problem)
    close(e.update(x, p, values), weights @ values, slack * np.abs(values).max(), "weighted mean of the values")
    close(updated[~none], (weights @ p)[~none], slack * np.abs(p).max(), "weighted mean of the patterns")
    x, updated = x[~none], updated[~none]
    at_most(p.min(axis=0), updated, _mean_slack(problem), "update >= smallest coordinate of the patterns")
    at_most(updated, p.max(axis=0), _mean_slack(problem), "update <= largest coordinate of the patterns")


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


@law("energy", problem=problems(), seed=st.integers(0, 2**32))
def law_permutation(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """Reordering the patterns reorders the weights and changes nothing else."""
    x, p, beta = problem
    e, order = energy(beta), np.random.default_rng(seed).permutation(len(p))
    resolution = np.finfo(np.result_type(x, p)).eps
    close(e.value(x, p[order]), e.value(x, p), _dot_slack(problem), "energy of reordered patterns")
    slack, error = 2 * _mean_slack(problem), _weight_slack(problem)
    close(e.update(x, p[order]), e.update(x, p), slack + error * np.ptp(p, axis=0), "update of reordered patterns")
    close(
        e.weights(x, p[order]),
        e.weights(x, p)[:, order],
        (16 + len(p)) * resolution + error,
        "weights of reordered patterns",
    )


@law("energy", problem=problems())
def law_duplication(energy: EnergyFactory, /, problem: Problem) -> None:
    """Storing every pattern twice halves every weight and does not change the update."""
    x, p, beta = problem
    e, twice = energy(beta), np.concatenate([p, p])
    resolution = np.finfo(np.result_type(x, p)).eps
    slack, error = 2 * _mean_slack(problem), _weight_slack(problem)
    close(e.update(x, twice), e.update(x, p), slack + error * np.ptp(p, axis=0), "update of duplicated patterns")
    halves = e.weights(x, twice)[:, : len(p)]
    close(2 * halves, e.weights(x, p), (16 + len(p)) * resolution + error, "weights of duplicated patterns")


@law("energy", problem=lattice_problems(), beta=betas(), shift=st.sampled_from([-(2**30), -7, 64, 2**40]))
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


@law("energy", problem=lattice_problems(far=False), beta=betas(), seed=st.integers(0, 2**32))
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


@law("energy", problem=lattice_problems())
def law_large_beta_nearest(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta grows, the update converges to the nearest pattern, or to the mean of the nearest patterns if several."""
    _large_beta(energy, problem, -squared_distances(problem), "nearest pattern")


@law("energy", problem=lattice_problems(far=False))
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


@law("energy", problem=problems(dtypes=("float64",), offsets=(0.0,)))
def law_small_beta_mean(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta goes to 0, every weight converges to 1/n and the update to the mean of the patterns."""
    x, p, _ = problem
    size = float(max(np.abs(x).max(), np.abs(p).max(), 1e-3))
    e = energy(1e-14 / (size * size * x.shape[1]))
    close(e.weights(x, p), np.full((len(x), len(p)), 1 / len(p)), 1e-8 / len(p), "weights as beta -> 0")
    close(e.update(x, p), np.broadcast_to(p.mean(axis=0), x.shape), 1e-8 * size, "update as beta -> 0")
