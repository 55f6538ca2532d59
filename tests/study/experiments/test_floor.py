"""The estimator of the floor tells a plateau of the language from a bound of the theory."""

from dataclasses import asdict

import numpy as np
import pytest

from hopmin.study.experiments import floor
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Fit, Point
from hopmin.study.plan import Settings
from hopmin.study.statistics import Estimate


def record(n, entropy, loss, seed=0, floor=None):
    return {
        "nouns": n, "verbs": n, "seed": seed, "parameters": 1000, "entropy": entropy, "repeated": 1, "scored": 100, "falling": n / 100,
        "floor": entropy if floor is None else floor, "loss": {"train": 0.0, "held_out": loss},
        "training": {"layers": 1, "width": 8},
    }  # fmt: skip


def records(loss_of, noise=0.005, seed=0):
    """Return records of languages whose held-out loss is this function of their entropy."""
    rng = np.random.default_rng(seed)
    return [record(n, h, loss_of(h) + noise * rng.normal()) for n, h in enumerate((0.6, 0.8, 1.0, 1.15, 1.3), 1)]


def by_id(found):
    return {finding.id: finding for finding in found}


@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_that_is_the_entropy_has_a_slope_of_one(seed):
    found = by_id(floor.findings(records(lambda h: h + 0.02, seed=seed)))
    assert found["slope"].low < 1 < found["slope"].high
    assert found["slope"].low > 0.8
    assert found["slope"].text.startswith("The loss follows the entropy")
    assert found["excess"].value == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_that_is_a_bound_has_a_slope_of_zero(seed):
    found = by_id(floor.findings(records(lambda h: 1.0, seed=seed)))
    assert found["slope"].low < 0 < found["slope"].high < 0.2
    assert found["intercept"].low < 1 < found["intercept"].high
    assert found["slope"].text.startswith("The loss does not follow the entropy")


def test_repeated_rows_are_counted():
    assert by_id(floor.findings(records(lambda h: h)))["novelty"].text.startswith("5 of 500 held-out rows")


def test_languages_of_a_run_have_different_entropies():
    cells = floor.cells(Settings("quick"))
    entropies = [floor.Training(**{**cell["training"], "drawn": 10, "rows": 10}).language.entropy for cell in cells]
    assert len(entropies) >= 5
    assert np.all(np.diff(entropies) > 0.05)
    assert entropies[0] < 0.7
    assert entropies[-1] > 1.05


def test_a_single_record_has_findings_and_figures():
    one = records(lambda h: h)[:1]
    assert "slope" not in by_id(floor.findings(one))
    assert floor.panels(one)


def test_seeds_of_one_language_are_one_observation():
    """Copies of the same five languages must not make the interval narrower."""
    once = records(lambda h: h + 0.02, noise=0.03)
    copied = once + [{**r, "seed": seed} for seed in (1, 2) for r in once]
    assert floor.findings(copied)[0].low == pytest.approx(floor.findings(once)[0].low)


def test_the_loss_is_compared_with_the_floor_of_its_rows():
    """The held-out rows of a small language are harder than the language."""
    harder = [record(n, h, h + 0.3, floor=h + 0.3) for n, h in enumerate((0.6, 0.8, 1.0), 1)]
    found = by_id(floor.findings(harder))
    assert found["intercept"].value == pytest.approx(0, abs=1e-9)
    assert found["excess"].value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [((2.0, 1.5, 2.5), "by more than"), ((0.5, 0.2, 0.8), "by less than"), ((1.0, -1.0, 3.0), "It cannot be told")],
)
def test_verdicts_follow_the_interval_of_the_slope(slope, verdict):
    assert verdict in floor._verdict(Estimate(*slope, 5))


@pytest.mark.parametrize(("loss", "side"), [(0.9, ", below the bound"), (1.1, ", not below the bound")])
def test_the_lowest_loss_is_held_against_the_bound(loss, side):
    assert side in by_id(floor.findings([record(2, 0.8, loss)]))["lowest"].text


def test_a_run_scores_its_model_on_rows_that_it_has_not_seen():
    cell = floor.cells(Settings("smoke"))[0]
    found = floor.run(cell, lambda *_: None)
    language = floor.Training(**cell["training"]).language
    assert found["repeated"] == 0
    assert found["scored"] == len(language.held_out)
    assert found["floor"] == language.floors["test"] != found["entropy"] == language.entropy


def test_the_lowest_loss_and_the_least_converged_are_named():
    found = by_id(floor.findings([record(2, 0.8, 0.85), record(5, 1.2, 1.25)]))
    assert found["lowest"].value == 0.85
    assert found["convergence"].value == 0.05
    assert "5 nouns" in found["convergence"].text


def test_the_figure_shows_every_model_at_its_floor():
    panel = floor.panels(records(lambda h: h))[0]
    shown = [
        line.get_xydata()[0].tolist()
        for line in panel.figure.axes[0].lines
        if (line.get_gid() or "").startswith("tip:")
    ]
    assert shown == [[r["floor"], r["loss"]["held_out"]] for r in records(lambda h: h)]


def test_losses_and_their_fall_are_those_of_held_out_rows(monkeypatch):
    training = floor.Training(1, 1, 8, 60, 6, drawn=60)
    model, language = training.untrained, training.language
    curve = [Point(step, 10.0 * step, 5.0 - step) for step in range(1, 5)]
    fitted = Fit(model, language.train, language.held_out, curve)
    monkeypatch.setattr(floor, "fit", lambda *_: fitted)
    found = floor.run({"training": asdict(training)}, lambda *_: None)
    assert found["loss"] == {"train": 40.0, "held_out": cross_entropy(model, language.held_out)}
    assert found["falling"] == 2.0
