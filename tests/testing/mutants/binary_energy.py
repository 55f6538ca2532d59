"""Binary memories that are right in several styles, or wrong by a line or two."""

import numpy as np
import ours_memory

from . import Mutant


class Hebb:
    """The network of Hopfield with a matrix, whose diagonal is zero."""

    def __init__(self, patterns):
        self.p = patterns
        self.w = self.matrix(patterns)

    def matrix(self, p):
        w = p.T @ p
        np.fill_diagonal(w, 0)
        return w

    def value(self, states):
        return -np.einsum("md,de,me->m", states, self.w, states) / 2

    def sign(self, x, k):
        """The new states of neuron k: those they had where the field is zero."""
        field = x @ self.w[k]
        return np.where(field == 0, x[:, k], np.sign(field))

    def order(self, d):
        return range(d)

    def update(self, states):
        x = states.copy()
        for k in self.order(x.shape[1]):
            x[:, k] = self.sign(x, k)
        return x


class Dense(Hebb):
    """A function of the overlaps, by default with F(o) = o^3: the energies of both signs are compared."""

    def matrix(self, p):
        return None

    def overlaps(self, states):
        return states @ self.p.T

    def value(self, states):
        return -(self.overlaps(states) ** 3).sum(axis=1)

    def sign(self, x, k):
        up, down = x.copy(), x.copy()
        up[:, k], down[:, k] = 1, -1
        gain = self.value(down) - self.value(up)
        return np.where(gain == 0, x[:, k], np.sign(gain))


class Exponential(Dense):
    def value(self, states):
        o = self.overlaps(states)
        return -o.max(axis=1) - np.log(np.exp(o - o.max(axis=1, keepdims=True)).sum(axis=1))


class Wide(Dense):
    """Float64 inside; the energy by overlaps, with the constant of the zero diagonal."""

    def overlaps(self, states):
        return states.astype(float) @ self.p.astype(float).T

    def value(self, states):
        n, d = self.p.shape
        return -np.square(self.overlaps(states)).sum(axis=1) / (2 * d) + n / 2


class Loops:
    """One neuron of one state after the other, in an order drawn anew; products divided by the number of neurons."""

    def __init__(self, patterns):
        d, self.rng = patterns.shape[1], np.random.default_rng(0)
        self.w = np.array([[patterns[:, i] @ patterns[:, j] / d if i != j else 0.0 for j in range(d)] for i in range(d)])

    def value(self, states):
        return np.array([-x @ (self.w @ x) / 2 for x in states.astype(float)])

    def update(self, states):
        x = states.copy()
        for i in range(len(x)):
            for k in self.rng.permutation(x.shape[1]):
                x[i, k] = 1.0 if x[i] @ self.w[k] >= 0 else -1.0
        return x


Hebb.kind = Wide.kind = Loops.kind = "hopfield"
Dense.kind, Exponential.kind = "polynomial 3", "exponential"


def mutant(base=Hebb, **methods):
    return type("Mutant", (base,), methods)


RIGHT = {
    **{f"hopmin, {name}": memory for name, memory in ours_memory.BINARY.items()},
    "a matrix": Hebb, "cubes of overlaps": Dense, "exponentials": Exponential, "float64 inside": Wide, "loops": Loops,
    "ties become 1": mutant(sign=lambda s, x, k: np.where(x @ s.w[k] >= 0, 1, -1)),
    "the last neuron first": mutant(Exponential, order=lambda s, d: reversed(range(d))),
}  # fmt: skip
PROMISES = {f"hopmin, {name}": memory.promises for name, memory in ours_memory.BINARY.items()} | {
    "a matrix": ("order", "ties", "even"), "cubes of overlaps": ("order", "ties"), "exponentials": ("order",),
    "float64 inside": ("even", "order", "integers"), "loops": ("even",),
}  # fmt: skip


