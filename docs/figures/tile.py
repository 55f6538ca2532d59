"""Draw `tile.svg`: how the core traverses the patterns, and the sums it keeps in registers."""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from hopmin._core_numpy import PANEL, TILE
from hopmin._files import write_text
from hopmin.memory.reduction import BLOCK
from hopmin.study.figures import SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

ROWS, VECTORS, D = 6, 4, 9  # queries, vectors of patterns, coordinates drawn
CURRENT = 3  # the coordinate being processed
DARK, GREY = SHADES[0], "0.85"


def draw() -> Figure:
    figure = Figure(figsize=(8.8, 4.3), layout="constrained")
    registers, traversal = figure.subplots(1, 2, width_ratios=(1, 1.25))
    draw_registers(registers)
    draw_traversal(traversal)
    return figure


def draw_registers(ax: Axes) -> None:
    wide = 3.2  # one vector of patterns
    across, down = VECTORS * wide, -1.5
    for c in range(D):  # the panel, coordinate c of all its patterns in row c
        ax.add_patch(box(0, D - 1 - c, across, 1, SHADES[2] if c == CURRENT else "white"))
    for i in range(ROWS):  # the queries, coordinate c in column c
        for c in range(D):
            ax.add_patch(box(c - D - 1, down - 1 - i, 1, 1, SHADES[1] if c == CURRENT else "white"))
        for w in range(VECTORS):
            ax.add_patch(box(w * wide, down - 1 - i, wide, 1, GREY))
    for w in range(VECTORS):
        ax.plot([w * wide] * 2, [0, D], color="0.5", linewidth=0.8)
    words = {"ha": "center", "va": "center", "fontsize": 9}
    ax.text(across / 2, D + 0.8, f"a panel: {PANEL} patterns, side by side", **words)
    ax.text(-0.4, D - 0.5, "$c = 1$", ha="right", va="center", fontsize=9)
    ax.text(-0.4, D - 1 - CURRENT + 0.5, "coordinate $c$", ha="right", va="center", fontsize=9)
    ax.text(-0.4, 0.5, "$c = d$", ha="right", va="center", fontsize=9)
    ax.text(-D / 2 - 1, down + 0.75, "6 queries", **words)
    ax.text(across / 2, down - ROWS / 2, "the sums, in registers", backgroundcolor=GREY, **words)
    ax.text(across / 2, down - ROWS - 1, r"each  $\mathrm{sum} \leftarrow \mathrm{sum} + (x_c - p_c)^2$", **words)
    ax.set(title="the register block", xlim=(-D - 1.5, across + 0.5), ylim=(down - ROWS - 2, D + 1.6), aspect="equal",
           anchor="N")  # fmt: skip
    ax.axis("off")


def draw_traversal(ax: Axes) -> None:
    levels = (
        ("all patterns", f"blocks of {BLOCK}, merged in order", 4, 2),
        ("a block", f"{BLOCK // TILE} tiles of {TILE}, in order, added in float64", BLOCK // TILE, 5),
        ("a tile", f"{TILE // PANEL} panels of {PANEL}; weights are added in their dtype", TILE // PANEL, 4),
        ("a panel", f"{PANEL} patterns, in vectors as wide as a register", VECTORS, None),
    )
    step = 2.3
    for row, (name, text, parts, zoom) in enumerate(levels):
        y, part = -row * step, 10 / parts
        for i in range(parts):
            ax.add_patch(box(i * part, y, part, 0.7, SHADES[2] if i == zoom else GREY if zoom is None else "white"))
        if zoom is not None:
            low = y - step + 0.7
            shadow = [(zoom * part, y), ((zoom + 1) * part, y), (10, low), (0, low)]
            ax.add_patch(Polygon(shadow, facecolor="0.95", edgecolor="none", zorder=0))
        ax.text(0, y + 0.95, name, fontweight="bold", fontsize=9, va="center")
        ax.text(2, y + 0.95, text, fontsize=9, va="center")
    ax.set(title="the traversal of the patterns", xlim=(-0.1, 10.1), ylim=(-3 * step - 0.3, 1.4))
    ax.axis("off")


def box(x: float, y: float, width: float, height: float, color: str) -> Rectangle:
    return Rectangle((x, y), width, height, facecolor=color, edgecolor=DARK, linewidth=0.8)


if __name__ == "__main__":
    write_text(target, svg(draw()))
