"""Generation by a GPT: the most likely tokens, the KV cache, and the distribution of samples."""

import math

import models
import numpy as np
import pytest
from helpers import error_message
from hypothesis import given, settings
from hypothesis import strategies as st
from models import drawn_gpt

from hopmin.transformer.generation import pad_left, sample_token
from hopmin.transformer.model import Context

V, T, L, H, D = models.GPT_SIZES.values()
EACH_OPTION = pytest.mark.parametrize(
    "options", models.GPT_OPTIONS, ids=lambda o: ",".join(map(str, o.values())) or "gpt2"
)


def varied_gpt(seed=0):
    """A model that does not repeat one token."""
    model = drawn_gpt(seed, init_std=1.0)
    model.parameters["norm.gain"][...] = np.random.default_rng(seed).normal(
        size=D
    )  # gains of one favour repetition of the last token
    return model


def greedy(model, prompt, count):
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(model.logits([tokens[-T:]])[0, -1])))
    return tokens


@settings(max_examples=20)
@given(st.lists(st.integers(0, V - 1), min_size=1, max_size=T + 3), st.integers(0, T + 3), st.integers(0, 9))
def test_greedy_generation_takes_the_most_likely_token(prompt, count, seed):
    model = varied_gpt(seed)
    assert model.generate(prompt, count).tolist() == greedy(model, prompt, count)


def test_generation_depends_on_the_last_positions_only():
    model, prompts = varied_gpt(), np.random.default_rng(0).integers(0, V, (20, T + 4))
    long = [model.generate(prompt, 1)[-1] for prompt in prompts]
    assert long == [model.generate(prompt[-T:], 1)[-1] for prompt in prompts]
    assert long != [model.generate(prompt[:T], 1)[-1] for prompt in prompts]


def test_ties_go_to_the_lowest_token():
    model = drawn_gpt()
    model.parameters["tokens"][...] = 0
    assert model.generate([5], 3).tolist() == [5, 0, 0, 0]


def test_generation_stops_after_the_stop_token():
    model = varied_gpt()
    full = model.generate([1], 12).tolist()
    stop = full[4]
    assert model.generate([1], 12, stop_token=stop).tolist() == full[: full.index(stop, 1) + 1]


def test_a_stop_token_in_the_prompt_is_ignored():
    model = varied_gpt()
    full = next(full for full in (model.generate([token], 5).tolist() for token in range(V)) if full[0] not in full[1:])
    assert model.generate(full[:1], 5, stop_token=full[0]).tolist() == full


def test_zero_new_tokens_return_the_prompt():
    prompt = np.array([3, 1, 4])
    np.testing.assert_array_equal(drawn_gpt().generate(prompt, 0), prompt)


def test_the_seed_determines_samples_and_prompts_stay():
    model, prompt = drawn_gpt(), np.array([3, 1, 4])
    first, again, other = (model.generate(prompt, 20, temperature=2.0, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(prompt, [3, 1, 4])


def test_samples_follow_softmax_at_the_temperature():
    model, temperature, n = drawn_gpt(), 1.7, 1000
    exps = np.exp(model.logits([[2]])[0, 0] / temperature)
    p = exps / exps.sum()
    rng = np.random.default_rng(0)
    samples = [model.generate([2], 1, temperature=temperature, rng=rng)[-1] for _ in range(n)]
    # four standard errors, for each of the eleven tokens
    assert (np.abs(np.bincount(samples, minlength=V) / n - p) < 4 * np.sqrt(p * (1 - p) / n)).all()


@pytest.mark.parametrize("temperature", [1e-6, 1e-310])
def test_samples_near_temperature_zero_are_greedy(temperature):
    model = drawn_gpt()
    samples = model.generate([1], 10, temperature=temperature, rng=0)
    np.testing.assert_array_equal(samples, model.generate([1], 10))


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"prompt": []}, ValueError, "prompt must have shape (T,), not empty; got (0,)"),
        ({"prompt": [[[1]]]}, ValueError, "prompt must have shape (T,), not empty; got (1, 1)"),
        ({"prompt": [[1], []]}, ValueError, "prompt must have shape (T,), not empty; got (0,)"),
        ({"prompt": np.zeros((0, 3), int)}, ValueError, "prompt must hold at least one row; got none"),
        ({"top_k": 0}, ValueError, "top_k must be an integer >= 1; got 0"),
        ({"top_p": 0.0}, ValueError, "top_p must be a number in (0, 1]; got 0.0"),
        ({"stop_token": 11}, ValueError, "stop_token must be an integer from 0 to 10; got 11"),
        ({"stop_token": -1}, ValueError, "stop_token must be an integer from 0 to 10; got -1"),
        ({"stop_token": "a"}, TypeError, "stop_token must be an integer from 0 to 10; got 'a'"),
        ({"stop_token": True}, TypeError, "stop_token must be an integer from 0 to 10; got True"),
        ({"prompt": [11]}, ValueError, "prompt must lie between 0 and 10; got 11 to 11"),
        ({"prompt": [0.5]}, TypeError, "prompt must be integers; got dtype float64"),
        ({"max_new_tokens": -1}, ValueError, "max_new_tokens must be an integer >= 0; got -1"),
        ({"max_new_tokens": 1.0}, TypeError, "max_new_tokens must be an integer >= 0; got 1.0"),
        ({"temperature": -1.0}, ValueError, "temperature must be a finite number >= 0; got -1.0"),
        ({"temperature": math.nan}, ValueError, "temperature must be a finite number >= 0; got nan"),
        ({"temperature": 1.0}, ValueError, "rng must be given where temperature is above 0; got None"),
    ],
    ids=str,
)
def test_invalid_arguments_of_generate_are_named(options, error, sentence):
    assert error_message(error, drawn_gpt().generate, **{"prompt": [1], "max_new_tokens": 1, **options}) == sentence


