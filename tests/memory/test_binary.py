"""Binary energies, compared with loops over single neurons in exact integers and fractions."""

import itertools
import math

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hopmin
from hopmin import ExponentialEnergy, HopfieldEnergy, PolynomialEnergy

# name: the energy, as a function of its options; F and its derivative, in exact arithmetic; whether F is convex
KINDS = {
    "quadratic": (lambda **o: PolynomialEnergy(2, **o), lambda z: z**2, lambda z: 2 * z, True),
    "cubic": (lambda **o: PolynomialEnergy(3, **o), lambda z: z**3, lambda z: 3 * z**2, False),
    "quartic": (lambda **o: PolynomialEnergy(4, **o), lambda z: z**4, lambda z: 4 * z**3, True),
    "kinked": (lambda **o: PolynomialEnergy(1, rectified=True, **o), lambda z: max(z, 0), lambda z: int(z > 0), True),
    "rectified": (
        lambda **o: PolynomialEnergy(3, rectified=True, **o), lambda z: max(z, 0) ** 3, lambda z: 3 * max(z, 0) ** 2, True,
    ),
    "exponential": (lambda **o: ExponentialEnergy(**o), helpers.power_of_e, helpers.power_of_e, True),
}  # fmt: skip
ENERGIES = [HopfieldEnergy(), HopfieldEnergy(rule="pseudo-inverse"), PolynomialEnergy(), ExponentialEnergy()]


def corners(d):
    return np.array(list(itertools.product([1.0, -1.0], repeat=d)))


def drawn(seed, *shape):
    return np.random.default_rng(seed).choice([-1.0, 1.0], shape)


@st.composite
def memories(draw, most=6, d_most=7):
    """Queries (m, d) and patterns (n, d), with copies, negatives and queries that are patterns among them."""
    m, n, d = draw(st.integers(1, 4)), draw(st.integers(1, most)), draw(st.integers(1, d_most))
    signs = st.lists(st.sampled_from([1.0, -1.0]), min_size=d, max_size=d)
    points = np.array(draw(st.lists(signs, min_size=m + n, max_size=m + n)))
    if draw(st.booleans()):
        points[0] = draw(st.sampled_from([1, -1])) * points[-1]
    return points[:m], points[m:]


def orders(d):
    return st.lists(st.integers(0, d - 1), min_size=1, max_size=2 * d)


kinds = pytest.mark.parametrize("kind", KINDS)


# Update, energy and weights in exact arithmetic


@kinds
@pytest.mark.parametrize("self_coupling", [False, True])
@settings(max_examples=50)
@given(memory=memories(), data=st.data())
def test_update_matches_exact_loops(kind, self_coupling, memory, data):
    (x, p), (energy, f, slope, _) = memory, KINDS[kind]
    order = data.draw(orders(x.shape[1]) | st.sampled_from(["synchronous", "asynchronous"]))
    clamp = np.array(data.draw(st.lists(st.booleans(), min_size=x.shape[1], max_size=x.shape[1])))
    updated = energy(order=order, self_coupling=self_coupling).update(x, p, clamp=clamp)
    for row, result in zip(x, updated, strict=True):
        expected = helpers.binary_update(row, p, f, slope if self_coupling else None, order, clamp)
        assert result.tolist() == expected


@kinds
@given(memory=memories())
def test_value_matches_exact_sums(kind, memory):
    (x, p), (energy, f, _, _) = memory, KINDS[kind]
    exact = [float(helpers.binary_energy(row, p, f)) for row in x]
    if kind == "exponential":
        exact = [-math.log(-e) for e in exact]
        np.testing.assert_allclose(energy().value(x, p), exact, rtol=0, atol=1e-15 * (x.shape[1] + 3))
    else:
        np.testing.assert_array_equal(energy().value(x, p), exact)


