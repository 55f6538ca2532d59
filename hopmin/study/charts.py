"""The style of the study's figures: [`axes`], series [`points`, `note`], lines [`reference`, `diagonal`], SVG [`svg`].

A figure is one small panel, so that a page can show several side by side, or one below the other on a phone, with text
as large as its own. Lines are labelled directly. Colours are those of Okabe & Ito, which colour-blind readers can tell
apart, and every series has its own marker. `svg` replaces the colours by CSS variables, so that a page can have a dark
scheme, and makes every point focusable, with its numbers as a label.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin.study import figures

with needed_by("hopmin.study.charts", "study"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

INK, GRID, PAPER = "#1a1b1c", "#d3d4d5", "#fefdfc"
COLOURS = ("#0072b2", "#c34e00", "#007d5c", "#a8497c", "#8a6d00", "#5b5ea6")
FINE = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
MOST_TICKS = 5  # of a logarithmic axis
LABEL = "label"  # gid of the labels of series
MARKERS = ("o", "s", "^", "D", "v", "P")
VARIABLES = {INK: "ink", GRID: "grid", PAPER: "paper"} | {c: f"series-{i}" for i, c in enumerate(COLOURS)}
STYLE: Any = {
    "font.size": 13, "axes.titlesize": 13, "legend.fontsize": 13,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7,
    "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "lines.linewidth": 1.8, "lines.markersize": 7, "errorbar.capsize": 3, "legend.frameon": False,
    "axes.formatter.use_mathtext": True,
}  # fmt: skip


def axes(xlabel: str, ylabel: str, *, width: float = 4.1, height: float = 3.2, **settings: Any) -> tuple[Figure, Axes]:
    """Return a panel of this size, in inches, and its axes, with further settings of `Axes.set`.

    Parameters
    ----------
    xlabel, ylabel : str
        Labels, with units.
    width, height : float
        Size in inches.
    **settings
        Other settings of the axes.

    Returns
    -------
    Figure, Axes
        The panel and its axes.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        ax = figure.subplots()
        ax.set(xlabel=xlabel, ylabel=ylabel, **settings)
    for axis, scale in ((ax.xaxis, ax.get_xscale()), (ax.yaxis, ax.get_yscale())):
        if scale == "log":
            axis.set_major_locator(_Decades())
            axis.set_major_formatter(lambda value, _: short(value))
            axis.set_minor_formatter("")
    return figure, ax


class _Decades(LogLocator):
    """At most five ticks of a logarithmic axis, at round numbers."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the finest choice of multiples of the powers of ten that has few enough ticks."""
        powers = 10.0 ** np.arange(np.floor(np.log10(vmin)), np.ceil(np.log10(vmax)) + 1)
        choices = [np.outer(powers, subs).ravel() for subs in (FINE, (1, 2, 5), (1, 3), (1,))]
        choices.append(powers[::2])
        shown = [ticks[(ticks >= vmin) & (ticks <= vmax)] for ticks in choices]
        return next((ticks for ticks in shown if len(ticks) <= MOST_TICKS), shown[-1])


def short(value: float) -> str:
    """Return a number in few characters.

    >>> short(300), short(1000), short(20_000), short(5e6), short(0.05)
    ('300', '1k', '20k', '5M', '0.05')
    """
    unit, name = next(((unit, name) for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= unit), (1.0, ""))
    return f"{value / unit:g}{name}"


def points(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    series: int,
    *,
    tips: Sequence[str],
    low: Sequence[float | None] | None = None,
    high: Sequence[float | None] | None = None,
    label: str = "",
    hollow: bool = False,
    line: bool = True,
) -> None:
    """Draw a series: a marker for every point, with a text of its numbers, intervals, and a label at the last point.

    Parameters
    ----------
    ax : Axes
    x, y : sequence of float, length n
        The points.
    series : int
        Number of the series, which sets its colour and its marker.
    tips : sequence of str, length n
        What each point says when it is hovered or focused.
    low, high : sequence of float or None, length n, optional
        The ends of the intervals of y; None where there is no interval.
    label : str
        Name of the series.
    hollow : bool
        Draw hollow markers and a dashed line, as for training rows.
    line : bool
        Whether to connect the points.
    """
    colour, marker = COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)]
    if line:
        ax.plot(x, y, "--" if hollow else "-", color=colour)
    for at, a, b in zip(x, low or (), high or (), strict=False):
        if a is not None and b is not None:
            ax.plot([at, at], [a, b], color=colour, linewidth=1.4)
    for a, b, tip in zip(x, y, tips, strict=True):
        face: Any = PAPER if hollow else colour
        ax.plot([a], [b], marker, color=colour, markerfacecolor=face, gid=f"tip:{tip}")
    if label and len(x):
        ax.annotate(label, (x[-1], y[-1]), xytext=(7, 0), textcoords="offset points", color=colour, va="center",
                    fontsize=13, annotation_clip=False, gid=LABEL)  # fmt: skip


