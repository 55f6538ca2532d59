"""Draw `binary.svg`: overlap against load for the Hebb rule, and exact recovery for three binary energies."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hopmin import ExponentialEnergy, HopfieldEnergy, PolynomialEnergy, retrieve
from hopmin._files import write_text
from hopmin._typing import Array
from hopmin.study.figures import FLOOR, MARKERS, SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

LOADS = (0.04, 0.08, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.25)
NETWORKS = {100: 16, 250: 4, 500: 1}  # d: number of networks
D, FLIPPED = 20, 2
ENERGIES = {  # with the number of patterns that theory guarantees for large d
    "Hopfield, $F(o) = o^2/2$": (HopfieldEnergy(), D / (2 * np.log(D))),
    "Krotov and Hopfield, $o^3$": (PolynomialEnergy(3), D**2 / (6 * np.log(D))),
    "Demircigil, $e^o$": (ExponentialEnergy(), np.exp(0.18403 * D)),
}


def overlap(d: int, load: float, rng: np.random.Generator) -> float:
    """Return the mean overlap of 20 stored patterns with the states that at most 10 updates reach from them."""
    p = rng.choice([-1.0, 1.0], (round(load * d), d))
    return float(np.mean(retrieve(p[:20], p, HopfieldEnergy(), max_steps=10).states * p[:20]))


def recovered(p: Array, energy: Any, rng: np.random.Generator) -> float:
    """Return the fraction of 100 patterns that are recovered exactly after a tenth of their bits are flipped."""
    stored = p[rng.integers(len(p), size=100)]
    flipped = np.argsort(rng.random(stored.shape), axis=1) < FLIPPED
    x = np.where(flipped, -stored, stored)
    for _ in range(3):
        x = energy.update(x, p)
    return float(np.mean((x == stored).all(axis=1)))


def draw() -> Figure:
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(8.8, 4.2), layout="constrained")
    load, count = figure.subplots(1, 2)
    for (d, networks), color, marker in zip(NETWORKS.items(), SHADES, MARKERS, strict=False):
        m = [np.mean([overlap(d, alpha, rng) for _ in range(networks)]) for alpha in LOADS]
        load.plot(LOADS, m, color=color, marker=marker, markersize=5, linewidth=1.5, label=f"$d$ = {d:,}")
    load.axvline(0.138, **FLOOR)
    load.annotate("0.138", (0.138, 0.08), xytext=(-4, 0), textcoords="offset points", ha="right")
    load.set(title="retrieval by the Hebb rule", xlabel="load $n / d$",
             ylabel="overlap with the pattern", ylim=(0, 1.04), xlim=(0, 0.255))  # fmt: skip
    load.legend(loc="lower left", fontsize=10)

    counts = np.unique(np.geomspace(1, 10_000, 16).round().astype(int))
    for (name, (energy, guaranteed)), color, marker in zip(ENERGIES.items(), SHADES, MARKERS, strict=False):
        rates = [recovered(rng.choice([-1.0, 1.0], (n, D)), energy, rng) for n in counts]
        count.plot(counts, rates, color=color, marker=marker, markersize=5, linewidth=1.5, label=name)
        count.axvline(guaranteed, color=color, linestyle=(0, (5, 2)), linewidth=1.2)
    count.set(title=f"$d$ = {D}, a tenth of the bits flipped", xlabel="patterns $n$",
              ylabel="fraction recovered exactly", xscale="log", ylim=(-0.03, 1.04))  # fmt: skip
    names = count.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower right", ncols=3, fontsize=10, frameon=False)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
