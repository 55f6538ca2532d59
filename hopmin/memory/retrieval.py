"""Update until still: [`retrieve`], and the record it returns, [`Retrieval`].

Each step lowers the energy, by at least what the energy guarantees if it is not damped, so the steps get short; where
they end is a fixed point of the update: close to a pattern, or at a mixture of several that are not told apart at
this beta, or, if one starts exactly there, on a ridge between them. A fixed point need not be a memory; the record
says what it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._check import Array
from hopmin.memory.nearest import nearest

PATIENCE = 10  # steps without a fall: one alone may be rounding


@dataclass(frozen=True)
class Retrieval:
    """Where retrieval went, and why it stopped. Without the m for a single query.

    states : (m, d) where each query ended
    energies : (steps + 1, m) the energy before the first step and after each; a query that has stopped keeps its last
    steps : (m,) how many steps each query took
    residual : (m,) Euclidean length of the last step
    reason : (m,) "converged": the last step was within the tolerance; "stalled": the state moves on but its energy
        has not fallen for ten steps; "max_steps": neither, yet
    """

    states: Array
    energies: Array
    steps: Any
    residual: Any
    reason: Any
    patterns: Array
    energy: Any

    @cached_property
    def weights(self) -> Array:
        """(m, n) The share of each pattern in the final state's update."""
        return self.energy.weights(self.states, self.patterns)

    @cached_property
    def effective_patterns(self) -> Any:
        """(m,) exp of the weights' entropy: 1 if a single pattern was retrieved, n if all count alike."""
        w = self.weights.astype(np.float64)
        log_w = np.log(w, out=np.zeros_like(w), where=w > 0)
        return np.exp(-np.sum(w * log_w, axis=-1))

    @cached_property
    def nearest(self) -> Any:
        """(m,) The index of the pattern nearest to the final state, by Euclidean distance whatever the energy."""
        return nearest(self.states, self.patterns)[1][..., 0]


def retrieve(
    queries: ArrayLike,
    patterns: ArrayLike,
    energy: Any,
    *,
    tolerance: float | None = None,
    max_steps: int = 1000,
    damping: float = 1.0,
) -> Retrieval:
    """Repeat x <- x + damping (T(x) - x) until x is still (Ramsauer et al. 2020, theorem 1).

    Parameters
    ----------
    queries : (m, d), or (d,) for a single one
    patterns : (n, d)
    energy : anything with `value`, `update` and `weights`, such as DistanceEnergy()
    tolerance : how long a step may be, as a share of the diagonal of the patterns' bounding box; by default the square
        root of the dtype's resolution. What rounding alone moves always counts as still.
    max_steps : at least 1
    damping : share of the way to T(x), above 0 and below 2, between which limits every step descends

    Returns
    -------
    Retrieval. It is the state that must be still, not its weights. Queries that are leave the batch.

    Raises
    ------
    ValueError or TypeError as the energies do, and if an option is out of range.

    >>> import hopmin
    >>> found = retrieve([0.9, 0.2], [[0.0, 0.0], [1.0, 0.0]], hopmin.DistanceEnergy(beta=8.0))
    >>> found.states.round(3), str(found.reason), int(found.nearest), found.effective_patterns.round(3)
    (array([1., 0.]), 'converged', 1, np.float64(1.003))
    """
    start, p, shape = _check.pair(queries, _check.floats("patterns", patterns, "n d"))
    p = p.astype(start.dtype, copy=False)
    tolerance = np.sqrt(np.finfo(p.dtype).eps) if tolerance is None else _check.nonnegative("tolerance", tolerance)
    max_steps = _check.whole("max_steps", max_steps)
    damping = _check.positive("damping", damping)
    if damping >= 2:
        raise ValueError(f"damping must be a number in (0, 2); got {damping}")
    rounding = 4 * np.finfo(p.dtype).eps * np.abs(p).max() * np.sqrt(p.shape[1])
    still = tolerance * np.linalg.norm(np.ptp(p, axis=0)) + rounding

    x = start.copy()
    trace = [energy.value(x, p)]
    steps, residual = np.zeros(len(x), np.int64), np.zeros(len(x), x.dtype)
    reason = np.full(len(x), "max_steps")
    unfallen = np.zeros(len(x), np.int64)  # for how many steps in a row the energy has not fallen
    moving = np.arange(len(x))
    while len(moving) and len(trace) <= max_steps:
        step = damping * (energy.update(x[moving], p) - x[moving])
        x[moving] += step.astype(x.dtype)
        steps[moving] += 1
        residual[moving] = np.linalg.norm(step, axis=1)
        after = trace[-1].copy()
        after[moving] = energy.value(x[moving], p)
        unfallen[moving] = np.where(after[moving] < trace[-1][moving], 0, unfallen[moving] + 1)
        stalled, converged = unfallen[moving] >= PATIENCE, residual[moving] <= still
        reason[moving[stalled]] = "stalled"
        reason[moving[converged]] = "converged"
        moving = moving[~(stalled | converged)]
        trace.append(after)

    d = x.shape[1]
    return Retrieval(
        x.reshape(*shape, d), np.stack(trace).reshape(len(trace), *shape), steps.reshape(shape)[()],
        residual.reshape(shape)[()], reason.reshape(shape)[()], p, energy,
    )  # fmt: skip
