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


def record(memory, falls_at, seed=0, d=20, kind="energy"):
    """Return a record in which all patterns are recovered up to a number, and none beyond."""
    rows = [[2**i, 10, 10 if 2**i <= falls_at else 0] for i in range(1, 9)]
    return {"kind": kind, "memory": memory, "d": d, "seed": seed, "recovered": rows}


def test_findings_are_the_numbers_at_which_half_is_recovered():
    records = [record(name, n, seed) for name, n in (("Hopfield", 4), ("cubes", 16), ("exponential", 64), ("nearest", 128))
               for seed in range(2)]  # fmt: skip
    found = {f.id: f for f in capacity.findings(records)}
    assert found["Hopfield"].value == pytest.approx(4 * math.sqrt(2))
    assert found["exponential"].value == pytest.approx(64 * math.sqrt(2))
    assert next(iter(found)) == "answer"
    assert "6 stored in Hopfield's energy, 23 with cubes and 91 with the exponential" in found["answer"].text


def test_a_memory_that_never_fails_has_a_lower_bound():
    found = {f.id: f for f in capacity.findings([record("dot", 256), record("dot", 64, seed=1)])}
    assert "up to 256 stored, the most tried" in found["dot"].text


def test_the_linear_memory_is_measured_in_its_load():
    found = capacity.findings([record("linear", 32, kind="linear")])[0]
    at = 32 * math.sqrt(2)
    assert found.value == pytest.approx(at * math.log(at) / 20**2)


def test_theory_is_for_each_energy_its_own():
    d = 20
    assert capacity.predicted("Hopfield", d)[0] == pytest.approx(d / (2 * math.log(d)))
    assert capacity.predicted("cubes", d)[0] == pytest.approx(d**2 / (6 * math.log(d)))
    assert capacity.predicted("exponential", d)[0] == pytest.approx(math.exp(0.1840 * d), rel=0.01)
    assert capacity.predicted("dot", d) is None


def test_a_single_pattern_pair_is_recovered_from_flipped_bits():
    """Two patterns of 100 signs differ in about half of them: a tenth of flipped bits does no harm, but is there."""
    cell = {"kind": "energy", "memory": "nearest", "d": 100, "seed": 0, "patterns": 1}
    assert capacity.run(cell, lambda *_: None)["recovered"] == [[2, 100, 100]]
    kept = {**cell, "memory": "Epanechnikov"}  # reaches 4 bits, and 10 are flipped
    assert capacity.run(kept, lambda *_: None)["recovered"] == [[2, 100, 0]]


def test_a_record_has_a_row_for_each_load():
    cell = {"kind": "linear", "memory": "linear", "d": 16, "seed": 0, "patterns": 1}
    found = capacity.run(cell, lambda *_: None)["recovered"]
    assert [n for n, _, _ in found] == [capacity._pairs(load, 16) for load in capacity.LOADS]
    assert found[0][2] > 0.9 * found[0][1]


def test_a_tenth_of_the_bits_of_a_query_is_flipped(monkeypatch):
    flipped = []

    def ends(memory, queries, patterns):
        flipped.extend((queries != patterns[capacity.nearest(queries, patterns)[1][:, 0]]).sum(axis=1))
        return queries

    monkeypatch.setattr(capacity, "_ends", ends)
    found = capacity._energy({"patterns": 1, "seed": 0, "d": 60, "memory": "distance"}, lambda *_: None)
    assert set(flipped) == {6}
    assert found == [[2, 100, 0]]


def test_pairs_beyond_the_first_thousand_are_told_apart(monkeypatch):
    monkeypatch.setattr(capacity, "LOADS", (0.1,))
    [[pairs, tries, right]] = capacity._linear({"seed": 0, "d": 300}, lambda *_: None)
    assert tries == pairs > 1200
    assert right > 0.99 * pairs


def test_queries_of_one_pattern_are_one_observation(monkeypatch):
    drawn = {}
    monkeypatch.setattr(capacity.charts, "points", lambda *_, **options: drawn.update(options))
    capacity._draw(None, [{"memory": "dot", "d": 8, "recovered": [[2, 100, 100]]}], "dot", 8, 0, "dot")
    assert drawn["low"] == [capacity.share([(2, 2, 2)]).low]
