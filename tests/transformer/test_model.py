"""The GPT: a reference loop, invariances, gradients of every option, energy attention, files and errors."""

import copy
import math
import pickle
from itertools import pairwise

import models
import numpy as np
import pytest
from helpers import error_message
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import drawn_gpt

from hopmin import DistanceEnergy, retrieve, testing
from hopmin._files import load_arrays, save_arrays
from hopmin.data.tokenizers import SymbolTokenizer
from hopmin.transformer.layers import cross_entropy
from hopmin.transformer.model import GPT, Context, GPTConfig, groups_by_length, load_model
from hopmin.transformer.training import Trainer

SIZES = models.GPT_SIZES
V, T, L, H, D = SIZES.values()


def examples(B=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (B, T)), rng.integers(-1, V, (B, T))


def close(actual, expected):
    # rounding of a few hundred float64 operations on numbers of order one to ten
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


# The whole model


def reference_logits(p, tokens):
    """Logits of one row of tokens, one position and one head at a time."""

    def norm(x, name):
        return p[f"{name}.gain"] * (x - x.mean()) / math.sqrt(x.var() + 1e-5) + p[f"{name}.bias"]

    def linear(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def gelu(x):
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    E = D // H
    xs = [p["tokens"][token] + p["positions"][t] for t, token in enumerate(tokens)]
    for layer in (f"layers.{i}" for i in range(L)):
        projected = [linear(norm(x, f"{layer}.norm1"), f"{layer}.attention") for x in xs]
        for t in range(len(xs)):
            merged = []
            for head in range(H):
                q, k, v = (slice(part * D + head * E, part * D + (head + 1) * E) for part in range(3))
                e = [math.exp(projected[t][q] @ projected[s][k] / math.sqrt(E)) for s in range(t + 1)]
                merged.append(sum(e[s] * projected[s][v] for s in range(t + 1)) / sum(e))
            xs[t] = xs[t] + linear(np.concatenate(merged), f"{layer}.output")
        for t in range(len(xs)):
            wide = gelu(linear(norm(xs[t], f"{layer}.norm2"), f"{layer}.expand"))
            xs[t] = xs[t] + linear(wide, f"{layer}.contract")
    return [p["tokens"] @ norm(x, "norm") for x in xs]


def test_logits_match_a_loop_over_positions_and_heads():
    model, (tokens, _) = drawn_gpt(), examples()
    close(model.logits(tokens), [reference_logits(model.parameters, row) for row in tokens])


@pytest.mark.parametrize(
    ("layers", "heads", "width", "count"),
    [(12, 12, 768, 124439808), (24, 16, 1024, 354823168), (36, 20, 1280, 774030080), (48, 25, 1600, 1557611200)],
)
def test_gpt2_sizes_have_the_published_parameter_counts(layers, heads, width, count):
    config = GPTConfig(vocabulary=50257, positions=1024, layers=layers, heads=heads, width=width)
    assert config.parameter_count == count


def test_parameters_have_the_shapes_of_the_configuration():
    config = GPTConfig(**SIZES)
    parameters = GPT(config, 0).parameters
    assert {name: a.shape for name, a in parameters.items()} == config.shapes
    assert sum(a.size for a in parameters.values()) == config.parameter_count
    assert {a.dtype for a in parameters.values()} == {np.dtype("float32")}


def test_initial_weights_have_the_configured_deviation():
    config = GPTConfig(vocabulary=100, positions=100, layers=2, heads=1, width=100, init_std=0.5)
    for name, a in GPT(config, 0).parameters.items():
        if name.endswith(("gain", "bias")):
            assert (a == name.endswith("gain")).all()
        else:
            wanted = 0.5 / 2 if name.endswith(("output.weight", "contract.weight")) else 0.5
            assert abs(a.std() / wanted - 1) < 4 / math.sqrt(2 * a.size)  # four standard errors of a standard deviation


def test_init_std_none_is_one_over_the_root_of_the_width():
    assert GPTConfig(**SIZES).init_std == 0.02
    assert GPTConfig(**SIZES, init_std=None).init_std == D**-0.5


def test_a_seed_determines_the_model():
    for name, a in GPT(GPTConfig(**SIZES), 5).parameters.items():
        np.testing.assert_array_equal(a, GPT(GPTConfig(**SIZES), np.random.default_rng(5)).parameters[name])
    assert (GPT(GPTConfig(**SIZES), 6).parameters["tokens"] != GPT(GPTConfig(**SIZES), 5).parameters["tokens"]).any()


def test_an_untrained_model_predicts_uniformly():
    model = GPT(GPTConfig(vocabulary=100, positions=64, layers=2, heads=2, width=32), 0)
    tokens = np.random.default_rng(0).integers(0, 100, (8, 65))
    # Logits have variance 32 * 0.02^2 = 0.013: half of it lies above log V, and 0.113 / sqrt(512) is one standard error.
    assert abs(model.cross_entropy(tokens[:, :-1], tokens[:, 1:]) - math.log(100)) < 0.0065 + 4 * 0.005


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_results_have_the_configured_dtype(dtype):
    model, (tokens, targets) = drawn_gpt(dtype=dtype), examples()
    _, gradients = model.loss_and_gradients(tokens, targets)
    assert {a.dtype for a in (model.logits(tokens), *gradients.values())} == {np.dtype(dtype)}
    assert {a.dtype for a in vars(model.activations(tokens)).values()} == {np.dtype(dtype)}
    assert {name: a.shape for name, a in gradients.items()} == model.config.shapes


def test_tokens_may_be_lists_and_are_not_changed():
    model, (tokens, targets) = drawn_gpt(), examples()
    before = tokens.copy(), targets.copy()
    loss, _ = model.loss_and_gradients(tokens, targets)
    assert model.cross_entropy(tokens.astype(np.uint8).tolist(), targets.astype(np.int8)) == loss
    np.testing.assert_array_equal(tokens, before[0])
    np.testing.assert_array_equal(targets, before[1])


# Invariances


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, T), st.integers(0, 2**32))
def test_rows_of_a_batch_do_not_influence_each_other(B, length, seed):
    model, tokens = drawn_gpt(), np.random.default_rng(seed).integers(0, V, (B, length))
    close(model.logits(tokens), np.concatenate([model.logits(row[None]) for row in tokens]))


