"""The statements of the paper, each with a check one can run: `hopmin claims`.

Niu, Bai, Deng, Han 2024, *Beyond Scaling Laws*, arXiv 2405.08707. A claim says where a statement stands, what it says,
and whether it holds; its check draws random instances and returns how often, and by how much at worst. Where a
statement needs a condition or another constant, a second check examines it with that.

- the table [`CLAIMS`], of [`Claim`]
- what a check found [`Evidence`], and how to run one [`examine`]

The tone is meant to be that of a careful reader: most statements hold, some after a word is added. The paper is read as
its second version prints it; where the printed order of terms was uncertain, the claim says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hopmin import _check
from hopmin._typing import Array
from hopmin.data.question_formation import question_grammar
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.layered import LayeredMemory
from hopmin.memory.nearest import nearest, separation
from hopmin.numerics import logsumexp, softmax
from hopmin.paper.certificates import certify
from hopmin.paper.density import (
    differential_cross_entropy,
    log_density,
    log_partition,
    log_volume,
    paper_cross_entropy,
    paper_radius,
    sample,
    unit_radius,
)
from hopmin.paper.scaling import Shape, measured_ratios, parameter_bound, parameters
from hopmin.special import log_gamma_p

HOLDS, CONDITION, FAILS = "holds", "holds under a condition", "fails as read"
E, MCHN = DistanceEnergy(1.0), DotEnergy(2.0)  # the paper's energies (4) and, at beta = 2, (Ramsauer)


class Case(NamedTuple):
    """One instance: by what margin the statement holds (below zero: fails), beyond what rounding can do."""

    margin: float
    slack: float
    what: str


class Evidence(NamedTuple):
    """Of many instances: in how many the statement failed, its least margin, and the instance where that was."""

    cases: int
    fails: int
    worst: float
    example: str


Check = Callable[[np.random.Generator], Case]


class Claim(NamedTuple):
    """A statement of the paper. `check` examines it as printed, `corrected` with its condition or correction."""

    id: str
    where: str
    statement: str
    verdict: str
    condition: str
    check: Check
    corrected: Check | None = None


class Findings(NamedTuple):
    """What `examine` found of a claim; `corrected` is None where nothing needed mending."""

    printed: Evidence
    corrected: Evidence | None


def examine(claim: Claim, *, cases: int = 200, seed: int = 0) -> Findings:
    """Run the checks of a claim on so many fresh instances each, the same for the same seed.

    >>> examine(claim("P1"), cases=50).printed.fails
    0
    >>> findings = examine(claim("P3"), cases=50)
    >>> findings.printed.fails > 0, findings.corrected.fails
    (True, 0)
    """
    cases, seed = _check.integer("cases", cases), _check.integer("seed", seed, 0)

    def gathered(check: Check) -> Evidence:
        rng = np.random.default_rng([seed, *claim.id.encode()])  # each claim's instances are its own
        found = [check(rng) for _ in range(cases)]
        worst = min(found, key=lambda case: case.margin + case.slack)
        return Evidence(cases, sum(bool(case.margin < -case.slack) for case in found), float(worst.margin), worst.what)

    return Findings(gathered(claim.check), gathered(claim.corrected) if claim.corrected else None)


def claim(id: str) -> Claim:
    """The claim of this identifier; ValueError if there is none."""
    return next(c for c in CLAIMS if c.id == _check.choice("id", id, [c.id for c in CLAIMS]))


# What instances are made of


def at_most(left: float, right: float, what: str = "", slack: float | None = None) -> Case:
    left, right = float(left), float(right)
    return Case(right - left, 1e-10 * (1 + abs(left) + abs(right)) if slack is None else slack, what)


def between(low: float, x: float, high: float, what: str = "") -> Case:
    return min(at_most(low, x, what), at_most(x, high, what), key=lambda case: case.margin)


def equal(left: float, right: float, what: str = "") -> Case:
    return at_most(abs(float(left) - float(right)), 0.0, what, 1e-10 * (1 + abs(left) + abs(right)))


def problem(rng: np.random.Generator, least: int = 1) -> tuple[Array, Array]:
    """A state (d,) and patterns (n, d), of any scale: crowded, separated, or with the state close to a pattern."""
    n, d = int(rng.integers(least, 8)), int(rng.integers(1, 5))
    p = rng.normal(size=(n, d)) * 10 ** rng.uniform(-1, 1)
    spread = 10 ** rng.uniform(-1, 0.5)
    return p[rng.integers(n)] + spread * rng.normal(size=d), p


def layers(rng: np.random.Generator) -> tuple[Array, LayeredMemory]:
    d = int(rng.integers(1, 4))
    parts = [rng.normal(size=(int(rng.integers(1, 4)), d)) * 3 for _ in range(int(rng.integers(2, 5)))]
    return rng.normal(size=d) * 3, LayeredMemory(parts, E)


def balls(rng: np.random.Generator) -> tuple[Array, float]:
    """Patterns and the radius of disjoint balls around them."""
    _, p = problem(rng, least=2)
    return p, float(separation(p).min() / 2 * rng.uniform(0.1, 1) * (1 - 1e-9))


def shown(*arrays: Array) -> str:
    return "; ".join(np.array2string(np.asarray(a), precision=3, separator=", ").replace("\n", "") for a in arrays)


def spread_of_squares(p: Array) -> float:
    return float(np.ptp(np.square(p).sum(axis=1)))


def g(x: Array, p: Array) -> float:
    return float(nearest(x, p)[0][0] ** 2)


# Lemmas


def convex(rng: np.random.Generator) -> Case:
    a, b, t = rng.normal(size=5) * 5, rng.normal(size=5) * 5, rng.random()
    return at_most(logsumexp(t * a + (1 - t) * b), t * logsumexp(a) + (1 - t) * logsumexp(b))


def numbers(rng: np.random.Generator) -> Array:
    return rng.normal(size=int(rng.integers(1, 6))) * 10 ** rng.uniform(-1, 3)


def soft_maximum_strict(rng: np.random.Generator) -> Case:
    a = numbers(rng)
    gap = float(logsumexp(a) - a.max())
    return Case(gap if gap > 0 else -1.0, 0.0, f"{shown(a)}: LSE - max = {gap:.3g}")


def soft_maximum(rng: np.random.Generator) -> Case:
    a = numbers(rng)
    return between(a.max(), logsumexp(a), a.max() + math.log(len(a)))


def soft_minimum_strict(rng: np.random.Generator) -> Case:
    a = numbers(rng)
    gap = float(a.min() + logsumexp(-a))
    return Case(gap if gap > 0 else -1.0, 0.0, f"{shown(a)}: min - (-LSE(-a)) = {gap:.3g}")


def soft_minimum(rng: np.random.Generator) -> Case:
    a = numbers(rng)
    return between(a.min() - math.log(len(a)), -logsumexp(-a), a.min())


def lipschitz(rng: np.random.Generator) -> Case:
    a, move = rng.normal(size=6) * 5, rng.normal(size=6)
    return at_most(abs(logsumexp(a + move) - logsumexp(a)), np.abs(move).max())


def softmax_is_the_gradient(rng: np.random.Generator) -> Case:
    a, u, h = rng.normal(size=5) * 3, rng.normal(size=5), 1e-5
    slope = (logsumexp(a + h * u) - logsumexp(a - h * u)) / (2 * h)
    return at_most(abs(softmax(a) @ u - slope), 0, "", 1e-8)


def incomplete_gamma(rng: np.random.Generator) -> Case:
    d, r = int(rng.integers(1, 200)), 10 ** rng.uniform(-2, 1.5)
    log_gamma = float(log_gamma_p(d, r)) + math.lgamma(d)
    return between(d * math.log(r) - math.log(d) - r, log_gamma, d * math.log(r) - math.log(d))


# Propositions


def proposition_1(rng: np.random.Generator) -> Case:
    x, p = problem(rng)
    return between(g(x, p) - math.log(len(p)), E.value(x, p), g(x, p), shown(x, p))


def proposition_2(rng: np.random.Generator) -> Case:
    x, p = problem(rng)
    return at_most(abs(E.value(x, p) - 2 * MCHN.value(x, p) + math.log(len(p))), spread_of_squares(p), shown(x, p))


def proposition_3(rng: np.random.Generator) -> Case:
    x, p = problem(rng)
    delta, gap = spread_of_squares(p), g(x, p) - 2 * MCHN.value(x, p)
    return between(-delta, gap, delta + math.log(len(p)), f"patterns {shown(p)}, state {shown(x)}: {gap:.4f}")


def proposition_3_corrected(rng: np.random.Generator) -> Case:
    x, p = problem(rng)
    shift = math.log(len(p))
    return between(-spread_of_squares(p), g(x, p) - 2 * MCHN.value(x, p) + shift, shift)


def proposition_4(rng: np.random.Generator) -> Case:
    p, r = balls(rng)
    log_z = log_partition(p, r, form="nearest")
    exact = differential_cross_entropy(np.zeros(1), log_z)  # at the patterns, where g = 0
    read = paper_cross_entropy(log_z)
    where = f"{len(p)} balls of radius {r:.3g} in {p.shape[1]} dimensions"
    return Case(-abs(read - exact), 0.1, f"{where}: log Z + 1/Z = {read:.4g}, cross-entropy {exact:.2f}")


def proposition_4_inequality(rng: np.random.Generator) -> Case:
    log_z = rng.uniform(-20, 20)
    return at_most(1, paper_cross_entropy(log_z), f"log Z = {log_z:.3g}")


def cross_entropy_identity(rng: np.random.Generator) -> Case:
    p, r = balls(rng)
    log_z = log_partition(p, r)
    held_out = p[rng.integers(len(p), size=3)]
    by_hand = -np.mean([-E.value(x, p) - log_z for x in held_out])
    return equal(differential_cross_entropy(E.value(held_out, p), log_z), by_hand)


def proposition_5(rng: np.random.Generator) -> Case:
    n = int(rng.integers(10, 2000))
    log_z = 0.5 * math.log(math.pi * n) + n / 2 * math.log(math.pi) + float(log_gamma_p(n / 2, paper_radius(n) ** 2))
    return Case(-abs(log_z), 0.5, f"n = {n}, d = sqrt(pi n) patterns: log Z = {log_z:.1f}, not 0")


def proposition_5_necessary(rng: np.random.Generator) -> Case:
    """As many patterns as make Z = 1 exactly: N, from the state's dimension, is below the bound."""
    width, positions, depth = (int(rng.integers(*ends)) for ends in ((8, 64), (4, 32), (1, 12)))
    shape, n = Shape(depth, width, positions), width * positions
    log_count = -n / 2 * math.log(math.pi) - float(log_gamma_p(n / 2, paper_radius(n) ** 2))
    log_bound = math.log(parameter_bound(1.0, shape)) + 2 * (log_count + math.log(positions))
    return at_most(math.log(parameters(shape)), log_bound)


