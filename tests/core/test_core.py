"""The core: exact search and accurate sums, for every instruction set that this machine has."""

import functools
import json
import os
import pickle
import re
import sys
from fractions import Fraction

import helpers
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import hopmin
from hopmin import _backend
from hopmin.memory import reduction
from hopmin.memory.reduction import NO_BITS, Reduction, bits, reduce

PANEL, TILE, BLOCK = _backend.core.PANEL, _backend.core.TILE, reduction.BLOCK
EDGES = [1, 2, PANEL - 1, PANEL, PANEL + 1, TILE - 1, TILE, TILE + 1, 2 * TILE + 3]
METRICS = ["euclidean", "dot"]
ENERGIES = [hopmin.DistanceEnergy, hopmin.DotEnergy]
DTYPES = ["float32", "float64"]

pytestmark = pytest.mark.usefixtures("simd")


# Strategies


def ulps(points, count, rng):
    """Points whose numbers are moved by up to `count` floats each."""
    integer = f"int{8 * points.itemsize}"
    return (points.view(integer) + rng.integers(-count, count + 1, points.shape, integer)).view(points.dtype)


def shell(rng, m, n, d, dtype):
    """Patterns equally far from each query up to rounding: float32 alone finds a random one nearest."""
    p = rng.normal(size=(n, d))
    x = np.tile(rng.normal(size=d).astype(dtype), (m, 1))
    return x, (x[0] + 3 * p / np.linalg.norm(p, axis=1, keepdims=True)).astype(dtype)


def specks(rng, m, n, d, dtype):
    """Patterns that differ only in their last bits."""
    p = ulps(np.tile(rng.normal(size=d).astype(dtype), (n, 1)), 2, rng)
    return rng.normal(size=(m, d)).astype(dtype), p


def lattice(rng, m, n, d, dtype):
    return rng.integers(-2, 3, (m, d)).astype(dtype), rng.integers(-2, 3, (n, d)).astype(dtype)


def crowd(rng, m, n, d, dtype):
    return rng.normal(size=(m, d)).astype(dtype), rng.normal(size=(n, d)).astype(dtype)


def denormal(rng, m, n, d, dtype):
    """Numbers whose squares underflow in float32."""
    return tuple((1e-40 * a).astype(dtype) for a in crowd(rng, m, n, d, "float64"))


def huge(rng, m, n, d, dtype):
    """Numbers whose squares overflow in float32, some close to the largest float32."""
    size = float(np.finfo("float32").max) / np.sqrt(d) / 2
    return tuple((size * rng.uniform(-1, 1, (count, d)) ** 9).astype(dtype) for count in (m, n))


def origin(rng, m, n, d, dtype):
    """Queries and patterns at the origin, all equal."""
    return np.zeros((m, d), dtype), np.zeros((n, d), dtype)


