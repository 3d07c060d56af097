"""The control that has a power of a token's norm where the geometry has its own function of it."""

import torch
from torch import Tensor, nn

from manifold_lora.adapters.norm_blind import NormBlind
from manifold_lora.adapters.registry import TRANSFORMS
from manifold_lora.manifolds.radial import Radial

# No token is shorter: a negative power is infinite at 0.
_SHORTEST = 1e-30
# Of a difference quotient, right to 1e-9, for a geometry without a law.
_STEP = 1e-4


class Power(NormBlind):
    """``direct`` with phi(a)/a replaced by g0 (|x|/s)^p: same psi, same limit, equal gain at |x| = s.

    g0 = phi(a)/a and, unless stated, p = a phi'(a)/phi(a) - 1 at the reference angle a of ``NormBlind``: on
    Lorentz space sinh(a)/a and a coth(a) - 1. What beats it has used the form of the geometry's function.

    Args:
        in_features, out_features, rank: sizes n, m, r.
        p: the exponent; None for the geometry's own.
        learned: is an amount added to p learned, at the adapter's own rate, from 0 on?

    Raises:
        ManifoldLoraError: p is no finite number, or learned no truth value.
    """

    linear = "never"

    def __init__(
        self, in_features: int, out_features: int, rank: int, p: float | None = None, learned: bool = False
    ) -> None:
        super().__init__(in_features, out_features, rank)
        TRANSFORMS.named({"name": "power", "p": p, "learned": learned})
        self.p = p
        self.added = nn.Parameter(torch.zeros(1)) if learned else None

    def exponent(self, manifold: Radial, like: Tensor) -> Tensor:
        """p in effect, (1,), in the dtype of ``like``."""
        p = self._own(manifold, like) if self.p is None else like.new_full((1,), self.p)
        return p if self.added is None else p + self.added.to(like.dtype)

    def _own(self, manifold: Radial, like: Tensor) -> Tensor:
        """d log chart_exp / d log abs(v) at the reference, detached."""
        sq, law = self.reference(manifold, like).detach(), manifold.radial_law
        if law is None:
            longer, shorter = (manifold.chart_exp(sq * (1 + step)) for step in (_STEP, -_STEP))
            return (torch.log(longer / shorter) / _STEP).detach()
        a = torch.sqrt(sq * manifold.inverse_square_radius(sq.dtype)).detach()
        p: Tensor = a * law.phi_slope(torch, a) / law.phi(torch, a) - 1
        return p

    def stretch(self, manifold: Radial, sq: Tensor) -> Tensor:
        """g0 (|v|^2 / reference)^(p/2)."""
        start = self.reference(manifold, sq)
        ratio = torch.where(sq > _SHORTEST, sq, _SHORTEST) / start
        return manifold.chart_exp(start) * ratio ** (self.exponent(manifold, sq) / 2)

    def extra_repr(self) -> str:
        """The exponent, for ``print(model)``."""
        return f"p={self.p}, learned={self.added is not None}"
