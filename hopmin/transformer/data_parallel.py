"""Data parallelism on threads: the gradient of a batch, computed in parts [`DataParallel`].

A batch is split into micro-batches. Each runs forward and backward in its own thread, with one BLAS thread, and the
gradients are added in the order of the micro-batches. The rounding of the sum depends on the number of micro-batches,
but not on the number of threads. With more micro-batches than threads this is gradient accumulation: only as many
micro-batches as threads are in memory at a time.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _backend, _check, _threads
from hopmin._typing import Array
from hopmin.transformer.model import GPT, Gradients


class DataParallel:
    """The cross-entropy of a model and its gradients, computed in parts of a batch.

    The memory of a part is reused in the next call. BLAS is limited to one thread if threadpoolctl is installed;
    otherwise it uses its default number of threads, on which the last bits may depend.

    Parameters
    ----------
    model : GPT
        The model.
    micro_batches : int
        Number of parts, at most the number of rows in a batch.

    Examples
    --------
    >>> from hopmin.transformer.model import GPTConfig
    >>> model = GPT(GPTConfig(vocabulary=5, positions=3, layers=1, heads=1, width=8, dtype="float64"), rng=0)
    >>> tokens, targets = np.array([[0, 1, 2], [3, 4, 0]]), np.array([[1, 2, 3], [4, 0, 1]])
    >>> whole, parts = (DataParallel(model, parts)(tokens, targets) for parts in (1, 2))
    >>> abs(whole[0] - parts[0]) < 1e-14, abs(whole[1]["tokens"] - parts[1]["tokens"]).max() < 1e-14
    (True, np.True_)
    """

    def __init__(self, model: GPT, micro_batches: int) -> None:
        self.model = _check.instance("model", model, GPT)
        self.micro_batches = _check.integer("micro_batches", micro_batches)
        self.pool = _backend.buffers.pool()
        self.blas = _blas()

    def __reduce__(self) -> tuple[type[DataParallel], tuple[GPT, int]]:
        """Copy and pickle the arguments; a copy has a pool of its own."""
        return type(self), (self.model, self.micro_batches)

    def __call__(
        self, tokens: ArrayLike, targets: ArrayLike, rng: np.random.Generator | None = None
    ) -> tuple[float, Gradients]:
        """Return the mean cross-entropy of a batch, in nats per token, and its gradient for every parameter.

        Parameters
        ----------
        tokens, targets : array_like, shape (B, T)
            The batch; targets of -1 are not counted.
        rng : Generator, optional
            Generator of the dropout masks; each part uses a spawned child of it. Without it, nothing is dropped.

        Returns
        -------
        loss : float
            The cross-entropy.
        gradients : dict of str to ndarray
            The gradients.
        """
        tokens, targets = self.model._check_examples(tokens, targets)
        count = min(self.micro_batches, len(tokens))
        rngs = [None] * count if rng is None else rng.spawn(count)
        parts = zip(np.array_split(tokens, count), np.array_split(targets, count), rngs, strict=True)
        counted = (targets >= 0).sum()
        tasks = [partial(self._part, *part, counted) for part in parts if part[1].max() >= 0]
        loss, total = 0.0, Gradients()
        with self.blas.limit(limits=1, user_api="blas") if self.blas else nullcontext():
            for start in range(0, len(tasks), threads := _threads.get_threads()):
                for part_loss, gradients in _threads.run(tasks[start : start + threads]):
                    loss += part_loss
                    total = _add(total, gradients) if total else gradients
        return loss, total

    def _part(
        self, tokens: Array, targets: Array, rng: np.random.Generator | None, counted: int
    ) -> tuple[float, Gradients]:
        """Return the contribution of a part to the mean over all `counted` targets, and its gradients."""
        # the caller checks that they are finite
        with _backend.buffers.within(self.pool), np.errstate(over="ignore", invalid="ignore"):
            loss, backward = self.model._loss(tokens, targets, rng)
            weight = float(np.count_nonzero(targets >= 0) / counted)
            return weight * loss, backward(weight)


def _add(a: Gradients, b: Gradients) -> Gradients:
    """Add b to a in place, and return a."""
    for name in a:
        a[name] += b[name]
    return a


def _blas() -> Any:
    """Return threadpoolctl's controller of the BLAS threads, or None if it is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
