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

from hopmin._typing import Floats, Integers
from hopmin.memory.nearest import separation
from hopmin.study import charts, pretrained
from hopmin.study.measure import activations, at_the_half, predicted_radius
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import over_models
from hopmin.transformer.llama import Llama
from hopmin.transformer.model import GPT

NUMBER = 3
TEXT = True
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
METHOD = (
    "One activation per row is taken after the last layer, where the second half of the row begins, and the "
    "distance of each to the nearest other one is measured, for 25, 50, 75 and 100% of the rows and at every depth. "
    "Models are trained here; SmolLM2-135M, shown a text, joins them where its package is installed."
)
PAPER = (
    "Section 6.1 finds a mean distance of about 20 for GPT-2 medium, so a radius of 10, and compares it with "
    "sqrt(n / 2πe) = 7.74 for a width of n = 1024."
)
CONTROL = (
    "Gaussian clouds with the mean and the covariance of the activations, of the same size, drawn 20 times; the same "
    "model before training; and rows that were held out, whose sentences are longer, so that they are compared before "
    "training as well. SmolLM2-135M is compared with a model of its size that has random weights."
)
CAVEATS = (
    "The last layer norm fixes the norm of every activation to about sqrt(n) times its gain, so distances grow with "
    "sqrt(n) in any model. Nearest distances shrink as rows are added: a radius belongs to a number of rows. Which "
    "rows SmolLM2-135M was trained on is unknown, so it cannot tell those from others."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"models": ((1, 1, 8), (2, 2, 16)), "rows": 40, "steps": 6, "sample": 40, "draws": 3, "pretrained": 6},
    "quick": {
        "models": ((2, 2, 16), (2, 4, 32), (2, 4, 48)), "rows": 400, "steps": 600, "sample": 400, "draws": 20,
        "pretrained": 100,
    },
    "standard": {
        "models": ((2, 2, 16), (2, 4, 32), (2, 4, 64), (4, 4, 64)), "rows": 800, "steps": 700, "sample": 800,
        "draws": 20, "pretrained": 800,
    },
    "paper": {
        "models": ((6, 8, 512), (10, 8, 512)), "rows": 100_000, "steps": 100_000, "sample": 80_000, "draws": 20,
        "pretrained": 3_000,
    },
}  # fmt: skip
NAMES = {
    "trained": "Trained models", "untrained": "Untrained models",
    "pretrained": "SmolLM2-135M", "random": "SmolLM2-135M with random weights",
}  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every model, trained and untrained, and every seed, and for a pretrained model."""
    sizes = SIZES[settings.preset]
    own = [
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
    return own + [
        {"pretrained": settings.pretrained, "corpus": settings.corpus, "seed": settings.seed, "trained": trained,
         "sample": sizes["pretrained"], "draws": sizes["draws"]}
        for trained in pretrained.variants(settings.pretrained, settings.corpus)
    ]  # fmt: skip


def cost(cell: Cell) -> Cost:
    """Return the cost of training the model and of the distances."""
    if "pretrained" in cell:
        return pretrained.cost(cell["sample"])
    seconds = 1e-8 * cell["sample"] ** 2 * cell["width"] * cell["draws"] / 10
    return Cost(*Training(**cell["training"]).cost[:2], seconds) if cell["trained"] else Cost(seconds=seconds)


def run(cell: Cell, progress: Progress) -> Record:
    """Return quantiles of nearest distances: of activations, of Gaussians, of held-out rows, and at every depth."""
    if "pretrained" in cell:
        shown = pretrained.Pretrained(cell["pretrained"], cell["corpus"], cell["trained"], cell["seed"])
        given, rows = shown.model, shown.rows[: cell["sample"]]
        sizes = {"layers": given.config.layers, "width": given.config.width}
        return {**sizes, **_measured(given, rows, cell["draws"], cell["seed"])}
    training = Training(**cell["training"])
    if cell["trained"]:
        model, train, held_out, _ = fit(training, progress)
    else:
        model, corpus = training.untrained, training.language
        train, held_out = corpus.train[: training.rows], corpus.held_out
    size = min(cell["sample"], len(train), len(held_out))
    return {
        **_measured(model, train[:size], cell["draws"], cell["seed"]),
        "held_out": distances(activations(model, held_out[:size]).astype(np.float64)),
    }


def _measured(model: GPT | Llama, rows: Integers, draws: int, seed: int) -> Record:
    """Return the measurements that need no other rows."""
    width = model.config.width
    rng = np.random.default_rng([seed, width])
    found, layers = (a.astype(np.float64) for a in at_the_half(model, rows))
    clouds = [gaussian_like(found, rng) for _ in range(draws)]
    parts = [max(2, round(fraction * len(rows))) for fraction in FRACTIONS]
    return {
        "rows": parts,
        "predicted": predicted_radius(width),
        "activations": [distances(found[:part]) for part in parts],
        "means": [float(separation(found[:part]).mean()) for part in parts],
        "gaussian": [[distances(cloud[:part])[2] for cloud in clouds] for part in parts],
        "depth": [distances(layer)[2] for layer in layers],
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
    parts = _parts(records)
    for name, of in parts.items():
        gaussian = over_models(of, lambda r: ratio(r)[0])
        outside = sum(not low <= 1 <= high for _, low, high in map(ratio, of))
        text = (
            f"{NAMES[name]}: the median distance is {gaussian} times that of Gaussians with the same "
            f"covariance; in {outside} of {len(of)} models it lies outside what 95% of the draws give."
        )
        found.append(Finding(f"gaussian {name}", text, *gaussian, expected="1 if it says no more than the covariance"))
        radius = over_models(of, lambda r: r["activations"][-1][2] / 2 / r["predicted"])
        text = f"{NAMES[name]}: half the median distance is {radius} times sqrt(n / 2πe)."
        found.append(Finding(f"radius {name}", text, *radius, expected="1 by section 5.2; 1.3 for the paper's GPT-2"))
        fewer = over_models(of, lambda r: r["activations"][0][2] / r["activations"][-1][2])
        text = f"{NAMES[name]}: with a quarter of the rows the median distance is {fewer} times as large."
        found.append(Finding(f"rows {name}", text, *fewer, expected="1 if it were a property of the patterns"))
    if {"trained", "untrained"} <= parts.keys():
        found.insert(0, _answer({name: parts[name] for name in ("trained", "untrained")}))
    return found


def _parts(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each kind of model that there are any of."""
    kinds = {(False, True): "trained", (False, False): "untrained", (True, True): "pretrained", (True, False): "random"}
    parts: dict[str, list[Record]] = {}
    for kind, name in kinds.items():
        if of := [r for r in records if ("pretrained" in r, r["trained"]) == kind]:
            parts[name] = of
    return parts


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
        f"{verdict}: in {len(parts['trained'])} models trained here, their median is {after.value:.3g} times that of "
        f"held-out rows, {before.value:.3g} times before training, a change of {change}; relative to "
        f"Gaussians it is {gaussian[0]:.3g}, before training {gaussian[1]:.3g}."
    )
    return Finding("answer", text, *change, expected="0 if they do not depend on memory")


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every model and number of rows."""
    header = ["models", "layers", "width", "seed", "rows", "2.5%", "median", "97.5%", "mean", "Gaussian",
              "predicted 2r"]  # fmt: skip
    return header, [
        [name, r["layers"], r["width"], r["seed"], rows,
         *(r["activations"][i][q] for q in (0, 2, 4)), round(r["means"][i], 4),
         round(float(np.median(r["gaussian"][i])), 4), round(2 * r["predicted"], 4)]
        for name, of in _parts(records).items()
        for r in of
        for i, rows in enumerate(r["rows"])
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw distances against the number of rows, beside those of Gaussians, and along the depth."""
    drawn, seed, parts = [], min(r["seed"] for r in records), _parts(records)
    for names in (("trained",), ("untrained",), ("pretrained", "random")):
        chosen = [(name, r) for name in names for r in parts.get(name, []) if r["seed"] == seed]
        if not chosen:
            continue
        figure, ax = charts.axes("rows", "median nearest distance")
        for i, (name, r) in enumerate(sorted(chosen, key=lambda pair: (pair[1]["width"], pair[1]["layers"]))):
            quartiles, model = r["activations"], f"{r['layers']} layers, width {r['width']}, {name}"
            tips = [f"{model}, {rows} rows: median {q[2]:.3g}, quartiles {q[1]:.3g} and {q[3]:.3g}"
                    for rows, q in zip(r["rows"], quartiles, strict=True)]  # fmt: skip
            charts.points(ax, r["rows"], [q[2] for q in quartiles], i, tips=tips, low=[q[1] for q in quartiles],
                          high=[q[3] for q in quartiles],
                          label=f"{r['layers']}×{r['width']}" if len(names) == 1 else name)  # fmt: skip
            medians = [float(np.median(draws)) for draws in r["gaussian"]]
            tips = [f"Gaussians like {model}, {rows} rows: median {m:.3g}"
                    for rows, m in zip(r["rows"], medians, strict=True)]  # fmt: skip
            charts.points(ax, r["rows"], medians, i, tips=tips, hollow=True)
        ax.set_ylim(bottom=0)
        what = NAMES[names[0]]
        drawn.append(Panel(
            f"{what} (solid, with quartiles) and Gaussians (dashed)",
            f"Median nearest distance against the number of rows: {what}, by layers × width, and Gaussians with the "
            "same covariance." if len(names) == 1 else
            f"Median nearest distance against the number of rows: {what}, pretrained and with random weights, and "
            "Gaussians with the same covariance.", figure,
        ))  # fmt: skip
    for names, what, scale in (
        (("trained", "untrained"), "the widest model trained here", "linear"),
        (("pretrained", "random"), NAMES["pretrained"], "log"),
    ):
        of = {name: [r for r in parts.get(name, []) if r["seed"] == seed] for name in names}
        widest = max(((r["width"], r["layers"]) for part in of.values() for r in part), default=None)
        if widest is None:
            continue
        figure, ax = charts.axes("depth (0: embeddings)", "median nearest distance", yscale=scale)
        for i, (name, part) in enumerate(of.items()):
            for r in (r for r in part if (r["width"], r["layers"]) == widest):
                tips = [f"{name}, depth {depth}: {d:.3g}" for depth, d in enumerate(r["depth"])]
                charts.points(ax, list(range(len(r["depth"]))), r["depth"], i, tips=tips, label=name,
                              hollow=i == 1)  # fmt: skip
        if scale == "linear":
            ax.set(ylim=(0, None), xticks=range(widest[1] + 1))
        alt = f"Median nearest distance after each block of {what}."
        drawn.append(Panel(f"Along the depth of {what}", alt, figure))
    return drawn
