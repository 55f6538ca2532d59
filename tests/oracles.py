"""Dull loops with `math`, too slow and too simple to be wrong. They share no idea with what they judge."""

import math


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


def average(weights, values):
    return [
        math.fsum(w * float(value[c]) for w, value in zip(weights, values, strict=True)) for c in range(len(values[0]))
    ]


def nearest(x, patterns, k):
    """(distance, index) of the k nearest, ties to the lowest index."""
    found = [(math.sqrt(squared_distance(x, p)), i) for i, p in enumerate(patterns)]
    return sorted(found)[:k]
