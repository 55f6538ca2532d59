"""Update until still: [`retrieve`], and the record it returns, [`Retrieval`].

Each step lowers the energy, by at least what the energy guarantees if it is not damped, so the steps get short; where
they end is a fixed point of the update: close to a pattern, or at a mixture of several that are not told apart at
this beta, or, if one starts exactly there, on a ridge between them. A fixed point need not be a memory; the record
says what it is made of, and what kind of place it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.nearest import nearest

PATIENCE = 10  # steps without a fall: one alone may be rounding
MOST = 0.9  # of the weight: what makes a state a pattern, a mixture, or the mean


@dataclass(frozen=True)
class Retrieval:
    """Where retrieval went, why it stopped, and what it found. Without the m for a single query.

    states : (m, d) where each query ended
    energies : (steps + 1, m) the energy before the first step and after each; a query that has stopped keeps its last
    steps : (m,) how many steps each query took
    residual : (m,) Euclidean length of the last step
    reason : (m,) "converged": the last step was within the tolerance; "cycle": back where it was two steps before;
        "stalled": the state moves on but its energy has not fallen for ten steps; "max_steps": none of these, yet

    What follows is computed when it is asked for, from the final states and the patterns that took part, of which no
    copy is made: they must not change before.
    """

    states: Array
    energies: Array
    steps: Any
    residual: Any
    reason: Any
    patterns: Array
    energy: Any
    stored_values: Array | None
    clamp: Array
    groups: _Groups

    @cached_property
    def weights(self) -> Array:
        """(m, n) The share of each pattern in the final state's update."""
        weights = np.zeros((len(self._rows), len(self.patterns)), self.states.dtype)
        for rows, seen in self.groups.of(self._rows):
            weights[rows[:, None], self._numbers[seen]] = self.energy.weights(self._states[rows], self.patterns[seen])
        return self._shaped(weights)

    @cached_property
    def values(self) -> Array:
        """(m, v) The values that were given, or else the patterns, averaged by the final weights."""
        v = self.patterns if self.stored_values is None else self.stored_values
        return self._shaped(self.weights.reshape(-1, len(v)) @ v)

    @cached_property
    def effective_patterns(self) -> Any:
        """(m,) exp of the weights' entropy: 1 if a single pattern was retrieved, n if all count alike."""
        w = self.weights.astype(np.float64)
        log_w = np.log(w, out=np.zeros_like(w), where=w > 0)
        return np.exp(-np.sum(w * log_w, axis=-1))

    @cached_property
    def mixture_of(self) -> Any:
        """(m,) The fewest distinct patterns that hold nine tenths of the final weight; 0 if there is no weight."""
        distinct, which = np.unique(self.patterns, axis=0, return_inverse=True)
        w = np.zeros((len(self._rows), len(distinct)))
        np.add.at(w.T, which.reshape(-1), np.atleast_2d(self.weights).T)
        held = np.cumsum(-np.sort(-w, axis=1), axis=1)
        enough = 1 + np.argmax(held >= MOST * held[:, -1:], axis=1)
        return self._shaped(np.where(held[:, -1] > 0, enough, 0))

    @cached_property
    def nearest(self) -> Any:
        """(m,) The index of the pattern nearest to the final state, by Euclidean distance whatever the energy."""
        return self._shaped(self._two_nearest[1][:, 0])

    @cached_property
    def margin(self) -> Any:
        """(m,) How much farther than the nearest the next nearest pattern is, Euclidean; infinite if there is none."""
        distances = self._two_nearest[0]
        return self._shaped(distances[:, 1] - distances[:, 0])

    @cached_property
    def kind(self) -> Any:
        """(m,) What kind of place the final state is.

        "pattern": one pattern, or copies of it, holds nine tenths of the weight; "mixture": several do [`mixture_of`];
        "mean": it takes nine tenths of all patterns; "saddle": several, and the Hessian has a negative eigenvalue, if
        the energy has a `hessian`; "outside": no pattern has any weight. States of a binary energy are a "pattern" or
        "negated", bit for bit, or else "spurious". "cycle" and "moving" if the state is not still.
        """
        kinds = self._binary_kinds if getattr(self.energy, "binary", False) else self._continuous_kinds
        reason = np.reshape(self.reason, -1)
        return self._shaped(np.where(reason == "converged", kinds(), np.where(reason == "cycle", "cycle", "moving")))

    def _continuous_kinds(self) -> Array:
        count, distinct = np.reshape(self.mixture_of, -1), len(np.unique(self.patterns, axis=0))
        kinds = np.where(count >= MOST * distinct, "mean", "mixture")
        kinds[count == 1], kinds[count == 0] = "pattern", "outside"
        if hasattr(self.energy, "hessian"):
            rounding = np.finfo(self.states.dtype).eps ** (1 / 3)
            for rows, seen in self.groups.of(np.flatnonzero(count > 1)):
                for i in rows:
                    with suppress(ValueError):  # at a kink there is no Hessian
                        bends = np.linalg.eigvalsh(self._free_hessian(i, seen))
                        if bends.min(initial=0) < -rounding * np.abs(bends).max():
                            kinds[i] = "saddle"
        return kinds

    def _free_hessian(self, row: int, seen: Any) -> Array:
        free = ~self.clamp[row]
        return self.energy.hessian(self._states[row], self.patterns[seen])[np.ix_(free, free)].astype(np.float64)

    def _binary_kinds(self) -> Array:
        kinds = np.full(len(self._rows), "spurious")
        for rows, seen in self.groups.of(self._rows):
            for sign, kind in ((-1, "negated"), (1, "pattern")):  # a pattern whose negative is stored too is a pattern
                kinds[rows[nearest(sign * self._states[rows], self.patterns[seen])[0][:, 0] == 0]] = kind
        return kinds

    @cached_property
    def _two_nearest(self) -> tuple[Array, Array]:
        distances = np.full((len(self._rows), 2), np.inf, self.states.dtype)
        indices = np.zeros((len(self._rows), 2), np.int64)
        for rows, seen in self.groups.of(self._rows):
            k = min(2, len(self.patterns[seen]))
            distances[rows, :k], found = nearest(self._states[rows], self.patterns[seen], k)
            indices[rows, :k] = self._numbers[seen][found]
        return distances, indices

    @property
    def _states(self) -> Array:
        return np.atleast_2d(self.states)

    @property
    def _numbers(self) -> Array:
        return np.arange(len(self.patterns))

    @property
    def _rows(self) -> Array:
        return np.arange(len(self._states))

    def _shaped(self, a: Array) -> Any:
        return a[0] if self.states.ndim == 1 else a


