"""How much does a transformer memorize, and do the field's measures of it agree?

If a model is a memory, the bits that it stores of random rows reach a plateau proportional to its parameters, and a
language is memorized while its rows hold fewer bits than that. If extraction, counterfactual memorization and membership
measure one thing, they rank the same rows alike; what a model completes without having seen it is not memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from hopmin._typing import Floats, Integers
from hopmin.data.corpus import inputs_and_targets
from hopmin.numerics import log_softmax
from hopmin.study import charts
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Training, fit, train
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import bootstrap, proportion
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import BATCH

NUMBER = 4
TEXT = True
PREFIXES = (0.25, 0.5, 0.75)  # of the tokens of a row
SAMPLES = 10
METHOD = (
    "Models are trained on 100, 10, 1 and 0.1% of the rows for equal steps; on random tokens until they store no more; and "
    "on random halves of the rows, so that every row is in some models and not in others."
)
PAPER = (
    "The first version of the paper reports that 0.1% of a corpus is memorized and that 1% behaves like all of it. Morris "
    "et al. (2025) find 3.5 to 4 bits per parameter above half a million parameters."
)
CONTROL = (
    "Random rows hold no rule, so all that is predicted of them is memorized. Every measure on rows that were trained on "
    "is compared with the same measure on the same rows in models that were not trained on them."
)
CAVEATS = (
    "Small models trained for a limited number of steps store less than they could: bits per parameter are a lower bound. "
    "Rows of Question Formation can be completed by rule once their first half is known."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        "fractions": (1, 1, 8, 60, 6, (1.0, 0.1)),
        "bits": (((1, 1, 8, 8, 6),), (4, 8), 6),
        "halves": (1, 1, 8, 20, 6, 4),
    },
    "quick": {
        "fractions": (2, 4, 32, 10_000, 600, (1.0, 0.1, 0.01, 0.001)),
        "bits": (((1, 2, 16, 32, 16),), (40, 80, 160, 320), 1_500),
        "halves": (1, 2, 32, 200, 250, 20),
    },
    "standard": {
        "fractions": (2, 4, 64, 20_000, 2_000, (1.0, 0.1, 0.01, 0.001)),
        "bits": (((1, 2, 16, 32, 16), (1, 2, 32, 32, 16), (2, 2, 32, 32, 16)), (50, 100, 200, 400, 800), 6_000),
        "halves": (2, 4, 32, 400, 500, 40),
    },
    "paper": {
        "fractions": (6, 8, 512, 100_000, 100_000, (1.0, 0.1, 0.01, 0.001)),
        "bits": (((1, 1, 32, 2_048, 64), (2, 2, 64, 2_048, 64)), (256, 512, 1_024, 2_048, 4_096), 1_000_000),
        "halves": (6, 8, 512, 10_000, 20_000, 40),
    },
}


def cells(settings: Settings) -> list[Cell]:
    """Return the cells of the three parts."""
    sizes = SIZES[settings.preset]
    layers, heads, width, rows, steps, shares = sizes["fractions"]
    corpus = {"corpus": settings.corpus, "corpus_seed": settings.seed}
    fractions = [
        {"part": "fraction", "fraction": share, "seed": seed, "training": asdict(
            Training(layers, heads, width, max(1, round(share * rows)), steps, seed=seed, drawn=rows, **corpus)
        )}
        for share in shares
        for seed in settings.all_seeds
    ]  # fmt: skip
    models, amounts, steps = sizes["bits"]
    bits = [
        {
            "part": "bits",
            "layers": L,
            "heads": H,
            "width": D,
            "symbols": V,
            "length": S,
            "rows": rows,
            "steps": steps,
            "seed": seed,
        }
        for L, H, D, V, S in models
        for rows in amounts
        for seed in settings.all_seeds
    ]
    layers, heads, width, rows, steps, count = sizes["halves"]
    training = asdict(Training(layers, heads, width, rows, steps, seed=settings.seed, drawn=rows, **corpus))
    halves = [{"part": "half", "number": i, "seed": settings.seed, "training": training} for i in range(count)]
    return fractions + bits + halves


def cost(cell: Cell) -> Cost:
    """Return the size and the length of a cell's training."""
    if cell["part"] == "bits":
        return Cost(12 * cell["layers"] * cell["width"] ** 2, cell["steps"] * min(64, cell["rows"]) * cell["length"])
    return Training(**cell["training"]).cost


