"""Pairwise distances in float64 without an (n, n, width) array: Euclidean, cosine, angle, or a manifold's own."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manifold_lora.manifolds.errors import PointError, UnknownNameError

if TYPE_CHECKING:
    from manifold_lora.manifolds.base import Manifold

DISTANCES = ("euclidean", "cosine", "angular")

_ENTRIES = 1 << 21  # floats of a difference block: 16 MB
_CANCELLED = 1e-3  # squared distance below this share of the squared norms is recomputed from differences


def pairwise(
    points: NDArray[np.floating], distance: "str | Manifold" = "euclidean", dtype: Any = np.float64
) -> NDArray[np.floating]:
    """Distance matrix of the rows of ``points``.

    Args:
        points: (n, width), finite.
        distance: ``euclidean`` |x - y|; ``cosine`` 1 - cos(x, y), which is no metric; ``angular`` arccos cos(x, y);
            or a `Manifold`, whose geodesic distance is taken between expmap0 of the rows.
        dtype: float32 or float64 of the result; the arithmetic is float64 either way.

    Returns (n, n), exactly symmetric with a zero diagonal. Raises PointError for rows with NaN or infinity and for
    zero rows under cosine or angular, UnknownNameError for another name.
    """
    rows = check_points(points)
    if not isinstance(distance, str):
        return _geodesic(rows, distance).astype(dtype)
    if distance not in DISTANCES:
        raise UnknownNameError("distance", distance, DISTANCES)
    if distance == "euclidean":
        return _euclidean(rows - rows.mean(axis=0)).astype(dtype, copy=False)
    chords = _euclidean(unit_rows(rows))
    values = chords**2 / 2.0 if distance == "cosine" else 2.0 * np.arcsin(np.minimum(chords / 2.0, 1.0))
    return values.astype(dtype, copy=False)


def check_points(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The points as float64; raises PointError unless they are (n >= 1, width >= 1) and finite."""
    rows = np.asarray(points, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise PointError("points", rows.shape, "(n, width), at least one of each")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise PointError(
            "points", f"NaN or infinity in rows {bad[:5].tolist()}", "finite rows", f"{len(bad)} rows in all"
        )
    return rows


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows divided by their norm; raises PointError for a zero row, which has no direction."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        raise PointError(
            "points", f"zero rows {zero[:5].tolist()}", "rows with a direction", "use euclidean distance"
        )
    return rows / norms


def _euclidean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """|x - y| by the Gram matrix, and by differences wherever that lost three digits or more."""
    squares = np.einsum("ij,ij->i", rows, rows)
    values = rows @ rows.T
    values *= -2.0
    for i in range(len(rows)):
        values[i] += squares + squares[i]
    for i in range(len(rows)):
        near = _close(values, squares, i)
        step = max(1, _ENTRIES // rows.shape[1])
        for start in range(0, len(near), step):
            some = near[start : start + step]
            exact = ((rows[some] - rows[i]) ** 2).sum(axis=1)
            values[i, some] = values[some, i] = exact
    np.fill_diagonal(values, 0.0)
    np.sqrt(values, out=values)
    return values


def _close(values: NDArray[np.float64], squares: NDArray[np.float64], i: int) -> NDArray[np.intp]:
    later = slice(i + 1, None)
    return i + 1 + np.flatnonzero(values[i, later] < _CANCELLED * (squares[i] + squares[later]))


def _geodesic(rows: NDArray[np.float64], manifold: "Manifold") -> NDArray[np.float64]:
    import torch

    with torch.no_grad():
        points = manifold.double().expmap0(torch.from_numpy(rows))
        step = max(1, _ENTRIES // points.numel())
        values = np.zeros((len(rows), len(rows)))
        for start in range(0, len(rows), step):
            block = manifold.dist(points[start : start + step, None], points[None, start:])
            values[start : start + step, start:] = block.reshape(block.shape[:2]).numpy()
    values = np.triu(values, k=1)
    return values + values.T
