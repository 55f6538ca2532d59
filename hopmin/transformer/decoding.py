"""Generation's inner step, compiled: [`Decoder`] does for one more token what `GPT._forward` does for any number.

One token at a time, NumPy's time goes by between the products of matrices. What stands there is in `_layers.pyx`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hopmin import _backend
from hopmin._typing import Array
from hopmin.transformer.generation import KVCache


def supports(config: Any) -> bool:
    """Whether there is a decoder for such a model."""
    return bool(config.attention == "dot" and config.hidden)


class Decoder:
    """The logits (B, V) that follow one more token (B, 1) of each row, which joins the cache, for a supported GPT."""

    def __init__(self, model: Any, cache: KVCache) -> None:
        c, B = model.config, len(cache.start)
        self.model, self.cache, self.start = model, cache, cache.start.astype(np.intp)
        self.post, self.relu = c.norm == "post", c.activation == "relu"
        widths = {"attention": 3 * c.width, "expand": c.hidden}
        zeros = np.zeros((B, max(3 * c.width, c.hidden)), c.dtype)
        self.still = zeros[:, : c.width].copy(), zeros[0, : c.width]

        def part(p: dict[str, Array], name: str) -> tuple[Array, Array]:
            first = p.get(f"{name}.weight", p.get(f"{name}.gain"))
            return np.ascontiguousarray(first), p.get(f"{name}.bias", zeros[0, : widths.get(name, c.width)])

        layers = [model._layer(layer) for layer in range(c.layers)]
        names = ("attention", "output", "expand", "contract")
        products = [[part(p, name) for name in names] for p in layers]
        # the norm that follows each sum; before them all, one that a model with norms after its sums does not have
        norms = [part(p, name) for p in layers for name in ("norm1", "norm2")]
        norms = norms if self.post else [*norms, part(model.parameters, "norm")]
        first: Any = None if self.post else norms[0]
        self.first, after = first, norms if self.post else norms[1:]
        self.blocks = [(*product, *after[2 * i : 2 * i + 2]) for i, product in enumerate(products)]
        self.projected, self.wide = np.empty((B, 3 * c.width), c.dtype), np.empty((B, c.hidden), c.dtype)
        self.joined, self.change = np.empty((2, B, c.width), c.dtype)
        self.room = np.empty((B, c.width), c.dtype), np.empty(B, c.dtype)  # for what a norm makes on the way

    def __call__(self, tokens: Array) -> Array:
        model, cache, room = self.model, self.cache, self.room
        rows: Any = _backend.layers
        x = model._scale * model.parameters["tokens"][tokens[:, 0]] + model._encoded(cache.positions(1)[:, 0])
        y = x.copy()
        if self.first is not None:
            rows.add_and_norm(x, *self.still, *self.first, *room, y, False)
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            (attention, bias1), (output, bias2), (expand, bias3), (contract, bias4), norm1, norm2 = block
            rows.attend(
                np.matmul(y, attention, out=self.projected), bias1, keys, values, self.start, cache.length, self.joined
            )
            rows.add_and_norm(x, np.matmul(self.joined, output, out=self.change), bias2, *norm1, *room, y, self.post)
            rows.activate(np.matmul(y, expand, out=self.wide), bias3, self.relu)
            rows.add_and_norm(x, np.matmul(self.wide, contract, out=self.change), bias4, *norm2, *room, y, self.post)
        cache.length += 1
        return model._unembedded(y)[0]
