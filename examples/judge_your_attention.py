"""Judge your own attention by all laws of its family: a correct one, and one with a common bug.

Needs hypothesis (the extra "testing"). Run: python examples/judge_your_attention.py
"""

import numpy as np

from hopmin.testing import conformance


def attention(q, k, v, last=-np.inf):
    """Return the causal attention of queries, keys and values (T, E)."""
    scores = np.where(np.tri(len(q), dtype=bool), q @ k.T / q.dtype.type(q.shape[1] ** 0.5), q.dtype.type(last))
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v


def with_a_finite_mask(q, k, v):
    """Give later positions a score of -1e4 instead of minus infinity, so that later tokens can leak in."""
    return attention(q, k, v, last=-1e4)


for candidate in (attention, with_a_finite_mask):
    report = conformance(candidate, "attention", seed=0)
    print(f"{candidate.__name__}: {'conforms' if report.passed else 'rejected'}")
    for row in report.failures[:1]:
        print(row.describe())
