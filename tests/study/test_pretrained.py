"""A pretrained model takes part where its package is installed; a tiny Llama stands for it here."""

from pathlib import Path

import numpy as np
import pytest
from helpers import bpe_pieces, drawn_parameters, error_message, gguf_header, gguf_tensors, write_gguf

from hopmin.study import charts, pretrained, runner
from hopmin.study.experiments import layers, radius
from hopmin.study.plan import Settings, plan
from hopmin.study.pretrained import Pretrained, installed
from hopmin.study.results import results, settings_record
from hopmin.transformer.llama import LlamaConfig

SIZES = LlamaConfig(len(bpe_pieces()), 40, layers=3, heads=4, key_heads=2, width=16, hidden=12)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    (folder / pretrained.PACKAGE).mkdir()
    (folder / pretrained.PACKAGE / "__init__.py").write_text("raise ImportError('it is not to be imported')")
    write_gguf(
        folder / pretrained.PACKAGE / "tiny.gguf",
        gguf_header(SIZES),
        gguf_tensors(drawn_parameters(SIZES, dtype="float32")),
    )
    return folder


@pytest.fixture
def model(package, monkeypatch):
    """Install the tiny Llama, and return its name."""
    pytest.importorskip("tokenizers")
    monkeypatch.syspath_prepend(package)
    return installed()


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(np.random.default_rng(0).choice(list("the cat sat on a mat. "), 2000)))
    return str(path)


def ran(experiment, settings, own=0):
    """Return the records of the cells of the pretrained model, and of this many others."""
    cells = experiment.cells(settings)
    chosen = [c for c in cells if "training" in c][:own] + [c for c in cells if "pretrained" in c]
    return [{**cell, **experiment.run(cell, lambda *_: None)} for cell in chosen]


def test_without_the_package_no_such_model_takes_part(monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    assert installed() is None
    jobs = plan(Settings("smoke", pretrained=installed()), ["radius", "layers"])
    assert not any("pretrained" in job.cell for job in jobs)


def test_without_the_extra_no_such_model_takes_part(model, monkeypatch):
    found = pretrained.find_spec
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None if name == "gguf" else found(name))
    assert installed() is None


def test_the_name_depends_on_the_weights(model, package, monkeypatch):
    name, digest = model.split()
    assert (name, len(digest)) == ("SmolLM2-135M", 16)
    other = package / pretrained.PACKAGE / "tiny.gguf"
    content = other.read_bytes()
    pretrained._digest.cache_clear()
    other.write_bytes(content + b"\0")
    assert installed() != model
    assert (
        error_message(ValueError, lambda: Pretrained(model).model)
        == f"the weights of {model} must be installed; found {installed()}"
    )
    other.write_bytes(content)
    pretrained._digest.cache_clear()
    assert installed() == model


def test_rows_are_the_text_in_random_order(model, text):
    shown = Pretrained(model, text)
    rows = shown.rows
    tokens = shown.model.tokenizer.encode(Path(text).read_text())
    assert rows.shape == (len(tokens) // 33, 33)
    expected = tokens[: rows.size].reshape(rows.shape)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))
    assert not np.array_equal(rows, expected)
    assert np.array_equal(rows, Pretrained(model, text).rows)


def test_a_text_too_short_is_refused(model, tmp_path):
    (tmp_path / "short.txt").write_text("a cat")
    sentence = error_message(ValueError, lambda: Pretrained(model, str(tmp_path / "short.txt")).rows)
    assert sentence == "corpus must have at least 132 tokens of SmolLM2-135M; got 5"


def test_random_weights_have_the_sizes_of_the_model():
    found = pretrained.untrained(SIZES, 3)
    assert found.config == SIZES
    assert found.parameters["tokens"].std() == pytest.approx(1 / 4, rel=0.1)
    assert np.all(found.parameters["layers.0.norm1.gain"] == 1)
    assert not np.array_equal(found.parameters["tokens"], pretrained.untrained(SIZES, 4).parameters["tokens"])


def test_the_distances_are_those_of_its_activations(model, text):
    trained, random = ran(radius, Settings("smoke", text, pretrained=model))
    shown = Pretrained(model, text)
    seen = shown.model.activations(shown.rows[:6, :-1])
    assert trained["activations"][-1] == pytest.approx(radius.distances(seen.outputs[:, 16].astype(float)), rel=1e-4)
    assert trained["depth"][1] == pytest.approx(radius.distances(seen.states[1, :, 16].astype(float))[2], rel=1e-4)
    assert (trained["layers"], trained["width"]) == (random["layers"], random["width"]) == (3, 16)
    assert trained["activations"] != random["activations"]


def test_heads_are_measured_on_rows_that_are_not_stored(model, text, monkeypatch):
    seen = {}
    monkeypatch.setattr(layers, "_heads", lambda model, rows: seen.setdefault("heads", rows) is None)
    monkeypatch.setattr(
        layers, "_layered", lambda model, stored, measured: {"stored": stored, "measured_rows": measured}
    )
    cell = next(c for c in layers.cells(Settings("smoke", text, pretrained=model)) if c.get("kind") == "pretrained")
    found = layers.run(cell, lambda *_: None)
    assert len(found["stored"]) == len(found["measured_rows"]) == found["measured"] == 4
    assert np.array_equal(seen["heads"], found["measured_rows"])
    assert not {tuple(row) for row in found["stored"]} & {tuple(row) for row in found["measured_rows"]}


@pytest.mark.parametrize("experiment", [radius, layers], ids=["radius", "layers"])
def test_findings_and_figures_tell_both_kinds_of_models(experiment, model, text):
    records = ran(experiment, Settings("smoke", text, pretrained=model), own=3)
    own = [r for r in records if "pretrained" not in r]
    found = {f.id: f for f in experiment.findings(records)}
    before = {f.id: f for f in experiment.findings(own)}
    assert {name: found[name] for name in before} == before, "own models are described as without the other"
    added = [f.text for name, f in found.items() if name not in before]
    assert added
    assert all("SmolLM2-135M" in text for text in added)
    assert "models trained here" in next(iter(found.values())).text
    assert "models" in experiment.table(records)[0] or "kind" in experiment.table(records)[0]
    for part in (records[-1:], records[-2:], records):
        assert experiment.findings(part)
        panels = experiment.panels(part)
        assert any("SmolLM2" in panel.title + panel.alt for panel in panels)
    assert charts.svg(panels[-1].figure, panels[-1].alt)
    assert not any("SmolLM2" in panel.title + panel.alt for panel in experiment.panels(own))


def test_a_cell_of_other_weights_fails_with_a_sentence(model):
    job = next(
        job for job in plan(Settings("smoke", pretrained="SmolLM2-135M 0000"), ["radius"]) if "pretrained" in job.cell
    )
    found = runner.run(job, None, lambda *_: None)
    assert found.error == f"ValueError: the weights of SmolLM2-135M 0000 must be installed; found {model}"


def test_the_settings_of_a_study_name_the_model(model):
    settings = Settings("smoke", pretrained=model)
    made = results(settings_record(settings), {}, ["radius"])
    assert made["settings"]["pretrained"] == model
    assert made["experiments"][0]["cells"] == len(plan(settings, ["radius"]))


def test_tokens_without_a_text_are_not_shown_to_it():
    assert pretrained.variants("SmolLM2-135M 0000", "tokens.npz") == ()
    assert pretrained.variants("SmolLM2-135M 0000", "text.txt") == (True, False)
