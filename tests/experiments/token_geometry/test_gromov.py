import numpy as np
import pytest
from delta_oracles import based_delta, blocked_delta, four_point_delta
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from manifold_lora.errors import ManifoldLoraError, PointError
from manifold_lora.experiments.token_geometry.delta.gromov import hyperbolicity
from manifold_lora.experiments.token_geometry.delta.references import random_graph, tree


@st.composite
def metrics(draw, largest=14):
    """Euclidean clouds, integer graphs full of ties, weighted trees, and clouds with repeated points."""
    n, seed = draw(st.integers(1, largest)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["cloud", "repeats", "grid", "tree", "graph"]))
    if kind == "tree":
        return tree(n, rng) * rng.uniform(0.1, 3)
    if kind == "graph":
        return random_graph(n, rng, 3.0) if n > 3 else np.zeros((1, 1))
    points = rng.normal(size=(n, draw(st.integers(1, 6))))
    points = np.round(points) if kind == "grid" else points
    points = points[rng.integers(n, size=n)] if kind == "repeats" else points
    return squareform(pdist(points)) if n > 1 else np.zeros((1, 1))


@given(metrics())
@settings(max_examples=150, deadline=None)
def test_all_base_points_equal_the_four_point_computation(distances):
    found = hyperbolicity(distances)
    assert found.delta == pytest.approx(four_point_delta(distances), abs=1e-14 * (1 + found.diameter))


@given(metrics(largest=24), st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_one_base_point_equals_the_definition(distances, base):
    base %= len(distances)
    found = hyperbolicity(distances, base)
    assert found.delta == pytest.approx(based_delta(distances, base), abs=1e-14 * (1 + found.diameter))


@given(metrics(), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_a_base_point_gives_half_of_delta_at_least_and_relative_delta_is_a_share(distances, base):
    every, one = hyperbolicity(distances), hyperbolicity(distances, base % len(distances))
    rounding = 1e-13 * (1 + every.diameter)
    assert one.delta <= every.delta + rounding <= 2 * one.delta + 2 * rounding
    assert 0.0 <= every.relative <= 1.0 + 1e-12


@given(metrics(), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_relative_delta_has_no_unit(distances, factor):
    scaled = hyperbolicity(distances * factor)
    assert scaled.relative == pytest.approx(hyperbolicity(distances).relative, abs=1e-12)


@given(metrics())
@settings(max_examples=100, deadline=None)
def test_the_witness_attains_delta(distances):
    found = hyperbolicity(distances)
    if found.witness is None:
        assert found.delta == 0.0
    else:
        a, b, c, w = found.witness
        d = distances
        ac, cb, ab = (d[x, w] + d[y, w] - d[x, y] for x, y in ((a, c), (c, b), (a, b)))
        assert (min(ac, cb) - ab) / 2 == pytest.approx(found.delta, abs=1e-14 * (1 + found.diameter))


@given(st.integers(0, 2**32 - 1), st.integers(2, 16))
@settings(max_examples=100, deadline=None)
def test_symmetric_matrices_without_triangle_inequality_keep_to_the_definition(seed, n):
    """1 - cos is not a metric; a = b and repeated points then count."""
    values = np.triu(np.random.default_rng(seed).uniform(size=(n, n)), k=1)
    distances = values + values.T
    for base in range(n):
        assert hyperbolicity(distances, base).delta == pytest.approx(based_delta(distances, base), abs=1e-13)
    every = max(based_delta(distances, base) for base in range(n))
    assert hyperbolicity(distances).delta == pytest.approx(every, abs=1e-13)


@pytest.mark.parametrize(("n", "width"), [(300, 2), (300, 3), (300, 24), (200, 384)])
def test_pruning_changes_nothing_at_sizes_where_it_works(n, width):
    distances = squareform(pdist(np.random.default_rng(n + width).normal(size=(n, width))))
    assert hyperbolicity(distances, 7).delta == pytest.approx(blocked_delta(distances, 7), abs=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("width", [3, 384])
def test_1500_points_equal_the_naive_computation(width):
    distances = squareform(pdist(np.random.default_rng(width).normal(size=(1500, width))))
    assert hyperbolicity(distances, 7).delta == pytest.approx(blocked_delta(distances, 7), abs=1e-13)


def test_the_tighter_bound_of_dense_cases_changes_nothing(monkeypatch):
    distances = squareform(pdist(np.random.default_rng(1).normal(size=(80, 2))))
    expected = blocked_delta(distances, 0)
    monkeypatch.setattr("manifold_lora.experiments.token_geometry.delta.branch_and_bound._MANY", 0)
    monkeypatch.setattr("manifold_lora.experiments.token_geometry.delta.branch_and_bound._DENSE", 0.0)
    assert hyperbolicity(distances, 0).delta == pytest.approx(expected, abs=1e-13)


def test_float32_is_right_to_its_rounding_and_leaves_the_matrix_alone():
    distances = squareform(pdist(np.random.default_rng(0).normal(size=(120, 8))))
    single = distances.astype(np.float32)
    kept = single.copy()
    assert hyperbolicity(single, 0).delta == pytest.approx(based_delta(distances, 0), rel=2e-6)
    assert np.array_equal(single, kept)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_equal_points_have_delta_and_relative_delta_zero(n):
    found = hyperbolicity(np.zeros((n, n)))
    assert (found.delta, found.diameter, found.relative, found.witness) == (0.0, 0.0, 0.0, None)


def test_progress_reaches_every_base_and_grows():
    seen = []
    hyperbolicity(squareform(pdist(np.random.default_rng(0).normal(size=(20, 3)))), progress=seen.append)
    assert len(seen) == 19
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] <= 1


@pytest.mark.parametrize(
    ("distances", "said"),
    [
        (np.full((3, 3), np.nan), "finite"),
        (np.array([[0, np.inf], [np.inf, 0]]), "finite"),
        (np.zeros((0, 0)), "n >= 1"),
        (np.zeros((2, 3)), "n >= 1"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), "asymmetric"),
        (np.array([[0.0, -1.0], [-1.0, 0.0]]), "negative"),
        (np.eye(2), "diagonal"),
    ],
)
def test_what_is_no_distance_matrix_is_refused(distances, said):
    with pytest.raises(PointError, match=said):
        hyperbolicity(distances)


@pytest.mark.parametrize("base", [-1, 3])
def test_a_base_point_that_is_not_there_is_refused(base):
    with pytest.raises(ManifoldLoraError, match="0 to 2"):
        hyperbolicity(np.zeros((3, 3)), base)
