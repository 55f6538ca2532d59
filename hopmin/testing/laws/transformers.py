"""Laws of attention and language models. Those of layers are in `layers.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import Violation, at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, dtypes

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as npst

EnergyFactory = Callable[[float], Any]
Attention = Callable[..., Any]  # (q, k, v) -> y, all of shape (T, E)
QKV = tuple[Array, Array, Array]


# ---------------------------------------------------------------------------------------------------------- strategies


@st.composite
def attention_inputs(draw: st.DrawFn, heads: int = 1, key_heads: int | None = None, positions: int = 140) -> QKV:
    """Draw queries (T, H E) and keys and values (T, G E): T up to 8 and a few up to 140, scores up to about 100.

    Parameters
    ----------
    heads, key_heads : int
        H and G; without key_heads, G is H.
    positions : int
        The largest T.

    Returns
    -------
    search strategy of tuple of ndarray
        q, k and v.
    """
    widths = (heads, *[heads if key_heads is None else key_heads] * 2)
    dtype, E = draw(dtypes()), draw(st.integers(1, 8))
    if draw(st.integers(0, 3)):
        T = draw(st.integers(1, min(8, positions)))
        if draw(st.booleans()):  # drawn one by one, so that a failing example shrinks to a readable one
            elements = st.floats(-4, 4, width=16) | st.sampled_from([-1.0, 0.0, 1.0])
            q, k, v = (draw(npst.arrays(np.float64, (T, n * E), elements=elements)) for n in widths)
            return q.astype(dtype), k.astype(dtype), v.astype(dtype)
    else:
        T = draw(st.integers(min(9, positions), positions) | st.just(positions))
        E = draw(st.integers(1, 40) | st.just(70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    q, k, v = (rng.normal(size=(T, n * E)) * 10.0 ** draw(st.integers(-2, 1)) for n in widths)
    return q.astype(dtype), k.astype(dtype), v.astype(dtype)


@st.composite
def exact_attention_inputs(draw: st.DrawFn) -> QKV:
    """Draw q, k and v (T, E) whose scores, up to 2^40 apart, are exact in floats: their softmax is 0 or a tie.

    E is 1, 4 or 16, each query has one entry that is not zero, a power of two, and keys are small integers.
    """
    dtype = np.dtype(draw(dtypes()))
    T, E = draw(st.integers(2, 6)), draw(st.sampled_from([1, 4, 16]))
    large = 2.0 ** draw(st.integers(10, 11 if dtype.itemsize < 4 else 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    q = np.zeros((T, E))
    q[np.arange(T), rng.integers(0, E, T)] = large * rng.choice([-1, 1], T)
    k = np.array(draw(st.lists(st.integers(-4, 4), min_size=T * E, max_size=T * E)), dtype=float).reshape(T, E)
    return q.astype(dtype), k.astype(dtype), rng.integers(-8, 9, (T, E)).astype(dtype)


@st.composite
def masked_inputs(draw: st.DrawFn, inputs: st.SearchStrategy[QKV] | None = None) -> tuple[QKV, Array]:
    """Draw q, k and v, and a mask (T, T), True at the keys that a query sees: at least one for each."""
    q, k, v = draw(attention_inputs(positions=20) if inputs is None else inputs)
    T = len(q)
    if T <= 6:
        mask = draw(npst.arrays(bool, (T, T)))
    else:
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        mask = rng.random((T, T)) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    empty = ~mask.any(axis=1)
    mask[empty, np.arange(T)[empty]] = True
    return (q, k, v), mask


@st.composite
def padded_inputs(draw: st.DrawFn) -> tuple[QKV, Array]:
    """Draw q, k and v (B, T, E), and real (B, T): False at padding, which is left or right of at least one position."""
    dtype, left = draw(dtypes()), draw(st.booleans())
    B, T, E = draw(st.integers(1, 4)), draw(st.integers(1, 12)), draw(st.integers(1, 8))
    lengths = np.array(draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
    q, k, v = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(3, B, T, E)).astype(dtype)
    real = np.arange(T) < lengths[:, None]
    return (q, k, v), real[:, ::-1].copy() if left else real


def head_inputs(*, grouped: bool = False) -> st.SearchStrategy[tuple[Any, ...]]:
    """Draw q, k, v, and the number of heads H; if grouped, also the number G of key heads, which divides H."""
    sizes = st.tuples(st.integers(1, 4), st.integers(1, 3) if grouped else st.just(1))

    def inputs(size: tuple[int, int]) -> st.SearchStrategy[tuple[Any, ...]]:
        G, each = size
        numbers = (G * each, G) if grouped else (G,)
        return attention_inputs(G * each, G, 12).map(lambda qkv: (qkv, *numbers))

    return sizes.flatmap(inputs)


@st.composite
def chunked_inputs(draw: st.DrawFn) -> tuple[QKV, list[int]]:
    """Draw q, k and v (T, E), and increasing positions at which they are cut, the last of which is T."""
    q, k, v = draw(attention_inputs(positions=20))
    return (q, k, v), _cuts(draw, len(q))


def _cuts(draw: st.DrawFn, T: int) -> list[int]:
    if draw(st.booleans()):
        return list(range(1, T + 1))
    return sorted(draw(st.sets(st.integers(1, T), max_size=3)) | {T})


def token_arrays(model: Model, least: int = 1) -> st.SearchStrategy[Array]:
    """Draw tokens (B, T) of the model's vocabulary, B up to 5."""
    V, positions = model.config.vocabulary, model.config.positions
    shapes = st.tuples(st.sampled_from([2, 1, 3, 5]), st.integers(min(least, positions), min(positions, 70)))
    return shapes.flatmap(lambda shape: npst.arrays(np.int64, shape, elements=st.integers(0, V - 1), fill=st.nothing()))


