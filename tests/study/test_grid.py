"""The runs of a study, their independence of each other, and how a study ends."""

import json
import multiprocessing
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hopmin
from hopmin.data.corpus import Corpus
from hopmin.data.question_formation import question_formation
from hopmin.data.tokenizers import SymbolTokenizer
from hopmin.study import measure
from hopmin.study.grid import PRESETS, Preset, run, study, tasks
from hopmin.transformer.model import GPT
from hopmin.transformer.training import Trainer

TINY = Preset(models=((1, 1, 4), (2, 2, 8)), rows=(4, 16), amounts=2, steps=3, batch_size=4, measured=8)


@pytest.fixture(scope="module")
def corpus():
    return question_formation(16, dev=1, test=10, generalization=1)


@pytest.fixture(scope="module")
def reports():
    """Return what the callbacks received during the study of `record`."""
    return {"steps": [], "finished": [], "complete": []}


@pytest.fixture(scope="module")
def record(corpus, reports):
    def finished(record, run):
        reports["finished"].append(run["number"])
        reports["complete"].append((len(record["runs"]), record["complete"]))

    return study(corpus, TINY, 0, workers=2, finished=finished, progress=lambda steps, *_: reports["steps"].append(steps))


def alone(task):
    """Run the task in this process, without its reports."""
    return run(task, lambda report: None)


def without_times(runs):
    return [{key: value for key, value in run.items() if key != "seconds"} for run in runs]


# Tasks


def rows_corpus(count):
    rows = np.arange(5 * count).reshape(count, 5) % 7
    return Corpus("rows", SymbolTokenizer(tuple("abcdefg")), rows, rows[:1])


def test_every_model_gets_every_amount_of_data_largest_first():
    preset = replace(TINY, rows=(10, 1000), amounts=3)
    found = [(task.config.width, len(task.train)) for task in tasks(rows_corpus(1500), preset, 0)]
    assert found == [(8, 10), (8, 100), (8, 1000), (4, 10), (4, 100), (4, 1000)]
    assert [task.number for task in tasks(rows_corpus(1500), preset, 0)] == list(range(6))


@given(st.integers(1, 400), st.integers(1, 50), st.integers(50, 500), st.integers(1, 6))
def test_amounts_of_data_grow_and_are_nested(count, least, most, amounts):
    corpus = rows_corpus(count)
    todo = tasks(corpus, replace(TINY, models=((1, 1, 4),), rows=(least, most), amounts=amounts), 0)
    sizes = [len(task.train) for task in todo]
    assert sizes == sorted(set(sizes))
    assert len(sizes) <= amounts
    assert 1 <= sizes[0] <= least
    assert sizes[-1] <= min(most, count)
    if amounts > 1:
        assert sizes[-1] == min(most, count)
    for task in todo:
        np.testing.assert_array_equal(task.train, corpus.train[: len(task.train)])
        np.testing.assert_array_equal(task.common, todo[0].train)


def test_models_fit_the_corpus(corpus):
    for task in tasks(corpus, TINY, 0):
        assert (task.config.vocabulary, task.config.positions) == (69, corpus.train.shape[1] - 1)
        assert task.config.init_std == task.config.width**-0.5
        assert (task.config.layers, task.config.heads, task.config.width) in TINY.models


def test_presets_have_models_of_different_widths():
    for preset in PRESETS.values():
        assert len({width for _, _, width in preset.models}) == len(preset.models)


# A run


def test_runs_do_not_depend_on_each_other_or_on_workers(corpus, record):
    assert without_times(study(corpus, TINY, 0, workers=1)["runs"]) == without_times(record["runs"])
    assert without_times(map(alone, tasks(corpus, TINY, 0))) == without_times(record["runs"])


def test_a_run_depends_on_the_seed(corpus, record):
    assert alone(tasks(corpus, TINY, 1)[0])["curve"] != record["runs"][0]["curve"]


