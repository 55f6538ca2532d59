"""Generation's inner step, compiled: [`Decoder`], which does for one more token what `GPT._forward` does for any number.

One token at a time, NumPy spends its time between the numbers. The formulas are those of `model.py`, in `_decode.pyx`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hopmin import _backend
from hopmin._check import Array
from hopmin.transformer.generation import Cache

try:
    from hopmin._decode import decode
except ImportError:  # not compiled: models go on as they do in training
    decode = None

PARTS = ("norm1.gain", "norm1.bias", "attention.weight", "attention.bias", "output.weight", "output.bias",
         "norm2.gain", "norm2.bias", "expand.weight", "expand.bias", "contract.weight", "contract.bias")  # fmt: skip


def fits(config: Any) -> bool:
    """Whether there is a decoder for such a model."""
    return bool(decode and _backend.BACKEND == "compiled" and config.attention == "dot" and config.hidden)


class Decoder:
    """The logits (B, V) that follow one more token (B, 1) of each row, which joins the cache, for a GPT that `fits`."""

    def __init__(self, model: Any, cache: Cache) -> None:
        c, B = model.config, len(cache.start)
        self.model, self.cache, self.start = model, cache, cache.start.astype(np.intp)
        zeros = np.zeros(max(3 * c.width, c.hidden), c.dtype)
        self.blocks = []
        for layer in range(c.layers):
            p = model._layer(layer)
            sizes = {"attention.bias": 3 * c.width, "expand.bias": c.hidden}
            self.blocks.append([
                np.ascontiguousarray(p.get(part, zeros[: sizes.get(part, c.width)])) for part in PARTS
            ])  # fmt: skip
        self.space = np.empty(B * (6 * c.width + c.hidden) + c.positions, c.dtype)

    def __call__(self, tokens: Array) -> Array:
        model, cache = self.model, self.cache
        x = model._embedded(tokens, cache.positions(1))[:, 0]
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            options = (model.config.norm == "post", model.config.activation == "relu", self.space)
            decode(x, *block, keys, values, self.start, cache.length, *options)
        cache.length += 1
        return model._logits(x)[0]
