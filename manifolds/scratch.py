"""Room for the rows of one block, kept from call to call: fresh memory costs more than the arithmetic."""

from collections.abc import Callable, Sequence
from threading import local
from typing import Any

import torch
from torch import Tensor

# A column of coefficients and the rows that it multiplies; None, in the first term alone, stands for 1.
Term = tuple[Any, Tensor]
Terms = tuple[Term, ...]
# Entries of a block: few enough for the cache, and enough to outweigh the calls.
BLOCK = 2**18


class Scratch(local):
    """A thread's buffers, handed out in turn until cleared; a few megabytes at most.

    On the processor only: elsewhere the allocator of the device keeps memory itself.
    """

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        # The same as rows of the shape last asked for: a view costs as much as a small operation.
        self._rows: list[Tensor] = []
        self._used = 0
        # What a backward pass that follows at once finds again, and how many buffers that takes.
        self._wide: tuple[Tensor, ...] = ()
        self._named: dict[object, Tensor] = {}
        self._kept = 0
        self._stamp: object = None
        self._places: Sequence[Tensor | None] = ()

    def clear(self) -> None:
        """Take everything back."""
        self._used, self._kept, self._wide, self._stamp = 0, 0, (), None
        self._named.clear()

    def widen(self, row: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """A row block in a dtype that holds it, or a column in float64."""
        if row.dtype == dtype and (row.shape[-1] > 1 or dtype == torch.float64):
            return row
        return row.double() if row.shape[-1] == 1 else self.like(row, dtype).copy_(row)

    def keep(self, wide: tuple[Tensor, ...]) -> object:
        """Remember the rows first handed out until others are asked for; the stamp recalls them."""
        self._wide, self._kept, self._stamp = wide, max(self._kept, len(wide)), object()
        return self._stamp

    def recall(self, stamp: object) -> tuple[Tensor, ...]:
        """The rows kept under a stamp, all else taken back; none where they are gone."""
        if stamp is None or stamp is not self._stamp:
            self.clear()
        self._used = self._kept
        return self._wide

    def like(self, row: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """An uninitialised tensor of the shape of a row block."""
        dtype = dtype or row.dtype
        if row.device.type != "cpu":
            return torch.empty_like(row, dtype=dtype, memory_format=torch.contiguous_format)
        place, self._used = self._used, self._used + 1
        if place < len(self._rows):
            ready = self._rows[place]
            if ready.shape == row.shape and ready.dtype == dtype:
                return ready
        # What is born in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            if place == len(self._held):
                self._held.append(torch.empty(0, dtype=torch.float64))
                self._rows.append(self._held[place])
            if self._held[place].numel() < row.numel():
                self._held[place] = torch.empty(max(row.numel(), BLOCK), dtype=torch.float64)
            self._rows[place] = self._held[place].view(dtype)[: row.numel()].view(row.shape)
        return self._rows[place]

    def aim(self, places: Sequence[Tensor | None]) -> None:
        """Say where the gradients of the block's arguments will lie."""
        self._places = places

    def place(self, which: int, row: Tensor) -> Tensor:
        """Room for the gradient of an argument: its own, where that has the dtype of the rows."""
        target = self._places[which]
        return self.like(row) if target is None or target.dtype != row.dtype else target

    def pair(self, act: Callable[..., Tensor], x: Tensor, y: Tensor) -> Tensor:
        """torch.sub or torch.add of the block's points, kept as by ``name``."""
        return self._named[act] if act in self._named else self._keep(act, act(y, x, out=self.like(x)))

    def _keep(self, name: object, row: Tensor) -> Tensor:
        if row.device.type == "cpu":
            self._named[name], self._kept = row, self._used
        return row

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of products over the last axis, axis kept."""
        products = torch.mul(x, y, out=self.like(x))
        self._used -= 1
        return products.sum(-1, keepdim=True)

    def combine(self, *terms: Term, name: str | None = None) -> Tensor:
        """The sum of column times row; under a name, read only, a backward pass at once finds it again."""
        if name in self._named:
            return self._named[name]
        row = total(terms, self.like(terms[0][1]))
        return row if name is None else self._keep(name, row)

    def back(self) -> None:
        """Take the buffer handed out last back."""
        self._used -= 1


def total(terms: Terms, out: Tensor) -> Tensor:
    """The sum of column times row, written to ``out``, which has the dtype of the rows."""
    (column, row), *rest = terms
    if column is None:
        (column, more), *rest = rest
        torch.addcmul(row, more, _fit(column, row), out=out)
    else:
        torch.mul(row, _fit(column, row), out=out)
    for column, row in rest:
        out.addcmul_(row, _fit(column, row))
    return out


def _fit(column: Any, row: Tensor) -> Any:
    """The column in the dtype of the row: mixed dtypes cost twice as much."""
    return column.to(row.dtype) if isinstance(column, Tensor) and column.dtype != row.dtype else column


SCRATCH = Scratch()
