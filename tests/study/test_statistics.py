"""Intervals cover what they should, on samples whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin.study.statistics import Estimate, bootstrap, line, mean, over_models, proportion, share


def tail(successes, trials, p):
    """Return the probability of at least this many successes."""
    return sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes, trials + 1))


@given(trials=st.integers(1, 60), data=st.data())
def test_binomial_intervals_are_exact(trials, data):
    successes = data.draw(st.integers(0, trials))
    found = proportion(successes, trials)
    assert found.value == successes / trials
    assert found.n == trials
    assert found.low <= found.value <= found.high
    if successes:
        assert tail(successes, trials, found.low) == pytest.approx(0.025, abs=0.002)
    if successes < trials:
        assert 1 - tail(successes + 1, trials, found.high) == pytest.approx(0.025, abs=0.002)


def test_bootstrap_intervals_cover_the_mean():
    rng = np.random.default_rng(0)
    covered = [found.low <= 3 <= found.high for found in (bootstrap(rng.normal(3, 1, 40)) for _ in range(100))]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_bootstrap_is_reproducible_and_needs_two_observations():
    sample = np.random.default_rng(1).normal(size=10)
    assert bootstrap(sample) == bootstrap(sample)
    assert bootstrap([2.0]) == Estimate(2.0, None, None, 1)


def test_bootstrap_resamples_whole_rows():
    rows = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0], [3.0, 7.0]])
    found = bootstrap(rows, lambda rows: float(np.polyfit(*rows.T, 1)[0]) if np.ptp(rows[:, 0]) else math.nan)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


def test_line_intervals_cover_the_truth():
    rng, x = np.random.default_rng(2), np.linspace(0, 1, 12)
    covered = [
        s.low <= 2 <= s.high and i.low <= -1 <= i.high
        for s, i in (line(x, 2 * x - 1 + 0.1 * rng.normal(size=12)) for _ in range(200))
    ]
    assert np.mean(covered) > 0.85
    assert line([0, 1], [0, 1])[0].low is None


def test_estimates_print_as_a_value_and_an_interval():
    assert str(Estimate(0.12345, 0.1, 0.2, 5)) == "0.123 (0.1 to 0.2)"
    assert str(Estimate(2.0, None, None, 1)) == "2"


def test_means_of_few_observations_are_covered():
    """A bootstrap of three observations covers the mean in at most 75% of cases; Student's t in 95."""
    rng = np.random.default_rng(3)
    covered = [found.low <= 3 <= found.high for found in (mean(rng.normal(3, 1, 3)) for _ in range(400))]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_equal_observations_have_no_interval():
    assert mean([1.0, 1.0, 1.0]) == Estimate(1.0, None, None, 3)


def test_models_of_one_seed_are_one_observation():
    records = [{"seed": seed, "x": 10 * seed + model} for seed in range(3) for model in range(4)]
    assert over_models(records, lambda r: r["x"]) == mean([1.5, 11.5, 21.5])
    assert over_models(records[:4], lambda r: r["x"]) == mean([0, 1, 2, 3])


def test_shares_of_one_model_are_binomial_in_its_units():
    found = share([(30, 60, 20)])
    assert (found.value, found.low, found.high, found.n) == (0.5, *proportion(10, 20)[1:3], 20)


def test_shares_of_several_models_stay_between_0_and_1():
    found = share([(99, 100, 100), (70, 100, 100), (100, 100, 100)])
    assert found.value == pytest.approx(0.897, abs=0.001)
    assert found.high == 1.0
    assert found.low == pytest.approx(mean([0.99, 0.7, 1.0]).low)
    assert found.n == 3


@pytest.mark.parametrize(("low", "high", "side"), [(1, 2, 1), (-2, -1, -1), (-1, 1, 0), (None, None, 0)])
def test_an_interval_is_on_a_side_if_all_of_it_is(low, high, side):
    assert Estimate(0.0, low, high, 3).side(0) == side