# Energies


def zero_at_patterns_only(rng: np.random.Generator) -> Case:
    x, p = problem(rng)
    inside = abs(g(p[0], p))
    return at_most(inside, 0) if rng.random() < 0.5 else at_most(1e-300, g(x, p))


def attention_descends(rng: np.random.Generator) -> Case:
    x, p = problem(rng)
    y = E.update(x, p)
    return at_most(np.square(x - y).sum(), E.value(x, p) - E.value(y, p), shown(x, p))


def least_bend(energy: DistanceEnergy | DotEnergy, p: Array, x: Array) -> float:
    return float(np.linalg.eigvalsh(energy.hessian(x, p))[0])


def mchn_is_convex(rng: np.random.Generator) -> Case:
    p = np.array([[-2.0], [0.0], [1.0]])
    x = rng.uniform(-3, 2, size=1)
    bend = least_bend(DotEnergy(1.0), p, x)
    return Case(bend, 0.0, f"patterns -2, 0, 1 and beta = 1: second derivative {bend:.2f} at {x[0]:.2f}")


def convex_if_flat(rng: np.random.Generator) -> Case:
    x, p = problem(rng, least=2)
    wide = max(float(np.square(p - row).sum(axis=1).max()) for row in p)
    return at_most(0, least_bend(DistanceEnergy(2 / wide), p, x))