@pytest.mark.parametrize("rule", ["hebb", "pseudo-inverse"])
@pytest.mark.parametrize("self_coupling", [False, True])
@given(memory=memories(), data=st.data())
def test_hopfield_energy_matches_its_coupling_matrix(rule, self_coupling, memory, data):
    """Value and one update in any order, with W itself in fractions."""
    (x, p), d = memory, memory[0].shape[1]
    bias = data.draw(st.lists(st.integers(-8, 8).map(lambda b: b / 4), min_size=d, max_size=d))
    order = data.draw(orders(d) | st.sampled_from(["synchronous", "asynchronous"]))
    matrix = helpers.coupling(p, rule, self_coupling)
    energy = HopfieldEnergy(rule=rule, bias=bias, order=order, self_coupling=self_coupling)
    exact = [float(helpers.hopfield_energy(row, matrix, bias)) for row in x]
    np.testing.assert_allclose(energy.value(x, p), exact, rtol=0, atol=1e-13)
    for row, result in zip(x, energy.update(x, p), strict=True):
        assert result.tolist() == helpers.hopfield_update(row, matrix, bias, order)


@given(memory=memories())
def test_weights_are_normalized_derivatives(memory):
    x, p = memory
    for energy, _, slope, _ in KINDS.values():
        for row, weights in zip(x, energy().weights(x, p), strict=True):
            pulls = [abs(slope(int(helpers.product(row, one)))) for one in p]
            expected = [float(pull / sum(pulls)) if sum(pulls) else 1 / len(p) for pull in pulls]
            np.testing.assert_allclose(weights, expected, rtol=1e-13)


def test_pseudo_inverse_weights_are_projection_coefficients():
    p = np.array([[1.0, 1, 1, 1], [1, 1, 1, -1]])
    x = np.array([1.0, 1, -1, 1])  # 4 c_1 + 2 c_2 = 2 and 2 c_1 + 4 c_2 = 0: c = (2/3, -1/3)
    np.testing.assert_allclose(HopfieldEnergy(rule="pseudo-inverse").weights(x, p), [2 / 3, 1 / 3], rtol=1e-14)
    np.testing.assert_allclose(HopfieldEnergy(rule="pseudo-inverse").weights(p, p), np.eye(2), atol=1e-15)


# Descent, and cases without it


@kinds
@settings(max_examples=50)
@given(memory=memories(), data=st.data())
def test_each_asynchronous_flip_lowers_the_energy(kind, memory, data):
    """In exact arithmetic, for every F, one neuron at a time in any order."""
    (x, p), (energy, f, _, _) = memory, KINDS[kind]
    for k in data.draw(orders(x.shape[1])):
        after = energy(order=[k]).update(x, p)
        for row, flipped in zip(x, after, strict=True):
            if (row != flipped).any():
                assert helpers.binary_energy(flipped, p, f) < helpers.binary_energy(row, p, f)
                assert np.flatnonzero(row != flipped).tolist() == [k]
        x = after


@kinds
@settings(max_examples=50)
@given(memory=memories(), data=st.data())
def test_self_coupling_with_convex_f_never_raises_the_energy(kind, memory, data):
    (x, p), (energy, f, _, convex) = memory, KINDS[kind]
    order = data.draw(orders(x.shape[1]) | st.just("synchronous"))
    rule = energy(order=order, self_coupling=True)
    after = rule.update(x, p)
    assert (rule.guaranteed_decrease(x, after) == (0 if convex else -np.inf)).all()
    for row, new in zip(x, after, strict=True):
        if convex:
            assert helpers.binary_energy(new, p, f) <= helpers.binary_energy(row, p, f)


@pytest.mark.parametrize("rule", ["hebb", "pseudo-inverse"])
@given(memory=memories(), bias=st.integers(-8, 8), coupled=st.booleans())
def test_hopfield_update_never_raises_the_energy(rule, memory, bias, coupled):
    x, p = memory
    energy = HopfieldEnergy(
        rule=rule, bias=bias / 4, self_coupling=coupled, order="synchronous" if coupled else "asynchronous"
    )
    matrix = helpers.coupling(p, rule, coupled)
    for row, new in zip(x, energy.update(x, p), strict=True):
        before, after = (helpers.hopfield_energy(state, matrix, [bias / 4] * len(row)) for state in (row, new))
        assert after <= before


