"""Write the results of a study: JSON [`write_results`], or figures and a page that contains them [`write_report`].

The text of the page is in `report.html.jinja`; its numbers are the [`facts`] of the record.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from importlib.resources import files
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from hopmin._extras import needed_by
from hopmin._files import write_text
from hopmin.study import figures

with needed_by("hopmin.study.report", "study"):
    import matplotlib
    from jinja2 import Environment, StrictUndefined
    from matplotlib.figure import Figure

Record = dict[str, Any]

FIGURES: dict[str, Callable[[Record], Figure]] = {
    "landscapes": lambda record: figures.landscapes(),
    "curves": figures.curves,
    "scaling": figures.scaling,
    "extraction": figures.extraction,
    "distances": figures.distances,
    "heads": figures.heads,
}


def write_results(record: Record, folder: Path) -> None:
    """Write the record to `results.json`, from which the report can be recreated."""
    write_text(folder / "results.json", json.dumps(record, indent=1) + "\n")


def write_report(record: Record, folder: Path) -> Path:
    """Write one SVG file per figure and `report.html`, which contains them all, and return the path of the page."""
    drawings = {name: svg(draw(record)) for name, draw in FIGURES.items()}
    for name, content in drawings.items():
        write_text(folder / f"{name}.svg", content)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = percent
    template = files("hopmin.study").joinpath("report.html.jinja").read_text(encoding="utf-8")
    inline = {name: content[content.index("<svg") :] for name, content in drawings.items()}
    page = environment.from_string(template).render(
        record=record, corpus=record["corpus"], figures=inline, summary=summary(record), **facts(record)
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def svg(figure: Figure) -> str:
    """Return the figure as SVG, reproducible byte for byte, with text as paths so that no fonts are needed."""
    with matplotlib.rc_context({"svg.hashsalt": "hopmin", "svg.fonttype": "path"}):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    # coordinates rounded to an invisible hundredth of a point halve the size of the file
    return re.sub(r"([ML]) (-?\d+\.\d\d)\d* (-?\d+\.\d\d)\d*", r"\1\2 \3", out.getvalue())


def percent(fraction: float) -> str:
    """Return a fraction as a whole percentage.

    >>> percent(0.987)
    '99%'
    """
    return f"{100 * fraction:.0f}%"


def summary(record: Record) -> str:
    """Return the main results of a study in two sentences."""
    found = facts(record)
    least, most, entropy = found["least"], found["most"], record["corpus"]["entropy"]
    few = {split: percent(least["extraction_rate"][split]) for split in ("train", "held_out")}
    many = {split: percent(most["extraction_rate"][split]) for split in ("train", "held_out")}
    known = "" if entropy is None else f"; the entropy of the language is {entropy:.3f}"
    return (
        f"Trained on {least['rows']:,} rows, the largest model completes {few['train']} of them from their first half, "
        f"and {few['held_out']} of held-out rows. Trained on {most['rows']:,}, it completes {many['train']} and "
        f"{many['held_out']}, and its held-out cross-entropy is {most['cross_entropy']['held_out']:.3f} nats per token"
        f"{known}."
    )


def facts(record: Record) -> dict[str, Any]:
    """Return the numbers that the text of the report contains.

    `least` and `most` are the runs of the largest model on the fewest and on the most rows; `best` and `worst` those
    with the lowest and the highest held-out cross-entropy.
    """
    runs = sorted(record["runs"], key=lambda run: (run["parameters"], run["rows"]))
    of_largest = [run for run in runs if run["parameters"] == runs[-1]["parameters"]]
    by_loss = sorted(runs, key=lambda run: run["cross_entropy"]["held_out"])
    entropy, floor = record["corpus"]["entropy"], record["corpus"]["held_out_floor"]
    measured = [run for run in runs if run["distances"]]
    agreement = list(chain.from_iterable(chain.from_iterable(run["head_agreement"] for run in runs)))
    untrained = chain.from_iterable(chain.from_iterable(run["untrained"]["head_agreement"] for run in runs))
    return {
        "least": of_largest[0],
        "most": of_largest[-1],
        "memorization_floor": figures.memorization_floor(of_largest[0]),
        "best": by_loss[0],
        "worst": by_loss[-1],
        "below_entropy": sum(entropy is not None and run["cross_entropy"]["train"] < entropy for run in runs),
        "below_floor": sum(floor is not None and run["cross_entropy"]["train"] < floor for run in runs),
        "measured_rows": max((len(run["distances"]) for run in runs), default=0),
        "radius_ratios": {run["number"]: median(run["distances"]) / 2 / run["predicted_radius"] for run in measured},
        "untrained_ratios": [median(run["untrained"]["distances"]) / 2 / run["predicted_radius"] for run in measured],
        "agreement": agreement,
        "median_agreement": median(agreement),
        "untrained_agreement": median(untrained),
        "chance": runs[0]["head_chance"],
    }
