"""Entries of a store in files: read them in batches [`read_entries`], write them [`write_entries`].

`.npy` holds patterns (n, d) alone; `.npz` and `.safetensors` named arrays; `.csv` and `.jsonl` one entry a line.
"""

from __future__ import annotations

import csv
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from hopmin import _check, _files
from hopmin._typing import Array, Name, Progress
from hopmin.memory.store import Store

BATCH = 10_000  # entries in a transaction
PARTS = ("keys", "patterns", "values")
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
SUFFIXES = (".npy", ".npz", ".safetensors", ".csv", ".jsonl")


class Batch(NamedTuple):
    """Some entries: keys and values may be missing."""

    keys: list[Any] | None
    patterns: Any
    values: Any
    metadata: dict[str, list[Any]]


def read_entries(path: Name, keys: Name | None = None) -> Iterator[Batch]:
    """Yield the entries of a file in batches.

    Parameters
    ----------
    path : str or path
        The file; its suffix says what it is.
    keys : str or path, optional
        A text file with one key a line.

    Raises
    ------
    ValueError
        If the file cannot be read, or is not what its suffix says.
    """
    suffix = _suffix(path)
    named = None if keys is None else iter(_files.read_text(keys).splitlines())
    with _files.file_errors("entries", f"a {suffix} file of patterns", path):
        for batch in {".csv": _csv, ".jsonl": _json_lines}.get(suffix, _arrays)(path):
            yield batch if named is None else batch._replace(keys=list(islice(named, len(batch.patterns))))


def write_entries(path: Name, store: Store, keys: list[Any], progress: Progress | None = None) -> None:
    """Write entries of a store to a file, atomically.

    Parameters
    ----------
    path : str or path
        The file; its suffix says what it is: .npz, .csv or .jsonl.
    store : Store
        The store.
    keys : list
        The keys of the entries.
    progress : callable, optional
        Called as `progress(done, total)`.

    Raises
    ------
    ValueError
        If the file cannot be written, or the values do not fit into it.
    """
    suffix = _suffix(path, (".npz", ".csv", ".jsonl"))
    with _files.atomic_write(path) as file:
        if suffix == ".npz":
            entries = store.get(keys)
            arrays = {"keys": entries.keys, "patterns": entries.patterns, "values": entries.values}
            arrays |= {name: _column(column, store.columns[name]) for name, column in entries.metadata.items()}
            np.savez(file, **{name: a for name, a in arrays.items() if a is not None})
            return
        write = _line_writer(file, suffix, store)
        for i in range(0, len(keys), BATCH):
            entries = store.get(keys[i : i + BATCH])
            for j, key in enumerate(keys[i : i + BATCH]):
                value = None if entries.values is None else entries.values[j].tolist()
                write(key, entries.patterns[j].tolist(), value, [column[j] for column in entries.metadata.values()])
            if progress is not None:
                progress(min(i + BATCH, len(keys)), len(keys))


def column_types(metadata: Mapping[str, list[Any]]) -> dict[str, str]:
    """Return the types of metadata columns that these entries fit into."""
    kinds = {}
    for name, column in metadata.items():
        found = {type(entry) for entry in column} - {type(None)}
        kinds[name] = "integer" if found <= {int, bool} else "real" if found <= {int, bool, float} else "text"
    return kinds


def converted(batch: Batch, columns: Mapping[str, str], key_type: str | None) -> Batch:
    """Return a batch with the metadata and keys of a CSV file as the store's columns and keys are."""

    def convert(entry: Any, kind: str) -> Any:
        if kind == "text":
            return None if entry is None else str(entry)
        try:
            return (int if kind == "integer" else float)(entry) if isinstance(entry, str) else entry
        except ValueError:
            return entry  # the store says what is wrong

    metadata = {
        name: [convert(entry, columns.get(name, "text")) for entry in column] for name, column in batch.metadata.items()
    }
    keys = batch.keys
    if keys is not None and key_type is not None:
        keys = [convert(key, "integer") if key_type == "int" else str(key) for key in keys]
    return batch._replace(keys=keys, metadata=metadata)


def _suffix(path: Name, suffixes: tuple[str, ...] = SUFFIXES) -> str:
    return _check.choice("the suffix of a file of entries", Path(_check.path("path", path)).suffix.lower(), suffixes)


