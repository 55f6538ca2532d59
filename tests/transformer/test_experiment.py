"""Experiments from Python: files, resuming, interruption, refused arguments, and text generation."""

import itertools
import json
import signal
import threading

import numpy as np
import pytest
from helpers import error_message

from hopmin._signals import Terminated
from hopmin.data.corpus import from_file
from hopmin.data.token_files import shuffled_batches
from hopmin.data.tokenizers import SymbolTokenizer
from hopmin.transformer import experiment as module
from hopmin.transformer.experiment import Experiment, Log, corpus_of, generate_text
from hopmin.transformer.model import GPT, GPTConfig, load_model
from hopmin.transformer.training import EVALUATION_ROWS, Trainer, cross_entropy

SMALL = {"steps": 6, "layers": 1, "heads": 2, "width": 8, "positions": 8, "batch_size": 4}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question. " * 10)
    return path


def bits(model):
    return {name: a.tobytes() for name, a in model.parameters.items()}


def test_run_writes_checkpoint_best_model_and_log(text, tmp_path):
    experiment = Experiment.create(tmp_path / "out", corpus=text, **SMALL, evaluate_every=2)
    assert (experiment.saved_steps, experiment.trainer.steps_taken) == (0, 0)
    loss = experiment.run()
    assert experiment.saved_steps == 6
    corpus, saved = from_file(text, positions=8), load_model(tmp_path / "out" / "model.npz")
    assert saved.tokenizer == corpus.tokenizer
    assert loss == cross_entropy(saved.model, corpus.held_out[:EVALUATION_ROWS])
    assert Trainer.load(experiment.best_checkpoint).steps_taken == experiment.trainer.best.step
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_create_and_run_print_nothing(text, tmp_path, capfd):
    Experiment.create(tmp_path / "out", corpus=text, **SMALL).run()
    assert capfd.readouterr() == ("", "")


def test_callback_gets_what_the_log_holds(text, tmp_path):
    records = []
    Experiment.create(tmp_path, corpus=text, **SMALL, evaluate_every=3).run(lambda **record: records.append(record))
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [{"improved": False, **record} for record in records] == logged
    assert [record["step"] for record in records if "held_out_loss" in record] == [3, 6]


def test_shuffled_batches_are_drawn_from_the_seed(text, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        module, "shuffled_batches", lambda rows, *options: drawn.append(options) or shuffled_batches(rows, *options)
    )
    Experiment.create(tmp_path, corpus=text, **SMALL, batches="shuffled", seed=5).run()
    assert drawn == [(4, 5)]


