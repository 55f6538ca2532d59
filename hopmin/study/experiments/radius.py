"""Do the distances between activations say anything about memory that a Gaussian does not?

The paper takes half the distance between nearest activations as the radius of a stored pattern. If it measures memory,
it must differ from that of a Gaussian cloud with the same covariance, from that of the untrained model, and between
rows that were trained on and rows that were not. If it differs from none, it measures the width and the number of rows.
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
from hopmin.study.statistics import over_models

NUMBER = 3
TEXT = True
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
METHOD = (
    "One activation per row is taken after the last layer, where the second half of the row begins, and the "
    "distance of each to the nearest other one is measured, for 25, 50, 75 and 100% of the rows and at every depth."
)
PAPER = (
    "Section 6.1 finds a mean distance of about 20 for GPT-2 medium, so a radius of 10, and compares it with "
    "sqrt(n / 2πe) = 7.74 for a width of n = 1024."
)
CONTROL = (
    "Gaussian clouds with the mean and the covariance of the activations, of the same size, drawn 20 times; the same "
    "model before training; and rows that were held out, whose sentences are longer, so that they are compared before "
    "training as well."
)
CAVEATS = (
    "The last layer norm fixes the norm of every activation to about sqrt(n) times its gain, so distances grow with "
    "sqrt(n) in any model. Nearest distances shrink as rows are added: a radius belongs to a number of rows."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"models": ((1, 1, 8), (2, 2, 16)), "rows": 40, "steps": 6, "sample": 40, "draws": 3},
    "quick": {"models": ((2, 2, 16), (2, 4, 32), (2, 4, 48)), "rows": 400, "steps": 600, "sample": 400, "draws": 20},
    "standard": {
        "models": ((2, 2, 16), (2, 4, 32), (2, 4, 64), (4, 4, 64)), "rows": 800, "steps": 700, "sample": 800,
        "draws": 20,
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
    """Return the median distance over that of the Gaussians, and over the 97.5% and 2.5% quantiles of their draws."""
    median, draws = r["activations"][i][2], np.array(r["gaussian"][i])
    low, high = np.quantile(draws, [0.025, 0.975])
    return median / float(np.median(draws)), median / float(high), median / float(low)


def unseen(r: Record) -> float:
    """Return the median distance over that of as many held-out rows."""
    return float(r["activations"][-1][2] / r["held_out"][2])


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return the distances relative to held-out rows, to Gaussians and to theory, before and after training."""
    found: list[Finding] = []
    parts = {
        name: [r for r in records if r["trained"] == trained]
        for name, trained in (("trained", True), ("untrained", False))
    }
    for name, of in parts.items():
        if not of:
            continue
        gaussian = over_models(of, lambda r: ratio(r)[0])
        outside = sum(not low <= 1 <= high for _, low, high in map(ratio, of))
        text = (
            f"{name.capitalize()} models: the median distance is {gaussian} times that of Gaussians with the same "
            f"covariance; in {outside} of {len(of)} models it lies outside what 95% of the draws give."
        )
        found.append(Finding(f"gaussian {name}", text, *gaussian, expected="1 if it says no more than the covariance"))
        radius = over_models(of, lambda r: r["activations"][-1][2] / 2 / r["predicted"])
        text = f"{name.capitalize()} models: half the median distance is {radius} times sqrt(n / 2πe)."
        found.append(Finding(f"radius {name}", text, *radius, expected="1 by section 5.2; 1.3 for the paper's GPT-2"))
        fewer = over_models(of, lambda r: r["activations"][0][2] / r["activations"][-1][2])
        text = f"{name.capitalize()} models: with a quarter of the rows the median distance is {fewer} times as large."
        found.append(Finding(f"rows {name}", text, *fewer, expected="1 if it were a property of the patterns"))
    if all(parts.values()):
        found.insert(0, _answer(parts))
    return found


