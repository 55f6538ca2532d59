"""Draw `sharpness.svg`: limits of retrieval for beta from 0.01 to 100, from the mean to single patterns."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from hopmin import DistanceEnergy, retrieve
from hopmin._files import write_text
from hopmin.study.figures import FIG1_PATTERNS as PATTERNS
from hopmin.study.figures import MARKERS, SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")


def draw() -> Figure:
    betas = np.geomspace(0.01, 100, 81)
    found = [retrieve(PATTERNS, PATTERNS, DistanceEnergy(beta), max_steps=10_000) for beta in betas]
    ends, weights = np.array([f.states for f in found]), np.array([f.weights for f in found])
    unique = 2 / max(np.square(p - q).sum() for p in PATTERNS for q in PATTERNS)  # convex below

    figure = Figure(figsize=(8.8, 3.9), layout="constrained")
    plane, weight = figure.subplots(1, 2)
    words = {"textcoords": "offset points", "ha": "center"}
    for i in range(3):
        plane.plot(*ends[:, i].T, ":", color="0.5", linewidth=1, zorder=1)
        dots = plane.scatter(*ends[:, i].T, c=betas, norm=LogNorm(0.05, 5), marker=MARKERS[i], s=26, edgecolors="black",
                             linewidths=0.4)  # fmt: skip
        weight.plot(betas, weights[:, 2, i], color=SHADES[i], marker=MARKERS[i], markevery=(2 * i, 8), markersize=5,
                   linewidth=1.5, label=f"pattern {i}")  # fmt: skip
        plane.annotate(f"pattern {i}", PATTERNS[i], xytext=(0, (-17, -17, 9)[i]), **words)
    plane.plot(*PATTERNS.T, "x", color="black", markersize=9, markeredgewidth=1.5)
    plane.plot(*(mean := PATTERNS.mean(axis=0)), "+", color="black", markersize=12, markeredgewidth=1.5)
    plane.annotate("mean", mean, xytext=(0, 8), **words)
    plane.set(title="where retrieval from each pattern ends", xlabel="$x_1$", ylabel="$x_2$", xlim=(-2.5, 2),
              ylim=(-0.9, 1.8))  # fmt: skip
    figure.colorbar(dots, ax=plane, extend="both").ax.set_title("$\\beta$", pad=14)
    weight.axvline(unique, color="0.25", linestyle=(0, (5, 2)), linewidth=1.2)
    weight.annotate("one\nminimum", (unique, 0.8), xytext=(-6, 0), textcoords="offset points", ha="right")
    weight.set(title="weights at the end, from pattern 2", xlabel="$\\beta$", ylabel="weight", xscale="log",
              ylim=(-0.03, 1.03))  # fmt: skip
    weight.legend(loc="center right", fontsize=9)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
