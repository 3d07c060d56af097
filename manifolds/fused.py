"""One autograd function for each operation: row products, columns of coefficients, combinations of rows.

A geometry's closed forms are short where they may take for granted that their input is float64 and that
nobody differentiates them twice. An ``Operation`` states such a form with its own gradient, and beside it a
``smooth`` one of differentiable steps. Ordinary calls take the first, in blocks of rows that stay in the
cache, and save a few numbers a row. Second derivatives, forward mode, torch.func and torch.compile take the
second.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from manifold_lora.manifolds.precision import HALVES, Geometry, common_dtype

# Entries of a block: a few blocks of float64 fit the cache of one core.
_BLOCK = 2**15
Rows = tuple[Tensor, ...]


class Operation(ABC):
    """A closed form on rows (N, w) of float64, beside its gradient and a form that is smooth.

    Columns are tensors (N, 1). ``k`` is what the geometry makes of its curvature: a Python number on the
    processor, a tensor of shape (1,) elsewhere and in ``smooth``.

    Attributes:
        points: how many leading arguments are points; those of half precision are projected first.
        gives_point: whether the result is a point.
        scalar: whether the result is one number a row.
    """

    points: int = 2
    gives_point: bool = False
    scalar: bool = False

    def overflows(self, value: Tensor, dtype: torch.dtype) -> bool:
        """Whether rows of a result have no room in the dtype and must be stored by the geometry."""
        return self.gives_point and value.abs().amax().item() > torch.finfo(dtype).max / 8

    @abstractmethod
    def forward(self, k: Any, exact: bool, *rows: Tensor) -> tuple[Tensor, Rows]:
        """The result, and the columns that backward reads.

        Args:
            k: the curvature as the geometry hands it over.
            exact: whether the last digits of a float64 count; a float32 result does without.
            rows: the arguments.
        """

    @abstractmethod
    def backward(
        self, k: Any, g: Tensor, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> tuple[list[Tensor | None], Tensor | None]:
        """The gradient by each argument (None where not needed) and by k, a column."""

    @abstractmethod
    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        """The same in differentiable steps, on tensors (..., w) that broadcast."""


class _Call:
    """An operation called once: whose, and whether a result had no room."""

    def __init__(self, manifold: Geometry, operation: Operation) -> None:
        self.manifold, self.operation, self.overflows = manifold, operation, False


class _Function(torch.autograd.Function):
    """``Operation`` as autograd sees it; second derivatives come from the smooth form."""

    @staticmethod
    def forward(ctx: Any, call: _Call, k: Tensor, *arguments: Tensor) -> Tensor:
        batch, rows = _rows(arguments)
        result, saved = _in_blocks(call, _scalar(k), rows)
        ctx.call, ctx.batch = call, batch
        ctx.save_for_backward(k, saved, *arguments)
        return result.view(*batch, result.shape[-1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        k, saved, *arguments = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_smooth_grads(ctx.call, g, (k, *arguments), needs)
        by_k, grads = _grads_in_blocks(ctx.call.operation, _scalar(k), g, saved, arguments, needs)
        by_k = None if by_k is None else by_k.reshape(k.shape).to(k.dtype)
        fitted = (
            None if grad is None else grad.view(*ctx.batch, grad.shape[-1]).sum_to_size(argument.shape)
            for grad, argument in zip(grads, arguments, strict=True)
        )
        return None, by_k, *fitted


def _scalar(k: Tensor) -> Any:
    """A Python number where reading one costs nothing."""
    return k.item() if k.device.type == "cpu" else k


def _rows(arguments: Sequence[Tensor]) -> tuple[torch.Size, Rows]:
    """The common batch shape, and the arguments as matrices of its rows."""
    batch = torch.broadcast_shapes(*(argument.shape[:-1] for argument in arguments))
    return batch, tuple(a.expand(*batch, a.shape[-1]).reshape(-1, a.shape[-1]) for a in arguments)


def _spans(rows: Rows) -> list[tuple[int, int]]:
    count, width = rows[0].shape
    step = max(1, _BLOCK // max(width, 1)) if rows[0].device.type == "cpu" else max(count, 1)
    return [(start, min(start + step, count)) for start in range(0, count, step)] or [(0, 0)]


def _in_blocks(call: _Call, k: Any, rows: Rows) -> tuple[Tensor, Tensor]:
    """The result in the dtype of the rows, and the saved columns side by side."""
    operation, dtype, count = call.operation, rows[0].dtype, rows[0].shape[0]
    result = saved = None
    for start, end in _spans(rows):
        wide = [row[start:end].double() for row in rows]
        value, columns = operation.forward(k, dtype == torch.float64, *wide)
        call.overflows |= operation.overflows(value, dtype)
        if result is None or saved is None:
            if end == count:
                return value.to(dtype), torch.cat(columns, -1)
            result = value.new_empty(count, value.shape[-1], dtype=dtype)
            saved = value.new_empty(count, len(columns))
        result[start:end] = value
        torch.cat(columns, -1, out=saved[start:end])
    assert result is not None and saved is not None
    return result, saved


def _grads_in_blocks(
    operation: Operation,
    k: Any,
    g: Tensor,
    saved: Tensor,
    arguments: Sequence[Tensor],
    needs: Sequence[bool],
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradient by k, and by each argument as a matrix of rows."""
    _, rows = _rows(arguments)
    g = g.reshape(-1, g.shape[-1])
    grads: list[Tensor | None] = [
        torch.empty_like(row, memory_format=torch.contiguous_format) if needed else None
        for row, needed in zip(rows, needs[1:], strict=True)
    ]
    by_k: Tensor | None = None
    for start, end in _spans(rows):
        wide = tuple(row[start:end].double() for row in rows)
        columns = saved[start:end].split(1, -1)
        found, slope = operation.backward(k, g[start:end].double(), columns, wide, needs)
        for grad, part in zip(grads, found, strict=True):
            if grad is not None:
                assert part is not None
                grad[start:end] = part
        if slope is not None:
            by_k = slope.sum() if by_k is None else by_k + slope.sum()
    return by_k, grads


