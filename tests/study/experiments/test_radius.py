"""Distances relative to a Gaussian: 1 for a Gaussian, less for clusters, more for a lattice."""

import numpy as np
import pytest

from hopmin.study.experiments import radius
from hopmin.study.plan import Settings


def record(points, rng, width=8):
    clouds = [radius.gaussian_like(points, rng) for _ in range(20)]
    return {
        "trained": True, "width": width, "rows": [len(points)], "predicted": 1.0,
        "activations": [radius.distances(points)], "gaussian": [[radius.distances(c)[2] for c in clouds]],
        "held_out": radius.distances(points),
    }  # fmt: skip


def test_a_gaussian_like_another_has_its_mean_and_covariance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 3)) @ np.array([[1, 0, 0], [2, 1, 0], [0, 0, 0.1]]) + [5, 0, -1]
    cloud = radius.gaussian_like(points, rng)
    assert cloud.mean(axis=0) == pytest.approx(points.mean(axis=0), abs=0.2)
    assert np.cov(cloud.T) == pytest.approx(np.cov(points.T), abs=0.4)


@pytest.mark.parametrize("d", [2, 8, 32])
def test_a_gaussian_has_a_ratio_of_one(d):
    rng = np.random.default_rng(d)
    value, low, high = radius.ratio(record(rng.normal(size=(400, d)), rng))
    assert low <= 1.05
    assert high >= 0.95
    assert value == pytest.approx(1, abs=0.1)


def test_clusters_have_a_smaller_ratio_and_lattices_a_larger():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(20, 4))
    clusters = np.repeat(centres, 20, axis=0) + 0.01 * rng.normal(size=(400, 4))
    lattice = np.stack(np.meshgrid(*[np.arange(20.0)] * 2), axis=-1).reshape(-1, 2)
    assert radius.ratio(record(clusters, rng))[0] < 0.2
    assert radius.ratio(record(lattice, rng))[0] > 1.5
    assert radius.distances(lattice) == [1.0] * 5


def pair(ratio, seed, before=0.9):
    """Return the records of a trained and an untrained model whose distances are these times those of held-out rows."""
    spread = np.array([0.5, 0.8, 1.0, 1.3, 2.0])
    base = {"layers": 1, "width": 8, "seed": seed, "rows": [10], "predicted": 1.0, "gaussian": [[1.0, 1.0]]}
    return [
        {**base, "trained": trained, "activations": [(value * spread).tolist()], "held_out": spread.tolist()}
        for trained, value in ((True, ratio), (False, before))
    ]


def answer(ratios):
    return radius.findings([r for seed, ratio in enumerate(ratios) for r in pair(ratio, seed)])[0]


def test_the_answer_compares_with_the_untrained_model():
    """Training rows are shorter than held-out ones: a ratio below 1 that was there before training is not memory."""
    assert answer([0.89, 0.9, 0.91]).text.startswith("No effect of memory")
    assert answer([0.5, 0.51, 0.52]).text.startswith("Training changes the distances")
    assert answer([0.5, 0.51, 0.52]).value == pytest.approx(-0.39)
    assert answer([0.5]).text.startswith("No effect of memory")


def test_distances_outside_the_draws_are_counted():
    found = {f.id: f for f in radius.findings([r for ratio in (1.0, 1.0, 2.0) for r in pair(ratio, 0)])}
    assert "in 1 of 3 models" in found["gaussian trained"].text
    assert found["gaussian trained"].value == pytest.approx(4 / 3)
    assert found["radius trained"].value == pytest.approx(2 / 3)


def test_a_run_measures_as_many_held_out_rows_as_training_rows():
    cell = {**radius.cells(Settings("smoke"))[0], "sample": 30}
    found = radius.run(cell, lambda *_: None)
    training = radius.Training(**cell["training"])
    model, train, held_out, _ = radius.fit(training)
    assert found["rows"] == [8, 15, 22, 30]
    assert found["held_out"] == radius.distances(radius.activations(model, held_out[:30]).astype(float))
    assert found["activations"][1] == radius.distances(radius.activations(model, train[:15]).astype(float))
    assert len(found["depth"]) == training.layers + 1


def test_a_quarter_of_the_rows_is_compared_with_all():
    more = {**pair(1.0, 0)[0], "rows": [5, 10], "activations": [[3.0] * 5, [2.0] * 5], "gaussian": [[1.0, 1.0]] * 2}
    assert {f.id: f for f in radius.findings([more])}["rows trained"].value == pytest.approx(1.5)


def test_an_untrained_model_is_not_trained(monkeypatch):
    monkeypatch.setattr(radius, "fit", None)
    cell = next(c for c in radius.cells(Settings("smoke")) if not c["trained"])
    training = radius.Training(**cell["training"])
    found = radius.run(cell, lambda *_: None)
    rows = training.language.train[: cell["sample"]]
    assert found["activations"][-1] == radius.distances(radius.activations(training.untrained, rows).astype(float))
