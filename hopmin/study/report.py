"""The report of a study, made from its results alone: one page of HTML, the same as Markdown, and the figures.

- all files of a report [`write_report`]
- the page [`html_page`] and the Markdown [`markdown`], from the templates beside this module
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hopmin._extras import needed_by
from hopmin._files import write_text
from hopmin.study import charts
from hopmin.study.plan import Record, experiments

with needed_by("hopmin.study.report", "study"):
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

PAGE, TEXT = "report.html", "report.md"
PAPER = "Niu, Bai, Deng & Han, “Beyond Scaling Laws: Understanding Transformer Performance with Associative Memory”"


def write_report(found: Record, folder: Path, *, seconds: float | None = None) -> Path:
    """Write `report.html`, `report.md` and its figures into a folder.

    Parameters
    ----------
    found : dict
        The results of a study.
    folder : Path
        The folder, which exists.
    seconds : float, optional
        The time that all cells took together.

    Returns
    -------
    Path
        The path of the page.
    """
    drawn = {section["name"]: _drawings(section) for section in found["experiments"]}
    (folder / "figures").mkdir(exist_ok=True)
    for name, drawings in drawn.items():
        for i, drawing in enumerate(drawings, 1):
            write_text(folder / "figures" / f"{name}-{i}.svg", drawing.svg)
    write_text(folder / TEXT, markdown(found, drawn, seconds))
    write_text(folder / PAGE, html_page(found, drawn, seconds))
    return folder / PAGE


class Drawing(NamedTuple):
    """A figure as SVG, with its title and a text for those who cannot see it."""

    title: str
    alt: str
    svg: str

    @property
    def themed(self) -> Markup:
        """The figure with the page's colours, as an element of the page."""
        return Markup(charts.themed(self.svg))


Drawings = Mapping[str, Sequence[Drawing]]


def html_page(found: Record, drawn: Drawings, seconds: float | None = None) -> str:
    """Return the report as one page of HTML, which needs no network.

    Parameters
    ----------
    found : dict
        The results of a study.
    drawn : mapping of str to sequence of Drawing
        The figures of each experiment.
    seconds : float, optional
        The time that all cells took together.

    Returns
    -------
    str
        The page.
    """
    return _render("report.html.jinja", True, found=found, drawn=drawn, seconds=seconds)


def markdown(found: Record, drawn: Drawings, seconds: float | None = None) -> str:
    """Return the report as Markdown, which refers to the figures as files.

    Parameters
    ----------
    found : dict
        The results of a study.
    drawn : mapping of str to sequence of Drawing
        The figures of each experiment.
    seconds : float, optional
        The time that all cells took together.

    Returns
    -------
    str
        The text.
    """
    return _render("report.md.jinja", False, found=found, drawn=drawn, seconds=seconds)


def answer(section: Record) -> str:
    """Return the answer to the question of an experiment: its first finding.

    >>> answer({"findings": [], "records": [], "cells": 3})
    'No cell has finished.'
    """
    if section["findings"]:
        return str(section["findings"][0]["text"])
    return "No cell has finished." if not section["records"] else "The records do not answer the question."


def one_seed(section: Record) -> bool:
    """Return whether all records of an experiment have the same seed."""
    seeds = {record["seed"] for record in section["records"] if "seed" in record}
    return len(seeds) == 1


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(75), duration(40), duration(8000)
    ('1.2 minutes', '40 seconds', '2.2 hours')
    """
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"


def number(value: Any) -> str:
    """Return a number of a table: integers with separators, others with four significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _drawings(section: Record) -> list[Drawing]:
    """Draw the figures of an experiment from its records."""
    panels = experiments()[section["name"]].panels(section["records"]) if section["records"] else []
    return [Drawing(panel.title, panel.alt, charts.svg(panel.figure, panel.alt)) for panel in panels]


def _render(template: str, escape: bool, **context: Any) -> str:
    environment = Environment(
        loader=PackageLoader("hopmin.study", "."),
        autoescape=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(answer=answer, duration=duration, number=number)
    environment.tests["one_seed"] = one_seed
    return environment.get_template(template).render(paper=PAPER, **context)
