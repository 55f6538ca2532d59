"""Laws of energies that are promises: equal bits for any layout and batch, and single queries."""

import numpy as np
import pytest

import hopmin
from hopmin import testing
from hopmin.testing.compare import Violation


class Changed:
    """DistanceEnergy with the results of one method changed by a function of them and the queries."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def __call__(self, beta):
        self.energy = hopmin.DistanceEnergy(beta)
        return self

    def __getattr__(self, name):
        method = getattr(self.energy, name)
        return (lambda x, p: self.change(method(x, p), x)) if name == self.name else method


def with_axis(result, x):
    return result[None] if x.ndim == 1 else result


def nudged_in_a_batch(result, x):
    return np.nextafter(result, np.inf) if len(x) > 1 else result


def nudged_by_strides(result, x):
    return result if x.flags.c_contiguous else np.nextafter(result, np.inf)


def off_for_one(result, x):
    return result * (1 + 1e-3 * (x.ndim == 1))


@pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="updates on the NumPy twin are equal to within rounding")
def test_the_distance_energy_keeps_its_bits():
    testing.law_energy_bits(hopmin.DistanceEnergy, examples=30)


@pytest.mark.parametrize("energy", [hopmin.DistanceEnergy, hopmin.DotEnergy, hopmin.EpanechnikovEnergy])
def test_energies_take_single_queries(energy, backend):
    testing.law_energy_single(energy, examples=30)


@pytest.mark.parametrize("name", ["value", "gradient", "weights", "update"])
@pytest.mark.parametrize("change", [nudged_in_a_batch, nudged_by_strides])
def test_a_changed_bit_is_found(name, change):
    with pytest.raises(Violation, match=name):
        testing.law_energy_bits(Changed(name, change), seed=0)


@pytest.mark.parametrize("name", ["value", "weights", "update"])
@pytest.mark.parametrize("change", [with_axis, off_for_one])
def test_a_wrong_single_query_is_found(name, change):
    with pytest.raises(Violation, match=f"{name} of a query"):
        testing.law_energy_single(Changed(name, change), seed=0)
