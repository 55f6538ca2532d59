"""Draw `certified.svg`: the fractions of digits that are certified as stored, and that are retrieved, by beta."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from hopmin import DistanceEnergy, certify, nearest, retrieve, separation
from hopmin._files import write_text
from hopmin.study.figures import MARKERS, SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

FRACTIONS = (0.1, 0.25, 0.4)  # radii, in units of the smallest distance


def retrieved(digits: np.ndarray, directions: np.ndarray, radius: float, beta: float) -> float:
    """Return the fraction of digits retrieved into their ball from the point on its boundary in this direction."""
    edge = digits + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    ends = retrieve(edge, digits, DistanceEnergy(beta), max_steps=50).states
    return float(np.mean(np.linalg.norm(ends - digits, axis=1) <= radius))


def draw() -> Figure:
    digits = load_digits().data[:300]
    smallest = float(separation(digits).min())
    betas, rng = np.geomspace(0.003, 0.2, 19), np.random.default_rng(0)
    noise = rng.normal(size=digits.shape)
    towards = digits[nearest(digits, digits, k=2)[1][:, 1]] - digits
    figure = Figure(figsize=(8.8, 4.6), layout="constrained")
    stored, factor = figure.subplots(1, 2)
    for fraction, color, marker in zip(FRACTIONS, SHADES, MARKERS, strict=False):
        found = [certify(digits, fraction * smallest, beta=beta) for beta in betas]
        label = f"certified, radius {fraction:g}"
        look = {"color": color, "marker": marker, "markersize": 4, "markevery": 3, "linewidth": 1.6}
        stored.plot(betas, [f.stored.mean() for f in found], **look, label=label)
        factor.plot(betas, [f.contraction.max() for f in found], **look, label=label)
        back = [retrieved(digits, noise, fraction * smallest, beta) for beta in betas]
        stored.plot(betas, back, "--", color=color, linewidth=1.3)
        back = [retrieved(digits, towards, fraction * smallest, beta) for beta in betas[3:10:2]]
        stored.plot(betas[3:10:2], back, "x", color=color, markersize=6)
    stored.plot([], [], "--", color="0.3", label="retrieved, random direction")
    stored.plot([], [], "x", color="0.3", label="retrieved, towards the nearest digit")
    stored.set(
        title="300 digits, certified and retrieved", xlabel="$\\beta$", ylabel="fraction of digits", xscale="log"
    )
    factor.axhline(1, color="0.25", linestyle=(0, (5, 2)), linewidth=1.2)
    factor.annotate("below 1: contraction", (betas[0], 1), xytext=(4, -12), textcoords="offset points", fontsize=9)
    factor.set(title="largest bound on the contraction factor", xlabel="$\\beta$", xscale="log", yscale="log",
               ylim=(1e-4, 1e3))  # fmt: skip
    figure.legend(*stored.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
