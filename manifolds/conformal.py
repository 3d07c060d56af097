"""The conformal chart of signed curvature: ball below zero, plane at zero, stereographic sphere above."""

import math

import torch
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Point, Scalar, TangentAtOrigin
from manifold_lora.manifolds.conformal_operations import Dist, ExpMap, LogMap, SqDist, Transp
from manifold_lora.manifolds.conformal_pair import MARGIN
from manifold_lora.manifolds.fused import run
from manifold_lora.manifolds.precision import as_given, widest
from manifold_lora.manifolds.radial import OwnCoordinates
from manifold_lora.manifolds.radial_law import RadialLaw
from manifold_lora.manifolds.radial_operations import ExpMap0, LogMap0

# The ball below zero and the chart of the sphere above it, whose geodesics meet again at infinity.
BALL = RadialLaw(
    phi=lambda xp, a: xp.tanh(a / 2),
    phi_slope=lambda xp, a: 0.5 / xp.square(xp.cosh(a / 2)),
    psi=lambda xp, z: 2 * xp.arctanh(z),
    psi_slope=lambda xp, z: 2 / ((1 - z) * (1 + z)),
    cap=600.0,
    bounded=True,
)
ROUND = RadialLaw(
    phi=lambda xp, a: xp.tan(a / 2),
    phi_slope=lambda xp, a: 0.5 / xp.square(xp.cos(a / 2)),
    psi=lambda xp, z: 2 * xp.arctan(z),
    psi_slope=lambda xp, z: 2 / (1 + z * z),
    turn=math.pi,
)
_DIST, _SQDIST, _LOGMAP, _EXPMAP, _TRANSP = Dist(), SqDist(), LogMap(), ExpMap(), Transp()
_EXPMAP0 = {law: ExpMap0(law) for law in (BALL, ROUND)}
_LOGMAP0 = {law: LogMap0(law) for law in (BALL, ROUND)}


class Conformal(OwnCoordinates):
    """Points x in R^n with metric (2 / (1 + kappa |x|^2))^2; all formulas are analytic in kappa.

    Free vectors are in an orthonormal frame at the origin, so |v| is the distance: x = tanhc(|v|/2R) v/2.
    The difference y - x enters every formula instead of a Möbius sum, and 1 + kappa |x|^2 is accumulated
    wide: near the edge of the ball its digits are the geometry. Source: Skopek et al., arXiv 1911.08411
    (signed curvature), Ganea et al., arXiv 1805.09112, eq. 4-13; stable forms derived in docs/accuracy.md.
    """

    def _k(self, like: Tensor) -> Tensor:
        return -self.curvature.at(like.dtype)

    def _wide_k(self, like: Tensor) -> Tensor:
        return -self.curvature.at(widest(like.device))

    def _factor(self, x: Tensor, k: Tensor) -> Tensor:
        """alpha = 1 + kappa |x|^2, kept positive on the boundary itself."""
        return fn.positive(1 - k * fn.square(x))

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Round, after a step back from the boundary that the rounding cannot undo."""
        shrink = fn.root(fn.within(self._k(point) * fn.square(point), self._edge_tensor(point, dtype)))
        return (point * shrink).to(dtype)

    def _edge_tensor(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """The largest k |x|^2 of a point stored in this dtype."""
        return like.new_full((1,), (1 - MARGIN * torch.finfo(dtype).eps) ** 2)

    @as_given
    def expmap0(self, v: TangentAtOrigin) -> Point:
        """tanh(a/2)/a v with a = |v|/R, held inside the ball."""
        law = self._own_law()
        return super().expmap0(v) if law is None else run(self, _EXPMAP0[law], self._inverse_square(v), v)

    @as_given
    def logmap0(self, x: Point) -> TangentAtOrigin:
        """2 atanh(b)/b x with b = |x|/R."""
        law = self._own_law()
        return super().logmap0(x) if law is None else run(self, _LOGMAP0[law], self._inverse_square(x), x)

    def _own_law(self) -> RadialLaw | None:
        """BALL or ROUND; None where kappa may pass through zero, or another law or chart is in effect."""
        return self.radial_law if self.is_as_stated(*_EXPMAP0) else None

    def _inverse_square(self, like: Tensor) -> Tensor:
        return self.inverse_square_radius(widest(like.device))

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """4 <u, v> / alpha^2."""
        conformal = 2 / self._factor(x, self._k(x))
        return fn.dot(conformal * u, conformal * v)

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """alpha^2 g / 4."""
        return (self._factor(x, self._k(x)) / 2).square() * g

    @as_given
    def expmap(self, x: Point, u: Point) -> Point:
        """x + alpha (w + k |w|^2 x)/D with w = tanhc(k |u|^2/alpha^2) u/alpha.

        D = alpha (1 - k |w|^2) + k |x + w|^2, a sum of positive terms on the ball.
        """
        return run(self, _EXPMAP, self._wide_k(x), x, u)

    @as_given
    def logmap(self, x: Point, y: Point) -> Point:
        """A/(beta sqrt(1 + h)) (alpha d - k |d|^2 x), d = y - x, h = k |d|^2/(alpha beta), A = asinhc(h)."""
        return run(self, _LOGMAP, self._wide_k(x), x, y)

    @as_given
    def _dist(self, x: Point, y: Point) -> Scalar:
        """2 |d|/sqrt(alpha beta) asinhc(h)."""
        return run(self, _DIST, self._wide_k(x), x, y)

    @as_given
    def _sqdist(self, x: Point, y: Point) -> Scalar:
        """4 |d|^2/(alpha beta) asinhc(h)^2."""
        return run(self, _SQDIST, self._wide_k(x), x, y)

    @as_given
    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """(beta/alpha) gyr[y, -x] v, written in d = y - x so that it is the identity at d = 0."""
        return run(self, _TRANSP, self._wide_k(x), x, y, v)
