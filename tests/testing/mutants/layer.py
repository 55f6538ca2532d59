"""Layers that are right in several styles, or wrong by a line or two: forward, backward or both together."""

import math

import numpy as np
import ours
import scipy.special

from hopmin.testing.laws.layers import layer_inputs

from . import Mutant


def layer(kind, function, **attributes):
    """Return the function with the attributes that the laws ask for."""

    def made(*inputs):
        return function(*inputs)

    made.kind, made.inputs = kind, layer_inputs(kind)
    vars(made).update(attributes)
    return made


def linear(x, w, b):
    return np.einsum("bti,io->bto", x, w) + b, lambda dy: (
        np.einsum("bto,io->bti", dy, w), np.einsum("bti,bto->io", x, dy), dy.sum(axis=(0, 1)))  # fmt: skip


def embedding(tokens, table):
    def backward(dy):
        dtable = np.zeros_like(table)
        np.add.at(dtable, tokens, dy)
        return None, dtable

    return table[tokens], backward


def layer_norm(x, gain, bias, epsilon=1e-5):
    deviation = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((deviation**2).mean(axis=-1, keepdims=True) + x.dtype.type(epsilon))
    z = deviation / sigma

    def backward(dy):
        dz = dy * gain
        dx = (dz - dz.mean(axis=-1, keepdims=True) - z * (dz * z).mean(axis=-1, keepdims=True)) / sigma
        return dx, (dy * z).sum(axis=(0, 1)), dy.sum(axis=(0, 1))

    return z * gain + bias, backward


def rms_norm(x, gain, epsilon=1e-5):
    scale = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True) + x.dtype.type(epsilon))
    z = x * scale

    def backward(dy):
        dz = dy * gain
        return (dz - z * (dz * z).mean(axis=-1, keepdims=True)) * scale, (dy * z).sum(axis=(0, 1))

    return z * gain, backward


def gelu(x):
    cdf = scipy.special.ndtr(x).astype(x.dtype)
    return x * cdf, lambda dy: dy * (cdf + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi))


def gelu_tanh(x, c=0.044715):
    a = math.sqrt(2 / math.pi)
    t = np.tanh(a * (x + c * x**3))
    return x * (1 + t) / 2, lambda dy: dy * ((1 + t) / 2 + x * (1 - t**2) * a * (1 + 3 * c * x**2) / 2)


def softmax(x, axis=-1):
    p = np.exp(x - x.max(axis=axis, keepdims=True))
    p /= p.sum(axis=axis, keepdims=True)
    return p, lambda dy: p * (dy - (p * dy).sum(axis=axis, keepdims=True))


def cross_entropy(logits, targets, counted=lambda targets: targets >= 0, total=None):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    mask = counted(targets)
    number = mask.sum() if total is None else total(targets)
    index = np.maximum(targets, 0)[..., None]
    loss = -(np.take_along_axis(log_p, index, axis=-1)[..., 0] * mask).sum() / number

    def backward(dy):
        d = np.exp(log_p) - (np.arange(logits.shape[-1]) == index)
        return d * mask[..., None] * dy / number, None

    return loss, backward


def dropout(x, rate, rng):
    if rng is None:
        return x, lambda dy: dy
    kept = (rng.random(x.shape) >= rate) / x.dtype.type(1 - rate)
    return x * kept.astype(x.dtype), lambda dy: dy * kept


def with_dropout(function):
    return layer("gelu", gelu, dropout=function)


def in_float64(function):
    def made(*inputs):
        y, backward = function(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs))
        return np.asarray(y).astype(next(a.dtype for a in inputs if a.dtype.kind == "f")), backward

    return made


