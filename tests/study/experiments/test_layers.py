"""The global energy falls for models that are built to descend it, and the bound holds for the others."""

import numpy as np
import pytest

from hopmin.study.experiments import layers
from hopmin.study.plan import Settings


@pytest.fixture(scope="module")
def records():
    return [{**cell, **layers.run(cell, lambda *_: None)} for cell in layers.cells(Settings("smoke", seed=2))]


def of(records, kind):
    return next(r for r in records if r["kind"] == kind)


def test_energy_attention_searches_and_never_raises_its_energy(records):
    found = of(records, "energy")
    assert not any(found["raised"])
    assert np.all(np.diff(found["global_energy"]) < 0)
    assert np.min(found["heads"]["nearest"]) > 0.99


def test_the_bound_on_a_rise_holds(records):
    used = [u for kind in ("trained", "untrained") for u in of(records, kind)["bound_used"]]
    assert used
    assert min(used) > 0
    assert max(used) <= 1 + 1e-9


def test_a_change_by_training_is_found_and_none_is_not(records):
    trained, untrained = of(records, "trained"), of(records, "untrained")
    better = {
        **trained,
        "heads": {**trained["heads"], "nearest": np.minimum(1, np.array(untrained["heads"]["nearest"]) + 0.3).tolist()},
    }
    same = {**trained, "heads": untrained["heads"]}
    assert layers.findings([better, untrained])[0].text.startswith("Training makes heads search more")
    assert layers.findings([same, untrained])[0].text.startswith("Training does not make")