@settings(max_examples=20)
@given(st.integers(1, T - 1), st.integers(0, 2**32))
def test_padding_changes_neither_loss_nor_gradients(length, seed):
    rng = np.random.default_rng(seed)
    tokens, targets = rng.integers(0, V, (2, 3, length))
    padded = np.hstack([tokens, rng.integers(0, V, (3, T - length))])
    uncounted = np.hstack([targets, np.full((3, T - length), -1)])
    model = drawn_gpt()
    loss, gradients = model.loss_and_gradients(tokens, targets)
    also, same = model.loss_and_gradients(padded, uncounted)
    close(also, loss)
    for name, gradient in gradients.items():
        close(same[name], gradient)


def test_the_order_of_rows_does_not_matter():
    model, (tokens, targets), order = drawn_gpt(), examples(), [2, 0, 3, 1]
    loss, gradients = model.loss_and_gradients(tokens, targets)
    shuffled_loss, shuffled = model.loss_and_gradients(tokens[order], targets[order])
    close(model.logits(tokens[order]), model.logits(tokens)[order])
    close(shuffled_loss, loss)
    for name, gradient in gradients.items():
        close(shuffled[name], gradient)


def test_loss_is_the_mean_over_counted_targets():
    model, (tokens, targets) = drawn_gpt(), examples()
    log_p = [row - np.log(np.exp(row).sum()) for row in model.logits(tokens).reshape(-1, V)]
    costs = [-row[target] for row, target in zip(log_p, targets.ravel(), strict=True) if target != -1]
    close(model.cross_entropy(tokens, targets), sum(costs) / len(costs))


def test_repeated_calls_return_the_same_gradients():
    model, (tokens, targets) = drawn_gpt(), examples()
    before = {name: a.copy() for name, a in model.parameters.items()}
    first = model.loss_and_gradients(tokens, targets)
    np.testing.assert_equal(model.loss_and_gradients(tokens, targets), first)
    np.testing.assert_equal(model.parameters, before)


def test_dropout_is_drawn_from_the_rng_and_off_without():
    (tokens, targets), dropping, whole = examples(), drawn_gpt(dropout=0.4), drawn_gpt()
    np.testing.assert_equal(dropping.loss_and_gradients(tokens, targets), whole.loss_and_gradients(tokens, targets))
    np.testing.assert_array_equal(dropping.logits(tokens), whole.logits(tokens))
    assert dropping.cross_entropy(tokens, targets) == whole.cross_entropy(tokens, targets)
    first = dropping.loss_and_gradients(tokens, targets, rng=1)
    np.testing.assert_equal(dropping.loss_and_gradients(tokens, targets, rng=np.random.default_rng(1)), first)
    assert (
        len({first[0], dropping.loss_and_gradients(tokens, targets, rng=2)[0], whole.cross_entropy(tokens, targets)})
        == 3
    )


