"""One example for a property: a geometry at some curvature, a dtype, a dimension, a radius, a seed."""

import copy
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.curvature import Curvature

# Rows of a batch differ in length, so that a reduction over the wrong axis shows.
ROWS = (1.0, 0.8, 0.55)
# So do the vectors of a case: two points equally far from the origin hide half of a formula.
SHARES = (1.0, 0.73, 0.9, 0.6)
DTYPES = (torch.float64, torch.float32)
FACTORS = (1.0, 0.37, 2.9, 1e-4, 60.0)
# Dimensions above which a case costs too much to be drawn at random: the sweep tries one of each.
_COSTLY = 100
# Share of the injectivity radius that the longest of two vectors takes, so that both together stay within it.
_PAIR = 0.45
# Radii in units of 1/sqrt|kappa|: from a zero-initialised adapter's to where float64 runs out of digits.
RADII = (1.0, 0.5, 1.25, 0.1, 1e-2, 1e-4, 1e-6, 1e-8, 2.5, 5.0, 9.0)
# One-point operations are tried out to the dtype's limit.
FAR = (1.0, 2.5, 1e-8, 1e-4, 0.1, 5.0, 12.0, 30.0, 80.0)


def with_curvature(manifold: Manifold, factor: float) -> Manifold:
    """A copy of the geometry whose curvatures, those of its parts too, are multiplied by ``factor``."""
    copied = copy.deepcopy(manifold)
    for module in copied.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, Curvature):
                setattr(module, name, type(child)(child.stated * factor, child.mode))
    return copied


def takes_both_signs(manifold: nn.Module) -> bool:
    """Whether the curvature of every part may be of either sign."""
    owners = [m for m in manifold.modules() if isinstance(m, Manifold) and not hasattr(m, "parts")]
    return all(owner.kappa_sign is None for owner in owners)


def is_radial(manifold: nn.Module) -> bool:
    """Whether coordinates vanish at the origin in every part, so that tiny vectors keep their digits."""
    parts = [m for m in manifold.modules() if isinstance(m, Manifold) and not hasattr(m, "parts")]
    return all(part.is_radial for part in parts)


