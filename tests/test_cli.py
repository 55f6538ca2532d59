"""The hopmin command: its output and files, resuming, and errors, which are one sentence with exit code 2."""

import errno
import importlib
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

import hopmin
import hopmin.paper.claims
import hopmin.study
from hopmin._config import EXTRAS
from hopmin._files import load_arrays, save_arrays
from hopmin.cli import main
from hopmin.data.corpus import from_file
from hopmin.data.tokenizers import BPETokenizer, SymbolTokenizer
from hopmin.study import charts, runner
from hopmin.transformer.model import GPT, PRESETS, load_model
from hopmin.transformer.training import AdamW, Trainer, cross_entropy

SIZES = ("--steps", 6, "--layers", 1, "--heads", 2, "--width", 8, "--batch-size", 4)
SMALL = (*SIZES, "--positions", 8)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question. " * 10)
    return path


@pytest.fixture
def run(capsys):
    """run(*arguments): run the command; return its exit code, standard output and standard error."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run):
    """refused(*arguments): run a command that must end with exit code 2; return its error message."""

    def refused(*arguments):
        code, _, error = run(*arguments)
        assert code == 2
        assert error.startswith("hopmin: ")
        assert error.endswith("\n")
        assert error.count("\n") == 1
        return error.removeprefix("hopmin: ").removesuffix("\n")

    return refused


@pytest.fixture
def plain(monkeypatch):
    """Put an empty picture in the place of every figure of a report; test_report.py draws them."""
    monkeypatch.setattr(charts, "svg", lambda figure, alt: "<svg></svg>")


def bits(model):
    return {name: a.tobytes() for name, a in model.parameters.items()}


def interrupt_at(monkeypatch, last):
    """Raise SIGINT during a step."""
    step = AdamW.step

    def interrupted(optimizer, *arguments):
        if optimizer.steps + 1 == last:
            signal.raise_signal(signal.SIGINT)
        step(optimizer, *arguments)

    monkeypatch.setattr(AdamW, "step", interrupted)


# Commands


def test_version_names_the_backend(run):
    versions = f"{hopmin.BACKEND} core, NumPy {np.__version__}, Python {platform.python_version()}"
    assert run("--version") == (0, f"hopmin {hopmin.__version__} ({versions})\n", "")


def test_help_names_the_commands(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("study", "train", "generate"))


def test_train_writes_a_model_that_generates(run, text, tmp_path):
    code, out, _ = run("train", "--corpus", text, "--out", tmp_path / "out", *SMALL)
    path = tmp_path / "out" / "model.npz"
    assert code == 0
    assert f"{path} holds the model after 6 of 6 steps" in out
    assert "held-out cross-entropy " in out
    saved = load_model(path)
    tokens = saved.model.generate(saved.tokenizer.encode("to be"), 9)
    expected = saved.tokenizer.decode(tokens) + "\n"
    assert run("generate", "--checkpoint", path, "--prompt", "to be", "--max-new-tokens", 9) == (0, expected, "")


def test_training_follows_its_seed(run, text, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("train", "--corpus", text, "--out", tmp_path / name, "--seed", seed, *SMALL)
    a, b, c = (bits(GPT.load(tmp_path / name / "model.npz")) for name in "abc")
    assert a == b
    assert a != c


def test_the_seed_determines_the_initial_weights(run, text, tmp_path):
    still = ("--steps", 1, "--learning-rate", 1e-30)
    run("train", "--corpus", text, "--out", tmp_path, "--seed", 5, *SMALL, *still)
    model = GPT.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(model.parameters["tokens"], GPT(model.config, 5).parameters["tokens"])


def test_options_of_train_reach_model_and_trainer(run, text, tmp_path):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL, "--dropout", 0.25, "--learning-rate", 0.5, "--seed", 7)
    trainer = Trainer.load(tmp_path / "model.npz")
    config = trainer.model.config
    assert (config.positions, config.layers, config.heads, config.width, config.dropout) == (8, 1, 2, 8, 0.25)
    options = {name: getattr(trainer.options, name) for name in ("steps", "learning_rate", "batch_size", "seed")}
    assert options == {"steps": 6, "learning_rate": 0.5, "batch_size": 4, "seed": 7}


def test_question_formation_generates_without_row_markers(run, tmp_path):
    code, out, _ = run("train", "--rows", 50, "--out", tmp_path, *SIZES)
    assert code == 0
    assert out.startswith("question-formation: 50 rows to train on; ")
    assert out.endswith(" nats per token; the entropy of the language is 0.987\n")
    code, out, _ = run("generate", "--checkpoint", tmp_path / "model.npz", "--prompt", "my newt", "--max-new-tokens", 5)
    assert code == 0
    assert out.startswith("my newt")
    assert "<end>" not in out


def test_generation_stops_at_the_end_of_the_row(run, tmp_path):
    model = GPT(hopmin.GPTConfig(vocabulary=3, positions=4, layers=1, heads=1, width=4), 0)
    for name in ("layers.0.output.weight", "layers.0.contract.weight"):
        model.parameters[name][...] = 0
    model.parameters["positions"][...] = 100 * np.eye(4)  # the next token depends on the position only:
    model.parameters["tokens"][...] = np.eye(4)[[1, 3, 2]]  # after the second <end>, after the third b
    model.save(tmp_path / "m.npz", SymbolTokenizer(("<end>", "a", "b"), " "))
    assert model.generate([0, 1], 2).tolist() == [0, 1, 0, 2]
    assert run("generate", "--checkpoint", tmp_path / "m.npz", "--prompt", "a") == (0, "a\n", "")


def test_samples_follow_their_seed(run, text, tmp_path):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    prompt = ("generate", "--checkpoint", tmp_path / "model.npz", "--prompt", "to", "--temperature", 1.5)
    assert run(*prompt, "--seed", 1) == run(*prompt, "--seed", 1) != run(*prompt, "--seed", 2)


def test_study_writes_a_report(run, tmp_path):
    code, out, _ = run("study", "floor", "recall", "--preset", "smoke", "--out", tmp_path, "--workers", 2)
    assert code == 0
    assert re.match(r"floor +2 cells, up to +[\d,]+ parameters, +[\d,]+ tokens, about .*\nrecall +2 cells", out)
    assert out.endswith(f"The report is {tmp_path / 'report.html'}\n")
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["complete"]
    assert all(section["findings"][0]["text"] in out for section in record["experiments"])
    before = {name: (tmp_path / name).read_bytes() for name in ("results.json", "report.md")}
    for name in before:
        (tmp_path / name).unlink()
    code, out, _ = run("report", tmp_path)
    assert (code, out.endswith(f"The report is {tmp_path / 'report.html'}\n")) == (0, True)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.usefixtures("plain")
def test_a_study_prints_its_results_or_nothing(run, tmp_path):
    study = ("study", "recall", "--preset", "smoke", "--out", tmp_path, "--workers", 1)
    assert run(*study, "--quiet") == (0, "", "")
    code, out, _ = run(*study, "--json")
    assert (code, json.loads(out)) == (0, json.loads((tmp_path / "results.json").read_text()))


def test_study_lists_its_experiments(run):
    code, out, _ = run("study", "--list")
    assert code == 0
    assert out.count("?\n") == 9
    assert len(re.findall(r"^  (?:smoke|quick|standard|paper) +\d+ cells, about .+$", out, flags=re.MULTILINE)) == 36


@pytest.mark.parametrize("command", ["study", "report", "tokenize", "train", "evaluate", "generate", "claims"])
def test_help_of_a_command_fits_80_columns(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(command, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) < 80
    assert "default: None" not in out


def test_the_configuration_lists_every_extra(run, capsys):
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    extras = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = {extra: [re.match(r"[\w-]+", requirement)[0] for requirement in extras[extra]] for extra in extras}
    libraries = {extra: sorted(set(found) - {"hopmin"}) for extra, found in names.items()}
    assert {extra: sorted(found) for extra, found in EXTRAS.items()} == {k: v for k, v in libraries.items() if v}
    hopmin.show_config()
    shown = capsys.readouterr().out
    assert ("SIMD" in shown) == (hopmin.BACKEND == "compiled")
    assert all(re.search(rf"\b{library} (\d|not installed)", shown) for found in libraries.values() for library in found)


# Standard output


def process(*arguments, cwd, **options):
    """Start the command in a process of its own; not in the source tree, where `-m` would find the source."""
    command = [sys.executable, "-m", "hopmin", *map(str, arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("arguments", [("claims", "--cases", 1), ("--help",), ("generate", "--help")], ids=str)
def test_a_broken_pipe_ends_a_command_quietly(tmp_path, arguments):
    read, write = os.pipe()
    os.close(read)
    with process(*arguments, cwd=tmp_path, stdout=write) as ended:
        os.close(write)
        assert ended.communicate(timeout=60) == (None, "")
    assert ended.returncode == 141


def test_claims_are_printed_one_by_one(run, monkeypatch):
    examine, calls = hopmin.paper.claims.examine, []

    def interrupted(claim, **options):
        calls.append(claim)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return examine(claim, **options)

    monkeypatch.setattr(hopmin.paper.claims, "examine", interrupted)
    code, out, _ = run("claims", "--cases", 1)
    assert (code, [claim.statement in out for claim in calls]) == (130, [True, True, False])


def test_progress_bars_are_for_terminals_only(run, text, tmp_path):
    code, out, error = run("train", "--corpus", text, "--out", tmp_path, *SMALL, "--evaluate-every", 3)
    assert (code, error) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()[1:3]] == ["step 3", "step 6"]


# Interruption and resuming


@pytest.mark.parametrize("stopped", [1, 4])
def test_an_interrupted_training_resumes_bit_for_bit(run, text, tmp_path, monkeypatch, stopped):
    before = signal.getsignal(signal.SIGINT)
    train = ("train", "--corpus", text, *SMALL, "--dropout", 0.2)
    run(*train, "--out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, stopped)
        code, out, error = run(*train, "--out", tmp_path / "parts")
    assert code == 130
    assert error.endswith("\nhopmin: interrupted\n")
    assert f"holds the model after {stopped} of 6 steps" in out
    assert signal.getsignal(signal.SIGINT) is before
    code, out, _ = run("train", "--resume", "--out", tmp_path / "parts")
    assert code == 0
    assert "holds the model after 6 of 6 steps" in out
    whole, parts = (Trainer.load(tmp_path / name / "model.npz") for name in ("whole", "parts"))
    assert bits(parts.model) == bits(whole.model)
    assert parts.options == whole.options


def test_the_log_has_every_step_once_after_resuming(run, text, tmp_path, monkeypatch):
    train = ("train", "--corpus", text, *SMALL, "--evaluate-every", 3, "--checkpoint-every", 2)
    run(*train, "--out", tmp_path / "whole")
    whole = (tmp_path / "whole" / "log.jsonl").read_text()
    records = [json.loads(line) for line in whole.splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in records if "held_out_loss" in record] == [3, 6]
    assert all(record["loss"] > 0 < record["grad_norm"] for record in records)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        run(*train, "--out", tmp_path / "parts")
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')  # as after a killed process
    run("train", "--resume", "--out", tmp_path / "parts")
    assert (tmp_path / "parts" / "log.jsonl").read_text() == whole


def test_patience_ends_training_and_the_best_model_is_kept(run, text, tmp_path):
    few = ("--learning-rate", 0, "--evaluate-every", 1, "--patience", 2)  # no evaluation is better than the first
    code, out, _ = run("train", "--corpus", text, "--out", tmp_path, *SMALL, *few)
    assert code == 0
    assert "holds the model after 3 of 6 steps" in out
    assert "2 evaluations without improvement" in out
    assert f"{tmp_path / 'best.npz'} holds the best model, " in out
    assert Trainer.load(tmp_path / "best.npz").steps_taken == 1


@pytest.mark.parametrize("kind", ["words", "bytes", "bpe"])
def test_a_text_can_have_other_tokens(run, text, tmp_path, kind):
    if kind == "bpe":
        pytest.importorskip("tokenizers")
    cut = ("--tokenizer", kind, "--positions", 3, *(("--vocabulary", 270) if kind == "bpe" else ()))
    code, _, _ = run("train", "--corpus", text, "--out", tmp_path, *SMALL, *cut, "--batches", "shuffled")
    assert code == 0
    saved = load_model(tmp_path / "model.npz")
    assert saved.tokenizer == from_file(text, tokenizer=kind, vocabulary=270, positions=3).tokenizer
    assert run("train", "--resume", "--out", tmp_path)[0] == 0
    assert run("evaluate", "--checkpoint", tmp_path / "model.npz")[0] == 0
    code, out, _ = run("generate", "--checkpoint", tmp_path / "model.npz", "--prompt", "to be", "--max-new-tokens", 2)
    assert out.startswith("to be")


def test_training_on_a_file_of_tokens_resumes_bit_for_bit(run, text, tmp_path, monkeypatch):
    code, out, _ = run("tokenize", "--corpus", text, "--out", tmp_path / "tokens.npz")
    assert (code, out) == (0, f"{tmp_path / 'tokens.npz'} holds 420 tokens\n")
    train = ("train", "--corpus", tmp_path / "tokens.npz", *SMALL, "--batches", "contiguous")
    assert run(*train, "--out", tmp_path / "whole")[0] == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        run(*train, "--out", tmp_path / "parts")
    assert run("train", "--resume", "--out", tmp_path / "parts")[0] == 0
    whole, parts = (GPT.load(tmp_path / name / "model.npz") for name in ("whole", "parts"))
    assert bits(parts) == bits(whole)


def test_options_that_do_not_suit_the_corpus_are_refused(refused, text, tmp_path):
    assert refused("train", "--tokenizer", "bytes", "--out", tmp_path) == (
        "tokenizer must not be given for a corpus that has its own; got 'bytes' for question-formation"
    )
    assert refused("train", "--corpus", text, "--out", tmp_path, *SMALL, "--batches", "contiguous") == (
        "batches must not be 'contiguous' for a corpus of shuffled rows; got text.txt"
    )


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_tokenize_refuses_a_vocabulary_of_no_use(refused, text, tmp_path, kind):
    options = ("--corpus", text, "--out", tmp_path / "t.npz", "--tokenizer", kind, "--vocabulary", 300)
    assert refused("tokenize", *options) == "vocabulary must be given only for a bpe tokenizer; got 300"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--steps", 2000), "steps must not be given when training is resumed; got 2000"),  # though it is the default
        (("--corpus", "x.txt"), "corpus must not be given when training is resumed; got x.txt"),
        (("--seed", 3, "--checkpoint-every", 2), "seed must not be given when training is resumed; got 3"),
    ],
    ids=str,
)
def test_what_resuming_cannot_change_is_refused(run, refused, text, tmp_path, options, sentence):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    assert refused("train", "--resume", "--out", tmp_path, *options) == sentence


def test_every_preset_is_offered(run):
    out = run("train", "--help")[1]
    assert all(re.search(rf"\b{preset}\b", out) for preset in PRESETS)


def test_a_preset_has_its_sizes(run, text, tmp_path):
    options = ("--preset", "tiny", "--steps", 1, "--positions", 8, "--batch-size", 2)
    assert run("train", "--corpus", text, "--out", tmp_path, *options)[0] == 0
    config = GPT.load(tmp_path / "model.npz").config
    assert (config.layers, config.heads, config.width, config.vocabulary, config.positions) == (4, 4, 128, 15, 8)


def test_evaluate_prints_the_loss_of_both_splits(run, text, tmp_path):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    code, out, _ = run("evaluate", "--checkpoint", tmp_path / "model.npz", "--json")
    assert code == 0
    found = json.loads(out)
    corpus, model = from_file(text, positions=8), GPT.load(tmp_path / "model.npz")
    for name, rows in (("train", corpus.train), ("held_out", corpus.held_out)):
        nats = cross_entropy(model, rows)
        split = found["splits"][name]
        assert split["nats_per_token"] == pytest.approx(nats, rel=1e-12)
        assert split["bits_per_token"] == pytest.approx(math.log2(math.exp(nats)), rel=1e-12)
        assert split["perplexity"] == pytest.approx(math.exp(nats), rel=1e-12)
        assert (split["rows"], split["tokens"]) == (len(rows), rows[:, 1:].size)
    code, out, _ = run("evaluate", "--checkpoint", tmp_path / "model.npz")
    assert [line.split()[0] for line in out.splitlines()] == ["train", "held"]
    assert f"{found['splits']['train']['nats_per_token']:.4f} nats per token" in out


def test_resuming_a_finished_training_changes_nothing(run, text, tmp_path):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    before = bits(GPT.load(tmp_path / "model.npz"))
    assert run("train", "--resume", "--out", tmp_path)[0] == 0
    assert bits(GPT.load(tmp_path / "model.npz")) == before


def test_checkpoints_are_written_during_training(run, text, tmp_path, monkeypatch):
    steps, save = [], Trainer.save
    monkeypatch.setattr(
        Trainer, "save", lambda trainer, *a, **o: (steps.append(trainer.optimizer.steps), save(trainer, *a, **o))
    )
    run("train", "--corpus", text, "--out", tmp_path, *SMALL, "--checkpoint-every", 2)
    assert steps == [2, 4, 6, 6]


ENDS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_an_interrupted_training_leaves_a_checkpoint(refused, text, tmp_path, number, code, word):
    """Meanwhile, a second training in the same folder is refused."""
    path, before = tmp_path / "out" / "model.npz", text.read_bytes()
    train = ("train", "--corpus", text, *SMALL, "--steps", 10**6, "--out", tmp_path / "out")
    with process(*train, "--checkpoint-every", 1, cwd=tmp_path, stdout=subprocess.PIPE) as training:
        while training.poll() is None and not path.exists():
            time.sleep(0.02)
        sentence = refused("train", "--resume", "--out", tmp_path / "out").splitlines()[-1]
        training.send_signal(number)
        out, error = training.communicate(timeout=60)
    assert (training.returncode, error) == (code, f"\nhopmin: {word}\n")
    assert sentence == f"out must be a folder that no other run is using; {tmp_path / 'out'} is in use"
    steps = Trainer.load(path).optimizer.steps
    assert steps >= 1
    assert f"holds the model after {steps} of 1000000 steps" in out
    assert text.read_bytes() == before


def test_a_repeatedly_killed_training_ends_bit_for_bit_alike(run, text, tmp_path):
    train = ("train", "--corpus", text, *SMALL, "--steps", 300, "--dropout", 0.2, "--checkpoint-every", 1)
    run(*train, "--out", tmp_path / "whole")
    path, rng, killed = tmp_path / "parts" / "model.npz", np.random.default_rng(0), 0
    for threads in (1, 2, 3, 1, 2):
        again = ("train", "--resume", "--checkpoint-every", 1) if path.exists() else train
        arguments = map(str, (*again, "--out", tmp_path / "parts"))
        environment = {**os.environ, "HOPMIN_THREADS": str(threads)}
        before = path.stat().st_mtime_ns if path.exists() else 0
        command = [sys.executable, "-m", "hopmin", *arguments]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.2))  # possibly while a checkpoint is written
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 2
    assert run("train", "--resume", "--out", tmp_path / "parts")[0] == 0
    whole, parts = (Trainer.load(tmp_path / name / "model.npz") for name in ("whole", "parts"))
    assert bits(parts.model) == bits(whole.model)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_an_interrupted_study_reports_its_finished_cells(run, tmp_path, monkeypatch, number, code, word):
    whole = runner.study

    def partly(*arguments, finished, **options):
        def stop(job, entry):
            finished(job, entry)
            signal.raise_signal(number)

        return whole(*arguments, finished=stop, **options)

    monkeypatch.setattr(runner, "study", partly)
    command = ("study", "recall", "--preset", "smoke", "--out", tmp_path, "--workers", 1)
    ended, out, error = run(*command)
    assert (ended, error) == (code, f"\nhopmin: {word}\n")
    assert out.endswith("1 of 2 cells have finished; the same command runs the rest\n")
    record = json.loads((tmp_path / "results.json").read_text())
    assert not record["complete"]
    assert len(record["experiments"][0]["records"]) == 1
    assert "Some cells have not finished" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ".lock" not in {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(runner, "study", whole)
    ended, out, _ = run(*command)
    assert ended == 0
    assert f"1 of 2 cells are in {tmp_path} already" in out
    assert json.loads((tmp_path / "results.json").read_text())["complete"]


@pytest.fixture
def endless(tmp_path):
    """endless(): start a study, in a session of its own, whose cells do not end; wait until they begin."""
    script = """
