"""A Llama, compared with a loop over single numbers; its heads as memories, generation with a cache, and errors."""

import math

import helpers
import numpy as np
import pytest
from helpers import drawn_parameters, error_message
from hypothesis import given, settings
from hypothesis import strategies as st

from hopmin import DotEnergy
from hopmin.transformer.generation import pad_left
from hopmin.transformer.llama import Llama, LlamaConfig, apply_rope, rms_norm, silu
from hopmin.transformer.model import Context

SIZES = {"vocabulary": 11, "positions": 9, "layers": 2, "heads": 4, "key_heads": 2, "width": 24, "hidden": 20}
CONFIGS = [{}, {"key_heads": 1}, {"key_heads": 4, "tied_embeddings": False}, {"base": 50.0, "epsilon": 0.3, "layers": 1}]


def drawn_llama(seed=0, dtype="float64", **options):
    config = LlamaConfig(**{**SIZES, **options})
    return Llama(config, drawn_parameters(config, seed, dtype))


def tokens(B=2, T=SIZES["positions"], seed=0):
    return np.random.default_rng(seed).integers(0, SIZES["vocabulary"], (B, T))


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_logits_match_a_loop_over_single_numbers(options):
    model = drawn_llama(**options)
    c = model.config
    expected = [
        helpers.llama_logits(model.parameters, row, c.heads, c.key_heads, c.base, c.epsilon) for row in tokens()
    ]
    # rounding of a few hundred float64 operations on numbers of order one to ten
    np.testing.assert_allclose(model.logits(tokens()), expected, rtol=1e-11, atol=1e-12)


def test_a_float32_model_approximates_the_float64_model():
    whole, single = drawn_llama(), drawn_llama(dtype="float32")
    assert single.logits(tokens()).dtype == np.float32
    assert {a.dtype for a in vars(single.activations(tokens())).values() if a is not None} == {np.dtype("float32")}
    scale = np.abs(whole.logits(tokens())).max()
    np.testing.assert_allclose(single.logits(tokens()), whole.logits(tokens()), rtol=0, atol=3e-6 * scale)


def test_logits_are_causal():
    testing = pytest.importorskip("hopmin.testing")
    testing.law_causal_bits(drawn_llama())


def test_results_have_the_documented_shapes():
    model = drawn_llama(tied_embeddings=False)
    activations = model.activations(tokens())
    L, B, H, T, E, D = 2, 2, 4, 9, 6, 24
    assert model.logits(tokens()).shape == (B, T, 11)
    assert (activations.states.shape, activations.outputs.shape) == ((L + 1, B, T, D), (B, T, D))
    assert {a.shape for a in (activations.queries, activations.keys, activations.values)} == {(L, B, H, T, E)}
    assert activations.weights.shape == (L, B, H, T, T)
    np.testing.assert_array_equal(activations.outputs @ model.parameters["head.weight"], model.logits(tokens()))


def test_a_block_is_a_memory_update_per_head_and_a_gate():
    model = drawn_llama()
    activations, p = model.activations(tokens()), model.parameters
    L, B, H, T, E = activations.queries.shape
    energy = DotEnergy(1 / math.sqrt(E))
    for layer, b in np.ndindex(L, B):
        merged = np.empty((T, H, E))
        for h, t in np.ndindex(H, T):
            q, k, v = (a[layer, b, h] for a in (activations.queries, activations.keys, activations.values))
            np.testing.assert_allclose(activations.weights[layer, b, h, t, : t + 1], energy.weights(q[t], k[: t + 1]), rtol=1e-12)
            assert not activations.weights[layer, b, h, t, t + 1 :].any()
            merged[t, h] = energy.update(q[t], k[: t + 1], v[: t + 1])
        x = activations.states[layer, b] + merged.reshape(T, -1) @ p[f"layers.{layer}.output.weight"]
        z = rms_norm(x, p[f"layers.{layer}.norm2.gain"])
        wide = silu(z @ p[f"layers.{layer}.gate.weight"]) * (z @ p[f"layers.{layer}.expand.weight"])
        np.testing.assert_allclose(activations.hidden[layer, b], wide, rtol=1e-11, atol=1e-12)
        x = x + wide @ p[f"layers.{layer}.contract.weight"]
        np.testing.assert_allclose(activations.states[layer + 1, b], x, rtol=1e-11, atol=1e-12)