PLAIN = {
    "linear": linear, "embedding": embedding, "layer_norm": layer_norm, "rms_norm": rms_norm, "gelu": gelu,
    "gelu_tanh": gelu_tanh, "softmax": softmax, "cross_entropy": cross_entropy,
}  # fmt: skip
RIGHT = {
    **{f"{kind} of hopmin": function for kind, function in ours.LAYERS.items()},
    **{f"{kind} in plain NumPy": layer(kind, function) for kind, function in PLAIN.items()},
    **{f"{kind} in float64 inside": layer(kind, in_float64(function)) for kind, function in PLAIN.items()},
    "dropout in plain NumPy": with_dropout(dropout),
}


def changed(function, change):
    """The layer with other gradients."""

    def made(*inputs):
        y, backward = function(*inputs)
        return y, lambda dy: change(backward(dy), dy, *inputs)

    return made


def embedding_assigned(tokens, table):
    def backward(dy):
        dtable = np.zeros_like(table)
        dtable[tokens] += dy
        return None, dtable

    return table[tokens], backward


def layer_norm_one_pass(x, gain, bias):
    mean = x.mean(axis=-1, keepdims=True)
    variance = np.maximum((x**2).mean(axis=-1, keepdims=True) - mean**2, 0)
    return (x - mean) / np.sqrt(variance + x.dtype.type(1e-5)) * gain + bias, None


def layer_norm_unbiased(x, gain, bias):
    """The variance over D - 1, in both passes."""
    if x.shape[-1] == 1:
        return layer_norm(x, gain, bias)
    ratio = math.sqrt((x.shape[-1] - 1) / x.shape[-1])
    y, backward = layer_norm(x, (gain * ratio).astype(x.dtype), bias, 1e-5 * ratio**2)
    return y, lambda dy: (g := backward(dy), (g[0], g[1] * ratio, g[2]))[1]


def layer_norm_epsilon_outside(x, gain, bias):
    deviation = x - x.mean(axis=-1, keepdims=True)
    return deviation / (deviation.std(axis=-1, keepdims=True) + x.dtype.type(1e-5)) * gain + bias, None


def layer_norm_of_positions(x, gain, bias):
    z = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + x.dtype.type(1e-5))
    return z * gain + bias, None


def layer_norm_constant_sigma(x, gain, bias):
    """The backward pass takes sigma for a constant."""
    y, backward = layer_norm(x, gain, bias)

    def wrong(dy):
        dz = dy * gain
        sigma = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return (dz - dz.mean(axis=-1, keepdims=True)) / sigma, *backward(dy)[1:]

    return y, wrong


def sum_of_all(logits, targets):
    return cross_entropy(logits, targets, total=lambda targets: 1)


def softmax_in_place(x):
    x -= x.max(axis=-1, keepdims=True)
    return softmax(x)


