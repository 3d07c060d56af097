"""Layers that read one x: what one of them has found out about it serves those that come after.

The first of them measures abs(x) and sets up a node of the graph through which the gradients of all go to x,
each added inside a matrix product to one tensor. Nobody has to know beforehand who reads what: by the
identity of its input alone a layer is one of several readers, from the first pass on.
"""

import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.adapters.fast.products import plus_product, product


class Share(NamedTuple):
    """What a reader's rank space adds to the gradient by x, dU A + along x, in one part of x.

    Args:
        dU, A: (tokens, r) and (r, n).
        along: (tokens, 1).
    """

    dU: Tensor
    A: Tensor
    along: Tensor


class Gathered:
    """The gradient by x of the readers that had their turn in one backward pass."""

    def __init__(self) -> None:
        # How many layers took the door: as many may come back through it.
        self.readers = 0
        # The sum as far as it is done, in the shape (tokens, n); x; and the shares that are left for its end.
        self._found: tuple[Tensor, Tensor, list[Share]] | None = None
        self._pass = -1

    def add(self, g: Tensor, weight: Tensor, shares: Sequence[Share], x: Tensor) -> None:
        """One reader's gradient, from its upstream gradient (tokens, m) and its shares, one a part of x."""
        self._begin()
        left: list[Share] = []
        if self._found is None:
            dx = product(g, weight)
        else:
            dx, _, left = self._found
            dx = plus_product(dx, g, weight)
        if len(shares) > 1:
            _add_parts(dx, shares, x)
        elif self.readers == 1:
            dx = _plus(dx, shares, x)
        else:
            # A as it is now: an optimizer inside the backward pass may step before the last reader's turn.
            left = [*left, shares[0]._replace(A=shares[0].A.clone())]
        self._found = dx, x, left

    def take(self) -> Tensor | None:
        """The whole gradient by x, once; None if nobody has added to it in this backward pass."""
        self._begin()
        found, self._found = self._found, None
        if found is None:
            return None
        dx, x, left = found
        return (_plus(dx, left, x) if left else dx).view(x.shape)

    def _begin(self) -> None:
        # What an earlier pass left, which did not want x's gradient, is not this one's.
        now = torch._C._current_graph_task_id()
        if now != self._pass:
            self._found, self._pass = None, now


def _plus(dx: Tensor, shares: Sequence[Share], x: Tensor) -> Tensor:
    """dx and the shares of several readers, in one product."""
    dU, A, along = shares[0]
    if len(shares) > 1:
        dU, A = torch.cat([one.dU for one in shares], 1), torch.cat([one.A for one in shares])
        along = torch.cat([one.along for one in shares], 1).sum(1, keepdim=True)
    return plus_product(dx, dU, A).addcmul_(x.reshape(dx.shape), along.to(x.dtype))


def _add_parts(dx: Tensor, shares: Sequence[Share], x: Tensor) -> None:
    """One reader's shares, each to its part of dx."""
    sizes = [share.A.shape[1] for share in shares]
    pieces = zip(shares, dx.split(sizes, 1), x.reshape(dx.shape).split(sizes, 1), strict=True)
    for share, out, piece in pieces:
        out.addmm_(share.dU, share.A).addcmul_(piece, share.along.to(x.dtype))


class _Door(torch.autograd.Function):
    """An empty tensor: x gets its gradient when all that took the tensor have had their turn.

    Nothing is saved: readers whose graphs are used up one after the other find it as it was.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gathered: Gathered) -> Tensor:
        ctx.gathered = gathered
        ctx.set_materialize_grads(False)
        return x.new_empty(0)

    @staticmethod
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, None]:
        last = _LAST.reading
        if last is not None and last.gathered is ctx.gathered:
            forget()
        return ctx.gathered.take(), None


class Reading:
    """One x as it is being read.

    Args:
        x: the tensor that the layers are given; held weakly.

    ``norm`` is abs(x) of each row in float64, once somebody has measured it. ``door`` leads to x in the
    graph, ``gathered`` is what goes through it; both are None where x has no gradient.
    """

    def __init__(self, x: Tensor) -> None:
        self._x, self._version, self._learns = weakref.ref(x), x._version, x.requires_grad
        self.norm: Any = None
        self.gathered = Gathered() if x.requires_grad else None
        self.door: Tensor | None = _Door.apply(x, self.gathered) if x.requires_grad else None

    def is_of(self, x: Tensor) -> bool:
        """Is it this very tensor, unchanged since?"""
        return self._x() is x and self._version == x._version and self._learns == x.requires_grad


class _Last(threading.local):
    reading: Reading | None = None


# Of each thread, and nobody else's to hold: ``door`` keeps the graph that made x alive, until the next x or
# ``forget``.
_LAST = _Last()


def reading_of(x: Tensor) -> Reading:
    """What is known of x: what the layer called last left, if it was given the same tensor."""
    last = _LAST.reading
    if last is None or not last.is_of(x):
        last = _LAST.reading = Reading(x)
    return last


def forget() -> None:
    """Hold no graph any more: the model's forward pass is over."""
    _LAST.reading = None
