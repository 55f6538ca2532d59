"""Reading and writing files: readers raise ValueError for files they cannot use, writers are atomic.

- text and bytes [`read_text`], [`read_bytes`], or one piece at a time [`read_chunks`]
- output folders [`writable_folder`], atomic writes [`atomic_write`], [`write_text`]
- named arrays and records as `.npz`, without pickle: save [`save_arrays`], load [`load_arrays`], map [`map_arrays`]
- one sentence for whatever reading a file raises [`file_errors`], or for a lack of memory alone [`memory_errors`]

A reader that runs out of memory raises MemoryError: the file may be intact.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hopmin import _check
from hopmin._typing import Array, Name

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1  # version of the format of save_arrays
ALIGN = 64  # bytes
CHUNK = 1 << 20  # bytes to read or write at a time; NumPy would copy a whole array
FILLER = 0x4D48  # the id of a zip extra field that readers ignore


@contextlib.contextmanager
def file_errors(kind: str, expected: str, path: Name) -> Iterator[None]:
    """Turn whatever reading a file raises into one sentence that names the file.

    Parameters
    ----------
    kind : str
        What the file holds.
    expected : str
        What a damaged file is not.
    path : str or path
        The file.

    Raises
    ------
    MemoryError
        If there is not enough memory or address space. This says nothing about the file.
    ValueError
        If the file cannot be read, or is damaged.
    ImportError
        As raised in the block.
    """
    try:
        with memory_errors(path):
            yield
    except (ImportError, MemoryError):
        raise
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # an offset before or beyond the file
            raise ValueError(f"{kind} must be {expected}; {path} is damaged or has another format") from None
        raise ValueError(f"{kind} must be a readable file; {path}: {error.strerror}") from None
    except Exception:  # a damaged file can raise anything: a bad zip, a wrong header, a shape larger than all memory
        raise ValueError(f"{kind} must be {expected}; {path} is damaged or has another format") from None


@contextlib.contextmanager
def memory_errors(path: Name) -> Iterator[None]:
    """Raise MemoryError with the size of the file, or of the folder, if there is no memory or address space for it."""
    try:
        yield
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        parts = Path(path).iterdir() if os.path.isdir(path) else [Path(path)]
        raise MemoryError(f"no memory for the {sum(part.stat().st_size for part in parts):,} bytes of {path}") from None


def read_text(path: Name) -> str:
    """Return the text of a UTF-8 file, line ends unchanged; raise ValueError if it cannot be read or is blank."""
    path = _check.path("path", path)
    try:
        with memory_errors(path), open(path, encoding="utf-8", newline="") as file:
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
    with memory_errors(_check.path("path", path)):
        content = b"".join(read_chunks(path, binary=True))
    if not content:
        raise ValueError(f"corpus must not be empty; {path} has 0 bytes")
    return content


def read_chunks(path: Name, *, binary: bool = False) -> Iterator[Any]:
    """Yield a UTF-8 text file, or the bytes of any file, CHUNK at a time; raise ValueError if it cannot be read."""
    path = _check.path("path", path)
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
    folder = Path(_check.path("out", path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written to; {folder}: {error.strerror}") from None


@contextlib.contextmanager
def atomic_write(path: Name) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces `path` when the block succeeds and is deleted when it raises.

    If `path` is a symbolic link, its target is replaced. The new file has the permissions of the old one. Temporary
    files that killed processes left behind when they wrote `path` are deleted. Raises ValueError for devices, pipes and
    folders, and if the file cannot be written.
    """
    given = _check.path("path", path)
    path = Path(os.path.realpath(given))
    try:
        if not os.path.basename(given) or (path.exists() and not path.is_file()):
            raise ValueError(f"path must be a file that can be written; {path} is not a regular file")
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        _remove_abandoned(path)
        opened = _temporary(path, 0o666 if mode is None else 0o600)  # never readable by more people than the old file
    except OSError as error:
        raise ValueError(f"path must be a file that can be written; {path}: {error.strerror}") from None
    try:
        with opened as file:
            yield file  # an error here is the caller's
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows does not rename open files
            try:
                if mode is not None:
                    os.chmod(file.name, mode)
                os.replace(file.name, path)  # before the lock goes
            except OSError as error:
                raise ValueError(f"path must be a file that can be written; {path}: {error.strerror}") from None
    except BaseException:
        Path(opened.name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _temporary(path: Path, mode: int) -> IO[bytes]:
    """Create a temporary file beside `path`, and lock it: that shows other processes that it is in use."""
    while True:
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.hopmin")
        file = open(name, "xb", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks: nobody can lock it, so nobody deletes it
                fcntl.flock(file, fcntl.LOCK_EX)
        if name.exists():  # until it was locked, another process could delete it
            return file
        file.close()


def _remove_abandoned(path: Path) -> None:
    """Delete the temporary files of `path` that no process has locked: their writers were killed."""
    if fcntl is None:
        return
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.hopmin")
    with os.scandir(path.parent) as entries:
        found = [
            entry.path for entry in entries if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        ]
    for name in found:
        with contextlib.suppress(OSError), open(name, "rb") as file:  # in use, of another user, or already deleted
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name)


def _sync(folder: Path) -> None:
    """Write the entries of a folder to the disk; otherwise, a loss of power may bring an old file back."""
    with contextlib.suppress(OSError):  # some file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Name, content: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as file:
        file.write(content.encode())


def to_json(record: Any) -> str:
    """Return a record as JSON, which has no infinities and no NaN: they become null."""

    def finite(value: Any) -> Any:
        match value:
            case dict():
                return {name: finite(part) for name, part in value.items()}
            case list() | tuple():
                return [finite(part) for part in value]
            case float() if not math.isfinite(value):
                return None
        return value

    return json.dumps(finite(record), indent=1, allow_nan=False)


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
    path = _check.path("path", path)
    with (
        file_errors(kind, "a file that hopmin saved", path),
        open(path, "rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if sum(member.file_size for member in archive.infolist()) > os.fstat(file.fileno()).st_size:
            raise ValueError("members that overlap")
        about = json.loads(str(_load_member(archive, members.pop("hopmin"))))
        found, records = (about["kind"], about["format"]), about["records"]
        if found == (kind, FORMAT):
            arrays = {name: read(archive, member) for name, member in members.items()}
            if about["arrays"] != _headers(arrays):
                raise ValueError("an array is missing or its header differs")
    if found != (kind, FORMAT):
        other = _check.printable(f"a {found[0]} in format {found[1]}")
        raise ValueError(f"{path} must hold a {kind} in format {FORMAT}; got {other:.60}")
    return arrays, records


def _headers(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Return the header of each array in the `.npy` format: dtype, order and shape."""
    return {name: str(np.lib.format.header_data_from_array_1_0(a)) for name, a in arrays.items()}


def _load_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Load an array from a zip file and verify its checksum; raise any exception if it is compressed or damaged."""
    _layout(archive, member)  # first, so that a wrong header cannot allocate more memory than the file has bytes
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _map_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Map an array from a zip file; raise any exception if it is compressed or does not match its headers."""
    file: Any = archive.fp
    start, dtype, shape, order = _layout(archive, member)
    size = math.prod(shape) * dtype.itemsize
    return np.memmap(file, dtype, "r", start, shape, order) if size else np.empty(shape, dtype, order)


def _layout(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, np.dtype[Any], tuple[int, ...], Any]:
    """Return the first byte, dtype, shape and order of an array in a zip file; raise any exception if it is cut."""
    file: Any = archive.fp
    file.seek(member.header_offset)
    signature, name, extra = struct.unpack("<4s22xHH", file.read(30))
    start = member.header_offset + 30 + name + extra
    file.seek(start)
    version = np.lib.format.read_magic(file)
    try:
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    except MemoryError:  # what Python's parser raises for deeply nested text
        raise ValueError("not a header") from None
    first = file.tell()
    whole = first + math.prod(shape) * dtype.itemsize == start + member.file_size
    if (signature, version) != (b"PK\3\4", (1, 0)) or not whole or dtype.hasobject:
        raise ValueError("not an array that can be mapped")
    return first, dtype, shape, "F" if columns_first else "C"
