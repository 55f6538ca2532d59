"""Is the plateau near one nat per token a property of the theory, or of the language?

If the theory's bound holds (proposition 4: a loss of at least 1), the held-out loss stays near 1 whatever the language.
If the plateau is the entropy of the language, the loss follows the entropy as the lexicon shrinks and grows: a slope of
1 against the floor, which is the cross-entropy of the true distribution on the held-out rows, and an intercept of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hopmin._typing import Floats
from hopmin.study import charts
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import Estimate, line, mean

NUMBER = 1
TEXT = False
METHOD = (
    "The lexicon of Question Formation is shrunk and grown, which changes the entropy of the language and nothing "
    "else. One model is trained on each language and scored on 1,000 rows that it has not seen."
)
PAPER = (
    "Section 6.3 reports that 6 and 10 layers settle near 1 nat per token on Question Formation, and takes this as "
    "support for proposition 4, a lower bound of 1."
)
CONTROL = (
    "The entropy of each language is computed exactly from its grammar, and the probability that the grammar gives to "
    "the held-out rows sets their floor. No held-out row is a training row, which is counted."
)
CAVEATS = (
    "The models stop after a fixed number of steps, so a language with more words is learned less completely: its loss "
    "lies further above the entropy, which raises the slope. Rows are distinct, so short sentences of a small language "
    "are soon used up, and its held-out rows are longer and harder than the language on average."
)

PAPER_MODEL: Any = {"norm": "post", "position_encoding": "sinusoidal"}
# lexicons (nouns, verbs); layers, heads, width; training rows, steps, batch size; other fields of the model
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"lexicons": ((2, 1), (13, 9)), "models": ((1, 1, 8, {}),), "training": (60, 6, 8)},
    "quick": {
        "lexicons": ((2, 1), (4, 3), (13, 9), (26, 18), (60, 40)),
        "models": ((2, 4, 32, {}),),
        "training": (12_500, 1_300, 16),
    },
    "standard": {
        "lexicons": ((2, 1), (4, 3), (6, 4), (13, 9), (26, 18), (60, 40)),
        "models": ((2, 4, 64, {}),),
        "training": (12_500, 2_000, 16),
    },
    "paper": {
        "lexicons": ((2, 1), (4, 3), (13, 9), (26, 18), (60, 40)),
        "models": ((6, 8, 512, PAPER_MODEL), (10, 8, 512, PAPER_MODEL)),
        "training": (100_000, 200_000, 8),
    },
}


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every language, model and seed."""
    sizes = SIZES[settings.preset]
    rows, steps, batch_size = sizes["training"]
    return [
        {"nouns": nouns, "verbs": verbs, "seed": seed, "training": asdict(Training(
            layers, heads, width, rows, steps, batch_size, seed,
            drawn=rows, corpus_seed=settings.seed, nouns=nouns, verbs=verbs, options=options,
        ))}
        for nouns, verbs in sizes["lexicons"]
        for layers, heads, width, options in sizes["models"]
        for seed in settings.all_seeds
    ]  # fmt: skip


def cost(cell: Cell) -> Cost:
    """Return the size and the length of a cell's training."""
    return Training(**cell["training"]).cost


