"""What a study found, on disk: [`write_results`] as JSON, [`write_report`] as SVG figures and one page that holds them all.

Under each figure stand two sentences: what is seen, drawn from the record, and what the paper expects.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from hopmin import plot
from hopmin._files import write_text

Record = dict[str, Any]


class Chapter(NamedTuple):
    """A figure of the report, and the words around it; `seen` and `draw` are given the record."""

    name: str
    title: str
    draw: Callable[[Record], Figure]
    seen: Callable[[Record], str]
    expected: str


def write_results(record: Record, folder: Path) -> None:
    """`results.json`: the record, from which everything else can be made again."""
    write_text(folder / "results.json", json.dumps(record, indent=1) + "\n")


def write_report(record: Record, folder: Path) -> Path:
    """An SVG file a figure, and `report.html`, which holds them and needs no network. Returns the page's path."""
    figures = {chapter.name: svg(chapter.draw(record)) for chapter in CHAPTERS}
    for name, content in figures.items():
        write_text(folder / f"{name}.svg", content)
    template = files("hopmin.study").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    chapters = [
        {"title": c.title, "seen": c.seen(record), "expected": c.expected, "svg": figures[c.name][figures[c.name].index("<svg") :]}
        for c in CHAPTERS
    ]
    page = folder / "report.html"
    write_text(page, environment.from_string(template).render(record=record, chapters=chapters, summary=summary(record)))
    return page


def svg(figure: Figure) -> str:
    """The figure as SVG text: the same bytes for the same figure, letters drawn as paths so that it looks alike everywhere."""
    with matplotlib.rc_context({"svg.hashsalt": "hopmin", "svg.fonttype": "path"}):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def summary(record: Record) -> str:
    """The study in a sentence or two."""
    largest, least = _ends(record)
    entropy = record["corpus"]["entropy"]
    known = f"; the language itself has {entropy:.3f}" if entropy is not None else ""
    return (
        f"Trained on {least['rows']:,} rows, the largest model knows {_percent(least['extraction_rate']['train'])} of them by heart "
        f"and completes {_percent(least['extraction_rate']['held_out'])} of rows it has not seen. Trained on {largest['rows']:,}, it "
        f"completes {_percent(largest['extraction_rate']['train'])} and {_percent(largest['extraction_rate']['held_out'])}, and needs "
        f"{largest['cross_entropy']['held_out']:.3f} nats per token of held-out text{known}."
    )


def _ends(record: Record) -> tuple[Record, Record]:
    """The largest model's runs on the most and on the least data."""
    runs = sorted(record["runs"], key=lambda run: (run["parameters"], run["rows"]))
    same = [run for run in runs if run["parameters"] == runs[-1]["parameters"]]
    return same[-1], same[0]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _seen_landscapes(record: Record) -> str:
    return (
        "At β = 1 every pattern of the paper's figure 1 is a minimum of the distance energy and attracts what starts near it. The dot "
        "energy pulls towards the longer patterns: the middle one attracts nothing, though it is stored just the same. On the line, 0 "
        "and 1 share one minimum in either energy: at this β they are not told apart."
    )


def _seen_curves(record: Record) -> str:
    entropy, (largest, least) = record["corpus"]["entropy"], _ends(record)
    ends = f"{least['curve'][-1]:.2f} on {least['rows']:,} rows and {largest['curve'][-1]:.2f} on {largest['rows']:,}"
    if entropy is None:
        return f"The largest model ends at {ends} nats per token; the entropy of this corpus is not known."
    below = sum(run["curve"][-1] < entropy - 0.02 for run in record["runs"])
    return (
        f"The largest model ends at {ends} nats per token. Training loss levels off at the entropy of the language, {entropy:.3f}, where "
        f"the rows are too many to be learned by heart, and falls through it where they are not ({below} of {len(record['runs'])} runs)."
    )


def _seen_scaling(record: Record) -> str:
    entropy = record["corpus"]["entropy"]
    best = min(record["runs"], key=lambda run: run["cross_entropy"]["held_out"])
    worst = max(record["runs"], key=lambda run: run["cross_entropy"]["held_out"])
    known = ""
    if entropy is not None:
        floor = record["corpus"]["held_out_floor"]
        known = (
            f" The language has {entropy:.3f}, and its true distribution needs {floor:.3f} for just these rows: "
            f"nothing on held-out rows goes below that, while {sum(run['cross_entropy']['train'] < floor for run in record['runs'])} "
            f"of {len(record['runs'])} models do so on their training rows."
        )
    return (
        f"The best held-out loss is {best['cross_entropy']['held_out']:.3f} nats per token (width {best['width']}, {best['rows']:,} rows), "
        f"the worst {worst['cross_entropy']['held_out']:.2f} (width {worst['width']}, {worst['rows']:,} rows).{known}"
    )


