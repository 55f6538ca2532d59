"""The journal of a study: a line of `records.jsonl` for every cell that has finished [`Journal`]."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypedDict

import hopmin
from hopmin.study.plan import FORMAT, Job, Record

FILE = "records.jsonl"
OTHERS = ("results.json", "report.html", "report.md")  # what else a study writes into its folder


class Entry(TypedDict):
    """A line of a journal: a cell, and either its record or the error that ended it.

    `seconds` is the time that it took.
    """

    key: str
    experiment: str
    cell: dict[str, Any]
    record: Record | None
    error: str | None
    seconds: float


class Journal:
    """The finished cells of a study, in a file to which a line is appended durably for each.

    A process that is killed while it appends leaves an incomplete last line, which is dropped when the file is opened
    again. Nothing else is ever overwritten.

    Parameters
    ----------
    folder : Path
        The folder of the study.
    settings : dict
        The settings, as JSON. A folder holds one study: other settings, or another version, are refused.

    Attributes
    ----------
    entries : dict of str to Entry
        The last entry of every key.

    Raises
    ------
    ValueError
        If the folder has a journal of another study or of another version, a damaged one, or results without one.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / FILE
        self.header = {"format": FORMAT, "hopmin": hopmin.__version__, "settings": settings}
        self.entries: dict[str, Entry] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        if not content and (found := [name for name in OTHERS if (folder / name).exists()]):
            sentence = "out must be a new folder or that of the same study"
            raise ValueError(f"{sentence}; {folder} has {found[0]} but no records")
        whole = content[: content.rfind(b"\n") + 1]  # without a line that was cut
        if whole:
            header, self.entries = _parse(self.path, whole)
            for name, ours in self.header.items():
                if header.get(name) != ours:
                    raise ValueError(_other_study(folder, name, header.get(name), ours))
        self._file = open(self.path, "r+b" if content else "wb")  # noqa: SIM115 - open until close()
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        if not whole:
            self._append(self.header)

    def add(self, job: Job, record: Record | None, error: str | None, seconds: float) -> Entry:
        """Append the record, or the error, of a cell; it is on the disk when this returns.

        Parameters
        ----------
        job : Job
        record : dict or None
            What `run` returned; None if it failed.
        error : str or None
            The error that ended it.
        seconds : float
            The time that it took.

        Returns
        -------
        Entry
            The line.
        """
        entry: Entry = {
            "key": job.key, "experiment": job.experiment, "cell": job.cell,
            "record": record, "error": error, "seconds": round(seconds, 2),
        }  # fmt: skip
        self._append(entry)
        self.entries[job.key] = entry
        return entry

    def done(self, job: Job) -> bool:
        """Return whether the journal has a record of the cell; a cell that failed is run again."""
        return job.key in self.entries and self.entries[job.key]["error"] is None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: Any) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # it does not name the file, as when the disk is full
            raise OSError(error.errno, error.strerror, str(self.path)) from None


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Entry]]:
    """Return the header and the entries, by key, of the journal in a folder.

    Raises ValueError if there is none, or if it is damaged.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"folder must hold the records of a study; {path}: {error.strerror}") from None
    return _parse(path, content[: content.rfind(b"\n") + 1])


def _parse(path: Path, content: bytes) -> tuple[dict[str, Any], dict[str, Entry]]:
    """Return the header and the entries by key; raise ValueError if a line is not what `Journal` writes."""
    try:
        header, *entries = [json.loads(line) for line in content.splitlines()]
        return dict(header), {entry["key"]: entry for entry in entries if entry["cell"] is not None}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} must be the journal of a study; it is damaged") from None


def _other_study(folder: Path, name: str, theirs: Any, ours: Any) -> str:
    """Return the sentence that says how the study in a folder differs."""
    if name == "settings" and isinstance(theirs, dict):
        name = next(key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key))
        theirs, ours = theirs.get(name), ours.get(name)
    return f"out must be a new folder or that of the same study; {folder} has {name} {theirs!r}, not {ours!r}"
