"""Suggested values of beta: each keeps its promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hopmin
from hopmin import DistanceEnergy, suggest_beta
from hopmin.paper.certificates import storing_beta


@st.composite
def clouds(draw, dtypes=("float32", "float64")):
    """Patterns of many kinds: crowds, lattices with copies, clusters, at any scale."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(2, 40)), draw(st.integers(1, 5))
    p = draw(st.sampled_from([
        lambda: rng.normal(size=(n, d)),
        lambda: rng.integers(-2, 3, (n, d)).astype(float),
        lambda: rng.normal(size=(n, d)) * 0.05 + rng.integers(-2, 3, (n, 1)),
        lambda: np.arange(n)[:, None] + np.zeros(d),
    ]))()  # fmt: skip
    p[0] = p.max(axis=0) + 1  # at least one differs
    return (p * 10.0 ** draw(st.integers(-3, 3))).astype(draw(st.sampled_from(dtypes)))


def least(p):
    return float(hopmin.separation(np.unique(p, axis=0)).min())


def near(p, rng, fraction):
    """Return a point on the sphere around each pattern of this fraction of the least separation."""
    u = rng.normal(size=p.shape)
    return p + (fraction * least(p) * u / np.linalg.norm(u, axis=1, keepdims=True)).astype(p.dtype)


def own_weight(energy, x, p):
    """Return the weight, at each x, of the pattern of the same index, all its copies together."""
    same = (p[:, None] == p).all(axis=2)
    return (energy.weights(x, p) * same).sum(axis=1)


@given(clouds(), st.integers(0, 9))
def test_typical_gives_half_of_the_patterns_most_weight(p, seed):
    unique = np.unique(p, axis=0)
    assert np.mean(own_weight(DistanceEnergy(suggest_beta(p).typical), unique, unique) >= 0.9 - 1e-6) >= 0.5


@given(clouds(), st.floats(0, 0.25), st.sampled_from([1.0, 1.5, 30.0]))
def test_certified_keeps_weight_and_ball(p, fraction, larger):
    energy = DistanceEnergy(larger * suggest_beta(p).certified)
    x = near(p, np.random.default_rng(0), 0.999 * fraction)
    assert own_weight(energy, x, p).min() > 0.93
    assert (
        np.linalg.norm(energy.update(x, p).astype(float) - p, axis=1).max() <= 0.07 * least(p) + 4e-6 * np.abs(p).max()
    )


@given(clouds(dtypes=["float64"]))
def test_certified_patterns_have_certificates(p):
    """The inequalities of the paper's certificates hold, at no more than a few times the least such beta."""
    unique, beta = np.unique(p, axis=0), suggest_beta(p).certified
    radius = 0.25 * least(p)
    assert hopmin.certify(unique, radius, beta=beta * (1 + 1e-12)).stored.all()
    assert suggest_beta(unique).certified < 8 * storing_beta(unique, radius)


@given(clouds())
def test_sharp_updates_are_the_nearest_patterns(p):
    energy = DistanceEnergy(1.001 * suggest_beta(p).sharp)
    x = near(p, np.random.default_rng(0), 0.24)
    found = energy.update(x, p)
    np.testing.assert_allclose(found, p, rtol=0, atol=100 * np.finfo(p.dtype).eps * np.abs(p).max())
    np.testing.assert_array_equal(p[hopmin.nearest(x, p)[1][:, 0]], p)


@given(clouds(), st.integers(-8, 8))
def test_values_ascend_and_scale(p, power):
    betas = suggest_beta(p)
    assert 0 < betas.typical < betas.certified < betas.sharp
    np.testing.assert_allclose(suggest_beta(p * p.dtype.type(2.0**power)), np.divide(betas, 4.0**power), rtol=1e-6)


def test_the_formulas():
    p = np.array([[0.0], [1.0], [3.0], [7.0]])  # separations 1, 1, 2, 4
    L = np.log(4 * 3)
    expected = [np.log(9 * 3) / 1.5**2, 2 * (L + np.log(L) + 1), 2 * np.log(3 * 2.0**52)]
    np.testing.assert_allclose(suggest_beta(p), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([[1.0, 2.0]], "patterns must contain two different ones; got a single one"),
        ([[1.0]] * 3, "patterns must contain two different ones; got 3 equal ones"),
        ([[0.0], [1e-160]], "patterns must have separations from 1e-150 to 1e150; got 1e-160"),
        ([[0.0], [1e200]], "patterns must have separations from 1e-150 to 1e150; got 1e+200"),
        ([[0.0], [1.0], [1e200], [3e200], [9e200]], "patterns must have separations from 1e-150 to 1e150; got 1e+200"),
        ([1.0], "patterns must have shape (n, d); got (1,)"),
        ([[np.nan]], "patterns must be finite; got nan at index (0, 0)"),
    ],
)
def test_patterns_without_a_beta_raise(patterns, expected):
    with pytest.raises(ValueError) as caught:
        suggest_beta(patterns)
    assert str(caught.value) == expected
