"""The fused update by operations that autograd differentiates: for derivatives of its backward."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.numbers import narrow
from manifold_lora.adapters.fast.rank_space import direct_gain, norm_of
from manifold_lora.adapters.fast.scalars import Chart
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.radial_law import RadialLaw


def smooth_update(
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    chart: Chart,
    gain: Any,
    scaling: float,
) -> Float[Tensor, "*tokens m"]:
    """scaling gain c B A x, radius, length and gain of the chart being float64 tensors (or None)."""
    law, radius, norm, u = chart.law, chart.radius, norm_of(x), x @ A.T
    wide, up = u.double(), B.double()
    square = ((wide @ (up.T @ up)) * wide).sum(-1, keepdim=True).clamp_min(0.0)
    whole = norm if chart.length is None else chart.length * torch.ones_like(norm)
    entered = whole if chart.limit == math.inf else whole * functions.within(whole, chart.limit * radius)
    c = direct_gain(
        lambda sq: law.entry.of_square(sq / radius.square()),
        lambda sq: _psi_inside(law, sq / radius.square(), chart.edge),
        entered,
        functions.ratio(entered, norm),
        square,
        wide.square().sum(-1, keepdim=True) if law.bounded else None,
        chart.edge * radius if law.bounded else None,
        law.cap * radius if law.grows else None,
    )
    factor = scaling * c * (1.0 if gain is None else gain)
    factor = factor if chart.length is None else factor * functions.ratio(whole, norm)
    return narrow(wide * factor, u.dtype) @ B.T


def _psi_inside(law: RadialLaw, q: Tensor, edge: float) -> Tensor:
    """psi(b)/b at b^2 = q, coordinates beyond the edge brought back to it."""
    if not law.bounded:
        return law.exit.of_square(q)
    bound = q.new_full((1,), edge * edge)
    return law.exit.of_square(functions.capped(q, bound)) * functions.root(functions.within(q, bound))
