"""Reading and writing files: readers raise ValueError for files they cannot use, writers are atomic.

- text and bytes [`read_text`], [`read_bytes`], or one piece at a time [`read_chunks`]
- output folders [`writable_folder`], atomic writes [`atomic_write`], [`write_text`]
- named arrays and records as `.npz`, without pickle: save [`save_arrays`], load [`load_arrays`], map [`map_arrays`]
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hopmin._typing import Array, Name

FORMAT = 1  # version of the format of save_arrays
ALIGN = 64  # bytes
CHUNK = 1 << 20  # bytes to read or write at a time; NumPy would copy a whole array
FILLER = 0x4D48  # the id of a zip extra field that readers ignore


def read_text(path: Name) -> str:
    """Return the text of a UTF-8 file, line ends unchanged; raise ValueError if it cannot be read or is blank."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            content = file.read()
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise ValueError(f"corpus must be UTF-8 text; {path} has {found}") from None
    except OSError as error:
        raise ValueError(f"corpus must be a readable text file; {path}: {error.strerror}") from None
    if not content.strip():
        raise ValueError(f"corpus must not be empty; {path} holds no text")
    return content


def read_bytes(path: Name) -> bytes:
    """Return the bytes of a file; raise ValueError if it cannot be read or is empty."""
    if not (content := b"".join(read_chunks(path, binary=True))):
        raise ValueError(f"corpus must not be empty; {path} has 0 bytes")
    return content


def read_chunks(path: Name, *, binary: bool = False) -> Iterator[Any]:
    """Yield a UTF-8 text file, or the bytes of any file, CHUNK at a time; raise ValueError if it cannot be read."""
    try:
        with open(path, "rb") if binary else open(path, encoding="utf-8", newline="") as file:
            while piece := file.read(CHUNK):
                yield piece
    except UnicodeDecodeError as error:
        raise ValueError(f"corpus must be UTF-8 text; {path} has byte {error.object[error.start]:#04x}") from None
    except OSError as error:
        raise ValueError(f"corpus must be a readable file; {path}: {error.strerror}") from None


def writable_folder(path: Name) -> Path:
    """Return a writable folder, created if it is missing; raise ValueError if that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written to; {folder}: {error.strerror}") from None


@contextlib.contextmanager
def atomic_write(path: Name) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces `path` when the block succeeds and is deleted when it raises.

    If `path` is a symbolic link, its target is replaced. Raises ValueError for devices, pipes and folders, and if the
    file cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"path must be a file that can be written; {path} is not a regular file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        opened = open(temporary, "xb")  # noqa: SIM115 - entered below: errors from there on are the caller's
    except OSError as error:
        raise ValueError(f"path must be a file that can be written; {path}: {error.strerror}") from None
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise ValueError(f"path must be a file that can be written; {path}: {error.strerror}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Name, content: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as file:
        file.write(content.encode())


def save_arrays(path: Name, kind: str, arrays: Mapping[str, Array], **records: Any) -> None:
    """Write arrays and JSON records to an `.npz` file of this `kind`, atomically.

    Each array starts at a multiple of ALIGN bytes, so that it can be mapped. Raises TypeError for object arrays,
    ValueError if a name is reserved or the file cannot be written.
    """
    if objects := [name for name, a in arrays.items() if a.dtype.hasobject]:
        raise TypeError(f"arrays must not be object arrays; got {objects[0]}")
    if reserved := {"hopmin", "file"} & arrays.keys():
        raise ValueError(f"arrays must not be named hopmin or file; got {min(reserved)}")
    about = json.dumps({"format": FORMAT, "kind": kind, "arrays": _headers(arrays), "records": records})
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, a in {"hopmin": np.array(about), **arrays}.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            # before the array: a header of 30 bytes, the name, a field of 20 bytes for large sizes, and the filler
            start = file.tell() + 30 + len(member.filename.encode()) + 20 + 4
            member.extra = struct.pack("<HH", FILLER, -start % ALIGN) + bytes(-start % ALIGN)
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(a))
                flat, step = a.reshape(-1, order="A"), CHUNK // max(1, a.itemsize) + 1
                for first in range(0, a.size, step):
                    out.write(flat[first : first + step].tobytes())


def load_arrays(path: Name, kind: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and records of a file that `save_arrays` wrote.

    Raises ValueError if the file is missing, damaged or of another kind.
    """
    return _open(path, kind, _load_member)


def map_arrays(path: Name, kind: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return what `load_arrays` returns, but map the arrays, read-only; checksums are not verified."""
    return _open(path, kind, _map_member)


def _open(
    path: Name, kind: str, read: Callable[[zipfile.ZipFile, zipfile.ZipInfo], Array]
) -> tuple[dict[str, Array], dict[str, Any]]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - entered below: errors from there on are damage
    except OSError as error:
        raise ValueError(f"{kind} must be a readable file; {path}: {error.strerror}") from None
    try:
        with file, zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            about = json.loads(str(_load_member(archive, members.pop("hopmin"))))
            found, records = (about["kind"], about["format"]), about["records"]
            arrays = {name: read(archive, member) for name, member in members.items()}
        if about["arrays"] != _headers(arrays):
            raise ValueError("an array is missing or its header differs")
    except MemoryError:  # the file may be intact, but larger than the free memory
        raise
    except Exception:  # a damaged file can raise anything: a bad zip, a wrong header, a shape larger than all memory
        raise ValueError(f"{kind} must be a file that hopmin saved; {path} is damaged or has another format") from None
    if found != (kind, FORMAT):
        raise ValueError(f"{path} must hold a {kind} in format {FORMAT}; got a {found[0]} in format {found[1]}")
    return arrays, records


def _headers(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Return the header of each array in the `.npy` format: dtype, order and shape."""
    return {name: str(np.lib.format.header_data_from_array_1_0(a)) for name, a in arrays.items()}


def _load_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Load an array from a zip file and verify its checksum; raise any exception if it is compressed or damaged."""
    _map_member(archive, member)  # first, so that a wrong header cannot allocate more memory than the file has bytes
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _map_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Map an array from a zip file; raise any exception if it is compressed or does not match its headers."""
    file: Any = archive.fp
    file.seek(member.header_offset)
    signature, name, extra = struct.unpack("<4s22xHH", file.read(30))
    start = member.header_offset + 30 + name + extra
    file.seek(start)
    version = np.lib.format.read_magic(file)
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    size = math.prod(shape) * dtype.itemsize
    whole = file.tell() + size == start + member.file_size
    if (signature, version) != (b"PK\3\4", (1, 0)) or not whole or dtype.hasobject:
        raise ValueError("not an array that can be mapped")
    order: Any = "F" if columns_first else "C"
    return np.memmap(file, dtype, "r", file.tell(), shape, order) if size else np.empty(shape, dtype, order)
