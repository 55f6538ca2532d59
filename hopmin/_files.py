"""Files: read whole or refused with a sentence, written whole or not at all.

- text in [`read_text`]
- a folder to write to [`writable_folder`], a file that replaces the old one once it is complete [`atomic_write`]
- named arrays and records as `.npz`, without pickle [`save_arrays`], [`load_arrays`], or left there [`map_arrays`]
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
from typing import Any

import numpy as np

from hopmin._typing import Array, Name

FORMAT = 1  # of what save_arrays writes
ALIGN = 64  # bytes
CHUNK = 1 << 20  # bytes that are written at a time: NumPy would make a copy of all
FILLER = 0x4D48  # the kind of extra field, in a zip file, that means nothing


def read_text(path: Name) -> str:
    """A UTF-8 text file, whole, as it is, and not blank; ValueError if it is none."""
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
    """A file as it is, not empty; ValueError if it cannot be read."""
    if not (content := b"".join(read_chunks(path, binary=True))):
        raise ValueError(f"corpus must not be empty; {path} holds nothing")
    return content


def read_chunks(path: Name, *, binary: bool = False) -> Iterator[Any]:
    """A UTF-8 text file, or the bytes of any, a megabyte or so at a time; ValueError if it cannot be read as such."""
    try:
        with open(path, "rb") if binary else open(path, encoding="utf-8", newline="") as file:
            while piece := file.read(CHUNK):
                yield piece
    except UnicodeDecodeError as error:
        raise ValueError(f"corpus must be UTF-8 text; {path} has byte {error.object[error.start]:#04x}") from None
    except OSError as error:
        raise ValueError(f"corpus must be a readable file; {path}: {error.strerror}") from None


def writable_folder(path: Name) -> Path:
    """A folder one can write to, made where it is missing; ValueError if it cannot be had."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written to; {folder}: {error.strerror}") from None


@contextlib.contextmanager
def atomic_write(path: Name) -> Iterator[Any]:
    """A binary file to write, which takes the place of `path` once it is whole and leaves no trace if it fails.

    Where `path` is a link, the file it leads to is replaced; devices, pipes and folders are not: ValueError.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"path must be a file that can be written; {path} is something else")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        opened = open(temporary, "xb")  # noqa: SIM115 - entered below, where errors are the writer's
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
    """A UTF-8 text file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content.encode())


def save_arrays(path: Name, kind: str, arrays: Mapping[str, Array], **records: Any) -> None:
    """Arrays and JSON records in one `.npz` file that says what `kind` of thing it holds; TypeError for objects.

    Each array begins at a multiple of ALIGN bytes, so that it can be mapped.
    """
    if objects := [name for name, a in arrays.items() if a.dtype.hasobject]:
        raise TypeError(f"arrays must hold no Python objects to be saved; got {objects[0]}")
    if reserved := {"hopmin", "file"} & arrays.keys():
        raise ValueError(f"arrays must not go by the names hopmin and file; got {min(reserved)}")
    about = json.dumps({"format": FORMAT, "kind": kind, "arrays": _headers(arrays), "records": records})
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, a in {"hopmin": np.array(about), **arrays}.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            # before the array: a header of 30 bytes, the name, a field of 20 for large sizes, and one that fills up
            start = file.tell() + 30 + len(member.filename.encode()) + 20 + 4
            member.extra = struct.pack("<HH", FILLER, -start % ALIGN) + bytes(-start % ALIGN)
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(a))
                flat, step = a.reshape(-1, order="A"), CHUNK // max(1, a.itemsize) + 1
                for first in range(0, a.size, step):
                    out.write(flat[first : first + step].tobytes())


def load_arrays(path: Name, kind: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """What `save_arrays` wrote, whole; ValueError if the file is missing, damaged or holds something else."""
    return _opened(path, kind, _read)


def map_arrays(path: Name, kind: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """The same, as read-only maps of the file: nothing is read but headers and records, nor are checksums looked at."""
    return _opened(path, kind, _mapped)


def _opened(
    path: Name, kind: str, read: Callable[[zipfile.ZipFile, zipfile.ZipInfo], Array]
) -> tuple[dict[str, Array], dict[str, Any]]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - entered below: what goes wrong from there on is damage
    except OSError as error:
        raise ValueError(f"{kind} must be a readable file; {path}: {error.strerror}") from None
    try:
        with file, zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            about = json.loads(str(_read(archive, members.pop("hopmin"))))
            found, records = (about["kind"], about["format"]), about["records"]
            arrays = {name: read(archive, member) for name, member in members.items()}
        if about["arrays"] not in (_headers(arrays), sorted(arrays)):
            raise ValueError("an array is missing, or not what it was")
    except MemoryError:  # whole, but larger than what is free
        raise
    except Exception:  # damage can look like anything: a bad zip, a wrong header, a shape larger than all memory
        raise ValueError(f"{kind} must be a file that hopmin saved; {path} is damaged or something else") from None
    if found != (kind, FORMAT):
        raise ValueError(f"{path} must hold a {kind} in format {FORMAT}; got a {found[0]} in format {found[1]}")
    return arrays, records


def _headers(arrays: Mapping[str, Array]) -> dict[str, str]:
    """What stands before the numbers of each: dtype, order and shape. (Files once told the names alone.)"""
    return {name: str(np.lib.format.header_data_from_array_1_0(a)) for name, a in arrays.items()}


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """A member of a zip file, read to its checksum; an error of any kind if it is compressed or damaged."""
    _mapped(archive, member)  # first, lest its headers ask for more memory than it has bytes
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _mapped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """A member of a zip file as a map; an error of any kind if it is compressed or not what its headers say."""
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
