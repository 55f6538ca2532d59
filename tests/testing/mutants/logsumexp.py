"""LogSumExp that is right in several styles, or wrong by a line or two."""

import numpy as np
import scipy.special

import hopmin

from . import Mutant


def shifted(a, axis=None):
    top = np.max(a, axis=axis, keepdims=True)
    total = np.exp(a - top).sum(axis=axis)
    return np.log(total) + (top.item() if axis is None else np.squeeze(top, axis))


def naive(a, axis=None):
    return np.log(np.exp(a).sum(axis=axis))


RIGHT = {"hopmin": hopmin.logsumexp}
MUTANTS = {
    "no shift": Mutant(naive, "law_logsumexp", "rmcgibbo/logsumexp #2"),
    "the maximum plus a constant": Mutant(lambda a, axis=None: np.max(a, axis) + 0.1, "law_logsumexp", "natural"),
    "another base": Mutant(lambda a, axis=None: shifted(a, axis) / np.log(2), "law_logsumexp", "natural"),
    "mean instead of sum": Mutant(
        lambda a, axis=None: scipy.special.logsumexp(a, axis) - np.log(np.size(a)), "law_logsumexp", "natural"
    ),
}
