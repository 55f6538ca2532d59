"""Retrieval and memories as a reader writes them get readable reports; hopmin's conform on both backends."""

from types import SimpleNamespace

import numpy as np
import ours_memory
import pytest
from hypothesis import given

from hopmin import testing
from hopmin.testing import conformance
from hopmin.testing.conformance import Bench
from hopmin.testing.laws import memories


def retrieve(queries, patterns, beta, *, tolerance, max_steps):
    states, steps, reason = queries.copy(), np.zeros(len(queries), int), ["max_steps"] * len(queries)
    for i in range(len(queries)):
        for steps[i] in range(1, max_steps + 1):
            before, scores = states[i].copy(), beta * patterns @ states[i]
            weights = np.exp(scores - scores.max())
            states[i] = weights @ patterns / weights.sum()
            if np.linalg.norm(states[i] - before) <= tolerance:
                reason[i] = "converged"
                break
    return SimpleNamespace(states=states, steps=steps, reason=reason)


class Network:
    def __init__(self, patterns):
        self.weights = patterns.T @ patterns - len(patterns) * np.eye(patterns.shape[1], dtype=patterns.dtype)

    def value(self, states):
        return -((states @ self.weights) * states).sum(axis=1) / 2

    def update(self, states):
        states = states.copy()
        for k in range(states.shape[1]):
            states[:, k] = np.where(states @ self.weights[k] >= 0, 1, -1)
        return states


class Rows:
    def __init__(self, patterns):
        self.rows = patterns.copy()

    def __len__(self):
        return len(self.rows)

    def nearest(self, queries, k):
        distances = np.linalg.norm(queries[:, None] - self.rows, axis=2)
        order = distances.argsort(axis=1)[:, :k]
        return np.take_along_axis(distances, order, axis=1), order


class Removes(Rows):
    def remove(self, indices):
        for i in indices:  # positions shift under way
            self.rows = np.delete(self.rows, i, axis=0)


def statuses(report):
    return {row.law: (row.status, row.reason) for row in report.rows}


@pytest.mark.parametrize(
    ("implementation", "family", "skipped"),
    [
        (retrieve, "retrieval", ("law_retrieval_energies", "there is no method energies")),
        (Network, "binary_energy", ("law_binary_definition", "the implementation has no attribute kind")),
        (Rows, "memory", ("law_memory_model", "there is no method add, remove or replace")),
    ],
)
def test_what_is_missing_is_skipped(implementation, family, skipped):
    report = conformance(implementation, family, seed=0, examples=8)
    report.raise_if_failed()
    law, reason = skipped
    assert statuses(report)[law] == ("skipped", reason)
    assert sum(row.status == "passed" for row in report.rows) >= 2
    assert f"{implementation.__name__} as {family}, float64 and float32, seed 0" in str(report)
    assert str(report).splitlines()[-1].endswith(f"of {len(report.rows)} laws")


def test_a_failing_memory_is_shown_as_a_program(run):
    row = Bench(Removes, "memory").judge(testing.law_memory_model, 0)
    assert row.status == "failed"
    assert row.message in row.describe()
    assert len(row.snippet.splitlines()) <= 20
    assert '("remove", [' in row.snippet.replace("'", '"')
    plain = """
import numpy as np
class Rows:
    __init__ = lambda self, patterns: setattr(self, "rows", patterns.copy())
    __len__ = lambda self: len(self.rows)
    def nearest(self, queries, k):
        distances = np.linalg.norm(queries[:, None] - self.rows, axis=2)
        order = distances.argsort(axis=1)[:, :k]
        return np.take_along_axis(distances, order, axis=1), order
    def remove(self, indices):
        for i in indices:
            self.rows = np.delete(self.rows, i, axis=0)
implementation = Rows
"""
    snippet = "\n".join(line for line in row.snippet.splitlines() if "as implementation" not in line)
    finished = run(plain + snippet)
    assert row.message.removeprefix("raises ").split(":")[0] in finished.stdout + finished.stderr


def test_an_unknown_kind_is_named():
    states = -np.ones((1, 3)), np.ones((2, 3))
    with pytest.raises(ValueError, match=r"kind must be one of hopfield, .*; got 'Boltzmann'"):
        testing.law_binary_definition.statement(Network, "Boltzmann", given=states)
    testing.law_binary_definition.statement(Network, "hopfield", given=states)


@given(program=memories._drawn_from("add", "remove", "save", "load")(Removes))
def test_programs_have_only_operations_that_a_memory_has(program):
    assert {name for name, *_ in program[1]} <= {"remove"}


@pytest.mark.parametrize("family", ["retrieval", "binary_energy", "memory"])
def test_hopmin_conforms_on_both_backends(family, backend):
    """All energies, with more examples, are judged by test_mutants."""
    implementation = {
        "retrieval": ours_memory.RETRIEVAL["distance"], "binary_energy": ours_memory.BINARY["Hopfield"],
        "memory": ours_memory.Memory,
    }[family]  # fmt: skip
    promises = [promise for promise in implementation.promises if promise != "bits"]  # of the compiled core alone
    conformance(implementation, family, promises=promises, seed=0, examples=8).raise_if_failed()