class Synchronous(Hebb):
    def update(self, states):
        field = states @ self.w
        return np.where(field == 0, states, np.sign(field)).astype(states.dtype)


class Steepest(Hebb):
    """Changes the one sign that lowers the energy most."""

    def update(self, states):
        x, gain = states.copy(), states * (states @ self.w)
        for i, k in enumerate(gain.argmin(axis=1)):
            x[i, k] *= np.sign(gain[i, k]) or 1
        return x


class OnAnOldField(Hebb):
    """Neurons one at a time, but all see the first states: synchronous in disguise."""

    def update(self, states):
        x = states.copy()
        for k in range(x.shape[1]):
            x[:, k] = self.sign(states, k)
        return x


class InPlace(Hebb):
    def update(self, states):
        for k in range(states.shape[1]):
            states[:, k] = self.sign(states, k)
        return states


class ScaledInPlace(Hebb):
    def matrix(self, p):
        p /= np.sqrt(len(p))
        return super().matrix(p)


class MeanField(Hebb):
    """One field for the whole batch."""

    def sign(self, x, k):
        field = (x @ self.w[k]).mean()
        return x[:, k] if field == 0 else np.sign(field)


class Tangent(Dense):
    """The sign of the derivative, with the neuron's effect on itself."""

    def sign(self, x, k):
        field = self.overlaps(x) ** 2 @ self.p[:, k]
        return np.where(field == 0, x[:, k], np.sign(field))


def no_diagonal(w):
    return w - np.diag(np.diag(w))


