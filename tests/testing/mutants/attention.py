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


def divided_last(q, k, v):
    """Queries are scaled, and the sum of the weights divides the result."""
    s = np.einsum("te,se->ts", q * q.dtype.type(q.shape[1] ** -0.5), k)
    e = np.exp(np.where(tril(q, k), s - np.where(tril(q, k), s, -np.inf).max(axis=1, keepdims=True), -np.inf))
    return np.einsum("ts,se->te", e, v) / e.sum(axis=1, keepdims=True)


RIGHT = {
    "hopmin": ours.attention,
    "in plain NumPy": kit(masked=masked, padded=padded, heads=heads, grouped=grouped, cached=cached),
    "float64 inside": kit(in_float64(attention), masked=in_float64(masked_with_zeros), heads=in_float64(heads)),
    "divided last": kit(divided_last),
    "row by row": kit(row_by_row, masked=masked_with_zeros),
}
PROMISES = {"hopmin": ("bits",)}


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


def shifted_by_the_largest(q, k, v):
    """One shift for all rows."""
    s = np.where(tril(q, k), scores(q, k), -np.inf)
    e = np.exp(s - s.max())
    return e / e.sum(axis=-1, keepdims=True) @ v


def minus_logsumexp(q, k, v):
    """exp(s - LSE), in which the logarithm of the sum is lost if the largest score is large."""
    s = np.where(tril(q, k), scores(q, k), -np.inf)
    largest = s.max(axis=-1, keepdims=True)
    return np.exp(s - (largest + np.log(np.exp(s - largest).sum(axis=-1, keepdims=True)))) @ v


def zeros_masked(q, k, v):
    """Scores that happen to be 0 are masked."""
    s = np.tril(scores(q, k))
    return softmax(np.where(s == 0, -np.inf, s)) @ v


def with_one_more(q, k, v):
    """Softmax with 1 added to the sum."""
    s = np.where(tril(q, k), scores(q, k), -np.inf)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / (1 + e.sum(axis=-1, keepdims=True)) @ v


def window(size):
    """Each query sees that many keys at most."""
    return lambda q, k, v: masked(q, k, v, np.tri(len(q), dtype=bool) & ~np.tri(len(q), k=-size, dtype=bool))


def buffered(size):
    """The mask is a buffer of limited size; keys beyond it are seen by all."""

    def mask(T):
        allowed = np.ones((T, T), dtype=bool)
        allowed[:size, :size] = np.tri(min(T, size), dtype=bool)
        return allowed

    return lambda q, k, v: masked(q, k, v, mask(len(q)))


def first_dimensions(q, k, v):
    return attention(q[:, :16], k[:, :16], v) if q.shape[1] > 16 else attention(q, k, v)


def biased(q, k, v):
    """Distances are subtracted from scores."""
    t = np.arange(len(q), dtype=q.dtype)
    return softmax(np.where(tril(q, k), scores(q, k) - np.abs(t[:, None] - t) / 8, -np.inf)) @ v


def relu_weights(q, k, v):
    w = np.maximum(scores(q, k), 0) * tril(q, k)
    return w / np.maximum(w.sum(axis=-1, keepdims=True), w.dtype.type(1e-9)) @ v


def in_float16(q, k, v):
    return (softmax(np.where(tril(q, k), scores(q, k), -np.inf)).astype(np.float16) @ v).astype(v.dtype)


def in_float32(q, k, v):
    return attention(*(a.astype(np.float32) for a in (q, k, v))).astype(v.dtype)


def masked_twice(q, k, v, mask):
    return masked(q, k, v, mask) * mask.any(axis=0)[:, None]


def mask_of_first_query(q, k, v, mask):
    return masked(q, k, v, np.broadcast_to(mask[:1], mask.shape))


def not_renormalised(q, k, v, mask):
    return softmax(scores(q, k)) * mask @ v


def mask_as_numbers(q, k, v, mask):
    """The mask is added as 0 and 1."""
    return softmax(scores(q, k) + mask).astype(v.dtype) @ v


def masked_in_place(q, k, v, mask):
    mask &= tril(q, k)
    return masked(q, k, v, mask | np.eye(len(q), dtype=bool))


def empty_rows_see_all(q, k, v, mask):
    return masked(q, k, v, mask | ~mask.any(axis=1, keepdims=True))


def padding_of_queries(q, k, v, real):
    """The mask of the keys is applied to the queries."""
    return masked(q, k, v, tril(q, k) & real[:, :, None] | np.eye(q.shape[1], dtype=bool))


def padding_on_the_right(q, k, v, real):
    """Lengths are counted and padding is thought to be right of them."""
    return padded(q, k, v, np.arange(q.shape[1]) < real.sum(axis=1, keepdims=True))


def padding_not_causal(q, k, v, real):
    return masked(q, k, v, np.broadcast_to(real[:, None, :], (*real.shape, real.shape[1])) | np.eye(q.shape[1], dtype=bool))


def padding_inverted(q, k, v, real):
    return padded(q, k, v, ~real)


