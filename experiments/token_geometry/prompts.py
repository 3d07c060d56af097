"""Delta prompt by prompt, each beside its nulls, and what the prompts say together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manifold_lora.experiments.token_geometry.delta.distances import pairwise
from manifold_lora.experiments.token_geometry.delta.gromov import Base, Hyperbolicity, hyperbolicity
from manifold_lora.experiments.token_geometry.delta.nulls import NULLS

if TYPE_CHECKING:
    from manifold_lora.manifolds.base import Manifold

Cloud = NDArray[np.floating]


@dataclass(frozen=True)
class PromptDelta:
    """One prompt: its length, its distinct points, delta, diameter, and the relative delta of each null."""

    tokens: int
    distinct: int
    delta: float
    diameter: float
    relative: float
    nulls: dict[str, float]


@dataclass(frozen=True)
class Interval:
    """A mean over prompts and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class DeltaSummary:
    """Many prompts: mean relative delta, that of each null, and the paired difference to each null.

    A set of prompts is more tree-like than structureless points only where ``excess`` lies below 0.
    ``delta`` and ``diameter`` are means over the prompts, in units of the points.
    """

    prompts: int
    mean_tokens: float
    delta: float
    diameter: float
    relative: Interval
    nulls: dict[str, Interval]
    excess: dict[str, Interval]

    @property
    def typical(self) -> Hyperbolicity:
        """The mean delta with the mean relative delta, as ``suggest_kappa`` takes them."""
        diameter = 2.0 * self.delta / self.relative.mean if self.relative.mean > 0 else self.diameter
        return Hyperbolicity(self.delta, diameter, round(self.mean_tokens), "all", None)

    @property
    def reading(self) -> str:
        """What the Gaussian null lets one say."""
        gap = self.excess["gaussian"]
        if gap.high < 0:
            return "more tree-like than structureless points of the same norms"
        if gap.low > 0:
            return "less tree-like than structureless points of the same norms"
        return "not distinguished from structureless points of the same norms"


@dataclass(frozen=True)
class DeltaOptions:
    """How a delta is measured: distance, base point ("all" or a position in the prompt), null draws, seed."""

    distance: "str | Manifold" = "euclidean"
    base: Base = "all"
    draws: int = 1
    seed: int = 0
    dtype: str = "float64"


def measure_prompt(cloud: Cloud, options: DeltaOptions, rng: np.random.Generator) -> PromptDelta:
    """Delta of one prompt's points (tokens, width) and of its nulls.

    Equal points count once: a repeat changes neither delta nor diameter. A base point past the end of a short
    prompt is its last token. Raises PointError for NaN rows.
    """
    points = np.asarray(cloud, dtype=np.float64)
    rows, place = _distinct(points)
    base = options.base if options.base == "all" else int(place[min(options.base, len(place) - 1)])

    def relative(some: NDArray[np.float64]) -> Hyperbolicity:
        return hyperbolicity(pairwise(some, options.distance, np.dtype(options.dtype)), base)

    real = relative(rows)
    nulls = {
        name: float(np.mean([relative(null(rows, rng)).relative for _ in range(options.draws)]))
        for name, null in NULLS.items()
    }
    return PromptDelta(len(points), len(rows), real.delta, real.diameter, real.relative, nulls)


def _distinct(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    if not np.isfinite(points).all() or not points.size:
        return points, np.arange(len(points))  # `pairwise` names the bad rows
    rows, place = np.unique(points, axis=0, return_inverse=True)
    return rows, place.reshape(-1)


def measure_prompts(
    clouds: Iterable[Cloud], options: DeltaOptions, tick: Callable[[], None] = lambda: None
) -> Iterator[PromptDelta]:
    """Delta of every prompt; ``tick`` is called after each."""
    rng = np.random.default_rng(options.seed)
    for cloud in clouds:
        yield measure_prompt(cloud, options, rng)
        tick()


def summarise(measured: Sequence[PromptDelta], resamples: int = 1000, seed: int = 0) -> DeltaSummary:
    """Means over prompts with 95 % bootstrap intervals; differences to the nulls are paired by prompt."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(measured), size=(resamples, len(measured)))

    def interval(values: NDArray[np.float64]) -> Interval:
        low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
        return Interval(float(values.mean()), float(low), float(high))

    real = np.array([one.relative for one in measured])
    nulls = {name: np.array([one.nulls[name] for one in measured]) for name in measured[0].nulls}
    return DeltaSummary(
        prompts=len(measured),
        mean_tokens=float(np.mean([one.tokens for one in measured])),
        delta=float(np.mean([one.delta for one in measured])),
        diameter=float(np.mean([one.diameter for one in measured])),
        relative=interval(real),
        nulls={name: interval(values) for name, values in nulls.items()},
        excess={name: interval(real - values) for name, values in nulls.items()},
    )