def test_guaranteed_decrease_of_every_rule():
    x = np.ones((2, 3))
    for order, coupled, power, bound in (
        ("asynchronous", False, 3, 0), ("asynchronous", True, 3, -np.inf), ("asynchronous", True, 2, 0),
        ("synchronous", False, 2, -np.inf), ("synchronous", True, 2, 0), ((0, 1), False, 3, 0), ("synchronous", True, 1, 0),
    ):  # fmt: skip
        energy = PolynomialEnergy(power, order=order, self_coupling=coupled)
        assert energy.guaranteed_decrease(x, -x).tolist() == [bound, bound]
        assert energy.guaranteed_decrease(x[0], -x[0]) == bound
    assert HopfieldEnergy(order="synchronous").guaranteed_decrease(x, x).tolist() == [-np.inf, -np.inf]
    assert ExponentialEnergy(order="synchronous", self_coupling=True).guaranteed_decrease(x[:0], x[:0]).shape == (0,)


def test_synchronous_update_may_raise_the_energy():
    """W = [[0, -1], [-1, 0]]: two neurons that should differ both flip. With b the energy rises from 0 to 2."""
    p, x = np.array([[1.0, -1.0]]), np.array([1.0, 1.0])
    energy = HopfieldEnergy(bias=(0.5, 0.5), order="synchronous")
    assert energy.update(x, p).tolist() == [-1, -1]
    assert (energy.value(x, p), energy.value(-x, p)) == (0.0, 2.0)
    assert HopfieldEnergy(bias=(0.5, 0.5)).update(x, p).tolist() == [-1, 1]


def test_synchronous_updates_may_cycle_between_two_states():
    p, x = np.array([[1.0, -1.0]]), np.array([1.0, 1.0])
    energy = HopfieldEnergy(order="synchronous")
    assert energy.update(x, p).tolist() == [-1, -1]
    assert energy.update(-x, p).tolist() == [1, 1]
    coupled = HopfieldEnergy(order="synchronous", self_coupling=True)
    assert coupled.update(x, p).tolist() == [1, 1]  # a tie: the state is as far from the pattern as from its negative


@pytest.mark.parametrize(
    ("order", "x", "updated", "energies"),
    [
        ("synchronous", [-1, -1, -1, 1], [1, 1, -1, 1], (16, 48)),
        ("asynchronous", [-1, 1, -1, 1], [-1, -1, -1, 1], (8, 16)),
    ],
)
def test_odd_power_with_self_coupling_may_raise_the_energy(order, x, updated, energies):
    """A cube is not convex: the tangent rule can raise the energy, even one neuron at a time."""
    p = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, 1, -1]])
    energy = PolynomialEnergy(3, order=order, self_coupling=True)
    assert energy.update(x, p).tolist() == updated
    assert (energy.value(x, p), energy.value(updated, p)) == energies


# Equivalences and symmetries


@given(memory=memories(), data=st.data(), self_coupling=st.booleans())
def test_hebb_rule_equals_the_quadratic_polynomial(memory, data, self_coupling):
    (x, p), (n, d) = memory, memory[1].shape
    order = data.draw(orders(d) | st.sampled_from(["synchronous", "asynchronous"]))
    hopfield, two = (
        e(order=order, self_coupling=self_coupling) for e in (HopfieldEnergy, lambda **o: PolynomialEnergy(2, **o))
    )
    np.testing.assert_array_equal(hopfield.update(x, p), two.update(x, p))
    np.testing.assert_array_equal(two.value(x, p), 2 * hopfield.value(x, p) - (0 if self_coupling else n * d))
    np.testing.assert_array_equal(hopfield.weights(x, p), two.weights(x, p))


@given(memory=memories(), data=st.data())
def test_flipping_a_coordinate_everywhere_is_a_symmetry(memory, data):
    (x, p), d = memory, memory[0].shape[1]
    gauge = np.array(data.draw(st.lists(st.sampled_from([1.0, -1.0]), min_size=d, max_size=d)))
    for energy in ENERGIES:
        np.testing.assert_array_equal(energy.update(x * gauge, p * gauge), energy.update(x, p) * gauge)
        np.testing.assert_allclose(energy.value(x * gauge, p * gauge), energy.value(x, p), rtol=0, atol=1e-13)


