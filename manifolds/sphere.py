"""The sphere, its pole as origin."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Point, Scalar, TangentAtOrigin
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.fused import run
from manifold_lora.manifolds.precision import as_given, in_wider_dtype, widest
from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.radial_law import RadialLaw
from manifold_lora.manifolds.sphere_operations import Dist, ExpMap, LogMap, SqDist, Transp
from manifold_lora.manifolds.sphere_origin_operations import FromPole, ToPole, from_pole, to_pole

# Of lifted points; beyond a quarter turn the coordinates of expmap0 fold back.
SPHERICAL = RadialLaw(
    phi=lambda xp, a: xp.sin(a),
    phi_slope=lambda xp, a: xp.cos(a),
    psi=lambda xp, z: xp.arcsin(z),
    psi_slope=lambda xp, z: 1 / xp.sqrt((1 - z) * (1 + z)),
    bounded=True,
    turn=math.pi,
)

_DIST, _SQDIST, _LOGMAP, _EXPMAP, _TRANSP = Dist(), SqDist(), LogMap(), ExpMap(), Transp()
_FROM_POLE, _TO_POLE = FromPole(SPHERICAL), ToPole(SPHERICAL)


class Sphere(Radial):
    """Points x = (t, s) with t^2 + |s|^2 = R^2, R = 1/sqrt(kappa), kappa > 0.

    ``lift`` reaches the hemisphere t >= 0 only; ``expmap0`` goes all the way round.

    Raises:
        CurvatureError: kappa <= 0.
    """

    kappa_sign = 1
    extra_dims = 1
    radial_law = SPHERICAL

    def __init__(self, kappa: float | Curvature = 1.0) -> None:
        super().__init__(kappa)

    def _k(self, like: Tensor) -> Tensor:
        return self.curvature.at(like.dtype)

    def _wide_k(self, like: Tensor) -> Tensor:
        return self.curvature.at(widest(like.device))

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Bring to length R, then round: no number of steps leaves the sphere."""
        return (point * (self._k(point).rsqrt() / fn.norm(point))).to(dtype)

    @as_given
    def expmap0(self, v: TangentAtOrigin) -> Point:
        """(R cos(a), sin(a)/a v), a = |v|/R: all the way round."""
        own = self.is_as_stated(SPHERICAL)
        return run(self, _FROM_POLE, self._wide_k(v), v) if own else self._from_pole(v)

    @as_given
    def logmap0(self, x: Point) -> TangentAtOrigin:
        """R a/|s| s with sin(a) = |s|/R and cos(a) = t/R: right on the whole sphere."""
        own = self.is_as_stated(SPHERICAL)
        return run(self, _TO_POLE, self._wide_k(x), x) if own else self._to_pole(x)

    @in_wider_dtype(points=0, gives_point=True)
    def _from_pole(self, v: TangentAtOrigin) -> Point:
        return from_pole(self._law(), self._k(v), v)

    @in_wider_dtype(points=1, gives_point=False)
    def _to_pole(self, x: Point) -> TangentAtOrigin:
        return to_pole(self._law(), self._k(x), x)

    def lift(self, z: TangentAtOrigin) -> Point:
        """(sqrt(R^2 - |z|^2), z), z held inside the hemisphere."""
        k = self._k(z)
        z = z * fn.within(k.sqrt() * fn.norm(z), self._edge(z).sqrt())
        return torch.cat([torch.sqrt(1 - k * fn.square(z)) * k.rsqrt(), z], -1)

    def coords(self, x: Point) -> TangentAtOrigin:
        """The space coordinates."""
        return x[..., 1:]

    def projx(self, x: Point) -> Point:
        """R x/|x|; the centre, equally far from every point, goes to the origin."""
        centre = (fn.norm(x) == 0).to(x.dtype)
        return torch.cat([x[..., :1] + centre, x[..., 1:]], -1)

    def proju(self, x: Point, u: Point) -> Point:
        """u - <x, u>/<x, x> x."""
        return u - fn.dot(x, u) / fn.square(x) * x

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """<u, v>."""
        return fn.dot(u, v)

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """The tangent part of g."""
        return self.proju(x, g)

    @as_given
    def expmap(self, x: Point, u: Point) -> Point:
        """cos(a) x + sin(a)/a u with a = |u|/R, brought to length R."""
        return run(self, _EXPMAP, self._wide_k(x), x, u)

    @as_given
    def logmap(self, x: Point, y: Point) -> Point:
        """dist/|w| w with w the part of y across x; from x to -x, some direction of length pi R."""
        return run(self, _LOGMAP, self._wide_k(x), x, y)

    @as_given
    def _dist(self, x: Point, y: Point) -> Scalar:
        """2R atan2(|p - q|, |p + q|) with p = x/|x|, q = y/|y|: right from 0 to the antipode."""
        return run(self, _DIST, self._wide_k(x), x, y)

    @as_given
    def _sqdist(self, x: Point, y: Point) -> Scalar:
        """Its square."""
        return run(self, _SQDIST, self._wide_k(x), x, y)

    @as_given
    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """v - 2 <m, v>/|m|^2 m with m = x/|x| + y/|y|: the reflection that swaps x and -y."""
        return run(self, _TRANSP, self._wide_k(x), x, y, v)

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """pi R, the antipode."""
        return math.pi / self._kappa_at(dtype).sqrt()

    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """R (1 - 4 eps), the equator."""
        return (1 - 4 * torch.finfo(dtype).eps) / self._kappa_at(dtype).sqrt()
