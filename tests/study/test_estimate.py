"""Estimates add up what cells take, and count a shared model once."""

import pytest

from hopmin.study.estimate import EXTRA, Speed, measure_speed, seconds
from hopmin.study.plan import Job, Settings, experiments, plan

SPEED = Speed(1e-5, 1e-9)


def test_a_plan_takes_the_sum_of_its_cells():
    jobs = plan(Settings("quick"), ["floor"])
    costs = [experiments()["floor"].cost(job.cell) for job in jobs]
    one = sum(EXTRA + c.tokens * (1e-5 + 1e-9 * c.parameters) for c in costs)
    assert seconds(jobs, SPEED) == pytest.approx(one)
    assert seconds(jobs, SPEED, workers=2) == pytest.approx(one / 2)


def test_many_workers_take_as_long_as_the_longest_cell():
    jobs = plan(Settings("quick"), ["floor"])
    assert seconds(jobs, SPEED, workers=100) == max(seconds([job], SPEED) for job in jobs)


def test_a_shared_model_is_counted_once():
    jobs = plan(Settings("quick"), ["recall"])
    other = Job(jobs[0].experiment, {**jobs[1].cell, "training": {**jobs[1].cell["training"], "seed": 99}})
    assert seconds(jobs[:2], SPEED) < seconds([jobs[0], other], SPEED)


def test_speed_is_measured():
    speed = measure_speed()
    assert 0 < speed.token < 1
    assert 0 <= speed.parameter < 1e-3
