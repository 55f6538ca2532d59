"""Capacities where they are known: below the nearest pattern, exact for orthogonal keys, and ordered as in theory."""

import math

import pytest

from hopmin.study.experiments import capacity
from hopmin.study.plan import Settings


@pytest.fixture(scope="module")
def records():
    found = []
    for cell in capacity.cells(Settings("quick", seed=3)):
        if cell["seed"] == 3 and cell["memory"] in ("Hopfield", "cubes", "exponential", "nearest", "linear"):
            cell = {**cell, "patterns": 8, "d": 24} if cell["kind"] == "energy" else cell
            if cell["d"] <= 32:
                found.append({**cell, **capacity.run(cell, lambda *_: None)})
    return found


def shares(records, memory):
    return next([right / tries for _, tries, right in r["recovered"]] for r in records if r["memory"] == memory)


def test_no_memory_recovers_more_than_the_nearest_pattern(records):
    for memory in ("Hopfield", "cubes", "exponential"):
        assert all(a <= b + 1e-9 for a, b in zip(shares(records, memory), shares(records, "nearest"), strict=True))


def test_steeper_energies_hold_more(records):
    at = {name: sum(shares(records, name)) for name in ("Hopfield", "cubes", "exponential")}
    assert at["Hopfield"] < at["cubes"] < at["exponential"]


def test_the_linear_memory_fails_around_one_half(records):
    linear = next(r for r in records if r["memory"] == "linear")
    at = capacity.half([(n, right / tries) for n, tries, right in linear["recovered"]])
    assert at * math.log(at) / linear["d"] ** 2 == pytest.approx(0.55, abs=0.12)


@pytest.mark.parametrize("load", [0.1, 0.5, 1.3])
@pytest.mark.parametrize("d", [16, 64, 256])
def test_pairs_have_the_load_asked_for(load, d):
    p = capacity._pairs(load, d)
    assert p * math.log(p) / d**2 == pytest.approx(load, rel=0.1)


def test_half_is_interpolated_or_unknown():
    assert capacity.half([(1, 1.0), (100, 0.75), (10_000, 0.25)]) == pytest.approx(1000)
    assert math.isnan(capacity.half([(1, 1.0), (2, 0.9)]))
    assert math.isnan(capacity.half([(1, 0.1), (2, 0.0)]))
