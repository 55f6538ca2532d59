"""Classify points with a memory of labelled points: a soft nearest-neighbour rule whose sharpness is beta.

The update is the mean of the labels under the softmax weights: Nadaraya-Watson regression with a Gaussian kernel,
and attention with labels as values. A small beta averages over all labels, a large beta takes that of the nearest.
Run: python examples/soft_knn.py
"""

import numpy as np

import hopmin


def moons(count, rng):
    """Return points (count, 2) on two interleaved half circles, with noise, and their labels (count,) in {0, 1}."""
    labels, angles = rng.integers(0, 2, count), rng.uniform(0, np.pi, count)
    points = np.stack([np.cos(angles) + labels, np.sin(angles)], axis=1)
    points[labels == 1] = [0, 0.5] + points[labels == 1] * [1, -1]
    return points + rng.normal(0, 0.25, points.shape), labels


rng = np.random.default_rng(0)
patterns, labels = moons(400, rng)
queries, expected = moons(2000, rng)
one_hot = np.eye(2)[labels]

print("    beta   accuracy   mean largest probability")
for beta in (0.01, 0.1, 1.0, 10.0, 100.0, 1e4):
    probabilities = hopmin.DistanceEnergy(beta).update(queries, patterns, one_hot)
    accuracy = np.mean(probabilities.argmax(axis=1) == expected)
    print(f"{beta:8g}   {accuracy:8.3f}   {probabilities.max(axis=1).mean():8.3f}")

_, indices = hopmin.nearest(queries, patterns)
print(f" nearest   {np.mean(labels[indices[:, 0]] == expected):8.3f}   (the limit of infinite beta)")
