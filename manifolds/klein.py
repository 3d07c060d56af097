"""Klein's model of hyperbolic space, in which geodesics are straight."""

import torch
from torch import Tensor

from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.lines import Lines
from manifold_lora.manifolds.radial_law import RadialLaw

STRAIGHT = RadialLaw(
    phi=lambda xp, a: xp.tanh(a),
    phi_slope=lambda xp, a: 1 / xp.square(xp.cosh(a)),
    psi=lambda xp, z: xp.arctanh(z),
    psi_slope=lambda xp, z: 1 / ((1 - z) * (1 + z)),
    cap=300.0,
    bounded=True,
)


class Klein(Lines):
    """Points |x| < R, the hyperboloid seen from its centre: x = R s/t; kappa < 0, R = 1/sqrt(-kappa).

    Points are held ``4 eps`` of their dtype inside the boundary: distance 7.6 R in float32, 18 R in float64,
    half as far as on the Poincare ball. Source: Ratcliffe, "Foundations of hyperbolic manifolds", 6.1.

    Raises:
        CurvatureError: kappa >= 0.
    """

    radial_law = STRAIGHT
    stretch = 1.0

    def __init__(self, kappa: float | Curvature = -1.0) -> None:
        super().__init__(kappa)

    def numbers(self, x: Tensor) -> Tensor:
        """x."""
        return x

    def entries(self, vector: Tensor) -> Tensor:
        """The vector."""
        return vector

    def turn(self, p: Tensor) -> Tensor:
        """1: p is positive."""
        return torch.ones_like(p)
