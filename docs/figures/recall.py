"""Draw `recall.svg`: how often two formulas find the nearest pattern in float32, far from the origin."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin import nearest
from hopmin._files import write_text
from hopmin._typing import Array
from hopmin.study.figures import MARKERS, SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

OFFSETS = (0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
M, N, D = 200, 1000, 16


def true_nearest(x: Array, p: Array) -> Array:
    """Return the nearest patterns by differences in float64 of the same float32 numbers."""
    p = p.astype(np.float64)
    return np.array([np.square(query - p).sum(axis=1).argmin() for query in x.astype(np.float64)])


def nearest_by_expanded_squares(x: Array, p: Array) -> Array:
    """Return the nearest patterns by |x|^2 - 2 x.p + |p|^2; the first term is the same for all patterns."""
    return (np.square(p).sum(axis=1) - 2 * x @ p.T).argmin(axis=1)


def draw() -> Figure:
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((M, D)), rng.standard_normal((N, D))
    recall: dict[str, list[float]] = {"subtract, then square (hopmin)": [], "expand the square": []}
    for offset in OFFSETS:
        far = [(a + offset).astype(np.float32) for a in (x, p)]
        answers = nearest(*far)[1][:, 0], nearest_by_expanded_squares(*far)
        for rates, found in zip(recall.values(), answers, strict=True):
            rates.append(float(np.mean(found == true_nearest(*far))))
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    ax = figure.subplots()
    for (name, rates), style, color, marker in zip(recall.items(), ("-", "--"), SHADES[:3:2], MARKERS, strict=False):
        ax.plot(range(len(OFFSETS)), rates, style, color=color, marker=marker, linewidth=1.8, label=name)
    ax.set_xticks(range(len(OFFSETS)), ["0"] + [f"$10^{i}$" for i in range(1, len(OFFSETS))])
    ax.set(xlabel="offset of all data from the origin", ylabel="fraction of nearest patterns found", ylim=(-0.04, 1.08))
    ax.set_title(f"{M} queries, {N} patterns, {D} dimensions, float32")
    ax.legend(loc="lower left", fontsize=10)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
