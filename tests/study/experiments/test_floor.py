"""The estimator of the floor tells a plateau of the language from a bound of the theory."""

import numpy as np
import pytest

from hopmin.study.experiments import floor
from hopmin.study.plan import Settings


def records(loss_of, noise=0.005, seed=0):
    """Return records of languages whose held-out loss is this function of their entropy."""
    rng = np.random.default_rng(seed)
    return [
        {
            "nouns": n, "verbs": n, "seed": 0, "parameters": 1000, "entropy": h, "floor": h,
            "loss": {"train": 0.0, "held_out": loss_of(h) + noise * rng.normal()}, "repeated": 1, "scored": 100,
        }
        for n, h in enumerate((0.6, 0.8, 1.0, 1.15, 1.3), 1)
    ]  # fmt: skip


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
    assert by_id(floor.findings(records(lambda h: h)))["novelty"].value == pytest.approx(0.99)


def test_languages_of_a_run_have_different_entropies():
    cells = floor.cells(Settings("quick"))
    entropies = [floor.Training(**{**cell, "drawn": 10, "rows": 10}).language.entropy for cell in cells]
    assert len(entropies) >= 5
    assert np.all(np.diff(entropies) > 0.05)
    assert entropies[0] < 0.7
    assert entropies[-1] > 1.05


def test_a_single_record_has_findings_and_figures():
    one = records(lambda h: h)[:1]
    assert "slope" not in by_id(floor.findings(one))
    assert floor.panels(one)
