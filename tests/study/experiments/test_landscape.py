"""Landscapes of energies whose basins are known."""

import numpy as np
import pytest

from hopmin.study.experiments import landscape


def run(energy, beta, grid=15):
    return landscape.run({"kind": "figure 1", "energy": energy, "beta": beta, "grid": grid}, lambda *_: None)


def test_a_sharp_distance_energy_is_a_search_of_the_nearest_pattern():
    found = run("distance", 50.0)
    assert found["kept"] == 3
    assert found["right"] == 15**2


def test_a_flat_energy_keeps_nothing_apart():
    found = run("distance", 0.01)
    assert found["kept"] == 0
    assert set(found["ends"]) == {-1}


def test_the_dot_energy_favours_the_longer_patterns():
    assert run("dot", 1.0)["kept"] < 3


def test_a_plane_goes_through_three_patterns():
    patterns = np.random.default_rng(0).normal(size=(9, 6))
    origin, plane, corners = landscape._plane(patterns)
    assert plane @ plane.T == pytest.approx(np.eye(2))
    shown = (patterns[:3] - origin) @ plane.T
    assert origin + shown @ plane == pytest.approx(patterns[:3])
    assert np.abs(shown).max() < corners[1]
