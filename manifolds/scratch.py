"""Room for the rows of one block, kept from call to call: fresh memory costs more than the arithmetic."""

from threading import local

import torch
from torch import Tensor

# Entries of a block: few enough for the cache, and enough to outweigh the calls.
BLOCK = 2**17


class Scratch(local):
    """A thread's buffers of float64, handed out in turn until cleared; a few megabytes at most.

    On the processor only: elsewhere the allocator of the device keeps memory itself.
    """

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        self._used = 0

    def clear(self) -> None:
        """Take everything back."""
        self._used = 0

    def like(self, row: Tensor) -> Tensor:
        """An uninitialised float64 tensor of the shape of a row block."""
        if row.device.type != "cpu":
            return torch.empty_like(row, dtype=torch.float64, memory_format=torch.contiguous_format)
        if self._used == len(self._held):
            self._held.append(row.new_empty(0))
        if self._held[self._used].numel() < row.numel():
            # A buffer born in inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                self._held[self._used] = torch.empty(max(row.numel(), BLOCK), dtype=torch.float64)
        buffer = self._held[self._used][: row.numel()].view(row.shape)
        self._used += 1
        return buffer

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of products over the last axis, axis kept."""
        products = torch.mul(x, y, out=self.like(x))
        self._used -= 1
        return products.sum(-1, keepdim=True)

    def combine(self, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """The sum of column times row."""
        (column, row), *rest = terms
        total = torch.mul(row, column, out=self.like(row))
        for column, row in rest:
            total.addcmul_(row, column)
        return total

    def plus(self, start: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """A row, and the sum of column times row added to it."""
        (column, row), *rest = terms
        total = torch.addcmul(start, row, column, out=self.like(start))
        for column, row in rest:
            total.addcmul_(row, column)
        return total


SCRATCH = Scratch()
