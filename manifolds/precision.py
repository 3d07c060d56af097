"""Where a computation is carried: half precision in float32, rounded once at the end."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
EDGE_WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float64}

Operation = TypeVar("Operation", bound=Callable[..., Any])


class Carrier(Protocol):
    """What a geometry says about the precision of its own computations."""

    wider: dict[torch.dtype, torch.dtype]

    def store(self, point: Tensor, dtype: torch.dtype) -> Tensor:
        """Round a point to the dtype it is kept in, staying on the manifold."""


def _common(tensors: list[Tensor]) -> torch.dtype:
    dtype = tensors[0].dtype
    for other in tensors[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    return dtype


def _carry(operation: Callable[..., Tensor], point: bool) -> Callable[..., Tensor]:
    @wraps(operation)
    def carried(self: Carrier, *tensors: Tensor) -> Tensor:
        kept = _common([t for t in tensors if isinstance(t, Tensor)])
        wide = self.wider.get(kept, kept)
        if wide != kept:
            tensors = tuple(t.to(wide) if isinstance(t, Tensor) else t for t in tensors)
        result = operation(self, *tensors)
        return self.store(result, kept) if point else result.to(kept)

    carried.__carried__ = True  # type: ignore[attr-defined]
    return carried


def carried_point(operation: Operation) -> Operation:
    """Compute in the geometry's wider dtype; round the resulting point once, onto the manifold."""
    return operation if hasattr(operation, "__carried__") else _carry(operation, point=True)  # type: ignore[return-value]


def carried_vector(operation: Operation) -> Operation:
    """Compute in the geometry's wider dtype; round the resulting vectors or scalars once."""
    return operation if hasattr(operation, "__carried__") else _carry(operation, point=False)  # type: ignore[return-value]
