"""Cases for `test_types.py`: types that hold, and mistakes that a type checker must report.

Each mistake has a `type: ignore` for the expected error. mypy reports the comment as unused if it stops complaining.
"""

# ruff: noqa: B018

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import hopmin
from hopmin._typing import Booleans, Energy, Floats, Integers, Metric
from hopmin.memory.layered import Pass
from hopmin.sklearn import HopfieldClassifier, HopfieldNearestNeighbors

x = np.zeros((3, 2))
patterns = [[0.0, 0.0], [1.0, 0.0]]
energy = hopmin.DistanceEnergy(beta=2.0)


def search(metric: Metric) -> None:
    assert_type(hopmin.nearest(x, patterns, k=2, metric=metric), tuple[Floats, Integers])
    assert_type(hopmin.nearest(x, hopmin.Packed(patterns)), tuple[Floats, Integers])
    assert_type(hopmin.within(x, patterns, 1.0), tuple[list[Floats], list[Integers]] | tuple[Floats, Integers])
    assert_type(hopmin.within(x, patterns, [1.0, 2.0, 3.0], sort=False, csr=True), tuple[Floats, Integers, Integers])
    assert_type(hopmin.Memory(patterns).within(x, 1.0, metric=metric, csr=True), tuple[Floats, Integers, Integers])
    hopmin.nearest(x, patterns, progress=print)
    assert_type(hopmin.separation(patterns), Floats)
    assert_type(hopmin.suggest_beta(patterns).typical, float)


def search_mistakes(metric: str) -> None:
    hopmin.nearest(x, patterns, metric="euclidian")  # type: ignore[arg-type]
    hopmin.nearest(x, patterns, metric=metric)  # type: ignore[arg-type]
    hopmin.nearest(x, patterns, k=1.5)  # type: ignore[arg-type]
    hopmin.within(x, patterns)  # type: ignore[call-overload]
    hopmin.within(x, patterns, 1.0, sorted=True)  # type: ignore[call-overload]


def retrieval() -> None:
    found = hopmin.retrieve(x, patterns, energy, allowed=[True, False], damping=0.5)
    assert_type(found, hopmin.Retrieval)
    assert_type(found.states, Floats)
    assert_type(found.energies, Floats)
    assert_type(found.steps, Integers)
    assert_type(found.residual, Floats)
    assert_type(found.reason, NDArray[np.str_])
    assert_type(found.weights, Floats)
    assert_type(found.values, Floats)
    assert_type(found.effective_patterns, Floats)
    assert_type(found.mixture_of, Integers)
    assert_type(found.nearest, Integers)
    assert_type(found.margin, Floats)
    assert_type(found.kind, NDArray[np.str_])
    assert_type(found.energy, Energy)


def retrieval_mistakes() -> None:
    hopmin.retrieve(x, patterns, energy).statez  # type: ignore[attr-defined]
    hopmin.retrieve(x, patterns, hopmin.DistanceEnergy)  # type: ignore[arg-type]
    hopmin.retrieve(x, patterns, "distance")  # type: ignore[arg-type]
    hopmin.retrieve(x, patterns, energy, dampening=0.5)  # type: ignore[call-arg]
    hopmin.retrieve(x, patterns, energy, max_steps=0.5)  # type: ignore[arg-type]
    hopmin.retrieve(x, patterns, energy).steps = 3  # type: ignore[misc,assignment]


def memory() -> None:
    store = hopmin.Memory(patterns, values=["a", "b"], energy=hopmin.DotEnergy())
    assert_type(len(store), int)
    assert_type(store.shape, tuple[int, int])
    assert_type(store.dtype, np.dtype[np.floating[Any]])
    assert_type(store.patterns, Floats)
    assert_type(store.values, NDArray[Any] | None)
    assert_type(store.energy, Energy)
    assert_type(store.add([0.0, 2.0], "c"), int | Integers)
    store.remove([0, 1])
    store.replace(0, [0.0, 3.0], "d")
    assert_type(store.energies(x), Floats)
    assert_type(store.weights(x), Floats)
    assert_type(store.update(x), Floats)
    assert_type(store.retrieve(x, damping=0.5, clamp=[True, False]), hopmin.Retrieval)
    assert_type(store.nearest(x, 2, metric="cosine"), tuple[Floats, Integers])
    assert_type(store.lookup(x, min_similarity=0.8), hopmin.Lookup)
    assert_type(store.lookup(x).values, NDArray[Any])
    assert_type(store.lookup(x).indices, Integers)
    assert_type(store.lookup(x).similarities, Floats)
    for pattern in store:
        assert_type(pattern, Floats)
    store.save("memory.npz")
    assert_type(hopmin.Memory.load("memory.npz", mmap=True, energy=energy), hopmin.Memory)


