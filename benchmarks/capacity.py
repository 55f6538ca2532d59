"""Measured capacities next to theory: `python -m benchmarks.capacity`; see benchmarks/README.md.

The file has random patterns, the experiments, tables and the figure, and the command.

Every number is a mean over seeds 0, 1, 2, ...; the number after ± is the standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import hopmin
from benchmarks._measure import machine, table
from hopmin.memory.binary import ExponentialEnergy, HopfieldEnergy, PolynomialEnergy
from hopmin.paper import capacity

Array = np.ndarray[Any, np.dtype[Any]]
Record = dict[str, Any]
Rows = list[Record]

LOADS = (0.05, 0.1, 0.12, 0.138, 0.15, 0.16, 0.18, 0.2)
NOISE = (0.25, 0.5, 0.75, 1.0)
RATES = ((0.18, 0.1), (0.1, 0.2), (0.25, 0.05), (0.25, 0.2))
SIZES = {
    "neurons": (500, 1000, 2000),
    "power": {2: 400, 3: 100, 4: 80},
    "rates": RATES,
    "patterns": [2**i for i in range(1, 13)],
    "cells": ((16, 100), (16, 10_000), (32, 10_000), (32, 50_000), (64, 50_000)),
    "margin": 20_000,
    "reach": 81,
    "seeds": 4,
}
QUICK = SIZES | {
    "neurons": (200,),
    "power": {2: 200, 3: 50},
    "rates": RATES[:2],
    "patterns": [4, 32, 256],
    "cells": ((16, 100), (16, 10_000)),
    "margin": 1000,
    "reach": 11,
    "seeds": 2,
}


# Random patterns


def signs(rng: np.random.Generator, n: int, d: int) -> Array:
    return 2.0 * rng.integers(0, 2, (n, d)) - 1


def flipped(rng: np.random.Generator, states: Array, fraction: float) -> Array:
    """Return the states with this fraction of their bits flipped, drawn anew for each state."""
    noisy = states.copy()
    for state in noisy:
        state[rng.choice(len(state), round(fraction * len(state)), replace=False)] *= -1
    return noisy


def on_sphere(rng: np.random.Generator, n: int, d: int) -> Array:
    """Draw points at distance sqrt(d) from the origin."""
    p = rng.normal(size=(n, d))
    return p * np.sqrt(d) / np.linalg.norm(p, axis=1, keepdims=True)


def over_seeds(measure: Callable[..., dict[str, float]], seeds: int, *arguments: Any) -> Record:
    """Return the mean and the standard deviation over seeds of each number that `measure` returns."""
    found = [measure(np.random.default_rng(seed), *arguments) for seed in range(seeds)]
    numbers = {name: np.array([one[name] for one in found]) for name in found[0]}
    return {name: {"mean": float(a.mean()), "sd": float(a.std(ddof=1))} for name, a in numbers.items()}


def fraction_of(hits: Array) -> float:
    return float(np.mean(hits))


# The experiments


def hebb(sizes: Record) -> Rows:
    """The Hebb rule: the fraction of wrong bits after one synchronous step from the patterns, and the overlap between a
    pattern and the end of asynchronous retrieval from it, for five patterns of each network.
    """

    def measure(rng: np.random.Generator, d: int, n: int) -> dict[str, float]:
        p = signs(rng, n, d)
        step = HopfieldEnergy(order="synchronous").update(p, p)
        ends = hopmin.retrieve(p[:5], p, HopfieldEnergy()).states
        return {"wrong": fraction_of(step != p), "overlap": float(np.mean(ends * p[:5]))}

    rows = []
    for d in sizes["neurons"]:
        for load in LOADS:
            n = round(load * d)
            found = over_seeds(measure, sizes["seeds"], d, n)
            theory = capacity.one_step_error((n - 1) / d), capacity.hebb_overlap(load)
            rows.append({"d": d, "load": load, **alternate(found, *theory)})
    return rows


def powers(sizes: Record) -> Rows:
    """Powers of the overlap: the fraction of wrong bits after one step from 40 patterns, at the load for 0.5%."""

    def measure(rng: np.random.Generator, power: int, d: int, n: int) -> dict[str, float]:
        p = signs(rng, n, d)
        return {"wrong": fraction_of(PolynomialEnergy(power, order="synchronous").update(p[:40], p) != p[:40])}

    rows = []
    for power, d in sizes["power"].items():
        n = round(capacity.one_step_load(0.005, power=power) * d ** (power - 1))
        found = over_seeds(measure, 5 * sizes["seeds"], power, d, n)
        rows.append({"power": power, "d": d, "n": n, **alternate(found, 0.005)})
    return rows


def exponential(sizes: Record) -> Rows:
    """The exponential memory of 50 neurons and exp(50 rate) patterns: the fraction of 25 patterns that one synchronous
    step corrects exactly. In theory, as d grows, it is all of them below the bound on the rate.
    """

    def measure(rng: np.random.Generator, n: int, turned: float) -> dict[str, float]:
        p = signs(rng, n, 50)
        own = rng.integers(n, size=25)
        corrected = ExponentialEnergy(order="synchronous").update(flipped(rng, p[own], turned), p)
        return {"corrected": fraction_of((corrected == p[own]).all(axis=1))}

    rows = []
    for rate, turned in sizes["rates"]:
        n, bound = round(math.exp(50 * rate)), float(capacity.exponential_rate(turned))
        found = over_seeds(measure, sizes["seeds"], n, turned)
        rows.append({"rate": rate, "flipped": turned, "n": n, **found, "bound on the rate": bound})
    return rows


def recovery(sizes: Record) -> Rows:
    """Three energies over the same 64 neurons: the fraction of 100 patterns with a tenth of their bits flipped that
    asynchronous retrieval corrects exactly, as the number of patterns grows.
    """
    energies = {"Hebb": HopfieldEnergy(), "cubes": PolynomialEnergy(3), "exponential": ExponentialEnergy()}

    def measure(rng: np.random.Generator, n: int) -> dict[str, float]:
        p = signs(rng, n, 64)
        own = rng.integers(n, size=100)
        x = flipped(rng, p[own], 0.1)
        ends = {name: hopmin.retrieve(x, p, energy, max_steps=50).states for name, energy in energies.items()}
        return {name: fraction_of((states == p[own]).all(axis=1)) for name, states in ends.items()}

    return [{"n": n, **over_seeds(measure, sizes["seeds"], n)} for n in sizes["patterns"]]


def noise(sizes: Record) -> Rows:
    """Points on a sphere of radius sqrt(d), queries with Gaussian noise: the fraction of 200 queries whose update under
    DotEnergy(1) has a cosine above 0.9 with their pattern, and of those whose nearest pattern is their own.
    """

    def measure(rng: np.random.Generator, d: int, n: int, strength: float) -> dict[str, float]:
        p = on_sphere(rng, n, d)
        own = rng.integers(n, size=200)
        x = p[own] + strength * rng.normal(size=(200, d))
        y = hopmin.DotEnergy(1.0).update(x, p)
        cosine = (y * p[own]).sum(axis=1) / np.linalg.norm(y, axis=1) / np.sqrt(d)
        return {"retrieved": fraction_of(cosine > 0.9), "nearest": fraction_of(hopmin.nearest(x, p)[1][:, 0] == own)}

    return [
        {"d": d, "n": n, "noise": strength, **over_seeds(measure, sizes["seeds"], d, n, strength)}
        for d, n in sizes["cells"]
        for strength in NOISE
    ]


def alternate(found: Record, *theory: float) -> Record:
    """Return each measured number, followed by its theoretical value."""
    pairs = zip(found.items(), theory, strict=True)
    return {key: value for (name, a), b in pairs for key, value in ((name, a), (f"{name} in theory", float(b)))}


def margins(sizes: Record) -> Rows:
    """Sparse energies: patterns above the margin that one step does not keep exactly, and below it that it keeps."""
    rows = []
    for alpha in (2.0, 1.5):
        rng = np.random.default_rng(0)
        surplus, exact = np.zeros(0), np.zeros(0, bool)
        while len(surplus) < sizes["margin"]:
            n, d = int(rng.integers(2, 12)), int(rng.integers(2, 8))
            p = rng.normal(size=(n, d)) * np.exp(rng.normal(0, 0.3, (n, 1)))
            energy = hopmin.SparseEnergy(alpha, 10 ** rng.uniform(-1, 1))
            surplus = np.append(surplus, energy.beta * capacity.dot_separation(p) - capacity.sparse_margin(alpha))
            exact = np.append(exact, (energy.update(p, p) == p).all(axis=1))
        above = surplus > 0
        rows.append(
            {
                "alpha": alpha,
                "margin": capacity.sparse_margin(alpha),
                "above": int(above.sum()),
                "not kept": int((above & ~exact).sum()),
                "below": int((~above).sum()),
                "kept": int((~above & exact).sum()),
            }
        )
    return rows


def reach(sizes: Record) -> Rows:
    """The Epanechnikov energy of 12 points in the unit cube of 8 dimensions (seed 0): the numbers of stored and of
    emergent minima, as the reach sqrt(2 / beta) grows.
    """
    p = np.random.default_rng(0).uniform(size=(12, 8))
    rows = []
    for radius in np.linspace(0.3, 1.1, sizes["reach"]):
        _, supports = hopmin.EpanechnikovEnergy(2 / radius**2).minima(p)
        stored = int((supports.sum(axis=1) == 1).sum())
        rows.append({"reach": round(float(radius), 4), "stored": stored, "emergent": len(supports) - stored})
    return rows


EXPERIMENTS: dict[str, Callable[[Record], Rows]] = {
    f.__name__: f for f in (hebb, powers, exponential, recovery, noise, margins, reach)
}


# The report


def text(rows: Rows) -> str:
    return table(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.4f} ± {value['sd']:.4f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(report: Record, path: Path) -> None:
    """Draw four panels as SVG (needs matplotlib)."""
    from matplotlib.figure import Figure

    from hopmin._files import write_text
    from hopmin.study.figures import MARKERS, SHADES, svg

    figure = Figure(figsize=(8.8, 7.2), layout="constrained")
    (load, bits), (strength, reaches) = figure.subplots(2, 2)

    def line(ax: Any, rows: Rows, x: str, y: str, i: int, label: str, style: str = "-") -> None:
        values, bars = zip(*((row[y]["mean"], row[y]["sd"]) for row in rows), strict=True)
        ax.errorbar([row[x] for row in rows], values, bars, linestyle=style, color=SHADES[i % 4], marker=MARKERS[i % 4],
                    markersize=5, linewidth=1.4, capsize=2, label=label)  # fmt: skip

    theory = np.linspace(0.04, capacity.hebb_capacity().load, 200)
    load.plot(
        theory, capacity.hebb_overlap(theory), color="0.35", linewidth=1.2, label="theory, infinitely many neurons"
    )
    load.axvline(theory[-1], color="0.35", linestyle=(0, (5, 2)), linewidth=1.2)
    for i, d in enumerate(dict.fromkeys(row["d"] for row in report["hebb"])):
        line(load, [row for row in report["hebb"] if row["d"] == d], "load", "overlap", i, f"{d} neurons", "--")
    load.set(
        title="Hebb rule: overlap after retrieval",
        xlabel="load $n / d$",
        ylabel="overlap with the pattern",
        ylim=(0, 1.1),
    )
    load.legend(fontsize=9, loc="lower left")

    for i, energy in enumerate(("Hebb", "cubes", "exponential")):
        line(bits, report["recovery"], "n", energy, i, energy)
    bits.set(title="64 neurons, a tenth of the bits flipped", xlabel="patterns",
             ylabel="fraction recovered exactly", xscale="log", ylim=(-0.04, 1.1))  # fmt: skip
    bits.legend(fontsize=9)

    cells = dict.fromkeys((row["d"], row["n"]) for row in report["noise"])
    for i, (d, n) in enumerate(list(cells)[: len(MARKERS)]):  # in the last, all queries are retrieved
        rows = [row for row in report["noise"] if (row["d"], row["n"]) == (d, n)]
        line(strength, rows, "noise", "retrieved", i, f"d = {d}, n = {n:,}")
        line(strength, rows, "noise", "nearest", i, "", ":")
    strength.set(title="one step of attention (dotted: nearest)", xlabel="noise per coordinate",
                 ylabel="fraction of queries retrieved",
                 ylim=(-0.04, 1.1))  # fmt: skip
    strength.legend(fontsize=9, loc="lower left")

    x = [row["reach"] for row in report["reach"]]
    for i, kind in enumerate(("stored", "emergent")):
        reaches.plot(x, [row[kind] for row in report["reach"]], color=SHADES[2 * i], marker=MARKERS[i], markersize=4,
                     markevery=max(1, len(x) // 16), linewidth=1.4, label=kind)  # fmt: skip
    reaches.set(
        title="Epanechnikov energy: minima of 12 patterns", xlabel="reach $\\sqrt{2/\\beta}$", ylabel="number of minima"
    )
    reaches.legend(fontsize=9)
    write_text(path, svg(figure))


def main() -> int:
    """Run the experiments; the exit code is 1 if a sparse energy violates its margin."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description="measured capacities and theory")
    parser.add_argument("--quick", action="store_true", help="use small sizes, as a smoke test")
    parser.add_argument("--json", action="store_true", help="print all results as JSON instead of the text")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the results as SVG (needs matplotlib)")
    options = parser.parse_args()
    sizes = QUICK if options.quick else SIZES
    stream = sys.stderr if options.json else sys.stdout
    report: Record = {"machine": machine(("hopmin", "numpy")), "seeds": sizes["seeds"]}
    for name, experiment in EXPERIMENTS.items():
        start = perf_counter()
        report[name] = experiment(sizes)
        summary = " ".join((experiment.__doc__ or "").split())
        print(f"{name}: {summary}\n\n{text(report[name])}\n({perf_counter() - start:.1f} s)\n", file=stream, flush=True)
    if options.json:
        print(json.dumps(report, indent=1))
    if options.figure:
        draw(report, options.figure)
    return int(any(row["not kept"] or row["kept"] for row in report["margins"]))


if __name__ == "__main__":
    sys.exit(main())
