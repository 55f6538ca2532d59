"""Language models that are right in two styles, or wrong by a line or two."""

import copy

import models
import numpy as np
import ours
import scipy.special
from helpers import drawn_parameters

from hopmin.transformer.llama import Llama, LlamaConfig

from . import Mutant


class Config:
    vocabulary, positions = 5, 6


class Small:
    """One attention layer with learned positions, and a linear layer; in plain NumPy, with a gradient by hand."""

    config = Config

    def __init__(self, dtype="float64"):
        rng = np.random.default_rng(0)
        shapes = {"table": (5, 4), "place": (6, 4), "values": (4, 4), "output": (4, 5)}
        self.parameters = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}

    def embed(self, tokens, first=0):
        return self.parameters["table"][tokens] + self.parameters["place"][first : first + tokens.shape[1]]

    def see(self, T, S):
        return np.tri(T, S, S - T, dtype=bool)

    def mix(self, x, first=0):
        """Return the weights (B, T, S) of the queries from `first` on: softmax of products of embeddings, as constants."""
        scores = np.arange(x.shape[1], dtype=x.dtype)[None, :] * 0.3 + np.zeros((x.shape[1] - first, 1), x.dtype)
        e = np.exp(np.where(self.see(*scores.shape), scores, -np.inf))
        return e / e.sum(axis=-1, keepdims=True)

    def hidden(self, tokens):
        x = self.embed(tokens)
        return x, self.mix(x) @ x

    def logits(self, tokens):
        x, y = self.hidden(tokens)
        p = self.parameters
        return np.tanh((x + y) @ p["values"]) @ p["output"]

    def weigh(self, targets):
        """Return the weight of each target in the loss."""
        return (targets >= 0) / (targets >= 0).sum()

    def loss_and_gradients(self, tokens, targets, rng=None):
        p, (x, y) = self.parameters, self.hidden(tokens)
        a = np.tanh((x + y) @ p["values"])
        log_p = scipy.special.log_softmax(self.logits(tokens), axis=-1)
        index, weight = np.maximum(targets, 0)[..., None], self.weigh(targets)
        loss = -(np.take_along_axis(log_p, index, axis=-1)[..., 0] * weight).sum()
        d = (np.exp(log_p) - (np.arange(5) == index)) * weight[..., None]
        da = d @ p["output"].T * (1 - a**2)
        dsum = da @ p["values"].T
        dx = dsum + self.mix(x).T @ dsum
        return loss, {"output": np.einsum("btd,btv->dv", a, d), "values": np.einsum("btd,bte->de", x + y, da), **self.scatter(tokens, dx)}

    def scatter(self, tokens, dx):
        table, place = (np.zeros_like(self.parameters[name]) for name in ("table", "place"))
        np.add.at(table, tokens, dx)
        place[: tokens.shape[1]] = dx.sum(axis=0)
        return {"table": table, "place": place}

    def cached(self):
        kept = []

        def step(tokens):
            kept.append(self.embed(tokens, sum(x.shape[1] for x in kept)))
            x = np.concatenate(kept, axis=1)
            p, first = self.parameters, x.shape[1] - tokens.shape[1]
            y = self.mix(x, first) @ x
            return (np.tanh((x[:, first:] + y) @ p["values"]) @ p["output"])[:, -1]

        return step


def drawn_llama():
    config = LlamaConfig(vocabulary=7, positions=12, layers=2, heads=4, key_heads=2, width=8, hidden=10)
    return Llama(config, drawn_parameters(config, 0, "float64"))


RIGHT = {
    "GPT": ours.Model(models.drawn_gpt(vocabulary=7, width=6, dropout=0.2)),
    "GPT in float32": ours.Model(models.drawn_gpt(vocabulary=7, width=6, dtype="float32", dropout=0.2)),
    "GPT of one position": ours.Model(models.drawn_gpt(vocabulary=7, width=6, layers=1, positions=1)),
    "Llama": ours.Model(drawn_llama()),
    "hopmin.GPT itself": models.drawn_gpt(vocabulary=7, width=6, layers=1),
    "in plain NumPy": Small(),
    "in plain NumPy and float32": Small("float32"),
}
PROMISES = {name: ("positions",) if "NumPy" in name else ("bits", "positions") for name in RIGHT}


class LooksAhead(Small):
    def see(self, T, S):
        return np.tri(T, S, S - T + 1, dtype=bool)


class LastDigit(Small):
    def logits(self, tokens):
        return super().logits(tokens) * (1 + np.finfo(float).eps * (tokens[:, -1] % 2))[:, None, None]


class NoMask(Small):
    def see(self, T, S):
        return np.ones((T, S), dtype=bool)


class MeanOfAll(Small):
    """Takes the mean over all positions from the logits."""

    def logits(self, tokens):
        logits = super().logits(tokens)
        return logits - logits.mean(axis=1, keepdims=True) / 100


