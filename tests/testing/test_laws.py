"""hopmin satisfies the laws of hopmin.testing; functions of the core do so on both backends."""

from functools import partial

import pytest
from hypothesis import settings

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EpanechnikovEnergy, EuclideanEnergy, SparseEnergy, testing

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


@pytest.mark.parametrize("law", [testing.law_nearest, testing.law_nearest_accuracy])
def test_nearest_is_exact(law, backend):
    law(hopmin.nearest)


@FUNCTIONS
def test_results_do_not_depend_on_memory_layout(function, backend):
    testing.law_memory_layout(function, examples=30)


@FUNCTIONS
def test_a_batch_equals_its_rows(function, backend):
    testing.law_batching(function, examples=30)


def test_laws_have_docstrings():
    for name in testing.__all__:
        if name.startswith("law_"):
            assert getattr(testing, name).__doc__, f"{name} must state its equation"
