"""Retrieval: repeat the update until the state stops moving [`retrieve`], and its result [`Retrieval`].

An undamped step lowers the energy by at least the decrease that the energy guarantees, so the steps become short.
They end at a fixed point of the update: close to a pattern, at a mixture of patterns that are not separated at this
beta, or, if started exactly there, on the ridge between two minima. A fixed point need not be a stored pattern; the
result reports which patterns have weight in it and what kind of point it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hopmin import _arithmetic, _check
from hopmin._typing import Array, Booleans, Energy, Floats, Integers
from hopmin.memory._allowed import Groups, Seen
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.nearest import nearest
from hopmin.memory.reduction import Packed

PATIENCE = 10  # steps without a decrease of the energy; a single one may be due to rounding
QUICK = 1 << 18  # m n d, the number of coordinates up to which a repr computes what it shows
DOMINANT = 0.9  # the fraction of the weight that decides between a pattern, a mixture and the mean

AnyArray = TypeVar("AnyArray", bound=Array)


class RetrievalOptions(TypedDict, total=False):
    """The keyword arguments of `retrieve`, for functions that pass them on."""

    values: ArrayLike | None
    allowed: ArrayLike | None
    clamp: ArrayLike | None
    tolerance: float | None
    max_steps: int
    damping: float
    step_size: float | None


def abbreviated(a: ArrayLike) -> str:
    """Return the numbers or strings of an array in a few words, or its dtype and shape if they are long.

    >>> abbreviated([0.25, 1 / 3]), abbreviated(np.zeros(1000)), abbreviated(np.zeros((2, 3, 4)))
    ('[0.25  0.333]', '[0. 0. 0. ... 0. 0. 0.]', 'float64 (2, 3, 4)')
    """
    array = np.asarray(a)
    text = np.array2string(array, precision=3, threshold=8, edgeitems=3)
    return text if len(text) <= 60 and "\n" not in text else f"{array.dtype} {array.shape}"


def shortened(energy: Energy) -> str:
    """Return the representation of an energy, without its end if it is long."""
    text = repr(energy)
    return text if len(text) <= 80 else f"{text[:76]}...)"


def _counted(words: NDArray[np.str_]) -> str:
    """Return the distinct words, with their numbers if there are several."""
    distinct, counts = np.unique(words, return_counts=True)
    if len(distinct) < 2:
        return "".join(distinct) or "none"
    return ", ".join(f"{word} ({count})" for word, count in zip(distinct, counts, strict=True))


@_arithmetic.standard_methods
@dataclass(frozen=True, repr=False)
class Retrieval:
    """The result of `retrieve`: final states, energies along the way, and why each query stopped.

    For a single query all arrays lack the axis of length m.

    Attributes
    ----------
    states : ndarray, shape (m, d)
        The final states.
    energies : ndarray, shape (steps + 1, m)
        The energy before the first step and after each step. A query that has stopped keeps its last energy.
    steps : ndarray, shape (m,)
        Number of steps of each query.
    residual : ndarray, shape (m,)
        Euclidean length of the last step.
    reason : ndarray of str, shape (m,)
        "converged": the last step was within the tolerance; "cycle": the state is the one of two steps before;
        "stalled": the state still moves, but its energy has not decreased for ten steps; "max_steps": none of these
        happened within the allowed steps.
    patterns : ndarray, shape (n, d)
        The patterns, in the dtype of the states. This may be the array that was passed, not a copy.
    energy : Energy
        The energy.

    Notes
    -----
    All other attributes are computed from the final states and the patterns when they are first read, so the patterns
    must not be modified before.
    """

    states: Floats
    energies: Floats
    steps: Integers
    residual: Floats
    reason: NDArray[np.str_]
    patterns: Floats
    energy: Energy
    _values: Floats | None
    _clamp: Booleans
    _groups: Groups

    def __repr__(self) -> str:
        """Return the shapes, and why and where the queries stopped, as far as that is known or quickly computed."""
        m, (n, d) = len(self._queries), self.patterns.shape
        quick = m * n * d <= QUICK and d <= 64
        steps = np.unique(self.steps)
        parts = {
            "states": f"{np.shape(self.states)}", "energies": f"{self.energies.shape}", "reason": _counted(self.reason),
            "steps": " to ".join(str(count) for count in (steps[[0, -1]] if len(steps) > 1 else steps)) or "none",
        }  # fmt: skip
        if quick or "nearest" in self.__dict__:
            parts["nearest"] = abbreviated(self.nearest)
        if quick or "kind" in self.__dict__:
            parts["kind"] = _counted(self.kind)
        return f"Retrieval({', '.join(f'{name} {part}' for name, part in parts.items())})"

    @cached_property
    def weights(self) -> Floats:
        """The weight of each pattern in the update of the final state, shape (m, n)."""
        weights = np.zeros((len(self._queries), len(self.patterns)), self.states.dtype)
        for queries, seen in self._groups.split(self._queries):
            computed = self.energy.weights(self._states[queries], self.patterns[seen])
            weights[queries[:, None], self._indices[seen]] = computed
        return self._drop_m(weights)

    @cached_property
    def values(self) -> Floats:
        """The mean of the values under the final weights, shape (m, v); without values, of the patterns."""
        v = self.patterns if self._values is None else self._values
        weights = self.weights.reshape(-1, len(v))
        return self._drop_m(self._groups.map(lambda queries, seen: weights[queries][:, seen] @ v[seen], self._queries))

    @cached_property
    def effective_patterns(self) -> Floats:
        """exp of the entropy of the weights, shape (m,): 1 for a single pattern, n for equal weights."""
        w = self.weights.astype(np.float64)
        log_w = np.log(w, out=np.zeros_like(w), where=w > 0)
        effective: Floats = np.exp(-np.sum(w * log_w, axis=-1))
        return effective

    @cached_property
    def mixture_of(self) -> Integers:
        """The smallest number of distinct patterns that hold 90 % of the final weight, shape (m,); 0 without weight."""
        distinct, which = np.unique(self.patterns, axis=0, return_inverse=True)
        w = np.zeros((len(self._queries), len(distinct)))
        np.add.at(w.T, which.reshape(-1), np.atleast_2d(self.weights).T)
        cumulative = np.cumsum(-np.sort(-w, axis=1), axis=1)
        count = 1 + np.argmax(cumulative >= DOMINANT * cumulative[:, -1:], axis=1)
        return self._drop_m(np.where(cumulative[:, -1] > 0, count, 0))

    @cached_property
    def nearest(self) -> Integers:
        """The index of the pattern nearest to the final state, shape (m,); Euclidean, for every energy."""
        return self._drop_m(self._two_nearest[1][:, 0])

    @cached_property
    def margin(self) -> Floats:
        """The second smallest minus the smallest Euclidean distance to a pattern, shape (m,); inf for one pattern."""
        distances = self._two_nearest[0]
        return self._drop_m(distances[:, 1] - distances[:, 0])

    @cached_property
    def kind(self) -> NDArray[np.str_]:
        """The kind of point at which each query ended, shape (m,).

        "pattern": one pattern, or copies of it, holds 90 % of the weight; "mixture": several patterns do
        [`mixture_of`]; "mean": at least 90 % of the patterns are needed to hold 90 % of the weight; "saddle": several
        patterns hold it and the Hessian has a negative eigenvalue, for energies with a `hessian`; "outside": no pattern
        has any weight. For binary energies: "pattern" or "negated" if the state equals a pattern or its negative bit
        for bit, otherwise "spurious". States that have not converged are "cycle" or "moving".
        """
        kinds = self._binary_kinds() if getattr(self.energy, "binary", False) else self._continuous_kinds()
        reason = np.reshape(self.reason, -1)
        return self._drop_m(np.where(reason == "converged", kinds, np.where(reason == "cycle", "cycle", "moving")))

    def _continuous_kinds(self) -> NDArray[np.str_]:
        count, distinct = np.reshape(self.mixture_of, -1), len(np.unique(self.patterns, axis=0))
        kinds = np.where(count >= DOMINANT * distinct, "mean", "mixture")
        kinds[count == 1], kinds[count == 0] = "pattern", "outside"
        for i in self._saddles(np.flatnonzero(count > 1)):
            kinds[i] = "saddle"
        return kinds

    def _saddles(self, candidates: Integers) -> list[int]:
        """Queries at which the Hessian in the free coordinates has a negative eigenvalue."""
        hessian = getattr(self.energy, "hessian", None)
        if hessian is None:
            return []
        saddles, rounding = [], np.finfo(self.states.dtype).eps ** (1 / 3)
        for queries, seen in self._groups.split(candidates):
            for i in queries:
                free = ~self._clamp[i]
                with suppress(ValueError):  # at a kink there is no Hessian
                    block = hessian(self._states[i], self.patterns[seen])[np.ix_(free, free)].astype(np.float64)
                    eigenvalues = np.linalg.eigvalsh(block)
                    if eigenvalues.min(initial=0) < -rounding * np.abs(eigenvalues).max():
                        saddles.append(i)
        return saddles

    def _binary_kinds(self) -> NDArray[np.str_]:
        kinds = np.full(len(self._queries), "spurious")
        for queries, seen in self._groups.split(self._queries):
            for sign, kind in ((-1, "negated"), (1, "pattern")):  # "pattern" last: it wins if both are stored
                distances, _ = nearest(sign * self._states[queries], self.patterns[seen])
                kinds[queries[distances[:, 0] == 0]] = kind
        return kinds

    @cached_property
    def _two_nearest(self) -> tuple[Floats, Integers]:
        distances = np.full((len(self._queries), 2), np.inf, self.states.dtype)
        indices = np.zeros((len(self._queries), 2), np.int64)
        for queries, seen in self._groups.split(self._queries):
            k = min(2, len(self.patterns[seen]))
            distances[queries, :k], found = nearest(self._states[queries], self.patterns[seen], k)
            indices[queries, :k] = self._indices[seen][found]
        return distances, indices

    @property
    def _states(self) -> Floats:
        return np.atleast_2d(self.states)

    @property
    def _indices(self) -> Integers:
        return np.arange(len(self.patterns))

    @property
    def _queries(self) -> Integers:
        return np.arange(len(self._states))

    def _drop_m(self, a: AnyArray) -> AnyArray:
        """Remove the axis of queries if there was a single one."""
        shaped: AnyArray = a[0] if self.states.ndim == 1 else a
        return shaped


@_arithmetic.standard
def retrieve(
    queries: ArrayLike,
    patterns: ArrayLike,
    energy: Energy,
    *,
    values: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
    clamp: ArrayLike | None = None,
    tolerance: float | None = None,
    max_steps: int = 1000,
    damping: float = 1.0,
    step_size: float | None = None,
) -> Retrieval:
    """Repeat x <- x + damping (T(x) - x) until x stops moving (Ramsauer et al. 2020, theorem 1).

    Convergence is a property of the state, not of its weights. Queries that have stopped are not computed further.

    Parameters
    ----------
    queries : array_like, shape (m, d) or (d,)
        Initial states.
    patterns : array_like or Packed, shape (n, d)
        The stored patterns. If all are allowed, `DistanceEnergy` and `DotEnergy` pack them once for all steps.
    energy : Energy
        An object with `value`, `update` and `weights`, such as DistanceEnergy().
    values : array_like, shape (n, v), optional
        One value for each pattern, averaged by the final weights. Default: the patterns.
    allowed : array_like of bool, shape (m, n) or (n,), or of int, optional
        The patterns that each query may see, or their indices, if they are the same for all. Default: all.
    clamp : array_like of bool, shape (m, d) or (d,), optional
        The coordinates that keep the query's entries, for completing partly known patterns. Default: none.
    tolerance : float, optional
        The length of a step that counts as converged, as a fraction of the diagonal of the bounding box of the visible
        patterns. Default: the square root of the dtype's resolution. Steps within rounding error always converge.
    max_steps : int, default 1000
        The largest number of steps, at least 1.
    damping : float, default 1.0
        The fraction of the way to T(x), in (0, 2): the interval in which every step lowers the energy.
    step_size : float, optional
        Use plain gradient descent instead, x <- x - step_size dE/dx, for comparison. Short enough steps lower the
        energy.

    Returns
    -------
    Retrieval
        Final states, energies of all steps, and attributes computed from them.

    Raises
    ------
    ValueError
        If an array or an option is invalid, no pattern is allowed for a query, damping or step_size is given for a
        binary energy, or states overflow because step_size is too large.
    TypeError
        If an array or the energy has the wrong type.

    Examples
    --------
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
    groups = Groups(allowed, m, n)
    resolution = np.finfo(p.dtype).eps
    relative = np.sqrt(resolution) if tolerance is None else _check.number("tolerance", tolerance, "[0, inf)")
    max_steps = _check.integer("max_steps", max_steps)
    step_from = _step_function(_check.energy(energy), damping, step_size)
    packed = _Stored.of(p, patterns) if allowed is None and isinstance(energy, DistanceEnergy | DotEnergy) else None

    def visible(seen: Seen) -> Any:
        return p[seen] if packed is None else packed

    def step_tolerance(queries: Integers, seen: Seen) -> Floats:
        low, high = p[seen].min(axis=0), p[seen].max(axis=0)
        rounding = 4 * resolution * max(-low.min(), high.max()) * np.sqrt(d)
        return np.full(len(queries), relative * np.linalg.norm((high - low).astype(np.float64)) + rounding)

    all_queries = np.arange(m)
    tolerances = groups.map(step_tolerance, all_queries)
    x, previous = start.copy(), start.copy()
    trace = [groups.map(lambda queries, seen: energy.value(x[queries], visible(seen)), all_queries)]
    steps, residual = np.zeros(m, np.int64), np.zeros(m, x.dtype)
    reason = np.full(m, "max_steps")
    without_decrease = np.zeros(m, np.int64)  # the number of consecutive last steps that did not lower the energy
    moving = all_queries
    while len(moving) and len(trace) <= max_steps:
        with np.errstate(over="ignore", invalid="ignore"):  # the energy raises if a large step_size overflows
            step = groups.map(lambda queries, seen: step_from(x[queries], visible(seen), ~free[queries]), moving)
            step = step * free[moving]
            after = x[moving] + step.astype(x.dtype)
            residual[moving] = np.linalg.norm(step.astype(np.float64), axis=1)
        returned = (after == previous[moving]).all(axis=1)
        previous[moving], x[moving] = x[moving], after
        steps[moving] += 1
        energies = trace[-1].copy()
        energies[moving] = groups.map(lambda queries, seen: energy.value(x[queries], visible(seen)), moving)
        without_decrease[moving] = np.where(energies[moving] < trace[-1][moving], 0, without_decrease[moving] + 1)
        trace.append(energies)
        ends = np.select(
            [residual[moving] <= tolerances[moving], returned, without_decrease[moving] >= PATIENCE],
            ["converged", "cycle", "stalled"],
            "",
        )
        reason[moving[ends != ""]] = ends[ends != ""]
        moving = moving[ends == ""]

    return Retrieval(
        x.reshape(*shape, d), np.stack(trace).reshape(len(trace), *shape), steps.reshape(shape)[()],
        residual.reshape(shape)[()], reason.reshape(shape)[()], p, energy, v, ~free, groups,
    )  # fmt: skip


