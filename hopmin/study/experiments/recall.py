"""Does a memory of the training tokens beside the model lower its loss on rows that it has not seen?

A nearest-neighbour language model (Khandelwal et al. 2020) mixes the model's prediction with the tokens that followed
the nearest stored activations. If the held-out loss falls as tokens are stored, the model has not kept all that it could;
if it only falls on rows that are stored verbatim, the memory repeats them and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hopmin._typing import Floats, Integers
from hopmin.data.corpus import inputs_and_targets
from hopmin.memory.nearest import nearest
from hopmin.numerics import log_softmax, softmax
from hopmin.study import charts
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import bootstrap
from hopmin.transformer.model import GPT
from hopmin.transformer.training import BATCH

NUMBER = 6
TEXT = True
NEIGHBOURS = 16
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # of the memory in the mixture
SHARPNESS = (0.25, 1.0, 4.0)  # beta, in units of one over the median squared distance to the nearest key
METHOD = (
    "Keys are a trained model's last activations, values the tokens that follow. Its prediction is mixed with the values "
    "of the 16 nearest keys, weighted by softmax(-beta d²). Weight and beta are chosen on one half of the held-out rows and "
    "scored on the other."
)
PAPER = (
    "The theory takes a layer for a search among stored patterns. Khandelwal et al. (2020) find 10% lower perplexity when "
    "such a search is added to a model."
)
CONTROL = (
    "The same memory with its values shuffled, which has the same neighbours and knows nothing; and training rows as "
    "queries, which are stored verbatim."
)
CAVEATS = (
    "The weight is chosen from a short list that contains 0, so a memory can only fail to help. On a language whose "
    "entropy the model has reached, nothing is left to gain."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"model": (1, 1, 8), "rows": 40, "steps": 6, "stored": (5, 20), "queries": 10},
    "quick": {"model": (2, 4, 32), "rows": 400, "steps": 700, "stored": (25, 100, 400, 1_600), "queries": 100},
    "standard": {
        "model": (2, 4, 64), "rows": 800, "steps": 1_500, "stored": (50, 200, 800, 3_200, 12_000), "queries": 400,
    },
    "paper": {
        "model": (6, 8, 512), "rows": 100_000, "steps": 100_000, "stored": (1_000, 10_000, 100_000), "queries": 1_000,
    },
}  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every number of stored rows and every seed."""
    sizes = SIZES[settings.preset]
    layers, heads, width = sizes["model"]
    return [
        {"stored": stored, "queries": sizes["queries"], "seed": seed, "training": asdict(Training(
            layers, heads, width, sizes["rows"], sizes["steps"], seed=seed,
            corpus=settings.corpus, corpus_seed=settings.seed,
        ))}
        for seed in settings.all_seeds
        for stored in sizes["stored"]
    ]  # fmt: skip


def cost(cell: Cell) -> Cost:
    """Return the cost of training the model and of the search."""
    training = Training(**cell["training"])
    return Cost(*training.cost[:2], seconds=1e-9 * cell["queries"] * cell["stored"] * 450 * training.width)


