"""Edits do what their formulas say, and measures count what they should."""

import numpy as np
import pytest

from hopmin.study.experiments import editing
from hopmin.study.facts import facts
from hopmin.transformer.model import GPT, GPTConfig


@pytest.fixture(scope="module")
def model():
    model = GPT(GPTConfig(len(facts(6).words), 12, 1, 1, 16, init_std=0.5), rng=0)
    tokens = model.parameters["tokens"]
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)  # so that every token can be the likeliest
    return model


def test_a_change_is_found_that_gives_the_object(model):
    asked = editing.ask(model, facts(6), np.arange(6), 0)
    changes, reached = editing.descend(model, asked.states, facts(6).objects, steps=200)
    assert reached.all()
    assert (asked.answers(model, changes) == facts(6).objects).all()


def test_answers_are_those_of_the_model(model):
    of = facts(6)
    answers = editing.ask(model, of, np.arange(6), 1).answers(model)
    for i, answer in enumerate(answers):
        prompt = np.array([of.prompts[i][1]])
        assert model.logits(prompt)[0, -1].argmax() == answer


def test_a_gate_changes_stored_keys_and_nothing_elsewhere():
    keys, changes = np.eye(4), np.arange(8.0).reshape(4, 2) + 1
    edit = editing.gated(keys, changes, 0.9)
    assert np.array_equal(edit(3 * keys), changes)
    assert not edit(np.ones((1, 4))).any()


def test_the_linear_edit_is_exact_for_independent_keys():
    rng = np.random.default_rng(0)
    keys, changes = np.eye(6)[:3], rng.normal(size=(3, 2))
    edit = editing.linear_edit(keys, changes, np.eye(6)[3:], weight=1.0)
    assert edit(keys) == pytest.approx(changes, rel=1e-4)
    assert edit(np.eye(6)[3:]) == pytest.approx(0, abs=1e-9)


def test_the_linear_edit_trades_new_facts_for_old_ones():
    rng = np.random.default_rng(1)
    keys, changes, other = rng.normal(size=(8, 6)), rng.normal(size=(8, 2)), rng.normal(size=(20, 6))
    light, heavy = (editing.linear_edit(keys, changes, other, weight=w) for w in (1e-3, 10.0))
    assert np.linalg.norm(light(keys) - changes) < np.linalg.norm(heavy(keys) - changes)
    assert np.linalg.norm(light(other)) > np.linalg.norm(heavy(other))


def test_no_edit_keeps_every_answer(model):
    of, new, known = facts(6), np.arange(3, 6), np.arange(3)
    asked, kept = ([editing.ask(model, of, which, j) for j in range(3)] for which in (new, known))
    found = editing._score(model, of, new, known, asked, kept, lambda hidden: 0.0)
    assert found["specificity"] == [9, 9]
    assert found["efficacy"][1] == 3
    assert found["generalization"][1] == 6
