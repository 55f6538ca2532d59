"""A journal keeps what it was given: durably, once, and only for the same study."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin.study.journal import Journal, read
from hopmin.study.plan import Job

SETTINGS = {"preset": "smoke", "corpus": "question-formation", "seed": 0, "seeds": None, "corpus_digest": None}
JOBS = [Job("floor", {"n": i}) for i in range(4)]


def written(folder, jobs=JOBS):
    journal = Journal(folder, SETTINGS)
    for job in jobs:
        journal.add(job, {"value": job.cell["n"] / 3}, None, 1.234)
    journal.close()
    return folder / "records.jsonl"


def test_a_journal_is_read_back(tmp_path):
    written(tmp_path)
    header, entries = read(tmp_path)
    assert header["settings"] == SETTINGS
    assert [entries[job.key]["record"] for job in JOBS] == [{"value": i / 3} for i in range(4)]
    journal = Journal(tmp_path, SETTINGS)
    assert all(journal.done(job) for job in JOBS)
    assert not journal.done(Job("floor", {"n": 9}))
    journal.close()


def test_a_journal_cut_anywhere_loses_one_cell_at_most(tmp_path):
    content = written(tmp_path).read_bytes()
    for cut in range(len(content)):
        (tmp_path / "records.jsonl").write_bytes(content[:cut])
        journal = Journal(tmp_path, SETTINGS)
        whole = max(0, content[:cut].count(b"\n") - 1)
        assert [journal.done(job) for job in JOBS] == [i < whole for i in range(4)]
        for job in JOBS[whole:]:
            journal.add(job, {"value": job.cell["n"] / 3}, None, 1.234)
        journal.close()
        assert (tmp_path / "records.jsonl").read_bytes() == content


def test_a_failed_cell_is_kept_and_run_again(tmp_path):
    journal = Journal(tmp_path, SETTINGS)
    journal.add(JOBS[0], None, "ValueError: no", 0.1)
    assert not journal.done(JOBS[0])
    journal.add(JOBS[0], {"value": 1}, None, 0.1)
    assert journal.done(JOBS[0])
    journal.close()
    assert len(read(tmp_path)[1]) == 1


@pytest.mark.parametrize(("name", "value"), [("preset", "quick"), ("seed", 7), ("corpus_digest", "0" * 64)])
def test_a_folder_of_another_study_is_refused(tmp_path, name, value):
    content = written(tmp_path).read_bytes()
    with pytest.raises(ValueError, match=rf"^out must be a new folder or that of the same study; .* has {name}\b"):
        Journal(tmp_path, {**SETTINGS, name: value})
    assert (tmp_path / "records.jsonl").read_bytes() == content


def test_a_journal_of_another_version_is_refused(tmp_path):
    path = written(tmp_path)
    header, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(header), "hopmin": "0.0.1"}) + "\n" + "".join(rest))
    with pytest.raises(ValueError, match=r"has hopmin '0\.0\.1'"):
        Journal(tmp_path, SETTINGS)


@given(
    st.sampled_from([b"\n", b"[]\n", b"{}\n{}\n", b"null\n", b'{"format": 1}\n{"key": 1}\n', b"\xff\xfe\n", b"{]\n"])
)
def test_damaged_journals_are_refused_and_kept(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "records.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"records\.jsonl|out must be"):
        Journal(folder, SETTINGS)
    assert (folder / "records.jsonl").read_bytes() == content


def test_a_folder_without_a_journal_has_no_report(tmp_path):
    with pytest.raises(ValueError, match="folder must hold the records of a study"):
        read(tmp_path)
