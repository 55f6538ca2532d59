"""Intervals cover what they should, on samples whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin.study.statistics import Estimate, bootstrap, line, proportion


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
    covered = [found.low <= 3 <= found.high for found in (bootstrap(rng.normal(3, 1, 40)) for _ in range(200))]
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
