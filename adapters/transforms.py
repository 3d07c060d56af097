"""The maps between points around a low-rank pair: T takes a point over R^n to a point over R^m."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.radial import Radial

Point = Float[Tensor, "*tokens ambient_n"]
Down = Float[Tensor, "r n"]
Up = Float[Tensor, "m r"]


def has_time(manifold: Manifold) -> bool:
    """Does the geometry have one time coordinate, the first?"""
    return manifold.extra_dims == 1 and isinstance(manifold, Radial)


def is_identity(manifold: Manifold) -> bool:
    """Are coordinates the free vector itself, in every part? A curvature of 0 alone does not say so."""
    parts = list(getattr(manifold, "parts", ()))
    if parts:
        return all(is_identity(part) for part in parts)
    law = manifold.radial_law if isinstance(manifold, Radial) and manifold.follows_law() else None
    return law is not None and law.linear


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


class Transform(nn.Module, ABC):
    """A map of points built from A (rank, in_features) and B (out_features, rank).

    ``linear`` tells when logmap0 o T o expmap0 is a matrix: always, on flat space, or never. ``time`` tells
    whether T acts on a time coordinate, so that only geometries with one have it, ``radial`` whether it needs
    a single radial geometry.

    Args:
        in_features: the width n of the input.
        out_features: the width m of the output.
        rank: the rank r.
    """

    linear: ClassVar[Literal["always", "flat", "never"]] = "never"
    time: ClassVar[bool] = False
    radial: ClassVar[bool] = False
    # Of the adapter that it is a part of.
    max_angle: float = math.inf

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, manifold: Charted, point: Point, A: Down, B: Up) -> Float[Tensor, "*tokens ambient_m"]:
        """The image of ``point``."""

    def reference(self, manifold: Radial, like: Tensor) -> Tensor:
        """abs(v)^2 of a token with abs(x) = s, at most the limit."""
        one = like.new_ones(1)
        return functions.capped(one, self.max_angle**2 / manifold.inverse_square_radius(like.dtype))


class Tangent(Transform):
    """expmap0(B A logmap0(x)): the geometry cancels and plain LoRA is left (arXiv 2410.04010, section 4)."""

    linear = "always"

    def forward(self, manifold: Charted, point: Point, A: Down, B: Up) -> Float[Tensor, "*tokens ambient_m"]:
        """The image of ``point``."""
        return manifold.expmap0(manifold.logmap0(point) @ A.T @ B.T)


class Direct(Transform):
    """z = lift(B coords(lift(A coords(x)))): the space-like map of arXiv 2410.04010, section 4."""

    linear: ClassVar[Literal["always", "flat", "never"]] = "flat"

    def forward(self, manifold: Charted, point: Point, A: Down, B: Up) -> Float[Tensor, "*tokens ambient_m"]:
        """The image of ``point``."""
        middle = manifold.lift(self.entered(manifold, point) @ A.T)
        return manifold.lift(manifold.coords(middle) @ B.T)

    def entered(self, manifold: Charted, point: Point) -> Tensor:
        """The coordinates that A acts on."""
        return manifold.coords(point)

    def stretch(self, manifold: Radial, sq: Tensor) -> Tensor:
        """coords(x)/v for a free vector v of squared length ``sq``, as this transform sees its point x."""
        return manifold.chart_exp(sq)


class Boost(Transform):
    """z = lift([time_B | B] lift([time_A | A] x)): A and B act on the time coordinate too.

    Both columns start at zero, so that the start is that of ``direct`` and the output that of the base;
    ``time_B`` has a gradient at once, ``time_A`` as soon as B moves. Source: arXiv 2410.04010, section 4,
    after the linear layer of arXiv 2105.14686.
    """

    time = True

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__(in_features, out_features, rank)
        self.time_A = nn.Parameter(torch.zeros(rank))
        self.time_B = nn.Parameter(torch.zeros(out_features))

    def forward(self, manifold: Charted, point: Point, A: Down, B: Up) -> Float[Tensor, "*tokens ambient_m"]:
        """The image of ``point``."""
        y = manifold.coords(point) @ A.T + self.entry_time(manifold, point) * self.time_A.to(point.dtype)
        middle = self.middle(manifold, y, A)
        return manifold.lift(manifold.coords(middle) @ B.T + middle[..., :1] * self.time_B.to(point.dtype))

    def entry_time(self, manifold: Charted, point: Point) -> Float[Tensor, "*tokens 1"]:
        """What ``time_A`` multiplies: the time coordinate of the token."""
        return point[..., :1]

    def middle(
        self, manifold: Charted, y: Float[Tensor, "*tokens r"], A: Down
    ) -> Float[Tensor, "*tokens r+1"]:
        """What [time_B | B] multiplies: the point over y."""
        return manifold.lift(y)
