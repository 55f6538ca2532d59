"""Judge the judges: every law lets a right implementation pass and rejects wrong ones, most of them seen in the wild."""

from functools import partial

import numpy as np
import pytest
import scipy.special
from hypothesis import Phase, settings
from hypothesis import strategies as st

import hopmin
from hopmin import testing
from hopmin.testing import laws
from hopmin.testing.laws import at_most, close, same

ALL = {name: getattr(testing, name) for name in testing.__all__ if name.startswith("law_")}


class Plain:
    """DistanceEnergy by the NumPy formula, as anybody would write it; the right answer that mutants deviate from."""

    share, step, power = 1.0, 1.0, 2

    def __init__(self, beta):
        self.beta = beta

    def scores(self, x, p):
        return -self.beta * np.square(x[:, None].astype(float) - p).sum(axis=2)

    def value(self, x, p):
        return (-scipy.special.logsumexp(self.scores(x, p), axis=1) / self.beta).astype(p.dtype)

    def weights(self, x, p):
        return scipy.special.softmax(self.scores(x, p), axis=1).astype(p.dtype)

    def update(self, x, p, values=None):
        single = x.ndim == 1
        x = np.atleast_2d(x)
        w = scipy.special.softmax(self.scores(x, p), axis=1)
        out = (w @ (p if values is None else np.asarray(values)).astype(float)).astype(p.dtype)
        return out[0] if single else out

    def gradient(self, x, p):
        return (2 * (x.astype(float) - self.update(x.astype(float), p.astype(float)))).astype(p.dtype)

    def hessian(self, x, p):
        w = self.weights(x, p)
        centred = p - (w @ p)[:, None]
        return 2 * np.eye(p.shape[1]) - 4 * self.beta * np.einsum("mn,mnc,mne->mce", w, centred, centred)

    def guaranteed_decrease(self, x, y):
        return np.square(x.astype(float) - y).sum(axis=1)


class PlainDot(Plain):
    """DotEnergy likewise."""

    def scores(self, x, p):
        return self.beta * x.astype(float) @ p.astype(float).T

    def value(self, x, p):
        soft = scipy.special.logsumexp(self.scores(x, p), axis=1) / self.beta
        squares = [np.square(a.astype(float)).sum(axis=1) for a in (x, p)]
        return (squares[0] / 2 - soft + np.log(len(p)) / self.beta + squares[1].max() / 2).astype(p.dtype)

    def gradient(self, x, p):
        return super().gradient(x, p) / 2

    def hessian(self, x, p):
        return np.eye(p.shape[1]) / 2 + super().hessian(x, p) / 4

    def guaranteed_decrease(self, x, y):
        return super().guaranteed_decrease(x, y) / 2


def mutant(base=Plain, **methods):
    return type("Mutant", (base,), methods)


def wrong(base, **methods):
    """An energy of hopmin, but for methods of (that energy, *arguments)."""

    class Mutant:
        def __init__(self, beta):
            self.right = base(beta)

        def __getattr__(self, name):
            return partial(methods[name], self.right) if name in methods else getattr(self.right, name)

    return Mutant


def pulls(e, x, p):
    """What the weights of EuclideanEnergy would be in attention: softmax, not divided by the distance."""
    return scipy.special.softmax(-e.beta * np.linalg.norm(x[:, None].astype(float) - p, axis=2), axis=1)


def farther(e, x, p):
    """EpanechnikovEnergy of a reach of sqrt(2) / beta."""
    return hopmin.EpanechnikovEnergy(e.beta**2)


def entmax_unscaled(a, alpha):
    """Clipped and divided by the sum: a distribution with zeros, and not entmax."""
    if alpha == 1:
        return scipy.special.softmax(a)
    p = np.maximum(0, 1 + (alpha - 1) * (a - a.max())) ** (1 / (alpha - 1))
    return p / p.sum()


