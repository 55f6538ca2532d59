"""How far a trained model behaves as an associative memory of its training rows.

- what it costs to predict a token [`cross_entropy`]
- does it complete what it was trained on [`extraction_rate`]
- how far apart are its activations [`activation_distances`], and what the paper predicts [`predicted_radius`]
- does attention look at the nearest key [`head_agreement`]

All take a GPT and rows (n, T + 1) of a corpus, padded with -1.
"""

from __future__ import annotations

import numpy as np

from hopmin._typing import Array
from hopmin.data.corpus import inputs_and_targets
from hopmin.memory.nearest import separation
from hopmin.memory.reduction import scores
from hopmin.paper.density import paper_radius
from hopmin.transformer.model import GPT
from hopmin.transformer.training import BATCH, cross_entropy

__all__ = [
    "activation_distances", "cross_entropy", "extraction_rate", "halves", "head_agreement", "predicted_radius",
]  # fmt: skip


def extraction_rate(model: GPT, rows: Array) -> float:
    """The share of rows whose second half the model reproduces, token by token, from their first half.

    Taking the likeliest token each time. No generation is needed for this: the model goes right to the end if and
    only if it is right at each step after a right beginning, and all those steps are one forward pass.

    Of rows it was trained on this mixes memory and skill; the same rate on held-out rows tells them apart.
    """
    right = 0
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        second_half = (np.arange(targets.shape[1]) >= halves(targets)[:, None]) & (targets >= 0)
        likeliest = model.logits(tokens).argmax(axis=-1)
        right += int(((likeliest == targets) | ~second_half).all(axis=1).sum())
    return right / len(rows)


def halves(targets: Array) -> Array:
    """(B,) How many targets of each row belong to its first half."""
    return (targets >= 0).sum(axis=1) // 2


def activation_distances(model: GPT, rows: Array) -> Array:
    """(n,) Euclidean distances between the last activations at the rows' halves, each to its nearest other one.

    The activation is the model's output, after the last layer norm, at the position that predicts the first token of
    the second half: one vector a row, as in Niu et al. 2024, section 6.1.
    """
    found = []
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        outputs = model.activations(tokens).outputs
        found.append(outputs[np.arange(len(tokens)), halves(targets)])
    return separation(np.concatenate(found))


def predicted_radius(width: int) -> float:
    """sqrt(n / (2 pi e)) for n = width: the radius at which the paper's balls have a volume of order one (section 5.2).

    >>> round(predicted_radius(1024), 2)
    7.74
    """
    return paper_radius(width)


def head_agreement(model: GPT, rows: Array) -> tuple[Array, float]:
    """(L, H) How often the key with the most weight is the key nearest to the query; and how often a random key is.

    Counted over all positions that have a choice. The two agree always if all keys of a head are equally long
    (softmax(-beta |q - k|^2) is then attention itself; Niu et al. 2024, proposition 2). Of equals the first counts.
    """
    agreed: Array = np.zeros((model.config.layers, model.config.heads))
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
        raise ValueError("rows must have a position with a choice of keys; got rows of one target at most")
    return agreed / counted, chance / counted
