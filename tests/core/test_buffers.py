"""Pools of memory: arrays in a pool behave like any others, and their memory is reused."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy._core.multiarray import get_handler_name

buffers = pytest.importorskip("hopmin._buffers", reason="not compiled")

SIZES = st.one_of(
    st.integers(0, 64), st.integers(8_000, 9_000), st.integers(0, 300_000)
)  # around the size of the smallest pooled block


@given(
    st.lists(st.tuples(SIZES, st.sampled_from(["full", "zeros", "copy", "resize", "drop"])), min_size=1, max_size=30)
)
def test_arrays_in_a_pool_keep_their_values(steps):
    pool, alive = buffers.pool(), []
    with buffers.within(pool):
        for number, (size, how) in enumerate(steps):
            if how == "full" or not alive:
                alive.append((np.full(size, number), size * [number]))
            elif how == "zeros":
                alive.append((np.zeros(size, int), size * [0]))
            elif how == "copy":
                alive.append((alive[0][0].copy(), alive[0][1]))
            elif how == "resize":
                a, held = alive.pop()
                a.resize(size, refcheck=False)
                alive.append((a, held[:size] + (size - len(held)) * [0]))
            else:
                del alive[size % len(alive)]
    for a, held in alive:
        assert (a == held).all()


@pytest.mark.parametrize("shape", [(100, 100), (1000, 1000)])
def test_freed_memory_is_reused_and_zeros_are_zero(shape):
    with buffers.within(buffers.pool()):
        a = np.ones(shape)
        address = a.ctypes.data
        del a
        b = np.zeros(shape)
        c = np.ones(shape)
        assert b.ctypes.data == address != c.ctypes.data
        assert not b.any()


def test_arrays_are_aligned_to_cache_lines():
    with buffers.within(buffers.pool()):
        assert {np.empty(size).ctypes.data % 64 for size in (1, 10, 100_000)} == {0}


def test_arrays_use_the_innermost_pool_and_may_outlive_it():
    pool = buffers.pool()
    with buffers.within(pool):
        inside = np.arange(100_000)
        with buffers.within(buffers.pool()):
            inner = np.ones(3)
        again = np.ones(3)
    outside = np.ones(3)
    assert [get_handler_name(a) for a in (inside, inner, again)] == 3 * ["hopmin"]
    assert get_handler_name(outside) == "default_allocator"
    del pool
    assert (inside == range(100_000)).all()


def test_an_exception_leaves_the_pool():
    with pytest.raises(KeyError), buffers.within(buffers.pool()):
        raise KeyError
    assert get_handler_name(np.ones(3)) == "default_allocator"


def test_threads_share_a_pool_only_within_it():
    pool = buffers.pool()

    def work(number):
        with buffers.within(pool):
            for size in range(50_000, 50_200):
                a = np.full(size, number)
                b = a + 1
                assert a.sum() + size == b.sum() == size * (number + 1)
        return get_handler_name(np.ones(3))

    with ThreadPoolExecutor(4) as threads:
        with buffers.within(pool):
            elsewhere = threads.submit(lambda: get_handler_name(np.ones(3))).result()
        assert {*threads.map(work, range(8)), elsewhere} == {"default_allocator"}


def test_an_impossible_size_raises_memory_error():
    with buffers.within(buffers.pool()), pytest.raises(MemoryError):
        np.empty(2**60, np.int8)
