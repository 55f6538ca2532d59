"""The NumPy twin of `_buffers.pyx`: a pool that holds no memory.

- make a pool [`pool`]
- create arrays in it [`within`]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

FUNCTIONS = ("pool", "within")


def pool() -> object:
    """Return an empty pool of memory.

    Several threads may use it at the same time. It is freed when neither the pool nor an array created in it is in use.
    """
    return object()


@contextmanager
def within(pool: object) -> Iterator[None]:
    """Use the pool for the arrays that this thread creates in the `with` block.

    The compiled twin reuses the memory of freed arrays of about the same size. Arrays may outlive the block.
    """
    yield
