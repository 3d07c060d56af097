"""expmap0 and logmap0 of radial charts, each with its own gradient: one number a row times the row.

With t = |x|/R the result is R F(t) x/|x|, F being phi or psi of a law; f = F/t. ``k`` is 1/R^2.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_lora.manifolds import columns as col
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.conformal_pair import MARGIN
from manifold_lora.manifolds.hyperboloid import farthest, longest
from manifold_lora.manifolds.operation import Grads, Operation, Part, Parts, Rows
from manifold_lora.manifolds.radial_law import Even, RadialLaw
from manifold_lora.manifolds.scratch import Scratch


class _Stretch(Operation):
    """f x, and the coordinate that precedes it."""

    holds = True
    function: Any
    slope: Any
    even: Even

    def cap(self, k: Any) -> Any:
        """The largest t that F is asked for; None: any."""
        return None

    def led(self, k: Any, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor] | None:
        """T, the preceding coordinate over R, and its derivative by t; None where there is none."""
        return None

    def forward(self, k: Any, exact: bool, pad: Scratch, *rows: Tensor) -> tuple[Parts, Rows]:
        (x,) = rows
        size = col.norm(x)
        if exact and (size.device.type != "cpu" or size.amax().item() == math.inf):
            size = fn.norm(x)
        t = (size * k**0.5).clamp_(min=col.TINY)
        cap, room = self.cap(k), self.room(k, torch.float64 if exact else torch.float32)
        within = t if cap is None else t.clamp(max=cap)
        value, slope = self.function(torch, within), self.slope(torch, within)
        if cap is not None:
            slope = torch.where(within < t, 0.0, slope)
        if room is not None:
            edge = room * k**0.5
            slope, value = torch.where(value > edge, 0.0, slope), value.clamp(max=edge)
        space, first = ((value / t, x),), self.led(k, value, slope)
        kept = size, value, slope
        return ((space,) if first is None else (first[0] * k**-0.5, space)), kept

    def backward(
        self, k: Any, pad: Scratch, g: Rows, saved: Rows, rows: Rows, needs: Sequence[bool]
    ) -> Grads:
        (x,), (size, value, slope), row = rows, saved, g[-1]
        t, first = (size * k**0.5).clamp_(min=col.TINY), self.led(k, value, slope)
        f, on_x = value / t, pad.dot(row, x)
        by_x = (slope - f) * col.over(col.over(on_x, size), size)
        if first is not None:
            by_x += col.over(g[0] * first[1], size)
        grads: list[Part | None] = [((f, row), (by_x, x)) if needs[1] else None]
        if not needs[0]:
            return grads, None
        q = t.square()
        by_k = on_x * size.square() * torch.where(q < fn.SERIES, self._f_slope(q), (slope - f) / (2 * q))
        if first is not None:
            by_k -= g[0] * (first[0] - t * first[1]) / (2 * k**1.5)
        return grads, by_k

    def _f_slope(self, q: Tensor) -> Tensor:
        """df/dq for small q = t^2, from f's power series."""
        terms = self.even.terms[torch.float64]
        total = torch.zeros_like(q)
        for power, term in zip(range(len(terms) - 1, 0, -1), terms[:-1], strict=True):
            total.mul_(q).add_(power * term)
        return total


class ExpMap0(_Stretch):
    """phi(a)/a v with a = |v|/R, held inside a bounded chart."""

    points, gives_point = 0, True

    def __init__(self, law: RadialLaw) -> None:
        self.function, self.slope, self.even, self.bounded = law.phi, law.phi_slope, law.entry, law.bounded

    def room(self, k: Any, dtype: torch.dtype) -> Any:
        return _edge(dtype) * k**-0.5 if self.bounded else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        (v,) = arguments
        return self.even.of_square(k * fn.square(v)) * v


class HyperbolicExpMap0(ExpMap0):
    """The same led by cosh(a) R = sqrt(R^2 + |s|^2)."""

    def cap(self, k: Any) -> Any:
        return farthest(k, torch.float64)

    def room(self, k: Any, dtype: torch.dtype) -> Any:
        return longest(dtype) / 8

    def led(self, k: Any, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor] | None:
        time = torch.hypot(value, torch.ones_like(value))
        return time, value * slope / time

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        (v,) = arguments
        reach = (farthest(k, k.dtype) * k.rsqrt()).detach()
        space = super().smooth(k, v * fn.within(fn.norm(v), reach))
        return torch.cat([fn.hypot(k.rsqrt(), fn.norm(space)), space], -1)


class LogMap0(_Stretch):
    """psi(b)/b x with b = |x|/R, held inside a bounded chart."""

    points = 1

    def __init__(self, law: RadialLaw, leading: int = 0) -> None:
        self.function, self.slope, self.even, self.bounded = law.psi, law.psi_slope, law.exit, law.bounded
        self.leading = leading

    def cap(self, k: Any) -> Any:
        return _edge(torch.float64) if self.bounded else None

    def smooth(self, k: Tensor, *arguments: Tensor) -> Tensor:
        x = arguments[0][..., self.leading :]
        if not self.bounded:
            return self.even.of(k.sqrt() * fn.norm(x)) * x
        q = k * fn.square(x)
        edge = q.new_full((1,), _edge(q.dtype) ** 2)
        return self.even.of_square(fn.capped(q, edge)) * fn.root(fn.within(q, edge)) * x


def _edge(dtype: torch.dtype) -> float:
    """How far out points of a bounded chart are kept, over R."""
    return 1 - MARGIN * torch.finfo(dtype).eps
