"""Samplers that are right in several styles, or wrong by a line or two."""

import random

import numpy as np
import ours

from . import Mutant


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def inverse(p, rng):
    """The first token whose cumulative probability exceeds a uniform number."""
    c = np.cumsum(p)
    return int(np.searchsorted(c, rng.random() * c[-1], side="right"))


def scaled(logits, temperature):
    return logits.astype(np.float64) / temperature


def keep_top_k(z, k):
    return z if k is None or k >= len(z) else np.where(z >= np.sort(z)[-k], z, -np.inf)


def keep_top_p(z, p):
    if p is None or p >= 1:
        return z
    order = np.argsort(-z, kind="stable")
    before = np.cumsum(softmax(z)[order]) - softmax(z)[order]
    kept = np.full_like(z, -np.inf)
    kept[order[before < p]] = z[order[before < p]]
    return kept


def build(scaled=scaled, top_k=keep_top_k, top_p=keep_top_p, draw=inverse, zero=lambda z: int(z.argmax())):
    def sampler(logits, rng, *, temperature=1.0, top_k_=None, top_p_=None):
        if temperature == 0 and zero is not None:
            return zero(logits)
        with np.errstate(all="ignore"):
            z = top_p(top_k(scaled(logits, temperature), top_k_), top_p_)
            return draw(softmax(z), rng)

    return lambda logits, rng, *, temperature=1.0, top_k=None, top_p=None: sampler(
        logits, rng, temperature=temperature, top_k_=top_k, top_p_=top_p
    )


def gumbel(logits, rng, *, temperature=1.0, top_k=None, top_p=None):
    """The largest of the logits and Gumbel noise, in the dtype of the logits."""
    if temperature == 0:
        raise ValueError("temperature must be > 0; got 0")
    z = keep_top_p(keep_top_k(logits / logits.dtype.type(temperature), top_k), top_p)
    return np.argmax(z + rng.gumbel(size=z.shape))


def by_choice(p, rng):
    return rng.choice(len(p), p=p / p.sum())


def keep_top_p_ascending(z, p):
    """As in Hugging Face: the least likely tokens, of probability at most 1 - p, are left out; never the last."""
    if p is None or p >= 1:
        return z
    order = np.argsort(z, kind="stable")
    out = np.cumsum(softmax(z)[order]) <= 1 - p
    out[-1] = False
    kept = z.copy()
    kept[order[out]] = -np.inf
    return kept


def in_float32(logits, temperature):
    return logits.astype(np.float32) / np.float32(temperature)


RIGHT = {
    "in float32, ascending": build(scaled=in_float32, top_p=keep_top_p_ascending, draw=lambda p, rng: by_choice(p.astype(float), rng)),
    "hopmin": ours.sampler, "in plain NumPy": build(), "by choice": build(draw=by_choice), "by Gumbel noise": gumbel,
}  # fmt: skip


def top_k_of_positions(z, k):
    return z if k is None else np.where(np.arange(len(z)) < k, z, -np.inf)


def smallest_k(z, k):
    return z if k is None or k >= len(z) else np.where(z <= np.sort(z)[k - 1], z, -np.inf)


def one_more(z, k):
    return keep_top_k(z, None if k is None else k + 1)


def one_less(z, k):
    return keep_top_k(z, None if k is None else max(1, k - 1))


def zeros_kept(z, k):
    return z if k is None or k >= len(z) else np.where(z >= np.sort(z)[-k], z, 0)


def from_the_end(z, k):
    """k > V wraps around."""
    return z if k is None else np.where(z >= np.sort(z)[-(k % len(z))], z, -np.inf)


def nucleus(rule):
    """top_p by a rule of the sums up to each of the sorted tokens."""

    def keep(z, p):
        if p is None:
            return z
        order = np.argsort(-z, kind="stable")
        kept, chosen = np.full_like(z, -np.inf), rule(softmax(z)[order], p)
        kept[order[chosen]] = z[order[chosen]]
        return kept if np.isfinite(kept).any() else z

    return keep


def first_always(chosen):
    chosen[0] = True
    return chosen


def unsorted(z, p):
    return z if p is None or p >= 1 else np.where(np.cumsum(softmax(z)) - softmax(z) < p, z, -np.inf)


def not_put_back(z, p):
    """The mask of the sorted tokens is used for the unsorted ones."""
    if p is None or p >= 1:
        return z
    sorted_p = np.sort(softmax(z))[::-1]
    return np.where(np.cumsum(sorted_p) - sorted_p < p, z, -np.inf)


def as_min_p(z, p):
    return z if p is None or p >= 1 else np.where(softmax(z) >= p * softmax(z).max(), z, -np.inf)


