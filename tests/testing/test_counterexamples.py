"""Every law accepts a correct implementation and rejects wrong ones, most of which occur in public code."""

import mutants
import numpy as np
import pytest
import scipy.special
from hypothesis import Phase
from mutants.energy import Plain, PlainDot, mutant

import hopmin
from hopmin import testing
from hopmin.testing import registry

LAWS = {name: getattr(testing, name) for name in testing.__all__ if name.startswith("law_")}


def brute(x, p, k=1):
    squares = np.square(x[:, None].astype(float) - p).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)).astype(p.dtype), order


def expanded(x, p, k=1):
    """Expand the square and clamp at zero, as popular libraries do."""
    squares = np.maximum(np.square(x).sum(axis=1)[:, None] - 2 * x @ p.T + np.square(p).sum(axis=1), 0)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)), order


def last_of_ties(x, p, k=1):
    distances, order = brute(x, p[::-1], k)
    return distances, len(p) - 1 - order


CORRECT = {
    "law_equal_norms": (Plain, PlainDot),
    "law_nearest": (brute,),
    "law_nearest_accuracy": (brute,),
    "law_memory_layout": (hopmin.nearest,),
    "law_batching": (hopmin.nearest,),
}


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_implementation_passes(name):
    LAWS[name](*CORRECT[name], examples=60)


def overwrite_queries(x, p):
    x[0] = 7.0
    return x


WRONG = {
    "law_equal_norms": {
        "beta not halved": (mutant(value=lambda s, x, p: Plain(2 * s.beta).value(x, p)), PlainDot),
        "log n missing": (Plain, mutant(PlainDot, value=lambda s, x, p: PlainDot.value(s, x, p) - np.log(len(p)) / s.beta)),
    },
    "law_nearest": {
        "the last of ties": (last_of_ties,),
        "the farthest": (lambda x, p, k: brute(-x, p, k),),
        "squared": (lambda x, p, k: (brute(x, p, k)[0] ** 2, brute(x, p, k)[1]),),
        "the square expanded": (expanded,),
        "always one neighbour": (lambda x, p, k: tuple(a[:, :1] for a in brute(x, p, k)),),
    },
    "law_nearest_accuracy": {
        "the square expanded": (expanded,),
        "unsorted": (lambda x, p, k: tuple(a[:, ::-1] for a in brute(x, p, k)),),
        "an index twice": (lambda x, p, k: (brute(x, p, k)[0], np.zeros((len(x), k), int)),),
    },
    "law_memory_layout": {
        "changes its input": (overwrite_queries,),
        "reads memory in storage order": (lambda x, p: np.asarray(x).ravel(order="K").copy(),),
    },
    "law_batching": {
        "normalises over the batch": (lambda x, p: np.asarray(x) - np.mean(x, axis=0),),
    },
}  # fmt: skip


def test_every_law_has_wrong_implementations():
    """Of those of no family, and of the families that have mutants, except for laws of equal bits."""
    modules = mutants.modules()
    rejecting = {each.law for module in modules.values() for each in module.MUTANTS.values()}
    judged = {name for name, law in LAWS.items() if not law.families or set(law.families) & set(modules)}
    judged -= {name for name, law in LAWS.items() if "bits" in law.promises}
    assert judged - set(WRONG) - rejecting == set()


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in WRONG for what in WRONG[name]])
def test_a_wrong_implementation_is_rejected(name, what, monkeypatch):
    found = registry.SETTINGS | {"phases": [Phase.generate], "database": None}  # the failure suffices, so examples are not shrunk
    monkeypatch.setattr(registry, "SETTINGS", found)
    with np.errstate(all="ignore"), pytest.raises((AssertionError, ValueError, IndexError)):
        LAWS[name](*WRONG[name][what], examples=300)


def test_a_statement_checks_a_single_instance():
    problem = testing.Problem(np.array([[0.5]]), np.array([[0.0], [1.0]]), 1.0)
    testing.law_descent.statement(hopmin.DistanceEnergy, problem)
    with pytest.raises(AssertionError, match="guaranteed decrease"):
        testing.law_descent.statement(
            mutant(guaranteed_decrease=lambda s, x, y: 1.0 + Plain.guaranteed_decrease(s, x, y)), problem
        )
