"""Delta against ability: the statistics against SciPy, what a confounder does, how often they cry wolf."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from manifold_lora.experiments.token_geometry.ability import (
    PromptRow,
    average,
    controls_of,
    partial_rho,
    rank_correlation,
)

COLUMNS = arrays(np.float64, (3, 12), elements=st.integers(-4, 4).map(float))
ROW = PromptRow("run", "layer 0", "a", "1", "", "1", True, 6.0, 3, 7, 6, 2.0, 0.3, 0.1, 0.2)


def apart(count):
    """A cluster of its own for each item."""
    return [str(place) for place in range(count)]


@given(COLUMNS)
def test_without_controls_it_is_spearmans_rho(columns):
    x, y, _ = columns
    found = partial_rho(x, y, np.empty((len(x), 0)))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@given(COLUMNS)
def test_with_a_control_it_is_the_partial_rank_correlation(columns):
    """The textbook formula of three correlations, wherever the control leaves something."""
    x, y, control = columns
    if min(map(np.ptp, columns)) == 0:
        return
    xy, xc, yc = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, control), (y, control)))
    if max(abs(xc), abs(yc)) < 0.999:
        expected = (xy - xc * yc) / np.sqrt((1 - xc**2) * (1 - yc**2))
        assert partial_rho(x, y, control[:, None]) == pytest.approx(expected, abs=1e-9)
    else:
        assert np.isnan(partial_rho(x, y, control[:, None]))


def test_length_alone_makes_a_correlation_that_its_control_takes_away():
    """Both follow the length, each on a curve of its own: ranks see through any that rises."""
    rng = np.random.default_rng(0)
    length = rng.permutation(200).astype(float)
    figure, good = np.log1p(length + 20 * rng.random(200)), (length + 20 * rng.random(200)) ** 3
    alone = rank_correlation(figure, good, np.empty((200, 0)), apart(200))
    held = rank_correlation(figure, good, length[:, None], apart(200))
    assert alone.low > 0.9
    assert held.low < 0 < held.high
    assert alone.p < 1e-6 < 0.05 < held.p


def test_what_goes_with_ability_beside_the_length_stays():
    rng = np.random.default_rng(1)
    length, skill = rng.normal(size=(2, 200))
    held = rank_correlation(length + skill, skill - length, length[:, None], apart(200))
    right = rank_correlation(length + skill, (skill > 0).astype(float), length[:, None], apart(200))
    assert held.low > 0.8
    assert right.low > 0.5


def test_where_nothing_goes_with_ability_few_intervals_miss_nothing():
    """Of 100 studies of 60 prompts in pairs that ask the same, about 1 in 20 would be right."""
    rng = np.random.default_rng(2)
    clusters, missed, doubted = [str(place // 2) for place in range(60)], 0, 0
    for seed in range(100):
        length, x, y = (np.repeat(rng.normal(size=30), 2) for _ in range(3))
        found = rank_correlation(x + length, y + length, length[:, None], clusters, 60, seed)
        missed += not found.low < 0 < found.high
        doubted += found.p < 0.05
    assert missed <= 12
    assert doubted <= 12


def test_prompts_that_ask_the_same_count_once():
    values = np.random.default_rng(3).normal(size=40)
    once = average(values, apart(40))
    twice = average(np.repeat(values, 2), [str(place // 2) for place in range(80)])
    assert (once.value, once.low, once.high) == pytest.approx((twice.value, twice.low, twice.high))
    assert average(np.repeat(values, 2), apart(80)).high < once.high


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(4).normal(size=400)
    found = average(values, apart(400), resamples=2000)
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_few_prompts_few_right_answers_and_unknown_nats_give_no_statistic():
    figure, fixed = np.arange(30.0), np.random.default_rng(5).normal(size=(30, 1))
    nats = np.where(np.arange(30) < 10, np.nan, figure)
    assert rank_correlation(figure, nats, fixed[:, :0], apart(30)).value == pytest.approx(1)
    assert rank_correlation(figure, nats, figure[:, None], apart(30)) is None
    assert rank_correlation(figure, (figure < 4).astype(float), fixed, apart(30)) is None
    assert rank_correlation(figure[:7], figure[:7], fixed[:7], apart(7)) is None
    assert np.isnan(average(figure[:7], apart(7)).low)


def test_what_is_held_fixed_of_a_prompt():
    other = replace(ROW, set="b", group="2 steps", tokens=9)
    assert controls_of([ROW, other]).tolist() == [[7, 6, 2, 3, 0], [9, 6, 2, 3, 1]]
    assert (ROW.excess, ROW.likelihood) == pytest.approx((0.2, -2))
    assert np.isnan(replace(ROW, gold_tokens=0).likelihood)
