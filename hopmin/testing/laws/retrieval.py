"""Laws of retrieval, and of binary memories.

`retrieve(queries, patterns, beta, tolerance=..., max_steps=...)` repeats x <- T(x) until a step is no longer than the
tolerance, a length. T(x) is the mean of the patterns with weights softmax(beta s(x)), where s_i is -|x - p_i|^2 or
x.p_i. The reason is "converged" then, and "max_steps" after so many steps without that; other reasons are its own.

A binary memory is that of patterns of -1 and 1; its update visits each neuron once, one at a time, and gives it the
sign that lowers the energy.
"""

from __future__ import annotations

import itertools
import math
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
BinaryMemory = Callable[[Array], Any]  # patterns -> an object with value(states) and update(states)
Pair = tuple[Array, Array]  # states (m, d) and patterns (n, d) of -1 and 1


def _resolution(problem: Problem) -> float:
    return float(np.finfo(np.result_type(*problem[:2])).eps)


def _diagonal(patterns: Array) -> float:
    return float(np.linalg.norm(np.ptp(patterns.astype(float), axis=0)))


def _largest_norm(*arrays: Array) -> float:
    return max(float(np.linalg.norm(a.astype(float), axis=1).max()) for a in arrays)


# Hypothesis spends most examples on variations of one another where many draws are alike, so sizes are drawn as one
# level, and all else by a seed.
seeds = st.integers(0, 2**32)
levels = st.sampled_from([0, 1, 1, 2, 2, 3])