Sparse = partial(hopmin.SparseEnergy, 1.5)


def swapped(method, other):
    return {method: lambda self, *a: getattr(other(self.beta), method)(*a)}


def brute(x, p, k=1):
    squares = np.square(x[:, None].astype(float) - p).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)).astype(p.dtype), order


def expanded(x, p, k=1):
    """The square multiplied out, clamped at zero: what popular libraries do."""
    squares = np.maximum(np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum(axis=1), 0)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)), order


def last_of_equals(x, p, k=1):
    distances, order = brute(x, p[::-1], k)
    return distances, len(p) - 1 - order


def naive_logsumexp(a):
    with np.errstate(over="ignore"):
        return np.log(np.exp(a).sum())


def attention(mask):
    def attend(q, k, v):
        scores = q @ k.T / np.sqrt(q.shape[1]) + mask(len(q))
        return scipy.special.softmax(scores, axis=1).astype(v.dtype) @ v

    return attend


def causal(T):
    return np.where(np.triu(np.ones((T, T), bool), 1), -np.inf, 0)


class Tokens:
    """A language model of nothing but a linear layer over running means."""

    class config:
        vocabulary, positions = 5, 4

    def __init__(self, wrong=1.0, leak=0):
        rng = np.random.default_rng(0)
        self.parameters = {"table": rng.normal(size=(5, 3)), "output": rng.normal(size=(3, 5))}
        self.wrong, self.leak = wrong, leak

    def states(self, tokens):
        t = np.arange(tokens.shape[1])
        seen = (t[None] <= t[:, None] + self.leak).astype(float)
        return (seen / seen.sum(axis=1, keepdims=True)), self.parameters["table"][tokens]

    def logits(self, tokens):
        mean, x = self.states(tokens)
        return mean @ x @ self.parameters["output"]

    def loss_and_gradients(self, tokens, targets, rng=None):
        mean, x = self.states(tokens)
        logits, counted = self.logits(tokens), targets >= 0
        log_p = scipy.special.log_softmax(logits, axis=-1)
        index = np.where(counted, targets, 0)[..., None]
        loss = -np.take_along_axis(log_p, index, -1)[..., 0][counted].mean()
        d = (np.exp(log_p) - (np.arange(5) == index)) * counted[..., None] / counted.sum()
        table = np.zeros((5, 3))
        np.add.at(table, tokens, self.wrong * mean.T @ (d @ self.parameters["output"].T))
        return loss, {"table": table, "output": np.einsum("btd,btv->dv", mean @ x, d)}


VECTORS = st.integers(0, 99).map(lambda seed: (np.random.default_rng(seed).normal(size=4),))
RIGHT = {
    "law_softmax": (scipy.special.logsumexp, scipy.special.softmax),
    "law_logsumexp": (scipy.special.logsumexp,),
    "law_digits": (hopmin.logsumexp, hopmin.softmax),
    "law_softmax_derivative": (scipy.special.softmax, lambda p, u: p * u - p * (p @ u)),
    "law_entmax": (hopmin.entmax,),
    "law_equal_norms": (Plain, PlainDot),
    "law_nearest": (brute,),
    "law_nearest_reals": (brute,),
    "law_layout": (hopmin.nearest,),
    "law_rows": (hopmin.nearest,),
    "law_backward": (lambda x: (np.sin(x), lambda dy: dy * np.cos(x)), VECTORS),
    "law_model_gradient": (Tokens(),),
    "law_causal": (Tokens(),),
    "law_attention_is_update": (attention(causal), hopmin.DotEnergy),
    "law_translation": (hopmin.DistanceEnergy,),
    "law_cold_match": (PlainDot,),
}
FOR_ANY_ENERGY = set(ALL) - set(RIGHT)


@pytest.mark.parametrize("name", ALL)
def test_a_right_implementation_passes(name):
    ALL[name](*RIGHT.get(name, (Plain,)), examples=60)