class NoPositions(Small):
    """No positions, and the mean over the tokens so far."""

    def embed(self, tokens, first=0):
        return self.parameters["table"][tokens]

    def mix(self, x, first=0):
        seen = self.see(x.shape[1] - first, x.shape[1]).astype(x.dtype)
        return seen / seen.sum(axis=-1, keepdims=True)


class RowsMixed(Small):
    def hidden(self, tokens):
        x, y = super().hidden(tokens)
        return x, y + x.mean(axis=0) / 100


class NormOfBatch(Small):
    """Logits are shifted and scaled over the whole batch."""

    def logits(self, tokens):
        logits = super().logits(tokens)
        return logits / logits.std(axis=(0, 2), keepdims=True)


class RowsByReshape(Small):
    def hidden(self, tokens):
        x = self.embed(tokens)
        swapped = x.swapaxes(0, 1).reshape(x.shape)
        return x, self.mix(x) @ swapped


class Dropout(Small):
    rng = np.random.default_rng(0)

    def embed(self, tokens, first=0):
        x = super().embed(tokens, first)
        return x * (self.rng.random(x.shape) > 0.1)


class ChangesTokens(Small):
    def logits(self, tokens):
        tokens[:] = np.minimum(tokens, 3)
        return super().logits(tokens)


class OnlyLast(Small):
    def logits(self, tokens):
        return super().logits(tokens)[:, -1:]


class Summed(Small):
    def weigh(self, targets):
        return (targets >= 0).astype(float)


class OverAll(Small):
    def weigh(self, targets):
        return (targets >= 0) / targets.size


class Ignored(Small):
    """Targets of -1 are counted as token 0."""

    def weigh(self, targets):
        return np.full(targets.shape, 1 / targets.size)


class MeanOfRows(Small):
    """The mean over rows of the mean of each row."""

    def weigh(self, targets):
        counted = targets >= 0
        return counted / np.maximum(counted.sum(axis=1, keepdims=True), 1) / counted.any(axis=1).sum()


class ShiftedTwice(Small):
    """The targets, which are the next tokens already, are shifted once more."""

    def loss_and_gradients(self, tokens, targets, rng=None):
        return super().loss_and_gradients(tokens, np.roll(targets, -1, axis=1), rng)


class InBits(Small):
    def loss_and_gradients(self, tokens, targets, rng=None):
        loss, gradients = super().loss_and_gradients(tokens, targets, rng)
        return loss / np.log(2), {name: g / np.log(2) for name, g in gradients.items()}


class Accumulates(Small):
    """Gradients of the calls before are added."""

    def loss_and_gradients(self, tokens, targets, rng=None):
        loss, gradients = super().loss_and_gradients(tokens, targets, rng)
        for name, g in getattr(self, "before", {}).items():
            gradients[name] = gradients[name] + g
        self.before = copy.deepcopy(gradients)
        return loss, gradients


class Overwrites(Small):
    def scatter(self, tokens, dx):
        found = super().scatter(tokens, dx)
        found["table"][:] = 0
        found["table"][tokens] += dx
        return found


class PlacesOfOneRow(Small):
    def scatter(self, tokens, dx):
        found = super().scatter(tokens, dx)
        found["place"][: tokens.shape[1]] = dx.mean(axis=0)
        return found


class OffByALittle(Small):
    def scatter(self, tokens, dx):
        return super().scatter(tokens, dx * 1.0001)


class CacheFromZero(Small):
    """The cache counts positions from 0 in each call."""

    def cached(self):
        embed, right = self.embed, copy.copy(self)
        right.embed = lambda tokens, first=0: embed(tokens)
        return super(CacheFromZero, right).cached()


class CacheOfLast(Small):
    def cached(self):
        return lambda tokens: self.logits(tokens)[:, -1]


class CacheShared(Small):
    """One cache for all sequences."""

    def cached(self):
        self.step = getattr(self, "step", None) or super().cached()
        return lambda tokens: self.step(tokens)


class FirstRowOnly(Small):
    """All rows get the logits of the first."""

    def logits(self, tokens):
        return np.repeat(super().logits(tokens[:1]), len(tokens), axis=0)


class PositionsOfRows(Small):
    """Positions are those of the rows of the batch."""

    def embed(self, tokens, first=0):
        place = self.parameters["place"][np.arange(len(tokens)) % 6][:, None]
        return self.parameters["table"][tokens] + place


class ClampedTokens(Small):
    """The mean over the batch is subtracted where there is one."""

    def hidden(self, tokens):
        x, y = super().hidden(tokens)
        return x, y - y.mean(axis=0) if len(x) > 1 else y


class LaterFirst(Small):
    """Weights are those of the last position for all."""

    def mix(self, x, first=0):
        return np.broadcast_to(super().mix(x, first)[-1:], (x.shape[1] - first, x.shape[1]))


