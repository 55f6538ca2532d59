"""Every law accepts a correct implementation and rejects wrong ones, most of which occur in public code."""

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

LAWS = {name: getattr(testing, name) for name in testing.__all__ if name.startswith("law_")}


class Plain:
    """DistanceEnergy as a plain NumPy formula: the correct implementation that mutants deviate from."""

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
    """DotEnergy as a plain NumPy formula."""

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
    """Return an energy of hopmin with some methods replaced by functions of (energy, *arguments)."""

    class Mutant:
        def __init__(self, beta):
            self.right = base(beta)

        def __getattr__(self, name):
            return partial(methods[name], self.right) if name in methods else getattr(self.right, name)

    return Mutant


def undivided_weights(e, x, p):
    """Return the softmax weights of EuclideanEnergy, not divided by the distances."""
    return scipy.special.softmax(-e.beta * np.linalg.norm(x[:, None].astype(float) - p, axis=2), axis=1)


def with_beta_squared(e, x, p):
    """Return EpanechnikovEnergy(beta^2), which has another radius."""
    return hopmin.EpanechnikovEnergy(e.beta**2)


def entmax_unscaled(a, alpha):
    """Clip and divide by the sum: a distribution with zeros, but not entmax."""
    if alpha == 1:
        return scipy.special.softmax(a)
    p = np.maximum(0, 1 + (alpha - 1) * (a - a.max())) ** (1 / (alpha - 1))
    return p / p.sum()


Sparse = partial(hopmin.SparseEnergy, 1.5)


def brute(x, p, k=1):
    squares = np.square(x[:, None].astype(float) - p).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)).astype(p.dtype), order


def expanded(x, p, k=1):
    """Expand the square and clamp at zero, as popular libraries do."""
    squares = np.maximum(np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum(axis=1), 0)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)), order


def last_of_ties(x, p, k=1):
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
    """A language model: a linear layer on running means of embeddings."""

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
CORRECT = {
    "law_softmax": (scipy.special.logsumexp, scipy.special.softmax),
    "law_logsumexp": (scipy.special.logsumexp,),
    "law_accuracy": (hopmin.logsumexp, hopmin.softmax),
    "law_softmax_derivative": (scipy.special.softmax, lambda p, u: p * u - p * (p @ u)),
    "law_entmax": (hopmin.entmax,),
    "law_equal_norms": (Plain, PlainDot),
    "law_nearest": (brute,),
    "law_nearest_accuracy": (brute,),
    "law_memory_layout": (hopmin.nearest,),
    "law_batching": (hopmin.nearest,),
    "law_backward": (lambda x: (np.sin(x), lambda dy: dy * np.cos(x)), VECTORS),
    "law_model_gradient": (Tokens(),),
    "law_causal": (Tokens(),),
    "law_attention_is_update": (attention(causal), hopmin.DotEnergy),
    "law_translation": (hopmin.DistanceEnergy,),
    "law_large_beta_match": (PlainDot,),
}
OF_ANY_ENERGY = set(LAWS) - set(CORRECT)


@pytest.mark.parametrize("name", LAWS)
def test_a_correct_implementation_passes(name):
    LAWS[name](*CORRECT.get(name, (Plain,)), examples=60)


@pytest.mark.parametrize("name", sorted(OF_ANY_ENERGY - {"law_bounds", "law_large_beta_nearest"}))
def test_the_dot_energy_passes_laws_of_any_energy(name):
    LAWS[name](PlainDot, examples=60)


def overwrite_queries(x, p):
    x[0] = 7.0
    return x


