"""Each layer equals a plain loop, keeps its dtype and leaves its inputs unchanged."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin.transformer import layers

# Loops from lists of floats to lists of floats


def loop_linear(x, weight, bias):
    return [[sum(row[i] * weight[i][o] for i in range(len(row))) + bias[o] for o in range(len(bias))] for row in x]


def loop_embedding(indices, table):
    return [list(table[i]) for i in indices]


def loop_layer_norm(x, gain, bias):
    out = []
    for row in x:
        mean = sum(row) / len(row)
        variance = sum((a - mean) ** 2 for a in row) / len(row)
        out.append([g * (a - mean) / math.sqrt(variance + 1e-5) + b for a, g, b in zip(row, gain, bias, strict=True)])
    return out


def loop_gelu(x):
    return [[a / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) for a in row] for row in x]


def loop_attention(queries, keys, values):
    out = []
    for t, q in enumerate(queries):
        exps = [math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q))) for k in keys[: t + 1]]
        weights = [e / sum(exps) for e in exps]
        columns = zip(*values[: t + 1], strict=True)
        out.append([sum(weight * a for weight, a in zip(weights, column, strict=True)) for column in columns])
    return out


def loop_cross_entropy(logits, targets):
    costs = []
    for row, target in zip(logits, targets, strict=True):
        if target != -1:
            costs.append(math.log(sum(math.exp(a) for a in row)) - row[target])
    return sum(costs) / len(costs)


def draw(*shapes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def close(actual, expected):
    # a few float64 operations on numbers of order one, in a different order
    np.testing.assert_allclose(actual, np.array(expected), rtol=1e-12, atol=1e-13)


def test_linear_equals_a_plain_loop():
    x, weight, bias = draw((5, 3), (3, 4), (4,))
    close(layers.linear(x, weight, bias)[0], loop_linear(x.tolist(), weight.tolist(), bias.tolist()))


def test_embedding_equals_a_plain_loop():
    (table,) = draw((4, 3))
    close(layers.embedding(np.array([2, 0, 2]), table)[0], loop_embedding([2, 0, 2], table.tolist()))


def test_gradients_of_a_repeated_symbol_add_up():
    table, dy = draw((4, 3), (2, 2, 3))
    dtable = layers.embedding(np.array([[2, 0], [2, 2]]), table)[1](dy)
    close(dtable, [dy[0, 1], np.zeros(3), dy[0, 0] + dy[1, 0] + dy[1, 1], np.zeros(3)])


def test_layer_norm_equals_a_plain_loop():
    x, gain, bias = draw((5, 6), (6,), (6,))
    close(layers.layer_norm(3 * x + 1, gain, bias)[0],
          loop_layer_norm((3 * x + 1).tolist(), gain.tolist(), bias.tolist()))  # fmt: skip


def test_layer_norm_of_a_constant_row_is_its_bias():
    (bias,) = draw((6,))
    np.testing.assert_array_equal(layers.layer_norm(np.full((2, 6), 7.0), np.ones(6), bias)[0], [bias, bias])


def test_gelu_equals_a_plain_loop():
    x = np.linspace(-9, 9, 37).reshape(1, -1)
    close(layers.gelu(x)[0], loop_gelu(x.tolist()))


def test_gelu_is_x_for_large_x_and_0_for_very_negative_x():
    np.testing.assert_array_equal(layers.gelu(np.array([-50.0, 0.0, 50.0]))[0], [0, 0, 50])


def test_attention_equals_a_plain_loop():
    queries, keys, values = draw((6, 4), (6, 4), (6, 4))
    close(layers.attention(queries, keys, values)[0],
          loop_attention(queries.tolist(), keys.tolist(), values.tolist()))  # fmt: skip


def test_attention_by_distances_is_a_distance_update():
    q, k, v = draw((5, 4), (5, 4), (5, 3))
    found, weights, _ = layers.attention(q, k, v, distances=True)
    for t in range(5):
        exps = [
            math.exp(-sum((a - b) ** 2 for a, b in zip(q[t], row, strict=True)) / (2 * math.sqrt(4)))
            for row in k[: t + 1]
        ]
        close(weights[t, : t + 1], [e / sum(exps) for e in exps])
        close(
            found[t], [sum(e * row[j] for e, row in zip(exps, v[: t + 1], strict=True)) / sum(exps) for j in range(3)]
        )


def test_attention_weights_are_causal_distributions():
    _, weights, _ = layers.attention(*draw((2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4)))
    close(weights.sum(axis=-1), np.ones((2, 3, 5)))
    assert (weights[..., np.triu(np.ones((5, 5), bool), k=1)] == 0).all()
    assert (weights[..., np.tril(np.ones((5, 5), bool))] > 0).all()


def test_attention_is_independent_for_each_head():
    arrays = draw((2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4))
    together = layers.attention(*arrays)[0]
    for place in np.ndindex(2, 3):
        close(together[place], layers.attention(*(a[place] for a in arrays))[0])


def test_cross_entropy_equals_a_plain_loop():
    (logits,) = draw((1, 5, 4))
    targets = [1, -1, 0, 3, -1]
    close(layers.cross_entropy(logits, np.array([targets]))[0], loop_cross_entropy(logits[0].tolist(), targets))


@given(st.integers(1, 300), st.floats(-1e4, 1e4))
def test_cross_entropy_of_constant_logits_is_log_v(V, constant):
    loss, _ = layers.cross_entropy(np.full((2, 3, V), constant), np.zeros((2, 3), int))
    assert loss == pytest.approx(math.log(V), rel=1e-14, abs=0)


def test_cross_entropy_ignores_targets_of_minus_one():
    logits, other = draw((2, 3, 4), (2, 3, 4))
    targets = np.array([[0, -1, 2], [-1, 1, -1]])
    changed = np.where((targets < 0)[..., None], 100 * other, logits)
    loss, backward = layers.cross_entropy(logits, targets)
    assert layers.cross_entropy(changed, targets)[0] == loss
    assert (backward(1.0)[targets < 0] == 0).all()
    assert (backward(1.0)[targets >= 0] != 0).all()


def test_cross_entropy_of_distant_logits_is_their_difference():
    loss, backward = layers.cross_entropy(np.array([[[0.0, 1e4]]]), np.array([[0]]))
    assert loss == 1e4
    np.testing.assert_array_equal(backward(1.0), [[[-1, 1]]])


# Dropout


def test_dropout_is_off_without_rng_or_rate():
    (x,) = draw((3, 4))
    for y, backward in (layers.dropout(x, 0.5, None), layers.dropout(x, 0.0, np.random.default_rng(0))):
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(backward(x), x)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_fraction_and_the_mean(rate):
    n = 100_000
    y, _ = layers.dropout(np.ones(n), rate, np.random.default_rng(0))
    sigma = math.sqrt(rate * (1 - rate) / n)  # of the fraction of heads in n coin tosses
    assert abs((y != 0).mean() - (1 - rate)) < 4 * sigma
    assert abs(y.mean() - 1) < 4 * sigma / (1 - rate)
    np.testing.assert_array_equal(np.unique(y), [0, 1 / (1 - rate)])


def test_dropout_mask_depends_on_the_seed():
    (x,) = draw((20, 20))
    masks = [layers.dropout(x, 0.5, np.random.default_rng(seed))[0] == 0 for seed in (1, 1, 2)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_dropout_gradient_uses_the_same_mask():
    (x,) = draw((20, 20))
    y, backward = layers.dropout(x, 0.3, np.random.default_rng(0))
    np.testing.assert_array_equal(backward(x), y)


def test_attention_returns_weights_before_dropout():
    arrays = draw((50, 4), (50, 4), (50, 4))
    whole, weights, _ = layers.attention(*arrays)
    dropped, reported, _ = layers.attention(*arrays, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(reported, weights)
    assert (dropped[5:] != whole[5:]).any(axis=-1).all()


# All layers

X, DY = (2, 3, 4), (2, 3, 4)
LAYERS = {
    "linear": (layers.linear, (X, (4, 4), (4,))),
    "layer_norm": (layers.layer_norm, (X, (4,), (4,))),
    "gelu": (layers.gelu, (X,)),
    "dropout": (lambda x: layers.dropout(x, 0.5, np.random.default_rng(0)), (X,)),
    "attention": (
        lambda *qkv: layers.attention(*qkv, 0.5, np.random.default_rng(0))[::2],
        (X, X, X),
    ),
    "attention by distances": (lambda *qkv: layers.attention(*qkv, distances=True)[::2], (X, X, X)),
    "embedding": (lambda table: layers.embedding(np.array([[0, 2, 2], [1, 1, 0]]), table), ((5, 4),)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_the_dtype_and_their_inputs(name, dtype):
    layer, shapes = LAYERS[name]
    *inputs, dy = draw(*shapes, DY, dtype=dtype)
    before = [a.copy() for a in (*inputs, dy)]
    y, backward = layer(*inputs)
    gradients = backward(dy)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert {a.dtype for a in (y, *gradients)} == {np.dtype(dtype)}
    assert [g.shape for g in gradients] == [a.shape for a in inputs]
    for a, kept in zip((*inputs, dy), before, strict=True):
        np.testing.assert_array_equal(a, kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_attention_weights_keep_the_dtype(dtype):
    assert layers.attention(*draw(X, X, X, dtype=dtype))[1].dtype == dtype


@pytest.mark.parametrize("name", LAYERS)
def test_backward_can_be_called_twice(name):
    layer, shapes = LAYERS[name]
    *inputs, dy = draw(*shapes, DY)
    _, backward = layer(*inputs)
    np.testing.assert_equal(backward(dy), backward(dy))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_is_a_float_and_keeps_its_inputs(dtype):
    (logits,) = draw((2, 3, 4), dtype=dtype)
    targets = np.array([[0, -1, 2], [3, 1, -1]])
    before = logits.copy(), targets.copy()
    loss, backward = layers.cross_entropy(logits, targets)
    assert type(loss) is float
    assert backward(1.0).dtype == dtype
    np.testing.assert_array_equal(backward(1.0), backward(1.0))
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(targets, before[1])
