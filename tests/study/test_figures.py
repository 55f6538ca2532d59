"""The figures of the chapters show the energies that they name, and are reproducible."""

import math

import numpy as np

from hopmin import DistanceEnergy, DotEnergy
from hopmin.study import figures


def test_landscapes_show_the_ends_of_retrieval_and_the_energies():
    figure = figures.landscapes()
    figure.draw_without_rendering()
    for ax, energy in zip(figure.axes[:2], (DistanceEnergy(), DotEnergy()), strict=True):
        (contours,) = (c for c in ax.collections if hasattr(c, "levels"))
        greys = [sum(color[:3]) for color in contours.get_facecolor()]
        assert greys == sorted(greys), "darker is lower"
        by_label = {line.get_label(): np.column_stack(line.get_data()) for line in ax.lines}
        np.testing.assert_array_equal(by_label["stored pattern"], figures.FIG1_PATTERNS)
        ends = by_label["retrieval ends here"]
        # retrieval stops when a step is short; where the energy is flat, its limit may be a hundred such steps away
        np.testing.assert_allclose(energy.update(ends, figures.FIG1_PATTERNS), ends, atol=1e-4)
    lines = {line.get_label(): line.get_data() for line in figure.axes[2].lines}
    x, hard = lines["distance$^2$ to the nearest"]
    squares = [min((float(a) - p) ** 2 for p in (-2, 0, 1)) for a in x]
    np.testing.assert_allclose(hard, squares, rtol=1e-12, atol=1e-15)  # a square root, squared again
    soft = [-math.log(sum(math.exp(-((float(a) - p) ** 2)) for p in (-2, 0, 1))) for a in x]
    np.testing.assert_allclose(lines["distance energy, $\\beta$ = 1"][1], soft, rtol=1e-12, atol=1e-14)


def test_the_same_figure_gives_the_same_svg():
    assert figures.svg(figures.landscapes()) == figures.svg(figures.landscapes())
