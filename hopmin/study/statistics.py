"""Intervals: of a proportion [`proportion`], of a mean or another statistic [`bootstrap`], of a line [`line`].

All intervals are two-sided and have 95% coverage. Randomness is seeded: the same sample has the same interval.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value and its interval; `low` and `high` are None if a single observation gives none."""

    value: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g}" if self.low is None else f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def proportion(successes: int, trials: int) -> Estimate:
    """Return a proportion and its exact binomial interval (Clopper & Pearson 1934).

    >>> proportion(0, 100)
    Estimate(value=0.0, low=0.0, high=0.0362, n=100)
    """
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE)
    return Estimate(successes / trials, round(float(interval.low), 4), round(float(interval.high), 4), trials)


def bootstrap(
    sample: ArrayLike, statistic: Callable[[Any], float] = lambda rows: float(np.mean(rows)), *, seed: int = 0
) -> Estimate:
    """Return a statistic of a sample and its percentile interval over resamples of the rows with replacement.

    Parameters
    ----------
    sample : array_like, shape (n, ...)
        The observations, which must be independent.
    statistic : callable
        A function of such an array; by default the mean.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Estimate
        Resamples on which the statistic is not finite are left out; without a second observation there is no interval.
    """
    rows = np.asarray(sample)
    value = float(statistic(rows))
    if len(rows) < 2:
        return Estimate(value, None, None, len(rows))
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(RESAMPLES)])
    low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high), len(rows))


def line(x: ArrayLike, y: ArrayLike) -> tuple[Estimate, Estimate]:
    """Return the slope and the intercept of the least squares line, with Student's t intervals.

    The intervals assume independent errors of equal size; with fewer than three points there are none.

    >>> slope, intercept = line([0, 1, 2, 3], [1.0, 3.1, 4.9, 7.0])
    >>> print(slope, intercept)
    1.98 (1.84 to 2.12) 1.03 (0.77 to 1.29)
    """
    fit, n = stats.linregress(x, y), len(np.asarray(x))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 2)) if n > 2 else None

    def estimate(value: float, error: float) -> Estimate:
        value = float(value)
        return Estimate(value, *((None, None) if reach is None else (value - reach * error, value + reach * error)), n)

    return estimate(fit.slope, float(fit.stderr)), estimate(fit.intercept, float(fit.intercept_stderr))
