"""The interval covers, the test does not cry wolf, and both agree with textbook cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import expit

from manifold_lora.experiments.statistics import adjusted, crossed_estimate, paired_difference

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


def _answers(rng, seeds, items, seed_sd, item_effect):
    """0/1 answers whose log-odds have a seed, an item and a private part."""
    odds = 0.6 + rng.normal(0, seed_sd, (seeds, 1)) + item_effect + rng.normal(0, 0.5, (seeds, items))
    return (rng.random((seeds, items)) < expit(odds)).astype(float)


@pytest.mark.parametrize(
    ("seeds", "items", "seed_sd", "item_sd"), [(3, 240, 0.3, 1.5), (5, 240, 0.3, 1.0), (3, 100, 0.6, 1.0)]
)
def test_coverage_and_false_discoveries_by_simulation(seeds, items, seed_sd, item_sd):
    rng, draws = np.random.default_rng(7), 250
    spread = np.sqrt(seed_sd**2 + item_sd**2 + 0.25)
    truth = expit(0.6 + rng.normal(0, spread, 1_000_000)).mean()
    covered = false = 0
    for _ in range(draws):
        item_effect = rng.normal(0, item_sd, (1, items))
        arm, baseline = (_answers(rng, seeds, items, seed_sd, item_effect) for _ in range(2))
        estimate = crossed_estimate(arm)
        covered += estimate.low <= truth <= estimate.high
        false += paired_difference(arm, baseline).p < 0.05
    print(f"{seeds} seeds x {items} items: covered {covered / draws:.3f}, false {false / draws:.3f}")
    assert covered / draws >= 0.91
    assert false / draws <= 0.10


def test_adjusted_p_values_are_benjamini_hochberg():
    assert adjusted([]) == []
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.zeros(3), np.array([[np.nan, 1.0]])])
def test_matrices_without_a_mean_are_refused(values):
    with pytest.raises(ValueError, match="matrix"):
        crossed_estimate(values)
