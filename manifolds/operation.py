"""A closed form with its own gradient: row products, columns of coefficients, combinations of rows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_lora.manifolds.scratch import Scratch, Terms

Rows = tuple[Tensor, ...]
# A row, or the terms of a combination of rows, which is then computed where it is wanted.
Part = Tensor | Terms
Parts = tuple[Part, ...]
Grads = tuple[list[Part | None], Tensor | None]


class Operation(ABC):
    """A closed form on rows (N, n) of float64, beside its gradient and a form that is smooth.

    Rows lack the leading coordinate that follows from the others; columns are tensors (N, 1). ``k`` is what
    the geometry makes of its curvature: a Python number on the processor, a tensor of shape (1,) elsewhere
    and in ``smooth``. Rows are read only; ``pad`` holds room for new ones.

    Attributes:
        points: how many leading arguments are points; those of half precision are projected first.
        gives_point: whether the result is a point.
        holds: whether forward keeps its result within ``room`` by itself.
        leading: coordinates of points and vectors that are written, never read.
    """

    points: int = 2
    gives_point: bool = False
    holds: bool = False
    leading: int = 0

    def room(self, k: Any, dtype: torch.dtype) -> Any:
        """How long the last part of a result may be in this dtype; None: as long as it is."""
        return None

    @abstractmethod
    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        """The result's coordinates, side by side, and the columns that backward reads.

        Args:
            k: the curvature as the geometry hands it over.
            exact: whether the last digits of a float64 count; a float32 result does without.
            pad: room for rows.
            rows: the arguments.
        """

    def in_float32(self, k: Any, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows] | None:
        """forward of rows in float32, where that keeps what float32 holds; None elsewhere."""
        return None

    @abstractmethod
    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        """The gradient by each argument (None where not needed) and by k, a column.

        Args:
            k, pad, rows: as above; rows in float32 where that is what forward read.
            g: the gradient by the result, cut as forward returned it.
            saved: the columns of forward.
            needs: whether the gradient by k, and by each argument, is needed.
        """

    @abstractmethod
    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        """The same in differentiable steps, on whole points and vectors (..., n + leading) that broadcast."""
