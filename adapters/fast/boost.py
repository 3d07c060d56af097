"""``boost`` on Lorentz space in rank space, its two maps of one number per token differentiated by hand.

With n = |x|, L = alpha n (alpha for tokens of one length) and a = L/R, the point has the coordinates
R sinh(a)/n x and the time R cosh(a); with w = (t_y, y) and q = |[time_B | B] w| the update is
(R asinh(q/R)/q) [time_B | B] w. Equal to ``rank_space.boost_update``, which serves every other geometry,
at a third of its cost on narrow layers: there torch's overhead per operation is the cost.
Source: arXiv 2410.04010, section 4.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.profile import HYPERBOLIC
from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.adapters.transforms import Boost
from manifold_lora.manifolds.base import Manifold

Tokens = Float[Tensor, "*tokens n"]
PerToken = Float[Tensor, "*tokens 1"]

# No token is shorter: sinh(a)/n is alpha there to the last bit.
_SMALLEST_NORM = 1e-30
# Under these the differences in the slopes cancel and their series are exact to 1e-12.
_SMALL_ANGLE, _SMALL_RATIO = 5e-2, 2e-2


def update(
    manifold: Manifold,
    law: ScaleLaw,
    boost: Boost,
    x: Tokens,
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
) -> Float[Tensor, "*tokens m"]:
    """delta = beta g(q) [time_B | B] (t_y, y) with y = R sinh(a)/n A x + R cosh(a) time_A."""
    radius = manifold.curvature.at(torch.float64).abs().rsqrt()
    alpha = law.alpha if isinstance(law.alpha, Tensor) else radius.new_full((1,), law.alpha)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).double()
    stretch, time, excess = _Entry.apply(norm, alpha, radius, law.unit)
    y = stretch * (x @ A.T).double() + time * boost.time_A
    w = torch.cat([torch.sqrt(radius.square() + y.square().sum(-1, keepdim=True)), y], dim=-1)
    matrix = torch.cat([boost.time_B[:, None].to(B.dtype), B], dim=-1)
    wide = matrix.double()
    square = ((w @ (wide.T @ wide)) * w).sum(-1, keepdim=True).clamp_min(0.0)
    factor = _Exit.apply(square, excess, radius)
    return (w * (factor * law.beta)).to(matrix.dtype) @ matrix.T


class _Entry(torch.autograd.Function):
    """(R sinh(a)/n, R cosh(a), the length above the cap, where all of the point grows by one factor)."""

    @staticmethod
    def forward(
        ctx: Any, norm: PerToken, alpha: Tensor, radius: Tensor, unit: bool
    ) -> tuple[PerToken, PerToken, PerToken]:
        n = norm.clamp_min(_SMALLEST_NORM)
        length = alpha.expand_as(n) if unit else alpha * n
        angle = (length / radius).clamp_max(HYPERBOLIC.cap)
        ctx.save_for_backward(n, alpha, radius)
        ctx.unit = unit
        return radius * torch.sinh(angle) / n, radius * torch.cosh(angle), length - radius * angle

    @staticmethod
    def backward(
        ctx: Any, by_stretch: Tensor, by_time: Tensor, by_excess: Tensor
    ) -> tuple[Tensor | None, ...]:
        n, alpha, radius = ctx.saved_tensors
        length = alpha.expand_as(n) if ctx.unit else alpha * n
        angle = length / radius
        inside = angle <= HYPERBOLIC.cap
        angle = angle.clamp_max(HYPERBOLIC.cap)
        sinh, cosh = torch.sinh(angle), torch.cosh(angle)
        # L d/dL of the three, and the rest of R d/dR: stretch and time are of degree one in (L, R).
        of_stretch = torch.where(inside, length * cosh / n, 0.0)
        of_time = torch.where(inside, length * sinh, 0.0)
        of_excess = torch.where(inside, 0.0, length)
        by_length = by_stretch * of_stretch + by_time * of_time + by_excess * of_excess
        by_radius = by_stretch * (radius * sinh / n - of_stretch) + by_time * (radius * cosh - of_time)
        by_radius = by_radius + by_excess * (length - radius * angle - of_excess)
        if ctx.unit:
            by_norm = -by_stretch * radius * sinh / n.square()
        else:
            turn = torch.where(inside, _turn(angle, sinh, cosh), -sinh)
            by_norm = (
                by_stretch * turn * radius / n.square() + (by_time * of_time + by_excess * of_excess) / n
            )
        return by_norm, by_length.sum().reshape(1) / alpha, by_radius.sum().reshape(1) / radius, None


def _turn(a: Tensor, sinh: Tensor, cosh: Tensor) -> Tensor:
    """a cosh(a) - sinh(a)."""
    q = a.square()
    return torch.where(a < _SMALL_ANGLE, a * q / 3 * (1 + q / 10 * (1 + q / 28)), a * cosh - sinh)


class _Exit(torch.autograd.Function):
    """R asinh(q/R)/q + excess/q, a function of q^2."""

    @staticmethod
    def forward(ctx: Any, square: PerToken, excess: PerToken, radius: Tensor) -> PerToken:
        ctx.save_for_backward(square, excess, radius)
        q, away = _root(square)
        gain = radius * torch.asinh(q / radius) / q
        return gain + torch.where(away, excess / q, 0.0)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        square, excess, radius = ctx.saved_tensors
        q, away = _root(square)
        ratio = q / radius
        slope = _fall(ratio)
        near = _fall_series(ratio.square()) / radius.square()
        by_square = torch.where(ratio < _SMALL_RATIO, near, slope / q.square()) / 2
        inverse = torch.where(away, 1 / q, 0.0)
        by_square = by_square - excess * inverse * inverse.square() / 2
        by_radius = (upstream * -slope).sum().reshape(1) / radius
        return upstream * by_square, upstream * inverse, by_radius


def _root(square: Tensor) -> tuple[Tensor, Tensor]:
    """(q, whether q > 0), with q = 1e-30 in place of 0."""
    away = square > 0
    return torch.sqrt(torch.where(away, square, 1e-60)), away


def _fall(ratio: Tensor) -> Tensor:
    """b d/db of asinh(b)/b."""
    q = ratio.square()
    far = (1 + q).rsqrt() - torch.asinh(ratio) / ratio
    return torch.where(ratio < _SMALL_RATIO, q * _fall_series(q), far)


def _fall_series(q: Tensor) -> Tensor:
    """b d/db of asinh(b)/b over b^2, at small q = b^2."""
    return -1 / 3 + q * (3 / 10 + q * (-15 / 56 + q * (35 / 144)))
