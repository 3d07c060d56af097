"""The kappa-stereographic model: signed curvature that may be learned through zero."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds.conformal import Conformal
from manifold_lora.manifolds.conformal_operations import MARGIN
from manifold_lora.manifolds.curvature import Curvature


class Stereographic(Conformal):
    """R^n with metric (2 / (1 + kappa |x|^2))^2 for any real kappa: Poincaré ball, plane, or sphere.

    Values and gradients, d/dkappa included, are right at kappa = 0 because every formula is a power series
    in kappa there. Source: Bachmann et al., "Constant curvature graph convolutional networks", ICML 2020.
    """

    kappa_sign = None
    extra_dims = 0

    def __init__(self, kappa: float | Curvature = 0.0) -> None:
        super().__init__(kappa)

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
