"""The memory as estimators of scikit-learn, which this module needs and nothing else in hopmin does.

- the class whose patterns have the most weight [`HopfieldClassifier`]
- targets averaged by weight [`HopfieldRegressor`]
- exact nearest neighbours [`HopfieldNearestNeighbors`]

Each holds a `hopmin.Memory`, `memory_`, once it is fitted. Parameters, checks and errors are as scikit-learn has them;
a sample is a pattern, or a query. float32 stays float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.energy import DistanceEnergy
from hopmin.memory.memory import Memory

FLOATS = (np.float64, np.float32)
MODES = ("connectivity", "distance")  # of graphs


class _Averaging(BaseEstimator):
    """A memory whose values are averaged by weight."""

    def __init__(self, beta: float = 1.0, energy: Any = None, retrieve: bool = False) -> None:
        self.beta = beta
        self.energy = energy
        self.retrieve = retrieve

    def _store(self, X: Array, values: Array) -> Any:
        self.memory_ = Memory(X, values, DistanceEnergy(self.beta) if self.energy is None else self.energy)
        return self

    def _mean(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=FLOATS)
        return self.memory_.update(self.memory_.retrieve(X).states if self.retrieve else X)


class HopfieldClassifier(ClassifierMixin, _Averaging):
    """The probability of a class is the weight of its patterns.

    Parameters
    ----------
    beta : sharpness of the DistanceEnergy by which the memory is asked; it decides on which scale samples are alike
    energy : another energy, whose own beta counts; one whose weights can all be 0 gives probabilities of 0 there
    retrieve : whether to update each sample until it is still, and weigh there: at the mean of all, if beta is small

    Attributes: `memory_`, whose values are the classes one-hot, and `classes_`.

    >>> model = HopfieldClassifier(beta=2.0).fit([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], ["low", "low", "high"])
    >>> model.predict([[0.4, 0.3], [0.1, 1.9]])
    array(['low', 'high'], dtype='<U4')
    >>> model.predict_proba([[0.5, 1.0]]).round(3)               # classes_ are sorted: high, low
    array([[0.333, 0.667]])
    >>> model.set_params(retrieve=True).predict_proba([[0.5, 1.0]]).round(3)
    array([[0., 1.]])
    """

    def fit(self, X: Any, y: Any) -> HopfieldClassifier:
        """Store samples (n, d) and their classes (n,)."""
        X, y = validate_data(self, X, y, dtype=FLOATS)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        return self._store(X, np.eye(len(self.classes_), dtype=X.dtype)[labels])

    def predict_proba(self, X: Any) -> Array:
        """(m, classes)"""
        return self._mean(X)

    def predict(self, X: Any) -> Array:
        """(m,) The likeliest class; of equally likely ones the first."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]


class HopfieldRegressor(RegressorMixin, MultiOutputMixin, _Averaging):
    """Targets averaged by weight: the regression of Nadaraya and Watson (1964), with a Gaussian kernel by default.

    Parameters are those of `HopfieldClassifier`. The kernel exp(-beta |x - p|^2) has the width 1 / sqrt(2 beta).

    >>> model = HopfieldRegressor(beta=4.0).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0])
    >>> model.predict([[1.0], [1.5]]).round(3)
    array([1.035, 2.5  ])
    """

    def fit(self, X: Any, y: Any) -> HopfieldRegressor:
        """Store samples (n, d) and their targets (n,) or (n, targets)."""
        return self._store(*validate_data(self, X, y, dtype=FLOATS, y_numeric=True, multi_output=True))

    def predict(self, X: Any) -> Array:
        """(m,) or (m, targets)"""
        return self._mean(X)


class HopfieldNearestNeighbors(BaseEstimator):
    """Exact nearest neighbours, as `hopmin.nearest` and `hopmin.within` find them; of equally near ones the first.

    Parameters
    ----------
    n_neighbors : how many neighbours, unless told otherwise
    radius : how far they may be, unless told otherwise
    metric : "euclidean", "dot" or "cosine"; within a radius, "euclidean" alone

    Where X is left out the samples of the memory are asked about, and none is its own neighbour.

    >>> model = HopfieldNearestNeighbors(n_neighbors=1).fit([[0.0], [1.0], [3.0]])
    >>> model.kneighbors([[0.9]])
    (array([[0.1]]), array([[1]]))
    >>> model.kneighbors(return_distance=False).ravel()
    array([1, 0, 1])
    """

    def __init__(self, n_neighbors: int = 5, radius: float = 1.0, metric: str = "euclidean") -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.metric = metric

    def fit(self, X: Any, y: Any = None) -> HopfieldNearestNeighbors:
        """Store samples (n, d); y is not looked at."""
        self.memory_ = Memory(validate_data(self, X, dtype=FLOATS))
        return self

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Distances, ascending, and indices (m, n_neighbors); or the indices alone."""
        queries = self._queries(X)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        k = _check.integer("n_neighbors", k, 1, len(self.memory_) - (X is None))
        distances, indices = self.memory_.nearest(queries, k + (X is None), metric=self.metric)
        if X is None:
            others = indices != np.arange(len(indices))[:, None]
            others[others.all(axis=1), -1] = False  # a sample may be farther from itself than from k others, or as far
            distances, indices = distances[others].reshape(-1, k), indices[others].reshape(-1, k)
        return (distances, indices) if return_distance else indices

    def radius_neighbors(self, X: Any = None, radius: float | None = None, return_distance: bool = True) -> Any:
        """Distances, ascending, and indices (m,), arrays of arrays of various lengths; or the indices alone."""
        queries = self._queries(X)
        _check.choice("metric", self.metric, ("euclidean",))
        distances, indices = self.memory_.within(queries, self.radius if radius is None else radius)
        if X is None:
            others = [found != i for i, found in enumerate(indices)]
            distances = [d[o] for d, o in zip(distances, others, strict=True)]
            indices = [i[o] for i, o in zip(indices, others, strict=True)]
        return (_ragged(distances), _ragged(indices)) if return_distance else _ragged(indices)

    def kneighbors_graph(self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> csr_matrix:
        """(m, n) sparse: 1 where a pattern is a neighbour, or with mode="distance" how far it is."""
        distances, indices = self.kneighbors(X, n_neighbors)
        m, k = indices.shape
        entries = np.ones_like(distances) if _check.choice("mode", mode, MODES) == MODES[0] else distances
        return csr_matrix((entries.ravel(), indices.ravel(), np.arange(0, m * k + 1, k)), (m, len(self.memory_)))

    def _queries(self, X: Any) -> Array:
        check_is_fitted(self)
        return self.memory_.patterns if X is None else validate_data(self, X, reset=False, dtype=FLOATS)


def _ragged(arrays: list[Array]) -> Array:
    """One array of them, even if all are equally long."""
    ragged = np.empty(len(arrays), object)
    ragged[:] = arrays
    return ragged
