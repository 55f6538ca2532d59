"""LogSumExp, softmax and entmax: SciPy's results, edge cases included, and forty digits where SciPy has no function."""

import math

import helpers
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import hopmin

INF, NAN = np.inf, np.nan
EDGES = [
    [-INF, -INF], [INF, 1.0], [INF, INF], [INF, -INF], [NAN, 1.0], [NAN, INF], [-INF, 0.0], [0.0, -40.0], [1.7e308, -1.7e308],
    [[1.0, -INF], [-INF, -INF]], 3.0, -INF, INF, NAN, [5], np.float32([1, 2]), np.float16([1, 2]),
    np.float32([3e38, -3e38]), np.longdouble([1, 2]),
]  # fmt: skip


def scipys(name, *arguments, **options):
    with np.errstate(all="ignore"):
        return getattr(scipy.special, name)(*arguments, **options)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("a", EDGES, ids=repr)
def test_edge_cases_match_scipy(name, a):
    ours, theirs = getattr(hopmin, name)(a), scipys(name, a)
    assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    assert np.shape(ours) == np.shape(theirs)
    # SciPy's log_softmax loses the digits that log1p keeps
    np.testing.assert_allclose(ours, theirs, rtol=4 * np.finfo(ours.dtype).eps, atol=1e-17)
    assert type(ours) is type(theirs)


@given(
    a=npst.arrays(np.float64, npst.array_shapes(max_dims=3, max_side=4), elements=st.floats(-700, 700)),
    keepdims=st.booleans(),
    data=st.data(),
)
def test_axes_and_weights_match_scipy(a, keepdims, data):
    axis = data.draw(st.none() | st.integers(-a.ndim, a.ndim - 1) | npst.valid_tuple_axes(a.ndim))
    b = data.draw(st.none() | npst.arrays(np.float64, a.shape[-1:], elements=st.sampled_from([0.0, 0.5, 1.0, 3.0])))
    ours, theirs = hopmin.logsumexp(a, axis, b, keepdims), scipys("logsumexp", a, axis, b, keepdims)
    assert np.shape(ours) == np.shape(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-14, atol=1e-13)
    if axis != ():
        np.testing.assert_allclose(hopmin.softmax(a, axis), scipys("softmax", a, axis), rtol=1e-13)
        np.testing.assert_allclose(hopmin.log_softmax(a, axis), scipys("log_softmax", a, axis), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1, 2], [1, -1]), ([1, 2], [-1, 2]), ([1, 2], [0, 0]), ([INF, 2], [0, 1]), ([INF, 2], [-1, 1]), ([1, 2], [INF, 1]),
        ([1, 2], [NAN, 1]), ([-INF, 2], [INF, 1]), ([0, 0], [1, -1]), ([[1, 2], [3, 4]], [1, 2]), ([-INF, -INF], [1, 2]),
    ],
)  # fmt: skip
def test_weights_of_any_sign_and_size_match_scipy(a, b):
    np.testing.assert_allclose(hopmin.logsumexp(a, b=b), scipys("logsumexp", a, b=b), rtol=1e-15)


def test_zero_weight_removes_an_overflowing_term():
    assert hopmin.logsumexp([710.0], b=[0.0]) == -INF  # SciPy multiplies 0 by an overflow


def test_terms_below_cancelling_maxima_are_kept():
    assert hopmin.logsumexp([0, 0, -50], b=[1, -1, 1]) == -50


def test_logsumexp_of_an_empty_sum_is_minus_infinity():
    assert hopmin.logsumexp([]) == -INF
    np.testing.assert_array_equal(hopmin.logsumexp(np.zeros((0, 3)), axis=0), [-INF] * 3)
    assert hopmin.logsumexp(np.zeros((0, 3)), axis=1).shape == (0,)
    assert hopmin.softmax(np.zeros((0, 3)), axis=1).shape == (0, 3)


@pytest.mark.parametrize("function", [hopmin.softmax, hopmin.log_softmax])
def test_softmax_of_an_empty_slice_is_refused(function):
    with pytest.raises(ValueError, match=r"^x must not be empty along axis 1; got shape \(3, 0\)$"):
        function(np.zeros((3, 0)), axis=1)


