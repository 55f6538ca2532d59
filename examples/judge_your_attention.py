"""Test your own attention with a law of hopmin.testing: a correct one passes, two with common bugs are rejected.

Needs hypothesis (the extra "test"). Run: python examples/judge_your_attention.py
"""

import numpy as np

import hopmin
from hopmin import testing


def attention(q, k, v):
    """Return the causal attention of queries, keys and values (T, E), in plain NumPy."""
    scores = np.where(np.tri(len(q), dtype=bool), q @ k.T / np.sqrt(q.shape[1]), -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v


def attention_with_a_finite_mask(q, k, v):
    """Add -10 to the scores of later positions instead of minus infinity, so that later tokens leak in."""
    scores = q @ k.T / np.sqrt(q.shape[1]) + np.where(np.tri(len(q), dtype=bool), 0, -10)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v


def attention_without_scaling(q, k, v):
    """Omit the division by the square root of the head width."""
    return attention(q * np.sqrt(q.shape[1]), k, v)


for candidate in (attention, attention_with_a_finite_mask, attention_without_scaling):
    try:
        # Row t of causal attention is one update of the dot-product energy with beta = 1 / sqrt(E).
        testing.law_attention_is_update(candidate, hopmin.DotEnergy)
        print(f"{candidate.__name__}: passes")
    except AssertionError as error:
        print(f"{candidate.__name__}: rejected\n    {str(error).splitlines()[0]}")
