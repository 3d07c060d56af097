"""The half-space model of hyperbolic space, in which horizontal shifts are isometries."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Manifold, Point, Scalar, TangentAtOrigin
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.precision import WIDER


class HalfSpace(Manifold):
    """Points x = (y, h) of R^n with height h > 0 and metric (R/h)^2; kappa < 0, R = 1/sqrt(-kappa).

    The origin is (0, R). Free coordinates are (y, R log(h/R)): all of R^n, horizontal planes level, no
    direction at the origin like another (``lift`` is no radial chart, so adapters take the general path).
    With S = |y - x|^2/(4 h_x h_y) = sinh^2(dist/2R) nothing cancels between close points, however far out.
    Source: Ratcliffe, "Foundations of hyperbolic manifolds", 4.6.

    Raises:
        CurvatureError: kappa >= 0.
    """

    kappa_sign = -1
    extra_dims = 0

    def __init__(self, kappa: float | Curvature = -1.0) -> None:
        super().__init__(kappa)

    def _radius(self, like: Tensor) -> Tensor:
        return (-self.curvature.at(like.dtype)).rsqrt()

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Round, heights and sides held where the squares of all their quotients can be taken."""
        y, h = point[..., :-1], point[..., -1:]
        low, high = _room(dtype)
        return torch.cat([y * fn.within(fn.norm(y), h.new_full((1,), high)), h.clamp(low, high)], -1).to(
            dtype
        )

    def expmap0(self, v: TangentAtOrigin) -> Point:
        """The step from (0, R) along v, at most max_radius long."""
        radius = self._radius(v)
        w = v / radius
        farthest = (self.max_radius(v.dtype).to(v.dtype) / radius).detach()
        return radius * _step(w * fn.within(fn.norm(w), farthest))

    def logmap0(self, x: Point) -> TangentAtOrigin:
        """The logarithm at (0, R)."""
        radius = self._radius(x)
        return radius * _log(_upwards(torch.ones_like(x[..., -1:]), x), x / radius)

    def lift(self, z: TangentAtOrigin) -> Point:
        """(y, R exp(z_n/R)) with y the other coordinates."""
        radius = self._radius(z)
        low, high = _room(z.dtype)
        rise = (z[..., -1:] / radius).clamp(math.log(low), math.log(high))
        return torch.cat([z[..., :-1], radius * rise.exp()], -1)

    def coords(self, x: Point) -> TangentAtOrigin:
        """(y, R log(h/R))."""
        radius = self._radius(x)
        return torch.cat([x[..., :-1], radius * torch.log(x[..., -1:] / radius)], -1)

    def projx(self, x: Point) -> Point:
        """x, a height that is not positive replaced by the least."""
        return x

    def proju(self, x: Point, u: Point) -> Point:
        """Every vector is tangent."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """R^2 <u, v>/h^2."""
        grown = self._radius(x) / x[..., -1:]
        return fn.dot(grown * u, grown * v)

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """h^2 g/R^2."""
        return (x[..., -1:] / self._radius(x)).square() * g

    def expmap(self, x: Point, u: Point) -> Point:
        """The step u/h from (0, 1), times h and shifted by y."""
        h = x[..., -1:]
        moved = h * _step(u / h)
        return torch.cat([x[..., :-1] + moved[..., :-1], moved[..., -1:]], -1)

    def logmap(self, x: Point, y: Point) -> Point:
        """asinhc(S)/sqrt(1 + S) (h_x d + |d|^2/2 e)/h_y with e upwards."""
        return _log(x, y)

    def _dist(self, x: Point, y: Point) -> Scalar:
        """2 R asinh(sqrt S)."""
        apart = _apart(x, y)
        return 2 * self._radius(x) * fn.root(apart) * fn.asinhc(apart)

    def _sqdist(self, x: Point, y: Point) -> Scalar:
        """4 R^2 asinh(sqrt S)^2."""
        apart = _apart(x, y)
        return 4 * apart * (self._radius(x) * fn.asinhc(apart)).square()

    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """h_y/h_x (v + ((2 h_y v_n - <d, v>) d - (2 h_x <d, v> + |d|^2 v_n) e)/(2 h_x h_y (1 + S))).

        Two reflections, along d and along the geodesic's first direction: what turns it turns v.
        """
        d, low, high, rise = y - x, x[..., -1:], y[..., -1:], v[..., -1:]
        dv, sq = fn.dot(d, v), fn.square(d)
        below = 2 * low * high + sq / 2
        turned = v + (2 * high * rise - dv) / below * d - _upwards((2 * low * dv + sq * rise) / below, v)
        return high / low * turned

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """-R log(4 eps): further out sideways, a point's place is known no better than its height."""
        return -math.log(4 * torch.finfo(dtype).eps) * (-self._kappa_at(dtype)).rsqrt()


def _room(dtype: torch.dtype) -> tuple[float, float]:
    """The least and the largest coordinate of a point of this dtype."""
    wide = torch.finfo(WIDER.get(dtype, dtype)).max
    high = min(torch.finfo(dtype).max, wide**0.2) / 8
    return 1 / high, high


def _upwards(size: Tensor, like: Tensor) -> Tensor:
    """size e, as wide as a point like the given one."""
    return functional.pad(size, (like.shape[-1] - 1, 0))


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """S."""
    return fn.square(y - x) / (4 * x[..., -1:] * y[..., -1:])


def _log(x: Tensor, y: Tensor) -> Tensor:
    """The logarithm at x of y."""
    d, s = y - x, _apart(x, y)
    low, high = x[..., -1:], y[..., -1:]
    size = fn.asinhc(s) * torch.rsqrt(1 + s) / high
    return size * (low * d + _upwards(fn.square(d) / 2, d))


def _step(w: Tensor) -> Tensor:
    """Where the way w from (0, 1) leads on curvature -1.

    (sinhc w_y, 1)/(cosh - sinhc w_n) of a = |w|; where w_n > 0 the difference cancels, and is written
    (1 + sinhc^2 |w_y|^2)/(cosh + sinhc w_n).
    """
    w = w * fn.within(fn.norm(w), w.new_full((1,), 0.45 * math.log(torch.finfo(w.dtype).max)))
    q, side, rise = fn.square(w), w[..., :-1], w[..., -1:]
    sinhc, up = fn.sinhc(q), rise > 0
    total = fn.coshc(q) + sinhc * torch.where(up, rise, -rise)
    height = torch.where(up, total / (1 + sinhc.square() * fn.square(side)), total.reciprocal())
    return torch.cat([height * sinhc * side, height], -1)
