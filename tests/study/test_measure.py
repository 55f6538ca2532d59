"""Each measurement equals the result of a plain loop."""

import math

import numpy as np
import pytest

from hopmin.study import measure
from hopmin.study.measure import (
    activations,
    cross_entropy,
    extraction_rate,
    head_statistics,
    ngram_cross_entropy,
    predicted_radius,
    states,
)
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import Trainer

V, T = 12, 9


@pytest.fixture(scope="module")
def model():
    """Return an untrained model with weights large enough to give varied predictions."""
    return GPT(GPTConfig(vocabulary=V, positions=T, layers=2, heads=2, width=8, init_std=0.5, dtype="float64"), 1)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Make a few rows fill several batches, the last one shorter."""
    monkeypatch.setattr(measure, "BATCH", 4)


def rows_of(lengths, seed=0):
    """Return random rows of the given lengths, padded with -1."""
    rng, rows = np.random.default_rng(seed), np.full((len(lengths), T + 1), -1)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = rng.integers(0, V, length)
    return rows


LENGTHS = [10, 2, 3, 4, 5, 10, 7, 3, 8, 6, 9]


def bare(rows):
    return [row[row >= 0] for row in rows]


# Cross-entropy


def test_cross_entropy_gives_every_token_the_same_weight(model):
    rows = rows_of(LENGTHS)
    nats = [(len(row) - 1) * model.cross_entropy(row[None, :-1], row[None, 1:]) for row in bare(rows)]
    # a hundred float64 terms of order one, added in another order
    assert cross_entropy(model, rows) == pytest.approx(sum(nats) / (sum(LENGTHS) - len(LENGTHS)), rel=1e-12)


# Extraction


def first_half(row):
    """Return the tokens before the second half of a row."""
    return row[: (len(row) - 1) // 2 + 1]


def completes(model, row):
    """Return whether greedy generation from the first half reproduces the row."""
    return model.generate(first_half(row), len(row) - len(first_half(row))).tolist() == row.tolist()


def completed_by(model, rows):
    """Return rows with the second halves that the model generates."""
    out = rows.copy()
    for row, tokens in zip(out, bare(rows), strict=True):
        row[: len(tokens)] = model.generate(first_half(tokens), len(tokens) - len(first_half(tokens)))
    return out


def test_rows_generated_by_the_model_are_extracted(model):
    rows = completed_by(model, rows_of(LENGTHS))
    assert all(completes(model, row) for row in bare(rows))
    assert extraction_rate(model, rows) == 1


@pytest.mark.parametrize("wrong", ["first", "last"])
def test_one_wrong_token_prevents_extraction(model, wrong):
    rows = completed_by(model, rows_of(LENGTHS))
    for row, tokens in zip(rows[::3], bare(rows)[::3], strict=True):
        place = len(first_half(tokens)) if wrong == "first" else len(tokens) - 1
        row[place] = (row[place] + 1) % V
    expected = [completes(model, row) for row in bare(rows)]
    assert expected == [i % 3 != 0 for i in range(len(rows))]
    assert extraction_rate(model, rows) == sum(expected) / len(rows)


def test_the_first_half_need_not_be_likely(model):
    rows = completed_by(model, rows_of([10] * 20))
    greedy = model.logits(rows[:, :-1]).argmax(axis=-1)
    assert (greedy[:, :3] != rows[:, 1:4]).any(axis=1).all()
    assert extraction_rate(model, rows) == 1


def test_only_memorized_rows_are_extracted():
    model = GPT(GPTConfig(vocabulary=V, positions=T, layers=1, heads=2, width=16, init_std=0.25), 0)
    known, unknown = rows_of([10] * 5), rows_of([10] * 50, seed=1)
    Trainer(model, steps=150, learning_rate=0.02, batch_size=8).run(known)
    assert extraction_rate(model, known) == 1
    assert extraction_rate(model, unknown) == np.mean([completes(model, row) for row in unknown]) < 0.1


# Activations


def test_activations_are_taken_where_the_second_half_begins(model):
    rows = rows_of(LENGTHS)
    seen = [model.activations(row[None, :-1]) for row in bare(rows)]
    at = [(len(row) - 1) // 2 for row in bare(rows)]
    # activations of order one, from a few hundred float64 operations
    np.testing.assert_allclose(
        activations(model, rows), [s.outputs[0, t] for s, t in zip(seen, at, strict=True)], rtol=1e-10
    )
    depths = np.stack([s.states[:, 0, t] for s, t in zip(seen, at, strict=True)], axis=1)
    np.testing.assert_allclose(states(model, rows), depths, rtol=1e-10)


def test_equal_rows_have_equal_activations(model):
    assert not np.ptp(activations(model, np.repeat(rows_of([10]), 3, axis=0)), axis=0).any()


def test_predicted_radius_of_gpt2_medium_is_as_published():
    assert round(predicted_radius(1024), 2) == 7.74


# Heads


def test_agreement_of_heads_equals_a_loop_over_positions(model):
    rows, L, H = rows_of(LENGTHS), 2, 2
    agreed, chances = np.zeros((L, H)), []
    for row in bare(rows):
        seen = model.activations(row[None, :-1])
        for t in range(1, len(row) - 1):  # the first position has one key
            chances.append(1 / (t + 1))
            for layer, head in np.ndindex(L, H):
                q = seen.queries[layer, 0, head, t]
                keys = seen.keys[layer, 0, head, : t + 1]
                weights = seen.weights[layer, 0, head, t, : t + 1].tolist()
                apart = [math.dist(q, k) for k in keys]
                agreed[layer, head] += weights.index(max(weights)) == apart.index(min(apart))
    found = head_statistics(model, rows)
    agreement, chance = found["nearest"], found["chance"]
    assert found["positions"] == len(chances)
    np.testing.assert_allclose(agreement, agreed / len(chances), rtol=1e-12)
    assert len(set(agreement.ravel())) > 1
    assert chance == pytest.approx(sum(chances) / len(chances), rel=1e-13)  # fifty terms of order one


def test_agreement_of_heads_breaks_ties_by_the_first_key(model):
    alike = GPT(model.config, 1)
    for layer in range(2):
        alike.parameters[f"layers.{layer}.attention.weight"][:, 8:16] = 0  # the keys' third of (queries, keys, values)
    assert head_statistics(alike, rows_of(LENGTHS))["nearest"].tolist() == [[1, 1], [1, 1]]


def test_rows_of_one_target_are_rejected():
    with pytest.raises(
        ValueError, match=r"^rows must have a position with more than one key; got rows of at most one target$"
    ):
        head_statistics(
            GPT(GPTConfig(vocabulary=3, positions=4, layers=1, heads=1, width=2), 0), np.array([[0, 1, -1]])
        )


# The n-gram estimate


def test_ngrams_find_the_entropy_of_a_chain():
    """A token is followed by its successor with probability 3/4, by the one after it otherwise."""
    rng = np.random.default_rng(0)
    steps = rng.choice([1, 2], p=[0.75, 0.25], size=(600, 30))
    rows = np.cumsum(steps, axis=1) % 7
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    found = ngram_cross_entropy(rows[:500], rows[500:], 7)
    assert entropy - 0.02 < found < entropy + 0.1
    assert ngram_cross_entropy(rows[:500], rows[500:], 7, order=1) == pytest.approx(math.log(7), abs=0.02)


def test_ngrams_equal_a_plain_recursion():
    rows = rows_of([10, 7, 3, 9, 2])

    def p(word, history):
        follow = [
            row[t]
            for row in bare(rows)
            for t in range(1, len(row))
            if t >= len(history) and list(row[t - len(history) : t]) == history
        ]
        shorter = 1 / V if not history else p(word, history[1:])
        return (
            (follow.count(word) + len(set(follow)) * shorter) / (len(follow) + len(set(follow))) if follow else shorter
        )

    other = rows_of([10, 4, 6], seed=1)
    nats = [-math.log(p(row[t], list(row[max(0, t - 2) : t]))) for row in bare(other) for t in range(1, len(row))]
    assert ngram_cross_entropy(rows, other, V, order=3) == pytest.approx(np.mean(nats), rel=1e-12)
