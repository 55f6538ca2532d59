"""The estimator of the exponent finds planted ones, and tells them apart."""

import math

import numpy as np
import pytest

from hopmin.study.experiments import grid


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
