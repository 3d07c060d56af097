"""Distance, logarithm, exponential and transport of the conformal chart, each with its own gradient.

``k`` is -kappa, of either sign or 0. alpha = 1 - k |x|^2, beta = 1 - k |y|^2, d = y - x, and
h = k |d|^2/(alpha beta) is sinh^2(dist/2R), or -sin^2(dist/2R) above zero curvature. A bar names the gradient
of the loss by a quantity.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.conformal_pair import (
    MARGIN,
    Pair,
    Tail,
    arc_of,
    factor,
    measure,
    remeasure,
    signed,
    smooth_factor,
    smooth_pair,
)
from manifold_lora.manifolds.operation import Grads, Operation, Part, Parts, Rows
from manifold_lora.manifolds.scratch import Scratch


class _Length(Operation):
    """A function of D = |d|^2/(alpha beta) and k."""

    @abstractmethod
    def solve(self, k: Any, ratio: Tensor, h: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        """The value at D and its derivative by D."""

    @abstractmethod
    def by_k(self, ratio: Tensor, arc: Tensor, slope: Tensor) -> Tensor:
        """Its derivative by k at fixed D, from A and dA/dh."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        pair = measure(k, pad, *rows)
        ratio = pair.dd / (pair.alpha * pair.beta)
        value, slope = self.solve(k, ratio, pair.h, pair.flat)
        return (value,), (pair.xx, pair.yy, pair.dd, pair.flat, slope)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (*measured, slope), (bar,) = rows, saved, g
        pair = remeasure(k, pad, x, y, tuple(measured))
        product = pair.alpha * pair.beta
        ratio, ratio_bar = pair.dd / product, bar * slope
        falling = -ratio_bar * ratio
        tail = Tail(k, pair, ratio_bar / product, falling / pair.alpha, falling / pair.beta)
        grads = tail.rows(x, needs)
        if not needs[0]:
            return grads, None
        arc = arc_of(k, pair.h, pair.flat)
        return grads, bar * self.by_k(ratio, arc, col.asinhc_slope(pair.h, pair.flat, arc)) + tail.of_k()


