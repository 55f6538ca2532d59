"""Figures are reproducible, readable without colours, and have points that can be focused."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin.study import charts


def figure():
    drawn, ax = charts.axes("rows", "loss", xscale="log")
    charts.points(
        ax, [1, 10], [2.0, 1.0], 0, tips=["1 row: <2>", '10 rows: "1"'], label="a", low=[1.5, 0.5], high=[2.5, 1.5]
    )
    charts.points(ax, [1, 10], [2.0, 1.01], 1, tips=["x", "y"], label="b", hollow=True)
    charts.reference(ax, "floor", y=0.9)
    charts.reference(ax, "edge", x=3)
    return drawn


def test_svg_is_reproducible_and_well_formed():
    first = charts.svg(figure(), 'loss "falls" & rises')
    assert first == charts.svg(figure(), 'loss "falls" & rises')
    root = ET.fromstring(first)
    assert root.get("aria-label") == 'loss "falls" & rises'


def test_points_can_be_focused_and_say_their_numbers():
    root = ET.fromstring(charts.svg(figure(), "x"))
    points = [e for e in root.iter() if e.get("class") == "point"]
    assert [p.get("aria-label") for p in points] == ["1 row: <2>", '10 rows: "1"', "x", "y"]
    assert all(p.get("tabindex") == "0" for p in points)


def test_colours_are_variables_on_a_page_and_plain_in_a_file():
    file = charts.svg(figure(), "x")
    page = charts.themed(file)
    assert "var(--ink)" in page
    assert "var(--series-0)" in page
    assert not re.findall(r"(?:fill|stroke): #(?!fff)[0-9a-f]{6}", page)
    assert "var(" not in file
    assert charts.INK in file


def test_labels_of_series_do_not_overlap():
    drawn = figure()
    charts.svg(drawn, "x")
    labels = [text for text in drawn.axes[0].texts if text.get_gid() == charts.LABEL]
    places = sorted(text.get_window_extent().y0 for text in labels)
    assert places[1] - places[0] >= 13 * drawn.dpi / 72


@given(st.lists(st.floats(-100, 100), max_size=20), st.floats(0.1, 30))
def test_apart_keeps_order_distance_and_centre(places, least):
    places = sorted(places)
    moved = charts.apart(places, least)
    assert len(moved) == len(places)
    assert all(np.diff(moved) >= least * (1 - 1e-9))
    assert np.mean(moved or [0]) == pytest.approx(np.mean(places or [0]), abs=1e-9)
    if all(np.diff(places) >= least):
        assert moved == pytest.approx(places)


def test_logarithmic_axes_have_a_few_round_ticks():
    for low, high in ((17e3, 27e3), (100, 6400), (1, 1e8), (0.3, 40)):
        ticks = charts._Decades().tick_values(low, high)
        assert 2 <= len(ticks) <= 5
        assert all(low <= tick <= high for tick in ticks)


def test_points_without_an_interval_have_no_bar():
    _, ax = charts.axes("x", "y")
    charts.points(ax, [1, 2], [1.0, 2.0], 0, tips=["a", "b"], low=[None, 1.5], high=[None, 2.5], line=False)
    bars = [line.get_ydata().tolist() for line in ax.lines if len(line.get_ydata()) == 2]
    assert bars == [[1.5, 2.5]]


def test_labels_stay_above_the_bottom_of_the_axes():
    """Labels of series that end at the bottom would cover the numbers of the axis below it."""
    figure, ax = charts.axes("x", "y", ylim=(0, 1))
    for i in range(3):
        charts.points(ax, [0, 1], [0.9, 0.0], i, tips=["a", "b"], label=f"series {i}")
    charts.svg(figure, "Three series that end at the bottom.")
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert heights[0] >= 0
    assert min(np.diff(heights)) >= 13.9
