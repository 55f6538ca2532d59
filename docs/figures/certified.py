"""How many digits are certified to be stored, against beta, and how many come back in fact: `certified.svg`."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from hopmin import DistanceEnergy, certify, nearest, retrieve, separation
from hopmin._files import write_text
from hopmin.plot import MARKERS, SHADES
from hopmin.study.report import svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

SHARES = (0.1, 0.25, 0.4)  # of the least distance


def draw() -> Figure:
    digits = load_digits().data[:300]
    least = float(separation(digits).min())
    betas, rng = np.geomspace(0.003, 0.2, 19), np.random.default_rng(0)
    noise = rng.normal(size=digits.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    stored, factor = figure.subplots(1, 2)
    for share, color, marker in zip(SHARES, SHADES, MARKERS, strict=False):
        found = [certify(digits, share * least, beta=beta) for beta in betas]
        label = f"radius {share:g} of the least distance"
        look = {"color": color, "marker": marker, "markersize": 4, "markevery": 3, "linewidth": 1.6}
        stored.plot(betas, [f.stored.mean() for f in found], **look, label=label)
        factor.plot(betas, [f.contraction.max() for f in found], **look, label=label)
        back = []
        for beta in betas:
            ends = retrieve(digits + share * least * noise, digits, DistanceEnergy(beta), max_steps=40).states
            distances, indices = nearest(ends, digits)
            back.append(np.mean((indices[:, 0] == np.arange(len(digits))) & (distances[:, 0] <= share * least)))
        stored.plot(betas, back, "--", color=color, linewidth=1.3)
    stored.plot([], [], "--", color="0.3", label="came back to within the radius")
    stored.set(title="300 digits: certified, and in fact", xlabel="$\\beta$", ylabel="share", xscale="log")
    stored.legend(loc="lower right", fontsize=8)
    factor.axhline(1, color="0.25", linestyle=(0, (5, 2)), linewidth=1.2)
    factor.annotate("contracts below", (betas[0], 1), xytext=(4, -12), textcoords="offset points", fontsize=9)
    factor.set(title="contraction factor of the worst digit", xlabel="$\\beta$", xscale="log", yscale="log",
               ylim=(1e-4, 1e3))  # fmt: skip
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