def retrieve(
    queries: ArrayLike,
    patterns: ArrayLike,
    energy: Any,
    *,
    values: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    clamp: ArrayLike | None = None,
    tolerance: float | None = None,
    max_steps: int = 1000,
    damping: float = 1.0,
    step_size: float | None = None,
) -> Retrieval:
    """Repeat x <- x + damping (T(x) - x) until x is still (Ramsauer et al. 2020, theorem 1).

    Parameters
    ----------
    queries : (m, d), or (d,) for a single one
    patterns : (n, d)
    energy : anything with `value`, `update` and `weights`, such as DistanceEnergy()
    values : (n, v) what the patterns stand for, to be averaged by the final weights; the patterns themselves by default
    mask : (m, n) or (n,) bool, which patterns each query may see; all by default
    clamp : (m, d) or (d,) bool, which coordinates keep what the query has there: what is known, when the rest is to be
        completed. None by default
    tolerance : how long a step may be, as a share of the diagonal of the bounding box of the patterns seen; by default
        the square root of the dtype's resolution. What rounding alone moves always counts as still.
    max_steps : at least 1
    damping : share of the way to T(x), above 0 and below 2, between which limits every step descends
    step_size : if given, follow the gradient instead, x <- x - step_size dE/dx: plain gradient descent, for comparison,
        whose steps go down if they are short enough

    Returns
    -------
    Retrieval. It is the state that must be still, not its weights. Queries that are leave the batch.

    Raises
    ------
    ValueError or TypeError as the energies do, if an option is out of range, a mask leaves a query no pattern, damping
    is asked of a binary energy, or step_size is so long that states grow beyond floats.

    >>> import hopmin
    >>> found = retrieve([0.9, 0.2], [[0.0, 0.0], [1.0, 0.0]], hopmin.DistanceEnergy(beta=8.0))
    >>> found.states.round(3), str(found.reason), int(found.nearest), str(found.kind)
    (array([1., 0.]), 'converged', 1, 'pattern')
    """
    start, p, shape = _check.pair(queries, _check.floats("patterns", patterns, "n d"))
    (m, d), n = start.shape, len(p)
    p = p.astype(start.dtype, copy=False)
    v = None if values is None else _check.floats("values", values, "n v", n=n)
    free = np.ones((m, d), bool) if clamp is None else ~_check.boolean_mask("clamp", clamp, "m d", m=m, d=d)
    groups = _Groups(None if mask is None else _check.boolean_mask("mask", mask, "m n", m=m, n=n))
    tolerance = (
        np.sqrt(np.finfo(p.dtype).eps) if tolerance is None else _check.number("tolerance", tolerance, "[0, inf)")
    )
    max_steps = _check.integer("max_steps", max_steps)
    advance = _advance(_check.energy(energy), damping, step_size)

    def stillness(rows: Array, seen: Any) -> Array:
        rounding = 4 * np.finfo(p.dtype).eps * np.abs(p[seen]).max() * np.sqrt(d)
        return np.full(len(rows), tolerance * np.linalg.norm(np.ptp(p[seen], axis=0).astype(np.float64)) + rounding)

    still = groups.ask(np.arange(m), stillness)
    x, before = start.copy(), start.copy()
    trace = [groups.ask(np.arange(m), lambda rows, seen: energy.value(x[rows], p[seen]))]
    steps, residual = np.zeros(m, np.int64), np.zeros(m, x.dtype)
    reason = np.full(m, "max_steps")
    unfallen = np.zeros(m, np.int64)  # for how many steps in a row the energy has not fallen
    moving = np.arange(m)
    while len(moving) and len(trace) <= max_steps:
        with np.errstate(over="ignore", invalid="ignore"):  # where too long a step_size ends the energy refuses
            step = groups.ask(moving, lambda rows, seen: advance(x[rows], p[seen], ~free[rows])) * free[moving]
            after = x[moving] + step.astype(x.dtype)
            residual[moving] = np.linalg.norm(step.astype(np.float64), axis=1)
        returned = (after == before[moving]).all(axis=1)
        before[moving], x[moving] = x[moving], after
        steps[moving] += 1
        energies = trace[-1].copy()
        energies[moving] = groups.ask(moving, lambda rows, seen: energy.value(x[rows], p[seen]))
        unfallen[moving] = np.where(energies[moving] < trace[-1][moving], 0, unfallen[moving] + 1)
        trace.append(energies)
        ends = np.select(
            [residual[moving] <= still[moving], returned, unfallen[moving] >= PATIENCE],
            ["converged", "cycle", "stalled"],
            "",
        )
        reason[moving[ends != ""]] = ends[ends != ""]
        moving = moving[ends == ""]

    return Retrieval(
        x.reshape(*shape, d), np.stack(trace).reshape(len(trace), *shape), steps.reshape(shape)[()],
        residual.reshape(shape)[()], reason.reshape(shape)[()], p, energy, v, ~free, groups,
    )  # fmt: skip


