"""Draw the integral of exp(-|x|^2) over a ball, exact, sampled and as printed, with its bounds: `partition.svg`."""

import math
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin._files import write_text
from hopmin.paper.density import log_ball_integral, log_volume
from hopmin.paper.properties import log_equation_12
from hopmin.study.figures import SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")


def sampled(d: int, r: float, rng: np.random.Generator) -> float:
    """Return the log of the integral by Monte Carlo.

    In a small ball it is the mean of exp(-|x|^2) over the ball; for a large ball it is the fraction of the Gaussian
    that falls into it.
    """
    if r * r < d / 2:
        return log_volume(d, r) + math.log(np.exp(-r * r * rng.random(20_000) ** (2 / d)).mean())
    return d / 2 * math.log(math.pi) + math.log((rng.gamma(d / 2, size=20_000) < r * r).mean())


def draw() -> Figure:
    figure = Figure(figsize=(8.8, 4), layout="constrained")
    rng = np.random.default_rng(0)
    for ax, d in zip(figure.subplots(1, 3), (2, 16, 128), strict=True):
        radii = np.linspace(0.25, 3.0, 56) * max(1.0, math.sqrt(d / 8))
        volume = np.array([log_volume(d, r) for r in radii])
        ax.fill_between(radii, volume - radii**2, volume, color="0.88", label="from $e^{-r^2} V$ to $V$")
        ax.plot(radii, volume - radii, ":", color="0.4", linewidth=1.4, label="$e^{-r} V$, bound as printed")
        wrong = [log_equation_12(d, r) for r in radii]
        ax.plot(radii, wrong, "--", color="#e8590c", linewidth=1.5, label="equation 12 as printed")
        ax.plot(radii, [log_ball_integral(d, r) for r in radii], color=SHADES[1], linewidth=1.8, label="exact")
        some = radii[4::8]
        ax.plot(some, [sampled(d, r, rng) for r in some], "o", color=SHADES[0], markersize=4, label="by sampling")
        low = log_ball_integral(d, radii[5])
        ax.set(title=f"{d} dimensions", xlabel="radius $r$", ylim=(low, 1.05 * volume[-1] - 0.05 * low))
    figure.axes[0].set_ylabel("log of the integral")
    keys = figure.axes[2].get_legend_handles_labels()
    figure.legend(*keys, loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
