"""Do the distances between activations say anything about memory that a Gaussian does not?

The paper takes half the distance between nearest activations as the radius of a stored pattern. If it measures memory,
it must differ from that of a Gaussian cloud with the same covariance, from that of the untrained model, and between rows
that were trained on and rows that were not. If it differs from none, it measures the width and the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hopmin._typing import Floats
from hopmin.memory.nearest import separation
from hopmin.study import charts
from hopmin.study.measure import activations, predicted_radius, states
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import bootstrap

NUMBER = 3
TEXT = True
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
METHOD = (
    "One activation per row is taken after the last layer, where the second half of the row begins, and the distance of "
    "each to the nearest other one is measured, for 25, 50, 75 and 100% of the rows and at every depth."
)
PAPER = (
    "Section 6.1 finds a mean distance of about 20 for GPT-2 medium, so a radius of 10, and compares it with "
    "sqrt(n / 2πe) = 7.74 for a width of n = 1024."
)
CONTROL = (
    "Gaussian clouds with the mean and the covariance of the activations, of the same size, drawn 20 times; the same "
    "model before training; and rows that were held out."
)
CAVEATS = (
    "The last layer norm fixes the norm of every activation to about sqrt(n) times its gain, so distances grow with "
    "sqrt(n) in any model. Nearest distances shrink as rows are added: a radius belongs to a number of rows."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"models": ((1, 1, 8), (2, 2, 16)), "rows": 40, "steps": 6, "sample": 40, "draws": 3},
    "quick": {"models": ((2, 2, 16), (2, 4, 32), (2, 4, 48)), "rows": 400, "steps": 700, "sample": 400, "draws": 20},
    "standard": {
        "models": ((2, 2, 16), (2, 4, 32), (2, 4, 64), (4, 4, 64)), "rows": 800, "steps": 1_500, "sample": 800, "draws": 20,
    },
    "paper": {
        "models": ((6, 8, 512), (10, 8, 512)), "rows": 100_000, "steps": 100_000, "sample": 80_000, "draws": 20,
    },
}  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every model, trained and untrained, and every seed."""
    sizes = SIZES[settings.preset]
    return [
        {
            "training": asdict(Training(
                layers, heads, width, sizes["rows"], sizes["steps"], seed=seed,
                corpus=settings.corpus, corpus_seed=settings.seed,
            )),
            "layers": layers, "width": width, "seed": seed, "trained": trained,
            "sample": sizes["sample"], "draws": sizes["draws"],
        }
        for layers, heads, width in sizes["models"]
        for seed in settings.all_seeds
        for trained in (True, False)
    ]  # fmt: skip


def cost(cell: Cell) -> Cost:
    """Return the cost of training the model and of the distances."""
    seconds = 1e-8 * cell["sample"] ** 2 * cell["width"] * cell["draws"] / 10
    return Cost(*Training(**cell["training"]).cost[:2], seconds) if cell["trained"] else Cost(seconds=seconds)


def run(cell: Cell, progress: Progress) -> Record:
    """Return quantiles of nearest distances: of activations, of Gaussians, of held-out rows, and at every depth."""
    training = Training(**cell["training"])
    if cell["trained"]:
        model, train, held_out, _ = fit(training, progress)
    else:
        model, corpus = training.untrained, training.language
        train, held_out = corpus.train[: training.rows], corpus.held_out
    size = min(cell["sample"], len(train), len(held_out))
    rng = np.random.default_rng([cell["seed"], cell["width"]])
    found = activations(model, train[:size]).astype(np.float64)
    clouds = [gaussian_like(found, rng) for _ in range(cell["draws"])]
    parts = [max(2, round(fraction * size)) for fraction in FRACTIONS]
    return {
        "rows": parts,
        "predicted": predicted_radius(cell["width"]),
        "activations": [distances(found[:part]) for part in parts],
        "means": [float(separation(found[:part]).mean()) for part in parts],
        "gaussian": [[distances(cloud[:part])[2] for cloud in clouds] for part in parts],
        "held_out": distances(activations(model, held_out[:size]).astype(np.float64)),
        "depth": [distances(layer.astype(np.float64))[2] for layer in states(model, train[:size])],
    }


def gaussian_like(points: Floats, rng: np.random.Generator) -> Floats:
    """Draw as many points (n, d) from a Gaussian with the mean and covariance of these."""
    centred = points - points.mean(axis=0)
    # a normal mixture of the centred rows has their covariance, and needs no factorization
    weights = rng.normal(size=(len(points), len(points))) / np.sqrt(len(points))
    cloud: Floats = points.mean(axis=0) + weights @ centred
    return cloud


def distances(points: Floats) -> list[float]:
    """Return the QUANTILES of the distance of each point to the nearest other one.

    >>> distances(np.array([[0.0], [1.0], [3.0]]))[2]
    1.0
    """
    return [float(q) for q in np.quantile(separation(points), QUANTILES).round(5)]


