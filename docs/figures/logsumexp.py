"""Draw `logsumexp.svg`: the soft maximum of x and 0 between its bounds, and its slope, the softmax."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hopmin import logsumexp, softmax
from hopmin._files import write_text
from hopmin.study.figures import SHADES, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")


def draw() -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    value, slope = figure.subplots(1, 2)
    x = np.linspace(-3, 3, 241)
    pair = np.stack([x, np.zeros_like(x)], axis=1)
    value.fill_between(x, pair.max(axis=1), pair.max(axis=1) + np.log(2), color="0.9", label="bounds at $\\beta$ = 1")
    value.plot(x, pair.max(axis=1), color="black", linewidth=1, label="max(x, 0)")
    for beta, style, shade in ((1, "-", SHADES[0]), (2, "--", SHADES[1]), (6, "-.", SHADES[2])):
        soft = logsumexp(beta * pair, axis=1) / beta
        value.plot(x, soft, style, color=shade, linewidth=1.8, label=f"soft maximum, $\\beta$ = {beta}")
        slope.plot(x, softmax(beta * pair, axis=1)[:, 0], style, color=shade, linewidth=1.8, label=f"$\\beta$ = {beta}")
    value.set(title="soft maximum of $x$ and 0", xlabel="$x$", xlim=(-3, 3), ylim=(-0.2, 3.2))
    slope.set(title="its slope: the weight of $x$", xlabel="$x$", xlim=(-3, 3), ylim=(-0.05, 1.05))
    value.legend(loc="upper left", fontsize=9)
    slope.legend(loc="upper left", fontsize=9)
    return figure


if __name__ == "__main__":
    write_text(target, svg(draw()))
