"""Figures show the numbers of the record, the entropy where it is known, and omit what was not measured."""

import copy
import math

import numpy as np
import pytest

from hopmin import DistanceEnergy, DotEnergy
from hopmin.study import figures

WIDTHS, AMOUNTS = (8, 16), (10, 100, 1000)


def example_run(number, width, rows):
    rate = (number + 1) / 10
    return {
        "number": number, "layers": 2, "heads": 2, "width": width, "parameters": 100 * width, "rows": rows, "tokens": 20 * rows,
        "curve": [4.0, 3.0 - rate, 2.0 - rate],
        "cross_entropy": {"train": 1.5 - rate, "held_out": 2.5 + rate},
        "extraction_rate": {"train": rate, "held_out": rate / 2},
        "measured": {"train": 20, "held_out": 30},
        "predicted_radius": math.sqrt(width) / 10,
        "distances": [0.5, 1.0 + rate, 2.0],
        "head_agreement": [[0.5, rate], [0.25, 0.75]],
        "untrained": {"head_agreement": [[0.1, 0.2], [0.3, 0.4]], "distances": [0.25, 0.5, 1.0]},
        "head_chance": 0.125,
    }  # fmt: skip


@pytest.fixture
def record():
    places = [(width, rows) for width in reversed(WIDTHS) for rows in AMOUNTS]
    runs = [example_run(number, *place) for number, place in enumerate(places)]
    return {"corpus": {"entropy": 0.987}, "preset": {"steps": 60}, "runs": runs}


def one_run(record):
    return {**record, "runs": record["runs"][:1]}


def of_unknown_entropy(record):
    return {**record, "corpus": {"entropy": None}}


def unmeasured(record):
    return {**record, "runs": [{**run, "distances": []} for run in record["runs"]]}


FROM_RECORDS = [figures.curves, figures.scaling, figures.extraction, figures.distances, figures.heads]


def runs_of(record, **wanted):
    return [run for run in record["runs"] if all(run[key] == value for key, value in wanted.items())]


