"""Allowed patterns: every result is that for these patterns alone, with their indices among all."""

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hopmin
from hopmin import _backend
from hopmin.memory import _allowed, reduction

ENERGIES = [
    hopmin.DistanceEnergy(0.7), hopmin.DotEnergy(0.3), hopmin.EuclideanEnergy(), hopmin.SparseEnergy(1.5),
    hopmin.EpanechnikovEnergy(0.1),
]  # fmt: skip
RADII = {"euclidean": 4.0, "dot": 0.0, "cosine": 0.9}


@st.composite
def problems(draw):
    """Return queries (m, d), patterns (n, d), sometimes packed, and a mask (n,) that allows at least one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    d, n, m = draw(st.sampled_from([1, 8, 20])), draw(st.sampled_from([1, 64, 65, 700])), draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    p = rng.integers(-2, 3, (n, d)) if draw(st.booleans()) else rng.normal(size=(n, d))  # with ties, or without
    p[~p.any(axis=1), 0] = 1
    p = (p + draw(st.sampled_from([0, 1e6]))).astype(dtype)
    x = (p[rng.integers(n, size=m)] + rng.normal(size=(m, d))).astype(dtype)
    mask = rng.random(n) < draw(st.sampled_from([0.01, 0.5, 1.0]))
    if draw(st.booleans()):
        mask &= (np.arange(n) // 64) % 2 == 0  # whole panels
    mask[rng.integers(n)] = True
    return x, hopmin.Packed(p) if draw(st.booleans()) else p, mask


@given(problems(), st.sampled_from(["euclidean", "dot", "cosine"]), st.integers(1, 12), st.booleans())
def test_search_is_that_of_the_allowed_alone(problem, metric, k, listed):
    x, p, mask = problem
    seen, k = np.flatnonzero(mask), min(k, len(p))
    allowed = seen[::-1] if listed else mask
    count = min(k, len(seen))
    distances, indices = hopmin.nearest(x, p, k, metric=metric, allowed=allowed)
    alone = hopmin.nearest(x, p[:][mask], count, metric=metric)
    np.testing.assert_array_equal(distances[:, :count], alone[0], strict=True)
    np.testing.assert_array_equal(indices[:, :count], seen[alone[1]], strict=True)
    assert (indices[:, count:] == -1).all()
    assert np.isposinf(distances[:, count:]).all()
    found = hopmin.within(x, p, RADII[metric], metric=metric, allowed=allowed, csr=True)
    alone = hopmin.within(x, p[:][mask], RADII[metric], metric=metric, csr=True)
    for a, b in zip(found, (alone[0], seen[alone[1]], alone[2]), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@given(problems(), st.sampled_from(ENERGIES))
def test_energies_are_those_of_the_allowed_alone(problem, energy):
    x, p, mask = problem
    v = np.arange(2.0 * len(p)).reshape(-1, 2)
    np.testing.assert_array_equal(energy.value(x, p, allowed=mask), energy.value(x, p[:][mask]), strict=True)
    np.testing.assert_array_equal(energy.update(x, p, allowed=mask), energy.update(x, p[:][mask]), strict=True)
    alone = energy.update(x, p[:][mask], v[mask])
    np.testing.assert_array_equal(energy.update(x, p, v, allowed=mask), alone, strict=True)


def test_binary_energies_too():
    rng = np.random.default_rng(0)
    p, mask = rng.choice([-1.0, 1.0], (9, 6)), np.arange(9) < 5
    x = rng.choice([-1.0, 1.0], (3, 6))
    energy = hopmin.HopfieldEnergy(rule="pseudo-inverse")  # of more patterns than dimensions
    np.testing.assert_array_equal(energy.value(x, p, allowed=mask), energy.value(x, p[mask]))
    updated = energy.update(x, p, clamp=np.arange(6) < 2, allowed=mask)
    np.testing.assert_array_equal(updated, energy.update(x, p[mask], clamp=np.arange(6) < 2))


@given(problems(), st.integers(0, 2**32))
def test_each_query_has_a_mask_of_its_own(problem, seed):
    x, p, mask = problem
    masks = np.random.default_rng(seed).random((len(x), len(p))) < 0.3
    masks[0] = mask
    masks[-1] = masks[0]
    k = min(3, len(p))
    distances, indices = hopmin.nearest(x, p, k, allowed=masks)
    found, places = hopmin.within(x, p, 4.0, allowed=masks)
    for i, row in enumerate(masks):
        alone = hopmin.nearest(x[i], p, k, allowed=row)
        np.testing.assert_array_equal(distances[i], alone[0])
        np.testing.assert_array_equal(indices[i], alone[1])
        alone = hopmin.within(x[i], p, 4.0, allowed=row)
        np.testing.assert_array_equal(found[i], alone[0])
        np.testing.assert_array_equal(places[i], alone[1])
    masks[:, 0] = True
    energies = hopmin.DistanceEnergy().value(x, p, allowed=masks)
    np.testing.assert_allclose(energies[0], hopmin.DistanceEnergy().value(x[0], p, allowed=masks[0]), rtol=1e-6)


@given(problems(), st.sampled_from(ENERGIES))
def test_a_memory_passes_allowed_on(problem, energy):
    x, p, mask = problem
    memory = hopmin.Memory(p[:], np.arange(len(p)), energy)
    alone = hopmin.Memory(p[:][mask], np.flatnonzero(mask), energy)
    np.testing.assert_array_equal(memory.energies(x, allowed=mask), alone.energies(x))
    np.testing.assert_array_equal(memory.update(x, allowed=mask), alone.update(x))
    found, expected = memory.retrieve(x, allowed=mask, max_steps=3), alone.retrieve(x, max_steps=3)
    np.testing.assert_array_equal(found.states, expected.states)
    k = len(alone) + 2
    lookup, other = memory.lookup(x, k=k, allowed=mask), alone.lookup(x, k=k)
    for name in ("values", "similarities"):
        np.testing.assert_array_equal(getattr(lookup, name), getattr(other, name))
    np.testing.assert_array_equal(lookup.indices[:, :-2], lookup.values[:, :-2])
    assert (lookup.indices[:, -2:] == -1).all()
    np.testing.assert_array_equal(memory.nearest(x, allowed=mask)[1], np.flatnonzero(mask)[alone.nearest(x)[1]])


def test_a_custom_energy_gets_the_allowed_patterns_as_an_array():
    class Mean:
        def value(self, queries, patterns):
            return np.full(len(queries), patterns.sum())

        weights = value

        def update(self, queries, patterns, values=None):
            return np.repeat(patterns[:1], len(queries), axis=0)

    memory = hopmin.Memory([[1.0], [2.0], [4.0]], energy=Mean())
    assert memory.energies([[0.0]], allowed=[1, 2]).tolist() == [6.0]
    assert memory.update([[0.0]], allowed=[False, True, True]).tolist() == [[2.0]]


def test_nobody_is_allowed():
    p = np.eye(3)
    assert hopmin.nearest(p[0], p, 2, allowed=[])[1].tolist() == [-1, -1]
    assert [a.tolist() for a in hopmin.within(p[:2], p, 9.0, csr=True, allowed=[False] * 3)] == [[], [], [0, 0, 0]]
    found = hopmin.Memory(p, ["a", "b", "c"]).lookup(p[0], allowed=[])
    assert (found.values, found.indices, found.similarities) == ("", -1, -np.inf)
    message = "allowed must allow each query at least one pattern; got none for query 1"
    masks = np.array([[True, True, True], [False, False, False]])
    for function in (hopmin.DistanceEnergy().value, hopmin.SparseEnergy().update):
        assert helpers.error_message(ValueError, function, p[:2], p, allowed=masks) == message
    assert hopmin.nearest(np.empty((0, 3)), p, allowed=np.empty((0, 3), bool))[1].shape == (0, 1)


@pytest.mark.parametrize(
    ("allowed", "error", "message"),
    [
        ([0.5], TypeError, "allowed must be booleans or integers; got dtype float64"),
        ([0, 0], ValueError, "allowed must be unique integers from 0 to 2; got [0, 0]"),
        ([3], ValueError, "allowed must be unique integers from 0 to 2; got [3]"),
        ([[0]], ValueError, "allowed must be unique integers from 0 to 2; got [[0]]"),
        ([True], ValueError, "allowed must have shape (m, n) or (n,) with m = 1, n = 3; got (1,)"),
    ],
)
def test_what_is_neither_a_mask_nor_indices_is_refused(allowed, error, message):
    p = np.eye(3)
    for function in (hopmin.nearest, lambda x, p, **o: hopmin.within(x, p, 1.0, **o), hopmin.DistanceEnergy().value):
        assert helpers.error_message(error, function, p[:1], p, allowed=allowed) == message


def test_panels_without_allowed_patterns_are_not_read(monkeypatch):
    """Neither one by one nor as panels."""
    rng = np.random.default_rng(0)
    packed = hopmin.Packed(rng.normal(size=(3 * reduction.BLOCK, 8)))
    seen, read = np.arange(reduction.BLOCK, reduction.BLOCK + 64), []
    search = _backend.core.search

    def recorded(queries, patterns, n, centre, words, bounds, metric, allowed, first, *rest):
        read.append((first, n, np.flatnonzero(allowed).tolist()))
        return search(queries, patterns, n, centre, words, bounds, metric, allowed, first, *rest)

    monkeypatch.setattr(_backend.core, "search", recorded)
    monkeypatch.setattr(_allowed.Selected, "is_cheap", lambda *_: False)
    hopmin.nearest(packed[:2], packed, allowed=seen)
    assert read == [(reduction.BLOCK, reduction.BLOCK, [0])]


@given(problems())
def test_a_mapped_memory_is_filtered_too(tmp_path_factory, problem):
    x, p, mask = problem
    path = tmp_path_factory.mktemp("m") / "m.npz"
    hopmin.Memory(p[:]).save(path)
    mapped = hopmin.Memory.load(path, mmap=True)
    np.testing.assert_array_equal(mapped.nearest(x, allowed=mask)[1], hopmin.nearest(x, p, allowed=mask)[1])
    np.testing.assert_array_equal(mapped.energies(x, allowed=mask), hopmin.Memory(p[:][mask]).energies(x))


def test_progress_ends_at_the_number_of_pairs():
    told = []
    p = hopmin.Packed(np.random.default_rng(0).normal(size=(20000, 8)))
    hopmin.nearest(p[:3], p, allowed=np.arange(20000) % 2 == 0, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
