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


PROMISES = {"hopmin": ("matrices",)}
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


class MatricesOnly(AdamW):
    def update(self, name, p, g):
        if p.ndim > 1:
            super().update(name, p, g)


class NoCorrectionLater(AdamW):
    def corrections(self):
        return (1.0, 1.0) if self.t > 8 else super().corrections()


class VectorsDecay(AdamW):
    """Gains and biases decay too, which is PyTorch's default; wrong where only matrices are to."""


class AMSGrad(AdamW):
    """The largest v so far."""

    def moments(self, name, g):
        before = self.v[name]
        m, v = super().moments(name, g)
        self.v[name] = np.maximum(before, v)
        return m, self.v[name]


class AbsoluteMoment(AdamW):
    """v is the mean of |g|."""

    def moments(self, name, g):
        m, _ = super().moments(name, g)
        self.v[name] = self.b2 * self.v[name] + (1 - self.b2) * np.abs(g)
        return m, self.v[name]


class MomentOfMean(AdamW):
    """v is the mean of m^2."""

    def moments(self, name, g):
        before = self.v[name]
        m, _ = super().moments(name, g)
        self.v[name] = self.b2 * before + (1 - self.b2) * m * m
        return m, self.v[name]


class NotWeighted(AdamW):
    """m is a sum of gradients: the factor 1 - b1 is missing."""

    def moments(self, name, g):
        before = self.m[name]
        _, v = super().moments(name, g)
        self.m[name] = self.b1 * before + g
        return self.m[name], v


class NoMomentum(AdamW):
    def moments(self, name, g):
        return g, super().moments(name, g)[1]


class Ascends(AdamW):
    def update(self, name, p, g):
        p *= 1 - self.lr * self.decay
        p += self.lr * self.direction(name, g)


class DecayOfSign(AdamW):
    def update(self, name, p, g):
        p -= self.lr * self.decay * np.sign(p)
        p -= self.lr * self.direction(name, g)


class DecayGrows(AdamW):
    def update(self, name, p, g):
        p *= 1 + self.lr * self.decay
        p -= self.lr * self.direction(name, g)


class DecayHalved(AdamW):
    """The gradient of wd |p|^2 / 2, taken without the factor 1 / 2 cancelling."""

    def update(self, name, p, g):
        p *= 1 - self.lr * self.decay / 2
        p -= self.lr * self.direction(name, g)


class NoDecay(AdamW):
    def __init__(self, parameters, *, weight_decay, **options):
        super().__init__(parameters, weight_decay=0.0, **options)


class FixedEpsilon(AdamW):
    def __init__(self, parameters, *, eps, **options):
        super().__init__(parameters, eps=1e-8, **options)


class FixedBetas(AdamW):
    def __init__(self, parameters, *, betas, **options):
        super().__init__(parameters, betas=(0.9, 0.999), **options)


class CorrectedTwice(AdamW):
    def corrections(self):
        c1, c2 = super().corrections()
        return c1, c2 * c2


class CorrectionsSwapped(AdamW):
    def corrections(self):
        return super().corrections()[::-1]


class CorrectedOneMore(AdamW):
    def corrections(self):
        return 1 - self.b1 ** (self.t + 1), 1 - self.b2 ** (self.t + 1)


class CorrectionTimesStep(AdamW):
    """b t for b^t."""

    def corrections(self):
        return 1 - min(0.9999, self.b1 * self.t), 1 - min(0.9999, self.b2 * self.t)


class MeanSquare(AdamW):
    """v is one number for each parameter."""

    def moments(self, name, g):
        m, v = super().moments(name, g)
        return m, np.full_like(v, v.mean())


class MeanOfColumns(AdamW):
    """v is a number for each column."""

    def moments(self, name, g):
        m, v = super().moments(name, g)
        return m, np.broadcast_to(v.mean(axis=0), v.shape)


class ClipsTheStep(AdamW):
    def direction(self, name, g):
        return np.clip(super().direction(name, g), -1, 1)


class SkipsTheFirst(AdamW):
    """Only the first parameter is stepped."""

    def step(self, gradients):
        self.t += 1
        name = next(iter(self.parameters))
        self.update(name, self.parameters[name], gradients[name])


class ReusesGradients(AdamW):
    """Gradients are added to those of the steps before."""

    def step(self, gradients):
        before = getattr(self, "before", None)
        self.before = {n: g + (0 if before is None else before[n]) for n, g in gradients.items()}
        super().step(self.before)


class InFloat32(AdamW):
    def update(self, name, p, g):
        p *= 1 - self.lr * self.decay
        p -= (self.lr * self.direction(name, g.astype(np.float32))).astype(np.float32)


class ZeroesGradients(AdamW):
    def step(self, gradients):
        super().step(gradients)
        for g in gradients.values():
            g[...] = 0


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


def without_floor(gradients, max_norm):
    """0 / 0 where all gradients are 0."""
    norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat))
    factor = max_norm / np.float64(norm)
    for g in gradients.values():
        g *= min(1.0, factor) if norm else factor * 0
    return norm


def of_new_arrays(gradients, max_norm):
    norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat))
    for name, g in list(gradients.items()):
        gradients[name] = g * min(1.0, max_norm / norm) if norm else g
    return norm


def of_mean_square(gradients, max_norm):
    size = sum(g.size for g in gradients.values())
    norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat)) / math.sqrt(size)
    if norm > max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


def below_too(gradients, max_norm):
    """Gradients below the limit are scaled up, others are left."""
    norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat))
    if 0 < norm < max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


def inverse(gradients, max_norm):
    norm = math.hypot(*(float(x) for g in gradients.values() for x in g.flat))
    if norm > max_norm:
        for g in gradients.values():
            g /= norm
    return norm