def memory_mistakes() -> None:
    store = hopmin.Memory(patterns)
    store.nearest(x, metric="euclidian")  # type: ignore[arg-type]
    store.retrieve(x, dampening=0.5)  # type: ignore[call-arg]
    store.retrieve(x, damping="0.5")  # type: ignore[arg-type]
    store.energy(x)  # type: ignore[operator]
    store.patterns = x  # type: ignore[misc]
    store.append(x)  # type: ignore[attr-defined]
    hopmin.Memory(patterns, energy=3.0)  # type: ignore[arg-type]
    hopmin.Memory.load(3)  # type: ignore[arg-type]


def layers() -> None:
    layered = hopmin.LayeredMemory([patterns, x], energy)
    assert_type(layered.layers, tuple[Floats, ...])
    assert_type(layered.beta, float)
    assert_type(layered.layer_energies(x), Floats)
    assert_type(layered.global_energy(x), Floats)
    assert_type(layered.responsibilities(x), Floats)
    assert_type(layered.layer_step(x, 0, trust=1.0), Floats)
    assert_type(layered.sequential_pass(x), Pass)
    assert_type(layered.sequential_pass(x).bounds, Floats)
    assert_type(layered.weighted_step(x), Floats)
    assert_type(layered.surrogate(x, x), Floats)
    layered.layer_step(x, "first")  # type: ignore[arg-type]
    layered.global_energies(x)  # type: ignore[attr-defined]


def energies() -> None:
    for one in (
        hopmin.DistanceEnergy(), hopmin.DotEnergy(), hopmin.EuclideanEnergy(), hopmin.SparseEnergy(),
        hopmin.EpanechnikovEnergy(), hopmin.HopfieldEnergy(), hopmin.PolynomialEnergy(), hopmin.ExponentialEnergy(),
    ):  # fmt: skip
        accepted: Energy = one
        hopmin.retrieve(x, patterns, accepted)
    hopmin.DistanceEnergy(gamma=2.0)  # type: ignore[call-arg]
    hopmin.DistanceEnergy(beta="2")  # type: ignore[arg-type]
    energy.valu(x, patterns)  # type: ignore[attr-defined]


def estimators() -> None:
    neighbours = HopfieldNearestNeighbors(metric="dot").fit(patterns)
    assert_type(neighbours, HopfieldNearestNeighbors)
    assert_type(neighbours.kneighbors(x), tuple[Floats, Integers])
    assert_type(neighbours.kneighbors(x, return_distance=False), Integers)
    assert_type(neighbours.memory_, hopmin.Memory)
    assert_type(HopfieldClassifier().fit(patterns, ["a", "b"]).predict_proba(x), Floats)
    HopfieldNearestNeighbors(metric="euclidian")  # type: ignore[arg-type]
    HopfieldClassifier(energy="dot")  # type: ignore[arg-type]


def names() -> None:
    assert_type(hopmin.BACKEND, str)
    assert_type(hopmin.__version__, str)
    hopmin.retreive  # type: ignore[attr-defined]
    hopmin.nearest_neighbours  # type: ignore[attr-defined]
    hopmin.set_threads("two")  # type: ignore[arg-type]


def numerics() -> None:
    assert_type(hopmin.softmax(x, axis=1), Floats)
    assert_type(hopmin.log_softmax(x, axis=1), Floats)
    assert_type(hopmin.logsumexp(x, axis=1), Floats)
    assert_type(hopmin.entmax(x, 1.5, axis=1), Floats)
    assert_type(hopmin.softmax_derivative(x, x), Floats)
    assert_type(hopmin.tsallis_entropy(x, axis=1), Floats)
    hopmin.softmax(x, axis="rows")  # type: ignore[arg-type]


def energy_methods() -> None:
    assert_type(energy.value(x, patterns), Floats)
    assert_type(energy.gradient(x, patterns), Floats)
    assert_type(energy.hessian(x, patterns), Floats)
    assert_type(energy.weights(x, patterns), Floats)
    assert_type(energy.update(x, patterns), Floats)
    assert_type(energy.guaranteed_decrease(x, x), Floats)
    assert_type(hopmin.EpanechnikovEnergy().minima(patterns), tuple[Floats, Booleans])
    hopmin.HopfieldEnergy(rule="hebbian")  # type: ignore[arg-type]
    hopmin.HopfieldEnergy(order="sequential")  # type: ignore[arg-type]


def transformer() -> None:
    hopmin.GPTConfig(8, 4, 1, 1, 4, norm="post", activation="relu", dtype="float64")
    hopmin.GPTConfig(8, 4, 1, 1, 4, norm="prepost")  # type: ignore[arg-type]
    hopmin.GPTConfig(8, 4, 1, 1, 4, activation="swish")  # type: ignore[arg-type]
    hopmin.GPTConfig(8, 4, 1, 1, 4, dtype="float16")  # type: ignore[arg-type]
    hopmin.GPTConfig(8, 4, 1, 1, 4, head=2)  # type: ignore[call-arg]