class LengthKnown(Small):
    """Positions are relative to the end of the row."""

    def embed(self, tokens, first=0):
        T = tokens.shape[1]
        return self.parameters["table"][tokens] + self.parameters["place"][np.arange(T)[::-1]]


class DropoutInLoss(Small):
    """Without rng, the loss has dropout of its own."""

    def embed(self, tokens, first=0):
        x = super().embed(tokens, first)
        return x * (np.random.default_rng(tokens.sum()).random(x.shape) > 0.1) if getattr(self, "training", False) else x

    def loss_and_gradients(self, tokens, targets, rng=None):
        self.training = True
        loss = super().loss_and_gradients(tokens, targets, rng)
        self.training = False
        return loss


class LastOnly(Small):
    """Only the last target of each row is counted, if it is not -1."""

    def weigh(self, targets):
        weight = np.zeros(targets.shape)
        weight[:, -1] = targets[:, -1] >= 0
        return weight / max(1, weight.sum())


class MostlyCounted(Small):
    """Token 0 is taken for padding."""

    def weigh(self, targets):
        return (targets > 0) / max(1, (targets > 0).sum())


class LossOf(Small):
    """The loss by a formula of the log-probabilities."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def loss_and_gradients(self, tokens, targets, rng=None):
        logits = self.logits(tokens)
        index = np.maximum(targets, 0)[..., None]
        terms = self.formula(logits, index)
        return (terms * self.weigh(targets)).sum(), super().loss_and_gradients(tokens, targets, rng)[1]


def at(a, index):
    return np.take_along_axis(a, index, axis=-1)[..., 0]


class ChangesTargets(Small):
    def loss_and_gradients(self, tokens, targets, rng=None):
        found = super().loss_and_gradients(tokens, targets, rng)
        targets[targets < 0] = 0
        return found


class Trains(Small):
    """Each call takes a step."""

    def loss_and_gradients(self, tokens, targets, rng=None):
        loss, gradients = super().loss_and_gradients(tokens, targets, rng)
        for name, p in self.parameters.items():
            p -= 1e-9 * gradients[name]
        return loss, gradients


class Scaled(Small):
    """Gradients are clipped, or changed otherwise."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def loss_and_gradients(self, tokens, targets, rng=None):
        loss, gradients = super().loss_and_gradients(tokens, targets, rng)
        return loss, self.change(gradients)


def clipped(gradients):
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    return {name: g * min(1, 0.5 / norm) for name, g in gradients.items()}


class CacheOfFirstRow(Small):
    """The cache keeps the first row of the batch for all."""

    def cached(self):
        step = super().cached()
        before = 0

        def first(tokens):
            nonlocal before
            found = step(tokens if not before else np.broadcast_to(tokens[:1], tokens.shape))
            before += 1
            return found

        return first


class CacheNotCausal(Small):
    """Tokens that are given together all see the first of them only."""

    def cached(self):
        step = super().cached()

        def one(tokens):
            step(tokens[:, :-1]) if tokens.shape[1] > 1 else None
            return step(tokens[:, :-1] if tokens.shape[1] > 1 else tokens)

        return one


class CacheOfFour(Small):
    def cached(self):
        seen = []

        def step(tokens):
            seen.append(tokens)
            return self.logits(np.concatenate(seen, axis=1)[:, -4:])[:, -1]

        return step


class TiedOneUse(models.GPT):
    """The gradient of the tied embedding from the output alone."""

    def loss_and_gradients(self, tokens, targets, rng=None):
        loss, gradients = super().loss_and_gradients(tokens, targets, rng)
        name = next(iter(gradients))
        return loss, {**gradients, name: gradients[name] / 2}


def tied():
    return TiedOneUse(models.drawn_gpt(vocabulary=7, width=6, layers=1).config, 0)