def example_batches(model: Model) -> st.SearchStrategy[tuple[Array, Array]]:
    """Draw tokens and targets (B, T); targets of -1 are not counted, at least one is."""

    @st.composite
    def batches(draw: st.DrawFn) -> tuple[Array, Array]:
        tokens = draw(token_arrays(model))
        elements = st.integers(-1, model.config.vocabulary - 1)
        targets = draw(npst.arrays(np.int64, tokens.shape, elements=elements, fill=st.nothing()))
        if targets.max() < 0:
            targets[0, -1] = 0
        return tokens, targets

    return batches()


def cut_tokens(model: Model) -> st.SearchStrategy[tuple[Array, list[int]]]:
    """Draw tokens (B, T), and increasing positions at which they are cut, the last of which is T."""

    @st.composite
    def cut(draw: st.DrawFn) -> tuple[Array, list[int]]:
        tokens = draw(token_arrays(model))
        return tokens, _cuts(draw, tokens.shape[1])

    return cut()


# ----------------------------------------------------------------------------------------------------------- attention


def attend(q: Array, k: Array, v: Array, mask: Array, eps: float | None = None) -> tuple[Array, Array]:
    """Return the attention to the keys that the mask (T, S) allows, in float64, and a bound on rounding.

    With machine epsilon eps, by default that of v, a score, a sum of E products divided by sqrt(E), is off by at most
    a = (E + 4) eps sum |q| |k| / sqrt(E), and so is its difference from the largest one by 2a. The relative error of a
    weight is then at most exp(4a) - 1 plus (S + 8) eps for exp, the sum, and the division; that of the product with v
    is S eps. Weights that underflow lose at most the smallest normal number each.
    """
    info, (S, E) = np.finfo(v.dtype), k.shape
    eps = float(info.eps) if eps is None else eps
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    scores = np.where(mask, q @ k.T / math.sqrt(E), -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    largest = np.where(mask, np.abs(q) @ np.abs(k).T / math.sqrt(E), 0).max(axis=1, keepdims=True)
    relative = np.expm1(np.minimum(4 * (E + 4) * eps * largest, 700)) + (2 * S + 8) * eps
    slack = relative * (weights @ np.abs(v)) + S * float(info.tiny) * np.abs(v).max()
    # the result is a mean of values, whatever the weights
    return weights @ v, np.minimum(slack, 2 * np.abs(v).max())


def causal(T: int) -> Array:
    """Return the causal mask (T, T): True where the key is not after the query."""
    return np.tri(T, dtype=bool)


def _copies(*arrays: Array) -> list[Array]:
    return [a.copy() for a in arrays]


@law("attention", qkv=attention_inputs())
def law_attention(attention: Attention, /, qkv: QKV) -> None:
    """y_t is the mean of v_s, s <= t, with weights proportional to exp(<q_t, k_s> / sqrt(E)).

    Compared with float64; the slack follows the rounding of scores, weights and sums in the dtype of the values. The
    last query is compared when it is 0, too: all its weights are equal then.
    """
    (q, k, v), mask = qkv, causal(len(qkv[0]))
    close(attention(*_copies(q, k, v)), *attend(q, k, v, mask), "attention")
    q = np.where(np.arange(len(q))[:, None] < len(q) - 1, q, q.dtype.type(0))
    close(attention(*_copies(q, k, v)), *attend(q, k, v, mask), "attention of a query of zeros")


def _dominated(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, Array]:
    """Return the mean of the values whose score is the largest allowed one, and a bound on rounding.

    Scores are exact, and others are at least 2^8 smaller: their weights are at most exp(-256).
    """
    scores = np.where(mask, q.astype(float) @ k.astype(float).T, -np.inf)
    weights = (scores == scores.max(axis=1, keepdims=True)).astype(float)
    weights /= weights.sum(axis=1, keepdims=True)
    values = np.abs(v.astype(float))
    slack = (2 * len(k) + 8) * np.finfo(v.dtype).eps * (weights @ values) + len(k) * math.exp(-256) * values.max()
    return weights @ v.astype(float), slack


@law("attention", source="minGPT #75: a mask of -1e4 lets later tokens in", qkv=exact_attention_inputs())
def law_attention_large_scores(attention: Attention, /, qkv: QKV) -> None:
    """However large the score of a later key, it has no weight; the largest allowed score has all.

    Scores are exact and far apart, so y_t is the mean of the values with the largest score up to t, up to the rounding
    of that mean. A finite number in place of minus infinity fails, and so does a mask applied after softmax.
    """
    expected, slack = _dominated(*qkv, causal(len(qkv[0])))
    close(attention(*_copies(*qkv)), expected, slack, "attention")


@law("attention", qkv=attention_inputs())
def law_attention_arrays(attention: Attention, /, qkv: QKV) -> None:
    """y has the shape of q and the dtype of the arguments, which are not changed."""
    given = _copies(*qkv)
    y = np.asarray(attention(*given))
    same(np.zeros_like(y), np.zeros_like(qkv[0]), "an array like y")
    for name, before, after in zip("qkv", qkv, given, strict=True):
        same(after, before, f"{name} after the call")


@law("attention", promises=("bits",), qkv=attention_inputs(), seed=st.integers(0, 2**32))
def law_attention_causal_bits(attention: Attention, /, qkv: QKV, seed: int) -> None:
    """Each row is the same bit for bit whatever keys and values follow."""
    (q, k, v), rng = qkv, np.random.default_rng(seed)
    stop = int(rng.integers(1, len(q) + 1))
    changed = _copies(*qkv)
    for a in changed:
        a[stop:] = rng.normal(size=a[stop:].shape)
    same(np.asarray(attention(*changed))[:stop], np.asarray(attention(*_copies(q, k, v)))[:stop], f"rows before {stop}")


@law("attention", inputs=masked_inputs())
def law_attention_mask(masked: Attention, /, inputs: tuple[QKV, Array]) -> None:
    """masked(q, k, v, mask) is the mean over the keys at which the mask is True; see law_attention for the slack."""
    qkv, mask = inputs
    expected, slack = attend(*qkv, mask)
    given = mask.copy()
    close(masked(*_copies(*qkv), given), expected, slack, "attention")
    same(given, mask, "the mask after the call")


@law("attention", source="cs249r_book PR #1785, minGPT #75", inputs=masked_inputs(exact_attention_inputs()))
def law_attention_mask_large_scores(masked: Attention, /, inputs: tuple[QKV, Array]) -> None:
    """However large the score of a masked key, it has no weight; see law_attention_large_scores."""
    qkv, mask = inputs
    expected, slack = _dominated(*qkv, mask)
    close(masked(*_copies(*qkv), mask.copy()), expected, slack, "attention")


@law("attention", source="allennlp #890, pytorch #25110", inputs=masked_inputs(), row=st.integers(0, 99))
def law_attention_empty_row(masked: Attention, /, inputs: tuple[QKV, Array], row: int) -> None:
    """A query that sees no key gets zeros or NaN, never a mean of values that it must not see; other rows are right.

    Values are shifted away from 0, so that a mean of them is not 0.
    """
    (q, k, v), mask = inputs
    v, mask, row = np.abs(v) + v.dtype.type(1), mask.copy(), row % len(q)
    expected, slack = attend(q, k, v, mask)
    mask[row] = False
    with np.errstate(all="ignore"):
        y = np.array(masked(*_copies(q, k, v), mask))
    close(np.where(np.isnan(y[row]), 0, y[row]), np.zeros_like(y[row]), 0, f"row {row}, which sees no key")
    expected[row] = y[row] = 0
    close(y, expected, slack, "the other rows")


@law("attention", inputs=masked_inputs(), seed=st.integers(0, 2**32))
def law_attention_permutation(masked: Attention, /, inputs: tuple[QKV, Array], seed: int) -> None:
    """The order of the keys, with their values and columns of the mask, does not matter, up to twice the rounding."""
    (q, k, v), mask = inputs
    order = np.random.default_rng(seed).permutation(len(k))
    _, slack = attend(q, k, v, mask)
    permuted = masked(q.copy(), k[order], v[order], mask[:, order])
    close(permuted, masked(*_copies(q, k, v), mask.copy()), 2 * slack, "attention to permuted keys")


@law("attention", inputs=padded_inputs())
def law_attention_padding(padded: Attention, /, inputs: tuple[QKV, Array]) -> None:
    """Padding does not matter: the real positions of each row get what they get alone.

    Padding holds 1e3 in queries, keys and values, which shows wherever it has any weight. See law_attention for the
    slack.
    """
    qkv, real = inputs
    q, k, v = (np.where(real[..., None], a, a.dtype.type(1e3)) for a in qkv)
    with np.errstate(all="ignore"):
        y = np.asarray(padded(q, k, v, real.copy()))
    for b, kept in enumerate(real):
        expected, slack = attend(q[b, kept], k[b, kept], v[b, kept], causal(int(kept.sum())))
        close(y[b, kept], expected, slack, f"row {b}")


@law("attention", source="minGPT #75", qkv=exact_attention_inputs(), number=st.integers(0, 2), left=st.booleans())
def law_attention_padding_large_scores(padded: Attention, /, qkv: QKV, number: int, left: bool) -> None:
    """However large the score of a later key or of padding, it has no weight; see law_attention_large_scores."""
    real = np.ones(len(qkv[0]), bool)
    number = min(number, len(real) - 1)
    real[slice(number) if left else slice(len(real) - number, None)] = False
    q, k, v = (a[real] for a in qkv)
    expected, slack = _dominated(q, k, v, causal(len(q)))
    y = np.asarray(padded(*(a[None].copy() for a in qkv), real[None]))[0]
    close(y[real], expected, slack, "attention beside padding")


def _attend_heads(q: Array, k: Array, v: Array, H: int, G: int) -> tuple[Array, Array]:
    """Return `attend` of H heads of queries to G heads of keys, side by side."""
    queries, keys, values = np.split(q, H, axis=1), np.split(k, G, axis=1), np.split(v, G, axis=1)
    each = [attend(queries[h], keys[h * G // H], values[h * G // H], causal(len(q))) for h in range(H)]
    return np.concatenate([y for y, _ in each], axis=1), np.concatenate([slack for _, slack in each], axis=1)


@law("attention", inputs=head_inputs())
def law_attention_heads(heads: Attention, /, inputs: tuple[QKV, int]) -> None:
    """Head h of heads(q, k, v, H) is causal attention on columns h E to (h + 1) E; see law_attention for the slack."""
    qkv, H = inputs
    close(heads(*_copies(*qkv), H), *_attend_heads(*qkv, H, H), f"attention of {H} heads")


@law("attention", source="minGPT #75", qkv=exact_attention_inputs())
def law_attention_heads_large_scores(heads: Attention, /, qkv: QKV) -> None:
    """However large the score of a later key, it has no weight in any head; see law_attention_large_scores."""
    q, k, v = qkv
    expected, slack = (np.tile(a, (1, 2)) for a in _dominated(q, k, v, causal(len(q))))
    y = heads(*(np.tile(a, (1, 2)) for a in (q, k, v)), 2)
    close(y, expected, slack, "attention of two heads")


@law("attention", inputs=head_inputs(grouped=True))
def law_attention_groups(grouped: Attention, /, inputs: tuple[QKV, int, int]) -> None:
    """Head h of grouped(q, k, v, H, G) attends to key head h // (H / G): neighbours share, not every G-th head."""
    qkv, H, G = inputs
    close(grouped(*_copies(*qkv), H, G), *_attend_heads(*qkv, H, G), f"attention of {H} heads to {G} key heads")


@law("attention", source="lucidrains/x-transformers #219, picoGPT PR #7", inputs=chunked_inputs())
def law_attention_cache(cached: Callable[[], Attention], /, inputs: tuple[QKV, list[int]]) -> None:
    """Attention to cached keys, one or more rows at a time, is attention to the whole; see law_attention."""
    qkv, cuts = inputs
    step, expected, slack = cached(), *attend(*qkv, causal(len(qkv[0])))
    rows = [step(*(a[i:j].copy() for a in qkv)) for i, j in zip([0, *cuts], cuts, strict=False)]
    close(np.concatenate([np.asarray(y) for y in rows]), expected, slack, "attention with a cache")


@law("attention", source="minGPT #75", qkv=exact_attention_inputs(), cut=st.integers(0, 5))
def law_attention_cache_large_scores(cached: Callable[[], Attention], /, qkv: QKV, cut: int) -> None:
    """However large the score of a later key, it has no weight with a cache; see law_attention_large_scores."""
    step, expected = cached(), _dominated(*qkv, causal(len(qkv[0])))
    parts = [slice(0, cut), slice(cut, None)] if 0 < cut < len(qkv[0]) else [slice(0, None)]
    y = np.concatenate([np.asarray(step(*(a[part].copy() for a in qkv))) for part in parts])
    close(y, *expected, "attention with a cache")


@law("attention", source="Ramsauer et al. 2021", qkv=attention_inputs())
def law_attention_is_update(attention: Attention, energy: EnergyFactory, /, qkv: QKV) -> None:
    """Row t of causal attention(q, k, v) is energy(1 / sqrt(E)).update(q[t], k[: t + 1], v[: t + 1]).

    Both may round as in law_attention, so the slack is twice as large.
    """
    q, k, v = qkv
    T, E = q.shape
    y, e = attention(*_copies(q, k, v)), energy(1 / math.sqrt(E))
    _, slack = attend(q, k, v, causal(T))
    for t in range(T):
        expected = e.update(q[t], k[: t + 1], v[: t + 1])
        close(y[t], expected, 2 * slack[t], f"attention at position {t}")


# ------------------------------------------------------------------------------------------------------ language models


class Model(Protocol):
    """The methods of a language model that the laws of transformers use."""

    config: Any  # with `vocabulary` and `positions`
    parameters: dict[str, Array]

    def logits(self, tokens: Array) -> Array:
        """Return the logits (B, T, V) of tokens (B, T)."""

    def loss_and_gradients(self, tokens: Array, targets: Array, rng: Any) -> tuple[float, dict[str, Array]]:
        """Return the loss and its gradient by the name of each parameter; dropout is drawn with rng."""

    def cached(self) -> Callable[[Array], Array]:
        """Return a function that takes the next tokens (B, t) and returns the logits (B, V) that follow them."""


def _half(logits: Array) -> float:
    """Return sqrt(eps) times the largest logit: half of the digits.

    How much a model amplifies rounding is not known. A model in which other orders of summation change more than half
    of the digits would be of no use, and the mistakes that the laws are about change the first digits.
    """
    return float(np.sqrt(np.finfo(logits.dtype).eps) * (np.abs(logits).max() + np.finfo(logits.dtype).tiny))


@law("language_model", source="minGPT #75", tokens=token_arrays, cut=st.integers(0, 99), seed=st.integers(0, 2**32))
def law_causal(model: Model, /, tokens: Array, cut: int, seed: int) -> None:
    """The logits of a position depend neither on later tokens nor on their number, to half of the digits."""
    stop = cut % tokens.shape[1] + 1
    later = np.random.default_rng(seed).integers(0, model.config.vocabulary, tokens[:, stop:].shape)
    logits = np.asarray(model.logits(tokens.copy()))[:, :stop]
    changed = np.asarray(model.logits(np.concatenate([tokens[:, :stop], later], axis=1)))[:, :stop]
    close(changed, logits, _half(logits), f"logits of the first {stop} positions if others follow")
    close(model.logits(tokens[:, :stop].copy()), logits, _half(logits), f"logits of the first {stop} positions alone")


@law("language_model", promises=("bits",), tokens=token_arrays, cut=st.integers(0, 99), seed=st.integers(0, 2**32))
def law_causal_bits(model: Model, /, tokens: Array, cut: int, seed: int) -> None:
    """The logits of a position are the same bit for bit whatever tokens follow, in the same number."""
    stop = cut % tokens.shape[1] + 1
    later = np.random.default_rng(seed).integers(0, model.config.vocabulary, tokens[:, stop:].shape)
    changed = np.concatenate([tokens[:, :stop], later], axis=1)
    same(model.logits(changed)[:, :stop], model.logits(tokens.copy())[:, :stop], f"logits before position {stop}")


@law("language_model", tokens=token_arrays)
def law_model_rows(model: Model, /, tokens: Array) -> None:
    """The logits of a row do not depend on the other rows, to half of the digits."""
    logits = np.asarray(model.logits(tokens.copy()))
    rows = np.concatenate([np.asarray(model.logits(row[None].copy())) for row in tokens])
    close(logits, rows, _half(rows), "logits of a batch and of its rows")


@law("language_model", tokens=token_arrays)
def law_model_evaluation(model: Model, /, tokens: Array) -> None:
    """Logits have shape (B, T, V), are the same in a second call, as not with dropout, and leave the tokens."""
    given = tokens.copy()
    logits, again = np.asarray(model.logits(given)), np.asarray(model.logits(given))
    close(np.zeros(logits.shape), np.zeros((*tokens.shape, model.config.vocabulary)), 0, "shape of the logits")
    same(given, tokens, "tokens after the call")
    close(again, logits, _half(logits), "logits of a second call")


@law("language_model", promises=("positions",), tokens=lambda model: token_arrays(model, least=3))
def law_model_positions(model: Model, /, tokens: Array) -> None:
    """Positions matter: equal tokens have other logits at other positions, or two tokens change the last if they swap.

    Other means by more than 1000 eps times the largest logit, more than a sum in another order changes.
    """
    first = tokens[:1].copy()
    if first.shape[1] < 3 or model.config.vocabulary < 2:
        return
    first[0, 0], first[0, 1] = 0, 1
    swapped, equal = first.copy(), np.zeros_like(first)
    swapped[0, :2] = [1, 0]
    logits, other, constant = (np.asarray(model.logits(a))[0] for a in (first, swapped, equal))
    change = max(np.abs(other[-1] - logits[-1]).max(), np.abs(constant - constant[:1]).max())
    at_most(1000 * np.finfo(logits.dtype).eps * np.abs(logits).max(), change, 0, "change of the logits with positions")


@law("language_model", needs=("loss_and_gradients",), batch=example_batches)
def law_model_loss(model: Model, /, batch: tuple[Array, Array]) -> None:
    """The loss is the mean, over targets that are not -1, of -log softmax(logits)[target], to half of the digits."""
    given = batch[0].copy(), batch[1].copy()
    loss = float(model.loss_and_gradients(*given, None)[0])
    for name, before, after in zip(("tokens", "targets"), batch, given, strict=True):
        same(after, before, f"{name} after the call")
    logits = np.asarray(model.logits(batch[0].copy()))
    close(loss, _loss(logits, batch[1]), _half(logits), "loss")


def _loss(logits: Array, targets: Array) -> float:
    z = logits.astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    terms = np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return float(terms[targets >= 0].mean())


@law("language_model", needs=("loss_and_gradients", "parameters"), batch=example_batches)
def law_model_large_logits(model: Model, /, batch: tuple[Array, Array]) -> None:
    """The loss holds where exp(logits) overflows: all parameters are multiplied by 4 until a logit exceeds 1000.

    The slack is an eighth of the largest logit, as attention to one of two equal scores may turn on the last digit.
    Not judged if logits stay smaller or overflow themselves. Parameters are changed in place and restored.
    """
    tokens, targets = batch
    kept = {name: p.copy() for name, p in model.parameters.items()}
    largest = 0.0
    try:
        for _ in range(8):
            for p in model.parameters.values():
                p *= 4
            logits = np.asarray(model.logits(tokens.copy()))
            largest = float(np.abs(logits).max())
            if not largest <= 1000:
                break
        if 1000 < largest < np.finfo(logits.dtype).max / 8:
            loss = float(model.loss_and_gradients(tokens.copy(), targets.copy(), None)[0])
            close(loss, _loss(logits, targets), largest / 8, "loss")
    finally:
        for name, p in model.parameters.items():
            p[...] = kept[name]


@law("language_model", needs=("cached",), source="lucidrains/x-transformers #219", inputs=cut_tokens)
def law_model_cache(model: Model, /, inputs: tuple[Array, list[int]]) -> None:
    """With a cache, the logits after one or more tokens at a time are those without, to half of the digits."""
    tokens, cuts = inputs
    logits, step = np.asarray(model.logits(tokens.copy())), model.cached()
    for start, stop in zip([0, *cuts], cuts, strict=False):
        found = step(tokens[:, start:stop].copy())
        close(found, logits[:, stop - 1], _half(logits), f"logits after {stop} tokens")


@law(
    "language_model", needs=("loss_and_gradients", "parameters"), batch=example_batches, dropped=st.booleans(),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def law_model_gradient(model: Model, /, batch: tuple[Array, Array], dropped: bool, seed: int) -> None:
    """The gradients agree with differences of the loss, along a random direction in all parameters.

    The step is h = eps^(1/3), about 1e-5 in float64, the formula of order h^4. Rounding of a loss L changes its slope
    by at most a few eps L / h, and the slack allows 20 of them, and h/6, about 1e-6, of the norms of the gradients.
    Parameters with large gradients move less, so that each counts. If the check fails, the parameters are checked one
    by one. With and without dropout, whose mask is fixed by its seed. Parameters are changed in place and restored.
    """
    tokens, targets = batch
    rng, draw = np.random.default_rng(seed), seed if dropped else None
    before = {name: p.copy() for name, p in model.parameters.items()}
    loss, gradients = model.loss_and_gradients(tokens, targets, draw)
    for name, p in model.parameters.items():
        same(p, before[name], f"parameter {name} after the call")
        if np.shape(gradients[name]) != p.shape:
            raise AssertionError(f"gradient {name} must have shape {p.shape}; got {np.shape(gradients[name])}")
    norms = {name: float(np.linalg.norm(gradients[name])) for name in model.parameters}
    least = 1e-3 * max(norms.values()) + 1e-300
    directions: dict[str, Array] = {name: rng.normal(size=p.shape) for name, p in model.parameters.items()}
    for name, d in directions.items():
        d *= least / max(norms[name], least) / np.linalg.norm(d)

    def check(names: list[str]) -> None:
        kept = {name: model.parameters[name].copy() for name in names}
        eps = float(np.finfo(kept[names[0]].dtype).eps)
        h, losses = eps ** (1 / 3), []
        for steps in (2, 1, -1, -2):
            for name in names:
                model.parameters[name][...] = kept[name] + steps * h * directions[name]
            losses.append(float(model.loss_and_gradients(tokens, targets, draw)[0]))
        for name in names:
            model.parameters[name][...] = kept[name]
        slope = (8 * (losses[1] - losses[2]) - (losses[0] - losses[3])) / (12 * h)
        size = sum(norms[name] * float(np.linalg.norm(directions[name])) for name in names)
        found = sum(float(np.vdot(gradients[name], directions[name])) for name in names)
        close(found, slope, h / 6 * size + 20 * eps / h * (1 + abs(loss)), f"slope along {', '.join(names)}")

    try:
        check(list(model.parameters))
    except Violation:
        for name in model.parameters:
            check([name])
        raise