def _seen_extraction(record: Record) -> str:
    largest, least = _ends(record)

    def rates(run: Record) -> str:
        train, held_out = run["extraction_rate"]["train"], run["extraction_rate"]["held_out"]
        return f"{_percent(train)} of training rows against {_percent(held_out)} of held-out ones from {run['rows']:,} rows"

    return (
        f"The largest model completes {rates(least)}, and {rates(largest)}. The gap between the two lines is memory, the height of "
        "the lower one is skill; only the gap speaks for stored patterns."
    )


def _seen_distances(record: Record) -> str:
    runs = [run for run in record["runs"] if run["distances"]]
    if not runs:
        return "Too few rows to measure."
    medians = [median(run["distances"]) / 2 for run in runs]
    untrained = [median(run["untrained"]["distances"]) / 2 for run in runs]
    ratios = [m / run["predicted_radius"] for m, run in zip(medians, runs, strict=True)]
    return (
        f"Half the median distance lies between {min(ratios):.2f} and {max(ratios):.2f} times the predicted radius, depending on how much the "
        f"model was trained on: rows learned by heart end far apart, rows that are understood end close together. Before training it "
        f"was {median(untrained):.2f} at the median of models. All runs are measured on the same {len(runs[0]['distances'])} rows."
    )


def _seen_heads(record: Record) -> str:
    shares = sorted(share for run in record["runs"] for layer in run["head_agreement"] for share in layer)
    before = [share for run in record["runs"] for layer in run["untrained"]["head_agreement"] for share in layer]
    return (
        f"In half of all heads the strongest key is the nearest key at more than {_percent(median(shares))} of the positions (from "
        f"{_percent(shares[0])} to {_percent(shares[-1])}); before training it was {_percent(median(before))}, and a random key would be at "
        f"{_percent(record['runs'][0]['head_chance'])}."
    )


CHAPTERS = (
    Chapter(
        "landscapes",
        "Energies and where they lead",
        lambda record: plot.landscapes(),
        _seen_landscapes,
        "Equation 4 is a soft distance to the nearest pattern (proposition 1), so its minima should lie near the patterns when they are "
        "well separated; the paper draws both energies as close relatives (proposition 2), which they are when the patterns are equally long.",
    ),
    Chapter(
        "curves",
        "Training",
        plot.curves,
        _seen_curves,
        "The paper reports that the training loss of transformers on Question Formation settles near 1 and reads this as a lower bound that "
        "follows from its theory (proposition 4). But one nat per token is simply what this language costs: half of each row is copied from "
        "the other half, for nothing, and the rest is drawn from a lexicon.",
    ),
    Chapter(
        "scaling",
        "Cross-entropy against data and size",
        plot.scaling,
        _seen_scaling,
        "Assumption 1 has a large enough model store its training rows; validation rows are then served only as far as they fall near a stored "
        "one (assumption 2). Too little data for the size should show as a gap between training and held-out loss, which closes as data grow.",
    ),
    Chapter(
        "extraction",
        "Extraction: what is known by heart",
        plot.extraction,
        _seen_extraction,
        "If training rows are stored patterns, a row's first half should retrieve its second half. A language with rules allows the same for "
        "rows never seen, so the rate on held-out rows is the baseline.",
    ),
    Chapter(
        "distances",
        "How far apart the activations are",
        plot.distances,
        _seen_distances,
        "The paper takes half the distance between nearest activations as the radius of a pattern and compares it with √(n / 2πe), n the width "
        "(10 against 7.74 for GPT-2 medium). The scale of activations is set by a learned gain, so agreement in order of magnitude is the most one can ask for.",
    ),
    Chapter(
        "heads",
        "Does attention look at the nearest key?",
        plot.heads,
        _seen_heads,
        "Attention is one step of an approximate nearest-neighbour search. It ranks keys by q·k − not by distance, which adds −|k|²/2 − so the two "
        "agree wherever the keys of a head are equally long, and need not elsewhere.",
    ),
)