@given(npst.arrays(np.float64, st.integers(1, 6), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_finite_input_never_overflows_or_warns(a):
    with np.errstate(all="raise"):  # warnings are errors already; this includes the ones that NumPy ignores
        value, weights, logs = hopmin.logsumexp(a), hopmin.softmax(a), hopmin.log_softmax(a)
    assert value >= a.max()
    assert weights.sum() == pytest.approx(1, abs=1e-15 * len(a))
    assert not np.isnan(logs).any()


@pytest.mark.parametrize("count", [65_519, 65_520, 70_000])
def test_half_precision_is_summed_in_single(count):
    a = np.zeros(count, np.float16)
    a[0] = 1
    for name in ("logsumexp", "softmax", "log_softmax"):
        with np.errstate(all="raise"):
            found = getattr(hopmin, name)(a)
        with np.errstate(under="ignore"):
            expected = getattr(hopmin, name)(a.astype(np.float32)).astype(np.float16)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, expected)
    p = np.full(count, 1e-5, np.float16)
    small = float(p[0])
    with np.errstate(all="raise"):
        assert hopmin.logsumexp(a, b=a + 1) == np.float16(math.log(count - 1 + 2 * math.e))
        assert hopmin.softmax_derivative(p, np.ones_like(p))[0] == np.float16(small * (1 - count * small))
        assert hopmin.tsallis_entropy(np.ones_like(a), 2) == 0
        assert hopmin.tsallis_entropy(p, 1) == np.float16(-count * small * math.log(small))


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_any_byte_order_is_accepted(kind):
    native = np.array([[1, 2, 4], [0.5, 0, -1]], kind)
    swapped = native.astype(native.dtype.newbyteorder("S"))
    p = hopmin.softmax(native, 1)
    functions = [
        hopmin.logsumexp, hopmin.softmax, hopmin.log_softmax, hopmin.entmax, lambda a: hopmin.entmax(a, 1),
        lambda a: hopmin.logsumexp(a, b=a + 2), lambda a: hopmin.softmax_derivative(a, a),
        lambda a: hopmin.tsallis_entropy(p.astype(a.dtype)),
    ]  # fmt: skip
    for function in functions:
        found, expected = np.asarray(function(swapped)), np.asarray(function(native))
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("function", [hopmin.logsumexp, hopmin.softmax, hopmin.log_softmax])
@pytest.mark.parametrize("a", [[1j], ["a"], [None], [[1], [1, 2]]], ids=repr)
def test_input_that_is_not_real_is_refused(function, a):
    with pytest.raises(
        (TypeError, ValueError), match=r"^[ax] must be (real numbers; got dtype|a rectangular array; got rows)"
    ):
        function(a)


def test_nonexistent_axis_is_refused():
    with pytest.raises(np.exceptions.AxisError):
        hopmin.logsumexp([1.0, 2.0], axis=1)


# entmax and Tsallis entropy

ALPHAS = [1.0, 1 + 1e-9, 1.2, 1.5, 1.9, 2.0, 2.5, 3.0]
VECTORS = npst.arrays(np.float64, st.integers(1, 8), elements=st.floats(-20, 20) | st.integers(-3, 3).map(float))


def test_entmax_reproduces_the_published_example():
    z = [-2.0, 0.0, 0.5]
    for alpha, expected in ((1.0, (0.0486, 0.3592, 0.5922)), (1.5, (0, 0.3260, 0.6740)), (2.0, (0, 0.25, 0.75))):
        np.testing.assert_allclose(hopmin.entmax(z, alpha), expected, atol=5e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
@given(x=VECTORS)
@settings(max_examples=25)
def test_entmax_matches_forty_digit_arithmetic(x, alpha):
    # an entry near 0 is a root of a difference, and its error the root of the rounding error of that
    rounding = (4e-16 * (1 + np.ptp(x))) ** min(1, 1 / (alpha - 1 or 1))
    np.testing.assert_allclose(hopmin.entmax(x, alpha), helpers.entmax(x, alpha), rtol=0, atol=4 * rounding)


@given(VECTORS)
def test_entmax_of_order_2_projects_onto_the_simplex(x):
    np.testing.assert_allclose(hopmin.entmax(x, 2), helpers.sparsemax(x), rtol=0, atol=1e-14)


@given(VECTORS)
def test_entmax_of_order_1_and_its_limit_are_softmax(x):
    np.testing.assert_array_equal(hopmin.entmax(x, 1), hopmin.softmax(x))
    np.testing.assert_allclose(hopmin.entmax(x, 1 + 1e-10), hopmin.softmax(x), rtol=0, atol=1e-7)
    assert abs(hopmin.entmax(x, 1.001) - hopmin.softmax(x)).max() < 0.01


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 3.0])
def test_entmax_is_exactly_one_from_the_margin_on(alpha):
    margin = 1 / (alpha - 1)
    for shift in (0.0, 1.0, -64.0):
        assert hopmin.entmax([shift, shift - margin, shift - 2 * margin], alpha).tolist() == [1, 0, 0]
        assert hopmin.entmax([shift, shift - margin * (1 - 1e-3)], alpha)[1] > 0


