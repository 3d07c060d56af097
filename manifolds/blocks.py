"""An operation block by block: as many rows at a time as stay in the cache."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds.operation import Operation, Part, Parts, Rows
from manifold_lora.manifolds.scratch import BLOCK, SCRATCH, Scratch, total


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
    """Put a part where it belongs: a combination in its dtype needs no room of its own."""
    if isinstance(part, Tensor):
        if part is not target:
            target.copy_(part)
    elif target.dtype == part[0][1].dtype:
        total(part, target)
    else:
        target.copy_(pad.combine(*part))
        pad.back()


class Course(NamedTuple):
    """What forward tells backward: the result's cut, the dtype and columns of each block, and a stamp."""

    cut: list[int]
    blocks: list[tuple[torch.dtype, int]]
    stamp: object


def in_blocks(operation: Operation, k: Any, rows: Rows) -> tuple[Tensor, list[Tensor], Course]:
    """The result in the dtype of the rows, the columns to save, and what else backward needs."""
    pad, dtype, step = SCRATCH, rows[0].dtype, _step(*rows)
    exact = dtype == torch.float64
    saved: list[Tensor] = []
    blocks: list[tuple[torch.dtype, int]] = []
    targets: Iterator[Tensor] = iter(())
    result, cut, read = rows[0], [0], rows
    for block in zip(*(_blocks(row, step, operation.leading) for row in rows), strict=True):
        pad.clear()
        read, done = block, None if exact else operation.in_float32(k, pad, *block)
        if done is None:
            pad.clear()
            read = tuple(map(pad.widen, block))
            done = operation.forward(k, exact, pad, *read)
        parts, columns = done
        parts = parts if operation.holds else _within(operation.room(k, dtype), parts)
        if not blocks:
            cut = [(part if isinstance(part, Tensor) else part[0][1]).shape[-1] for part in parts]
            result = rows[0].new_empty(rows[0].shape[0], sum(cut))
            targets = iter(_blocks(result, step))
        blocks.append((read[0].dtype, len(columns)))
        saved += columns
        target = next(targets)
        for part, place in zip(parts, target.split(cut, -1) if len(cut) > 1 else (target,), strict=True):
            _write(pad, part, place)
    # A backward pass that follows at once finds what is in the buffers.
    found_again = len(blocks) == 1 and result.device.type == "cpu"
    stamp = pad.keep(() if read[0].dtype == dtype else read) if found_again else None
    return result, saved, Course(cut, blocks, stamp)


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


def grads_in_blocks(
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
    places_of = zip(*targets, strict=False)  # Endless where no argument's gradient is needed.
    course, columns = ctx.course, iter(saved)
    for pulled, (dtype, count), block, places in zip(
        _blocks(g, step), course.blocks, blocks, places_of, strict=False
    ):
        read = pad.recall(course.stamp) or tuple(pad.widen(row, dtype) for row in block)
        parts = pulled.split(course.cut, -1) if len(course.cut) > 1 else (pulled,)
        pulls = tuple(pad.widen(part, dtype) for part in parts)
        pad.aim(places)
        found, slope = ctx.operation.backward(k, pad, pulls, tuple(islice(columns, count)), read, needs)
        for place, part in zip(places, found, strict=True):
            if place is not None and part is not None:
                _write(pad, part, place)
        if slope is not None:
            by_k = slope.sum() if by_k is None else by_k + slope.sum()
    # Held any longer, the gradients could not be freed.
    pad.aim(())
    return grads, by_k
