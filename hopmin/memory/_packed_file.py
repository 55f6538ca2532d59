"""Packed patterns in a file beside a store, to be mapped instead of read and packed again [`PackedFile`].

The file is a copy: it says which state of which store it was made from, and one that does not fit is not used.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from hopmin import _files
from hopmin._typing import Array, Floats
from hopmin._version import __version__
from hopmin.memory.reduction import BLOCK, CODED, PANEL, Packed, _Codes, _codes

HEADER = 4096  # bytes
KIND = f"packed patterns of hopmin {__version__}"
LEAST = 1 << 24  # bytes of patterns from which on a file is worth while
Layout = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype of an array


class PackedFile:
    """The packed patterns of a store in a file.

    Parameters
    ----------
    path : str
        The file.
    database : str
        The file of the store, whose permissions it gets.
    origin : dict
        What the store is, JSON: only a file of the same origin is used.
    d : int
    dtype : numpy.dtype
    """

    def __init__(self, path: str, database: str, origin: dict[str, Any], d: int, dtype: np.dtype[Any]) -> None:
        self.path, self.database, self.d, self.dtype = path, database, d, dtype
        self.origin = origin | {"kind": KIND, "d": d, "dtype": dtype.name}

    def load(self) -> tuple[Packed, int] | None:
        """Map the file and return its patterns and the counter of the store then; None if there is none that fits."""
        try:
            with open(self.path, "rb") as file:
                header, size = json.loads(file.read(HEADER)), os.fstat(file.fileno()).st_size
            n, counter = int(header.pop("n")), int(header.pop("counter"))
            if header != self.origin or not 1 <= n <= size or size != HEADER + sum(map(_size, self._layouts(n))):
                return None
            return self._packed(np.asarray(np.memmap(self.path, np.uint8, "r")), n), counter
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return None

    def build(self, blocks: Callable[[], Iterable[Floats]], n: int, counter: int) -> Packed:
        """Write n patterns, in blocks of panels, and their codes to the file, and map it.

        They are held in memory instead if they are few or the file cannot be written.
        """
        header = self.origin | {"n": n, "counter": counter}
        if n * self.d * self.dtype.itemsize >= LEAST:
            try:
                with _files.atomic_write(self.path) as file:
                    os.chmod(file.name, stat.S_IMODE(os.stat(self.database).st_mode))
                    file.write(json.dumps(header).encode().ljust(HEADER))
                    for arrays in self._arrays(blocks(), n):
                        for array in arrays:
                            file.write(array.tobytes().ljust(_size((array.shape, array.dtype)), b"\0"))
                if (found := self.load()) is not None:
                    return found[0]
            except (OSError, ValueError):  # a full disk, a folder that cannot be written to
                pass
        parts = list(self._arrays(blocks(), n))
        return self._joined([part[0] for part in parts], [part[1:] for part in parts], n)

    def _arrays(self, blocks: Iterable[Floats], n: int) -> Iterator[tuple[Array, ...]]:
        """Yield each block with its codes."""
        for i, block in enumerate(blocks):
            yield (block, *(_codes(block, min(BLOCK, n - i * BLOCK)) if self.d in CODED else ()))

    def _layouts(self, n: int) -> list[Layout]:
        """Return the shapes and dtypes of the arrays in the file."""
        layouts: list[Layout] = []
        for start in range(0, n, BLOCK):
            count = -(-min(BLOCK, n - start) // PANEL)
            layouts.append(((count, self.d, PANEL), self.dtype))
            if self.d in CODED:
                words, bounds = (count, -(-self.d // 4), PANEL), (count, 3, PANEL)
                layouts += [((self.d,), self.dtype), (words, np.dtype(np.uint32)), (bounds, np.dtype(np.float32))]
        return layouts

    def _packed(self, content: Array, n: int) -> Packed:
        arrays, start = [], HEADER
        for shape, dtype in self._layouts(n):
            stop = start + int(np.prod(shape)) * dtype.itemsize
            arrays.append(content[start:stop].view(dtype).reshape(shape))
            start += _size((shape, dtype))
        each = 4 if self.d in CODED else 1
        codes = [tuple(arrays[i + 1 : i + each]) for i in range(0, len(arrays), each)]
        return self._joined(arrays[::each], codes, n)

    def _joined(self, blocks: list[Floats], codes: list[tuple[Array, ...]], n: int) -> Packed:
        coded = tuple(_Codes(*parts) for parts in codes) if self.d in CODED else None
        return Packed._of(tuple(blocks), coded, (n, self.d), self.dtype)


def has_own_codes(packed: Packed) -> bool:
    """Return whether the codes of packed patterns, if any, are those of the patterns."""
    if packed._codes is None:
        return True
    fresh = (_codes(block, min(BLOCK, len(packed) - i * BLOCK)) for i, block in enumerate(packed._blocks))
    return all(all(map(np.array_equal, *codes)) for codes in zip(packed._codes, fresh, strict=True))


def _size(layout: Layout) -> int:
    """Return the bytes that an array takes in the file: a multiple of 64."""
    shape, dtype = layout
    return -(-int(np.prod(shape)) * dtype.itemsize // 64) * 64
