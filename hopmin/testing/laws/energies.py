"""Laws of energies: `energy(beta)` has value, and perhaps gradient, hessian, weights, update and guaranteed_decrease.

Most hold for any energy whose update does not raise it. Those that hold only for some are promises: "distance" and
"dot", the formulas of these energies; "step", an update that is a gradient step; "rotation" and "translation", which
change nothing; "duplication" of all patterns, which changes nothing; "nearest" and "match", the pattern that the update
finds as beta grows; "mean", that of all patterns as beta goes to 0; "values", a third argument of update; and "dtype".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, Problem, betas, laid_out, lattice_problems, layouts, problems

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
    dtype = np.finfo(np.result_type(problem.queries, problem.patterns))
    resolution, tiny = dtype.eps, float(dtype.tiny)
    size = max(np.abs(problem.queries).max(), np.abs(problem.patterns).max()) ** 2 * problem.patterns.shape[1]
    return cast(Array, _slack(problem) + 32 * resolution * float(size) + tiny)


def _sensitivity(energy: EnergyFactory, problem: Problem, states: Array) -> Array:
    """Return the change (m,) of the energy when states, and beta, change by the rounding error of a mean."""
    _, p, beta = problem
    resolution = (8 + len(p)) * float(np.finfo(np.result_type(problem.queries, p)).eps)
    x, p = states.astype(float), p.astype(float)
    shift = (
        resolution * max(np.abs(x).max(), np.abs(p).max()) * np.cos(np.arange(x.shape[1]))
    )  # not along a symmetry axis
    e, value = energy(beta), np.asarray(energy(beta).value(x, p), float)
    moved = [e.value(x + shift, p), e.value(x - shift, p), energy(beta * (1 + resolution)).value(x, p)]
    with np.errstate(invalid="ignore"):
        change = np.abs(np.array(moved, float) - value).max(axis=0)
    return np.where(np.isnan(change), 0, change)  # NaN where both values are infinite


def _check_slope(
    actual: Array, function: Callable[[Array], Any], x: Array, u: Array, h: float, noise: Any, what: str
) -> None:
    """Compare with the derivative of function(x) (m, ...) along u, by finite differences with steps h, h / 16, h / 256.

    One step suffices: a kink may be as close as the others. Slopes are of fourth order; their error is estimated from
    slopes at twice the step, and from the left and from the right alone. Where the noise of function(x) is e, they err
    by 3 e / h. Where a value is infinite nothing is compared.
    """
    steps = np.arange(-4, 5) / 2
    sizes = h / np.array([1, 16, 256])
    points = x + np.multiply.outer(np.outer(sizes, steps), u)  # (3, 9, m, d)
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.asarray(function(points.reshape(-1, x.shape[1])), float)
        at = dict(zip(steps, np.moveaxis(values.reshape(3, 9, len(x), *values.shape[1:]), 1, 0), strict=True))
        size = sizes.reshape(3, *[1] * (values.ndim))

        def slope(s: float) -> Array:
            return cast(Array, (8 * (at[s] - at[-s]) - (at[2 * s] - at[-2 * s])) / (12 * s * size))

        def side(s: float) -> Array:
            weights = zip((-25, 48, -36, 16, -3), range(5), strict=True)
            return cast(Array, sum(w * at[i * s] for w, i in weights) / (12 * s * size))

        half = slope(0.5)
        slack = 4 * sum(np.abs(other - half) for other in (slope(1), side(0.5), side(-0.5))) + 3 * noise / size
        excess = np.abs(half - actual) - slack
        best = np.where(np.isnan(excess), np.inf, excess).argmin(axis=0)[None]
    half, slack = (np.take_along_axis(a, best, axis=0)[0] for a in (half, slack))
    known = np.isfinite(slack)
    close(np.asarray(actual, float)[known], half[known], slack[known], what)


def _weight_slack(problem: Problem) -> float:
    """Bound the error of a weight: beta times the rounding error of a score, at most 1."""
    x, p, beta = problem
    size = float(np.abs(x).sum(axis=1).max()) * float(np.abs(p).max()) + float(np.abs(p).max()) ** 2
    return float(min(2 * beta * (8 + x.shape[1]) * float(np.finfo(np.result_type(x, p)).eps) * size, 1.0))


def _mean_slack(problem: Problem) -> float:
    """Bound the rounding error of a weighted mean: that of a sum of n terms as large as the patterns, in any order."""
    p, dtype = problem.patterns, np.finfo(np.result_type(problem.queries, problem.patterns))
    return (8 + len(p)) * float(dtype.eps) * float(np.abs(p).max()) + 4 * float(dtype.tiny)


def _decrease(e: Any, x: Array, updated: Array) -> Array:
    """Return the guaranteed decrease (m,), 0 for an energy that does not guarantee any."""
    return np.asarray(
        e.guaranteed_decrease(x, updated) if hasattr(e, "guaranteed_decrease") else np.zeros(len(x)), float
    )


def _steepness(x: Array, updated: Array, gradient: Array) -> Array:
    """Return |gradient| / |x - T(x)| (m, 1), at least 2: how much the gradient amplifies rounding errors of T(x)."""
    length, steep = (np.linalg.norm(a, axis=1, keepdims=True) for a in (x - updated, gradient))
    return cast(Array, np.maximum(2, np.divide(steep, length, out=np.zeros_like(length), where=length > 0)))


def _squared_distances(problem: Problem) -> Array:
    """Return the squared distances (m, n), rounded once."""
    x, p = (a.astype(np.longdouble) for a in problem[:2])
    return np.array([np.square(row - p).sum(axis=1) for row in x]).astype(float)


def _check_soft_minimum(
    e: Any, problem: Problem, value: Array, costs: Array, sizes: Array, rest: Any, what: str
) -> None:
    """Compare with an energy whose weights are softmax(-beta costs).

    A cost (m, n), as a sum of d products in any order, errs by (8 + d) eps times its size (m, n), and the sum of
    exponentials by n eps. The value errs by the mean error of the costs under the weights, and by that of log(n) / beta
    and the rest of its terms (m,); a weight by beta times the error of its cost and of the value. Numbers below the
    smallest normal one may be flushed to zero.
    """
    x, p, beta = problem
    dtype, (n, d) = np.finfo(np.result_type(x, p)), p.shape
    eps, tiny = float(dtype.eps), float(dtype.tiny)
    low = costs.min(axis=1, keepdims=True)
    w = np.exp(-beta * (costs - low))
    w /= w.sum(axis=1, keepdims=True)
    mean = 2 * eps * ((8 + d) * ((w * sizes).sum(axis=1) + rest + math.log(n) / beta) + n / beta) + tiny / beta + tiny
    close(np.asarray(e.value(x, p), float), value, mean, f"value and that of the {what} energy")
    relative = beta * (2 * eps * (8 + d) * sizes + mean[:, None]) + (8 + n) * eps
    exponents = -beta * (costs - low)  # at least log w
    most = np.exp(np.minimum(exponents + relative, 0))  # a weight that underflows may be off by as much
    slack = np.where(relative < 1, np.expm1(np.minimum(relative, 1)) * w, most) + tiny
    if hasattr(e, "weights"):
        close(np.asarray(e.weights(x, p), float), w, slack, f"weights and those of the {what} energy")
    if hasattr(e, "update"):
        updated = w @ p.astype(float)
        spread = np.array([s @ np.abs(p - row) for s, row in zip(np.minimum(slack, 1), updated, strict=True)])
        error = spread + _mean_slack(problem) + tiny
        close(np.asarray(e.update(x, p), float), updated, error, f"update and that of the {what} energy")
        if hasattr(e, "gradient"):
            c = 2 if what == "distance" else 1
            slack = c * (2 * error + 8 * eps * (np.abs(x) + np.abs(updated)))
            close(np.asarray(e.gradient(x, p), float), c * (x - updated), slack, f"gradient of the {what} energy")


@law("energy", promises=("distance",), source="EpanechnikovDenseAM", problem=problems())
def law_distance_energy(energy: EnergyFactory, /, problem: Problem) -> None:
    """E(x) = -1/beta log sum_i exp(-beta |x - p_i|^2), with the weights, update and gradient of it.

    Squares of differences lose no digits far from the origin: a value errs by (8 + d) eps times the squared distance.
    """
    costs = _squared_distances(problem)
    low = costs.min(axis=1)
    value = low - np.log(np.exp(-problem.beta * (costs - low[:, None])).sum(axis=1)) / problem.beta
    _check_soft_minimum(energy(problem.beta), problem, value, costs, costs, 0, "distance")


@law("energy", promises=("dot",), source="ml-jku/hopfield-layers #14", problem=problems())
def law_dot_energy(energy: EnergyFactory, /, problem: Problem) -> None:
    """E(x) = |x|^2 / 2 - 1/beta log sum_i exp(beta x.p_i) + log(n) / beta + max |p|^2 / 2, and the rest belongs to it.

    Weights are softmax(beta x.p_i), the gradient is x - T(x). A product errs by (8 + d) eps sum_c |x_c p_c|.
    """
    x, p = (a.astype(np.longdouble) for a in problem[:2])
    costs, sizes = (-x @ p.T).astype(float), (np.abs(x) @ np.abs(p).T).astype(float)
    low, squares = costs.min(axis=1), np.square(p).sum(axis=1).max()
    soft = low - np.log(np.exp(-problem.beta * (costs - low[:, None])).mean(axis=1)) / problem.beta
    rest = (np.square(x).sum(axis=1) + squares).astype(float) / 2
    value = (rest.astype(np.longdouble) + soft).astype(float)
    _check_soft_minimum(energy(problem.beta), problem, value, costs, sizes, rest, "dot")


@law("energy", promises=("distance",), problem=problems())
def law_bounds(energy: EnergyFactory, /, problem: Problem) -> None:
    """g - log(n) / beta <= E <= g, where g is the squared distance to the nearest pattern (proposition 1).

    The slack is that of `law_distance_energy`.
    """
    x, p, beta = problem
    (n, d), g = p.shape, _squared_distances(problem).min(axis=1)
    value, resolution = energy(beta).value(x, p), float(np.finfo(np.result_type(x, p)).eps)
    slack = 2 * resolution * ((8 + d) * (g + math.log(n) / beta) + n / beta)
    at_most(value, g, slack, "E <= g")
    at_most(g - math.log(n) / beta, value, slack, "g - log(n) / beta <= E")


def _results(e: Any, x: Array, p: Array) -> dict[str, Array]:
    """Return the results of the methods that the energy has, by name."""
    methods = ("value", "weights", "update", "gradient")
    return {name: np.asarray(getattr(e, name)(x, p)) for name in methods if hasattr(e, name)}


def _errors(energy: EnergyFactory, problem: Problem) -> dict[str, Any]:
    """Bound the errors of `_results`: of sums, and the change if states and beta change by 8 units in the last place.

    Gradients are as steep as the energy is curved.
    """
    x, p, beta = problem
    weight, eps = _weight_slack(problem), float(np.finfo(np.result_type(x, p)).eps)
    mean = 2 * _mean_slack(problem) + weight * np.ptp(p.astype(float), axis=0)
    wide, narrow, e = x.astype(float), p.astype(float), energy(beta)
    shift = 8 * eps * max(np.abs(wide).max(), np.abs(narrow).max()) * np.cos(np.arange(x.shape[1]))
    at_states, m = _results(e, np.concatenate([wide, wide + shift, wide - shift]), narrow), len(x)
    at_beta, found = _results(energy(beta * (1 + 8 * eps)), wide, narrow), {}
    fixed = {"value": 2 * _dot_slack(problem), "weights": (16 + len(p)) * eps + weight, "update": mean}
    for name, results in at_states.items():
        value = results[:m]
        with np.errstate(invalid="ignore"):
            others = (results[m : 2 * m], results[2 * m :], at_beta[name])
            change = sum(np.abs(other - value) for other in others)
            change = 4 * np.where(np.isfinite(change), change, 0)
            change = change + 16 * eps * np.where(np.isfinite(value), np.abs(value), 0)
        if name == "gradient":
            steep = np.abs(value).max() / max(float(np.ptp(narrow)), float(np.abs(wide).max()), 1e-300)
            change = change + max(2.0, steep) * (mean + 16 * eps * np.abs(wide).max())
        found[name] = change + fixed.get(name, 0)
    return found


@law("energy", problem=problems(offsets=(0.0, 1.0)), layout=layouts())
def law_energy_array(energy: EnergyFactory, /, problem: Problem, layout: str) -> None:
    """Results have one row for each query; arguments in any layout and byte order give the same, and do not change.

    Both results may have the errors of the sums in them, and of states and beta that are off by 8 units in the last
    place.
    """
    x, p, beta = problem
    e, m, (n, d) = energy(beta), len(x), p.shape
    shapes = {"value": (m,), "weights": (m, n), "update": (m, d), "gradient": (m, d)}
    plain, errors = _results(e, x.copy(), p.copy()), _errors(energy, problem)
    for name, result in plain.items():
        if result.shape != shapes[name]:
            raise Violation(f"{name} must be of shape {shapes[name]}; got {result.shape}", name)
    for order in (layout, "Fortran"):
        given = [laid_out(a, order) for a in (x, p)]
        for name, result in _results(e, *given).items():
            close(result, plain[name], errors[name], f"{name} for {order} arrays")
        for before, after, name in zip((x, p), given, ("queries", "patterns"), strict=True):
            same(np.asarray(after, before.dtype), before, f"{name} after the calls")


@law("energy", source="faiss #563", problem=problems(offsets=(0.0, 1.0)), i=st.integers(0, 4))
def law_energy_batch(energy: EnergyFactory, /, problem: Problem, i: int) -> None:
    """The results for a query do not depend on the other queries of the batch.

    Results may differ by the slack of `law_energy_array`, because products of matrices sum in another order.
    """
    x, p, _ = problem
    i %= len(x)
    for sharp in (problem, problem._replace(beta=1e3)):  # peaks of the queries then lie far apart
        e, errors = energy(sharp.beta), _errors(energy, sharp)
        together = _results(e, x, p)
        for name, alone in _results(e, x[i : i + 1], p).items():
            slack = np.broadcast_to(errors[name], together[name].shape)[i : i + 1]
            close(alone, together[name][i : i + 1], slack, f"{name} of query {i} alone and in the batch")


@law("energy", seed=st.integers(0, 2**32), n=st.integers(8193, 9000), d=st.integers(1, 3), beta=betas())
def law_energy_blocks(energy: EnergyFactory, /, seed: int, n: int, d: int, beta: float) -> None:
    """The order of thousands of patterns changes nothing, where the last is the nearest of all.

    More than 8192 patterns are several blocks of many implementations. The slack is that of `law_energy_array`.
    """
    p = np.random.default_rng(seed).normal(size=(n, d))
    p[-1] *= 2 + np.linalg.norm(p, axis=1).max() / np.linalg.norm(p[-1])
    problem = Problem(p[-1:] * 0.99, p, beta)
    e, errors = energy(beta), _errors(energy, problem)
    backwards = _results(e, problem.queries, p[::-1])
    for name, result in _results(e, problem.queries, p).items():
        other = backwards[name][:, ::-1] if name == "weights" else backwards[name]
        close(other, result, errors[name], f"{name} with patterns in reverse order")


@law("energy", promises=("dtype",), problem=problems(offsets=(0.0, 1.0)))
def law_energy_dtype(energy: EnergyFactory, /, problem: Problem) -> None:
    """Results have the common dtype of queries and patterns."""
    x, p, beta = problem
    for name, result in _results(energy(beta), x, p).items():
        if result.dtype != np.result_type(x, p):
            raise Violation(f"{name} must be of dtype {np.result_type(x, p)}; got {result.dtype}", name)


@law("energy", needs=("update",), problem=problems())
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


@law(
    "energy", needs=("gradient",), problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)), seed=st.integers(0, 2**32)
)
def law_gradient(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """The gradient is the derivative of the value along a random direction, where the value is finite and smooth.

    The value errs as in `law_descent`, and by 16 eps |E|; the slope of a fourth-order difference by three times that
    over the step, and by its distance from other differences. The gradient itself errs as a mean of n patterns.
    """
    problem, u, h = _smoothed(problem, seed)
    x, p, beta = problem
    e, eps = energy(beta), np.finfo(float).eps
    value, gradient = np.asarray(e.value(x, p), float), np.asarray(e.gradient(x, p), float)
    size = np.abs(gradient).max(axis=1) + np.abs(x).max() + np.abs(p).max()
    noise = _dot_slack(problem) + 16 * eps * np.where(np.isfinite(value), np.abs(value), 0)
    noise += h / 256 * ((64 + len(p)) * eps + 2 * _weight_slack(problem)) * size
    _check_slope((gradient * u).sum(axis=1), lambda x: e.value(x, p), x, u, h, noise, "gradient along a direction")


@law(
    "energy", needs=("gradient", "hessian"), problem=problems(dtypes=("float64",), offsets=(0.0, 1.0)),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def law_hessian(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """The Hessian is symmetric, and the derivative of the gradient along a random direction, where that is smooth.

    The gradient errs by eps times n terms of its size, and the slope by that over the step, as in `law_gradient`.
    """
    problem, u, h = _smoothed(problem, seed)
    p, beta = problem.patterns, problem.beta
    e, x, eps = energy(beta), problem.queries + 20 * h * np.roll(u, 1, axis=1), np.finfo(float).eps  # away from kinks
    known = np.isfinite(e.value(x, p))
    hessian, gradient = np.asarray(e.hessian(x, p), float)[known], np.abs(e.gradient(x, p)).max()
    x, u, largest = x[known], u[known], np.abs(hessian).max(initial=0)
    noise = ((64 + len(p)) * eps + 2 * _weight_slack(problem)) * (gradient + np.abs(x).max(initial=0) + np.abs(p).max())
    noise += h / 256 * 1e-9 * largest
    along = (hessian @ u[:, :, None])[:, :, 0]
    if len(x):
        _check_slope(along, lambda x: e.gradient(x, p), x, u, h, noise, "Hessian along a direction")
    close(hessian, hessian.transpose(0, 2, 1), (64 + len(p)) * eps * largest, "symmetry of the Hessian")


def _smoothed(problem: Problem, seed: int) -> tuple[Problem, Array, float]:
    """Return the problem with beta limited by its scale, random unit directions (m, d), and a small step."""
    x, p, beta = problem
    scale = float(max(np.abs(x).max(), np.abs(p).max(), 1e-3))
    u = np.random.default_rng(seed).normal(size=x.shape)
    return Problem(x, p, min(beta, 10 / scale**2)), u / np.linalg.norm(u, axis=1, keepdims=True), 1e-3 * scale


@law("energy", needs=("update", "gradient"), promises=("step",), problem=problems())
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


@law("energy", needs=("update", "gradient"), problem=problems())
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


@law("energy", needs=("update", "weights"), problem=problems())
def law_weights(energy: EnergyFactory, /, problem: Problem) -> None:
    """Weights are non-negative and sum to one; the update is the weighted mean of the patterns, in their range.

    Where they sum to one E is finite. Only where E = inf, all weights may be 0; the update then returns the query.
    """
    x, p, beta = problem
    e, resolution = energy(beta), np.finfo(np.result_type(x, p)).eps
    weights, updated, value = np.asarray(e.weights(x, p), float), e.update(x, p), np.asarray(e.value(x, p), float)
    at_most(0, weights, 0, "weights >= 0")
    none = ~weights.any(axis=1)
    same(none, np.isposinf(value), "queries without weights, which are those with E = inf")
    close(weights.sum(axis=1), 1.0 - none, resolution * (8 + len(p)), "sum of weights")
    same(updated[none], x.astype(updated.dtype)[none], "update of queries without weights")
    slack = (64 + len(p)) * resolution + _weight_slack(problem)
    close(updated[~none], (weights @ p)[~none], slack * np.abs(p).max(), "weighted mean of the patterns")
    x, updated = x[~none], updated[~none]
    at_most(p.min(axis=0), updated, _mean_slack(problem), "update >= smallest coordinate of the patterns")
    at_most(updated, p.max(axis=0), _mean_slack(problem), "update <= largest coordinate of the patterns")


@law("energy", needs=("update", "weights"), promises=("values",), problem=problems(), seed=st.integers(0, 2**32))
def law_values(energy: EnergyFactory, /, problem: Problem, seed: int) -> None:
    """update(queries, patterns, values) is the mean of the values (n, v) with the weights of the patterns."""
    x, p, beta = problem
    e, resolution = energy(beta), np.finfo(np.result_type(x, p)).eps
    values = np.random.default_rng(seed).normal(size=(len(p), 3)).astype(p.dtype)
    slack = (64 + len(p)) * resolution + _weight_slack(problem)
    expected = np.asarray(e.weights(x, p), float) @ values
    close(e.update(x, p, values), expected, slack * np.abs(values).max(), "weighted mean of the values")


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
    """Reordering the patterns reorders the weights and changes nothing else, up to the slack of `law_energy_array`."""
    x, p, beta = problem
    e, order = energy(beta), np.random.default_rng(seed).permutation(len(p))
    before, after, errors = _results(e, x, p), _results(e, x, p[order]), _errors(energy, problem)
    for name, result in before.items():
        if name == "weights":
            result, errors[name] = result[:, order], np.broadcast_to(errors[name], result.shape)[:, order]
        close(after[name], result, errors[name], f"{name} with patterns reordered")


@law("energy", needs=("update",), promises=("duplication",), problem=problems())
def law_duplication(energy: EnergyFactory, /, problem: Problem) -> None:
    """Storing every pattern twice halves every weight and does not change the update, up to rounding of both."""
    x, p, beta = problem
    e, twice = energy(beta), np.concatenate([p, p])
    errors = _errors(energy, Problem(x, twice, beta))
    close(e.update(x, twice), e.update(x, p), 2 * errors["update"], "update of duplicated patterns")
    if hasattr(e, "weights"):
        halves = np.asarray(e.weights(x, twice), float)[:, : len(p)]
        slack = 2 * errors["weights"][:, : len(p)]
        close(2 * halves, e.weights(x, p), 2 * slack, "weights of duplicated patterns")


@law(
    "energy", needs=("update", "gradient"), promises=("translation",), problem=lattice_problems(), beta=betas(),
    shift=st.sampled_from([-(2**30), -7, 64, 2**40]),
)  # fmt: skip
def law_translation(energy: EnergyFactory, /, problem: Problem, beta: float, shift: int) -> None:
    """Translating queries and patterns together translates the update and does not change energy and gradient.

    Differences of the drawn coordinates are exact, so only the sums of d squares and of n exponentials are rounded.
    """
    x, p = (a.astype(float) for a in problem[:2])
    e, (n, d), before = energy(beta), p.shape, np.asarray(energy(beta).value(x, p), float)
    most = _squared_distances(problem).min(axis=1) + math.log(n) / beta
    most += np.where(np.isfinite(before), np.abs(before), 0)
    error = 2 * np.finfo(float).eps * ((8 + d) * most + n / beta)
    close(e.value(x + shift, p + shift), before, error, "energy after a translation")
    size = abs(shift) + max(np.abs(x).max(), np.abs(p).max())
    slack = (8 + len(p)) * np.finfo(float).eps * size  # a mean of n terms of that size
    updated, gradient = e.update(x, p), e.gradient(x, p)
    close(e.update(x + shift, p + shift), updated + shift, slack, "update after a translation")
    slack = slack * _steepness(x, updated, gradient)
    close(e.gradient(x + shift, p + shift), gradient, slack, "gradient after a translation")


@law(
    "energy", needs=("update", "weights", "gradient"), promises=("rotation",), problem=lattice_problems(far=False),
    beta=betas(), seed=st.integers(0, 2**32),
)  # fmt: skip
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


@law("energy", needs=("update",), promises=("nearest",), problem=lattice_problems())
def law_large_beta_nearest(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta grows, the update converges to the nearest pattern, or to the mean of the nearest patterns if several."""
    _large_beta(energy, problem, -_squared_distances(problem), "nearest pattern")