def _arrays(path: Name) -> Iterator[Batch]:
    """Yield the entries in arrays; those of an `.npy` file are mapped."""
    suffix = _suffix(path)
    if suffix == ".npy":
        arrays = {"patterns": np.load(path, mmap_mode="r", allow_pickle=False)}
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    else:
        arrays = _safetensors(path)
    patterns = arrays.pop("patterns", None)
    if patterns is None or patterns.ndim != 2:
        raise ValueError("no patterns (n, d)")
    keys, values = arrays.pop("keys", None), arrays.pop("values", None)
    for i in range(0, len(patterns), BATCH):
        part = slice(i, i + BATCH)
        metadata = {name: [None if _is_nothing(e) else e for e in a[part].tolist()] for name, a in arrays.items()}
        yield Batch(
            None if keys is None else keys[part].tolist(),
            np.asarray(patterns[part]),
            None if values is None else values[part],
            metadata,
        )


def _is_nothing(entry: Any) -> bool:
    return isinstance(entry, float) and math.isnan(entry)


def _safetensors(path: Name) -> dict[str, Array]:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > os.path.getsize(path):
            raise ValueError("a header longer than the file")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    start = 8 + length
    arrays: dict[str, Array] = {}
    for name, about in header.items():
        if about["dtype"] in FLOATS:
            shape = tuple(about["shape"])
            arrays[name] = np.memmap(path, FLOATS[about["dtype"]], "r", start + about["data_offsets"][0], shape)
    if "patterns" not in arrays and len(arrays) == 1:
        arrays = {"patterns": next(iter(arrays.values()))}
    return arrays


def _json_lines(path: Name) -> Iterator[Batch]:
    with open(path, encoding="utf-8") as file:
        rows = (json.loads(line) for line in file if line.strip())
        while some := list(islice(rows, BATCH)):
            yield _batch([row.pop("key", None) for row in some], [row.pop("pattern") for row in some], some)


def _csv(path: Name) -> Iterator[Batch]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        names = [name for name in rows.fieldnames or () if name[:1] == "p" and name[1:].isdigit()]
        names.sort(key=lambda name: int(name[1:]))
        if not names:
            raise ValueError("no columns p0, p1, ...")
        while some := list(islice(rows, BATCH)):
            patterns = [[float(row.pop(name)) for name in names] for row in some]
            plain: list[dict[str, Any]] = [{name: _parsed(text) for name, text in row.items()} for row in some]
            yield _batch([row.pop("key", None) for row in plain], patterns, plain)


def _parsed(text: str) -> Any:
    """Return a field of CSV as the integer or number that it stands for, as text otherwise, and None if it is empty."""
    for number in (int, float):
        try:
            if str(number(text)) == text:
                return number(text)
        except ValueError:
            pass
    return text or None


def _batch(keys: list[Any], patterns: list[Any], rows: list[dict[str, Any]]) -> Batch:
    """Return a batch of rows whose other fields are the value and the metadata."""
    values = [row.pop("value", None) for row in rows]
    metadata = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    missing = all(value is None for value in values)
    return Batch(None if all(key is None for key in keys) else keys, patterns, None if missing else values, metadata)


def _line_writer(file: IO[bytes], suffix: str, store: Store) -> Callable[..., None]:
    """Return a function that writes a key, a pattern, a value and metadata as a line."""
    columns = list(store.columns)
    if suffix == ".jsonl":

        def write_json(key: Any, pattern: list[float], value: Any, metadata: list[Any]) -> None:
            row = {"key": key, "pattern": pattern} | ({} if value is None else {"value": value})
            row |= {name: entry for name, entry in zip(columns, metadata, strict=True) if entry is not None}
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

        return write_json

    class Text:
        @staticmethod
        def write(text: str) -> int:
            return file.write(text.encode())

    rows = csv.writer(Text)
    rows.writerow(["key", "value", *columns, *(f"p{i}" for i in range(store.shape[1]))])

    def write_row(key: Any, pattern: list[float], value: Any, metadata: list[Any]) -> None:
        if isinstance(value, list):
            raise ValueError("values must be one string or number for each entry to be written as CSV; got arrays")
        rows.writerow([key, value, *metadata, *map(repr, pattern)])

    return write_row


def _column(column: list[Any], kind: str) -> Array:
    """Return a metadata column as an array: NaN stands for None among numbers, and "" among strings."""
    if kind == "text":
        return np.array(["" if entry is None else entry for entry in column], str)
    if kind == "integer" and None not in column:
        return np.array(column, np.int64)
    return np.array([math.nan if entry is None else entry for entry in column], np.float64)