def attention_is_the_update(rng: np.random.Generator, *, norms: float = 0.5) -> Case:
    p = rng.normal(size=(5, 3))
    p *= np.exp(norms * rng.normal(size=(5, 1))) / np.linalg.norm(p, axis=1, keepdims=True)
    q = rng.normal(size=3)
    attention = softmax(p @ q / math.sqrt(3)) @ p
    off = np.abs(attention - DistanceEnergy(1 / (2 * math.sqrt(3))).update(q, p)).max()
    return at_most(off, 0, f"keys of lengths {shown(np.linalg.norm(p, axis=1))}: off by {off:.2g}", 1e-12)


def attention_among_equals(rng: np.random.Generator) -> Case:
    return attention_is_the_update(rng, norms=0.0)


# Balls and densities


def own_pattern_is_nearest(rng: np.random.Generator) -> Case:
    p = np.array([[0.0], [1.0 + rng.random()]])
    r = (1.0, (p[1, 0] - 1) / 2)
    x = np.array([rng.uniform(-1, 1)])
    return Case(
        0.0 if nearest(x, p)[1][0] == 0 else -1.0, 0.5, f"balls of {r[0]:.2f}, {r[1]:.2f} at {shown(p)}; x = {x[0]:.2f}"
    )


def in_ball(rng: np.random.Generator, p: Array, r: float) -> tuple[int, Array]:
    i, u = int(rng.integers(len(p))), rng.normal(size=p.shape[1])
    return i, p[i] + r * rng.random() * u / np.linalg.norm(u)


