import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.errors import ManifoldLoraError, PointError
from manifold_lora.experiments.token_geometry.delta.distances import pairwise
from manifold_lora.experiments.token_geometry.delta.gromov import hyperbolicity
from manifold_lora.experiments.token_geometry.delta.sampled import sampled_hyperbolicity


def cloud(n=300, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


@given(seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_a_sample_never_claims_more_than_the_exact_delta(seed):
    points = cloud(60, 4, seed)
    exact = hyperbolicity(pairwise(points))
    found = sampled_hyperbolicity(points, subset=20, repeats=3, quadruples=2000, seed=seed)
    assert 0 < found.delta <= exact.delta + 1e-12
    assert 0 < found.diameter <= exact.diameter + 1e-12
    assert found.relative_low <= found.relative_mean <= found.relative_high


def test_a_cloud_within_the_subset_size_is_measured_exactly():
    points = cloud(50)
    found = sampled_hyperbolicity(points, subset=100, repeats=5, base="all", quadruples=10)
    assert found.repeats == 1
    assert found.delta == pytest.approx(hyperbolicity(pairwise(points)).delta, abs=1e-12)


def test_the_share_statement_covers_the_truth_as_often_as_it_says():
    """Of all quadruples at most ``exceeding_share`` lie above the largest drawn, in 95 % of the samples."""
    points = cloud(24, 3)
    d = pairwise(points)
    a, b, c, w = np.random.default_rng(9).integers(24, size=(4, 200_000))
    sums = np.sort([d[a, b] + d[c, w], d[a, c] + d[b, w], d[a, w] + d[b, c]], axis=0)
    every = (sums[2] - sums[1]) / 2
    found = [
        sampled_hyperbolicity(points, subset=4, repeats=1, quadruples=100, seed=seed) for seed in range(200)
    ]
    covered = np.mean([(every > one.quadruple_delta + 1e-12).mean() <= one.exceeding_share for one in found])
    assert covered >= 0.90


def test_the_share_is_the_order_statistic_and_the_statement_says_it():
    found = sampled_hyperbolicity(cloud(), subset=50, quadruples=1000, confidence=0.95)
    assert found.exceeding_share == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert "95%" in found.statement
    assert "delta >=" in found.statement


def test_a_sample_is_a_function_of_its_seed():
    assert sampled_hyperbolicity(cloud(), subset=50, seed=1) == sampled_hyperbolicity(
        cloud(), subset=50, seed=1
    )


@pytest.mark.parametrize("bad", [{"subset": 3}, {"quadruples": 0}, {"repeats": 0}, {"confidence": 1.0}])
def test_impossible_samples_are_refused(bad):
    with pytest.raises(ManifoldLoraError, match="sample"):
        sampled_hyperbolicity(cloud(), **bad)


def test_nan_rows_are_refused():
    with pytest.raises(PointError, match="NaN"):
        sampled_hyperbolicity(np.full((5, 2), np.nan))


def test_one_point_is_defined():
    found = sampled_hyperbolicity(np.ones((1, 3)), quadruples=5)
    assert (found.delta, found.diameter, found.relative_mean) == (0.0, 0.0, 0.0)