def test_a_run_reports_the_measurements_of_its_model():
    rows = np.random.default_rng(0).integers(0, 7, (60, 7))
    rows[:30, 5:] = -1
    corpus = Corpus("rows", SymbolTokenizer(tuple("abcdefg")), rows[20:36], rows[36:])
    task = tasks(corpus, replace(TINY, models=((2, 2, 16),), rows=(2, 16), steps=150), 0)[1]
    found = alone(task)
    model = GPT(task.config, np.random.default_rng([0, 16]))
    untrained, _ = measure.head_agreement(model, task.common)
    Trainer(model, steps=150, batch_size=4, micro_batches=1, seed=0, learning_rate=0.04 * 16**-0.5).run(task.train)
    agreement, chance = measure.head_agreement(model, task.common)
    assert found["cross_entropy"] == {
        "train": measure.cross_entropy(model, task.train),
        "held_out": measure.cross_entropy(model, corpus.held_out),
    }
    assert found["extraction_rate"] == {
        "train": measure.extraction_rate(model, task.train[:8]),
        "held_out": measure.extraction_rate(model, corpus.held_out[:8]),
    }
    assert found["extraction_rate"]["train"] > found["extraction_rate"]["held_out"]
    assert found["measured"] == {"train": 8, "held_out": 8}
    assert found["distances"] == [round(float(a), 4) for a in sorted(measure.activation_distances(model, task.common))]
    assert found["head_agreement"] == agreement.round(4).tolist() != untrained.round(4).tolist()
    assert found["untrained"]["head_agreement"] == untrained.round(4).tolist()
    assert found["head_chance"] == round(chance, 4)
    assert found["predicted_radius"] == measure.predicted_radius(16)
    assert (found["rows"], found["tokens"]) == (16, 10 * 4 + 6 * 6)
    assert found["parameters"] == sum(a.size for a in model.parameters.values())


def test_a_run_on_one_row_measures_no_distances(corpus):
    task = tasks(corpus, TINY, 0)[0]
    assert alone(replace(task, common=task.common[:1]))["distances"] == []


def test_a_curve_has_at_most_fifty_points_which_are_means(corpus):
    task = tasks(corpus, replace(TINY, steps=60), 0)[0]
    model = GPT(task.config, np.random.default_rng([0, 8]))
    losses = Trainer(model, steps=60, batch_size=4, micro_batches=1, seed=0, learning_rate=0.04 * 8**-0.5).run(task.train)
    curve = alone(task)["curve"]
    assert len(curve) == 50
    assert curve[0] == round(float(np.mean(losses[:2])), 4)
    assert curve[-1] == round(losses[-1], 4)


# A study


def test_a_record_is_complete_and_describes_its_study(corpus, record):
    assert record["complete"]
    assert [run["number"] for run in record["runs"]] == [0, 1, 2, 3]
    assert (record["hopmin"], record["seed"]) == (hopmin.__version__, 0)
    assert record["corpus"] == {
        "name": "question-formation",
        "vocabulary": 69,
        "positions": corpus.train.shape[1] - 1,
        "entropy": corpus.entropy,
        "held_out_floor": corpus.floors["test"],
        "held_out_rows": 10,
    }
    assert record["preset"]["steps"] == 3


def test_a_record_can_be_written_as_json(record):
    back = json.loads(json.dumps(record, allow_nan=False))
    assert back["runs"] == record["runs"]
    assert back["corpus"] == record["corpus"]


def test_callbacks_report_every_step_and_every_run(record, reports):
    assert sum(reports["steps"]) == 4 * 3
    assert sorted(reports["finished"]) == [0, 1, 2, 3]
    assert reports["complete"] == [(1, False), (2, False), (3, False), (4, True)]


def test_a_study_restores_the_environment(corpus, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    study(corpus, replace(TINY, models=((1, 1, 4),), amounts=1), 0, workers=1)
    assert dict(os.environ) == before


def test_a_run_that_fails_ends_the_study(corpus):
    with pytest.raises(ValueError, match=r"(?m)^batch_size must be an integer >= 1; got 0$"):
        study(corpus, replace(TINY, batch_size=0), 0, workers=2)
    assert multiprocessing.active_children() == []


def test_an_interrupt_ends_the_study_and_its_processes(corpus):
    received = []

    def interrupt(steps, *_):
        if not received:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        received.append(steps)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
    try:
        with pytest.raises(KeyboardInterrupt):
            study(corpus, replace(TINY, steps=100_000), 0, workers=2, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sum(received) < 100_000
    assert multiprocessing.active_children() == []


def test_zero_workers_are_rejected(corpus):
    with pytest.raises(ValueError, match=r"^workers must be an integer >= 1; got 0$"):
        study(corpus, TINY, 0, workers=0)


def test_models_of_equal_width_are_rejected():
    with pytest.raises(ValueError, match=r"^models must differ in width; got \[8, 8\]$"):
        Preset(models=((1, 1, 8), (2, 2, 8)))
