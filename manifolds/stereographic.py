"""The kappa-stereographic model: signed curvature that may be learned through zero."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Scalar
from manifold_lora.manifolds.conformal import BALL, ROUND, Conformal
from manifold_lora.manifolds.conformal_pair import MARGIN
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.radial_law import RadialLaw


class Stereographic(Conformal):
    """R^n with metric (2 / (1 + kappa |x|^2))^2 for any real kappa: Poincaré ball, plane, or sphere.

    Values and gradients, d/dkappa included, are right at kappa = 0 because every formula is a power series
    in kappa there. Source: Bachmann et al., "Constant curvature graph convolutional networks", ICML 2020.
    """

    kappa_sign = None

    def __init__(self, kappa: float | Curvature = 0.0) -> None:
        super().__init__(kappa)

    @property
    def radial_law(self) -> RadialLaw | None:  # type: ignore[override]
        """That of the ball or of the sphere; None at zero, and where kappa may pass through it."""
        kappa = self.curvature.stated
        if kappa == 0 or self.curvature.mode == "free":
            return None
        return BALL if kappa < 0 else ROUND

    def chart_exp(self, sq: Scalar) -> Scalar:
        """tan(a/2)/a of either sign of curvature, held inside the ball."""
        q = -self.curvature.at(sq.dtype) * sq
        factor = BALL.entry.of_square(q, ROUND.entry)
        return factor * self._inside(q * factor.square())

    def chart_log(self, sq: Scalar) -> Scalar:
        """2 atan(b)/b of either sign of curvature."""
        q = -self.curvature.at(sq.dtype) * sq
        return BALL.exit.of_square(fn.capped(q, self._edge(sq)), ROUND.exit) * self._inside(q)

    def _edge(self, like: Tensor) -> Tensor:
        """As on the ball, with nothing to hold where kappa is not negative."""
        return like.new_full((1,), (1 - MARGIN * torch.finfo(like.dtype).eps) ** 2)

    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """The ball's radius below zero, inf at zero and above."""
        kappa = self._kappa_at(dtype)
        ball = (1 - MARGIN * torch.finfo(dtype).eps) * kappa.abs().rsqrt()
        return torch.where(kappa < 0, ball, torch.inf)

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """2R atanh(1 - 4 eps) below zero, inf at zero, the antipode pi R above."""
        kappa = self._kappa_at(dtype)
        reach = torch.where(kappa < 0, 2 * math.atanh(1 - MARGIN * torch.finfo(dtype).eps), math.pi)
        return reach * kappa.abs().rsqrt()
