"""Landscapes of energies whose basins are known."""

import numpy as np
import pytest

from hopmin.study.experiments import landscape
from hopmin.study.plan import Settings


def run(energy, beta, grid=15):
    return landscape.run({"kind": "figure 1", "energy": energy, "beta": beta, "grid": grid}, lambda *_: None)


def test_a_sharp_distance_energy_searches_the_nearest_pattern():
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


def slices():
    return [
        {**cell, **landscape.run(cell, lambda *_: None)}
        for cell in landscape.cells(Settings("smoke"))
        if cell["kind"] == "slice"
    ]


def test_slices_show_the_activations_of_their_model():
    trained, untrained = slices()
    training = landscape.Training(**trained["training"])
    stored = landscape.activations(training.untrained, training.language.train[:10]).astype(float)
    stored = stored[np.sort(np.unique(stored, axis=0, return_index=True)[1])]
    assert untrained["stored"] == len(stored)
    assert untrained["beta"] == pytest.approx(4 / np.median(landscape.separation(stored)) ** 2)
    origin, plane, _ = landscape._plane(stored)
    assert untrained["patterns"] == pytest.approx((stored[:3] - origin) @ plane.T, abs=1e-3)
    assert trained["patterns"] != untrained["patterns"]


def test_points_of_a_slice_end_at_the_patterns_in_its_plane():
    shown = slices()[1]
    ends = set(shown["ends"])
    assert ends & {0, 1, 2}
    side = np.linspace(*shown["corners"][:2], shown["grid"])
    for i in ends & {0, 1, 2}:  # the nearest grid point of a pattern that has points ends there
        x, y = shown["patterns"][i]
        at = np.abs(side - y).argmin() * shown["grid"] + np.abs(side - x).argmin()
        assert shown["ends"][at] == i


def test_paths_descend_to_where_they_end():
    found = run("distance", 4.0)
    for path in found["paths"]:
        assert min(np.linalg.norm(np.subtract(path[-1], p)) for p in landscape.FIGURE_1) < 0.1


def test_findings_name_the_energies_that_keep_all_patterns():
    kept = {"kind": "figure 1", "grid": 2, "right": 3, "kept": 3, "beta": 1.0, "energy": "distance"}
    answer, first, second = landscape.findings([kept, {**kept, "energy": "dot", "kept": 2, "right": 1}])
    assert "At beta = 1, 1 of 5 energies (distance) keep" in answer.text
    assert (first.value, second.value) == (0.75, 0.25)


def test_points_between_patterns_have_not_found_the_nearest():
    assert run("distance", 0.01)["right"] == 0