# Activations


def test_logits_follow_from_activations():
    model, (tokens, _) = drawn_gpt(), examples()
    activations = model.activations(tokens)
    close(activations.outputs @ model.parameters["tokens"].T, model.logits(tokens))
    np.testing.assert_array_equal(activations.states[0], model.parameters["tokens"][tokens] + model.parameters["positions"])
    last = activations.states[-1]
    z = (last - last.mean(axis=-1, keepdims=True)) / np.sqrt(last.var(axis=-1, keepdims=True) + 1e-5)
    close(activations.outputs, model.parameters["norm.gain"] * z + model.parameters["norm.bias"])


def test_activations_have_the_documented_shapes():
    tokens, E = examples(B=4)[0], D // H
    activations = drawn_gpt().activations(tokens)
    assert (activations.states.shape, activations.outputs.shape) == ((L + 1, 4, T, D), (4, T, D))
    assert {a.shape for a in (activations.queries, activations.keys, activations.values)} == {(L, 4, H, T, E)}
    assert activations.weights.shape == (L, 4, H, T, T)


def test_attention_weights_are_causal_softmax_of_scores():
    activations = drawn_gpt().activations(examples()[0])
    for *head, t in np.ndindex(activations.weights.shape[:-1]):
        scores = activations.keys[*head][: t + 1] @ activations.queries[*head][t] / math.sqrt(D // H)
        close(activations.weights[*head, t, : t + 1], np.exp(scores) / np.exp(scores).sum())
        assert (activations.weights[*head, t, t + 1 :] == 0).all()


# Files


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path, dtype):
    model, tokenizer = drawn_gpt(dtype=dtype, dropout=0.1), SymbolTokenizer(("naïve", "<end>", "?", *"abcdefgh"), " ")
    model.save(tmp_path / "m.npz", tokenizer, extra={"more": np.arange(3)}, note=["kept", 1])
    saved = load_model(tmp_path / "m.npz")
    assert saved.model.config == model.config
    assert list(saved.model.parameters) == list(model.parameters)
    for name, a in model.parameters.items():
        assert saved.model.parameters[name].dtype == a.dtype
        assert saved.model.parameters[name].tobytes() == a.tobytes()
    assert saved.tokenizer == tokenizer
    assert saved.tokenizer.encode("? naïve").tolist() == [2, 0]
    assert saved.extra.keys() == {"more"}
    np.testing.assert_array_equal(saved.extra["more"], np.arange(3))
    assert saved.records["note"] == ["kept", 1]
    np.testing.assert_array_equal(GPT.load(tmp_path / "m.npz").logits([[1, 2]]), model.logits([[1, 2]]))


def test_a_model_may_be_saved_without_a_tokenizer(tmp_path):
    drawn_gpt().save(tmp_path / "m.npz")
    assert load_model(tmp_path / "m.npz").tokenizer is None


@pytest.mark.parametrize(
    "options",
    [
        {"width": np.int64(12)},
        {"init_std": np.float32(0.5)},
        {"dropout": np.float32(0.5)},
        {"init_std": np.float64(0.5)},
        {"dtype": np.dtype("float32")},
    ],
    ids=str,
)
def test_a_model_with_numpy_scalars_for_sizes_can_be_saved(tmp_path, options):
    model = GPT(GPTConfig(**{**SIZES, **options}), 0)
    model.save(tmp_path / "m.npz")
    assert GPT.load(tmp_path / "m.npz").config == model.config


DAMAGED = "model must be a file that hopmin saved; {} is damaged or has another format"
UNEXPECTED = "model must hold the parameters that its configuration names; {} does not"


def refused(path):
    """Return the error message without the path; the file must not have changed."""
    before = path.read_bytes()
    sentence = error_message(ValueError, GPT.load, path)
    assert path.read_bytes() == before
    return sentence.replace(str(path), "{}")


@pytest.mark.parametrize("fraction", [0, 0.001, 0.25, 0.5, 0.75, 0.999])
def test_a_truncated_file_is_refused(tmp_path, fraction):
    path = tmp_path / "m.npz"
    drawn_gpt().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    assert refused(path) == DAMAGED


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "m.npz").write_text("not a model\n")
    assert refused(tmp_path / "m.npz") == DAMAGED