def ratio(r: Record, i: int = -1) -> tuple[float, float, float]:
    """Return the median distance over that of the Gaussians, and over those of the 2.5% and 97.5% quantile of draws."""
    median, draws = r["activations"][i][2], np.array(r["gaussian"][i])
    low, high = np.quantile(draws, [0.025, 0.975])
    return median / float(np.median(draws)), median / float(high), median / float(low)


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return the distances relative to the Gaussians, before and after training, and to held-out rows."""
    found, ratios = [], {}
    for trained in (True, False):
        chosen = [r for r in records if r["trained"] == trained]
        if not chosen:
            continue
        name = "trained" if trained else "untrained"
        ratios[name] = bootstrap([ratio(r)[0] for r in chosen])
        text = (
            f"The median distance of {name} models is {ratios[name]} times that of Gaussians with the same covariance."
        )
        found.append(
            Finding(f"gaussian {name}", text, *ratios[name], expected="1 if it says no more than the covariance")
        )
        unseen = bootstrap([r["activations"][-1][2] / r["held_out"][2] for r in chosen])
        text = f"In {name} models it is {unseen} times that of as many held-out rows."
        found.append(Finding(f"held out {name}", text, *unseen, expected="1 if it does not depend on memory"))
        radius = bootstrap([r["activations"][-1][2] / 2 / r["predicted"] for r in chosen])
        text = f"Half of it is {radius} times sqrt(n / 2πe) in {name} models."
        found.append(Finding(f"radius {name}", text, *radius, expected="1 by section 5.2; 1.3 for the paper's GPT-2"))
        fewer = bootstrap([r["activations"][0][2] / r["activations"][-1][2] for r in chosen])
        text = f"With a quarter of the rows it is {fewer} times as large, in {name} models."
        found.append(Finding(f"rows {name}", text, *fewer, expected="1 if it were a property of the patterns"))
    if len(ratios) == 2:
        trained, untrained = ratios["trained"].value, ratios["untrained"].value
        same = abs(trained - 1) < 0.1 and abs(untrained - 1) < 0.1
        verdict = (
            "The distances say little that a Gaussian does not" if same else "The distances are not those of a Gaussian"
        )
        text = (
            f"{verdict}: their median is {ratios['trained']} times that of a Gaussian with the same covariance in trained "
            f"models, and {ratios['untrained']} times in untrained ones."
        )
        found.insert(0, Finding("answer", text, trained, ratios["trained"].low, ratios["trained"].high, len(records),
                                "1 if it says no more than the covariance"))  # fmt: skip
    return found


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every model and number of rows."""
    header = [
        "layers",
        "width",
        "trained",
        "seed",
        "rows",
        "2.5%",
        "median",
        "97.5%",
        "mean",
        "Gaussian",
        "predicted 2r",
    ]
    return header, [
        [r["layers"], r["width"], "yes" if r["trained"] else "no", r["seed"], rows, *(r["activations"][i][q] for q in (0, 2, 4)),
         round(r["means"][i], 4), round(float(np.median(r["gaussian"][i])), 4), round(2 * r["predicted"], 4)]
        for r in records
        for i, rows in enumerate(r["rows"])
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw distances against the number of rows, relative to the Gaussians, and along the depth."""
    drawn = []
    seed = min(r["seed"] for r in records)
    for trained in (True, False):
        chosen = sorted((r for r in records if r["trained"] == trained and r["seed"] == seed), key=lambda r: r["width"])
        if not chosen:
            continue
        name = "trained" if trained else "untrained"
        figure, ax = charts.axes("rows", "median nearest distance")
        for i, r in enumerate(chosen):
            low, high = ([q[j] for q in r["activations"]] for j in (1, 3))
            tips = [f"{r['layers']} layers, width {r['width']}, {rows} rows: median {q[2]:.3g}, quartiles {q[1]:.3g} and {q[3]:.3g}"
                    for rows, q in zip(r["rows"], r["activations"], strict=True)]  # fmt: skip
            charts.points(ax, r["rows"], [q[2] for q in r["activations"]], i, tips=tips, low=low, high=high,
                          label=f"{r['layers']}×{r['width']}")  # fmt: skip
            medians = [float(np.median(draws)) for draws in r["gaussian"]]
            tips = [
                f"Gaussian like width {r['width']}, {rows} rows: median {m:.3g}"
                for rows, m in zip(r["rows"], medians, strict=True)
            ]
            charts.points(ax, r["rows"], medians, i, tips=tips, hollow=True)
        ax.set_ylim(bottom=0)
        drawn.append(
            Panel(
                f"{name.capitalize()} models (solid) and Gaussians (dashed)",
                "Nearest distances fall as rows are added, for activations and for Gaussians alike.",
                figure,
            )
        )
    figure, ax = charts.axes("depth (0: embeddings)", "median nearest distance")
    for i, r in enumerate(r for r in records if r["seed"] == seed and r["width"] == max(q["width"] for q in records)):
        name = "trained" if r["trained"] else "untrained"
        tips = [
            f"{name}, {r['layers']} layers, width {r['width']}, depth {depth}: {d:.3g}"
            for depth, d in enumerate(r["depth"])
        ]
        charts.points(ax, list(range(len(r["depth"]))), r["depth"], i, tips=tips, label=name, hollow=not r["trained"])
    ax.set_ylim(bottom=0)
    drawn.append(Panel("Along the depth of the widest model", "Median nearest distances after each block.", figure))
    return drawn
