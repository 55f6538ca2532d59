"""Draw `lookup.svg`: the fraction of queries that a lookup answers, by min_similarity."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin import Memory
from hopmin._files import write_text
from hopmin.study.figures import FLOOR, MARKERS, SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

THRESHOLDS = np.linspace(0, 1, 21)
N, M, D = 1000, 2000, 64
NOISE = (0.0, 0.5, 1.0)  # norms, relative to those of the keys


def draw() -> Figure:
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((N, D))
    memory = Memory(keys)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    ax = figure.subplots()
    chosen = rng.integers(0, N, M)
    for noise, color, marker in zip(NOISE, SHADES, MARKERS, strict=False):
        found = memory.lookup(keys[chosen] + noise * rng.standard_normal((M, D)))
        right = found.similarities[found.indices == chosen]
        answered = [(right >= least).sum() / M for least in THRESHOLDS]
        ax.plot(THRESHOLDS, answered, color=color, marker=marker, markersize=4, label=f"stored keys, noise {noise:g}")
    others = memory.lookup(rng.standard_normal((M, D))).similarities
    answered = [(others >= least).mean() for least in THRESHOLDS]
    ax.plot(THRESHOLDS, answered, "--", color=SHADES[3], marker=MARKERS[3], markersize=4, label="other queries")
    ax.axvline(0.65, **FLOOR)
    ax.annotate("0.65", (0.66, 0.06), color="0.25", fontsize=10)
    ax.set(xlabel="min_similarity", ylabel="fraction of queries answered", xlim=(0, 1.01), ylim=(-0.04, 1.08))
    ax.set_title(f"{N} keys in {D} dimensions")
    ax.legend(loc="lower left", fontsize=10)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