@given(memory=memories(), data=st.data())
def test_update_does_not_depend_on_the_order_of_patterns(memory, data):
    x, p = memory
    shuffled = p[data.draw(st.permutations(range(len(p))))]
    for energy in ENERGIES:
        np.testing.assert_array_equal(energy.update(x, shuffled), energy.update(x, p))


@given(memory=memories())
def test_even_energies_are_symmetric_under_negation(memory):
    x, p = memory
    for energy in (*ENERGIES[:2], PolynomialEnergy(4), PolynomialEnergy(2, self_coupling=True)):
        np.testing.assert_array_equal(energy.update(-x, p), -energy.update(x, p))
        np.testing.assert_allclose(energy.value(-x, p), energy.value(x, p), rtol=0, atol=1e-13)


def test_odd_energies_leave_the_negative_of_a_pattern():
    p = np.array([[1.0, 1.0, 1.0]])
    assert HopfieldEnergy().update(-p, p).tolist() == [[-1, -1, -1]]
    for energy in (ExponentialEnergy(), PolynomialEnergy(3)):
        assert energy.update(-p, p).tolist() == [[1, 1, 1]]
    deep = PolynomialEnergy(3, rectified=True)  # one flip leads from -3 to -1, and both are rectified to 0
    assert deep.update(-p, p).tolist() == [[-1, -1, -1]]
    assert deep.update([-1.0, -1.0, 1.0], p).tolist() == [1, 1, 1]


def test_pseudo_inverse_keeps_patterns_that_hebb_loses():
    p = np.array([[1.0, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, 1]])
    assert (HopfieldEnergy().update(p, p) == p[0]).all()
    np.testing.assert_array_equal(HopfieldEnergy(rule="pseudo-inverse").update(p, p), p)


@pytest.mark.parametrize("order", ["asynchronous", "synchronous"])
@pytest.mark.parametrize("n", [1, 50, 99, 100])
@pytest.mark.parametrize("self_coupling", [False, True])
def test_pseudo_inverse_stores_up_to_d_patterns(order, n, self_coupling):
    p = drawn(n, n, 100)
    assert np.linalg.matrix_rank(p) == n
    energy = HopfieldEnergy(rule="pseudo-inverse", order=order, self_coupling=self_coupling)
    np.testing.assert_array_equal(energy.update(p, p), p)


def test_with_all_corners_stored_no_state_moves():
    """W is then the identity, and no neuron has input from another: ties everywhere, up to rounding."""
    for d in (2, 5, 8):
        p = corners(d)
        np.testing.assert_array_equal(HopfieldEnergy(rule="pseudo-inverse").update(p, p), p)
        np.testing.assert_array_equal(ExponentialEnergy().update(p, p), p)


# Ties, order, clamp


def test_a_tie_keeps_the_state():
    p, x = np.array([[1.0, 1, 1], [1, -1, 1]]), corners(3)  # a flip of neuron 1 swaps the two overlaps
    for energy in (HopfieldEnergy(order=[1]), PolynomialEnergy(4, order=[1]), ExponentialEnergy(order=[1])):
        np.testing.assert_array_equal(energy.update(x, p), x)
        assert (energy.update(x, p[:1])[:, 1] != x[:, 1]).any()
    assert HopfieldEnergy(bias=-1.0).update([1.0], [[1.0]]).tolist() == [-1]
    assert HopfieldEnergy(bias=0.0).update([-1.0], [[1.0]]).tolist() == [-1]


@given(patterns=st.integers(0, 2**32), d=st.sampled_from([30, 300, 1000]))
def test_exact_ties_are_ties_in_floating_point(patterns, d):
    """Patterns in pairs that differ in neuron 0 only, whose flip swaps the overlaps of each pair."""
    rng = np.random.default_rng(patterns)
    half = rng.choice([-1.0, 1.0], (20, d))
    half[:, 0] = 1
    p, x = np.concatenate([half, half * np.r_[-1, np.ones(d - 1)]]), half[:3]
    for energy in (ExponentialEnergy(order=[0]), PolynomialEnergy(3, order=[0]), PolynomialEnergy(17, order=[0])):
        for state in (x, x * np.r_[-1, np.ones(d - 1)]):
            np.testing.assert_array_equal(energy.update(state, p), state)


