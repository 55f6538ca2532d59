"""Draw `layers.svg`: a pass through layers may raise the global energy; the weighted step never does."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin import DistanceEnergy, LayeredMemory
from hopmin._files import write_text
from hopmin.study.figures import SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

PASSES = 4


def draw() -> Figure:
    figure = Figure(figsize=(8.8, 3.8), layout="constrained")
    line, trace = figure.subplots(1, 2)

    two, x = LayeredMemory([[[0.0]], [[5.0]]]), np.linspace(-1, 6, 400)[:, None]
    for t, style in enumerate(("--", "-.")):
        line.plot(x, two.layer_energies(x)[t], style, color="0.6", linewidth=1.4, label=f"$E_{t + 1}$, layer {t + 1}")
    line.plot(x, two.global_energy(x), color="black", linewidth=1.8, label="$E$, global")
    start = np.array([0.5])
    for y, color, name in (
        (two.layer_step(start, 1, trust=1.0), "#e8590c", "step of layer 2"),
        (two.weighted_step(start), SHADES[1], "weighted step"),
    ):
        ends = [(s[0], float(two.global_energy(s))) for s in (start, y)]
        line.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2})
        line.plot([], [], color=color, linewidth=2, label=name)
    line.plot(start, two.global_energy(start), "o", color="black", markersize=6)
    line.set(title="two layers, one pattern each", xlabel="$x$", ylabel="energy", ylim=(-0.6, 13), xlim=(-1, 6))
    line.legend(loc="upper left", fontsize=9)

    rng = np.random.default_rng(3)
    centres = np.array([[2.0, 2.0], [-2.0, 2.0], [-2.0, -2.0], [2.0, -2.0]])
    memory = LayeredMemory([centre + 0.6 * rng.normal(size=(3, 2)) for centre in centres], DistanceEnergy(1.0))
    states = rng.normal(size=(3, 2)) * 2.5
    weighted, passed = [memory.global_energy(states)], [memory.global_energy(states)]
    y, z = states, states
    for _ in range(PASSES):
        run = memory.sequential_pass(z, trust=2.0)
        passed.extend(run.global_energies[1:])
        z = run.states[-1]
        for _ in range(len(memory)):
            y = memory.weighted_step(y)
            weighted.append(memory.global_energy(y))
    steps = np.arange(len(weighted))
    for i in range(len(states)):
        last = i == len(states) - 1
        trace.plot(steps, np.array(passed)[:, i], "--", color="#e8590c", linewidth=1, marker=".", markersize=5,
                   label="one layer after another" if last else None)  # fmt: skip
        trace.plot(steps, np.array(weighted)[:, i], color=SHADES[1], linewidth=1.6,
                   label="weighted by responsibility" if last else None)  # fmt: skip
    for p in range(1, PASSES):
        trace.axvline(p * len(memory), color="0.85", linewidth=0.8, zorder=0)
    trace.set(title="four layers, three patterns each", xlabel="step (vertical lines: passes)",
              ylabel="global energy", xlim=(0, steps[-1]), ylim=(-1, 6))  # fmt: skip
    trace.legend(loc="upper right", fontsize=9)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