def run(cell: Cell, progress: Progress) -> Record:
    """Return the losses of the model and of its mixtures with a memory, on held-out and on stored rows."""
    training = Training(**cell["training"])
    model, trained_on, held_out, _ = fit(training, progress)
    stored = training.language.train[: cell["stored"]]
    keys, values, _ = activations_and_targets(model, stored)
    shuffled = np.random.default_rng([cell["seed"], len(values)]).permutation(values)
    half = min(cell["queries"], len(held_out) // 2)
    tuning, scored = held_out[:half], held_out[half : 2 * half]
    neighbours = {
        name: _ask(model, rows, keys)
        for name, rows in (("tuning", tuning), ("scored", scored), ("stored", stored[:half]))
    }
    scale = 1 / float(np.median(neighbours["tuning"].distances[:, 0]) ** 2 + 1e-12)
    losses = {}
    for name, answers in (("memory", values), ("shuffled", shuffled)):
        grid = {(w, s): neighbours["tuning"].loss(answers, w, s * scale) for w in WEIGHTS for s in SHARPNESS}
        weight, sharpness = min(grid, key=lambda choice: (grid[choice], choice))
        losses[name] = {
            "weight": weight,
            "held_out": neighbours["scored"].loss(answers, weight, sharpness * scale),
            "stored": neighbours["stored"].loss(answers, weight, sharpness * scale),
            "by_weight": [neighbours["scored"].loss(answers, w, sharpness * scale) for w in WEIGHTS],
        }
    memory, plain = losses["memory"], neighbours["scored"]
    per_row = plain.row_losses(values, memory["weight"], sharpness * scale) - plain.row_losses(values, 0.0, scale)
    gain = bootstrap(-per_row)
    return {
        "tokens": len(values),
        "trained_rows": len(trained_on),
        "entropy": training.language.entropy,
        "model": {"held_out": plain.loss(values, 0.0, scale), "stored": neighbours["stored"].loss(values, 0.0, scale)},
        **losses,
        "gain": list(gain),
    }


def activations_and_targets(model: GPT, rows: Integers) -> tuple[Floats, Integers, Integers]:
    """Return the last activation before every target (N, D), the target (N,), and its row (N,)."""
    keys, values, numbers = [], [], []
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        real = targets >= 0
        keys.append(model.activations(tokens).outputs[real])
        values.append(targets[real])
        numbers.append(start + np.nonzero(real)[0])
    return np.concatenate(keys), np.concatenate(values), np.concatenate(numbers)


class Neighbours:
    """The predictions of a model for the targets of some rows, and the nearest stored keys of each.

    Parameters
    ----------
    predicted : ndarray, shape (N,)
        Probability that the model gives to each target.
    targets, rows : ndarray, shape (N,)
        The targets, and the row of each.
    distances, indices : ndarray, shape (N, k)
        The nearest keys.
    """

    def __init__(
        self, predicted: Floats, targets: Integers, rows: Integers, distances: Floats, indices: Integers
    ) -> None:
        self.predicted, self.targets, self.rows, self.distances, self.indices = (
            predicted,
            targets,
            rows,
            distances,
            indices,
        )

    def probabilities(self, values: Integers, weight: float, beta: float) -> Floats:
        """Return the probability (N,) of each target in the mixture with a memory of these values."""
        w = softmax(-beta * self.distances.astype(np.float64) ** 2, axis=1)
        recalled = (w * (values[self.indices] == self.targets[:, None])).sum(axis=1)
        mixed: Floats = (1 - weight) * self.predicted + weight * recalled
        return mixed

    def loss(self, values: Integers, weight: float, beta: float) -> float:
        """Return the cross-entropy of the mixture, in nats per token."""
        return float(-np.log(np.maximum(self.probabilities(values, weight, beta), 1e-300)).mean())

    def row_losses(self, values: Integers, weight: float, beta: float) -> Floats:
        """Return the cross-entropy of each row (n,), in nats per token."""
        nats = -np.log(np.maximum(self.probabilities(values, weight, beta), 1e-300))
        return np.bincount(self.rows, nats) / np.bincount(self.rows)


def _ask(model: GPT, rows: Integers, keys: Floats) -> Neighbours:
    queries, targets, numbers = activations_and_targets(model, rows)
    tokens_p = []
    for start in range(0, len(rows), BATCH):
        tokens, wanted = inputs_and_targets(rows[start : start + BATCH])
        log_p = log_softmax(model.logits(tokens).astype(np.float64), axis=-1)
        tokens_p.append(np.take_along_axis(log_p, np.maximum(wanted, 0)[..., None], axis=-1)[..., 0][wanted >= 0])
    distances, indices = nearest(queries, keys, min(NEIGHBOURS, len(keys)))
    return Neighbours(np.exp(np.concatenate(tokens_p)), targets, numbers, distances, indices)


# The report


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return the gain of the largest memory, of the shuffled one, and on rows that are stored verbatim."""
    most = max(r["stored"] for r in records)
    largest = [r for r in records if r["stored"] == most]
    first, tokens = largest[0], largest[0]["tokens"]
    if len(largest) > 1:
        gain = bootstrap([r["gain"][0] for r in largest])
    else:
        gain = bootstrap([first["gain"][0]])._replace(low=first["gain"][1], high=first["gain"][2], n=first["gain"][3])
    helps = gain.low is not None and gain.low > 0
    verdict = (
        f"Storing {tokens:,} tokens lowers the held-out loss"
        if helps
        else "The memory does not lower the held-out loss"
    )
    model, mixed = (float(np.mean([r[name]["held_out"] for r in largest])) for name in ("model", "memory"))
    text = f"{verdict}: from {model:.3f} to {mixed:.3f} nats per token, by {gain}."
    shuffled = bootstrap([r["model"]["held_out"] - r["shuffled"]["held_out"] for r in largest])
    stored = bootstrap([r["model"]["stored"] - r["memory"]["stored"] for r in largest])
    weight = float(np.mean([r["memory"]["weight"] for r in largest]))
    found = [
        Finding("gain", text, *gain, expected="above 0 if the model has not kept all that it could"),
        Finding("shuffled", f"With shuffled values the loss falls by {shuffled}.", *shuffled, expected="0"),
        Finding("stored", f"On rows that are stored verbatim the loss falls by {stored}.", *stored,
                expected="more than on held-out rows"),
        Finding("weight", f"The best weight of the memory is {weight:.2f}.", weight, n=len(largest), expected="0 if it is of no use"),
    ]  # fmt: skip
    if first["entropy"] is not None:
        above = bootstrap([r["memory"]["held_out"] - r["entropy"] for r in largest])
        text = f"With the memory, the held-out loss is {above} above the entropy of the language."
        found.append(Finding("above entropy", text, *above, expected="at least 0"))
    return found


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every number of stored rows and every seed."""
    header = ["stored rows", "tokens", "seed", "weight", "held-out loss, model", "with memory", "shuffled",
              "stored rows, model", "with memory"]  # fmt: skip
    return header, [
        [r["stored"], r["tokens"], r["seed"], r["memory"]["weight"],
         *(round(v, 4) for v in (r["model"]["held_out"], r["memory"]["held_out"], r["shuffled"]["held_out"],
                                 r["model"]["stored"], r["memory"]["stored"]))]
        for r in sorted(records, key=lambda r: (r["stored"], r["seed"]))
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw the loss against the number of stored tokens, and against the weight of the memory."""
    seed = min(r["seed"] for r in records)
    chosen = sorted((r for r in records if r["seed"] == seed), key=lambda r: r["tokens"])
    tokens = [r["tokens"] for r in chosen]
    figure, ax = charts.axes("stored tokens", "held-out loss (nats per token)", xscale="log")
    for i, (name, key) in enumerate((("model", "model"), ("memory", "memory"), ("shuffled", "shuffled"))):
        y = [r[key]["held_out"] for r in chosen]
        tips = [f"{name}, {n:,} tokens stored: {v:.4f} nats per token" for n, v in zip(tokens, y, strict=True)]
        charts.points(ax, tokens, y, i, tips=tips, label=name, hollow=name == "shuffled")
    if chosen[0]["entropy"] is not None:
        charts.reference(ax, "entropy of the language", y=chosen[0]["entropy"])
    other, bx = charts.axes("weight of the memory", "held-out loss (nats per token)")
    for i, r in enumerate(chosen[-3:]):
        tips = [
            f"{r['tokens']:,} tokens, weight {w:g}: {v:.4f}"
            for w, v in zip(WEIGHTS, r["memory"]["by_weight"], strict=True)
        ]
        charts.points(bx, WEIGHTS, r["memory"]["by_weight"], i, tips=tips, label=f"{r['tokens']:,}")
    return [
        Panel(
            "Loss against the size of the memory",
            "The held-out loss with a memory falls as more tokens are stored.",
            figure,
        ),
        Panel(
            "Loss against the weight of the memory, by stored tokens", "The loss has a minimum at some weight.", other
        ),
    ]
