"""Layers that read one x: what one of them has found out about it serves those that come after.

The first of them measures abs(x), and its node in the graph is where the others' gradients by x are gathered,
each added inside its own matrix product to one tensor. Nobody has to know beforehand who reads what: by the
identity of its input alone a layer is one of several readers, from the first pass on.
"""

import threading
import weakref
from typing import Any

import torch
from torch import Tensor


class Gathered:
    """The gradient by x of the readers that had their turn in one backward pass, without its part along x.

    Args:
        dx: sum g W + dU A so far, of the shape of x; None before the first.
        along: (tokens, 1), what x itself is to be multiplied by and added.
    """

    def __init__(self) -> None:
        self.dx: Tensor | None = None
        self.along: Tensor | None = None
        self._pass = -1

    def add(self, g: Tensor, weight: Tensor, dU: Tensor, A: Tensor, along: Tensor, like: Tensor) -> None:
        """One reader's share, from its upstream gradient (tokens, m) and rank-space gradient (tokens, r)."""
        self._begin()
        if self.dx is None or self.along is None:
            self.dx, self.along = like.new_empty(like.shape), along
            torch.mm(g, weight, out=self.dx.view(-1, like.shape[-1]))
            self.dx.view(-1, like.shape[-1]).addmm_(dU, A)
            return
        self.dx.view(-1, like.shape[-1]).addmm_(g, weight).addmm_(dU, A)
        self.along = self.along + along

    def take(self, x: Tensor) -> Tensor | None:
        """The whole gradient by x, once; None if nobody has added to it in this backward pass."""
        self._begin()
        dx, along, self.dx, self.along = self.dx, self.along, None, None
        if dx is not None and along is not None:
            dx.addcmul_(x, along.to(x.dtype).view(*x.shape[:-1], 1))
        return dx

    def _begin(self) -> None:
        # What an earlier pass left, which did not want x's gradient, is not this one's.
        now = torch._C._current_graph_task_id()
        if now != self._pass:
            self.dx = self.along = None
            self._pass = now


class Reading:
    """One x as it is being read.

    Args:
        x: the tensor that the layers are given; held weakly.

    ``norm`` is abs(x) of each row in float64, once somebody has measured it. ``first`` leads to the node of
    the first reader with a gradient, ``gathered`` is what that one will hand on.
    """

    def __init__(self, x: Tensor) -> None:
        self._x, self._version = weakref.ref(x), x._version
        self.norm: Any = None
        self.first: Tensor | None = None
        self.gathered: Gathered | None = None

    def is_of(self, x: Tensor) -> bool:
        """Is it this very tensor, unchanged since?"""
        return self._x() is x and self._version == x._version

    def end(self) -> None:
        """Gather no more: the graph that ``first`` leads to is used up."""
        self.first = self.gathered = None


class _Last(threading.local):
    reading: Reading | None = None


# Of each thread, and nobody else's to hold: ``first`` keeps a graph alive, until its backward, the next x or
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
