"""A memory beside a model, on predictions and neighbours that are known."""

import numpy as np
import pytest

from hopmin.study.experiments.recall import Neighbours


def neighbours(distances):
    rows = np.array([0, 0, 1, 1])
    return Neighbours(
        np.full(4, 0.25), np.array([5, 6, 7, 8]), rows, np.array(distances), np.array([[0, 4], [1, 4], [2, 4], [3, 4]])
    )


VALUES = np.array([5, 6, 7, 8, 0])  # what the nearest keys recall is right, the others wrong


def test_without_weight_the_mixture_is_the_model():
    assert neighbours([[0.0, 1.0]] * 4).loss(VALUES, 0.0, 3.0) == pytest.approx(np.log(4))


def test_a_sharp_memory_of_the_right_tokens_recalls_them():
    near = neighbours([[0.0, 10.0]] * 4)
    assert near.probabilities(VALUES, 1.0, 1.0) == pytest.approx(1)
    assert near.loss(VALUES, 0.5, 1.0) == pytest.approx(-np.log(0.625))


def test_equal_distances_share_the_weight():
    assert neighbours([[2.0, 2.0]] * 4).probabilities(VALUES, 1.0, 7.0) == pytest.approx(0.5)


def test_a_memory_of_other_tokens_knows_nothing():
    assert neighbours([[0.0, 10.0]] * 4).loss(np.roll(VALUES, 1), 0.5, 1.0) == pytest.approx(-np.log(0.125))


def test_row_losses_average_to_the_loss_of_rows():
    near = neighbours([[0.0, 1.0], [1.0, 0.0], [3.0, 1.0], [0.0, 0.0]])
    assert near.row_losses(VALUES, 0.5, 1.0).mean() == pytest.approx(near.loss(VALUES, 0.5, 1.0))
