"""hopmin's functions in the shapes that the families ask for, with what they promise."""

from types import SimpleNamespace

import numpy as np

import hopmin
from hopmin import _backend


def retrieval(energy, *promises):
    """The tolerance of the family is a length, hopmin's a fraction of the diagonal of the patterns."""

    def retrieve(queries, patterns, beta, *, tolerance, max_steps):
        diagonal = np.linalg.norm(np.ptp(patterns.astype(float), axis=0))
        relative = tolerance / diagonal if diagonal else 0.0
        return hopmin.retrieve(queries, patterns, energy(beta), tolerance=relative, max_steps=max_steps)

    retrieve.promises = promises
    return retrieve


def binary(energy, kind=None, *promises):
    """A memory of patterns with the energy, which hopmin takes apart from them."""

    def memory(patterns):
        return SimpleNamespace(
            value=lambda states: energy.value(states, patterns), update=lambda states: energy.update(states, patterns)
        )

    if kind:
        memory.kind = kind
    memory.promises = promises
    return memory


BITS = ("bits",) if _backend.BACKEND == "compiled" else ()  # results of the NumPy twin depend on the batch in the last digits
RETRIEVAL = {
    "distance": retrieval(hopmin.DistanceEnergy, "translation", *BITS),
    "dot": retrieval(hopmin.DotEnergy, *BITS),
}
BINARY = {
    "Hopfield": binary(hopmin.HopfieldEnergy(), "hopfield", "order", "ties", "even", "integers"),
    "polynomial": binary(hopmin.PolynomialEnergy(3), "polynomial 3", "order", "ties", "integers"),
    "exponential": binary(hopmin.ExponentialEnergy(), "exponential", "order", "integers"),
}
search = SimpleNamespace(
    nearest=hopmin.nearest,
    cosine=lambda x, p, k: hopmin.nearest(x, p, k, metric="cosine"),
    dot=lambda x, p, k: hopmin.nearest(x, p, k, metric="dot"),
    within=hopmin.within,
)
search_by_rows = SimpleNamespace(
    nearest=hopmin.nearest, within=lambda x, p, r: hopmin.within(x, p, r, csr=True, sort=False)
)


class Memory(hopmin.Memory):
    promises = ("ties", "empty")
