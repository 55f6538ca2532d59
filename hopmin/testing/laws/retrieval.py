"""Laws of retrieval, and of binary memories.

`retrieve(queries, patterns, beta, tolerance=..., max_steps=...)` repeats x <- T(x) until a step is no longer than the
tolerance, a length. Its reason is "converged" then, and "max_steps" after so many steps without that; other reasons are
its own. A binary memory is that of patterns of -1 and 1; its update visits each neuron once, one at a time, and gives
it the sign that lowers the energy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, Problem, dtypes

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

Retrieve = Callable[..., Any]  # (queries, patterns, beta, *, tolerance, max_steps) -> states, steps, reason, energies
EnergyFactory = Callable[[float], Any]
BinaryMemory = Callable[[Array], Any]  # patterns -> an object with value(states) and update(states)


def _resolution(problem: Problem) -> float:
    return float(np.finfo(np.result_type(*problem[:2])).eps)


def _diagonal(patterns: Array) -> float:
    return float(np.linalg.norm(np.ptp(patterns.astype(float), axis=0)))


@st.composite
def _retrievals(draw: st.DrawFn, sharpness: tuple[float, ...] = (0.1, 1.0, 3.0, 10.0, 100.0)) -> Problem:
    """Draw patterns and queries between them, and beta times the squared diagonal of the patterns.

    At 1 and 3 there is one fixed point, and steps shrink slowly near 2; at 100 there are several.
    """
    m, n = draw(st.sampled_from([1, 2, 3, 5, 9])), draw(st.sampled_from([2, 1, 3, 8, 40, 300]))
    d = draw(st.sampled_from([1, 2, 3, 5, 16, 70]))
    rng, scale = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from([1.0, 1e-3, 1e3]))
    p = rng.normal(size=(n, d)) * scale
    x = np.concatenate([p, p])[rng.integers(0, n, m)] + rng.normal(size=(m, d)) * scale * draw(
        st.sampled_from([0.3, 1, 0])
    )
    dtype = draw(dtypes())
    sharp = draw(st.sampled_from(sharpness))
    return Problem(x.astype(dtype), p.astype(dtype), sharp / (_diagonal(p) or scale) ** 2)


class _Rules(NamedTuple):
    """Options of `retrieve`: the tolerance as a length."""

    tolerance: float
    max_steps: int


def _rules(problem: Problem, fraction: float, max_steps: int) -> _Rules:
    """Return options; the tolerance is that fraction of the diagonal, and well above rounding."""
    size = float(max(np.abs(problem.queries).max(), np.abs(problem.patterns).max()))
    floor = 64 * _resolution(problem) * size * (problem.patterns.shape[1] + 8) ** 0.5
    return _Rules(max(fraction * _diagonal(problem.patterns), floor), max_steps)


fractions = st.sampled_from([1e-3, 1e-5, 1e-2])
limits = st.sampled_from([300, 1, 2, 3, 4, 7])


def _retrieved(retrieve: Retrieve, x: Array, problem: Problem, rules: _Rules) -> tuple[Array, Array, Array, Array]:
    """Return states (m, d), steps (m,), reasons (m,) and energies (steps + 1, m) as arrays."""
    r = retrieve(x.copy(), problem.patterns.copy(), problem.beta, **rules._asdict())
    return np.asarray(r.states), np.asarray(r.steps), np.asarray(r.reason), np.asarray(r.energies)


def _step_slack(problem: Problem, z: Array) -> float:
    """Bound the rounding error of T(z): weights that are off by beta times the error of a score, and a weighted mean.

    A score is a sum of d squares of coordinates of some size, a mean one of n terms.
    """
    x, p, beta = problem
    n, d = p.shape
    size = float(max(np.abs(z).max(), np.abs(x).max(), np.abs(p).max()))
    score = 4 * beta * (d + 4) * d * size**2 + 4  # in ulp, of scores that may be expanded squares
    slack: float = _resolution(problem) * ((n + 8) * size * d**0.5 + score * _diagonal(p)) * 2
    return slack


@law("retrieval", problem=_retrievals(), fraction=fractions, max_steps=limits)
def law_retrieval_result(retrieve: Retrieve, /, problem: Problem, fraction: float, max_steps: int) -> None:
    """States (m, d) of the dtype of the queries, and 1 to max_steps steps; "max_steps" is a reason at the limit only.

    There is an energy before the first step and after each, constant once a query has stopped. Inputs are not changed.
    """
    x, p = problem.queries.copy(), problem.patterns.copy()
    r = retrieve(x, p, problem.beta, **_rules(problem, fraction, max_steps)._asdict())
    states, steps, reason, energies = (np.asarray(a) for a in (r.states, r.steps, r.reason, r.energies))
    if states.shape != x.shape or states.dtype != x.dtype:
        raise Violation(f"states must be {x.dtype} {x.shape}; got {states.dtype} {states.shape}", "states")
    for name, given in (("steps", steps), ("reason", reason)):
        if given.shape != (len(x),):
            raise Violation(f"{name} must have shape {(len(x),)}; got {given.shape}", name)
    at_most(1, steps, 0, "steps")
    at_most(steps, max_steps, 0, "steps, and max_steps")
    limited = reason == "max_steps"
    at_most(max_steps, steps[limited], 0, "steps where the reason is max_steps")
    same(energies.shape, (int(steps.max()) + 1, len(x)), "shape of the energies")
    for i, count in enumerate(steps):
        same(energies[count:, i], np.repeat(energies[count, i], len(energies) - count), "energies after the last step")
    same(x, problem.queries, "queries after the call")
    same(p, problem.patterns, "patterns after the call")


@law("retrieval", source="hopfield-layers #22", problem=_retrievals(), fraction=fractions, max_steps=limits)
def law_retrieval_steps(
    retrieve: Retrieve, energy: EnergyFactory, /, problem: Problem, fraction: float, max_steps: int
) -> None:
    """The last step leads to the state returned, x = T(z), and is the first with |x - z| <= tolerance, if converged.

    z is what the same call returns for one step less, where it has not converged. It is the state that must be still,
    not the weights. The slack is the rounding error of T(z): n terms, and weights off by beta times that of a score.
    """
    e, rules = energy(problem.beta), _rules(problem, fraction, max_steps)
    for i in range(min(len(problem.queries), 3)):
        z = x = problem.queries[i : i + 1]
        states, steps, reason, _ = _retrieved(retrieve, x, problem, rules)
        if (count := int(steps[0])) > 1:
            z, before, why, _ = _retrieved(retrieve, x, problem, rules._replace(max_steps=count - 1))
            same(int(before[0]), count - 1, "steps of the call with max_steps less by one")
            same(str(why[0]), "max_steps", "its reason")
        slack = _step_slack(problem, z)
        close(states, e.update(z, problem.patterns), slack, "the state returned, and the update of the one before")
        length = float(np.linalg.norm(states.astype(float) - z))
        if reason[0] == "converged":
            at_most(length, rules.tolerance, 2 * slack, "length of the last step, and the tolerance")
        elif reason[0] == "max_steps":
            at_most(rules.tolerance, length, 2 * slack, "tolerance, and the length of a last step that is longer")


@law("retrieval", source="hopfield-layers #22", problem=_retrievals((0.1, 1.0, 1.9)), fraction=fractions)
def law_retrieval_still(retrieve: Retrieve, energy: EnergyFactory, /, problem: Problem, fraction: float) -> None:
    """A converged state is still, |x - T(x)| <= tolerance: where beta diagonal^2 <= 2, T does not lengthen a step.

    Its derivative is 2 beta times a covariance, at most diagonal^2 / 4. The slack is the rounding error of T(x).
    """
    rules = _rules(problem, fraction, 1000)
    states, _, reason, _ = _retrieved(retrieve, problem.queries, problem, rules)
    length = np.linalg.norm(states.astype(float) - energy(problem.beta).update(states, problem.patterns), axis=1)
    at_most(length[reason == "converged"], rules.tolerance, 2 * _step_slack(problem, states), "|x - T(x)|")


@law("retrieval", source="hopfield-layers #14", problem=_retrievals(), fraction=fractions, max_steps=limits)
def law_retrieval_energies(
    retrieve: Retrieve, energy: EnergyFactory, /, problem: Problem, fraction: float, max_steps: int
) -> None:
    """Energies begin with that of the query, end with that of the state returned, and never rise.

    The slack is the rounding error of an energy: a sum of d squares, and log(n) / beta.
    """
    x, p, beta = problem
    n, d = p.shape
    e, (states, steps, _, energies) = (
        energy(beta),
        _retrieved(retrieve, x, problem, _rules(problem, fraction, max_steps)),
    )
    size = float(max(np.abs(x).max(), np.abs(p).max()))
    slack = 4 * _resolution(problem) * ((d + 4) * 4 * d * size**2 + (np.log(n) + 1) / beta)
    close(energies[0], e.value(x, p), 2 * slack, "first energies, and those of the queries")
    last = energies[steps, np.arange(len(x))]
    close(last, e.value(states, p), 2 * slack, "last energies, and those of the states returned")
    at_most(energies[1:], energies[:-1], 2 * slack, "energy after a step, and before")


def _judge_batch(retrieve: Retrieve, problem: Problem, rules: _Rules, *, bits: bool) -> None:
    x = problem.queries
    states, steps, reason, energies = _retrieved(retrieve, x, problem, rules)
    for i in range(len(x)):
        one, count, why, trace = _retrieved(retrieve, x[i : i + 1], problem, rules)
        if bits:
            same(states[i], one[0], f"state of query {i} in the batch, and alone")
            same(energies[: int(steps[i]) + 1, i], trace[:, 0], f"energies of query {i} in the batch, and alone")
        else:
            slack = 2 * rules.tolerance + 8 * _step_slack(problem, x)
            length = np.linalg.norm(states[i].astype(float) - one[0])
            at_most(length, 0, slack, f"distance between the states of query {i} in the batch, and alone")
            at_most(abs(int(steps[i]) - int(count[0])), 1, 0, f"steps of query {i} in the batch, less those alone")
        if bits or steps[i] == count[0]:
            same(str(reason[i]), str(why[0]), f"reason of query {i} in the batch, and alone")


@law("retrieval", problem=_retrievals((0.1, 0.5, 1.0)), fraction=fractions)
def law_retrieval_batch(retrieve: Retrieve, /, problem: Problem, fraction: float) -> None:
    """A query is retrieved as if it were alone, in the same number of steps up to one.

    Where beta diagonal^2 <= 1 the update halves distances: two states after the same steps differ by twice the rounding
    error of a step, one step more or less by the tolerance.
    """
    _judge_batch(retrieve, problem, _rules(problem, fraction, 1000), bits=False)


@law("retrieval", promises=("bits",), problem=_retrievals(), fraction=fractions, max_steps=limits)
def law_retrieval_bits(retrieve: Retrieve, /, problem: Problem, fraction: float, max_steps: int) -> None:
    """States, energies, steps and reasons of a query are the same bit for bit, alone and in a batch."""
    _judge_batch(retrieve, problem, _rules(problem, fraction, max_steps), bits=True)


@st.composite
def _noisy_patterns(draw: st.DrawFn) -> tuple[Problem, Array]:
    """Draw patterns of -1 and 1 times a scale, queries with a few signs changed and the indices of their patterns.

    Beta is such that for scores -|x - p|^2 and x.p, weights of other patterns are below e^-40.
    """
    d, n, m = draw(st.sampled_from([16, 64])), draw(st.integers(1, 8)), draw(st.integers(1, 5))
    rng, scale = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from([1.0, 1e-2, 50.0]))
    hadamard = np.array([[1.0 - 2 * ((i & j).bit_count() % 2) for j in range(d)] for i in range(d)])
    p = hadamard[rng.permutation(d)[:n]]
    index = rng.integers(0, n, m)
    x = p[index]
    x[:, : d // 8] *= draw(st.sampled_from([-1, 1]))
    dtype = draw(dtypes())
    beta = 40 / (d // 2 * scale**2)  # products differ by at least d / 2, squared distances by twice as much
    return Problem((x * scale).astype(dtype), (p * scale).astype(dtype), beta), index


@law("retrieval", source="hopfield-layers #12, #17", noisy=_noisy_patterns())
def law_retrieval_stored(retrieve: Retrieve, /, noisy: tuple[Problem, Array]) -> None:
    """A well separated pattern is returned for a query near it: other patterns have weights below e^-40."""
    problem, index = noisy
    states, _, reason, _ = _retrieved(retrieve, problem.queries, problem, _rules(problem, 1e-3, 50))
    size = float(np.abs(problem.patterns).max())
    error = (_resolution(problem) * (len(problem.patterns) + 4) + len(problem.patterns) * 2 * np.exp(-40)) * size
    close(states, problem.patterns[index], error, "states, and the patterns near the queries")
    same((reason == "converged").all(), np.True_, "reasons, which must all be converged")


# Binary memories


class States(NamedTuple):
    """States (m, d) and patterns (n, d) of -1 and 1."""

    states: Array
    patterns: Array


@st.composite
def _binary_states(draw: st.DrawFn) -> States:
    """Draw states and patterns; some states are patterns with few signs changed, some patterns are there twice."""
    sizes = [
        (3, 5, 4),
        (1, 2, 3),
        (2, 9, 6),
        (4, 40, 12),
        (1, 1, 1),
        (2, 300, 20),
        (3, 7, 65),
        (1, 3, 260),
        (1, 2, 800),
    ]
    m, n, d = draw(st.sampled_from(sizes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p, x = (2.0 * rng.integers(0, 2, (rows, d)) - 1 for rows in (n, m))
    if draw(st.booleans()):
        x = p[rng.integers(0, n, m)] * np.where(rng.random((m, d)) < 0.1, -1, 1)
    if draw(st.booleans()):
        p[-1] = p[0]
    dtype = draw(dtypes())
    return States(x.astype(dtype), p.astype(dtype))


def _energies(memory: Any, x: Array) -> Array:
    return np.asarray(memory.value(x.copy()), float)


def _energy_slack(memory: Any, given: States) -> float:
    """Bound the rounding error of an energy, a sum of n terms, each a function of a product of d terms.

    The terms are at most about as large as the energies of the patterns and their negatives.
    """
    x, p = given
    some = p[np.linspace(0, len(p) - 1, min(len(p), 40)).astype(int)]
    size = max(float(np.abs(_energies(memory, a)).max()) for a in (x, some, -some)) + p.size
    slack: float = 4 * (len(p) + p.shape[1]) * float(np.finfo(x.dtype).eps) * size
    return slack


def _flips(memory: Any, x: Array) -> Array:
    """Return the changes (m, d) of the energy when one sign is changed."""
    m, d = x.shape
    flipped = np.where(np.eye(d, dtype=bool), -x[:, None], x[:, None]).reshape(m * d, d)
    return _energies(memory, flipped).reshape(m, d) - _energies(memory, x)[:, None]


@law("binary_energy", given=_binary_states())
def law_binary_states(binary: BinaryMemory, /, given: States) -> None:
    """Updates are states of -1 and 1 of the same shape and dtype, energies are finite, and inputs are not changed."""
    x, p = given.states.copy(), given.patterns.copy()
    memory = binary(p)
    value, updated = np.asarray(memory.value(x)), np.asarray(memory.update(x))
    same(np.isfinite(value), np.ones(len(x), bool), "finite energies (m,)")
    same(np.abs(updated), np.ones_like(x), "magnitudes of the updated states")
    same(x, given.states, "states after the calls")
    same(p, given.patterns, "patterns after the calls")


@law("binary_energy", given=_binary_states())
def law_binary_descent(binary: BinaryMemory, /, given: States) -> None:
    """E(T(x)) <= E(x): an update of one neuron at a time never raises the energy.

    The slack is that of a sum of n functions of products of d terms.
    """
    memory = binary(given.patterns.copy())
    updated = np.asarray(memory.update(given.states.copy()))
    slack = _energy_slack(memory, given)
    at_most(_energies(memory, updated), _energies(memory, given.states), 2 * slack, "energy after the update")


@law("binary_energy", given=_binary_states())
def law_binary_rest(binary: BinaryMemory, /, given: States) -> None:
    """T(x) = x only where no change of a single sign lowers the energy, and wherever each of them raises it.

    So the update is that of the energy. Changes of the energy within its rounding error may be either.
    """
    memory = binary(given.patterns.copy())
    slack = 2 * _energy_slack(memory, given)
    x = given.states
    for _ in range(12):
        updated = np.asarray(memory.update(x.copy()))
        if x.shape[1] <= 260 or (updated == x).all():
            least, still = _flips(memory, x).min(axis=1), (updated == x).all(axis=1)
            at_most(0, least[still], slack, "least change of the energy by a single sign, where the update is at rest")
            same(
                (~still & (least > slack)).any(),
                np.False_,
                "states that moved, though each single sign raises the energy",
            )
        if (updated == x).all():
            break
        x = updated


@law("binary_energy", given=_binary_states(), seed=st.integers(0, 2**32))
def law_binary_gauge(binary: BinaryMemory, /, given: States, seed: int) -> None:
    """Changing the sign of a neuron, or the order of neurons, in states and patterns alike changes no energy."""
    x, p = given
    rng, d = np.random.default_rng(seed), x.shape[1]
    signs, order = (2 * rng.integers(0, 2, d) - 1).astype(x.dtype), rng.permutation(d)
    memory = binary(p.copy())
    slack, value = 2 * _energy_slack(memory, given), _energies(memory, x)
    close(_energies(binary(p * signs), x * signs), value, slack, "energies after changing signs of neurons")
    close(_energies(binary(p[:, order]), x[:, order]), value, slack, "energies after reordering neurons")


@law("binary_energy", given=_binary_states(), seed=st.integers(0, 2**32))
def law_binary_permutation(binary: BinaryMemory, /, given: States, seed: int) -> None:
    """The order of the patterns changes no energy."""
    x, p = given
    memory = binary(p.copy())
    slack, order = 2 * _energy_slack(memory, given), np.random.default_rng(seed).permutation(len(p))
    close(_energies(binary(p[order]), x), _energies(memory, x), slack, "energies after reordering patterns")


@law("binary_energy", given=_binary_states())
def law_binary_batch(binary: BinaryMemory, /, given: States) -> None:
    """A state alone has the energy that it has in a batch, and an update of that energy.

    The updates themselves may differ where changes of the energy are within rounding error.
    """
    x, p = given
    memory = binary(p.copy())
    slack, value = 2 * _energy_slack(memory, given), _energies(memory, x)
    updated = _energies(memory, np.asarray(memory.update(x.copy())))
    clear = (np.abs(_flips(memory, x)) > slack).all() if x.shape[1] <= 65 else False
    for i in range(len(x)):
        close(_energies(memory, x[i : i + 1]), value[i : i + 1], slack, f"energy of state {i} alone, and in the batch")
        if clear and x.shape[1] == 1:
            alone = np.asarray(memory.update(x[i : i + 1].copy()))
            close(_energies(memory, alone), updated[i : i + 1], slack, f"energy of the update of state {i} alone")


@law("binary_energy", promises=("even",), given=_binary_states())
def law_binary_even(binary: BinaryMemory, /, given: States) -> None:
    """E(-x) = E(x), for even functions of the overlaps, such as Hopfield's."""
    memory = binary(given.patterns.copy())
    slack = 2 * _energy_slack(memory, given)
    close(_energies(memory, -given.states), _energies(memory, given.states), slack, "energy of the negative state")


