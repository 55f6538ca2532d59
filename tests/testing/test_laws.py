"""hopmin satisfies the laws of hopmin.testing; functions of the core do so on both backends."""

from functools import partial

import pytest

import hopmin
from hopmin import DistanceEnergy, DotEnergy, EpanechnikovEnergy, EuclideanEnergy, SparseEnergy, testing

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


def test_laws_have_docstrings():
    for name in testing.__all__:
        if name.startswith("law_"):
            assert getattr(testing, name).__doc__, f"{name} must state its equation"
