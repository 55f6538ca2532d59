"""Measure to what extent a trained model behaves as an associative memory of its training rows.

- the mean loss per token [`cross_entropy`]
- the fraction of rows that the model completes from their first half [`extraction_rate`]
- the distances between activations [`activation_distances`], and the radius the paper predicts [`predicted_radius`]
- how often the key with the largest attention weight is the nearest key [`head_agreement`]

All functions take a GPT and rows (n, T + 1) of a corpus, padded with -1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hopmin._typing import Floats, Integers
from hopmin.data.corpus import inputs_and_targets
from hopmin.memory.nearest import separation
from hopmin.memory.reduction import scores
from hopmin.paper.density import paper_radius
from hopmin.transformer.model import GPT
from hopmin.transformer.training import BATCH, cross_entropy

__all__ = [
    "activation_distances", "cross_entropy", "extraction_rate", "halves", "head_agreement", "predicted_radius",
]  # fmt: skip


def extraction_rate(model: GPT, rows: Integers) -> float:
    """Return the fraction of rows whose second half the model reproduces exactly from the first, decoding greedily.

    One forward pass over the true rows suffices: greedy generation reproduces a row if and only if the likeliest token
    is the true one at every position of the second half, given the true tokens before it.

    On training rows the rate includes both memorization and generalization; on held-out rows, only generalization.
    """
    completed = 0
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        second_half = (np.arange(targets.shape[1]) >= halves(targets)[:, None]) & (targets >= 0)
        likeliest = model.logits(tokens).argmax(axis=-1)
        completed += int(((likeliest == targets) | ~second_half).all(axis=1).sum())
    return completed / len(rows)


def halves(targets: Integers) -> Integers:
    """Return the number of targets (B,) that belong to the first half of each row (B, T)."""
    counts: Integers = (targets >= 0).sum(axis=1)
    return counts // 2


def activations(model: GPT, rows: Integers) -> Floats:
    """Return one vector (n, D) per row: the output of the last layer norm at the position that predicts the second half.

    It is the position at which Niu et al. 2024, section 6.1, take the activation of a row.
    """
    return np.concatenate([outputs for outputs, _ in _at_the_half(model, rows)])


def states(model: GPT, rows: Integers) -> Floats:
    """Return the residual stream (L + 1, n, D) before the first block and after each, where `activations` are taken."""
    return np.concatenate([found for _, found in _at_the_half(model, rows)], axis=1)


def _at_the_half(model: GPT, rows: Integers) -> Iterator[tuple[Floats, Floats]]:
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        seen, at = model.activations(tokens), (np.arange(len(tokens)), halves(targets))
        yield seen.outputs[at], seen.states[:, *at]


def activation_distances(model: GPT, rows: Integers) -> Floats:
    """Return the Euclidean distance (n,) from each row's activation to the nearest activation of another row."""
    return separation(activations(model, rows))


def predicted_radius(width: int) -> float:
    """Return sqrt(n / (2 pi e)) for n = width, the radius at which the paper's balls have a volume of order one.

    See Niu et al. 2024, section 5.2.

    >>> round(predicted_radius(1024), 2)
    7.74
    """
    return paper_radius(width)


def head_agreement(model: GPT, rows: Integers) -> tuple[Floats, float]:
    """Return how often the key with the largest weight is the nearest one (L, H), and how often a random key would be.

    Both are fractions of the positions with more than one key. Ties count for the first key. The two keys are always
    the same if all keys of a head have equal norms, for softmax(-beta |q - k|^2) is then attention itself (Niu et al.
    2024, proposition 2). Raises ValueError if no position has more than one key.
    """
    agreed: Floats = np.zeros((model.config.layers, model.config.heads))
    counted, chance = 0, 0.0
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        seen = model.activations(tokens)
        real = targets >= 0
        real[:, 0] = False  # the first position sees only itself
        counted += int(real.sum())
        chance += float((real / np.arange(1, real.shape[1] + 1)).sum())
        strongest = seen.weights.argmax(axis=-1)  # (L, B, H, T)
        ahead = np.triu(np.ones((real.shape[1],) * 2, bool), k=1)
        for layer, row, head in np.ndindex(strongest.shape[:3]):
            closeness = scores(seen.queries[layer, row, head], seen.keys[layer, row, head], "euclidean")
            closest = np.where(ahead, -np.inf, closeness).argmax(axis=-1)
            agreed[layer, head] += ((closest == strongest[layer, row, head]) & real[row]).sum()
    if not counted:
        raise ValueError("rows must have a position with more than one key; got rows of at most one target")
    return agreed / counted, chance / counted
