"""phi(a)/a and psi(z)/z of a radial law as numbers for each token, with slopes that a law states.

``Radial.chart_exp`` and ``chart_log`` are the same for any geometry; these cost a tenth of the operations,
and on a narrow layer torch's overhead for each is the cost. The slopes are functions of tensors themselves,
of which there are further derivatives.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds.radial_law import RadialLaw, bend, fall

PerToken = Float[Tensor, "*tokens 1"]

# No length is shorter: the limits at 0 are reached to the last bit long before.
_SMALLEST = 1e-30
# Under these the differences in the slopes cancel and their series are exact to 1e-12.
SMALL_ANGLE, SMALL_RATIO = 3e-2, 2e-2


def stretch(length: PerToken, radius: Tensor, radial: RadialLaw, edge: float = math.inf) -> PerToken:
    """phi(a)/a, a = length/R, phi at most ``edge``."""
    found: Tensor = _Stretch.apply(length, radius, radial, edge)
    return found


def shrink(square: PerToken, radius: Tensor, radial: RadialLaw, edge: float = math.inf) -> PerToken:
    """R psi(q/R)/q, a function of q^2, q/R at most ``edge`` in psi."""
    found: Tensor = _Shrink.apply(square, radius, radial, edge)
    return found


class _Stretch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, length: PerToken, radius: Tensor, radial: RadialLaw, edge: float) -> PerToken:
        ctx.save_for_backward(length, radius)
        ctx.radial, ctx.edge = radial, edge
        a = (length / radius).clamp_min(_SMALLEST)
        return _at_most(radial.phi(torch, a), edge) / a

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        length, radius = ctx.saved_tensors
        radial, a = ctx.radial, (length / radius).clamp_min(_SMALLEST)
        phi = radial.phi(torch, a)
        turn = torch.where(
            a < SMALL_ANGLE, phi * bend(radial.entry, a.square()), a * radial.phi_slope(torch, a) - phi
        )
        if ctx.edge < math.inf:
            turn = torch.where(phi > ctx.edge, -ctx.edge, turn)
        by_log = upstream * turn / a
        return by_log / length.clamp_min(_SMALLEST), -(by_log / radius).sum_to_size(radius.shape), None, None


class _Shrink(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, square: PerToken, radius: Tensor, radial: RadialLaw, edge: float) -> PerToken:
        ctx.save_for_backward(square, radius)
        ctx.radial, ctx.edge = radial, edge
        q = _root(square)
        return radius * radial.psi(torch, _at_most(q / radius, edge)) / q

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        square, radius = ctx.saved_tensors
        radial, edge = ctx.radial, ctx.edge
        ratio = _root(square) / radius
        near = ratio < SMALL_RATIO
        safe = _at_most(torch.where(near, 1.0, ratio), edge)
        series = fall(radial.exit, torch.where(near, ratio, 0.0).square())
        psi = radial.psi(torch, safe)
        slope = radial.psi_slope(torch, safe) - psi / safe
        if edge < math.inf:
            slope = torch.where(ratio > edge, -psi / ratio, slope)
            safe = torch.where(ratio > edge, ratio, safe)
        of_square = torch.where(near, series, slope / safe.square()) / radius.square()
        by_radius = (upstream * -of_square * square).sum_to_size(radius.shape) / radius
        return upstream * of_square / 2, by_radius, None, None


def _at_most(value: Tensor, edge: float) -> Tensor:
    return value if edge == math.inf else value.clamp_max(edge)


def _root(square: Tensor) -> Tensor:
    """q, 1e-30 in place of 0."""
    return torch.sqrt(torch.where(square > 0, square, 1e-60))
