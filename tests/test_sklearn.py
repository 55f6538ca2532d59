"""The estimators pass scikit-learn's checks and agree with Memory, plain formulas and scikit-learn."""

import pickle

import helpers
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.estimator_checks import parametrize_with_checks

from hopmin import DistanceEnergy, DotEnergy, EpanechnikovEnergy, EuclideanEnergy, SparseEnergy, Store, retrieve
from hopmin.sklearn import HopfieldClassifier, HopfieldNearestNeighbors, HopfieldRegressor

AVERAGING = [HopfieldClassifier, HopfieldRegressor]


@parametrize_with_checks(
    [
        HopfieldClassifier(), HopfieldClassifier(beta=10.0, retrieve=True), HopfieldClassifier(energy=EuclideanEnergy(3.0)),
        HopfieldRegressor(), HopfieldRegressor(energy=SparseEnergy()), HopfieldNearestNeighbors(),
        HopfieldNearestNeighbors(metric="dot"),
    ]
)  # fmt: skip
def test_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def data(n=40, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(7, d)), rng


def test_probabilities_are_the_total_weights_of_the_classes():
    X, x, rng = data()
    y = rng.choice(["c", "a", "b"], len(X))
    model = HopfieldClassifier(beta=2.0).fit(X, y)
    assert model.classes_.tolist() == ["a", "b", "c"]
    for row, found, word in zip(x, model.predict_proba(x), model.predict(x), strict=True):
        w = helpers.weights([-2.0 * helpers.squared_distance(row, p) for p in X])
        expected = [sum(weight for weight, label in zip(w, y, strict=True) if label == name) for name in "abc"]
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        assert word == "abc"[np.argmax(expected)]


@pytest.mark.parametrize("targets", [(), (2,)])
def test_predictions_are_targets_averaged_by_weight(targets):
    X, x, rng = data()
    y = rng.normal(size=(len(X), *targets))
    found = HopfieldRegressor(beta=0.7).fit(X, y).predict(x)
    assert found.shape == (7, *targets)
    for row, one in zip(x, found, strict=True):
        w = helpers.weights([-0.7 * helpers.squared_distance(row, p) for p in X])
        np.testing.assert_allclose(np.atleast_1d(one), helpers.average(w, y.reshape(len(X), -1)), rtol=1e-12)


@pytest.mark.parametrize("estimator", AVERAGING)
def test_a_given_energy_replaces_beta(estimator):
    X, x, rng = data()
    y = rng.integers(0, 2, len(X))
    for energy in (DotEnergy(0.3), EpanechnikovEnergy(0.2)):
        model = estimator(beta=1e9, energy=energy).fit(X, y)
        mean = energy.update(x, X, np.eye(2)[y])
        if estimator is HopfieldClassifier:
            np.testing.assert_array_equal(model.predict_proba(x), mean)
        else:
            np.testing.assert_allclose(model.predict(x), mean[:, 1], rtol=1e-15)


@pytest.mark.parametrize("estimator", AVERAGING)
def test_retrieve_computes_the_weights_at_the_final_state(estimator):
    X, x, rng = data()
    y = rng.integers(0, 2, len(X))
    model = estimator(beta=3.0, retrieve=True).fit(X, y)
    states = retrieve(x, X, DistanceEnergy(3.0)).states
    found = model.predict_proba(x)[:, 1] if estimator is HopfieldClassifier else model.predict(x)
    np.testing.assert_allclose(found, DistanceEnergy(3.0).update(states, X, y[:, None])[:, 0], rtol=1e-15)
    assert not np.allclose(found, DistanceEnergy(3.0).update(x, X, y[:, None])[:, 0])


def test_probabilities_are_zero_outside_every_reach():
    model = HopfieldClassifier(energy=EpanechnikovEnergy(1.0)).fit([[0.0], [1.0]], [5, 7])
    assert model.predict_proba([[100.0]]).tolist() == [[0.0, 0.0]]
    assert model.predict([[100.0]]).tolist() == [5]


def graph(model, *arguments):
    found = model.kneighbors_graph(*arguments)
    return found.toarray()


@pytest.mark.parametrize(("metric", "theirs"), [("euclidean", "euclidean"), ("cosine", "cosine")])
@pytest.mark.parametrize("with_queries", [True, False])
def test_neighbours_match_those_of_scikit_learn(metric, theirs, with_queries):
    X, x, _ = data(80, 3)
    x = x if with_queries else None
    ours = HopfieldNearestNeighbors(n_neighbors=4, radius=0.8, metric=metric).fit(X)
    other = NearestNeighbors(n_neighbors=4, radius=0.8, metric=theirs, algorithm="brute").fit(X)
    for k in (None, 1, 79):
        distances, indices = ours.kneighbors(x, k)
        expected, where = other.kneighbors(x, k)
        np.testing.assert_array_equal(indices, where)
        np.testing.assert_allclose(distances, expected, atol=1e-7)  # scikit-learn expands the square
        np.testing.assert_array_equal(ours.kneighbors(x, k, return_distance=False), indices)
        np.testing.assert_array_equal(graph(ours, x, k), graph(other, x, k))
        np.testing.assert_allclose(graph(ours, x, k, "distance"), graph(other, x, k, "distance"), atol=1e-7)
    for radius in (None, 0.3, np.inf):
        distances, indices = ours.radius_neighbors(x, radius, sort_results=True)
        expected, where = other.radius_neighbors(x, radius, sort_results=True)
        assert (distances.dtype, indices.dtype, distances.shape) == (object, object, expected.shape)
        for found in zip(distances, expected, indices, where, strict=True):
            np.testing.assert_allclose(found[0], found[1], atol=1e-7)
            np.testing.assert_array_equal(found[2], found[3])
        for found in zip(ours.radius_neighbors(x, radius, return_distance=False), indices, strict=True):
            np.testing.assert_array_equal(found[0], np.sort(found[1]))
        for mode in ("connectivity", "distance"):
            found = ours.radius_neighbors_graph(x, radius, mode)
            np.testing.assert_allclose(found.toarray(), other.radius_neighbors_graph(x, radius, mode).toarray(), atol=1e-7)
            assert found.has_sorted_indices
        ordered = ours.radius_neighbors_graph(x, radius, "distance", sort_results=True)
        np.testing.assert_array_equal(ordered.data, np.concatenate(distances))


