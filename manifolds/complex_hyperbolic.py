"""Complex hyperbolic space, in the ball: the first geometry here whose curvature is not constant."""

from typing import ClassVar

import torch
from torch import Tensor

from manifold_lora.errors import PointError
from manifold_lora.manifolds.base import Point, TangentAtOrigin
from manifold_lora.manifolds.conformal import BALL
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.lines import Lines


class ComplexHyperbolic(Lines):
    """Points |z| < R of C^(n/2), stored as (re, im, re, im, ...), n even; R = 1/sqrt(-kappa).

    kappa < 0 is the sectional curvature of complex lines, which are Poincare discs; that of totally real
    planes is kappa/4 (they are Klein's), and every other lies between. From the origin it looks as the
    Poincare ball does in every direction: an adapter on it is the ball's. Source: Goldman, "Complex
    hyperbolic geometry", 1999.

    Raises:
        CurvatureError: kappa >= 0.
        PointError: n is odd.
    """

    dimensions: ClassVar[tuple[int, ...]] = (2, 4, 6, 16, 130, 4096)
    radial_law = BALL
    stretch = 2.0

    def __init__(self, kappa: float | Curvature = -1.0) -> None:
        super().__init__(kappa)

    @property
    def curvature_range(self) -> tuple[float, float]:
        """kappa, and kappa/4."""
        low, _ = super().curvature_range
        return low, low / 4

    def width(self, n: int) -> int:
        """n."""
        return _even(n)

    def lift(self, z: TangentAtOrigin) -> Point:
        """z, held inside the ball."""
        _even(z.shape[-1])
        return z

    def projx(self, x: Point) -> Point:
        """x, held inside the ball."""
        _even(x.shape[-1])
        return x

    def numbers(self, x: Tensor) -> Tensor:
        """Pairs of coordinates as complex numbers."""
        _even(x.shape[-1])
        return torch.complex(x[..., ::2], x[..., 1::2])

    def entries(self, vector: Tensor) -> Tensor:
        """Real and imaginary parts in turn."""
        return torch.stack([vector.real, vector.imag], -1).flatten(-2)

    def turn(self, p: Tensor) -> Tensor:
        """p/|p|."""
        return p / p.abs()


def _even(n: int) -> int:
    if n % 2:
        raise PointError("dimension of complex hyperbolic space", n, "an even number")
    return n
