import numpy as np
import pytest

from manifold_lora.experiments.token_geometry.delta.nulls import gaussian, shuffled


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 16)) * rng.uniform(0.5, 2, size=(400, 1)) + np.arange(16)


def test_the_gaussian_null_keeps_count_width_and_norms_and_forgets_direction(rows):
    null = gaussian(rows, np.random.default_rng(1))
    assert null.shape == rows.shape
    assert np.allclose(np.linalg.norm(null, axis=1), np.linalg.norm(rows, axis=1))
    directions = null / np.linalg.norm(null, axis=1, keepdims=True)
    assert np.linalg.norm(directions.mean(axis=0)) < 0.1


def test_the_shuffled_null_keeps_every_coordinate_and_loses_what_they_share(rows):
    linked = np.repeat(rows[:, :1], 16, axis=1)
    null = shuffled(linked, np.random.default_rng(1))
    assert np.array_equal(np.sort(null, axis=0), np.sort(linked, axis=0))
    assert abs(np.corrcoef(null, rowvar=False)[0, 1]) < 0.2


@pytest.mark.parametrize("null", [gaussian, shuffled])
def test_a_null_is_a_function_of_its_seed(null, rows):
    first, again, other = (null(rows, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
