"""A memory beside a model, on predictions and neighbours that are known."""

import numpy as np
import pytest

from hopmin.study.experiments import recall
from hopmin.study.experiments.recall import Neighbours
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Fit
from hopmin.study.plan import Settings


def neighbours(distances):
    rows = np.array([0, 0, 1, 1])
    return Neighbours(
        np.full(4, 0.25), np.array([5, 6, 7, 8]), rows, np.array(distances), np.array([[0, 4], [1, 4], [2, 4], [3, 4]])
    )


VALUES = np.array([5, 6, 7, 8, 0])  # what the nearest keys recall is right, the others wrong


def test_without_weight_the_mixture_is_the_model():
    assert neighbours([[0.0, 1.0]] * 4).loss(VALUES, 0.0, 3.0) == pytest.approx(np.log(4))


def test_a_sharp_memory_of_the_right_tokens_recalls_them():
    near = neighbours([[0.0, 10.0]] * 4)
    assert near.probabilities(VALUES, 1.0, 1.0) == pytest.approx(1)
    assert near.loss(VALUES, 0.5, 1.0) == pytest.approx(-np.log(0.625))


def test_equal_distances_share_the_weight():
    assert neighbours([[2.0, 2.0]] * 4).probabilities(VALUES, 1.0, 7.0) == pytest.approx(0.5)


def test_a_memory_of_other_tokens_knows_nothing():
    assert neighbours([[0.0, 10.0]] * 4).loss(np.roll(VALUES, 1), 0.5, 1.0) == pytest.approx(-np.log(0.125))


def test_the_gain_is_the_difference_of_the_losses():
    near = neighbours([[0.0, 1.0], [1.0, 0.0], [3.0, 1.0], [0.0, 0.0]])
    near.rows[1] = 1  # rows of one and of three tokens
    found = near.gain(VALUES, 0.5, 1.0)
    assert found.value == pytest.approx(near.loss(VALUES, 0.0, 1.0) - near.loss(VALUES, 0.5, 1.0))
    assert found.low <= found.value <= found.high
    assert found.n == 2


def record(stored, gain, seed=0, trained=100):
    losses = {"held_out": 1.0 - gain[0], "stored": 0.5, "weight": 0.1}
    return {
        "stored": stored, "tokens": 20 * stored, "seed": seed, "trained_rows": trained, "entropy": 0.9, "verbatim": 0.0,
        "model": {"held_out": 1.0, "stored": 1.0}, "memory": losses, "shuffled": {**losses, "held_out": 1.0}, "gain": gain,
    }  # fmt: skip


def test_training_rows_and_other_rows_are_told_apart():
    """A gain from rows that the model has not seen says nothing about what it kept of those that it has."""
    records = [record(100, [0.0, -0.1, 0.1, 50]), record(400, [0.2, 0.1, 0.3, 50])]
    kept, more = recall.findings(records)[:2]
    assert "the training rows (2,000 tokens) does not clearly change the held-out loss" in kept.text
    assert "400 rows (8,000 tokens) lowers the held-out loss" in more.text
    assert "trained on 100 of the rows" in more.text


def test_a_memory_that_hurts_is_said_to():
    assert "raises the held-out loss" in recall.findings([record(100, [-0.2, -0.3, -0.1, 50])])[0].text


def test_seeds_give_the_interval_where_there_are_several():
    found = recall.findings([record(100, [0.1 + s / 100, 0.0, 1.0, 50], seed=s) for s in range(3)])[0]
    assert found.n == 3
    assert found.value == pytest.approx(0.11)
    assert 0 < found.low < 0.1


@pytest.fixture(scope="module")
def tiny():
    cell = recall.cells(Settings("smoke"))[-1]
    return {**cell, **recall.run(cell, lambda *_: None)}


