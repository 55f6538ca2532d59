"""Laws of equal bits, for implementations that promise "bits".

A BLAS is free to sum in another order for another layout in memory, alignment or number of rows, and then the last
digits differ. Those who promise bits return the same ones for any layout, and for a query alone or in a batch. What
everybody must keep, equal results up to rounding, are the laws named `..._array` and `..._batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hopmin.testing.compare import as_tuple, close, same
from hopmin.testing.laws.energies import EnergyFactory, _dot_slack, _mean_slack, _sensitivity, _weight_slack
from hopmin.testing.laws.metrics import Within, directions, dot_problems, radius_problems, rows_of
from hopmin.testing.laws.search import Search, number_of_neighbours, parts, resolution
from hopmin.testing.registry import law
from hopmin.testing.strategies import LAYOUTS, Array, Problem, laid_out, problems


def _judge_bits(function: Callable[[Array, Array], Any], problem: Problem, what: str) -> None:
    """Check that each result of a function of queries and patterns has the same bits for any layout and row by row."""
    x, p, _ = problem
    whole = as_tuple(function(x, p))
    alone = [as_tuple(function(row[None], p)) for row in x]
    for wanted, *rows in zip(whole, *alone, strict=True):
        same(np.concatenate(rows), np.asarray(wanted), f"{what} of rows one by one, and as a batch")
    for layout in LAYOUTS:
        for got, wanted in zip(as_tuple(function(laid_out(x, layout), laid_out(p, layout))), whole, strict=True):
            same(got, wanted, f"{what} for {layout} arrays")


def _judge_search(search: Search, problem: Problem, part: float) -> None:
    k = number_of_neighbours(problem, part)
    _judge_bits(lambda x, p: search(x, p, k), problem, "result")


@law("nearest", promises=("bits",), source="scikit-learn #30663", problem=problems(), part=parts)
def law_nearest_bits(nearest: Search, /, problem: Problem, part: float) -> None:
    """Distances and indices have the same bits for any memory layout, and for a query alone or in a batch."""
    _judge_search(nearest, problem, part)


@law("nearest", promises=("bits",), source="scikit-learn #30663", problem=directions(), part=parts)
def law_cosine_bits(cosine: Search, /, problem: Problem, part: float) -> None:
    """Cosine distances have the same bits for any memory layout, and for a query alone or in a batch."""
    _judge_search(cosine, problem, part)


@law("nearest", promises=("bits",), source="scikit-learn #30663", problem=dot_problems, part=parts)
def law_dot_bits(dot: Search, /, problem: Problem, part: float) -> None:
    """Products have the same bits for any memory layout, and for a query alone or in a batch."""
    _judge_search(dot, problem, part)


@law("nearest", promises=("bits",), problem=radius_problems())
def law_within_bits(within: Within, /, problem: Problem) -> None:
    """Radius search has the same bits for any memory layout, and for a query alone or in a batch."""
    x, p, radius = problem
    few = Problem(x[:9], p, radius)

    def joined(x: Array, p: Array) -> tuple[Array, Array]:
        found, indices = zip(*rows_of(within(x, p, radius), len(x)), strict=True)
        return np.concatenate(found), np.concatenate(indices)

    _judge_bits(joined, few, "result")


@law("energy", promises=("bits",), source="batch_invariant_ops #4", problem=problems())
def law_energy_bits(energy: EnergyFactory, /, problem: Problem) -> None:
    """Value, gradient, weights and update have the same bits for any layout, and for a query alone or in a batch."""
    for name, method in _methods(energy, problem).items():
        _judge_bits(method, problem, name)


@law("energy", promises=("single",), problem=problems())
def law_energy_single(energy: EnergyFactory, /, problem: Problem) -> None:
    """The result for a query (d,) is that of a batch of it without its axis m.

    The slacks are those of `law_permutation`, because a vector may be multiplied in another order than a matrix; that
    of the gradient is left to `law_gradient`.
    """
    x, p, _ = problem
    one, weight = Problem(x[:1], *problem[1:]), _weight_slack(problem)
    slacks: dict[str, Any] = {
        "value": 2 * _dot_slack(one) + _sensitivity(energy, one, one.queries),
        "weights": (16 + len(p)) * resolution(problem) + weight,
        "update": 2 * _mean_slack(problem) + weight * np.ptp(p.astype(float), axis=0),
        "gradient": np.inf,
    }
    for name, method in _methods(energy, one).items():
        alone, whole = method(x[0], p), np.asarray(method(x[:1], p))[0]
        close(alone, whole, np.squeeze(slacks[name]), f"{name} of a query")


def _methods(energy: EnergyFactory, problem: Problem) -> dict[str, Callable[[Array, Array], Any]]:
    """Return the methods that the energy has; not the gradient where it may not exist, at a pattern."""
    x, p, beta = problem
    made, kink = energy(beta), (x[:, None] == p).all(axis=2).any()
    names = [name for name in ("value", "weights", "update", "gradient") if hasattr(made, name)]
    return {name: getattr(made, name) for name in names if not (name == "gradient" and kink)}