import sys
from hopmin.cli import main
from hopmin.study.experiments import floor

if __name__ == "__main__":  # not in its workers
    floor.SIZES["smoke"]["training"] = (60, 10**9, 8)
    sys.exit(main(["study", "floor", "--preset", "smoke", "--out", "out"]))
"""
    path = tmp_path / "endless.py"
    path.write_text(script)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = []

    def start():
        started.append(subprocess.Popen([sys.executable, path], cwd=tmp_path, start_new_session=True, **pipes))
        assert started[-1].stdout.readline().startswith("floor")
        assert started[-1].stdout.readline().startswith("2 cells take about")
        return started[-1]

    yield start
    for study in started:
        study.kill()
        study.communicate()


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_an_early_signal_ends_a_study_and_its_workers(endless, tmp_path, number, code, word, send):
    study = endless()
    send(study.pid, number)
    out, error = study.communicate(timeout=60)  # which ends when the last worker has closed the pipes it inherited
    assert (study.returncode, error) == (code, f"\nhopmin: {word}\n")
    assert out == "0 of 2 cells have finished; the same command runs the rest\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"records.jsonl", "results.json"}


def test_two_studies_in_one_folder_are_refused(endless, refused, tmp_path):
    study = endless()
    out = tmp_path / "out"
    sentence = f"out must be a folder that no other run is using; {out} is in use"
    assert refused("study", "--preset", "smoke", "--out", out) == sentence
    study.kill()  # a killed study leaves no lock
    study.communicate(timeout=60)


@pytest.mark.parametrize("name", ["results.json", "report.html"])
def test_results_of_something_else_are_not_overwritten(refused, tmp_path, name):
    (tmp_path / name).write_text("mine")
    sentence = refused("study", "--preset", "smoke", "--out", tmp_path)
    assert sentence == f"out must be a new folder or that of the same study; {tmp_path} has {name} but no records"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


@pytest.mark.usefixtures("plain")
def test_a_study_of_other_settings_is_not_overwritten(run, refused, tmp_path):
    run("study", "recall", "--preset", "smoke", "--out", tmp_path, "--quiet", "--workers", 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for options, found in ((("--preset", "quick"), "preset 'smoke', not 'quick'"), (("--preset", "smoke", "--seed", 5), "seed 0, not 5")):
        sentence = refused("study", "recall", *options, "--out", tmp_path)
        assert sentence == f"out must be a new folder or that of the same study; {tmp_path} has {found}"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_unusable_experiments_and_records_are_named(refused, text, tmp_path):
    assert refused("study", "ceiling", "--out", tmp_path).startswith("experiment must be one of 'floor', 'grid', ")
    sentence = refused("study", "floor", "--corpus", text, "--out", tmp_path / "out")
    assert sentence == f"corpus must be question-formation for experiment 'floor'; got {text}"
    sentence = refused("report", tmp_path)
    assert sentence == f"folder must hold the records of a study; {tmp_path / 'records.jsonl'}: No such file or directory"


def test_a_worker_that_is_killed_is_one_sentence(run, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise BrokenProcessPool("a worker process ended with exit code -9 before its task")

    monkeypatch.setattr(runner, "study", killed)
    code, out, error = run("study", "--preset", "smoke", "--out", tmp_path)
    assert (code, error) == (2, "hopmin: a worker process ended with exit code -9 before its task\n")
    assert out.endswith("cells have finished; the same command runs the rest\n")


# Errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required: COMMAND (see hopmin --help)"),
        (("train", "--colour", "red"), "unrecognized arguments: --colour red (see hopmin train --help)"),
        (("train", "--lr", 1), "unrecognized arguments: --lr 1 (see hopmin train --help)"),
        (("train", "--steps", "many"), "argument --steps: invalid int value: 'many' (see hopmin train --help)"),
        (("generate",), "the following arguments are required: --prompt (see hopmin generate --help)"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(refused, arguments, sentence):
    assert refused(*arguments) == sentence


@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        (("dance",), "argument COMMAND: invalid choice: 'dance' (choose from "),
        (("study", "--preset", "slow"), "argument --preset: invalid choice: 'slow' (choose from "),
    ],
    ids=str,
)
def test_a_wrong_choice_is_named(refused, arguments, beginning):
    assert refused(*arguments).startswith(beginning)  # Python versions differ in the quotes around the choices


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--seed", -1), "seed must be an integer >= 0; got -1"),
        (("--steps", 0), "steps must be an integer >= 1; got 0"),
        (("--layers", 0), "layers must be an integer >= 1; got 0"),
        (("--heads", 3), "width must be a multiple of heads; got 8 and 3"),
        (("--dropout", 1), "dropout must be a number in [0, 1); got 1.0"),
        (("--learning-rate", -1), "learning_rate must be a finite number >= 0; got -1.0"),
        (("--learning-rate", "nan"), "learning_rate must be a finite number >= 0; got nan"),
        (("--batch-size", 0), "batch_size must be an integer >= 1; got 0"),
        (("--checkpoint-every", 0), "checkpoint_every must be an integer >= 1; got 0"),
        (("--positions", 0), "positions must be an integer >= 1; got 0"),
        (("--positions", 99), "corpus must have more than 990 characters; got 420"),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_named(refused, text, tmp_path, options, sentence):
    assert refused("train", "--corpus", text, "--out", tmp_path / "out", *SMALL, *options) == sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["steps", "width"])
def test_a_number_too_large_for_a_float_is_named(refused, text, tmp_path, option):
    sentence = refused("train", "--corpus", text, "--out", tmp_path / "out", *SMALL, f"--{option}", 10**400)
    assert sentence == f"{option} must be an integer >= 1; got a number too large for a float"


def test_too_few_rows_of_question_formation_are_named(refused, tmp_path):
    assert refused("train", "--rows", 0, "--out", tmp_path) == "rows must be an integer >= 1; got 0"


@pytest.mark.parametrize("command", ["train", "study"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "corpus must be a readable text file; {}: No such file or directory"),
        (b"caf\xe9 " * 999, "corpus must be UTF-8 text; {} has byte 0xe9 at 3"),
        (b"", "corpus must not be empty; {} holds no text"),
        (b"too short", "corpus must have more than {} characters; got 9"),
    ],
    ids=["missing", "latin-1", "empty", "short"],
)
def test_an_unusable_corpus_is_named(refused, tmp_path, command, content, sentence):
    path = tmp_path / "corpus"
    if content is not None:
        path.write_bytes(content)
    given = refused(command, "--corpus", path, "--out", tmp_path / "out")
    assert given == sentence.format(path if "more than" not in sentence else {"train": 640, "study": 320}[command])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["train", "study"])
@pytest.mark.parametrize(("below", "reason"), [("", "File exists"), ("/out", "Not a directory")])
def test_an_unwritable_folder_is_named(refused, text, command, below, reason):
    before = text.read_bytes()
    sentence = refused(command, "--corpus", text, *(SMALL if command == "train" else ()), "--out", f"{text}{below}")
    assert sentence == f"out must be a folder that can be written to; {text}{below}: {reason}"
    assert text.read_bytes() == before


def test_a_model_is_not_overwritten(run, refused, text, tmp_path):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    path = tmp_path / "model.npz"
    before = path.read_bytes()
    sentence = refused("train", "--corpus", text, "--out", tmp_path, *SMALL)
    assert sentence == f"out must hold no model yet, unless training is resumed; {path} exists"
    assert path.read_bytes() == before


def test_training_does_not_resume_with_another_text(run, refused, text, tmp_path):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    before = (tmp_path / "model.npz").read_bytes()
    text.write_text(text.read_text().replace("question", "answer!!"))
    sentence = refused("train", "--resume", "--out", tmp_path)
    assert sentence == f"corpus must be unchanged since training began; {text} has changed"
    assert (tmp_path / "model.npz").read_bytes() == before


def test_training_does_not_resume_with_other_characters(run, refused, text, tmp_path):
    """The rows of the changed text hold the same numbers."""
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    text.write_text(text.read_text().replace("u", "v"))
    sentence = f"corpus must be unchanged since training began; {text} has changed"
    assert refused("train", "--resume", "--out", tmp_path) == sentence
    assert refused("evaluate", "--checkpoint", tmp_path / "model.npz") == sentence


def test_training_does_not_resume_with_other_held_out_rows(run, refused, text, tmp_path):
    path = tmp_path / "tokens.npz"
    run("tokenize", "--corpus", text, "--out", path)
    run("train", "--corpus", path, "--out", tmp_path, *SMALL)
    text.write_text(text.read_text()[:-20] + text.read_text()[-20:][::-1])  # within the last tenth
    run("tokenize", "--corpus", text, "--out", path)
    sentence = f"corpus must be unchanged since training began; {path} has changed"
    assert refused("train", "--resume", "--out", tmp_path) == sentence
    assert refused("evaluate", "--checkpoint", tmp_path / "model.npz") == sentence


@pytest.mark.parametrize(
    "change",
    [{"name": 3}, {"name": None}, {"tokenizer": 3}, {"tokenizer": ["x"]}, {"tokenizer": "x"}, {"crc32": ...}, {"rows": ...}],
    ids=str,
)
def test_a_checkpoint_with_a_wrong_corpus_record_is_refused(run, refused, text, tmp_path, change):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    path = tmp_path / "model.npz"
    arrays, records = load_arrays(path, "model")
    altered = {key: value for key, value in {**records["corpus"], **change}.items() if value is not ...}
    save_arrays(path, "model", arrays, **{**records, "corpus": altered})
    sentence = f"checkpoint must name its corpus; {path} was not written by hopmin train"
    assert refused("train", "--resume", "--out", tmp_path) == sentence
    assert refused("evaluate", "--checkpoint", path) == sentence


def test_resuming_needs_a_checkpoint(refused, tmp_path):
    path = tmp_path / "model.npz"
    sentence = refused("train", "--resume", "--out", tmp_path)
    assert sentence == f"model must be a readable file; {path}: No such file or directory"


def test_a_model_trained_otherwise_is_not_resumed(refused, tmp_path):
    path = tmp_path / "model.npz"
    model = GPT(hopmin.GPTConfig(vocabulary=3, positions=4, layers=1, heads=1, width=4), 0)
    Trainer(model, steps=3).save(path)
    sentence = refused("train", "--resume", "--out", tmp_path)
    assert sentence == f"checkpoint must name its corpus; {path} was not written by hopmin train"


@pytest.mark.parametrize("key", ["name", "positions", "seed", "tokenizer", "batches", "crc32"])
def test_odd_values_in_the_corpus_record_are_refused(run, refused, text, tmp_path, key):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    path = tmp_path / "model.npz"
    arrays, records = load_arrays(path, "model")
    for odd in (-1, 0.5, True, math.nan, "x", [], [1], {}):
        save_arrays(path, "model", arrays, **{**records, "corpus": {**records["corpus"], key: odd}})
        for command in (("train", "--resume", "--out", tmp_path), ("evaluate", "--checkpoint", path)):
            assert refused(*command)


@pytest.mark.parametrize("command", ["train", "generate"])
def test_a_truncated_checkpoint_is_refused_and_kept(run, refused, text, tmp_path, command):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    path = tmp_path / "model.npz"
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    arguments = {"train": ("--resume", "--out", tmp_path), "generate": ("--checkpoint", path, "--prompt", "to")}
    sentence = refused(command, *arguments[command])
    assert sentence == f"model must be a file that hopmin saved; {path} is damaged or has another format"
    assert path.read_bytes() == half


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--prompt", "Zounds"), "text must consist of the tokenizer's 15 symbols; got 'Z'"),
        (("--prompt", ""), "prompt must have shape (T,), not empty; got (0,)"),
        (("--prompt", "to", "--max-new-tokens", -1), "max_new_tokens must be an integer >= 0; got -1"),
        (("--prompt", "to", "--temperature", "nan"), "temperature must be a finite number >= 0; got nan"),
        (("--prompt", "to", "--seed", -1), "seed must be an integer >= 0; got -1"),
    ],
    ids=str,
)
def test_wrong_options_of_generate_are_named(run, refused, text, tmp_path, options, sentence):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    assert refused("generate", "--checkpoint", tmp_path / "model.npz", *options) == sentence


def test_generated_text_moves_no_cursor_of_a_terminal(run, monkeypatch, tmp_path):
    """In a file or a pipe the text stays as it is."""
    model, symbols = GPT(hopmin.GPTConfig(vocabulary=5, positions=4, layers=1, heads=1, width=4), 0), ("a", "\n", "\x1b", "\x9b", "é")
    model.save(tmp_path / "m.npz", SymbolTokenizer(symbols))
    command = ("generate", "--checkpoint", tmp_path / "m.npz", "--prompt", "".join(symbols), "--max-new-tokens", 0)
    assert run(*command) == (0, "a\n\x1b\x9bé\n", "")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(*command) == (0, "a\n\\x1b\\x9bé\n", "")


def test_an_error_moves_no_cursor_of_a_terminal(refused, tmp_path):
    name = "\x1b[2J\x9b\u202e.npz"
    sentence = refused("generate", "--checkpoint", tmp_path / name, "--prompt", "a")
    assert sentence == rf"model must be a readable file; {tmp_path}/\x1b[2J\x9b\u202e.npz: No such file or directory"
    with np.load(saved_model(tmp_path)) as file:
        arrays = dict(file)
    np.savez(tmp_path / "m.npz", **{**arrays, "hopmin": np.array(str(arrays["hopmin"]).replace('"model"', '"\\u001b[2J"'))})
    sentence = refused("generate", "--checkpoint", tmp_path / "m.npz", "--prompt", "a")
    assert sentence.endswith(r"must hold a model in format 1; got a \x1b[2J in format 1")


def saved_model(folder):
    path = folder / "m.npz"
    GPT(hopmin.GPTConfig(vocabulary=3, positions=4, layers=1, heads=1, width=4), 0).save(path)
    return path


def test_a_crafted_tokenizer_in_a_checkpoint_is_one_sentence(refused, tmp_path):
    """The library panics on it, which is no Exception."""
    pytest.importorskip("tokenizers")
    t = BPETokenizer.train(["to be or not to be"], 260)
    plain = json.loads(t.json)
    GPT(hopmin.GPTConfig(vocabulary=len(t.symbols), positions=4, layers=1, heads=1, width=4), 0).save(tmp_path / "m.npz", t)
    arrays, records = load_arrays(tmp_path / "m.npz", "model")
    crafted = {**plain, "model": {**plain["model"], "continuing_subword_prefix": "###"}}
    records["tokenizer"] = {"kind": "bpe", "json": json.dumps(crafted)}
    save_arrays(tmp_path / "m.npz", "model", arrays, **records)
    sentence = refused("generate", "--checkpoint", tmp_path / "m.npz", "--prompt", "to")
    assert sentence == f"model must hold the parameters that its configuration names; {tmp_path / 'm.npz'} does not"


def test_a_model_without_a_tokenizer_generates_no_text(refused, tmp_path):
    path = tmp_path / "model.npz"
    GPT(hopmin.GPTConfig(vocabulary=3, positions=4, layers=1, heads=1, width=4), 0).save(path)
    sentence = refused("generate", "--checkpoint", path, "--prompt", "to")
    assert sentence == f"model must come with a tokenizer to generate text; {path} has none"


@pytest.mark.parametrize(("options", "name"), [(("--seed", -1), "seed"), (("--seeds", 0), "seeds"), (("--workers", 0), "workers")])
def test_wrong_options_of_study_are_named(refused, tmp_path, options, name):
    sentence = refused("study", "--preset", "smoke", "--out", tmp_path, *options)
    assert sentence == f"{name} must be an integer >= {int(name != 'seed')}; got {options[1]}"
    assert list(tmp_path.iterdir()) == []


def test_a_nonfinite_loss_ends_training(run, text, tmp_path):
    code, out, error = run("train", "--corpus", text, "--out", tmp_path, *SMALL, "--learning-rate", 1e30)
    assert code == 2
    assert error.splitlines()[-1] == "hopmin: loss must stay finite; got nan at step 2"
    assert "holds the model" not in out  # there was none yet
    assert not (tmp_path / "model.npz").exists()


def test_a_perplexity_too_large_for_a_float_is_infinite(run, text, tmp_path):
    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    arrays, records = load_arrays(tmp_path / "model.npz", "model")
    arrays["parameters/tokens"] *= 1e6
    save_arrays(tmp_path / "model.npz", "model", arrays, **records)
    code, out, error = run("evaluate", "--checkpoint", tmp_path / "model.npz")
    assert (code, error) == (0, "")
    assert out.count("perplexity inf") == 2

    def nonfinite(name):
        raise AssertionError(f"{name} is not JSON")

    _, out, _ = run("evaluate", "--checkpoint", tmp_path / "model.npz", "--json")
    splits = json.loads(out, parse_constant=nonfinite)["splits"]
    assert splits["train"]["perplexity"] is None
    assert splits["train"]["nats_per_token"] > 709


def test_a_last_step_that_diverges_is_not_saved(run, text, tmp_path):
    code, _, error = run("train", "--corpus", text, "--out", tmp_path, *SMALL, "--learning-rate", 1e30, "--steps", 1)
    assert code == 2
    assert error.splitlines()[-1] == "hopmin: held-out loss must stay finite; got nan after step 1"
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "log.jsonl"}


def test_a_diverging_training_keeps_its_last_checkpoint(run, text, tmp_path):
    code, out, error = run(
        "train", "--corpus", text, "--out", tmp_path, *SMALL, "--steps", 60, "--learning-rate", 1e5, "--checkpoint-every", 1
    )
    assert code == 2
    assert error.splitlines()[-1].startswith("hopmin: loss must stay ")
    steps = Trainer.load(tmp_path / "model.npz").steps_taken
    assert 1 <= steps < 60
    assert f"holds the model after {steps} of 60 steps" in out


def test_a_full_disk_is_one_sentence_and_keeps_the_files(run, text, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    run("train", "--corpus", text, "--out", tmp_path, *SMALL)
    before = (tmp_path / "model.npz").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    code, _, error = run("train", "--resume", "--out", tmp_path)
    assert code == 2
    assert error.splitlines()[-1] == "hopmin: a file could not be read or written: No space left on device"
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "model.npz", "best.npz", "log.jsonl"}
    assert (tmp_path / "model.npz").read_bytes() == before


def test_running_out_of_memory_is_one_sentence(run, text, tmp_path):
    code, _, error = run("train", "--corpus", text, "--out", tmp_path, *SMALL, "--batch-size", 10**17)
    assert code == 2
    assert error.splitlines()[-1].startswith("hopmin: ")


@pytest.mark.parametrize(
    ("needs", "library"),
    [("hopmin.study.figures", "matplotlib"), ("hopmin.study.report", "jinja2"), ("hopmin study", "tqdm")],
)
def test_a_missing_library_is_named(refused, monkeypatch, tmp_path, needs, library):
    for module in [name for name in sys.modules if name.startswith("hopmin.study.")]:
        monkeypatch.delitem(sys.modules, module)
        parent, _, child = module.rpartition(".")
        monkeypatch.delattr(importlib.import_module(parent) if parent in sys.modules else hopmin.study, child, raising=False)
    for module in {library, *(name for name in sys.modules if name.startswith(f"{library}."))}:
        monkeypatch.setitem(sys.modules, module, None)
    sentence = refused("study", "--out", tmp_path)
    assert sentence == f'{needs} needs {library}: python -m pip install "hopmin[study]"'


def test_other_import_errors_are_raised(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "hopmin.study.evaluation", None)
    with pytest.raises(ImportError, match=r"hopmin\.study\.evaluation"):
        run("evaluate")


def test_a_width_of_zero_is_named(refused, text, tmp_path):
    sentence = refused("train", "--corpus", text, "--out", tmp_path / "out", *SMALL, "--width", 0)
    assert sentence == "width must be an integer >= 1; got 0"


# conformance

JUDGED = """
import numpy as np

