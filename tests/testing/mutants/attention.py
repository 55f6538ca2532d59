"""Attention that is right in several styles, or wrong by a line or two."""

from types import SimpleNamespace

import numpy as np
import ours

from . import Mutant


def softmax(scores, axis=-1):
    e = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def scores(q, k):
    return q @ k.mT / np.sqrt(q.dtype.type(q.shape[-1]))


def tril(q, k):
    return np.tri(q.shape[-2], k.shape[-2], k.shape[-2] - q.shape[-2], dtype=bool)


def masked(q, k, v, mask):
    """Queries that see no key get NaN, as in PyTorch before 2.5."""
    return softmax(np.where(mask, scores(q, k), -np.inf)) @ v


def attention(q, k, v):
    return masked(q, k, v, tril(q, k))


def padded(q, k, v, real):
    mask = tril(q, k) & real[:, None, :]
    return masked(q, k, v, mask | np.eye(q.shape[1], dtype=bool))


def split(a, heads):
    return a.reshape(len(a), heads, -1).swapaxes(0, 1)


def merge(a):
    return a.swapaxes(0, 1).reshape(a.shape[1], -1)


def grouped(q, k, v, heads, key_heads):
    q, k, v = split(q, heads), split(k, key_heads), split(v, key_heads)
    return merge(attention(q, *(np.repeat(a, heads // key_heads, axis=0) for a in (k, v))))


def heads(q, k, v, number):
    return merge(attention(*(split(a, number) for a in (q, k, v))))


def cached():
    seen = []

    def step(q, k, v):
        seen.append((k, v))
        keys, values = (np.concatenate(a) for a in zip(*seen, strict=True))
        return attention(q, keys, values)

    return step


def kit(attention=attention, **methods):
    return SimpleNamespace(attention=attention, **methods)


def in_float64(function):
    """Computed in float64 and rounded once."""
    return lambda q, k, v, *rest: function(*(a.astype(np.float64) for a in (q, k, v)), *rest).astype(v.dtype)


def row_by_row(q, k, v):
    """One query at a time, a running maximum and sum over keys, as in FlashAttention."""
    y = np.empty_like(q)
    for t in range(len(q)):
        largest, total, sums = -np.inf, 0.0, np.zeros(v.shape[1])
        for s in range(t + 1):
            score = float(q[t] @ k[s]) / np.sqrt(q.shape[1])
            new = max(largest, score)
            old, weight = np.exp(largest - new), np.exp(score - new)
            largest, total, sums = new, total * old + weight, sums * old + weight * v[s]
        y[t] = sums / total
    return y


def masked_with_zeros(q, k, v, mask):
    """Queries that see no key get zeros, as in PyTorch since 2.5."""
    s = np.where(mask, scores(q, k), -np.inf)
    e = np.exp(s - np.maximum(s.max(axis=-1, keepdims=True), np.finfo(s.dtype).min))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total) @ v


RIGHT = {
    "hopmin": ours.attention,
    "in plain NumPy": kit(masked=masked, padded=padded, heads=heads, grouped=grouped, cached=cached),
    "float64 inside": kit(in_float64(attention), masked=in_float64(masked_with_zeros), heads=in_float64(heads)),
    "row by row": kit(row_by_row, masked=masked_with_zeros),
}


# Each of these replaces one of the functions above.


def added(fill):
    return lambda q, k, v: softmax(scores(q, k) + np.where(tril(q, k), 0, fill).astype(q.dtype)) @ v


def replaced(fill):
    return lambda q, k, v: softmax(np.where(tril(q, k), scores(q, k), q.dtype.type(fill))) @ v


def masked_after_softmax(q, k, v):
    return np.where(tril(q, k), softmax(scores(q, k)), 0) @ v


def renormalised_after_softmax(q, k, v):
    weights = softmax(scores(q, k)) * tril(q, k)
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def no_shift(q, k, v):
    e = np.exp(np.where(tril(q, k), scores(q, k), -np.inf))
    return e / e.sum(axis=-1, keepdims=True) @ v


def in_blocks(q, k, v):
    """Blocks of 16 keys, each with a softmax of its own."""
    y = attention(q, k, v)
    for start in range(16, len(q), 16):
        y[start:] = attention(q[start:], k[start:], v[start:])
    return y


def scaled_in_place(q, k, v):
    q /= np.sqrt(q.shape[-1])
    return softmax(np.where(tril(q, k), q @ k.T, -np.inf)) @ v


def with_dropout(q, k, v):
    weights = softmax(np.where(tril(q, k), scores(q, k), -np.inf))
    return weights * (np.random.default_rng(0).random(weights.shape) > 0.1) / 0.9 @ v


def masked_for_columns(q, k, v, mask):
    return masked(q, k, v, mask.T | np.eye(len(q), dtype=bool))


def mean_of_all(q, k, v, mask):
    return softmax(np.where(mask, scores(q, k), np.finfo(q.dtype).min)) @ v


def mask_of_positions(q, k, v, mask):
    return masked(q, k, v, mask & tril(q, k) | np.eye(len(q), dtype=bool))


def weighted_padding(q, k, v, real):
    return softmax(np.where(tril(q, k), np.where(real[:, None, :], scores(q, k), 0), -np.inf)) @ v


def padding_left_out(q, k, v, real):
    return attention(q, k, v)


def padding_of_first_row(q, k, v, real):
    return padded(q, k, v, np.broadcast_to(real[:1], real.shape))


def heads_by_reshape(q, k, v, number):
    return attention(*(a.reshape(number, len(a), -1) for a in (q, k, v))).reshape(q.shape)


def heads_not_swapped_back(q, k, v, number):
    return attention(*(split(a, number) for a in (q, k, v))).reshape(q.shape)


def heads_interleaved(q, k, v, number):
    q, k, v = (a.reshape(len(a), -1, number).transpose(2, 0, 1) for a in (q, k, v))
    return attention(q, k, v).transpose(1, 2, 0).reshape(q.shape[1], -1)


def heads_scaled_by_width(q, k, v, number):
    return heads(q / np.sqrt(q.dtype.type(number)), k, v, number)


def groups_tiled(q, k, v, heads, key_heads):
    q, k, v = split(q, heads), split(k, key_heads), split(v, key_heads)
    return merge(attention(q, *(np.tile(a, (heads // key_heads, 1, 1)) for a in (k, v))))


def cache_of_last():
    last = []

    def step(q, k, v):
        last[:] = [*last[-1:], (k, v)]
        keys, values = (np.concatenate(a) for a in zip(*last, strict=True))
        return attention(q, keys, values)

    return step


def cache_with_square_mask():
    seen = []

    def step(q, k, v):
        seen.append((k, v))
        keys, values = (np.concatenate(a) for a in zip(*seen, strict=True))
        return masked(q, keys, values, np.tri(len(q), len(keys), dtype=bool))

    return step


def cache_without_mask():
    seen = []

    def step(q, k, v):
        seen.append((k, v))
        keys, values = (np.concatenate(a) for a in zip(*seen, strict=True))
        return softmax(scores(q, keys)) @ values

    return step


def whole(function):
    """A mutant that has the other functions right."""
    return kit(function)


MUTANTS = {
    "adds -1e4": Mutant(whole(added(-1e4)), "law_attention_large_scores", "minGPT #75"),
    "adds -1e9": Mutant(whole(added(-1e9)), "law_attention_large_scores", "Ultron09/Numpy-Transformer"),
    "adds -1e10": Mutant(whole(added(-1e10)), "law_attention_large_scores", "picoGPT"),
    "fills in -1e4": Mutant(whole(replaced(-1e4)), "law_attention_large_scores", "huggingface #17121"),
    "fills in 0": Mutant(whole(replaced(0)), "law_attention", "natural"),
    "no mask": Mutant(whole(lambda q, k, v: softmax(scores(q, k)) @ v), "law_attention", "natural"),
    "inverted mask": Mutant(whole(lambda q, k, v: masked(q, k, v, ~tril(q, k))), "law_attention", "cs249r_book PR #1785"),
    "own key hidden": Mutant(
        whole(lambda q, k, v: masked(q, k, v, np.tri(len(q), k=-1, dtype=bool) | (np.arange(len(q)) == 0))),
        "law_attention", "natural"),
    "masked after softmax": Mutant(whole(masked_after_softmax), "law_attention", "natural"),
    "renormalised after softmax": Mutant(whole(renormalised_after_softmax), "law_attention_large_scores", "natural"),
    "no shift": Mutant(whole(no_shift), "law_attention_large_scores", "natural"),
    "not scaled": Mutant(whole(lambda q, k, v: attention(q * np.sqrt(q.dtype.type(q.shape[1])), k, v)), "law_attention", "natural"),
    "scaled by E": Mutant(whole(lambda q, k, v: attention(q / np.sqrt(q.dtype.type(q.shape[1])), k, v)), "law_attention", "natural"),
    "softmax over queries": Mutant(
        whole(lambda q, k, v: softmax(np.where(tril(q, k), scores(q, k), -np.inf), axis=0) @ v), "law_attention", "natural"),
    "blocks not joined": Mutant(whole(in_blocks), "law_attention", "natural"),
    "scales q in place": Mutant(whole(scaled_in_place), "law_attention_arrays", "natural"),
    "returns float64": Mutant(whole(lambda q, k, v: attention(q, k, v).astype(np.float64)), "law_attention_arrays", "natural"),
    "drops a dimension": Mutant(whole(lambda q, k, v: attention(q, k, v).squeeze()), "law_attention_arrays", "natural"),
    "dropout in evaluation": Mutant(whole(with_dropout), "law_attention", "Ultron09/Numpy-Transformer"),
    "mask inverted": Mutant(kit(masked=lambda q, k, v, mask: masked(q, k, v, ~mask)), "law_attention_mask", "cs249r_book PR #1785"),
    "mask transposed": Mutant(kit(masked=masked_for_columns), "law_attention_mask", "natural"),
    "mask and causality": Mutant(kit(masked=mask_of_positions), "law_attention_mask", "natural"),
    "mask of -1e9": Mutant(
        kit(masked=lambda q, k, v, mask: softmax(scores(q, k) + np.where(mask, 0, -1e9).astype(q.dtype)) @ v),
        "law_attention_mask_large_scores", "Ultron09/Numpy-Transformer"),
    "empty rows average": Mutant(kit(masked=mean_of_all), "law_attention_empty_row", "pytorch #25110"),
    "keys by their order": Mutant(
        kit(masked=lambda q, k, v, mask: softmax(np.where(mask, scores(q, k) - np.arange(len(k), dtype=q.dtype) / 8, -np.inf)) @ v),
        "law_attention_permutation", "natural"),
    "padding scores 0": Mutant(kit(padded=weighted_padding), "law_attention_padding", "natural"),
    "padding is seen": Mutant(kit(padded=padding_left_out), "law_attention_padding", "natural"),
    "padding of the first row": Mutant(kit(padded=padding_of_first_row), "law_attention_padding", "natural"),
    "heads by reshape": Mutant(kit(heads=heads_by_reshape), "law_attention_heads", "natural"),
    "heads not swapped back": Mutant(kit(heads=heads_not_swapped_back), "law_attention_heads", "natural"),
    "heads interleaved": Mutant(kit(heads=heads_interleaved), "law_attention_heads", "natural"),
    "heads scaled by the width": Mutant(kit(heads=heads_scaled_by_width), "law_attention_heads", "natural"),
    "key heads tiled": Mutant(kit(grouped=groups_tiled), "law_attention_groups", "natural"),
    "cache of the last": Mutant(kit(cached=cache_of_last), "law_attention_cache", "natural"),
    "cache with a square mask": Mutant(kit(cached=cache_with_square_mask), "law_attention_cache", "natural"),
    "cache without a mask": Mutant(kit(cached=cache_without_mask), "law_attention_cache", "x-transformers #219"),
}  # fmt: skip
