"""How often tokens occur, and whether that is a power law: discrete maximum likelihood with xmin."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import powerlaw
from numpy.typing import NDArray

from manifold_lora.errors import ManifoldLoraError

ALTERNATIVES = ("lognormal", "exponential")


@dataclass(frozen=True)
class Comparison:
    """Normalised log-likelihood ratio against an alternative (> 0 favours the power law) and its p value."""

    ratio: float
    p: float


@dataclass(frozen=True)
class PowerLawFit:
    """p(count) proportional to count^-gamma for counts >= xmin.

    ``ks`` is the Kolmogorov-Smirnov distance of the tail, ``sigma`` the standard error of gamma, ``tail`` the
    number of tokens with count >= xmin, ``notes`` what the fitting package warned of.
    """

    gamma: float
    sigma: float
    xmin: float
    ks: float
    tail: int
    versus: dict[str, Comparison]
    notes: tuple[str, ...] = ()


def count_tokens(ids: Iterable[Iterable[int]]) -> Counter[int]:
    """Token id -> occurrences. Raises ManifoldLoraError for a corpus without a token."""
    counts: Counter[int] = Counter()
    for sequence in ids:
        counts.update(int(token) for token in sequence)
    if not counts:
        raise ManifoldLoraError("corpus", "no tokens", "texts with at least one token")
    return counts


def fit_power_law(counts: NDArray[np.integer] | list[int]) -> PowerLawFit:
    """Fit gamma and xmin by Clauset's method and compare with other distributions of the same tail.

    Args:
        counts: occurrences of each distinct token, positive whole numbers.

    Raises ManifoldLoraError for fewer than four different counts, which no tail can be fitted to.
    Source: Clauset, Shalizi and Newman, arXiv 0706.1062; package powerlaw (Alstott et al., arXiv 1305.0215).
    """
    values = np.asarray(counts)
    if values.ndim != 1 or len(np.unique(values)) < 4 or (values < 1).any():
        got = f"{len(np.unique(values))} different counts"
        raise ManifoldLoraError(
            "token counts", got, "at least 4 different positive counts", "use a larger corpus"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = powerlaw.Fit(values, discrete=True, verbose=0)
        versus = {name: Comparison(*_compare(fit, name)) for name in ALTERNATIVES}
        sigma = float(fit.power_law.standard_err)
    notes = {str(one.message).splitlines()[0] for one in caught if "standard_err" not in str(one.message)}
    return PowerLawFit(
        gamma=float(fit.power_law.alpha),
        sigma=sigma,
        xmin=float(fit.xmin),
        ks=float(fit.power_law.D),
        tail=int(fit.n_tail),
        versus=versus,
        notes=tuple(sorted(notes)),
    )


def _compare(fit: powerlaw.Fit, alternative: str) -> tuple[float, float]:
    ratio, p = fit.distribution_compare("power_law", alternative, normalized_ratio=True)
    return float(ratio), float(p)