def naive(a, axis=None):
    with np.errstate(over="ignore"):
        return np.log(np.exp(a).sum(axis))
"""


@pytest.fixture
def judge(run, tmp_path, monkeypatch):
    """judge(*options): run `hopmin conformance` on the function above, with few examples and a seed."""
    (tmp_path / "judged.py").write_text(JUDGED)
    monkeypatch.chdir(tmp_path)
    yield lambda *options: run(
        "conformance", "judged:naive", "--family", "logsumexp", "--examples", 30, "--seed", 1, *options
    )
    sys.modules.pop("judged", None)


def test_conformance_prints_a_report_and_ends_with_1(judge):
    code, out, err = judge()
    assert (code, err) == (1, "")
    assert out.startswith("judged.naive as logsumexp, float64 and float32, seed 1\n")
    assert "from judged import naive as implementation" in out


def test_conformance_prints_json(judge):
    code, out, _ = judge("--json")
    record = json.loads(out)
    assert (code, record["passed"], record["seed"], record["examples"]) == (1, False, 1, 30)


def test_conformance_reads_expected_failures(judge, tmp_path):
    failed = [row["law"] for row in json.loads(judge("--json")[1])["laws"] if row["status"] == "failed"]
    lines = [f"{law}{gap}no shift" for law, gap in zip(failed, [" # ", "\t", "  ", "# "] * 9, strict=False)]
    (tmp_path / "xfails.txt").write_text("\n".join(["# known", "", *lines]))
    code, out, _ = judge("--xfails", "xfails.txt")
    assert code == 0
    assert len(re.findall("expected to fail .* no shift\n", out)) == len(failed)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("law_logsumexp a\n\nlaw_logsumexp b", "xfails.txt, line 3: a law must be listed once; got law_logsumexp again"),
        ("# known\nlaw_softmax", "xfails.txt, line 2: laws must be of law_logsumexp, "),
    ],
)
def test_conformance_names_the_line_of_a_wrong_law(judge, tmp_path, lines, sentence):
    (tmp_path / "xfails.txt").write_text(lines)
    code, _, err = judge("--xfails", "xfails.txt")
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_conformance_takes_promises_before_the_implementation(run):
    options = ("--family", "softmax", "--examples", 2)
    _, out, _ = run("conformance", "--promises", "limit,empty", "--promises", "digits", "hopmin:softmax", *options)
    assert "is not promised" not in out
    assert run("conformance", "hopmin:softmax", *options)[1].count("is not promised") == 3


def test_conformance_names_a_module_that_exits(judge, tmp_path, run):
    (tmp_path / "exits.py").write_text("raise SystemExit(4)")
    code, _, err = run("conformance", "exits:f", "--family", "softmax")
    assert code == 2
    assert "got exits:f: SystemExit: 4" in err


def test_conformance_lists_families_and_laws(run):
    code, out, _ = run("conformance", "--list")
    assert code == 0
    assert "softmax: softmax(a, axis=None) -> array\n" in out
    assert "  law_softmax: softmax is the gradient" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "package.module:callable and --family must be given; see hopmin conformance --list"),
        (
            ("judged:absent", "--family", "softmax"),
            "implementation must be package.module:callable that can be imported",
        ),
        (
            ("no_such_module:f", "--family", "softmax"),
            "implementation must be package.module:callable that can be imported",
        ),
        (("hopmin:softmax", "--family", "softmx"), "family must be one of logsumexp, softmax, "),
        (("hopmin:softmax", "--family", "softmax", "--xfails", "absent.txt"), "absent.txt could not be read"),
    ],
)
def test_conformance_refuses_in_one_sentence(refused, arguments, sentence):
    assert sentence in refused("conformance", *arguments)


# Stores


@pytest.fixture
def notes(tmp_path):
    """A store with text, numbers and gaps in its metadata, and the lines it was made from."""
    path, lines = tmp_path / "notes.hopmin", tmp_path / "notes.jsonl"
    rows = [
        {"key": "a", "pattern": [0.0, 1.0], "value": "north", "lang": "en", "year": 2019},
        {"key": "b", "pattern": [1.0, 0.0], "value": "east", "lang": "de", "year": 2024, "weight": 0.5},
        {"key": "é", "pattern": [1.0, 1.0], "value": "", "weight": 2},
    ]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path, lines, rows


def contents(path):
    with hopmin.Store(path) as store:
        entries = store.get(store.keys())
        return entries.keys.tolist(), entries.patterns.tolist(), None if entries.values is None else entries.values.tolist(), entries.metadata


def test_store_reads_and_writes_lines_tables_and_arrays(run, notes, tmp_path):
    path, lines, rows = notes
    assert run("store", "import", path, lines) == (0, f"{path} holds 3 entries; 3 were added or replaced\n", "")
    expected = (
        ["a", "b", "é"], [row["pattern"] for row in rows], ["north", "east", ""],
        {"lang": ["en", "de", None], "year": [2019, 2024, None], "weight": [None, 0.5, 2.0]},
    )  # fmt: skip
    assert contents(path) == expected
    for suffix in ("jsonl", "csv"):
        copy, other = tmp_path / f"copy.{suffix}", tmp_path / f"{suffix}.hopmin"
        assert run("store", "export", path, copy) == (0, f"3 entries were written to {copy}\n", "")
        if suffix == "csv":  # an empty text is nothing there
            copy.write_text(copy.read_text(encoding="utf-8").replace("é,,", "é,none,"), encoding="utf-8")
        assert run("store", "import", other, copy)[0] == 0
        found = contents(other)
        assert (found[0], found[1], found[3]) == (expected[0], expected[1], expected[3])
    archive = tmp_path / "copy.npz"
    assert run("store", "export", path, archive, "--where", "lang IS NOT NULL")[1] == f"2 entries were written to {archive}\n"
    with np.load(archive) as arrays:
        assert {name: a.tolist() for name, a in arrays.items() if name != "weight"} == {
            "keys": ["a", "b"], "patterns": [[0.0, 1.0], [1.0, 0.0]], "values": ["north", "east"], "lang": ["en", "de"], "year": [2019, 2024],
        }  # fmt: skip
    assert run("store", "add", path, archive)[1] == f"{path} holds 3 entries; 2 were added or replaced\n"
    assert contents(path) == expected


def test_store_searches(run, notes, tmp_path):
    path, lines, _ = notes
    run("store", "import", path, lines)
    np.save(tmp_path / "q.npy", [[0.9, 0.1], [0.0, 3.0]])
    code, out, _ = run("store", "search", path, tmp_path / "q.npy", "-k", 2)
    assert code == 0
    assert out.splitlines()[0].split() == ["b", "0.141421", "value=east", "lang=de", "year=2024", "weight=0.5"]
    assert [line[:1] for line in out.splitlines()] == ["b", "é", "", "a", "é", ""]
    code, out, _ = run("store", "search", path, tmp_path / "q.npy", "--where", "year > 2020", "--json")
    assert [[hit["key"] for hit in json.loads(line)] for line in out.splitlines()] == [["b"], ["b"]]
    assert json.loads(out.splitlines()[0])[0]["value"] == "east"


def test_store_takes_plain_arrays_and_keys(run, tmp_path):
    path, vectors, keys = tmp_path / "s", tmp_path / "v.npy", tmp_path / "keys.txt"
    np.save(vectors, np.eye(3, dtype=np.float32))
    assert run("store", "add", path, vectors)[1] == f"{path} holds 3 entries; 3 were added or replaced\n"
    assert run("store", "add", path, vectors)[1] == f"{path} holds 6 entries; 3 were added or replaced\n"
    assert contents(path)[0] == list(range(6))
    with hopmin.Store(path) as store:
        store.remove([0, 1])
    assert run("store", "add", path, vectors)[1] == f"{path} holds 7 entries; 3 were added or replaced\n"
    assert contents(path)[0] == [2, 3, 4, 5, 6, 7, 8]
    keys.write_text("x\ny\nz\n")
    assert run("store", "add", tmp_path / "t", vectors, "--keys", keys, "--columns", "lang=text", "--dtype", "float64")[0] == 0
    assert contents(tmp_path / "t")[0] == ["x", "y", "z"]
    header = json.dumps({"embedding": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}}).encode()
    tensors = tmp_path / "v.safetensors"
    tensors.write_bytes(len(header).to_bytes(8, "little") + header + np.eye(3, dtype="<f4").tobytes())
    assert run("store", "import", tmp_path / "u", tensors)[0] == 0
    assert contents(tmp_path / "u")[1] == np.eye(3).tolist()


def test_store_leaves_nothing_of_an_import_that_failed(refused, tmp_path):
    path, lines = tmp_path / "s", tmp_path / "bad.jsonl"
    lines.write_text('{"key": "a", "pattern": [1, 2]}\n{"key": "a", "pattern": [1, 2]}\n')
    for action in ("import", "add"):
        assert refused("store", action, path, lines) == "keys must be unique; got 'a' twice"
        assert os.listdir(tmp_path) == ["bad.jsonl"]


def test_store_says_what_it_holds_and_checks_it(run, notes):
    path, lines, _ = notes
    run("store", "import", path, lines)
    record = json.loads(run("store", "info", path, "--json")[1])
    assert record | {"bytes": 0} == {
        "entries": 3, "removed": 0, "d": 2, "dtype": "float32", "keys": "str", "values": "str",
        "columns": {"lang": "text", "year": "integer", "weight": "real"}, "changes": 1, "bytes": 0,
    }  # fmt: skip
    assert "columns  lang text, year integer, weight real\n" in run("store", "info", path)[1]
    assert run("store", "check", path) == (0, f"{path} is in order\n", "")
    with hopmin.Store(path) as store:
        store._connection.execute("UPDATE panels SET checksum = 0")
    assert run("store", "check", path) == (1, "panel 0: it does not match its checksum\n", "")


def test_store_errors_are_one_sentence(refused, notes, tmp_path):
    path, lines, _ = notes
    main(["store", "import", str(path), str(lines)])
    assert refused("store", "import", path, lines) == f"store must be a new file to import into; {path} exists"
    assert refused("store", "info", tmp_path / "none") == f"path must be an existing store, or d be given to create one; got {tmp_path / 'none'}"
    assert refused("store", "add", path, tmp_path / "x.txt").startswith("the suffix of a file of entries must be one of '.npy'")
    for name, content in (("a.jsonl", "{"), ("b.jsonl", '{"key": 1}'), ("c.csv", "key,x\n1,2\n"), ("d.npz", "zip"), ("e.safetensors", "12345678"), ("f.npy", "")):
        (tmp_path / name).write_text(content)
        assert refused("store", "add", path, tmp_path / name) == f"entries must be a {name[1:]} file of patterns; {tmp_path / name} is damaged or has another format"
    (tmp_path / "g.jsonl").write_text('{"key": "g", "pattern": [1]}')
    assert refused("store", "add", path, tmp_path / "g.jsonl") == "patterns must have shape (k, d) with d = 2; got (1, 1)"
    (tmp_path / "h.jsonl").write_text("")
    assert refused("store", "add", path, tmp_path / "h.jsonl") == f"entries must not be empty; {tmp_path / 'h.jsonl'} holds none"
    assert refused("store", "search", path, lines, "--where", "nope").startswith("where must be a condition on lang, year, weight, key")
    assert contents(path)[0] == ["a", "b", "é"]
