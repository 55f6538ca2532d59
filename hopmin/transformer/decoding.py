"""Generation one token at a time: [`Decoder`] is `GPT._forward` for one more token of each row.

For a single token, the overhead of NumPy's calls exceeds the arithmetic between matrix products. That arithmetic is
therefore done by the last three functions of `_layers.pyx`, or of its NumPy twin. The logits agree with those of
`GPT._forward` to within rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hopmin import _backend
from hopmin._typing import Array, Floats
from hopmin.transformer.generation import KVCache

if TYPE_CHECKING:
    from hopmin.transformer.model import GPT, GPTConfig


def supports(config: GPTConfig) -> bool:
    """Return whether a `Decoder` can run the model, which needs dot-product attention and hidden layers."""
    return bool(config.attention == "dot" and config.hidden)


class Decoder:
    """The layers of a model, arranged for one more token of each row.

    Parameters
    ----------
    model : GPT
        A model whose configuration is supported.
    cache : KVCache
        The keys and values of the tokens so far.
    """

    def __init__(self, model: GPT, cache: KVCache) -> None:
        c, B = model.config, len(cache.start)
        D, M = c.width, c.hidden or 0
        self.model, self.cache, self.start = model, cache, cache.start.astype(np.intp)
        self.post, self.relu = c.norm == "post", c.activation == "relu"
        zeros = np.zeros((B, max(3 * D, M)), c.dtype)
        self.no_change = zeros[:, :D].copy(), zeros[0, :D]

        def pair(p: dict[str, Array], weight: str, bias: str, width: int) -> tuple[Array, Array]:
            return np.ascontiguousarray(p[weight]), np.ascontiguousarray(p.get(bias, zeros[0, :width]))

        def norm(p: dict[str, Array], name: str) -> tuple[Array, Array]:
            return pair(p, f"{name}.gain", f"{name}.bias", D)

        layers = [model._layer_parameters(layer) for layer in range(c.layers)]
        widths = {"attention": 3 * D, "output": D, "expand": M, "contract": D}
        products = [
            [pair(p, f"{name}.weight", f"{name}.bias", width) for name, width in widths.items()] for p in layers
        ]
        norms = [norm(p, name) for p in layers for name in ("norm1", "norm2")]
        # Each sum is followed by a norm. With norms before the sublayers, the first norm follows no sum.
        self.first_norm = None if self.post else norms.pop(0)
        if not self.post:
            norms.append(norm(model.parameters, "norm"))
        self.blocks = [(*four, *norms[2 * i : 2 * i + 2]) for i, four in enumerate(products)]
        self.projected, self.wide = np.empty((B, 3 * D), c.dtype), np.empty((B, M), c.dtype)
        self.joined, self.change = np.empty((2, B, D), c.dtype)
        self.z_and_scale = np.empty((B, D), c.dtype), np.empty(B, c.dtype)

    def __call__(self, tokens: Array) -> Floats:
        """Return the logits (B, V) that follow tokens (B, 1), which are added to the cache."""
        model, cache, work, layers = self.model, self.cache, self.z_and_scale, _backend.layers
        embedded = model._embedding_scale * model.parameters["tokens"][tokens[:, 0]]
        x = embedded + model._position_encoding(cache.positions(1)[:, 0])
        y = x.copy()
        if self.first_norm is not None:
            layers.add_and_norm(x, *self.no_change, *self.first_norm, *work, y, False)
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            (attention, bias1), (output, bias2), (expand, bias3), (contract, bias4), norm1, norm2 = block
            np.matmul(y, attention, out=self.projected)
            layers.attend(self.projected, bias1, keys, values, self.start, cache.length, self.joined)
            np.matmul(self.joined, output, out=self.change)
            layers.add_and_norm(x, self.change, bias2, *norm1, *work, y, self.post)
            np.matmul(y, expand, out=self.wide)
            layers.activate(self.wide, bias3, self.relu)
            np.matmul(self.wide, contract, out=self.change)
            layers.add_and_norm(x, self.change, bias4, *norm2, *work, y, self.post)
        cache.length += 1
        return model._unembed(y)[0]