def _smooth_grads(
    call: _Call, g: Tensor, inputs: Sequence[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient once more, as a graph."""
    # One tensor may stand for two arguments: each gets a name of its own.
    inputs = [tensor.view_as(tensor) if needed else tensor for tensor, needed in zip(inputs, needs, strict=True)]
    value = smoothly(call.manifold, call.operation, inputs[0], inputs[1:])
    wanted = [i for i, needed in enumerate(needs) if needed]
    grads = torch.autograd.grad(
        value, [inputs[i] for i in wanted], g, create_graph=True, allow_unused=True, materialize_grads=True
    )
    found: list[Tensor | None] = [None] * len(inputs)
    for i, grad in zip(wanted, grads, strict=True):
        found[i] = grad
    return found


def smoothly(manifold: Geometry, operation: Operation, k: Tensor, arguments: Sequence[Tensor]) -> Tensor:
    """The smooth form, carried as k is and rounded once."""
    result = operation.smooth(k, *(argument.to(k.dtype) for argument in arguments))
    dtype = arguments[0].dtype
    return manifold.store(result, dtype) if operation.gives_point else result.to(dtype)


def _only_reverse_mode(tensors: Sequence[Tensor]) -> bool:
    """Whether neither a compiler, torch.func nor forward mode looks on."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return all(forward_ad.unpack_dual(tensor).tangent is None for tensor in tensors)


def run(manifold: Geometry, operation: Operation, k: Tensor, *arguments: Tensor) -> Tensor:
    """An operation on tensors that broadcast, in their common dtype.

    Args:
        manifold: whose points they are.
        operation: what to do.
        k: the curvature as the operation wants it, shape (1,), float64 where the device has it.
        arguments: points and vectors.
    """
    kept = common_dtype(arguments)
    wide = HALVES.get(kept, kept)
    arguments = tuple(argument.to(wide) for argument in arguments)
    if kept != wide:
        points = (manifold.projx(x) for x in arguments[: operation.points])
        arguments = (*points, *arguments[operation.points :])
    result = _carried(manifold, operation, k, arguments)
    if kept == wide:
        return result
    return manifold.store(result, kept) if operation.gives_point else result.to(kept)


def _carried(manifold: Geometry, operation: Operation, k: Tensor, arguments: Sequence[Tensor]) -> Tensor:
    if k.dtype == torch.float64 and _only_reverse_mode((k, *arguments)):
        call = _Call(manifold, operation)
        result: Tensor = _Function.apply(call, k, *arguments)
        if not call.overflows:
            return result
    return smoothly(manifold, operation, k, arguments)
