"""Delta of clouds too large for a distance matrix: what a sample shows, and how sure that is."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.delta.distances import between, check_points, pairwise
from manifold_lora.experiments.token_geometry.delta.gromov import Base, hyperbolicity

if TYPE_CHECKING:
    from manifold_lora.manifolds.base import Manifold

_ENTRIES = 1 << 20  # floats of one corner of a block of quadruples: 8 MB


@dataclass(frozen=True)
class SampledHyperbolicity:
    """Exact deltas of random subsets and an order statement on random quadruples.

    Attributes:
        delta: largest delta seen; a lower bound of the cloud's delta, never an estimate from above.
        diameter: largest distance seen; a lower bound of the diameter.
        relative_mean, relative_low, relative_high: mean 2 delta / diam of the subsets, with the t interval
            at ``confidence`` for the mean over subsets of that size.
        exceeding_share: with probability ``confidence`` at most this share of all quadruples has a delta
            above ``quadruple_delta``, the largest of the ``quadruples`` drawn independently.
    """

    delta: float
    diameter: float
    points: int
    subset: int
    repeats: int
    relative_mean: float
    relative_low: float
    relative_high: float
    quadruples: int
    quadruple_delta: float
    exceeding_share: float
    confidence: float

    @property
    def statement(self) -> str:
        """The confidence statement in words."""
        return (
            f"delta >= {self.delta:.6g} (exact on {self.repeats} random subsets of {self.subset} of"
            f" {self.points} points); mean relative delta of such subsets {self.relative_mean:.4f}"
            f" [{self.relative_low:.4f}, {self.relative_high:.4f}] at {self.confidence:.0%}; with"
            f" {self.confidence:.0%} confidence at most {self.exceeding_share:.2g} of all quadruples exceed"
            f" {self.quadruple_delta:.6g}"
        )


def sampled_hyperbolicity(
    points: NDArray[np.floating],
    distance: "str | Manifold" = "euclidean",
    *,
    subset: int = 1500,
    repeats: int = 5,
    quadruples: int = 100_000,
    confidence: float = 0.95,
    base: Base = 0,
    seed: int = 0,
) -> SampledHyperbolicity:
    """Delta of random subsets, each exact, and of independent random quadruples.

    Args:
        points: (n, width), finite; no (n, n) array is made.
        distance: as `pairwise`.
        subset, repeats: size and number of the subsets, drawn without replacement; one where n <= subset.
        quadruples: number of independent quadruples; 1 - (1 - confidence)^(1/quadruples) is the share that
            may exceed the largest of them (distribution-free).
        base: base point of the subsets (a random point, whichever index), or "all".
        seed: of the draws.

    Raises PointError for bad points, ManifoldLoraError for a size below 4 or a confidence outside (0, 1).
    Source: subset protocol: Khrulkov et al., arXiv 1904.02239, section 3; the share: order statistics.
    """
    rows = check_points(points)
    if subset < 4 or repeats < 1 or quadruples < 1 or not 0.0 < confidence < 1.0:
        got = {"subset": subset, "repeats": repeats, "quadruples": quadruples, "confidence": confidence}
        raise ManifoldLoraError("sample", got, "subset >= 4, repeats, quadruples >= 1, 0 < confidence < 1")
    rng = np.random.default_rng(seed)
    repeats = repeats if len(rows) > subset else 1
    size = min(subset, len(rows))
    subsets = (rows[rng.permutation(len(rows))[:size]] for _ in range(repeats))
    exact = [hyperbolicity(pairwise(some, distance), base) for some in subsets]
    relative = np.array([one.relative for one in exact])
    low, high = _interval(relative, confidence)
    largest = _largest_quadruple(rows, distance, quadruples, rng)
    return SampledHyperbolicity(
        delta=max(largest, *(one.delta for one in exact)),
        diameter=max(one.diameter for one in exact),
        points=len(rows),
        subset=size,
        repeats=repeats,
        relative_mean=float(relative.mean()),
        relative_low=low,
        relative_high=high,
        quadruples=quadruples,
        quadruple_delta=largest,
        exceeding_share=-math.expm1(math.log1p(-confidence) / quadruples),
        confidence=confidence,
    )


def _interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if len(values) < 2 or values.std() == 0:
        return float(values.mean()), float(values.mean())
    half = stats.sem(values) * stats.t.ppf(0.5 + confidence / 2.0, len(values) - 1)
    return float(values.mean() - half), float(values.mean() + half)


def _largest_quadruple(
    rows: NDArray[np.float64], distance: "str | Manifold", quadruples: int, rng: np.random.Generator
) -> float:
    """Largest delta of independent quadruples, four rows each drawn uniformly with replacement."""
    largest, per_block = 0.0, max(1, _ENTRIES // rows.shape[1])
    for start in range(0, quadruples, per_block):
        count = min(per_block, quadruples - start)
        a, b, c, d = (rows[rng.integers(len(rows), size=count)] for _ in range(4))
        matchings = (((a, b), (c, d)), ((a, c), (b, d)), ((a, d), (b, c)))
        sums = np.sort([between(*one, distance) + between(*two, distance) for one, two in matchings], axis=0)
        largest = max(largest, float((sums[2] - sums[1]).max()) / 2.0)
    return largest
