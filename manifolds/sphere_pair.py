"""What the sphere's operations know of two points, in columns: directions, their angle, what lies across."""

from typing import NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.fused import Rows
from manifold_lora.manifolds.scratch import Scratch


class Pair(NamedTuple):
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

    def middle(self) -> tuple[Tensor, Tensor]:
        """The coefficients of step and x in x/|x| + y/|y|, right near the antipode, where it is small."""
        rise = (self.square + 2 * self.sign * self.along) / (self.nx + self.ny)
        return self.ny.reciprocal(), (1 + self.sign + rise / self.nx) / self.ny


def measure(pad: Scratch, x: Tensor, y: Tensor) -> Pair:
    """The pair of x and y, (..., n + 1) each."""
    nx, step = col.norm(x), torch.sub(y, x, out=pad.like(x))
    sign, small = torch.ones_like(nx), col.square(step)
    if nx.device.type != "cpu" or not (small / nx.square()).amax().item() < 2.0:
        sign = torch.where(small < 2.0 * nx.square(), 1.0, -1.0).to(nx.dtype)
        step.addcmul_(x, 1 - sign)
        small = col.square(step)
    along = pad.dot(x, step)
    ny = length_of(nx, sign, along, small)
    # |y| - |x| from the step: the difference of the lengths has no digits where the points are close.
    uneven = (small + 2 * sign * along).div_(nx + ny).square_()
    least = (small - uneven).div_(nx * ny).clamp_(min=0.0)
    near, far = torch.where(sign > 0, least, 4 - least), torch.where(sign > 0, 4 - least, least)
    return Pair(nx, near, far, along, small, ny, step, sign)


def length_of(nx: Tensor, sign: Tensor, along: Tensor, square: Tensor) -> Tensor:
    """|x +- y| from |x|, the sign, <x, step> and |step|^2."""
    return (nx.square() + 2 * sign * along).add_(square).sqrt_()


def remeasure(pad: Scratch, x: Tensor, y: Tensor, saved: Rows) -> Pair:
    """The pair once more from what was saved."""
    nx, near, far, along, square = saved
    sign = torch.where(near < far, 1.0, -1.0).to(nx.dtype)
    step = torch.addcmul(y, x, -sign, out=pad.like(x))
    return Pair(nx, near, far, along, square, length_of(nx, sign, along, square), step, sign)


def angle_of(pair: Pair) -> Tensor:
    """The angle between two points, in [0, pi]."""
    return torch.atan2(pair.near.sqrt(), pair.far.sqrt()).mul_(2.0)


def by_sine(pair: Pair, column: Tensor | float, else_: float) -> Tensor:
    """A column over sin(angle), another number where that is 0."""
    sine = (pair.near * pair.far).sqrt_().mul_(0.5)
    return torch.where(sine == 0, else_, column / sine)


class Across(NamedTuple):
    """The parts of y across x and of x across y, as coefficients of step and x.

    y - <x, y>/|x|^2 x = step - off x, and likewise from y.
    """

    off: Tensor
    x_step: Tensor
    x_x: Tensor

    @classmethod
    def of(cls, pair: Pair) -> "Across":
        """From the pair."""
        lean = (pair.square + pair.sign * pair.along) / pair.ny.square()  # <y, step>/|y|^2
        return cls(pair.along / pair.nx.square(), pair.sign * (lean - 1), lean)


def by_near(pair: Pair, across: Across, near_bar: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """The coefficients of step and x in the gradients of x and of y by way of near."""
    scaled = near_bar * -2 / (pair.nx * pair.ny)
    return (scaled, -scaled * across.off), (scaled * across.x_step, scaled * across.x_x)


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
