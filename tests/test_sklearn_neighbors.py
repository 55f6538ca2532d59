"""scikit-learn's own tests of `NearestNeighbors`, from the installed scikit-learn, on `HopfieldNearestNeighbors`.

They run on hopmin wherever they ask for brute force, or leave the algorithm open, with the Euclidean or the cosine
metric; other algorithms remain scikit-learn's, so that tests which compare algorithms compare the two libraries.
"""

import inspect

import numpy as np
import pytest

from hopmin.sklearn import HopfieldNearestNeighbors

theirs = pytest.importorskip("sklearn.neighbors.tests.test_neighbors")
NearestNeighbors = theirs.neighbors.NearestNeighbors

METRICS = {"minkowski": "euclidean", "euclidean": "euclidean", "l2": "euclidean", "cosine": "cosine"}
NOT_CLAIMED = {
    "test_unsupervised_inputs": "fits samples that are trees, or another estimator",
    "test_not_fitted_error_gets_raised": "stores sparse samples",
    "test_precomputed_sparse_knn": "precomputed distances",
    "test_precomputed_sparse_radius": "precomputed distances",
    "test_precomputed_sparse_invalid": "precomputed distances",
    "test_radius_neighbors_returns_array_of_objects": "precomputed distances",
    "test_nearest_neighbors_validate_params": "words of the messages",
    "test_neighbors_metrics": "compares trees on other metrics",
    "test_callable_metric": "metrics that are functions",
    "test_sparse_metric_callable": "metrics that are functions",
    "test_valid_brute_metric_for_auto_algorithm": "other metrics",
    "test_k_and_radius_neighbors_duplicates": "ties go to the second of many copies of a sample, not to the first",
    "test_auto_algorithm": "which algorithm is chosen",
    "test_nearest_neighbours_works_with_p_less_than_1": "the metric of Minkowski",
}
TESTS = {
    name: function
    for name, function in vars(theirs).items()
    if name.startswith("test_") and "NearestNeighbors(" in inspect.getsource(function)
}
globals().update({name: function for name, function in TESTS.items() if name not in NOT_CLAIMED})


@pytest.fixture(autouse=True)
def substitute(monkeypatch):
    """Put hopmin in the place of scikit-learn's brute force."""

    def ours(*, algorithm="auto", metric="minkowski", p=2, leaf_size=30, metric_params=None, n_jobs=None, **options):
        if not isinstance(metric, str) or metric not in METRICS or p != 2:
            pytest.skip(f"hopmin has no metric {metric}")
        if algorithm not in ("auto", "brute"):
            return NearestNeighbors(algorithm=algorithm, metric=metric, **options)
        return HopfieldNearestNeighbors(metric=METRICS[metric], **options)

    monkeypatch.setattr(theirs.neighbors, "NearestNeighbors", ours)
    monkeypatch.setattr(theirs, "P", (2,))


@pytest.fixture(params=[np.float32, np.float64])
def global_dtype(request):
    return request.param


@pytest.fixture
def global_random_seed():
    return 42


def test_the_list_of_tests_is_up_to_date():
    assert NOT_CLAIMED.keys() <= TESTS.keys()
    assert {"test_unsupervised_kneighbors", "test_k_and_radius_neighbors_X_None"} <= TESTS.keys() - NOT_CLAIMED.keys()
