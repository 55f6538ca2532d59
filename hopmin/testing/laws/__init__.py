"""The laws. Each docstring states an equation; the docstring of the package explains how to use a law.

Comparisons are `<=` with a slack derived from the rounding errors of the quantities compared, in units of the dtype's
resolution. The slack is never fitted to the accuracy of an implementation.
"""

from hopmin.testing import families  # noqa: F401  (registers them)
from hopmin.testing.laws import (
    bits,
    energies,
    layers,
    memories,
    metrics,
    numerics,
    optimizers,
    retrieval,
    samplers,
    search,
    transformers,
)

__all__ = [
    "bits",
    "energies",
    "layers",
    "memories",
    "metrics",
    "numerics",
    "optimizers",
    "retrieval",
    "samplers",
    "search",
    "transformers",
]