# The cache


@EACH_OPTION
def test_logits_with_a_cache_equal_those_without(options):
    model, rng = drawn_gpt(**options), np.random.default_rng(0)
    rows = [rng.integers(0, V, length) for length in (1, T, 3, T - 1)]
    tokens, start = pad_left(rows)
    for cut in range(1, T + 1):
        cache = model._new_cache(start)
        parts = [model._forward(tokens[:, :cut], Context(cache=cache))[0]]
        parts += [model._forward(tokens[:, t : t + 1], Context(cache=cache))[0] for t in range(cut, T)]
        logits = np.concatenate(parts, axis=1)
        for row, one, first in zip(rows, logits, start, strict=True):
            np.testing.assert_allclose(one[first:], model.logits([row])[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@EACH_OPTION
def test_next_logits_with_a_cache_equal_those_without(options, dtype):
    model, rng = drawn_gpt(**options, dtype=dtype), np.random.default_rng(1)
    rows = [rng.integers(0, V, length) for length in (1, T, 3, T - 1)]
    tokens, start = pad_left(rows)
    cache = model._new_cache(start)
    model._next_logits(tokens[:, : T - 3], cache)
    for t in range(T - 3, T):
        logits = model._next_logits(tokens[:, t : t + 1], cache)
        assert (logits.dtype, logits.shape, cache.length) == (dtype, (4, V), t + 1)
        for row, one, first in zip(rows, logits, start, strict=True):
            if t >= first:
                slack = 2000 * np.finfo(dtype).eps
                np.testing.assert_allclose(one, model.logits([row[: t + 1 - first]])[0, -1], rtol=slack, atol=slack)


@EACH_OPTION
def test_a_batch_of_prompts_equals_each_prompt_alone(options):
    model = drawn_gpt(**{"init_std": 1.0, **options})
    prompts = [[1], [3, 1, 4, 1, 5, 9, 2, 6], [2, 7], list(range(T))]
    batch = model.generate(prompts, T + 3)
    for prompt, tokens in zip(prompts, batch, strict=True):
        assert tokens.tolist() == model.generate(prompt, T + 3).tolist() == greedy(model, prompt, T + 3)


def test_each_row_of_a_batch_stops_at_its_stop_token():
    model = varied_gpt()
    prompts = [[token] for token in range(V)]
    stop = int(model.generate([1], 12)[3])
    for prompt, tokens in zip(prompts, model.generate(prompts, 12, stop_token=stop), strict=True):
        assert tokens.tolist() == model.generate(prompt, 12, stop_token=stop).tolist()


def test_a_two_dimensional_array_is_a_batch_of_prompts():
    model = varied_gpt()
    found = model.generate(np.array([[1, 2], [3, 4]]), 2)
    assert [tokens.tolist() for tokens in found] == [model.generate(row, 2).tolist() for row in ([1, 2], [3, 4])]


# Sampling


def reference_distribution(row, temperature, top_k, top_p):
    """Return the probability of each token that may be drawn."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))[:top_k]
    exps = {i: math.exp((row[i] - row[order[0]]) / temperature) for i in order}
    p = {i: e / sum(exps.values()) for i, e in exps.items()}
    kept, held = {}, 0.0
    for i in order:
        if top_p is not None and held >= top_p:
            break
        kept[i] = p[i]
        held += p[i]
    return {i: weight / sum(kept.values()) for i, weight in kept.items()}


@settings(max_examples=60)
@given(
    st.lists(st.floats(-5, 5) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=6),
    st.floats(0.2, 5),
    st.none() | st.integers(1, 8),
    st.none() | st.floats(0.01, 1),
    st.integers(0, 2**32),
)
def test_samples_follow_temperature_top_k_and_top_p(row, temperature, top_k, top_p, seed):
    expected, n = reference_distribution(row, temperature, top_k, top_p), 2000
    logits = np.broadcast_to(row, (n, len(row)))
    samples = sample_token(logits, np.random.default_rng(seed), temperature=temperature, top_k=top_k, top_p=top_p)
    frequencies = np.bincount(samples, minlength=len(row)) / n
    for i, frequency in enumerate(frequencies):
        p = expected.get(i, 0.0)
        if p == 0:
            # cumulative probabilities that round to top_p may fall on either side of it
            assert frequency == 0 or (top_p is not None and frequency < 1)
        assert abs(frequency - p) <= 5 * math.sqrt(p * (1 - p) / n) + 1e-3 or top_p is not None


def test_top_k_one_and_tiny_top_p_are_greedy():
    logits = np.random.default_rng(0).normal(size=(50, 9))
    for options in ({"top_k": 1}, {"top_p": 1e-9}):
        np.testing.assert_array_equal(sample_token(logits, np.random.default_rng(0), **options), logits.argmax(axis=1))


def test_top_p_keeps_the_smallest_sufficient_set():
    logits = np.log([[0.5, 0.25, 0.15, 0.1]])
    for top_p, kept in ((0.4, 1), (0.5, 1), (0.6, 2), (0.75, 2), (0.8, 3), (0.95, 4), (1.0, 4)):
        rng = np.random.default_rng(0)
        samples = sample_token(np.repeat(logits, 3000, axis=0), rng, top_p=top_p)
        assert len(set(samples.tolist())) == kept, top_p