@st.composite
def _retrievals(draw: st.DrawFn, *sharpness: float, batch: bool = False) -> Problem:
    """Draw patterns and queries between them, with beta the sharpness over the squared diagonal of the patterns.

    At 1 and 3 there is one fixed point, and steps shrink slowly near 2; at 100 there are several. Numbers have two
    decimals; some queries lie beyond the patterns, so that they take different numbers of steps.
    """
    level, dtype, rng = draw(levels), draw(dtypes()), np.random.default_rng(draw(seeds))

    def one_of(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    m = one_of(2, 3, 5) if batch else 1 if level == 0 else one_of(1, 2, 3, 5)
    n, d = [
        (one_of(1, 2), one_of(1, 2)), (one_of(2, 3, 4), one_of(1, 2, 3)), (one_of(3, 8, 20), one_of(2, 5, 16)),
        one_of((300, 2), (300, 5), (20, 70)),
    ][level]  # fmt: skip
    p = rng.normal(size=(n, d))
    if one_of(False, True):
        p[-1] = p[0]
    x = p[rng.integers(0, n, m)] + rng.normal(size=(m, d)) * one_of(0.3, 1.0, 0.0)
    x[rng.random(m) < 0.3] *= 3
    if batch:
        x[0] = p.mean(axis=0)  # nearly still, where beta is small
    digits, offset = (0, 0) if dtype == "float16" else (one_of(0, 3, -3), one_of(0, 0, 30))  # squares would overflow
    x, p = (np.round((a.round(2) + offset) / 10.0**digits, 2 + digits).astype(dtype) for a in (x, p))
    sharp = one_of(*(sharpness or (0.1, 1.0, 3.0, 10.0, 100.0)))
    return Problem(x, p, float(sharp / (_diagonal(p) or 10.0**-digits) ** 2))


class _Rules(NamedTuple):
    """Options of `retrieve`: the tolerance as a length."""

    tolerance: float
    max_steps: int


def _rules(problem: Problem, fraction: float, max_steps: int) -> _Rules:
    """Return options; the tolerance is that fraction of the diagonal, and well above the rounding of a state."""
    return _Rules(max(fraction * _diagonal(problem.patterns), 8 * _rounding(problem, 0.0)), max_steps)


def _rounding(problem: Problem, tolerance: float) -> float:
    """Bound the error of the length of a step: differences of d rounded coordinates, and the root of their squares."""
    size, d = float(max(np.abs(problem.queries).max(), np.abs(problem.patterns).max())), problem.patterns.shape[1]
    error: float = _resolution(problem) * (16 * size * math.sqrt(d) + (d + 8) * tolerance)
    return error


fractions = st.sampled_from([1e-3, 1e-5, 1e-2])
limits = st.sampled_from([9, 1, 2, 3, 4, 6])


def _retrieved(retrieve: Retrieve, x: Array, problem: Problem, rules: _Rules) -> tuple[Array, Array, Array]:
    """Return states (m, d), steps (m,) and reasons (m,) as arrays."""
    r = retrieve(x.copy(), problem.patterns.copy(), problem.beta, **rules._asdict())
    return np.asarray(r.states), np.asarray(r.steps), np.asarray(r.reason)


def _energies_of(retrieve: Retrieve, x: Array, problem: Problem, rules: _Rules) -> Array:
    r = retrieve(x.copy(), problem.patterns.copy(), problem.beta, **rules._asdict())
    return np.asarray(r.energies, float)


def _definitions(problem: Problem, x: Array) -> list[tuple[Array, Array]]:
    """Return T(x) (m, d) and the energy (m,) up to a constant, for squared distances and for products."""
    x, p, beta = x.astype(float), problem.patterns.astype(float), problem.beta
    scores = -beta * np.square(x[:, None] - p).sum(axis=2), beta * x @ p.T
    found = []
    for a, plus in zip(scores, (0.0, np.square(x).sum(axis=1) / 2), strict=True):
        top = a.max(axis=1, keepdims=True)
        w = np.exp(a - top)
        total = w.sum(axis=1, keepdims=True)
        found.append((w / total @ p, plus - (top + np.log(total))[:, 0] / beta))
    return found


def _step_slack(problem: Problem, *states: Array) -> float:
    """Bound the length of the rounding error of T(z).

    A score is a sum of d products, of squares that may be expanded: it errs by (d + 4) eps (|z| + |p|)^2, a weight by
    2 beta times that, which moves the mean by that fraction of the diagonal; a mean of n terms errs by n eps |p|.
    """
    x, p, beta = problem
    n, d = p.shape
    size = _largest_norm(x, p, *states)
    weight = 8 * beta * (d + 4) * size**2 + 8
    error: float = _resolution(problem) * (2 * (n + 8) * size + weight * _diagonal(p))
    return error


def _energy_slack(problem: Problem, *states: Array) -> float:
    """Bound the rounding error of a difference of energies, each a score and the logarithm of n terms over beta."""
    x, p, beta = problem
    n, d = p.shape
    score = 4 * (d + 4) * _largest_norm(x, p, *states) ** 2
    error: float = 4 * _resolution(problem) * (score + (n + 8) / beta)
    return error


@law("retrieval", problem=_retrievals(), fraction=fractions, max_steps=limits)
def law_retrieval_result(retrieve: Retrieve, /, problem: Problem, fraction: float, max_steps: int) -> None:
    """States (m, d) of the dtype of the queries, and 1 to max_steps steps; "max_steps" is a reason at the limit only.

    If there are energies, there is one before the first step and after each, constant once a query has stopped. Inputs
    are not changed.
    """
    x, p = problem.queries.copy(), problem.patterns.copy()
    r = retrieve(x, p, problem.beta, **_rules(problem, fraction, max_steps)._asdict())
    states, steps, reason = (np.asarray(a) for a in (r.states, r.steps, r.reason))
    if states.shape != x.shape or states.dtype != x.dtype:
        raise Violation(f"states must be {x.dtype} {x.shape}; got {states.dtype} {states.shape}", "states")
    for name, given in (("steps", steps), ("reason", reason)):
        if given.shape != (len(x),):
            raise Violation(f"{name} must have shape {(len(x),)}; got {given.shape}", name)
    at_most(1, steps, 0, "steps")
    at_most(steps, max_steps, 0, "steps, and max_steps")
    at_most(max_steps, steps[reason == "max_steps"], 0, "max_steps, and the steps of that reason")
    if (energies := getattr(r, "energies", None)) is not None:
        energies = np.asarray(energies)
        same(energies.shape, (int(steps.max()) + 1, len(x)), "shape of the energies")
        for i, count in enumerate(steps.tolist()):
            rest = energies[count:, i]
            same(rest, np.full_like(rest, rest[0]), f"energies of query {i} after its last step")
    same(x, problem.queries, "queries after the call")
    same(p, problem.patterns, "patterns after the call")


@law("retrieval", source="hopfield-layers #12", problem=_retrievals())
def law_retrieval_update(retrieve: Retrieve, /, problem: Problem) -> None:
    """One step is T(x) = sum_i w_i p_i with w = softmax(beta s), and s_i = -|x - p_i|^2 or x.p_i.

    A score errs by (d + 4) eps (|x| + |p|)^2, so that a weight errs by 2 beta times that; the mean of n terms by n eps.
    """
    states, _, _ = _retrieved(retrieve, problem.queries, problem, _rules(problem, 1e-3, 1))
    expected = min((t for t, _ in _definitions(problem, problem.queries)), key=lambda t: np.abs(states - t).max())
    close(states, expected, _step_slack(problem), "state after one step, and the mean of the patterns")


@law("retrieval", source="hopfield-layers #22", problem=_retrievals(), fraction=fractions, max_steps=limits)
def law_retrieval_steps(retrieve: Retrieve, /, problem: Problem, fraction: float, max_steps: int) -> None:
    """The last step leads from z to the state returned, x = T(z), and is the first with |x - z| <= tolerance.

    z is what the same call returns for one step less, and T(z) what a call that begins at z returns after one. The
    length is that of the step of a state, not of weights or energies, and each query has its own. T errs by n terms,
    and by weights that are off by beta times the error of a score; a length by the rounding of d coordinates.
    """
    rules = _rules(problem, fraction, max_steps)
    rounding, x = _rounding(problem, rules.tolerance), problem.queries
    states, steps, reason = _retrieved(retrieve, x, problem, rules)
    path = [x]
    for count in range(1, int(steps.max())):
        after, taken, why = _retrieved(retrieve, x, problem, rules._replace(max_steps=count))
        same(taken.astype(int), np.minimum(steps, count).astype(int), f"steps of the same call with max_steps={count}")
        same((why == "max_steps")[steps > count].all(), np.True_, f"reasons of the same call with max_steps={count}")
        path.append(after)
    path.append(states)
    lengths = np.linalg.norm(np.diff(np.array(path, float), axis=0), axis=2)
    for i, count in enumerate(steps.tolist()):
        last = lengths[count - 1, i]
        before = lengths[: count - 1, i]
        at_most(rules.tolerance, before, rounding, f"tolerance, and the lengths of earlier steps of query {i}")
        if reason[i] == "converged":
            at_most(last, rules.tolerance, rounding, f"length of the last step of query {i}, and the tolerance")
        elif reason[i] == "max_steps":
            at_most(rules.tolerance, last, rounding, f"tolerance, and the length of the last step of query {i}")
    z = np.array([path[count - 1][i] for i, count in enumerate(steps.tolist())])
    once, _, _ = _retrieved(retrieve, z, problem, rules._replace(max_steps=1))
    close(states, once, 2 * _step_slack(problem, z), "the states returned, and one step from the ones before")


@law("retrieval", source="hopfield-layers #22", problem=_retrievals(1.0, 0.1, 1.9), fraction=fractions)
def law_retrieval_still(retrieve: Retrieve, /, problem: Problem, fraction: float) -> None:
    """A converged state is still, |x - T(x)| <= tolerance: where beta diagonal^2 <= 2, T does not lengthen a step.

    Its derivative is at most 2 beta times a covariance, itself at most diagonal^2 / 4. The slack is twice the rounding
    error of T(x), and that of a length.
    """
    rules = _rules(problem, fraction, 300)
    states, _, reason = _retrieved(retrieve, problem.queries, problem, rules)
    once, _, _ = _retrieved(retrieve, states, problem, rules._replace(max_steps=1))
    length = np.linalg.norm(states.astype(float) - once, axis=1)[reason == "converged"]
    slack = 2 * _step_slack(problem, states) + _rounding(problem, rules.tolerance)
    at_most(length, rules.tolerance, slack, "|x - T(x)| of a converged state")


@law("retrieval", needs=("energies",), source="hopfield-layers #14", problem=_retrievals(), max_steps=limits)
def law_retrieval_energies(retrieve: Retrieve, /, problem: Problem, max_steps: int) -> None:
    """Energies are E(x), of the query first and of the state returned last, up to a constant; they never rise.

    E(x) = -log(sum_i exp(-beta |x - p_i|^2)) / beta, or |x|^2 / 2 - log(sum_i exp(beta x.p_i)) / beta. A score errs by
    (d + 4) eps (|x| + |p|)^2, a logarithm of n terms by n eps / beta.
    """
    x, rules = problem.queries, _rules(problem, 1e-3, max_steps)
    states, steps, _ = _retrieved(retrieve, x, problem, rules)
    one, _, _ = _retrieved(retrieve, x, problem, rules._replace(max_steps=1))
    energies = _energies_of(retrieve, x, problem, rules)
    given = np.stack([energies[0], energies[1], energies[steps, np.arange(len(x))]])
    slack = _energy_slack(problem, states)
    pairs = zip(*(_definitions(problem, a) for a in (x, one, states)), strict=True)
    exact = [np.stack([e for _, e in pair]) for pair in pairs]
    differences = [e - e[0, 0] + given[0, 0] for e in exact]
    expected = min(differences, key=lambda e: np.abs(given - e).max())
    close(given, expected, slack, "energies of queries, after one step and of states returned, up to a constant")
    at_most(energies[1:], energies[:-1], slack, "energy after a step, and before")


@law("retrieval", source="faiss #563", problem=_retrievals(0.5, 0.1, 1.0, batch=True), fraction=fractions)
def law_retrieval_batch(retrieve: Retrieve, /, problem: Problem, fraction: float) -> None:
    """A query is retrieved as if it were alone, in the same number of steps up to one.

    Where beta diagonal^2 <= 1 the update halves distances: two states after the same steps differ by four times the
    rounding error of a step, and one more step adds the tolerance at most. The tolerance is well above these errors.
    """
    rules = _rules(problem, fraction, 300)
    error = _step_slack(problem)
    rules = rules._replace(tolerance=max(rules.tolerance, 16 * error))
    states, steps, reason = _retrieved(retrieve, problem.queries, problem, rules)
    for i in range(len(states)):
        one, count, why = _retrieved(retrieve, problem.queries[i : i + 1], problem, rules)
        more = abs(int(steps[i]) - int(count[0]))
        at_most(more, 1, 0, f"difference of the steps of query {i} in the batch, and alone")
        length = np.linalg.norm(states[i].astype(float) - one[0])
        slack = 8 * error + more * rules.tolerance
        at_most(length, 0, slack, f"distance between the states of query {i} in the batch, and alone")
        same(str(reason[i]), str(why[0]), f"reason of query {i} in the batch, and alone")


@law("retrieval", promises=("bits",), problem=_retrievals(), fraction=fractions, max_steps=limits)
def law_retrieval_bits(retrieve: Retrieve, /, problem: Problem, fraction: float, max_steps: int) -> None:
    """States, steps and reasons of a query are the same bit for bit, alone and in a batch."""
    rules = _rules(problem, fraction, max_steps)
    together = _retrieved(retrieve, problem.queries, problem, rules)
    for i in range(len(problem.queries)):
        alone = _retrieved(retrieve, problem.queries[i : i + 1], problem, rules)
        for name, a, b in zip(("state", "steps", "reason"), together, alone, strict=True):
            same(a[i].astype(b.dtype), b[0], f"{name} of query {i} in the batch, and alone")


@st.composite
def _far_away(draw: st.DrawFn) -> Problem:
    """Draw integers from -3 to 3; some patterns are there twice."""
    dtype, rng = draw(dtypes()), np.random.default_rng(draw(seeds))
    m, n, d = int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 8])), int(rng.choice([1, 2, 3, 9]))
    x, p = (rng.integers(-3, 4, (rows, d)).astype(dtype) for rows in (m, n))
    return Problem(x, p, float(rng.choice([1.0, 3.0, 10.0]) / (_diagonal(p) or 1.0) ** 2))


