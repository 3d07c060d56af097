"""Pairwise distances without an (n, n, width) array: Euclidean, cosine, angle, or a manifold's own."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manifold_lora.errors import PointError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from manifold_lora.manifolds.base import Manifold

DISTANCES = ("euclidean", "cosine", "angular")
Rows = NDArray[np.float64]

_ENTRIES = 1 << 21  # floats of a difference block: 16 MB
_CANCELLED = 1e-3  # squared distance below this share of the squared norms is recomputed from differences


def pairwise(
    points: NDArray[np.floating], distance: "str | Manifold" = "euclidean", dtype: Any = np.float64
) -> NDArray[np.floating]:
    """Distance matrix of the rows of ``points``.

    Args:
        points: (n, width), finite.
        distance: ``euclidean`` |x - y|; ``cosine`` 1 - cos(x, y), which is no metric; ``angular`` the angle
            between x and y; or a `Manifold`, whose geodesic distance is taken between expmap0 of the rows.
        dtype: float32 or float64 of the result; the arithmetic is float64 either way.

    Returns (n, n), exactly symmetric with a zero diagonal. Raises PointError for rows with NaN or infinity
    and for zero rows under cosine or angular, UnknownNameError for another name.
    """
    rows = check_points(points)
    if not isinstance(distance, str):
        return _geodesic(rows, distance).astype(dtype, copy=False)
    check_distance(distance)
    if distance == "euclidean":
        return _euclidean(rows - rows.mean(axis=0)).astype(dtype, copy=False)
    return _from_chords(_euclidean(unit_rows(rows)), distance).astype(dtype, copy=False)


def between(x: Rows, y: Rows, distance: "str | Manifold" = "euclidean") -> Rows:
    """The distances of `pairwise` from row i of ``x`` to row i of ``y``, shape (n,)."""
    if not isinstance(distance, str):
        import torch

        with torch.no_grad():
            return np.asarray(
                distance.dist(on_manifold(distance, x), on_manifold(distance, y))[..., 0].numpy()
            )
    check_distance(distance)
    if distance == "euclidean":
        return np.asarray(np.linalg.norm(x - y, axis=1))
    return _from_chords(np.linalg.norm(unit_rows(x) - unit_rows(y), axis=1), distance)


def check_distance(name: str) -> None:
    """Raise UnknownNameError unless ``name`` is a distance."""
    if name not in DISTANCES:
        raise UnknownNameError("distance", name, DISTANCES)


def check_points(points: NDArray[np.floating]) -> Rows:
    """The points as float64; raises PointError unless they are (n >= 1, width >= 1) and finite."""
    rows = np.asarray(points, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise PointError("points", rows.shape, "(n, width), at least one of each")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        got = f"NaN or infinity in rows {bad[:5].tolist()}"
        raise PointError("points", got, "finite rows", f"{len(bad)} such rows")
    return rows


def unit_rows(rows: Rows) -> Rows:
    """Rows divided by their norm; raises PointError for a zero row, which has no direction."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        got = f"zero rows {zero[:5].tolist()}"
        raise PointError("points", got, "rows with a direction", "use euclidean distance")
    return rows / norms


def on_manifold(manifold: "Manifold", rows: Rows) -> "Tensor":
    """expmap0 of the rows, in float64."""
    import torch

    return manifold.double().expmap0(torch.from_numpy(np.ascontiguousarray(rows)))


def _from_chords(chords: Rows, distance: str) -> Rows:
    return chords**2 / 2.0 if distance == "cosine" else 2.0 * np.arcsin(np.minimum(chords / 2.0, 1.0))


def _euclidean(rows: Rows) -> Rows:
    """|x - y| by the Gram matrix, and by differences wherever that lost three digits or more."""
    squares = np.einsum("ij,ij->i", rows, rows)
    values = rows @ rows.T
    values *= -2.0
    for i in range(len(rows)):
        values[i] += squares + squares[i]
    step = max(1, _ENTRIES // rows.shape[1])
    for i in range(len(rows)):
        near = _close(values, squares, i)
        for start in range(0, len(near), step):
            some = near[start : start + step]
            values[i, some] = values[some, i] = ((rows[some] - rows[i]) ** 2).sum(axis=1)
    np.fill_diagonal(values, 0.0)
    return np.sqrt(values, out=values)


def _close(values: Rows, squares: Rows, i: int) -> NDArray[np.intp]:
    later = slice(i + 1, None)
    return i + 1 + np.flatnonzero(values[i, later] < _CANCELLED * (squares[i] + squares[later]))


def _geodesic(rows: Rows, manifold: "Manifold") -> Rows:
    import torch

    with torch.no_grad():
        points = on_manifold(manifold, rows)
        step = max(1, _ENTRIES // points.numel())
        values = np.zeros((len(rows), len(rows)))
        for start in range(0, len(rows), step):
            block = manifold.dist(points[start : start + step, None], points[None, start:])
            values[start : start + step, start:] = block[..., 0].numpy()
    values = np.triu(values, k=1)
    return values + values.T