@law("energy", needs=("update",), promises=("match",), problem=lattice_problems(far=False))
def law_large_beta_match(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta grows, the update converges to the pattern with the largest dot product, or to the mean if several."""
    queries = np.concatenate([problem.queries, 0 * problem.queries[:1]])  # all products with the last one are equal
    problem = problem._replace(queries=queries)
    _large_beta(energy, problem, problem.queries.astype(float) @ problem.patterns.T.astype(float), "best match")


def _large_beta(energy: EnergyFactory, problem: Problem, scores: Array, what: str) -> None:
    """Check that the update at beta = 1e4 is the mean of the patterns with the largest score."""
    x, p, _ = problem
    slack = _mean_slack(problem)
    for row, updated, query in zip(scores, energy(1e4).update(x, p), x, strict=True):
        best = p[row == row.max()].astype(float).mean(axis=0)
        close(updated, best, slack, f"update of {query} at beta = 1e4, and its {what}")


@law("energy", needs=("update", "weights"), promises=("mean",), problem=problems(dtypes=("float64",), offsets=(0.0,)))
def law_small_beta_mean(energy: EnergyFactory, /, problem: Problem) -> None:
    """As beta goes to 0, every weight converges to 1/n and the update to the mean of the patterns."""
    x, p, _ = problem
    size = float(max(np.abs(x).max(), np.abs(p).max(), 1e-3))
    e = energy(1e-14 / (size * size * x.shape[1]))
    close(e.weights(x, p), np.full((len(x), len(p)), 1 / len(p)), 1e-8 / len(p), "weights as beta -> 0")
    close(e.update(x, p), np.broadcast_to(p.mean(axis=0), x.shape), 1e-8 * size, "update as beta -> 0")