MUTANTS = {
    "all neurons at once": Mutant(Synchronous, "law_binary_descent", "hmcalister/Hopfield-Network-PyTorch"),
    "all neurons at once, in small": Mutant(Synchronous, "law_binary_update", "hmcalister/Hopfield-Network-PyTorch"),
    "fields of the first states": Mutant(OnAnOldField, "law_binary_update", "natural"),
    "only the steepest change": Mutant(Steepest, "law_binary_update", "natural"),
    "without the last neuron": Mutant(mutant(order=lambda s, d: range(d - 1)), "law_binary_update", "natural"),
    "at most 64 neurons": Mutant(mutant(order=lambda s, d: range(min(d, 64))), "law_binary_rest", "natural"),
    "half of the neurons": Mutant(mutant(order=lambda s, d: range(0, d, 2)), "law_binary_stored", "natural"),
    "the diagonal kept": Mutant(mutant(matrix=lambda s, p: p.T @ p), "law_binary_rest", "natural"),
    "the diagonal kept, in small": Mutant(mutant(matrix=lambda s, p: p.T @ p), "law_binary_update", "natural"),
    "the derivative instead of the difference": Mutant(Tangent, "law_binary_update", "natural"),
    "a zero field gives zero": Mutant(mutant(sign=lambda s, x, k: np.sign(x @ s.w[k])), "law_binary_states", "natural"),
    "a zero field gives 1": Mutant(
        mutant(sign=lambda s, x, k: np.where(x @ s.w[k] >= 0, 1, -1)), "law_binary_ties", "natural"),
    "states of 0 and 1": Mutant(mutant(sign=lambda s, x, k: (x @ s.w[k] >= 0) * 1.0), "law_binary_states", "natural"),
    "the sign reversed": Mutant(mutant(sign=lambda s, x, k: -Hebb.sign(s, x, k)), "law_binary_descent", "natural"),
    "float64 states": Mutant(mutant(update=lambda s, x: Hebb.update(s, x.astype(float))), "law_binary_states", "natural"),
    "changes its states": Mutant(InPlace, "law_binary_states", "micrograd #53"),
    "scales the patterns in place": Mutant(ScaledInPlace, "law_binary_states", "natural"),
    "one energy for the batch": Mutant(mutant(value=lambda s, x: Hebb.value(s, x).sum()), "law_binary_states", "natural"),
    "energies of all pairs of states": Mutant(
        mutant(value=lambda s, x: -(x @ s.w @ x.T).sum(axis=1) / 2), "law_binary_batch", "natural"),
    "the mean field of the batch": Mutant(MeanField, "law_binary_update", "natural"),
    "rows in another order": Mutant(mutant(update=lambda s, x: Hebb.update(s, x)[::-1]), "law_binary_batch", "natural"),
    "only the first state": Mutant(
        mutant(update=lambda s, x: np.concatenate([Hebb.update(s, x[:1]), x[1:]])), "law_binary_update", "natural"),
    "exponentials that overflow": Mutant(
        mutant(Dense, value=lambda s, x: -np.exp(s.overlaps(x)).sum(axis=1)), "law_binary_states", "rmcgibbo/logsumexp #2"),
    "a logarithm of exponentials that overflow": Mutant(
        mutant(Dense, value=lambda s, x: -np.log(np.exp(s.overlaps(x)).sum(axis=1))), "law_binary_states", "rmcgibbo/logsumexp #2"),
    "patterns centred": Mutant(
        mutant(matrix=lambda s, p: Hebb.matrix(s, p - p.mean(axis=0))), "law_binary_definition", "natural"),
    "activity subtracted": Mutant(mutant(matrix=lambda s, p: Hebb.matrix(s, p - p.mean())), "law_binary_gauge", "natural"),
    "each pattern once": Mutant(
        mutant(matrix=lambda s, p: Hebb.matrix(s, np.unique(p, axis=0))), "law_binary_definition", "natural"),
    "the last pattern missing": Mutant(
        mutant(matrix=lambda s, p: Hebb.matrix(s, p[:-1])), "law_binary_permutation", "natural"),
    "patterns that decay": Mutant(
        mutant(matrix=lambda s, p: Hebb.matrix(s, p * 0.9 ** np.arange(len(p))[::-1, None].astype(p.dtype))),
        "law_binary_permutation", "natural"),
    "at most 200 patterns": Mutant(mutant(matrix=lambda s, p: Hebb.matrix(s, p[:200])), "law_binary_permutation", "natural"),
    "the upper triangle": Mutant(mutant(matrix=lambda s, p: np.triu(p.T @ p, 1)), "law_binary_rest", "natural"),
    "a product of the wrong axes": Mutant(
        mutant(matrix=lambda s, p: no_diagonal(np.outer(p.sum(axis=0), p.sum(axis=0)))), "law_binary_definition", "natural"),
    "neighbours coupled": Mutant(
        mutant(value=lambda s, x: Hebb.value(s, x) - (x[:, 1:] * x[:, :-1]).sum(axis=1)), "law_binary_gauge", "natural"),
    "a field that favours 1": Mutant(
        mutant(sign=lambda s, x, k: np.where(x @ s.w[k] > -3, 1, -1)), "law_binary_descent", "natural"),
    "energy with its sign changed": Mutant(mutant(value=lambda s, x: -Hebb.value(s, x)), "law_binary_descent", "natural"),
    "energy of the absolute overlaps": Mutant(
        mutant(Dense, value=lambda s, x: -np.abs(s.overlaps(x) ** 3).sum(axis=1)), "law_binary_definition", "natural"),
    "the square instead of the cube": Mutant(
        mutant(Dense, value=lambda s, x: -(s.overlaps(x) ** 2).sum(axis=1)), "law_binary_definition", "natural"),
    "negative overlaps clipped": Mutant(
        mutant(Wide, value=lambda s, x: -np.square(np.maximum(s.overlaps(x), 0)).sum(axis=1)), "law_binary_even", "natural"),
    "the last neuron first": Mutant(mutant(order=lambda s, d: reversed(range(d))), "law_binary_order", "natural"),
    "the first neuron twice, the second never": Mutant(
        mutant(order=lambda s, d: [0, 0, *range(2, d)]), "law_binary_order", "natural"),
    "products in int8": Mutant(Hebb, "law_binary_integers", "natural"),
}  # fmt: skip
