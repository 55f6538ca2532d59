"""hopmin's own functions, as the families of `hopmin.testing` call them."""

from functools import partial

import numpy as np

import hopmin
from hopmin.testing.laws.layers import layer_inputs
from hopmin.transformer import layers, llama, training
from hopmin.transformer.generation import KVCache, sample_token
from hopmin.transformer.model import GPT, merge_heads, split_heads


def attention(q, k, v):
    return layers.attention(q, k, v)[0]


def padded(q, k, v, real):
    return layers.attention(q, k, v, padding_mask=~real)[0]


def grouped(q, k, v, heads, key_heads):
    """As in Llama: neighbouring heads share a key head."""
    q, k, v = (split_heads(a[None], n) for a, n in ((q, heads), (k, key_heads), (v, key_heads)))
    k, v = (np.repeat(a, heads // key_heads, axis=1) for a in (k, v))
    return merge_heads(attention(q, k, v))[0]


def heads(q, k, v, number):
    return grouped(q, k, v, number, number)


def cached():
    cache = None

    def step(q, k, v):
        nonlocal cache
        if cache is None:
            cache = KVCache(1, (1, 1, 70, q.shape[1]), q.dtype.name, np.zeros(1, dtype=np.int64))
        keys, values = cache.update(0, k[None, None], v[None, None])
        y = attention(q[None, None], keys, values)[0, 0]
        cache.length += len(q)
        return y

    return step


attention.padded, attention.heads, attention.grouped, attention.cached = padded, heads, grouped, cached
attention.energy = hopmin.DotEnergy


def layer(function, kind, inputs=None, **options):
    """Return a function with the attributes that laws of layers ask for."""
    made = partial(function, **options)
    made.kind, made.inputs = kind, layer_inputs(kind) if inputs is None else inputs
    return made


def tied_embedding(tokens, table):
    x, back_embedding = layers.embedding(tokens, table)
    y, back_linear = layers.linear(x, table.T)

    def backward(dy):
        dx, dweight, _ = back_linear(dy)
        return back_embedding(dx) + dweight.T

    return y, backward


def forward_only(function):
    """A function without backward pass, as a layer whose backward pass is never judged."""
    return lambda *inputs: (function(*inputs), None)


LAYERS = {
    "linear": layer(layers.linear, "linear"),
    "embedding": layer(layers.embedding, "embedding"),
    "tied_embedding": layer(tied_embedding, "tied_embedding"),
    "layer_norm": layer(layers.layer_norm, "layer_norm"),
    "gelu": layer(layers.gelu, "gelu_tanh"),
    "attention": layer(lambda q, k, v: layers.attention(q, k, v)[::2], "attention"),
    "cross_entropy": layer(layers.cross_entropy, "cross_entropy"),
    "dropout": layer(layers.layer_norm, "layer_norm"),
}
LAYERS["dropout"].dropout = layers.dropout
for name, function in (("rms_norm", llama.rms_norm), ("silu", llama.silu)):
    LAYERS[name] = partial(forward_only(function))
    LAYERS[name].kind = name


class Model:
    """A GPT or Llama, with its cache."""

    def __init__(self, model):
        self.causal_model, self.config, self.logits = model, model.config, model.logits
        if isinstance(model, GPT):
            self.parameters, self.loss_and_gradients = model.parameters, model.loss_and_gradients

    def cached(self):
        cache = None

        def step(tokens):
            nonlocal cache
            if cache is None:
                cache = self.causal_model._new_cache(np.zeros(len(tokens), dtype=np.int64))
            return self.causal_model._next_logits(tokens, cache)

        return step


class AdamW(training.AdamW):
    """AdamW whose learning rate is fixed, with PyTorch's names of options."""

    def __init__(self, parameters, *, lr, betas, eps, weight_decay):
        super().__init__(parameters, betas=betas, epsilon=eps, weight_decay=weight_decay)
        self.lr = lr

    def step(self, gradients):
        super().step(gradients, self.lr)

    clip = staticmethod(training.clip_gradients)

    @staticmethod
    def schedule(step, *, peak, floor, steps, warmup_steps):
        return training.cosine_schedule(step, peak=peak, steps=steps, warmup_steps=warmup_steps, final=floor / peak)


def sampler(logits, rng, **options):
    return sample_token(logits[None], rng, **options)[0]