def padding_as_zeros(q, k, v, real):
    """Padded keys and values are set to 0, which still weigh."""
    return attention(q, *(np.where(real[..., None], a, a.dtype.type(0)) for a in (k, v)))


def padding_below(q, k, v, real):
    return softmax(np.where(tril(q, k), scores(q, k) + np.where(real, 0, -1e2).astype(q.dtype)[:, None, :], -np.inf)) @ v


def one_head(q, k, v, number):
    return attention(q, k, v)


def first_head_only(q, k, v, number):
    """All heads use the weights of the first."""
    weights = softmax(np.where(tril(q, k), scores(*(split(a, number)[0] for a in (q, k))), -np.inf))
    return merge(weights @ split(v, number))


def heads_over_heads(q, k, v, number):
    """Each position attends over the heads."""
    q, k, v = (a.reshape(len(a), number, -1) for a in (q, k, v))
    return attention(q, k, v).reshape(len(q), -1)


def heads_summed(q, k, v, number):
    """Scores are summed over heads."""
    q, k, v = (split(a, number) for a in (q, k, v))
    s = np.where(tril(q, k), scores(q, k), -np.inf).sum(axis=0, keepdims=True)
    return merge(softmax(s) @ v)


def heads_reversed(q, k, v, number):
    return merge(attention(*(split(a, number) for a in (q, k, v)))[::-1])


def groups_of_first(q, k, v, heads, key_heads):
    """All heads use the first key head."""
    q, k, v = split(q, heads), split(k, key_heads)[:1], split(v, key_heads)[:1]
    return merge(attention(q, k, v))


def groups_of_keys_alone(q, k, v, heads, key_heads):
    """Keys are repeated, values tiled."""
    q, k, v = split(q, heads), split(k, key_heads), split(v, key_heads)
    each = heads // key_heads
    return merge(attention(q, np.repeat(k, each, axis=0), np.tile(v, (each, 1, 1))))


def cache_of_keys_alone():
    """Values are not kept, so old keys get the new values."""
    seen, values = [], []

    def step(q, k, v):
        seen.append(k)
        values.append(v if not values else np.broadcast_to(v[-1:], v.shape))
        return attention(q, np.concatenate(seen), np.concatenate(values))

    return step


def cache_put_in_front():
    seen = []

    def step(q, k, v):
        seen.insert(0, (k, v))
        keys, values = (np.concatenate(a) for a in zip(*seen, strict=True))
        return attention(q, keys, values)

    return step


def cache_of_window():
    """Only the last 12 keys are kept."""
    seen = []

    def step(q, k, v):
        seen.append((k, v))
        keys, values = (np.concatenate(a)[-max(12, len(q)):] for a in zip(*seen, strict=True))
        return attention(q, keys, values)

    return step


def cache_in_float32():
    seen = []

    def step(q, k, v):
        seen.append((k.astype(np.float32), v.astype(np.float32)))
        keys, values = (np.concatenate(a).astype(q.dtype) for a in zip(*seen, strict=True))
        return attention(q, keys, values)

    return step


def cache_of_a_row():
    """Only the first row of each call is kept."""
    seen = []

    def step(q, k, v):
        seen.append((k, v))
        keys, values = (np.concatenate(a) for a in zip(*seen, strict=True))
        y = attention(q, keys, values)
        seen[-1] = (k[:1], v[:1])
        return y

    return step


def whole(function):
    """A mutant that has the other functions right."""
    return kit(function)


def finite(q, k, v, mask, lowest=-1e4):
    return softmax(np.where(mask, scores(q, k), lowest)) @ v


def finite_padded(q, k, v, real):
    return finite(q, k, v, tril(q, k) & real[:, None, :] | np.eye(q.shape[1], dtype=bool), -1e9)


def finite_heads(q, k, v, number):
    return merge(finite(*(split(a, number) for a in (q, k, v)), tril(q, k), -1e6))


def finite_cached():
    seen = []

    def step(q, k, v):
        seen.append((k, v))
        keys, values = (np.concatenate(a) for a in zip(*seen, strict=True))
        return finite(q, keys, values, tril(q, keys))

    return step


