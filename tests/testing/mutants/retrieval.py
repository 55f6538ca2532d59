"""Retrieval that is right in several styles, or wrong by a line or two."""

from types import SimpleNamespace

import numpy as np
import ours_memory
import scipy.special

from . import Mutant


class Retrieval:
    """Squared distances in the dtype of the queries; queries that have stopped are left alone."""

    def __call__(self, queries, patterns, beta, *, tolerance, max_steps):
        self.patterns, self.beta, self.tolerance, self.max_steps = self.prepare(patterns), beta, tolerance, max_steps
        x = self.start(queries)
        m = len(x)
        steps, reason, energies = np.zeros(m, int), np.full(m, "max_steps", "<U10"), [self.energy(x)]
        moving = np.arange(m)
        for t in range(1, max_steps + 1):
            z = x[moving].copy()
            x[moving] = self.update(z)
            steps[moving] = t
            stopped = self.stops(z, x[moving])
            energies.append(self.energy(x))
            reason[moving[stopped]] = "converged"
            moving = moving[~stopped]
            if not len(moving):
                break
        return self.result(queries, x, steps, reason, np.array(energies))

    def prepare(self, patterns):
        return patterns

    def start(self, queries):
        return queries.copy()

    def scores(self, x):
        return -np.square(x[:, None] - self.patterns).sum(axis=2)

    def weights(self, x):
        return scipy.special.softmax(self.beta * self.scores(x), axis=1)

    def update(self, x):
        return self.weights(x).astype(x.dtype) @ self.patterns

    def energy(self, x):
        return -scipy.special.logsumexp(self.beta * self.scores(x), axis=1) / self.beta

    def stops(self, z, x):
        return np.linalg.norm(x - z, axis=1) <= self.tolerance

    def result(self, queries, x, steps, reason, energies):
        return SimpleNamespace(states=x.astype(queries.dtype), steps=steps, reason=reason, energies=energies)


class Wide(Retrieval):
    """Float64 inside, for any dtype."""

    def prepare(self, patterns):
        return patterns.astype(float)

    def start(self, queries):
        return queries.astype(float)


class Products(Retrieval):
    """Products of a BLAS, as attention has them."""

    def scores(self, x):
        return x @ self.patterns.T

    def energy(self, x):
        return np.square(x).sum(axis=1) / 2 + super().energy(x)


class Expanded(Retrieval):
    """Distances as |x|^2 + |p|^2 - 2 x.p; near the origin that is as good."""

    def scores(self, x):
        p = self.patterns
        return 2 * x @ p.T - np.square(x).sum(axis=1)[:, None] - np.square(p).sum(axis=1)


class Loops:
    """One query after the other, and no energies."""

    def __call__(self, queries, patterns, beta, *, tolerance, max_steps):
        results = [self.one(x, patterns, beta, tolerance, max_steps) for x in queries]
        states, steps, reason = zip(*results, strict=True)
        return SimpleNamespace(states=np.array(states, queries.dtype), steps=np.array(steps), reason=list(reason))

    def one(self, x, patterns, beta, tolerance, max_steps):
        x = [float(a) for a in x]
        for t in range(1, max_steps + 1):
            scores = [-beta * sum((a - float(b)) ** 2 for a, b in zip(x, p, strict=True)) for p in patterns]
            w = np.exp(np.array(scores) - max(scores))
            z, x = x, [sum(w * patterns[:, j]) / sum(w) for j in range(len(x))]
            if sum((a - b) ** 2 for a, b in zip(x, z, strict=True)) ** 0.5 <= tolerance:
                return x, t, "converged"
        return x, max_steps, "max_steps"


RIGHT = {
    "hopmin, distances": ours_memory.RETRIEVAL["distance"], "hopmin, products": ours_memory.RETRIEVAL["dot"],
    "in the dtype": Retrieval(), "float64 inside": Wide(), "products": Products(), "expanded squares": Expanded(),
    "loops": Loops(),
}  # fmt: skip
PROMISES = {
    "hopmin, distances": ours_memory.RETRIEVAL["distance"].promises,
    "hopmin, products": ours_memory.RETRIEVAL["dot"].promises, "in the dtype": ("translation",),
    "float64 inside": ("translation",), "loops": ("bits", "translation"),
}  # fmt: skip


def mutant(base=Retrieval, **methods):
    return type("Mutant", (base,), methods)()


def with_result(change):
    """Change the arrays of the result: change(self, queries, states, steps, reason, energies)."""

    def result(self, queries, x, steps, reason, energies):
        return Retrieval.result(self, queries, *change(self, queries, x, steps, reason, energies))

    return mutant(result=result)


class OnTheWeights(Retrieval):
    def stops(self, z, x):
        return np.linalg.norm(self.weights(x) - self.weights(z), axis=1) <= self.tolerance


class OnTheEnergy(Retrieval):
    def stops(self, z, x):
        return np.abs(self.energy(x) - self.energy(z)) <= self.tolerance