def test_a_pickle_is_refused(tmp_path):
    np.array([{}], object).dump(tmp_path / "m.npz")
    assert refused(tmp_path / "m.npz") == DAMAGED


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "m.npy", np.zeros(3))
    assert refused(tmp_path / "m.npy") == DAMAGED


def test_an_npz_file_of_another_program_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", weights=np.zeros(3))
    assert refused(tmp_path / "m.npz") == DAMAGED


def test_a_directory_is_refused(tmp_path):
    assert error_message(ValueError, GPT.load, tmp_path) == f"model must be a readable file; {tmp_path}: Is a directory"


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "m.npz"
    assert error_message(ValueError, GPT.load, path) == f"model must be a readable file; {path}: No such file or directory"


def without(arrays):
    del arrays["parameters/layers.1.expand.bias"]


def misshaped(arrays):
    arrays["parameters/tokens"] = arrays["parameters/tokens"][1:]


def transposed(arrays):
    arrays["parameters/layers.0.expand.weight"] = arrays["parameters/layers.0.expand.weight"].T


def of_another_dtype(arrays):
    arrays["parameters/norm.gain"] = arrays["parameters/norm.gain"].astype(np.float32)


def with_one_more(arrays):
    arrays["parameters/layers.9.expand.bias"] = arrays["parameters/layers.1.expand.bias"]


@pytest.mark.parametrize("change", [without, misshaped, transposed, of_another_dtype, with_one_more])
def test_a_file_with_unexpected_parameters_is_refused(tmp_path, change):
    path = tmp_path / "m.npz"
    drawn_gpt().save(path)
    arrays, records = load_arrays(path, "model")
    change(arrays)
    save_arrays(path, "model", arrays, **records)
    assert refused(path) == UNEXPECTED


# Errors


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"vocabulary": 0}, ValueError, "vocabulary must be an integer >= 1; got 0"),
        ({"positions": -3}, ValueError, "positions must be an integer >= 1; got -3"),
        ({"layers": 1.5}, TypeError, "layers must be an integer >= 1; got 1.5"),
        ({"heads": "2"}, TypeError, "heads must be an integer >= 1; got '2'"),
        ({"width": None}, TypeError, "width must be an integer >= 1; got None"),
        ({"layers": True}, TypeError, "layers must be an integer >= 1; got True"),
        ({"heads": 5}, ValueError, "width must be a multiple of heads; got 12 and 5"),
        ({"dropout": 1.0}, ValueError, "dropout must be a number in [0, 1); got 1.0"),
        ({"dropout": -0.1}, ValueError, "dropout must be a number in [0, 1); got -0.1"),
        ({"dropout": math.nan}, ValueError, "dropout must be a number in [0, 1); got nan"),
        ({"dropout": "0"}, TypeError, "dropout must be a number in [0, 1); got '0'"),
        ({"init_std": 0.0}, ValueError, "init_std must be a finite number > 0; got 0.0"),
        ({"init_std": math.inf}, ValueError, "init_std must be a finite number > 0; got inf"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of 'float32', 'float64'; got 'float16'"),
    ],
)
def test_invalid_sizes_are_named(options, error, sentence):
    assert error_message(error, GPTConfig, **{**SIZES, **options}) == sentence


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: GPT(GPTConfig(**SIZES), rng),
        lambda rng: drawn_gpt().loss_and_gradients([[1]], [[2]], rng),
        lambda rng: drawn_gpt().generate([1], 1, temperature=1.0, rng=rng),
    ],
    ids=["model", "dropout", "generation"],
)
@pytest.mark.parametrize(("rng", "error"), [(-1, ValueError), ("seed", TypeError), (1.5, TypeError), (True, TypeError)])
def test_an_invalid_rng_is_named(draw, rng, error):
    assert error_message(error, draw, rng) == f"rng must be a numpy Generator or a seed, an integer >= 0; got {rng!r}"


def test_a_model_needs_an_rng():
    assert error_message(TypeError, GPT, GPTConfig(**SIZES), None).endswith("; got None")