def test_no_sample_is_its_own_neighbour():
    """Not even among more than k copies of it with lower indices, or where others have larger products."""
    copies = HopfieldNearestNeighbors(n_neighbors=2).fit([[1.0]] * 4 + [[5.0]])
    distances, indices = copies.kneighbors()
    assert indices.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    assert distances.tolist() == [[0, 0]] * 4 + [[4, 4]]
    assert copies.radius_neighbors_graph(mode="distance", radius=4).toarray()[4].tolist() == [4, 4, 4, 4, 0]
    assert [row.tolist() for row in copies.radius_neighbors(radius=0, return_distance=False)] == [
        [1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [],
    ]  # fmt: skip
    products = HopfieldNearestNeighbors(n_neighbors=2, metric="dot").fit([[1.0], [2.0], [3.0], [4.0]])
    assert products.kneighbors(return_distance=False).tolist() == [[3, 2], [3, 2], [3, 1], [2, 1]]
    found = products.radius_neighbors(radius=-6, return_distance=False)  # products of at least 6
    assert [row.tolist() for row in found] == [[], [2, 3], [1, 3], [1, 2]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.kneighbors(n_neighbors=3), "n_neighbors must be an integer from 1 to 2; got 3"),
        (lambda m: m.kneighbors([[0.0]], 4), "n_neighbors must be an integer from 1 to 3; got 4"),
        (lambda m: m.kneighbors([[0.0]], 1.5), "n_neighbors must be an integer from 1 to 3; got 1.5"),
        (lambda m: m.radius_neighbors(radius=-1.0), "radius must be a number >= 0; got -1.0"),
        (lambda m: m.radius_neighbors(return_distance=False, sort_results=True), "return_distance must be True if sort_results is True; got False"),
        (lambda m: m.radius_neighbors_graph(mode="both"), "mode must be one of 'connectivity', 'distance'; got 'both'"),
        (lambda m: m.set_params(metric="l1").kneighbors([[0.0]], 1), "metric must be one of 'euclidean', 'dot', 'cosine'; got 'l1'"),
        (lambda m: m.kneighbors_graph([[0.0]], 1, "both"), "mode must be one of 'connectivity', 'distance'; got 'both'"),
    ],
)  # fmt: skip
def test_invalid_arguments_raise_one_line_errors(call, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        call(HopfieldNearestNeighbors(1).fit([[0.0], [1.0], [3.0]]))
    assert str(caught.value) == message


@pytest.mark.parametrize("estimator", AVERAGING)
def test_estimators_keep_float32_and_can_be_pickled(estimator):
    X, x, rng = data()
    model = estimator().fit(X.astype("float32"), rng.integers(0, 2, len(X)).astype("float32"))
    assert model.memory_.dtype == np.float32
    back = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(back.predict(x), model.predict(x))
    assert not hasattr(clone(model), "memory_")
    assert clone(estimator(energy=DotEnergy(2.0))).energy == DotEnergy(2.0)


@pytest.mark.parametrize("estimator", AVERAGING)
def test_parameters_are_checked_in_fit(estimator):
    with pytest.raises(ValueError, match=r"^beta must be a finite number > 0; got -1"):
        estimator(beta=-1).fit([[0.0]], [1])
    with pytest.raises(TypeError, match=r"^energy must be an object with value, update and weights"):
        estimator(energy="dot").fit([[0.0]], [1])


def test_a_store_stands_for_its_patterns(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(70, 3)), np.arange(70) % 2
    with Store(tmp_path / "s", d=3, dtype="float64") as store:
        store.put(range(71), np.vstack([X[:9], X[:1] + 9, X[9:]]), np.append(y, 0))
        store.remove(9)
        found = HopfieldNearestNeighbors().fit(store).kneighbors(X[:4], 3)
        expected = HopfieldNearestNeighbors().fit(X).kneighbors(X[:4], 3)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        probabilities = HopfieldClassifier(2.0).fit(store, y).predict_proba(store)
        np.testing.assert_array_equal(probabilities, HopfieldClassifier(2.0).fit(X, y).predict_proba(X))
        assert HopfieldRegressor(2.0).fit(store, store.values).predict(store).shape == (70,)
