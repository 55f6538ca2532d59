"""Each family's probe accepts what its signature describes."""

import numpy as np
import ours_memory
import pytest

import hopmin
from hopmin.testing.registry import FAMILIES

RIGHT = {
    "logsumexp": hopmin.logsumexp,
    "softmax": hopmin.softmax,
    "log_softmax": hopmin.log_softmax,
    "entmax": hopmin.entmax,
    "energy": hopmin.DistanceEnergy,
    "nearest": hopmin.nearest,
    "retrieval": ours_memory.RETRIEVAL["dot"],
    "binary_energy": ours_memory.BINARY["Hopfield"],
    "memory": ours_memory.Memory,
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_probe_accepts_a_right_implementation(name):
    FAMILIES[name].probe(RIGHT[name])


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "energy", "nearest", "attention", "sampler"])
def test_a_probe_refuses_a_function_without_parameters(name):
    with pytest.raises(TypeError):
        FAMILIES[name].probe(lambda: np.zeros(2))


def test_a_module_stands_for_its_function():
    assert FAMILIES["softmax"].probe(hopmin) is hopmin


def test_families_say_how_they_are_called():
    for name, family in FAMILIES.items():
        assert family.name == name
        assert family.signature
        assert family.description.endswith(".")