def changed(choose):
    """Return a sampler that chooses by itself, or draws as it should where choose(logits, temperature, top_k, top_p) is None."""

    def sampler(logits, rng, *, temperature=1.0, top_k=None, top_p=None):
        token = choose(logits, temperature, top_k, top_p)
        return build()(logits, rng, temperature=temperature, top_k=top_k, top_p=top_p) if token is None else token

    return sampler


def without_top_p(logits, rng, *, temperature=1.0, top_k=None, top_p=None):
    return build()(logits, rng, temperature=temperature, top_k=top_k, top_p=top_p if top_k is None else None)


def before_temperature(logits, rng, *, temperature=1.0, top_k=None, top_p=None):
    """top_p is applied before the temperature."""
    if temperature == 0:
        return int(logits.argmax())
    return inverse(softmax(scaled(keep_top_p(keep_top_k(logits, top_k), top_p), temperature)), rng)


def in_place(logits, rng, **options):
    logits -= logits.max()
    return build()(logits, rng, **options)


def with_global_generator(logits, rng, **options):
    return build()(logits, np.random.default_rng(), **options)


MUTANTS = {
    "multiplied by the temperature": Mutant(build(scaled=lambda z, t: z.astype(float) * t), "law_sampler", "natural"),
    "greedy when it is cold": Mutant(changed(lambda z, t, k, p: int(z.argmax()) if t < 0.2 else None), "law_sampler", "natural"),
    "the first of many": Mutant(changed(lambda z, t, k, p: 0 if len(z) > 300 else None), "law_sampler", "natural"),
    "the first with both options": Mutant(changed(lambda z, t, k, p: 0 if k and p else None), "law_sampler_both", "natural"),
    "top_p ignored with top_k": Mutant(without_top_p, "law_sampler_both", "natural"),
    "temperature ignored": Mutant(build(scaled=lambda z, t: z.astype(float)), "law_sampler", "natural"),
    "temperature of probabilities": Mutant(build(draw=lambda p, rng: inverse(p**0.5, rng)), "law_sampler", "natural"),
    "always the likeliest": Mutant(build(draw=lambda p, rng: int(p.argmax())), "law_sampler", "natural"),
    "uniform": Mutant(build(draw=lambda p, rng: inverse((p > 0) * 1.0, rng)), "law_sampler", "natural"),
    "one token too far": Mutant(build(draw=lambda p, rng: min(inverse(p, rng) + 1, len(p) - 1)), "law_sampler", "natural"),
    "the sum is compared wrongly": Mutant(build(draw=lambda p, rng: int(np.searchsorted(-np.cumsum(p), -rng.random()))), "law_sampler", "natural"),
    "no shift": Mutant(build(draw=lambda p, rng: inverse(p, rng), scaled=lambda z, t: np.log(np.exp(z / t))), "law_sampler", "natural"),
    "first k tokens": Mutant(build(top_k=top_k_of_positions), "law_sampler_top_k", "natural"),
    "smallest k": Mutant(build(top_k=smallest_k), "law_sampler_top_k", "natural"),
    "k + 1 tokens": Mutant(build(top_k=one_more), "law_sampler_top_k", "natural"),
    "k - 1 tokens": Mutant(build(top_k=one_less), "law_sampler_top_k", "natural"),
    "others get logit 0": Mutant(build(top_k=zeros_kept), "law_sampler_top_k", "natural"),
    "k above V wraps around": Mutant(build(top_k=from_the_end), "law_sampler_top_k", "natural"),
    "top_k ignored": Mutant(build(top_k=lambda z, k: z), "law_sampler_top_k", "natural"),
    "sums below top_p only": Mutant(build(top_p=nucleus(lambda p, top: first_always(np.cumsum(p) <= top))), "law_sampler_top_p", "huggingface, natural"),
    "one token more": Mutant(build(top_p=nucleus(lambda p, top: np.cumsum(p) - p - np.append(0, p[:-1]) < top)), "law_sampler_top_p", "natural"),
    "top_p unsorted": Mutant(build(top_p=unsorted), "law_sampler_top_p", "natural"),
    "top_p not put back in order": Mutant(build(top_p=not_put_back), "law_sampler_top_p", "natural"),
    "top_p ascending": Mutant(build(top_p=lambda z, p: -keep_top_p(-z, p)), "law_sampler_top_p", "natural"),
    "min-p for top_p": Mutant(build(top_p=as_min_p), "law_sampler_top_p", "natural"),
    "top_p ignored": Mutant(build(top_p=lambda z, p: z), "law_sampler_top_p", "natural"),
    "top_p before the temperature": Mutant(before_temperature, "law_sampler_top_p", "natural"),
    "changes the logits": Mutant(in_place, "law_sampler_arrays", "natural"),
    "a generator of its own": Mutant(with_global_generator, "law_sampler_arrays", "nanoGPT #467"),
    "0 draws": Mutant(build(zero=lambda z: int(z.argmin())), "law_sampler_zero", "natural"),
    "0 is 1": Mutant(build(zero=lambda z: inverse(softmax(z), np.random.default_rng(0))), "law_sampler_zero", "natural"),
    "temperature squared": Mutant(build(scaled=lambda z, t: z.astype(float) / t**2), "law_sampler", "natural"),
    "temperature rooted": Mutant(build(scaled=lambda z, t: z.astype(float) / t**0.5), "law_sampler", "natural"),
    "softmax of probabilities": Mutant(build(draw=lambda p, rng: inverse(softmax(p), rng)), "law_sampler", "natural"),
    "logits for log-probabilities": Mutant(build(draw=lambda p, rng: int(np.argmax(p + rng.gumbel(size=p.shape)))), "law_sampler", "natural"),
    "least likely": Mutant(build(draw=lambda p, rng: inverse(1 / np.maximum(p, 1e-12), rng)), "law_sampler", "natural"),
    "order of the sorted": Mutant(build(draw=lambda p, rng: inverse(np.sort(p)[::-1], rng)), "law_sampler", "natural"),
    "last token never": Mutant(build(draw=lambda p, rng: inverse(p[:-1] if len(p) > 1 else p, rng)), "law_sampler", "natural"),
    "unlikely tokens never": Mutant(build(draw=lambda p, rng: inverse(np.where(p < 0.3 * p.max(), 0, p), rng)), "law_sampler", "natural"),
    "tokens as bytes": Mutant(build(draw=lambda p, rng: inverse(p, rng) % 256), "law_sampler_top_k", "natural"),
    "-inf as 0": Mutant(build(scaled=lambda z, t: np.nan_to_num(z.astype(float), neginf=0.0) / t), "law_sampler", "natural"),
    "-inf as -10": Mutant(build(scaled=lambda z, t: np.maximum(z.astype(float), -10) / t), "law_sampler", "minGPT #75"),
    "k rounded up to 2": Mutant(build(top_k=lambda z, k: keep_top_k(z, None if k is None else max(2, k))), "law_sampler_top_k", "natural"),
    "k tokens, uniform": Mutant(build(top_k=lambda z, k: z if k is None else keep_top_k(z, k) * 0), "law_sampler_top_k", "natural"),
    "sorted by magnitude": Mutant(build(top_k=lambda z, k: z if k is None or k >= len(z) else np.where(np.abs(z) >= np.sort(np.abs(z))[-k], z, -np.inf)), "law_sampler_top_k", "natural"),
    "k as a fraction": Mutant(build(top_k=lambda z, k: z if k is None else np.where(softmax(z) >= 1 / k, z, -np.inf) if (softmax(z) >= 1 / k).any() else z), "law_sampler_top_k", "natural"),
    "sums above top_p only": Mutant(build(top_p=nucleus(lambda p, top: first_always(np.cumsum(p) >= top))), "law_sampler_top_p", "natural"),
    "1 - top_p": Mutant(build(top_p=lambda z, p: keep_top_p(z, None if p is None or p == 1 else 1 - p)), "law_sampler_top_p", "natural"),
    "each above top_p": Mutant(build(top_p=nucleus(lambda p, top: first_always(p >= top))), "law_sampler_top_p", "natural"),
    "each above 1 - top_p": Mutant(build(top_p=nucleus(lambda p, top: first_always(p >= 1 - top))), "law_sampler_top_p", "natural"),
    "fraction of the tokens": Mutant(build(top_p=nucleus(lambda p, top: np.arange(len(p)) < max(1, round(top * len(p))))), "law_sampler_top_p", "natural"),
    "one token at least two": Mutant(build(top_p=nucleus(lambda p, top: (np.cumsum(p) - p < top) | (np.arange(len(p)) < 2))), "law_sampler_top_p", "natural"),
    "kept tokens, uniform": Mutant(build(top_p=lambda z, p: keep_top_p(z, p) if p is None or p >= 1 else np.where(np.isfinite(keep_top_p(z, p)), 0, -np.inf)), "law_sampler_top_p", "natural"),
    "sums of logits": Mutant(build(top_p=nucleus(lambda p, top: first_always(np.cumsum(np.sqrt(p)) <= top))), "law_sampler_top_p", "natural"),
    "the same seed each time": Mutant(build(draw=lambda p, rng: inverse(p, np.random.default_rng(0))), "law_sampler", "natural"),
    "draws by Python's random": Mutant(build(draw=lambda p, rng: random.choices(range(len(p)), p)[0]), "law_sampler_arrays", "natural"),
    "0 divides": Mutant(build(zero=None, scaled=lambda z, t: z.astype(float) / (t + 1e-1)), "law_sampler_zero", "natural"),
    "0 draws the first": Mutant(build(zero=lambda z: 0), "law_sampler_zero", "natural"),
}  # fmt: skip