@law("binary_energy", promises=("order",), given=_binary_states())
def law_binary_order(binary: BinaryMemory, /, given: States) -> None:
    """Neurons 0 to d - 1 are visited in this order, and each flips if and only if that lowers E, the others fixed.

    Where a change is within the rounding error of the energy, the neuron may do either, and what the update did is
    taken as given.
    """
    x, p = given
    if x.shape[1] > 65:
        x, p = x[:, :65], p[:, :65]
    memory = binary(p.copy())
    updated, slack = np.asarray(memory.update(x.copy())), 2 * _energy_slack(memory, States(x, p))
    now = x.copy()
    for j in range(x.shape[1]):
        other = now.copy()
        other[:, j] *= -1
        change = _energies(memory, other) - _energies(memory, now)
        flips, free = change < -slack, np.abs(change) <= slack
        expected = np.where(flips, other[:, j], now[:, j])
        same(updated[~free, j], expected[~free], f"signs of neuron {j}")
        now[:, j] = updated[:, j]


@law("binary_energy", promises=("ties",), given=_binary_states())
def law_binary_ties(binary: BinaryMemory, /, given: States) -> None:
    """A neuron whose change would not change the energy keeps its state: where no change lowers E, T(x) = x.

    Judged for energies that are exact integers below 2^24.
    """
    x, p = given
    if x.shape[1] > 65:
        x, p = x[:, :65], p[:, :65]
    memory = binary(p.copy())
    flips, value = _flips(memory, x), _energies(memory, x)
    exact = (flips == np.rint(flips)).all(axis=1) & (np.abs(flips).max(axis=1) + np.abs(value) < 2**24)
    rest = exact & (flips.min(axis=1) >= 0)
    same(np.asarray(memory.update(x[rest].copy())), x[rest], "updates of states that no single sign lowers")


@law("binary_energy", dtype=dtypes(), seed=st.integers(0, 2**32), n=st.integers(1, 3), d=st.sampled_from([16, 64]))
def law_binary_stored(binary: BinaryMemory, /, dtype: str, seed: int, n: int, d: int) -> None:
    """Orthogonal patterns are fixed points, and one wrong sign is corrected: the field d - 2 exceeds the crosstalk."""
    rng = np.random.default_rng(seed)
    hadamard = np.array([[1.0 - 2 * ((i & j).bit_count() % 2) for j in range(d)] for i in range(d)])
    p = (hadamard[rng.permutation(d)[:n]] * (2 * rng.integers(0, 2, d) - 1)).astype(dtype)
    memory = binary(p.copy())
    same(np.asarray(memory.update(p.copy())), p, "updates of the patterns")
    wrong = p.copy()
    wrong[np.arange(n), rng.integers(0, d, n)] *= -1
    same(np.asarray(memory.update(wrong)), p, "updates of patterns with one wrong sign")
