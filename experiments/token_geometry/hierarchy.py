"""Does the embedding know how deep a word lies in a hierarchy? Norms and distances against a known tree."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.hierarchy import Hierarchy
from manifold_lora.experiments.token_geometry.delta.distances import Rows, between
from manifold_lora.experiments.token_geometry.norms import RankCorrelation, spearman

GEOMETRIES: dict[str, float] = {"euclidean": 0.0, "lorentz": -1.0, "poincare": -1.0}


@dataclass(frozen=True)
class GeometryCheck:
    """One geometry: Pearson of distance-to-origin with depth, Spearman of distances with tree paths."""

    origin_pearson: float
    path_spearman: RankCorrelation


@dataclass(frozen=True)
class HierarchyCheck:
    """Words found, rank correlation of norm with depth, mean norm by depth, and each geometry's reading.

    The *rank* correlation of distance-to-origin with depth is that of the norm in every geometry here: the
    distance is an increasing function of the norm. Only the straight-line (Pearson) one can differ.
    """

    words: int
    norm_depth: RankCorrelation
    norm_by_depth: dict[int, tuple[float, int]]
    geometries: dict[str, GeometryCheck]


def check_hierarchy(
    hierarchy: Hierarchy,
    words: Sequence[str],
    vectors: Rows,
    *,
    geometries: Mapping[str, float] | None = None,
    pairs: int = 2000,
    seed: int = 0,
) -> HierarchyCheck:
    """Correlate norms with depth, and distances with tree paths, under several geometries.

    Args:
        words: words of the hierarchy.
        vectors: (len(words), width), one row a word; read as free coordinates of points, scaled to unit mean
            norm so that a curvature of -1 means the same for every model.
        geometries: name -> kappa; Euclidean, Lorentz -1 and Poincare -1 by default (vectors of the ball are
            scaled into it, to half its radius).
        pairs: random pairs for the distance correlation.

    Raises ManifoldLoraError for fewer than three words or words all of one depth.
    """
    depths = np.array([hierarchy.depth(word) for word in words], dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    if len(words) < 3 or np.ptp(depths) == 0:
        raise ManifoldLoraError("hierarchy", f"{len(words)} words", "3 or more words of different depths")
    rng = np.random.default_rng(seed)
    a, b = rng.integers(len(words), size=(2, pairs))
    a, b = a[a != b], b[a != b]
    paths = np.array(
        [hierarchy.path(words[i], words[j]) for i, j in zip(a, b, strict=True)], dtype=np.float64
    )
    scaled = vectors / norms.mean()
    by_depth = {
        int(depth): (float(norms[depths == depth].mean()), int((depths == depth).sum()))
        for depth in np.unique(depths)
    }
    checks = {
        name: _check_geometry(name, kappa, scaled, depths, (a, b), paths, seed)
        for name, kappa in (geometries or GEOMETRIES).items()
    }
    return HierarchyCheck(len(words), spearman(norms, depths, seed=seed), by_depth, checks)


def _check_geometry(
    name: str,
    kappa: float,
    vectors: Rows,
    depths: Rows,
    pairs: tuple[NDArray[np.integer], NDArray[np.integer]],
    paths: Rows,
    seed: int,
) -> GeometryCheck:
    import torch

    from manifold_lora.manifolds.build import build_manifold

    manifold = build_manifold({"name": name, "curvature": kappa} if kappa else name).double()
    if name == "poincare":
        vectors = vectors * (0.5 / (math.sqrt(-kappa) * np.linalg.norm(vectors, axis=1).max()))
    with torch.no_grad():
        free = manifold.logmap0(manifold.lift(torch.from_numpy(vectors))).numpy()
    radius = np.linalg.norm(free, axis=1)
    distances = between(free[pairs[0]], free[pairs[1]], manifold)
    return GeometryCheck(float(np.corrcoef(radius, depths)[0, 1]), spearman(distances, paths, 200, seed))
