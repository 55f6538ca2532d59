"""Compiled modules and their NumPy twins agree: names, order, signatures, docstrings, steps and values."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hopmin
from hopmin import _backend, _core_numpy
from hopmin.memory.reduction import reduce, scores
from hopmin.testing import problems

MODULES = ["core", "layers", "buffers"]
KINDS = {"compiled": "", "numpy": "_numpy"}
DTYPES = ["float32", "float64"]

pytestmark = pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="only one backend is installed")


def twin(name, kind):
    return import_module(f"hopmin._{name}{KINDS[kind]}")


@pytest.fixture(params=MODULES)
def twins(request):
    """A compiled module and its NumPy twin."""
    return twin(request.param, "compiled"), twin(request.param, "numpy")


# Names, signatures and sources


def test_the_backend_uses_modules_of_one_kind():
    for name in MODULES:
        assert getattr(_backend, name) is twin(name, hopmin.BACKEND)


def test_twins_have_the_same_functions(twins):
    compiled, numpy = twins
    assert compiled.FUNCTIONS == numpy.FUNCTIONS
    for name in numpy.FUNCTIONS:
        one, other = (inspect.signature(getattr(module, name)).parameters.values() for module in twins)
        assert [(p.name, p.kind, p.default) for p in one] == [(p.name, p.kind, p.default) for p in other]


def test_twins_share_one_docstring(twins):
    compiled, numpy = twins
    for name in numpy.FUNCTIONS:
        assert getattr(compiled, name).__doc__ is getattr(numpy, name).__doc__
        assert getattr(numpy, name).__doc__


def test_twins_have_the_same_constants():
    compiled, numpy = twin("core", "compiled"), twin("core", "numpy")
    for name in ("PANEL", "TILE", "SMALLEST", "LARGEST", "OUTWARDS"):
        assert getattr(compiled, name) == getattr(numpy, name)


@pytest.fixture(params=MODULES)
def sources(request):
    """The texts of a compiled module and of its NumPy twin."""
    package = Path(__file__).resolve().parents[2] / "hopmin"
    return [(package / f"_{request.param}{end}").read_text(encoding="utf-8") for end in (".pyx", "_numpy.py")]


def test_twins_define_functions_in_the_same_order(sources):
    compiled, numpy = (re.findall(r"^def ([a-z]\w*)", source, re.M) for source in sources)
    assert compiled == numpy


def test_twins_have_the_same_numbered_steps(sources):
    compiled, numpy = (re.findall(r"^def ([a-z]\w*)|# (\d)\. ([\w ]+)", source, re.M) for source in sources)
    assert compiled == numpy


def test_the_core_has_numbered_steps():
    source = inspect.getsource(_core_numpy)
    assert re.findall(r"# (\d)\. ", source) == list("123121234123456123")


# Results


def called(function, *arguments):
    """Return what a function returns, and the arrays it was given, some of which it may have overwritten."""
    result = function(*arguments)
    return [*(result if isinstance(result, tuple) else [result]), *(a for a in arguments if isinstance(a, np.ndarray))]


def reduction(a, first=0):
    """The arrays of a reduction for 5 queries, 3 value dimensions and 4 neighbours, as if 4 patterns were absorbed."""
    best = -np.sort(np.abs(a(5, 4)).astype(float))
    total, mix = np.abs(a(5)).astype(float) + 1, a(5, 3).astype(float)
    return [best[:, 0].copy(), total, mix, best, np.tile(np.arange(first, first + 4), (5, 1))]


def codes(module, a):
    """Panels of 150 patterns in 7 dimensions, and their codes."""
    panels, centre = a(3, 7, 64), a(7)
    words, bounds = np.zeros((3, 2, 64), np.uint32), np.zeros((3, 3, 64), np.float32)
    module.encode(panels, 150, centre, words, bounds)
    return panels, 150, centre, words, bounds


def attention_of_a_token(module, a):
    keys, values = np.ascontiguousarray(a(3, 3, 9, 4).mT).mT, a(3, 3, 9, 4)
    start = np.array([0, 3, 8], np.intp)
    return called(module.attend, a(3, 36), a(36), keys, values, start, 7, a(3, 12))


def arrays_within(module, a):
    with module.within(module.pool()):
        one, zeros = a(300, 100) + 1, np.zeros((300, 100))
        del zeros
        return one, np.zeros((300, 100)), np.ones((300, 100))


# For each function, a call with arrays from a(*shape), and the tolerated difference of the twins' results, in epsilons of
# their largest number.
CALLS = {
    "core": {
        "standard_state": (0, lambda module, a: called(lambda: module.restore_state(module.standard_state()))),
        "restore_state": (0, lambda module, a: called(lambda: module.restore_state(module.standard_state()))),
        "max_abs": (0, lambda module, a: called(module.max_abs, a(200))),
        "exp_nonpositive": (4, lambda module, a: called(module.exp_nonpositive, -np.abs(a(200)), a(200))),
        "pack": (0, lambda module, a: called(module.pack, a(150, 7), a(3, 7, 64))),
        "unpack": (0, lambda module, a: called(module.unpack, a(3, 7, 64), a(150, 7))),
        "encode": (0, lambda module, a: called(module.encode, *codes(module, a))),
        "scores": (0, lambda module, a: called(module.scores, a(5, 7), a(150, 7), "euclidean", np.ones((5, 150)))),
        "gather": (0, lambda module, a: called(module.gather, a(5, 7), a(150, 7), 150, "dot", a(5).astype(float), 10)),
        "search": (0, lambda module, a: called(module.search, a(5, 7), *codes(module, a), "dot", np.array([3, 0, 2**40], np.uint64), 10, *reduction(a)[3:])),
        "absorb": (1000, lambda module, a: called(module.absorb, a(5, 7), a(600, 7), a(600, 3), "dot", 0.5, 10, *reduction(a))),
        "merge": (4, lambda module, a: called(module.merge, 0.5, *reduction(a), *reduction(a, 4))),
    },
    "layers": {
        "layer_norm_forward": (64, lambda module, a: called(module.layer_norm_forward, a(2, 3, 20), a(20), a(20), 1e-5)),
        "layer_norm_backward": (64, lambda module, a: called(module.layer_norm_backward, a(2, 3, 20), a(2, 3, 20), a(2, 3, 1), a(20), a(20))),
        "gelu_and_derivative": (64, lambda module, a: called(module.gelu_and_derivative, a(2, 30))),
        "causal_softmax": (64, lambda module, a: called(module.causal_softmax, a(2, 5, 8), 0.7)),
        "causal_softmax_backward": (64, lambda module, a: called(module.causal_softmax_backward, a(2, 5, 8), module.causal_softmax(a(2, 5, 8), 0.7), 0.7)),
        "adamw": (64, lambda module, a: called(module.adamw, a(20), a(20), a(20), np.abs(a(20)), 0.9, 0.99, 0.98, 0.1, 1e-8)),
        "attend": (64, attention_of_a_token),
        "activate": (64, lambda module, a: called(module.activate, a(2, 20), a(20), False) + called(module.activate, a(2, 20), a(20), True)),
        "add_and_norm": (200, lambda module, a: called(
            module.add_and_norm, a(2, 20), a(2, 20), a(20), a(20), a(20), a(2, 20), a(2), a(2, 20), False)),
    },
    "buffers": {
        "pool": (0, arrays_within),
        "within": (0, arrays_within),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_values_of_all_functions_are_compared(name):
    assert [*CALLS[name]] == [function for function in twin(name, "numpy").FUNCTIONS if function != "simd"]


@pytest.mark.parametrize(("name", "function"), [(name, function) for name in MODULES for function in CALLS[name]])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(3))
def test_twins_compute_the_same(name, function, dtype, seed):
    slack, call = CALLS[name][function]
    results = []
    for kind in KINDS:
        rng = np.random.default_rng(seed)
        results.append(call(twin(name, kind), lambda *shape, rng=rng: rng.normal(size=shape).astype(dtype)))
    for one, other in zip(*results, strict=True):
        if not isinstance(other, np.ndarray):
            assert type(one) is type(other)
            assert one == other
            continue
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        atol = slack * np.finfo(dtype).eps * max(1, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


# Results of hopmin's functions on both


def on_both(function):
    """Return the results of function() with the compiled core and with its twin."""
    results = []
    for kind in KINDS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_backend, "core", twin("core", kind))
            results.append(function())
    return results


@given(problem=problems(), metric=st.sampled_from(["euclidean", "dot"]), v=st.integers(0, 3), data=st.data())
def test_reductions_differ_by_rounding_only(problem, metric, v, data):
    x, p, beta = problem
    k = data.draw(st.integers(0, len(p)))
    values = np.random.default_rng(v).normal(size=(len(p), v)).astype(p.dtype)
    one, other = on_both(lambda: reduce(x, p, values, metric=metric, beta=beta, k=k))
    np.testing.assert_array_equal(one.best, other.best)
    np.testing.assert_array_equal(one.indices, other.indices)
    # rounding of the scores, and of the weights: by beta times that, or by the threshold for exact scores; exact products
    # of float64 have that rounding, too
    (n, d), eps = p.shape, np.finfo(p.dtype).eps
    size = np.abs(one.peak) if metric == "euclidean" else np.abs(x).sum(axis=1, dtype=float) * np.abs(p).max()
    off = (d + 8) * eps * size
    threshold = np.inf if metric == "dot" and p.dtype == np.float64 else np.sqrt(d + 8) / 256
    relative = 2 * np.minimum(beta * off, threshold) + (8 + n) * eps
    for a, b, slack in (
        (one.peak, other.peak, off),
        (one.soft_maximum, other.soft_maximum, off + relative / beta),
        (one.mean, other.mean, relative[:, None] * 2 * np.abs(values).max(initial=0)),
    ):
        assert (np.abs(a - b) <= slack).all()


@given(problem=problems(), metric=st.sampled_from(["euclidean", "dot"]))
def test_exact_scores_are_bit_for_bit_the_same(problem, metric):
    one, other = on_both(lambda: scores(problem.queries, problem.patterns, metric))
    np.testing.assert_array_equal(one, other)


@given(problem=problems(), metric=st.sampled_from(["euclidean", "dot", "cosine"]), radius=st.sampled_from([0.3, 1.0, 2.0, np.inf]))
def test_neighbours_within_a_radius_are_bit_for_bit_the_same(problem, metric, radius):
    x, p, _ = problem
    if metric == "cosine" and not (x.any(axis=1).all() and p.any(axis=1).all()):
        return
    one, other = on_both(lambda: hopmin.within(x, p, radius, metric=metric, csr=True))
    for a, b in zip(one, other, strict=True):
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())


@pytest.mark.parametrize("call", [
    lambda: hopmin.nearest([1.0], [[1.0]], k=2),
    lambda: hopmin.nearest([[1.0]], [[1.0, 2.0]]),
    lambda: hopmin.DistanceEnergy().update([[1.0]], [[1.0]], values=[[1.0], [2.0]]),
])  # fmt: skip
def test_error_messages_are_the_same(call):
    def message():
        with pytest.raises(ValueError) as caught:
            call()
        return str(caught.value)

    one, other = on_both(message)
    assert one == other


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_results_of_a_query_ignore_its_batch(dtype):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(9, 5)).astype(dtype), rng.normal(size=(300, 5)).astype(dtype)
    batch = reduce(x, p, p, metric="euclidean", k=4)
    for i in range(len(x)):
        alone = reduce(x[i : i + 1], p, p, metric="euclidean", k=4)
        for a, b in zip(batch[1:], alone[1:], strict=True):
            assert a[i : i + 1].tobytes() == b.tobytes()
