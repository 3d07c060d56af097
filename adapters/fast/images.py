"""What ``recomputed`` is given: the images in rank space, and how they are to be computed."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters.fast.rank_space import Images

Tensors = Sequence[Tensor]


class Slopes(NamedTuple):
    """The images w, and upstream gradients carried back to what they are functions of.

    Of u, of log abs(x) over abs(x)^2 (what x is to be multiplied by), of B^T B, of what is learned.
    """

    images: Tensors
    by_u: Tensors
    along: Tensors
    by_gram: Tensors
    by_learned: Sequence[Tensor | None]


class Image(NamedTuple):
    """An image as a point (tokens, r) and a factor (tokens, 1), in float64."""

    point: Tensor
    factor: Tensor


# abs(B_q w) of the piece q of the output, (tokens, 1) in float64.
Lengths = Callable[[int, Tensor], Tensor]


@runtime_checkable
class ByHand(Protocol):
    """Images as functions of plain numbers, with slopes that somebody has derived; norms are (tokens, 1)."""

    learned: list[Tensor]

    def images(self, us: Tensors, norms: Tensors, lengths: Lengths) -> list[Image]:
        """The images, outside of autograd."""

    def slopes(self, us: Tensors, norms: Tensors, grams: Tensors, by_images: Tensors) -> Slopes:
        """The images and ``by_images`` carried back."""


class Plan(NamedTuple):
    """How an update is computed in rank space.

    Args:
        images: w as a function of differentiable tensors and of what ``owner`` learns.
        owner: the module whose parameters the images read, when they are called.
        widths: the sizes of the pieces of x, and of those of the output.
        scaling: what delta is multiplied by.
        first: a column before those of B.
        by_hand: the same images, where their slopes are known.
    """

    images: Images
    owner: nn.Module
    widths: tuple[Sequence[int], Sequence[int]]
    scaling: float = 1.0
    first: Float[Tensor, " m"] | None = None
    by_hand: ByHand | None = None

    def cut(self, x: Tensor, A: Tensor, B: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """The pieces of x, of A's columns and of B's rows."""
        inner, outer = self.widths
        return x.split(list(inner), -1), A.split(list(inner), 1), B.split(list(outer), 0)

    def whole(self, B: Tensor, first: Tensor | None) -> Tensor:
        """B and the column before it."""
        return B if first is None else torch.cat([first[:, None].to(B.dtype), B], -1)