def test_clamped_neurons_keep_their_state():
    p = drawn(0, 3, 20)
    x, clamp = drawn(1, 50, 20), drawn(2, 50, 20) > 0
    for energy in ENERGIES:
        for order in ("asynchronous", "synchronous"):
            updated = type(energy)(order=order).update(x, p, clamp=clamp)
            np.testing.assert_array_equal(updated[clamp], x[clamp])
            assert (updated != x).any()
        np.testing.assert_array_equal(energy.update(x, p, clamp=np.ones(20, bool)), x)
        np.testing.assert_array_equal(energy.update(x, p, clamp=np.zeros(20, bool)), energy.update(x, p))


def test_a_sequence_is_visited_in_its_order():
    p, x = np.array([[1.0, -1.0]]), np.array([1.0, 1.0])
    assert HopfieldEnergy(order=[0, 1]).update(x, p).tolist() == [-1, 1]
    assert HopfieldEnergy(order=(1, 0)).update(x, p).tolist() == [1, -1]
    assert HopfieldEnergy(order=np.array([1])).update(x, p).tolist() == [1, -1]
    p, x = drawn(3, 9, 12), drawn(4, 9, 12)
    np.testing.assert_array_equal(PolynomialEnergy(order=range(12)).update(x, p), PolynomialEnergy().update(x, p))


def test_a_generator_draws_a_permutation_for_each_update():
    p, x = drawn(5, 9, 12), drawn(6, 200, 12)
    energy, rng = HopfieldEnergy(order=np.random.default_rng(0)), np.random.default_rng(0)
    for _ in range(3):
        np.testing.assert_array_equal(energy.update(x, p), HopfieldEnergy(order=rng.permutation(12)).update(x, p))


def test_repeated_asynchronous_updates_reach_a_fixed_point():
    p, x = drawn(7, 40, 60), drawn(8, 100, 60)
    for energy in (*ENERGIES, PolynomialEnergy(30), ExponentialEnergy(order=np.random.default_rng(0))):
        for _ in range(100):
            x, before = energy.update(x, p), x
            if (x == before).all():
                break
        np.testing.assert_array_equal(x, before)


@given(memory=memories())
def test_batch_equals_its_single_queries(memory):
    x, p = memory
    for energy in ENERGIES:
        for name in ("value", "update", "weights"):
            batch = getattr(energy, name)(x, p)
            for row, one in zip(x, batch, strict=True):
                single = getattr(energy, name)(row, p)
                assert np.shape(single) == one.shape
                np.testing.assert_allclose(single, one, rtol=0, atol=1e-12)


def test_chunks_of_queries_give_the_same_results(monkeypatch):
    p, x, clamp = drawn(9, 30, 10), drawn(10, 100, 10), drawn(11, 100, 10) > 0
    expected = [(e.value(x, p), e.update(x, p, clamp=clamp), e.update(x, p, values=p)) for e in ENERGIES]
    monkeypatch.setattr("hopmin.memory.energy.MAX_SCORES", 210)
    for energy, (value, update, mean) in zip(ENERGIES, expected, strict=True):
        np.testing.assert_allclose(energy.value(x, p), value, rtol=1e-14)
        np.testing.assert_array_equal(energy.update(x, p, clamp=clamp), update)
        np.testing.assert_allclose(energy.update(x, p, values=p), mean, rtol=1e-12, atol=1e-14)


