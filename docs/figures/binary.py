"""What binary memories hold: overlap against load by the Hebb rule, and recovery by three energies: `binary.svg`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hopmin import ExponentialEnergy, HopfieldEnergy, PolynomialEnergy, retrieve
from hopmin._files import write_text
from hopmin._typing import Array
from hopmin.study.figures import FLOOR, MARKERS, SHADES
from hopmin.study.report import svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

LOADS = (0.04, 0.08, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.25)
NETWORKS = {100: 8, 300: 2, 1000: 1}  # d: how many of them
D, WRONG = 20, 2
ENERGIES = {  # with how many patterns theory promises, for large d
    "Hopfield, $F(o) = o^2/2$": (HopfieldEnergy(), D / (2 * np.log(D))),
    "Krotov and Hopfield, $o^3$": (PolynomialEnergy(3), D**2 / (6 * np.log(D))),
    "Demircigil, $e^o$": (ExponentialEnergy(), np.exp(0.18403 * D)),
}


def overlap(d: int, load: float, rng: np.random.Generator) -> float:
    """Between 20 stored patterns and where retrieval from them ends, or is after 20 updates."""
    p = rng.choice([-1.0, 1.0], (round(load * d), d))
    return float(np.mean(retrieve(p[:20], p, HopfieldEnergy(), max_steps=20).states * p[:20]))


def recovered(p: Array, energy: Any, rng: np.random.Generator) -> float:
    """The share of 100 queries, each a pattern with a tenth of its bits wrong, that come back without error."""
    stored = p[rng.integers(len(p), size=100)]
    wrong = np.argsort(rng.random(stored.shape), axis=1) < WRONG
    x = np.where(wrong, -stored, stored)
    for _ in range(3):
        x = energy.update(x, p)
    return float(np.mean((x == stored).all(axis=1)))


def draw() -> Figure:
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(10.5, 4), layout="constrained")
    load, count = figure.subplots(1, 2)
    for (d, networks), color, marker in zip(NETWORKS.items(), SHADES, MARKERS, strict=False):
        m = [np.mean([overlap(d, alpha, rng) for _ in range(networks)]) for alpha in LOADS]
        load.plot(LOADS, m, color=color, marker=marker, markersize=5, linewidth=1.5, label=f"d = {d:,}")
    load.axvline(0.138, **FLOOR)
    load.annotate("0.138", (0.138, 0.08), xytext=(-4, 0), textcoords="offset points", ha="right")
    load.set(title="Hebb rule: where retrieval from a pattern ends", xlabel="load n / d",
             ylabel="overlap with the pattern", ylim=(0, 1.04), xlim=(0, 0.255))  # fmt: skip
    load.legend(loc="lower left", fontsize=9)

    counts = np.unique(np.geomspace(1, 10_000, 18).round().astype(int))
    for (name, (energy, promised)), color, marker in zip(ENERGIES.items(), SHADES, MARKERS, strict=False):
        shares = [np.mean([recovered(rng.choice([-1.0, 1.0], (n, D)), energy, rng) for _ in range(3)]) for n in counts]
        count.plot(counts, shares, color=color, marker=marker, markersize=5, linewidth=1.5, label=name)
        count.axvline(promised, color=color, linestyle=(0, (5, 2)), linewidth=1.2)
    count.set(title=f"d = {D}, a tenth of the bits wrong", xlabel="patterns n", ylabel="share recovered exactly",
              xscale="log", ylim=(-0.03, 1.04))  # fmt: skip
    count.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=9, columnspacing=1, frameon=False)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