def drawn(ax):
    """Return the points of every line of the axes, as (x, y)."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]


def heights(ax):
    """Return the heights of the horizontal lines across the axes."""
    return [line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]]


@pytest.mark.parametrize("change", [one_run, of_unknown_entropy, unmeasured])
@pytest.mark.parametrize("draw", FROM_RECORDS)
def test_figures_are_drawn_from_incomplete_records(draw, change, record):
    figure = draw(change(record))
    figure.draw_without_rendering()
    assert figure.axes


@pytest.mark.parametrize("draw", FROM_RECORDS)
def test_drawing_does_not_change_the_record(draw, record):
    before = copy.deepcopy(record)
    draw(record)
    assert record == before


def test_curves_have_a_panel_per_amount_and_a_line_per_model(record):
    panels = figures.curves(record).axes
    assert [ax.get_title() for ax in panels] == ["10 rows", "100 rows", "1,000 rows"]
    for ax, rows in zip(panels, AMOUNTS, strict=True):
        for run in runs_of(record, rows=rows):
            assert ([20, 40, 60], run["curve"]) in drawn(ax)


@pytest.mark.parametrize("draw", [figures.curves, figures.scaling])
def test_the_entropy_is_drawn_where_it_is_known(draw, record):
    known, unknown = draw(record), draw(of_unknown_entropy(record))
    assert all(0.987 in heights(ax) for ax in known.axes)
    assert not any(0.987 in heights(ax) for ax in unknown.axes)
    assert "entropy of the language, 0.987" in [text.get_text() for text in known.legends[0].get_texts()]
    assert "entropy" not in " ".join(text.get_text() for text in unknown.legends[0].get_texts())


def test_the_loss_of_memorized_rows_is_drawn(record):
    """log(rows) nats per row; each row of this record has twenty tokens."""
    expected = [math.log(rows) / 20 for rows in AMOUNTS]
    assert [heights(ax)[-1] for ax in figures.curves(record).axes] == pytest.approx(expected, rel=1e-15)
    assert any(found == pytest.approx(expected, rel=1e-15) for _, found in drawn(figures.scaling(record).axes[0]))


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_scaling_shows_both_losses_against_rows_and_parameters(record, split):
    by_rows, by_size = figures.scaling(record).axes
    for width in WIDTHS:
        losses = [run["cross_entropy"][split] for run in runs_of(record, width=width)]
        assert (list(AMOUNTS), losses) in drawn(by_rows)
    for rows in AMOUNTS:
        losses = [run["cross_entropy"][split] for run in reversed(runs_of(record, rows=rows))]
        assert ([800, 1600], losses) in drawn(by_size)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_extraction_shows_both_rates_and_two_standard_errors(record, split):
    (ax,) = figures.extraction(record).axes
    bars = [bar for collection in ax.collections for bar in np.array(collection.get_segments()).tolist()]
    for width in WIDTHS:
        runs = runs_of(record, width=width)
        assert (list(AMOUNTS), [run["extraction_rate"][split] for run in runs]) in drawn(ax)
        for run in runs:
            rate = run["extraction_rate"][split]
            error = 2 * math.sqrt(rate * (1 - rate) / run["measured"][split])
            assert [[run["rows"], pytest.approx(rate - error)], [run["rows"], pytest.approx(rate + error)]] in bars


def test_distances_are_halved_and_compared_with_the_radius(record):
    for ax, width in zip(figures.distances(record).axes, WIDTHS, strict=True):
        for run in runs_of(record, width=width):
            assert ([a / 2 for a in run["distances"]], [1 / 3, 2 / 3, 1]) in drawn(ax)
        radius = math.sqrt(width) / 10
        assert ([radius, radius], [0, 1]) in drawn(ax)
        assert f"predicted {radius:.2f}" in [text.get_text() for text in ax.texts]


def test_heads_shows_every_head_of_every_run(record):
    for ax, width in zip(figures.heads(record).axes, WIDTHS, strict=True):
        shown = [ys for _, ys in drawn(ax)]
        for run in runs_of(record, width=width):
            assert all(layer in shown for layer in run["head_agreement"])
        assert heights(ax) == [pytest.approx(0.25), 0.125]  # before training, and a random key
        assert ax.get_ylim() == (0, 1)


def test_markers_and_shades_distinguish_four_models():
    assert len(set(figures.MARKERS)) == len(set(figures.SHADES)) == 4


def test_landscapes_show_the_ends_of_retrieval_and_the_energies():
    figure = figures.landscapes()
    figure.draw_without_rendering()
    for ax, energy in zip(figure.axes[:2], (DistanceEnergy(), DotEnergy()), strict=True):
        (contours,) = (c for c in ax.collections if hasattr(c, "levels"))
        greys = [sum(color[:3]) for color in contours.get_facecolor()]
        assert greys == sorted(greys), "darker is lower"
        by_label = {line.get_label(): np.column_stack(line.get_data()) for line in ax.lines}
        np.testing.assert_array_equal(by_label["stored pattern"], figures.FIG1_PATTERNS)
        ends = by_label["retrieval ends here"]
        # retrieval stops when a step is short; where the energy is flat, its limit may be a hundred such steps away
        np.testing.assert_allclose(energy.update(ends, figures.FIG1_PATTERNS), ends, atol=1e-4)
    lines = {line.get_label(): line.get_data() for line in figure.axes[2].lines}
    x, hard = lines["distance$^2$ to the nearest"]
    squares = [min((float(a) - p) ** 2 for p in (-2, 0, 1)) for a in x]
    np.testing.assert_allclose(hard, squares, rtol=1e-12, atol=1e-15)  # a square root, squared again
    soft = [-math.log(sum(math.exp(-((float(a) - p) ** 2)) for p in (-2, 0, 1))) for a in x]
    np.testing.assert_allclose(lines["distance energy, $\\beta$ = 1"][1], soft, rtol=1e-12, atol=1e-14)
