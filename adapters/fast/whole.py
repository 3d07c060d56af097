"""A whole adapted layer, y = W x + b + scaling gain c B A x, as one autograd function.

``function`` adds the same update to a base output that others computed. Where the base is a frozen matrix its
product is taken here, so that its gradient by x and the update's are one sum, gathered in the products
themselves over all layers that read the same x (``readers``). Values are those of ``function`` bit for bit,
gradients by x to rounding.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from manifold_lora.adapters.fast.function import added, kept_of, see
from manifold_lora.adapters.fast.gradients import (
    LearnedScalar,
    LogSlopes,
    Options,
    by_learned,
    moving,
    rank_gradients,
)
from manifold_lora.adapters.fast.numbers import row_norm
from manifold_lora.adapters.fast.readers import Gathered, Reading, reading_of
from manifold_lora.adapters.fast.scalars import Chart
from manifold_lora.adapters.fast.smooth import smooth_update


def update(
    x: Float[Tensor, "*tokens n"],
    weight: Float[Tensor, "m n"],
    bias: Float[Tensor, " m"] | None,
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    chart: Chart,
    gain: float | None,
    scaling: float,
    learned: Sequence[LearnedScalar],
) -> Float[Tensor, "*tokens m"]:
    """The layer's output for numpy's backend, with a graph; weight and bias are constants.

    Args:
        chart, gain: in numbers, those of ``function.update``.
        learned: the parameters that they are functions of.
    """
    reading = reading_of(x)
    if reading.norm is None:
        with torch.no_grad():
            reading.norm = row_norm(x.reshape(-1, x.shape[-1]))
    options = Options(chart.law, chart.edge, chart.limit, scaling * (1.0 if gain is None else gain), True)
    constants = chart.radius, chart.length
    if x.requires_grad and reading.gathered is None:
        reading.gathered, leads = Gathered(), True
    else:
        leads = False
    matrices = x, reading.first, weight, bias, A, B
    slopes, parameters = [slopes for _, slopes in learned], [parameter for parameter, _ in learned]
    output, first = _Whole.apply(*matrices, options, constants, slopes, reading, leads, *parameters)
    if leads:
        reading.first = first
    return output


# Before the learned scalars, in the order of ``forward``.
_ARGUMENTS = 11


class _Whole(torch.autograd.Function):
    """(y, an empty tensor): what took the second as ``first`` has its turn in the backward before this."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        first: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        options: Options,
        constants: tuple[float, float | None],
        log_slopes: list[LogSlopes],
        reading: Reading,
        leads: bool,
        *learned_by: Tensor,
    ) -> tuple[Tensor, Tensor]:
        seen = see(x, A, B, options.law, np, reading.norm)
        chart = Chart(options.law, *constants, options.edge, options.limit)
        kc, kept = kept_of(chart, seen.norms, bool(learned_by), options.scaling, x, np)
        ctx.save_for_backward(x, weight, bias, A, B, seen.u, seen.gram, kept, *learned_by)
        ctx.options, ctx.constants, ctx.log_slopes = options, constants, log_slopes
        # Weakly: the reading leads back to this node.
        ctx.leads, ctx.gathered = weakref.ref(reading) if leads else None, reading.gathered
        ctx.set_materialize_grads(False)
        output = added(functional.linear(x, weight, bias), x, B, seen, kc, in_place=True)
        return output, x.new_empty(0)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        reading = None if ctx.leads is None else ctx.leads()
        if reading is not None and reading.gathered is ctx.gathered:
            reading.end()
        if torch.is_grad_enabled():
            return _backward_of_any_order(ctx, g)
        with torch.no_grad():
            return _backward(ctx, g)


def _backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
    # Once: a checkpointed layer hands its saved tensors out a single time.
    x, weight, _, A, B, u, gram, kept, *learned_by = ctx.saved_tensors
    needs = ctx.needs_input_grad
    moved: list[Tensor | None] = [None] * (len(needs) - _ARGUMENTS)
    dA = dB = None
    if g is not None:
        rows = g.reshape(-1, g.shape[-1])
        asked = needs[0], needs[4], needs[5]
        found = rank_gradients(rows, x, A, B, u, gram, kept, ctx.options.law, asked)
        dA, dB = found.dA, found.dB
        if needs[0]:
            ctx.gathered.add(rows, weight, found.dU, A, found.along, x)
        if learned_by:
            moved = by_learned(found.slopes.sum(0), ctx.log_slopes, learned_by)
    dx = ctx.gathered.take(x) if needs[0] and ctx.leads is not None else None
    return dx, x.new_empty(0) if needs[1] else None, None, None, dA, dB, *[None] * 5, *moved


def _backward_of_any_order(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
    """The same gradients as functions of all they depend on, nothing gathered; for create_graph=True."""
    needs = ctx.needs_input_grad
    x, weight, bias, A, B, _, _, _, *learned_by = ctx.saved_tensors
    moved: list[Tensor | None] = [None] * len(needs)
    if g is None:
        return tuple(moved)
    chart, gain = moving(ctx.options, (*ctx.constants, 1.0), learned_by, ctx.log_slopes)
    output = functional.linear(x, weight, bias) + smooth_update(x, A, B, chart, gain, ctx.options.scaling)
    inputs = [x, None, None, None, A, B, *[None] * 5, *learned_by]
    wanted = [i for i, needed in enumerate(needs) if needed and i != 1]
    found = torch.autograd.grad(output, [inputs[i] for i in wanted], g, create_graph=True, allow_unused=True)
    for i, gradient in zip(wanted, found, strict=True):
        moved[i] = gradient
    moved[1] = x.new_empty(0) if needs[1] else None
    return tuple(moved)
