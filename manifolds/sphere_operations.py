"""Distance, logarithm, exponential and transport on the sphere, each with its own gradient.

``k`` is kappa > 0, R = 1/sqrt(k). Points count by their directions x/|x| alone, so that a rounded length
costs nothing and no number of steps leaves the sphere. near = |x/|x| - y/|y||^2 = 4 sin^2(dist/2R) and
far = |x/|x| + y/|y||^2 = 4 - near, each taken from a difference that is small where it is.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.fused import Grads, Operation, Rows
from manifold_lora.manifolds.scratch import Scratch


class _Pair(NamedTuple):
    """Two points: |x|, near, far, <x, step> and |step|^2, |y|, step and its sign.

    The step is y - x or, where that is longer, y + x, and the sign that of x taken away.
    """

    nx: Tensor
    near: Tensor
    far: Tensor
    along: Tensor
    square: Tensor
    ny: Tensor
    step: Tensor
    sign: Tensor

    @property
    def saved(self) -> Rows:
        """The columns that the others follow from."""
        return self[:5]


def _measure(pad: Scratch, x: Tensor, y: Tensor) -> _Pair:
    nx, step = col.norm(x), torch.sub(y, x, out=pad.like(x))
    sign, small = torch.ones_like(nx), col.square(step)
    if nx.device.type != "cpu" or not (small / nx.square()).amax().item() < 2.0:
        sign = torch.where(small < 2.0 * nx.square(), 1.0, -1.0).to(nx.dtype)
        step.addcmul_(x, 1 - sign)
        small = col.square(step)
    along = pad.dot(x, step)
    ny = _length(nx, sign, along, small)
    # |y| - |x| from the step: the difference of the lengths has no digits where the points are close.
    uneven = (small + 2 * sign * along).div_(nx + ny).square_()
    least = (small - uneven).div_(nx * ny).clamp_(min=0.0)
    near, far = torch.where(sign > 0, least, 4 - least), torch.where(sign > 0, 4 - least, least)
    return _Pair(nx, near, far, along, small, ny, step, sign)


def _length(nx: Tensor, sign: Tensor, along: Tensor, square: Tensor) -> Tensor:
    return (nx.square() + 2 * sign * along).add_(square).sqrt_()


def _remeasure(pad: Scratch, x: Tensor, y: Tensor, saved: Rows) -> _Pair:
    """The pair once more from what was saved."""
    nx, near, far, along, square = saved
    sign = torch.where(near < far, 1.0, -1.0).to(nx.dtype)
    step = torch.addcmul(y, x, -sign, out=pad.like(x))
    return _Pair(nx, near, far, along, square, _length(nx, sign, along, square), step, sign)


def _angle(pair: _Pair) -> Tensor:
    return torch.atan2(pair.near.sqrt(), pair.far.sqrt()).mul_(2.0)


def _by_sine(pair: _Pair, column: Tensor | float, else_: float) -> Tensor:
    """A column over sin(angle), another number where that is 0."""
    sine = (pair.near * pair.far).sqrt_().mul_(0.5)
    return torch.where(sine == 0, else_, column / sine)


class _Across(NamedTuple):
    """The parts of y across x and of x across y, as coefficients of step and x.

    y - <x, y>/|x|^2 x = step - off x, and likewise from y.
    """

    off: Tensor
    x_step: Tensor
    x_x: Tensor

    @classmethod
    def of(cls, pair: _Pair) -> "_Across":
        """From the pair."""
        lean = (pair.square + pair.sign * pair.along) / pair.ny.square()  # <y, step>/|y|^2
        return cls(pair.along / pair.nx.square(), pair.sign * (lean - 1), lean)


def _by_near(pair: _Pair, across: _Across, near_bar: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """The coefficients of step and x in the gradients of x and of y by way of near."""
    scaled = near_bar * -2 / (pair.nx * pair.ny)
    return (scaled, -scaled * across.off), (scaled * across.x_step, scaled * across.x_x)


class _Length(Operation):
    """A function of the angle, times a power of R."""

    power: float

    @abstractmethod
    def solve(self, k: float, pair: _Pair) -> tuple[Tensor, Tensor]:
        """The value and its derivative by near."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Rows, Rows]:
        pair = _measure(pad, *rows)
        value, slope = self.solve(k, pair)
        return (value,), (*pair.saved, slope)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (*measured, slope), (bar,) = rows, saved, g
        pair = _remeasure(pad, x, y, tuple(measured))
        both = _by_near(pair, _Across.of(pair), bar * slope)
        grads: list[Tensor | None] = [
            pad.combine((by_step, pair.step), (by_x, x)) if needed else None
            for needed, (by_step, by_x) in zip(needs[1:], both, strict=True)
        ]
        return grads, bar * self.solve(k, pair)[0] * (-self.power / (2 * k)) if needs[0] else None


