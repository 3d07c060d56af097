"""Gromov's delta of a finite metric space, exact for one base point or for all of them, in O(n^2) memory.

With base point w the Gromov product is (a|b)_w = (d(a,w) + d(b,w) - d(a,b)) / 2 and

    delta_w = max over a, b, c of min((a|c)_w, (c|b)_w) - (a|b)_w,
    delta   = max over w of delta_w = max over quadruples of (largest - second largest) / 2

of the sums d(a,b) + d(c,w), d(a,c) + d(b,w), d(a,w) + d(b,c); delta_w <= delta <= 2 delta_w.
The relative delta 2 delta / diam lies in [0, 1] for a metric; 0 is a tree.

Why it is fast: with m_a = max over c != a of (a|c)_w no pair can exceed min(m_a, m_b) - (a|b)_w. Each row's
most promising pair is evaluated first; that leaves so high a bar that the bound rules out nearly all other
pairs (all but 1e-5 of them for 384-wide Gaussians), and only the rest cost O(n) each. For all base points a
finished base is dropped from the space, because every quadruple that holds it has been seen, and the bar is
carried on; where the first base finds 0 all is done, since delta <= 2 delta_w.
The worst case stays O(n^3) for a base; equality with the dumb computation does not depend on the pruning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manifold_lora.errors import ManifoldLoraError, PointError
from manifold_lora.experiments.token_geometry.delta.branch_and_bound import Bar, raise_bar, row_blocks

Base = int | Literal["all"]


@dataclass(frozen=True)
class Hyperbolicity:
    """What was measured: delta, the diameter, and a quadruple (a, b, c, w) that attains delta.

    ``base`` is the base point or "all"; ``witness`` is None where delta is 0.
    """

    delta: float
    diameter: float
    points: int
    base: Base
    witness: tuple[int, int, int, int] | None

    @property
    def relative(self) -> float:
        """2 delta / diam, and 0 for a space of diameter 0 (one point, or all points equal)."""
        return 2.0 * self.delta / self.diameter if self.diameter > 0 else 0.0


def hyperbolicity(
    distances: NDArray[np.floating], base: Base = "all", progress: Callable[[float], None] | None = None
) -> Hyperbolicity:
    """Exact delta of a distance matrix, up to the rounding of its dtype (8 eps diam).

    Args:
        distances: (n, n) symmetric, zero diagonal, finite, not negative; float32 or float64. Not changed.
        base: a base point, or "all" for the four-point delta.
        progress: called with the share of the work done (all base points only).

    Raises PointError for a matrix that is none of the above, ManifoldLoraError for a base out of range.
    Source: Gromov 1987; max-min form: Fournier, Ismail and Vigneron, arXiv 1208.2728; relative delta:
    Khrulkov et al., arXiv 1904.02239, section 3.
    """
    check_distances(distances)
    n = len(distances)
    if base != "all" and not 0 <= base < n:
        raise ManifoldLoraError("base point", base, f"all, or 0 to {n - 1}")
    diameter = float(distances.max())
    bar = Bar(rounding=8.0 * float(np.finfo(distances.dtype).eps) * diameter)
    scratch = np.empty_like(distances)
    if base != "all" and n > 1:
        raise_bar(bar, distances, base, scratch)
    for w in range(n - 1, 0, -1) if base == "all" else ():
        inside = distances[: w + 1, : w + 1]
        raise_bar(bar, inside, w, scratch.reshape(-1)[: inside.size].reshape(inside.shape))
        if progress is not None:
            progress(1.0 - (w / n) ** 3)
        if bar.twice_delta <= bar.rounding:
            break
    return Hyperbolicity(bar.twice_delta / 2.0, diameter, n, base, bar.witness)


def check_distances(distances: NDArray[np.floating]) -> None:
    """Raise PointError unless ``distances`` is a non-empty, finite, symmetric matrix with a zero diagonal."""
    square = distances.ndim == 2 and distances.shape[0] == distances.shape[1]
    if not square or not len(distances):
        raise PointError("distance matrix", distances.shape, "(n, n) with n >= 1")
    for rows in row_blocks(len(distances)):
        block = distances[rows]
        if not np.isfinite(block).all():
            hint = "a row of the points is not finite"
            raise PointError("distance matrix", "NaN or infinity", "finite distances", hint)
        if (block < 0).any() or not np.array_equal(block, distances[:, rows].T):
            raise PointError("distance matrix", "negative or asymmetric", "d(a,b) = d(b,a) >= 0")
    if distances.diagonal().any():
        raise PointError("distance matrix", "a diagonal that is not zero", "d(a,a) = 0")
