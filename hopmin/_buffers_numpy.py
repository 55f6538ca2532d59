"""The NumPy twin of `_buffers.pyx`: a pool that keeps no memory.

- make a pool [`pool`]
- create arrays in it [`within`]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

FUNCTIONS = ("pool", "within")


def pool() -> object:
    """Return an empty pool of memory.

    Several threads may be `within` it at a time. It is freed when neither the pool nor an array made in it is in use.
    """
    return object()


@contextmanager
def within(pool: object) -> Iterator[None]:
    """Allocate the arrays that this thread creates in the block from the pool, and return their memory to it.

    The compiled twin reuses the memory of arrays of about the same size that were freed before. Arrays may outlive the
    block.
    """
    yield
