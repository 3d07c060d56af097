"""What the numbers allow one to say: intervals over items and seeds, paired differences, adjusted p."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Matrix = NDArray[np.float64]
LEVEL = 0.95
POWER = 0.8
# p-values are found by halving an interval of log p; below this they are 0.
_SMALLEST_LOG_P = -300.0


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds x items with its 95 % interval.

    ``sd`` is the standard deviation of the per-seed means; ``p`` tests mean = 0 (for differences).
    """

    mean: float
    low: float
    high: float
    sd: float
    p: float
    crossed: "CrossedMean"

    @property
    def seeds(self) -> int:
        """How many training seeds the mean is over."""
        return self.crossed.seeds

    @property
    def items(self) -> int:
        """How many items (clusters, where items come in pairs) each seed answered."""
        return self.crossed.items

    def detectable(self, tests: int = 1) -> float:
        """The smallest true mean that is found four times in five, at 5 % shared by ``tests`` tests.

        NaN where no seed and no item differs from another: such data bound nothing.
        """
        found = self.crossed.half_width((1 - LEVEL) / tests) + self.crossed.half_width(2 * (1 - POWER))
        return float(found) or math.nan

    def p_within(self, margin: float) -> float:
        """The p of two one-sided tests that the true mean lies within +- margin (equivalence)."""
        return float(self.crossed.p_within(margin))


@dataclass(frozen=True)
class CrossedMean:
    r"""Means of (..., seeds, items) matrices and the variance that seeds and items each put into them.

    half-width(alpha)^2 = t_{S-1}(alpha)^2 V_seeds + t_{I-1}(alpha)^2 V_items, each component with its own
    quantile, joined in quadrature (Howe 1974); V_seeds = MS_seeds / (S I) and V_items = MS_items / (S I) are
    the mean squares of the two-way layout without the correction for their shared residual, which is a little
    wide. One pooled quantile (Satterthwaite 1946) is narrower and holds at 95 %, but not further out, where
    adjusted p-values are read: with 3 seeds and five comparisons it finds something where nothing is 10 to
    14 % of the time, this at most 3 %.

    Args:
        mean, by_seeds, by_items: of shape (...).
    """

    mean: Matrix
    by_seeds: Matrix
    by_items: Matrix
    seeds: int
    items: int

    @classmethod
    def of(cls, values: Matrix) -> "CrossedMean":
        """The means of (..., seeds, items) matrices; a single seed or item adds no variance."""
        seeds, items = values.shape[-2:]
        none = np.zeros(values.shape[:-2])
        by_seeds = values.mean(axis=-1).var(axis=-1, ddof=1) / seeds if seeds > 1 else none
        by_items = values.mean(axis=-2).var(axis=-1, ddof=1) / items if items > 1 else none
        return cls(values.mean(axis=(-2, -1)), by_seeds, by_items, seeds, items)

    def half_width(self, alpha: Any) -> Matrix:
        """Of the two-sided interval of coverage 1 - alpha; 0 where nothing varies."""
        of_seeds, of_items = (
            -special.stdtrit(max(count - 1, 1), np.asarray(alpha) / 2) for count in (self.seeds, self.items)
        )
        half: Matrix = np.hypot(of_seeds * np.sqrt(self.by_seeds), of_items * np.sqrt(self.by_items))
        return half

    def p_values(self) -> Matrix:
        """The alpha at which the interval ends at 0: two-sided tests of mean = 0."""
        low, high = np.full(self.mean.shape, _SMALLEST_LOG_P), np.zeros(self.mean.shape)
        for _ in range(60):
            middle = (low + high) / 2
            outside = np.abs(self.mean) > self.half_width(np.exp(middle))
            low, high = np.where(outside, low, middle), np.where(outside, middle, high)
        p = np.where(high > _SMALLEST_LOG_P / 2, np.exp(high), 0.0)
        return np.where(self.mean == 0, 1.0, p)

    def p_within(self, margin: float) -> Matrix:
        """The larger p of the two one-sided tests of abs(true mean) < margin; 1 where the mean is outside.

        Half the alpha of the two-sided interval that just reaches from the mean to the nearer margin.
        """
        room = margin - np.abs(self.mean)
        shifted = CrossedMean(np.maximum(room, 0.0), self.by_seeds, self.by_items, self.seeds, self.items)
        return np.where(room > 0, shifted.p_values() / 2, 1.0)


def crossed_estimate(values: Matrix, level: float = LEVEL) -> Estimate:
    """Mean of a (seeds, items) matrix with an interval that counts both as random: see ``CrossedMean``.

    By simulation it covers 96 to 98 % at 2 to 10 seeds where a percentile bootstrap over seeds and items
    covers 81 to 92 % at three seeds and an interval over items alone 53 to 86 %. With one seed the spread
    between seeds cannot be seen and only items count.

    Args:
        values: (seeds, items), e.g. 0/1 correctness, or the difference of two such matrices.
        level: coverage of the interval.

    Raises ValueError for an empty matrix or NaN.
    """
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"expected a finite, non-empty (seeds, items) matrix, got shape {values.shape}")
    crossed = CrossedMean.of(values)
    mean, half = float(crossed.mean), float(crossed.half_width(1 - level))
    sd = float(values.mean(axis=1).std(ddof=1)) if crossed.seeds > 1 else float("nan")
    p = float(crossed.p_values())
    return Estimate(mean, mean - half, mean + half, sd, p, crossed)


def paired_difference(arm: Matrix, baseline: Matrix) -> Estimate:
    """Estimate of arm minus baseline on the same items and seeds; raises ValueError if shapes differ."""
    if arm.shape != baseline.shape:
        raise ValueError(f"paired matrices must agree: got {arm.shape} and {baseline.shape}")
    return crossed_estimate(arm - baseline)


def adjusted(p_values: list[float]) -> list[float]:
    """Benjamini-Hochberg adjusted p-values (false discovery rate)."""
    if not p_values:
        return []
    return [float(p) for p in stats.false_discovery_control(p_values)]