def test_consecutive_heads_share_keys_and_values():
    activations = drawn_llama().activations(tokens())
    for a in (activations.keys, activations.values):
        np.testing.assert_array_equal(a[:, :, 0], a[:, :, 1])
        np.testing.assert_array_equal(a[:, :, 2], a[:, :, 3])
        assert (a[:, :, 1] != a[:, :, 2]).any()


def test_cross_entropy_is_the_mean_over_counted_targets():
    model, targets = drawn_llama(), tokens(seed=1)
    targets[0, 3] = targets[1, :2] = -1
    costs = [
        helpers.logsumexp(row.tolist()) - row[target]
        for row, target in zip(model.logits(tokens()).reshape(-1, 11), targets.ravel(), strict=True)
        if target >= 0
    ]
    assert model.cross_entropy(tokens(), targets) == pytest.approx(sum(costs) / len(costs), rel=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 50), st.integers(0, 50), st.integers(0, 1000), st.sampled_from([2, 6, 16]))
def test_rotated_products_depend_on_distance_only(seed, s, t, move, E):
    q, k = np.random.default_rng(seed).normal(size=(2, 1, E))
    here = apply_rope(q, s, 100.0) @ apply_rope(k, t, 100.0).T
    there = apply_rope(q, s + move, 100.0) @ apply_rope(k, t + move, 100.0).T
    np.testing.assert_allclose(there, here, atol=1e-12 * E)  # angles up to a thousand have 13 digits
    np.testing.assert_allclose(np.linalg.norm(apply_rope(q, s)), np.linalg.norm(q), rtol=1e-14)
    np.testing.assert_array_equal(apply_rope(q, 0), q)


def test_rotation_acts_on_adjacent_pairs():
    x = np.arange(1.0, 5)[None]
    (c0, s0), (c1, s1) = ((math.cos(a), math.sin(a)) for a in (3.0, 3.0 / 10))
    np.testing.assert_allclose(
        apply_rope(x, 3, 100.0), [[c0 - 2 * s0, s0 + 2 * c0, 3 * c1 - 4 * s1, 3 * s1 + 4 * c1]], rtol=1e-14
    )


def test_silu_does_not_overflow():
    for dtype in ("float32", "float64"):
        with np.errstate(all="raise", under="ignore"):
            np.testing.assert_array_equal(silu(np.array([-1e4, 0.0, 1e4], dtype)), [0, 0, 1e4])


# Generation


@pytest.mark.parametrize(("dtype", "slack"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_outputs_with_a_cache_equal_those_without(options, dtype, slack):
    """Also for shorter prompts, which are padded on the left."""
    model, rows = drawn_llama(dtype=dtype, **options), [tokens(B=1, T=T)[0] for T in (9, 2, 5)]
    padded, start = pad_left(rows)
    for cut in range(1, 10):
        cache = model._new_cache(start)
        parts = [model._outputs(padded[:, :cut], Context(cache=cache))]
        parts += [model._outputs(padded[:, t : t + 1], Context(cache=cache)) for t in range(cut, 9)]
        for row, outputs, first in zip(rows, np.concatenate(parts, axis=1), start, strict=True):
            whole = model._outputs(row[None])[0]
            np.testing.assert_allclose(outputs[first:], whole, rtol=slack, atol=slack * np.abs(whole).max())
        assert (cache.keys.shape, cache.keys.dtype) == ((model.config.layers, 3, model.config.key_heads, 9, 6), dtype)


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=11), min_size=1, max_size=3), st.integers(0, 9))
def test_greedy_generation_takes_the_most_likely_token(prompts, seed):
    model = drawn_llama(seed)
    for prompt, found in zip(prompts, model.generate(prompts, 7), strict=True):
        expected = list(prompt)
        for _ in range(7):
            expected.append(int(model.logits([expected[-9:]])[0, -1].argmax()))
        assert found.tolist() == model.generate(prompt, 7).tolist() == expected