def reference(
    ax: Axes, text: str, *, y: float | None = None, x: float | None = None, at: float = 0.02, below: bool = False
) -> None:
    """Draw a horizontal or vertical reference line, its meaning `at` this fraction of its length.

    Parameters
    ----------
    ax : Axes
    text : str
        The meaning of the line.
    y, x : float, optional
        Where the line is: one of them.
    at : float
        Where the text begins, as a fraction of the length of the line.
    below : bool
        Write below a horizontal line.
    """
    dashes: Any = {"color": INK, "linewidth": 1.2, "linestyle": (0, (4, 3))}
    write: Any = {"color": INK, "fontsize": 13, "textcoords": "offset points"}
    if y is not None:
        ax.axhline(y, **dashes)
        ax.annotate(text, (at, y), xycoords=("axes fraction", "data"), xytext=(0, -3 if below else 3),
                    va="top" if below else "bottom", **write)  # fmt: skip
    if x is not None:
        ax.axvline(x, **dashes)
        ax.annotate(text, (x, at), xycoords=("data", "axes fraction"), xytext=(-4, 0), rotation=90, ha="right", **write)


def note(ax: Axes, text: str, series: int, count: int) -> None:
    """Write the name of a series beside the axes, one below the other, for lines that end at the same place.

    Parameters
    ----------
    ax : Axes
    text : str
        The name.
    series : int
        Number of the series.
    count : int
        Number of series that have a name beside the axes.
    """
    ax.annotate(text, (1, 0.5), xycoords="axes fraction", xytext=(7, 8 * (count - 1) - 16 * series), va="center",
                textcoords="offset points", color=COLOURS[series % len(COLOURS)], fontsize=13)  # fmt: skip


def diagonal(ax: Axes, x: Sequence[float], y: Sequence[float], text: str, *, above: bool = False) -> None:
    """Draw a reference line between two points, with its meaning written below its start, or above its end.

    Parameters
    ----------
    ax : Axes
    x, y : sequence of float
        The two ends.
    text : str
        The meaning of the line.
    above : bool
        Write at the upper end, on its left.
    """
    ax.plot(x, y, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    end, offset, ha = (-1, (-8, -6), "right") if above else (0, (14, -4), "left")
    ax.annotate(text, (x[end], y[end]), xytext=offset, textcoords="offset points", ha=ha, color=INK, fontsize=13)


def svg(figure: Figure, alt: str) -> str:
    """Return a figure as an SVG element, reproducible byte for byte.

    Text is drawn as paths, so that no fonts are needed. Points have labels and can be focused. `alt` says what the
    figure shows, for those who cannot see it.
    """
    with matplotlib.rc_context(STYLE):
        _spread_labels(figure)
        drawn = figures.svg(figure, bbox_inches="tight", pad_inches=0.04)
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"id=([\"'])tip:(.*?)\1", r'class="point" tabindex="0" role="img" aria-label=\1\2\1', drawn)
    return drawn.replace("<svg", f'<svg role="group" aria-label="{html.escape(alt)}"', 1)


def themed(drawn: str) -> str:
    """Replace the colours of an SVG by the CSS variables of the report, which have a light and a dark scheme."""
    for colour, name in VARIABLES.items():
        drawn = drawn.replace(colour, f"var(--{name})")
    return drawn


def _spread_labels(figure: Figure) -> None:
    """Move the labels of series apart vertically where they would overlap."""
    figure.draw_without_rendering()
    for ax in figure.axes:
        labels: list[Any] = [text for text in ax.texts if text.get_gid() == LABEL]
        at = [float(ax.transData.transform(label.xy)[1]) for label in labels]
        order = sorted(range(len(labels)), key=at.__getitem__)
        least = 14 * figure.dpi / 72
        for i, y in zip(order, _above(apart([at[i] for i in order], least), least, ax.bbox.y0), strict=True):
            labels[i].set_position((7, (y - at[i]) * 72 / figure.dpi))


def apart(places: Sequence[float], least: float) -> list[float]:
    """Move ascending places as little as possible, so that neighbours are at least `least` apart.

    >>> apart([0.0, 1.0, 9.0], 2.0)
    [-0.5, 1.5, 9.0]
    """
    groups: list[list[float]] = []  # of labels that would overlap; each is spaced evenly about its mean
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _end(groups[-2], least) + least > _start(groups[-1], least):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_start(group, least) + i * least for group in groups for i in range(len(group))]


def _above(places: Sequence[float], least: float, bottom: float) -> list[float]:
    """Move ascending places up that are below a bottom, and those above as far as they must, `least` apart.

    >>> _above([-3.0, -1.0, 9.0], 2.0, 0.0)
    [0.0, 2.0, 9.0]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least if moved else bottom))
    return moved


def _start(group: list[float], least: float) -> float:
    return sum(group) / len(group) - least * (len(group) - 1) / 2


def _end(group: list[float], least: float) -> float:
    return _start(group, least) + least * (len(group) - 1)
