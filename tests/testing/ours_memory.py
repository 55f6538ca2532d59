"""hopmin's functions in the shapes that the families ask for, with what they promise."""

from types import SimpleNamespace

import numpy as np

import hopmin


def retrieve(queries, patterns, beta, *, tolerance, max_steps, energy=hopmin.DistanceEnergy):
    """The tolerance of the family is a length, hopmin's a fraction of the diagonal of the patterns."""
    diagonal = np.linalg.norm(np.ptp(patterns.astype(float), axis=0))
    relative = tolerance / diagonal if diagonal else 0.0
    return hopmin.retrieve(queries, patterns, energy(beta), tolerance=relative, max_steps=max_steps)


def retrieval(energy):
    def retrieve_by(*arguments, **options):
        return retrieve(*arguments, **options, energy=energy)

    return SimpleNamespace(retrieve=retrieve_by, energy=energy)


def binary(energy):
    """A memory of patterns with the energy, which hopmin takes apart from them."""

    def memory(patterns):
        return SimpleNamespace(
            value=lambda states: energy.value(states, patterns), update=lambda states: energy.update(states, patterns)
        )

    return memory


search = SimpleNamespace(
    nearest=hopmin.nearest,
    cosine=lambda x, p, k: hopmin.nearest(x, p, k, metric="cosine"),
    dot=lambda x, p, k: hopmin.nearest(x, p, k, metric="dot"),
    within=hopmin.within,
)
search_by_rows = SimpleNamespace(
    nearest=hopmin.nearest, within=lambda x, p, r: hopmin.within(x, p, r, csr=True, sort=False)
)
memory = hopmin.Memory