def _advance(energy: Any, damping: float, step_size: float | None) -> Callable[[Array, Array, Array], Array]:
    """The step (m, d) from states (m, d), given patterns and which coordinates are clamped."""
    damping, binary = _check.number("damping", damping, "(0, 2)"), getattr(energy, "binary", False)
    if binary and (damping != 1 or step_size is not None):
        raise ValueError("damping and step_size must be left out for states of -1 and 1; got one of them")
    if binary:  # its neurons look at each other on the way, so it must know which are clamped
        return lambda x, p, clamp: energy.update(x, p, clamp=clamp) - x
    if step_size is None:
        return lambda x, p, clamp: damping * (energy.update(x, p) - x)
    if damping != 1 or not hasattr(energy, "gradient"):
        raise ValueError("step_size must come without damping, and with an energy that has a gradient; got otherwise")
    rate = _check.number("step_size", step_size, "(0, inf)")
    return lambda x, p, clamp: -rate * energy.gradient(x, p)


class _Groups:
    """Which patterns each query sees; queries that see the same ones are asked together."""

    def __init__(self, mask: Array | None = None) -> None:
        self.mask = mask
        if mask is not None:
            if not (sees := mask.any(axis=1)).all():
                raise ValueError(f"mask must leave each query a pattern to see; got none for query {sees.argmin()}")
            self.distinct, member = np.unique(mask, axis=0, return_inverse=True)
            self.member = member.reshape(-1)

    def of(self, rows: Array) -> list[tuple[Array, Any]]:
        """Some queries in groups, each with the indices of the patterns it sees."""
        if self.mask is None or len(rows) == 0:
            return [(rows, slice(None))]
        member = self.member[rows]
        return [(rows[member == g], np.flatnonzero(self.distinct[g])) for g in np.unique(member)]

    def ask(self, rows: Array, ask: Callable[[Array, Any], Array]) -> Array:
        """ask(rows, seen) of each group, put together in the order of `rows`, which ascend."""
        parts = self.of(rows)
        answers = np.concatenate([np.asarray(ask(*part)) for part in parts])
        return answers[np.argsort(np.concatenate([part for part, _ in parts]))]