def run(cell: Cell, progress: Progress) -> Record:
    """Train on one language; return its entropy and the losses."""
    training = Training(**cell["training"])
    model, train, held_out, curve = fit(training, progress)
    seen = {row.tobytes() for row in train}
    return {
        "entropy": training.language.entropy,
        "floor": training.language.floors["test"],
        "falling": curve[max(0, len(curve) // 2 - 1)].held_out - curve[-1].held_out,
        "loss": {"train": curve[-1].train, "held_out": cross_entropy(model, held_out)},
        "parameters": model.config.parameter_count,
        "repeated": sum(row.tobytes() in seen for row in held_out),
        "scored": len(held_out),
    }


def languages(records: Sequence[Record]) -> Floats:
    """Return entropy, floor and held-out loss of each language (n, 3), as means over its models and seeds."""
    sizes = sorted({(r["nouns"], r["verbs"]) for r in records})
    return np.array([
        np.mean([
            (r["entropy"], r["floor"], r["loss"]["held_out"]) for r in records if (r["nouns"], r["verbs"]) == size
        ], axis=0)
        for size in sizes
    ])  # fmt: skip


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return the line of the held-out loss against the floor, the loss above it, and the share of repeated rows."""
    entropy, floors, loss = languages(records).T
    lowest, excess, found = int(loss.argmin()), mean(loss - floors), []
    if len(np.unique(entropy)) > 1:
        slope, intercept = line(floors, loss)
        verdict = _verdict(slope)
        losses = f"losses from {loss.min():.2f} to {loss.max():.2f}"
        ends = f"floors from {floors.min():.2f} to {floors.max():.2f} come with {losses}"
        found += [
            Finding("slope", f"{verdict}: {ends} nats per token, a slope of {slope}.", *slope,
                    expected="1 if the plateau is the entropy; 0 if it is a bound of the theory"),
            Finding("intercept", f"The line meets a floor of 0 at a loss of {intercept}.", *intercept,
                    expected="0 if the plateau is the entropy; 1 if it is a bound of the theory"),
        ]  # fmt: skip
    falling = max((float(r["falling"]), r["nouns"], r["verbs"]) for r in records)
    below = "below" if loss[lowest] < 1 else "not below"
    repeated, scored = (sum(r[name] for r in records) for name in ("repeated", "scored"))
    return [
        *found,
        Finding("lowest", f"The lowest held-out loss is {loss[lowest]:.3f} nats per token, {below} the bound of 1, for "
                f"a language with an entropy of {entropy[lowest]:.3f}.", float(loss[lowest]), n=len(loss),
                expected="at least 1 by proposition 4"),
        Finding("excess", f"On average over languages, the held-out loss is {excess} nats per token above the floor of "
                "the same rows.", *excess, expected="at least 0, apart from what a sample of rows allows"),
        Finding("convergence", "In the second half of its training, the held-out loss still falls by "
                f"{falling[0]:.3f} nats per token for {falling[1]} nouns and {falling[2]} verbs, where it falls most.",
                falling[0], n=len(records), expected="0 for models that have converged"),
        Finding("novelty", f"{repeated} of {scored:,} held-out rows are also training rows.", repeated / scored,
                n=scored, expected="0: rows are drawn without repetition"),
    ]  # fmt: skip


def _verdict(slope: Estimate) -> str:
    if slope.side(0) <= 0:
        return (
            "It cannot be told whether the loss follows the entropy"
            if slope.side(1) == 0
            else "The loss does not follow the entropy"
        )
    if slope.side(1) == 0:
        return "The loss follows the entropy of the language"
    more = "more" if slope.side(1) > 0 else "less"
    return f"The loss rises with the entropy of the language, by {more} than the entropy does"


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every language, model and seed."""
    header = [
        "nouns",
        "verbs",
        "seed",
        "parameters",
        "entropy",
        "floor",
        "held-out loss",
        "training loss",
        "above the floor",
    ]
    return header, [
        [r["nouns"], r["verbs"], r["seed"], r["parameters"], round(r["entropy"], 4), round(r["floor"], 4),
         round(r["loss"]["held_out"], 4),
         round(r["loss"]["train"], 4), round(r["loss"]["held_out"] - r["floor"], 4)]
        for r in sorted(records, key=lambda r: (r["entropy"], r["parameters"], r["seed"]))
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw the held-out loss against the floor."""
    figure, ax = charts.axes("floor of the rows (nats per token)", "held-out loss (nats per token)")
    ends = [0.9 * min(_column(records, "floor")), 1.05 * max(_column(records, "floor"))]
    charts.diagonal(ax, ends, ends, "loss = floor")
    charts.reference(ax, "proposition 4: 1", y=1.0)
    for i, shape in enumerate(sorted({(r["training"]["layers"], r["training"]["width"]) for r in records})):
        chosen = [r for r in records if (r["training"]["layers"], r["training"]["width"]) == shape]
        charts.points(
            ax, [r["floor"] for r in chosen], [r["loss"]["held_out"] for r in chosen], i, line=False,
            tips=[f"{r['nouns']} nouns, {r['verbs']} verbs, seed {r['seed']}: entropy {r['entropy']:.3f}, "
                  f"floor {r['floor']:.3f}, held-out loss {r['loss']['held_out']:.3f}" for r in chosen],
        )  # fmt: skip
    alt = (
        "The held-out loss of a model of each language against the cross-entropy of the true distribution on the same "
        "rows, with the line where they are equal and the line of proposition 4 at a loss of 1."
    )
    return [Panel("Held-out loss against the floor of each language", alt, figure)]


def _column(records: Sequence[Record], name: str) -> Any:
    return np.array([r[name] for r in records])
