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


@pytest.fixture(scope="module")
def edited():
    """Return a study of a model that has learned its facts, with two blocks, so that layers cannot be confused."""
    cell = {"layers": 2, "heads": 2, "width": 32, "known": 12, "new": [4, 8], "steps": 250, "descent": 60, "seed": 0}
    return {**cell, **editing.run(cell, lambda *_: None)}


def test_an_edit_gives_the_facts_that_it_writes(edited):
    assert np.mean(edited["known_before"]) > 0.9
    for result in edited["results"]:
        assert result["found"] == result["facts"]
        assert all(edit["efficacy"] == [result["facts"]] * 2 for edit in result["gated"])
        assert result["unedited"]["efficacy"][0] < result["facts"] / 2
        assert result["unedited"]["specificity"][0] == result["unedited"]["specificity"][1] == 36


def test_a_higher_gate_disturbs_less_and_generalizes_less(edited):
    for measure, order in (("specificity", 1), ("generalization", -1)):
        values = [edit[measure][0] for edit in edited["results"][-1]["gated"]]
        assert values == sorted(values)[::order]


def test_generalization_is_counted_in_other_words_only(edited):
    tight = edited["results"][-1]["gated"][-1]
    assert tight["generalization"][1] == 16
    assert tight["generalization"][0] < tight["efficacy"][0] * 2


def test_hidden_activations_are_those_of_the_last_layer():
    deep = GPT(GPTConfig(len(facts(6).words), 12, 2, 1, 16, init_std=0.5), rng=0)
    of = facts(6)
    seen = deep.activations(np.array([of.prompts[0][2]]))
    asked = editing.ask(deep, of, np.arange(6), 2)
    assert asked.hidden[0] == pytest.approx(np.asarray(seen.hidden)[-1][0, -1], abs=1e-5)
    assert asked.states[0] == pytest.approx(seen.states[-1][0, -1], abs=1e-5)


def test_changes_balance_the_answer_and_their_length(model):
    """Neither shorter nor longer changes in the same directions have a lower sum of surprise and penalty."""
    asked, objects = editing.ask(model, facts(6), np.arange(6), 0), facts(6).objects
    changes, _ = editing.descend(model, asked.states, objects, steps=200)

    def costs(scale):
        p = editing.softmax(editing._head(model, asked.states + scale * changes)[0], axis=1)
        return (-np.log(p[np.arange(6), objects]) + editing.PENALTY * np.square(scale * changes).sum(axis=1)).sum()

    assert costs(1.0) < min(costs(0.7), costs(1.5))


def result(gated, linear):
    """Return a record of one model with 10 new and 10 known facts."""

    def edit(right):
        return {"efficacy": [right, 10], "generalization": [right, 20], "specificity": [right, 30]}

    return {
        "known_before": [1.0] * 3,
        "results": [{
            "facts": 10, "found": 10, "unedited": edit(0), "gated": [{"gate": g, **edit(gated)} for g in editing.GATES],
            "linear": [{"weight": w, **edit(right)} for w, right in zip(editing.LINEAR, linear, strict=True)],
        }],
    }  # fmt: skip


def test_the_linear_edit_is_compared_at_its_best():
    found = {f.id: f for f in editing.findings([result(8, (1, 2, 5, 3))])}
    assert found["linear 0.1, 10 facts"].value == 0.5
    assert found["gate 0.65, 10 facts"].value == 0.8


def test_facts_are_the_units_of_an_interval():
    """Twenty answers about ten facts are no twenty observations."""
    pooled = editing._pooled([result(10, (1, 1, 1, 1))], 10, "gate 0.65")
    assert pooled["generalization"].value == 0.5
    assert (pooled["generalization"].low, pooled["generalization"].high) == editing.share([(5, 10, 10)])[1:3]


class Answers(list):
    """The answers that a model gives to prompts, whatever the edit."""

    hidden = None

    def answers(self, model, change=0.0):
        return np.array(self)


def test_answers_in_other_words_are_counted_apart():
    of = facts(6)
    new, known, right = np.arange(3, 6), np.arange(3), of.objects[3:6]
    asked = [Answers(right), Answers(right * 0), Answers([right[0], 0, 0])]
    found = editing._score(None, of, new, known, asked, [Answers([1, 2, 3])] * 3, lambda hidden: 0.0)
    assert found["efficacy"] == [3, 3]
    assert found["generalization"] == [1, 6]


def test_the_linear_edit_keeps_the_known_facts(monkeypatch):
    seen = []
    monkeypatch.setattr(editing, "train", lambda *_, **__: None)
    monkeypatch.setattr(
        editing, "linear_edit", lambda keys, changes, other, weight: seen.append((keys, other)) or (lambda hidden: 0.0)
    )
    cell = {"layers": 1, "heads": 1, "width": 8, "known": 7, "new": [3], "steps": 1, "descent": 1, "seed": 0}
    editing.run(cell, lambda *_: None)
    assert {(len(keys), len(other)) for keys, other in seen} == {(3, 7)}


def test_the_first_finding_is_of_the_most_facts():
    one = result(8, (1, 2, 5, 3))
    more = {**one["results"][0], "facts": 1000}
    assert "of 1,000 new facts" in editing.findings([{**one, "results": [*one["results"], more]}])[0].text
