"""A whole adapted layer, y = W x + b + scaling gain c B A x, as one autograd function.

``function`` adds the same update to a base output that others computed. Where the base is a frozen matrix its
product is taken here, so that its gradient by x and the update's are one sum, gathered in the products
themselves over all layers that read the same x (``readers``). Values are those of ``function`` bit for bit,
gradients by x to rounding.
"""

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
from manifold_lora.adapters.fast.readers import Reading, Share, reading_of
from manifold_lora.adapters.fast.scalars import Chart
from manifold_lora.adapters.fast.smooth import smooth_update
from manifold_lora.adapters.token_scale import TokenScale


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
    token: TokenScale | None = None,
) -> Float[Tensor, "*tokens m"]:
    """The layer's output for numpy's backend, with a graph; weight and bias are constants.

    Args:
        chart, gain: in numbers, those of ``function.update``.
        learned: the parameters that they are functions of.
        token: what the radius is divided by for each token.
    """
    reading = reading_of(x)
    if reading.norm is None:
        with torch.no_grad():
            reading.norm = row_norm(x.reshape(-1, x.shape[-1]))
    if reading.gathered is not None:
        reading.gathered.readers += 1
    scaling = scaling * (1.0 if gain is None else gain)
    options = Options(chart.law, chart.edge, chart.limit, scaling, True, token)
    constants = chart.radius, chart.length
    slopes, parameters = [slopes for _, slopes in learned], [parameter for parameter, _ in learned]
    parameters += [] if token is None else token.learned()
    output: Tensor = _Whole.apply(
        x, reading.door, weight, bias, A, B, options, constants, slopes, reading, *parameters
    )
    return output


# Before the learned scalars, in the order of ``forward``.
_ARGUMENTS = 10


class _Whole(torch.autograd.Function):
    """y; the gradient by x goes through the door."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        door: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        options: Options,
        constants: tuple[float, float | None],
        log_slopes: list[LogSlopes],
        reading: Reading,
        *learned_by: Tensor,
    ) -> Tensor:
        seen = see(x, A, B, options.law, np, reading.norm)
        chart = Chart(options.law, *constants, options.edge, options.limit)
        by_learned = bool(learned_by)
        kc, kept = kept_of(chart, seen.norms, by_learned, options.scaling, x, np, options.token)
        ctx.save_for_backward(
            x, weight if x.requires_grad else None, A, B, seen.u, seen.gram, kept, *learned_by
        )
        ctx.options, ctx.constants, ctx.log_slopes = options, constants, log_slopes
        ctx.gathered = reading.gathered
        return added(functional.linear(x, weight, bias), x, B, seen, kc, in_place=True)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _backward_of_any_order(ctx, g)
        with torch.no_grad():
            return _backward(ctx, g)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    # Once: a checkpointed layer hands its saved tensors out a single time.
    x, weight, A, B, u, gram, kept, *learned_by = ctx.saved_tensors
    needs, rows = ctx.needs_input_grad, g.reshape(-1, g.shape[-1])
    found = rank_gradients(rows, x, A, B, u, gram, kept, ctx.options.law, (needs[0], needs[4], needs[5]))
    if needs[0]:
        ctx.gathered.add(rows, weight, [Share(found.dU, A, found.along)], x)
    moved = by_learned(found.slopes.sum(0, dtype=torch.float64), ctx.log_slopes, learned_by)
    return None, None, None, None, found.dA, found.dB, *[None] * 4, *moved


def _backward_of_any_order(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients as functions of all they depend on, past the door; for create_graph=True."""
    x, weight, A, B, _, _, _, *learned_by = ctx.saved_tensors
    chart, gain = moving(ctx.options, (*ctx.constants, 1.0), learned_by, ctx.log_slopes, x)
    delta = smooth_update(x, A, B, chart, gain, ctx.options.scaling)
    inputs = [x, None, None, None, A, B, *[None] * 4, *learned_by]
    wanted = [i for i, needed in enumerate(ctx.needs_input_grad) if needed and i != 1]
    found = torch.autograd.grad(delta, [inputs[i] for i in wanted], g, create_graph=True, allow_unused=True)
    moved: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(wanted, found, strict=True):
        moved[i] = gradient
    if moved[0] is not None:
        moved[0] = moved[0] + g @ weight
    return tuple(moved)
