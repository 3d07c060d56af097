"""The hyperboloid, computed from its space coordinates alone: the time coordinate is written, never read."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Free, Point, Scalar
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.exact import hyperboloid as exact
from manifold_lora.manifolds.hyperboloid import Chord, advance, inner, pairing, stretch
from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.radial_law import RadialLaw

HYPERBOLIC = RadialLaw(
    phi=lambda xp, a: xp.sinh(a),
    phi_slope=lambda xp, a: xp.cosh(a),
    psi=lambda xp, z: xp.arcsinh(z),
    psi_slope=lambda xp, z: 1 / xp.sqrt(1 + z * z),
    cap=300.0,
    grows=True,
)


class Lorentz(Radial):
    """Points x = (t, s) with -t^2 + |s|^2 = 1/kappa, t > 0; kappa < 0, R = 1/sqrt(-kappa).

    Everything is a function of the space coordinates s: t = sqrt(R^2 + |s|^2) is recomputed, so that a
    rounded time coordinate costs nothing. Source: Yang et al., arXiv 2410.04010, eq. 3-6, with K = -1/kappa;
    stable forms derived in docs/accuracy.md.

    Raises:
        CurvatureError: kappa >= 0.
    """

    kappa_sign = -1
    extra_dims = 1
    radial_law = HYPERBOLIC

    def __init__(self, kappa: float | Curvature = -1.0) -> None:
        super().__init__(kappa)

    def _k(self, like: Tensor) -> Tensor:
        return -self.curvature.at(like.dtype)

    def exactly(self, operation: str, *arguments: Tensor) -> Tensor | None:
        """Lengths, whose rounding sinh and cosh magnify, and sums that cancel on the way to the origin."""
        k = self._k(arguments[0]).detach()
        if operation == "expmap0":
            return self._point(exact.expmap0(arguments[0], k), k)
        if operation == "expmap":
            x, u = arguments
            return self._point(exact.expmap(self.coords(x), u[..., 1:], k), k)
        if operation == "carry":
            x, y, v = arguments
            space = self.coords(y)
            return self._tangent(space, exact.transp(self.coords(x), space, v[..., 1:], k), k)
        return None

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Round, after a step back to the longest space coordinates the dtype holds."""
        # That far out time equals |space| to the last digit, so one factor serves both.
        return (point * fn.within(fn.norm(point), point.new_full((1,), torch.finfo(dtype).max / 8))).to(dtype)

    def _point(self, space: Tensor, k: Tensor) -> Tensor:
        return torch.cat([fn.hypot(k.rsqrt(), fn.norm(space)), space], -1)

    def _tangent(self, space: Tensor, u: Tensor, k: Tensor) -> Tensor:
        """The tangent vector at the point over ``space`` whose space part is u: its time part follows."""
        time = fn.dot(space / stretch(space, k.sqrt()), u) * k.sqrt()
        return torch.cat([time, u.expand(*time.shape[:-1], u.shape[-1])], -1)

    def expmap0(self, v: Free) -> Point:
        """s = sinh(a)/a v with a = |v|/R."""
        v = v * fn.within(fn.norm(v), self.max_radius(v.dtype).to(v.dtype))
        return self._point(self.chart_exp(fn.square(v)) * v, self._k(v))

    def logmap0(self, x: Point) -> Free:
        """v = asinh(b)/b s with b = |s|/R; never acosh, which loses everything near the origin."""
        space = self.coords(x)
        return self._law().exit.of(self._k(x).sqrt() * fn.norm(space)) * space

    def lift(self, z: Free) -> Point:
        """(sqrt(R^2 + |z|^2), z)."""
        return self._point(z, self._k(z))

    def coords(self, x: Point) -> Free:
        """The space coordinates."""
        return x[..., 1:]

    def projx(self, x: Point) -> Point:
        """Keeps the space coordinates and recomputes time."""
        return self.lift(self.coords(x))

    def proju(self, x: Point, u: Point) -> Point:
        """u + k <x, u>_L x, the time part taken from tangency."""
        k, space = self._k(x), self.coords(x)
        tangent = self._tangent(space, u[..., 1:], k)
        # <x, u>_L is -t times what u's time part has beyond the tangent one.
        excess = u[..., :1] - tangent[..., :1]
        shift = k * self._point(space, k)[..., :1] * excess
        return self._tangent(space, u[..., 1:] - shift * space, k)

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """<u, v>_L, from the space parts."""
        return inner(self.coords(x), u[..., 1:], v[..., 1:], self._k(x).sqrt())

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """h + k <x, h>_L x with h = (-g_t, g_s)."""
        k, space = self._k(x), self.coords(x)
        time = fn.hypot(k.rsqrt(), fn.norm(space))
        pairing = time * g[..., :1] + fn.dot(space, g[..., 1:])
        return self._tangent(space, g[..., 1:] + k * pairing * space, k)

    def expmap(self, x: Point, u: Point) -> Point:
        """cosh(a) x + sinh(a)/a u with a = |u|_L/R."""
        k = self._k(x)
        return self._point(advance(self.coords(x), u[..., 1:], k.sqrt()), k)

    def logmap(self, x: Point, y: Point) -> Point:
        """asinhc(h^2)/sqrt(1 + h^2) (y - x - 2 h^2 x) with h = sinh(dist/2R)."""
        k, space = self._k(x), self.coords(x)
        chord = Chord.between(space, self.coords(y), k.sqrt())
        half = k.sqrt() * chord.half
        flat, along = fn.hypot(torch.ones_like(half), half), fn.asinhc_of(half)
        turn = 2 * (along * half) * (half / flat)
        return self._tangent(space, along / flat * chord.step - turn * space, k)

    def arc(self, x: Point, y: Point) -> Scalar:
        """2R asinh(h) with h = sinh(dist/2R) from the chord; never acosh of an inner product."""
        s = self._k(x).sqrt()
        half = Chord.between(self.coords(x), self.coords(y), s).half
        return 2 * fn.asinhc_of(s * half) * half

    def carry(self, x: Point, y: Point, v: Point) -> Point:
        """v + k <y, v>_L / (2 + 2 h^2) (x + y)."""
        k, space, other = self._k(x), self.coords(x), self.coords(y)
        half = k.sqrt() * Chord.between(space, other, k.sqrt()).half
        flat = fn.hypot(torch.ones_like(half), half)
        shift = k * (pairing(space, other, v[..., 1:], k.sqrt()) / flat) / (2 * flat)
        return self._tangent(other, v[..., 1:] + shift * (space + other), k)

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """R (log(largest float) - 3 - max(0, log R)): the space coordinates R sinh(|v|/R) fit."""
        largest = math.log(torch.finfo(dtype).max) - 3
        s = (-self._kappa_at(dtype)).sqrt()
        return (largest + fn.capped(s.log(), 0.0)) / s

    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """Unbounded."""
        return torch.full_like(self._kappa_at(dtype), torch.inf)
