"""Every law of hopmin.testing, on hopmin itself; what runs in a core, on both."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EpanechnikovEnergy, EuclideanEnergy, SparseEnergy, testing
from hopmin.transformer import layers

SPARSE = {f"sparse, alpha = {alpha}": partial(SparseEnergy, alpha) for alpha in (1.2, 1.5, 2, 3)}
ENERGIES = {
    "distance": DistanceEnergy, "dot": DotEnergy, "euclidean": EuclideanEnergy, "Epanechnikov": EpanechnikovEnergy,
    "sparse, alpha = 1": partial(SparseEnergy, 1), **SPARSE,
}  # fmt: skip
MEANS = ("distance", "dot", "sparse, alpha = 1")  # whose weights are a softmax of the scores
LAWS = {
    testing.law_descent: ENERGIES,
    testing.law_gradient: ENERGIES,
    testing.law_hessian: ENERGIES,
    testing.law_downhill: ENERGIES,
    testing.law_weights: ENERGIES,
    testing.law_permutation: ENERGIES,
    testing.law_rotation: ENERGIES,
    testing.law_bounds: ("distance",),
    testing.law_residual: (*MEANS, *SPARSE),
    testing.law_duplication: (*MEANS, "euclidean", "Epanechnikov"),
    testing.law_translation: ("distance", "euclidean", "Epanechnikov"),
    testing.law_cold_limit: ("distance", "euclidean"),
    testing.law_cold_match: ("dot", "sparse, alpha = 1", *SPARSE),
    testing.law_hot_limit: (*MEANS, *SPARSE, "Epanechnikov"),
}
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


def test_softmax_is_the_gradient_of_logsumexp():
    testing.law_softmax(hopmin.logsumexp, hopmin.softmax)


def test_logsumexp_is_a_soft_maximum():
    testing.law_logsumexp(hopmin.logsumexp)


def test_numerics_to_the_last_digits():
    testing.law_digits(hopmin.logsumexp, hopmin.softmax)


def test_entmax_is_the_best_distribution():
    testing.law_entmax(hopmin.entmax, examples=400)


def test_softmax_derivative():
    testing.law_softmax_derivative(hopmin.softmax, hopmin.softmax_derivative)


@pytest.mark.parametrize(("law", "name"), [(law, name) for law in LAWS for name in LAWS[law]])
def test_energies(law, name, backend):
    law(ENERGIES[name], examples=100 if name in ("distance", "dot") else 20)


@pytest.mark.slow
@pytest.mark.parametrize(("law", "name"), [(law, name) for law in LAWS for name in LAWS[law]])
def test_energies_for_long(law, name, backend):
    law(ENERGIES[name], examples=2000)


@pytest.mark.parametrize(("law", "name"), [(law, name) for law in LAWS for name in ENERGIES if name not in LAWS[law]])
def test_what_an_energy_lacks_has_a_counterexample(law, name):
    """The list above leaves nothing out that holds. (Single instances of each are in test_energy and test_sparse.)"""
    with pytest.raises(AssertionError):
        law(ENERGIES[name], examples=300)


def test_the_two_energies_agree_among_equal_norms(backend):
    testing.law_equal_norms(DistanceEnergy, DotEnergy)
    testing.law_equal_norms(DistanceEnergy, partial(SparseEnergy, 1))


@pytest.mark.parametrize("law", [testing.law_nearest, testing.law_nearest_reals])
def test_nearest(law, backend):
    law(hopmin.nearest)


@FUNCTIONS
def test_layout_does_not_matter(function, backend):
    testing.law_layout(function, examples=30)


@FUNCTIONS
def test_a_batch_is_its_rows(function, backend):
    testing.law_rows(function, examples=30)


def test_attention_is_an_update_of_the_dot_energy(backend):
    testing.law_attention_is_update(lambda q, k, v: layers.attention(q, k, v)[0], DotEnergy)


def arrays(*shapes):
    """Standard normal float64 arrays of the given shapes."""

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
def test_every_backward_is_the_transpose_of_its_forward(name):
    testing.law_backward(*LAYERS[name], examples=20)


def model(rng=3, **options):
    """A GPT in float64 with all parameters at work, as none is right after it has been made."""
    config = {"vocabulary": 7, "positions": 6, "layers": 2, "heads": 2, "width": 8, "dropout": 0.2, "dtype": "float64"}
    gpt = hopmin.GPT(hopmin.GPTConfig(**config | options), rng)
    for parameter in gpt.parameters.values():
        parameter += np.random.default_rng(rng).normal(size=parameter.shape) / 4
    return gpt


@pytest.mark.parametrize("options", [{}, {"layers": 1, "heads": 1}, {"positions": 1, "dropout": 0.0}], ids=str)
def test_the_whole_models_gradient(options):
    testing.law_model_gradient(model(**options), examples=4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_position_depends_on_a_later_token(dtype):
    testing.law_causal(model(dtype=dtype), examples=30)


def test_laws_speak_for_what_they_judge():
    for name in testing.__all__:
        if name.startswith("law_"):
            assert getattr(testing, name).__doc__, f"{name} must state its equation"


def test_strategies_reach_what_they_promise():
    """Duplicates, single patterns and dimensions, queries that are patterns, more than a block of patterns."""
    seen = set()

    @settings(max_examples=300, database=None)
    @given(testing.problems())
    def look(problem):
        x, p, beta = problem
        seen.update(
            name
            for name, there in {
                "one pattern": len(p) == 1,
                "one dimension": p.shape[1] == 1,
                "duplicates": len(np.unique(p, axis=0)) < len(p),
                "a query that is a pattern": (x[:1] == p).all(axis=1).any(),
                "more than two blocks": len(p) > 128,
                "float32": p.dtype == np.float32,
                "float64": p.dtype == np.float64,
                "far from the origin": np.abs(p).min() > 1e5,
                "sharp": beta == 1e3,
                "soft": beta == 1e-3,
            }.items()
            if there
        )

    look()
    assert len(seen) == 10, seen
