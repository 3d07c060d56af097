"""Computing one step wider than the arguments and rounding once at the end.

bfloat16 and float16 are computed in float32, float32 in float64, float64 in float64.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

HALVES = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
# float32 is carried in float64: sinh magnifies the rounding of |v| by |v|/R, and near the edge of a ball
# the digits of 1 - |x|^2 are the geometry.
WIDER = {**HALVES, torch.float32: torch.float64}

Operation = TypeVar("Operation", bound=Callable[..., Any])


@runtime_checkable
class Geometry(Protocol):
    """What a geometry says about the precision of its own computations and the shape of its points."""

    wider: ClassVar[dict[torch.dtype, torch.dtype]]
    extra_dims: int

    @property
    def kappa(self) -> Tensor:
        """The sectional curvature, (1,)."""

    def store(self, point: Tensor, dtype: torch.dtype) -> Tensor:
        """Round a point to the dtype it is kept in, staying on the manifold."""

    def projx(self, x: Tensor) -> Tensor:
        """A point of the manifold near x."""


def common_dtype(arguments: Sequence[Any]) -> torch.dtype:
    """What the dtypes of the tensors among the arguments promote to."""
    dtypes = [argument.dtype for argument in arguments if isinstance(argument, Tensor)]
    kept = dtypes[0]
    for dtype in dtypes[1:]:
        kept = torch.promote_types(kept, dtype)
    return kept


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def as_given(operation: Operation) -> Operation:
    """Leave an operation that takes every dtype as it is."""
    operation.__any_dtype__ = True  # type: ignore[attr-defined]
    return operation


def in_wider_dtype(points: int, gives_point: bool) -> Callable[[Operation], Operation]:
    """Compute an operation in the geometry's wider dtype and round its result once.

    Args:
        points: how many leading arguments are points: rounding to half precision took them off the manifold,
            so they are projected back before use.
        gives_point: whether the result is a point, to be stored on the manifold.
    """

    def decorate(operation: Operation) -> Operation:
        if hasattr(operation, "__any_dtype__"):
            return operation

        @wraps(operation)
        def wider(self: Geometry, *arguments: Any) -> Tensor:
            kept = common_dtype(arguments)
            wide = self.wider.get(kept, kept)
            if wide == torch.float64:
                wide = widest(arguments[0].device)
            if wide != kept:
                arguments = tuple(a.to(wide) if isinstance(a, Tensor) else a for a in arguments)
            if kept in HALVES:
                arguments = (*(self.projx(x) for x in arguments[:points]), *arguments[points:])
            result: Tensor = operation(self, *arguments)
            return self.store(result, kept) if gives_point else result.to(kept)

        wider.__any_dtype__ = True  # type: ignore[attr-defined]
        return wider  # type: ignore[return-value]

    return decorate


# How each primitive is carried: leading points, and whether it gives one.
PRIMITIVES: dict[str, tuple[int, bool]] = {
    "expmap0": (0, True),
    "logmap0": (1, False),
    "lift": (0, True),
    "coords": (1, False),
    "projx": (0, True),
    "proju": (1, False),
    "inner": (1, False),
    "egrad2rgrad": (1, False),
    "expmap": (1, True),
    "logmap": (2, False),
    "_dist": (2, False),
    "_sqdist": (2, False),
    "_transp": (2, False),
}
