"""Every experiment has all its parts, and cells are JSON that depends on the settings alone."""

import json

import pytest

from hopmin.study.plan import Job, Settings, experiments, outcomes, plan, question

PRESETS = ("smoke", "quick", "standard", "paper")
NAMES = ["floor", "grid", "radius", "memorization", "layers", "recall", "editing", "capacity", "landscape"]


def test_experiments_are_in_the_order_of_the_report():
    assert list(experiments()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_what_it_asks_and_compares(name):
    experiment = experiments()[name]
    assert question(experiment).endswith("?")
    assert len(outcomes(experiment)) > 80
    for text in (experiment.METHOD, experiment.PAPER, experiment.CONTROL, experiment.CAVEATS):
        assert text.endswith(".")
        assert "  " not in text


@pytest.mark.parametrize("preset", PRESETS)
def test_cells_are_json_and_have_keys_of_their_own(preset):
    jobs = plan(Settings(preset))
    assert [json.loads(json.dumps(job.cell)) for job in jobs] == [job.cell for job in jobs]
    assert len({job.key for job in jobs}) == len(jobs)
    assert {job.experiment for job in jobs} == set(NAMES)
    assert jobs == plan(Settings(preset))


def test_keys_depend_on_the_configuration_alone():
    assert Job("floor", {"a": 1, "b": 2}).key == Job("floor", {"b": 2, "a": 1}).key
    assert Job("floor", {"a": 1}).key != Job("grid", {"a": 1}).key != Job("grid", {"a": 2}).key


def test_seeds_change_and_multiply_the_cells():
    one, two = plan(Settings("quick", seed=3)), plan(Settings("quick", seed=3, seeds=2))
    assert len(one) < len(two)
    assert not {job.key for job in plan(Settings("quick", seed=9))} & {job.key for job in one if "seed" in job.cell}
    assert {job.key for job in one} <= {job.key for job in two}
    assert list(Settings("standard").all_seeds) == [0, 1, 2]


def test_a_text_has_the_experiments_that_need_no_grammar(tmp_path):
    jobs = plan(Settings("smoke", corpus="some.txt"))
    assert {job.experiment for job in jobs} == {name for name in NAMES if experiments()[name].TEXT}
    with pytest.raises(ValueError, match=r"corpus must be question-formation for experiment 'floor'; got some\.txt"):
        plan(Settings("smoke", corpus="some.txt"), ["floor"])


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(ValueError, match="experiment must be one of"):
        plan(Settings(), ["ceiling"])
    for wrong in ({"preset": "huge"}, {"seed": -1}, {"seeds": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            Settings(**wrong)
