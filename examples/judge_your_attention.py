"""Judge your own attention by all laws of its family: a correct one, and two with common bugs.

Needs hypothesis (the extra "testing"). Run: python examples/judge_your_attention.py
"""

import numpy as np

from hopmin.testing import conformance


def attention(q, k, v, last=-np.inf):
    """Return the causal attention of queries, keys and values (T, E), in plain NumPy."""
    T, E = q.shape[-2:]
    scores = np.where(np.tri(T, dtype=bool), q @ np.swapaxes(k, -1, -2) / q.dtype.type(E**0.5), last)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True)).astype(v.dtype)
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def attention_with_a_finite_mask(q, k, v):
    """Give later positions a score of -10 instead of minus infinity, so that later tokens leak in."""
    return attention(q, k, v, last=-10.0)


def attention_without_scaling(q, k, v):
    """Omit the division by the square root of the head width."""
    return attention(q * q.dtype.type(q.shape[-1] ** 0.5), k, v)


for candidate in (attention, attention_with_a_finite_mask, attention_without_scaling):
    report = conformance(candidate, "attention", seed=0)
    print(f"{candidate.__name__}: {'conforms' if report.passed else 'rejected'}")
    for row in report.failures[:1]:
        print(f"    {row.law}: {row.message}")