MUTANTS = {
    "finite mask beside padding": Mutant(kit(padded=finite_padded), "law_attention_padding_large_scores", "minGPT #75"),
    "finite mask in heads": Mutant(kit(heads=finite_heads), "law_attention_heads_large_scores", "minGPT #75"),
    "finite mask with a cache": Mutant(kit(cached=finite_cached), "law_attention_cache_large_scores", "minGPT #75"),
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
    "one shift for all rows": Mutant(whole(shifted_by_the_largest), "law_attention_large_scores", "natural"),
    "exp(s - LSE)": Mutant(whole(minus_logsumexp), "law_attention_large_scores", "natural"),
    "scores of 0 masked": Mutant(whole(zeros_masked), "law_attention", "natural"),
    "1 added to the sum": Mutant(whole(with_one_more), "law_attention", "natural"),
    "window of 8": Mutant(whole(window(8)), "law_attention", "natural"),
    "window of 64": Mutant(whole(window(64)), "law_attention", "natural"),
    "mask of 64 positions": Mutant(whole(buffered(64)), "law_attention", "natural"),
    "mask of 128 positions": Mutant(whole(buffered(128)), "law_attention", "natural"),
    "16 dimensions": Mutant(whole(first_dimensions), "law_attention", "natural"),
    "bias of distances": Mutant(whole(biased), "law_attention", "natural"),
    "weights by ReLU": Mutant(whole(relu_weights), "law_attention", "natural"),
    "weights in float16": Mutant(whole(in_float16), "law_attention", "natural"),
    "float32 inside": Mutant(whole(in_float32), "law_attention", "natural"),
    "values for keys": Mutant(whole(lambda q, k, v: attention(q, v, v)), "law_attention", "natural"),
    "mean of keys": Mutant(whole(lambda q, k, v: attention(q, k, k)), "law_attention", "natural"),
    "queries and keys swapped": Mutant(whole(lambda q, k, v: attention(k, q, v)), "law_attention", "natural"),
    "weights transposed": Mutant(
        whole(lambda q, k, v: softmax(np.where(tril(q, k), scores(q, k), -np.inf)).T @ v), "law_attention", "natural"),
    "negative scores": Mutant(whole(lambda q, k, v: attention(-q, k, v)), "law_attention", "natural"),
    "sees one key ahead": Mutant(
        whole(lambda q, k, v: masked(q, k, v, np.tri(len(q), k=1, dtype=bool))), "law_attention", "natural"),
    "scaled by positions": Mutant(
        whole(lambda q, k, v: attention(q * np.sqrt(q.dtype.type(q.shape[1] / len(q))), k, v)), "law_attention", "natural"),
    "another beta": Mutant(kit(energy=lambda beta: ours.hopmin.DotEnergy(2 * beta)), "law_attention_is_update", "natural"),
    "update without mask": Mutant(
        kit(lambda q, k, v: softmax(scores(q, k)) @ v, energy=ours.hopmin.DotEnergy), "law_attention_is_update", "natural"),
    "update with a mask of -10": Mutant(kit(added(-10), energy=ours.hopmin.DotEnergy), "law_attention_is_update", "natural"),
    "update by distances": Mutant(kit(energy=ours.hopmin.DistanceEnergy), "law_attention_is_update", "natural"),
    "last digit from later values": Mutant(
        whole(lambda q, k, v: attention(q, k, v) * (1 + v.dtype.type(np.finfo(v.dtype).eps * (v.sum() > 0)))),
        "law_attention_causal_bits", "natural"),
    "mask of the first query": Mutant(kit(masked=mask_of_first_query), "law_attention_mask", "natural"),
    "mask after softmax": Mutant(kit(masked=not_renormalised), "law_attention_mask", "natural"),
    "mask added as numbers": Mutant(kit(masked=mask_as_numbers), "law_attention_mask", "natural"),
    "mask changed in place": Mutant(kit(masked=masked_in_place), "law_attention_mask", "natural"),
    "unseen keys drop queries": Mutant(kit(masked=masked_twice), "law_attention_mask", "natural"),
    "empty rows see all": Mutant(kit(masked=empty_rows_see_all), "law_attention_empty_row", "allennlp #890"),
    "padding of queries": Mutant(kit(padded=padding_of_queries), "law_attention_padding", "natural"),
    "padding on the right only": Mutant(kit(padded=padding_on_the_right), "law_attention_padding", "natural"),
    "padding for causality": Mutant(kit(padded=padding_not_causal), "law_attention_padding", "natural"),
    "padding inverted": Mutant(kit(padded=padding_inverted), "law_attention_padding", "cs249r_book PR #1785"),
    "padding set to 0": Mutant(kit(padded=padding_as_zeros), "law_attention_padding", "natural"),
    "padding lowered by 100": Mutant(kit(padded=padding_below), "law_attention_padding", "minGPT #75"),
    "one head": Mutant(kit(heads=one_head), "law_attention_heads", "natural"),
    "weights of the first head": Mutant(kit(heads=first_head_only), "law_attention_heads", "natural"),
    "attention over heads": Mutant(kit(heads=heads_over_heads), "law_attention_heads", "natural"),
    "scores summed over heads": Mutant(kit(heads=heads_summed), "law_attention_heads", "natural"),
    "heads reversed": Mutant(kit(heads=heads_reversed), "law_attention_heads", "natural"),
    "first key head": Mutant(kit(grouped=groups_of_first), "law_attention_groups", "natural"),
    "values tiled": Mutant(kit(grouped=groups_of_keys_alone), "law_attention_groups", "natural"),
    "cache of keys alone": Mutant(kit(cached=cache_of_keys_alone), "law_attention_cache", "natural"),
    "cache put in front": Mutant(kit(cached=cache_put_in_front), "law_attention_cache", "natural"),
    "cache of 12 keys": Mutant(kit(cached=cache_of_window), "law_attention_cache", "natural"),
    "cache in float32": Mutant(kit(cached=cache_in_float32), "law_attention_cache", "natural"),
    "cache of a row per call": Mutant(kit(cached=cache_of_a_row), "law_attention_cache", "natural"),
}  # fmt: skip
