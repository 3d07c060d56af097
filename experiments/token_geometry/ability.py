"""Do prompts on which a model is good have another delta? Rank correlations over prompts, with intervals.

Prompts differ in more than their delta: a correlation is given as it is, and with length, norm, set and
stratum held fixed. Even then it is an association across prompts, not an effect.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Column = NDArray[np.float64]
Places = NDArray[np.intp]
_FEWEST = 8  # clusters, and items beside the commonest value, below which no statistic is given


@dataclass(frozen=True)
class PromptRow:
    """One prompt at one layer of one run: how it was answered, and how tree-like its points are.

    ``nll`` is the gold text's in nats, NaN where none is known; prompts of one ``cluster`` ask the same;
    ``norm`` is the median length of the points; ``delta``, ``gaussian`` and ``shuffled`` are relative deltas,
    of the prompt and of its nulls.
    """

    run: str
    layer: str
    set: str
    id: str
    group: str
    cluster: str
    correct: bool
    nll: float
    gold_tokens: int
    tokens: int
    distinct: int
    norm: float
    delta: float
    gaussian: float
    shuffled: float

    @property
    def excess(self) -> float:
        """Relative delta less that of structureless points of the same number and norms."""
        return self.delta - self.gaussian

    @property
    def likelihood(self) -> float:
        """Mean log-likelihood of the gold text's tokens in nats, larger is better; NaN if unknown."""
        return -self.nll / self.gold_tokens if self.gold_tokens else float("nan")


@dataclass(frozen=True)
class Estimate:
    """A statistic over prompts, its 95 % bootstrap interval over clusters, and a two-sided p of 0."""

    value: float
    low: float
    high: float
    p: float


def average(values: Column, clusters: Sequence[str], resamples: int = 1000, seed: int = 0) -> Estimate:
    """The mean of one number for each prompt; NaN limits with fewer than eight clusters."""
    return _estimate(lambda rows: float(values[rows].mean()), clusters, resamples, seed, lambda value: value)


def rank_correlation(
    x: Column,
    y: Column,
    controls: Column,
    clusters: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate | None:
    """Spearman's rho of x and y with the controls held fixed (``partial_rho``), and its interval.

    Args:
        x, y: (items,); rows where one is NaN are left out.
        controls: (items, controls), none for the plain rho.
        clusters: which items are drawn together.
        resamples: bootstrap draws of the clusters.
        seed: of the draws.

    None where fewer than eight clusters, or fewer than eight items beside the commonest y, are left, or the
    controls explain one of the two wholly.
    """
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    x, y, controls = x[known], y[known], controls[known]
    clusters = [clusters[int(place)] for place in known]
    if len(set(clusters)) < _FEWEST or len(y) - np.unique(y, return_counts=True)[1].max() < _FEWEST:
        return None
    if np.isnan(partial_rho(x, y, controls)):
        return None

    def rho(rows: Places) -> float:
        return partial_rho(x[rows], y[rows], controls[rows])

    return _estimate(rho, clusters, resamples, seed, _fisher)


def _fisher(rho: Column) -> Column:
    """Fisher's z, which has about the same spread whatever the true rho; bounded at rho = 1."""
    scaled: Column = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return scaled


def partial_rho(x: Column, y: Column, controls: Column) -> float:
    """Spearman's rho of what is left of the ranks of x and y after a linear fit to those of the controls.

    Without controls it is Spearman's rho; NaN where nothing is left of one.
    """
    ranks = stats.rankdata(np.vstack([x, y, controls.T]), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    ranks /= np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-300)
    gram = ranks @ ranks.T
    across, inner = gram[:2, 2:], gram[2:, 2:]
    # The Schur complement: what is left of the products of x and y. Controls may repeat each other.
    left = gram[:2, :2] - across @ np.linalg.pinv(inner, rcond=1e-10, hermitian=True) @ across.T
    if min(left.diagonal()) < 1e-9:  # of ranks that the controls explain wholly, rounding is left
        return float("nan")
    return float(left[0, 1] / np.sqrt(left[0, 0] * left[1, 1]))


def controls_of(rows: Sequence[PromptRow]) -> Column:
    """(items, controls): points, distinct ones, norm, tokens of the gold text, a column a set and stratum."""
    strata = sorted({(row.set, row.group) for row in rows})
    return np.array(
        [
            [row.tokens, row.distinct, row.norm, row.gold_tokens]
            + [float((row.set, row.group) == one) for one in strata[1:]]
            for row in rows
        ],
        dtype=np.float64,
    )


def _estimate(
    statistic: Callable[[Places], float],
    clusters: Sequence[str],
    resamples: int,
    seed: int,
    scale: Callable[[Column], Column],
) -> Estimate:
    """The statistic and its draws; p by their standard deviation on a scale on which it is about normal."""
    _, number, sizes = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    order, starts = np.argsort(number, kind="stable"), np.cumsum(sizes) - sizes
    value = statistic(np.arange(len(number)))
    if len(sizes) < _FEWEST:
        return Estimate(value, *[float("nan")] * 3)

    def members(chosen: Places) -> Places:
        lengths = sizes[chosen]
        shift = np.repeat(starts[chosen] - (np.cumsum(lengths) - lengths), lengths)
        rows: Places = order[np.arange(len(shift)) + shift]
        return rows

    chosen = np.random.default_rng(seed).integers(len(sizes), size=(resamples, len(sizes)))
    draws = np.array([statistic(members(row)) for row in chosen])
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    spread = np.nanstd(scale(draws))
    p = 2 * stats.norm.sf(abs(scale(np.array(value))) / spread) if spread > 0 else float(value == 0)
    return Estimate(value, float(low), float(high), float(p))
