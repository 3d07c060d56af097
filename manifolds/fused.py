"""One autograd function for each operation: row products, columns of coefficients, combinations of rows.

A geometry's closed forms are short where they may take for granted that their input is float64 and that
nobody differentiates them twice. An ``Operation`` states such a form with its own gradient, and beside it a
``smooth`` one of differentiable steps. Ordinary calls take the first, in blocks of rows that stay in the
cache, and save a few numbers a row. Second derivatives, forward mode, torch.func and torch.compile take the
second.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.precision import HALVES, Geometry, common_dtype
from manifold_lora.manifolds.scratch import BLOCK, SCRATCH, Scratch

Rows = tuple[Tensor, ...]
Grads = tuple[list[Tensor | None], Tensor | None]


class Operation(ABC):
    """A closed form on rows (N, n) of float64, beside its gradient and a form that is smooth.

    Rows lack the leading coordinate that follows from the others; columns are tensors (N, 1). ``k`` is what
    the geometry makes of its curvature: a Python number on the processor, a tensor of shape (1,) elsewhere
    and in ``smooth``. Rows are read only; ``pad`` holds room for new ones.

    Attributes:
        points: how many leading arguments are points; those of half precision are projected first.
        gives_point: whether the result is a point.
        leading: coordinates of points and vectors that are written, never read.
    """

    points: int = 2
    gives_point: bool = False
    leading: int = 0

    def room(self, k: Any, dtype: torch.dtype) -> Any:
        """How long the last part of a result may be in this dtype; None: as long as it is."""
        return None

    @abstractmethod
    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Rows, Rows]:
        """The result's coordinates, side by side, and the columns that backward reads.

        Args:
            k: the curvature as the geometry hands it over.
            exact: whether the last digits of a float64 count; a float32 result does without.
            pad: room for rows.
            rows: the arguments.
        """

    @abstractmethod
    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        """The gradient by each argument (None where not needed) and by k, a column.

        Args:
            k, pad, rows: as above.
            g: the gradient by the result, cut as forward returned it.
            saved: the columns of forward.
            needs: whether the gradient by k, and by each argument, is needed.
        """

    @abstractmethod
    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        """The same in differentiable steps, on whole points and vectors (..., n + leading) that broadcast."""


class _Function(torch.autograd.Function):
    """An operation as autograd sees it; second derivatives come from the smooth form."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, k: Tensor, *arguments: Tensor) -> Tensor:
        ctx.batch = torch.broadcast_shapes(*(argument.shape[:-1] for argument in arguments))
        result, saved, ctx.cut = _in_blocks(operation, _scalar(k), _rows(arguments, ctx.batch))
        ctx.operation = operation
        ctx.save_for_backward(k, saved, *arguments)
        return result.view(*ctx.batch, result.shape[-1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        k, saved, *arguments = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_smooth_grads(ctx.operation, g, (k, *arguments), needs)
        rows = _rows(arguments, ctx.batch)
        g = g.reshape(rows[0].shape[0], g.shape[-1])
        grads, by_k = _grads_in_blocks(ctx.operation, _scalar(k), g, ctx.cut, saved, rows, needs)
        fitted = (
            None if grad is None else grad.view(*ctx.batch, grad.shape[-1]).sum_to_size(argument.shape)
            for grad, argument in zip(grads, arguments, strict=True)
        )
        return None, by_k if by_k is None else by_k.reshape(k.shape), *fitted


def _scalar(k: Tensor) -> Any:
    """A Python number where reading one costs nothing."""
    return k.item() if k.device.type == "cpu" else k


def _rows(arguments: Sequence[Tensor], batch: torch.Size) -> Rows:
    """The arguments as matrices of the batch's rows."""
    return tuple(a.expand(*batch, a.shape[-1]).reshape(batch.numel(), a.shape[-1]) for a in arguments)


def _blocks(leading: int, *rows: Tensor) -> Iterator[Rows]:
    """Blocks of the rows that fit the cache, all but the last of one size, without leading coordinates."""
    count = max(rows[0].shape[0], 1)
    blocks = max(1, round(rows[0].numel() / BLOCK)) if rows[0].device.type == "cpu" else 1
    step = -(-count // blocks)
    return zip(*(row[:, leading:].split(step) for row in rows), strict=True)


def _wide(pad: Scratch, row: Tensor) -> Tensor:
    return row if row.dtype == torch.float64 else pad.like(row).copy_(row)


def _in_blocks(operation: Operation, k: Any, rows: Rows) -> tuple[Tensor, Tensor, list[int]]:
    """The result in the dtype of the rows, the saved columns one after the other, and the result's cut."""
    dtype, count = rows[0].dtype, rows[0].shape[0]
    results: list[Tensor] = []
    saves: list[Tensor] = []
    cut: list[int] = []
    start, pad = 0, SCRATCH
    for block in _blocks(operation.leading, *rows):
        pad.clear()
        parts, columns = operation.forward(
            k, dtype == torch.float64, pad, *(_wide(pad, row) for row in block)
        )
        parts = _within(operation.room(k, dtype), parts)
        if not results:
            cut = [part.shape[-1] for part in parts]
            results = [parts[0].new_empty(count, sum(cut), dtype=dtype)]
            saves = [parts[0].new_empty(len(columns), count, 1)]
        end = start + parts[0].shape[0]
        for target, column in zip(saves[0][:, start:end], columns, strict=True):
            target.copy_(column)
        for target, part in zip(results[0][start:end].split(cut, -1), parts, strict=True):
            target.copy_(part)
        start = end
    return results[0], saves[0], cut


def _within(room: Any, parts: Rows) -> Rows:
    """The rows, those longer than there is room for shortened; lengths are taken from the last part."""
    if room is None:
        return parts
    size = torch.linalg.vector_norm(parts[-1], dim=-1, keepdim=True)
    if size.device.type == "cpu" and not size.amax().item() > room:
        return parts
    factor = (room / size).clamp_(max=1.0)
    return tuple(part * factor for part in parts)


def _grads_in_blocks(
    operation: Operation, k: Any, g: Tensor, cut: list[int], saved: Tensor, rows: Rows, needs: Sequence[bool]
) -> Grads:
    """The gradient by each argument as a matrix of rows, and by k."""
    leading, pad = operation.leading, SCRATCH
    grads: list[Tensor | None] = [
        torch.empty_like(row, memory_format=torch.contiguous_format) if needed else None
        for row, needed in zip(rows, needs[1:], strict=True)
    ]
    for grad in grads:
        if grad is not None and leading:
            grad[:, :leading] = 0
    by_k: Tensor | None = None
    start = 0
    for block in _blocks(leading, *rows):
        pad.clear()
        end = start + block[0].shape[0]
        pulled = tuple(_wide(pad, part) for part in g[start:end].split(cut, -1))
        columns = saved[:, start:end].unbind()
        found, slope = operation.backward(
            k, pad, pulled, columns, tuple(_wide(pad, row) for row in block), needs
        )
        for grad, row in zip(grads, found, strict=True):
            if grad is not None and row is not None:
                grad[start:end, leading:] = row
        if slope is not None:
            by_k = slope.sum() if by_k is None else by_k + slope.sum()
        start = end
    return grads, by_k


def _smooth_grads(
    operation: Operation, g: Tensor, inputs: Sequence[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient once more, as a graph."""
    # One tensor may stand for two arguments: each gets a name of its own.
    named = [
        tensor.view_as(tensor) if needed else tensor for tensor, needed in zip(inputs, needs, strict=True)
    ]
    value = _smoothly(operation, named[0], named[1:])
    wanted = [i for i, needed in enumerate(needs) if needed]
    grads = torch.autograd.grad(
        value, [named[i] for i in wanted], g, create_graph=True, allow_unused=True, materialize_grads=True
    )
    found: list[Tensor | None] = [None] * len(named)
    for i, grad in zip(wanted, grads, strict=True):
        found[i] = grad
    return found


def _smoothly(operation: Operation, k: Tensor, arguments: Sequence[Tensor]) -> Tensor:
    """The smooth form, computed in the dtype of k and rounded once."""
    dtype = arguments[0].dtype
    result = operation.smooth(k, *(argument.to(k.dtype) for argument in arguments))
    room = operation.room(k.detach(), dtype)
    if room is not None:
        leading = operation.leading
        result = result * fn.within(fn.norm(result[..., leading:]), torch.as_tensor(room).to(result))
    return result.to(dtype)


def _is_ordinary(tensors: Sequence[Tensor]) -> bool:
    """Whether nothing but reverse mode looks on: no compiler, torch.func, forward mode or tensor subclass."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    plain = all(type(tensor) in (Tensor, torch.nn.Parameter) and tensor.numel() for tensor in tensors)
    return plain and all(forward_ad.unpack_dual(tensor).tangent is None for tensor in tensors)


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
    if k.dtype == torch.float64 and _is_ordinary((k, *arguments)):
        result: Tensor = _Function.apply(operation, k, *arguments)
    else:
        result = _smoothly(operation, k, arguments)
    if kept == wide:
        return result
    return manifold.store(result, kept) if operation.gives_point else result.to(kept)
