"""Distance, logarithm, exponential and transport on the hyperboloid, each with its own gradient.

Rows are space coordinates: time is written, never read. ``k`` is -kappa. A bar names the gradient of the loss
by a quantity: ``h_bar`` is that by H. Rows of a gradient are combinations of x, d = y - x, the vector and g,
the gradient by the result's space part.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds import hyperboloid as hb
from manifold_lora.manifolds.operation import Grads, Operation, Part, Parts, Rows
from manifold_lora.manifolds.scratch import Scratch


def _led(time: Tensor, space: Tensor) -> Tensor:
    """Time and space in one row."""
    return torch.cat([time, space], -1)


def _smooth_tangent(k: Tensor, base: Tensor, u: Tensor) -> Tensor:
    return _led(fn.dot(base, u) * k.sqrt() / hb.stretch(base, k), u)


class _Hyperbolic(Operation):
    leading = 1


class _Length(_Hyperbolic):
    """A function of H and k alone."""

    @abstractmethod
    def solve(self, k: Any, exact: bool, h: Tensor) -> tuple[Tensor, Tensor]:
        """The value at H and its derivative by H."""

    @abstractmethod
    def by_k(self, k: Any, h: Tensor, h_k: Tensor, flat_k: Tensor) -> Tensor:
        """Its derivative by k, from those of H and of H/k."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        pair = hb.measure(k, exact, pad, *rows)
        value, slope = self.solve(k, exact, pair.h)
        return (value,), (pair.delta / pair.ex, pair.delta / pair.ey, pair.h, slope)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (lean_x, lean_y, h, slope), (bar,) = rows, saved, g
        d, half = pad.pair(torch.sub, x, y), (bar * slope).mul_(k / 2)
        grads: list[Part | None] = [None, None]
        if needs[1]:  # dH/dx = -k/2 (d - delta/E_x x).
            grads[0] = (-half, d), (half * lean_x, x)
        if needs[2]:  # dH/dy = k/2 (d - delta/E_y y).
            leaning = half * lean_y
            grads[1] = (half - leaning, d), (-leaning, x)
        if not needs[0]:
            return grads, None
        flat_k = lean_x * lean_y * (-1 / (4 * k * k))
        return grads, bar * self.by_k(k, h, h / k + k * flat_k, flat_k)


class Dist(_Length):
    """2R asinh(sqrt H)."""

    def solve(self, k: Any, exact: bool, h: Tensor) -> tuple[Tensor, Tensor]:
        root, flat_root = h.sqrt(), (h + 1.0).sqrt_()
        slope = (root * flat_root).reciprocal_().mul_(k**-0.5)
        if h.device.type != "cpu" or not h.amin().item() > 0:
            slope = torch.where(h == 0, 0.0, slope)
        return col.asinh(exact, root, h, flat_root).mul_(2 / k**0.5), slope

    def by_k(self, k: Any, h: Tensor, h_k: Tensor, flat_k: Tensor) -> Tensor:
        flat, a = (h / k).sqrt(), col.asinhc(h)
        return torch.where(h == 0, 0.0, a / flat * flat_k) + 2 * flat * col.asinhc_slope(h, h + 1.0, a) * h_k

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        h, flat = hb.smooth_h(k, *(argument[..., 1:] for argument in arguments))
        return 2 * fn.asinhc(h) * fn.root(flat)


class SqDist(_Length):
    """4R^2 asinh(sqrt H)^2, smooth at x = y."""

    def solve(self, k: Any, exact: bool, h: Tensor) -> tuple[Tensor, Tensor]:
        root, flat_root = h.sqrt().clamp_(min=col.TINY), (h + 1.0).sqrt_()
        angle = col.asinh(exact, root, h, flat_root)
        slope = (angle / root).div_(flat_root).mul_(4 / k)
        return angle.square_().mul_(4 / k), slope

    def by_k(self, k: Any, h: Tensor, h_k: Tensor, flat_k: Tensor) -> Tensor:
        a = col.asinhc(h)
        return 4 * a * (a * flat_k + 2 * h / k * col.asinhc_slope(h, h + 1.0, a) * h_k)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        h, flat = hb.smooth_h(k, *(argument[..., 1:] for argument in arguments))
        return 4 * flat * fn.asinhc(h).square()


