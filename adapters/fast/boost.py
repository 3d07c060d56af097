"""``boost`` on the hyperboloid in rank space, its two maps of one number per token differentiated by hand.

With n = |x|, L = alpha n (alpha for tokens of one length) and a = L/R, the point has the coordinates
R phi(a)/n x and the time R sqrt(1 + phi(a)^2); with w = (t_y, y) and q = |[time_B | B] w| the update is
(R psi(q/R)/q) [time_B | B] w. Equal to ``rank_space.boost_images``, which serves every other geometry,
at a third of its cost on narrow layers: there torch's overhead per operation is the cost.
Source: arXiv 2410.04010, section 4.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.charts import SMALL_ANGLE, shrink
from manifold_lora.adapters.fast.rank_space import Images, LawOf, of_one_piece, square_of
from manifold_lora.adapters.transforms import Boost
from manifold_lora.manifolds.lorentz import Lorentz
from manifold_lora.manifolds.radial_law import RadialLaw, bend

PerToken = Float[Tensor, "*tokens 1"]

# No token is shorter: phi(a)/n is alpha there to the last bit.
_SMALLEST_NORM = 1e-30


def images(manifold: Lorentz, law_of: LawOf, boost: Boost) -> Images:
    """beta g(q) (t_y, y) for [time_B | B] to act on, with y = f A x + t time_A."""

    def image(u: Tensor, norm: PerToken, gram: Tensor) -> Tensor:
        law = law_of(norm)
        radius = manifold.inverse_square_radius(torch.float64).rsqrt()
        alpha = law.alpha if isinstance(law.alpha, Tensor) else radius.new_full((1,), law.alpha)
        stretch, time, excess = _Entry.apply(norm, alpha, radius, manifold.radial_law, law.unit)
        y = stretch * u.double() + time * boost.time_A
        w = torch.cat([torch.sqrt(radius.square() + y.square().sum(-1, keepdim=True)), y], dim=-1)
        factor = shrink(square_of(w, gram), excess, radius, manifold.radial_law)
        return w * (factor * law.beta)

    return of_one_piece(image)


class _Entry(torch.autograd.Function):
    """(R phi(a)/n, R sqrt(1 + phi(a)^2), the length above the cap, where all of a point grows alike)."""

    @staticmethod
    def forward(
        ctx: Any, norm: PerToken, alpha: Tensor, radius: Tensor, radial: RadialLaw, unit: bool
    ) -> tuple[PerToken, PerToken, PerToken]:
        ctx.save_for_backward(norm, alpha, radius)
        ctx.radial, ctx.unit = radial, unit
        n = norm.clamp_min(_SMALLEST_NORM)
        length = alpha.expand_as(n) if unit else alpha * n
        angle = (length / radius).clamp_max(radial.cap)
        phi = radial.phi(torch, angle)
        return radius * phi / n, radius * torch.sqrt(1 + phi.square()), length - radius * angle

    @staticmethod
    def backward(
        ctx: Any, by_stretch: Tensor, by_time: Tensor, by_excess: Tensor
    ) -> tuple[Tensor | None, ...]:
        norm, alpha, radius = ctx.saved_tensors
        radial: Any = ctx.radial
        n = norm.clamp_min(_SMALLEST_NORM)
        length = alpha.expand_as(n) if ctx.unit else alpha * n
        angle = length / radius
        inside = angle <= radial.cap
        angle = angle.clamp_max(radial.cap)
        phi, slope = radial.phi(torch, angle), radial.phi_slope(torch, angle)
        time = torch.sqrt(1 + phi.square())
        # L d/dL of the three, and the rest of R d/dR: stretch and time are of degree one in (L, R).
        of_stretch = torch.where(inside, length * slope / n, 0.0)
        of_time = torch.where(inside, length * slope * (phi / time), 0.0)
        of_excess = torch.where(inside, 0.0, length)
        by_length = by_stretch * of_stretch + by_time * of_time + by_excess * of_excess
        by_radius = by_stretch * (radius * phi / n - of_stretch) + by_time * (radius * time - of_time)
        by_radius = by_radius + by_excess * (length - radius * angle - of_excess)
        if ctx.unit:
            by_norm = -by_stretch * radius * phi / n.square()
        else:
            near = phi * bend(radial.entry, angle.square())
            turn = torch.where(angle < SMALL_ANGLE, near, angle * slope - phi)
            turn = torch.where(inside, turn, -phi)
            by_norm = (
                by_stretch * turn * radius / n.square() + (by_time * of_time + by_excess * of_excess) / n
            )
        by_alpha = (by_length / alpha).sum_to_size(alpha.shape)
        return by_norm, by_alpha, (by_radius / radius).sum_to_size(radius.shape), None, None
