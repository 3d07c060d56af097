"""One autograd function for each operation: row products, columns of coefficients, combinations of rows.

A geometry's closed forms are short where they may take for granted that their input is float64 and that
nobody differentiates them twice. An ``Operation`` states such a form with its own gradient, and beside it a
``smooth`` one of differentiable steps. Ordinary calls take the first, in blocks of rows that stay in the
cache, and save a few numbers a row. Second derivatives, forward mode, torch.func and torch.compile take the
second.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.precision import HALVES, Geometry, common_dtype
from manifold_lora.manifolds.scratch import BLOCK, SCRATCH, Scratch, Terms, total

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
        ctx.batch = _batch(arguments)
        result, saved, ctx.cut, ctx.stamp = _in_blocks(operation, _scalar(k), _rows(arguments, ctx.batch))
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
        g = g.reshape(rows[0].shape[0], g.shape[-1])
        grads, by_k = _grads_in_blocks(ctx, _scalar(k), g, saved, rows, needs)
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


def _step(*rows: Tensor) -> int:
    """Rows of a block that fits the cache, all but the last of one size."""
    count = max(rows[0].shape[0], 1)
    blocks = max(1, round(rows[0].numel() / BLOCK)) if rows[0].device.type == "cpu" else 1
    return -(-count // blocks)


def _blocks(rows: Tensor, step: int, leading: int = 0) -> Sequence[Tensor]:
    """Blocks of rows without their leading coordinates."""
    kept = rows[:, leading:] if leading else rows
    return (kept,) if step >= rows.shape[0] else kept.split(step)


def _write(pad: Scratch, part: Part, target: Tensor) -> None:
    """Put a part where it belongs: a combination of float64 needs no room of its own."""
    if isinstance(part, Tensor):
        target.copy_(part)
    elif target.dtype == torch.float64:
        total(part, target)
    else:
        target.copy_(pad.combine(*part))
        pad.back()


def _in_blocks(operation: Operation, k: Any, rows: Rows) -> tuple[Tensor, Rows, list[int], object]:
    """The result in the dtype of the rows, the saved columns, the result's cut, and a stamp for the rows."""
    pad, dtype, step = SCRATCH, rows[0].dtype, _step(*rows)
    exact = dtype == torch.float64
    saves: list[Rows] = []
    targets: Iterator[Tensor] = iter(())
    result, cut, wide = rows[0], [0], rows
    for block in zip(*(_blocks(row, step, operation.leading) for row in rows), strict=True):
        pad.clear()
        wide = tuple(map(pad.widen, block))
        parts, columns = operation.forward(k, exact, pad, *wide)
        parts = parts if operation.holds else _within(operation.room(k, dtype), parts)
        if not saves:
            cut = [(part if isinstance(part, Tensor) else part[0][1]).shape[-1] for part in parts]
            result = rows[0].new_empty(rows[0].shape[0], sum(cut))
            targets = iter(_blocks(result, step))
        saves.append(columns)
        target = next(targets)
        for part, place in zip(parts, target.split(cut, -1) if len(cut) > 1 else (target,), strict=True):
            _write(pad, part, place)
    if len(saves) > 1:
        return result, tuple(map(torch.cat, zip(*saves, strict=True))), cut, None
    # A backward pass that follows at once finds the rows still in float64.
    return result, saves[0], cut, None if exact else pad.keep(wide)


def _within(room: Any, parts: Parts) -> Parts:
    """The rows, those longer than there is room for shortened; lengths are taken from the last part."""
    if room is None:
        return parts
    rows = tuple(part for part in parts if isinstance(part, Tensor))
    size = torch.linalg.vector_norm(rows[-1], dim=-1, keepdim=True)
    if size.device.type == "cpu" and not size.amax().item() > room:
        return parts
    factor = (room / size).clamp_(max=1.0)
    return tuple(part * factor for part in rows)


def _grads_in_blocks(
    ctx: Any, k: Any, g: Tensor, saved: Rows, rows: Rows, needs: Sequence[bool]
) -> tuple[list[Tensor | None], Tensor | None]:
    """The gradient by each argument as a matrix of rows, and by k."""
    pad, step, leading = SCRATCH, _step(*rows), ctx.operation.leading
    grads: list[Tensor | None] = [
        torch.empty_like(row, memory_format=torch.contiguous_format) if needed else None
        for row, needed in zip(rows, needs[1:], strict=True)
    ]
    targets: list[Iterable[Tensor | None]] = []
    for grad in grads:
        if grad is not None and leading:
            grad[:, :leading].zero_()
        targets.append(repeat(None) if grad is None else _blocks(grad, step, leading))
    by_k: Tensor | None = None
    blocks = zip(*(_blocks(row, step, leading) for row in rows), strict=True)
    columns = zip(*(_blocks(column, step) for column in saved), strict=True)
    places_of = zip(*targets, strict=False)  # Endless where no argument's gradient is needed.
    for pulled, kept, block, places in zip(_blocks(g, step), columns, blocks, places_of, strict=False):
        wide = pad.recall(ctx.stamp) or tuple(map(pad.widen, block))
        parts = pulled.split(ctx.cut, -1) if len(ctx.cut) > 1 else (pulled,)
        found, slope = ctx.operation.backward(k, pad, tuple(map(pad.widen, parts)), kept, wide, needs)
        for place, part in zip(places, found, strict=True):
            if place is not None and part is not None:
                _write(pad, part, place)
        if slope is not None:
            by_k = slope.sum() if by_k is None else by_k + slope.sum()
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
