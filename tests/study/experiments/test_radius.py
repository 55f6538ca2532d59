"""Distances relative to a Gaussian: 1 for a Gaussian, less for clusters, more for a lattice."""

import numpy as np
import pytest

from hopmin.study.experiments import radius


def record(points, rng, width=8):
    clouds = [radius.gaussian_like(points, rng) for _ in range(20)]
    return {
        "trained": True, "width": width, "rows": [len(points)], "predicted": 1.0,
        "activations": [radius.distances(points)], "gaussian": [[radius.distances(c)[2] for c in clouds]],
        "held_out": radius.distances(points),
    }  # fmt: skip


def test_a_gaussian_like_another_has_its_mean_and_covariance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 3)) @ np.array([[1, 0, 0], [2, 1, 0], [0, 0, 0.1]]) + [5, 0, -1]
    cloud = radius.gaussian_like(points, rng)
    assert cloud.mean(axis=0) == pytest.approx(points.mean(axis=0), abs=0.2)
    assert np.cov(cloud.T) == pytest.approx(np.cov(points.T), abs=0.4)


@pytest.mark.parametrize("d", [2, 8, 32])
def test_a_gaussian_has_a_ratio_of_one(d):
    rng = np.random.default_rng(d)
    value, low, high = radius.ratio(record(rng.normal(size=(400, d)), rng))
    assert low <= 1.05
    assert high >= 0.95
    assert value == pytest.approx(1, abs=0.1)


def test_clusters_have_a_smaller_ratio_and_a_lattice_a_larger_one():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(20, 4))
    clusters = np.repeat(centres, 20, axis=0) + 0.01 * rng.normal(size=(400, 4))
    lattice = np.stack(np.meshgrid(*[np.arange(20.0)] * 2), axis=-1).reshape(-1, 2)
    assert radius.ratio(record(clusters, rng))[0] < 0.2
    assert radius.ratio(record(lattice, rng))[0] > 1.5
    assert radius.distances(lattice) == [1.0] * 5


def test_the_answer_depends_on_both_ratios():
    rng = np.random.default_rng(2)
    gaussian = record(rng.normal(size=(300, 8)), rng)
    clusters = record(np.repeat(rng.normal(size=(30, 8)), 10, axis=0) + 0.01 * rng.normal(size=(300, 8)), rng)
    same = radius.findings([gaussian, {**gaussian, "trained": False}])[0]
    other = radius.findings([clusters, {**gaussian, "trained": False}])[0]
    assert same.text.startswith("The distances say little")
    assert other.text.startswith("The distances are not")