class Dist(_Length):
    """R times the angle."""

    power = 1.0

    def solve(self, k: float, pair: _Pair) -> tuple[Tensor, Tensor]:
        return _angle(pair).mul_(k**-0.5), _by_sine(pair, k**-0.5 / 2, 0.0)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        near, far, _ = smooth_pair(*arguments)
        return 2 * torch.atan2(fn.root(near), fn.root(far)) * k.rsqrt()


class SqDist(_Length):
    """Its square, smooth at x = y."""

    power = 2.0

    def solve(self, k: float, pair: _Pair) -> tuple[Tensor, Tensor]:
        angle = _angle(pair)
        return angle.square().div_(k), _by_sine(pair, angle, 1.0).mul_(1 / k)

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        near, _, arc = smooth_pair(*arguments)
        return near * arc.square() / k


class LogMap(Operation):
    """u = R/|y| B (step - off x), B = angle/sin(angle): what of y is across x, as long as the distance.

    From x to -x every direction leads: the one closest to the axis that x is least along is taken, at length
    pi R and without a gradient, so that expmap takes it back.
    """

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Rows, Rows]:
        x, y = rows
        pair = _measure(pad, x, y)
        off = pair.along / pair.nx.square()
        opposite = pair.far == 0
        scale = torch.where(opposite, 0.0, _by_sine(pair, _angle(pair), 1.0)) * k**-0.5 / pair.ny
        u = pad.combine((scale, pair.step), (-scale * off, x))
        if u.device.type != "cpu" or opposite.any():
            u = torch.where(opposite, math.pi * k**-0.5 * any_direction(x), u)
        return (u,), (*pair.saved, scale)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y), (*measured, scale), (g_row,) = rows, saved, g
        pair = _remeasure(pad, x, y, tuple(measured))
        across = _Across.of(pair)
        on_step, on_x = pad.dot(g_row, pair.step), pad.dot(g_row, x)
        length = on_step - across.off * on_x  # <g, u>/scale
        flat, h = pair.far / 4, pair.near / -4
        ratio = scale * pair.ny * k**0.5  # B
        arc = ratio * flat.sqrt()
        ratio_slope = (col.asinhc_slope(h, flat, arc) - arc / (2 * flat)) * flat.rsqrt()
        near_bar = torch.where(flat == 0, 0.0, length * ratio_slope * (k**-0.5 / pair.ny) / -4)
        (x_step, x_x), (y_step, y_x) = _by_near(pair, across, near_bar)
        lean, cosine = scale * on_x / pair.nx.square(), pair.sign + across.off
        pull = -length * scale / pair.ny.square()
        grads: list[Tensor | None] = [None, None]
        if needs[1]:
            x_x = x_x + lean * (2 * cosine - pair.sign)
            grads[0] = pad.combine((-cosine * scale, g_row), (x_step - lean, pair.step), (x_x, x))
        if needs[2]:
            grads[1] = pad.combine(
                (scale, g_row), (y_step + pull, pair.step), (y_x - lean + pull * pair.sign, x)
            )
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

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Rows, Rows]:
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
        grads: list[Tensor | None] = [None, None]
        if needs[1]:
            grads[0] = pad.combine((cos * by_g, g_row), (cos * by_x, x), (cos * by_u, u))
        if needs[2]:
            grads[1] = pad.combine((sinc * by_g, g_row), (sinc * by_x, x), (sinc * by_u - 2 * k * q_bar, u))
        return grads, -uu * q_bar - stretch * along * size.square() / (2 * k) if needs[0] else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, u = arguments
        q = -k * fn.square(u)
        z = fn.coshc(q) * x + fn.sinhc(q) * u
        return z * (k.rsqrt() / fn.norm(z))


