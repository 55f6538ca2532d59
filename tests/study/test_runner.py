"""A study gives the same results however it is run, stopped and continued."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hopmin.study import journal, models, runner
from hopmin.study.plan import Settings, experiments, plan
from hopmin.study.runner import run, study

NAMES = ("landscape", "recall")  # some cells train, some do not, and two share a model
SETTINGS = Settings("smoke")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of an uninterrupted study by one worker, and what it reported."""
    folder, events = tmp_path_factory.mktemp("whole"), []
    study(
        SETTINGS,
        folder,
        NAMES,
        workers=1,
        progress=lambda job, share, doing: events.append((job.key, share, doing)),
        finished=lambda job, entry: events.append((job.key, entry["error"])),
    )
    return folder, events


def results(folder):
    return (folder / "results.json").read_bytes()


def test_every_cell_is_reported_and_recorded(whole):
    folder, events = whole
    jobs = plan(SETTINGS, NAMES)
    _, entries = journal.read(folder)
    assert entries.keys() == {job.key for job in jobs}
    assert {(job.key, None) for job in jobs} <= set(events)
    assert all(0 <= event[1] <= 1 for event in events if len(event) == 3)
    found = json.loads(results(folder))
    assert found["complete"]
    assert [s["name"] for s in found["experiments"]] == ["recall", "landscape"]


def test_results_do_not_depend_on_the_number_of_workers(whole, tmp_path):
    study(SETTINGS, tmp_path, NAMES, workers=2)
    assert results(tmp_path) == results(whole[0])


def test_a_record_depends_on_its_cell_alone(whole):
    _, entries = journal.read(whole[0])
    for job in plan(SETTINGS, NAMES)[::5]:
        assert json.loads(json.dumps(run(job, None, lambda *_: None).record)) == entries[job.key]["record"]
    assert models._folder is None


@pytest.mark.parametrize("lines", [1, 7])
def test_a_study_continues_with_what_is_missing(whole, tmp_path, lines):
    content = (whole[0] / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_bytes(b"".join(content[:lines]) + content[lines][:20])
    done = []
    study(SETTINGS, tmp_path, NAMES, workers=2, finished=lambda job, entry: done.append(job.key))
    assert len(done) == len(plan(SETTINGS, NAMES)) - (lines - 1)
    assert results(tmp_path) == results(whole[0])


def test_experiments_can_be_added_to_a_folder(whole, tmp_path):
    for name in reversed(NAMES):
        study(SETTINGS, tmp_path, [name], workers=2)
    assert results(tmp_path) == results(whole[0])


def test_a_failed_cell_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch):
    def fails(cell, progress):
        raise ArithmeticError("a cell that fails")

    monkeypatch.setattr(experiments()["capacity"], "run", fails)
    jobs = plan(SETTINGS, ["capacity"])

    def tasks_here(function, tasks, *, received, finished, **_):
        for task in tasks:
            finished(function(task, received))

    monkeypatch.setattr(runner, "run_tasks", tasks_here)
    found = study(SETTINGS, tmp_path, ["capacity", "landscape"])
    section = found["experiments"][0]
    assert [f["error"] for f in section["failed"]] == ["ArithmeticError: a cell that fails"] * len(jobs)
    assert not found["complete"]
    assert found["experiments"][1]["records"]
    models.keep_in(None)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("after", [2])
def test_a_killed_study_loses_at_most_the_cells_in_flight(whole, tmp_path, after):
    command = [
        sys.executable,
        "-m",
        "hopmin",
        "study",
        *NAMES,
        "--preset",
        "smoke",
        "--out",
        str(tmp_path),
        "--workers",
        "2",
    ]
    with subprocess.Popen([*command, "--quiet"], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        path, deadline = tmp_path / "records.jsonl", time.monotonic() + 100
        while time.monotonic() < deadline and not (path.exists() and path.read_bytes().count(b"\n") > after):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = path.read_bytes().count(b"\n") - 1
    assert kept >= after
    done = []
    study(SETTINGS, tmp_path, NAMES, workers=2, finished=lambda job, entry: done.append(job.key))
    assert len(done) == len(plan(SETTINGS, NAMES)) - kept
    assert results(tmp_path) == results(whole[0])
