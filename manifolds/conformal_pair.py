"""What the conformal chart's operations know of two points, in columns: lengths, factors, the distance."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.operation import Part, Rows
from manifold_lora.manifolds.scratch import Scratch

# 1 + h above which it may be a difference from 1.
FLAT = 0.1


# How many eps a stored point stays inside the boundary of the ball.
MARGIN = 4.0


FLOOR = torch.finfo(torch.float64).eps / 4


class Pair(NamedTuple):
    """Two points: d, |x|^2, |y|^2, |d|^2, alpha, beta, h, and 1 + h, right near the antipode too."""

    d: Tensor
    xx: Tensor
    yy: Tensor
    dd: Tensor
    alpha: Tensor
    beta: Tensor
    h: Tensor
    flat: Tensor


def factor(k: Any, xx: Tensor) -> Tensor:
    """alpha, kept positive on the boundary itself."""
    return (xx * -k).add_(1.0).clamp_(min=FLOOR)


def measure(k: Any, pad: Scratch, x: Tensor, y: Tensor) -> Pair:
    """The pair of x and y, (..., n) each."""
    d = pad.pair(torch.sub, x, y)
    # Near the edge of the ball the digits of 1 - k |x|^2 are the geometry: no root on the way.
    xx, yy, dd = pad.dot(x, x), pad.dot(y, y), col.square(d)
    alpha, beta = factor(k, xx), factor(k, yy)
    h = dd * k / (alpha * beta)
    flat = h + 1.0
    if not isinstance(k, float) or (k < 0 and flat.amin().item() < FLAT):
        xy = pad.dot(x, y)
        across = col.square(pad.combine((None, y), (col.over(-xy, xx), x))) * xx
        opened = ((1 - k * xy).square() + k * k * across) / (alpha * beta)
        flat = torch.where(flat < FLAT, opened, flat)
    return Pair(d, xx, yy, dd, alpha, beta, h, flat)


def remeasure(k: Any, pad: Scratch, x: Tensor, y: Tensor, saved: Rows) -> Pair:
    """The pair once more from |x|^2, |y|^2, |d|^2, 1 + h."""
    xx, yy, dd, flat = saved
    alpha, beta = factor(k, xx), factor(k, yy)
    return Pair(pad.pair(torch.sub, x, y), xx, yy, dd, alpha, beta, dd * k / (alpha * beta), flat)


def signed(k: Any, hyperbolic: Callable[[], Tensor], circular: Callable[[], Tensor]) -> Tensor:
    """One of two columns, by the sign of k."""
    if isinstance(k, float):
        return hyperbolic() if k >= 0 else circular()
    return torch.where(k >= 0, hyperbolic(), circular())


def arc_of(k: Any, h: Tensor, flat: Tensor) -> Tensor:
    """A = asinh(sqrt h)/sqrt h, or asin(sqrt -h)/sqrt -h."""

    def circular() -> Tensor:
        root = (-h).sqrt_().clamp_(min=col.TINY)
        return torch.atan2(root, flat.sqrt()).div_(root)

    return signed(k, lambda: col.asinhc(h), circular)


class Tail:
    """What every gradient of a pair ends in: those by |d|^2, alpha, beta, brought to x, y and k."""

    def __init__(self, k: Any, pair: Pair, dd_bar: Tensor, alpha_bar: Tensor, beta_bar: Tensor) -> None:
        self.k, self.pair = k, pair
        self.by_d, self.by_x, self.by_y = 2 * dd_bar, -2 * k * alpha_bar, -2 * k * beta_bar
        self.alpha_bar, self.beta_bar = alpha_bar, beta_bar

    def rows(
        self, x: Tensor, needs: Sequence[bool], *terms: tuple[Tensor, Tensor, Tensor]
    ) -> list[Part | None]:
        """The gradients of x and y; further terms are (column of x's, column of y's, row)."""
        d = self.pair.d
        grads: list[Part | None] = []
        columns = (
            (-self.by_d, self.by_x, *(term[0] for term in terms)),
            (self.by_d + self.by_y, self.by_y, *(term[1] for term in terms)),
        )
        rows = (d, x, *(term[2] for term in terms))
        for needed, weights in zip(needs[1:], columns, strict=True):
            grads.append(tuple(zip(weights, rows, strict=True)) if needed else None)
        return grads

    def of_k(self) -> Tensor:
        """By k through alpha and beta."""
        return -self.pair.xx * self.alpha_bar - self.pair.yy * self.beta_bar


def smooth_factor(k: Tensor, x: Tensor) -> Tensor:
    """alpha, differentiable."""
    return fn.positive(1 - k * fn.square(x))


def smooth_pair(k: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D, A and 1 + h, differentiable."""
    product, dd = smooth_factor(k, x) * smooth_factor(k, y), fn.square(y - x)
    ratio = dd / product
    near = k * ratio
    plain = 1 + near > FLAT
    x, y = torch.broadcast_tensors(x, y)
    x = torch.where(plain, 1.0, x)
    across = fn.square(x) * fn.square(y - fn.dot(x, y) / fn.square(x) * x)
    opened = ((1 - k * fn.dot(x, y)).square() + k.square() * across) / product
    flat = torch.where(plain, 1 + near, opened)
    # asin(r) = atan(r/sqrt(1 - r^2)) keeps the antipode.
    far = fn.atanhc(torch.where(k > 0, 0.0, near / flat)) * flat.rsqrt()
    return ratio, torch.where(k > 0, fn.asinhc(torch.where(k > 0, near, 0.0)), far), flat