WRONG = {
    "law_softmax": {
        "uniform": (scipy.special.logsumexp, lambda a: np.full(len(a), 1 / len(a))),
        "not normalised": (scipy.special.logsumexp, lambda a: np.exp(a - a.max())),
        "exponents clipped": (scipy.special.logsumexp, lambda a: (lambda e: e / e.sum())(np.exp(np.minimum(a, 700)))),
    },
    "law_logsumexp": {
        "naive": (naive_logsumexp,),
        "the maximum plus a constant": (lambda a: a.max() + 0.1,),
        "another base": (lambda a: scipy.special.logsumexp(a) / np.log(2),),
        "mean instead of sum": (lambda a: scipy.special.logsumexp(a) - np.log(len(a)),),
    },
    "law_accuracy": {
        "without log1p": (lambda a: a.max() + np.log(np.exp(a - a.max()).sum()), hopmin.softmax),
        "in single precision": (hopmin.logsumexp, lambda a: hopmin.softmax(np.float32(a))),
    },
    "law_softmax_derivative": {
        "the diagonal alone": (scipy.special.softmax, lambda p, u: p * (1 - p) * u),
        "fused with a loss": (scipy.special.softmax, lambda p, u: p - u),
    },
    "law_bounds": {
        "half the squared distance": (mutant(scores=lambda s, x, p: Plain.scores(s, x, p) / 2),),
        "a mean instead of a sum": (mutant(value=lambda s, x, p: Plain.value(s, x, p) + np.log(len(p)) / s.beta + 1e-3),),
        "beta ignored": (mutant(value=lambda s, x, p: Plain(1.0).value(x, p)),),
        "the last pattern dropped": (mutant(value=lambda s, x, p: Plain.value(s, x, p[: max(1, len(p) - 1)])),),
    },
    "law_descent": {
        "the update of another energy": (mutant(PlainDot, update=lambda s, *a: Plain(s.beta).update(*a)),),
        "beta doubled in the update": (mutant(update=lambda s, *a: Plain(s.beta * 2).update(*a)),),
        "a guarantee twice as large": (mutant(guaranteed_decrease=lambda s, x, y: 2 * Plain.guaranteed_decrease(s, x, y)),),
        "the update of attention": (
            wrong(hopmin.EuclideanEnergy, update=lambda e, x, p: (undivided_weights(e, x, p) @ p).astype(x.dtype)),
        ),
        "another radius": (wrong(hopmin.EpanechnikovEnergy, update=lambda e, x, p: with_beta_squared(e, x, p).update(x, p)),),
        "half of |x|^2 missing": (
            mutant(PlainDot, value=lambda s, x, p: PlainDot.value(s, x, p) + np.square(x.astype(float)).sum(axis=1) / 2),
        ),
    },
    "law_gradient": {
        "without the 2": (mutant(gradient=lambda s, x, p: Plain.gradient(s, x, p) / 2),),
        "sign flipped": (mutant(gradient=lambda s, x, p: -Plain.gradient(s, x, p)),),
        "softmax instead of entmax": (wrong(Sparse, gradient=lambda e, x, p: PlainDot(e.beta).gradient(x, p)),),
        "Euclidean, with the weights of the update": (
            wrong(hopmin.EuclideanEnergy, gradient=lambda e, x, p: x - e.update(x, p)),
        ),
        "Epanechnikov, without its scale": (wrong(hopmin.EpanechnikovEnergy, gradient=lambda e, x, p: x - e.update(x, p)),),
        "Epanechnikov, beta doubled": (
            wrong(hopmin.EpanechnikovEnergy, gradient=lambda e, x, p: hopmin.EpanechnikovEnergy(2 * e.beta).gradient(x, p)),
        ),
        "multiplied by beta": (mutant(gradient=lambda s, x, p: s.beta * Plain.gradient(s, x, p)),),
        "beta doubled": (mutant(gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),),
    },
    "law_hessian": {
        "without the 2": (mutant(hessian=lambda s, x, p: Plain.hessian(s, x, p) / 2),),
        "beta ignored": (mutant(hessian=lambda s, x, p: np.eye(p.shape[1]) * 2 + (Plain.hessian(s, x, p) - np.eye(p.shape[1]) * 2) / s.beta),),
        "beta doubled": (mutant(hessian=lambda s, x, p: Plain(2 * s.beta).hessian(x, p)),),
        "plus the covariance": (mutant(hessian=lambda s, x, p: 4 * np.eye(p.shape[1]) - Plain.hessian(s, x, p)),),
        "not symmetric": (mutant(hessian=lambda s, x, p: Plain.hessian(s, x, p) + 1e-3 * np.abs(p).max() * np.triu(np.ones((p.shape[1],) * 2), 1)),),
        "Euclidean, identity only": (
            wrong(hopmin.EuclideanEnergy, hessian=lambda e, x, p: np.broadcast_to(np.eye(x.shape[1]), (len(x), *[x.shape[1]] * 2))),
        ),
        "Epanechnikov, without its scale": (
            wrong(hopmin.EpanechnikovEnergy, hessian=lambda e, x, p: np.broadcast_to(np.eye(x.shape[1]), (len(x), *[x.shape[1]] * 2))),
        ),
        "the covariance of the weights": (
            wrong(Sparse, hessian=lambda e, x, p: PlainDot(e.beta).hessian(x, p)),
        ),
    },
    "law_descent_direction": {
        "half the gradient": (mutant(gradient=lambda s, x, p: Plain.gradient(s, x, p) / 2),),
        "sign flipped": (mutant(gradient=lambda s, x, p: -Plain.gradient(s, x, p)),),
        "beta doubled": (mutant(gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),),
        "the update of attention": (
            wrong(hopmin.EuclideanEnergy, update=lambda e, x, p: (undivided_weights(e, x, p) @ p).astype(x.dtype)),
        ),
        "another radius": (wrong(hopmin.EpanechnikovEnergy, update=lambda e, x, p: with_beta_squared(e, x, p).update(x, p)),),
        "softmax update for the sparse energy": (wrong(Sparse, update=lambda e, x, p: PlainDot(e.beta).update(x, p)),),
    },
    "law_rotation": {
        "the sum of absolute differences": (
            mutant(scores=lambda s, x, p: -s.beta * np.abs(x[:, None].astype(float) - p).sum(axis=2)),
        ),
        "a larger weight for the first axis": (mutant(scores=lambda s, x, p: Plain.scores(s, x, p) - s.beta * (x[:, :1] - p[:, 0]) ** 2),),
        "gradient with reversed axes": (mutant(gradient=lambda s, x, p: Plain.gradient(s, x, p)[:, ::-1]),),
    },
    "law_large_beta_match": {
        "distances": (Plain,),
        "beta has no effect": (mutant(PlainDot, scores=lambda s, x, p: PlainDot(1.0).scores(x, p)),),
        "the first of ties": (mutant(PlainDot, update=lambda s, x, p: p[(x.astype(float) @ p.T).argmax(axis=1)]),),
    },
    "law_entmax": {
        "softmax": (lambda a, alpha: scipy.special.softmax(a),),
        "sparsemax": (lambda a, alpha: hopmin.entmax(a, 2.0),),
        "alpha twice as far from 1": (lambda a, alpha: hopmin.entmax(a, 2 * alpha - 1),),
        "clipped and divided by the sum": (entmax_unscaled,),
        "sum slightly below one": (lambda a, alpha: hopmin.entmax(a, alpha) * (1 - 1e-14),),
        "only the largest": (lambda a, alpha: (a == a.max()) / (a == a.max()).sum(),),
        "single precision": (lambda a, alpha: hopmin.entmax(np.float32(a), alpha).astype(float),),
    },
    "law_gradient_step": {
        "twice the gradient": (mutant(gradient=lambda s, x, p: 2 * Plain.gradient(s, x, p)),),
        "beta doubled": (mutant(gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),),
    },
    "law_weights": {
        "over the queries": (mutant(weights=lambda s, x, p: scipy.special.softmax(s.scores(x, p), axis=0)),),
        "beta doubled": (mutant(weights=lambda s, x, p: Plain(2 * s.beta).weights(x, p)),),
        "not divided by the distances": (wrong(hopmin.EuclideanEnergy, weights=undivided_weights),),
        "not normalised": (wrong(hopmin.EpanechnikovEnergy, weights=lambda e, x, p: (e.weights(x, p) > 0).astype(p.dtype)),),
        "zero within the radius": (wrong(hopmin.EpanechnikovEnergy, weights=lambda e, x, p: 0 * e.weights(x, p)),),
        "another radius": (wrong(hopmin.EpanechnikovEnergy, weights=lambda e, x, p: with_beta_squared(e, x, p).weights(x, p)),),
        "values ignored": (mutant(update=lambda s, x, p, values=None: Plain.update(s, x, p)),),
        "a sum, not a mean": (mutant(update=lambda s, x, p, values=None: Plain.update(s, x, p, values) * 1.001),),
    },
    "law_equal_norms": {
        "beta not halved": (mutant(value=lambda s, x, p: Plain(2 * s.beta).value(x, p)), PlainDot),
        "log n missing": (Plain, mutant(PlainDot, value=lambda s, x, p: PlainDot.value(s, x, p) - np.log(len(p)) / s.beta)),
    },
    "law_permutation": {
        "the first pattern counts twice": (
            mutant(scores=lambda s, x, p: Plain.scores(s, x, p) + np.log(2) * (np.arange(len(p)) == 0)),
        ),
    },
    "law_duplication": {
        "only the first half of the patterns": (
            mutant(update=lambda s, x, p, values=None: Plain.update(s, x, p[: len(p) // 2 + 1])),
        ),
    },
    "law_translation": {
        "the square expanded": (
            mutant(scores=lambda s, x, p: -s.beta * (np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum(axis=1))),
        ),
        "products": (PlainDot,),
    },
    "law_large_beta_nearest": {
        "products": (PlainDot,),
        "beta has no effect": (mutant(scores=lambda s, x, p: Plain(1.0).scores(x, p)),),
        "the last of ties": (mutant(update=lambda s, x, p: p[last_of_ties(x, p)[1][:, 0]]),),
    },
    "law_small_beta_mean": {
        "beta has no effect": (mutant(scores=lambda s, x, p: Plain(1.0).scores(x, p)),),
        "a sum of patterns": (mutant(update=lambda s, x, p: len(p) * Plain.update(s, x, p)),),
    },
    "law_nearest": {
        "the last of ties": (last_of_ties,),
        "the farthest": (lambda x, p, k: brute(-x, p, k),),
        "squared": (lambda x, p, k: (brute(x, p, k)[0] ** 2, brute(x, p, k)[1]),),
        "the square expanded": (expanded,),
        "always one neighbour": (lambda x, p, k: tuple(a[:, :1] for a in brute(x, p, k)),),
    },
    "law_nearest_accuracy": {
        "the square expanded": (expanded,),
        "unsorted": (lambda x, p, k: tuple(a[:, ::-1] for a in brute(x, p, k)),),
        "an index twice": (lambda x, p, k: (brute(x, p, k)[0], np.zeros((len(x), k), int)),),
    },
    "law_memory_layout": {
        "changes its input": (overwrite_queries,),
        "reads memory in storage order": (lambda x, p: np.asarray(x).ravel(order="K").copy(),),
    },
    "law_batching": {
        "normalises over the batch": (lambda x, p: np.asarray(x) - np.mean(x, axis=0),),
    },
    "law_backward": {
        "doubled": (lambda x: (np.sin(x), lambda dy: 2 * dy * np.cos(x)), VECTORS),
        "constant": (lambda x: (np.sin(x), lambda dy: np.cos(x)), VECTORS),
        "of another shape": (lambda x: (np.sin(x), lambda dy: np.float64(1)), VECTORS),
        "off by 0.1%": (lambda x: (np.sin(x), lambda dy: 1.001 * dy * np.cos(x)), VECTORS),
    },
    "law_model_gradient": {"off by 0.01%": (Tokens(wrong=1.0001),), "missing": (Tokens(wrong=0.0),)},
    "law_causal": {"sees one token ahead": (Tokens(leak=1),)},
    "law_attention_is_update": {
        "no mask": (attention(lambda T: np.zeros((T, T))), hopmin.DotEnergy),
        "transposed mask": (attention(lambda T: causal(T).T), hopmin.DotEnergy),
        "finite mask": (attention(lambda T: np.where(causal(T) < 0, -10.0, 0)), hopmin.DotEnergy),
        "another beta": (attention(causal), lambda beta: hopmin.DotEnergy(2 * beta)),
    },
}  # fmt: skip


def test_every_law_has_wrong_implementations():
    assert set(WRONG) == set(LAWS)


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in WRONG for what in WRONG[name]])
def test_a_wrong_implementation_is_rejected(name, what, monkeypatch):
    found = settings(
        laws.SETTINGS, phases=[Phase.generate], database=None
    )  # the failure suffices, so examples are not shrunk
    monkeypatch.setattr(laws, "SETTINGS", found)
    with np.errstate(all="ignore"), pytest.raises((AssertionError, ValueError, IndexError)):
        LAWS[name](*WRONG[name][what], examples=300)


def test_a_rejection_reports_the_numbers():
    with pytest.raises(AssertionError, match=r"^E <= g: 1\.5 must be at most 1 \(tolerance 0\.25\) at index \(1,\)$"):
        at_most([0.0, 1.5], 1.0, 0.25, "E <= g")


def test_comparisons_accept_and_reject():
    at_most([], 0, 0, "nothing")
    close([1.0, 2.0], [1.0, 2.0], 0, "equal")
    close([np.inf, -np.inf], [np.inf, -np.inf], 0, "equal infinities")
    at_most(1.0, np.inf, 0, "anything below infinity")
    for left, right in (
        (np.nan, 1.0),
        (1.0, np.nan),
        (1.0, 1.0 - 1e-9),
        (np.inf, 1.0),
        (1.0, -np.inf),
        (np.nan, np.inf),
    ):
        with pytest.raises(AssertionError):
            at_most(left, right, 0, "")
    for actual, expected in (([1.0], 1.0), ([1.0, 2.0], [1.0, 2.1]), ([np.nan], [np.nan])):
        with pytest.raises(AssertionError):
            close(actual, expected, 0.01, "")
    for actual, expected in ((0.0, -0.0), (np.float32(1), np.float64(1)), ([1], [[1]])):
        with pytest.raises(AssertionError):
            same(actual, expected, "")


def test_a_statement_checks_a_single_instance():
    problem = testing.Problem(np.array([[0.5]]), np.array([[0.0], [1.0]]), 1.0)
    testing.law_descent.statement(hopmin.DistanceEnergy, problem)
    with pytest.raises(AssertionError, match="guaranteed decrease"):
        testing.law_descent.statement(
            mutant(guaranteed_decrease=lambda s, x, y: 1.0 + Plain.guaranteed_decrease(s, x, y)), problem
        )
