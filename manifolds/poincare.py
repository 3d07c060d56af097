"""The Poincaré ball."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds.conformal import BALL, Conformal
from manifold_lora.manifolds.conformal_pair import MARGIN
from manifold_lora.manifolds.curvature import Curvature


class Poincare(Conformal):
    """Points |x| < R with metric (2 / (1 + kappa |x|^2))^2; kappa < 0, R = 1/sqrt(-kappa).

    Points are held ``4 eps`` of their dtype inside the boundary: distance 15 R in float32, 36 R in float64.

    Raises:
        CurvatureError: kappa >= 0.
    """

    kappa_sign = -1
    radial_law = BALL

    def __init__(self, kappa: float | Curvature = -1.0) -> None:
        super().__init__(kappa)

    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """R (1 - 4 eps)."""
        return (1 - MARGIN * torch.finfo(dtype).eps) / (-self._kappa_at(dtype)).sqrt()

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """2R atanh(1 - 4 eps)."""
        reach = 2 * math.atanh(1 - MARGIN * torch.finfo(dtype).eps)
        return reach / (-self._kappa_at(dtype)).sqrt()
