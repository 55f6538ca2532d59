"""Intervals: of proportions [`proportion`, `share`], means [`mean`, `over_models`], lines [`line`], any [`bootstrap`].

All intervals are two-sided and have 95% coverage, for observations that are independent. Rows that one model has seen
are not independent observations of models: where a conclusion is about models, the unit is a model or a seed. A
bootstrap of few observations is too narrow (of three, it covers the mean in at most 75% of cases), so means of few
models have Student's t intervals. Randomness is seeded: the same sample has the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin._extras import needed_by

with needed_by("hopmin.study.statistics", "study"):
    import scipy  # imports its modules when they are used

CONFIDENCE = 0.95
RESAMPLES = 1000


class Estimate(NamedTuple):
    """A value and its interval; `low` and `high` are None if a single observation gives none."""

    value: float
    low: float | None
    high: float | None
    n: int

    def side(self, of: float) -> int:
        """Return 1 if the interval is above a number, -1 if it is below, and 0 if it does not decide.

        >>> estimate = Estimate(3.0, 2.0, 4.0, 9)
        >>> estimate.side(1.0), estimate.side(2.5), estimate.side(5.0), Estimate(3.0, None, None, 1).side(1.0)
        (1, 0, -1, 0)
        """
        if self.low is None or self.high is None:
            return 0
        return (self.low > of) - (self.high < of)

    def __str__(self) -> str:
        value = _number(self.value)
        return (
            value if self.low is None or self.high is None else f"{value} ({_number(self.low)} to {_number(self.high)})"
        )


def _number(value: float) -> str:
    """Return a number with three digits, or without decimals if it is large.

    >>> _number(0.12345), _number(1234.5), _number(999.6), _number(-4.0)
    ('0.123', '1,234', '1,000', '-4')
    """
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def proportion(successes: int, trials: int) -> Estimate:
    """Return a proportion and its exact binomial interval (Clopper & Pearson 1934).

    >>> proportion(0, 100)
    Estimate(value=0.0, low=0.0, high=0.0362, n=100)
    """
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(CONFIDENCE)
    return Estimate(successes / trials, round(float(interval.low), 4), round(float(interval.high), 4), trials)


def mean(sample: ArrayLike) -> Estimate:
    """Return the mean of a sample of independent observations (n,) and its Student's t interval.

    >>> print(mean([1.0, 2.0, 3.0]), mean([4.0]))
    2 (-0.484 to 4.48) 4
    """
    values = np.asarray(sample, float)
    if len(values) < 2 or np.ptp(values) == 0:  # equal values do not tell how far others would differ
        return Estimate(float(values.mean()), None, None, len(values))
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * float(scipy.stats.sem(values))
    value = float(values.mean())
    return Estimate(value, value - reach, value + reach, len(values))


def over_models(records: Sequence[Mapping[str, Any]], measure: Callable[[Any], float]) -> Estimate:
    """Return the mean of a measure over models that were trained independently, and its interval.

    Models of one seed saw the same batches, so with several seeds the mean of each seed is one observation. With one
    seed, every record is one, and the interval is for models of such sizes rather than for seeds.

    >>> records = [{"seed": seed, "loss": loss} for seed, loss in ((0, 1.0), (0, 3.0), (1, 2.0), (1, 4.0))]
    >>> over_models(records, lambda r: r["loss"]).n, over_models(records[:2], lambda r: r["loss"]).n
    (2, 2)
    """
    seeds = sorted({r["seed"] for r in records})
    if len(seeds) == 1:
        return mean([measure(r) for r in records])
    return mean([float(np.mean([measure(r) for r in records if r["seed"] == seed])) for seed in seeds])


def share(counts: Sequence[tuple[int, int, int]]) -> Estimate:
    """Return the mean of the shares that several models reach, and its interval.

    Parameters
    ----------
    counts : sequence of (int, int, int)
        For each model: successes, trials, and how many independent units the trials come from.

    Returns
    -------
    Estimate
        With several models, a Student's t interval over them, within 0 and 1. With one model, or if all have the same
        share, an exact binomial interval for the units of one model.

    Examples
    --------
    >>> print(share([(30, 60, 20)]))
    0.5 (0.272 to 0.728)
    >>> print(share([(0, 60, 20), (0, 60, 20)]))
    0 (0 to 0.168)
    """
    shares = np.array([hits / trials for hits, trials, _ in counts])
    value = float(shares.mean())
    if np.ptp(shares) > 0:
        found = mean(shares)
        return found._replace(low=max(0.0, found.low or 0.0), high=min(1.0, found.high or 0.0))
    units = min(units for *_, units in counts)
    return proportion(round(value * units), units)._replace(value=value, n=len(counts) if len(counts) > 1 else units)


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
    1.98 (1.8 to 2.16) 1.03 (0.688 to 1.37)
    """
    fit, n = scipy.stats.linregress(x, y), len(np.asarray(x))
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 2)) if n > 2 else None

    def estimate(value: float, error: float) -> Estimate:
        if reach is None:
            return Estimate(value, None, None, n)
        return Estimate(value, value - reach * error, value + reach * error, n)

    return (
        estimate(float(fit.slope), float(fit.stderr)),
        estimate(float(fit.intercept), float(fit.intercept_stderr)),
    )
