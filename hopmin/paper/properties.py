"""The paper's statements as properties: functions of an instance that return the margin by which a statement holds.

Niu, Bai, Deng, Han 2024, *Beyond Scaling Laws*, arXiv 2405.08707, second version. Each statement is written down here
once. `hopmin.paper.claims` draws random instances for it and counts the failures; the tests search for failures with
Hypothesis. A name that ends in `_as_printed` marks a statement that fails or needs a condition; the property after it
is the corrected statement.

- appendices C and D, LogSumExp and the incomplete gamma function: [`lemma_1`] to [`lemma_5`], [`softmax_is_gradient`]
- sections 3 and 4.1, the energies: [`proposition_1`], [`proposition_2`], [`proposition_3`], [`distance_to_patterns`],
  [`update_lowers_energy`], [`mchn_is_convex_as_printed`], [`flat_energy_is_convex`], [`attention_is_update`]
- definition 1 and equation 5, balls around patterns: [`disjoint_ball_is_stored_as_printed`],
  [`certified_ball_is_stored`], [`own_pattern_is_nearest`], [`nearest_replaces_energy_as_printed`],
  [`nearest_replaces_energy`]
- section 4.2, layers: [`layer_step_lowers_its_energy`], [`layer_step_lowers_global_energy_as_printed`],
  [`weighted_step_lowers_global_energy`], [`layer_step_raises_at_most`], [`layer_majorizes_as_printed`],
  [`surrogate_majorizes`], [`global_energy_is_soft_minimum`], [`global_energy_is_flat`],
  [`one_layer_is_lowest_as_printed`], [`some_layer_is_lowest`]
- section 5, densities: [`layer_partitions_add_up`], [`density_is_mixture`], [`equation_12_as_printed`],
  [`ball_integral`], [`equation_14_as_printed`], [`equation_14`], [`volume_is_one_as_printed`],
  [`paper_radius_is_close`], [`proposition_4_as_printed`], [`proposition_4_inequality`], [`cross_entropy_identity`],
  [`proposition_5_as_printed`], [`proposition_5`]
- section 6 and appendix E, the experiments: [`parameters_per_layer`], [`table_3`], [`plateau_is_entropy`]

All properties use the same names for the same arguments, in this library's letters, and float64:

    queries     states x, shape (m, d) or (d,)
    patterns    shape (n, d)
    beta        the inverse temperature; the paper's equation 4 has 1
    radius      Euclidean
    own         the index of the pattern in whose ball a query lies, or one index for each query
    memory      a LayeredMemory of L layers with DistanceEnergy
    dimension   d, the paper's n

In the equations E is the energy of equation 4, g the squared distance to the nearest pattern (equation 3), E_MCHN the
energy of Ramsauer et al. 2020 at 2 beta, T the update of E, and |.| the Euclidean norm.

>>> proposition_1([0.5, 0.0], [[0.0, 0.0], [3.0, 0.0]]).holds
True
>>> outcome = proposition_3_as_printed([3.0, 0.0], [[1.0, 0.0], [-1.0, 0.0]])
>>> outcome.holds, round(outcome.margin, 4), outcome.instance
(False, -0.6931, 'patterns [[ 1.,  0.], [-1.,  0.]], query [3., 0.]: g - 2 E_MCHN = -0.6931')
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin._typing import Array, Floats, Integers
from hopmin.data.question_formation import question_grammar
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.layered import LayeredMemory
from hopmin.memory.nearest import nearest
from hopmin.numerics import logsumexp, softmax
from hopmin.paper.certificates import certify, convex_beta
from hopmin.paper.density import (
    differential_cross_entropy,
    log_ball_integral,
    log_density,
    log_partition,
    log_volume,
    paper_cross_entropy,
    paper_radius,
    unit_volume_radius,
)
from hopmin.paper.scaling import ModelShape, measured_ratios, parameter_bound, parameter_count
from hopmin.special import log_gamma_p


class Outcome(NamedTuple):
    """The margin by which a statement holds for an instance.

    Parameters
    ----------
    margin : float
        The right side of the statement's inequality less the left side; negative if the inequality fails. Where there
        are several queries or inequalities, that of the worst one.
    slack : float
        Bound on the rounding error of the margin, or the tolerance of a statement that says "about".
    instance : str
        The instance and the computed values, as text.
    """

    margin: float
    slack: float
    instance: str = ""

    @property
    def holds(self) -> bool:
        """True if the margin is at least -slack; a margin of NaN fails."""
        return self.margin >= -self.slack


# Outcomes of inequalities


def _at_most(left: ArrayLike, right: ArrayLike, instance: str = "", slack: ArrayLike | None = None) -> Outcome:
    """left <= right, at the worst entry."""
    left, right = np.asarray(left, float), np.asarray(right, float)
    margin, slack = np.broadcast_arrays(right - left, _rounding(left, right) if slack is None else slack)
    worst = np.argmin(margin + slack)
    return Outcome(float(margin.flat[worst]), float(slack.flat[worst]), instance)


def _between(
    low: ArrayLike, x: ArrayLike, high: ArrayLike, instance: str = "", slack: ArrayLike | None = None
) -> Outcome:
    """low <= x <= high"""
    return _both(_at_most(low, x, instance, slack), _at_most(x, high, instance, slack))


def _equal(left: ArrayLike, right: ArrayLike, instance: str = "", slack: ArrayLike | None = None) -> Outcome:
    """left = right"""
    left, right = np.asarray(left, float), np.asarray(right, float)
    return _at_most(np.abs(left - right), 0, instance, _rounding(left, right) if slack is None else slack)


def _true(condition: ArrayLike, instance: str = "") -> Outcome:
    """A statement without a margin: 0 if it is true for all entries, else -1."""
    return Outcome(0.0 if np.all(condition) else -1.0, 0.0, instance)


def _both(*outcomes: Outcome) -> Outcome:
    """The worst of several outcomes."""
    return min(outcomes, key=lambda outcome: (outcome.holds, outcome.margin + outcome.slack))


def _rounding(*terms: ArrayLike) -> Floats:
    """Return a generous bound on the rounding error of a sum of these terms."""
    return np.asarray(1e-10 * (1 + sum(np.abs(np.asarray(term, float)) for term in terms)))


def _show(*arrays: ArrayLike) -> str:
    return "; ".join(np.array2string(np.asarray(a), precision=3, separator=", ").replace("\n", "") for a in arrays)


# Quantities in the statements


def _squared_distance(queries: ArrayLike, patterns: ArrayLike) -> Floats:
    """g (m,), equation 3."""
    squares: Floats = np.square(nearest(queries, patterns)[0][..., 0])
    return squares


def _squares(a: ArrayLike) -> Floats:
    squares: Floats = np.square(a).sum(axis=-1)
    return squares


def _spread_of_squares(patterns: ArrayLike) -> float:
    """Delta = max |p|^2 - min |p|^2"""
    return float(np.ptp(_squares(patterns)))


def _dot_rounding(queries: ArrayLike, patterns: ArrayLike, beta: float) -> Floats:
    """Return a bound on the rounding error of DotEnergy, which squares positions, not differences."""
    return _rounding(_squares(queries), _squares(patterns).max(), math.log(len(np.asarray(patterns))) / beta)


# Appendices C and D


def lemma_1(a: ArrayLike, b: ArrayLike, weight: float) -> Outcome:
    """LSE(w a + (1 - w) b) <= w LSE(a) + (1 - w) LSE(b): LogSumExp is convex (appendix C, lemma 1)."""
    a, b = np.asarray(a), np.asarray(b)
    left, right = logsumexp(weight * a + (1 - weight) * b), weight * logsumexp(a) + (1 - weight) * logsumexp(b)
    return _at_most(left, right, slack=_rounding(np.abs(a).max(), np.abs(b).max()))


def lemma_2_as_printed(a: ArrayLike) -> Outcome:
    """max a < LSE(a) (appendix C, lemma 2)."""
    gap = float(logsumexp(a) - np.max(a))
    return Outcome(gap if gap > 0 else -1.0, 0.0, f"{_show(a)}: LSE - max = {gap:.3g}")


def lemma_2(a: ArrayLike) -> Outcome:
    """max a <= LSE(a) <= max a + log n (appendix C, lemma 2, with <= for <)."""
    largest = np.max(a)
    return _between(largest, logsumexp(a), largest + math.log(np.size(a)), _show(a))


def lemma_3_as_printed(a: ArrayLike) -> Outcome:
    """-LSE(-a) < min a (appendix C, lemma 3)."""
    gap = float(np.min(a) + logsumexp(np.negative(a)))
    return Outcome(gap if gap > 0 else -1.0, 0.0, f"{_show(a)}: min - (-LSE(-a)) = {gap:.3g}")


def lemma_3(a: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """min a - log(n) / beta <= -LSE(-beta a) / beta <= min a (appendix C, lemma 3, with <= for <)."""
    least = np.min(a)
    return _between(
        least - math.log(np.size(a)) / beta,
        -logsumexp(-beta * np.asarray(a)) / beta,
        least,
        f"{_show(a)}, beta {beta:g}",
    )


def lemma_4(a: ArrayLike, change: ArrayLike) -> Outcome:
    """|LSE(a + change) - LSE(a)| <= max |change| (appendix C, lemma 4)."""
    a, change = np.asarray(a), np.asarray(change)
    return _at_most(
        abs(logsumexp(a + change) - logsumexp(a)),
        np.abs(change).max(),
        f"{_show(a)}, changed by {_show(change)}",
        _rounding(np.abs(a).max(), np.abs(change).max()),
    )


def softmax_is_gradient(a: ArrayLike, direction: ArrayLike) -> Outcome:
    """softmax(a).u is the derivative of LSE at a in direction u, by central differences (appendix C)."""
    a, u, h = np.asarray(a), np.asarray(direction), 1e-5
    slope = (logsumexp(a + h * u) - logsumexp(a - h * u)) / (2 * h)
    return _equal(softmax(a) @ u, slope, f"{_show(a)}, direction {_show(u)}", 1e-8)


def lemma_5(n: int, radius: float) -> Outcome:
    """exp(-r) r^n / n <= gamma(n, r) <= r^n / n, the lower incomplete gamma function, in logarithms (appendix D)."""
    log_gamma = float(log_gamma_p(n, radius)) + math.lgamma(n)
    largest = n * math.log(radius) - math.log(n)
    return _between(largest - radius, log_gamma, largest, f"n = {n}, r = {radius:.3g}")


# Sections 3 and 4.1: energies


def proposition_1(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """g - log(n) / beta <= E <= g (section 4.1, proposition 1)."""
    g, energy = _squared_distance(queries, patterns), DistanceEnergy(beta).value(queries, patterns)
    return _between(g - math.log(len(np.asarray(patterns))) / beta, energy, g, _show(queries, patterns))


def proposition_2(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """|E - (2 E_MCHN - log(n) / beta)| <= Delta = max |p|^2 - min |p|^2 (section 4.1, proposition 2)."""
    energy, dot = DistanceEnergy(beta).value(queries, patterns), DotEnergy(2 * beta).value(queries, patterns)
    return _at_most(
        abs(energy - 2 * dot + math.log(len(np.asarray(patterns))) / beta),
        _spread_of_squares(patterns),
        _show(queries, patterns),
        _dot_rounding(queries, patterns, beta),
    )


def proposition_3_as_printed(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """-Delta <= g - 2 E_MCHN <= Delta + log(n) / beta, with Delta of proposition 2 (section 4.1, proposition 3)."""
    delta, shift = _spread_of_squares(patterns), math.log(len(np.asarray(patterns))) / beta
    gap = _squared_distance(queries, patterns) - 2 * DotEnergy(2 * beta).value(queries, patterns)
    instance = f"patterns {_show(patterns)}, query {_show(queries)}: g - 2 E_MCHN = {np.min(gap):.4f}"
    return _between(-delta, gap, delta + shift, instance)


def proposition_3(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """-Delta <= g - 2 E_MCHN + log(n) / beta <= log(n) / beta (proposition 3, corrected)."""
    shift = math.log(len(np.asarray(patterns))) / beta
    gap = _squared_distance(queries, patterns) - 2 * DotEnergy(2 * beta).value(queries, patterns)
    slack = _dot_rounding(queries, patterns, beta)
    return _between(-_spread_of_squares(patterns), gap + shift, shift, _show(queries, patterns), slack)


def distance_to_patterns(queries: ArrayLike, patterns: ArrayLike) -> Outcome:
    """g >= 0, and g = 0 exactly at the patterns (equation 3)."""
    x, p = np.atleast_2d(queries), np.asarray(patterns)
    at_pattern = (x[:, None] == p).all(axis=2).any(axis=1)
    at_patterns = _at_most(_squared_distance(p, p), 0, _show(p), 0.0)
    return _both(at_patterns, _true((_squared_distance(x, p) > 0) == ~at_pattern, _show(queries, patterns)))


def update_lowers_energy(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """E(x) - E(T(x)) >= |x - T(x)|^2: a step of attention lowers the energy (equation 4)."""
    energy, x = DistanceEnergy(beta), np.asarray(queries)
    y = energy.update(x, patterns)
    before, after = energy.value(x, patterns), energy.value(y, patterns)
    return _at_most(_squares(x - y), before - after, _show(queries, patterns), _rounding(before, after))


def mchn_is_convex_as_printed(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """The Hessian of DotEnergy(beta) is positive semidefinite, thanks to its term |x|^2 / 2 (section 4.1)."""
    least = np.linalg.eigvalsh(DotEnergy(beta).hessian(queries, patterns))[..., 0]
    instance = f"patterns {_show(np.ravel(patterns))}, beta = {beta:g}: second derivative {np.min(least):.2f}"
    return _at_most(0, least, f"{instance} at {_show(np.ravel(queries))}")


def flat_energy_is_convex(queries: ArrayLike, patterns: ArrayLike) -> Outcome:
    """The Hessian of E is positive semidefinite at beta = 2 / diameter^2, where it is flat enough (section 4.1)."""
    energy = DistanceEnergy(convex_beta(patterns))
    least = np.linalg.eigvalsh(energy.hessian(queries, patterns))[..., 0]
    return _at_most(0, least, _show(queries, patterns))


def attention_is_update(queries: ArrayLike, keys: ArrayLike) -> Outcome:
    """softmax(q.k / sqrt(d)) K = T(q) at beta = 1 / (2 sqrt(d)): scaled dot-product attention (section 3).

    It holds if all keys (n, d) have the same length; the values are the keys.
    """
    x, keys = np.asarray(queries), np.asarray(keys)
    root = math.sqrt(x.shape[-1])
    attention = softmax(x @ keys.T / root, axis=-1) @ keys
    off = np.abs(attention - DistanceEnergy(1 / (2 * root)).update(x, keys)).max()
    largest = np.abs(keys).max()
    slack = 1e-12 * (1 + (np.abs(x).max() + largest) ** 2 * root) * largest  # scores err by their size times eps
    return _at_most(off, 0, f"keys of lengths {_show(np.linalg.norm(keys, axis=1))}: off by {off:.2g}", slack)


# Definition 1 and equation 5: balls around patterns


def disjoint_ball_is_stored_as_printed(
    queries: ArrayLike, patterns: ArrayLike, radius: float, own: int | Integers
) -> Outcome:
    """|T(x) - p_i| <= r for x in the ball of pattern i, if balls are disjoint (definition 1, assumption 3)."""
    away = np.linalg.norm(DistanceEnergy().update(queries, patterns) - np.asarray(patterns)[own], axis=-1)
    instance = f"radius {radius:.2g}, patterns {_show(patterns)}: a step from the ball ends {np.max(away):.2g} away"
    return _at_most(away, radius, instance, 1e-12)


def certified_ball_is_stored(
    queries: ArrayLike, others: ArrayLike, patterns: ArrayLike, radius: float, own: int | Integers, *, beta: float = 1.0
) -> Outcome:
    """|T(x) - p_i| <= r and |T(x) - T(y)| <= q |x - y| < |x - y| for x, y in a certified ball (definition 1).

    The queries x and the `others` y lie in the ball of pattern i = `own`, which must be certified as stored; q is the
    contraction factor. By Banach's theorem the ball holds one fixed point, to which all its points converge.
    """
    x, y, p = np.asarray(queries), np.asarray(others), np.asarray(patterns)
    certificate, update = certify(p, radius, beta=beta), DistanceEnergy(beta).update
    distance, contraction = np.linalg.norm(update(x, p) - p[own], axis=-1), certificate.contraction[own]
    closer = np.linalg.norm(update(x, p) - update(y, p), axis=-1) - contraction * np.linalg.norm(x - y, axis=-1)
    instance = f"radius {radius:.3g}, patterns {_show(p)}"
    return _both(
        _at_most(distance, radius, instance),
        _at_most(closer, 0, instance),
    )


def own_pattern_is_nearest(queries: ArrayLike, patterns: ArrayLike, radii: ArrayLike, own: int | Integers) -> Outcome:
    """The nearest pattern of x in the ball of pattern i is i (section 4.1).

    It holds if all radii are equal, or none is larger than half the distance to the nearest other pattern. Disjoint
    balls are not enough.
    """
    found = nearest(queries, patterns)[1][..., 0]
    return _true(found == own, f"balls of radius {_show(radii)} at {_show(patterns)}; query {_show(queries)}")


def nearest_replaces_energy_as_printed(
    queries: ArrayLike, patterns: ArrayLike, radius: float, own: int | Integers
) -> Outcome:
    """g - E is small, at most 0.1, in disjoint balls (equation 5)."""
    gap = _squared_distance(queries, patterns) - DistanceEnergy().value(queries, patterns)
    instance = f"disjoint balls of radius {radius:.2g} at {_show(patterns)}: g - E = {np.max(gap):.2f}"
    return _at_most(gap, 0, instance, 0.1)


def nearest_replaces_energy(
    queries: ArrayLike, patterns: ArrayLike, radius: float, own: int, *, beta: float = 1.0
) -> Outcome:
    """g - E <= log(1 + sum_{j != i} exp(-beta D_j (D_j - 2 r))) / beta in the ball of i (equation 5, with its error).

    D_j is the distance between the patterns i = `own` and j. The balls must be disjoint.
    """
    p = np.asarray(patterns)
    others = np.linalg.norm(np.delete(p, own, axis=0) - p[own], axis=1)
    gap = _squared_distance(queries, p) - DistanceEnergy(beta).value(queries, p)
    return _at_most(gap, math.log1p(np.exp(-beta * others * (others - 2 * radius)).sum()) / beta, _show(queries, p))


# Section 4.2: layers


def layer_step_lowers_its_energy(queries: ArrayLike, memory: LayeredMemory, layer: int, trust: float) -> Outcome:
    """E_t(x') <= E_t(x) for the step x' of layer t, within the squared trust radius delta_t (equation 6)."""
    before = memory.layer_energies(queries)[layer]
    after = memory.layer_energies(memory.layer_step(queries, layer, trust=trust))[layer]
    return _at_most(after, before, _show(queries, *memory.layers))


def layer_step_lowers_global_energy_as_printed(
    queries: ArrayLike, memory: LayeredMemory, layer: int, trust: float | None = None
) -> Outcome:
    """E_global(x') <= E_global(x) for the step x' of layer t, within its trust region if there is one (section 4.2)."""
    before = memory.global_energy(queries)
    after = memory.global_energy(memory.layer_step(queries, layer, trust=trust))
    worst = np.argmax(after - before)
    values = f"from {np.ravel(before)[worst]:.2f} to {np.ravel(after)[worst]:.2f}"
    return _at_most(after, before, f"layer {layer} of {len(memory)}: the global energy goes {values}")


def weighted_step_lowers_global_energy(queries: ArrayLike, memory: LayeredMemory) -> Outcome:
    """E_global(y) + |x - y|^2 <= E_global(x) for y = sum_t w_t(x) T_t(x) (section 4.2, corrected)."""
    y = memory.weighted_step(queries)
    before, after = memory.global_energy(queries), memory.global_energy(y)
    return _at_most(
        after + _squares(np.asarray(queries) - y), before, _show(queries, *memory.layers), _rounding(before, after)
    )


def layer_step_raises_at_most(queries: ArrayLike, memory: LayeredMemory) -> Outcome:
    """E_global(x') - E_global(x) <= -log(w_t(x)) / beta for the step x' of layer t (section 4.2; ours)."""
    trace = memory.sequential_pass(queries)
    rises = np.diff(trace.global_energies, axis=0) - trace.bounds
    slack = 1e-9 * (1 + np.abs(trace.layer_energies).max())
    return _at_most(rises, 0, _show(queries, *memory.layers), slack)


def layer_majorizes_as_printed(queries: ArrayLike, anchors: ArrayLike, memory: LayeredMemory, layer: int) -> Outcome:
    """E_t - E_global is least at the anchor, where the step starts, so that E_t + c_t majorizes (section 4.2)."""
    start, nearby = (memory.layer_energies(x)[layer] - memory.global_energy(x) for x in (anchors, queries))
    instance = f"E_t - E_global is {np.max(start):.2f} where the step starts and {np.min(nearby):.2f} nearby"
    return _at_most(start, nearby, instance)


def surrogate_majorizes(queries: ArrayLike, anchors: ArrayLike, memory: LayeredMemory) -> Outcome:
    """E_global(x) <= sum_t w_t(a) (E_t(x) + log(w_t(a)) / beta), with equality at x = a (section 4.2, corrected)."""
    instance = _show(queries, anchors, *memory.layers)
    return _both(
        _at_most(memory.global_energy(queries), memory.surrogate(queries, anchors), instance),
        _equal(memory.surrogate(anchors, anchors), memory.global_energy(anchors), instance),
    )


def global_energy_is_soft_minimum(queries: ArrayLike, memory: LayeredMemory) -> Outcome:
    """min_t E_t - log(L) / beta <= E_global <= min_t E_t (equations 7 and 8)."""
    lowest = memory.layer_energies(queries).min(axis=0)
    shift = math.log(len(memory)) / memory.beta
    return _between(lowest - shift, memory.global_energy(queries), lowest, _show(queries, *memory.layers))


def global_energy_is_flat(queries: ArrayLike, memory: LayeredMemory) -> Outcome:
    """E_global is the energy of all patterns in one memory (equations 4 and 7; ours)."""
    flat = memory.energy.value(queries, np.concatenate(memory.layers))
    return _equal(memory.global_energy(queries), flat, _show(queries, *memory.layers))


def one_layer_is_lowest_as_printed(queries: ArrayLike, anchors: ArrayLike, memory: LayeredMemory) -> Outcome:
    """0 <= E_global - E_t + log(L) / beta <= log(L) / beta at the queries, for the layer t lowest at the anchors.

    Equation 10 has one layer t for all states.
    """
    x, a = np.atleast_2d(queries), np.atleast_2d(anchors)
    layer = memory.layer_energies(a).argmin(axis=0)
    shift = math.log(len(memory)) / memory.beta
    c = memory.global_energy(x) - memory.layer_energies(x)[layer, np.arange(len(x))] + shift
    worst = np.argmax(np.abs(c - shift / 2))
    return _between(0, c, shift, f"layer {layer[worst]} is lowest at one state; at another c = {c[worst]:.2f}")


def some_layer_is_lowest(queries: ArrayLike, memory: LayeredMemory) -> Outcome:
    """0 <= E_global - min_t E_t + log(L) / beta <= log(L) / beta (equation 10, the layer depending on the state)."""
    lowest, shift = memory.layer_energies(queries).min(axis=0), math.log(len(memory)) / memory.beta
    energy = memory.global_energy(queries)
    return _between(0, energy - lowest + shift, shift, _show(queries, *memory.layers), _rounding(lowest, shift))


# Section 5: densities


def layer_partitions_add_up(queries: ArrayLike, memory: LayeredMemory) -> Outcome:
    """Z_theta p_theta(x) = sum_t Z_t p_t(x): over one region, partition functions of layers add up (equation 9)."""

    def log_mass(patterns: Array) -> Floats:
        density: Floats = log_density(queries, patterns, beta=memory.beta)
        return log_partition(patterns, beta=memory.beta) + density

    parts = logsumexp(np.stack([log_mass(patterns) for patterns in memory.layers]), axis=0)
    return _equal(log_mass(np.concatenate(memory.layers)), parts, _show(queries, *memory.layers))


def density_is_mixture(queries: ArrayLike, patterns: ArrayLike, *, beta: float = 1.0) -> Outcome:
    """exp(-beta E) / Z, over all of R^d, is the mean of n Gaussians of variance 1 / (2 beta) (section 5.1; ours)."""
    x, p = np.asarray(queries), np.asarray(patterns)
    squares = _squares(x[..., None, :] - p)
    gaussians = -beta * squares - p.shape[1] / 2 * math.log(math.pi / beta) - math.log(len(p))
    return _equal(log_density(x, p, beta=beta), logsumexp(gaussians, axis=-1), _show(queries, patterns))


def log_equation_12(dimension: int, radius: float) -> float:
    """log of 2 pi^(d/2) gamma(d, r) / Gamma(d/2), which equation 12 prints for the integral of exp(-|x|^2) over a ball.

    It is the integral of exp(-|x|). That of exp(-|x|^2) is `density.log_ball_integral`.

    >>> round(math.exp(log_equation_12(5, 2.0)), 2), round(math.exp(log_ball_integral(5, 2.0)), 2)
    (33.26, 14.76)
    """
    d, log_gamma = dimension, float(log_gamma_p(dimension, radius))
    return math.log(2) + d / 2 * math.log(math.pi) + log_gamma + math.lgamma(d) - math.lgamma(d / 2)


def equation_12_as_printed(dimension: int, radius: float) -> Outcome:
    """The integral of exp(-|x|^2) over a ball is 2 pi^(d/2) gamma(d, r) / Gamma(d/2), in logarithms."""
    printed, true = log_equation_12(dimension, radius), log_ball_integral(dimension, radius)
    values = f"printed {math.exp(printed):.4g}, true {math.exp(true):.4g}"
    return _equal(printed, true, f"n = {dimension}, r = {radius:.2f}: {values}", 1e-9)


def ball_integral(dimension: int, radius: float, uniforms: ArrayLike) -> Outcome:
    """The integral of exp(-|x|^2) over a ball is pi^(d/2) P(d/2, r^2), by Monte Carlo (equation 12, corrected).

    `uniforms` are numbers drawn uniformly from [0, 1). Of points in the ball, r^2 u^(2/d) are the squared distances
    from the centre. It holds to within five standard errors.
    """
    d, r = dimension, radius
    values = np.exp(-(r * r * np.asarray(uniforms) ** (2 / d)) + log_volume(d, r))
    error = values.std() / math.sqrt(len(values))
    off = abs(values.mean() - math.exp(log_ball_integral(d, r)))
    return _at_most(off, 5 * error, f"n = {d}, r = {r:.2f}")


def equation_14_as_printed(dimension: int, radius: float) -> Outcome:
    """exp(-r) V(r) <= integral of exp(-|x|^2) over a ball <= V(r), its volume, in logarithms (equation 14)."""
    volume, integral = log_volume(dimension, radius), log_ball_integral(dimension, radius)
    return _between(volume - radius, integral, volume, f"n = {dimension}, r = {radius:.2f}")


def equation_14(dimension: int, radius: float) -> Outcome:
    """exp(-r^2) V(r) <= integral of exp(-|x|^2) over a ball <= V(r), in logarithms (equation 14, corrected)."""
    volume, integral = log_volume(dimension, radius), log_ball_integral(dimension, radius)
    return _between(volume - radius * radius, integral, volume, f"n = {dimension}, r = {radius:.2f}")


def volume_is_one_as_printed(dimension: int) -> Outcome:
    """|log V(r)| <= 0.1 at r = sqrt(d / (2 pi e)), where the paper says that V is of order one (section 5.2)."""
    log_v = log_volume(dimension, paper_radius(dimension))
    return _equal(log_v, 0, f"n = {dimension}: volume {math.exp(log_v):.3g}", 0.1)


def paper_radius_is_close(dimension: int) -> Outcome:
    """0 <= log(R / r) <= log(pi d) / (2 d) + 1 / (6 d^2), with R the radius of volume one (section 5.2, corrected)."""
    d = dimension
    ratio = math.log(unit_volume_radius(d) / paper_radius(d))
    return _between(0, ratio, math.log(math.pi * d) / (2 * d) + 1 / (6 * d * d), f"n = {d}")


def proposition_4_as_printed(patterns: ArrayLike, radius: float) -> Outcome:
    """The cross-entropy of the patterns is about log Z + 1/Z, to within 0.1 (section 5.1, proposition 4)."""
    p = np.asarray(patterns)
    log_z = log_partition(p, radius, form="nearest")
    exact = differential_cross_entropy(np.zeros(1), log_z)  # at the patterns, where g = 0
    printed = paper_cross_entropy(log_z)
    balls = f"{len(p)} balls of radius {radius:.3g} in {p.shape[1]} dimensions"
    return _equal(printed, exact, f"{balls}: log Z + 1/Z = {printed:.4g}, cross-entropy {exact:.2f}", 0.1)


def proposition_4_inequality(log_z: float) -> Outcome:
    """log Z + 1/Z >= 1 (section 5.1, proposition 4)."""
    return _at_most(1, paper_cross_entropy(log_z), f"log Z = {log_z:.3g}")


def cross_entropy_identity(
    queries: ArrayLike, patterns: ArrayLike, radius: float | None = None, *, beta: float = 1.0
) -> Outcome:
    """The mean of -log(exp(-beta E(x)) / Z) is log Z + beta mean E(x) (section 5.1; proposition 4, corrected).

    Z is over balls of this radius around the patterns, or over all of R^d if it is None.
    """
    energy, log_z = DistanceEnergy(beta), log_partition(patterns, radius, beta=beta)
    by_hand = -np.mean([-beta * energy.value(x, patterns) - log_z for x in np.atleast_2d(queries)])
    found = differential_cross_entropy(energy.value(np.atleast_2d(queries), patterns), log_z, beta=beta)
    return _equal(found, by_hand, _show(queries, patterns))


def proposition_5_as_printed(dimension: int) -> Outcome:
    """|log Z| <= 1/2 with d = sqrt(pi n) patterns, where the bound on Z in equation 14 is 1 (section 5.2).

    The letters are the paper's: n dimensions of a state, d patterns, and the paper's radius.
    """
    log_z = 0.5 * math.log(math.pi * dimension) + log_ball_integral(dimension, paper_radius(dimension))
    return _equal(log_z, 0, f"n = {dimension}, d = sqrt(pi n) patterns: log Z = {log_z:.1f}, not 0", 0.5)


def proposition_5(shape: ModelShape) -> Outcome:
    """N <= `parameter_bound` if Z = 1: N = O(D^2) is necessary (section 5.2, proposition 5, corrected).

    There are as many patterns as make Z exactly 1 at the paper's radius.
    """
    dimension = shape.width * shape.positions
    log_patterns = -log_ball_integral(dimension, paper_radius(dimension))
    log_bound = math.log(parameter_bound(1.0, shape)) + 2 * (log_patterns + math.log(shape.positions))
    return _at_most(math.log(parameter_count(shape)), log_bound, str(shape))


# Section 6 and appendix E: experiments


def parameters_per_layer() -> Outcome:
    """N = A l w^2 with A = 10, for GPT-2 medium with hidden layers of 3072, to within 1% (equation 2, appendix E)."""
    layers, width, hidden = 24, 1024, 3072
    counted = 3 * layers * width**2 + layers * (width**2 + 2 * width) + layers * (2 * width * hidden + width + hidden)
    ratio = counted / parameter_count(ModelShape(layers, width, 1024))
    return _at_most(abs(ratio - 1), 0.01, f"{counted:,} parameters")


def table_3() -> Outcome:
    """N / D*^2 is 8.71, 8.79 and 8.38, times 1e-10, in the three models of table 3, to within 0.005."""
    ratios = np.array(measured_ratios()) * 1e10
    return _at_most(np.abs(ratios - (8.71, 8.79, 8.38)), 0.005, _show(ratios))


def plateau_is_entropy() -> Outcome:
    """The entropy of Question-Formation is 1 nat per token, to within 0.02: the loss cannot fall below (section 6)."""
    grammar = question_grammar()
    entropy = grammar.entropy("ROW") / (2 * grammar.length("ROW"))  # input and output are equally long
    return _at_most(abs(entropy - 1), 0.02, f"entropy {entropy:.3f} nats per token")
