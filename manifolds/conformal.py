"""The conformal chart of signed curvature: ball below zero, plane at zero, stereographic sphere above."""

import torch
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.base import Free, Point, Scalar
from manifold_lora.manifolds.radial import Radial

# How many eps a stored point stays inside the boundary of the ball.
MARGIN = 4.0


class Conformal(Radial):
    """Points x in R^n with metric (2 / (1 + kappa |x|^2))^2; all formulas are analytic in kappa.

    Free vectors are in an orthonormal frame at the origin, so |v| is the distance: x = tanhc(|v|/2R) v/2.
    The difference y - x enters every formula instead of a Möbius sum, and 1 + kappa |x|^2 is accumulated
    wide: near the edge of the ball its digits are the geometry. Source: Skopek et al., arXiv 1911.08411
    (signed curvature), Ganea et al., arXiv 1805.09112, eq. 4-13; stable forms derived in docs/accuracy.md.
    """

    def _k(self, like: Tensor) -> Tensor:
        return -self.curvature.at(like.dtype)

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

    def chart_exp(self, sq: Scalar) -> Scalar:
        """f = tanhc(k sq/4)/2, with f |v| held inside the ball."""
        k = self._k(sq)
        factor = fn.tanhc(k * sq / 4) / 2
        return factor * fn.root(fn.within(k * factor.square() * sq, self._edge_tensor(sq, sq.dtype)))

    def chart_log(self, sq: Scalar) -> Scalar:
        """g = 2 atanhc(k sq), sq held inside the ball."""
        k, edge = self._k(sq), self._edge_tensor(sq, sq.dtype)
        return 2 * fn.atanhc(fn.capped(k * sq, edge)) * fn.root(fn.within(k * sq, edge))

    def lift(self, z: Free) -> Point:
        """z, held inside the ball."""
        return z

    def coords(self, x: Point) -> Free:
        """z = x."""
        return x

    def projx(self, x: Point) -> Point:
        """x, held inside the ball."""
        return x

    def proju(self, x: Point, u: Point) -> Point:
        """Every vector is tangent."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """4 <u, v> / alpha^2."""
        conformal = 2 / self._factor(x, self._k(x))
        return fn.dot(conformal * u, conformal * v)

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """alpha^2 g / 4."""
        return (self._factor(x, self._k(x)) / 2).square() * g

    def expmap(self, x: Point, u: Point) -> Point:
        """x + alpha (w + k |w|^2 x)/D with w = tanhc(k |u|^2/alpha^2) u/alpha.

        D = alpha (1 - k |w|^2) + k |x + w|^2, a sum of positive terms on the ball.
        """
        k = self._k(x)
        alpha = self._factor(x, k)
        q = k * fn.square(u / alpha)
        w = fn.tanhc(q) * u / alpha
        # 1 - tanh^2 = 1/cosh^2 keeps the digits that 1 - k |w|^2 would lose.
        beyond = fn.sech_square(q)
        denominator = alpha * beyond + k * fn.square(x + w)
        return x + alpha * (w + k * fn.square(w) * x) / denominator

    def _opening(self, x: Tensor, y: Tensor, k: Tensor) -> Tensor:
        """alpha beta + k |d|^2 = (1 - k <x, y>)^2 + k^2 |x ^ y|^2, the latter at and above zero curvature."""
        flat = self._factor(x, k) * self._factor(y, k) + k * fn.square(y - x)
        across = fn.norm(x) * fn.norm(y - fn.dot(fn.unit(x), y) * fn.unit(x))
        return fn.either(
            k > 0, lambda p: p, flat, lambda q: q, (1 - k * fn.dot(x, y)).square() + (k * across).square()
        )

    def logmap(self, x: Point, y: Point) -> Point:
        """alpha g (alpha d - k |d|^2 x) with d = y - x, D = alpha beta + k |d|^2.

        On the ball g = asinhc(h)/(alpha beta sqrt(1 + h)), h = k |d|^2/(alpha beta), which keeps the edge;
        elsewhere g = atanhc(k |d|^2/D)/D, which keeps the antipode.
        """
        k, d = self._k(x), y - x
        alpha, opening = self._factor(x, k), self._opening(x, y, k)
        sq, product = k * fn.square(d), alpha * self._factor(y, k)
        near_edge = sq / product
        factor = fn.either(
            k > 0,
            lambda h: fn.asinhc(h) / torch.sqrt(1 + h) / product,
            near_edge,
            lambda q: fn.atanhc(q) / opening,
            sq / opening,
        )
        return alpha * factor * (alpha * d - sq * x)

    def _dist(self, x: Point, y: Point) -> Scalar:
        """2 |d|/sqrt(alpha beta) asinhc(h) on the ball, 2 |d|/sqrt(D) atanhc(k |d|^2/D) elsewhere."""
        k, length = self._k(x), fn.norm(y - x)
        product = self._factor(x, k) * self._factor(y, k)
        opening = self._opening(x, y, k)
        sq = k * length.square()
        return (
            2
            * length
            * fn.either(
                k > 0,
                lambda h: fn.asinhc(h) * product.rsqrt(),
                sq / product,
                lambda q: fn.atanhc(q) * opening.rsqrt(),
                sq / opening,
            )
        )

    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """(beta/alpha) gyr[y, -x] v, written in d = y - x so that it is the identity at d = 0."""
        k, d = self._k(x), y - x
        alpha, beta, sq = self._factor(x, k), self._factor(y, k), fn.square(d)
        xv, dv = fn.dot(x, v), fn.dot(d, v)
        along_x = k * alpha * dv - k.square() * sq * xv
        along_d = k.square() * fn.square(x) * dv + k * xv * (alpha - 2 * k * fn.dot(x, d))
        turn = 2 / (alpha * beta + k * sq)
        return beta / alpha * (v + turn * (along_x * x - along_d * d))
