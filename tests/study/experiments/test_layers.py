"""The global energy falls for models that are built to descend it, and the bound holds for the others."""

import numpy as np
import pytest

from hopmin.numerics import softmax
from hopmin.study.experiments import layers
from hopmin.study.plan import Settings


@pytest.fixture(scope="module")
def records():
    return [{**cell, **layers.run(cell, lambda *_: None)} for cell in layers.cells(Settings("smoke", seed=2))]


def of(records, kind):
    return next(r for r in records if r["kind"] == kind)


def test_energy_attention_searches_and_never_raises_its_energy(records):
    found = of(records, "energy")
    assert not any(found["raised"])
    assert np.all(np.diff(found["global_energy"]) < 0)
    assert np.min(found["heads"]["nearest"]) > 0.99


def test_the_bound_on_a_rise_holds(records):
    used = [u for kind in ("trained", "untrained") for u in of(records, kind)["bound_used"]]
    assert used
    assert min(used) > 0
    assert max(used) <= 1 + 1e-9


def changed(records, by, seeds=3):
    """Return records of several seeds in which training changes the agreement of all heads."""
    untrained = of(records, "untrained")
    before = np.full((2, 1), 0.5)
    return [
        {
            **untrained,
            "kind": kind,
            "seed": seed,
            "heads": {**untrained["heads"], "nearest": (before + change).tolist()},
        }
        for seed in range(seeds)
        for kind, change in (("untrained", 0.05 * seed), ("trained", 0.05 * seed + by + 0.001 * seed))
    ]


@pytest.mark.parametrize(
    ("by", "seeds", "verdict"),
    [(0.3, 3, "Training makes heads search more"), (-0.3, 3, "Training makes heads search less"),
     (0.0, 3, "These models do not tell"), (0.3, 1, "These models do not tell")],
)  # fmt: skip
def test_a_change_by_training_is_found_and_none_is_not(records, by, seeds, verdict):
    found = layers.findings(changed(records, by, seeds))[0]
    assert found.text.startswith(verdict)
    assert found.value == pytest.approx(by, abs=0.002)


def test_heads_are_no_independent_observations(records):
    """A second head like the first must not make the interval narrower."""
    once = changed(records, 0.1)
    twice = [{**r, "heads": {**r["heads"], "nearest": [row * 2 for row in r["heads"]["nearest"]]}} for r in once]
    assert layers.findings(twice)[0].low == pytest.approx(layers.findings(once)[0].low)


def test_steps_that_raise_the_energy_are_a_share_of_all_steps(records):
    some = {**of(records, "trained"), "raised": [1, 4], "of": 10, "measured": 10, "lowered_own": [10, 0]}
    found = {f.id: f for f in layers.findings([some])}
    assert found["raised trained"].value == pytest.approx(0.25)
    assert found["own trained"].value == pytest.approx(0.5)


def test_energies_along_the_depth_are_those_of_stored_patterns():
    """The first and the last global energy equal minus log of the sum over all patterns of all layers."""
    cell = next(c for c in layers.cells(Settings("smoke")) if c["kind"] == "trained")
    found = layers.run(cell, lambda *_: None)
    model, train, held_out, _ = layers.fit(layers.Training(**cell["training"]))
    stored = layers.states(model, train[:400]).astype(float)[1:].reshape(-1, model.config.width)
    seen = layers.states(model, held_out[: cell["measured"]]).astype(float)
    for depth in (0, -1):
        squared = np.square(seen[depth][:, None] - stored).sum(axis=2)
        expected = -np.log(np.exp(-found["beta"] * squared).sum(axis=1)) / found["beta"]
        assert found["global_energy"][depth] == pytest.approx(expected.mean(), rel=1e-6)


def test_the_bound_is_used_by_steps_that_lower_their_own_energy(monkeypatch):
    """Patterns near 0 in the first layer and near 5 in the second; a row moves from 0.5 over 1.5 to 2.5."""
    stored = np.array([[[9.0], [9.0]], [[0.0], [0.1]], [[5.0], [5.1]]])
    seen = np.array([[[0.5]], [[1.5]], [[2.5]]])
    monkeypatch.setattr(layers, "states", lambda model, rows: stored if rows == "stored" else seen)

    class Rows(str):
        def __getitem__(self, which):
            return str(self)

    found = layers._layered(None, Rows("stored"), ["seen"])
    assert found["raised"] == [1, 1]
    assert found["lowered_own"] == [0, 1]
    # squared distances to the nearest pattern stand for the energies, as beta is 100
    assert found["bound_used"] == pytest.approx([(2.4**2 - 1.4**2) / (3.5**2 - 1.4**2)], rel=0.01)
    assert found["global_energy"] == pytest.approx([0.4**2, 1.4**2, 2.4**2], rel=0.01)


def test_the_energy_is_that_of_which_attention_is_a_step(records):
    """Weights of an energy head are softmax(-beta |q - k|^2) with the beta of the energy that is followed."""
    found = of(records, "energy")
    model, _, held_out, _ = layers.fit(layers.Training(**found["training"]))
    seen = model.activations(held_out[:1, :6])
    q, keys = seen.queries[0, 0, 0, 5], seen.keys[0, 0, 0]
    assert seen.weights[0, 0, 0, 5] == pytest.approx(
        softmax(-found["beta"] * np.square(q - keys).sum(axis=1)), abs=1e-5
    )


def test_heads_of_an_untrained_model_are_measured_on_all_rows(monkeypatch):
    monkeypatch.setattr(layers, "fit", None)
    cell = next(c for c in layers.cells(Settings("smoke")) if c["kind"] == "untrained")
    training = layers.Training(**cell["training"])
    expected = layers.head_statistics(training.untrained, training.language.held_out[: cell["measured"]])
    assert layers.run(cell, lambda *_: None)["heads"]["nearest"] == expected["nearest"].round(5).tolist()
