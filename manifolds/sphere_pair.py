"""What the sphere's operations know of two points, in columns: directions, their angle, what lies across."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.operation import Rows
from manifold_lora.manifolds.scratch import Scratch

# Where |y - x| alone tells near and far: of float64 to its last digits; of float32 carried in float64.
_PLAIN = {True: (0.1, 3.0), False: (1e-6, 4 - 1e-4)}
# |m|^2/R^2 above which x + |x|/|y| y is a sum that loses nothing.
_OPEN = 1.0


class Pair(NamedTuple):
    """Two points: |x|, |y|, near, far, two projections, the step, its sign.

    The step is y - x or, where that is longer, y + x, and the sign that of x taken away; None where it is 1
    throughout and no two points are equal or opposite. ``off`` is <x, step>/|x|^2, ``lean`` <y, step>/|y|^2.
    """

    nx: Tensor
    ny: Tensor
    near: Tensor
    far: Tensor
    off: Tensor
    lean: Tensor
    step: Tensor
    sign: Tensor | None

    @property
    def turns(self) -> Rows:
        """The columns of the angle's gradient: off, lean, and the sign where it may be -1."""
        return (self.off, self.lean) if self.sign is None else (self.off, self.lean, self.sign)

    @property
    def saved(self) -> Rows:
        """The columns that the others follow from."""
        return *self[:6], torch.ones_like(self.nx) if self.sign is None else self.sign

    def back(self) -> Tensor:
        """The coefficient of step in the part of x across y, x - <x, y>/|y|^2 y; that of x is ``lean``."""
        return self.lean - 1.0 if self.sign is None else self.sign * (self.lean - 1.0)

    def by_near(self, near_bar: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """The coefficients of step and x in the gradients of x and of y by way of near."""
        scaled = near_bar * -2 / (self.nx * self.ny)
        return (scaled, -scaled * self.off), (scaled * self.back(), scaled * self.lean)


def measure(exact: bool, pad: Scratch, x: Tensor, y: Tensor) -> Pair:
    """The pair of x and y, (..., n + 1) each."""
    nx, ny, step = col.norm(x), col.norm(y), pad.pair(torch.sub, x, y)
    rise = ny - nx
    near = col.square(step).addcmul_(rise, rise, value=-1).div_(nx * ny)
    if near.device.type == "cpu":
        low, high = _PLAIN[exact]
        least, most = torch.aminmax(near)
        if least.item() >= low and most.item() <= high:
            cosine, ratio = (near * -0.5).add_(1.0), ny / nx
            off, lean = (cosine * ratio).sub_(1.0), (cosine / ratio).neg_().add_(1.0)
            return Pair(nx, ny, near, 4.0 - near, off, lean, step, None)
    return _either_way(pad, x, nx, ny, step)


class _Turned(NamedTuple):
    """The shorter of y - x and y + x: itself, its sign, square, <x, step>, and |y| - |x|."""

    step: Tensor
    sign: Tensor
    square: Tensor
    along: Tensor
    rise: Tensor


def _turned(pad: Scratch, x: Tensor, nx: Tensor, ny: Tensor, step: Tensor) -> _Turned:
    """The shorter of y - x, which step is, and y + x."""
    sign = torch.where(col.square(step) < 2.0 * nx.square(), 1.0, -1.0).to(nx.dtype)
    step = pad.combine((None, step), (1 - sign, x))
    square, along = col.square(step), pad.dot(x, step)
    # From the step: the difference of the lengths has no digits where the points are close.
    return _Turned(step, sign, square, along, (square + 2 * sign * along).div_(nx + ny))


def _either_way(pad: Scratch, x: Tensor, nx: Tensor, ny: Tensor, step: Tensor) -> Pair:
    """The pair where points may be close, equal or opposite."""
    step, sign, square, along, rise = _turned(pad, x, nx, ny, step)
    least = (square - rise.square()).div_(nx * ny).clamp_(min=0.0)
    near, far = torch.where(sign > 0, least, 4 - least), torch.where(sign > 0, 4 - least, least)
    return Pair(nx, ny, near, far, along / nx.square(), (square + sign * along) / ny.square(), step, sign)


def remeasure(pad: Scratch, x: Tensor, y: Tensor, saved: Rows) -> Pair:
    """The pair once more from what was saved."""
    nx, ny, near, far, off, lean, sign = saved
    step = step_of(pad, x, y, sign)
    return Pair(nx, ny, near, far, off, lean, step, sign)


def step_of(pad: Scratch, x: Tensor, y: Tensor, sign: Tensor | None = None) -> Tensor:
    """The step once more from its sign."""
    if sign is None or (sign.device.type == "cpu" and sign.amin().item() > 0):
        return pad.pair(torch.sub, x, y)
    return torch.addcmul(y, x, -sign, out=pad.like(x))


def angle_of(near: Tensor, far: Tensor) -> Tensor:
    """The angle between two points, in [0, pi]."""
    return torch.atan2(near.sqrt(), far.sqrt()).mul_(2.0)


def by_sine(pair: Pair, column: Tensor | float, else_: float) -> Tensor:
    """A column over sin(angle), another number where that is 0."""
    square = pair.near * pair.far
    ratio = square.rsqrt().mul_(2.0).mul_(column)
    return ratio if pair.sign is None else torch.where(square == 0, else_, ratio)


def middle(
    k: Any, pad: Scratch, x: Tensor, y: Tensor, nx: Tensor, ny: Tensor
) -> tuple[Tensor, Tensor] | None:
    """m = x + |x|/|y| y, and |m|^2; None near the antipode, where it is small."""
    m = pad.combine((None, x), (nx / ny, y), name="middle")
    mm = col.square(m)
    return (m, mm) if _is_open(k, mm) else None


def turned_middle(pad: Scratch, x: Tensor, y: Tensor, nx: Tensor, ny: Tensor) -> tuple[Tensor, Tensor]:
    """The same from the shorter of y - x and y + x: right near the antipode; |m|^2 is 1e-300 at it."""
    step, sign, _, _, rise = _turned(pad, x, nx, ny, pad.pair(torch.sub, x, y))
    m = pad.combine((nx / ny, step), ((1 + sign + rise / nx) * nx / ny, x))
    return m, col.square(m).clamp_(min=col.TINY)


def middle_again(k: Any, pad: Scratch, x: Tensor, y: Tensor, nx: Tensor, ny: Tensor, mm: Tensor) -> Tensor:
    """m once more, of which |m|^2 was saved."""
    if _is_open(k, mm):
        return pad.combine((None, x), (nx / ny, y), name="middle")
    return turned_middle(pad, x, y, nx, ny)[0]


def _is_open(k: Any, mm: Tensor) -> bool:
    return mm.device.type == "cpu" and mm.amin().item() * k >= _OPEN


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
