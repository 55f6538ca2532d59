"""The estimator of the exponent finds planted ones, and tells them apart."""

import math

import numpy as np
import pytest

from hopmin.study.experiments import grid
from hopmin.study.plan import Settings


@pytest.mark.parametrize("power", [1, 1.5, 2, 3])
def test_planted_exponents_are_recovered(power):
    found = [grid.exponent(grid.data_needed(grid.planted(power, seed=seed, noise=0.02))) for seed in range(10)]
    assert np.median([e.value for e in found]) == pytest.approx(power, rel=0.03)
    assert all(abs(e.value / power - 1) < 0.1 for e in found)
    covered = [e.low <= power <= e.high for e in found]
    assert np.mean(covered) >= 0.6
    others = {1, 1.5, 2, 3} - {power}
    assert not any(e.low <= other <= e.high for e in found for other in others)


def test_amounts_are_interpolated_where_the_gap_passes_sigma():
    amounts = np.array([100.0, 200.0, 400.0, 800.0])
    assert grid.smallest_data(amounts, np.array([1.0, 0.4, 0.2 - 1e-12, 0.1])) == pytest.approx(400)
    assert grid.smallest_data(amounts, np.array([1.0, 0.1, 0.3, 0.1])) == pytest.approx(math.sqrt(400 * 800))
    assert math.isnan(grid.smallest_data(amounts, np.array([1.0, 0.5, 0.4, 0.3])))
    assert math.isnan(grid.smallest_data(amounts, np.array([0.1, 0.1, 0.1, 0.1])))


def test_the_gap_is_taken_at_the_best_held_out_loss():
    assert grid.gap({"curve": [[1, 2.0, 2.5], [2, 1.5, 2.0], [3, 0.5, 3.0]]}) == 0.5


def test_too_few_models_have_no_exponent():
    assert grid.exponent([]) is None
    assert grid.exponent([({"parameters": 10}, 100.0), ({"parameters": 10}, 120.0)]) is None
    assert grid.exponent([({"parameters": 10}, 100.0), ({"parameters": 20}, math.nan)]) is None


def test_the_form_of_chinchilla_is_fitted():
    truth = (1.0, 40.0, 30.0, 0.5, 0.4)
    records = [
        {
            "parameters": N,
            "tokens": D,
            "curve": [[1, 0.0, truth[0] + truth[1] / N ** truth[3] + truth[2] / D ** truth[4]]],
        }
        for N in (1e3, 4e3, 16e3, 64e3)
        for D in (1e3, 1e4, 1e5, 1e6)
    ]
    fitted, (low, high) = grid.chinchilla(records)
    assert fitted == pytest.approx(truth, rel=0.05)
    assert np.all(low <= fitted * 1.01)
    assert np.all(high >= fitted * 0.99)
    assert grid.chinchilla(records[:5]) is None


def needed(*pairs, layers=2, seed=0):
    return [({"parameters": n, "layers": layers, "width": 8, "seed": seed}, d) for n, d in pairs]


def test_seeds_are_averaged_before_the_line_is_fitted():
    """D* of each size is the geometric mean of its seeds, and more seeds are no more models."""
    first, second = (50.0, 200.0, 400.0), (200.0, 800.0, 6400.0)
    seeds = [
        pair
        for seed, d in enumerate((first, second))
        for pair in needed(*zip((10, 100, 1000), d, strict=True), seed=seed)
    ]
    means = needed((10, 100.0), (100, 400.0), (1000, 1600.0))
    assert grid.growth(seeds).value == pytest.approx(grid.growth(means).value) == pytest.approx(math.log10(4))
    assert grid.growth(seeds).n == 3


@pytest.mark.parametrize(
    ("amounts", "verdict"),
    [
        ((100.0, 316.0, 1000.0, 3150.0), "The paper's exponent of 2 cannot be excluded"),
        ((100.0, 1000.0, 10_010.0, 100_000.0), "The exponent differs from the paper's 2"),
        ((100.0, 300.0, 50.0, 200.0), "These models do not determine the exponent"),
        ((100.0, 300.0), "Two sizes give an exponent without an interval"),
    ],
)
def test_verdicts_follow_the_interval(amounts, verdict):
    found = grid._exponent_finding(needed(*((10 ** (i + 1), d) for i, d in enumerate(amounts))))
    assert found.text.startswith(verdict)


def test_models_that_never_agree_are_counted():
    found = grid._exponent_finding(needed((10, 100.0), (100, math.nan)))
    assert found.value is None
    assert "1 of 2 models" in found.text


def test_models_alike_in_a_trait_are_told_from_others():
    models = [*needed((10, 1.0), (20, 1.0)), *needed((30, 1.0), layers=4)]
    assert grid.alike(models, lambda r: r["layers"]) == models[:2]


def run_record(parameters, used, train, held_out):
    return {"parameters": parameters, "used": used, "seed": 0, "extracted": {"train": train, "held_out": held_out},
            "scored": {"train": 10, "held_out": 10}}  # fmt: skip


def test_extraction_is_that_of_the_largest_model():
    records = [run_record(1, 5, 1, 1), run_record(2, 5, 10, 2), run_record(2, 50, 6, 5), run_record(1, 50, 0, 0)]
    fewest, most = grid._extraction_finding(records)
    assert fewest.value == pytest.approx(0.8)
    assert most.value == pytest.approx(0.1)


def test_a_run_counts_completed_rows_of_both_splits():
    cell = grid.cells(Settings("smoke"))[0]
    found = grid.run(cell, lambda *_: None)
    model, train, held_out, curve = grid.fit(grid.Training(**cell["training"]))
    assert found["used"] == len(train) == 20
    assert found["tokens"] == (train[:, 1:] >= 0).sum()
    assert found["scored"] == {"train": 20, "held_out": 20}
    assert found["loss"]["held_out"] == grid.cross_entropy(model, held_out)
    assert found["parameters"] == model.config.parameter_count - model.parameters["tokens"].size
    assert [tuple(point) for point in found["curve"]] == curve