@pytest.mark.parametrize("alpha", ALPHAS)
def test_entmax_over_any_axes_equals_slice_by_slice(alpha):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)) * 2
    for axis in (0, 1, -1, (0, 2), (2, 0), None):
        got = hopmin.entmax(x, alpha, axis)
        assert got.shape == x.shape
        np.testing.assert_allclose(got.sum(axis=axis), 1, rtol=1e-15)
    np.testing.assert_allclose(hopmin.entmax(x, alpha, 1)[1, :, 2], hopmin.entmax(x[1, :, 2], alpha), atol=1e-15)
    np.testing.assert_allclose(
        hopmin.entmax(x, alpha, (0, 2))[:, 1].ravel(), hopmin.entmax(x[:, 1].ravel(), alpha), atol=1e-15
    )


def test_entmax_edge_cases():
    for alpha in (1.5, 2.0, 3.0):
        np.testing.assert_array_equal(hopmin.entmax([[INF, 0], [-INF, -INF], [NAN, 1], [-INF, 1]], alpha, 1)[:3], NAN)
        assert hopmin.entmax([-INF, 1.0], alpha).tolist() == [0, 1]
        assert hopmin.entmax(np.zeros((0, 3)), alpha, 1).shape == (0, 3)
        assert hopmin.entmax(3.0, alpha) == 1
        assert hopmin.entmax([1.7e308, -1.7e308], alpha).tolist() == [1, 0]
        for dtype in ("float16", "float32", "float64", "longdouble"):
            assert hopmin.entmax(np.ones(4, dtype), alpha).dtype == dtype
    assert hopmin.entmax([5, 5], 1e9).tolist() == [0.5, 0.5]


def test_entmax_of_high_order_rounds_small_entries_to_zero():
    """alpha = 9, a thousandth below the margin: an entry of 1e-4, whose eighth power is lost when added to 1."""
    x = [0.0, -(1 - 1e-3) / 8]
    assert helpers.entmax(x, 9.0)[1] == pytest.approx(1.25e-4, rel=0.01)
    assert hopmin.entmax(x, 9.0)[1] == pytest.approx(0, abs=(8 * np.finfo(float).eps) ** (1 / 8))


def test_entmax_of_many_entries_is_accurate():
    x = np.random.default_rng(0).normal(size=20_000)
    for alpha in (1.1, 1.5, 2.0, 3.0):
        p = hopmin.entmax(x, alpha)
        assert p.sum() == pytest.approx(1, abs=1e-15)
        inside = p > 0
        level = (alpha - 1) * x[inside] - p[inside] ** (alpha - 1)  # equal for all entries in the support
        assert np.ptp(level) < 1e-14
        assert ((alpha - 1) * x[~inside] <= level.max()).all()


@pytest.mark.parametrize("alpha", [0.5, -1, INF, NAN, "2", None, True])
def test_alpha_below_1_or_not_finite_is_refused(alpha):
    for function in (hopmin.entmax, hopmin.tsallis_entropy):
        with pytest.raises((TypeError, ValueError)) as caught:
            function([0.5, 0.5], alpha)
        assert str(caught.value) == f"alpha must be a finite number >= 1; got {alpha!r}"


@given(VECTORS, st.sampled_from(ALPHAS))
def test_tsallis_entropy_matches_the_formula_and_its_bounds(x, alpha):
    p, n = hopmin.softmax(x), len(x)
    tiny = 1e-15 if alpha in (1.0, 1.2, 1.5, 1.9, 2.0, 2.5, 3.0) else 1e-6  # the oracle subtracts and divides by 1e-9
    assert hopmin.tsallis_entropy(p, alpha) == pytest.approx(helpers.tsallis(p, alpha), abs=tiny * 40)
    assert hopmin.tsallis_entropy(np.eye(n)[0], alpha) == 0
    most = math.log(n) if alpha == 1 else -math.expm1((1 - alpha) * math.log(n)) / (alpha * (alpha - 1))
    assert hopmin.tsallis_entropy(np.full(n, 1 / n), alpha) == pytest.approx(most, abs=1e-14)
    assert 0 <= hopmin.tsallis_entropy(p, alpha) <= most + 1e-14
    assert np.isnan(hopmin.tsallis_entropy([*p, np.nan], alpha))
    assert np.isnan(hopmin.tsallis_entropy([*p, -1e-9], alpha))
