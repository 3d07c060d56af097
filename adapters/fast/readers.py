"""Layers that read one x: what one of them has found out about it serves those that come after.

The first of them measures abs(x) and sets up a node of the graph through which the gradients of all go to x,
each added inside a matrix product to one tensor. Nobody has to know beforehand who reads what: by the
identity of its input alone a layer is one of several readers, from the first pass on.
"""

import threading
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.adapters.fast.products import plus_product, product


class Gathered:
    """The gradient by x of the readers that had their turn in one backward pass."""

    def __init__(self) -> None:
        # How many layers took the door: as many may come back through it.
        self.readers = 0
        self._found: _Found | None = None
        self._pass = -1

    def add(self, g: Tensor, weight: Tensor, dU: Tensor, A: Tensor, along: Tensor, x: Tensor) -> None:
        """One reader's share, from its upstream gradient (tokens, m) and rank-space gradient (tokens, r)."""
        self._begin()
        if self._found is None:
            self._found = _Found(product(g, weight), along, x, [])
        else:
            dx, before, _, pairs = self._found
            self._found = _Found(plus_product(dx, g, weight), before + along, x, pairs)
        # A as it is now: an optimizer that steps inside the backward pass may come before the last reader.
        self._found.pairs.append((dU, A if self.readers == 1 else A.clone()))
        if self.readers == 1:
            self._found = self._found.whole()

    def take(self) -> Tensor | None:
        """The whole gradient by x, once; None if nobody has added to it in this backward pass."""
        self._begin()
        found, self._found = self._found, None
        if found is None:
            return None
        dx, along, x, _ = found.whole()
        return dx.view(x.shape).addcmul_(x, along.to(x.dtype).view(*x.shape[:-1], 1))

    def _begin(self) -> None:
        # What an earlier pass left, which did not want x's gradient, is not this one's.
        now = torch._C._current_graph_task_id()
        if now != self._pass:
            self._found, self._pass = None, now


class _Found(NamedTuple):
    """sum g W (tokens, n), what x itself is to be multiplied by (tokens, 1), x, and all (dU, A)."""

    dx: Tensor
    along: Tensor
    x: Tensor
    pairs: list[tuple[Tensor, Tensor]]

    def whole(self) -> "_Found":
        """sum dU A added as well, in one product."""
        if not self.pairs:
            return self
        dUs, As = zip(*self.pairs, strict=True)
        dU, A = (one[0] if len(one) == 1 else torch.cat(one, dim) for one, dim in ((dUs, 1), (As, 0)))
        return self._replace(dx=plus_product(self.dx, dU, A), pairs=[])


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
