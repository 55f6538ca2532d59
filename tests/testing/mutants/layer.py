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


def relu(x):
    return np.maximum(x, 0), lambda dy: dy * (x > 0)


def silu(x):
    gate = 1 / (1 + np.exp(-x))
    return x * gate, lambda dy: dy * gate * (1 + x * (1 - gate))


def tied_embedding(tokens, table):
    x = table[tokens]

    def backward(dy):
        dtable = np.einsum("btv,btd->vd", dy, x)
        np.add.at(dtable, tokens, dy @ table)
        return None, dtable

    return x @ table.T, backward


def attention(q, k, v, scale=None):
    scale = q.dtype.type(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    s = np.where(np.tri(q.shape[1], dtype=bool), np.einsum("bte,bse->bts", q, k) * scale, -np.inf)
    w = np.exp(s - s.max(axis=-1, keepdims=True))
    w /= w.sum(axis=-1, keepdims=True)

    def backward(dy):
        dw = dy @ v.mT
        ds = w * (dw - (w * dw).sum(axis=-1, keepdims=True)) * scale
        return ds @ k, ds.mT @ q, w.mT @ dy

    return w @ v, backward


def with_dropout(function):
    return layer("gelu", gelu, dropout=function)


def in_float64(function):
    def made(*inputs):
        y, backward = function(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs))
        return np.asarray(y).astype(next(a.dtype for a in inputs if a.dtype.kind == "f")), backward

    return made


PLAIN = {
    "linear": linear, "embedding": embedding, "layer_norm": layer_norm, "rms_norm": rms_norm, "gelu": gelu,
    "gelu_tanh": gelu_tanh, "softmax": softmax, "cross_entropy": cross_entropy, "relu": relu, "silu": silu,
    "tied_embedding": tied_embedding, "attention": attention,
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


def layer_norm_of_all(x, gain, bias):
    """One mean and variance for all positions of a row."""
    z = (x - x.mean(axis=(-2, -1), keepdims=True)) / np.sqrt(x.var(axis=(-2, -1), keepdims=True) + x.dtype.type(1e-5))
    return z * gain + bias, None


def layer_norm_of_batch(x, gain, bias):
    return layer_norm(x.T, 1, 0)[0].T * gain + bias, None


def layer_norm_in_place(x, gain, bias):
    x -= x.mean(axis=-1, keepdims=True)
    return layer_norm(x, gain, bias)


def rms_norm_mean_kept(x, gain):
    """The scale as a constant."""
    y, backward = rms_norm(x, gain)
    scale = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True) + x.dtype.type(1e-5))
    return y, lambda dy: (dy * gain * scale, backward(dy)[1])


def of_mean(logits, targets):
    """The mean over rows of the mean of each row."""
    counted = targets >= 0
    each = [cross_entropy(z[None], t[None]) for z, t in zip(logits, targets, strict=True) if (t >= 0).any()]
    return sum(loss for loss, _ in each) / counted.any(axis=1).sum(), None


def log_of_probability(logits, targets, added=1e-9):
    p = np.maximum(softmax(logits)[0], 0)
    index = np.maximum(targets, 0)[..., None]
    terms = -np.log(np.take_along_axis(p, index, axis=-1)[..., 0] + logits.dtype.type(added))
    return terms[targets >= 0].mean(), None


def smoothed(logits, targets):
    loss, backward = cross_entropy(logits, targets)
    log_p = np.log(softmax(logits)[0])
    return 0.9 * loss - 0.1 * log_p[targets >= 0].mean(), backward


def twice_softmax(logits, targets):
    return cross_entropy(softmax(logits)[0], targets)