def own_pattern_is_nearest_if_equal(rng: np.random.Generator) -> Case:
    p, r = balls(rng)
    i, x = in_ball(rng, p, r)
    return Case(0.0 if nearest(x, p)[1][0] == i else -1.0, 0.5, shown(x, p))


def nearest_may_stand_for_soft(rng: np.random.Generator) -> Case:
    p, r = balls(rng)
    _, x = in_ball(rng, p, r)
    gap = g(x, p) - E.value(x, p)
    return Case(-gap, 0.1, f"disjoint balls of radius {r:.2g} at {shown(p)}: g - E = {gap:.2f}")


def nearest_may_stand_if_separated(rng: np.random.Generator) -> Case:
    p, r = balls(rng)
    i, x = in_ball(rng, p, r)
    far = np.linalg.norm(np.delete(p, i, axis=0) - p[i], axis=1)
    return at_most(g(x, p) - E.value(x, p), math.log1p(np.exp(-far * (far - 2 * r)).sum()))


def disjoint_balls_store(rng: np.random.Generator) -> Case:
    p, r = balls(rng)
    i, x = in_ball(rng, p, r)
    away = float(np.linalg.norm(E.update(x, p) - p[i]))
    return Case(r - away, 1e-12, f"radius {r:.2g}, patterns {shown(p)}: a step from the ball ends {away:.2g} away")


def certified_balls_store(rng: np.random.Generator) -> Case:
    while True:
        p, r = balls(rng)
        p, r = p * 4, r * 2
        if (stored := certify(p, r)).stored.any():
            break
    i = int(np.flatnonzero(stored.stored)[0])
    x, y = (p[i] + r * rng.random() * u / np.linalg.norm(u) for u in rng.normal(size=(2, p.shape[1])))
    drift = np.linalg.norm(E.update(x, p) - p[i])
    closer = np.linalg.norm(E.update(x, p) - E.update(y, p)) - stored.contraction[i] * np.linalg.norm(x - y)
    return between(max(drift - r, closer), 0, math.inf)


def ball_integral(d: int, r: float) -> float:
    """log of the integral of exp(-|x|^2) over a ball."""
    return d / 2 * math.log(math.pi) + float(log_gamma_p(d / 2, r * r))


def drawn_ball(rng: np.random.Generator) -> tuple[int, float]:
    return int(rng.integers(1, 40)), 10 ** rng.uniform(-1, 0.7)


def integral_as_printed(rng: np.random.Generator) -> Case:
    d, r = drawn_ball(rng)
    printed = math.log(2) + d / 2 * math.log(math.pi) + float(log_gamma_p(d, r)) + math.lgamma(d) - math.lgamma(d / 2)
    true = ball_integral(d, r)
    return Case(
        -abs(printed - true), 1e-9, f"n = {d}, r = {r:.2f}: printed {math.exp(printed):.4g}, true {math.exp(true):.4g}"
    )