@pytest.mark.parametrize("method", ["logits", "activations"])
@pytest.mark.parametrize(
    ("tokens", "error", "sentence"),
    [
        ([1, 2], ValueError, "tokens must have shape (B, T) with T <= 6, not empty; got (2,)"),
        (3, ValueError, "tokens must have shape (B, T) with T <= 6, not empty; got ()"),
        ([[0] * 7], ValueError, "tokens must have shape (B, T) with T <= 6, not empty; got (1, 7)"),
        ([[]], ValueError, "tokens must have shape (B, T) with T <= 6, not empty; got (1, 0)"),
        (np.zeros((0, 3), int), ValueError, "tokens must have shape (B, T) with T <= 6, not empty; got (0, 3)"),
        ([[0, 11]], ValueError, "tokens must lie between 0 and 10; got 0 to 11"),
        ([[0, -1]], ValueError, "tokens must lie between 0 and 10; got -1 to 0"),
        ([[2**63]], ValueError, f"tokens must lie between 0 and 10; got {2**63} to {2**63}"),
        ([[1.0]], TypeError, "tokens must be integers; got dtype float64"),
        ([[True]], TypeError, "tokens must be integers; got dtype bool"),
        ([["a"]], TypeError, "tokens must be integers; got dtype <U1"),
        ([[2**70]], TypeError, "tokens must be integers; got dtype object"),
    ],
    ids=str,
)
def test_invalid_tokens_are_named(method, tokens, error, sentence):
    assert error_message(error, getattr(drawn_gpt(), method), tokens) == sentence


def test_ragged_tokens_are_named():
    with pytest.raises(ValueError, match=r"^tokens must [^.]*; got rows of different lengths$"):
        drawn_gpt().logits([[1, 2], [3]])


@pytest.mark.parametrize("method", ["cross_entropy", "loss_and_gradients"])
@pytest.mark.parametrize(
    ("targets", "error", "sentence"),
    [
        ([[1]], ValueError, "targets must have shape (1, 2), not all -1; got (1, 1)"),
        ([[-1, -1]], ValueError, "targets must have shape (1, 2), not all -1; got (1, 2)"),
        ([1, 2], ValueError, "targets must have shape (B, T), not empty; got (2,)"),
        ([[1, 11]], ValueError, "targets must lie between -1 and 10; got 1 to 11"),
        ([[1, -2]], ValueError, "targets must lie between -1 and 10; got -2 to 1"),
        ([[1.0, 2.0]], TypeError, "targets must be integers; got dtype float64"),
    ],
    ids=str,
)
def test_invalid_targets_are_named(method, targets, error, sentence):
    assert error_message(error, getattr(drawn_gpt(), method), [[1, 2]], targets) == sentence


@pytest.mark.parametrize("config", [None, 3, {"vocabulary": 3}, GPTConfig])
def test_only_a_configuration_makes_a_model(config):
    assert error_message(TypeError, GPT, config, 0) == f"config must be a GPTConfig; got {config!r:.60}"


def test_a_deep_copy_is_independent_and_a_shallow_one_shares():
    model = GPT(GPTConfig(vocabulary=5, positions=4, layers=1, heads=1, width=4), 0)
    before = {name: a.copy() for name, a in model.parameters.items()}
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.config == model.config
        for a in other.parameters.values():
            a += 1
        for name, a in before.items():
            np.testing.assert_array_equal(model.parameters[name], a)
            np.testing.assert_array_equal(other.parameters[name], a + 1)
    assert copy.copy(model).parameters is model.parameters


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    expected = f"tokenizer must have {V} symbols, the vocabulary; got 2"
    assert error_message(ValueError, drawn_gpt(0).save, path, SymbolTokenizer(("a", "b"))) == expected
    assert not path.exists()


def test_a_number_too_large_for_a_float_is_refused():
    sentence = "init_std must be a finite number > 0; got a number too large for a float"
    assert error_message(ValueError, GPTConfig, **{**SIZES, "init_std": 10**400}) == sentence


def test_more_layers_than_arrays_are_refused_at_once(tmp_path):
    path = tmp_path / "model.npz"
    drawn_gpt(0).save(path)
    arrays, records = load_arrays(path, "model")
    save_arrays(path, "model", arrays, **{**records, "config": {**records["config"], "layers": 10**18}})
    assert error_message(ValueError, GPT.load, path) == f"model must hold the parameters that its configuration names; {path} does not"


# Options

EACH_OPTION = pytest.mark.parametrize("options", models.GPT_OPTIONS, ids=lambda o: ",".join(map(str, o.values())) or "gpt2")


@EACH_OPTION
def test_every_option_has_the_right_gradients(options):
    testing.law_model_gradient(drawn_gpt(**{"vocabulary": 7, "width": 6, **options}), examples=3)