def run(cell: Cell, progress: Progress) -> Record:
    """Train one model and return its measurements."""
    return {"fraction": _fraction, "bits": _bits, "half": _half}[cell["part"]](cell, progress)


def _fraction(cell: Cell, progress: Progress) -> Record:
    training = Training(**cell["training"])
    model, rows, held_out, curve = fit(training, progress)
    return {
        "rows": len(rows),
        "parameters": model.config.parameter_count,
        "entropy": training.language.entropy,
        "curve": [list(point) for point in curve],
        "loss": {"train": cross_entropy(model, rows[:1000]), "held_out": cross_entropy(model, held_out)},
    }


def _bits(cell: Cell, progress: Progress) -> Record:
    """Return the bits of uniformly random rows, and how many of them the model has memorized."""
    V, S, n = cell["symbols"], cell["length"], cell["rows"]
    rows = random_rows(n, S, V, np.random.default_rng([cell["seed"], n]))
    model = GPT(
        GPTConfig(V + 1, S, cell["layers"], cell["heads"], cell["width"], init_std=None),
        np.random.default_rng([cell["seed"], cell["width"]]),
    )
    train(
        model, rows, steps=cell["steps"], batch_size=min(64, n), seed=cell["seed"], evaluations=1,
        progress=lambda share, loss: progress(share, f"{n:,} random rows, width {cell['width']}, loss {loss:.2f}"),
    )  # fmt: skip
    entropy = n * S * math.log2(V)
    code = n * S * cross_entropy(model, rows) / math.log(2)
    return {"parameters": model.config.parameter_count, "entropy_bits": entropy, "memorized_bits": entropy - code}


def random_rows(n: int, length: int, symbols: int, rng: np.random.Generator) -> Integers:
    """Return rows (n, length + 1) of uniformly random tokens from 1 to `symbols`, each after a 0."""
    rows: Integers = np.concatenate([np.zeros((n, 1), np.int64), rng.integers(1, symbols + 1, (n, length))], axis=1)
    return rows


