"""Spaces of known delta, measured by the same code: what a reading is read against."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, shortest_path

from manifold_lora.experiments.token_geometry.delta.distances import pairwise, unit_rows

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """A space with a stated definition and the relative delta (all base points) to expect from it."""

    name: str
    definition: str
    expected: float
    points: int
    distances: Callable[[int, np.random.Generator], Matrix]


def tree(n: int, rng: np.random.Generator) -> Matrix:
    """Random recursive tree: node i hangs on a uniformly drawn earlier node, unit edges, path lengths."""
    values = np.zeros((n, n))
    for node in range(1, n):
        parent = int(rng.integers(node))
        values[node, :node] = values[:node, node] = values[parent, :node] + 1.0
    return values


def sphere_geodesic(dimension: int) -> Callable[[int, np.random.Generator], Matrix]:
    """Uniform points on S^dimension with great-circle distance."""

    def distances(n: int, rng: np.random.Generator) -> Matrix:
        points = unit_rows(rng.normal(size=(n, dimension + 1)))
        return np.asarray(pairwise(points, "angular"), dtype=np.float64)

    return distances


def sphere_chord(n: int, rng: np.random.Generator) -> Matrix:
    """Uniform points on S^2 with straight-line distance."""
    return np.asarray(pairwise(unit_rows(rng.normal(size=(n, 3)))), dtype=np.float64)


def random_graph(n: int, rng: np.random.Generator, mean_degree: float = 5.0) -> Matrix:
    """Largest component of the Erdos-Renyi graph G(n, mean_degree / (n - 1)), hop distance."""
    a, b = np.triu_indices(n, k=1)
    kept = rng.random(len(a)) < mean_degree / (n - 1)
    graph = coo_matrix((np.ones(kept.sum()), (a[kept], b[kept])), shape=(n, n)).tocsr()
    _, labels = connected_components(graph, directed=False)
    inside = np.flatnonzero(labels == np.bincount(labels).argmax())
    hops = shortest_path(graph[inside][:, inside], directed=False, unweighted=True)
    return np.asarray(hops, dtype=np.float64)


REFERENCES: tuple[Reference, ...] = (
    Reference("tree", "random recursive tree, unit edges, path length", 0.0, 500, tree),
    Reference("random graph", "Erdos-Renyi, mean degree 5, largest component, hops", 0.61, 500, random_graph),
    Reference(
        "S^2 chords", "uniform on the unit 2-sphere, straight-line distance", 0.586, 1000, sphere_chord
    ),
    Reference("S^2", "uniform on the 2-sphere, great-circle distance", 0.975, 1000, sphere_geodesic(2)),
    Reference("S^1", "uniform on the circle, arc length", 0.99, 1000, sphere_geodesic(1)),
)
