"""The gradient of a batch, in parts: [`DataParallel`].

A batch is cut into parts, each goes forward and backward on a thread of its own with one thread of BLAS, and their
gradients are summed in the order of the parts. So how a batch is cut decides on the bits of the sum; how many threads
there are does not. More parts than threads are what is called gradient accumulation: only as many parts as threads are
in memory at a time.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _backend, _threads
from hopmin._typing import Array
from hopmin.transformer.layers import cross_entropy
from hopmin.transformer.model import GPT, Gradients


class DataParallel:
    """The cross-entropy of a model and its gradient, computed in `count` parts of a batch.

    The memory that a part needs is kept for the next step. BLAS is held to one thread if threadpoolctl is installed;
    otherwise it takes as many as it likes, and the last bits may depend on that.

    >>> from hopmin.transformer.model import GPTConfig
    >>> model = GPT(GPTConfig(vocabulary=5, positions=3, layers=1, heads=1, width=8, dtype="float64"), rng=0)
    >>> tokens, targets = np.array([[0, 1, 2], [3, 4, 0]]), np.array([[1, 2, 3], [4, 0, 1]])
    >>> whole, parts = (DataParallel(model, count)(tokens, targets) for count in (1, 2))
    >>> abs(whole[0] - parts[0]) < 1e-14, abs(whole[1]["tokens"] - parts[1]["tokens"]).max() < 1e-14
    (True, np.True_)
    """

    def __init__(self, model: GPT, count: int) -> None:
        self.model, self.count = model, count
        self.pool = _backend.buffers.pool()
        self.blas = _blas()

    def __call__(
        self, tokens: ArrayLike, targets: ArrayLike, rng: np.random.Generator | None = None
    ) -> tuple[float, Gradients]:
        """The mean over all targets (B, T) that are not -1. With an rng, dropout is on; a part draws from its child."""
        tokens, targets = self.model._examples(tokens, targets)
        count = min(self.count, len(tokens))
        rngs = [None] * count if rng is None else rng.spawn(count)
        cuts = zip(np.array_split(tokens, count), np.array_split(targets, count), rngs, strict=True)
        parts = [partial(self._part, *cut, (targets >= 0).sum()) for cut in cuts if cut[1].max() >= 0]
        loss, total = 0.0, Gradients()
        with self.blas.limit(limits=1, user_api="blas") if self.blas else nullcontext():
            for first in range(0, len(parts), threads := _threads.get_threads()):
                for share, gradients in _threads.run(parts[first : first + threads]):
                    loss += share
                    total = _sum(total, gradients) if total else gradients
        return loss, total

    def _part(
        self, tokens: Array, targets: Array, rng: np.random.Generator | None, counted: int
    ) -> tuple[float, Gradients]:
        """What the part adds to the mean over all `counted` targets."""
        with _backend.buffers.within(self.pool), np.errstate(over="ignore", invalid="ignore"):  # the caller checks
            logits, backward = self.model._forward(tokens, rng)
            loss, back_loss = cross_entropy(logits, targets)
            share = float(np.count_nonzero(targets >= 0) / counted)
            return share * loss, backward(back_loss(share))


def _sum(a: Gradients, b: Gradients) -> Gradients:
    """a + b, in place of a."""
    for name in a:
        a[name] += b[name]
    return a


def _blas() -> Any:
    """What holds BLAS to a number of threads, if it is installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
