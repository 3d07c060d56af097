"""The control that is blind to a token's norm: every token gets the gain of one of median length."""

from typing import Any

import torch
from torch import Tensor

from manifold_lora.adapters.transforms import Direct, Point
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.radial import Radial


class NormBlind(Direct):
    """``direct`` with phi(a)/a taken at |x| = s for every token, s the calibrated scale: c = c(s, |B A x|).

    Same gain at the median, same saturation in |B A x|: what beats it has used the token's own norm. The
    reference angle is 1/R, or the limit where that is smaller; tokens beyond the limit are cut as elsewhere.
    """

    radial = True

    def entered(self, manifold: Any, point: Point) -> Tensor:
        """f v, with one f for all tokens."""
        v = manifold.logmap0(point)
        return self.stretch(manifold, functions.square(v)) * v

    def stretch(self, manifold: Radial, sq: Tensor) -> Tensor:
        """phi(a)/a at the reference angle."""
        return manifold.chart_exp(self.reference(manifold, sq)) * torch.ones_like(sq)
