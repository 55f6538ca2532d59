"""The compiled layers equal their NumPy twins to within rounding, for all sizes, dtypes and instruction sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin import _layers_numpy

compiled = pytest.importorskip("hopmin._layers", reason="not compiled")

DTYPES = st.sampled_from(["float32", "float64"])
SIZES = st.integers(1, 70)  # around one, two and four vectors of every width
SEEDS = st.integers(0, 2**32)


@pytest.fixture(params=compiled.SIMD, autouse=True, scope="module")
def simd(request):
    """Run the tests for each instruction set of this machine."""
    chosen = compiled.simd()
    yield compiled.simd(request.param)
    compiled.simd(chosen)


def drawn(seed, dtype, *shapes, scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    return [(offset + scale * rng.normal(size=shape)).astype(dtype) for shape in shapes]


def check(name, *arguments, slack=16.0):
    """Assert that the compiled function equals its twin in long double to within the rounding of the dtype."""
    own = next(a.dtype for a in arguments if isinstance(a, np.ndarray))
    exact = [a.astype(np.longdouble) if isinstance(a, np.ndarray) else a for a in arguments]
    found = getattr(compiled, name)(*[a.copy() if isinstance(a, np.ndarray) else a for a in arguments])
    expected = getattr(_layers_numpy, name)(*exact)
    for one, other in zip(*((r if isinstance(r, tuple) else (r,)) for r in (found, expected)), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == own
            assert one.shape == other.shape
            scale = max(1.0, float(np.abs(other).max(initial=0)))
            np.testing.assert_allclose(one.astype(np.longdouble), other, rtol=0, atol=slack * scale * np.finfo(own).eps)


@given(SEEDS, DTYPES, st.integers(0, 5), st.integers(2, 70), st.booleans(), st.sampled_from([0.0, 3.0]))
def test_layer_norm_and_its_gradient(seed, dtype, m, d, biased, offset):
    x, gain, bias, dy = drawn(seed, dtype, (m, 2, d), (d,), (d,), (m, 2, d), offset=offset)
    bias = bias if biased else None
    # scaling a nearly constant row to variance 1 amplifies its rounding errors
    check(
        "layer_norm_forward",
        x,
        gain,
        bias,
        1e-5,
        slack=16 * (1 + np.abs(x).max(initial=0) / np.sqrt(x.var(axis=-1).min(initial=1) + 1e-5)),
    )
    z, scale = drawn(seed, dtype, (m, 2, d), (m, 2, 1))
    check("layer_norm_backward", dy, z, scale, gain, bias, slack=100)


@given(SEEDS, DTYPES, st.integers(1, 4), SIZES, st.sampled_from([0.01, 1.0, 5.0, 50.0, 1e4]))
def test_gelu(seed, dtype, m, d, scale):
    (x,) = drawn(seed, dtype, (m, d), scale=scale)
    check("gelu_and_derivative", x)
    y, slope = compiled.gelu_and_derivative(x)
    assert (y[x >= 0] >= 0).all()
    np.testing.assert_array_equal(slope[np.abs(x) > 40], x[np.abs(x) > 40] > 0)


@given(
    SEEDS, DTYPES, st.integers(0, 3), st.integers(1, 20), st.integers(0, 50), st.sampled_from([1e-3, 0.3, 1.0, 30.0])
)
def test_causal_softmax_and_its_gradient(seed, dtype, n, t, before, beta):
    scores, dweights = drawn(seed, dtype, (n, 2, t, before + t), (n, 2, t, before + t))
    check("causal_softmax", scores, beta, slack=8 * max(1, beta))
    weights = compiled.causal_softmax(scores, beta)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=64 * np.finfo(dtype).eps)
    assert not np.triu(weights, k=1 + before).any()
    check("causal_softmax_backward", dweights, weights, beta, slack=16 * max(1, beta))


@given(SEEDS, DTYPES, st.integers(0, 100), st.sampled_from([1.0, 0.99]), st.sampled_from([1e-8, 1e-3]))
def test_adamw(seed, dtype, size, kept, epsilon):
    p, g, m, v = drawn(seed, dtype, *[(size, 3)] * 4)
    v = np.abs(v)
    exact = [a.astype(np.longdouble) for a in (p, g, m, v)]
    _layers_numpy.adamw(*exact, 0.9, 0.99, kept, 0.01, epsilon)
    compiled.adamw(p, g, m, v, 0.9, 0.99, kept, 0.01, epsilon)
    # the square root of a v near zero keeps only half of the digits
    for one, other in zip((p, g, m, v), exact, strict=True):
        np.testing.assert_allclose(
            one.astype(np.longdouble), other, rtol=1e-13 if dtype == "float64" else 1e-5, atol=8 * np.finfo(dtype).eps
        )


@given(SEEDS, DTYPES, st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(0, 30), st.data())
def test_attend_equals_softmax_over_the_cache(seed, dtype, batch, heads, e, length, data):
    start = np.array(data.draw(st.lists(st.integers(0, length), min_size=batch, max_size=batch)), np.intp)
    d, past = heads * e, (batch, heads, length + 2, e)
    projected, bias, keys, values, joined = drawn(seed, dtype, (batch, 3 * d), (3 * d,), past, past, (batch, d))
    keys = np.ascontiguousarray(keys.mT).mT  # transposed in memory
    whole = (projected.astype(float) + bias).reshape(batch, 3, heads, e)
    before = keys.copy(), values.copy()
    compiled.attend(projected.copy(), bias, keys, values, start, length, joined)
    for cache, old, here in ((keys, before[0], 1), (values, before[1], 2)):
        np.testing.assert_allclose(cache[:, :, length], whole[:, here], rtol=2 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(np.delete(cache, length, axis=2), np.delete(old, length, axis=2))
    for b in range(batch):
        for h in range(heads):
            seen = slice(start[b], length + 1)
            k, v = keys[b, h, seen].astype(float), values[b, h, seen].astype(float)
            weights = np.exp(k @ whole[b, 0, h] / np.sqrt(e))
            expected = weights @ v / weights.sum()
            np.testing.assert_allclose(joined[b, h * e : (h + 1) * e], expected, rtol=0, atol=400 * np.finfo(dtype).eps)


@given(SEEDS, DTYPES, st.integers(1, 3), st.integers(2, 50), st.booleans(), st.booleans())
def test_add_and_norm_and_activate(seed, dtype, batch, d, post, relu):
    x, change, bias, gain, shift, out = drawn(seed, dtype, (batch, d), (batch, d), (d,), (d,), (d,), (batch, d))
    added = x + change + bias
    normalized = _layers_numpy.layer_norm_forward(added, gain, shift, 1e-5)[0]
    found = x.copy()
    compiled.add_and_norm(found, change, bias, gain, shift, np.empty_like(x), np.empty(batch, dtype), out, post)
    np.testing.assert_allclose(out, normalized, rtol=0, atol=2000 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found, out if post else added, rtol=0, atol=16 * np.finfo(dtype).eps)
    active = compiled.activate(x.copy(), bias, relu)
    expected = np.maximum(x + bias, 0) if relu else _layers_numpy.gelu_and_derivative(x + bias)[0]
    np.testing.assert_allclose(active, expected, rtol=0, atol=32 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 36])
def test_non_finite_numbers_give_nan(dtype, bad, place):
    x, one = drawn(0, dtype, (2, 37), (37,))
    x[0, place] = bad
    with np.errstate(invalid="ignore"):
        for found in (
            compiled.layer_norm_forward(x, one, None, 1e-5)[0],
            compiled.layer_norm_backward(x, *drawn(1, dtype, (2, 37), (2, 1)), one, None)[0],
        ):
            assert not np.isfinite(found[0]).any()
            assert np.isfinite(found[1]).all()
        (y, slope), expected = compiled.gelu_and_derivative(x), _layers_numpy.gelu_and_derivative(x)
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected[0]))
        assert np.isfinite(slope[x == bad]).sum() == 0
        scores = np.zeros((1, 1, 37), dtype)
        scores[0, 0, place] = bad
        assert np.isnan(compiled.causal_softmax(scores, 1.0)).all() == (bad != -np.inf)  # -inf masks a key


@given(SEEDS, DTYPES, st.integers(1, 40))
def test_masked_keys_have_weight_zero(seed, dtype, s):
    (scores,) = drawn(seed, dtype, (1, 1, s + 1))
    masked = np.random.default_rng(seed).random(s + 1) < 0.5
    masked[-1] = False
    scores[..., masked] = -np.inf
    kept = np.exp(scores[..., ~masked])
    weights = compiled.causal_softmax(scores, 1.0)
    assert not weights[..., masked].any()
    np.testing.assert_allclose(weights[..., ~masked], kept / kept.sum(), rtol=64 * np.finfo(dtype).eps)


@given(SEEDS, DTYPES, st.integers(1, 4), st.integers(2, 40))
def test_strided_inputs_are_accepted_and_unchanged(seed, dtype, m, d):
    wide, gain = drawn(seed, dtype, (d, 2 * m), (d,))
    strided = wide.T[::2]
    gain.flags.writeable = False
    before = wide.copy()
    for name, more in (("layer_norm_forward", (gain, gain, 1e-5)), ("gelu_and_derivative", ())):
        for one, other in zip(
            getattr(compiled, name)(strided, *more), getattr(compiled, name)(strided.copy(), *more), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(wide, before)


def test_arrays_of_wrong_size_or_dtype_are_rejected():
    x, gain = np.ones((2, 3)), np.ones(3)
    with pytest.raises(ValueError, match=r"^arrays must hold 3 numbers of type float64; got 3 of type float32$"):
        compiled.layer_norm_forward(x, gain, gain.astype("float32"), 1e-5)
    with pytest.raises(ValueError, match=r"^arrays must hold 6 numbers of type float64; got 5 of type float64$"):
        compiled.layer_norm_backward(np.ones(5), x, np.ones((2, 1)), gain, None)
    with pytest.raises(TypeError, match=r"^arrays must be float32 or float64; got int64$"):
        compiled.gelu_and_derivative(np.ones(3, int))
    fixed = np.ones(3)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        compiled.adamw(fixed, gain, gain, gain, 0.9, 0.99, 1.0, 0.1, 1e-8)