def test_hopfield_1982_network_of_zeros_and_ones():
    """Hopfield 1982: V_i = 1 if sum_j T_ij V_j > U_i, and E = -V.T V / 2 + U.V, is HopfieldEnergy with b = sum_j T_ij - 2 U_i."""
    p, u = drawn(22, 3, 6), np.random.default_rng(23).integers(-3, 4, 6) + 0.5
    t = p.T @ p - 3 * np.eye(6)
    energy, ones = HopfieldEnergy(bias=t.sum(axis=1) - 2 * u, order="synchronous"), (corners(6) + 1) / 2
    np.testing.assert_array_equal((energy.update(corners(6), p) + 1) / 2, ones @ t > u)
    gap = energy.value(corners(6), p) / 4 - (ones @ u - np.einsum("mi,ij,mj->m", ones, t, ones) / 2)
    np.testing.assert_allclose(gap, gap[0], rtol=1e-13)


# The exponential and attention


@given(memory=memories())
def test_exponential_update_thresholds_attention(memory):
    """A neuron flips if attention supports it by less than tanh 1; with self-coupling, if attention opposes it."""
    x, p = memory
    support = x * (hopmin.softmax(x @ p.T, axis=1) @ p)
    clear = (np.abs(support - math.tanh(1)) > 1e-9) & (np.abs(support) > 1e-9)
    for coupled, threshold in ((False, math.tanh(1)), (True, 0.0)):
        updated = ExponentialEnergy(order="synchronous", self_coupling=coupled).update(x, p)
        np.testing.assert_array_equal(updated[clear], np.where(support < threshold, -x, x)[clear])


def test_ten_thousand_dimensions_do_not_overflow():
    p = drawn(12, 3, 10_000)
    x = p * np.where(np.arange(10_000) < 3000, -1, 1)
    for energy in (ExponentialEnergy(order="synchronous"), ExponentialEnergy(order=range(5))):
        y = energy.update(x, p)
        np.testing.assert_array_equal(y[:, :5], p[:, :5])
        assert np.isfinite(energy.value(x, p)).all()
    assert ExponentialEnergy().value(p, p).tolist() == [-10_000] * 3
    np.testing.assert_array_equal(ExponentialEnergy().weights(p, p), np.eye(3))


# Arguments


def test_shapes_dtypes_and_values():
    p = drawn(13, 4, 6)
    for energy in ENERGIES:
        for x, q, dtype in (
            (np.float32, np.float32, np.float32),
            (np.float64, np.float32, np.float64),
            (int, np.int8, np.float64),
        ):
            for name, shape in (("value", (4,)), ("update", (4, 6)), ("weights", (4, 4))):
                out = getattr(energy, name)(p.astype(x), p.astype(q))
                assert (out.dtype, out.shape) == (dtype, shape)
        assert isinstance(energy.value(p[0], p), np.float64)
        v = np.arange(8.0).reshape(4, 2)
        np.testing.assert_allclose(energy.update(p, p, values=v), energy.weights(p, p) @ v, rtol=1e-13)
        assert energy.update(p[0], p, v).shape == (2,)
        assert energy.update(np.float32(p), np.float32(p), np.float32(v)).dtype == np.float32
        none = p[:0]
        assert (energy.value(none, p).shape, energy.update(none, p).shape, energy.weights(none, p).shape) == (
            (0,),
            (0, 6),
            (0, 4),
        )
        assert energy.binary
        assert not hasattr(energy, "gradient")


def test_arguments_are_not_modified():
    p, x = drawn(14, 5, 9), drawn(15, 5, 9)
    p.flags.writeable = x.flags.writeable = False
    for energy in ENERGIES:
        assert (energy.update(x, p) != x).any()


def test_binary_energies_compare_hash_and_print_by_value():
    assert HopfieldEnergy(bias=[1, 2]) == HopfieldEnergy(bias=np.array([1.0, 2.0])) != HopfieldEnergy(bias=1)
    assert hash(HopfieldEnergy(bias=[1, 2], order=[0, 1])) == hash(HopfieldEnergy(bias=(1.0, 2.0), order=range(2)))
    assert PolynomialEnergy(3) == PolynomialEnergy(power=3) != PolynomialEnergy(3, rectified=True)
    assert eval(repr(HopfieldEnergy(rule="pseudo-inverse", bias=2))) == HopfieldEnergy(rule="pseudo-inverse", bias=2.0)
    with pytest.raises(AttributeError):
        ExponentialEnergy().order = "synchronous"
    for make in (
        lambda: HopfieldEnergy("hebb"),
        lambda: PolynomialEnergy(3, True),
        lambda: ExponentialEnergy("synchronous"),
    ):
        with pytest.raises(TypeError, match="positional argument"):
            make()


