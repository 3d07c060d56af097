"""The interval covers, the test does not cry wolf, and both agree with textbook cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from manifold_lora.experiments.reports.statistics import (
    CrossedMean,
    adjusted,
    crossed_estimate,
    paired_difference,
)
from manifold_lora.experiments.results.accuracy import percent

matrices = arrays(
    np.float64, st.tuples(st.integers(1, 5), st.integers(2, 30)), elements=st.sampled_from([0.0, 1.0])
)


@given(matrices)
def test_the_interval_holds_the_mean_and_ignores_order(values):
    estimate = crossed_estimate(values)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low <= estimate.mean <= estimate.high
    mirrored = crossed_estimate(values[::-1, ::-1])
    assert (mirrored.low, mirrored.high) == pytest.approx((estimate.low, estimate.high))


@given(matrices)
def test_a_difference_to_itself_is_exactly_nothing(values):
    estimate = paired_difference(values, values)
    assert (estimate.mean, estimate.low, estimate.high, estimate.p) == (0.0, 0.0, 0.0, 1.0)


def test_one_seed_is_the_plain_t_interval_over_items():
    values = np.random.default_rng(0).random((1, 50))
    estimate = crossed_estimate(values)
    low, high = stats.t.interval(0.95, 49, values.mean(), stats.sem(values[0]))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert np.isnan(estimate.sd)


def test_items_that_do_not_vary_leave_the_t_interval_over_seeds():
    seeds = np.array([0.2, 0.5, 0.6])
    estimate = crossed_estimate(np.repeat(seeds[:, None], 40, axis=1))
    low, high = stats.t.interval(0.95, 2, seeds.mean(), stats.sem(seeds))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


@given(matrices)
def test_a_difference_is_significant_where_its_interval_leaves_zero_out(values):
    estimate = crossed_estimate(values - 0.5)
    if abs(abs(estimate.mean) - (estimate.high - estimate.mean)) > 1e-9:
        assert (estimate.p < 0.05) == (estimate.low > 0 or estimate.high < 0)
    assert 0 <= estimate.p <= 1


def test_the_interval_joins_those_of_seeds_and_of_items_in_quadrature():
    values = np.random.default_rng(1).random((3, 40))
    by_seeds = stats.sem(values.mean(axis=1)) * stats.t.ppf(0.975, 2)
    by_items = stats.sem(values.mean(axis=0)) * stats.t.ppf(0.975, 39)
    estimate = crossed_estimate(values)
    assert estimate.high - estimate.mean == pytest.approx(np.hypot(by_seeds, by_items))


def test_many_matrices_at_once_are_as_one_by_one():
    values = np.random.default_rng(2).normal(0.2, 1, (7, 4, 30))
    crossed = CrossedMean.of(values)
    for index, matrix in enumerate(values):
        one = crossed_estimate(matrix)
        assert crossed.mean[index] == pytest.approx(one.mean)
        assert crossed.half_width(0.05)[index] == pytest.approx(one.high - one.mean)
        assert crossed.p_values()[index] == pytest.approx(one.p)


def test_tiny_p_values_are_those_of_the_t_test():
    values = np.random.default_rng(3).normal(3, 1, (1, 60))
    expected = stats.ttest_1samp(values[0], 0).pvalue
    assert expected < 1e-20
    assert crossed_estimate(values).p == pytest.approx(expected, rel=1e-6)


def test_answers_that_agree_everywhere_bound_no_difference():
    alike = crossed_estimate(np.zeros((3, 30)))
    assert np.isnan(alike.detectable())
    assert percent(alike.detectable()) == "–"
    assert (alike.low, alike.high) == (0.0, 0.0)


def test_the_smallest_detectable_difference_is_found_four_times_in_five():
    rng, sd, shape = np.random.default_rng(4), 1.0, (1, 50)
    detectable = np.mean([crossed_estimate(rng.normal(0, sd, shape)).detectable() for _ in range(200)])
    found = CrossedMean.of(rng.normal(detectable, sd, (2000, *shape))).p_values() < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.04)


def test_adjusted_p_values_are_benjamini_hochberg():
    assert adjusted([]) == []
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.zeros(3), np.array([[np.nan, 1.0]])])
def test_matrices_without_a_mean_are_refused(values):
    with pytest.raises(ValueError, match="matrix"):
        crossed_estimate(values)
