"""Measures of search on heads that are built to search, or not to."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from hopmin.numerics import softmax
from hopmin.study import measure


def head(queries, keys, *, distances=False):
    """Return activations of one causal head for one row, and its positions to count."""
    T = len(queries)
    scores = -np.square(queries[:, None] - keys).sum(axis=2) if distances else queries @ keys.T
    weights = softmax(np.where(np.triu(np.ones((T, T), bool), 1), -np.inf, scores), axis=1)
    real = np.ones((1, T), bool)
    real[0, 0] = False
    seen = SimpleNamespace(
        queries=queries[None, None, None], keys=keys[None, None, None], weights=weights[None, None, None]
    )
    return seen, real


def points(seed, T=9, E=4):
    return np.random.default_rng(seed).normal(size=(2, T, E))


@pytest.mark.parametrize("seed", range(3))
def test_a_head_with_keys_of_one_length_searches(seed):
    queries, keys = points(seed)
    found = measure.search(*head(queries, keys / np.linalg.norm(keys, axis=1, keepdims=True)))
    assert found["nearest"] == found["nearest_direction"] == 1
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["norm_spread"] == pytest.approx(0)


@pytest.mark.parametrize("seed", range(3))
def test_a_head_with_distances_searches_whatever_the_lengths(seed):
    queries, keys = points(seed)
    keys *= np.linspace(0.2, 3, len(keys))[:, None]
    found = measure.search(*head(queries, keys, distances=True))
    assert found["nearest"] == 1
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["norm_spread"] > 0.2


def test_a_head_that_follows_the_longest_key_does_not_search():
    rng = np.random.default_rng(5)
    queries = rng.normal(size=(200, 2)) + np.array([3, 0])
    keys = np.stack([np.linspace(1, 60, 200), np.zeros(200)], axis=1)
    found = measure.search(*head(queries, keys))
    assert found["nearest"] < 0.05


def test_a_head_without_relation_agrees_by_chance():
    rng = np.random.default_rng(6)
    found = []
    for _ in range(40):
        seen, real = head(*rng.normal(size=(2, 12, 3)))
        seen.weights = softmax(
            np.where(np.triu(np.ones((12, 12), bool), 1), -np.inf, rng.normal(size=(12, 12))), axis=1
        )[None, None, None]
        found.append(measure.search(seen, real))
    assert np.mean([f["nearest"] for f in found]) == pytest.approx(found[0]["chance"], abs=0.06)
    assert np.mean([f["rank_correlation"] for f in found]) == pytest.approx(0, abs=0.06)


@given(st.integers(0, 1000), st.integers(2, 12))
def test_rank_correlations_are_spearmans(seed, T):
    a, b = np.random.default_rng(seed).normal(size=(2, T, T))
    ahead = np.triu(np.ones((T, T), bool), 1)
    found = measure._rank_correlation(np.where(ahead, -np.inf, a), np.where(ahead, -np.inf, b))
    assert found[0] == 0
    for t in range(1, T):
        assert found[t] == pytest.approx(spearmanr(a[t, : t + 1], b[t, : t + 1]).statistic)


def test_effective_keys_count_equal_weights():
    seen, real = head(np.zeros((6, 2)), points(1)[0][:6, :2])
    assert measure.search(seen, real)["effective_keys"] == pytest.approx(np.arange(2, 7).mean())
