"""hopmin satisfies the laws of hopmin.testing; functions of the core do so on both backends."""

from functools import partial

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EpanechnikovEnergy, EuclideanEnergy, SparseEnergy, testing
from hopmin.transformer import layers

SPARSE = {f"sparse, alpha = {alpha}": partial(SparseEnergy, alpha) for alpha in (1.2, 1.5, 2, 3)}
ENERGIES = {
    "distance": DistanceEnergy, "dot": DotEnergy, "euclidean": EuclideanEnergy, "Epanechnikov": EpanechnikovEnergy,
    "sparse, alpha = 1": partial(SparseEnergy, 1), **SPARSE,
}  # fmt: skip
SOFTMAX = ("distance", "dot", "sparse, alpha = 1")  # energies whose weights are a softmax of the scores
LAWS = {
    testing.law_descent: ENERGIES,
    testing.law_gradient: ENERGIES,
    testing.law_hessian: ENERGIES,
    testing.law_descent_direction: ENERGIES,
    testing.law_weights: ENERGIES,
    testing.law_permutation: ENERGIES,
    testing.law_rotation: ENERGIES,
    testing.law_bounds: ("distance",),
    testing.law_gradient_step: (*SOFTMAX, *SPARSE),
    testing.law_duplication: (*SOFTMAX, "euclidean", "Epanechnikov"),
    testing.law_translation: ("distance", "euclidean", "Epanechnikov"),
    testing.law_large_beta_nearest: ("distance", "euclidean"),
    testing.law_large_beta_match: ("dot", "sparse, alpha = 1", *SPARSE),
    testing.law_small_beta_mean: (*SOFTMAX, *SPARSE, "Epanechnikov"),
}


def test_softmax_is_the_gradient_of_logsumexp():
    testing.law_softmax(hopmin.logsumexp, hopmin.softmax)


def test_logsumexp_is_a_smooth_maximum():
    testing.law_logsumexp(hopmin.logsumexp)


def test_logsumexp_and_softmax_are_accurate():
    testing.law_accuracy(hopmin.logsumexp, hopmin.softmax)


def test_entmax_is_optimal():
    testing.law_entmax(hopmin.entmax, examples=400)


def test_softmax_derivative_is_the_derivative():
    testing.law_softmax_derivative(hopmin.softmax, hopmin.softmax_derivative)


@pytest.mark.parametrize(("law", "name"), [(law, name) for law in LAWS for name in LAWS[law]])
def test_energies_satisfy_their_laws(law, name, backend):
    examples = settings.default.max_examples  # of the profile: 30 by default, 100 in CI
    law(ENERGIES[name], examples=examples if name in ("distance", "dot") else min(examples, 20))


@pytest.mark.slow
@pytest.mark.parametrize(("law", "name"), [(law, name) for law in LAWS for name in LAWS[law]])
def test_energies_satisfy_their_laws_on_many_examples(law, name, backend):
    law(ENERGIES[name], examples=2000)


@pytest.mark.parametrize(("law", "name"), [(law, name) for law in LAWS for name in ENERGIES if name not in LAWS[law]])
def test_other_laws_have_counterexamples(law, name):
    """LAWS is complete: no other law holds for an energy. Single instances are in test_energy and test_sparse."""
    with pytest.raises(AssertionError):
        law(ENERGIES[name], examples=300)


def test_energies_agree_for_patterns_of_equal_norm(backend):
    testing.law_equal_norms(DistanceEnergy, DotEnergy)
    testing.law_equal_norms(DistanceEnergy, partial(SparseEnergy, 1))


def test_attention_is_an_update_of_the_dot_energy(backend):
    testing.law_attention_is_update(lambda q, k, v: layers.attention(q, k, v)[0], DotEnergy)


def arrays(*shapes):
    """Return a strategy of standard normal float64 arrays of the given shapes."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        return tuple(rng.normal(size=shape) for shape in shapes)

    return st.integers(0, 2**32).map(draw)


def attention(q, k, v):
    y, _, backward = layers.attention(q, k, v)
    return y, backward


def dropout(x):
    return layers.dropout(x, 0.4, np.random.default_rng(0))


def cross_entropy(logits):
    return layers.cross_entropy(logits, np.array([[1, -1, 3], [0, 2, -1]]))


LAYERS = {
    "linear": (layers.linear, arrays((2, 3, 4), (4, 5), (5,))),
    "embedding": (lambda table: layers.embedding(np.array([[1, 1, 0], [3, 2, 1]]), table), arrays((4, 5))),
    "layer_norm": (layers.layer_norm, arrays((2, 3, 4), (4,), (4,))),
    "gelu": (layers.gelu, arrays((3, 5))),
    "dropout": (dropout, arrays((3, 5))),
    "attention": (attention, arrays((2, 5, 3), (2, 5, 3), (2, 5, 3))),
    "cross_entropy": (cross_entropy, arrays((2, 3, 4))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_backward_passes_are_transposed_jacobians(name):
    testing.law_backward(*LAYERS[name], examples=20)


def model(rng=3, **options):
    """Return a float64 GPT with all parameters perturbed: initial gains and biases would hide errors."""
    config = {"vocabulary": 7, "positions": 6, "layers": 2, "heads": 2, "width": 8, "dropout": 0.2, "dtype": "float64"}
    gpt = hopmin.GPT(hopmin.GPTConfig(**config | options), rng)
    for parameter in gpt.parameters.values():
        parameter += np.random.default_rng(rng).normal(size=parameter.shape) / 4
    return gpt


@pytest.mark.parametrize("options", [{}, {"layers": 1, "heads": 1}, {"positions": 1, "dropout": 0.0}], ids=str)
def test_gradient_of_the_whole_model(options):
    testing.law_model_gradient(model(**options), examples=4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_position_depends_on_a_later_token(dtype):
    testing.law_causal(model(dtype=dtype), examples=30)


def test_laws_have_docstrings():
    for name in testing.__all__:
        if name.startswith("law_"):
            assert getattr(testing, name).__doc__, f"{name} must state its equation"