@dataclass(frozen=True)
class Case:
    """What a property is tried on; equal fields give equal tensors.

    Attributes:
        given: the geometry as handed in.
        factor: multiplies its curvature.
        dtype: float64 or float32.
        n: dimension.
        radius: distance from the origin, in units of R = 1/sqrt|kappa| (1 when flat).
        seed: of the directions.
        alone: whether one point is looked at, which may be as far out as there are points; else two of them
            and the tangent vectors stay within the injectivity radius together.
    """

    given: Manifold
    factor: float
    dtype: torch.dtype
    n: int
    radius: float
    seed: int
    alone: bool = False

    @cached_property
    def manifold(self) -> Manifold:
        """The geometry at this case's curvature and dtype."""
        return with_curvature(self.given, self.factor).to(self.dtype)

    @cached_property
    def eps(self) -> float:
        """The dtype's spacing at 1."""
        return torch.finfo(self.dtype).eps

    @cached_property
    def kappa(self) -> Tensor:
        """The claimed curvatures in float64."""
        return self.manifold.kappa.detach().double()

    @cached_property
    def constant(self) -> bool:
        """Whether one curvature is claimed for the whole geometry."""
        low, high = self.manifold.curvature_range
        return self.kappa.numel() == 1 and low == high

    @cached_property
    def unit(self) -> float:
        """R = 1/sqrt of the largest |kappa|, 1 when flat."""
        largest = self.kappa.abs().max().item()
        return largest**-0.5 if largest > 0 else 1.0

    @cached_property
    def length(self) -> float:
        """The radius as a length, inside what the dtype can hold."""
        longest = 0.9 * self.manifold.max_radius(self.dtype).min().item()
        if not self.alone:
            longest = min(longest, _PAIR * self.manifold.injectivity_radius)
        return min(self.radius * self.unit, longest)

    @cached_property
    def floor(self) -> float:
        """Absolute error that a chart not centred at zero may make: none for a radial one."""
        return 0.0 if is_radial(self.manifold) else 16 * self.eps * self.unit

    @cached_property
    def condition(self) -> float:
        """How much negative curvature magnifies rounding at this distance: exp(|v|/R).

        A chart that runs out of digits sooner, at max_radius, magnifies accordingly faster.
        """
        if not bool((self.kappa < 0).any()):
            return 1.0
        rate = max(1.0, -math.log(self.eps) * self.unit / self.manifold.max_radius(self.dtype).min().item())
        return math.exp(min(rate * self.length / self.unit, 80.0))

    def free(self, index: int, length: float | None = None) -> Tensor:
        """Free vectors up to the given length (default: the radius), other directions for each index."""
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        v = torch.randn(len(ROWS), self.n, generator=generator, dtype=torch.float64)
        longest = (self.length if length is None else length) * SHARES[index % len(SHARES)]
        v = v / v.norm(dim=-1, keepdim=True) * (longest * torch.tensor(ROWS, dtype=torch.float64)[:, None])
        return v.to(self.dtype)

    def point(self, index: int, length: float | None = None) -> Tensor:
        """Points up to the given distance from the origin."""
        return self.manifold.expmap0(self.free(index, length))

    def ambient(self, like: Tensor, index: int) -> Tensor:
        """Gaussian vectors of the shape and dtype of a point."""
        generator = torch.Generator().manual_seed(1000 * self.seed + 500 + index)
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(self.dtype)

    def tangent(self, x: Tensor, index: int, length: float | None = None) -> Tensor:
        """Tangent vectors at x of the given Riemannian length (default: the radius)."""
        u = self.manifold.proju(x, self.ambient(x, index))
        return u * ((self.length if length is None else length) / self.manifold.norm(x, u))

    def __str__(self) -> str:
        kappa = ", ".join(f"{value:g}" for value in self.kappa.tolist())
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{type(self.given).__name__}(kappa={kappa}), {dtype}, n={self.n}, "
            f"|v|={self.length:g}, seed={self.seed}"
        )


def _dtypes(radius: float) -> tuple[torch.dtype, ...]:
    """Far out only float64 has digits left to look at."""
    return DTYPES if radius <= 2 else DTYPES[:1]


def _factors(manifold: Manifold) -> tuple[float, ...]:
    return (*FACTORS, *(-factor for factor in FACTORS[:3])) if takes_both_signs(manifold) else FACTORS


def cases(
    manifold: Manifold, radii: tuple[float, ...] = RADII, alone: bool = False
) -> st.SearchStrategy[Case]:
    """Hypothesis strategy over curvature, dtype, dimension, radius and directions of one geometry."""
    return st.sampled_from(radii).flatmap(
        lambda radius: st.builds(
            Case,
            given=st.just(manifold),
            factor=st.sampled_from(_factors(manifold)),
            dtype=st.sampled_from(_dtypes(radius)),
            n=st.sampled_from([n for n in manifold.dimensions if n <= _COSTLY]),
            radius=st.just(radius),
            seed=st.integers(0, 999),
            alone=st.just(alone),
        )
    )


def sweep(manifold: Manifold, radii: tuple[float, ...], alone: bool = False) -> list[Case]:
    """One case at every radius and one of every costly dimension, whatever the search happened to draw."""
    small = [n for n in manifold.dimensions if n <= _COSTLY]
    large = [n for n in manifold.dimensions if n > _COSTLY]
    factors = _factors(manifold)[:2] if not takes_both_signs(manifold) else (1.0, -0.37)
    found = [
        Case(
            manifold,
            factors[i % 2],
            _dtypes(radius)[i % len(_dtypes(radius))],
            small[i % len(small)],
            radius,
            i,
            alone,
        )
        for i, radius in enumerate(radii)
    ]
    return found + [
        Case(manifold, factors[i % 2], DTYPES[0], n, radii[0], i, alone) for i, n in enumerate(large)
    ]
