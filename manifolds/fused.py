"""One autograd function for each operation: row products, columns of coefficients, combinations of rows.

A geometry's closed forms are short where they may take for granted that their input is float64 and that
nobody differentiates them twice. An ``Operation`` states such a form with its own gradient, and beside it a
``smooth`` one of differentiable steps. Ordinary calls take the first, in blocks of rows that stay in the
cache, and save a few numbers a row. Second derivatives, forward mode, torch.func and torch.compile take the
second.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.blocks import grads_in_blocks, in_blocks
from manifold_lora.manifolds.operation import Operation, Rows
from manifold_lora.manifolds.precision import HALVES, Geometry, common_dtype


class _Function(torch.autograd.Function):
    """An operation as autograd sees it; second derivatives come from the smooth form."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, k: Tensor, *arguments: Tensor) -> Tensor:
        ctx.batch = _batch(arguments)
        result, saved, ctx.course = in_blocks(operation, _scalar(k), _rows(arguments, ctx.batch))
        ctx.operation = operation
        ctx.count = len(arguments)
        ctx.save_for_backward(k, *arguments, *saved)
        return result if len(ctx.batch) == 1 else result.view(*ctx.batch, result.shape[-1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        k, *others = ctx.saved_tensors
        arguments, saved = others[: ctx.count], tuple(others[ctx.count :])
        needs = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_smooth_grads(ctx.operation, g, (k, *arguments), needs)
        rows = _rows(arguments, ctx.batch)
        g = g if g.dim() == 2 else g.reshape(rows[0].shape[0], g.shape[-1])
        grads, by_k = grads_in_blocks(ctx, _scalar(k), g, saved, rows, needs)
        fitted = (_fitted(g, ctx.batch, argument.shape) for g, argument in zip(grads, arguments, strict=True))
        return None, by_k if by_k is None else by_k.reshape(k.shape), *fitted


def _scalar(k: Tensor) -> Any:
    """A Python number where reading one costs nothing."""
    return k.item() if k.device.type == "cpu" else k


def _batch(arguments: Sequence[Tensor]) -> torch.Size:
    """The shape that the arguments broadcast to, without their last axis."""
    shapes = {argument.shape[:-1] for argument in arguments}
    return shapes.pop() if len(shapes) == 1 else torch.broadcast_shapes(*shapes)


def _rows(arguments: Sequence[Tensor], batch: torch.Size) -> Rows:
    """The arguments as matrices of the batch's rows."""
    return tuple(
        a
        if a.dim() == 2 and a.shape[:-1] == batch
        else a.expand(*batch, a.shape[-1]).reshape(batch.numel(), a.shape[-1])
        for a in arguments
    )


def _fitted(grad: Tensor | None, batch: torch.Size, shape: torch.Size) -> Tensor | None:
    """Rows of a gradient as the argument whose gradient they are."""
    if grad is None or grad.shape == shape:
        return grad
    return grad.view(*batch, grad.shape[-1]).sum_to_size(shape)


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
    if any(argument.dtype != wide for argument in arguments):
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