class LogMap(_Hyperbolic):
    """u = B (d - 2 H x), B = asinh(sqrt H)/sqrt(H (1 + H)), with its time part s <x, u>/E_x."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, y = rows
        pair = hb.measure(k, exact, pad, x, y)
        b = col.asinhc(pair.h) * (pair.h + 1.0).rsqrt_()
        u = pad.combine((b, pair.d), (-2 * pair.h * b, x))
        xu = pad.dot(x, u)
        return (xu * (k**0.5 / pair.ex), u), (pair.xx, pair.yy, pair.h, xu)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        x, y = rows
        xx, yy, h, xu = saved
        pair = hb.remeasure(k, pad, x, y, xx, yy, h)
        a, flat = col.asinhc(h), 1 + h
        b = a * flat.rsqrt()
        b_slope = (col.asinhc_slope(h, h + 1.0, a) - a / (2 * flat)) * flat.rsqrt()
        turn = 2 * h * b
        lean, row = g[0] * (k**0.5 / pair.ex), g[1]  # The gradient by u is row + lean x.
        dx = (xu + turn * xx) / b
        gd, gx = pad.dot(row, pair.d) + lean * dx, pad.dot(row, x) + lean * xx
        h_bar = b_slope * gd - 2 * (b + h * b_slope) * gx
        grads: list[Part | None] = [None, None]
        if needs[1]:
            by_d, by_x = hb.h_by_x(k, pair, h_bar)
            by_x = by_x - (b + 2 * turn) * lean - lean * k * xu / pair.ex.square()
            grads[0] = (-(b + turn), row), (by_d + lean * b, pair.d), (by_x, x)
        if needs[2]:
            by_d, by_x = hb.h_by_y(k, pair, h_bar)
            grads[1] = (b, row), (by_d, pair.d), (by_x + b * lean, x)
        if not needs[0]:
            return grads, None
        return grads, h_bar * hb.h_by_k(k, pair)[0] + lean * xu / (2 * k * pair.ex.square())

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y = torch.broadcast_tensors(*(argument[..., 1:] for argument in arguments))
        h, _ = hb.smooth_h(k, x, y)
        return _smooth_tangent(k, x, fn.asinhc(h) * (h + 1.0).rsqrt_() * (y - x - 2 * h * x))


class ExpMap(_Hyperbolic):
    """y = cosh(a) x + sinh(a)/a u with a = |u|_L/R, and its time part sqrt(R^2 + |y|^2)."""

    points, gives_point = 1, True

    def room(self, k: Any, dtype: torch.dtype) -> Any:
        """The longest space coordinates that the dtype holds."""
        return hb.longest(dtype) / 8

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, u = rows
        xx, xu = col.square(x), pad.dot(x, u)
        q = hb.length(k, exact, pad, x, u, xx, xu) * k
        cosh, sinhc = col.rolled(q)
        y = pad.combine((cosh, x), (sinhc, u))
        time = col.square(y).add_(1 / k).sqrt_()
        return (time, y), (xx, xu, q, time)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        x, u = rows
        xx, xu, q, time = saved
        cosh, sinhc = col.rolled(q)
        e_square = 1 + k * xx
        lean, row = g[0] / time, g[1]  # The gradient by y is row + lean y.
        uu = q / k + k * xu.square() / e_square
        on_x = pad.dot(row, x) + lean * (cosh * xx + sinhc * xu)
        on_u = pad.dot(row, u) + lean * (cosh * xu + sinhc * uu)
        q_bar = sinhc / 2 * on_x + col.sinhc_slope(q, cosh, sinhc) * on_u
        slope = k * xu / e_square
        by_u, by_x = lean * sinhc, lean * cosh
        grads: list[Part | None] = [None, None]
        if needs[1]:
            pull = 2 * k * q_bar * slope  # dq/dx = -2 k slope (u - slope x), dq/du = 2 k (u - slope x).
            grads[0] = (cosh, row), (cosh * by_u - pull, u), (cosh * by_x + pull * slope, x)
        if needs[2]:
            pull = 2 * k * q_bar
            grads[1] = (sinhc, row), (sinhc * by_u + pull, u), (sinhc * by_x - pull * slope, x)
        if not needs[0]:
            return grads, None
        return grads, q_bar * (q / k - k * (xu / e_square).square()) - lean / (2 * k**2)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, u = torch.broadcast_tensors(*(argument[..., 1:] for argument in arguments))
        q = k * hb.smooth_inner(k, x, u, u)
        y = fn.coshc(q) * x + fn.sinhc(q) * u
        return _led(fn.hypot(k.rsqrt(), fn.norm(y)), y)


class Transp(_Hyperbolic):
    """w = v + f (x + y), f = k <y, v>_L/(2 + 2 H), with its time part s <y, w>/E_y."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, y, v = rows
        pair = hb.measure(k, exact, pad, x, y)
        xv = pad.dot(x, v)
        seen = hb.seen(k, pad, pair, x, y, v, xv)
        f = seen * k / (2 + 2 * pair.h)
        w, xy = pad.combine((None, v), (f, x), (f, y)), pad.dot(x, y)
        yw = pad.dot(y, w)
        return (yw * (k**0.5 / pair.ey), w), (pair.xx, pair.yy, pair.h, xv, f, yw, xy)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        x, y, v = rows
        xx, yy, h, xv, f, yw, xy = saved
        pair = hb.remeasure(k, pad, x, y, xx, yy, h)
        lean, row = g[0] * (k**0.5 / pair.ey), g[1]  # The gradient by w is row + lean y.
        f_bar = 2 * pad.dot(row, x) + pad.dot(row, pair.d) + lean * (yy + xy)
        p_bar, h_bar = f_bar * k / (2 + 2 * h), -f_bar * f / (1 + h)
        tilt = pair.delta / pair.ex
        grads: list[Part | None] = [None, None, None]
        if needs[1]:
            by_d, by_x = hb.h_by_x(k, pair, h_bar)
            pull = p_bar * (1 + tilt)
            by_d, by_x = by_d + f * lean, by_x + f * lean + pull * k * xv / pair.ex.square()
            grads[0] = (f, row), (by_d, pair.d), (by_x, x), (-pull, v)
        if needs[2]:
            by_d, by_x = hb.h_by_y(k, pair, h_bar)
            on_y = f * lean - p_bar * k * xv / (pair.ex * pair.ey) - lean * k * yw / pair.ey.square()
            by_d, by_x = by_d + on_y + lean * f, by_x + on_y + 2 * lean * f
            grads[1] = (f, row), (by_d, pair.d), (by_x, x), (p_bar + lean, v)
        if needs[3]:
            grads[2] = (None, row), (p_bar + lean, pair.d), (lean - p_bar * tilt, x)
        if not needs[0]:
            return grads, None
        p_k = -xv / (2 * pair.ex.square()) * ((yy - xx) / (pair.ex * pair.ey))
        by_k = f_bar * f / k + p_bar * p_k + h_bar * hb.h_by_k(k, pair)[0]
        return grads, by_k + lean * yw / (2 * k * pair.ey.square())

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y, v = torch.broadcast_tensors(*(argument[..., 1:] for argument in arguments))
        f = k * hb.smooth_seen(k, x, y, v) / (2 + 2 * hb.smooth_h(k, x, y)[0])
        return _smooth_tangent(k, y, v + f * (x + y))
