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
from manifold_lora.manifolds.operation import Grads, Operation, Part, Parts, Rows
from manifold_lora.manifolds.scratch import Scratch, total
from manifold_lora.manifolds.sphere_float32 import diagonals, lengths
from manifold_lora.manifolds.sphere_pair import (
    angle_of,
    any_direction,
    by_sine,
    measure,
    middle,
    middle_again,
    remeasure,
    smooth_across,
    smooth_pair,
    step_of,
    turned_middle,
)


class _Length(Operation):
    """A function of the angle, times a power of R."""

    power: float
    # Its derivative by the angle over the sine, R = 1, where points are equal.
    at_rest: float

    @abstractmethod
    def value(self, k: float, angle: Tensor) -> Tensor:
        """The value at an angle."""

    @abstractmethod
    def slope(self, k: float, angle: Tensor) -> Tensor | float:
        """Its derivative by the angle."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        pair = measure(exact, pad, *rows)
        angle = angle_of(pair.near, pair.far)
        weight = by_sine(pair, self.slope(k, angle), self.at_rest / k).div_(pair.nx * pair.ny).neg_()
        return (self.value(k, angle),), (angle, weight, *pair.turns)

    def in_float32(self, k: Any, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows] | None:
        found = diagonals(k, pad, *rows)
        if found is None:
            return None
        angle = torch.atan2(found.sine, found.cosine)
        weight = found.sine.reciprocal().mul_(self.slope(k, angle)).mul_(-4.0)
        return (self.value(k, angle),), (angle, weight, found.turn_x, found.turn_y)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (angle, weight, turn_x, turn_y, *sign), (bar,) = rows, saved, g
        scaled = bar * weight
        on_x, on_y = scaled * turn_x, scaled * turn_y
        if x.dtype == torch.float32:
            d, s = pad.pair(torch.sub, x, y), pad.pair(torch.add, x, y)
            by_x: Part = (scaled - on_x, d), (on_x, s)
            by_y: Part = (on_y - scaled, d), (on_y, s)
        else:
            step, back = step_of(pad, x, y, *sign), on_y - scaled
            by_x = (scaled, step), (-on_x, x)
            by_y = (back.mul_(*sign) if sign else back, step), (on_y, x)
        by_k = bar * self.value(k, angle) * (-self.power / (2 * k)) if needs[0] else None
        return [by_x if needs[1] else None, by_y if needs[2] else None], by_k


class Dist(_Length):
    """R times the angle."""

    power, at_rest = 1.0, 0.0

    def value(self, k: float, angle: Tensor) -> Tensor:
        return angle * k**-0.5

    def slope(self, k: float, angle: Tensor) -> Tensor | float:
        return k**-0.5

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        near, far, _ = smooth_pair(*arguments)
        return 2 * torch.atan2(fn.root(near), fn.root(far)) * k.rsqrt()


class SqDist(_Length):
    """Its square, smooth at x = y."""

    power, at_rest = 2.0, 2.0

    def value(self, k: float, angle: Tensor) -> Tensor:
        return angle.square().mul_(1 / k)

    def slope(self, k: float, angle: Tensor) -> Tensor | float:
        return angle * (2 / k)

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
        pair = measure(exact, pad, x, y)
        scale = by_sine(pair, angle_of(pair.near, pair.far), 1.0).mul_(k**-0.5).div_(pair.ny)
        u: Part = (scale, pair.step), (-scale * pair.off, x)
        if pair.sign is not None:
            opposite = pair.far == 0
            scale = torch.where(opposite, 0.0, scale)
            u = pad.combine((scale, pair.step), (-scale * pair.off, x))
            if u.device.type != "cpu" or opposite.any():
                u = torch.where(opposite, math.pi * k**-0.5 * any_direction(x), u)
        return (u,), (*pair.saved, scale)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (*measured, scale), (g_row,) = rows, saved, g
        pair, sign = remeasure(pad, x, y, tuple(measured)), measured[-1]
        on_step, on_x = pad.dot(g_row, pair.step), pad.dot(g_row, x)
        length = on_step - pair.off * on_x  # <g, u>/scale
        flat, h = pair.far / 4, pair.near / -4
        ratio = scale * pair.ny * k**0.5  # B
        arc = ratio * flat.sqrt()
        ratio_slope = (col.asinhc_slope(h, flat, arc) - arc / (2 * flat)) * flat.rsqrt()
        near_bar = torch.where(flat == 0, 0.0, length * ratio_slope * (k**-0.5 / pair.ny) / -4)
        (x_step, x_x), (y_step, y_x) = pair.by_near(near_bar)
        lean, cosine = scale * on_x / pair.nx.square(), sign + pair.off
        pull = -length * scale / pair.ny.square()
        grads: list[Part | None] = [None, None]
        if needs[1]:
            x_x = x_x + lean * (2 * cosine - sign)
            grads[0] = (-cosine * scale, g_row), (x_step - lean, pair.step), (x_x, x)
        if needs[2]:
            grads[1] = (scale, g_row), (y_step + pull, pair.step), (y_x - lean + pull * sign, x)
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
    """w = v + f m, m = x + |x|/|y| y, f = -2 <m, v>/|m|^2: the reflection that swaps x/|x| and -y/|y|."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        x, y, v = rows
        size = col.norm(x), col.norm(y)
        return self._of(pad, v, *size, *(middle(k, pad, x, y, *size) or turned_middle(pad, x, y, *size)))

    def in_float32(self, k: Any, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows] | None:
        x, y, v = rows
        size = lengths(k, x, y)
        found = size and middle(k, pad, x, y, *size)
        return self._of(pad, v, *size, *found) if size and found else None

    @staticmethod
    def _of(pad: Scratch, v: Tensor, nx: Tensor, ny: Tensor, m: Tensor, mm: Tensor) -> tuple[Parts, Rows]:
        f = pad.dot(m, v).div_(mm).mul_(-2.0)
        return (((None, v), (f, m)),), (nx, ny, mm, f)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y, v), (nx, ny, mm, f), (g_row,) = rows, saved, g
        m = middle_again(k, pad, x, y, nx, ny, mm)
        p = pad.dot(m, g_row).div_(mm).mul_(-2.0)
        by_v = total(((None, g_row), (p, m)), pad.place(2, v))
        grads: list[Part | None] = [None, None, by_v]
        if needs[1] or needs[2]:
            # The gradient by m, of which x and y get what is across them; <by_m, m> is 0.
            by_m = total(((f, by_v), (p, v)), pad.place(0, x))
            on_x = pad.dot(by_m, x)
            if needs[2]:
                grads[1] = total(((nx / ny, by_m), (on_x / ny.square(), y)), pad.place(1, y))
            # Last, for by_m becomes it.
            grads[0] = by_m.addcmul_(x, -on_x / nx.square()) if needs[1] else None
        return grads, torch.zeros_like(f) if needs[0] else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y, v = arguments
        (step, sign), nx, ny = fn.nearer(x, y), fn.norm(x), fn.norm(y)
        rise = (fn.square(step) + 2 * sign * fn.dot(x, step)) / (nx + ny)
        middle = (step + (1 + sign + rise / nx) * x) / ny
        return v - 2 * fn.ratio(fn.dot(middle, v), fn.square(middle)) * middle
