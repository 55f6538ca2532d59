"""Does a memory of the training tokens beside the model lower its loss on rows that it has not seen?

A nearest-neighbour language model (Khandelwal et al. 2020) mixes the model's prediction with the tokens that followed
the nearest stored activations. If storing the training rows lowers the held-out loss, the model has not kept all that
it could; if only other rows do, the memory is a way to use more data; if it only falls on rows that are stored
verbatim, the memory repeats them and nothing more.
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
from hopmin.study.models import Training, entropy_name, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import Estimate, bootstrap, over_models
from hopmin.transformer.model import GPT
from hopmin.transformer.training import BATCH

NUMBER = 6
TEXT = True
NEIGHBOURS = 16
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # of the memory in the mixture
SHARPNESS = (0.25, 1.0, 4.0)  # beta, in units of one over the median squared distance to the nearest key
METHOD = (
    "Keys are a trained model's last activations, values the tokens that follow. Its prediction is mixed with the "
    "values of the 16 nearest keys, weighted by softmax(-beta d²). Weight and beta are chosen on one half of the "
    "held-out rows and scored on the other."
)
PAPER = (
    "The theory takes a layer for a search among stored patterns. Khandelwal et al. (2020) find 10% lower "
    "perplexity when such a search is added to a model."
)
CONTROL = (
    "The same memory with its values shuffled, which knows the frequencies of tokens and nothing else; rows that "
    "the model was not trained on, stored beside those that it was; and stored rows as queries, whose own tokens "
    "are in the memory."
)
CAVEATS = (
    "The model is trained on few rows, many times, so that it has much to gain. The weight is chosen from a short "
    "list that contains 0, so a memory can only fail to help. On a language whose entropy the model has reached, "
    "nothing is left to gain."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"model": (1, 1, 8), "rows": 40, "steps": 6, "stored": (5, 20), "queries": 10},
    "quick": {"model": (2, 4, 32), "rows": 400, "steps": 600, "stored": (25, 100, 400, 1_600), "queries": 100},
    "standard": {
        "model": (2, 4, 64), "rows": 800, "steps": 700, "stored": (50, 200, 800, 3_200, 6_400), "queries": 200,
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
    losses: dict[str, dict[str, Any]] = {}
    for name, answers in (("memory", values), ("shuffled", shuffled)):
        grid = {(w, s): neighbours["tuning"].loss(answers, w, s * scale) for w in WEIGHTS for s in SHARPNESS}
        weight, sharpness = min(grid, key=lambda choice: (grid[choice], choice))
        losses[name] = {
            "weight": weight,
            "sharpness": sharpness,
            "held_out": neighbours["scored"].loss(answers, weight, sharpness * scale),
            "stored": neighbours["stored"].loss(answers, weight, sharpness * scale),
            "by_weight": [neighbours["scored"].loss(answers, w, sharpness * scale) for w in WEIGHTS],
        }
    plain, chosen, sharpness = neighbours["scored"], losses["memory"]["weight"], losses["memory"]["sharpness"]
    known = {row.tobytes() for row in stored}
    return {
        "tokens": len(values),
        "trained_rows": len(trained_on),
        **training.reference,
        "verbatim": sum(row.tobytes() in known for row in scored) / len(scored),
        "model": {"held_out": plain.loss(values, 0.0, scale), "stored": neighbours["stored"].loss(values, 0.0, scale)},
        **losses,
        "gain": list(plain.gain(values, chosen, sharpness * scale)),
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
        """Return the probability (N,) of each target in the mixture with a memory of these values.

        Parameters
        ----------
        values : ndarray of int
            The token that follows each stored key.
        weight : float
            Weight of the memory in the mixture, from 0 to 1.
        beta : float
            Sharpness of the weights of the neighbours.

        Returns
        -------
        ndarray, shape (N,)
            The probabilities.
        """
        w = softmax(-beta * self.distances.astype(np.float64) ** 2, axis=1)
        recalled = (w * (values[self.indices] == self.targets[:, None])).sum(axis=1)
        mixed: Floats = (1 - weight) * self.predicted + weight * recalled
        return mixed

    def loss(self, values: Integers, weight: float, beta: float) -> float:
        """Return the cross-entropy of the mixture, in nats per token.

        Parameters
        ----------
        values : ndarray of int
            The token that follows each stored key.
        weight : float
            Weight of the memory in the mixture, from 0 to 1.
        beta : float
            Sharpness of the weights of the neighbours.

        Returns
        -------
        float
            The cross-entropy.
        """
        return float(-np.log(np.maximum(self.probabilities(values, weight, beta), 1e-300)).mean())

    def gain(self, values: Integers, weight: float, beta: float) -> Estimate:
        """Return by how many nats per token the mixture lowers the loss, with an interval over rows.

        Parameters
        ----------
        values : ndarray of int
            The token that follows each stored key.
        weight : float
            Weight of the memory in the mixture, from 0 to 1.
        beta : float
            Sharpness of the weights of the neighbours.

        Returns
        -------
        Estimate
            The gain; positive if the memory helps.
        """
        nats = np.log(np.maximum(self.probabilities(values, weight, beta), 1e-300) / self.predicted)
        rows = np.stack([np.bincount(self.rows, nats), np.bincount(self.rows)], axis=1)
        return bootstrap(rows, lambda drawn: float(drawn[:, 0].sum() / drawn[:, 1].sum()))


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
    """Return the gain of a memory of the training rows, of a larger one, of a shuffled one, and on stored rows."""
    sizes = sorted({r["stored"] for r in records})
    trained = max((n for n in sizes if n <= records[0]["trained_rows"]), default=sizes[0])
    found = [_gain_finding([r for r in records if r["stored"] == trained], "gain")]
    if sizes[-1] > trained:
        found.append(_gain_finding([r for r in records if r["stored"] == sizes[-1]], "gain of more rows"))
    chosen = [r for r in records if r["stored"] == trained]
    shuffled = over_models(chosen, lambda r: r["model"]["held_out"] - r["shuffled"]["held_out"])
    stored = over_models(chosen, lambda r: r["model"]["stored"] - r["memory"]["stored"])
    weight = over_models(chosen, lambda r: r["memory"]["weight"])
    verbatim = float(np.mean([r["verbatim"] for r in chosen]))
    found += [
        Finding("shuffled", f"With shuffled values the held-out loss falls by {shuffled} nats per token.", *shuffled,
                expected="0, or what the frequencies of tokens are worth"),
        Finding("stored", f"On rows that are stored themselves the loss falls by {stored} nats per token.", *stored,
                expected="more than on held-out rows, if the memory repeats"),
        Finding("verbatim", f"{verbatim:.1%} of the held-out rows are stored verbatim.", verbatim, n=len(chosen),
                expected="0 for the grammar, whose rows are distinct"),
        Finding("weight", f"The best weight of a memory of the training rows is {weight}.", *weight,
                expected="0 if it is of no use"),
    ]  # fmt: skip
    if chosen[0]["entropy"] is not None:
        above = over_models(chosen, lambda r: r["memory"]["held_out"] - r["entropy"])
        reference = entropy_name(chosen[0])
        text = f"With this memory, the held-out loss is {above} nats per token above the {reference} of the language."
        found.append(
            Finding(
                "above entropy", text, *above, expected="at least 0 above the entropy, apart from what a sample allows"
            )
        )
    return found


def _gain_finding(records: Sequence[Record], name: str) -> Finding:
    """Return the gain of memories of one size: over seeds, or over rows if there is one seed."""
    gain = Estimate(*records[0]["gain"]) if len(records) == 1 else over_models(records, lambda r: r["gain"][0])
    rows, trained = records[0]["stored"], records[0]["trained_rows"]
    what = f"{rows:,} rows" if rows > trained else f"{'the' if rows == trained else rows} training rows"
    verdict = {
        1: "lowers the held-out loss",
        -1: "raises the held-out loss",
        0: "does not clearly change the held-out loss",
    }
    model, mixed = (float(np.mean([r[part]["held_out"] for r in records])) for part in ("model", "memory"))
    text = (
        f"Storing {what} ({records[0]['tokens']:,} tokens) {verdict[gain.side(0)]}: from {model:.3f} to {mixed:.3f} "
        f"nats per token, by {gain}{f'; the model was trained on {trained:,} of the rows' if rows > trained else ''}."
    )
    expected = "above 0 if other rows help" if rows > trained else "above 0 if the model has not kept all that it could"
    return Finding(name, text, *gain, expected=expected)


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
    figure, ax = charts.axes("stored tokens", "held-out loss (nats/token)", xscale="log")
    for i, name in enumerate(("model", "memory", "shuffled")):
        y = [r[name]["held_out"] for r in chosen]
        tips = [f"{name}, {n:,} tokens stored: {v:.4f} nats per token" for n, v in zip(tokens, y, strict=True)]
        charts.points(ax, tokens, y, i, tips=tips, label=name, hollow=name == "shuffled")
    if chosen[0]["entropy"] is not None:
        charts.reference(ax, entropy_name(chosen[0]), y=chosen[0]["entropy"])
    other, bx = charts.axes("weight of the memory", "held-out loss (nats/token)")
    for i, r in enumerate(chosen[-4:]):
        y = r["memory"]["by_weight"]
        tips = [f"{r['tokens']:,} tokens, weight {w:g}: {v:.4f}" for w, v in zip(WEIGHTS, y, strict=True)]
        charts.points(bx, WEIGHTS, y, i, tips=tips, label=f"{r['tokens']:,}")
    bx.set_ylim(top=min(r["memory"]["by_weight"][0] for r in chosen) + 0.6)
    return [
        Panel("Loss against the size of the memory", "The held-out loss of a model, with a memory of its training rows "
              "and of others, and with a shuffled one, against the number of stored tokens.", figure),
        Panel("Loss against the weight of the memory, by stored tokens", "The held-out loss against the weight of the "
              "memory in the mixture, for memories of several sizes.", other),
    ]  # fmt: skip
