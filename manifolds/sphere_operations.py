"""Distance, logarithm, exponential and transport on the sphere, each with its own gradient.

``k`` is kappa > 0, R = 1/sqrt(k). Points count by their directions x/|x| alone, so that a rounded length
costs nothing and no number of steps leaves the sphere. near = |x/|x| - y/|y||^2 = 4 sin^2(dist/2R) and
far = |x/|x| + y/|y||^2 = 4 - near, each taken from a difference that is small where it is.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.fused import Grads, Operation, Part, Parts, Rows
from manifold_lora.manifolds.scratch import Scratch
from manifold_lora.manifolds.sphere_pair import (
    Across,
    Pair,
    angle_of,
    any_direction,
    by_near,
    by_sine,
    measure,
    remeasure,
    smooth_across,
    smooth_pair,
)


class _Length(Operation):
    """A function of the angle, times a power of R."""

    power: float

    @abstractmethod
    def solve(self, k: float, pair: Pair) -> tuple[Tensor, Tensor]:
        """The value and its derivative by near."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        pair = measure(pad, *rows)
        value, slope = self.solve(k, pair)
        return (value,), (*pair.saved, slope)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (*measured, slope), (bar,) = rows, saved, g
        pair = remeasure(pad, x, y, tuple(measured))
        both = by_near(pair, Across.of(pair), bar * slope)
        grads: list[Part | None] = [
            ((by_step, pair.step), (by_x, x)) if needed else None
            for needed, (by_step, by_x) in zip(needs[1:], both, strict=True)
        ]
        return grads, bar * self.solve(k, pair)[0] * (-self.power / (2 * k)) if needs[0] else None


class Dist(_Length):
    """R times the angle."""

    power = 1.0

    def solve(self, k: float, pair: Pair) -> tuple[Tensor, Tensor]:
        return angle_of(pair).mul_(k**-0.5), by_sine(pair, k**-0.5 / 2, 0.0)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        near, far, _ = smooth_pair(*arguments)
        return 2 * torch.atan2(fn.root(near), fn.root(far)) * k.rsqrt()


class SqDist(_Length):
    """Its square, smooth at x = y."""

    power = 2.0

    def solve(self, k: float, pair: Pair) -> tuple[Tensor, Tensor]:
        angle = angle_of(pair)
        return angle.square().div_(k), by_sine(pair, angle, 1.0).mul_(1 / k)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        near, _, arc = smooth_pair(*arguments)
        return near * arc.square() / k


class LogMap(Operation):
    """u = R/|y| B (step - off x), B = angle/sin(angle): what of y is across x, as long as the distance.

    From x to -x every direction leads: the one closest to the axis that x is least along is taken, at length
    pi R and without a gradient, so that expmap takes it back.
    """

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, y = rows
        pair = measure(pad, x, y)
        off = pair.along / pair.nx.square()
        opposite = pair.far == 0
        scale = torch.where(opposite, 0.0, by_sine(pair, angle_of(pair), 1.0)) * k**-0.5 / pair.ny
        u = pad.combine((scale, pair.step), (-scale * off, x))
        if u.device.type != "cpu" or opposite.any():
            u = torch.where(opposite, math.pi * k**-0.5 * any_direction(x), u)
        return (u,), (*pair.saved, scale)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (*measured, scale), (g_row,) = rows, saved, g
        pair = remeasure(pad, x, y, tuple(measured))
        across = Across.of(pair)
        on_step, on_x = pad.dot(g_row, pair.step), pad.dot(g_row, x)
        length = on_step - across.off * on_x  # <g, u>/scale
        flat, h = pair.far / 4, pair.near / -4
        ratio = scale * pair.ny * k**0.5  # B
        arc = ratio * flat.sqrt()
        ratio_slope = (col.asinhc_slope(h, flat, arc) - arc / (2 * flat)) * flat.rsqrt()
        near_bar = torch.where(flat == 0, 0.0, length * ratio_slope * (k**-0.5 / pair.ny) / -4)
        (x_step, x_x), (y_step, y_x) = by_near(pair, across, near_bar)
        lean, cosine = scale * on_x / pair.nx.square(), pair.sign + across.off
        pull = -length * scale / pair.ny.square()
        grads: list[Part | None] = [None, None]
        if needs[1]:
            x_x = x_x + lean * (2 * cosine - pair.sign)
            grads[0] = (-cosine * scale, g_row), (x_step - lean, pair.step), (x_x, x)
        if needs[2]:
            grads[1] = (scale, g_row), (y_step + pull, pair.step), (y_x - lean + pull * pair.sign, x)
        return grads, length * scale / (-2 * k) if needs[0] else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y = torch.broadcast_tensors(*arguments)
        _, far, arc = smooth_pair(x, y)
        opposite, across = far <= 0, smooth_across(x, y)
        scale = arc * torch.where(opposite, 1.0, far / 4).rsqrt() / fn.norm(y)
        chosen = math.pi * any_direction(x.detach())
        return torch.where(opposite, chosen, scale * across) * k.rsqrt()


