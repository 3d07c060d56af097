"""Norm of a token's embedding against how often it occurs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from manifold_lora.errors import ManifoldLoraError

_ENTRIES = 1 << 19  # values of a block of resamples

Values = NDArray[np.floating] | NDArray[np.integer]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho with a percentile bootstrap interval over the items."""

    rho: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class NormBand:
    """Tokens whose norms lie between two quantiles: their counts and the most frequent of them (by id)."""

    low: float
    high: float
    tokens: int
    mean_count: float
    most_frequent: tuple[int, ...]


@dataclass(frozen=True)
class FrequencyBin:
    """Tokens of about the same frequency: the geometric mean count, mean norm and its standard error."""

    count: float
    norm: float
    error: float
    tokens: int


def spearman(
    x: Values, y: Values, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> RankCorrelation:
    """Rank correlation of two columns.

    Raises ManifoldLoraError for fewer than three items or a constant column, where rho is undefined.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) != len(y) or len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ManifoldLoraError(
            "columns to correlate", f"{len(x)} and {len(y)} items", "3 or more, not all equal"
        )
    rng = np.random.default_rng(seed)
    step = max(1, _ENTRIES // len(x))
    rhos = np.concatenate(
        [
            _rhos(x, y, rng.integers(len(x), size=(min(step, resamples - i), len(x))))
            for i in range(0, resamples, step)
        ]
    )
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.nanpercentile(rhos, (tail, 100.0 - tail))
    rho = _rhos(x, y, np.arange(len(x))[None])[0]
    return RankCorrelation(float(rho), float(low), float(high), len(x))


def _rhos(x: Values, y: Values, draws: NDArray[np.integer]) -> NDArray[np.float64]:
    """Rank correlation of every resample (row of ``draws``); NaN where a resample is constant."""
    ranks = [stats.rankdata(column[draws], axis=1) for column in (x, y)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    spread[spread == 0] = np.nan
    rhos: NDArray[np.float64] = (a * b).sum(axis=1) / spread
    return rhos


def norm_bands(
    ids: NDArray[np.integer], counts: Values, norms: Values, bands: int = 6, shown: int = 12
) -> list[NormBand]:
    """Equally filled bands of norm, smallest first, each with its most frequent tokens."""
    order = np.argsort(norms, kind="stable")
    result = []
    for part in np.array_split(order, min(bands, len(order))):
        top = part[np.argsort(-counts[part], kind="stable")[:shown]]
        tokens = tuple(int(token) for token in ids[top])
        low, high = float(norms[part].min()), float(norms[part].max())
        result.append(NormBand(low, high, len(part), float(counts[part].mean()), tokens))
    return result


def frequency_bins(counts: Values, norms: Values, bins: int = 16) -> list[FrequencyBin]:
    """Mean norm in bins of equal width in log count; empty bins are left out."""
    logs = np.log(counts)
    edges = np.linspace(logs.min(), logs.max() + 1e-9, bins + 1)
    place = np.clip(np.digitize(logs, edges) - 1, 0, bins - 1)
    result = []
    for index in np.unique(place):
        inside = norms[place == index]
        error = float(inside.std(ddof=1) / np.sqrt(len(inside))) if len(inside) > 1 else 0.0
        count = float(np.exp(logs[place == index].mean()))
        result.append(FrequencyBin(count, float(inside.mean()), error, len(inside)))
    return result
