"""AdamW, clipping and schedules that are right in two styles, or wrong by a line or two."""

import math

import numpy as np
import ours

from . import Mutant


class AdamW:
    """AdamW in PyTorch's order: decay first, and the corrections apart from the moments."""

    def __init__(self, parameters, *, lr, betas, eps, weight_decay):
        self.parameters, self.lr, self.eps, self.decay = parameters, lr, eps, weight_decay
        self.b1, self.b2 = betas
        self.m = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.v = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.t = 0

    def step(self, gradients):
        self.t += 1
        for name, p in self.parameters.items():
            self.update(name, p, gradients[name])

    def moments(self, name, g):
        self.m[name] = self.b1 * self.m[name] + (1 - self.b1) * g
        self.v[name] = self.b2 * self.v[name] + (1 - self.b2) * g * g
        return self.m[name], self.v[name]

    def corrections(self):
        return 1 - self.b1**self.t, 1 - self.b2**self.t

    def direction(self, name, g):
        (m, v), (c1, c2) = self.moments(name, g), self.corrections()
        return m / c1 / (np.sqrt(v) / math.sqrt(c2) + self.eps)

    def update(self, name, p, g):
        p *= 1 - self.lr * self.decay
        p -= self.lr * self.direction(name, g)

    @staticmethod
    def clip(gradients, max_norm):
        """As PyTorch does, with 1e-6 added to the norm."""
        norm = np.sqrt(sum(np.square(g).sum() for g in gradients.values()))
        for g in gradients.values():
            g *= min(1.0, max_norm / (norm + 1e-6))
        return norm

    @staticmethod
    def schedule(step, *, peak, floor, steps, warmup_steps):
        """As in nanoGPT: the first rate is 0."""
        if step < warmup_steps:
            return peak * step / warmup_steps
        progress = min(1.0, (step - warmup_steps) / (steps - warmup_steps))
        return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))


class Lists(AdamW):
    """Float64 inside, algorithm 2 of the paper to the letter, decay with the step, number by number."""

    def update(self, name, p, g):
        old = p.astype(np.float64)
        p[...] = old - self.lr * (self.direction(name, g.astype(np.float64)) + self.decay * old)

    @staticmethod
    def clip(gradients, max_norm):
        norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat))
        if norm > max_norm:
            for g in gradients.values():
                g[...] = g * (max_norm / norm)
        return norm


class Corrected(AdamW):
    """Corrections in the dtype of the parameters."""

    def corrections(self):
        dtype = next(iter(self.parameters.values())).dtype.type
        return 1 - dtype(self.b1) ** self.t, float(1 - dtype(self.b2) ** self.t)


RIGHT = {"hopmin": ours.AdamW, "in PyTorch's order": AdamW, "float64 inside": Lists, "corrections in the dtype": Corrected}


class Coupled(AdamW):
    def update(self, name, p, g):
        p -= self.lr * self.direction(name, g + self.decay * p)


class CoupledInPlace(AdamW):
    def update(self, name, p, g):
        g += self.decay * p
        p -= self.lr * self.direction(name, g)


class DecayWithoutRate(AdamW):
    def update(self, name, p, g):
        p *= 1 - self.decay
        p -= self.lr * self.direction(name, g)


class DecayAfter(AdamW):
    def update(self, name, p, g):
        p -= self.lr * self.direction(name, g)
        p -= self.lr * self.decay * p


class AlwaysDecays(AdamW):
    def __init__(self, parameters, *, weight_decay, **options):
        super().__init__(parameters, weight_decay=weight_decay or 0.01, **options)


class NoCorrection(AdamW):
    def corrections(self):
        return 1, 1


class FirstCorrectionOnly(AdamW):
    def corrections(self):
        return super().corrections()[0], 1


class CorrectedFromZero(AdamW):
    """The step is counted after the corrections."""

    def corrections(self):
        t = max(self.t - 1, 1)
        return 1 - self.b1**t, 1 - self.b2**t


class StepPerParameter(AdamW):
    """Each parameter counts as a step."""

    def update(self, name, p, g):
        super().update(name, p, g)
        self.t += 1


class CorrectedInPlace(AdamW):
    """The corrected moments are kept."""

    def direction(self, name, g):
        (m, v), (c1, c2) = self.moments(name, g), self.corrections()
        m /= c1
        v /= c2
        return m / (np.sqrt(v) + self.eps)


class EpsilonInside(AdamW):
    def direction(self, name, g):
        (m, v), (c1, c2) = self.moments(name, g), self.corrections()
        return m / c1 / np.sqrt(v / c2 + self.eps)


class EpsilonBefore(AdamW):
    """Epsilon is added before the correction of v."""

    def direction(self, name, g):
        (m, v), (c1, c2) = self.moments(name, g), self.corrections()
        return m / c1 / ((np.sqrt(v) + self.eps) / math.sqrt(c2))


class NoEpsilon(AdamW):
    def direction(self, name, g):
        (m, v), (c1, c2) = self.moments(name, g), self.corrections()
        return m / c1 / np.sqrt(v / c2 + 1e-30)


class Shared(AdamW):
    """One m and v for all parameters."""

    def moments(self, name, g):
        return super().moments(next(iter(self.parameters)), g)


class BetasSwapped(AdamW):
    def __init__(self, parameters, *, betas, **options):
        super().__init__(parameters, betas=betas[::-1], **options)


class NoRoot(AdamW):
    def direction(self, name, g):
        (m, v), (c1, c2) = self.moments(name, g), self.corrections()
        return m / c1 / (v / c2 + self.eps)