def test_a_memory_repeats_the_rows_that_it_stores(tiny):
    """An untrained model gains most on rows whose own tokens are the nearest."""
    assert tiny["memory"]["stored"] < tiny["memory"]["held_out"]
    assert tiny["model"]["stored"] - tiny["memory"]["stored"] > tiny["gain"][0]


def test_shuffled_values_repeat_nothing(tiny):
    assert tiny["shuffled"]["stored"] > tiny["memory"]["stored"] + 0.1


def test_loss_by_weight_starts_with_the_model(tiny):
    assert tiny["memory"]["by_weight"][0] == pytest.approx(tiny["model"]["held_out"])
    assert tiny["model"]["held_out"] - tiny["memory"]["held_out"] == pytest.approx(tiny["gain"][0])


def test_keys_are_followed_by_their_values():
    training = recall.Training(1, 1, 8, rows=5, steps=1)
    model, rows = training.untrained, training.language.train[:5]
    keys, values, numbers = recall.activations_and_targets(model, rows)
    assert values.tolist() == rows[:, 1:][rows[:, 1:] >= 0].tolist()
    assert np.bincount(numbers).tolist() == (rows[:, 1:] >= 0).sum(axis=1).tolist()
    alone = model.activations(rows[2:3, :4]).outputs[0, 3]
    assert keys[numbers == 2][3] == pytest.approx(alone, abs=1e-5)


def test_weights_are_chosen_on_rows_that_are_not_scored(tiny):
    training = recall.Training(**tiny["training"])
    model, _, held_out, _ = recall.fit(training)
    half = tiny["queries"]
    assert tiny["model"]["held_out"] == pytest.approx(cross_entropy(model, held_out[half : 2 * half]), rel=1e-5)
    assert tiny["memory"]["held_out"] < tiny["model"]["held_out"]


def test_the_best_weight_of_tuning_rows_is_scored_on_others(monkeypatch):
    """On the scored rows another weight is better, and worse ones abound; neither may be chosen."""
    best, asked = {"tuning": (0.3, 4.0), "scored": (0.7, 0.25), "stored": (0.5, 1.0)}, []

    class Planted:
        distances = np.full((3, 2), 2.0)

        def __init__(self, name):
            self.name = name

        def loss(self, values, weight, beta):
            w, sharpness = best[self.name]
            return 1 + abs(weight - w) + abs(beta * 4 - sharpness)  # beta is in units of one over the squared distance

        def gain(self, values, weight, beta):
            return recall.Estimate(weight, beta, None, 1)

    training = recall.Training(1, 1, 8, rows=30, steps=1)
    rows = training.language.train
    held_out = np.concatenate([rows[1000:1010], rows[:4], rows[1010:1016]])  # the scored half has four stored rows
    monkeypatch.setattr(recall, "fit", lambda *_: Fit(training.untrained, rows[:30], held_out, []))
    names = iter(("tuning", "scored", "stored"))
    monkeypatch.setattr(recall, "_ask", lambda model, rows, keys: asked.append(rows) or Planted(next(names)))
    cell = {"stored": 20, "queries": 10, "seed": 0, "training": recall.asdict(training)}
    found = recall.run(cell, lambda *_: None)
    assert (found["memory"]["weight"], found["memory"]["sharpness"]) == (0.3, 4.0)
    assert found["memory"]["held_out"] == pytest.approx(1 + 0.4 + 3.75)
    assert found["memory"]["stored"] == pytest.approx(1 + 0.2 + 3.0)
    assert found["gain"][:2] == pytest.approx([0.3, 1.0])
    assert found["verbatim"] == 0.4
    assert [part.tolist() for part in asked[:2]] == [held_out[:10].tolist(), held_out[10:].tolist()]


def test_a_memory_of_all_training_rows_is_one_of_training_rows():
    records = [record(n, [gain, gain - 0.1, gain + 0.1, 50]) for n, gain in ((50, 0.0), (100, 0.2), (400, 0.4))]
    assert recall.findings(records)[0].text.startswith("Storing the training rows (2,000 tokens) lowers")
