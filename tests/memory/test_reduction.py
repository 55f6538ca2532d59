"""The reduction: patterns may be split anywhere, and memory does not grow as queries times patterns."""

import os
import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hopmin
from hopmin.memory import reduction
from hopmin.memory.reduction import BLOCK, Reduction, reduce
from hopmin.testing import problems

METRICS = st.sampled_from(["euclidean", "dot"])


def assert_equivalent(one, other, n):
    np.testing.assert_array_equal(one.peak, other.peak)
    np.testing.assert_array_equal(one.best, other.best)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_allclose(one.total, other.total, rtol=1e-13)
    np.testing.assert_allclose(one.mean, other.mean, rtol=0, atol=1e-13 * n * np.abs(other.mean).max(initial=1e-300))


@pytest.mark.usefixtures("backend")
class TestMerge:
    @pytest.mark.parametrize("seed", range(20))
    def test_merging_parts_equals_reducing_the_whole(self, seed):
        rng = np.random.default_rng(seed)
        x, p = rng.integers(-2, 3, (3, 2)).astype(float), rng.integers(-2, 3, (200, 2)).astype(float)
        a, b = sorted(rng.integers(0, 201, 2))
        for metric in ("euclidean", "dot"):
            whole = reduce(x, p, p, metric=metric, beta=0.3, k=7)
            parts = [
                Reduction.identity(0.3, 3, 2, 7).absorb(x, p[i:j], p[i:j], metric, first=i)
                for i, j in ((0, a), (a, b), (b, 200))
            ]
            left = copy(parts[0]).merge(parts[1]).merge(parts[2])
            right = copy(parts[0]).merge(copy(parts[1]).merge(parts[2]))
            backwards = copy(parts[2]).merge(parts[1]).merge(parts[0])
            for merged in (left, right, backwards):
                assert_equivalent(merged, whole, 200)

    def test_chunks_of_whole_blocks_give_the_same_bits(self):
        rng = np.random.default_rng(0)
        x, p = rng.normal(size=(4, 3)), rng.normal(size=(3 * BLOCK + 500, 3))
        whole = reduce(x, p, p, metric="euclidean", beta=2.0, k=5)
        chunks, size = Reduction.identity(2.0, 4, 3, 5), 2 * BLOCK
        for start in range(0, len(p), size):
            chunks.absorb(x, p[start : start + size], p[start : start + size], "euclidean", first=start)
        for a, b in zip(chunks[1:], whole[1:], strict=True):
            assert a.tobytes() == b.tobytes()

    def test_merge_leaves_the_other_unchanged(self):
        rng = np.random.default_rng(1)
        x, p = rng.normal(size=(2, 3)), rng.normal(size=(5, 3))
        one, other = (reduce(x, part, part, metric="dot", k=2) for part in (p[:2], p[2:]))
        before = copy(other)
        one.merge(other)
        for a, b in zip(other[1:], before[1:], strict=True):
            np.testing.assert_array_equal(a, b)

    def test_merge_refuses_a_different_beta(self):
        with pytest.raises(ValueError, match=r"^other must be a reduction with beta = 1\.0; got beta = 2\.0$"):
            Reduction.identity(1.0, 1).merge(Reduction.identity(2.0, 1))

    def test_merging_two_identities_is_the_identity(self):
        one, other, identity = (Reduction.identity(1.0, 3, 2, 1) for _ in range(3))
        for a, b in zip(one.merge(other)[1:], identity[1:], strict=True):
            np.testing.assert_array_equal(a, b)

    def test_memory_does_not_grow_with_queries_times_patterns(self):
        x, p = np.zeros((1000, 2)), np.zeros((4000, 2))
        tracemalloc.start()
        reduce(x, p, metric="euclidean", k=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000  # (m, n) float64 would be 32 MB


@given(problem=problems(), metric=METRICS)
def test_merging_into_the_identity_changes_nothing(problem, metric):
    x, p, beta = problem
    r = reduce(x, p, p, metric=metric, beta=beta, k=1)
    merged = Reduction.identity(beta, len(x), p.shape[1], 1).merge(r)
    for a, b in zip(merged[1:], r[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def copy(reduction):
    return Reduction(reduction.beta, *(a.copy() for a in reduction[1:]))


# Working memory

FRUGAL = """
import resource
import numpy as np
import hopmin

rng = np.random.default_rng(0)
p = rng.normal(size=(2, 1_000_000))
hopmin.set_threads(1)
hopmin.nearest(p[:, :9], p[:, :9])
hopmin.DotEnergy().update(p[:, :9], p[:, :9])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 8 * p.nbytes, -1))
for metric in ("euclidean", "dot", "cosine"):
    assert hopmin.nearest(p, p, metric=metric)[1].ravel().tolist() == [0, 1]
assert hopmin.DistanceEnergy().weights(p, p).tolist() == [[1, 0], [0, 1]]
assert (hopmin.DotEnergy().update(p[:1], p) == p[:1]).all()
assert hopmin.DistanceEnergy().value(p[1], p) == 0
"""


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="the NumPy twin would take minutes for a million coordinates")
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells how much memory is in use")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer reserves memory of its own")
def test_working_memory_does_not_grow_with_the_dimensions(run):
    """A million: a panel would take 512 MB and a batch of queries 3 GB."""
    finished = run(FRUGAL)
    assert finished.returncode == 0, finished.stderr


# What surrounds a call of the core


def calls_of(function):
    """Return the number of functions, also built-in ones, that a call of this function calls."""
    calls = []
    function()
    sys.setprofile(lambda frame, event, argument: calls.append(event) if event.endswith("call") else None)
    try:
        function()
    finally:
        sys.setprofile(None)
    return len(calls)


@pytest.mark.skipif(hopmin.BACKEND == "numpy", reason="counts calls around the compiled core; the twin makes many")
def test_a_small_problem_takes_few_calls():
    patterns, energy = np.eye(100, 8), hopmin.DistanceEnergy()
    queries = patterns[:1] + 0.25
    assert calls_of(lambda: hopmin.nearest(queries, patterns)) <= 100
    assert calls_of(lambda: energy.value(queries, patterns)) <= 100
    assert calls_of(lambda: energy.update(queries, patterns)) <= 100


HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("order", "CF")
def test_halves_become_single_precision_exactly(order):
    finite = np.asarray(HALVES[np.isfinite(HALVES)].reshape(-1, 62), order=order)
    np.testing.assert_array_equal(reduction._single(finite).view(np.int32), finite.astype(np.float32).view(np.int32))
    np.testing.assert_array_equal(reduction._single(HALVES), HALVES.astype(np.float32))  # infinite and NaN, too


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130, 8192 + 1])
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", "i1", "u8", "?"])
def test_fortran_order_gives_the_same_bits(n, dtype):
    rng = np.random.default_rng(n)
    rows = rng.integers(-9, 9, (n, 3)).astype(dtype)
    queries = rng.standard_normal((2, 3), np.float32)
    columns = np.asfortranarray(rows)
    for solve in (hopmin.nearest, hopmin.DotEnergy().update, partial(hopmin.within, radius=5.0, csr=True)):
        for a, b in zip(solve(queries, rows), solve(queries, columns), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("convert", [np.asfortranarray, lambda a: a.astype(np.int8), lambda a: a.astype(np.float16)])
def test_patterns_are_converted_block_by_block(convert):
    patterns = convert(np.ones((6 * reduction.BLOCK, 16), np.float32))
    tracemalloc.start()
    hopmin.nearest(np.zeros(16, np.float32), patterns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 8 * 16 * reduction.BLOCK  # a copy of all patterns in float64 takes twice as much


def test_energies_of_fortran_order_have_the_same_bits():
    p = np.random.default_rng(0).normal(size=(70, 37))
    for energy in (hopmin.DistanceEnergy(0.1), hopmin.DotEnergy(0.1)):
        np.testing.assert_array_equal(energy.value(p[:5], np.asfortranarray(p)), energy.value(p[:5], p))


# Codes of patterns that are not packed


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda p: p.astype("f4"), list])
def test_patterns_encoded_on_the_way_give_the_same_bits(layout, monkeypatch):
    monkeypatch.setattr(reduction, "CODES", 1)  # one tile at a time
    rng = np.random.default_rng(0)
    p = np.round(rng.normal(size=(1100, 9)), 1)
    p[600:700] = p[3]
    x = np.concatenate([p[:30], rng.normal(size=(reduction.ENOUGH - 30, 9))])
    for k in (1, 3, 1100):
        packed = hopmin.nearest(x, hopmin.Packed(layout(p), codes=False), k)
        for a, b in zip(hopmin.nearest(x, layout(p), k), packed, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("m", [1, 2, 3, reduction.ENOUGH])
def test_wrong_patterns_are_found_for_any_number_of_queries(wrong, m):
    p = np.zeros((reduction.BLOCK + 600, 8), np.float32)
    p[-3, 4] = wrong
    with pytest.raises(ValueError, match=rf"patterns must be finite; got {wrong} at index \({len(p) - 3}, 4\)"):
        hopmin.nearest(p[:m], p)


@pytest.mark.skipif(hopmin.BACKEND == "numpy", reason="the twin holds temporary arrays")
def test_encoding_on_the_way_takes_little_memory(monkeypatch):
    monkeypatch.setattr(reduction, "CODES", 1 << 17)
    p = np.ones((reduction.BLOCK, 128), np.float32)
    tracemalloc.start()
    hopmin.nearest(p[: reduction.ENOUGH], p)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 6 * reduction.CODES  # bytes of numbers and codes, for each of two threads; of all, 5 MB


@pytest.mark.parametrize("n", [1, 63, 65, 512, 600])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_few_queries_on_rows_give_the_same_bits_as_on_panels(n, m):
    rng = np.random.default_rng(n)
    p, x = (rng.integers(-2, 3, (size, 21)).astype(np.float32) for size in (n, m))
    for k in {1, min(n, 9)}:
        for a, b in zip(hopmin.nearest(x, p, k), hopmin.nearest(x, hopmin.Packed(p), k), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("outlier", [1e4, -1e9])
def test_outliers_leave_the_centre_of_codes_in_place(outlier):
    p = np.random.default_rng(0).normal(size=(1024, 9))
    p[:: reduction.PANEL] = outlier
    (codes,) = hopmin.Packed(p)._codes
    assert np.abs(codes.centre).max() < 1
