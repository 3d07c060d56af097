"""The ball of lines inside a light cone, real or complex: where geodesics through any point are straight."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Point, Scalar
from manifold_lora.manifolds.radial import OwnCoordinates

# How many eps a stored point stays inside the boundary.
MARGIN = 4.0


class Lines(OwnCoordinates):
    """Points |x| < R of F^n, F real or complex, each standing for the line through (1, x) in F^(1, n).

    With <u, x> = sum u conj(x), k = 1/R^2, alpha = 1 - k|x|^2, beta = 1 - k|y|^2, d = y - x, the form
    h(u, v) = alpha <u, v> + k <u, x> <x, v>, p = 1 - k <y, x> and D = h(d, d)/(alpha beta):

        metric    s^2 Re h(u, v)/alpha^2
        distance  s R asinh(sqrt(k D))
        logmap    asinh(sqrt(k D))/sqrt(k D) sqrt(alpha/beta) conj(p)/|p| d
        expmap    x + T u/(1 + T k <u, x>/alpha),  T = tanh(b)/b,  b^2 = k h(u, u)/alpha^2

    Every length is a sum of positive terms of d, so close points lose no digits. Source: the hyperboloid of
    F^(1, n), seen from its centre; Goldman, "Complex hyperbolic geometry", 1999, chapter 3.

    Attributes:
        stretch: s, lengths over those of the hyperboloid of radius R.
    """

    kappa_sign = -1
    stretch: ClassVar[float]

    @abstractmethod
    def numbers(self, x: Tensor) -> Tensor:
        """Coordinates (..., n) as vectors of F."""

    @abstractmethod
    def entries(self, vector: Tensor) -> Tensor:
        """Vectors of F as coordinates (..., n)."""

    @abstractmethod
    def turn(self, p: Tensor) -> Tensor:
        """p/|p|."""

    def _k(self, like: Tensor) -> Tensor:
        return -self.curvature.at(like.real.dtype)

    def _alpha(self, x: Tensor) -> Tensor:
        return fn.positive(1 - self._k(x) * _pairing(x, x).real)

    def _form(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """h(u, v) at x."""
        return self._alpha(x) * _pairing(u, v) + self._k(x) * _pairing(u, x) * _pairing(x, v)

    def _apart(self, x: Tensor, y: Tensor) -> Tensor:
        """D."""
        d = y - x
        return self._form(x, d, d).real / (self._alpha(x) * self._alpha(y))

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Round, after a step back from the boundary that the rounding cannot undo."""
        edge = self.max_coord_radius(dtype).to(point.dtype)
        return (point * fn.within(fn.norm(point), edge)).to(dtype)

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """s^2 Re h(u, v)/alpha^2."""
        x, u, v = self.numbers(x), self.numbers(u), self.numbers(v)
        grown = self.stretch / self._alpha(x)
        return self._form(x, grown * u, grown * v).real

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """alpha (g - k <g, x> x)/s^2."""
        x, g = self.numbers(x), self.numbers(g)
        return self.entries(self._alpha(x) / self.stretch**2 * (g - self._k(x) * _pairing(g, x) * x))

    def expmap(self, x: Point, u: Point) -> Point:
        """x + T u/(1 + T k <u, x>/alpha)."""
        x, u = self.numbers(x), self.numbers(u)
        k, w = self._k(x), u / self._alpha(x)
        step = fn.tanhc(k * self._form(x, w, w).real)
        return self.entries(x + step * u / (1 + step * k * _pairing(w, x)))

    def logmap(self, x: Point, y: Point) -> Point:
        """asinhc(k D) sqrt(alpha/beta) conj(p)/|p| (y - x)."""
        x, y = self.numbers(x), self.numbers(y)
        k, ratio = self._k(x), torch.sqrt(self._alpha(x) / self._alpha(y))
        back = self.turn(1 - k * _pairing(x, y))
        return self.entries(fn.asinhc(k * self._apart(x, y)) * ratio * back * (y - x))

    def _dist(self, x: Point, y: Point) -> Scalar:
        """s sqrt(D) asinhc(k D)."""
        x, y = self.numbers(x), self.numbers(y)
        apart = self._apart(x, y)
        return self.stretch * fn.root(apart) * fn.asinhc(self._k(x) * apart)

    def _sqdist(self, x: Point, y: Point) -> Scalar:
        """s^2 D asinhc(k D)^2."""
        x, y = self.numbers(x), self.numbers(y)
        apart = self._apart(x, y)
        return self.stretch**2 * apart * fn.asinhc(self._k(x) * apart).square()

    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """q (v - k (<v, x>/alpha + q h(v, d)/(alpha beta E)) d).

        q = sqrt(beta/alpha) p/|p| and E = 1 + sqrt(1 + k D): what lies along F d turns with the geodesic, the
        rest stays as it is in F^(1, n).
        """
        x, y, v = self.numbers(x), self.numbers(y), self.numbers(v)
        k, alpha, beta, d = self._k(x), self._alpha(x), self._alpha(y), y - x
        q = self.turn(1 - k * _pairing(y, x)) * torch.sqrt(beta / alpha)
        along = q * self._form(x, v, d) / (alpha * beta * (1 + torch.sqrt(1 + k * self._apart(x, y))))
        return self.entries(q * (v - k * (_pairing(v, x) / alpha + along) * d))

    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """R (1 - 4 eps)."""
        return (1 - MARGIN * torch.finfo(dtype).eps) * (-self._kappa_at(dtype)).rsqrt()

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """s R atanh(1 - 4 eps)."""
        reach = self.stretch * math.atanh(1 - MARGIN * torch.finfo(dtype).eps)
        return reach * (-self._kappa_at(dtype)).rsqrt()


def _pairing(u: Tensor, v: Tensor) -> Tensor:
    """sum u conj(v) over the last axis, axis kept."""
    return (u * v.conj()).sum(-1, keepdim=True)