def test_generation_stops_after_the_stop_token():
    full = drawn_llama(3).generate([1], 8).tolist()
    assert drawn_llama(3).generate([1], 8, stop_token=full[2]).tolist() == full[: full.index(full[2], 1) + 1]


def test_samples_follow_softmax_at_the_temperature():
    model, temperature, n = drawn_llama(), 1.7, 1000
    p = helpers.weights((model.logits([[2]])[0, 0] / temperature).tolist())
    rng = np.random.default_rng(0)
    found = np.bincount([model.generate([2], 1, temperature=temperature, rng=rng)[-1] for _ in range(n)], minlength=11)
    for share, probability in zip(found / n, p, strict=True):  # four standard errors
        assert abs(share - probability) < 4 * math.sqrt(probability * (1 - probability) / n)


def test_the_seed_determines_samples_and_prompts_stay():
    model, prompt = drawn_llama(), np.array([3, 1])
    first, again, other = (model.generate(prompt, 7, temperature=3.0, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(prompt, [3, 1])
    np.testing.assert_array_equal(model.generate(prompt, 7, temperature=1e-310, rng=0), model.generate(prompt, 7))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "sentence"),
    [
        (([], 1), {}, ValueError, "prompt must have shape (T,), not empty; got (0,)"),
        (([11], 1), {}, ValueError, "prompt must lie between 0 and 10; got 11 to 11"),
        (([1], -1), {}, ValueError, "max_new_tokens must be an integer >= 0; got -1"),
        (([1], 1), {"top_k": 0}, ValueError, "top_k must be an integer >= 1; got 0"),
        (([1], 1), {"temperature": 1.0}, ValueError, "rng must be given where temperature is above 0; got None"),
        (([1], 1), {"temperature": -1.0}, ValueError, "temperature must be a finite number >= 0; got -1.0"),
    ],
)
def test_invalid_arguments_of_generate_are_named(arguments, options, error, sentence):
    assert error_message(error, drawn_llama().generate, *arguments, **options) == sentence


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"layers": 0}, ValueError, "layers must be an integer >= 1; got 0"),
        ({"heads": "4"}, TypeError, "heads must be an integer >= 1; got '4'"),
        ({"key_heads": 3}, ValueError, "heads must be a multiple of key_heads; got 4 and 3"),
        ({"width": 20}, ValueError, "width must be a multiple of twice the heads; got 20 and 4"),
        ({"base": 0.0}, ValueError, "base must be a finite number > 0; got 0.0"),
        ({"epsilon": math.nan}, ValueError, "epsilon must be a finite number > 0; got nan"),
        ({"tied_embeddings": 1}, TypeError, "tied_embeddings must be True or False; got 1"),
    ],
)
def test_invalid_sizes_are_named(options, error, sentence):
    assert error_message(error, LlamaConfig, **{**SIZES, **options}) == sentence


def test_unexpected_parameters_are_named():
    config = LlamaConfig(**SIZES)
    for change, sentence in (
        ({"tokens": np.zeros((11, 25))}, "tokens must be of shape (11, 24); in parameters it is of shape (11, 25)"),
        ({"more": np.zeros(3)}, "more must be absent; in parameters it is of shape (3,)"),
        ({"norm.gain": np.full(24, np.nan)}, "norm.gain must be finite; got nan at index 0"),
    ):
        assert error_message(ValueError, Llama, config, {**drawn_parameters(config), **change}) == sentence
    assert error_message(ValueError, Llama, config, {}) == "tokens must be of shape (11, 24); in parameters it is absent"