def test_evaluations_take_the_first_held_out_rows(text, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVALUATION_ROWS", 2)
    loss = Experiment.create(tmp_path, corpus=text, **SMALL).run()
    saved = load_model(tmp_path / "model.npz")
    assert loss == cross_entropy(saved.model, from_file(text, positions=8).held_out[:2])


def test_numpy_integers_can_be_saved(text, tmp_path):
    numbers = {"positions": np.int64(8), "seed": np.int64(1), "steps": np.int64(2), "width": np.int64(8)}
    Experiment.create(tmp_path, corpus=text, **{**SMALL, **numbers}).run()
    assert Experiment.resume(tmp_path).trainer.done
    Experiment.create(tmp_path / "other", rows=np.int64(9), steps=1, layers=1, width=4, heads=1).run()
    assert Experiment.resume(tmp_path / "other").trainer.done


class Stop(Exception):
    pass


@pytest.mark.parametrize(("stopped", "saved"), [(1, 0), (2, 2), (3, 2), (5, 4)])
def test_a_stopped_experiment_resumes_bit_for_bit(text, tmp_path, stopped, saved):
    def stop(*, step, **_):
        if step == stopped:
            raise Stop

    options = {**SMALL, "corpus": text, "dropout": 0.2, "checkpoint_every": 2}
    Experiment.create(tmp_path / "whole", **options).run()
    experiment = Experiment.create(tmp_path / "parts", **options)
    with pytest.raises(Stop):
        experiment.run(stop)
    assert experiment.saved_steps == saved
    again = Experiment.resume(tmp_path / "parts") if saved else Experiment.create(tmp_path / "parts", **options)
    again.run()
    assert bits(GPT.load(again.checkpoint)) == bits(GPT.load(tmp_path / "whole" / "model.npz"))
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_ends_the_run_after_a_checkpoint(text, tmp_path, number, error):
    before, steps = signal.getsignal(number), []

    def interrupt(*, step, **_):
        steps.append(step)
        if step == 2:
            signal.raise_signal(number)

    experiment = Experiment.create(tmp_path, corpus=text, **SMALL)
    with pytest.raises(KeyboardInterrupt) as caught:
        experiment.run(interrupt)
    assert caught.type is error
    assert steps == [1, 2]
    assert experiment.saved_steps == 2
    assert signal.getsignal(number) is before


def test_an_experiment_runs_on_any_thread(text, tmp_path):
    experiment = Experiment.create(tmp_path, corpus=text, **SMALL)
    thread = threading.Thread(target=experiment.run)
    thread.start()
    thread.join()
    assert experiment.saved_steps == 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"corpus": "none"}, "corpus must be a readable text file; none: No such file or directory"),
        ({"tokenizer": "letters"}, "tokenizer must be one of 'characters', 'words', 'bytes', 'bpe'; got 'letters'"),
        ({"batches": "sorted"}, "batches must be one of 'random', 'shuffled', 'contiguous'; got 'sorted'"),
        ({"batches": "contiguous"}, "batches must not be 'contiguous' for a corpus of shuffled rows; got text.txt"),
        ({"rows": 5}, "rows must be given only for question-formation; got 5 for "),
        ({"vocabulary": 300}, "vocabulary must be given only for a bpe tokenizer; got 300 for "),
        ({"vocabulary": 300, "tokenizer": "bytes"}, "vocabulary must be given only for a bpe tokenizer; got 300 for "),
        (
            {"corpus": "question-formation"},
            "positions must be given only for a text or a file of tokens; got 8 for question-formation",
        ),
        ({"preset": "huge"}, "preset must be one of 'gpt2', "),
        ({"checkpoint_every": 0}, "checkpoint_every must be an integer >= 1; got 0"),
        ({"steps": 0}, "steps must be an integer >= 1; got 0"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_and_leave_no_folder(text, tmp_path, options, expected):
    given = {"corpus": text, **SMALL, **options}
    assert error_message(ValueError, Experiment.create, tmp_path / "out", **given).startswith(expected)
    assert not (tmp_path / "out").exists()


def test_the_corpus_of_a_checkpoint_is_opened_again(text, tmp_path):
    experiment = Experiment.create(tmp_path, corpus=text, **SMALL, batches="shuffled", seed=3)
    experiment.run()
    record, corpus = corpus_of(load_model(experiment.checkpoint), experiment.checkpoint)
    assert (record.name, record.seed, record.batches) == (str(text), 3, "shuffled")
    np.testing.assert_array_equal(corpus.train, experiment.corpus.train)


def test_checkpoints_are_written_every_few_steps(text, tmp_path):
    experiment, steps = Experiment.create(tmp_path, corpus=text, **SMALL, checkpoint_every=4), []
    experiment.run(lambda step, **_: steps.append((step, experiment.saved_steps)))
    assert [step for step, _ in itertools.groupby(saved for _, saved in steps)] == [0, 4, 6]


def test_given_sizes_change_those_of_a_preset(text, tmp_path):
    given = {"corpus": text, "positions": 8, "steps": 1, "preset": "questions-6"}
    config = Experiment.create(tmp_path / "a", **given, layers=1, width=8).trainer.model.config
    assert (config.layers, config.heads, config.width, config.dropout, config.norm) == (1, 4, 8, 0.1, "post")
    config = Experiment.create(tmp_path / "b", **given, layers=1, width=8, heads=2, dropout=0.0).trainer.model.config
    assert (config.layers, config.heads, config.width, config.dropout, config.norm) == (1, 2, 8, 0.0, "post")


def test_an_experiment_resumes_from_another_folder(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.create("out", corpus="text.txt", **SMALL)
    experiment.run()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Experiment.resume(tmp_path / "out").trainer.done


# Two experiments in one folder


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_a_second_experiment_in_a_folder_is_refused(text, tmp_path):
    """While the first one runs, and after it."""
    out, sentences = tmp_path / "out", []
    first, second = (Experiment.create(out, corpus=text, **SMALL, seed=seed) for seed in (1, 2))

    def callback(*, step, **_):
        if step == 3:
            sentences.append(error_message(ValueError, second.run))

    first.run(callback)
    before = files(out)
    sentences.append(error_message(ValueError, second.run))
    assert sentences == [
        f"out must be a folder that no other run is using; {out} is in use",
        f"out must not be used by two experiments; {out / 'model.npz'} was written by another",
    ]
    assert files(out) == before
    assert set(before) == {"model.npz", "best.npz", "log.jsonl"}
    assert len(before["log.jsonl"].splitlines()) == 6


def test_an_experiment_can_run_again(text, tmp_path):
    experiment = Experiment.create(tmp_path / "out", corpus=text, **SMALL)
    assert experiment.run() == experiment.run()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.npz", "best.npz", "log.jsonl"}


# The log


def test_a_log_cut_within_a_line_is_continued(tmp_path):
    path = tmp_path / "log.jsonl"
    with Log(path, 0) as log:
        for step in range(1, 6):
            log(step=step)
    whole = path.read_text()
    path.write_text(whole[:-5])
    with Log(path, 3) as log:
        for step in range(4, 6):
            log(step=step)
    assert path.read_text() == whole


def test_a_log_is_cut_by_lines_whatever_they_hold(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xe2\x80\xa8\n{"step": 3}\n')
    with Log(path, 2) as log:
        log(step=3)
    assert path.read_bytes() == b'{"step": 1}\n\xff\xe2\x80\xa8\n{"step": 3}\n'


# Text


def test_generated_text_is_that_of_the_model(text, tmp_path):
    experiment = Experiment.create(tmp_path, corpus=text, **SMALL)
    experiment.run()
    tokenizer = experiment.corpus.tokenizer
    expected = tokenizer.decode(experiment.trainer.model.generate(tokenizer.encode("to be"), 9))
    assert generate_text(experiment.checkpoint, "to be", max_new_tokens=9) == expected
    drawn = [generate_text(experiment.checkpoint, "to", temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_generated_text_has_no_row_markers(tmp_path):
    model = GPT(GPTConfig(vocabulary=3, positions=4, layers=1, heads=1, width=4), 0)
    model.save(tmp_path / "m.npz", SymbolTokenizer(("<end>", "a", "b"), " "))
    words = generate_text(tmp_path / "m.npz", "a b", temperature=1.0).split()
    assert words[:2] == ["a", "b"]
    assert set(words) <= {"a", "b"}
