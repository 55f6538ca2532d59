"""The two cores are one: names, order, signatures, docstrings, steps, values."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hopmin
from hopmin import _backend, _core_numpy
from hopmin.memory.reduction import reduce, scores
from hopmin.testing import problems

pytestmark = pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="there is one core only")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def compiled():
    from hopmin import _core

    return _core


def test_they_hold_the_same_functions_with_one_signature_and_docstring(compiled):
    assert compiled.FUNCTIONS == _core_numpy.FUNCTIONS
    for name in _core_numpy.FUNCTIONS:
        ours, theirs = getattr(compiled, name), getattr(_core_numpy, name)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert ours.__doc__ == theirs.__doc__ != ""
    assert (compiled.PANEL, compiled.TILE) == (_core_numpy.PANEL, _core_numpy.TILE)


def source(name):
    return (ROOT / "hopmin" / name).read_text(encoding="utf-8")


def test_they_stand_in_the_same_order():
    defined = [re.findall(r"^def ([a-z]\w*)", source(name), re.M) for name in ("_core_numpy.py", "_core.pyx")]
    assert defined[0] == defined[1] == list(_core_numpy.FUNCTIONS)


def test_they_take_the_same_numbered_steps():
    steps = [
        re.findall(r"# (\d)\. ([\w ]+)", source(name).split("def absorb")[1]) for name in ("_core_numpy.py", "_core.pyx")
    ]
    assert steps[0] == steps[1]
    assert [number for number, _ in steps[0]] == list("123456123")


def both(function):
    results = []
    for core in (_core_numpy, __import__("hopmin._core", fromlist=["_core"])):
        kept, _backend.core = _backend.core, core
        try:
            results.append(function())
        finally:
            _backend.core = kept
    return results


@given(problem=problems(), metric=st.sampled_from(["euclidean", "dot"]), v=st.integers(0, 3), data=st.data())
def test_they_reduce_alike(problem, metric, v, data):
    x, p, beta = problem
    k = data.draw(st.integers(0, len(p)))
    values = np.random.default_rng(v).normal(size=(len(p), v)).astype(p.dtype)
    one, other = both(lambda: reduce(x, p, values, metric=metric, beta=beta, k=k))
    np.testing.assert_array_equal(one.best, other.best)
    np.testing.assert_array_equal(one.indices, other.indices)
    # rough scores are off by so much, and change weights by that times beta, or by what is not looked at again
    (n, d), eps = p.shape, np.finfo(p.dtype).eps
    size = np.abs(one.peak) if metric == "euclidean" else np.abs(x).sum(axis=1, dtype=float) * np.abs(p).max()
    off = (d + 8) * eps * size
    share = 2 * np.minimum(beta * off, np.sqrt(d + 8) / 256) + (8 + n) * eps
    for a, b, slack in (
        (one.peak, other.peak, off),
        (one.soft_maximum, other.soft_maximum, off + share / beta),
        (one.mean, other.mean, share[:, None] * 2 * np.abs(values).max(initial=0)),
    ):
        assert (np.abs(a - b) <= slack).all()


@given(problem=problems(), metric=st.sampled_from(["euclidean", "dot"]))
def test_they_score_alike(problem, metric):
    one, other = both(lambda: scores(problem.queries, problem.patterns, metric))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("call", [
    lambda: hopmin.nearest([1.0], [[1.0]], k=2),
    lambda: hopmin.nearest([[1.0]], [[1.0, 2.0]]),
    lambda: hopmin.DistanceEnergy().update([[1.0]], [[1.0]], values=[[1.0], [2.0]]),
])  # fmt: skip
def test_they_complain_alike(call):
    def complaint():
        with pytest.raises(ValueError) as caught:
            call()
        return str(caught.value)

    one, other = both(complaint)
    assert one == other


def test_the_compiled_core_is_the_same_for_a_batch_and_its_rows(compiled):
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        x, p = rng.normal(size=(9, 5)).astype(dtype), rng.normal(size=(300, 5)).astype(dtype)
        batch = reduce(x, p, p, metric="euclidean", k=4)
        for i in range(len(x)):
            row = reduce(x[i : i + 1], p, p, metric="euclidean", k=4)
            for a, b in zip(batch[1:], row[1:], strict=True):
                assert a[i : i + 1].tobytes() == b.tobytes()
