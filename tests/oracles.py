"""Dull loops with `math`, too slow and too simple to be wrong. They share no idea with what they judge."""

import math
from fractions import Fraction

import mpmath
import numpy as np


def squared_distance(x, p):
    return math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x, p, strict=True))


def product(x, p):
    return math.fsum(float(a) * float(b) for a, b in zip(x, p, strict=True))


def logsumexp(numbers):
    peak = max(numbers)
    return peak + math.log(math.fsum(math.exp(a - peak) for a in numbers))


def distance_energy(x, patterns, beta):
    return -logsumexp([-beta * squared_distance(x, p) for p in patterns]) / beta


def dot_energy(x, patterns, beta):
    soft = logsumexp([beta * product(x, p) for p in patterns]) / beta
    longest = max(product(p, p) for p in patterns)
    return -soft + product(x, x) / 2 + math.log(len(patterns)) / beta + longest / 2


def weights(scores):
    total = logsumexp(scores)
    return [math.exp(score - total) for score in scores]


def shares(scores):
    """Weights of scores of any size, relative to the largest: a logarithm as large as these would lose them."""
    peak = max(scores)
    terms = [math.exp(score - peak) for score in scores]
    total = math.fsum(terms)
    return [term / total for term in terms]


def average(weights, values):
    return [
        math.fsum(w * float(value[c]) for w, value in zip(weights, values, strict=True)) for c in range(len(values[0]))
    ]


def nearest(x, patterns, k):
    """(distance, index) of the k nearest, ties to the lowest index."""
    found = [(math.sqrt(squared_distance(x, p)), i) for i, p in enumerate(patterns)]
    return sorted(found)[:k]


def ranked(x, patterns, k, metric="euclidean"):
    """Distances and indices (m, k) by float64 brute force, all at once: differences, squares, summed in order."""
    x, patterns = np.asarray(x, np.float64), np.asarray(patterns, np.float64)
    scores = np.zeros((len(x), len(patterns)))
    with np.errstate(over="ignore"):
        for a, b in zip(x.T, patterns.T, strict=True):
            scores -= np.square(a[:, None] - b) if metric == "euclidean" else -a[:, None] * b
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = 0 - np.take_along_axis(scores, order, axis=1)
    return np.sqrt(best) if metric == "euclidean" else best, order


def exact_squared_distance(x, p):
    return sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(x, p, strict=True))


def cosine_distance(x, p):
    """1 - cos, to fifty digits."""
    with mpmath.workdps(50):
        x, p = ([mpmath.mpf(float(a)) for a in row] for row in (x, p))
        return float(1 - mpmath.fdot(x, p) / mpmath.sqrt(mpmath.fdot(x, x) * mpmath.fdot(p, p)))
