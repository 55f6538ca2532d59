"""Results are computed from the records alone, in the order of the plan, whatever is missing."""

import json
import random

import pytest

from hopmin.study import journal
from hopmin.study.journal import Journal
from hopmin.study.plan import Settings, plan
from hopmin.study.results import read_results, results, settings_record, write_results
from hopmin.study.runner import run

SETTINGS = Settings("smoke")
NAMES = ("landscape", "capacity")


@pytest.fixture(scope="module")
def entries():
    found = {}
    for job in plan(SETTINGS, NAMES):
        record = json.loads(json.dumps(run(job, None, lambda *_: None).record))
        found[job.key] = {
            "key": job.key,
            "experiment": job.experiment,
            "cell": job.cell,
            "record": record,
            "error": None,
            "seconds": 1.0,
        }
    return found


def test_results_have_all_their_parts(entries):
    found = results(settings_record(SETTINGS), entries)
    assert found["complete"]
    assert [section["name"] for section in found["experiments"]] == ["capacity", "landscape"]
    for section in found["experiments"]:
        assert section["cells"] == len(section["records"])
        for finding in section["findings"]:
            assert finding.keys() == {"id", "text", "value", "low", "high", "n", "expected"}
        assert len({finding["id"] for finding in section["findings"]}) == len(section["findings"])
    assert {"python", "numpy"} <= found["versions"].keys()
    assert found["settings"]["seed"] == 0
    assert found["machine"]["backend"]


def test_results_do_not_depend_on_order_or_time(entries):
    shuffled = list(entries.items())
    random.Random(0).shuffle(shuffled)
    other = {key: {**entry, "seconds": 99.0} for key, entry in shuffled}
    assert results(settings_record(SETTINGS), entries) == results(settings_record(SETTINGS), other)


def test_missing_and_failed_cells_are_counted(entries):
    keys = list(entries)
    some = {key: entries[key] for key in keys[1:]}
    some[keys[1]] = {**entries[keys[1]], "record": None, "error": "ValueError: no"}
    found = results(settings_record(SETTINGS), some)
    assert not found["complete"]
    section = next(s for s in found["experiments"] if s["failed"])
    assert section["failed"] == [{"cell": entries[keys[1]]["cell"], "error": "ValueError: no"}]
    assert sum(s["cells"] - len(s["records"]) for s in found["experiments"]) == 2


def test_any_part_of_the_records_has_findings(entries):
    rng = random.Random(1)
    for _ in range(10):
        some = {key: entry for key, entry in entries.items() if rng.random() < 0.3}
        assert json.dumps(results(settings_record(SETTINGS), some))


def test_a_folder_is_read_back(entries, tmp_path):
    settings = settings_record(SETTINGS)
    kept = Journal(tmp_path, settings)
    for job in plan(SETTINGS, NAMES):
        kept.add(job, entries[job.key]["record"], None, 1.0)
    kept.close()
    found = results(settings, entries)
    write_results(tmp_path, found)
    assert read_results(tmp_path) == json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    header, *lines = (tmp_path / journal.FILE).read_text(encoding="utf-8").splitlines()
    (tmp_path / journal.FILE).write_text(
        json.dumps({**json.loads(header), "format": 99}) + "\n" + "\n".join(lines) + "\n"
    )
    with pytest.raises(ValueError, match="folder must hold a study of hopmin"):
        read_results(tmp_path)


def test_a_corpus_is_known_by_its_contents(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one")
    first = settings_record(Settings("smoke", str(path)))
    path.write_text("two")
    assert settings_record(Settings("smoke", str(path))) != first
    assert settings_record(SETTINGS)["corpus_digest"] is None
