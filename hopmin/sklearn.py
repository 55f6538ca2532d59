"""Estimators for scikit-learn. Only this module of hopmin needs scikit-learn.

- the class whose patterns have the largest total weight [`HopfieldClassifier`]
- targets averaged by weight [`HopfieldRegressor`]
- exact nearest neighbours [`HopfieldNearestNeighbors`]

Each fitted estimator holds a `hopmin.Memory`, `memory_`. Parameters, validation and errors follow scikit-learn; samples
are patterns when fitting and queries when predicting. float32 input gives float32 output.
"""

from __future__ import annotations

from typing import Any, Literal, Self, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._extras import needed_by
from hopmin._typing import Array, Energy, Floats, Integers, Metric
from hopmin.memory.energy import DistanceEnergy
from hopmin.memory.memory import Memory

with needed_by("hopmin.sklearn", "sklearn"):
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data

DTYPES = (np.float64, np.float32)
GraphMode = Literal["connectivity", "distance"]


class _WeightedMean(BaseEstimator):  # type: ignore[misc]
    """A memory whose values are averaged by weight."""

    def __init__(self, beta: float = 1.0, energy: Energy | None = None, retrieve: bool = False) -> None:
        self.beta = beta
        self.energy = energy
        self.retrieve = retrieve

    def _store(self, X: Floats, values: ArrayLike) -> Self:
        self.memory_ = Memory(X, values, DistanceEnergy(self.beta) if self.energy is None else self.energy)
        return self

    def _mean(self, X: ArrayLike) -> Floats:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=DTYPES)
        return self.memory_.update(self.memory_.retrieve(X).states if self.retrieve else X)


