"""The paper's statements as a table, each with a verdict and a check on random instances: `hopmin claims`.

Niu, Bai, Deng, Han 2024, *Beyond Scaling Laws*, arXiv 2405.08707. A claim gives the statement, its place in the paper,
and the verdict: it holds, it holds under a condition, or it fails as read. Its check pairs a property with a sampler of
instances; `examine` counts in how many the statement fails, and finds the worst one. Where a statement needs a
condition or another constant, a second check examines it in that form.

- the table [`CLAIMS`] of [`Claim`], one of them by its identifier [`claim`]
- checks [`Check`], running them [`examine`], and their results [`Findings`], [`Evidence`]

The statements themselves are in `hopmin.paper.properties`, the samplers here. The paper is read as its second version
prints it; where the printed order of terms was uncertain, the claim says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.energy import DistanceEnergy
from hopmin.memory.layered import LayeredMemory
from hopmin.memory.nearest import separation
from hopmin.paper import properties
from hopmin.paper.certificates import certify
from hopmin.paper.density import sample
from hopmin.paper.properties import Outcome
from hopmin.paper.scaling import ModelShape

HOLDS, CONDITION, FAILS = "holds", "holds under a condition", "fails as read"


class Check(NamedTuple):
    """A property and a sampler of its arguments.

    Parameters
    ----------
    statement : callable
        A property: a function of an instance that returns an `Outcome`.
    draw : callable
        Returns the property's arguments, drawn from a Generator.
    """

    statement: Callable[..., Outcome]
    draw: Callable[[np.random.Generator], tuple[Any, ...]]

    def __call__(self, rng: np.random.Generator) -> Outcome:
        """Return the outcome for an instance drawn from `rng`."""
        return self.statement(*self.draw(rng))


class Claim(NamedTuple):
    """A statement of the paper.

    Parameters
    ----------
    id : str
        A short name: L for lemmas, P for propositions, E for equations, D for definitions, T for experiments.
    where : str
        Its place in the paper.
    statement : str
        What it says, in the paper's letters.
    verdict : str
        HOLDS, CONDITION or FAILS.
    condition : str
        The condition or correction under which it holds, or a remark.
    check : Check
        The statement as printed.
    corrected : Check, optional
        The statement with its condition or correction.
    """

    id: str
    where: str
    statement: str
    verdict: str
    condition: str
    check: Check
    corrected: Check | None = None


class Evidence(NamedTuple):
    """The result of one check.

    Parameters
    ----------
    cases : int
        The number of instances.
    fails : int
        The number of instances for which the statement fails.
    worst : float
        The margin of the worst instance; negative if its inequality fails.
    example : str
        The worst instance.
    """

    cases: int
    fails: int
    worst: float
    example: str


class Findings(NamedTuple):
    """The results of a claim's checks.

    Parameters
    ----------
    printed : Evidence
        For the statement as printed.
    corrected : Evidence, optional
        For the corrected statement; None if the claim has none.
    """

    printed: Evidence
    corrected: Evidence | None


def examine(claim: Claim, *, cases: int = 200, seed: int = 0) -> Findings:
    """Run the checks of a claim on random instances.

    Parameters
    ----------
    claim : Claim
        A row of `CLAIMS`.
    cases : int, default 200
        The number of instances for each check.
    seed : int, default 0
        The same seed draws the same instances. Each claim has instances of its own.

    Returns
    -------
    Findings
        The results for the statement as printed and as corrected.

    Raises
    ------
    ValueError
        If `cases` is not an integer >= 1, or the seed not an integer >= 0.

    Examples
    --------
    >>> examine(claim("P1"), cases=50).printed.fails
    0
    >>> findings = examine(claim("P3"), cases=50)
    >>> findings.printed.fails > 0, findings.corrected.fails
    (True, 0)
    """
    claim = _check.instance("claim", claim, Claim)
    cases, seed = _check.integer("cases", cases), _check.integer("seed", seed, 0)

    def evidence(check: Check) -> Evidence:
        rng = np.random.default_rng([seed, *claim.id.encode()])
        outcomes = [check(rng) for _ in range(cases)]
        worst = min(outcomes, key=lambda outcome: (outcome.holds, outcome.margin + outcome.slack))
        return Evidence(cases, sum(not outcome.holds for outcome in outcomes), worst.margin, worst.instance)

    return Findings(evidence(claim.check), evidence(claim.corrected) if claim.corrected else None)


def claim(id: str) -> Claim:
    """Return the claim with this identifier; raise ValueError if there is none."""
    return next(c for c in CLAIMS if c.id == _check.choice("id", id, [c.id for c in CLAIMS]))


# Samplers: each returns the arguments of a property


def _nothing(rng: np.random.Generator) -> tuple[()]:
    return ()


def _vectors(rng: np.random.Generator) -> tuple[Array, Array, float]:
    return rng.normal(size=5) * 5, rng.normal(size=5) * 5, rng.random()


def _vector(rng: np.random.Generator) -> tuple[Array]:
    return (rng.normal(size=int(rng.integers(1, 6))) * 10 ** rng.uniform(-1, 3),)


def _vector_and_change(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.normal(size=6) * 5, rng.normal(size=6)


def _vector_and_direction(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.normal(size=5) * 3, rng.normal(size=5)


def _problem(rng: np.random.Generator, fewest: int = 1) -> tuple[Array, Array]:
    """A query (d,) and patterns (n, d) of any scale: close to each other or separated, the query near or far."""
    n, d = int(rng.integers(fewest, 8)), int(rng.integers(1, 5))
    p = rng.normal(size=(n, d)) * 10 ** rng.uniform(-1, 1)
    spread = 10 ** rng.uniform(-1, 0.5)
    return p[rng.integers(n)] + spread * rng.normal(size=d), p


def _query_among_three(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.uniform(-3, 2, size=1), np.array([[-2.0], [0.0], [1.0]])


def _query_and_keys(rng: np.random.Generator, spread: float = 0.5) -> tuple[Array, Array]:
    """A query (3,) and keys (5, 3); `spread` is the standard deviation of the logarithms of their lengths."""
    keys = rng.normal(size=(5, 3))
    keys *= np.exp(spread * rng.normal(size=(5, 1))) / np.linalg.norm(keys, axis=1, keepdims=True)
    return rng.normal(size=3), keys


def _balls(rng: np.random.Generator) -> tuple[Array, float]:
    """Patterns and the radius of disjoint balls around them."""
    _, p = _problem(rng, fewest=2)
    return p, float(separation(p).min() / 2 * rng.uniform(0.1, 1) * (1 - 1e-9))


def _query_in_ball(rng: np.random.Generator) -> tuple[Array, Array, float, int]:
    p, r = _balls(rng)
    own, u = int(rng.integers(len(p))), rng.normal(size=p.shape[1])
    return p[own] + r * rng.random() * u / np.linalg.norm(u), p, r, own


def _query_in_unequal_ball(rng: np.random.Generator) -> tuple[Array, Array, Array, int]:
    """Two patterns on the line, disjoint balls, a large one around the first, and a query in it."""
    p = np.array([[0.0], [1.0 + rng.random()]])
    return np.array([rng.uniform(-1, 1)]), p, np.array([1.0, (p[1, 0] - 1) / 2]), 0


def _queries_in_certified_ball(rng: np.random.Generator) -> tuple[Array, Array, Array, float, int]:
    while True:
        p, r = _balls(rng)
        p, r = p * 4, r * 2
        if (stored := certify(p, r).stored).any():
            break
    own = int(np.flatnonzero(stored)[0])
    x, y = (p[own] + r * rng.random() * u / np.linalg.norm(u) for u in rng.normal(size=(2, p.shape[1])))
    return x, y, p, r, own


def _query_and_memory(rng: np.random.Generator) -> tuple[Array, LayeredMemory]:
    """A query and a memory of two to four layers."""
    d = int(rng.integers(1, 4))
    layers = [rng.normal(size=(int(rng.integers(1, 4)), d)) * 3 for _ in range(int(rng.integers(2, 5)))]
    return rng.normal(size=d) * 3, LayeredMemory(layers, DistanceEnergy(1.0))


def _layer_step(rng: np.random.Generator) -> tuple[Array, LayeredMemory, int]:
    x, memory = _query_and_memory(rng)
    return x, memory, int(rng.integers(len(memory)))


def _trusted_step(rng: np.random.Generator) -> tuple[Array, LayeredMemory, int, float]:
    return *_layer_step(rng), rng.uniform(0, 4)


def _layer_and_anchor(rng: np.random.Generator) -> tuple[Array, Array, LayeredMemory, int]:
    x, memory = _query_and_memory(rng)
    return x + rng.normal(size=len(x)), x, memory, int(rng.integers(len(memory)))


def _query_and_anchor(rng: np.random.Generator) -> tuple[Array, Array, LayeredMemory]:
    x, memory = _query_and_memory(rng)
    return x + rng.normal(size=len(x)) * 10 ** rng.uniform(-2, 1), x, memory


def _query_and_far_anchor(rng: np.random.Generator) -> tuple[Array, Array, LayeredMemory]:
    x, memory = _query_and_memory(rng)
    return x + rng.normal(size=len(x)) * 3, x, memory


def _query_from_mixture(rng: np.random.Generator) -> tuple[Array, LayeredMemory]:
    _, memory = _query_and_memory(rng)
    return sample(np.concatenate(memory.layers), 1, rng), memory


def _three_patterns_in_balls(rng: np.random.Generator) -> tuple[Array, Array, float]:
    p, r = _balls(rng)
    return p[rng.integers(len(p), size=3)], p, r


def _log_partitions(rng: np.random.Generator) -> tuple[float]:
    return (rng.uniform(-20, 20),)


def _gamma_arguments(rng: np.random.Generator) -> tuple[int, float]:
    return int(rng.integers(1, 200)), 10 ** rng.uniform(-2, 1.5)


def _ball(rng: np.random.Generator) -> tuple[int, float]:
    return int(rng.integers(1, 40)), 10 ** rng.uniform(-1, 0.7)


def _ball_and_uniforms(rng: np.random.Generator) -> tuple[int, float, Array]:
    return int(rng.integers(1, 8)), rng.uniform(0.2, 2.5), rng.random(4000)


def _dimension(rng: np.random.Generator, fewest: int, limit: int) -> tuple[int]:
    return (int(rng.integers(fewest, limit)),)


def _model_shape(rng: np.random.Generator) -> tuple[ModelShape]:
    width, positions, layers = (int(rng.integers(*ends)) for ends in ((8, 64), (4, 32), (1, 12)))
    return (ModelShape(layers, width, positions),)


CLAIMS = (
    Claim("L1", "appendix C, lemma 1", "LogSumExp is convex", HOLDS, "",
          Check(properties.lemma_1, _vectors)),
    Claim("L2", "appendix C, lemma 2", "max a < LSE(a) <= max a + log n", CONDITION,
          "<= for <: equal for n = 1, and in floats",
          Check(properties.lemma_2_as_printed, _vector), Check(properties.lemma_2, _vector)),
    Claim("L3", "appendix C, lemma 3", "min a - log n <= -LSE(-a) < min a", CONDITION,
          "<= for <: equal for n = 1, and in floats",
          Check(properties.lemma_3_as_printed, _vector), Check(properties.lemma_3, _vector)),
    Claim("L4", "appendix C, lemma 4", "|LSE(a) - LSE(b)| <= max |a - b|", HOLDS, "",
          Check(properties.lemma_4, _vector_and_change)),
    Claim("L4b", "appendix C", "softmax is the gradient of LogSumExp", HOLDS, "",
          Check(properties.softmax_is_gradient, _vector_and_direction)),
    Claim("L5", "appendix D, lemma 5", "exp(-r) r^n / n <= gamma(n, r) <= r^n / n", HOLDS, "",
          Check(properties.lemma_5, _gamma_arguments)),
    Claim("P1", "section 4.1, proposition 1", "g - log d <= E <= g, of d patterns", HOLDS, "",
          Check(properties.proposition_1, _problem)),
    Claim("P2", "section 4.1, proposition 2", "|E - (2 E_MCHN - log d)| <= max |p|^2 - min |p|^2, at beta = 2", HOLDS,
          "", Check(properties.proposition_2, _problem)),
    Claim("P3", "section 4.1, proposition 3", "-Delta <= g - 2 E_MCHN <= Delta + log d, Delta as in P2", FAILS,
          "-Delta <= g - 2 E_MCHN + log d <= log d (the order of terms in the source is uncertain)",
          Check(properties.proposition_3_as_printed, _problem), Check(properties.proposition_3, _problem)),
    Claim("P4", "section 5.1, proposition 4", "the cross-entropy is about log Z + 1/Z", FAILS,
          "if E is an energy, not a density, it is log Z + mean E: at the patterns log Z, unbounded below",
          Check(properties.proposition_4_as_printed, _balls),
          Check(properties.cross_entropy_identity, _three_patterns_in_balls)),
    Claim("P4b", "section 5.1, proposition 4", "log Z + 1/Z >= 1, with equality at Z = 1", HOLDS, "",
          Check(properties.proposition_4_inequality, _log_partitions)),
    Claim("P5", "section 5.2, proposition 5", "Z = 1 at N = O(D^2)", CONDITION,
          "necessary, not sufficient: at the bound itself Z is exp(-Theta(n)), far below 1",
          Check(properties.proposition_5_as_printed, partial(_dimension, fewest=10, limit=2000)),
          Check(properties.proposition_5, _model_shape)),
    Claim("E3", "equation 3", "g >= 0, and 0 exactly at the patterns", HOLDS, "",
          Check(properties.distance_to_patterns, _problem)),
    Claim("E4", "equation 4", "an attention step lowers E by at least |x - T(x)|^2", HOLDS, "",
          Check(properties.update_lowers_energy, _problem)),
    Claim("E4b", "section 4.1", "the regularizer makes the energy of MCHN convex", FAILS,
          "E is convex if beta times the squared diameter is at most 2",
          Check(properties.mchn_is_convex_as_printed, _query_among_three),
          Check(properties.flat_energy_is_convex, partial(_problem, fewest=2))),
    Claim("E4c", "section 3", "scaled dot-product attention is the update, beta = 1 / (2 sqrt(d))", CONDITION,
          "keys of equal length, values equal to keys",
          Check(properties.attention_is_update, _query_and_keys),
          Check(properties.attention_is_update, partial(_query_and_keys, spread=0.0))),
    Claim("D1", "definition 1, assumption 3", "patterns of disjoint balls are stored: a step stays in the ball",
          CONDITION, "the inequalities of `certify`",
          Check(properties.disjoint_ball_is_stored_as_printed, _query_in_ball),
          Check(properties.certified_ball_is_stored, _queries_in_certified_ball)),
    Claim("E5", "section 4.1", "the nearest pattern of a point in a ball is the ball's own", CONDITION,
          "equal radii, or radii at most half the distance to the nearest other pattern",
          Check(properties.own_pattern_is_nearest, _query_in_unequal_ball),
          Check(properties.own_pattern_is_nearest, _query_in_ball)),
    Claim("E5b", "equation 5", "in disjoint balls g can replace E", CONDITION,
          "the error is at most log(1 + sum exp(-D (D - 2 r))): small if D (D - 2 r) >> log d",
          Check(properties.nearest_replaces_energy_as_printed, _query_in_ball),
          Check(properties.nearest_replaces_energy, _query_in_ball)),
    Claim("E6", "equation 6", "a step of a layer, within its trust region, does not raise its energy", HOLDS, "",
          Check(properties.layer_step_lowers_its_energy, _trusted_step)),
    Claim("E6b", "section 4.2", "the layers' steps, one after another, lower the global energy", FAILS,
          "the step weighted by responsibilities does; a layer's own step raises it by at most -log w_t",
          Check(properties.layer_step_lowers_global_energy_as_printed, _layer_step),
          Check(properties.weighted_step_lowers_global_energy, _query_and_memory)),
    Claim("E6c", "section 4.2", "E_t + c_t majorizes the global energy: above it, touching where the step starts",
          FAILS, "sum_t w_t (E_t + log w_t) does; E_t alone lies above but does not touch",
          Check(properties.layer_majorizes_as_printed, _layer_and_anchor),
          Check(properties.surrogate_majorizes, _query_and_anchor)),
    Claim("E6d", "section 4.2", "a layer's step raises the global energy by at most -log w_t", HOLDS, "(ours)",
          Check(properties.layer_step_raises_at_most, _query_and_memory)),
    Claim("E8", "equations 7, 8", "min E_t - log l <= E_global <= min E_t", HOLDS, "",
          Check(properties.global_energy_is_soft_minimum, _query_and_memory)),
    Claim("E7", "equations 4, 7", "E_global is the energy (4) of all patterns in one memory", HOLDS, "(ours)",
          Check(properties.global_energy_is_flat, _query_and_memory)),
    Claim("E9", "equation 9", "Z_theta is the sum of the layers' Z_t, over one region", HOLDS, "",
          Check(properties.layer_partitions_add_up, _query_from_mixture)),
    Claim("E10", "equation 10", "for one layer t, E_global = E_t - log l + c with 0 <= c < log l everywhere", FAILS,
          "true for the layer of lowest energy at x, which depends on x",
          Check(properties.one_layer_is_lowest_as_printed, _query_and_far_anchor),
          Check(properties.some_layer_is_lowest, _query_and_memory)),
    Claim("E11", "section 5.1", "exp(-E) / Z is a density: on all of R^n a mixture of Gaussians", HOLDS, "(ours)",
          Check(properties.density_is_mixture, _problem)),
    Claim("E12", "equations 12, 13", "the integral of exp(-|x|^2) over a ball is 2 pi^(n/2) gamma(n, r) / Gamma(n/2)",
          FAILS, "pi^(n/2) P(n/2, r^2); the printed formula integrates exp(-|x|)",
          Check(properties.equation_12_as_printed, _ball), Check(properties.ball_integral, _ball_and_uniforms)),
    Claim("E14", "equation 14", "exp(-r) V_n(r) <= that integral <= V_n(r)", FAILS, "exp(-r^2) for exp(-r), or r <= 1",
          Check(properties.equation_14_as_printed, _ball), Check(properties.equation_14, _ball)),
    Claim("E14b", "section 5.2", "V_n(r) is of order one at r = sqrt(n / (2 pi e))", CONDITION,
          "V_n is about 1 / sqrt(pi n) there; the radius of volume one is larger by a fraction of log(pi n) / (2 n)",
          Check(properties.volume_is_one_as_printed, partial(_dimension, fewest=2, limit=5000)),
          Check(properties.paper_radius_is_close, partial(_dimension, fewest=2, limit=5000))),
    Claim("T1", "equation 2, appendix E", "N is about A l w^2, with A = 10", HOLDS, "",
          Check(properties.parameters_per_layer, _nothing)),
    Claim("T3", "table 3", "N / D^2 is about 8.7e-10 in three models", HOLDS,
          "three points cannot distinguish an exponent of 2 from nearby ones",
          Check(properties.table_3, _nothing)),
    Claim("T4", "section 6", "the loss on Question-Formation levels off near 1", HOLDS,
          "because that is the entropy of the language; it is no evidence for a bound",
          Check(properties.plateau_is_entropy, _nothing)),
)  # fmt: skip