class StateBefore(Retrieval):
    """Returns the state before the step that is short enough."""

    def __call__(self, queries, patterns, beta, *, tolerance, max_steps):
        found = super().__call__(queries, patterns, beta, tolerance=tolerance, max_steps=max_steps)
        for i, count in enumerate(found.steps):
            options = {"tolerance": tolerance, "max_steps": count - 1}
            one = super().__call__(queries[i : i + 1], patterns, beta, **options) if count > 1 else None
            found.states[i] = queries[i] if one is None else one.states[0]
        return found


class OneStepMore(Retrieval):
    def __call__(self, queries, patterns, beta, *, tolerance, max_steps):
        return super().__call__(queries, patterns, beta, tolerance=tolerance, max_steps=max_steps + 1)


class AllUntilTheLast(Retrieval):
    """Queries go on until all have converged."""

    def stops(self, z, x):
        return np.full(len(x), super().stops(z, x).all())


class UntilTheFirst(AllUntilTheLast):
    def stops(self, z, x):
        return np.full(len(x), Retrieval.stops(self, z, x).any())


class MovesOn(Retrieval):
    """States that have converged move on with the batch, though their steps are no longer counted."""

    def __call__(self, queries, patterns, beta, **options):
        found = super().__call__(queries, patterns, beta, **options)
        for i, count in enumerate(found.steps):
            for _ in range(count, max(found.steps)):
                found.states[i] = self.update(found.states[i : i + 1])[0]
        return found


class NormOfTheBatch(Retrieval):
    def stops(self, z, x):
        return np.full(len(x), np.linalg.norm(x - z) <= self.tolerance)


class MeanOfTheBatch(Retrieval):
    def stops(self, z, x):
        return np.full(len(x), np.linalg.norm(x - z, axis=1).mean() <= self.tolerance)


class Overwrites(Retrieval):
    def start(self, queries):
        return queries


class CentresPatterns(Retrieval):
    def prepare(self, patterns):
        patterns -= patterns.mean(axis=0)
        return patterns


class SingleInside(Retrieval):
    def start(self, queries):
        return queries.astype(np.float32)


class ReasonByCount(Retrieval):
    def result(self, queries, x, steps, reason, energies):
        return super().result(queries, x, steps, np.where(steps == self.max_steps, "max_steps", "converged"), energies)


def normalised(a):
    return a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)


