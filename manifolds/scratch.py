"""Room for the rows of one block, kept from call to call: fresh memory costs more than the arithmetic."""

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
    """A thread's buffers of float64, handed out in turn until cleared; a few megabytes at most.

    On the processor only: elsewhere the allocator of the device keeps memory itself.
    """

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        # The same as rows of the shape last asked for: a view costs as much as a small operation.
        self._rows: list[Tensor] = []
        self._used = 0
        self._wide: tuple[Tensor, ...] = ()
        self._stamp: object = None

    def clear(self) -> None:
        """Take everything back."""
        self._used, self._wide, self._stamp = 0, (), None

    def widen(self, row: Tensor) -> Tensor:
        """A row block, or a column, in float64."""
        if row.dtype == torch.float64:
            return row
        return row.double() if row.shape[-1] == 1 else self.like(row).copy_(row)

    def keep(self, wide: tuple[Tensor, ...]) -> object:
        """Remember the rows first handed out until others are asked for; the stamp recalls them."""
        if wide[0].device.type == "cpu":
            self._wide, self._stamp = wide, object()
        return self._stamp

    def recall(self, stamp: object) -> tuple[Tensor, ...]:
        """The rows kept under a stamp, all else taken back; none where they are gone."""
        if stamp is None or stamp is not self._stamp:
            self.clear()
        else:
            self._used = len(self._wide)
        return self._wide

    def like(self, row: Tensor) -> Tensor:
        """An uninitialised float64 tensor of the shape of a row block."""
        if row.device.type != "cpu":
            return torch.empty_like(row, dtype=torch.float64, memory_format=torch.contiguous_format)
        place, self._used = self._used, self._used + 1
        if place < len(self._rows) and self._rows[place].shape == row.shape:
            return self._rows[place]
        # What is born in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            if place == len(self._held):
                self._held.append(torch.empty(0, dtype=torch.float64))
                self._rows.append(self._held[place])
            if self._held[place].numel() < row.numel():
                self._held[place] = torch.empty(max(row.numel(), BLOCK), dtype=torch.float64)
            self._rows[place] = self._held[place][: row.numel()].view(row.shape)
        return self._rows[place]

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of products over the last axis, axis kept."""
        products = torch.mul(x, y, out=self.like(x))
        self._used -= 1
        return products.sum(-1, keepdim=True)

    def combine(self, *terms: Term) -> Tensor:
        """The sum of column times row."""
        return total(terms, self.like(terms[0][1]))

    def back(self) -> None:
        """Take the buffer handed out last back."""
        self._used -= 1


def total(terms: Terms, out: Tensor) -> Tensor:
    """The sum of column times row, written to ``out``."""
    (column, row), *rest = terms
    if column is None:
        (column, more), *rest = rest
        torch.addcmul(row, more, column, out=out)
    else:
        torch.mul(row, column, out=out)
    for column, row in rest:
        out.addcmul_(row, column)
    return out


SCRATCH = Scratch()