MUTANTS = {
    "weights transposed": Mutant(layer("linear", changed(linear, lambda g, dy, x, w, b: (dy @ w.T * 2, *g[1:]))), "law_backward", "natural"),
    "bias gradient averaged": Mutant(layer("linear", changed(linear, lambda g, dy, *_: (*g[:2], dy.mean(axis=(0, 1))))), "law_backward", "natural"),
    "bias left out": Mutant(layer("linear", lambda x, w, b: (x @ w, lambda dy: (*linear(x, w, b)[1](dy)[:2], b * 0))), "law_forward", "natural"),
    "repeated tokens overwritten": Mutant(layer("embedding", embedding_assigned), "law_backward", "natural"),
    "embedding scaled": Mutant(
        layer("embedding", lambda i, t: (np.sqrt(t.dtype.type(t.shape[1])) * t[i], lambda dy: embedding(i, t)[1](dy * math.sqrt(t.shape[1])))),
        "law_forward", "natural"),
    "tied gradient of one use": Mutant(
        layer("tied_embedding", lambda i, t: (t[i] @ t.T, lambda dy: (None, np.einsum("btv,btd->vd", dy, t[i])))), "law_backward", "natural"),
    "variance in one pass": Mutant(layer("layer_norm", layer_norm_one_pass), "law_forward", "natural"),
    "variance over D - 1": Mutant(layer("layer_norm", layer_norm_unbiased), "law_forward", "natural"),
    "epsilon outside the root": Mutant(layer("layer_norm", layer_norm_epsilon_outside), "law_forward", "natural"),
    "norm over positions": Mutant(layer("layer_norm", layer_norm_of_positions), "law_forward", "natural"),
    "sigma as a constant": Mutant(layer("layer_norm", layer_norm_constant_sigma), "law_backward", "natural"),
    "epsilon of 1e-6": Mutant(layer("layer_norm", lambda *a: layer_norm(*a, epsilon=1e-6)), "law_forward", "natural"),
    "RMS with the mean taken off": Mutant(layer("rms_norm", lambda x, g: rms_norm(x - x.mean(axis=-1, keepdims=True), g)), "law_forward", "natural"),
    "RMS of the sum": Mutant(layer("rms_norm", lambda x, g: (x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + x.dtype.type(1e-5)) * g, None)), "law_forward", "natural"),
    "tanh for exact": Mutant(layer("gelu", gelu_tanh), "law_forward", "natural"),
    "exact for tanh": Mutant(layer("gelu_tanh", gelu), "law_forward", "natural"),
    "0.44715": Mutant(layer("gelu_tanh", lambda x: gelu_tanh(x, 0.44715)), "law_forward", "natural"),
    "sigmoid for exact": Mutant(layer("gelu", lambda x: (x * (1 + np.tanh(0.851 * x)) / 2, None)), "law_forward", "natural"),
    "softmax gradient doubled": Mutant(layer("softmax", changed(softmax, lambda g, *_: 2 * g)), "law_backward", "fromscratchtoml #65"),
    "softmax diagonal only": Mutant(layer("softmax", lambda x: (softmax(x)[0], lambda dy: softmax(x)[0] * (1 - softmax(x)[0]) * dy)), "law_backward", "natural"),
    "softmax over positions": Mutant(layer("softmax", lambda x: softmax(x, axis=1)), "law_forward", "natural"),
    "softmax in place": Mutant(layer("softmax", softmax_in_place), "law_forward", "natural"),
    "softmax without shift": Mutant(layer("softmax", lambda x: (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True), None)), "law_forward", "natural"),
    "loss summed": Mutant(layer("cross_entropy", sum_of_all), "law_forward", "natural"),
    "mean over all targets": Mutant(layer("cross_entropy", lambda x, t: cross_entropy(x, t, total=np.size)), "law_forward", "natural"),
    "ignored targets counted": Mutant(layer("cross_entropy", lambda x, t: cross_entropy(x, t, counted=lambda t: t == t)), "law_forward", "natural"),
    "target 0 ignored": Mutant(layer("cross_entropy", lambda x, t: cross_entropy(x, t, counted=lambda t: t > 0, total=lambda t: max(1, (t > 0).sum()))), "law_forward", "natural"),
    "loss gradient not divided": Mutant(layer("cross_entropy", changed(cross_entropy, lambda g, dy, x, t: (g[0] * (t >= 0).sum(), None))), "law_backward", "natural"),
    "dropout in evaluation": Mutant(with_dropout(lambda x, rate, rng: dropout(x, rate, rng or np.random.default_rng(0))), "law_dropout", "Ultron09/Numpy-Transformer"),
    "dropout not scaled": Mutant(with_dropout(lambda x, rate, rng: (dropout(x, rate, rng)[0] * (1 if rng is None else x.dtype.type(1 - rate)), dropout(x, rate, rng)[1])), "law_dropout", "natural"),
    "rate kept": Mutant(with_dropout(lambda x, rate, rng: dropout(x, 1 - rate, rng)), "law_dropout", "natural"),
    "another mask in backward": Mutant(with_dropout(lambda x, rate, rng: (dropout(x, rate, rng)[0], lambda dy: dropout(dy, rate, rng)[0])), "law_dropout", "natural"),
}  # fmt: skip
