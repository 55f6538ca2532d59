"""A model depends on its description alone, and losses along the way are those of the model."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from hopmin.study import models
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Training, fit, train
from hopmin.transformer.model import GPT, GPTConfig

TINY = Training(1, 1, 8, rows=20, steps=6, batch_size=4, drawn=40)


@pytest.fixture
def folder(tmp_path):
    models.keep_in(tmp_path)
    yield tmp_path
    models.keep_in(None)


def same(a, b):
    return all(np.array_equal(a.parameters[name], b.parameters[name]) for name in a.parameters)


def test_a_kept_model_is_the_model(folder):
    first, again = fit(TINY), fit(TINY)
    models.keep_in(None)
    fresh = fit(TINY)
    assert len(list(folder.iterdir())) == 1
    assert same(first.model, again.model)
    assert same(first.model, fresh.model)
    assert first.curve == again.curve == fresh.curve


def test_models_of_other_descriptions_are_others(folder):
    changes = (
        {"seed": 1},
        {"rows": 10},
        {"steps": 5},
        {"nouns": 2},
        {"corpus_seed": 1},
        {"width": 4},
        {"options": {"norm": "post"}},
    )
    for change in changes:
        fit(replace(TINY, **change))
    assert len(list(folder.iterdir())) == len(changes)


def test_smaller_amounts_are_the_first_rows_of_larger_ones():
    few, many = fit(TINY), fit(replace(TINY, rows=40))
    assert np.array_equal(few.train, many.train[:20])
    assert np.array_equal(few.held_out, many.held_out)


def test_the_curve_ends_with_the_losses_of_the_model():
    found = fit(TINY)
    assert [point.step for point in found.curve] == sorted({point.step for point in found.curve})
    last = found.curve[-1]
    assert last.step == TINY.steps
    assert last.train == cross_entropy(found.model, found.train)
    assert last.held_out == cross_entropy(found.model, found.held_out[: models.EVALUATED])


def test_training_without_held_out_rows_has_no_loss_on_them():
    model = GPT(GPTConfig(5, 3, 1, 1, 4), rng=0)
    rows = np.array([[0, 1, 2, 3], [4, 3, 2, 1]])
    curve = train(model, rows, steps=4, batch_size=2, evaluations=2)
    assert [point.step for point in curve] == [2, 4]
    assert all(math.isnan(point.held_out) for point in curve)
    assert curve[1].train < curve[0].train


def test_descriptions_are_json():
    assert Training(**asdict(TINY)) == TINY


def test_the_cost_counts_parameters_and_tokens():
    evaluated = models.EVALUATIONS * 2 * models.EVALUATED // 3
    assert TINY.cost == (12 * 64, (6 * 4 + evaluated) * 21, 0)
    assert replace(TINY, corpus="x.txt", positions=32).cost.tokens == (6 * 4 + evaluated) * 32


def test_texts_are_cut_into_rows(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question. " * 40)
    found = fit(replace(TINY, corpus=str(path), positions=16))
    assert found.train.shape == (20, 17)
    assert found.model.config.positions == 16
