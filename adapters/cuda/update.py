"""``fused_function`` on Triton: the same update, gradients and signature, two passes over x in all.

Forward: one kernel reads x for u = A x and |x|^2, one turns u into w = s c u, cuBLAS adds w B^T to the base
output. Backward: one kernel for all numbers per token, one pass over x for dX and dA. G = B^T B is float64.
Sums over tokens are of partial sums in a fixed order, so that a step can be repeated to the last bit. Imports
Triton; reached through ``kernels.fused_for`` only.

Unmeasured: no GPU was lent. The kernels run in Triton's interpreter and compile for sm_80 and sm_90.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.cuda import launch
from manifold_lora.adapters.cuda.launch import Constants
from manifold_lora.adapters.fast.scalars import Chart
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.conformal import BALL, ROUND
from manifold_lora.manifolds.lorentz import HYPERBOLIC
from manifold_lora.manifolds.radial_law import RadialLaw
from manifold_lora.manifolds.sphere import SPHERICAL

_KINDS = {HYPERBOLIC: "hyperbolic", BALL: "ball", SPHERICAL: "spherical", ROUND: "round"}
Shape = tuple[RadialLaw, bool, float, float]


def serves(law: RadialLaw) -> bool:
    """Are the kernels written for this law? A geometry whose law is another one takes torch."""
    return law in _KINDS


def update(
    base: Float[Tensor, "tokens m"] | None,
    x: Float[Tensor, "tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    chart: Chart,
    gain: Float[Tensor, "1"] | float | None,
    scaling: float,
) -> Float[Tensor, "tokens m"]:
    """base + scaling gain c B A x (no base: the second term alone), c the chart's gain for each token."""
    radius, length, factor = _constants(x, chart, gain, scaling)
    inputs = (base, x, A, B, radius, length, factor)
    shape = (chart.law, chart.length is not None, chart.edge, chart.limit)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return _Fused.apply(*inputs, shape)
    with torch.no_grad():
        return _forward(*inputs, shape)[0]


def _constants(
    x: Tensor, chart: Chart, gain: Tensor | float | None, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """R, alpha (any number where tokens keep their lengths) and scaling * gain: one float64 each."""
    radius = _on_device(chart.radius, x)
    length = radius if chart.length is None else _on_device(chart.length, x)
    factor = _on_device(scaling if gain is None else scaling * gain, x)
    return radius, length, factor


def _on_device(value: Tensor | float, x: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(x.device, torch.float64).reshape(1)
    return torch.full((1,), value, device=x.device, dtype=torch.float64)


def _forward(
    base: Tensor | None,
    x: Tensor,
    A: Tensor,
    B: Tensor,
    radius: Tensor,
    length: Tensor,
    factor: Tensor,
    shape: Shape,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(update, u, |x|^2, G)."""
    gram = launch.cross(B, B)
    u, square = launch.project(x, A)
    w = launch.gains(u, gram, square, _bundle(shape, radius, length, factor))
    return (w @ B.T if base is None else torch.addmm(base, w, B.T)), u, square, gram


def _bundle(shape: Shape, radius: Tensor, length: Tensor, factor: Tensor) -> Constants:
    law, unit, edge, limit = shape
    bent = 2 * law.exit.terms_at_0[1]
    return Constants(radius, length, factor, _KINDS[law], unit, law.cap, edge, limit, bent)


class _Fused(torch.autograd.Function):
    """base + factor c B A x."""

    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor | None,
        x: Tensor,
        A: Tensor,
        B: Tensor,
        radius: Tensor,
        length: Tensor,
        factor: Tensor,
        shape: Shape,
    ) -> Tensor:
        update, u, square, gram = _forward(base, x, A, B, radius, length, factor, shape)
        ctx.save_for_backward(x, A, B, u, square, gram, radius, length, factor)
        ctx.shape = shape
        return update

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            hint = "update.use('rank_space') has derivatives of every order"
            raise ManifoldLoraError("derivative of the update on a GPU", "a second one", "the first", hint)
        with torch.no_grad():
            return _backward(ctx, g)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs, in the order of ``forward`` (formulas in ``fused_function``)."""
    x, A, B, u, square, gram, radius, length, factor = ctx.saved_tensors
    needs = ctx.needs_input_grad
    found = launch.slopes(g @ B, u, gram, square, _bundle(ctx.shape, radius, length, factor))
    dx, dA = launch.pull_back(x, A, found.dU, found.along, needs[1], needs[2])
    dB = None
    if needs[3]:
        dB = (g.T @ found.w).addmm_(B, launch.cross(u, found.bent).to(B.dtype))
    by_radius, by_length, by_factor = found.sums.split(1)
    # Where tokens keep their lengths ``length`` is the radius once more, with no part in c.
    learnt = (
        by_radius / radius if needs[4] else None,
        by_length / length if needs[5] and ctx.shape[1] else None,
        by_factor if needs[6] else None,
    )
    return g if needs[0] else None, dx, dA, dB, *learnt, None
