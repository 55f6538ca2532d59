"""The evidence for every claim agrees with its verdict; the command and the chapter show the same table."""

import json
from pathlib import Path

import numpy as np
import pytest

from hopmin import DistanceEnergy, DotEnergy, cli, nearest
from hopmin.paper.claims import CLAIMS, CONDITION, FAILS, HOLDS, claim, examine
from hopmin.paper.properties import Outcome


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row.id)
def test_verdict_agrees_with_the_evidence(row):
    found = examine(row, cases=100, seed=1)
    assert found.printed.cases == 100
    if row.verdict == HOLDS:
        assert found.printed.fails == 0, found.printed.example
        assert found.corrected is None
    else:
        assert row.verdict in (CONDITION, FAILS)
        assert found.printed.fails > 0
        assert found.printed.example
        assert found.corrected.fails == 0, found.corrected.example
        assert row.condition


def test_every_lemma_and_proposition_is_listed_once():
    ids = [row.id for row in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {"L1", "L2", "L3", "L4", "L5", "P1", "P2", "P3", "P4", "P5"} <= set(ids)
    for equation in ("E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "E12", "E14"):
        assert equation in ids
    assert all(row.statement and row.where for row in CLAIMS)


def test_instances_depend_on_the_seed_only():
    first, again, other = (examine(claim("P3"), cases=30, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("name", ["P1", "P2", "E4", "E8"])
def test_wrong_statements_fail(name):
    """Statements that hold, with a constant changed."""
    row = claim(name)
    wrong = row.check._replace(statement=WRONG[name])
    assert examine(row._replace(check=wrong), cases=100).printed.fails > 0


def _above_the_distance(x, p):
    return Outcome(float(DistanceEnergy().value(x, p) - nearest(x, p)[0][0] ** 2), 1e-10)


def _equal_without_the_shift(x, p):
    return Outcome(-abs(float(DistanceEnergy().value(x, p) - 2 * DotEnergy(2.0).value(x, p))), 1e-10)


def _descends_by_twice_the_square(x, p):
    y = DistanceEnergy().update(x, p)
    decrease = DistanceEnergy().value(x, p) - DistanceEnergy().value(y, p)
    return Outcome(float(decrease - 2 * np.square(x - y).sum()), 1e-10)


def _no_more_than_a_tenth_below(x, memory):
    return Outcome(float(memory.global_energy(x) - memory.layer_energies(x).min() + 0.1), 1e-10)


WRONG = {
    "P1": _above_the_distance,
    "P2": _equal_without_the_shift,
    "E4": _descends_by_twice_the_square,
    "E8": _no_more_than_a_tenth_below,
}


def test_unknown_claims_are_refused():
    with pytest.raises(ValueError, match=r"^id must be one of 'L1', 'L2'"):
        claim("P6")
    with pytest.raises(ValueError, match="cases must be an integer >= 1; got 0"):
        examine(claim("P1"), cases=0)


def test_the_command_prints_every_claim(capsys):
    assert cli.main(["claims", "--cases", "5"]) == 0
    text = capsys.readouterr().out
    for row in CLAIMS:
        assert f"\n{row.id} " in text
    assert "none of 5 instances fail" in text


def test_the_command_prints_json(capsys):
    assert cli.main(["claims", "--cases", "5", "--seed", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["cases"], record["seed"]) == (5, 3)
    assert [row["id"] for row in record["claims"]] == [row.id for row in CLAIMS]
    p3 = next(row for row in record["claims"] if row["id"] == "P3")
    assert set(p3) == {"id", "where", "statement", "verdict", "condition", "printed", "corrected"}
    assert p3["corrected"]["fails"] == 0
    assert record["claims"][0]["corrected"] is None


def test_the_command_reports_invalid_arguments(capsys):
    assert cli.main(["claims", "--cases", "0"]) == 2
    assert capsys.readouterr().err == "hopmin: cases must be an integer >= 1; got 0\n"


def test_the_chapter_shows_the_same_table():
    chapter = (Path(__file__).resolve().parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
    for row in CLAIMS:
        cells = (row.id, row.where, row.statement, row.verdict, row.condition)
        line = " | ".join(cell.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;") for cell in cells)
        assert f"| {line} |" in chapter, row.id
