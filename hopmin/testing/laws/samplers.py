"""Laws of samplers: which tokens may be drawn, and how often."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import at_most, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, dtypes

with needed_by("hopmin.testing", "testing"):
    from hypothesis import strategies as st

Sampler = Callable[..., Any]


class Choice(NamedTuple):
    """Logits (V,), the options of the sampler, the number of tokens to draw, and the seed of the generator."""

    logits: Array
    options: dict[str, Any]
    draws: int
    seed: int


@st.composite
def choices(draw: st.DrawFn, draws: int = 30) -> Choice:
    """Draw up to 12 logits, with ties, some of -inf, and offsets to 1e3, and a temperature, top_k or top_p.

    top_k may exceed V, and top_p may be 1.
    """
    V, dtype = draw(st.sampled_from([2, 4, 6, 12, 3, 1])), draw(dtypes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.integers(-6, 7, V) / 2 if draw(st.booleans()) else rng.normal(size=V) * rng.choice([0.3, 2.0])
    if draw(st.integers(0, 3)) == 3:
        logits[rng.integers(0, V)] = -np.inf
        logits[rng.integers(0, V)] = 0.5
    logits = (logits + draw(st.sampled_from([0.0, 0.0, 1e3, -1e3]))).astype(dtype)
    temperature, top_k, top_p = (
        st.sampled_from([0.25, 4.0]),
        st.just(int(rng.integers(1, V + 1))) | st.sampled_from([V, V + 1, V + 3]),
        st.sampled_from([0.5, 0.3, 0.7, 0.9, 1.0]),
    )
    options: dict[str, Any] = {}
    for name in draw(
        st.sampled_from(["temperature", "top_k", "top_p", "top_k", "top_p", "temperature top_p", ""])
    ).split():
        options[name] = draw({"temperature": temperature, "top_k": top_k, "top_p": top_p}[name])
    return Choice(logits, options, draws, draw(st.integers(0, 2**32)))


def _distribution(choice: Choice) -> tuple[Array, Array, Array]:
    """Return the probabilities (V,), which tokens may be drawn, and which must be possible.

    Tokens that tie at the last place of top_k or top_p may be drawn, but need not be, and so may tokens before which
    the probability is top_p to 1e-5, the rounding of float32.
    """
    logits, options = choice.logits.astype(np.float64), choice.options
    p = np.exp((logits - logits.max()) / options.get("temperature", 1.0))
    p /= p.sum()
    above = p > p[:, None]  # above[i, j]: token j is more likely than i
    tied = p == p[:, None]
    more, as_many = above.sum(axis=1), (above | tied).sum(axis=1)
    may, must = p > 0, p > 0
    if (k := options.get("top_k")) is not None:
        may, must = may & (more < k), must & (as_many <= k)
    if (top := options.get("top_p")) is not None and top < 1:
        before = above @ p
        may, must = may & (before < top + 1e-5), must & (before + (tied.sum(axis=1) - 1) * p < top - 1e-5)
        must |= p == p.max() if np.count_nonzero(p == p.max()) == 1 else False
    return p, may, must


def _draw(sampler: Sampler, choice: Choice) -> list[int]:
    rng = np.random.default_rng(choice.seed)
    return [int(np.asarray(sampler(choice.logits.copy(), rng, **choice.options)).item()) for _ in range(choice.draws)]


@law("sampler", choice=choices())
def law_sampler(sampler: Sampler, /, choice: Choice) -> None:
    """Only tokens of the set are drawn: of top_k, the k most likely; of top_p, the fewest whose probability is top_p.

    The probability is that of softmax(logits / temperature). Ties at the last place may be broken in any way.
    """
    _, may, _ = _distribution(choice)
    for token in _draw(sampler, choice):
        if not 0 <= token < len(may) or not may[token]:
            raise AssertionError(f"token {token} must not be drawn; only {np.flatnonzero(may).tolist()} may be")


@law("sampler", choice=choices(draws=150))
def law_sampler_frequencies(sampler: Sampler, /, choice: Choice) -> None:
    """Tokens are drawn from softmax(logits / temperature), restricted to the set of top_k or top_p.

    Of n draws, a token of probability p has frequency f with n kl(f, p) > x with probability 2 exp(-x) at most
    (Chernoff's bound, for any n). With x = log(2 V / 1e-12) for each of V tokens, a right sampler fails with
    probability 1e-12 in an example at most, and 1e-10 in a run of 100. Not judged where ties leave the set open.
    """
    p, may, must = _distribution(choice)
    if (may != must).any():
        return
    p = np.where(may, p, 0) / p[may].sum()
    frequencies = np.bincount(_draw(sampler, choice), minlength=len(p))[: len(p)] / choice.draws
    at_most(
        choice.draws * _divergence(frequencies, p), math.log(2 * len(p) / 1e-12), 1e-9, "n kl(frequency, probability)"
    )


def _divergence(f: Array, p: Array) -> Array:
    """Return kl(f, p) = f log(f / p) + (1 - f) log((1 - f) / (1 - p)); where p is 0 or 1, 0 (see `may`)."""
    inside = (p > 0) & (p < 1 - 1e-15)
    f, p = np.where(inside, f, 0.5), np.where(inside, p, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(a > 0, a * np.log(a / b), 0) for a, b in ((f, p), (1 - f, 1 - p))]
    return np.asarray(terms[0] + terms[1])


@law("sampler", choice=choices())
def law_sampler_arrays(sampler: Sampler, /, choice: Choice) -> None:
    """A sampler does not change the logits, and draws from its generator alone: the same state gives the same tokens."""
    given = choice.logits.copy()
    first, second = (
        [int(np.asarray(sampler(given, rng, **choice.options)).item()) for _ in range(10)]
        for rng in (np.random.default_rng(choice.seed), np.random.default_rng(choice.seed))
    )
    same(given, choice.logits, "logits after the call")
    same(np.array(second), np.array(first), "tokens of a second generator of the same seed")


@law("sampler", choice=choices())
def law_sampler_zero(sampler: Sampler, /, choice: Choice) -> None:
    """At temperature 0, a most likely token is drawn, unless the sampler refuses 0 with an error."""
    try:
        token = sampler(choice.logits.copy(), np.random.default_rng(choice.seed), temperature=0.0)
    except Exception:
        return
    drawn = choice.logits[int(np.asarray(token).item())]
    at_most(choice.logits.max(), drawn, 0, "largest logit and that of the token")
