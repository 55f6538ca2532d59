"""The estimator of the exponent finds planted ones, and tells them apart."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from hopmin.study.experiments import grid
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Fit
from hopmin.study.plan import Settings


@pytest.mark.parametrize("power", [1, 1.5, 2, 3])
def test_planted_exponents_are_recovered(power):
    found = [
        grid.exponent(grid.growth(grid.data_needed(grid.planted(power, seed=seed, noise=0.02)))) for seed in range(10)
    ]
    assert np.median([e.value for e in found]) == pytest.approx(power, rel=0.03)
    assert all(abs(e.value / power - 1) < 0.1 for e in found)
    covered = [e.low <= power <= e.high for e in found]
    assert np.mean(covered) >= 0.6
    others = {1, 1.5, 2, 3} - {power}
    assert not any(e.low <= other <= e.high for e in found for other in others)


def test_amounts_are_interpolated_where_the_gap_passes_sigma():
    amounts = np.array([100.0, 200.0, 400.0, 800.0])
    assert grid.smallest_data(amounts, np.array([1.0, 0.4, 0.2 - 1e-12, 0.1])) == pytest.approx(400)
    assert grid.smallest_data(amounts, np.array([1.0, 0.1, 0.3, 0.1])) == pytest.approx(math.sqrt(400 * 800))
    assert math.isnan(grid.smallest_data(amounts, np.array([1.0, 0.5, 0.4, 0.3])))
    assert math.isnan(grid.smallest_data(amounts, np.array([0.1, 0.1, 0.1, 0.1])))


def test_the_gap_is_taken_at_the_best_held_out_loss():
    assert grid.gap({"curve": [[1, 2.0, 2.5], [2, 1.5, 2.0], [3, 0.5, 3.0]]}) == 0.5


def test_too_few_models_have_no_exponent():
    for some in ([], needed((10, 100.0), (10, 120.0)), needed((10, 100.0), (20, math.nan))):
        assert grid.exponent(grid.growth(some)) is None
        assert grid.resampled_growth(some) is None


def test_the_form_of_chinchilla_is_fitted():
    truth = (1.0, 40.0, 30.0, 0.5, 0.4)
    records = [
        {
            "parameters": N,
            "tokens": D,
            "curve": [[1, 0.0, truth[0] + truth[1] / N ** truth[3] + truth[2] / D ** truth[4]]],
        }
        for N in (1e3, 4e3, 16e3, 64e3)
        for D in (1e3, 1e4, 1e5, 1e6)
    ]
    fitted, (low, high) = grid.chinchilla(records)
    assert fitted == pytest.approx(truth, rel=0.05)
    assert np.all(low <= fitted * 1.01)
    assert np.all(high >= fitted * 0.99)
    assert grid.chinchilla(records[:5]) is None


def needed(*pairs, layers=2, seed=0):
    return [({"parameters": n, "layers": layers, "width": 8, "seed": seed}, d) for n, d in pairs]


LINE = ((10, 10.0), (100, 100.0), (1000, 1000.0), (10_000, 10_000.0))  # D* grows as N


def test_seeds_are_averaged_before_the_line_is_fitted():
    """D* of each size is the geometric mean of its seeds, and more seeds are no more models."""
    first, second = (50.0, 200.0, 400.0), (200.0, 800.0, 6400.0)
    seeds = [
        pair
        for seed, d in enumerate((first, second))
        for pair in needed(*zip((10, 100, 1000), d, strict=True), seed=seed)
    ]
    means = needed((10, 100.0), (100, 400.0), (1000, 1600.0))
    assert grid.growth(seeds).value == pytest.approx(grid.growth(means).value) == pytest.approx(math.log10(4))
    assert grid.growth(seeds).n == 3


@pytest.mark.parametrize(
    ("amounts", "verdict"),
    [
        ((100.0, 316.0, 1000.0, 3150.0), "The paper's exponent of 2 cannot be excluded"),
        ((100.0, 1000.0, 10_010.0, 100_000.0), "The exponent differs from the paper's 2"),
        ((100.0, 300.0, 50.0, 200.0), "These models do not determine the exponent"),
        ((100.0, 300.0), "Two sizes give an exponent without an interval"),
    ],
)
def test_verdicts_follow_the_interval(amounts, verdict):
    found = grid._exponent_finding(needed(*((10 ** (i + 1), d) for i, d in enumerate(amounts))))
    assert found.text.startswith(verdict)


def test_models_that_never_agree_are_counted():
    found = grid._exponent_finding(needed((10, 100.0), (100, math.nan)))
    assert found.value is None
    assert "1 of 2 models" in found.text


def test_models_alike_in_a_trait_are_told_from_others():
    models = [*needed((10, 1.0), (20, 1.0)), *needed((30, 1.0), layers=4)]
    assert grid.alike(models, lambda r: r["layers"]) == models[:2]


def run_record(parameters, used, train, held_out):
    return {"parameters": parameters, "used": used, "seed": 0, "extracted": {"train": train, "held_out": held_out},
            "scored": {"train": 10, "held_out": 10}}  # fmt: skip


def test_extraction_is_that_of_the_largest_model():
    records = [run_record(1, 5, 1, 1), run_record(2, 5, 10, 2), run_record(2, 50, 6, 5), run_record(1, 50, 0, 0)]
    fewest, most = grid._extraction_finding(records)
    assert fewest.value == pytest.approx(0.8)
    assert most.value == pytest.approx(0.1)


def test_a_run_counts_completed_rows_of_both_splits():
    cell = grid.cells(Settings("smoke"))[0]
    found = grid.run(cell, lambda *_: None)
    model, train, held_out, curve = grid.fit(grid.Training(**cell["training"]))
    assert found["used"] == len(train) == 20
    assert found["tokens"] == (train[:, 1:] >= 0).sum()
    assert found["scored"] == {"train": 20, "held_out": 20}
    assert found["loss"]["held_out"] == grid.cross_entropy(model, held_out)
    assert found["parameters"] == model.config.parameter_count - model.parameters["tokens"].size
    assert [tuple(point) for point in found["curve"]] == curve


def test_intervals_cover_planted_exponents_as_the_chapter_says():
    """Student's t covers enough; a bootstrap of three seeds does not."""
    covered = []
    for power in (1, 1.5, 2, 3):
        for seed in range(25):
            of = grid.data_needed(grid.planted(power, seed=seed))
            slopes = grid.growth(of), grid.resampled_growth(of), grid.resampled_growth(of, draw="seeds")
            covered.append([e.low <= power <= e.high for e in map(grid.exponent, slopes)])
    student, sizes, seeds = np.mean(covered, axis=0)
    assert student >= 0.9
    assert sizes >= 0.85
    assert 0.5 <= seeds <= 0.85


