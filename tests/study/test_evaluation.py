"""Evaluations of a model and of a checkpoint, compared with the measures they report."""

import math

import numpy as np
import pytest
from helpers import error_message

from hopmin.study.evaluation import evaluate, evaluate_checkpoint
from hopmin.study.measure import extraction_rate
from hopmin.transformer.experiment import Experiment
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import cross_entropy


@pytest.fixture
def model():
    return GPT(GPTConfig(vocabulary=7, positions=6, layers=1, heads=2, width=8), 0)


def test_an_evaluation_is_that_of_its_measures(model):
    rows = np.random.default_rng(0).integers(7, size=(20, 7))
    rows[:5, 4:] = -1
    found = evaluate(model, rows)
    assert (found.rows, found.tokens) == (20, 15 * 6 + 5 * 3)
    assert found.nats_per_token == cross_entropy(model, rows)
    assert found.bits_per_token == pytest.approx(math.log2(math.exp(found.nats_per_token)), rel=1e-14)
    assert found.perplexity == math.exp(found.nats_per_token)
    assert found.extraction_rate == extraction_rate(model, rows)


def test_a_perplexity_above_all_floats_is_infinite(model):
    model.parameters["tokens"] *= 1e6
    found = evaluate(model, np.random.default_rng(0).integers(7, size=(20, 7)))
    assert math.isfinite(found.nats_per_token)
    assert found.perplexity == math.inf


def test_a_checkpoint_is_evaluated_on_its_own_corpus(tmp_path):
    sizes = {"layers": 1, "heads": 1, "width": 8}
    experiment = Experiment.create(tmp_path, rows=30, steps=2, **sizes)
    loss = experiment.run()
    found = evaluate_checkpoint(experiment.checkpoint)
    assert (found.corpus, found.entropy) == ("question-formation", experiment.corpus.entropy)
    assert {name: split.rows for name, split in found.splits.items()} == {"train": 30, "held_out": 1000}
    assert found.splits["held_out"].nats_per_token == loss


def test_a_model_without_a_corpus_is_refused(model, tmp_path):
    model.save(tmp_path / "m.npz")
    sentence = error_message(ValueError, evaluate_checkpoint, tmp_path / "m.npz")
    assert sentence == f"checkpoint must name its corpus; {tmp_path / 'm.npz'} was not written by hopmin train"