def integral_by_sampling(rng: np.random.Generator) -> Case:
    d, r = int(rng.integers(1, 8)), rng.uniform(0.2, 2.5)
    squares = r * r * rng.random(4000) ** (2 / d)
    values = np.exp(-squares + log_volume(d, r))
    return at_most(abs(values.mean() - math.exp(ball_integral(d, r))), 5 * values.std() / math.sqrt(len(values)), "")


def ball_bound_as_printed(rng: np.random.Generator) -> Case:
    d, r = drawn_ball(rng)
    return between(log_volume(d, r) - r, ball_integral(d, r), log_volume(d, r), f"n = {d}, r = {r:.2f}")


def ball_bound(rng: np.random.Generator) -> Case:
    d, r = drawn_ball(rng)
    return between(log_volume(d, r) - r * r, ball_integral(d, r), log_volume(d, r))


def volume_at_paper_radius(rng: np.random.Generator) -> Case:
    d = int(rng.integers(2, 5000))
    log_v = log_volume(d, paper_radius(d))
    return Case(-abs(log_v), 0.1, f"n = {d}: volume {math.exp(log_v):.3g}")


def paper_radius_is_close(rng: np.random.Generator) -> Case:
    d = int(rng.integers(2, 5000))
    return between(0, math.log(unit_radius(d) / paper_radius(d)), math.log(math.pi * d) / (2 * d) + 1 / (6 * d * d))


def density_is_a_mixture(rng: np.random.Generator) -> Case:
    x, p = problem(rng)
    gaussians = -np.square(x - p).sum(axis=1) - len(x) / 2 * math.log(math.pi) - math.log(len(p))
    return equal(log_density(x, p), logsumexp(gaussians))


def layers_partition(rng: np.random.Generator) -> Case:
    """Z of all patterns is the sum of the layers' Z, over the same region: by sampling from the mixture itself."""
    _, memory = layers(rng)
    p = np.concatenate(memory.layers)
    x = sample(p, 1, rng)
    parts = [log_partition(q) + float(log_density(x, q)[0]) for q in memory.layers]
    return equal(log_partition(p) + float(log_density(x, p)[0]), logsumexp(parts))


# Layers