def copies(rng, m, n, d, dtype):
    """Runs of the same pattern, some longer than a tile, of which several are equally far from the origin."""
    p = rng.integers(-1, 2, (3, d)).astype(dtype)
    return np.zeros((m, d), dtype), p[np.arange(n) // rng.choice([PANEL, TILE // 2, TILE]) % 3]


KINDS = [shell, specks, lattice, crowd, denormal, huge, origin, copies]


@st.composite
def clouds(draw, kinds=KINDS, dtypes=DTYPES, most=2 * TILE + 3):
    """Queries and patterns that are hard to distinguish; n is at, below and above multiples of panels and tiles."""
    n = draw(st.sampled_from([edge for edge in EDGES if edge <= most]) | st.integers(1, most))
    m, d = draw(st.integers(1, 13)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x, p = draw(st.sampled_from(kinds))(rng, m, n, d, draw(st.sampled_from(dtypes)))
    if draw(st.booleans()) and np.abs(p).max() < 1e3:
        offset = draw(st.sampled_from([1e2, 1e3, 1e4, 1e6][: 3 if p.itemsize == 2 else 4]))
        x, p = (x + offset).astype(x.dtype), (p + offset).astype(p.dtype)
    if draw(st.booleans()):
        x[0] = p[rng.integers(n)]
    if draw(st.booleans()):
        p[rng.integers(n, size=n // 3)] = p[rng.integers(n, size=n // 3)]  # duplicates
    return x, p


def neighbour_counts(n):
    """Draw k: one, a few, more than a tile, or all."""
    return st.sampled_from([k for k in (1, 2, 5, TILE + 1, n) if k <= n]) | st.integers(1, n)


def same_bits(one, other):
    one, other = (a if isinstance(a, tuple) else (a,) for a in (one, other))
    for a, b in zip(one, other, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


@pytest.fixture
def small_blocks(monkeypatch):
    """Use blocks of two panels, so that few patterns make many blocks."""
    monkeypatch.setattr(reduction, "BLOCK", 2 * PANEL)
    return 2 * PANEL


# Exact search


def assert_nearest(x, p, k, metric="euclidean"):
    """Assert that indices, their order and distances are bit for bit those of brute force in float64."""
    distances, indices = helpers.ranked(x, p, k, metric)
    same_bits(hopmin.nearest(x, p, k, metric=metric), (distances.astype(p.dtype), indices))


@given(cloud=clouds(), data=st.data())
def test_nearest_equals_brute_force_in_float64(cloud, data):
    x, p = cloud
    assert_nearest(x, p, data.draw(neighbour_counts(len(p))))


@given(cloud=clouds(kinds=[shell, specks, lattice, crowd, denormal, origin]), data=st.data())
def test_dot_products_equal_brute_force_in_float64(cloud, data):
    x, p = cloud
    assert_nearest(x, p, data.draw(neighbour_counts(len(p))), "dot")


@pytest.mark.parametrize("k", [1, 3, TILE + 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_of_copies_the_first_are_nearest_in_any_order(k, dtype):
    x, p = np.ones((2, 3), dtype), np.zeros((2 * TILE, 3), dtype)
    backwards = Reduction.identity(None, m=2, k=k)
    for first in (4 * TILE, 2 * TILE, 0):
        backwards.absorb(x, p, p[:, :0], "euclidean", first=first)
    assert (backwards.indices == np.arange(k)).all()
    for nearer in (slice(TILE, TILE + 1), slice(TILE, None)):
        p[:] = 0
        p[nearer] = 1
        assert_nearest(x, p, k)


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_candidates_are_dropped_in_any_order_of_distance(k, order):
    rng = np.random.default_rng(k)
    p = np.sort(rng.normal(size=2 * TILE + 3).astype("float32"))[:, None]
    p = {"ascending": p, "descending": p[::-1], "random": rng.permutation(p)}[order]
    assert_nearest(np.array([[-5.0], [0.0]], "float32"), np.ascontiguousarray(p), k)


@pytest.mark.parametrize("n", [*EDGES, BLOCK - 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nearest_works_for_any_n_and_k(n, dtype):
    rng = np.random.default_rng(n)
    for kind in (specks, lattice):
        x, p = kind(rng, 2, n, 3, dtype)
        for k in {1, min(7, n), min(TILE + 1, n), n}:
            for metric in METRICS:
                assert_nearest(x, p, k, metric)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 191, 192, 193, reduction.TASK - 1, reduction.TASK, reduction.TASK + 1])
def test_nearest_works_for_any_number_of_queries(m):
    rng = np.random.default_rng(m)
    for kind in (shell, crowd):
        x, p = kind(rng, m, 150, 5, "float32")
        assert_nearest(rng.permuted(x, axis=1), p, 3)


@pytest.mark.parametrize("d", [*range(1, 10), 15, 16, 17, 64, 100])
def test_nearest_works_for_any_number_of_dimensions(d):
    rng = np.random.default_rng(d)
    for kind in (shell, specks, crowd):
        for metric in METRICS:
            assert_nearest(*kind(rng, 3, 200, d, "float32"), 9, metric)


@pytest.mark.parametrize("offset", [0, 1e2, 1e3, 1e4, 1e6])
def test_nearest_is_exact_far_from_the_origin(offset):
    p = (offset + np.random.default_rng(0).normal(size=(3000, 64))).astype(np.float32)
    assert_nearest(p[:40], p, 10)


@pytest.mark.parametrize("kind", [shell, specks])
def test_scores_that_float32_ties_or_swaps_are_ordered(kind):
    rng = np.random.default_rng(0)
    for d in (3, 48, 200):
        x, p = kind(rng, 6, 3000, d, "float32")
        rough = np.square(x[:, None, :] - p).sum(axis=2)  # in float32
        assert not np.array_equal(np.argsort(rough, axis=1, kind="stable")[:, :20], helpers.ranked(x, p, 20)[1])
        for metric in METRICS:
            assert_nearest(x, p, 20, metric)


def misleading(metric):
    """A query, the better of two patterns, and the other one.

    float32 rounds the sum of one score up at every step, and that of the other down, so that the other pattern appears to
    be much better.
    """
    d, ulp = 300, 2.0**-23  # of float32 next to 1
    x, down, up = np.zeros((3, 1, d), np.float32)
    if metric == "euclidean":
        down[:], up[:] = np.sqrt(0.495 * ulp), np.sqrt(0.505 * ulp)
        down[0, 0], up[0, 0] = 1 + 2.0**-11, 1 + 2.0**-11 - 4 * ulp
        return x, up, down
    x[:], down[:], up[:] = ulp / 2, 0.99, 1.01
    x[0, 0], down[0, 0], up[0, 0] = 1, 1 + 2.0**-10, 1 + 2.0**-10 - 8 * ulp
    return x, down, up


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("before", [0, 5, TILE, TILE + 70])
def test_nearest_survives_the_worst_rounding(metric, before):
    x, better, other = misleading(metric)
    # far from the query, or so small that the first patterns do not show how large coordinates may be
    rest = np.full((before, x.size), 100 if metric == "euclidean" else -1e-3, np.float32)
    for two in ([better, other], [other, better]):
        p = np.concatenate([rest, *two])
        assert (p[helpers.ranked(x, p, 1, metric)[1]] == better).all()
        for k in {1, 2, min(3, len(p))}:
            assert_nearest(x, p, k, metric)
            same_bits(hopmin.nearest(x, hopmin.Packed(p), k, metric=metric), hopmin.nearest(x, p, k, metric=metric))


@pytest.mark.parametrize("n", [50, 3 * TILE + 9])
def test_products_with_cancellation_are_ordered(n):
    """The error of a product is relative to the magnitudes of its terms, and large coordinates may come late."""
    rng = np.random.default_rng(0)
    x = np.float32([[1, 0, 0, 0, 0, 0, -1, 1], [1e-3, 1e-3, 0, 0, 0, 0, -1, 1]])
    for large in (1.0, 1e4, 1e12):
        p = rng.normal(size=(n, 8)).astype(np.float32)
        p[:, 6] = p[:, 7] = large * np.linspace(1e-3, 1, n)
        assert_nearest(x, p, 25, "dot")
        same_bits(hopmin.nearest(x, hopmin.Packed(p), 25, metric="dot"), hopmin.nearest(x, p, 25, metric="dot"))


@given(cloud=clouds(kinds=[shell, specks, crowd, denormal], most=6))
def test_distances_are_accurate(cloud):
    """Distances of float32 are within an ulp of the true value, of float64 within d + 2 relative epsilons."""
    x, p = cloud
    (d, eps), double = (p.shape[1], np.finfo(p.dtype).eps), p.dtype == np.float64
    distances, indices = hopmin.nearest(x, p, len(p))
    for row, found, places in zip(x, distances, indices, strict=True):
        for distance, i in zip(found, places, strict=True):
            slack = Fraction(float((d + 2) * eps * distance if double else np.spacing(distance)))
            square, distance = helpers.exact_squared_distance(row, p[i]), Fraction(float(distance))
            assert max(0, distance - slack) ** 2 <= square <= (distance + slack) ** 2


@given(cloud=clouds(most=2 * PANEL))
def test_scores_of_rows_and_panels_are_identical(cloud):
    x, p = cloud
    if not np.isfinite(helpers.ranked(x, p, 1)[0]).all():
        return
    core, out = _backend.core, np.full((2, len(x), len(p)), np.nan)
    panels = np.empty((-(-len(p) // PANEL), p.shape[1], PANEL), p.dtype)
    core.pack(p, panels)
    for metric in METRICS:
        core.scores(x, p, metric, out[0])
        core.scores(x, panels, metric, out[1])
        same_bits(out[0], out[1])
        best = 0 - np.sort(-out[0], axis=1, kind="stable")
        distances = helpers.ranked(x, p, len(p), metric)[0]
        same_bits(np.sqrt(0 - best) if metric == "euclidean" else 0 - best, distances)


# Many coordinates, which are scored in parts

PART = 4096  # coordinates


@pytest.mark.parametrize("d", [PART - 1, PART, PART + 1, 2 * PART + 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_coordinates_are_scored_exactly(d, dtype):
    rng = np.random.default_rng(d)
    for n, kind in ((PANEL + 2, specks), (3, crowd)):
        x, p = kind(rng, 7, n, d, dtype)
        for metric in METRICS:
            for k in (1, n):
                assert_nearest(x, p, k, metric)
            same_bits(hopmin.nearest(x, hopmin.Packed(p), 3, metric=metric), hopmin.nearest(x, p, 3, metric=metric))
            out, ranked = np.full((len(x), n), np.nan), helpers.ranked(x, p, n, metric)
            _backend.core.scores(x, p, metric, out)
            best = 0 - np.take_along_axis(out, ranked[1], axis=1)
            same_bits(np.sqrt(best) if metric == "euclidean" else best, ranked[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e3])
def test_energies_in_many_dimensions_equal_plain_loops(beta, dtype):
    x, p = crowd(np.random.default_rng(0), 1, 5, PART + 70, dtype)
    assert_energies(x, p, beta, p)


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="BLAS sums depend on the shape")
@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_of_the_values_are_averaged_independently(dtype):
    x, p = crowd(np.random.default_rng(0), 8, TILE + 3, 4, dtype)
    values = np.random.default_rng(1).normal(size=(len(p), 2 * PART + 9)).astype(dtype)
    whole = hopmin.DistanceEnergy().update(x, p, values)
    for first in (0, PART - 1, PART, 2 * PART + 8):
        part = hopmin.DistanceEnergy().update(x, p, values[:, first : first + 3].copy())
        same_bits(whole[:, first : first + 3].copy(), part)


# Arrays of wrong sizes


def core_calls(n=PANEL + 1, m=5, d=7, v=3, k=4):
    """Each function of the core with arrays that fit, by name."""
    rng = np.random.default_rng(0)
    x, p, values = (rng.normal(size=shape) for shape in ((m, d), (n, d), (n, v)))
    panels = np.zeros((2, d, PANEL))
    reduction = {"peak": np.zeros(m), "total": np.ones(m), "mix": np.zeros((m, v)), "best": np.zeros((m, k)), "indices": np.zeros((m, k), np.int64)}
    codes = {"centre": np.zeros(d), "words": np.zeros((2, 2, PANEL), np.uint32), "bounds": np.zeros((2, 3, PANEL), np.float32)}
    other = {f"other_{name}": a.copy() for name, a in reduction.items()}
    return {
        "exp_nonpositive": {"x": -np.ones(9), "out": np.ones(9)},
        "pack": {"patterns": p, "panels": panels},
        "unpack": {"panels": panels, "patterns": p},
        "scores": {"queries": x, "patterns": p, "metric": "dot", "out": np.zeros((m, n))},
        "scores of panels": {"queries": x, "patterns": panels, "metric": "dot", "out": np.zeros((m, n))},
        "absorb": {"queries": x, "patterns": p, "values": values, "metric": "dot", "beta": 1.0, "first": 0, **reduction},
        "absorb panels": {"queries": x, "patterns": panels, "values": values, "metric": "dot", "beta": 1.0, "first": 0, **reduction},
        "encode": {"panels": panels, "n": n, **codes},
        "search": {"queries": x, "patterns": panels, "n": n, **codes, "metric": "dot", "allowed": np.full(2, 5, np.uint64), "first": 0, "best": reduction["best"], "indices": reduction["indices"]},
        "merge": {"beta": 1.0, **reduction, **other},
    }  # fmt: skip


CUTS = [
    (call, name, axis)
    for call, arguments in core_calls().items()
    for name, a in arguments.items()
    if isinstance(a, np.ndarray)
    for axis in range(a.ndim)
    if (call, name, axis) != ("unpack", "patterns", 0)  # there may be more panels
]


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="NumPy checks the sizes itself")
@pytest.mark.parametrize(("call", "name", "axis"), CUTS)
def test_arrays_that_do_not_fit_together_are_refused(call, name, axis):
    """One array is shorter along one axis than the others ask for."""
    arguments, function = core_calls()[call], getattr(_backend.core, call.split()[0])
    function(*arguments.values())
    short = np.ascontiguousarray(np.delete(arguments[name], -1, axis))
    with pytest.raises(ValueError, match=r"^[a-z_ ]+ must be \d+; got \d+$"):
        function(*{**arguments, name: short}.values())


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="NumPy checks the sizes itself")
def test_values_without_a_soft_half_are_not_averaged():
    x, p = crowd(np.random.default_rng(0), 3, 70, 2, "float64")
    r = reduce(x, p, p, metric="euclidean", beta=None, k=2)
    assert r.mix.shape == (0, 2)
    same_bits(r.indices, helpers.ranked(x, p, 2)[1])


# Codes


def encoded(p, centre):
    """Panels of patterns and their codes: panels, n, centre, words, bounds."""
    n, d = p.shape
    count = -(-n // PANEL)
    panels, words = np.empty((count, d, PANEL), p.dtype), np.empty((count, -(-d // 4), PANEL), np.uint32)
    bounds = np.empty((count, 3, PANEL), np.float32)
    _backend.core.pack(p, panels)
    assert _backend.core.encode(panels, n, centre, words, bounds)
    return panels, n, centre, words, bounds


def assert_found_by_codes(x, p, k, centre, metric="euclidean", mask=None):
    seen = np.arange(len(p)) if mask is None else np.flatnonzero(mask)
    distances, indices = helpers.ranked(x, p[seen], k, metric)
    best, found = np.full((len(x), k), -np.inf), np.full((len(x), k), np.iinfo(np.int64).max)
    assert _backend.core.search(x, *encoded(p, centre), metric, NO_BITS if mask is None else bits(seen, len(p)), 0, best, found)
    best = np.sqrt(0.0 - best) if metric == "euclidean" else 0.0 - best
    same_bits((best.astype(p.dtype), found), (distances.astype(p.dtype), seen[indices]))


@given(cloud=clouds(), data=st.data())
def test_codes_rule_out_no_neighbour(cloud, data):
    x, p = cloud
    centre = data.draw(st.sampled_from([p[0], p[-1] * p.dtype.type(0.5), np.zeros_like(p[0])]))
    assert_found_by_codes(x, p, data.draw(neighbour_counts(len(p))), centre)


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@given(cloud=clouds(), seed=st.integers(0, 2**32), data=st.data())
def test_codes_find_only_allowed_patterns(cloud, seed, data, metric):
    x, p = cloud
    if metric == "dot":
        p = np.clip(p, -1e15, 1e15)
        x = np.clip(x, -1e15, 1e15)
    mask = np.random.default_rng(seed).random(len(p)) < data.draw(st.sampled_from([0.02, 0.5, 1.0]))
    mask[seed % len(p)] = True
    assert_found_by_codes(x, p, data.draw(neighbour_counts(int(mask.sum()))), p[0], metric, mask)


@given(cloud=clouds(kinds=[shell, specks, lattice, crowd, denormal]), data=st.data())
def test_codes_rule_out_no_product(cloud, data):
    x, p = cloud
    centre = data.draw(st.sampled_from([p[0], p[-1] * p.dtype.type(0.5), np.zeros_like(p[0])]))
    assert_found_by_codes(x, p, data.draw(neighbour_counts(len(p))), centre, "dot")


@given(cloud=clouds(kinds=[shell, specks, lattice, crowd], most=1), data=st.data())
def test_bounds_of_codes_hold_and_are_tight(cloud, data):
    """In exact arithmetic: the pattern is no farther from what its integers stand for than the bound, and not 1% nearer."""
    _, p = cloud
    centre = data.draw(st.sampled_from([np.zeros_like(p[0]), np.roll(p[0], 1)]))
    *_, words, bounds = encoded(p, centre)
    scale, away, rest = (Fraction(float(b)) if np.isfinite(b) else -np.inf for b in bounds[0, :, 0])
    q = words[0, :, 0].copy().view(np.uint8).astype(int)[: p.shape[1]] - 128
    u = [Fraction(float(a)) - Fraction(float(b)) for a, b in zip(p[0], centre, strict=True)]
    squared = sum((a - scale * int(b)) ** 2 for a, b in zip(u, q, strict=True))
    image = scale**2 * int((q**2).sum())
    assert away**2 >= squared
    assert rest <= image - away**2
    assert float(away) <= 1.01 * float(squared) ** 0.5 + 4 * np.finfo(p.dtype).eps * float(image) ** 0.5
    assert float(image - away**2 - rest) <= 1e-4 * float(image)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["query", "pattern", "both"])
def test_a_neighbour_at_the_bound_of_its_code_is_found(which, dtype):
    """Along a line, rounding moves query and pattern apart as far as it can; with 1% off any bound one would be lost."""
    x, p = np.full((1, 101), -10, dtype), np.full((TILE + 2, 101), -100, dtype)
    x[0] += 0.49 * (which != "pattern")
    p[-1] = 10 - 0.49 * (which != "query")
    p[1] = x[0] - (p[-1] - x[0]) - 10 * np.finfo(dtype).eps ** 0.8  # almost as near, and found before
    x[:, 0] = p[:, 0] = 127
    assert_found_by_codes(x, p, 1, np.zeros(101, dtype))


@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize("which", ["query", "pattern"])
def test_a_product_at_the_bound_of_its_code_is_found(which, offset):
    """What rounding takes away is parallel to the other vector; with 1% off any bound the largest would be lost."""
    rough, exact = np.full(101, 10.49), np.ones(101)
    rough[0], exact[0] = 127, 0
    x, best = (rough, exact) if which == "query" else (exact, rough)
    p = np.full((TILE + 2, 101), -100.0)
    p[-1], p[1] = best, best * (1 - 1e-7)  # almost as large, and found before
    assert_found_by_codes(x[None], p + offset, 1, np.full(101, offset), "dot")


@pytest.mark.parametrize("size", [1e20, 1e37])
def test_products_that_may_overflow_are_scored_without_codes(size):
    x, p = np.full((3, 9), size, np.float32), np.ones((3 * PANEL, 9), np.float32)
    p[PANEL + 1] = 2
    best, found = np.full((3, 1), -np.inf), np.full((3, 1), np.iinfo(np.int64).max)
    p[0] = 3 if size == 1e20 else 60
    finite = _backend.core.search(x, *encoded(p, np.zeros(9, np.float32)), "dot", NO_BITS, 0, best, found)
    assert finite == (size == 1e20)
    assert not finite or found.tolist() == [[0]] * 3


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 300, PART])
def test_codes_have_any_number_of_dimensions(d):
    rng = np.random.default_rng(d)
    x, p = rng.choice([-1.0, 1.0], (2, d)), rng.choice([-1.0, 1.0], (3 * PANEL + 1, d))  # integers of 127 alone
    assert_found_by_codes(x, p, 3, np.zeros(d))


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-12, 1e15, 1e30, 1e150])
def test_patterns_out_of_range_have_no_codes_and_are_found(size):
    x, p = crowd(np.random.default_rng(0), 3, 3 * PANEL, 5, "float64")
    p[::2] *= size
    x[0] *= size
    assert_found_by_codes(x, p, 2, np.zeros(5))


@pytest.mark.parametrize("edge", ["SMALLEST", "LARGEST"])
def test_a_neighbour_just_out_of_range_is_found(edge):
    size = getattr(_backend.core, edge)
    x, p = np.full((1, 1), size), np.full((2 * PANEL, 1), 2 * size)
    p[1] = size * (1.004 if edge == "SMALLEST" else 0.996)
    p[PANEL + 1] = size * (0.998 if edge == "SMALLEST" else 1.002)
    assert_found_by_codes(x, p, 1, np.zeros(1))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_encode_notices_what_is_not_finite(wrong):
    panels = np.zeros((1, 2, PANEL))
    panels[0, 1, 3] = wrong
    codes = np.zeros(2), np.empty((1, 1, PANEL), np.uint32), np.empty((1, 3, PANEL), np.float32)
    assert not _backend.core.encode(panels, 4, *codes)
    assert _backend.core.encode(panels, 3, *codes)


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_codes_follow_patterns_that_come_and_go(data, dtype):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reduction, "BLOCK", 2 * PANEL)
        follow_codes(data, dtype, 2 * PANEL)


def follow_codes(data, dtype, small_blocks):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = rng.normal(size=(data.draw(st.integers(1, 3 * PANEL)), 8)).astype(dtype)
    packed = hopmin.Packed(rows)
    for change in data.draw(st.lists(st.sampled_from(["add", "add in place", "remove", "replace"]), max_size=4)):
        some = np.sort(rng.choice(len(rows), min(len(rows) - 1, data.draw(st.integers(1, PANEL + 1))), replace=False))
        new = rng.normal(size=(data.draw(st.integers(1, 2 * PANEL)), 8)).astype(dtype)
        if change.startswith("add"):
            packed, rows = packed._added(new, in_place=change == "add in place"), np.concatenate([rows, new])
        elif len(some) and change == "remove":
            packed, rows = packed._without(some), np.delete(rows, some, 0)
        elif len(some):
            new = rng.normal(size=(len(some), 8)).astype(dtype)
            packed, rows = packed._with(some, new), rows.copy()
            rows[some] = new
    assert packed._codes is not None
    for i, codes in enumerate(packed._codes):
        block = rows[i * small_blocks : (i + 1) * small_blocks]
        *_, words, bounds = encoded(block, codes.centre)
        for a, b in ((codes.words, words), (codes.bounds, bounds)):
            flat, true = (c.transpose(1, 0, 2).reshape(c.shape[1], -1)[:, : len(block)] for c in (a, b))
            assert (flat == true).all()
    assert len(packed._codes) == -(-len(rows) // small_blocks)
    x = rng.normal(size=(2, 8)).astype(dtype)
    same_bits(hopmin.nearest(x, packed, k=1), hopmin.nearest(x, rows, k=1))


def test_codes_can_be_left_out():
    p = np.random.default_rng(0).normal(size=(70, 8))
    for codes in (True, False):
        packed = pickle.loads(pickle.dumps(hopmin.Packed(p, codes=codes)))
        assert (packed._codes is not None) == codes
    memory = hopmin.Memory(p)
    memory.add(p)
    assert len(memory._contents.patterns._codes) == 1
    with pytest.raises(TypeError, match="codes must be True or False; got 1"):
        hopmin.Packed(p, codes=1)


# Cosine distance


@given(cloud=clouds(kinds=[shell, specks, crowd, denormal, huge], most=9), data=st.data())
def test_cosine_distances_are_accurate(cloud, data):
    x, p = cloud
    if not (np.abs(x).max(axis=1).all() and np.abs(p).max(axis=1).all()):
        return
    k, eps = data.draw(neighbour_counts(len(p))), np.finfo(float).eps
    distances, indices = hopmin.nearest(x, p, k, metric="cosine")
    off = 2 * (p.shape[1] + 6) * eps  # error of a direction: a length, and a division by it, twice
    for row, found, places in zip(x, distances, indices, strict=True):
        true = np.array([helpers.cosine_distance(row, q) for q in p])
        slack = np.sqrt(2 * np.abs(true)) * off + off**2
        slack += (np.finfo(p.dtype).eps + (p.shape[1] + 3) * eps) * np.abs(true)
        assert (np.abs(found - true[places]) <= slack[places]).all()
        assert len(set(places.tolist())) == k
        assert (np.sort(true - slack)[:k] <= true[places] + slack[places]).all()
        others = np.setdiff1d(np.arange(len(p)), places)
        assert (true[places].max() - slack[places].max() <= (true + slack)[others]).all()


@given(cloud=clouds(kinds=[lattice, crowd, specks], most=2 * PANEL), data=st.data())
def test_cosine_ignores_the_length_of_rows(cloud, data):
    x, p = (a + (np.abs(a).max(axis=1, keepdims=True) == 0) for a in cloud)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    longer, other = (a * 2.0 ** rng.integers(-60, 60, (len(a), 1)).astype(a.dtype) for a in (x, p))
    assert longer.dtype == x.dtype
    k = data.draw(neighbour_counts(len(p)))
    same_bits(hopmin.nearest(longer, other, k, metric="cosine"), hopmin.nearest(x, p, k, metric="cosine"))


@pytest.mark.parametrize("m", [0, 2])
def test_cosine_rejects_rows_of_zeros(m):
    p = np.ones((BLOCK + 5, 2), np.float32)
    for name, i in (("queries", m - 1), ("patterns", 0), ("patterns", BLOCK + 3)):
        x, q = np.ones((m, 2), np.float32), p.copy()
        if m or name == "patterns":
            (x if name == "queries" else q)[i] = 0
            message = rf"^{name} must have no row of zeros for metric 'cosine'; got one at index {i}$"
            with pytest.raises(ValueError, match=message):
                hopmin.nearest(x, q, metric="cosine")


# Energies and updates


def rounding(x, p, beta, metric):
    """Return bounds (m,) of the error of a score near the peak, and of the relative error of the weights."""
    (n, d), eps, double = p.shape, np.finfo(p.dtype).eps, np.finfo(float).eps
    size = helpers.ranked(x, p, 1)[0][:, 0] ** 2 if metric == "euclidean" else np.abs(x).sum(axis=1, dtype=float) * np.abs(p).max()
    off, exact = (d + 3) / 2 * eps * size + d * np.finfo(p.dtype).tiny, (d + 3) * double * size
    # The error of float32 scores is `off`, or the threshold below which they are not computed exactly (0 where they
    # clearly are); that of exact ones is the rounding of float64. The distance y of a score to the peak has an error of
    # a few epsilons, and the sum of y e^-y is at most log n. Then 2 ulp of the exponential, and the sum of up to TILE
    # numbers of that precision.
    rough = beta * off
    if p.dtype == np.float32:
        clear = (rough > np.sqrt(d + 8) / 128) & (metric == "euclidean" or n <= TILE)
        rough = np.where(clear, 0, np.minimum(rough, np.sqrt(d + 8) / 512))
    relative = 2 * (rough + beta * exact) + ((d + 8) * (1 + np.log(n)) + min(n, TILE)) * eps + n * double
    return np.minimum(off, rough / beta) + exact, np.expm1(np.minimum(relative, 700))


def assert_energies(x, p, beta, values):
    eps, double = np.finfo(p.dtype).eps, np.finfo(float).eps
    for kind, metric, oracle in zip(ENERGIES, METRICS, (helpers.distance_energy, helpers.dot_energy), strict=True):
        energy, judge = kind(beta), helpers.squared_distance if metric == "euclidean" else helpers.product
        off, relative = rounding(x, p, beta, metric)
        true = np.array([oracle(row, p, beta) for row in x])
        slack = off + np.log1p(relative) / beta + eps * np.abs(true) + 8 * double * (np.abs(true) + np.log(len(p)) / beta)
        if metric == "dot":
            lengths = np.square(x, dtype=float).sum(axis=1) + np.square(p, dtype=float).sum(axis=1).max()
            slack += (p.shape[1] + 8) * double * lengths
        value = energy.value(x, p)
        assert (np.abs(value - true) <= slack).all(), (metric, value, true, slack)
        sign = -1 if metric == "euclidean" else 1
        weights = [helpers.softmax([sign * beta * judge(row, q) for q in p]) for row in x]
        for w, row, s, found, moved, gradient in zip(
            weights, x, relative, energy.update(x, p, values), energy.update(x, p), energy.gradient(x, p), strict=True
        ):
            mean = np.array(helpers.average(w, values))
            assert (np.abs(found - mean) <= 2 * min(s, 1) * np.abs(values).max() + eps * np.abs(mean)).all(), (metric, found, mean, s)
            mean, size = np.array(helpers.average(w, p)), np.abs(p).max()
            assert (np.abs(moved - mean) <= 2 * min(s, 1) * size + eps * np.abs(mean)).all()
            slope = (3 + sign * -1) / 2 * (row.astype(float) - mean)
            assert (np.abs(gradient - slope) <= 4 * min(s, 1) * size + 4 * eps * (np.abs(row) + np.abs(mean))).all()


@given(
    cloud=clouds(kinds=[shell, specks, lattice, crowd, origin], most=PANEL + 1),
    scale=st.sampled_from([1e-18, 1e-9, 1e-3, 1.0, 1e3, 1e9, 1e18]),
    beta=st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e30]) | st.floats(-3, 3).map(lambda e: 10.0**e),
    v=st.integers(1, 3),
)
def test_energies_and_updates_equal_plain_loops(cloud, scale, beta, v):
    x, p = ((a[:3] if i == 0 else a) / max(1, np.abs(a).max()) for i, a in enumerate(cloud))
    x, p = ((a * scale).astype(a.dtype) for a in (x, p))
    values = np.random.default_rng(v).normal(size=(len(p), v)).astype(p.dtype)
    assert_energies(x, p, beta, values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "v"), [(TILE - 1, 1), (TILE, PANEL - 1), (TILE + 1, PANEL), (PANEL, PANEL + 1), (2 * TILE + 70, 2)])
def test_energies_over_many_tiles_equal_plain_loops(n, v, dtype):
    rng = np.random.default_rng(n)
    values = rng.normal(size=(n, v)).astype(dtype)
    for offset, beta in ((0, 0.5), (1e3, 20.0)):
        x, p = ((a + offset).astype(dtype) for a in crowd(rng, 1, n, 3, dtype))
        assert_energies(x, p, beta, values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("far", [0.0, 30.0, 1e4, 1e15])
@pytest.mark.parametrize("near_first", [True, False])
def test_sums_are_right_if_only_one_tile_matters(far, near_first, dtype):
    x, p = crowd(np.random.default_rng(0), 2, 2 * TILE, 2, dtype)
    p[TILE if near_first else 0 :][:TILE] += far
    assert_energies(x, p, 1.0, p)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_sums_are_right_if_the_peak_rises_or_falls(slope, dtype, small_blocks):
    x, p = crowd(np.random.default_rng(0), 3, 3 * small_blocks + 9, 2, dtype)
    p += (slope * np.linspace(-2, 2, len(p))[:, None]).astype(dtype)
    assert_energies(x - p.dtype.type(2), p, 1.0, p)


@pytest.mark.parametrize("gap", [0.5, 2.0, 8.0])
def test_exact_scores_cover_panels_a_little_farther_away(gap):
    p = np.repeat(np.float32([[1000], [np.sqrt(1e6 + gap)]]), PANEL, axis=0)
    for order in (p, p[::-1].copy()):
        assert_energies(np.float32([[0]]), order, 1.0, np.where(order > 1000, 1, -1).astype(np.float32))


@pytest.mark.parametrize("beta", [1e3, 1e8])
def test_energies_survive_the_worst_rounding(beta):
    for metric in METRICS:
        x, *two = misleading(metric)
        for order in (two, two[::-1]):
            p = np.repeat(np.concatenate(order), PANEL, axis=0)
            assert_energies(x, p, beta, np.repeat(np.float32([[-1], [1]]), PANEL, axis=0))


# All patterns within a radius


def assert_within(x, p, radius, metric):
    """Assert that `within` finds the patterns that exact scores find, by distance and then index."""
    distances, indices, offsets = hopmin.within(x, p, radius, metric=metric, csr=True)
    scores = reduction.scores(x, p, metric)
    exact = np.sqrt(0.0 - scores) if metric == "euclidean" else 0.0 - scores
    for i in range(len(x)):
        order = np.argsort(-scores[i], kind="stable")
        inside = order[exact[i][order] <= radius]
        part = slice(offsets[i], offsets[i + 1])
        same_bits(indices[part], inside)
        same_bits(distances[part], exact[i][inside].astype(p.dtype))
    return exact


@given(cloud=clouds(most=TILE + 1), metric=st.sampled_from(METRICS), data=st.data())
def test_within_finds_what_exact_scores_find(cloud, metric, data):
    """At the distances themselves, beside them, and everywhere."""
    x, p = cloud
    largest = p.shape[1] * np.abs(x).max(initial=0).astype(float) * np.abs(p).max().astype(float)
    assume(metric != "dot" or largest < np.finfo(p.dtype).max)  # products that overflow are refused
    exact = assert_within(x, p, np.inf, metric)
    radius = float(data.draw(st.sampled_from(np.unique(exact).tolist())))
    for one in (radius, np.nextafter(radius, np.inf), np.nextafter(radius, -np.inf)):
        if metric == "dot" or one >= 0:
            assert_within(x, p, one, metric)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EDGES)
def test_within_scores_few_and_many_patterns_of_a_panel(n, dtype):
    """Few are scored one by one, many all at once; here each query has as many as its index, in every panel."""
    p = np.zeros((n, 3), dtype)
    p[:, 0] = np.arange(n) % PANEL + 1
    for packed in (p, hopmin.Packed(p)):
        distances, indices, offsets = hopmin.within(np.zeros((PANEL + 1, 3), dtype), packed, np.arange(PANEL + 1), csr=True, sort=False)
        for i in range(PANEL + 1):
            part = slice(offsets[i], offsets[i + 1])
            same_bits(indices[part], np.flatnonzero(np.arange(n) % PANEL < i))
            same_bits(distances[part], p[indices[part], 0])


@pytest.mark.parametrize("metric", METRICS)
def test_within_is_exact_where_rough_scores_overflow(metric):
    """In float32, squares and products of these numbers are infinite or NaN; the distances are not."""
    p = np.float32([[1e25, -1e25, 1.0], [1e25, -1e25, 2.0], [-1e25, 1e25, 1.0], [0.0, 0.0, 4.0]])
    x = np.float32([[1e25, 1e25, 1.0], [0.0, 0.0, 1.0]])
    for radius in (-1.0, 1.0, 1.5, 2e25):
        if metric == "dot" or radius > 0:
            assert_within(x, p, radius, metric)


# Bit for bit the same results for all chunks, layouts and batches


def copied(r):
    return Reduction(r.beta, *(a.copy() for a in r[1:]))


@given(cloud=clouds(most=3 * PANEL), data=st.data())
def test_k_best_merge_in_any_order_and_grouping(cloud, data):
    x, p = cloud
    n, k = len(p), data.draw(neighbour_counts(len(p)))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2)))
    none = np.empty((n, 0), p.dtype)
    parts = [
        Reduction.identity(None, len(x), 0, k).absorb(x, p[a:b], none[a:b], "euclidean", first=a)
        for a, b in zip([0, *cuts], [*cuts, n], strict=True)
    ]
    whole = reduce(x, p, metric="euclidean", beta=None, k=k)
    a, b, c = (lambda i=i: copied(parts[i]) for i in range(3))
    nothing = Reduction.identity(None, len(x), 0, k)
    for merged in (
        a().merge(b()).merge(c()),
        a().merge(b().merge(c())),
        c().merge(a()).merge(b()),
        nothing.merge(b()).merge(c().merge(a())).merge(Reduction.identity(None, len(x), 0, k)),
    ):
        same_bits(merged[1:], whole[1:])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_of_whole_blocks_give_the_same_bits(metric, dtype, small_blocks):
    x, p = crowd(np.random.default_rng(0), 7, 1000, 3, dtype)
    whole = reduce(x, p, p, metric=metric, beta=0.7, k=5)
    for blocks in (1, 2, 3):
        chunks, size = Reduction.identity(0.7, 7, 3, 5), blocks * small_blocks
        for i in range(0, 1000, size):
            chunks.absorb(x, p[i : i + size], p[i : i + size], metric, first=i)
        same_bits(chunks[1:], whole[1:])


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="BLAS sums depend on the batch")
@given(cloud=clouds(kinds=[shell, crowd, specks, lattice], most=TILE + 1), beta=st.sampled_from([1e-2, 1.0, 1e3]), metric=st.sampled_from(METRICS))
def test_a_batch_equals_its_rows_bit_for_bit(cloud, beta, metric):
    x, p = cloud
    alone = [hopmin.within(row, p, 1.0, metric=metric) for row in x]
    for got, wanted in zip(hopmin.within(x, p, 1.0, metric=metric), zip(*alone, strict=True), strict=True):
        same_bits(tuple(got), wanted)
    batch = reduce(x, p, p, metric=metric, beta=beta, k=min(4, len(p)))
    for i in range(len(x)):
        same_bits(
            tuple(a[i : i + 1] for a in batch[1:]),
            reduce(x[i : i + 1], p, p, metric=metric, beta=beta, k=min(4, len(p)))[1:],
        )


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="BLAS sums depend on the batch")
@pytest.mark.parametrize("metric", METRICS)
def test_results_of_a_query_ignore_other_queries(metric):
    """Patterns grow, and beta covers the threshold above which scores are computed exactly."""
    x, p = crowd(np.random.default_rng(0), reduction.TASK + 7, 2 * TILE + 40, 3, "float32")
    x[:, 2], p[:, :2], p[:, 2] = 0, p[:, :2] / 100, np.linspace(1e-3, 100, len(p))  # the same scores with decreasing precision
    for beta in np.geomspace(1, 1e4, 9):
        batch = reduce(x, p, p, metric=metric, beta=beta)
        for i in (0, reduction.TASK - 1, reduction.TASK, len(x) - 1):
            for patterns in (p, hopmin.Packed(p)):
                alone = reduce(x[i : i + 1], patterns, p, metric=metric, beta=beta)
                same_bits(tuple(a[i : i + 1] for a in batch[1:]), alone[1:])