class Nesterov(AdamW):
    def direction(self, name, g):
        (m, v), (c1, c2) = self.moments(name, g), self.corrections()
        return (self.b1 * m + (1 - self.b1) * g) / c1 / (np.sqrt(v / c2) + self.eps)


class NewArrays(AdamW):
    def update(self, name, p, g):
        self.parameters[name] = p * (1 - self.lr * self.decay) - self.lr * self.direction(name, g)


class VectorsDecay(AdamW):
    """Gains and biases decay too, which is PyTorch's default; wrong where only matrices are to."""


def clipping(function):
    return type("Clipping", (AdamW,), {"clip": staticmethod(function)})


def each(gradients, max_norm):
    for g in gradients.values():
        AdamW.clip({"g": g}, max_norm)
    return math.hypot(*(float(x) for g in gradients.values() for x in g.flat))


def by_value(gradients, max_norm):
    norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat))
    for g in gradients.values():
        np.clip(g, -max_norm, max_norm, out=g)
    return norm


def always(gradients, max_norm):
    norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat))
    for g in gradients.values():
        g *= max_norm / norm
    return norm


def squared(gradients, max_norm):
    norm = float(sum(np.square(g).sum() for g in gradients.values()))
    if norm > max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


def clipped_norm(gradients, max_norm):
    return min(float(AdamW.clip(gradients, max_norm)), max_norm)


def sum_of_norms(gradients, max_norm):
    norm = float(sum(np.sqrt(np.square(g).sum()) for g in gradients.values()))
    if norm > max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


def largest(gradients, max_norm):
    norm = float(max(np.abs(g).max() for g in gradients.values()))
    if norm > max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


def scheduled(function):
    return type("Scheduled", (AdamW,), {"schedule": staticmethod(function)})


def schedule(step, *, peak, floor, steps, warmup_steps, wave=math.pi, end=1.0, length=None, low=None):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(end, (step + 1 - warmup_steps) / ((steps if length is None else length) - warmup_steps))
    low = floor if low is None else low
    return low + (peak - low) * 0.5 * (1 + math.cos(wave * progress))


def linear(step, *, peak, floor, steps, warmup_steps):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak + (floor - peak) * min(1.0, (step + 1 - warmup_steps) / (steps - warmup_steps))


MUTANTS = {
    "decay in the gradient": Mutant(Coupled, "law_adamw", "natural"),
    "decay in the gradient, in place": Mutant(CoupledInPlace, "law_step_arrays", "natural"),
    "decay without the rate": Mutant(DecayWithoutRate, "law_adamw", "natural"),
    "decay after the step": Mutant(DecayAfter, "law_adamw", "natural"),
    "always decays": Mutant(AlwaysDecays, "law_adamw", "natural"),
    "no correction": Mutant(NoCorrection, "law_adamw", "natural"),
    "v not corrected": Mutant(FirstCorrectionOnly, "law_adamw", "natural"),
    "steps from 0": Mutant(CorrectedFromZero, "law_adamw", "natural"),
    "a step per parameter": Mutant(StepPerParameter, "law_adamw", "natural"),
    "corrected moments kept": Mutant(CorrectedInPlace, "law_adamw", "natural"),
    "epsilon inside the root": Mutant(EpsilonInside, "law_adamw", "natural"),
    "epsilon before the correction": Mutant(EpsilonBefore, "law_adamw", "natural"),
    "epsilon left out": Mutant(NoEpsilon, "law_adamw", "natural"),
    "moments shared": Mutant(Shared, "law_adamw", "natural"),
    "betas swapped": Mutant(BetasSwapped, "law_adamw", "natural"),
    "no root": Mutant(NoRoot, "law_adamw", "natural"),
    "Nesterov": Mutant(Nesterov, "law_adamw", "natural"),
    "new arrays": Mutant(NewArrays, "law_step_arrays", "natural"),
    "vectors decay": Mutant(VectorsDecay, "law_adamw_vectors", "natural"),
    "clips each gradient": Mutant(clipping(each), "law_clipping", "natural"),
    "clips values": Mutant(clipping(by_value), "law_clipping", "natural"),
    "always scales": Mutant(clipping(always), "law_clipping", "natural"),
    "norm squared": Mutant(clipping(squared), "law_clipping", "natural"),
    "norm after clipping": Mutant(clipping(clipped_norm), "law_clipping", "natural"),
    "sum of norms": Mutant(clipping(sum_of_norms), "law_clipping", "natural"),
    "largest entry": Mutant(clipping(largest), "law_clipping", "natural"),
    "whole cosine": Mutant(scheduled(lambda step, **o: schedule(step, **o, wave=2 * math.pi)), "law_schedule", "natural"),
    "quarter cosine": Mutant(scheduled(lambda step, **o: schedule(step, **o, wave=math.pi / 2)), "law_schedule", "natural"),
    "cosine goes on": Mutant(scheduled(lambda step, **o: schedule(step, **o, end=math.inf)), "law_schedule", "natural"),
    "decays to 0": Mutant(scheduled(lambda step, **o: schedule(step, **o, low=0.0)), "law_schedule", "natural"),
    "warm-up not counted": Mutant(
        scheduled(lambda step, **o: schedule(step, **o, length=o["steps"] + o["warmup_steps"])), "law_schedule", "natural"),
    "linear decay": Mutant(scheduled(linear), "law_schedule", "natural"),
    "warm-up from the floor": Mutant(
        scheduled(lambda step, **o: max(o["floor"], schedule(step, **o))), "law_schedule", "natural"),
    "no warm-up": Mutant(scheduled(lambda step, **o: o["peak"] if step < o["warmup_steps"] else schedule(step, **o)), "law_schedule", "natural"),
}  # fmt: skip
