"""The bound on model size by data size, its derivation, and the paper's numbers."""

import math

import numpy as np
import pytest
from helpers import error_message

from hopmin.paper.density import log_volume, paper_radius
from hopmin.paper.scaling import (
    ModelShape,
    measured_exponent,
    measured_ratios,
    parameter_bound,
    parameter_bound_any_width,
    parameter_count,
    state_dimension,
)
from hopmin.special import log_gamma_p

OPENELM = ModelShape(layers=8, width=1280, positions=1024)
SIZES = {"layers": OPENELM.layers, "positions": OPENELM.positions}


def test_bound_follows_from_its_derivation():
    """Z = 1 <= (D/T) V_n with V_n = 1 / sqrt(pi n): the largest n, then N = A l w n / T."""
    tokens = 5e6
    n = (tokens / OPENELM.positions) ** 2 / math.pi
    by_hand = 10 * OPENELM.layers * OPENELM.width * n / OPENELM.positions
    assert parameter_bound(tokens, OPENELM) == pytest.approx(by_hand, rel=1e-14)
    assert (
        parameter_count(OPENELM) == 10 * 8 * 1280**2 == pytest.approx(10 * 8 * 1280 * state_dimension(OPENELM) / 1024)
    )


def test_bound_grows_with_the_second_or_fourth_power():
    assert parameter_bound(2e6, OPENELM) == 4 * parameter_bound(1e6, OPENELM)
    assert parameter_bound_any_width(2e6, **SIZES) == 16 * parameter_bound_any_width(1e6, **SIZES)
    # the bounds agree at the width that attains the second
    width = (5e6 / 1024) ** 2 / (math.pi * 1024)
    bound = parameter_bound(5e6, OPENELM) * width / OPENELM.width  # linear in the width
    assert bound == pytest.approx(parameter_bound_any_width(5e6, **SIZES), rel=1e-12)


def test_volume_at_the_paper_radius():
    """V_n at the paper's radius is 1 / sqrt(pi n) by Stirling: within 1 / (6 n)."""
    for n in (1, 2, 10, 1000, 100_000):
        log_v = log_volume(n, paper_radius(n))
        assert -1 / (6 * n) - 1e-9 <= log_v + math.log(math.pi * n) / 2 <= 1e-9


def test_bound_is_far_from_sufficient():
    """At n = 1024 a single ball has log Z = -63.9, so Z = 1 takes exp(63.9) patterns, where the bound gives exp(4.04)."""
    n = 1024
    log_z = n / 2 * math.log(math.pi) + float(log_gamma_p(n / 2, paper_radius(n) ** 2))
    assert log_z == pytest.approx(-63.9, abs=0.05)
    assert -log_volume(n, paper_radius(n)) == pytest.approx(4.04, abs=0.005)


def test_numbers_of_the_paper():
    assert [f"{ratio * 1e10:.3f}" for ratio in measured_ratios()] == ["8.709", "8.793", "8.379"]
    assert parameter_bound(1.0, OPENELM) == pytest.approx(3.0e-5, rel=0.02)
    assert 1.5 < measured_exponent() < 2.5
    counted = 75_497_472 + 25_214_976 + 151_093_248
    assert counted == 251_805_696
    assert counted / (24 * 1024**2) == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize(
    ("sizes", "error", "sentence"),
    [
        ((0, 1, 1), ValueError, "layers must be an integer >= 1; got 0"),
        ((1, "2", 1), TypeError, "width must be an integer >= 1; got '2'"),
        ((1, 1, 2.0), TypeError, "positions must be an integer >= 1; got 2.0"),
        ((1, True, 1), TypeError, "width must be an integer >= 1; got True"),
    ],
    ids=str,
)
def test_wrong_sizes_are_refused(sizes, error, sentence):
    assert error_message(error, ModelShape, *sizes) == sentence


def test_small_integers_do_not_overflow():
    small = ModelShape(*map(np.uint8, (8, 200, 100)))
    assert parameter_count(small, per_layer=np.uint8(10)) == 10 * 8 * 200**2
    assert state_dimension(small) == 20_000


@pytest.mark.parametrize(
    ("per_layer", "error"), [("10", TypeError), (0, ValueError), (math.inf, ValueError), (None, TypeError)]
)
def test_a_wrong_number_per_layer_is_refused(per_layer, error):
    expected = f"per_layer must be a finite number > 0; got {per_layer!r}"
    assert error_message(error, parameter_count, OPENELM, per_layer=per_layer) == expected
    assert error_message(error, parameter_bound, 1.0, OPENELM, per_layer=per_layer) == expected
    assert error_message(error, parameter_bound_any_width, 1.0, **SIZES, per_layer=per_layer) == expected


def test_only_a_shape_is_a_shape():
    expected = "shape must be a ModelShape; got (8, 1280, 1024)"
    shape = (8, 1280, 1024)
    assert error_message(TypeError, parameter_count, shape) == expected
    assert error_message(TypeError, state_dimension, shape) == expected
    assert error_message(TypeError, parameter_bound, 1.0, shape) == expected
    assert (
        error_message(ValueError, parameter_bound_any_width, 1.0, layers=0, positions=1)
        == "layers must be an integer >= 1; got 0"
    )


def test_zero_tokens_are_refused():
    for bound in (lambda: parameter_bound(0, OPENELM), lambda: parameter_bound_any_width(0, **SIZES)):
        with pytest.raises(ValueError, match="tokens must be a finite number > 0; got 0"):
            bound()