def unshifted(logits, targets):
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    terms = np.take_along_axis(log_p, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return -terms[targets >= 0].mean(), None


def last_for_ignored(logits, targets):
    """Targets of -1 count as the last token."""
    return cross_entropy(logits, targets % logits.shape[-1])


def counts_divided(tokens, table):
    """Gradients of repeated tokens are averaged."""
    y, backward = embedding(tokens, table)
    counts = np.maximum(np.bincount(tokens.ravel(), minlength=len(table)), 1)
    return y, lambda dy: (None, backward(dy)[1] / counts[:, None])


def first_token_frozen(tokens, table):
    y, backward = embedding(tokens, table)
    return y, lambda dy: (None, backward(dy)[1] * (np.arange(len(table)) > 0)[:, None])


def in_place_backward(function):
    """The backward pass changes dy."""

    def made(*inputs):
        y, backward = function(*inputs)

        def changes(dy):
            gradients = backward(dy)
            dy *= 0
            return gradients

        return y, changes

    return made


def attention_without_mask(q, k, v):
    return softmax(q @ k.mT / math.sqrt(q.shape[-1]))[0].astype(v.dtype) @ v, None


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
    "float32 inside": Mutant(layer("linear", lambda x, w, b: (linear(*(a.astype(np.float32) for a in (x, w, b)))[0].astype(x.dtype), None)), "law_forward", "natural"),
    "weight twice": Mutant(layer("linear", lambda x, w, b: (x @ w + 2 * b, lambda dy: (*linear(x, w, b)[1](dy)[:2], 2 * dy.sum(axis=(0, 1))))), "law_forward", "natural"),
    "gradient of the first row": Mutant(layer("linear", changed(linear, lambda g, dy, x, w, b: (g[0], x[0].T @ dy[0], g[2]))), "law_backward", "natural"),
    "bias gradient of the last axis": Mutant(layer("linear", changed(linear, lambda g, dy, x, w, b: (*g[:2], dy.sum(axis=0)))), "law_backward", "natural"),
    "gradient off by 0.1%": Mutant(layer("gelu", changed(gelu, lambda g, *_: 1.001 * g)), "law_backward", "natural"),
    "gradient of another shape": Mutant(layer("gelu", changed(gelu, lambda g, *_: np.float64(1))), "law_backward", "natural"),
    "dy changed in place": Mutant(layer("gelu", in_place_backward(gelu)), "law_backward", "natural"),
    "dy ignored": Mutant(layer("gelu", changed(gelu, lambda g, dy, x: gelu(x)[1](np.ones_like(dy)))), "law_backward", "natural"),
    "averaged over repeats": Mutant(layer("embedding", counts_divided), "law_backward", "natural"),
    "first token frozen": Mutant(layer("embedding", first_token_frozen), "law_backward", "natural"),
    "tokens shifted": Mutant(layer("embedding", lambda i, t: (t[i - 1], None)), "law_forward", "natural"),
    "tied, scaled by the width": Mutant(layer("tied_embedding", lambda i, t: (t[i] @ t.T / t.dtype.type(math.sqrt(t.shape[1])), None)), "law_forward", "natural"),
    "tied gradient of the output alone": Mutant(
        layer("tied_embedding", changed(tied_embedding, lambda g, dy, i, t: (None, embedding(i, t)[1](dy @ t)[1]))), "law_backward", "natural"),
    "norm over all positions": Mutant(layer("layer_norm", layer_norm_of_all), "law_forward", "natural"),
    "norm over the batch": Mutant(layer("layer_norm", layer_norm_of_batch), "law_forward", "natural"),
    "norm changes its input": Mutant(layer("layer_norm", layer_norm_in_place), "law_forward", "natural"),
    "gain of 1 more": Mutant(layer("layer_norm", lambda x, g, b: layer_norm(x, 1 + g, b)), "law_forward", "natural"),
    "bias before the gain": Mutant(layer("layer_norm", lambda x, g, b: (g * (layer_norm(x, 1, 0)[0] + b), None)), "law_forward", "natural"),
    "divided by the variance": Mutant(layer("layer_norm", lambda x, g, b: (layer_norm(x, g, 0)[0] / np.sqrt(x.var(axis=-1, keepdims=True) + x.dtype.type(1e-5)) + b, None)), "law_forward", "natural"),
    "mean not centred in backward": Mutant(
        layer("layer_norm", changed(layer_norm, lambda g, dy, x, gain, b: (g[0] + (dy * gain).mean(axis=-1, keepdims=True), *g[1:]))), "law_backward", "natural"),
    "gain left out of backward": Mutant(layer("layer_norm", changed(layer_norm, lambda g, dy, x, gain, b: (layer_norm(x, np.ones_like(gain), b)[1](dy)[0], *g[1:]))), "law_backward", "natural"),
    "gain gradient of x": Mutant(layer("layer_norm", changed(layer_norm, lambda g, dy, x, gain, b: (g[0], (dy * x).sum(axis=(0, 1)), g[2]))), "law_backward", "natural"),
    "RMS epsilon outside the root": Mutant(layer("rms_norm", lambda x, g: (x / (np.sqrt((x**2).mean(axis=-1, keepdims=True)) + x.dtype.type(1e-5)) * g, None)), "law_forward", "natural"),
    "RMS without root": Mutant(layer("rms_norm", lambda x, g: (x / ((x**2).mean(axis=-1, keepdims=True) + x.dtype.type(1e-5)) * g, None)), "law_forward", "natural"),
    "RMS epsilon left out": Mutant(layer("rms_norm", lambda x, g: rms_norm(x, g, 0)), "law_forward", "natural"),
    "RMS as a constant": Mutant(layer("rms_norm", rms_norm_mean_kept), "law_backward", "natural"),
    "RMS with gain of 1 more": Mutant(layer("rms_norm", lambda x, g: rms_norm(x, 1 + g)), "law_forward", "natural"),
    "gradient of exact GELU for tanh": Mutant(layer("gelu_tanh", lambda x: (gelu_tanh(x)[0], gelu(x)[1])), "law_backward", "natural"),
    "GELU without x phi": Mutant(layer("gelu", lambda x: (gelu(x)[0], lambda dy: dy * scipy.special.ndtr(x))), "law_backward", "natural"),
    "tanh scaled by 0.7978": Mutant(layer("gelu_tanh", lambda x: (x * (1 + np.tanh(x.dtype.type(0.8) * (x + x.dtype.type(0.044715) * x**3))) / 2, None)), "law_forward", "natural"),
    "erf of x": Mutant(layer("gelu", lambda x: ((x * (1 + scipy.special.erf(x)) / 2).astype(x.dtype), None)), "law_forward", "natural"),
    "SiLU without x": Mutant(layer("silu", lambda x: (1 / (1 + np.exp(-x)), None)), "law_forward", "natural"),
    "SiLU of 1.702 x": Mutant(layer("silu", lambda x: (x / (1 + np.exp(x.dtype.type(-1.702) * x)), None)), "law_forward", "natural"),
    "SiLU gradient of the gate": Mutant(layer("silu", lambda x: (silu(x)[0], lambda dy: dy / (1 + np.exp(-x)))), "law_backward", "natural"),
    "leaky ReLU": Mutant(layer("relu", lambda x: (np.maximum(x, x.dtype.type(0.01) * x), None)), "law_forward", "natural"),
    "ReLU gradient of all": Mutant(layer("relu", lambda x: (relu(x)[0], lambda dy: dy)), "law_backward", "natural"),
    "ReLU gradient of y": Mutant(layer("relu", lambda x: (relu(x)[0], lambda dy: dy * (dy > 0))), "law_backward", "natural"),
    "softmax without a shift, float64 inside": Mutant(layer("softmax", in_float64(lambda x: (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True), None))), "law_forward", "natural"),
    "loss without a shift": Mutant(layer("cross_entropy", in_float64(unshifted)), "law_forward", "natural"),
    "log(p + 1e-9)": Mutant(layer("cross_entropy", log_of_probability), "law_forward", "natural"),
    "log(p + 1e-300)": Mutant(layer("cross_entropy", in_float64(lambda x, t: log_of_probability(x, t, 1e-300))), "law_forward", "natural"),
    "labels smoothed": Mutant(layer("cross_entropy", smoothed), "law_forward", "natural"),
    "softmax twice": Mutant(layer("cross_entropy", twice_softmax), "law_forward", "pytorch forum, natural"),
    "mean of the means of rows": Mutant(layer("cross_entropy", of_mean), "law_forward", "natural"),
    "ignored targets are the last": Mutant(layer("cross_entropy", last_for_ignored), "law_forward", "natural"),
    "dy left out of the loss gradient": Mutant(layer("cross_entropy", changed(cross_entropy, lambda g, dy, x, t: cross_entropy(x, t)[1](1.0))), "law_backward", "natural"),
    "ignored targets have a gradient": Mutant(
        layer("cross_entropy", changed(cross_entropy, lambda g, dy, x, t: (g[0] + dy * softmax(x)[0] * (t < 0)[..., None] / (t >= 0).sum(), None))), "law_backward", "natural"),
    "attention not scaled": Mutant(layer("attention", lambda q, k, v: attention(q, k, v, 1)), "law_forward", "natural"),
    "attention without mask": Mutant(layer("attention", attention_without_mask), "law_forward", "natural"),
    "scale left out of backward": Mutant(layer("attention", changed(attention, lambda g, dy, q, k, v: (g[0] * math.sqrt(q.shape[-1]), *g[1:]))), "law_backward", "natural"),
    "gradients of queries and keys swapped": Mutant(layer("attention", changed(attention, lambda g, dy, q, k, v: (g[1], g[0], g[2]))), "law_backward", "natural"),
    "weights not transposed in backward": Mutant(
        layer("attention", changed(attention, lambda g, dy, q, k, v: (*g[:2], attention(q, k, dy)[0]))), "law_backward", "natural"),
    "dropout scaled in evaluation": Mutant(with_dropout(lambda x, rate, rng: (x * x.dtype.type(1 - rate), lambda dy: dy * dy.dtype.type(1 - rate)) if rng is None else dropout(x, rate, rng)), "law_dropout", "natural"),
    "dropout scaled by the rate": Mutant(with_dropout(lambda x, rate, rng: (dropout(x, rate, rng)[0] * (1 if rng is None else x.dtype.type((1 - rate) / rate)), dropout(x, rate, rng)[1])), "law_dropout", "natural"),
    "dropout of rows": Mutant(with_dropout(lambda x, rate, rng: dropout(x, rate, rng) if rng is None or rng.random() > rate else (x * 0, lambda dy: dy * 0)), "law_dropout", "natural"),
    "no dropout": Mutant(with_dropout(lambda x, rate, rng: dropout(x, rate, None)), "law_dropout", "natural"),
    "gradient not dropped": Mutant(with_dropout(lambda x, rate, rng: (dropout(x, rate, rng)[0], lambda dy: dy)), "law_dropout", "natural"),
    "dropout by noise": Mutant(with_dropout(lambda x, rate, rng: dropout(x, rate, None) if rng is None else ((x + rng.normal(size=x.shape) * rate).astype(x.dtype), lambda dy: dy)), "law_dropout", "natural"),
}  # fmt: skip
