"""Draw `noise.svg`: one step of attention and nearest-neighbour search on noisy queries."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin import DotEnergy, nearest
from hopmin._files import write_text
from hopmin._typing import Array
from hopmin.study.figures import MARKERS, SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

CELLS = {16: (100, 10_000), 32: (10_000, 50_000), 64: (10_000, 50_000)}
NOISE = np.linspace(0.25, 2.5, 10)
QUERIES = 300


def success_rates(d: int, n: int) -> Array:
    """Return the fractions (noise, 2) of queries retrieved in one step (cosine above 0.9) and by nearest neighbour."""
    rng = np.random.default_rng(0)
    p = rng.normal(size=(n, d))
    p *= np.sqrt(d) / np.linalg.norm(p, axis=1, keepdims=True)
    found = []
    for noise in NOISE:
        own = rng.integers(n, size=QUERIES)
        x = p[own] + noise * rng.normal(size=(QUERIES, d))
        y = DotEnergy(1.0).update(x, p)
        cosine = (y * p[own]).sum(axis=1) / np.linalg.norm(y, axis=1) / np.sqrt(d)
        found.append((np.mean(cosine > 0.9), np.mean(nearest(x, p)[1][:, 0] == own)))
    return np.array(found)


def draw() -> Figure:
    figure = Figure(figsize=(8.8, 3.8), layout="constrained")
    for ax, (d, sizes) in zip(figure.subplots(1, 3, sharey=True), CELLS.items(), strict=True):
        for i, n in enumerate(sizes):
            for rates, style, fill in zip(success_rates(d, n).T, ("-", ":"), (SHADES[2 * i], "white"), strict=True):
                ax.plot(NOISE, rates, style, color=SHADES[2 * i], marker=MARKERS[i], markerfacecolor=fill, markersize=5,
                        linewidth=1.5)  # fmt: skip
            ax.plot([], [], MARKERS[i], color=SHADES[2 * i], label=f"{n:,} patterns")
        ax.set(title=f"{d} dimensions", xlabel="noise per coordinate", xticks=(0.5, 1, 1.5, 2, 2.5))
        ax.legend(loc="upper right", fontsize=9, frameon=False)
    figure.axes[0].set(ylabel="fraction of queries retrieved", ylim=(-0.04, 1.28), yticks=np.linspace(0, 1, 6))
    keys = [
        figure.axes[0].plot([], [], "-", color="0.3", label="one step of attention")[0],
        figure.axes[0].plot([], [], ":", color="0.3", label="nearest neighbour")[0],
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
