"""The sphere's maps from and to its pole, each with its own gradient and beside it in the terms of any law.

``k`` is kappa. A point is (t, s): its time t = R cos(a) and its space coordinates s, of length R sin(a).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.operation import Grads, Operation, Part, Parts, Rows
from manifold_lora.manifolds.radial_law import RadialLaw
from manifold_lora.manifolds.radial_operations import ExpMap0
from manifold_lora.manifolds.scratch import Scratch

# Where the arc sine of the other coordinate is the better conditioned one.
_STEEP = 0.75


def from_pole(law: RadialLaw, k: Tensor, v: Tensor) -> Tensor:
    """(R phi'(a)/phi'(0), phi(a)/a v), a = |v|/R, differentiable."""
    turn = k.sqrt() * fn.norm(v)
    time = law.phi_slope(torch, turn) / (law.entry.terms_at_0[0] * k.sqrt())
    return torch.cat([time, law.entry.of(turn) * v], -1)


def to_pole(law: RadialLaw, k: Tensor, x: Tensor) -> Tensor:
    """R a/|s| s with sin(a) = |s|/R, psi its arc sine, and cos(a) = t/R, differentiable."""
    time, space = x[..., :1], x[..., 1:]
    size = fn.norm(space)
    length = fn.hypot(time, size)
    return _angle_over_sine(law, size / length, time / length) * space / (length * k.sqrt())


def _angle_over_sine(law: RadialLaw, sine: Tensor, cosine: Tensor) -> Tensor:
    """a/sin(a) for an angle in [0, pi] given by sine and cosine."""
    steep = sine > _STEEP
    rest = torch.where(steep, cosine, 0.0)
    aside = (math.pi / 2 - rest * law.exit.of_square(rest.square())) / torch.where(steep, sine, 1.0)
    sine = torch.where(steep, 0.0, sine)
    front = law.exit.of_square(sine.square())
    # At the antipode no direction is special: the half turn is taken over a length of one.
    back = (math.pi - sine * front) / torch.where(sine == 0, 1.0, sine)
    return torch.where(steep, aside, torch.where(cosine > 0, front, back))


class FromPole(ExpMap0):
    """sin(a)/a v led by R cos(a), negative beyond a quarter turn."""

    def __init__(self, law: RadialLaw) -> None:
        super().__init__(law)
        self.law, self.bounded = law, False

    def led(self, k: Any, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor] | None:
        return slope, -value

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        return from_pole(self.law, k, *arguments)


class ToPole(Operation):
    """v = R a/n s, a = atan2(n, t), n = |s|."""

    points = 1

    def __init__(self, law: RadialLaw) -> None:
        self.law = law

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        time, space = rows[0][:, :1], rows[0][:, 1:]
        size = col.norm(space)
        # At the antipode no direction is special: the half turn is taken over a length of R.
        limit = torch.where(time > 0, 1.0, math.pi) / time.abs()
        scale = torch.where(size == 0, limit, torch.atan2(size, time) / size) * k**-0.5
        return (((scale, space),),), (size, scale)

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x,), (size, scale), (row,) = rows, saved, g
        time, space = x[:, :1], x[:, 1:]
        on_space, square = pad.dot(row, space), time.square() + size.square()
        grads: list[Part | None] = [None]
        if needs[1]:
            by_space = (k**-0.5 * time / square - scale) * col.over(col.over(on_space, size), size)
            grads[0] = grad = pad.like(x)
            torch.mul(on_space / square, -(k**-0.5), out=grad[:, :1])
            torch.mul(row, scale, out=grad[:, 1:]).addcmul_(space, by_space)
        return grads, on_space * scale / (-2 * k) if needs[0] else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        return to_pole(self.law, k, *arguments)