def _step_function(
    energy: Energy, damping: float, step_size: float | None
) -> Callable[[Floats, Floats, Booleans], Floats]:
    """Return the function that computes the step (m, d) from states (m, d), patterns and clamped coordinates."""
    damping = _check.number("damping", damping, "(0, 2)")
    update = energy.update
    if getattr(energy, "binary", False):
        if damping != 1 or step_size is not None:
            given = f"damping = {damping:g}" if damping != 1 else f"step_size = {step_size}"
            raise ValueError(f"damping and step_size must not be given for a binary energy; got {given}")
        # neurons are updated one after another, each given the states of the others, so the update needs the clamp
        return lambda x, p, clamp: update(x, p, clamp=clamp) - x  # type: ignore[call-arg]
    if step_size is None:
        return lambda x, p, clamp: damping * (update(x, p) - x)
    if damping != 1:
        raise ValueError(f"step_size must be given without damping; got damping = {damping:g}")
    gradient = getattr(energy, "gradient", None)
    if gradient is None:
        raise ValueError(f"energy must have a gradient if step_size is given; got {energy!r}")
    rate = _check.number("step_size", step_size, "(0, inf)")
    return lambda x, p, clamp: -rate * gradient(x, p)


class _Stored(Packed):
    """Packed patterns that keep their rows too, so that no step has to unpack them to average them."""

    __slots__ = ("_rows",)
    _rows: Floats

    @classmethod
    def of(cls, rows: Floats, patterns: Any) -> _Stored:
        """Return rows (n, d), packed already if `patterns` are the same ones, packed."""
        ready = isinstance(patterns, Packed) and patterns.dtype == rows.dtype
        packed = patterns if ready else Packed(rows, codes=False)
        stored = cls.__new__(cls)
        stored._hold(packed._blocks, packed._codes, packed.shape, packed.dtype)
        object.__setattr__(stored, "_rows", rows)
        return stored

    def __getitem__(self, index: Any) -> Floats:
        rows: Floats = self._rows[index]
        return rows