def layer_step_descends(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    t, trust = int(rng.integers(len(memory))), rng.uniform(0, 4)
    y = memory.layer_step(x, t, trust=trust)
    return at_most(memory.layer_energies(y)[t], memory.layer_energies(x)[t])


def layer_step_lowers_all(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    t = int(rng.integers(len(memory)))
    before, after = memory.global_energy(x), memory.global_energy(memory.layer_step(x, t))
    return at_most(
        after, before, f"layer {t} of {len(memory)}: the global energy goes from {before:.2f} to {after:.2f}"
    )


def weighted_step_lowers_all(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    y = memory.weighted_step(x)
    return at_most(memory.global_energy(y) + np.square(x - y).sum(), memory.global_energy(x))


def rise_is_bounded(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    trace = memory.sequential_pass(x)
    rises = np.diff(trace.global_energies) - trace.bounds
    return at_most(rises.max(), 0, "", 1e-9)


def layer_majorizes(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    y, t = x + rng.normal(size=len(x)), int(rng.integers(len(memory)))
    gap_x, gap_y = (memory.layer_energies(s)[t] - memory.global_energy(s) for s in (x, y))
    return at_most(gap_x, gap_y, f"E_t - E_global is {gap_x:.2f} where the step starts and {gap_y:.2f} nearby")


def surrogate_majorizes(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    y = x + rng.normal(size=len(x)) * 10 ** rng.uniform(-2, 1)
    above = at_most(memory.global_energy(y), memory.surrogate(y, x))
    return min(above, equal(memory.surrogate(x, x), memory.global_energy(x)), key=lambda case: case.margin + case.slack)


def global_between(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    lowest = memory.layer_energies(x).min()
    return between(lowest - math.log(len(memory)), memory.global_energy(x), lowest)


def global_is_flat(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    return equal(memory.global_energy(x), E.value(x, np.concatenate(memory.layers)))


def one_layer_is_lowest(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    y = x + rng.normal(size=len(x)) * 3
    t = int(memory.layer_energies(x).argmin())
    c = memory.global_energy(y) - memory.layer_energies(y)[t] + math.log(len(memory))
    return between(0, c, math.log(len(memory)), f"layer {t} is lowest at one state; at another c = {c:.2f}")


def some_layer_is_lowest(rng: np.random.Generator) -> Case:
    x, memory = layers(rng)
    energies = memory.layer_energies(x)
    return between(0, memory.global_energy(x) - energies.min() + math.log(len(memory)), math.log(len(memory)))


# Experiments


def parameter_count(rng: np.random.Generator) -> Case:
    layers, width, hidden = 24, 1024, 3072
    counted = 3 * layers * width**2 + layers * (width**2 + 2 * width) + layers * (2 * width * hidden + width + hidden)
    return at_most(abs(counted / parameters(Shape(layers, width, 1024)) - 1), 0.01, f"{counted:,} parameters")


def table_3(rng: np.random.Generator) -> Case:
    ratios = np.array(measured_ratios())
    return at_most(np.abs(ratios * 1e10 - (8.71, 8.79, 8.38)).max(), 0.005, shown(ratios * 1e10))


def plateau(rng: np.random.Generator) -> Case:
    """The entropy of the language itself lies where the plateau was seen, so it bounds nothing else."""
    grammar = question_grammar()
    entropy = grammar.entropy("ROW") / (2 * grammar.length("ROW"))  # input and output are equally long
    return at_most(abs(entropy - 1), 0.02, f"entropy {entropy:.3f} nats per token")


CLAIMS = (
    Claim("L1", "appendix C, lemma 1", "LogSumExp is convex", HOLDS, "", convex),
    Claim("L2", "appendix C, lemma 2", "max a < LSE(a) <= max a + log n", CONDITION,
          "<= for <: equal for n = 1, and in floats", soft_maximum_strict, soft_maximum),
    Claim("L3", "appendix C, lemma 3", "min a - log n <= -LSE(-a) < min a", CONDITION,
          "<= for <: equal for n = 1, and in floats", soft_minimum_strict, soft_minimum),
    Claim("L4", "appendix C, lemma 4", "|LSE(a) - LSE(b)| <= max |a - b|", HOLDS, "", lipschitz),
    Claim("L4b", "appendix C", "softmax is the gradient of LogSumExp", HOLDS, "", softmax_is_the_gradient),
    Claim("L5", "appendix D, lemma 5", "exp(-r) r^n / n <= gamma(n, r) <= r^n / n", HOLDS, "", incomplete_gamma),
    Claim("P1", "section 4.1, proposition 1", "g - log d <= E <= g, of d patterns", HOLDS, "", proposition_1),
    Claim("P2", "section 4.1, proposition 2", "|E - (2 E_MCHN - log d)| <= max |p|^2 - min |p|^2, at beta = 2", HOLDS,
          "", proposition_2),
    Claim("P3", "section 4.1, proposition 3", "-Delta <= g - 2 E_MCHN <= Delta + log d, Delta as in P2", FAILS,
          "-Delta <= g - 2 E_MCHN + log d <= log d (the order of terms in the source is uncertain)",
          proposition_3, proposition_3_corrected),
    Claim("P4", "section 5.1, proposition 4", "the cross-entropy is about log Z + 1/Z", FAILS,
          "with E an energy, not a density, it is log Z + mean E: log Z at the patterns, unbounded below",
          proposition_4, cross_entropy_identity),
    Claim("P4b", "section 5.1, proposition 4", "log Z + 1/Z >= 1, with equality at Z = 1", HOLDS, "",
          proposition_4_inequality),
    Claim("P5", "section 5.2, proposition 5", "Z = 1 at N = O(D^2)", CONDITION,
          "necessary, not sufficient: at the bound itself Z is exp(-Theta(n)), far below 1",
          proposition_5, proposition_5_necessary),
    Claim("E3", "equation 3", "g >= 0, and 0 exactly at the patterns", HOLDS, "", zero_at_patterns_only),
    Claim("E4", "equation 4", "an attention step lowers E, by |x - T(x)|^2 at least", HOLDS, "", attention_descends),
    Claim("E4b", "section 4.1", "the regularizer makes the energy of MCHN convex", FAILS,
          "E is convex if beta times the squared diameter is at most 2", mchn_is_convex, convex_if_flat),
    Claim("E4c", "section 3", "scaled dot-product attention is the update, beta = 1 / (2 sqrt(d))", CONDITION,
          "keys of one length, values equal to keys", attention_is_the_update, attention_among_equals),
    Claim("D1", "definition 1, assumption 3", "patterns of disjoint balls are stored: a step stays in the ball",
          CONDITION, "the inequalities of `certify`", disjoint_balls_store, certified_balls_store),
    Claim("E5", "section 4.1", "within its ball the pattern is the nearest one", CONDITION,
          "equal radii, or radii at most half the distance to the next pattern",
          own_pattern_is_nearest, own_pattern_is_nearest_if_equal),
    Claim("E5b", "equation 5", "in disjoint balls g may stand for E", CONDITION,
          "off by log(1 + sum exp(-D (D - 2 r))) at most: small if D (D - 2 r) >> log d",
          nearest_may_stand_for_soft, nearest_may_stand_if_separated),
    Claim("E6", "equation 6", "a step of a layer, within its trust region, does not raise its energy", HOLDS, "",
          layer_step_descends),
    Claim("E6b", "section 4.2", "the layers' steps, one after another, lower the global energy", FAILS,
          "the step weighted by responsibilities does; a layer's own raises it by -log w_t at most",
          layer_step_lowers_all, weighted_step_lowers_all),
    Claim("E6c", "section 4.2", "E_t + c_t majorizes the global energy: above it, touching where the step starts",
          FAILS, "sum_t w_t (E_t + log w_t) does; E_t alone is above but does not touch",
          layer_majorizes, surrogate_majorizes),
    Claim("E6d", "section 4.2", "a layer's step raises the global energy by -log w_t at most", HOLDS, "(ours)",
          rise_is_bounded),
    Claim("E8", "equations 7, 8", "min E_t - log l <= E_global <= min E_t", HOLDS, "", global_between),
    Claim("E7", "equations 4, 7", "E_global is the energy (4) of all patterns together", HOLDS, "(ours)",
          global_is_flat),
    Claim("E9", "equation 9", "Z_theta is the sum of the layers' Z_t, over one region", HOLDS, "", layers_partition),
    Claim("E10", "equation 10", "for one layer t, E_global = E_t - log l + c with 0 <= c < log l everywhere", FAILS,
          "for the layer that is lowest at x, which changes with x", one_layer_is_lowest, some_layer_is_lowest),
    Claim("E11", "section 5.1", "exp(-E) / Z is a density: on all of R^n a mixture of Gaussians", HOLDS, "(ours)",
          density_is_a_mixture),
    Claim("E12", "equations 12, 13", "the integral of exp(-|x|^2) over a ball is 2 pi^(n/2) gamma(n, r) / Gamma(n/2)",
          FAILS, "pi^(n/2) P(n/2, r^2); as printed, that of exp(-|x|)", integral_as_printed, integral_by_sampling),
    Claim("E14", "equation 14", "exp(-r) V_n(r) <= that integral <= V_n(r)", FAILS,
          "exp(-r^2) for exp(-r), or r <= 1", ball_bound_as_printed, ball_bound),
    Claim("E14b", "section 5.2", "V_n(r) is of order one at r = sqrt(n / (2 pi e))", CONDITION,
          "V_n is about 1 / sqrt(pi n) there; the radius of volume one is larger by a share of log(pi n) / (2 n)",
          volume_at_paper_radius, paper_radius_is_close),
    Claim("T1", "equation 2, appendix E", "N is about A l w^2, with A = 10", HOLDS, "", parameter_count),
    Claim("T3", "table 3", "N / D^2 is about 8.7e-10 in three models", HOLDS,
          "three points do not tell an exponent of 2 from its neighbours", table_3),
    Claim("T4", "section 6", "the loss on Question-Formation levels off near 1", HOLDS,
          "because that is the entropy of the language: it shows no bound", plateau),
)  # fmt: skip