def sum_of_entries(gradients, max_norm):
    norm = float(sum(np.abs(g).sum() for g in gradients.values()))
    if norm > max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


def last_only(gradients, max_norm):
    norm = AdamW.clip({name: g.copy() for name, g in gradients.items()}, max_norm)
    *_, g = gradients.values()
    g *= min(1.0, max_norm / norm) if norm else 1
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
    "vectors stay": Mutant(MatricesOnly, "law_adamw_gains", "natural"),
    "no correction after eight steps": Mutant(NoCorrectionLater, "law_adamw", "natural"),
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
    "largest v so far": Mutant(AMSGrad, "law_adamw", "natural"),
    "v of |g|": Mutant(AbsoluteMoment, "law_adamw", "natural"),
    "v of m^2": Mutant(MomentOfMean, "law_adamw", "natural"),
    "m not weighted": Mutant(NotWeighted, "law_adamw", "natural"),
    "no momentum": Mutant(NoMomentum, "law_adamw", "natural"),
    "ascends": Mutant(Ascends, "law_adamw", "natural"),
    "decay of the sign": Mutant(DecayOfSign, "law_adamw", "natural"),
    "decay grows": Mutant(DecayGrows, "law_adamw", "natural"),
    "half of the decay": Mutant(DecayHalved, "law_adamw", "natural"),
    "no decay": Mutant(NoDecay, "law_adamw", "natural"),
    "epsilon of 1e-8": Mutant(FixedEpsilon, "law_adamw", "natural"),
    "default betas": Mutant(FixedBetas, "law_adamw", "natural"),
    "v corrected twice": Mutant(CorrectedTwice, "law_adamw", "natural"),
    "corrections swapped": Mutant(CorrectionsSwapped, "law_adamw", "natural"),
    "corrected for one more step": Mutant(CorrectedOneMore, "law_adamw", "natural"),
    "b t for b^t": Mutant(CorrectionTimesStep, "law_adamw", "natural"),
    "one v per parameter": Mutant(MeanSquare, "law_adamw", "natural"),
    "one v per column": Mutant(MeanOfColumns, "law_adamw", "natural"),
    "steps clipped": Mutant(ClipsTheStep, "law_adamw", "natural"),
    "first parameter only": Mutant(SkipsTheFirst, "law_adamw", "natural"),
    "gradients accumulate": Mutant(ReusesGradients, "law_adamw", "micrograd #53"),
    "steps in float32": Mutant(InFloat32, "law_adamw", "natural"),
    "gradients set to 0": Mutant(ZeroesGradients, "law_step_arrays", "natural"),
    "clips 0 / 0": Mutant(clipping(without_floor), "law_clipping", "natural"),
    "clips into new arrays": Mutant(clipping(of_new_arrays), "law_clipping", "natural"),
    "root mean square": Mutant(clipping(of_mean_square), "law_clipping", "natural"),
    "scales up": Mutant(clipping(below_too), "law_clipping", "natural"),
    "scales to 1": Mutant(clipping(inverse), "law_clipping", "natural"),
    "sum of absolute values": Mutant(clipping(sum_of_entries), "law_clipping", "natural"),
    "clips the last": Mutant(clipping(last_only), "law_clipping", "natural"),
    "warm-up off by one": Mutant(
        scheduled(lambda step, **o: o["peak"] * (step + 1) / (o["warmup_steps"] + 1) if step <= o["warmup_steps"] + 1 and o["warmup_steps"] else schedule(step, **o)), "law_schedule", "natural"),
    "warm-up divides by 0": Mutant(
        scheduled(lambda step, **o: schedule(step, **o) * min(1.0, (step + 1) / o["warmup_steps"])), "law_schedule", "natural"),
    "warm-up from 0.1": Mutant(
        scheduled(lambda step, **o: schedule(step, **o) * (1 if step >= o["warmup_steps"] else 0.1 + 0.9 * (o["warmup_steps"] - 1) / o["warmup_steps"])), "law_schedule", "natural"),
    "constant": Mutant(scheduled(lambda step, **o: o["peak"]), "law_schedule", "natural"),
    "constant until the end": Mutant(
        scheduled(lambda step, **o: schedule(step, **o) if step < o["warmup_steps"] else o["floor"] if step >= o["steps"] else (o["peak"] + o["floor"]) / 2), "law_schedule", "natural"),
    "cosine from the start": Mutant(
        scheduled(lambda step, **o: schedule(step, **o) if step < o["warmup_steps"] else schedule(step, **{**o, "warmup_steps": 0})), "law_schedule", "natural"),
    "ends at floor times peak": Mutant(scheduled(lambda step, **o: schedule(step, **o, low=o["floor"] * o["peak"])), "law_schedule", "natural"),
    "restarts": Mutant(scheduled(lambda step, **o: schedule(step % o["steps"], **o)), "law_schedule", "natural"),
    "in degrees": Mutant(scheduled(lambda step, **o: schedule(step, **o, wave=180.0)), "law_schedule", "natural"),
    "sine": Mutant(
        scheduled(lambda step, **o: schedule(step, **o) if step < o["warmup_steps"] else o["floor"] + (o["peak"] - o["floor"]) * math.sin(math.pi / 2 * min(1.0, (step - o["warmup_steps"]) / (o["steps"] - o["warmup_steps"])))), "law_schedule", "natural"),
    "exponential": Mutant(
        scheduled(lambda step, **o: schedule(step, **o) if step < o["warmup_steps"] else max(o["floor"], o["peak"] * 0.9 ** (step - o["warmup_steps"]))), "law_schedule", "natural"),
}  # fmt: skip