def test_seeds_are_drawn_together_for_all_sizes():
    """A factor that all sizes of a seed share changes no slope; factors of single models do."""
    factors = (1.0, 50.0, 0.02)
    shared = [(r, factors[r["seed"]] * d) for seed in range(3) for r, d in needed(*LINE, seed=seed)]
    found = grid.resampled_growth(shared, draw="seeds")
    assert (found.low, found.high) == (pytest.approx(1), pytest.approx(1))
    apart = [(r, d * 1.5 ** (i % 5)) for i, (r, d) in enumerate(shared)]
    assert grid.resampled_growth(apart, draw="seeds").high > grid.resampled_growth(apart, draw="seeds").low + 0.01


def test_a_bootstrap_of_sizes_lies_between_the_slopes_of_pairs():
    bent = needed((10, 10.0), (100, 100.0), (1000, 10_000.0))
    uneven = needed((7_376, 17_000.0), (27_040, 24_100.0), (59_000, 25_800.0))  # whose logarithms are rounded
    assert 0 < grid.resampled_growth(uneven).low < grid.resampled_growth(uneven).high < 1
    found = grid.resampled_growth(bent)
    assert (found.value, found.low, found.high) == (pytest.approx(1.5), pytest.approx(1), pytest.approx(2))


def test_a_bootstrap_needs_something_to_draw():
    some = [*needed(*LINE), *needed((10, 10.0), (100, math.nan), (1000, math.nan), seed=1)]
    for draw in ("sizes", "seeds"):
        found = grid.resampled_growth(some, draw=draw)
        assert (found.value, found.low, found.high) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert grid.resampled_growth(needed((10, 10.0), (100, 100.0))).low is None
    assert grid.resampled_growth(needed(*LINE), draw="seeds").low is None


def test_bootstrap_intervals_are_findings_where_there_are_any():
    seeds = [pair for seed in range(3) for pair in needed(*((n, d * (1 + 0.1 * seed)) for n, d in LINE), seed=seed)]
    assert [f.id for f in grid._bootstrap_findings(seeds)] == ["bootstrap of sizes", "bootstrap of seeds"]
    assert [f.id for f in grid._bootstrap_findings(needed(*LINE))] == ["bootstrap of sizes"]
    assert grid._bootstrap_findings(needed((10, 10.0))) == []


def test_losses_and_completions_are_those_of_their_split(monkeypatch):
    training = grid.Training(1, 1, 8, 30, 6, drawn=30)
    model, language = training.untrained, training.language
    monkeypatch.setattr(grid, "fit", lambda *_: Fit(model, language.train, language.held_out, []))
    monkeypatch.setattr(
        grid, "extraction_rate", lambda model, rows: 0.5 if np.array_equal(rows, language.train[:10]) else 0.1
    )
    found = grid.run({"training": asdict(training), "measured": 10}, lambda *_: None)
    splits = {"train": language.train, "held_out": language.held_out}
    assert found["loss"] == {name: cross_entropy(model, rows) for name, rows in splits.items()}
    assert found["extracted"] == {"train": 5, "held_out": 1}


def test_depth_and_width_grow_together_at_one_aspect(monkeypatch):
    monkeypatch.setattr(grid, "chinchilla", lambda records: None)
    shapes = ((1, 16), (2, 32), (3, 49), (3, 48), (4, 64), (2, 16), (2, 24))  # four are 16 times as wide as deep
    records = [
        {"layers": L, "width": D, "parameters": L * D**2, "seed": 0, "tokens": tokens, "used": used, "entropy": 1.0,
         "curve": [[1, 1.0, 1 + 40 * gap / tokens]], "extracted": {"train": 1, "held_out": 1},
         "scored": {"train": 2, "held_out": 2}}
        for i, (L, D) in enumerate(shapes)
        for gap in [L * D * (1 + 0.05 * (i % 3))]
        for used, tokens in ((5, 50 * gap), (99, 1000 * gap))
    ]  # fmt: skip
    found = {f.id: f.text for f in grid.findings(records)}
    assert "from 4 of 4 models" in found["depth and width together"]


def test_the_largest_model_may_lack_amounts_of_data():
    """As in a study that has not finished."""
    fewest, most = grid._extraction_finding([run_record(1, 5, 1, 1), run_record(2, 50, 6, 5)])
    assert fewest.value == most.value == pytest.approx(0.1)
