"""Draw `digits.svg`: a hundred handwritten digits with the lower half erased, completed by several energies."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from hopmin import DistanceEnergy, DotEnergy, ExponentialEnergy, HopfieldEnergy, retrieve
from hopmin._files import write_text
from hopmin._typing import Array
from hopmin.study.figures import svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

N, SHOWN = 100, 10
KNOWN = np.arange(64) < 32  # the upper half of 8 x 8 pixels


def completed() -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
    """Return the images, their known halves, and the final states of each method with whether they are right."""
    images = load_digits().data[:N] / 16
    signs = np.where(images >= 0.5, 1.0, -1.0)
    erased = np.where(KNOWN, images, images.mean(axis=0))
    grey = {
        "upper half alone\nas the key": DistanceEnergy(100.0).update(images[:, KNOWN], images[:, KNOWN], images),
        "distance,\nclamped": retrieve(erased, images, DistanceEnergy(100.0), clamp=KNOWN).states,
        "distance,\nfree": retrieve(erased, images, DistanceEnergy(100.0)).states,
        "dot product,\nclamped": retrieve(erased, images, DotEnergy(100.0), clamp=KNOWN).states,
    }
    start = np.where(KNOWN, signs, np.where(images.mean(axis=0) >= 0.5, 1.0, -1.0))
    binary = {
        "exponential,\nclamped": retrieve(start, signs, ExponentialEnergy(), clamp=KNOWN).states,
        "Hebb rule,\nclamped": retrieve(start, signs, HopfieldEnergy(), clamp=KNOWN).states,
    }
    methods = {name: (states, np.abs(states - images).max(axis=1) < 0.05) for name, states in grey.items()}
    methods |= {name: ((states + 1) / 2, (states == signs).all(axis=1)) for name, states in binary.items()}
    return images, np.where(KNOWN, images, np.nan), methods


def draw() -> Figure:
    images, erased, methods = completed()
    rows = {"stored": (images, None), "given": (erased, None), **methods}
    figure = Figure(figsize=(8.4, 6.2), layout="constrained")
    panels = figure.subplots(len(rows), SHOWN)
    for line, (name, (pictures, right)) in zip(panels, rows.items(), strict=True):
        for i, ax in enumerate(line):
            ax.imshow(pictures[i].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[], facecolor="#dce6f0")  # the background of unknown pixels
            ax.spines[:].set_color("0.7")
            if right is not None and not right[i]:
                ax.plot([-0.5, 7.5], [-0.5, 7.5], color="#b5a200", linewidth=2)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        if right is not None:
            line[-1].yaxis.set_label_position("right")
            line[-1].set_ylabel(f"{np.mean(right):.0%}", rotation=0, ha="left", va="center", fontsize=10)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