class HopfieldClassifier(ClassifierMixin, _WeightedMean):  # type: ignore[misc]
    """A classifier in which the probability of a class is the total weight of its patterns.

    Parameters
    ----------
    beta : float, default 1.0
        The sharpness of the DistanceEnergy, which sets the length scale on which samples are similar.
    energy : Energy, optional
        An energy to use instead; its own beta is used. An energy whose weights can all be 0 gives probabilities of 0
        there.
    retrieve : bool, default False
        Whether to repeat the update of each sample until it stops moving before its weights are computed. At a small
        beta all samples then end at the mean of the patterns.

    Attributes
    ----------
    memory_ : Memory
        The samples, with their classes as one-hot values.
    classes_ : ndarray, shape (n_classes,)
        The class labels, sorted.

    Examples
    --------
    >>> model = HopfieldClassifier(beta=2.0).fit([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], ["low", "low", "high"])
    >>> model.predict([[0.4, 0.3], [0.1, 1.9]])
    array(['low', 'high'], dtype='<U4')
    >>> model.predict_proba([[0.5, 1.0]]).round(3)               # classes_ are sorted: high, low
    array([[0.333, 0.667]])
    >>> model.set_params(retrieve=True).predict_proba([[0.5, 1.0]]).round(3)
    array([[0., 1.]])
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Store samples (n, d) and their classes (n,)."""
        samples, labels = validate_data(self, X, y, dtype=DTYPES)
        check_classification_targets(labels)
        self.classes_, classes = np.unique(labels, return_inverse=True)
        return self._store(samples, np.eye(len(self.classes_), dtype=samples.dtype)[classes])

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probability of each class, (m, n_classes)."""
        return self._mean(X)

    def predict(self, X: ArrayLike) -> Array:
        """Return the most probable class of each sample, (m,); the first one if several are equally probable."""
        most_probable = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[most_probable])


class HopfieldRegressor(RegressorMixin, MultiOutputMixin, _WeightedMean):  # type: ignore[misc]
    """Targets averaged by weight; by default the regression of Nadaraya and Watson (1964) with a Gaussian kernel.

    The kernel exp(-beta |x - p|^2) has the standard deviation 1 / sqrt(2 beta).

    Parameters
    ----------
    beta : float, default 1.0
        The sharpness of the DistanceEnergy, which sets the length scale on which samples are similar.
    energy : Energy, optional
        An energy to use instead; its own beta is used. Where all its weights are 0, the prediction is 0.
    retrieve : bool, default False
        Whether to repeat the update of each sample until it stops moving before its weights are computed.

    Attributes
    ----------
    memory_ : Memory
        The samples, with their targets as values.

    Examples
    --------
    >>> model = HopfieldRegressor(beta=4.0).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0])
    >>> model.predict([[1.0], [1.5]]).round(3)
    array([1.035, 2.5  ])
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Store samples (n, d) and their targets (n,) or (n, n_targets)."""
        return self._store(*validate_data(self, X, y, dtype=DTYPES, y_numeric=True, multi_output=True))

    def predict(self, X: ArrayLike) -> Floats:
        """Return the predicted targets, (m,) or (m, n_targets)."""
        return self._mean(X)


class HopfieldNearestNeighbors(BaseEstimator):  # type: ignore[misc]
    """Exact nearest neighbours, computed by `hopmin.nearest` and `hopmin.within`; ties go to the lowest index.

    If X is left out of a call, the stored samples are the queries, and no sample is its own neighbour.

    Parameters
    ----------
    n_neighbors : int, default 5
        The default number of neighbours.
    radius : float, default 1.0
        The default radius.
    metric : {"euclidean", "dot", "cosine"}, default "euclidean"
        The metric: the distance of "dot" is minus the product, that of "cosine" one minus the cosine.

    Attributes
    ----------
    memory_ : Memory
        The samples.

    Examples
    --------
    >>> model = HopfieldNearestNeighbors(n_neighbors=1).fit([[0.0], [1.0], [3.0]])
    >>> model.kneighbors([[0.9]])
    (array([[0.1]]), array([[1]]))
    >>> model.kneighbors(return_distance=False).ravel()
    array([1, 0, 1])
    """

    def __init__(self, n_neighbors: int = 5, radius: float = 1.0, metric: Metric = "euclidean") -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.metric: Metric = metric

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Store samples (n, d); y is ignored."""
        self.memory_ = Memory(validate_data(self, X, dtype=DTYPES))
        return self

    @overload
    def kneighbors(
        self, X: ArrayLike | None = ..., n_neighbors: int | None = ..., return_distance: Literal[True] = ...
    ) -> tuple[Floats, Integers]: ...
    @overload
    def kneighbors(
        self, X: ArrayLike | None = ..., n_neighbors: int | None = ..., *, return_distance: Literal[False]
    ) -> Integers: ...
    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[Floats, Integers] | Integers:
        """Return the distances and indices of the nearest samples of each query.

        Parameters
        ----------
        X : array_like, shape (m, d), optional
            The queries; by default the stored samples, none of which is its own neighbour.
        n_neighbors : int, optional
            Number of neighbours; by default that of the estimator.
        return_distance : bool, default True
            Whether to return the distances.

        Returns
        -------
        distances : ndarray, shape (m, n_neighbors)
            Distances in ascending order; left out unless `return_distance`.
        indices : ndarray of int64, shape (m, n_neighbors)
            The indices of the samples at these distances.

        Raises
        ------
        ValueError
            If the estimator is not fitted, X is not valid, or `n_neighbors` is not from 1 to the number of samples, or
            to one less without X.
        """
        queries = self._queries(X)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        k = _check.integer("n_neighbors", k, 1, len(self.memory_) - (X is None))
        distances, indices = self.memory_.nearest(queries, k + (X is None), metric=self.metric)
        if X is None:
            others = indices != np.arange(len(indices))[:, None]
            others[others.all(axis=1), -1] = False  # k others may be as near as the sample itself, or nearer
            distances, indices = distances[others].reshape(-1, k), indices[others].reshape(-1, k)
        return (distances, indices) if return_distance else indices

    @overload
    def radius_neighbors(
        self,
        X: ArrayLike | None = ...,
        radius: ArrayLike | None = ...,
        return_distance: Literal[True] = ...,
        sort_results: bool = ...,
    ) -> tuple[Array, Array]: ...
    @overload
    def radius_neighbors(
        self,
        X: ArrayLike | None = ...,
        radius: ArrayLike | None = ...,
        *,
        return_distance: Literal[False],
        sort_results: bool = ...,
    ) -> Array: ...
    def radius_neighbors(
        self,
        X: ArrayLike | None = None,
        radius: ArrayLike | None = None,
        return_distance: bool = True,
        sort_results: bool = False,
    ) -> tuple[Array, Array] | Array:
        """Return the distances and indices of all samples within a radius of each query.

        Parameters
        ----------
        X : array_like, shape (m, d), optional
            The queries; by default the stored samples, none of which is its own neighbour.
        radius : float or array_like, shape (m,), optional
            The largest distance, inclusive, for all queries or for each of them; by default that of the estimator. It
            may be infinite, and negative only for "dot".
        return_distance : bool, default True
            Whether to return the distances.
        sort_results : bool, default False
            Whether to sort the samples by distance, rather than by index.

        Returns
        -------
        distances : ndarray of ndarrays, shape (m,)
            For each query, the distances of the samples; left out unless `return_distance`.
        indices : ndarray of ndarrays, shape (m,)
            For each query, the indices of the samples at these distances.

        Raises
        ------
        ValueError
            If the estimator is not fitted, X, the radius or the metric is not valid, or results are to be sorted but
            distances not returned.
        """
        if sort_results and not return_distance:
            raise ValueError("return_distance must be True if sort_results is True; got False")
        distances, indices, offsets = self._within(X, radius, sort_results)
        rows = _object_array(np.split(indices, offsets[1:-1]))
        return (_object_array(np.split(distances, offsets[1:-1])), rows) if return_distance else rows

    def kneighbors_graph(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, mode: GraphMode = "connectivity"
    ) -> csr_matrix:
        """Return the graph of the nearest samples of each query as a sparse matrix.

        Parameters
        ----------
        X : array_like, shape (m, d), optional
            The queries; by default the stored samples, none of which is its own neighbour.
        n_neighbors : int, optional
            Number of neighbours; by default that of the estimator.
        mode : {"connectivity", "distance"}, default "connectivity"
            The entry for each neighbour: 1, or its distance.

        Returns
        -------
        csr_matrix, shape (m, n)
            One row for each query, one column for each stored sample.

        Raises
        ------
        ValueError
            As `kneighbors`, and if the mode is unknown.
        """
        mode = _check.choice("mode", mode, get_args(GraphMode))
        distances, indices = self.kneighbors(X, n_neighbors)
        m, k = indices.shape
        return self._graph(distances.ravel(), indices.ravel(), np.arange(0, m * k + 1, k), mode)

    def radius_neighbors_graph(
        self,
        X: ArrayLike | None = None,
        radius: ArrayLike | None = None,
        mode: GraphMode = "connectivity",
        sort_results: bool = False,
    ) -> csr_matrix:
        """Return the graph of the samples within a radius of each query as a sparse matrix.

        Parameters
        ----------
        X : array_like, shape (m, d), optional
            The queries; by default the stored samples, none of which is its own neighbour.
        radius : float or array_like, shape (m,), optional
            The largest distance, as for `radius_neighbors`.
        mode : {"connectivity", "distance"}, default "connectivity"
            The entry for each neighbour: 1, or its distance.
        sort_results : bool, default False
            Whether to sort the entries of each row by distance, rather than by index.

        Returns
        -------
        csr_matrix, shape (m, n)
            One row for each query, one column for each stored sample.

        Raises
        ------
        ValueError
            As `radius_neighbors`, and if the mode is unknown.

        Examples
        --------
        >>> model = HopfieldNearestNeighbors(radius=1.5).fit([[0.0], [1.0], [3.0]])
        >>> model.radius_neighbors_graph([[0.5], [2.0]], mode="distance").toarray()
        array([[0.5, 0.5, 0. ],
               [0. , 1. , 1. ]])
        """
        mode = _check.choice("mode", mode, get_args(GraphMode))
        return self._graph(*self._within(X, radius, sort_results), mode)

    def _within(self, X: ArrayLike | None, radius: ArrayLike | None, sort: bool) -> tuple[Floats, Integers, Integers]:
        """Return distances, indices, and where those of each query begin and end; no sample is its own neighbour."""
        queries = self._queries(X)
        distances, indices, offsets = self.memory_.within(
            queries, self.radius if radius is None else radius, metric=self.metric, sort=sort, csr=True
        )
        if X is not None:
            return distances, indices, offsets
        others = indices != np.repeat(np.arange(len(queries)), np.diff(offsets))
        return distances[others], indices[others], np.append(0, np.cumsum(others))[offsets]

    def _graph(self, distances: Floats, indices: Integers, offsets: Integers, mode: GraphMode) -> csr_matrix:
        entries = np.ones_like(distances) if mode == "connectivity" else distances
        return csr_matrix((entries, indices, offsets), (len(offsets) - 1, len(self.memory_)))

    def _queries(self, X: ArrayLike | None) -> Floats:
        check_is_fitted(self)
        queries: Floats = self.memory_.patterns if X is None else validate_data(self, X, reset=False, dtype=DTYPES)
        return queries


def _object_array(arrays: list[Any]) -> Array:
    """Return an object array of arrays, even if all have the same length."""
    array = np.empty(len(arrays), object)
    array[:] = arrays
    return array
