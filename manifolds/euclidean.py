"""Flat space: the geometry in which every adapter is LoRA."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.errors import CurvatureError
from manifold_lora.manifolds import functions, precision
from manifold_lora.manifolds.base import Point, Scalar
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.radial import OwnCoordinates
from manifold_lora.manifolds.radial_law import RadialLaw


class Euclidean(OwnCoordinates):
    """R^n with kappa = 0: points, free vectors and tangent vectors coincide.

    Raises:
        CurvatureError: a curvature other than a fixed 0 is asked for.
    """

    kappa_sign = 0
    radial_law = RadialLaw(phi=lambda xp, a: a, psi=lambda xp, z: z, linear=True)
    wider: ClassVar[dict[torch.dtype, torch.dtype]] = precision.HALVES  # Sums lose nothing in float32.

    def __init__(self, kappa: float | Curvature = 0.0) -> None:
        super().__init__(kappa)
        if self.curvature.mode != "fixed":
            raise CurvatureError("kappa of euclidean", f"mode {self.curvature.mode!r}", "fixed")

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """<u, v>."""
        return functions.dot(u, v)

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """The gradient is the Euclidean one."""
        return g.expand(torch.broadcast_shapes(x.shape, g.shape))

    def expmap(self, x: Point, u: Point) -> Point:
        """x + u."""
        return x + u

    def logmap(self, x: Point, y: Point) -> Point:
        """y - x."""
        return y - x

    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """The vector itself."""
        return v.expand(torch.broadcast_shapes(x.shape, y.shape, v.shape))

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """Unbounded."""
        return torch.full_like(self.kappa.detach(), torch.inf)

    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """Unbounded."""
        return self.max_radius(dtype)