MUTANTS = {
    "stops when the weights are still": Mutant(OnTheWeights(), "law_retrieval_steps", "hopfield-layers #22"),
    "stops when the weights are still, at small beta": Mutant(OnTheWeights(), "law_retrieval_still", "hopfield-layers #22"),
    "stops when the energy is still": Mutant(OnTheEnergy(), "law_retrieval_steps", "natural"),
    "the state before the last step": Mutant(StateBefore(), "law_retrieval_steps", "natural"),
    "the largest coordinate instead of the length": Mutant(
        mutant(stops=lambda s, z, x: np.abs(x - z).max(axis=1) <= s.tolerance), "law_retrieval_steps", "natural"),
    "the root mean square instead of the length": Mutant(
        mutant(stops=lambda s, z, x: np.sqrt(np.square(x - z).mean(axis=1)) <= s.tolerance), "law_retrieval_steps", "numpy.allclose"),
    "the squared length": Mutant(
        mutant(stops=lambda s, z, x: np.square(x - z).sum(axis=1) <= s.tolerance), "law_retrieval_steps", "natural"),
    "a tolerance relative to the state": Mutant(
        mutant(stops=lambda s, z, x: np.linalg.norm(x - z, axis=1) <= s.tolerance * np.linalg.norm(x, axis=1)), "law_retrieval_steps", "natural"),
    "twice the tolerance": Mutant(
        mutant(stops=lambda s, z, x: np.linalg.norm(x - z, axis=1) <= 2 * s.tolerance), "law_retrieval_steps", "natural"),
    "never converged": Mutant(mutant(stops=lambda s, z, x: np.zeros(len(x), bool)), "law_retrieval_stored", "natural"),
    "converged whatever happens": Mutant(
        with_result(lambda s, q, x, steps, why, e: (x, steps, np.full(len(x), "converged"), e)), "law_retrieval_steps", "natural"),
    "reason from the number of steps": Mutant(ReasonByCount(), "law_retrieval_steps", "natural"),
    "steps counted from zero": Mutant(
        with_result(lambda s, q, x, steps, why, e: (x, steps - 1, why, e)), "law_retrieval_result", "natural"),
    "one step too many": Mutant(OneStepMore(), "law_retrieval_result", "natural"),
    "one number of steps for all": Mutant(
        with_result(lambda s, q, x, steps, why, e: (x, steps.max(), why, e)), "law_retrieval_result", "natural"),
    "float64 states for float32 queries": Mutant(
        mutant(Wide, result=lambda s, q, x, *rest: Retrieval.result(s, x, x, *rest)), "law_retrieval_result", "natural"),
    "single precision inside": Mutant(SingleInside(), "law_retrieval_update", "natural"),
    "changes the queries": Mutant(Overwrites(), "law_retrieval_result", "micrograd #53"),
    "centres the patterns in place": Mutant(CentresPatterns(), "law_retrieval_result", "natural"),
    "all go on until the last has converged": Mutant(AllUntilTheLast(), "law_retrieval_batch", "natural"),
    "all stop with the first": Mutant(UntilTheFirst(), "law_retrieval_batch", "natural"),
    "states that have converged move on": Mutant(MovesOn(), "law_retrieval_steps", "natural"),
    "one reason for all": Mutant(
        with_result(lambda s, q, x, steps, why, e: (x, steps, np.full(len(x), min(why)), e)), "law_retrieval_steps", "natural"),
    "no convergence without a step": Mutant(
        mutant(stops=lambda s, z, x: (np.linalg.norm(x - z, axis=1) <= s.tolerance) & (z != x).any(axis=1)),
        "law_retrieval_steps", "natural"),
    "the length of all steps together": Mutant(NormOfTheBatch(), "law_retrieval_batch", "natural"),
    "the mean length of the steps": Mutant(MeanOfTheBatch(), "law_retrieval_steps", "natural"),
    "softmax over the queries": Mutant(
        mutant(weights=lambda s, x: scipy.special.softmax(s.beta * s.scores(x), axis=0)), "law_retrieval_update", "natural"),
    "beta has no effect": Mutant(
        mutant(weights=lambda s, x: scipy.special.softmax(s.scores(x), axis=1)), "law_retrieval_update", "natural"),
    "beta squared": Mutant(
        mutant(weights=lambda s, x: scipy.special.softmax(s.beta**2 * s.scores(x), axis=1)), "law_retrieval_update",
        "EpanechnikovDenseAM"),
    "beta halved": Mutant(
        mutant(weights=lambda s, x: scipy.special.softmax(s.beta / 2 * s.scores(x), axis=1)), "law_retrieval_update", "natural"),
    "distances not squared": Mutant(
        mutant(scores=lambda s, x: -np.linalg.norm(x[:, None] - s.patterns, axis=2)), "law_retrieval_update", "natural"),
    "scaled by the root of d, as attention": Mutant(
        mutant(Products, scores=lambda s, x: x @ s.patterns.T / np.sqrt(x.shape[1])), "law_retrieval_update", "natural"),
    "patterns normalised": Mutant(
        mutant(Products, scores=lambda s, x: x @ normalised(s.patterns).T), "law_retrieval_update", "hopfield-layers #12"),
    "each pattern once": Mutant(mutant(prepare=lambda s, p: np.unique(p, axis=0)), "law_retrieval_update", "natural"),
    "the nearest pattern alone": Mutant(
        mutant(update=lambda s, x: s.patterns[s.scores(x).argmax(axis=1)]), "law_retrieval_update", "natural"),
    "half of each step": Mutant(mutant(update=lambda s, x: (x + Retrieval.update(s, x)) / 2), "law_retrieval_update", "natural"),
    "at most 256 patterns": Mutant(mutant(prepare=lambda s, p: p[:256]), "law_retrieval_update", "natural"),
    "no shift of the exponents": Mutant(
        mutant(Products, weights=lambda s, x: (lambda w: w / w.sum(axis=1, keepdims=True))(np.exp(s.beta * s.scores(x)))),
        "law_retrieval_update", "rmcgibbo/logsumexp #2"),
    "the squared norm not halved": Mutant(
        mutant(Products, energy=lambda s, x: np.square(x).sum(axis=1) / 2 + Products.energy(s, x)), "law_retrieval_energies",
        "hopfield-layers #14"),
    "energy not divided by beta": Mutant(
        mutant(energy=lambda s, x: -scipy.special.logsumexp(s.beta * s.scores(x), axis=1)), "law_retrieval_energies", "natural"),
    "energy with its sign changed": Mutant(
        mutant(energy=lambda s, x: -Retrieval.energy(s, x)), "law_retrieval_energies", "natural"),
    "energies before each step, the last missing": Mutant(
        with_result(lambda s, q, x, steps, why, e: (x, steps, why, e[:-1])), "law_retrieval_result", "natural"),
    "energies late by a step": Mutant(
        with_result(lambda s, q, x, steps, why, e: (x, steps, why, np.concatenate([e[:1], e[:-1]]))), "law_retrieval_energies", "natural"),
    "energies summed over the batch": Mutant(
        with_result(lambda s, q, x, steps, why, e: (x, steps, why, e * 0 + e.sum(axis=1, keepdims=True))), "law_retrieval_energies", "natural"),
    "expanded squares": Mutant(Expanded(), "law_retrieval_translation", "faiss #297, scikit-learn #9354"),
    "rows of a BLAS": Mutant(
        mutant(Wide, scores=lambda s, x: Retrieval.scores(s, x) * (1 + 1e-12 * len(x))), "law_retrieval_bits", "vLLM #27433"),
}  # fmt: skip
