"""Every listed mutant is rejected by the law it names, and no right implementation by any, whatever the seed."""

import mutants
import pytest
import tables

from hopmin.testing.conformance import Bench, conformance
from hopmin.testing.registry import FAMILIES

MODULES = mutants.modules()
RIGHT = [(family, name) for family, module in MODULES.items() for name in getattr(module, "RIGHT", {})]
MUTANTS = [(family, name) for family, module in MODULES.items() for name in module.MUTANTS]
EACH_MUTANT = pytest.mark.parametrize(("family", "name"), MUTANTS, ids=map("-".join, MUTANTS))
EACH_RIGHT = pytest.mark.parametrize(("family", "name"), RIGHT, ids=map("-".join, RIGHT))
OURS = [(family, name) for family, name in RIGHT if name.startswith("hopmin")]
OTHERS = [pair for pair in RIGHT if pair not in OURS]
EQUAL_TO_ROUNDING = ("energy", "retrieval")  # on the NumPy twin, which sums a batch in another order than its rows


def check_that_it_is_killed(family, name, seeds):
    mutant = MODULES[family].MUTANTS[name]
    (law,) = (law for law in FAMILIES[family].laws if law.__name__ == mutant.law)
    bench = Bench(mutant.implementation, family, promises=law.promises, dtype=mutant.dtype)
    for seed in seeds:
        row = bench.judge(law, seed, shrink=False)
        assert row.status == "failed", f"{mutant.law} with seed {seed}: {row.status} {row.reason}"


def check_that_it_passes(family, name, seeds, examples, without=()):
    module = MODULES[family]
    promised = getattr(module, "PROMISES", {}).get(name, ())
    options = {
        "promises": [promise for promise in promised if promise not in without],
        "expected_failures": getattr(module, "FAILS", {}).get(name, ()),
    }
    for seed in seeds:
        report = conformance(module.RIGHT[name], family, examples=examples, seed=seed, **options)
        report.raise_if_failed()
        assert any(row.status == "passed" for row in report.rows)


@EACH_MUTANT
def test_a_mutant_is_killed(family, name):
    check_that_it_is_killed(family, name, seeds=[0])


@pytest.mark.slow
@EACH_MUTANT
def test_a_mutant_is_killed_by_every_seed(family, name):
    check_that_it_is_killed(family, name, seeds=range(1, 21))


@pytest.mark.parametrize(("family", "name"), OTHERS, ids=map("-".join, OTHERS))
def test_a_right_implementation_passes(family, name):
    check_that_it_passes(family, name, seeds=[0], examples=5)


@pytest.mark.parametrize(("family", "name"), OURS, ids=map("-".join, OURS))
def test_hopmin_passes_on_each_backend(family, name, backend):
    bits = ("bits",) if backend == "numpy" and family in EQUAL_TO_ROUNDING else ()
    check_that_it_passes(family, name, seeds=[1], examples=5, without=bits)


@pytest.mark.slow
@EACH_RIGHT
def test_a_right_implementation_passes_for_every_seed(family, name):
    check_that_it_passes(family, name, seeds=range(1, 51), examples=100)


def test_mutants_have_an_origin_and_a_law_of_their_family():
    for family, name in MUTANTS:
        mutant = MODULES[family].MUTANTS[name]
        assert mutant.origin, name
        assert mutant.law in {law.__name__ for law in FAMILIES[family].laws}, (family, name)


def test_the_page_of_mutants_is_fresh():
    """Otherwise: python tests/testing/tables.py."""
    assert tables.MUTANTS.read_text(encoding="utf-8") == tables.mutants_page()
