"""The figures of the chapters (needs matplotlib): their colours, and the energy landscapes of the paper [`landscapes`].

Colours are taken from one dark-to-light scale and every line has its own marker, so that the figures are readable in
greyscale and for colour-blind readers. `svg` writes a figure of a chapter or of the study, which has a style of its own
(`charts.py`).
"""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin._typing import Energy, Floats
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.nearest import nearest
from hopmin.memory.retrieval import retrieve

with needed_by("hopmin.study.figures", "study"):
    import matplotlib
    from matplotlib.figure import Figure

SHADES = ("#440154", "#31688e", "#35b779", "#b5a200")  # four colours of viridis, the last darkened for white paper
MARKERS = ("o", "s", "^", "D")
DARKER_IS_LOWER = [str(grey) for grey in np.linspace(0.6, 0.98, 12).round(2)]  # for the contours of an energy
FLOOR: Any = {"color": "0.25", "linestyle": (0, (5, 2)), "linewidth": 1.2}
FIG1_PATTERNS = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])  # Niu et al. 2024, figure 1
FIG1_LINE = np.array([[-2.0], [0.0], [1.0]])


def landscapes() -> Figure:
    """Draw the two energies of the paper's figure 1, darker where lower, with retrieval from a grid of states."""
    figure = Figure(figsize=(8.8, 3.7), layout="constrained")
    axes = figure.subplots(1, 3)
    x, y = np.meshgrid(np.linspace(-3.2, 2.8, 49), np.linspace(-2, 2.8, 41))
    grid = np.column_stack([x.ravel(), y.ravel()])
    starts = np.array([[a, b] for a in (-3, -1.6, -0.6, 0.6, 1.6, 2.5) for b in (-1.7, -0.2, 1.2, 2.5)])
    panels = (
        ("distance energy, $\\beta$ = 1", DistanceEnergy()),
        ("dot energy, $\\beta$ = 1", DotEnergy()),
    )
    for ax, (title, energy) in zip(axes, panels, strict=False):
        value = energy.value(grid, FIG1_PATTERNS).reshape(x.shape)
        levels = np.quantile(value, np.linspace(0, 1, len(DARKER_IS_LOWER) + 1))
        ax.contourf(x, y, value, levels=levels, colors=DARKER_IS_LOWER)
        for start in starts:
            path = _path(start, FIG1_PATTERNS, energy)
            ax.plot(*path.T, color=SHADES[0], linewidth=0.8)
            ax.plot(*path[0], ".", color=SHADES[0], markersize=4)
        ends = retrieve(starts, FIG1_PATTERNS, energy).states
        ring: Any = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 2}
        ax.plot(*ends.T, "o", color="#e8590c", label="retrieval ends here", **ring)
        ax.plot(*FIG1_PATTERNS.T, "x", color="black", markersize=7, markeredgewidth=2, label="stored pattern")
        ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-3.2, 2.8), ylim=(-2, 2.8))
        ax.set_title(title, fontsize=11)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=10, frameon=False)

    line = np.linspace(-3.2, 2.4, 400)[:, None]
    lines = (
        ("distance energy, $\\beta$ = 1", DistanceEnergy().value(line, FIG1_LINE), "-", SHADES[0]),
        ("dot energy, $\\beta$ = 1", DotEnergy(1).value(line, FIG1_LINE), "--", SHADES[1]),
        ("dot energy, $\\beta$ = 2", DotEnergy(2).value(line, FIG1_LINE), "-.", SHADES[2]),
        ("distance$^2$ to the nearest", nearest(line, FIG1_LINE)[0][:, 0] ** 2, ":", "0.4"),
    )
    for label, value, style, shade in lines:
        axes[2].plot(line, value, style, color=shade, label=label, linewidth=1.6)
    axes[2].plot(FIG1_LINE, np.full(3, -0.75), "kx", markersize=8, markeredgewidth=2, clip_on=False)
    axes[2].set(xlabel="$x$", ylabel="energy", ylim=(-0.75, 5.4), xlim=(-3.2, 2.4))
    axes[2].set_title("patterns $-2$, $0$, $1$ on a line", fontsize=11)
    axes[2].legend(loc="upper center", fontsize=9, frameon=False)
    return figure


def _path(start: Floats, patterns: Floats, energy: Energy, damping: float = 0.1, steps: int = 200) -> Floats:
    """Return the states of a retrieval with small steps, which draw the descent as a smooth curve."""
    path = [start]
    for _ in range(steps):
        path.append(path[-1] + damping * (energy.update(path[-1], patterns) - path[-1]))
    return np.array(path)


def svg(figure: Figure, **options: Any) -> str:
    """Return a figure as SVG, reproducible byte for byte, with text as paths so that no fonts are needed.

    The options are those of `Figure.savefig`.
    """
    with matplotlib.rc_context({"svg.hashsalt": "hopmin", "svg.fonttype": "path"}):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None}, **options)
    # coordinates rounded to an invisible hundredth of a point halve the size of the file
    return re.sub(r"([ML]) (-?\d+\.\d\d)\d* (-?\d+\.\d\d)\d*", r"\1\2 \3", out.getvalue())