def _answer(parts: dict[str, list[Record]]) -> Finding:
    """Return whether training brings rows that were trained on apart from, or closer to, each other than other rows."""
    after, before = (over_models(of, unseen) for of in parts.values())
    gaussian = [over_models(of, lambda r: ratio(r)[0]).value for of in parts.values()]
    pairs = {(r["layers"], r["width"], r["seed"]): unseen(r) for r in parts["untrained"]}
    changes = [
        {"seed": r["seed"], "change": unseen(r) - pairs[key]}
        for r in parts["trained"]
        if (key := (r["layers"], r["width"], r["seed"])) in pairs
    ]
    change = over_models(changes, lambda r: r["change"])
    if change.side(0) == 0:
        verdict = "No effect of memory on the distances of rows that were trained on is found"
    else:
        verdict = "Training changes the distances of rows that were trained on more than those of others"
    text = (
        f"{verdict}: their median is {after.value:.3g} times that of held-out rows, {before.value:.3g} times before "
        f"training, a change of {change}; relative to Gaussians it is {gaussian[0]:.3g}, before training "
        f"{gaussian[1]:.3g}."
    )
    return Finding("answer", text, *change, expected="0 if they do not depend on memory")


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
        [r["layers"], r["width"], "yes" if r["trained"] else "no", r["seed"], rows,
         *(r["activations"][i][q] for q in (0, 2, 4)), round(r["means"][i], 4),
         round(float(np.median(r["gaussian"][i])), 4), round(2 * r["predicted"], 4)]
        for r in records
        for i, rows in enumerate(r["rows"])
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw distances against the number of rows, relative to the Gaussians, and along the depth."""
    drawn, seed = [], min(r["seed"] for r in records)
    for name, trained in (("trained", True), ("untrained", False)):
        chosen = sorted((r for r in records if r["trained"] == trained and r["seed"] == seed), key=lambda r: r["width"])
        if not chosen:
            continue
        figure, ax = charts.axes("rows", "median nearest distance")
        for i, r in enumerate(chosen):
            quartiles, model = r["activations"], f"{r['layers']} layers, width {r['width']}"
            tips = [f"{model}, {rows} rows: median {q[2]:.3g}, quartiles {q[1]:.3g} and {q[3]:.3g}"
                    for rows, q in zip(r["rows"], quartiles, strict=True)]  # fmt: skip
            charts.points(ax, r["rows"], [q[2] for q in quartiles], i, tips=tips, low=[q[1] for q in quartiles],
                          high=[q[3] for q in quartiles], label=f"{r['layers']}×{r['width']}")  # fmt: skip
            medians = [float(np.median(draws)) for draws in r["gaussian"]]
            tips = [f"Gaussians like {model}, {rows} rows: median {m:.3g}"
                    for rows, m in zip(r["rows"], medians, strict=True)]  # fmt: skip
            charts.points(ax, r["rows"], medians, i, tips=tips, hollow=True)
        ax.set_ylim(bottom=0)
        drawn.append(Panel(f"{name.capitalize()} models (solid, with quartiles) and Gaussians (dashed)",
                           f"Median nearest distance against the number of rows, for {name} models, by layers × "
                           "width, and "
                           "for Gaussians with the same covariance.", figure))  # fmt: skip
    figure, ax = charts.axes("depth (0: embeddings)", "median nearest distance")
    widest = max(records, key=lambda r: (r["width"], r["layers"]))
    shown = [r for r in records if (r["seed"], r["width"], r["layers"]) == (seed, widest["width"], widest["layers"])]
    for i, r in enumerate(shown):
        name = "trained" if r["trained"] else "untrained"
        tips = [f"{name}, depth {depth}: {d:.3g}" for depth, d in enumerate(r["depth"])]
        charts.points(ax, list(range(len(r["depth"]))), r["depth"], i, tips=tips, label=name, hollow=not r["trained"])
    ax.set(ylim=(0, None), xticks=range(widest["layers"] + 1))
    drawn.append(Panel("Along the depth of the widest model", "Median nearest distance after each block.", figure))
    return drawn
