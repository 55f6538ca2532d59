"""Adapters: arrays of another library go in and come back as NumPy's; functions of one vector."""

import sys
import types

import numpy as np
import pytest

import hopmin
from hopmin.testing import conformance
from hopmin.testing.adapters import Adapted, adapt, keeps, one_by_one
from hopmin.testing.registry import FAMILIES


class Other:
    """An array of a library that does not mix with NumPy."""

    __array_ufunc__ = None

    def __init__(self, a):
        self.a = a
        self.dtype = a.dtype

    def __array_namespace__(self):
        return library

    def __array__(self, dtype=None, copy=None):
        return self.a


library = types.ModuleType("fake_arrays")
library.asarray = lambda a: Other(np.asarray(a, np.float32 if library.single else None))
library.single = False


@pytest.fixture
def single():
    """The library without float64, as JAX by default."""
    library.single = True
    yield
    library.single = False


def softmax(a, axis=None):
    if not isinstance(a, Other):
        raise TypeError("only arrays of the library are taken")
    return Other(hopmin.softmax(a.a, axis))


def from_numpy(a, axis=None):
    """Take anything, return arrays of the library."""
    return Other(hopmin.softmax(np.asarray(a), axis))


def twice(a, axis=None):
    return Other(2 * hopmin.softmax(a.a, axis))


class Energy:
    def __init__(self, beta):
        self.energy = hopmin.DistanceEnergy(beta)

    def value(self, x, p):
        return Other(self.energy.value(x.a, p.a))


@pytest.mark.parametrize("function", [softmax, from_numpy])
def test_a_library_is_recognised(function):
    adapted, _ = adapt(function, FAMILIES["softmax"])
    assert isinstance(adapted, Adapted)
    np.testing.assert_array_equal(adapted(np.array([0.0, 1.0])), hopmin.softmax([0.0, 1.0]))


def test_a_wrong_function_of_a_library_fails():
    module = types.SimpleNamespace(
        softmax=twice, logsumexp=lambda a, axis=None: Other(np.asarray(hopmin.logsumexp(a.a, axis)))
    )
    sys.modules["array_api_strict"], before = library, sys.modules.get("array_api_strict")
    try:
        report = conformance(module, "softmax", examples=20, seed=0)
    finally:
        sys.modules.pop("array_api_strict")
        if before:
            sys.modules["array_api_strict"] = before
    assert "failed" in {row.status for row in report.rows}


def test_objects_that_are_returned_are_adapted():
    report = conformance(Energy, "energy", examples=10, seed=0, promises=["distance"])
    assert {row.law: row.status for row in report.rows}["law_bounds"] == "passed"


def test_numpy_is_left_alone():
    assert adapt(hopmin.softmax, FAMILIES["softmax"])[0] is hopmin.softmax
    assert not keeps(hopmin.softmax, "bfloat16")


def test_a_dtype_that_is_not_kept_is_not_judged(single):
    report = conformance(softmax, "softmax", examples=10, seed=0)
    assert report.dtypes == ("float32",)
    assert "failed" not in {row.status for row in report.rows}
    with pytest.raises(ValueError, match=r"dtype must be one that .*softmax keeps: float32; got float64"):
        conformance(softmax, "softmax", dtype="float64")


def test_a_function_of_one_vector_is_called_for_each():
    def vector(a):
        assert a.ndim == 1
        return np.exp(a - a.max()) / np.exp(a - a.max()).sum()

    a = np.random.default_rng(0).normal(size=(2, 3, 4))
    for axis in (None, 0, -1):
        np.testing.assert_allclose(
            one_by_one(vector, "softmax")(a, axis=axis), hopmin.softmax(a, axis=axis), atol=1e-15
        )
    assert one_by_one(lambda a: a.sum(), "logsumexp")(a).shape == ()
    assert one_by_one(lambda a: a.sum(), "logsumexp")(a, axis=1).shape == (2, 4)


def test_a_function_of_one_query_is_called_for_each():
    x, p = np.random.default_rng(0).normal(size=(2, 5, 3))
    for found, expected in zip(one_by_one(hopmin.nearest, "nearest")(x, p, 2), hopmin.nearest(x, p, 2), strict=True):
        np.testing.assert_array_equal(found, expected)
    e, rows = hopmin.DistanceEnergy(2.0), one_by_one(hopmin.DistanceEnergy, "energy")(2.0)
    np.testing.assert_allclose(rows.value(x, p), e.value(x, p), rtol=1e-14)
    np.testing.assert_allclose(rows.guaranteed_decrease(x, p), e.guaranteed_decrease(x, p), rtol=1e-14)


def test_pytorch_keeps_four_dtypes():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def softmax(a, axis=None):
        return torch.softmax(a, axis) if axis is not None else torch.softmax(a.ravel(), 0).reshape(a.shape)

    for dtype in ("float64", "float32", "float16", "bfloat16"):
        report = conformance(softmax, "softmax", dtype=dtype, examples=20, seed=0)
        assert "failed" not in {row.status for row in report.rows}, report
