"""The measures of memorization on models whose memory is known."""

import math

import numpy as np
import pytest

from hopmin.study import statistics
from hopmin.study.experiments import memorization as m
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Fit

V = 6


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 200)


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


def test_counterfactual_scores_are_the_effect_of_membership(rows):
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


def test_membership_is_a_coin_for_equal_losses():
    assert m.area_under_curve(np.ones(5), np.ones(7)) == 0.5
    assert m.area_under_curve(np.zeros(5), np.ones(7)) == 1.0
    assert m.area_under_curve(np.ones(5), np.zeros(7)) == 0.0


def test_a_planted_capacity_is_found():
    bits = [
        {"part": "bits", "layers": 1, "width": 8, "seed": 0, "parameters": 100, "rows": n, "entropy_bits": 10.0 * n,
         "memorized_bits": min(10.0 * n, 350.0)} for n in (10, 20, 40, 80)
    ]  # fmt: skip
    found = {f.id: f for f in m.findings(bits)}
    assert found["bits 100"].value == pytest.approx(3.5)
    assert found["law"].value == pytest.approx(0, abs=1e-9)
    assert "may hold more" not in found["bits 100"].text


def bits_record(rows, memorized, seed=0):
    return {"part": "bits", "layers": 1, "width": 8, "seed": seed, "parameters": 100, "rows": rows,
            "entropy_bits": 10.0 * rows, "memorized_bits": memorized}  # fmt: skip


def test_a_capacity_that_was_not_reached_is_a_lower_bound():
    assert "may hold more" in m.findings([bits_record(n, 10.0 * n) for n in (10, 20)])[0].text


def test_the_law_is_not_tested_on_the_run_of_the_capacity():
    found = {f.id: f for f in m.findings([bits_record(10, 50.0), bits_record(80, 350.0)])}
    assert found["law"].value == pytest.approx(1.0)  # 100 bits predicted, 50 memorized
    assert not any(f.id == "law" for f in m.findings([bits_record(80, 350.0)]))


def test_memorized_bits_are_the_entropy_minus_the_code():
    cell = {
        "part": "bits",
        "layers": 1,
        "heads": 1,
        "width": 8,
        "symbols": 4,
        "length": 4,
        "rows": 6,
        "steps": 150,
        "seed": 0,
    }
    found = m.run(cell, lambda *_: None)
    assert found["entropy_bits"] == 6 * 4 * 2
    assert 30 < found["memorized_bits"] < 48


def peak_record(rows, loss):
    return {"part": "peak", "layers": 1, "width": 8, "seed": 0, "parameters": 100, "rows": rows, "tokens": 20 * rows,
            "entropy": math.log(2), "loss": {"train": 0.0, "held_out": loss}}  # fmt: skip


def test_a_planted_peak_is_found_at_its_load():
    records = [bits_record(80, 400.0), *(peak_record(n, loss) for n, loss in ((10, 2.0), (20, 3.0), (40, 1.0)))]
    found = next(f for f in m.findings(records) if f.id == "peak")
    assert found.value == pytest.approx(1.0)  # 20 rows of 20 tokens of one bit, of 400 bits
    assert "with 20 rows" in found.text
    assert "no peak" not in found.text


@pytest.mark.parametrize(("losses", "end"), [((3.0, 2.0), "fewest"), ((2.0, 3.0), "most")])
def test_an_end_of_the_amounts_is_not_a_peak(losses, end):
    found = m.findings([peak_record(n, loss) for n, loss in zip((10, 20), losses, strict=True)])[0]
    assert f"These are the {end} tried, so no peak" in found.text
    assert found.value is None


