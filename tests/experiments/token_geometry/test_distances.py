import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from manifold_lora.errors import PointError, UnknownNameError
from manifold_lora.experiments.token_geometry.delta.distances import DISTANCES, between, pairwise
from manifold_lora.manifolds.build import build_manifold

ORACLES = {
    "euclidean": lambda x: cdist(x, x),
    "cosine": lambda x: cdist(x, x, "cosine"),
    "angular": lambda x: np.arccos(np.clip(1 - cdist(x, x, "cosine"), -1, 1)),
}


def cloud(seed, n=30, width=7, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, width)) + shift


@pytest.mark.parametrize("name", DISTANCES)
@given(seed=st.integers(0, 1000), n=st.integers(1, 40), width=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_distances_equal_scipy(name, seed, n, width):
    x = cloud(seed, n, width)
    # arccos of a cosine near 1 is good to 1e-8 only; ours is the better one there.
    assert np.allclose(pairwise(x, name), ORACLES[name](x), atol=3e-8 if name == "angular" else 1e-12)


@pytest.mark.parametrize("name", [*DISTANCES, "lorentz", "poincare", "sphere"])
def test_distances_are_exactly_symmetric_with_a_zero_diagonal_and_agree_with_single_pairs(name):
    distance = name if name in DISTANCES else build_manifold(name)
    x = cloud(0) / 4
    found = pairwise(x, distance)
    assert np.array_equal(found, found.T)
    assert not found.diagonal().any()
    assert np.allclose(between(x[:-1], x[1:], distance), found.diagonal(1), atol=1e-12)


@given(gap=st.floats(1e-9, 1e-3), shift=st.floats(-1e3, 1e3))
@settings(max_examples=60, deadline=None)
def test_near_points_far_from_the_origin_keep_their_distance(gap, shift):
    """The Gram form alone loses everything here: |x - y| = 1e-9 among norms of 1e3."""
    x = cloud(1, 8, 5, shift)
    x[3] = x[2]
    x[3, 0] += gap
    exact = abs(x[3, 0] - x[2, 0])
    assert pairwise(x)[2, 3] == pytest.approx(exact, rel=1e-9, abs=1e-12 * abs(shift))


def test_equal_rows_have_distance_zero():
    assert not pairwise(np.tile(cloud(0, 1, 384), (5, 1))).any()


def test_a_geometry_is_measured_from_its_origin_by_norm():
    x = np.vstack([np.zeros(3), np.eye(3), [[0.0, 2.0, 0.0]]])
    assert pairwise(x, build_manifold({"name": "lorentz", "curvature": -0.25}))[0, 1:] == pytest.approx(
        [1, 1, 1, 2]
    )


def test_float32_is_float64_rounded():
    x = cloud(3)
    assert np.array_equal(pairwise(x, dtype=np.float32), pairwise(x).astype(np.float32))


@pytest.mark.parametrize(
    ("points", "distance", "said"),
    [
        (np.array([[1.0, 2.0], [np.nan, 0.0]]), "euclidean", r"rows \[1\]"),
        (np.array([[1.0, 2.0], [np.inf, 0.0]]), "angular", r"rows \[1\]"),
        (np.zeros((0, 3)), "euclidean", "at least one"),
        (np.zeros(3), "euclidean", "width"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "cosine", r"zero rows \[1\]"),
    ],
)
def test_bad_points_are_named(points, distance, said):
    with pytest.raises(PointError, match=said):
        pairwise(points, distance)


def test_an_unknown_distance_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'euclidean'"):
        pairwise(cloud(0), "euclidian")
