"""The chord between two points of a hyperboloid, from space coordinates, without cancellation."""

from typing import NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import functions as fn


class Chord(NamedTuple):
    """Quantities of the chord y - x; ``s`` is 1/R.

    Args:
        step: y - x in space coordinates.
        half: h = sinh(dist/2R), so that <step, step>_L = 4 R^2 h^2.
        rise: difference of the time coordinates.
        start_stretch: sqrt(1 + |x|^2/R^2), the time coordinate of x over R.
    """

    step: Tensor
    half: Tensor
    rise: Tensor
    start_stretch: Tensor

    @classmethod
    def between(cls, x: Tensor, y: Tensor, s: Tensor) -> "Chord":
        """h^2 = sinh^2((r_y - r_x)/2R) + (s^2/4) |d_perp|^2 n_lo/n_hi: radii apart, then angle.

        Args:
            x, y: space coordinates, shape (..., n).
            s: 1/R, shape (1,).
        """
        x, y = torch.broadcast_tensors(x, y)
        step, size_x, size_y = y - x, fn.norm(x), fn.norm(y)
        one = torch.ones_like(s)
        stretch_x, stretch_y = fn.hypot(one, s * size_x), fn.hypot(one, s * size_y)
        # |y| - |x| = <d, x + y>/(|x| + |y|) keeps the digits that the difference of norms loses.
        total = size_x + size_y
        climb = fn.ratio(fn.dot(step, (x + y) / fn.scale(x + y)), total / fn.scale(x + y))
        weight = fn.ratio(size_y, total) * stretch_x + fn.ratio(size_x, total) * stretch_y
        radial = fn.ratio(s * climb, weight)
        lower = fn.unit(fn.smaller(x, y, size_x, size_y))
        across = fn.norm(step - climb * lower) * fn.root(
            fn.ratio(torch.minimum(size_x, size_y), torch.maximum(size_x, size_y))
        )
        half = fn.hypot(radial / torch.sqrt(2 * (1 + fn.hypot(one, radial))), s / 2 * across)
        rise = s * climb * fn.ratio(total, stretch_x + stretch_y)
        return cls(step, half, rise, stretch_x)
