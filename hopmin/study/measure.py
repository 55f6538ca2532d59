"""Measure to what extent a trained model behaves as an associative memory of its training rows.

- the mean loss per token [`cross_entropy`]
- the fraction of rows that the model completes from their first half [`extraction_rate`]
- an estimate of the entropy of a language from counts [`ngram_cross_entropy`]
- the activation of each row [`activations`], also at every depth [`states`], and the radius the paper predicts for the
  distances between them [`predicted_radius`]
- how far heads search for the nearest key [`head_statistics`], also of any activations [`search`]

All functions take a model and rows (n, T + 1) of a corpus, padded with -1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from hopmin._typing import Array, Booleans, Floats, Integers
from hopmin.data.corpus import inputs_and_targets
from hopmin.paper.density import paper_radius
from hopmin.transformer.llama import Llama
from hopmin.transformer.model import GPT
from hopmin.transformer.training import BATCH, cross_entropy

__all__ = [
    "activations", "at_the_half", "cross_entropy", "extraction_rate", "halves", "head_statistics",
    "ngram_cross_entropy", "predicted_radius", "search", "small_batches", "states",
]  # fmt: skip

FEW = 20  # rows in a forward pass whose activations are kept


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


def ngram_cross_entropy(rows: Integers, held_out: Integers, vocabulary: int, *, order: int = 4) -> float:
    """Return the cross-entropy of held-out rows under an n-gram model, in nats per token: an estimate of the entropy.

    Counts of all orders are interpolated (Witten & Bell 1991), starting from the uniform distribution:

        p(w | h) = (count(h w) + kinds(h) p(w | h without its first token)) / (count(h) + kinds(h)),

    where kinds(h) is the number of different tokens that follow h. The entropy is lower, for no model of the language
    has a lower expected cross-entropy.

    Parameters
    ----------
    rows, held_out : ndarray, shape (n, T + 1)
        Rows to count and rows to score, padded with -1. The first token of a row is not scored.
    vocabulary : int
        Number of symbols.
    order : int
        Longest number of tokens counted together.

    Returns
    -------
    float
        The cross-entropy.

    Examples
    --------
    >>> rows = np.array([[0, 1, 0, 1, 0, 1]] * 50)
    >>> ngram_cross_entropy(rows, rows, 2) < 0.02
    True
    """
    counts: Counter[tuple[int, ...]] = Counter()
    for row in rows.tolist():
        tokens = row[: row.index(-1)] if -1 in row else row
        for t in range(1, len(tokens)):
            counts.update(tuple(tokens[t - n : t + 1]) for n in range(min(order, t + 1)))
    totals: Counter[tuple[int, ...]] = Counter()
    kinds: Counter[tuple[int, ...]] = Counter()
    for gram, count in counts.items():
        totals[gram[:-1]] += count
        kinds[gram[:-1]] += 1
    nats = scored = 0.0
    for row in held_out.tolist():
        tokens = row[: row.index(-1)] if -1 in row else row
        for t in range(1, len(tokens)):
            p = 1 / vocabulary
            for n in range(min(order, t + 1)):
                gram = tuple(tokens[t - n : t + 1])
                if total := totals[gram[:-1]]:
                    p = (counts[gram] + kinds[gram[:-1]] * p) / (total + kinds[gram[:-1]])
            nats -= math.log(p)
            scored += 1
    return nats / scored


def activations(model: GPT | Llama, rows: Integers) -> Floats:
    """Return one vector (n, D) per row: the output of the last layer norm where the second half is predicted.

    It is the position at which Niu et al. 2024, section 6.1, take the activation of a row.
    """
    return at_the_half(model, rows)[0]


def states(model: GPT | Llama, rows: Integers) -> Floats:
    """Return the residual stream (L + 1, n, D) before the first block and after each, where `activations` are taken."""
    return at_the_half(model, rows)[1]


def at_the_half(model: GPT | Llama, rows: Integers) -> tuple[Floats, Floats]:
    """Return `activations` (n, D) and `states` (L + 1, n, D) at once."""
    outputs, found = [], []
    for start in range(0, len(rows), FEW):
        tokens, targets = inputs_and_targets(rows[start : start + FEW])
        at = halves(targets)
        seen = model.activations(tokens[:, : at.max() + 1])  # later tokens do not matter
        outputs.append(seen.outputs[np.arange(len(at)), at])
        found.append(seen.states[:, np.arange(len(at)), at])
    return np.concatenate(outputs), np.concatenate(found, axis=1)


def predicted_radius(width: int) -> float:
    """Return sqrt(n / (2 pi e)) for n = width, the radius at which the paper's balls have a volume of order one.

    See Niu et al. 2024, section 5.2.

    >>> round(predicted_radius(1024), 2)
    7.74
    """
    return paper_radius(width)


def small_batches(model: GPT | Llama, rows: Integers) -> Iterator[tuple[Any, Booleans]]:
    """Yield the activations of a few rows at a time, and which positions (B, T) have more than one key."""
    for start in range(0, len(rows), FEW):
        tokens, targets = inputs_and_targets(rows[start : start + FEW])
        real = targets >= 0
        real[:, 0] = False  # the first position sees only itself
        yield model.activations(tokens), real


def head_statistics(model: GPT | Llama, rows: Integers) -> dict[str, Any]:
    """Return what `search` returns for all positions of rows (n, T + 1).

    Raises ValueError if no position has more than one key.
    """
    parts = [search(seen, real) for seen, real in small_batches(model, rows) if real.any()]
    if not parts:
        raise ValueError("rows must have a position with more than one key; got rows of at most one target")
    counted = np.array([part.pop("positions") for part in parts], float)
    means = {name: np.average([part[name] for part in parts], axis=0, weights=counted) for name in parts[0]}
    return {**means, "chance": float(means["chance"]), "positions": int(counted.sum())}


def search(seen: Any, real: Booleans) -> dict[str, Any]:
    """Return how far each head searches for the nearest key, as means over positions.

    Ties count for the first key. The strongest key is always the nearest if all keys of a head have one norm, for
    softmax(-beta |q - k|^2) is then attention itself (Niu et al. 2024, proposition 2).

    Parameters
    ----------
    seen : Activations
        queries, keys (L, B, H, T, E) and weights (L, B, H, T, T).
    real : ndarray of bool, shape (B, T)
        The positions to count.

    Returns
    -------
    dict
        Of shape (L, H): `nearest`, how often the strongest key is the nearest, and `nearest_direction`, the nearest
        once all keys have one length; `rank_correlation`, between weights and closeness; `effective_keys`, exp of the
        entropy of the weights; `norm_spread`, the standard deviation of the keys' norms over their mean. `chance` is
        how often a random key is the strongest, and `positions` the number counted.
    """
    ahead = np.triu(np.ones((real.shape[1],) * 2, bool), k=1)
    weights = np.where(ahead, -1, seen.weights)
    strongest = weights.argmax(axis=-1)
    keys, queries = seen.keys.astype(np.float64), seen.queries.astype(np.float64)
    norms = np.linalg.norm(keys, axis=-1)
    unit = keys / np.maximum(norms, 1e-300)[..., None] * norms.mean(axis=-1)[..., None, None]
    closeness = [np.where(ahead, -np.inf, _closeness(queries, k)) for k in (keys, unit)]
    w = seen.weights.astype(np.float64)
    entropy = -np.sum(w * np.log(np.where(w > 0, w, 1)), axis=-1)

    def mean(a: Array) -> Floats:
        over: Floats = np.moveaxis(a, 2, 1)[:, :, real].mean(axis=-1) if a.ndim == 4 else a
        return over

    return {
        "nearest": mean(closeness[0].argmax(axis=-1) == strongest),
        "nearest_direction": mean(closeness[1].argmax(axis=-1) == strongest),
        "rank_correlation": mean(_rank_correlation(weights, closeness[0])),
        "effective_keys": mean(np.exp(entropy)),
        "norm_spread": (norms.std(axis=-1) / np.maximum(norms.mean(axis=-1), 1e-300)).mean(axis=1),
        "chance": float((real / np.arange(1, real.shape[1] + 1)).sum() / real.sum()),
        "positions": int(real.sum()),
    }


def _closeness(queries: Floats, keys: Floats) -> Floats:
    """Return -|q - k|^2 for all pairs (..., T, T), one query at a time."""
    out = np.empty((*queries.shape[:-1], keys.shape[-2]))
    for t in range(queries.shape[-2]):
        out[..., t, :] = -np.square(queries[..., t, None, :] - keys).sum(axis=-1)
    return out


def _rank_correlation(a: Floats, b: Floats) -> Floats:
    """Return Spearman's correlation over the keys that each position sees (..., T); 0 where it sees one."""
    T = a.shape[-1]
    visible = np.tril(np.ones((T, T)))
    count = np.arange(1, T + 1)
    ranks = [(x.argsort(axis=-1).argsort(axis=-1) - (T - count)[:, None]) * visible for x in (a, b)]  # from 0
    centred = [(r - ((count - 1) / 2)[:, None]) * visible for r in ranks]
    scale = np.where(count > 1, count * (count**2 - 1) / 12, 1)  # the sum of the squared ranks
    correlation: Floats = (centred[0] * centred[1]).sum(axis=-1) / scale
    return correlation
