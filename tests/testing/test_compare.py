"""Comparisons with a slack, and the numbers that a violation keeps."""

import numpy as np
import pytest

from hopmin.testing.compare import Violation, at_most, close, same, tolerance


def test_a_rejection_reports_the_numbers():
    with pytest.raises(AssertionError, match=r"^E <= g: 1\.5 must be at most 1 \(tolerance 0\.25\) at index \(1,\)$"):
        at_most([0.0, 1.5], 1.0, 0.25, "E <= g")


def test_comparisons_accept_and_reject():
    at_most([], 0, 0, "nothing")
    close([1.0, 2.0], [1.0, 2.0], 0, "equal")
    close([np.inf, -np.inf], [np.inf, -np.inf], 0, "equal infinities")
    at_most(1.0, np.inf, 0, "anything below infinity")
    for left, right in (
        (np.nan, 1.0),
        (1.0, np.nan),
        (1.0, 1.0 - 1e-9),
        (np.inf, 1.0),
        (1.0, -np.inf),
        (np.nan, np.inf),
    ):
        with pytest.raises(AssertionError):
            at_most(left, right, 0, "")
    for actual, expected in (([1.0], 1.0), ([1.0, 2.0], [1.0, 2.1]), ([np.nan], [np.nan]), (np.inf, -np.inf), (-np.inf, np.inf)):
        with pytest.raises(AssertionError):
            close(actual, expected, 0.01, "")
    for actual, expected in ((0.0, -0.0), (np.float32(1), np.float64(1)), ([1], [[1]])):
        with pytest.raises(AssertionError):
            same(actual, expected, "")


def test_a_violation_keeps_the_numbers():
    for actual, expected in ((2.0, 2.5), (2.5, 2.0)):
        with pytest.raises(Violation) as caught:
            close([1.0, actual], [1.0, expected], 0.25, "value")
        found = caught.value
        assert (found.what, found.left, found.right, found.slack) == ("value", actual, expected, 0.25)
        assert str(found) == f"value: {actual:g} must be {expected:g} (tolerance 0.25) at index (1,)"
    with pytest.raises(Violation, match=r"shape must be \(2,\); got \(1,\)") as caught:
        close([1.0], [1.0, 2.5], 0.25, "value")
    assert caught.value.left is None


def test_a_tolerance_multiplies_slacks():
    with tolerance(2.0):
        close(1.5, 1.0, 0.25, "value")
    with pytest.raises(Violation):
        close(1.5, 1.0, 0.25, "value")


def test_slacks_may_have_one_entry_for_each_element():
    at_most([0.0, 1.5], [0.0, 1.0], [0.0, 0.5], "value")
    with pytest.raises(Violation, match=r"at index \(0,\)"):
        at_most([0.5, 1.5], [0.0, 1.0], [0.0, 0.5], "value")


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        ([1, 2], [1, 3], r"must be array\(\[1, 3\]\); got array\(\[1, 2\]\)"),
        ([0.1], [np.nextafter(0.1, 1)], r"must be np.float64\(0.10000000000000002\); got np.float64\(0.1\) at index \(0,\)"),
        (np.zeros(2000), np.r_[np.zeros(999), -0.0, np.zeros(1000)], r"must be np.float64\(-0.0\); .* at index \(999,\)"),
        (np.arange(30), np.arange(30) + (np.arange(30) > 27), r"got np.int64\(28\) at index \(28,\), and 1 more of 30 differ"),
        (np.eye(2), np.eye(2, dtype=">f8"), r"must be >f8 of shape \(2, 2\); got float64 of shape \(2, 2\)"),
        (np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1)), r"must be array\(0.10000001, .*; got array\(0.1, "),
        (np.float64("nan"), -np.float64("nan"), "nan.* with the bits 0xfff8"),
    ],
)
def test_arrays_that_print_alike_are_told_apart(actual, expected, message):
    with pytest.raises(Violation, match=message):
        same(actual, expected, "result")
