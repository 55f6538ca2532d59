"""All laws: each has a statement, wrong implementations, and can check a single instance; and laws of no family."""

import mutants
import numpy as np
import pytest
from mutants.energy import Plain, PlainDot, mutant

import hopmin
from hopmin import testing
from hopmin.testing import registry

WRONG = {
    "law_equal_norms": {
        "beta not halved": (mutant(value=lambda s, x, p: Plain(2 * s.beta).value(x, p)), PlainDot),
        "log n missing": (Plain, mutant(PlainDot, value=lambda s, x, p: PlainDot.value(s, x, p) - np.log(len(p)) / s.beta)),
    },
}  # fmt: skip


def test_energies_agree_for_patterns_of_equal_norm(backend):
    testing.law_equal_norms(Plain, PlainDot)
    testing.law_equal_norms(hopmin.DistanceEnergy, hopmin.DotEnergy)
    testing.law_equal_norms(hopmin.DistanceEnergy, lambda beta: hopmin.SparseEnergy(1, beta))


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in WRONG for what in WRONG[name]])
def test_a_wrong_implementation_is_rejected(name, what):
    assert isinstance(registry.LAWS[name].examine(*WRONG[name][what], shrink=False).error, testing.Violation)


def test_every_law_states_what_it_judges():
    for name, law in registry.LAWS.items():
        assert law.__doc__, name


def test_every_law_has_wrong_implementations():
    rejecting = {each.law for module in mutants.modules().values() for each in module.MUTANTS.values()}
    ours = {name for name, law in registry.LAWS.items() if law.statement.__module__.startswith("hopmin.")}
    assert ours - set(WRONG) - rejecting == set()


def test_a_statement_checks_a_single_instance():
    problem = testing.Problem(np.array([[0.5]]), np.array([[0.0], [1.0]]), 1.0)
    testing.law_descent.statement(hopmin.DistanceEnergy, problem)
    wrong = mutant(guaranteed_decrease=lambda s, x, y: 1.0 + Plain.guaranteed_decrease(s, x, y))
    with pytest.raises(AssertionError, match="guaranteed decrease"):
        testing.law_descent.statement(wrong, problem)