def halves(effect, models=20, rows=60, seed=0):
    """Return records of halves in which membership lowers the loss of each row by its effect."""
    rng = np.random.default_rng(seed)
    member = np.stack([rng.permutation(rows) < rows // 2 for _ in range(models)])
    loss = 2 + 0.1 * rng.normal(size=(models, rows)) - member * effect
    greedy = np.repeat((loss < 1.5)[..., None], 3, axis=2).astype(int)
    return [
        {"part": "half", "member": a.astype(int).tolist(), "loss": b.tolist(), "greedy": c.tolist(), "nats": c.tolist()}
        for a, b, c in zip(member, loss, greedy, strict=True)
    ]


def test_without_memory_nothing_is_found():
    found = {f.id: f for f in m.findings(halves(np.zeros(60)))}
    assert found["membership"].low < 0.5 < found["membership"].high
    assert abs(found["counterfactual memorization, again"].value) < 0.3
    assert abs(found["counterfactual memorization, membership"].value) < 0.3


def test_measures_agree_on_rows_of_different_memorization():
    found = {f.id: f for f in m.findings(halves(np.linspace(0, 1, 60)))}
    assert found["extraction 0.5"].low > 0.3
    assert found["membership"].low > 0.7
    assert found["membership"].n == 20
    assert found["counterfactual memorization, again"].low > 0.9
    assert found["counterfactual memorization, extraction"].low > 0.6


def test_noise_that_halves_do_not_share_is_no_agreement():
    """Two measures of the same models share their noise; of different models they do not."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 500))
    shared = [np.stack([a, a]) for a in noise]
    assert abs(m.rank_agreement(*shared).value) < 0.15
    assert m.rank_agreement(np.stack([noise[0], noise[1]]), np.stack([noise[1], noise[0]])).value == pytest.approx(1)
    assert m.rank_agreement(np.ones((2, 9)), np.ones((2, 9))) is None


def test_a_model_that_knows_nothing_has_memorized_nothing():
    """It spends log2(5) bits on tokens of two bits, as it does not know that the first symbol does not return."""
    cell = {
        "part": "bits",
        "layers": 1,
        "heads": 1,
        "width": 8,
        "symbols": 4,
        "length": 4,
        "rows": 6,
        "steps": 1,
        "seed": 0,
    }
    assert m.run(cell, lambda *_: None)["memorized_bits"] == pytest.approx(24 * (2 - math.log2(5)), abs=4)


def test_only_the_continuation_must_be_right(rows):
    class Always:
        def logits(self, tokens):
            return np.tile(9.0 * np.eye(V)[rows[0, 1:]], (len(tokens), 1, 1))

    first, last = rows[:1].copy(), rows[:1].copy()
    first[0, 1], last[0, -1] = rows[0, 1] % (V - 1) + 1, rows[0, -1] % (V - 1) + 1
    assert m.score(Always(), first)["greedy"] == [[1, 1, 1]]
    assert m.score(Always(), last)["greedy"] == [[0, 0, 0]]


def test_a_half_is_trained_on_its_members(monkeypatch):
    seen = []
    monkeypatch.setattr(m, "train", lambda model, rows, **_: seen.append(rows))
    training = m.Training(1, 1, 8, 20, 6, drawn=20)
    found = m.run({"part": "half", "number": 3, "training": m.asdict(training)}, lambda *_: None)
    member = np.array(found["member"], bool)
    assert member.sum() == 10
    assert np.array_equal(seen[0], training.language.train[:20][member])


def test_losses_of_a_fraction_are_those_of_their_split(monkeypatch):
    training = m.Training(1, 1, 8, 20, 6, drawn=20)
    model, language = training.untrained, training.language
    monkeypatch.setattr(m, "fit", lambda *_: Fit(model, language.train[:20], language.held_out, []))
    found = m.run({"part": "fraction", "training": m.asdict(training)}, lambda *_: None)
    splits = {"train": language.train[:20], "held_out": language.held_out}
    assert found["loss"] == {name: cross_entropy(model, rows) for name, rows in splits.items()}


def test_the_gap_of_a_fraction_is_what_held_out_rows_cost_more():
    one = {"part": "fraction", "fraction": 0.1, "rows": 20, "seed": 0, "loss": {"train": 0.5, "held_out": 1.25}}
    assert m.findings([one])[0].value == 0.75


def test_lower_losses_of_members_separate_them():
    loss, member = np.array([[1.0], [1.5], [3.0], [3.5]]), np.array([[1], [1], [0], [0]])
    assert m.separation(loss, member)[0] == pytest.approx(2 / math.sqrt(0.125))
