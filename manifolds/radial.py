"""Geometries that are rotationally symmetric about their origin."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Free, Manifold, Point, Scalar


class Radial(Manifold):
    """A geometry that is rotationally symmetric about its origin, stated by two functions of a square.

    ``coords(expmap0(v)) = chart_exp(|v|^2) v`` and ``logmap0(lift(z)) = chart_log(|z|^2) z``. Both factors
    are smooth at 0 (MATH: the adapters collapse to one scalar per token because of them).
    """

    is_radial: ClassVar[bool] = True

    def expmap0(self, v: Free) -> Point:
        """lift(f(|v|^2) v)."""
        return self.lift(self.chart_exp(functions.square(v)) * v)

    def logmap0(self, x: Point) -> Free:
        """g(|z|^2) z with z = coords(x)."""
        z = self.coords(x)
        return self.chart_log(functions.square(z)) * z

    @abstractmethod
    def chart_exp(self, sq: Scalar) -> Scalar:
        """f with coords(expmap0(v)) = f(|v|^2) v."""

    @abstractmethod
    def chart_log(self, sq: Scalar) -> Scalar:
        """g with logmap0(lift(z)) = g(|z|^2) z."""

    @abstractmethod
    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """The largest |coords| a point of this dtype may have; inf on an unbounded chart; detached."""