def _half(cell: Cell, progress: Progress) -> Record:
    """Train on a random half of the rows; return which, and the measurements of all rows."""
    training = Training(**cell["training"])
    rows = training.language.train[: training.rows]
    rng = np.random.default_rng([training.seed, cell["number"]])
    member = np.zeros(len(rows), bool)
    member[rng.choice(len(rows), len(rows) // 2, replace=False)] = True
    model = GPT(training.config, rng)
    train(
        model, rows[member], steps=training.steps, batch_size=training.batch_size, seed=cell["number"], evaluations=1,
        progress=lambda share, loss: progress(share, f"half {cell['number'] + 1}, loss {loss:.2f}"),
    )  # fmt: skip
    return {"member": member.astype(int).tolist(), **score(model, rows)}


def score(model: GPT, rows: Integers) -> Record:
    """Return for every row its loss and, for each of PREFIXES, how its continuation would be decoded.

    Returns
    -------
    dict
        loss (n,): nats per token; greedy (n, 3): 1 if taking the likeliest token reproduces the continuation exactly;
        nats (n, 3): the negative logarithm of the probability that sampling reproduces it.
    """
    loss, greedy, nats = [], [], []
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        log_p = log_softmax(model.logits(tokens).astype(np.float64), axis=-1)
        real = targets >= 0
        cost = np.where(real, -np.take_along_axis(log_p, np.maximum(targets, 0)[..., None], axis=-1)[..., 0], 0)
        right = (log_p.argmax(axis=-1) == targets) | ~real
        lengths = real.sum(axis=1)
        loss += (cost.sum(axis=1) / lengths).round(5).tolist()
        later = [np.arange(targets.shape[1]) >= np.floor(share * lengths)[:, None] for share in PREFIXES]
        greedy += np.stack([(right | ~part).all(axis=1) for part in later], axis=1).astype(int).tolist()
        nats += np.stack([(cost * part).sum(axis=1) for part in later], axis=1).round(4).tolist()
    return {"loss": loss, "greedy": greedy, "nats": nats}


# What the models of halves say together


def counterfactual(scores: Floats, member: Floats) -> Floats:
    """Return the counterfactual memorization (n,) of each row (Zhang et al. 2021).

    It is the mean score in the models that were trained on the row, minus the mean in those that were not.

    Parameters
    ----------
    scores, member : ndarray, shape (models, n)
        Scores of the rows, and whether the model was trained on them.

    Returns
    -------
    ndarray, shape (n,)
        NaN for rows that are in all models or in none.

    Examples
    --------
    >>> counterfactual(np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([[1, 1], [0, 0]]))
    array([1., 0.])
    """
    inside, outside = member.sum(axis=0), (1 - member).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (scores * member).sum(axis=0) / inside - (scores * (1 - member)).sum(axis=0) / outside
    return found


def _stacked(records: Sequence[Record]) -> dict[str, Any]:
    """Return the measurements of all halves as arrays (models, n, ...)."""
    return {name: np.array([r[name] for r in records], float) for name in ("member", "loss", "greedy", "nats")}


def area_under_curve(members: Floats, others: Floats) -> float:
    """Return the probability that a member has a lower loss than another row, counting ties as a half.

    >>> area_under_curve(np.array([0.1, 0.2]), np.array([0.2, 0.9]))
    0.875
    """
    return float(stats.mannwhitneyu(others, members).statistic / (len(members) * len(others)))


# The report


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return bits per parameter, the law of the smaller of capacity and entropy, and the measures of rows."""
    found = []
    bits, halves = _part(records, "bits"), _part(records, "half")
    if bits:
        plateau = [
            max((r for r in bits if _model(r) == model), key=lambda r: r["memorized_bits"]) for model in _models(bits)
        ]
        ratio = bootstrap([r["memorized_bits"] / r["parameters"] for r in plateau])
        text = f"Models of {_span([r['parameters'] for r in plateau])} parameters memorize {ratio} bits per parameter."
        found.append(Finding("bits", text, *ratio, expected="3.5 to 4 for models above half a million parameters"))
        capacity = {_model(r): r["memorized_bits"] for r in plateau}
        errors = [
            abs(min(capacity[_model(r)], r["entropy_bits"]) / r["memorized_bits"] - 1)
            for r in bits
            if r["memorized_bits"] > 0
        ]
        error = bootstrap(errors)
        text = (
            f"The smaller of capacity and entropy predicts the memorized bits to within {error.value:.0%} on average."
        )
        found.append(Finding("law", text, *error, expected="0.017 in Morris et al."))
    if len(halves) > 1:
        seen = _stacked(halves)
        member = seen["member"]
        for i, share in enumerate(PREFIXES):
            inside, outside = (_rate(seen["greedy"][..., i], of) for of in (member, 1 - member))
            text = (
                f"Given {share:.0%} of a row, greedy decoding extracts {inside} of the rows that a model was trained on and "
                f"{outside} of the others."
            )
            found.append(Finding(f"extraction {share:g}", text, inside.value - outside.value, n=member.size,
                                 expected="equal rates if nothing were memorized"))  # fmt: skip
        areas = bootstrap(
            [area_under_curve(loss[m > 0], loss[m == 0]) for loss, m in zip(seen["loss"], member, strict=True)]
        )
        text = f"The loss of a row tells members from others with an area under the curve of {areas}."
        found.append(Finding("membership", text, *areas, expected="0.5 if nothing were memorized"))
        measures = _measures(seen)
        names = list(measures)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            x, y = measures[names[a]], measures[names[b]]
            kept = np.isfinite(x) & np.isfinite(y)
            if kept.sum() > 2 and np.ptp(x[kept]) > 0 and np.ptp(y[kept]) > 0:
                rank = bootstrap(np.stack([x, y], axis=1)[kept], lambda rows: float(stats.spearmanr(*rows.T).statistic))
                text = f"{names[a].capitalize()} and {names[b]} rank the same rows with a correlation of {rank}."
                found.append(Finding(f"{names[a]}, {names[b]}", text, *rank, expected="1 if they measured one thing"))
    for r in sorted(_part(records, "fraction"), key=lambda r: -r["fraction"]):
        text = (
            f"Trained on {r['fraction']:.1%} of the rows ({r['rows']:,}), the losses are {r['loss']['train']:.3f} on "
            f"training rows and {r['loss']['held_out']:.3f} on held-out rows."
        )
        found.append(Finding(f"fraction {r['fraction']:g}, seed {r['seed']}", text, r["loss"]["held_out"] - r["loss"]["train"],
                             n=1, expected="equal losses if nothing were memorized"))  # fmt: skip
    return found


def _measures(seen: dict[str, Any]) -> dict[str, Floats]:
    """Return three measures of how far each row is memorized (n,): higher is more."""
    member = seen["member"]
    return {
        "counterfactual memorization": counterfactual(-seen["loss"], member),
        "extraction": counterfactual(seen["greedy"][..., 1], member),
        "membership": np.array([
            area_under_curve(loss[m > 0], loss[m == 0]) if 0 < m.sum() < len(m) else np.nan
            for loss, m in zip(seen["loss"].T, member.T, strict=True)
        ]),
    }  # fmt: skip


def _rate(hits: Floats, of: Floats) -> Any:
    return proportion(int((hits * of).sum()), int(of.sum()))


def _part(records: Sequence[Record], part: str) -> list[Record]:
    return [r for r in records if r["part"] == part]


def _model(r: Record) -> tuple[int, int, int]:
    return r["layers"], r["width"], r["seed"]


def _models(bits: Sequence[Record]) -> list[tuple[int, int, int]]:
    return sorted({_model(r) for r in bits})


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every model on random rows and on a fraction of the rows."""
    header = ["part", "parameters", "rows", "seed", "bits of the rows", "memorized bits", "bits per parameter",
              "training loss", "held-out loss"]  # fmt: skip
    bits = [
        ["random rows", r["parameters"], r["rows"], r["seed"], round(r["entropy_bits"]), round(r["memorized_bits"]),
         round(r["memorized_bits"] / r["parameters"], 3), None, None]
        for r in sorted(_part(records, "bits"), key=lambda r: (r["parameters"], r["rows"], r["seed"]))
    ]  # fmt: skip
    fractions = [
        [f"{r['fraction']:.1%} of the corpus", r["parameters"], r["rows"], r["seed"], None, None, None,
         round(r["loss"]["train"], 4), round(r["loss"]["held_out"], 4)]
        for r in sorted(_part(records, "fraction"), key=lambda r: (-r["fraction"], r["seed"]))
    ]  # fmt: skip
    return header, bits + fractions


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw memorized bits, losses along training, extraction by prefix, and the measures against each other."""
    drawn = []
    bits, fractions, halves = (_part(records, part) for part in ("bits", "fraction", "half"))
    if bits:
        figure, ax = charts.axes("bits in the rows", "bits memorized", xscale="log", yscale="log")
        ends = [min(r["entropy_bits"] for r in bits), max(r["entropy_bits"] for r in bits)]
        ax.plot(ends, ends, color=charts.INK, linewidth=1.2, linestyle=(0, (4, 3)))
        ax.annotate("all of them", (ends[1], ends[1]), xytext=(-4, -4), textcoords="offset points", ha="right", va="top",
                    rotation=35, fontsize=13)  # fmt: skip
        for i, model in enumerate(_models(bits)):
            chosen = sorted((r for r in bits if _model(r) == model), key=lambda r: r["rows"])
            tips = [f"{r['parameters']:,} parameters, {r['rows']} rows: {r['memorized_bits']:,.0f} of {r['entropy_bits']:,.0f} bits, "
                    f"{r['memorized_bits'] / r['parameters']:.2f} per parameter" for r in chosen]  # fmt: skip
            charts.points(ax, [r["entropy_bits"] for r in chosen], [max(1.0, r["memorized_bits"]) for r in chosen], i, tips=tips,
                          label=f"{chosen[0]['parameters']:,}")  # fmt: skip
        drawn.append(
            Panel(
                "Random rows: bits memorized, by parameters",
                "Memorized bits follow the bits in the rows up to a plateau.",
                figure,
            )
        )
    if fractions:
        figure, ax = charts.axes("step", "loss (nats per token)")
        seed = min(r["seed"] for r in fractions)
        for i, r in enumerate(sorted((r for r in fractions if r["seed"] == seed), key=lambda r: -r["fraction"])):
            steps = [point[0] for point in r["curve"]]
            for column, hollow, what in ((2, False, "held-out"), (1, True, "training")):
                y = [point[column] for point in r["curve"]]
                tips = [
                    f"{r['fraction']:.1%} of the rows, step {s}: {what} loss {v:.3f}"
                    for s, v in zip(steps, y, strict=True)
                ]
                charts.points(ax, steps, y, i, tips=tips, hollow=hollow, label="" if hollow else f"{r['fraction']:.1%}")
        ax.set_ylim(bottom=0)
        if fractions[0]["entropy"] is not None:
            charts.reference(ax, "entropy", y=fractions[0]["entropy"])
        drawn.append(
            Panel(
                "Held-out (solid) and training loss (dashed), by share of the corpus",
                "With a small share the training loss falls far below the entropy while the held-out loss rises.",
                figure,
            )
        )
    if len(halves) > 1:
        seen = _stacked(halves)
        figure, ax = charts.axes(
            "share of the row given", "share of rows extracted", ylim=(-0.03, 1.05), xlim=(0.18, 0.98)
        )
        once = np.exp(-seen["nats"])
        decodings = {"greedy": seen["greedy"], f"best of {SAMPLES}": 1 - (1 - once) ** SAMPLES, "one sample": once}
        for i, (name, hits) in enumerate(decodings.items()):
            for of, hollow, who in ((seen["member"], False, "members"), (1 - seen["member"], True, "others")):
                y = [float((hits[..., j] * of).sum() / of.sum()) for j in range(len(PREFIXES))]
                tips = [
                    f"{name}, {share:.0%} given: {v:.1%} of {who} extracted"
                    for share, v in zip(PREFIXES, y, strict=True)
                ]
                charts.points(ax, PREFIXES, y, i, tips=tips, hollow=hollow, label="" if hollow else name)
        drawn.append(
            Panel(
                "Extraction of training rows (solid) and of the same rows held out (dashed)",
                "More of the training rows are extracted than of the same rows when held out.",
                figure,
            )
        )
        measures = _measures(seen)
        figure, ax = charts.axes("counterfactual memorization (nats per token)", "area under the membership curve")
        x, y = measures["counterfactual memorization"], measures["membership"]
        shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))[:200]
        charts.points(ax, x[shown].tolist(), y[shown].tolist(), 0, line=False,
                      tips=[f"row {i}: counterfactual memorization {x[i]:.3f}, membership {y[i]:.3f}, "
                            f"extraction {measures['extraction'][i]:.2f}" for i in shown])  # fmt: skip
        drawn.append(
            Panel("Two measures of the same rows", "Every point is a row: its memorization by two measures.", figure)
        )
    return drawn
