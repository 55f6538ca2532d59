"""Is the plateau near one nat per token a property of the theory, or of the language?

If the theory's bound holds (proposition 4: a loss of at least 1), the held-out loss stays near 1 whatever the language.
If the plateau is the entropy of the language, the loss follows the entropy as the lexicon shrinks and grows: a slope of
1 against the entropy, and an intercept of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hopmin.study import charts
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import bootstrap, line, proportion

NUMBER = 1
TEXT = False
METHOD = (
    "The lexicon of Question Formation is shrunk and grown, which changes the entropy of the language and nothing else. "
    "One model is trained on each language and scored on 1,000 rows that it has not seen."
)
PAPER = (
    "Section 6.3 reports that 6 and 10 layers settle near 1 nat per token on Question Formation, and takes this as "
    "support for proposition 4, a lower bound of 1."
)
CONTROL = (
    "The entropy of each language is computed exactly from its grammar. A held-out row that is also a training row "
    "would let memory pass for knowledge; the share of such rows is counted."
)
CAVEATS = (
    "The models stop after a fixed number of steps, so a language with more words is learned less completely: its loss "
    "lies further above the entropy, which raises the slope."
)

PAPER_MODEL: Any = {"norm": "post", "position_encoding": "sinusoidal"}
# lexicons (nouns, verbs); layers, heads, width; training rows, steps, batch size; other fields of the model
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"lexicons": ((2, 1), (13, 9)), "models": ((1, 1, 8, {}),), "training": (60, 6, 8)},
    "quick": {
        "lexicons": ((2, 1), (4, 3), (13, 9), (26, 18), (60, 40)),
        "models": ((2, 4, 32, {}),),
        "training": (6_000, 900, 16),
    },
    "standard": {
        "lexicons": ((1, 1), (2, 1), (4, 3), (6, 4), (13, 9), (26, 18), (60, 40), (80, 60)),
        "models": ((2, 4, 64, {}),),
        "training": (20_000, 3_000, 16),
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
        asdict(Training(
            layers, heads, width, rows, steps, batch_size, seed,
            drawn=rows, corpus_seed=settings.seed, nouns=nouns, verbs=verbs, options=options,
        ))
        for nouns, verbs in sizes["lexicons"]
        for layers, heads, width, options in sizes["models"]
        for seed in settings.all_seeds
    ]  # fmt: skip


def cost(cell: Cell) -> Cost:
    """Return the size and the length of a cell's training."""
    return Training(**cell).cost


def run(cell: Cell, progress: Progress) -> Record:
    """Train on one language; return its entropy and the losses."""
    training = Training(**cell)
    model, train, held_out, curve = fit(training, progress)
    seen = {row.tobytes() for row in train}
    return {
        "entropy": training.language.entropy,
        "floor": training.language.floors["test"],
        "loss": {"train": curve[-1].train, "held_out": cross_entropy(model, held_out)},
        "parameters": model.config.parameter_count,
        "repeated": sum(row.tobytes() in seen for row in held_out),
        "scored": len(held_out),
    }


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return the line of the held-out loss against the entropy, the loss above it, and the share of repeated rows."""
    entropy, loss = _column(records, "entropy"), np.array([r["loss"]["held_out"] for r in records])
    above = loss - _column(records, "floor")
    novel = proportion(sum(r["scored"] - r["repeated"] for r in records), sum(r["scored"] for r in records))
    excess = bootstrap(above)
    found = []
    if len(np.unique(entropy)) > 1:
        slope, intercept = line(entropy, loss)
        follows = slope.low is not None and slope.low > 0
        verdict = "The loss follows the entropy of the language" if follows else "The loss does not follow the entropy"
        ends = f"entropies from {entropy.min():.2f} to {entropy.max():.2f} give losses from {loss.min():.2f} to {loss.max():.2f}"
        found += [
            Finding("slope", f"{verdict}: {ends} nats per token, a slope of {slope}.", *slope,
                    expected="1 if the plateau is the entropy; 0 if it is a bound of the theory"),
            Finding("intercept", f"The line meets an entropy of 0 at a loss of {intercept}.", *intercept,
                    expected="0 if the plateau is the entropy; 1 if it is a bound of the theory"),
        ]  # fmt: skip
    return [
        *found,
        Finding("lowest", f"The lowest held-out loss is {loss.min():.3f} nats per token.", float(loss.min()),
                n=len(records), expected="at least 1 by proposition 4"),
        Finding("excess", f"The held-out loss is {excess} nats per token above the cross-entropy of the true "
                "distribution on the same rows.", *excess, expected="at least 0"),
        Finding("novelty", f"{novel.value:.1%} of the held-out rows are not among the training rows.", *novel,
                expected="1: rows are drawn without repetition"),
    ]  # fmt: skip


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every language, model and seed."""
    header = ["nouns", "verbs", "seed", "parameters", "entropy", "held-out loss", "training loss", "above the floor"]
    return header, [
        [r["nouns"], r["verbs"], r["seed"], r["parameters"], round(r["entropy"], 4), round(r["loss"]["held_out"], 4),
         round(r["loss"]["train"], 4), round(r["loss"]["held_out"] - r["floor"], 4)]
        for r in sorted(records, key=lambda r: (r["entropy"], r["parameters"], r["seed"]))
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw the held-out loss against the entropy of the language, and what lies above it."""
    figure, ax = charts.axes("entropy of the language (nats per token)", "held-out loss (nats per token)")
    ends = [0.9 * min(_column(records, "entropy")), 1.05 * max(_column(records, "entropy"))]
    ax.plot(ends, ends, color=charts.INK, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.annotate(
        "loss = entropy", (ends[1], ends[1]), xytext=(-4, -16), textcoords="offset points", ha="right", fontsize=13
    )
    charts.reference(ax, "proposition 4: at least 1", y=1.0)
    for i, size in enumerate(sorted({r["parameters"] for r in records})):
        chosen = sorted((r for r in records if r["parameters"] == size), key=lambda r: r["entropy"])
        charts.points(
            ax, [r["entropy"] for r in chosen], [r["loss"]["held_out"] for r in chosen], i, line=False,
            tips=[f"{r['nouns']} nouns, {r['verbs']} verbs: entropy {r['entropy']:.3f}, "
                  f"held-out loss {r['loss']['held_out']:.3f}" for r in chosen],
        )  # fmt: skip
    alt = "The held-out loss of models of languages of different entropy lies on the line where loss equals entropy."
    return [Panel("Held-out loss against the entropy of the language", alt, figure)]


def _column(records: Sequence[Record], name: str) -> Any:
    return np.array([r[name] for r in records])
