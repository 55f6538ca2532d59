"""How long a study will take on this machine: a short timing [`measure_speed`], and the time of a plan [`seconds`]."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hopmin.study.plan import Cost, Job, experiments
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import Trainer

EXTRA = 0.5  # seconds that a cell takes besides its training, such as making its corpus


class Speed(NamedTuple):
    """Seconds per token of training: a constant, and a part for each parameter."""

    token: float
    parameter: float


def measure_speed() -> Speed:
    """Time a few training steps of a small and a larger model, for about a second; the faster ones count."""
    rows = np.random.default_rng(0).integers(69, size=(16, 22))
    timed = []
    for width in (16, 96):
        model = GPT(GPTConfig(69, 21, layers=2, heads=2, width=width), rng=0)
        trainer = Trainer(model, steps=100, micro_batches=1, batch_size=16)
        trainer.step(rows[:, :-1], rows[:, 1:])
        steps, end = [], time.perf_counter() + 0.4
        while (began := time.perf_counter()) < end:
            trainer.step(rows[:, :-1], rows[:, 1:])
            steps.append(time.perf_counter() - began)
        timed.append(float(np.quantile(steps, 0.25)) / rows[:, 1:].size)
    small, large = (12 * 2 * width**2 for width in (16, 96))
    slope = max(0.0, (timed[1] - timed[0]) / (large - small))
    return Speed(max(1e-9, timed[0] - slope * small), slope)


def seconds(jobs: Sequence[Job], speed: Speed, *, workers: int = 1) -> float:
    """Return the time that the jobs will take, with this many processes.

    A model that several cells describe is trained once.

    Parameters
    ----------
    jobs : sequence of Job
    speed : Speed
        What `measure_speed` returned.
    workers : int
        Number of processes.

    Returns
    -------
    float
        The time in seconds, at least that of the longest cell.
    """
    seen: set[str] = set()
    total = longest = 0.0
    for job in jobs:
        cost: Cost = experiments()[job.experiment].cost(job.cell)
        training = json.dumps(job.cell.get("training"), sort_keys=True) if cost.tokens else "null"
        tokens = 0 if training in seen else cost.tokens
        seen |= {training} - {"null"}
        cell = EXTRA + cost.seconds + tokens * (speed.token + speed.parameter * cost.parameters)
        total, longest = total + cell, max(longest, cell)
    return max(total / workers, longest)
