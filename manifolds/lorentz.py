"""The hyperboloid, computed from its space coordinates alone: the time coordinate is written, never read."""

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Point, Scalar, TangentAtOrigin
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.fused import run
from manifold_lora.manifolds.hyperboloid import farthest, longest, smooth_inner, stretch
from manifold_lora.manifolds.hyperboloid_operations import Dist, ExpMap, LogMap, SqDist, Transp
from manifold_lora.manifolds.precision import as_given, widest
from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.radial_law import RadialLaw
from manifold_lora.manifolds.radial_operations import HyperbolicExpMap0, LogMap0

HYPERBOLIC = RadialLaw(
    phi=lambda xp, a: xp.sinh(a),
    phi_slope=lambda xp, a: xp.cosh(a),
    psi=lambda xp, z: xp.arcsinh(z),
    psi_slope=lambda xp, z: 1 / xp.sqrt(1 + z * z),
    cap=300.0,
    grows=True,
)

_DIST, _SQDIST, _LOGMAP, _EXPMAP, _TRANSP = Dist(), SqDist(), LogMap(), ExpMap(), Transp()
_EXPMAP0, _LOGMAP0 = HyperbolicExpMap0(HYPERBOLIC), LogMap0(HYPERBOLIC, leading=1)


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

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Round, after a step back to the longest space coordinates the dtype holds."""
        # That far out time equals |space| to the last digit, so one factor serves both.
        return (point * fn.within(fn.norm(point), point.new_full((1,), longest(dtype) / 8))).to(dtype)

    def _wide_k(self, like: Tensor) -> Tensor:
        return -self.curvature.at(widest(like.device))

    def _point(self, space: Tensor, k: Tensor) -> Tensor:
        return torch.cat([fn.hypot(k.rsqrt(), fn.norm(space)), space], -1)

    def _tangent(self, space: Tensor, u: Tensor, k: Tensor) -> Tensor:
        """The tangent vector at the point over ``space`` whose space part is u: its time part follows."""
        time = fn.dot(space / stretch(space, k), u) * k.sqrt()
        return torch.cat([time, u.expand(*time.shape[:-1], u.shape[-1])], -1)

    @as_given
    def expmap0(self, v: TangentAtOrigin) -> Point:
        """s = sinh(a)/a v with a = |v|/R."""
        own = self.is_as_stated(HYPERBOLIC)
        return run(self, _EXPMAP0, self._wide_k(v), v) if own else super().expmap0(v)

    @as_given
    def logmap0(self, x: Point) -> TangentAtOrigin:
        """v = asinh(b)/b s with b = |s|/R; never acosh, which loses everything near the origin."""
        own = self.is_as_stated(HYPERBOLIC)
        return run(self, _LOGMAP0, self._wide_k(x), x) if own else super().logmap0(x)

    def lift(self, z: TangentAtOrigin) -> Point:
        """(sqrt(R^2 + |z|^2), z)."""
        return self._point(z, self._k(z))

    def coords(self, x: Point) -> TangentAtOrigin:
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
        return smooth_inner(self._k(x), self.coords(x), u[..., 1:], v[..., 1:])

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """h + k <x, h>_L x with h = (-g_t, g_s)."""
        k, space = self._k(x), self.coords(x)
        time = fn.hypot(k.rsqrt(), fn.norm(space))
        pairing = time * g[..., :1] + fn.dot(space, g[..., 1:])
        return self._tangent(space, g[..., 1:] + k * pairing * space, k)

    @as_given
    def expmap(self, x: Point, u: Point) -> Point:
        """cosh(a) x + sinh(a)/a u with a = |u|_L/R."""
        return run(self, _EXPMAP, self._wide_k(x), x, u)

    @as_given
    def logmap(self, x: Point, y: Point) -> Point:
        """asinh(h)/(h sqrt(1 + h^2)) (y - x - 2 h^2 x) with h = sinh(dist/2R)."""
        return run(self, _LOGMAP, self._wide_k(x), x, y)

    @as_given
    def _dist(self, x: Point, y: Point) -> Scalar:
        """2R asinh(h) with h = sinh(dist/2R) from the chord; never acosh of an inner product."""
        return run(self, _DIST, self._wide_k(x), x, y)

    @as_given
    def _sqdist(self, x: Point, y: Point) -> Scalar:
        """4R^2 asinh(h)^2."""
        return run(self, _SQDIST, self._wide_k(x), x, y)

    @as_given
    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """v + k <y, v>_L / (2 + 2 h^2) (x + y)."""
        return run(self, _TRANSP, self._wide_k(x), x, y, v)

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """R (log(longest) - 3 - max(0, log R)): the coordinates R sinh(|v|/R) fit, in float64 squared."""
        k = -self._kappa_at(dtype)
        return farthest(k, dtype) * k.rsqrt()

    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """Unbounded."""
        return torch.full_like(self._kappa_at(dtype), torch.inf)