MUTANTS = {
    "looks one token ahead": Mutant(LooksAhead(), "law_causal", "natural"),
    "the last digit from the last token": Mutant(LastDigit(), "law_causal_bits", "natural"),
    "no mask": Mutant(NoMask(), "law_causal", "minGPT #75"),
    "mean over positions": Mutant(MeanOfAll(), "law_causal", "natural"),
    "no positions": Mutant(NoPositions(), "law_model_positions", "natural"),
    "rows mixed": Mutant(RowsMixed(), "law_model_rows", "natural"),
    "norm over the batch": Mutant(NormOfBatch(), "law_model_rows", "natural"),
    "rows by reshape": Mutant(RowsByReshape(), "law_model_rows", "natural"),
    "dropout in evaluation": Mutant(Dropout(), "law_model_evaluation", "Ultron09/Numpy-Transformer"),
    "changes the tokens": Mutant(ChangesTokens(), "law_model_evaluation", "natural"),
    "only the last logits": Mutant(OnlyLast(), "law_model_evaluation", "natural"),
    "loss summed": Mutant(Summed(), "law_model_loss", "natural"),
    "mean over all targets": Mutant(OverAll(), "law_model_loss", "natural"),
    "ignored targets counted": Mutant(Ignored(), "law_model_loss", "natural"),
    "mean of the means of rows": Mutant(MeanOfRows(), "law_model_loss", "natural"),
    "targets shifted twice": Mutant(ShiftedTwice(), "law_model_loss", "natural"),
    "loss in bits": Mutant(InBits(), "law_model_loss", "natural"),
    "gradients accumulate": Mutant(Accumulates(), "law_model_gradient", "micrograd #53"),
    "repeated tokens overwritten": Mutant(Overwrites(), "law_model_gradient", "natural"),
    "gradient of positions averaged": Mutant(PlacesOfOneRow(), "law_model_gradient", "natural"),
    "gradient off by 0.01%": Mutant(OffByALittle(), "law_model_gradient", "cs249r_book PR #1336"),
    "tied gradient halved": Mutant(tied(), "law_model_gradient", "natural"),
    "cache counts from 0": Mutant(CacheFromZero(), "law_model_cache", "x-transformers #219"),
    "cache forgets": Mutant(CacheOfLast(), "law_model_cache", "natural"),
    "cache shared": Mutant(CacheShared(), "law_model_cache", "natural"),
    "weights of the last": Mutant(LaterFirst(), "law_causal", "natural"),
    "positions from the end": Mutant(LengthKnown(), "law_causal", "natural"),
    "first row for all": Mutant(FirstRowOnly(), "law_model_rows", "natural"),
    "positions of rows": Mutant(PositionsOfRows(), "law_model_rows", "natural"),
    "mean of the batch subtracted": Mutant(ClampedTokens(), "law_model_rows", "natural"),
    "dropout in the loss": Mutant(DropoutInLoss(), "law_model_loss", "Ultron09/Numpy-Transformer"),
    "last target only": Mutant(LastOnly(), "law_model_loss", "natural"),
    "token 0 ignored": Mutant(MostlyCounted(), "law_model_loss", "natural"),
    "targets changed": Mutant(ChangesTargets(), "law_model_loss", "natural"),
    "probability for its logarithm": Mutant(LossOf(lambda z, i: -at(scipy.special.softmax(z, axis=-1), i)), "law_model_loss", "natural"),
    "logits for probabilities": Mutant(LossOf(lambda z, i: -at(z, i)), "law_model_loss", "natural"),
    "softmax twice": Mutant(LossOf(lambda z, i: -at(scipy.special.log_softmax(scipy.special.softmax(z, axis=-1), axis=-1), i)), "law_model_loss", "natural"),
    "softmax over positions": Mutant(LossOf(lambda z, i: -at(scipy.special.log_softmax(z, axis=1), i)), "law_model_loss", "natural"),
    "labels smoothed": Mutant(LossOf(lambda z, i: (lambda p: -0.9 * at(p, i) - 0.1 * p.mean(axis=-1))(scipy.special.log_softmax(z, axis=-1))), "law_model_loss", "natural"),
    "loss without a shift": Mutant(LossOf(lambda z, i: np.log(np.exp(z).sum(axis=-1)) - at(z, i)), "law_model_large_logits", "natural"),
    "log(p + 1e-9)": Mutant(LossOf(lambda z, i: -np.log(at(scipy.special.softmax(z, axis=-1), i) + 1e-9)), "law_model_large_logits", "natural"),
    "exponents clipped": Mutant(LossOf(lambda z, i: -at(scipy.special.log_softmax(np.clip(z, -50, 50), axis=-1), i)), "law_model_large_logits", "natural"),
    "trains in each call": Mutant(Trains(), "law_model_gradient", "natural"),
    "gradients clipped": Mutant(Scaled(clipped), "law_model_gradient", "natural"),
    "gradient of one matrix missing": Mutant(Scaled(lambda g: {**g, "values": g["values"] * 0}), "law_model_gradient", "cs249r_book PR #1336"),
    "gradient transposed": Mutant(Scaled(lambda g: {**g, "values": g["values"].T}), "law_model_gradient", "natural"),
    "gradient of another shape": Mutant(Scaled(lambda g: {**g, "values": g["values"].ravel()}), "law_model_gradient", "natural"),
    "sign of the gradients": Mutant(Scaled(lambda g: {name: -a for name, a in g.items()}), "law_model_gradient", "natural"),
    "cache of the first row": Mutant(CacheOfFirstRow(), "law_model_cache", "natural"),
    "cache skips the last": Mutant(CacheNotCausal(), "law_model_cache", "natural"),
    "cache of 4 tokens": Mutant(CacheOfFour(), "law_model_cache", "natural"),
}
