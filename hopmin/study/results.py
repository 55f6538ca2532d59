"""The results of a study, computed from its journal alone: what `results.json` holds and the report shows.

- from the entries of a journal [`results`], and as a file [`write_results`]
- from a folder [`read_results`]
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hopmin
from hopmin import _backend
from hopmin._files import to_json, write_text
from hopmin.study import journal
from hopmin.study.journal import Entry
from hopmin.study.plan import FORMAT, Job, Record, Settings, experiments, outcomes, plan, question

FILE = "results.json"


def settings_record(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON, with a digest of the corpus if it is a file."""
    path = Path(settings.corpus)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    return {**asdict(settings), "corpus_digest": digest}


def results(settings: dict[str, Any], entries: Mapping[str, Entry], names: Sequence[str] = ()) -> Record:
    """Return the results of the named experiments, and of all that have an entry.

    Parameters
    ----------
    settings : dict
        What `settings_record` returned.
    entries : mapping of str to Entry
        The entries of the journal by key.
    names : sequence of str
        Names of experiments to include even if none of their cells has finished.

    Returns
    -------
    dict
        settings, versions, machine, whether the study is complete, and for each experiment its texts, records and
        findings. It does not depend on the order of the entries or on the time that they took.
    """
    known = {entry["experiment"] for entry in entries.values()} | set(names)
    names = [name for name in experiments() if name in known]
    jobs = plan(Settings(**{field.name: settings[field.name] for field in fields(Settings)}), names)
    sections = [_section(name, [job for job in jobs if job.experiment == name], entries) for name in names]
    return {
        "hopmin": hopmin.__version__,
        "format": FORMAT,
        "settings": settings,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "scipy")},
        "machine": {
            "system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(),
            "backend": hopmin.BACKEND, "simd": _backend.core.simd(),
        },
        "complete": all(section["cells"] == len(section["records"]) for section in sections),
        "experiments": sections,
    }  # fmt: skip


def _section(name: str, jobs: list[Job], entries: Mapping[str, Entry]) -> Record:
    """Return the results of one experiment."""
    experiment = experiments()[name]
    found = [(job, entries[job.key]) for job in jobs if job.key in entries]
    records = [{**job.cell, **entry["record"]} for job, entry in found if entry["record"] is not None]
    header, rows = experiment.table(records) if records else ([], [])
    return {
        "name": name,
        "question": question(experiment),
        "outcomes": outcomes(experiment),
        "method": experiment.METHOD, "paper": experiment.PAPER,
        "control": experiment.CONTROL, "caveats": experiment.CAVEATS,
        "cells": len(jobs),
        "failed": [{"cell": job.cell, "error": entry["error"]} for job, entry in found if entry["error"] is not None],
        "findings": [asdict(finding) for finding in experiment.findings(records)] if records else [],
        "table": {"header": header, "rows": rows},
        "records": records,
    }  # fmt: skip


def write_results(folder: Path, found: Record) -> Path:
    """Write `results.json` into a folder, atomically, and return its path."""
    write_text(folder / FILE, to_json(found) + "\n")
    return folder / FILE


def read_results(folder: Path) -> Record:
    """Return the results of the study in a folder, computed again from its journal.

    Raises ValueError if there is no journal, or it is damaged or of another version.
    """
    header, entries = journal.read(folder)
    if (header.get("format"), header.get("hopmin")) != (FORMAT, hopmin.__version__):
        raise ValueError(f"folder must hold a study of hopmin {hopmin.__version__}; got hopmin {header.get('hopmin')}")
    return results(header["settings"], entries)
