"""How often float32 finds the nearest pattern, far from the origin, by two formulas: `recall.svg`."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin import nearest
from hopmin._files import write_text
from hopmin._typing import Array
from hopmin.study.figures import MARKERS, SHADES
from hopmin.study.report import svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

OFFSETS = (0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
M, N, D = 200, 1000, 16


def true(x: Array, p: Array) -> Array:
    """By differences in float64, of the very same float32 numbers."""
    p = p.astype(np.float64)
    return np.array([np.square(query - p).sum(axis=1).argmin() for query in x.astype(np.float64)])


def expanded(x: Array, p: Array) -> Array:
    """By |x|^2 - 2 x.p + |p|^2; the first term is the same for all patterns, and changes nothing."""
    return (np.square(p).sum(axis=1) - 2 * x @ p.T).argmin(axis=1)


def draw() -> Figure:
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((M, D)), rng.standard_normal((N, D))
    shares: dict[str, list[float]] = {"subtract, then square (hopmin)": [], "the square multiplied out": []}
    for offset in OFFSETS:
        far = [(a + offset).astype(np.float32) for a in (x, p)]
        for share, found in zip(shares.values(), (nearest(*far)[1][:, 0], expanded(*far)), strict=True):
            share.append(float(np.mean(found == true(*far))))
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    ax = figure.subplots()
    for (name, share), style, color, marker in zip(shares.items(), ("-", "--"), SHADES[:3:2], MARKERS, strict=False):
        ax.plot(range(len(OFFSETS)), share, style, color=color, marker=marker, linewidth=1.8, label=name)
    ax.set_xticks(range(len(OFFSETS)), ["0"] + [f"$10^{i}$" for i in range(1, len(OFFSETS))])
    ax.set(xlabel="offset of all data from the origin", ylabel="true nearest found", ylim=(-0.04, 1.08))
    ax.set_title(f"{M} queries, {N} patterns, {D} dimensions, float32")
    ax.legend(loc="lower left", fontsize=9)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
