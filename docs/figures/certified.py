"""Draw the fractions of digits that are certified as stored, and that are retrieved, by beta: `certified.svg`."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from hopmin import DistanceEnergy, certify, nearest, retrieve, separation
from hopmin._files import write_text
from hopmin.study.figures import MARKERS, SHADES
from hopmin.study.report import svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

FRACTIONS = (0.1, 0.25, 0.4)  # radii, in units of the least distance


def retrieved(digits: np.ndarray, directions: np.ndarray, radius: float, beta: float) -> float:
    """Return the fraction of digits retrieved into their ball from the point on its boundary in this direction."""
    edge = digits + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    ends = retrieve(edge, digits, DistanceEnergy(beta), max_steps=50).states
    return float(np.mean(np.linalg.norm(ends - digits, axis=1) <= radius))


def draw() -> Figure:
    digits = load_digits().data[:300]
    least = float(separation(digits).min())
    betas, rng = np.geomspace(0.003, 0.2, 19), np.random.default_rng(0)
    noise = rng.normal(size=digits.shape)
    towards = digits[nearest(digits, digits, k=2)[1][:, 1]] - digits
    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    stored, factor = figure.subplots(1, 2)
    for fraction, color, marker in zip(FRACTIONS, SHADES, MARKERS, strict=False):
        found = [certify(digits, fraction * least, beta=beta) for beta in betas]
        label = f"radius {fraction:g} of the least distance"
        look = {"color": color, "marker": marker, "markersize": 4, "markevery": 3, "linewidth": 1.6}
        stored.plot(betas, [f.stored.mean() for f in found], **look, label=label)
        factor.plot(betas, [f.contraction.max() for f in found], **look, label=label)
        back = [retrieved(digits, noise, fraction * least, beta) for beta in betas]
        stored.plot(betas, back, "--", color=color, linewidth=1.3)
        back = [retrieved(digits, towards, fraction * least, beta) for beta in betas[3:10:2]]
        stored.plot(betas[3:10:2], back, "x", color=color, markersize=6)
    stored.plot([], [], "--", color="0.3", label="came back, moved at random")
    stored.plot([], [], "x", color="0.3", label="came back, moved towards the nearest")
    stored.set(title="300 digits: certified, and in fact", xlabel="$\\beta$", ylabel="share", xscale="log")
    stored.legend(loc="lower right", fontsize=8)
    factor.axhline(1, color="0.25", linestyle=(0, (5, 2)), linewidth=1.2)
    factor.annotate("below: contracts", (betas[0], 1), xytext=(4, -12), textcoords="offset points", fontsize=9)
    factor.set(title="bound on the contraction of the worst digit", xlabel="$\\beta$", xscale="log", yscale="log",
               ylim=(1e-4, 1e3))  # fmt: skip
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
