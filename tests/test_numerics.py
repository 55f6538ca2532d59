"""numerics: SciPy's answers, edge cases included, without SciPy's warnings."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
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
def test_edge_cases_are_scipys(name, a):
    ours, theirs = getattr(hopmin, name)(a), scipys(name, a)
    assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    assert np.shape(ours) == np.shape(theirs)
    # SciPy's log_softmax drops what log1p keeps
    np.testing.assert_allclose(ours, theirs, rtol=4 * np.finfo(ours.dtype).eps, atol=1e-17)
    assert type(ours) is type(theirs)


@given(
    a=npst.arrays(np.float64, npst.array_shapes(max_dims=3, max_side=4), elements=st.floats(-700, 700)),
    keepdims=st.booleans(),
    data=st.data(),
)
def test_axes_and_weights_are_scipys(a, keepdims, data):
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
def test_weights_of_any_kind_are_scipys(a, b):
    np.testing.assert_allclose(hopmin.logsumexp(a, b=b), scipys("logsumexp", a, b=b), rtol=1e-15)


def test_a_weight_of_zero_is_zero_times_anything():
    assert hopmin.logsumexp([710.0], b=[0.0]) == -INF  # where SciPy multiplies it with an overflow


def test_nothing_below_a_cancelled_maximum_is_lost():
    assert hopmin.logsumexp([0, 0, -50], b=[1, -1, 1]) == -50


def test_an_empty_sum_is_the_logarithm_of_zero():
    assert hopmin.logsumexp([]) == -INF
    np.testing.assert_array_equal(hopmin.logsumexp(np.zeros((0, 3)), axis=0), [-INF] * 3)
    assert hopmin.logsumexp(np.zeros((0, 3)), axis=1).shape == (0,)
    assert hopmin.softmax(np.zeros((0, 3)), axis=1).shape == (0, 3)


@pytest.mark.parametrize("function", [hopmin.softmax, hopmin.log_softmax])
def test_an_empty_slice_has_no_softmax(function):
    with pytest.raises(ValueError, match=r"^x must not be empty along axis 1; got shape \(3, 0\)$"):
        function(np.zeros((3, 0)), axis=1)


@given(npst.arrays(np.float64, st.integers(1, 6), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_no_finite_input_overflows_or_warns(a):
    with np.errstate(all="raise"):  # warnings are errors already; this asks NumPy for the silent ones too
        value, weights, logs = hopmin.logsumexp(a), hopmin.softmax(a), hopmin.log_softmax(a)
    assert value >= a.max()
    assert weights.sum() == pytest.approx(1, abs=1e-15 * len(a))
    assert not np.isnan(logs).any()


@pytest.mark.parametrize("function", [hopmin.logsumexp, hopmin.softmax, hopmin.log_softmax])
@pytest.mark.parametrize("a", [[1j], ["a"], [None], [[1], [1, 2]]], ids=repr)
def test_what_is_not_real_is_refused(function, a):
    with pytest.raises(
        (TypeError, ValueError), match=r"^[ax] must be (real numbers; got dtype|an array of numbers; got rows)"
    ):
        function(a)


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(np.exceptions.AxisError):
        hopmin.logsumexp([1.0, 2.0], axis=1)
