"""Textbook formulas of the hyperboloid in 106 bits, on space coordinates: the last digits of float64.

Sums like -t^2 + |s|^2 cancel exp(2r/R) fold at distance r: a result is used while what cancelled leaves it
all digits of a float64. ``k`` is -kappa, of shape (1,).
"""

import torch
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.exact.twofold import Twofold, dot

# Angles below which sinh magnifies nothing.
_SMALL = 1e-4
# How many times longer than their sum terms may be: exp is right to 1e-27, everything else to 1e-30.
_CANCELLED, _CANCELLED_EARLY = 1e11, 1e14


def _rolled(angle: Twofold) -> tuple[Twofold, Twofold]:
    """cosh(a) and sinh(a)/a."""
    grown = angle.exp()
    shrunk = Twofold.of(1.0) / grown
    return (grown + shrunk) * 0.5, (grown - shrunk) * 0.5 / angle


def _time(x: Tensor, k: Tensor) -> Twofold:
    """R t = sqrt(1 + k |x|^2)."""
    return (dot(x, x) * Twofold.of(k) + 1.0).sqrt()


def _used(good: Tensor, values: Tensor) -> Tensor:
    """The values where they are good, NaN elsewhere."""
    return torch.where(good, values, torch.nan)


def expmap0(v: Tensor, k: Tensor) -> Tensor:
    """sinh(a)/a v with a = |v|/R."""
    angle = (dot(v, v) * Twofold.of(k)).sqrt()
    return _used(angle.high > _SMALL, _rolled(angle)[1].value * v)


def expmap(x: Tensor, u: Tensor, k: Tensor) -> Tensor:
    """cosh(a) x + sinh(a)/a u with a = |u|_L/R."""
    x, u = torch.broadcast_tensors(x, u)
    slope, square, wide = dot(x, u), dot(u, u), Twofold.of(k)
    length = square - slope * slope * wide / (dot(x, x) * wide + 1.0)
    angle = (length * wide).sqrt()
    stretch, push = _rolled(angle)
    point = (stretch * Twofold.of(x) + push * Twofold.of(u)).value
    kept = square.high < _CANCELLED_EARLY * length.high
    terms = stretch.high * fn.norm(x) + push.high * fn.norm(u)
    return _used((angle.high > _SMALL) & kept & (terms < _CANCELLED * fn.norm(point)), point)


def transp(x: Tensor, y: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """v + k <y, v>_L / (1 + cosh a) (x + y)."""
    x, y, v = torch.broadcast_tensors(x, y, v)
    time_x, time_y, wide = _time(x, k), _time(y, k), Twofold.of(k)
    onto = dot(y, v) - time_y * dot(x, v) / time_x
    spread = time_x * time_y - dot(x, y) * wide + 1.0
    moved = (onto * wide / spread * (Twofold.of(x) + Twofold.of(y)) + Twofold.of(v)).value
    terms = fn.norm(v) * (1 + k * time_y.high * fn.norm(x + y) * fn.norm(x) / spread.high)
    return _used(terms < _CANCELLED_EARLY * fn.norm(moved), moved)