ORDER = "order must be 'asynchronous', 'synchronous', a numpy Generator or a sequence of integers >= 0; got "


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialEnergy(order="random"), ORDER + "'random'"),
        (lambda: ExponentialEnergy(order=0), ORDER + "0"),
        (lambda: ExponentialEnergy(order=[]), ORDER + "[]"),
        (lambda: ExponentialEnergy(order=[0, -1]), ORDER + "[0, -1]"),
        (lambda: ExponentialEnergy(order=[0.0]), ORDER + "[0.0]"),
        (
            lambda: ExponentialEnergy(order=[[0], [0, 1]]),
            "order must be a rectangular array; got rows of different lengths",
        ),
        (lambda: ExponentialEnergy(self_coupling=1), "self_coupling must be True or False; got 1"),
        (lambda: HopfieldEnergy(rule="storkey"), "rule must be one of 'hebb', 'pseudo-inverse'; got 'storkey'"),
        (lambda: HopfieldEnergy(bias=[[1.0]]), "bias must have shape (d,); got (1, 1)"),
        (lambda: HopfieldEnergy(bias=[]), "bias must not be empty; got shape (0,)"),
        (lambda: HopfieldEnergy(bias=[0.0, math.nan]), "bias must be finite; got nan at index 1"),
        (lambda: HopfieldEnergy(bias="1"), "bias must be real numbers; got dtype <U1"),
        (lambda: PolynomialEnergy(0), "power must be an integer >= 1; got 0"),
        (lambda: PolynomialEnergy(2.0), "power must be an integer >= 1; got 2.0"),
        (lambda: PolynomialEnergy(rectified=None), "rectified must be True or False; got None"),
        (
            lambda: ExponentialEnergy(order=[0, 3]).update([1, 1, 1], [[1, 1, 1]]),
            "order must visit neurons below d = 3; got 3",
        ),
        (
            lambda: HopfieldEnergy(bias=[1, 2]).value([1, 1, 1], [[1, 1, 1]]),
            "bias must have shape (d,) with d = 3; got (2,)",
        ),
        (
            lambda: ExponentialEnergy().value([1, 0, 1], [[1, 1, 1]]),
            "queries must contain only -1 and 1; got 0.0 at index (0, 1)",
        ),
        (
            lambda: HopfieldEnergy().update([[1, 1]], [[1, 1], [1, 0.5]]),
            "patterns must contain only -1 and 1; got 0.5 at index (1, 1)",
        ),
        (
            lambda: HopfieldEnergy().guaranteed_decrease([1, 1], [1, 2]),
            "updated must contain only -1 and 1; got 2.0 at index (0, 1)",
        ),
        (
            lambda: HopfieldEnergy().guaranteed_decrease([1, 1], [1]),
            "updated must have shape (m, d) with m = 1, d = 2; got (1, 1)",
        ),
        (lambda: HopfieldEnergy().weights([1, 1], [1, 1]), "patterns must have shape (n, d); got (2,)"),
        (
            lambda: HopfieldEnergy().update([1, 1], [[1, 1]], clamp=[True]),
            "clamp must have shape (m, d) or (d,) with m = 1, d = 2; got (1,)",
        ),
        (
            lambda: PolynomialEnergy(300).value(np.ones(10), np.ones((1, 10))),
            "power must be small enough for n (d + 2)^power to fit float64; got 300",
        ),
        (
            lambda: PolynomialEnergy(40).update(np.ones(10, "float32"), np.ones((1, 10), "float32")),
            "power must be small enough for n (d + 2)^power to fit float32; got 40",
        ),
        (
            lambda: PolynomialEnergy(10**400).value([1], [[1]]),
            "power must be an integer >= 1; got a number too large for a float",
        ),
        (
            lambda: HopfieldEnergy(bias=1e38).value(np.ones(2, "float32"), np.ones((1, 2), "float32")),
            "bias must be small enough to be summed in float32; got numbers up to 1e+38",
        ),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value) == message