@pytest.mark.parametrize("name", sorted(FOR_ANY_ENERGY - {"law_bounds", "law_cold_limit"}))
def test_the_dot_energy_passes_what_holds_for_any(name):
    ALL[name](PlainDot, examples=60)


def loud(value):
    def function(x, p):
        x[0] = value
        return x

    return function


WRONG = {
    "law_softmax": {
        "over another axis": (scipy.special.logsumexp, lambda a: np.full(len(a), 1 / len(a))),
        "not normalised": (scipy.special.logsumexp, lambda a: np.exp(a - a.max())),
        "no shift": (scipy.special.logsumexp, lambda a: (lambda e: e / e.sum())(np.exp(np.minimum(a, 700)))),
    },
    "law_logsumexp": {
        "naive": (naive_logsumexp,),
        "the maximum alone, but for a constant": (lambda a: a.max() + 0.1,),
        "another base": (lambda a: scipy.special.logsumexp(a) / np.log(2),),
        "mean instead of sum": (lambda a: scipy.special.logsumexp(a) - np.log(len(a)),),
    },
    "law_digits": {
        "without log1p": (lambda a: a.max() + np.log(np.exp(a - a.max()).sum()), hopmin.softmax),
        "in single precision": (hopmin.logsumexp, lambda a: hopmin.softmax(np.float32(a))),
    },
    "law_softmax_derivative": {
        "the diagonal alone": (scipy.special.softmax, lambda p, u: p * (1 - p) * u),
        "fused with a loss": (scipy.special.softmax, lambda p, u: p - u),
    },
    "law_bounds": {
        "a half in the distance": (mutant(scores=lambda s, x, p: Plain.scores(s, x, p) / 2),),
        "a mean instead of the sum": (mutant(value=lambda s, x, p: Plain.value(s, x, p) + np.log(len(p)) / s.beta + 1e-3),),
        "beta left out": (mutant(value=lambda s, x, p: Plain(1.0).value(x, p)),),
        "the last pattern dropped": (mutant(value=lambda s, x, p: Plain.value(s, x, p[: max(1, len(p) - 1)])),),
    },
    "law_descent": {
        "the update of another energy": (mutant(PlainDot, update=lambda s, *a: Plain(s.beta).update(*a)),),
        "beta doubled in the update": (mutant(update=lambda s, *a: Plain(s.beta * 2).update(*a)),),
        "a guarantee twice as large": (mutant(guaranteed_decrease=lambda s, x, y: 2 * Plain.guaranteed_decrease(s, x, y)),),
        "attention's step down the distance": (
            wrong(hopmin.EuclideanEnergy, update=lambda e, x, p: (pulls(e, x, p) @ p).astype(x.dtype)),
        ),
        "another reach": (wrong(hopmin.EpanechnikovEnergy, update=lambda e, x, p: farther(e, x, p).update(x, p)),),
        "half of |x|^2 forgotten": (
            mutant(PlainDot, value=lambda s, x, p: PlainDot.value(s, x, p) + np.square(x.astype(float)).sum(axis=1) / 2),
        ),
    },
    "law_gradient": {
        "without the 2": (mutant(gradient=lambda s, x, p: Plain.gradient(s, x, p) / 2),),
        "upside down": (mutant(gradient=lambda s, x, p: -Plain.gradient(s, x, p)),),
        "softmax in the place of entmax": (wrong(Sparse, gradient=lambda e, x, p: PlainDot(e.beta).gradient(x, p)),),
        "of the distance, weighed for the update": (
            wrong(hopmin.EuclideanEnergy, gradient=lambda e, x, p: x - e.update(x, p)),
        ),
        "of a bowl, its steepness forgotten": (wrong(hopmin.EpanechnikovEnergy, gradient=lambda e, x, p: x - e.update(x, p)),),
        "of a bowl, beta doubled": (
            wrong(hopmin.EpanechnikovEnergy, gradient=lambda e, x, p: hopmin.EpanechnikovEnergy(2 * e.beta).gradient(x, p)),
        ),
        "beta in front": (mutant(gradient=lambda s, x, p: s.beta * Plain.gradient(s, x, p)),),
        "beta doubled": (mutant(gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),),
    },
    "law_hessian": {
        "without the 2": (mutant(hessian=lambda s, x, p: Plain.hessian(s, x, p) / 2),),
        "beta forgotten": (mutant(hessian=lambda s, x, p: np.eye(p.shape[1]) * 2 + (Plain.hessian(s, x, p) - np.eye(p.shape[1]) * 2) / s.beta),),
        "beta doubled": (mutant(hessian=lambda s, x, p: Plain(2 * s.beta).hessian(x, p)),),
        "plus the covariance": (mutant(hessian=lambda s, x, p: 4 * np.eye(p.shape[1]) - Plain.hessian(s, x, p)),),
        "not symmetric": (mutant(hessian=lambda s, x, p: Plain.hessian(s, x, p) + 1e-3 * np.abs(p).max() * np.triu(np.ones((p.shape[1],) * 2), 1)),),
        "of the distance, its bend forgotten": (
            wrong(hopmin.EuclideanEnergy, hessian=lambda e, x, p: np.broadcast_to(np.eye(x.shape[1]), (len(x), *[x.shape[1]] * 2))),
        ),
        "of a bowl, its steepness forgotten": (
            wrong(hopmin.EpanechnikovEnergy, hessian=lambda e, x, p: np.broadcast_to(np.eye(x.shape[1]), (len(x), *[x.shape[1]] * 2))),
        ),
        "the covariance of the weights": (
            wrong(Sparse, hessian=lambda e, x, p: PlainDot(e.beta).hessian(x, p)),
        ),
    },
    "law_downhill": {
        "half the gradient": (mutant(gradient=lambda s, x, p: Plain.gradient(s, x, p) / 2),),
        "upside down": (mutant(gradient=lambda s, x, p: -Plain.gradient(s, x, p)),),
        "beta doubled": (mutant(gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),),
        "attention's step down the distance": (
            wrong(hopmin.EuclideanEnergy, update=lambda e, x, p: (pulls(e, x, p) @ p).astype(x.dtype)),
        ),
        "another reach": (wrong(hopmin.EpanechnikovEnergy, update=lambda e, x, p: farther(e, x, p).update(x, p)),),
        "softmax down the sparse energy": (wrong(Sparse, update=lambda e, x, p: PlainDot(e.beta).update(x, p)),),
    },
    "law_rotation": {
        "the sum of absolute differences": (
            mutant(scores=lambda s, x, p: -s.beta * np.abs(x[:, None].astype(float) - p).sum(axis=2)),
        ),
        "the first axis counts more": (mutant(scores=lambda s, x, p: Plain.scores(s, x, p) - s.beta * (x[:, :1] - p[:, 0]) ** 2),),
        "the gradient turns the other way": (mutant(gradient=lambda s, x, p: Plain.gradient(s, x, p)[:, ::-1]),),
    },
    "law_cold_match": {
        "distances": (Plain,),
        "beta has no effect": (mutant(PlainDot, scores=lambda s, x, p: PlainDot(1.0).scores(x, p)),),
        "the first of equals": (mutant(PlainDot, update=lambda s, x, p: p[(x.astype(float) @ p.T).argmax(axis=1)]),),
    },
    "law_entmax": {
        "softmax": (lambda a, alpha: scipy.special.softmax(a),),
        "sparsemax": (lambda a, alpha: hopmin.entmax(a, 2.0),),
        "alpha twice as far from 1": (lambda a, alpha: hopmin.entmax(a, 2 * alpha - 1),),
        "clipped and divided by the sum": (entmax_unscaled,),
        "not quite one": (lambda a, alpha: hopmin.entmax(a, alpha) * (1 - 1e-14),),
        "the largest alone": (lambda a, alpha: (a == a.max()) / (a == a.max()).sum(),),
        "right to single precision": (lambda a, alpha: hopmin.entmax(np.float32(a), alpha).astype(float),),
    },
    "law_residual": {
        "twice the gradient": (mutant(gradient=lambda s, x, p: 2 * Plain.gradient(s, x, p)),),
        "beta doubled": (mutant(gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),),
    },
    "law_weights": {
        "over the queries": (mutant(weights=lambda s, x, p: scipy.special.softmax(s.scores(x, p), axis=0)),),
        "beta doubled": (mutant(weights=lambda s, x, p: Plain(2 * s.beta).weights(x, p)),),
        "the pull in the place of the weights": (wrong(hopmin.EuclideanEnergy, weights=pulls),),
        "not normalised": (wrong(hopmin.EpanechnikovEnergy, weights=lambda e, x, p: (e.weights(x, p) > 0).astype(p.dtype)),),
        "nothing, though in reach": (wrong(hopmin.EpanechnikovEnergy, weights=lambda e, x, p: 0 * e.weights(x, p)),),
        "another reach": (wrong(hopmin.EpanechnikovEnergy, weights=lambda e, x, p: farther(e, x, p).weights(x, p)),),
        "values ignored": (mutant(update=lambda s, x, p, values=None: Plain.update(s, x, p)),),
        "a sum, not a mean": (mutant(update=lambda s, x, p, values=None: Plain.update(s, x, p, values) * 1.001),),
    },
    "law_equal_norms": {
        "beta not halved": (mutant(value=lambda s, x, p: Plain(2 * s.beta).value(x, p)), PlainDot),
        "log n forgotten": (Plain, mutant(PlainDot, value=lambda s, x, p: PlainDot.value(s, x, p) - np.log(len(p)) / s.beta)),
    },
    "law_permutation": {
        "the first pattern counts twice": (
            mutant(scores=lambda s, x, p: Plain.scores(s, x, p) + np.log(2) * (np.arange(len(p)) == 0)),
        ),
    },
    "law_duplication": {
        "only the first of equals counts": (
            mutant(update=lambda s, x, p, values=None: Plain.update(s, x, p[: len(p) // 2 + 1])),
        ),
    },
    "law_translation": {
        "the square multiplied out": (
            mutant(scores=lambda s, x, p: -s.beta * (np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum(axis=1))),
        ),
        "products": (PlainDot,),
    },
    "law_cold_limit": {
        "products": (PlainDot,),
        "beta has no effect": (mutant(scores=lambda s, x, p: Plain(1.0).scores(x, p)),),
        "the last of equals": (mutant(update=lambda s, x, p: p[last_of_equals(x, p)[1][:, 0]]),),
    },
    "law_hot_limit": {
        "beta has no effect": (mutant(scores=lambda s, x, p: Plain(1.0).scores(x, p)),),
        "a sum of patterns": (mutant(update=lambda s, x, p: len(p) * Plain.update(s, x, p)),),
    },
    "law_nearest": {
        "the last of equals": (last_of_equals,),
        "the farthest": (lambda x, p, k: brute(-x, p, k),),
        "squared": (lambda x, p, k: (brute(x, p, k)[0] ** 2, brute(x, p, k)[1]),),
        "the square multiplied out": (expanded,),
        "always one": (lambda x, p, k: tuple(a[:, :1] for a in brute(x, p, k)),),
    },
    "law_nearest_reals": {
        "the square multiplied out": (expanded,),
        "unsorted": (lambda x, p, k: tuple(a[:, ::-1] for a in brute(x, p, k)),),
        "an index twice": (lambda x, p, k: (brute(x, p, k)[0], np.zeros((len(x), k), int)),),
    },
    "law_layout": {
        "changes its input": (loud(7.0),),
        "reads memory as it lies": (lambda x, p: np.asarray(x).ravel(order="K").copy(),),
    },
    "law_rows": {
        "normalises over the batch": (lambda x, p: np.asarray(x) - np.mean(x, axis=0),),
    },
    "law_backward": {
        "twice": (lambda x: (np.sin(x), lambda dy: 2 * dy * np.cos(x)), VECTORS),
        "constant": (lambda x: (np.sin(x), lambda dy: np.cos(x)), VECTORS),
        "of another shape": (lambda x: (np.sin(x), lambda dy: np.float64(1)), VECTORS),
        "one in a thousand off": (lambda x: (np.sin(x), lambda dy: 1.001 * dy * np.cos(x)), VECTORS),
    },
    "law_model_gradient": {"one in ten thousand off": (Tokens(wrong=1.0001),), "missing": (Tokens(wrong=0.0),)},
    "law_causal": {"looks one ahead": (Tokens(leak=1),)},
    "law_attention_is_update": {
        "no mask": (attention(lambda T: np.zeros((T, T))), hopmin.DotEnergy),
        "a mask the wrong way round": (attention(lambda T: causal(T).T), hopmin.DotEnergy),
        "a mask that is finite and small": (attention(lambda T: np.where(causal(T) < 0, -10.0, 0)), hopmin.DotEnergy),
        "another sharpness": (attention(causal), lambda beta: hopmin.DotEnergy(2 * beta)),
    },
}  # fmt: skip


def test_every_law_has_wrong_implementations_to_reject():
    assert set(WRONG) == set(ALL)


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in WRONG for what in WRONG[name]])
def test_a_wrong_implementation_is_rejected(name, what, monkeypatch):
    found = settings(laws.SETTINGS, phases=[Phase.generate], database=None)  # that it fails is enough: nothing is shrunk
    monkeypatch.setattr(laws, "SETTINGS", found)
    with np.errstate(all="ignore"), pytest.raises((AssertionError, ValueError, IndexError)):
        ALL[name](*WRONG[name][what], examples=300)


def test_a_rejection_gives_the_numbers():
    with pytest.raises(AssertionError, match=r"^E <= g: 1\.5 must be at most 1 \+ 0\.25 at \(1,\)"):
        at_most([0.0, 1.5], 1.0, 0.25, "E <= g")


def test_comparisons_reject_what_they_should():
    at_most([], 0, 0, "nothing")
    close([1.0, 2.0], [1.0, 2.0], 0, "equal")
    close([np.inf, -np.inf], [np.inf, -np.inf], 0, "equal infinities")
    at_most(1.0, np.inf, 0, "anything below infinity")
    for left, right in ((np.nan, 1.0), (1.0, np.nan), (1.0, 1.0 - 1e-9), (np.inf, 1.0), (1.0, -np.inf), (np.nan, np.inf)):
        with pytest.raises(AssertionError):
            at_most(left, right, 0, "")
    for actual, expected in (([1.0], 1.0), ([1.0, 2.0], [1.0, 2.1]), ([np.nan], [np.nan])):
        with pytest.raises(AssertionError):
            close(actual, expected, 0.01, "")
    for actual, expected in ((0.0, -0.0), (np.float32(1), np.float64(1)), ([1], [[1]])):
        with pytest.raises(AssertionError):
            same(actual, expected, "")


def test_a_law_tries_the_one_instance_one_gives_it():
    problem = testing.Problem(np.array([[0.5]]), np.array([[0.0], [1.0]]), 1.0)
    testing.law_descent.statement(hopmin.DistanceEnergy, problem)
    with pytest.raises(AssertionError, match="guaranteed decrease"):
        testing.law_descent.statement(
            mutant(guaranteed_decrease=lambda s, x, y: 1.0 + Plain.guaranteed_decrease(s, x, y)), problem
        )