@EACH_OPTION
def test_every_option_is_causal(options):
    testing.law_causal_bits(drawn_gpt(**options), examples=20)


@EACH_OPTION
def test_every_option_is_initialised_and_saved(options, tmp_path):
    model = drawn_gpt(**options)
    assert {name: a.shape for name, a in model.parameters.items()} == model.config.shapes
    assert sum(a.size for a in model.parameters.values()) == model.config.parameter_count
    _, gradients = model.loss_and_gradients(*examples())
    assert list(gradients) == list(model.parameters)
    if not model.config.bias:
        assert not any(name.endswith("bias") for name in model.parameters)
    model.save(tmp_path / "m.npz")
    again = GPT.load(tmp_path / "m.npz")
    assert again.config == model.config
    np.testing.assert_array_equal(again.logits([[1, 2]]), model.logits([[1, 2]]))


# Rows of unequal length

LENGTHS = st.lists(st.integers(0, 24), min_size=1, max_size=9).filter(any)


def ragged(lengths, seed, uncounted=0.2):
    """Tokens and targets (B, 24) of rows of these lengths; some targets before the last are not counted either."""
    rng, lengths = np.random.default_rng(seed), np.array(lengths)[:, None]
    tokens, targets = rng.integers(0, V, (2, len(lengths), 24))
    targets[(rng.random(targets.shape) < uncounted) & (np.arange(24) != lengths - 1)] = -1
    targets[np.arange(24) >= lengths] = -1
    return tokens, targets


def padded(model, tokens, targets, rng=None):
    """The loss and gradients computed at every position, padding included."""
    logits, backward = model._forward(tokens, Context(rng))
    loss, back_loss = cross_entropy(logits, targets)
    return loss, backward(back_loss(1.0))


@EACH_OPTION
@settings(max_examples=20)
@given(lengths=LENGTHS, seed=st.integers(0, 2**32))
def test_packed_rows_have_the_gradients_of_padded_ones(options, lengths, seed):
    model, (tokens, targets) = drawn_gpt(positions=24, **options), ragged(lengths, seed)
    loss, gradients = model.loss_and_gradients(tokens, targets)
    expected, wanted = padded(model, tokens, targets)
    close(loss, expected)
    assert model.cross_entropy(tokens, targets) == loss
    assert list(gradients) == list(model.parameters)
    for name, gradient in wanted.items():
        close(gradients[name], gradient)


@EACH_OPTION
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("B", [1, 5])
def test_rows_of_one_length_keep_their_bits(options, dtype, B):
    model, (tokens, targets) = drawn_gpt(positions=24, dtype=dtype, **options), ragged([24] * B, seed=B)
    found = model.loss_and_gradients(tokens, targets, np.random.default_rng(3))
    np.testing.assert_equal(found, padded(model, tokens, targets, np.random.default_rng(3)))


@EACH_OPTION
def test_the_gradient_of_unequal_rows_is_a_slope(options):
    model, (tokens, targets) = drawn_gpt(positions=24, **options), ragged([1, 24, 7, 8, 0, 2], seed=1)
    _, gradients = model.loss_and_gradients(tokens, targets, 5)
    rng = np.random.default_rng(2)
    direction = {name: rng.normal(size=p.shape) for name, p in model.parameters.items()}
    before, losses = {name: p.copy() for name, p in model.parameters.items()}, []
    for step in (1e-7, -1e-7):  # so short that no ReLU changes its side
        for name, p in model.parameters.items():
            p[...] = before[name] + step * direction[name]
        losses.append(model.loss_and_gradients(tokens, targets, 5)[0])
    slope = sum(float(np.vdot(gradients[name], direction[name])) for name in direction)
    assert (losses[0] - losses[1]) / 2e-7 == pytest.approx(slope, rel=0, abs=3e-7)  # rounding of losses, 6e-14, over 2e-7


@given(LENGTHS, st.integers(0, 2**32))
def test_at_most_an_eighth_of_packed_positions_is_padding(lengths, seed):
    sizes, model, (tokens, targets) = [], drawn_gpt(positions=24), ragged(lengths, seed, uncounted=0)
    forward = model._forward
    model._forward = lambda tokens, context: sizes.append(tokens.size) or forward(tokens, context)
    model.cross_entropy(tokens, targets)
    assert sum(lengths) <= sizes[0] <= sum(lengths) * 8 / 7


