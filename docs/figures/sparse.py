"""Draw `sparse.svg`: weights of softmax and entmax along a line, and log-sum-ReLU minima for a triangle."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin import EpanechnikovEnergy, SparseEnergy
from hopmin._files import write_text
from hopmin.study.figures import MARKERS, SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")
LINE = np.array([[-1.0, -0.5], [0.0, 0.0], [1.0, -0.5]])  # (p, -p^2 / 2): the best match of (x, 1) is the nearest
TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
RADIUS = 0.7


def draw() -> Figure:
    figure = Figure(figsize=(8.8, 4.1), layout="constrained")
    weight, plane = figure.subplots(1, 2, width_ratios=(1.1, 1))
    x = np.linspace(-1.6, 1.6, 321)
    queries = np.stack([x, np.ones_like(x)], axis=1)
    names = ((1.0, "softmax", ":"), (1.5, "entmax, $\\alpha$ = 1.5", "--"), (2.0, "sparsemax, $\\alpha$ = 2", "-"))
    for i, (alpha, name, style) in enumerate(names):
        weights = SparseEnergy(alpha, beta=4.0).weights(queries, LINE)
        weight.plot(x, weights[:, 1], style, color=SHADES[i], marker=MARKERS[i], markevery=(8 * i, 32), markersize=4,
                   linewidth=1.8, label=name)  # fmt: skip
    weight.set(title="patterns at $-1$, 0 and 1", xlabel="$x$", ylabel="weight of the pattern at 0",
              xlim=(-1.6, 1.6), ylim=(-0.03, 1.35), yticks=np.linspace(0, 1, 6))  # fmt: skip
    weight.legend(loc="upper left", fontsize=10, frameon=False)

    energy = EpanechnikovEnergy(2 / RADIUS**2)
    a, b = np.meshgrid(np.linspace(-0.75, 1.75, 151), np.linspace(-0.75, 1.65, 145))
    depth = np.exp(-energy.beta * energy.value(np.column_stack([a.ravel(), b.ravel()]), TRIANGLE)).reshape(a.shape)
    plane.contourf(a, b, depth, levels=np.linspace(1e-9, depth.max(), 15), cmap="Greys", vmax=1.8 * depth.max())
    turn = np.linspace(0, 2 * np.pi, 181)
    for p in TRIANGLE:
        plane.plot(*(p[:, None] + RADIUS * np.array([np.cos(turn), np.sin(turn)])), ":", color=SHADES[1], linewidth=1)
    centres, supports = energy.minima(TRIANGLE)
    stored = supports.sum(axis=1) == 1
    plane.plot(*centres[stored].T, MARKERS[0], color=SHADES[0], markersize=9, markeredgecolor="white",
               label="minimum at a stored pattern")  # fmt: skip
    plane.plot(*centres[~stored].T, MARKERS[3], color="#e8590c", markersize=8, markeredgecolor="black",
               markeredgewidth=0.6, label="other minimum")  # fmt: skip
    plane.plot([], [], ":", color=SHADES[1], label="radius of a kernel")
    plane.set(title=f"a triangle of side 1, radius {RADIUS}", xlabel="$x_1$", ylabel="$x_2$", aspect="equal",
              xlim=(-0.75, 1.75), ylim=(-0.75, 1.65))  # fmt: skip
    figure.legend(*plane.get_legend_handles_labels(), loc="outside lower right", ncols=3, fontsize=9, frameon=False)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