def test_highest_powers_that_fit_are_finite():
    p = drawn(16, 5, 10)
    for power in (280, 281):
        for energy in (
            PolynomialEnergy(power),
            PolynomialEnergy(power, rectified=True),
            PolynomialEnergy(power, self_coupling=True),
        ):
            assert np.isfinite(energy.value(p, p)).all()
            np.testing.assert_array_equal(energy.update(p, p), p)
            np.testing.assert_allclose(energy.weights(p, p).sum(axis=1), 1)


# Numbers from the literature


@pytest.mark.parametrize("load", [0.105, 0.138, 0.185, 0.37])
def test_one_step_error_matches_gaussian_crosstalk(load):
    """erfc(1 / sqrt(2 load)) / 2 of all bits, within a tenth: 0.001, 0.0036, 0.01, 0.05."""
    patterns = [drawn((seed, 17), round(load * 2000), 2000) for seed in range(3 if load < 0.12 else 1)]
    energy = HopfieldEnergy(order="synchronous")
    error = np.mean([np.mean(energy.update(p, p) != p) for p in patterns])
    assert error == pytest.approx(math.erfc(1 / math.sqrt(2 * load)) / 2, rel=0.1)


def final_overlap(d, load, seeds):
    overlaps = []
    for seed in range(seeds):
        p = drawn((seed, 18), round(load * d), d)
        overlaps.append(np.mean(hopmin.retrieve(p[:20], p, HopfieldEnergy(), max_steps=100).states * p[:20]))
    return np.mean(overlaps)


def test_hebb_rule_forgets_everything_above_its_capacity():
    assert final_overlap(500, 0.10, 2) > 0.99
    assert final_overlap(500, 0.24, 1) < 0.5


@pytest.mark.slow
def test_overlap_falls_more_steeply_in_larger_networks():
    assert final_overlap(1000, 0.10, 4) > 0.99
    assert final_overlap(1000, 0.12, 4) > 0.98
    assert final_overlap(1000, 0.20, 4) < 0.5
    assert final_overlap(2000, 0.18, 2) < 0.5


@pytest.mark.parametrize(("power", "d", "n"), [(2, 400, 60), (3, 100, 502)])
def test_polynomial_at_capacity_has_half_a_percent_errors(power, d, n):
    """n = d^(power - 1) / (2.5758^2 (2 power - 3)!!), Krotov and Hopfield 2016."""
    energy = PolynomialEnergy(power, order="synchronous")
    error = np.mean([np.mean(energy.update(p, p) != p) for p in (drawn((seed, 19), n, d) for seed in range(4))])
    assert 0.003 < error < 0.007


@pytest.mark.parametrize(
    ("d", "rate", "flipped", "least", "most"),
    [
        (50, 0.18, 0.1, 0.99, 1),  # below the bound, 0.184
        (50, 0.10, 0.2, 0.95, 1),  # about at the bound, 0.096
        (50, 0.18, 0.3, 0, 0.01),  # far above the bound, 0.041
        pytest.param(50, 0.25, 0.05, 0.99, 1, marks=pytest.mark.slow),
        pytest.param(50, 0.25, 0.2, 0, 0.01, marks=pytest.mark.slow),
    ],
)
def test_exponential_energy_recovers_patterns_below_the_bound(d, rate, flipped, least, most):
    """Demircigil et al. 2017: n = exp(rate d), each from a fraction of wrong bits in one step, if rate < I(1 - 2 flipped) / 2."""
    p = drawn(20, round(math.exp(rate * d)), d)
    wrong = np.argsort(np.random.default_rng(21).random((100, d)), axis=1) < round(flipped * d)
    stored = p[:100]
    found = ExponentialEnergy(order="synchronous").update(np.where(wrong, -stored, stored), p)
    assert least <= np.mean((found == stored).all(axis=1)) <= most