@law("retrieval", promises=("translation",), source="faiss #297", problem=_far_away(), steps=st.sampled_from([1, 2, 3]))
def law_retrieval_translation(retrieve: Retrieve, /, problem: Problem, steps: int) -> None:
    """Translating queries and patterns together, far from the origin, translates the states: s_i = -|x - p_i|^2.

    Differences of the drawn numbers are exact. The mean of n terms errs by (n + 8) eps |x|, and each step after it
    lengthens that error by half of beta diagonal^2 at most.
    """
    x, p, beta = problem
    far = x.dtype.type(2.0 ** (np.finfo(x.dtype).nmant // 2 + 3))
    rules = _Rules(1e-6 * _diagonal(p) + float(np.spacing(far)), steps)
    near, taken, _ = _retrieved(retrieve, x, problem, rules)
    moved, counted, _ = _retrieved(retrieve, x + far, Problem(x + far, p + far, beta), rules)
    d, diagonal = p.shape[1], _diagonal(p)
    error = float(np.spacing(far)) * (len(p) + 8) * math.sqrt(d)
    growth = sum(max(1.0, beta * diagonal**2 / 2) ** t for t in range(steps))
    judged = taken == counted  # a step within the tolerance may have been the last of one of them only
    close((moved - far)[judged], near[judged], 4 * error * growth, "states after a translation")


@st.composite
def _noisy_patterns(draw: st.DrawFn) -> tuple[Problem, Array]:
    """Draw patterns of -1 and 1 times a scale, queries with a few signs changed and the indices of their patterns.

    Beta is such that for scores -|x - p|^2 and x.p, weights of other patterns are below e^-40.
    """
    dtype, rng = draw(dtypes()), np.random.default_rng(draw(seeds))
    d, n, m = int(rng.choice([16, 64])), int(rng.integers(1, 9)), int(rng.integers(1, 6))
    scale, index = float(rng.choice([1.0, 1e-2, 50.0])), rng.integers(0, n, m)
    scale = 1.0 if dtype == "float16" else scale  # squares would overflow
    p = _hadamard(d)[rng.permutation(d)[:n]]
    x = p[index]
    x[:, : d // 8] *= rng.choice([-1, 1])
    beta = 40 / (d // 2 * scale**2)  # products differ by at least d / 2, squared distances by twice as much
    return Problem((x * scale).astype(dtype), (p * scale).astype(dtype), beta), index


def _hadamard(d: int) -> Array:
    """Return d orthogonal rows of -1 and 1; d is a power of 2."""
    return np.array([[1.0 - 2 * ((i & j).bit_count() % 2) for j in range(d)] for i in range(d)])


@law("retrieval", source="hopfield-layers #12, #17", noisy=_noisy_patterns())
def law_retrieval_stored(retrieve: Retrieve, /, noisy: tuple[Problem, Array]) -> None:
    """A well separated pattern is returned for a query near it: other patterns have weights below e^-40."""
    problem, index = noisy
    states, _, reason = _retrieved(retrieve, problem.queries, problem, _rules(problem, 1e-3, 50))
    size = float(np.abs(problem.patterns).max())
    error = (_resolution(problem) * (len(problem.patterns) + 4) + len(problem.patterns) * 2 * np.exp(-40)) * size
    close(states, problem.patterns[index], error, "states, and the patterns near the queries")
    same((reason == "converged").all(), np.True_, "reasons, which must all be converged")


# Binary memories


@st.composite
def _binary_states(draw: st.DrawFn, largest: int = 70) -> Pair:
    """Draw states and patterns; some states are patterns with few signs changed, some patterns are there twice."""
    dtype, rng = draw(dtypes()), np.random.default_rng(draw(seeds))
    sizes = [(2, 1, 1), (4, 2, 2), (1, 2, 3), (3, 5, 4), (2, 9, 6), (4, 40, 12), (2, 4, 30), (1, 300, 20), (3, 7, 70)]
    sizes = [size for size in [*sizes, (1, 3, 260), (1, 2, 800)] if size[2] <= largest]
    if dtype == "float16":  # the largest sum of squares of overlaps is n d^2
        sizes = [(m, n, d) for m, n, d in sizes if n * d**2 < np.finfo(dtype).max / 2]
    m, n, d = sizes[rng.integers(len(sizes))]
    p, x = (2.0 * rng.integers(0, 2, (rows, d)) - 1 for rows in (n, m))
    if rng.random() < 0.5:
        x = p[rng.integers(0, n, m)] * np.where(rng.random((m, d)) < 0.1, -1, 1)
    if rng.random() < 0.5:
        p[-1] = p[0]
    return x.astype(dtype), p.astype(dtype)


def _energies(memory: Any, x: Array) -> Array:
    return np.asarray(memory.value(x.copy()), float)


def _rounding_of_energies(binary: BinaryMemory, memory: Any, given: Pair) -> Array:
    """Bound the rounding errors (m,) of energies of states, and of states with one sign changed.

    Overlaps are exact. A sum over n patterns, or over d^2 pairs of neurons, errs by (n + 2 d) eps times its terms; they
    are about as large as the energy, or cancel with a constant as large as the terms for equal patterns over d.
    """
    x, p = given
    n, d = p.shape
    ones = np.ones((n, max(d, 2)), p.dtype)
    constant = float(np.abs(_energies(binary(ones), ones[:1])).max()) / (max(d, 2) - 1)
    size = np.abs(_energies(memory, x)) + constant
    slack: Array = 4 * (n + 2 * d + 8) * float(np.finfo(x.dtype).eps) * size
    return slack


def _flips(memory: Any, x: Array) -> Array:
    """Return the changes (m, d) of the energy when one sign is changed."""
    m, d = x.shape
    flipped = np.where(np.eye(d, dtype=bool), -x[:, None], x[:, None]).reshape(m * d, d)
    return _energies(memory, flipped).reshape(m, d) - _energies(memory, x)[:, None]


@law("binary_energy", given=_binary_states(largest=800))
def law_binary_states(binary: BinaryMemory, /, given: Pair) -> None:
    """Updates are states of -1 and 1 of the same shape and dtype, energies are finite, and inputs are not changed."""
    x, p = (a.copy() for a in given)
    memory = binary(p)
    value, updated = np.asarray(memory.value(x)), np.asarray(memory.update(x))
    same(np.isfinite(value), np.ones(len(x), bool), "finite energies (m,)")
    same(np.abs(updated), np.ones_like(x), "magnitudes of the updated states")
    same(x, given[0], "states after the calls")
    same(p, given[1], "patterns after the calls")


@law("binary_energy", given=_binary_states())
def law_binary_descent(binary: BinaryMemory, /, given: Pair) -> None:
    """E(T(x)) <= E(x): an update of one neuron at a time never raises the energy.

    Energies err by (n + 2 d) eps times the sum of their terms.
    """
    x, p = given
    memory = binary(p.copy())
    for _ in range(2):
        updated = np.asarray(memory.update(x.copy()))
        slack = 2 * _rounding_of_energies(binary, memory, (x, p))
        at_most(_energies(memory, updated), _energies(memory, x), slack, "energy after the update")
        x = updated


@law("binary_energy", given=_binary_states())
def law_binary_rest(binary: BinaryMemory, /, given: Pair) -> None:
    """T(x) = x only where no change of a single sign lowers the energy, and wherever each of them raises it.

    So the update is that of the energy. Changes of the energy within its rounding error may be either.
    """
    x, p = given
    memory = binary(p.copy())
    for sweep in range(8):
        updated = np.asarray(memory.update(x.copy()))
        rests = (updated == x).all()
        if rests or not sweep:
            slack = 2 * _rounding_of_energies(binary, memory, (x, p))
            least, still = _flips(memory, x).min(axis=1), (updated == x).all(axis=1)
            at_most(0, least[still], slack[still], "least change of energy by a single sign, where the update rests")
            moved = (~still & (least > slack)).any()
            same(moved, np.False_, "whether a state moved though each single sign raises the energy")
        if rests:
            break
        x = updated


@law("binary_energy", given=_binary_states(largest=6))
def law_binary_update(binary: BinaryMemory, /, given: Pair) -> None:
    """There is an order of the neurons in which each, visited once, takes the sign of lower energy, the others fixed.

    Where both signs have the same energy up to its rounding error, a neuron may take either. All orders are tried.
    """
    x, p = given
    memory, d = binary(p.copy()), x.shape[1]
    corners = np.array(list(itertools.product([-1, 1], repeat=d)), x.dtype)
    energies = _energies(memory, corners).tolist()
    slack = (2 * _rounding_of_energies(binary, memory, (corners, p))).tolist()
    numbers = [(row > 0) @ (1 << np.arange(d)[::-1]) for row in (x, np.asarray(memory.update(x.copy())))]
    for i, (before, after) in enumerate(zip(*(a.tolist() for a in numbers), strict=True)):
        reached = {(before, 0)}  # a state and the neurons visited, as bits
        for _ in range(d):
            reached = {
                (end, visited | 1 << j)
                for state, visited in reached for j in range(d) if not visited >> j & 1
                for end in _lower(state, state ^ 1 << j, energies, slack)
            }  # fmt: skip
        possible = [corners[state].tolist() for state in sorted({state for state, _ in reached})]
        if corners[after].tolist() not in possible:
            raise Violation(
                f"the update of state {i}, {x[i].tolist()}, must be one of {possible}, what visits in some order lead "
                f"to; got {corners[after].tolist()}",
                "update",
            )


def _lower(state: int, other: int, energies: list[float], slack: list[float]) -> tuple[int, ...]:
    """Return the state of lower energy, or both if they do not differ by more than the slack."""
    change = energies[other] - energies[state]
    if abs(change) <= slack[state]:
        return state, other
    return (other,) if change < 0 else (state,)


@law("binary_energy", given=_binary_states(), seed=st.sampled_from(range(100)))
def law_binary_gauge(binary: BinaryMemory, /, given: Pair, seed: int) -> None:
    """Changing the sign of a neuron, or the order of neurons, in states and patterns alike changes no energy."""
    x, p = given
    rng, d = np.random.default_rng(seed), x.shape[1]
    signs, order = (2 * rng.integers(0, 2, d) - 1).astype(x.dtype), rng.permutation(d)
    memory = binary(p.copy())
    slack, value = 2 * _rounding_of_energies(binary, memory, given), _energies(memory, x)
    close(_energies(binary(p * signs), x * signs), value, slack, "energies after changing signs of neurons")
    close(_energies(binary(p[:, order]), x[:, order]), value, slack, "energies after reordering neurons")


@law("binary_energy", given=_binary_states(), seed=st.sampled_from(range(100)))
def law_binary_permutation(binary: BinaryMemory, /, given: Pair, seed: int) -> None:
    """The order of the patterns changes no energy."""
    x, p = given
    memory, order = binary(p.copy()), np.random.default_rng(seed).permutation(len(p))
    slack = 2 * _rounding_of_energies(binary, memory, given)
    close(_energies(binary(p[order]), x), _energies(memory, x), slack, "energies after reordering patterns")


@law("binary_energy", source="faiss #563", given=_binary_states())
def law_binary_batch(binary: BinaryMemory, /, given: Pair) -> None:
    """A state has the same energy alone and in a batch; where each change of a sign raises it, it rests in both.

    Changes must exceed the rounding errors of energies, (n + 2 d) eps times the sum of their terms.
    """
    x, p = given
    memory = binary(p.copy())
    slack = 2 * _rounding_of_energies(binary, memory, given)
    for i, value in enumerate(_energies(memory, x)):
        close(_energies(memory, x[i : i + 1])[0], value, slack[i], f"energy of state {i} alone, and in the batch")
    rest = x
    for _ in range(3):
        rest = np.asarray(memory.update(rest.copy()))
    clear = (_flips(memory, rest) > 2 * _rounding_of_energies(binary, memory, (rest, p))[:, None]).all(axis=1)
    same(np.asarray(memory.update(rest.copy()))[clear], rest[clear], "updates in a batch of states at rest")
    for i in np.flatnonzero(clear).tolist():
        same(np.asarray(memory.update(rest[i : i + 1].copy()))[0], rest[i], "update of one of these states alone")


@law("binary_energy", promises=("even",), given=_binary_states())
def law_binary_even(binary: BinaryMemory, /, given: Pair) -> None:
    """E(-x) = E(x), for even functions of the overlaps, such as Hopfield's."""
    memory = binary(given[1].copy())
    slack = 2 * _rounding_of_energies(binary, memory, given)
    close(_energies(memory, -given[0]), _energies(memory, given[0]), slack, "energy of the negative state")


KINDS: dict[str, Callable[[Array], Array]] = {
    "hopfield": lambda o: -np.square(o).sum(axis=1),
    "polynomial 3": lambda o: -(o**3).sum(axis=1),
    "polynomial 4": lambda o: -(o**4).sum(axis=1),
    "exponential": lambda o: -_log_sum_exp(o),
    "sum of exponentials": lambda o: -np.exp(o).sum(axis=1),
}  # by name, a function of overlaps (m, n) whose multiples, plus constants, are energies


def _log_sum_exp(o: Array) -> Array:
    top = o.max(axis=1)
    value: Array = top + np.log(np.exp(o - top[:, None]).sum(axis=1))
    return value


@law("binary_energy", given=_binary_states(largest=30))
def law_binary_definition(binary: BinaryMemory, kind: str, /, given: Pair) -> None:
    """E(x) = a e(p_i.x) + c, with e the function of the overlaps that `kind` names; a > 0 and c depend on n and d only.

    They are found from n equal patterns. With exact overlaps energies err by (n + 2 d) eps times their terms.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    (x, p), function = given, KINDS[kind]
    n, d = p.shape
    if d < 3:
        return
    ones, states = np.ones((n, d), p.dtype), np.ones((2, d), p.dtype)
    states[1, : d // 2] = -1
    value = _energies(binary(ones), states)
    e = function(states.astype(float) @ ones.T.astype(float))
    a = (value[1] - value[0]) / (e[1] - e[0])
    memory, exact = binary(p.copy()), function(x.astype(float) @ p.T.astype(float))
    slack = _rounding_of_energies(binary, memory, given)
    slack = slack + _rounding_of_energies(binary, binary(ones), (states, ones)).max() * (1 + np.abs(exact / e[0]))
    at_most(0, a, 0, "a, which must be positive")
    close(_energies(memory, x), value[0] + a * (exact - e[0]), 4 * slack, "energies of the overlaps")


@law("binary_energy", promises=("order",), given=_binary_states())
def law_binary_order(binary: BinaryMemory, /, given: Pair) -> None:
    """Neurons 0 to d - 1 are visited in this order, and each flips if and only if that lowers E, the others fixed.

    Where a change is within the rounding error of the energy, the neuron may do either, and what the update did is
    taken as given.
    """
    x, p = (a[:, :20] for a in given)
    memory = binary(p.copy())
    updated, now = np.asarray(memory.update(x.copy())), x.copy()
    slack = 2 * _rounding_of_energies(binary, memory, (x, p))
    for j in range(x.shape[1]):
        other = now.copy()
        other[:, j] *= -1
        change = _energies(memory, other) - _energies(memory, now)
        free = np.abs(change) <= slack
        expected = np.where(change < 0, other[:, j], now[:, j])
        same(updated[~free, j], expected[~free], f"signs of neuron {j}")
        now[:, j] = updated[:, j]


@law("binary_energy", promises=("ties",), given=_binary_states())
def law_binary_ties(binary: BinaryMemory, /, given: Pair) -> None:
    """A neuron whose change would not change the energy keeps its state: where no change lowers E, T(x) = x.

    Judged for energies that are exact integers below 2^24.
    """
    x, p = given
    memory = binary(p.copy())
    flips, value = _flips(memory, x), _energies(memory, x)
    exact = (flips == np.rint(flips)).all(axis=1) & (np.abs(flips).max(axis=1) + np.abs(value) < 2**24)
    rest = exact & (flips.min(axis=1) >= 0)
    same(np.asarray(memory.update(x[rest].copy())), x[rest], "updates of states that no single sign lowers")


@law("binary_energy", promises=("integers",), given=_binary_states(largest=260))
def law_binary_integers(binary: BinaryMemory, /, given: Pair) -> None:
    """States and patterns of int8 have the energies of the same numbers in floating point, and updates as good.

    A product of more than 127 of them overflows int8.
    """
    x, p = given
    memory, small = binary(p.copy()), binary(p.astype(np.int8))
    slack, states = 2 * _rounding_of_energies(binary, memory, given), x.astype(np.int8)
    close(_energies(small, states), _energies(memory, x), slack, "energies of int8, and of floats")
    updated = np.asarray(small.update(states.copy()))
    same(np.abs(updated).astype(int), np.ones(x.shape, int), "magnitudes of the updated states")
    at_most(_energies(memory, updated.astype(x.dtype)), _energies(memory, x), slack, "energy after the update of int8")


@law("binary_energy", dtype=dtypes(), seed=seeds, n=st.sampled_from([1, 2, 3]), d=st.sampled_from([16, 64]))
def law_binary_stored(binary: BinaryMemory, /, dtype: str, seed: int, n: int, d: int) -> None:
    """Orthogonal patterns are fixed points, and one wrong sign is corrected: the field d - 2 exceeds the crosstalk."""
    rng = np.random.default_rng(seed)
    p = (_hadamard(d)[rng.permutation(d)[:n]] * (2 * rng.integers(0, 2, d) - 1)).astype(dtype)
    memory, states = binary(p.copy()), p[rng.permutation(n)]
    same(np.asarray(memory.update(states.copy())), states, "updates of the patterns")
    wrong = states.copy()
    wrong[np.arange(n), rng.integers(0, d, n)] *= -1
    same(np.asarray(memory.update(wrong)), states, "updates of patterns with one wrong sign")
