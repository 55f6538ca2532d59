"""The measures of memorization on models whose memory is known."""

import math

import numpy as np
import pytest

from hopmin.study.experiments import memorization as m
from hopmin.study.measure import cross_entropy

V = 6


class Table:
    """A model that knows some rows by heart and guesses all others uniformly."""

    def __init__(self, rows):
        self.rows = rows

    def logits(self, tokens):
        out = np.zeros((*tokens.shape, V))
        for b, row in enumerate(tokens):
            for known in self.rows:
                if np.array_equal(known[: len(row)], row):
                    out[b, np.arange(len(row)), known[1 : len(row) + 1]] = 60
        return out

    def cross_entropy(self, tokens, targets):
        from hopmin.numerics import log_softmax

        log_p = np.take_along_axis(
            log_softmax(self.logits(tokens), axis=-1), np.maximum(targets, 0)[..., None], axis=-1
        )
        return -log_p[..., 0][targets >= 0].mean()


@pytest.fixture
def rows():
    return m.random_rows(12, 5, V - 1, np.random.default_rng(0))


def test_random_rows_are_uniform_after_a_zero():
    rows = m.random_rows(4000, 3, 4, np.random.default_rng(1))
    assert (rows[:, 0] == 0).all()
    counts = np.bincount(rows[:, 1:].ravel(), minlength=5)
    assert counts[0] == 0
    assert counts[1:] == pytest.approx(3000, rel=0.08)


def test_rows_known_by_heart_are_scored_as_memorized(rows):
    found = m.score(Table(rows[:5]), rows)
    assert np.array(found["greedy"])[:5].all()
    assert np.array(found["loss"])[:5] == pytest.approx(0, abs=1e-6)
    assert np.array(found["loss"])[5:] == pytest.approx(math.log(V))
    continued = np.array([4, 3, 2])  # of 5 tokens, after a quarter, a half and three quarters
    assert np.array(found["nats"])[5:] == pytest.approx(np.tile(continued * math.log(V), (7, 1)), abs=1e-3)


def test_memorized_bits_are_all_bits_of_rows_known_by_heart(rows):
    assert 12 * 5 * cross_entropy(Table(rows), rows) == pytest.approx(0, abs=1e-6)


def test_counterfactual_memorization_is_the_effect_of_membership(rows):
    rng = np.random.default_rng(2)
    member = rng.random((30, 12)) < 0.5
    scores = np.array([m.score(Table(rows[of]), rows)["greedy"] for of in member])[..., 1]
    assert m.counterfactual(scores, member.astype(float)) == pytest.approx(np.ones(12))


def test_planted_duplicates_are_not_memorized_counterfactually(rows):
    twins = rows.copy()
    twins[6] = twins[0]  # whenever one is left out, the other may still be in
    rng = np.random.default_rng(3)
    member = rng.random((200, 12)) < 0.5
    scores = np.array([m.score(Table(twins[of]), twins)["greedy"] for of in member])[..., 1]
    found = m.counterfactual(scores, member.astype(float))
    assert found[0] == pytest.approx(0.5, abs=0.15)
    assert found[6] == pytest.approx(0.5, abs=0.15)
    assert np.delete(found, [0, 6]) == pytest.approx(1)


def test_rows_in_all_models_have_no_counterfactual():
    assert np.isnan(m.counterfactual(np.ones((3, 1)), np.ones((3, 1)))).all()


def test_membership_is_a_coin_for_equal_losses_and_certain_for_separate_ones():
    assert m.area_under_curve(np.ones(5), np.ones(7)) == 0.5
    assert m.area_under_curve(np.zeros(5), np.ones(7)) == 1.0
    assert m.area_under_curve(np.ones(5), np.zeros(7)) == 0.0


def test_a_planted_capacity_is_found():
    bits = [
        {"part": "bits", "layers": 1, "width": 8, "seed": 0, "parameters": 100, "rows": n, "entropy_bits": 10.0 * n,
         "memorized_bits": min(10.0 * n, 350.0)} for n in (10, 20, 40, 80)
    ]  # fmt: skip
    found = {f.id: f for f in m.findings(bits)}
    assert found["bits"].value == pytest.approx(3.5)
    assert found["law"].value == pytest.approx(0)
