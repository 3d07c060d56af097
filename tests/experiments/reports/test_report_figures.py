"""Figures tell thirty arms apart and can be read on a phone."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.experiments.reports.figures.canvas import inline
from manifold_lora.experiments.reports.figures.costs import costs
from manifold_lora.experiments.reports.figures.curvature import curvature, gains
from manifold_lora.experiments.reports.figures.gallery import gallery
from manifold_lora.experiments.reports.figures.margin_labels import spread
from manifold_lora.experiments.reports.figures.rates import rates
from manifold_lora.experiments.reports.figures.style import (
    COLOURS,
    CYCLE,
    colour_and_marker,
    dashes,
    plain,
    styled,
)
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.settings.arms import ARMS

PHONE = 400 - 26


@pytest.fixture(scope="module")
def rows(report_on):
    """Every arm there is, at two rates."""
    levels = {arm: 0.4 + 0.01 * place for place, arm in enumerate(ARMS) if arm != "custom"}
    return Study.read(report_on(levels, rates=(1e-3, 1e-2), seeds=2, items=40)).rows


def test_forty_arms_have_colour_and_mark_of_their_own_and_lines_where_colours_come_again():
    assert not set(CYCLE) & set(COLOURS.values())
    assert len({colour_and_marker(index) for index in range(40)}) == 40
    assert len({(colour_and_marker(index)[0], dashes(index)) for index in range(32)}) == 32


def test_a_minus_sign_is_one():
    assert [plain(value) for value in (-0.5, 0.0, 1e-5, -2e-5)] == ["−0.5", "0", "1e-05", "−2e-05"]


def test_ticks_of_many_rates_and_of_gains_over_decades_do_not_touch(report_on):
    levels = {"lora": 0.5, "direct": 0.6, "direct-sphere": 0.55}
    tried = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    rows = Study.read(report_on(levels, rates=tried, seeds=2, items=40)).rows
    for place, row in enumerate(rows):
        for record in row.chosen.records.values():
            record["geometry"]["gain"] = {"layer": 10.0 ** (3 * place - 2)}
    for draw in (rates, gains):
        with styled():
            figure = draw(rows)
            figure.draw_without_rendering()  # places the labels
            for axis in figure.axes:
                ticks = [*axis.get_xticklabels(), *axis.get_xticklabels(minor=True)]
                low, high = axis.get_window_extent().intervalx
                boxes = sorted(
                    (tick.get_window_extent().intervalx for tick in ticks if tick.get_text()), key=min
                )
                seen = [box for box in boxes if low - 1 <= sum(box) / 2 <= high + 1]
                assert len(seen) > 2
                assert all(left[1] < right[0] for left, right in pairwise(seen))


def test_families_of_the_curvature_figure_are_distinguished(rows):
    with styled():
        figure = curvature(rows)
    assert figure is not None
    drawn = [container.lines[0] for container in figure.axes[0].containers]
    assert len(drawn) > 8
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in drawn}
    assert len(looks) == len(drawn)


def test_no_figure_shrinks_its_letters_below_nine_pixels_and_none_is_wide(rows):
    for picture in gallery(rows):
        page = inline(picture.svg, picture.name, picture.name)
        limits = re.search(r'style="max-width:(\d+)px;min-width:(\d+)px"', page)
        assert limits is not None
        widest, narrowest = int(limits[1]), int(limits[2])
        letters = [float(size) for size in re.findall(r"font(?:-size)?: ?([\d.]+)px", picture.svg)]
        assert min(letters) * 4 / 3 * narrowest / widest > 8.5
        assert narrowest < 1.25 * PHONE


def test_learning_rates_stand_group_by_group_and_every_arm_is_named_once(rows):
    with styled():
        figure = rates(rows)
    assert figure is not None
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Baselines", "Controls", "Geometries"]
    named = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert sorted(named) == sorted([row.label for row in rows[1:]] + ["lora"] * 3)


def test_of_many_arms_the_cost_figure_names_those_that_bound_the_rest(rows):
    with styled():
        many, few = costs(rows), costs(rows[:6])
    assert many is not None
    assert few is not None
    best = max(rows, key=lambda row: row.scores["test"].mean)
    for axis in many.axes:
        named = {text.get_text() for text in axis.texts}
        assert {"lora", best.label} <= named
        assert len(named) < len(rows)
    assert len(few.axes[0].texts) == 6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.2))
def test_names_keep_their_order_and_their_distance(wanted, gap):
    wanted.sort()
    places = spread(wanted, gap)
    assert (np.diff(places) >= gap - 1e-9).all()
    if len(wanted) == 1 or np.diff(wanted).min() >= gap:
        assert places == pytest.approx(wanted)