def mapped(p, tmp_path):
    np.save(tmp_path / "patterns.npy", p)
    return np.load(tmp_path / "patterns.npy", mmap_mode="r")


def strided(p):
    return np.repeat(np.repeat(p, 2, axis=0), 3, axis=1)[::2, ::3]


def read_only(p):
    p = p.copy()
    p.flags.writeable = False
    return p


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda p: p[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "packed": hopmin.Packed,
}


def everything(x, p, k, beta):
    yield from (hopmin.nearest(x, p, k, metric=metric) for metric in (*METRICS, "cosine"))
    distances, indices = hopmin.within(x, p, 1.0)
    yield (*distances, *indices)
    yield from (hopmin.within(x, p, 1.0, metric=metric, sort=False, csr=True) for metric in (*METRICS, "cosine"))
    for kind in ENERGIES:
        energy = kind(beta)
        yield from (f(x, p) for f in (energy.value, energy.gradient, energy.weights, energy.update))


@pytest.mark.parametrize("layout", [*LAYOUTS, "mapped"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_ignore_the_memory_layout_of_patterns(layout, dtype, tmp_path, small_blocks):
    for n in (1, PANEL, PANEL + 1, 5 * PANEL + 7):
        x, p = crowd(np.random.default_rng(n), 3, n, 5, dtype)
        laid = mapped(p, tmp_path) if layout == "mapped" else LAYOUTS[layout](p)
        for got, wanted in zip(everything(x, laid, min(n, 4), 0.5), everything(x, p, min(n, 4), 0.5), strict=True):
            same_bits(got, wanted)


@given(
    cloud=clouds(kinds=[shell, crowd], dtypes=["float16", "float32"], most=PANEL + 1),
    dtypes=st.sampled_from([("float16", "float32"), ("float32", "float64"), ("float64", "float16")]),
)
def test_mixed_dtypes_equal_conversion_beforehand(cloud, dtypes):
    x, p = (a.astype(np.result_type(a, dtype)) for a, dtype in zip(cloud, dtypes, strict=True))
    if not (np.isfinite(x).all() and np.isfinite(p).all()):
        return
    dtype = np.result_type(x, p, np.float32)
    for laid in (p, hopmin.Packed(p)):
        for got, wanted in zip(everything(x, laid, 1, 1.0), everything(x.astype(dtype), p.astype(dtype), 1, 1.0), strict=True):
            same_bits(got, wanted)


# The exponential


def exp_nonpositive(x):
    out = np.full_like(x, np.nan)
    _backend.core.exp_nonpositive(x, out)
    return out


def switches(dtype):
    """Numbers x around which x / log 2 rounds to another integer, with their neighbours; 0, and the least of all."""
    lowest = float(np.log(np.finfo(dtype).tiny))
    points = np.array([*((np.arange(int(lowest / np.log(2)) - 1, 0) + 0.5) * np.log(2)), lowest, -1e-3], dtype)
    floats = points.view(f"i{points.itemsize}")[:, None] + np.arange(-20, 21, dtype=f"i{points.itemsize}")
    return np.sort(np.append(floats.view(dtype).ravel(), [0, -0.0, -np.finfo(dtype).tiny])).astype(dtype)


def exact_exponentials(x):
    """Return the float64 nearest to e^x, and its error."""
    if x.dtype == np.float32:
        return np.exp(x.astype(np.float64)), 0
    with mpmath.workdps(40):
        true = [mpmath.exp(mpmath.mpf(a)) for a in x.tolist()]
        near = np.array(true, float)
        return near, np.array([float(a - mpmath.mpf(b)) for a, b in zip(true, near.tolist(), strict=True)])


def assert_accurate_exponentials(x, true=None):
    """Assert that e^x of ascending x <= 0 is within 2 ulp, ascending and never subnormal."""
    found, tiny = exp_nonpositive(x), np.finfo(x.dtype).tiny
    near, missing = true or exact_exponentials(x)
    off = np.abs(near - found + missing) / np.spacing(np.maximum(near, tiny).astype(x.dtype))
    lost = (found == 0) & (near < tiny * (1 + 4 * np.finfo(x.dtype).eps))
    assert (lost | (off <= 2)).all(), x[np.argmax(~lost * off)]
    assert (np.diff(found) >= 0).all()
    assert ((found == 0) | (found >= tiny)).all()


def magnitudes(dtype):
    """Numbers of all magnitudes down to where e^x is 0, each with its neighbour."""
    rng, lowest = np.random.default_rng(0), float(np.log(np.finfo(dtype).tiny))
    count = 100_000 if dtype == "float32" else 2000
    sizes = [10.0 ** rng.uniform(-12, 0, count), rng.uniform(0, -lowest, count), rng.uniform(0, 3, count)]
    some = -np.concatenate(sizes).astype(dtype)
    return np.sort(np.concatenate([some, np.nextafter(some, np.zeros(1, dtype))]))


@functools.cache
def known(numbers, dtype):
    x = numbers(dtype)
    return x, exact_exponentials(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("numbers", [switches, magnitudes])
def test_exponentials_are_accurate(numbers, dtype):
    assert_accurate_exponentials(*known(numbers, dtype))


@given(x=st.floats(-750, 0), count=st.integers(1, 70), dtype=st.sampled_from(DTYPES))
def test_exponentials_are_monotone_at_any_position(x, count, dtype):
    x = np.full(count, x, dtype)
    for i in range(1, count):
        x[i] = np.nextafter(x[i - 1], np.array(0, dtype))
    found = exp_nonpositive(x)
    assert (np.diff(found) >= 0).all()
    same_bits(found, np.concatenate([exp_nonpositive(x[i : i + 1]) for i in range(count)]))
    if count < 10:
        assert_accurate_exponentials(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials_at_both_ends(dtype):
    far = -np.array([np.inf, np.finfo(dtype).max, 1e30, 1e4, 750], dtype)
    same_bits(exp_nonpositive(far), np.zeros(5, dtype))
    same_bits(exp_nonpositive(np.array([0, -0.0, -np.finfo(dtype).tiny, -np.finfo(dtype).smallest_subnormal], dtype)), np.ones(4, dtype))
    assert len(exp_nonpositive(np.empty(0, dtype))) == 0


@pytest.mark.slow
def test_exponentials_of_all_floats_are_accurate():
    zero, last = (int(np.array(a, np.float32).view(np.uint32)) for a in (-0.0, -88.0))
    for start in range(zero, last + 1, 1 << 22):
        assert_accurate_exponentials(np.arange(start, min(start + (1 << 22) + 1, last + 1), dtype=np.uint32).view(np.float32)[::-1].copy())


# Non-finite numbers and packing


@given(count=st.integers(0, 200), data=st.data(), dtype=st.sampled_from(DTYPES))
def test_max_abs_finds_the_largest_and_the_non_finite(count, data, dtype):
    numbers = np.random.default_rng(count).normal(size=count).astype(dtype)
    assert _backend.core.max_abs(numbers) == np.abs(numbers).max(initial=0)
    if count:
        i = data.draw(st.integers(0, count - 1))
        for large in (np.finfo(dtype).max, np.finfo(dtype).min, 100, -100):
            numbers[i] = large
            assert _backend.core.max_abs(numbers) == abs(numbers[i])
        for strange in (np.nan, np.inf, -np.inf):
            numbers[i] = strange
            assert np.isnan(_backend.core.max_abs(numbers))
        numbers[data.draw(st.integers(0, count - 1))] = -np.inf
        assert np.isnan(_backend.core.max_abs(numbers))


@given(n=st.sampled_from(EDGES) | st.integers(1, 300), d=st.integers(1, 19), dtype=st.sampled_from(DTYPES))
def test_unpack_inverts_pack_bit_for_bit(n, d, dtype):
    p = np.random.default_rng(n).normal(size=(n, d)).astype(dtype)
    panels, back = np.full((-(-n // PANEL), d, PANEL), np.nan, dtype), np.full((n, d), np.nan, dtype)
    _backend.core.pack(p, panels)
    unpacked = panels.transpose(0, 2, 1).reshape(-1, d)
    same_bits(unpacked[:n].copy(), p)
    same_bits(unpacked[n:].copy(), np.repeat(p[-1:], len(unpacked) - n, axis=0))
    _backend.core.unpack(panels, back)
    same_bits(back, p)


@given(
    n=st.sampled_from(EDGES[:5]) | st.integers(1, 200),
    part=st.slices(200) | st.sampled_from([slice(None), slice(64, 128), slice(-3, None), slice(None, None, -1)]),
    dtype=st.sampled_from(DTYPES),
)
def test_packed_patterns_convert_back_to_the_patterns(n, part, dtype):
    p = np.random.default_rng(n).normal(size=(n, 3)).astype(dtype)
    packed = hopmin.Packed(p)
    assert (len(packed), packed.shape, packed.dtype) == (n, (n, 3), p.dtype)
    same_bits(np.asarray(packed), p)
    same_bits(np.asarray(packed, np.float64), p.astype(np.float64))
    same_bits(packed[part].copy(), p[part].copy())


@pytest.mark.parametrize("index", [np.uint8(3), np.int8(-2), np.int64(299), True, np.True_, np.array(7)])
def test_packed_patterns_take_any_integer_as_an_index(index):
    p = np.random.default_rng(0).normal(size=(300, 3))
    same_bits(hopmin.Packed(p)[index], p[index])


@pytest.mark.parametrize("rest", [np.nan, np.inf, -1e30, 0.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_what_follows_the_last_pattern_changes_nothing(rest, dtype, metric):
    """The places after it in its panel may hold anything: a `Memory` writes new patterns there."""
    rng, core = np.random.default_rng(0), _backend.core
    for n in (1, PANEL - 1, PANEL + 1, TILE + 5):
        x, p = (rng.normal(size=(size, 5)).astype(dtype) for size in (7, n))
        panels = np.empty((-(-n // PANEL), 5, PANEL), dtype)
        core.pack(p, panels)
        results = []
        for _ in range(2):
            r, out, back = Reduction.identity(40.0, 7, 5, 3), np.empty((7, n)), np.empty_like(p)
            finite = core.absorb(x, panels, p, metric, 40.0, 0, *r[1:])
            core.scores(x, panels, metric, out)
            core.unpack(panels, back)
            pairs = core.gather(x, panels, n, metric, np.full(7, -1.0), 0)
            results.append([np.array(finite), *r[1:], out, back, *map(np.array, pairs)])
            panels[-1, :, (n - 1) % PANEL + 1 :] = rest
        for one, other in zip(*results, strict=True):
            same_bits(one, other)


def test_packed_patterns_are_an_immutable_copy():
    p = np.ones((3, 2))
    packed = hopmin.Packed(p)
    p[:] = 7
    packed[:][:] = 8
    np.asarray(packed)[:] = 9
    same_bits(np.asarray(packed), np.ones((3, 2)))
    with pytest.raises(AttributeError, match=r"^packed patterns cannot be changed; got a new shape$"):
        packed.shape = (1, 2)
    with pytest.raises(TypeError):
        packed[0:1] = 0
    with pytest.raises(ValueError, match=r"^packed patterns can only be returned as a copy; got copy=False$"):
        np.asarray(packed, copy=False)


@pytest.mark.parametrize(("patterns", "message"), [
    ([[0.0, np.nan]], "patterns must be finite; got nan at index (0, 1)"),
    (np.float32([[0.0]] * 99 + [[np.inf]]), "patterns must be finite; got inf at index (99, 0)"),
    ([1.0], "patterns must have shape (n, d); got (1,)"),
    (np.zeros((0, 2)), "patterns must not be empty; got shape (0, 2)"),
])  # fmt: skip
def test_packed_rejects_invalid_patterns(patterns, message):
    with pytest.raises(ValueError) as caught:
        hopmin.Packed(patterns)
    assert str(caught.value) == message


# Errors


CALLS = {
    **{f"nearest, {metric}": lambda x, p, metric=metric: hopmin.nearest(x, p, metric=metric) for metric in (*METRICS, "cosine")},
    **{f"within, {metric}": lambda x, p, metric=metric: hopmin.within(x, p, 1.0, metric=metric, csr=True) for metric in (*METRICS, "cosine")},
    "within, all": lambda x, p: hopmin.within(x, p, np.inf, csr=True),
    "separation": lambda x, p: hopmin.separation(p),
    **{
        f"{kind.__name__}.{name}": lambda x, p, kind=kind, name=name: getattr(kind(), name)(x, p)
        for kind in ENERGIES for name in ("value", "gradient", "weights", "update")
    },
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_non_finite_patterns_are_rejected_at_any_index(call, small_blocks):
    n = 3 * small_blocks + 40
    for dtype in DTYPES:
        for i in (0, 1, PANEL - 1, PANEL + 30, small_blocks, n - 1):
            for m in (0, 3):
                x, p = crowd(np.random.default_rng(i), m, n, 2, dtype)
                p[i, 1] = (np.nan, np.inf, -np.inf)[i % 3]
                with pytest.raises(ValueError) as caught:
                    CALLS[call](x, p)
                assert str(caught.value) == f"patterns must be finite; got {p[i, 1]} at index ({i}, 1)"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.5, 1e-3])
def test_huge_numbers_give_a_result_or_an_error(call, dtype, size):
    """`size` is a fraction of the largest number, or of its square root."""
    most = float(np.finfo(dtype).max)
    for largest in (most, size * most, most**0.5, size * most**0.5):
        x, p = (largest * np.sign(a).astype(dtype) for a in crowd(np.random.default_rng(0), 2, PANEL + 5, 2, dtype))
        p[3] = 0.5
        result, message = (), ""
        try:
            result = CALLS[call](x, p)
        except ValueError as error:
            message = str(error)
        if message:
            assert re.fullmatch(rf"queries and patterns must be small enough to square in {dtype}; got values up to \S+", message)
            assert largest > 1e-3 * most**0.5
        for part in result if isinstance(result, tuple) else (result,):
            assert all(np.isfinite(a).all() for a in part)
        if call == "nearest, euclidean" and not message:
            assert_nearest(x, p, 1)


# Memory


LIMITED = """
import json, resource, sys
import numpy as np
import hopmin
from hopmin import _backend
hopmin.set_threads(2)
_backend.core.simd(sys.argv[2])
p = np.load(sys.argv[1], mmap_mode="r")
x = np.array(p[-3:] + np.float32(0.25))
energy = hopmin.DistanceEnergy(1.0)
def results(p):
    return [hopmin.nearest(x, p, 3)[1].tolist(), energy.value(x, p).tolist(), energy.update(x, p).tolist()]
results(p[:20000])  # import and warm up everything
status = dict(line.split(":") for line in open("/proc/self/status"))
limit = 1024 * int(status["VmData"].split()[0]) + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(json.dumps(results(p)))
try:
    np.ones(int(sys.argv[3]) // 8 + 1000000)
except MemoryError:
    print("limited")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is specific to Linux")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer keeps freed memory")
def test_a_file_of_four_times_the_memory_is_searched(tmp_path, simd, run):
    n, d, allowed = 400_000, 64, 25_000_000
    p = np.lib.format.open_memmap(tmp_path / "patterns.npy", "w+", np.float32, (n, d))
    rng = np.random.default_rng(0)
    for start in range(0, n, 20_000):
        p[start : start + 20_000] = rng.integers(-50, 50, (20_000, d))
    p.flush()
    assert p.nbytes > 4 * allowed
    finished = run(LIMITED, p.filename, simd, allowed)
    assert finished.stderr == ""
    printed, limited = finished.stdout.splitlines()
    indices, values, updated = json.loads(printed)
    assert limited == "limited"
    assert [row[0] for row in indices] == [n - 3, n - 2, n - 1]
    assert values == [4.0, 4.0, 4.0]  # 64 times 1/16; all others are hundreds farther
    np.testing.assert_array_equal(updated, p[-3:])


# Selecting a variant


def test_a_selected_variant_is_used_and_shown(simd, run):
    finished = run("import hopmin; hopmin.show_config()", HOPMIN_SIMD=simd)
    names = ", ".join(_backend.core.SIMD)
    shown = "" if hopmin.BACKEND == "numpy" else f"SIMD {simd} (of {names}), "  # the twin has no variants
    assert re.match(rf"{re.escape(shown)}\d+ threads$", finished.stdout.splitlines()[1])


def test_the_best_variant_is_used_by_default(run):
    finished = run("from hopmin import _backend; print(_backend.core.simd())", HOPMIN_SIMD="")
    assert finished.stdout == f"{_backend.core.SIMD[-1]}\n"


def test_an_unknown_variant_is_rejected_at_import(run):
    finished = run("import hopmin", HOPMIN_SIMD="mmx")
    names = ", ".join(map(repr, _backend.core.SIMD))
    assert finished.stderr.splitlines()[-1] == f"ImportError: HOPMIN_SIMD must be one of {names} here; got 'mmx'"


def test_simd_rejects_an_unknown_variant(simd):
    assert _backend.core.SIMD[0] == ("baseline" if hopmin.BACKEND == "compiled" else "numpy")
    with pytest.raises(ValueError):
        _backend.core.simd("mmx")
    assert _backend.core.simd() == simd