@example([8, 7, 0, 6])  # 7 is just long enough for the group of 8, and 6 is not
@given(st.lists(st.integers(0, 40), min_size=1, max_size=50))
def test_groups_hold_each_row_once_longest_first(lengths):
    lengths, groups = np.array(lengths), list(groups_by_length(np.array(lengths)))
    np.testing.assert_array_equal(sum((rows for rows, _ in groups), np.zeros(len(lengths), int)), lengths > 0)
    assert all(lengths[rows].max() == T and 8 * lengths[rows].min() >= 7 * T for rows, T in groups)
    assert all(8 * after < 7 * before for (_, before), (_, after) in pairwise(groups))


def test_options_give_the_first_transformer():
    """Against the formulas: norm(x + f(x)), no norm at the end, embeddings times sqrt(D)."""
    model = drawn_gpt(norm="post", activation="relu", position_encoding="sinusoidal", tied_embeddings=False)
    p, (tokens, _) = model.parameters, examples(B=1)

    def norm(x, name):
        z = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return p[f"{name}.gain"] * z + p[f"{name}.bias"]

    def linear(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    angles = [[t / 10000 ** (2 * (i // 2) / D) for i in range(D)] for t in range(T)]
    encoding = [[math.sin(a) if i % 2 == 0 else math.cos(a) for i, a in enumerate(row)] for row in angles]
    x = math.sqrt(D) * p["tokens"][tokens[0]] + np.array(encoding)
    for layer in ("layers.0", "layers.1"):
        q, k, v = (a.reshape(T, H, D // H).swapaxes(0, 1) for a in np.split(linear(x, f"{layer}.attention"), 3, axis=1))
        scores = q @ k.swapaxes(1, 2) / math.sqrt(D // H)
        e = np.tril(np.exp(scores))
        merged = (e / e.sum(axis=-1, keepdims=True) @ v).swapaxes(0, 1).reshape(T, D)
        x = norm(x + linear(merged, f"{layer}.output"), f"{layer}.norm1")
        x = norm(x + linear(np.maximum(linear(x, f"{layer}.expand"), 0), f"{layer}.contract"), f"{layer}.norm2")
    close(model.logits(tokens)[0], linear(x, "head"))


def test_presets_have_the_published_sizes():
    assert GPTConfig.preset("gpt2").parameter_count == 124439808
    counts = {name: GPTConfig.preset(name).parameter_count for name in ("gpt2-medium", "gpt2-large", "gpt2-xl")}
    assert counts == {"gpt2-medium": 354823168, "gpt2-large": 774030080, "gpt2-xl": 1557611200}
    six = GPTConfig.preset("questions-6", layers=1)
    assert (six.norm, six.activation, six.position_encoding, six.width, six.hidden) == ("post", "relu", "sinusoidal", 512, 2048)
    # one layer: attention 4 D^2 + 4 D, linear 8 D^2 + 5 D, norms 4 D; embedding V D; head D V + V
    assert six.parameter_count == 12 * 512**2 + 13 * 512 + 2 * 69 * 512 + 69
    assert "preset must be one of 'gpt2'" in error_message(ValueError, GPTConfig.preset, "gpt3")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"norm": "none"}, ValueError, "norm must be one of 'pre', 'post'; got 'none'"),
        ({"activation": "swish"}, ValueError, "activation must be one of 'gelu', 'relu'; got 'swish'"),
        ({"position_encoding": "rotary"}, ValueError, "position_encoding must be one of 'learned', 'sinusoidal'; got 'rotary'"),
        ({"hidden": -1}, ValueError, "hidden must be an integer >= 0; got -1"),
        ({"attention": "cosine"}, ValueError, "attention must be one of 'dot', 'energy'; got 'cosine'"),
        ({"eta": 0.0}, ValueError, "eta must be a finite number > 0; got 0.0"),
        ({"shared_layers": None}, TypeError, "shared_layers must be True or False; got None"),
        ({"tied_embeddings": 1}, TypeError, "tied_embeddings must be True or False; got 1"),
    ],
)
def test_invalid_options_are_named(options, error, sentence):
    assert error_message(error, GPTConfig, **{**SIZES, **options}) == sentence


# Energy attention


def heads(a, h):
    """(B, T, D) -> (B, T, E): the coordinates of one head."""
    return a[..., h * (D // H) : (h + 1) * (D // H)]


def energy_of(states, patterns):
    """Return the energies (B, T) of states (B, T, D), summed over heads; patterns (B, H, T, E) up to each position count."""
    energy, (B, T, _) = DistanceEnergy(1 / (2 * math.sqrt(D // H))), states.shape
    return np.array([
        [sum(energy.value(heads(states, h)[b, t], patterns[b, h, : t + 1]) for h in range(H)) for t in range(T)]
        for b in range(B)
    ])  # fmt: skip


def updates_of(states, patterns):
    """Return the updates (B, T, D) of states in the same energies."""
    energy, (B, T, _) = DistanceEnergy(1 / (2 * math.sqrt(D // H))), states.shape
    return np.array([
        [np.concatenate([energy.update(heads(states, h)[b, t], patterns[b, h, : t + 1]) for h in range(H)]) for t in range(T)]
        for b in range(B)
    ])  # fmt: skip


@given(st.floats(0.01, 1.99), st.sampled_from([0.1, 1.0, 5.0]), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=20)
def test_energy_attention_descends_as_guaranteed(eta, init_std, shared_layers, seed):
    model = drawn_gpt(seed, attention="energy", hidden=0, eta=eta, shared_layers=shared_layers, init_std=init_std, layers=4)
    activations = model.activations(examples(seed=seed)[0])
    for before, after, patterns in zip(activations.states[:-1], activations.states[1:], activations.keys, strict=True):
        u = updates_of(before, patterns)
        size = max(1, np.abs(before).max(), np.abs(patterns).max())
        slack = 1e-15 * size * (10 + size**2)  # rounding of squares, which the exponential amplifies
        np.testing.assert_allclose(after, before + eta * (u - before), rtol=0, atol=slack)
        falls = energy_of(before, patterns) - energy_of(after, patterns)
        assert (falls >= eta * (2 - eta) * np.square(u - before).sum(axis=-1) - 10 * slack * size).all()


def test_shared_layers_descend_one_energy_as_retrieve_does():
    model = drawn_gpt(attention="energy", hidden=0, eta=1.0, shared_layers=True, init_std=1.5, layers=60)
    activations = model.activations(examples()[0])
    np.testing.assert_array_equal(activations.keys[0], activations.keys[-1])
    trace = np.array([energy_of(states, activations.keys[0]) for states in activations.states])
    assert (np.diff(trace, axis=0) <= 1e-12 * np.abs(trace).max()).all()
    assert (trace[0] - trace[-1]).min() > 0.01
    end = retrieve(heads(activations.states[0], 1)[0, -1], activations.keys[0][0, 1], DistanceEnergy(1 / (2 * math.sqrt(D // H))), tolerance=1e-12)
    close(heads(activations.states[-1], 1)[0, -1], end.states)


def test_the_energy_may_rise_if_eta_exceeds_two():
    model = drawn_gpt(attention="energy", hidden=0, eta=3.0, init_std=1.0, layers=1)
    activations = model.activations(examples()[0])
    assert (energy_of(activations.states[1], activations.keys[0]) > energy_of(activations.states[0], activations.keys[0])).all()


def test_the_usual_residual_may_raise_the_energy():
    """At its only pattern, x + update(x) = 2 x: the energy rises from 0 to |x|^2."""
    energy, x = DistanceEnergy(1 / (2 * math.sqrt(2))), np.array([3.0, 4.0])
    assert energy.value(x, [x]) == 0
    assert energy.value(x + energy.update(x, [x]), [x]) == 25


def test_energy_attention_can_be_trained():
    rows = np.random.default_rng(0).integers(7, size=(16, T + 1))
    model = drawn_gpt(attention="energy", width=18, init_std=0.25, layers=3, dtype="float32")
    before = model.cross_entropy(rows[:, :-1], rows[:, 1:])
    Trainer(model, steps=200, learning_rate=0.02, batch_size=16).run(rows)
    assert model.cross_entropy(rows[:, :-1], rows[:, 1:]) < 0.7 * before


def test_a_representation_gives_the_sizes():
    model = GPT(GPTConfig(vocabulary=5, positions=8, layers=2, heads=4, width=16), rng=0)
    assert repr(model) == str(model) == "GPT(2 layers, 4 heads, width 16, 5 tokens, 8 positions, 6,800 parameters, float32)"
    single = GPT(GPTConfig(vocabulary=1, positions=1, layers=1, heads=1, width=2), rng=0)
    assert repr(single).startswith("GPT(1 layer, 1 head, width 2, 1 token, 1 position, ")
    assert repr(Trainer(single, steps=3)) == f"Trainer({single}, 0 of 3 steps)"
