"""hopmin satisfies the laws of hopmin.testing; functions of the core do so on both backends."""

from functools import partial

import numpy as np
import pytest
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EpanechnikovEnergy, EuclideanEnergy, SparseEnergy, testing
from hopmin.transformer import layers

FUNCTIONS = pytest.mark.parametrize(
    "function",
    [
        hopmin.nearest,
        lambda x, p: hopmin.nearest(x, p, metric="dot"),
        DistanceEnergy(0.7).value,
        DistanceEnergy(0.7).gradient,
        DistanceEnergy(0.7).update,
        DistanceEnergy(0.7).weights,
        DotEnergy(0.7).value,
        DotEnergy(0.7).update,
        EuclideanEnergy(0.7).gradient,
        EuclideanEnergy(0.7).update,
        SparseEnergy(1.5, 0.7).value,
        SparseEnergy(1.5, 0.7).update,
        EpanechnikovEnergy(0.7).gradient,
        EpanechnikovEnergy(0.7).update,
    ],
)


def test_energies_agree_for_patterns_of_equal_norm(backend):
    testing.law_equal_norms(DistanceEnergy, DotEnergy)
    testing.law_equal_norms(DistanceEnergy, partial(SparseEnergy, 1))


@pytest.mark.parametrize("law", [testing.law_nearest, testing.law_nearest_accuracy])
def test_nearest_is_exact(law, backend):
    law(hopmin.nearest)


@FUNCTIONS
def test_results_do_not_depend_on_memory_layout(function, backend):
    testing.law_memory_layout(function, examples=30)


@FUNCTIONS
def test_a_batch_equals_its_rows(function, backend):
    testing.law_batching(function, examples=30)


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
