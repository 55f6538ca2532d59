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
def choices(draw: st.DrawFn, *chosen: str) -> Choice:
    """Draw up to 12 logits, or 700, and a temperature; their quotients differ by a few units.

    Some logits are tied, some sorted, some -inf, some have an offset of 1e3. Everything that must occur in a run is
    drawn by the seed, as Hypothesis may prefer some choices to others.

    Parameters
    ----------
    *chosen : {"top_k", "top_p"}
        The options to add. top_k may exceed V, and top_p may be 1.

    Returns
    -------
    search strategy of Choice
    """
    V = draw(st.sampled_from([2, 4, 6, 12, 3, 4, 6, 700, 12, 3, 1]))
    dtype, seed = draw(dtypes()), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {}
    if (temperature := float(rng.choice([1.0, 0.25, 4.0, 0.05]))) != 1:
        options["temperature"] = temperature
    z = rng.normal(size=V) * rng.choice([1.0, 2.0]) + np.arange(V) * 5 / max(V, 60)  # the last of 700 are likely
    match rng.integers(0, 6):
        case 0:
            z = np.rint(2 * z) / 2
        case 1:
            z.sort()
        case 2:
            z = np.sort(z)[::-1]
        case 3:
            z[rng.integers(0, V)] = -np.inf
            z[rng.integers(0, V)] = 0.5
    logits = (z * temperature + rng.choice([0.0, 0.0, 1e3, -1e3])).astype(dtype)
    if "top_k" in chosen:
        options["top_k"] = int(rng.choice([1, 2, V + 1, V + 3, *rng.integers(1, V + 1, 4)]))
    if "top_p" in chosen:
        options["top_p"] = float(rng.choice([0.5, 0.9, 1.0, *rng.uniform(0.05, 0.95, 7)]))
    return Choice(logits, options, int(rng.choice([20, 100, 600], p=[0.5, 0.3, 0.2])), seed + 1)


def _distribution(choice: Choice) -> tuple[Array, Array, Array]:
    """Return the probabilities (V,), which tokens may be drawn, and which must be possible.

    Tokens that tie at the last place of top_k or top_p may be drawn, but need not be. A sampler may compute in float32,
    of machine epsilon e: then scores z = logits / temperature tie if they differ by 4 e max|z|, and the probability of
    the more likely tokens is off by e (V + 8 + 4 max|z|), as are all probabilities.
    """
    options, eps = choice.options, float(np.finfo(np.float32).eps)
    z = choice.logits.astype(np.float64) / options.get("temperature", 1.0)
    largest = np.abs(z[np.isfinite(z)]).max()
    p = np.exp(z - z.max())
    p /= p.sum()
    above = z > z[:, None] + 4 * eps * largest  # above[i, j]: token j is more likely than i
    close = (z >= z[:, None] - 4 * eps * largest) & ~np.eye(len(z), dtype=bool)  # or as likely
    may, must = p > 0, p > 0
    if (k := options.get("top_k")) is not None:
        may, must = may & (above.sum(axis=1) < k), must & (close.sum(axis=1) < k)
    if (top := options.get("top_p", 1.0)) < 1:
        slack = eps * (len(z) + 8 + 4 * largest)
        may, must = may & (above @ p < top + slack), must & (close @ p < top - slack)
    return p, may, must


def _draw(sampler: Sampler, choice: Choice) -> list[int]:
    rng = np.random.default_rng(choice.seed)  # another stream than that of the logits
    return [int(np.asarray(sampler(choice.logits.copy(), rng, **choice.options)).item()) for _ in range(choice.draws)]


def _judge(sampler: Sampler, choice: Choice) -> None:
    """Check which tokens are drawn and, unless ties leave the set open, how often."""
    p, may, must = _distribution(choice)
    tokens = _draw(sampler, choice)
    for token in tokens:
        if not 0 <= token < len(may) or not may[token]:
            raise AssertionError(f"token {token} must not be drawn; only {np.flatnonzero(may).tolist()} may be")
    both = "top_k" in choice.options and "top_p" in choice.options
    if (may == must).all() and not both:
        p = np.where(may, p, 0) / p[may].sum()
        found = choice.draws * _divergence(np.bincount(tokens, minlength=len(p)) / choice.draws, p)
        at_most(found, math.log(2 * len(p) / 1e-9), 1e-9, "n kl(frequency, probability)")


def _divergence(f: Array, p: Array) -> Array:
    """Return kl(f, p) = f log(f / p) + (1 - f) log((1 - f) / (1 - p)) elementwise, with 0 log 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(f > 0, f * np.log(f / p), 0)
        second = np.where(f < 1, (1 - f) * np.log((1 - f) / (1 - p)), 0)
    return first + second


@law("sampler", choice=choices())
def law_sampler(sampler: Sampler, /, choice: Choice) -> None:
    """Tokens are drawn from softmax(logits / temperature), and none of probability 0.

    Of n draws, a token of probability p has a frequency f with n kl(f, p) > x with probability 2 exp(-x) at most
    (Chernoff's bound, for any n; 2 n kl is about a chi-square of one degree of freedom). With x = log(2 V / 1e-9) for
    each of V tokens, a right sampler fails with probability 1e-9 in an example at most, and 1e-7 in a run of 100.
    """
    _judge(sampler, choice)


@law("sampler", choice=choices("top_k"))
def law_sampler_top_k(sampler: Sampler, /, choice: Choice) -> None:
    """With top_k, tokens are drawn from the k most likely only, in proportion to their probabilities; see law_sampler.

    All tokens may be drawn if k > V. Ties at the last place may be broken in any way; frequencies are not judged then.
    """
    _judge(sampler, choice)


@law("sampler", source="huggingface: tokens up to and including the one that reaches top_p", choice=choices("top_p"))
def law_sampler_top_p(sampler: Sampler, /, choice: Choice) -> None:
    """With top_p, tokens are drawn from the fewest likely ones whose probability is at least top_p; see law_sampler.

    The probability is that of softmax(logits / temperature). Ties at the last place may be broken in any way, and a
    sum that is top_p up to rounding in float32 may count as reaching it or not; frequencies are not judged then.
    """
    _judge(sampler, choice)


@law("sampler", choice=choices("top_k", "top_p"))
def law_sampler_both(sampler: Sampler, /, choice: Choice) -> None:
    """With top_k and top_p, a token is drawn that either would allow.

    Whether top_p is the share of all tokens or of those that top_k leaves is a legal choice, and so are frequencies.
    """
    _judge(sampler, choice)


@law("sampler", choice=choices("top_k"))
def law_sampler_arrays(sampler: Sampler, /, choice: Choice) -> None:
    """Logits are left as they are, and the generator alone decides: the same state gives the same tokens."""
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