class ExpMap(Operation):
    """y = R z/|z|, z = cos(a) x + sin(a)/a u, a = |u|/R."""

    points, gives_point = 1, True

    def _rolled(self, k: Any, uu: Tensor) -> tuple[Tensor, Tensor]:
        a = (uu * k).sqrt_().clamp_(min=col.TINY)
        return a.cos(), a.sin().div_(a)

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, u = rows
        uu = col.square(u)
        cos, sinc = self._rolled(k, uu)
        z = pad.combine((cos, x), (sinc, u))
        size = col.norm(z)
        return (z.mul_(k**-0.5 / size),), (uu, size)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, u), (uu, size), (g_row,) = rows, saved, g
        cos, sinc = self._rolled(k, uu)
        xx, xu, on_x, on_u = col.square(x), pad.dot(x, u), pad.dot(g_row, x), pad.dot(g_row, u)
        stretch, along = k**-0.5 / size, (cos * on_x + sinc * on_u) / size.square()
        z_on_x = stretch * (on_x - along * (cos * xx + sinc * xu))
        z_on_u = stretch * (on_u - along * (cos * xu + sinc * uu))
        q_bar = sinc / 2 * z_on_x + col.sinhc_slope(uu * -k, cos, sinc) * z_on_u
        by_g, by_x, by_u = stretch, -stretch * along * cos, -stretch * along * sinc
        grads: list[Part | None] = [None, None]
        if needs[1]:
            grads[0] = (cos * by_g, g_row), (cos * by_x, x), (cos * by_u, u)
        if needs[2]:
            grads[1] = (sinc * by_g, g_row), (sinc * by_x, x), (sinc * by_u - 2 * k * q_bar, u)
        return grads, -uu * q_bar - stretch * along * size.square() / (2 * k) if needs[0] else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, u = arguments
        q = -k * fn.square(u)
        z = fn.coshc(q) * x + fn.sinhc(q) * u
        return z * (k.rsqrt() / fn.norm(z))


class Transp(Operation):
    """w = v - f m, m = x/|x| + y/|y|, f = 2 <m, v>/|m|^2: the reflection that swaps x/|x| and -y/|y|."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, y, v = rows
        pair = measure(pad, x, y)
        (on_step, on_x), step_v, xv = pair.middle(), pad.dot(pair.step, v), pad.dot(x, v)
        f = col.over(2 * (on_step * step_v + on_x * xv), pair.far)
        return (((None, v), (-f * on_step, pair.step), (-f * on_x, x)),), (*pair.saved, step_v, xv, f)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y, v), (*measured, step_v, xv, f), (g_row,) = rows, saved, g
        pair = remeasure(pad, x, y, tuple(measured))
        (on_step, on_x), step_g, xg = pair.middle(), pad.dot(g_row, pair.step), pad.dot(g_row, x)
        p = col.over(2 * (on_step * step_g + on_x * xg), pair.far)
        grads: list[Part | None] = [None, None, None]
        if needs[1] or needs[2]:
            # The gradient by m, of which x and y get what is across them.
            both = f * p
            by_step, by_x = both * on_step, both * on_x
            row = pad.combine((-f, g_row), (-p, v), (by_step, pair.step), (by_x, x))
            row_x = by_step * pair.along + by_x * pair.nx.square() - f * xg - p * xv
            row_step = by_step * pair.square + by_x * pair.along - f * step_g - p * step_v
            on = (row_x / pair.nx**3, (row_step + pair.sign * row_x) / pair.ny**3)
            for place, (end, size, inward) in enumerate(zip((x, y), (pair.nx, pair.ny), on, strict=True)):
                if needs[place + 1]:
                    grads[place] = (size.reciprocal(), row), (-inward, end)
        if needs[3]:
            grads[2] = (None, g_row), (-p * on_step, pair.step), (-p * on_x, x)
        return grads, torch.zeros_like(f) if needs[0] else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y, v = arguments
        (step, sign), nx, ny = fn.nearer(x, y), fn.norm(x), fn.norm(y)
        rise = (fn.square(step) + 2 * sign * fn.dot(x, step)) / (nx + ny)
        middle = (step + (1 + sign + rise / nx) * x) / ny
        return v - 2 * fn.ratio(fn.dot(middle, v), fn.square(middle)) * middle
