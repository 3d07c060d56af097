"""A geometry that remembers which tokens its lift had to bring back to the edge of the chart."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from manifold_lora.manifolds import functions

# A lift that only rounds moves coordinates by less than this, relative to their length.
_ROUNDING = 1e-5


@runtime_checkable
class Charted(Protocol):
    """The part of a geometry that adapters use."""

    def expmap0(self, v: Tensor) -> Tensor:
        """Free vector to point."""

    def logmap0(self, x: Tensor) -> Tensor:
        """Point to free vector."""

    def lift(self, z: Tensor) -> Tensor:
        """Free coordinates to point."""

    def coords(self, x: Tensor) -> Tensor:
        """Point to free coordinates."""


class Recorder:
    """The geometry itself, and ``clipped``: per token, did any lift so far saturate?"""

    def __init__(self, manifold: Charted) -> None:
        self.manifold = manifold
        self.clipped: Tensor | None = None

    def expmap0(self, v: Tensor) -> Tensor:
        """As the geometry's."""
        return self.manifold.expmap0(v)

    def logmap0(self, x: Tensor) -> Tensor:
        """As the geometry's."""
        return self.manifold.logmap0(x)

    def coords(self, x: Tensor) -> Tensor:
        """As the geometry's."""
        return self.manifold.coords(x)

    def lift(self, z: Tensor) -> Tensor:
        """As the geometry's, noting the tokens it moved."""
        point = self.manifold.lift(z)
        moved = functions.norm(self.manifold.coords(point) - z) > _ROUNDING * functions.norm(z)
        self.clipped = moved if self.clipped is None else self.clipped | moved
        return point

    def share(self) -> Tensor:
        """The share of tokens that were clipped."""
        return torch.zeros(()) if self.clipped is None else self.clipped.float().mean()
