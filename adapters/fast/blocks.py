"""``direct`` on a product in rank space: factors for each token and part, and no vector of the width n + 1.

With x_p, A_p and B_q the pieces of x, of A's columns and of B's rows that lie in the parts p and q, f_p and
g_q the factors of ``rank_space``, and s what the norm scaling and the angle limit make of a token,

    y = s sum_p f_p A_p x_p,  delta_q = g_q B_q y,  |B_q y|^2 = y^T (B_q^T B_q) y,

y brought into the parts' charts on the way.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast import charts
from manifold_lora.adapters.fast.numbers import is_transformed
from manifold_lora.adapters.fast.rank_space import entry, square_of
from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.adapters.transforms import Direct, Transform, is_identity
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.product import Product
from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.radial_law import RadialLaw

PerToken = Float[Tensor, "*tokens 1"]


def serves(manifold: Manifold, transform: Transform, limit: float) -> bool:
    """Has each part a law, and is no angle beyond what its points hold?"""
    if type(manifold) is not Product or type(transform) is not Direct:
        return False
    laws = [part.radial_law for part in manifold.parts if isinstance(part, Radial) and part.follows_law()]
    return len(laws) == len(manifold.parts) and all(law is not None and limit <= law.cap for law in laws)


class _Part(NamedTuple):
    """A part as rank space sees it: R, the largest length of coordinates over R, and the largest angle."""

    manifold: Radial
    radius: Tensor
    edge: float
    bound: float

    def stretch(self, length: PerToken) -> PerToken:
        """phi(a)/a."""
        if is_transformed():
            return self.manifold.chart_exp(length.square())
        return charts.stretch(length, self.radius, self._law, self.edge)

    def shrink(self, square: PerToken) -> PerToken:
        """psi(z)/z, from R^2 z^2."""
        if is_transformed():
            return self.manifold.chart_log(square)
        return charts.shrink(square, self.radius, self._law, self.edge)

    @property
    def _law(self) -> RadialLaw:
        return cast(RadialLaw, self.manifold.radial_law)


class Blocks(NamedTuple):
    """A product that ``serves``, with what a token's lengths are.

    Args:
        manifold: the product.
        law: the lengths in effect for tokens of the norms given, before the limit.
        limit: the largest angle at which a token enters a part.
    """

    manifold: Product
    law: Callable[[PerToken], ScaleLaw]
    limit: float

    def images(
        self, us: Sequence[Tensor], norms: Sequence[Tensor], grams: Sequence[Tensor]
    ) -> list[Float[Tensor, "*tokens r"]]:
        """beta g_q y for each part q (``recomputed.Images``)."""
        parts = [self._part(part) for part in cast(list[Radial], list(self.manifold.parts))]
        total = functions.root(torch.cat(list(norms), -1).square().sum(-1, keepdim=True))
        law = self.law(total)
        _, enters = entry(law, total)
        shorter = _shortened(parts, [enters * norm for norm in norms])
        law, enters = law.times(shorter), enters * shorter
        y = sum(
            part.stretch(enters * norm) * u.double() for part, norm, u in zip(parts, norms, us, strict=True)
        )
        y = self._lifted(parts, enters * y)
        return [
            y * (part.shrink(square_of(y, gram)) * law.beta) for part, gram in zip(parts, grams, strict=True)
        ]

    def _part(self, part: Radial) -> _Part:
        law = cast(RadialLaw, part.radial_law)
        radius = part.inverse_square_radius(torch.float64).rsqrt()
        edge = float((part.max_coord_radius(torch.float64) / radius).detach()) if law.bounded else math.inf
        return _Part(part, radius, edge, math.inf if is_identity(part) else min(self.limit, law.turn))

    def _lifted(self, parts: list[_Part], y: Tensor) -> Float[Tensor, "*tokens r"]:
        """coords(lift(y)): each piece inside its part's chart."""
        if all(part.edge == math.inf for part in parts):
            return y
        split = zip(parts, self.manifold.split_free(y), strict=True)
        return torch.cat([piece * _inside(part, piece) for part, piece in split], -1)


def _inside(part: _Part, piece: Tensor) -> PerToken | float:
    return 1.0 if part.edge == math.inf else functions.within(functions.norm(piece), part.edge * part.radius)


def _shortened(parts: list[_Part], lengths: Sequence[PerToken]) -> PerToken:
    """The factor that brings a token, as a whole, within the bound of every part (``measure.cut``)."""
    factor = torch.ones_like(lengths[0])
    for part, length in zip(parts, lengths, strict=True):
        if part.bound < math.inf:
            within = functions.within(length / part.radius, length.new_full((1,), part.bound))
            factor = torch.minimum(factor, within)
    return factor
