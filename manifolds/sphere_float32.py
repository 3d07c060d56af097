"""What float32 knows of two points on the sphere without a copy in float64, where its sums are right."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds.scratch import Scratch

# Terms of a sum whose roundings are many enough to average out, and few enough not to add up.
_TERMS = range(32, 2**11 + 2)
# R and 1/R, products of squares over R^4, and errors of lengths over R for which sums are right.
_RANGE, _LEAST, _LENGTH = 1e4, 1e-24, 1e-4


class Diagonals(NamedTuple):
    """d = y - x and s = x + y, which lose nothing from x = y to the antipode, both excepted.

    ``sine`` and ``cosine`` are those of the angle times 4 |x| |y|. The part of y across x is (1 - turn_x) d +
    turn_x s, and that of x across y (turn_y - 1) d + turn_y s.
    """

    sine: Tensor
    cosine: Tensor
    turn_x: Tensor
    turn_y: Tensor


def diagonals(k: Any, pad: Scratch, x: Tensor, y: Tensor) -> Diagonals | None:
    """The diagonals of points; None where float32 does not tell."""
    if not _suits(k, x):
        return None
    d, s = pad.pair(torch.sub, x, y), pad.pair(torch.add, x, y)
    dd, ss, ds = col.norm(d).double().square_(), col.norm(s).double().square_(), pad.dot(d, s).double()
    both = dd * ss
    square = torch.addcmul(both, ds, ds, value=-1)
    # Where lengths differ as much as directions do, or one diagonal is 0.
    if not torch.sub(square, both, alpha=0.5).amin().item() > _LEAST / k**2:
        return None
    total = dd + ss
    turn_x = (dd - ds).div_(torch.sub(total, ds, alpha=2))
    turn_y = (dd + ds).div_(torch.add(total, ds, alpha=2))
    return Diagonals(square.sqrt_().mul_(2.0), ss.sub_(dd), turn_x, turn_y)


def lengths(k: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """|x| and |y| of points; None where float32 does not tell."""
    # Numbers that do not lie side by side are added one after the other.
    if not (_suits(k, x) and x.stride(-1) == y.stride(-1) == 1):
        return None
    found = col.norm(x), col.norm(y)
    return found if all(_is_about(length, k**-0.5) for length in found) else None


def _is_about(length: Tensor, size: float) -> bool:
    least, most = torch.aminmax(length)
    return (1 - _LENGTH) * size < least.item() and most.item() < (1 + _LENGTH) * size


def _suits(k: Any, x: Tensor) -> bool:
    """Whether sums over rows of this shape, on this sphere, are right."""
    return x.device.type == "cpu" and _RANGE**-2 < k < _RANGE**2 and x.shape[-1] in _TERMS