class Dist(_Length):
    """2 sqrt(D) A(h)."""

    def solve(self, k: Any, ratio: Tensor, h: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        root = ratio.sqrt()
        slope = torch.where(ratio == 0, 0.0, flat.sqrt().mul_(root).reciprocal_())
        return 2 * root * arc_of(k, h, flat), slope

    def by_k(self, ratio: Tensor, arc: Tensor, slope: Tensor) -> Tensor:
        return 2 * ratio.sqrt() * slope * ratio

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        ratio, arc, _ = smooth_pair(k, *arguments)
        return 2 * fn.root(ratio) * arc


class SqDist(_Length):
    """4 D A(h)^2, smooth at x = y."""

    def solve(self, k: Any, ratio: Tensor, h: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        arc = arc_of(k, h, flat)
        return 4 * ratio * arc.square(), 4 * arc * flat.rsqrt()

    def by_k(self, ratio: Tensor, arc: Tensor, slope: Tensor) -> Tensor:
        return 8 * ratio.square() * arc * slope

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        ratio, arc, _ = smooth_pair(k, *arguments)
        return 4 * ratio * arc.square()


class LogMap(Operation):
    """u = B (alpha d - k |d|^2 x)/beta, B = A/sqrt(1 + h)."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, y = rows
        pair = measure(k, pad, x, y)
        b = arc_of(k, pair.h, pair.flat) * pair.flat.rsqrt() / pair.beta
        u = (b * pair.alpha, pair.d), (b * pair.dd * -k, x)
        return (u,), (pair.xx, pair.yy, pair.dd, pair.flat)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (g_row,) = rows, g
        pair = remeasure(k, pad, x, y, saved)
        arc, root = arc_of(k, pair.h, pair.flat), pair.flat.rsqrt()
        b = arc * root / pair.beta
        b_slope = (col.asinhc_slope(pair.h, pair.flat, arc) - arc / (2 * pair.flat)) * root / pair.beta
        on_d, on_x = pad.dot(g_row, pair.d), pad.dot(g_row, x)
        length = pair.alpha * on_d - k * pair.dd * on_x  # <g, u> / b.
        h_bar = length * b_slope
        falling, product = h_bar * pair.h, pair.alpha * pair.beta
        dd_bar = h_bar * k / product - k * b * on_x
        tail = Tail(
            k,
            pair,
            dd_bar,
            b * on_d - falling / pair.alpha,
            (-b * length - falling) / pair.beta,
        )
        turn = b * pair.alpha
        grads = tail.rows(x, needs, (-turn - b * pair.dd * k, turn, g_row))
        if not needs[0]:
            return grads, None
        return grads, h_bar * pair.dd / product - b * pair.dd * on_x + tail.of_k()

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y = arguments
        _, arc, flat = smooth_pair(k, x, y)
        d, alpha, beta = y - x, smooth_factor(k, x), smooth_factor(k, y)
        return arc * flat.rsqrt() / beta * (alpha * d - k * fn.square(d) * x)


class ExpMap(Operation):
    """y = (1 + alpha t^2/D) x + (T/D) u with T = t/a, a = sqrt(k) |u|/alpha, t = tanh a.

    D = alpha (1 - t^2) + k |x + T u/alpha|^2, a sum of positive terms on the ball.
    """

    points, gives_point = 1, True

    def room(self, k: Any, dtype: torch.dtype) -> Any:
        """The longest point of the ball in this dtype."""
        edge = 1 - MARGIN * torch.finfo(dtype).eps
        if isinstance(k, float):
            return edge * k**-0.5 if k > 0 else None
        return torch.where(k > 0, edge * k.abs().rsqrt(), torch.inf)

    def _rolled(self, k: Any, q: Tensor) -> tuple[Tensor, Tensor]:
        """T and 1 - t^2 at q = a^2."""
        a = q.abs().sqrt_().clamp_(min=col.TINY)
        size = signed(k, a.tanh, a.tan).div(a)
        return size, signed(k, a.cosh, a.cos).square().reciprocal_()

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, u = rows
        xx, uu, xu = col.square(x), col.square(u), pad.dot(x, u)
        alpha = factor(k, xx)
        q = uu * k / alpha.square()
        size, beyond = self._rolled(k, q)
        below = alpha * beyond + k * col.square(pad.combine((None, x), (size / alpha, u)))
        y = pad.combine((1 + alpha * q * size.square() / below, x), (size / below, u))
        return (y,), (xx, uu, xu, below)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, u), (xx, uu, xu, below), (g_row,) = rows, saved, g
        alpha = factor(k, xx)
        q = uu * k / alpha.square()
        size, beyond = self._rolled(k, q)
        square, slope = q * size.square(), col.tanhc_slope(q, size, beyond)
        on_x, on_u = pad.dot(g_row, x), pad.dot(g_row, u)
        below_bar = -(on_u * size + on_x * alpha * square) / below.square()
        by_q = 2 * k * xu * slope / alpha + k * xx * size * beyond
        q_bar = (on_u * slope + on_x * alpha * size * beyond) / below + below_bar * by_q
        alpha_bar = on_x * square / below
        lean = 2 * size * xu / alpha
        xx_bar = below_bar * (k * square + k * k * lean / alpha) + 2 * k * q_bar * q / alpha - k * alpha_bar
        xu_bar, uu_bar = below_bar * 2 * k * size / alpha, q_bar * k / alpha.square()
        grads: list[Part | None] = [None, None]
        if needs[1]:
            grads[0] = (1 + alpha * square / below, g_row), (2 * xx_bar, x), (xu_bar, u)
        if needs[2]:
            grads[1] = (size / below, g_row), (2 * uu_bar, u), (xu_bar, x)
        if not needs[0]:
            return grads, None
        by_k = below_bar * (lean + k * lean * xx / alpha + xx * square) - xx * alpha_bar
        return grads, by_k + q_bar * (uu / alpha.square() + 2 * q * xx / alpha)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, u = arguments
        alpha = smooth_factor(k, x)
        q = k * fn.square(u / alpha)
        w = fn.tanhc(q) * u / alpha
        below = alpha * fn.sech_square(q) + k * fn.square(x + w)
        return x + alpha * (w + k * fn.square(w) * x) / below


class Transp(Operation):
    """w = (beta/alpha) (v + t (a x - b d)), gyr[y, -x] written in d = y - x, the identity at d = 0.

    t = 2/(alpha beta (1 + h)), a = k alpha <d, v> - k^2 |d|^2 <x, v>,
    b = k^2 |x|^2 <d, v> + k <x, v> (alpha - 2 k <x, d>).
    """

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, y, v = rows
        pair = measure(k, pad, x, y)
        xv, dv = pad.dot(x, v), pad.dot(pair.d, v)
        grown, turn, a, b = self._solved(k, pair, xv, dv)
        w = (grown, v), (grown * turn * a, x), (-grown * turn * b, pair.d)
        return (w,), (pair.xx, pair.yy, pair.dd, pair.flat, xv, dv)

    @staticmethod
    def _solved(k: Any, pair: Pair, xv: Tensor, dv: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        xd = (pair.yy - pair.xx - pair.dd) / 2
        a = k * pair.alpha * dv - k * k * pair.dd * xv
        b = k * k * pair.xx * dv + k * xv * (pair.alpha - 2 * k * xd)
        return pair.beta / pair.alpha, 2 / (pair.alpha * pair.beta * pair.flat), a, b

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y, v), (*measured, xv, dv), (g_row,) = rows, saved, g
        pair = remeasure(k, pad, x, y, tuple(measured))
        grown, turn, a, b = self._solved(k, pair, xv, dv)
        xx, dd, alpha, xd = pair.xx, pair.dd, pair.alpha, (pair.yy - pair.xx - pair.dd) / 2
        on_x, on_d = pad.dot(g_row, x), pad.dot(g_row, pair.d)
        moved = on_x * a - on_d * b
        grown_bar = pad.dot(g_row, v) + turn * moved
        open_bar = -grown * moved * turn.square() / 2
        a_bar, b_bar = grown * turn * on_x, -grown * turn * on_d
        alpha_bar = open_bar * pair.beta - grown_bar * grown / alpha + a_bar * k * dv + b_bar * k * xv
        beta_bar = grown_bar / alpha + open_bar * alpha
        yy_bar = -k * beta_bar
        xx_bar = b_bar * k * k * dv - k * alpha_bar + yy_bar
        xd_bar = 2 * yy_bar - 2 * b_bar * k * k * xv
        dd_bar = open_bar * k - a_bar * k * k * xv + yy_bar
        xv_bar = b_bar * k * (alpha - 2 * k * xd) - a_bar * k * k * dd
        dv_bar = a_bar * k * alpha + b_bar * k * k * xx
        by_d = -grown * turn * b, xd_bar, 2 * dd_bar, dv_bar
        by_x = grown * turn * a, 2 * xx_bar, xd_bar, xv_bar
        basis = g_row, x, pair.d, v
        grads: list[Part | None] = [None, None, None]
        if needs[1]:
            grads[0] = tuple((p - q, row) for p, q, row in zip(by_x, by_d, basis, strict=True))
        if needs[2]:
            grads[1] = tuple(zip(by_d, basis, strict=True))
        if needs[3]:
            grads[2] = (grown, g_row), (xv_bar, x), (dv_bar, pair.d)
        if not needs[0]:
            return grads, None
        by_k = open_bar * dd + a_bar * (alpha * dv - 2 * k * dd * xv) - xx * alpha_bar - pair.yy * beta_bar
        return grads, by_k + b_bar * (2 * k * xx * dv + xv * alpha - 4 * k * xv * xd)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y, v = arguments
        d, alpha, beta = y - x, smooth_factor(k, x), smooth_factor(k, y)
        xv, dv, sq = fn.dot(x, v), fn.dot(d, v), fn.square(d)
        a = k * alpha * dv - k.square() * sq * xv
        b = k.square() * fn.square(x) * dv + k * xv * (alpha - 2 * k * fn.dot(x, d))
        turn = 2 / (alpha * beta * smooth_pair(k, x, y)[2])
        return beta / alpha * (v + turn * (a * x - b * d))