class Transp(Operation):
    """w = v - f m, m = x/|x| + y/|y|, f = 2 <m, v>/|m|^2: the reflection that swaps x/|x| and -y/|y|."""

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Rows, Rows]:
        x, y, v = rows
        pair = _measure(pad, x, y)
        xv, yv = pad.dot(x, v), pad.dot(y, v)
        f = col.over(2 * (xv / pair.nx + yv / pair.ny), pair.far)
        w = pad.plus(v, (-f / pair.nx, x), (-f / pair.ny, y))
        return (w,), (*pair.saved, xv, yv, f)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x, y, v), (*measured, xv, yv, f), (g_row,) = rows, saved, g
        pair = _remeasure(pad, x, y, tuple(measured))
        on_x, on_y = pad.dot(g_row, x), pad.dot(g_row, y)
        f_bar = -(on_x / pair.nx + on_y / pair.ny)
        p_bar = col.over(2 * f_bar, pair.far)
        both = _by_near(pair, _Across.of(pair), col.over(f_bar * f, pair.far))
        grads: list[Tensor | None] = [None, None, None]
        ends = ((x, pair.nx, on_x, xv), (y, pair.ny, on_y, yv))
        for place, ((by_step, by_x), (end, size, on_end, end_v)) in enumerate(zip(both, ends, strict=True)):
            if needs[place + 1]:
                inward = (f * on_end - p_bar * end_v) / size**3
                terms = (-f / size, g_row), (p_bar / size, v), (inward, end), (by_step, pair.step), (by_x, x)
                grads[place] = pad.combine(*terms)
        if needs[3]:
            grads[2] = pad.plus(g_row, (p_bar / pair.nx, x), (p_bar / pair.ny, y))
        return grads, torch.zeros_like(f) if needs[0] else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x, y, v = arguments
        middle = x / fn.norm(x) + y / fn.norm(y)
        return v - 2 * fn.ratio(fn.dot(middle, v), fn.square(middle)) * middle


def any_direction(x: Tensor) -> Tensor:
    """A unit vector across x: along the axis that x is least along, made tangent."""
    axis = torch.nn.functional.one_hot(x.abs().argmin(-1), x.shape[-1]).to(x.dtype)
    across = axis - fn.dot(axis, x) / fn.square(x) * x
    return across / fn.norm(across)


def smooth_across(x: Tensor, y: Tensor) -> Tensor:
    """The part of y across x, differentiable."""
    step, _ = fn.nearer(x, y)
    return step - fn.dot(x, step) / fn.square(x) * x


def smooth_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """near, far and angle/sqrt(near), differentiable."""
    step, sign = fn.nearer(x, y)
    nx, ny, square = fn.norm(x), fn.norm(y), fn.square(step)
    uneven = ((square + 2 * sign * fn.dot(x, step)) / (nx + ny)).square()
    least = (square - uneven) / (nx * ny)
    near, far = torch.where(sign > 0, least, 4 - least), torch.where(sign > 0, 4 - least, least)
    # asin(r)/r = atan(t)/r with t = r/sqrt(1 - r^2) keeps the antipode.
    flat = torch.where(far <= 0, 1.0, far / 4)
    return near, far, fn.atanhc(near / -4 / flat) * flat.rsqrt()
