"""delta = c B A x with c from rank space, as one autograd function with a hand-derived backward.

Saved for the backward: x, u = A x, B^T B and two numbers a token. With s the LoRA scaling, k = s gain,
P = k g B, gamma = <P, u> row by row, the backward is

    dU = c P + gamma (c_q/q u G + ...),  dA = dU^T x,  dX = dU A + gamma (c_n/n) x,
    dB = g^T (k c u) + B (u^T diag(gamma c_q/q) u),  dR = sum gamma c_R.

The Gram matrix G = B^T B is float64: in float32 the gain of a token along B's weakest direction is wrong
by a half.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters import kernels
from manifold_lora.adapters.numbers import backend, constant, evaluate, numbers, tensor
from manifold_lora.adapters.precision import geometry_dtype
from manifold_lora.adapters.profile import Numbers, RadialProfile
from manifold_lora.adapters.row_norm import row_norm
from manifold_lora.adapters.token_scalars import Chart, Norms, gain_of, slopes_of
from manifold_lora.manifolds.errors import ManifoldLoraError

# Radius, length and gain: tensors where they are learned.
Constant = Tensor | float | None
# A parameter and how fast log R, log alpha and log gain move with it.
Knob = tuple[Tensor, tuple[float, float, float]]
# What the autograd function, whose arguments have to be flat, is told beside tensors: profile, edge, scaling.
Options = tuple[RadialProfile, float, float]


def update(
    base: Float[Tensor, "tokens m"] | None,
    x: Float[Tensor, "tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    chart: Chart,
    gain: Float[Tensor, "1"] | float | None,
    scaling: float,
    knobs: Sequence[Knob] = (),
) -> Float[Tensor, "tokens m"]:
    """base + scaling gain c B A x (no base: the second term alone), c the chart's gain for each token.

    Args:
        knobs: where chart and gain are numbers, the parameters that they are functions of.
    """
    on_device = kernels.fused_for(x, A, B)
    if on_device is not None and not knobs:
        return on_device.update(base, x, A, B, chart, gain, scaling)
    options = (chart.profile, chart.edge, scaling)
    inputs = (base, x, A, B, chart.radius, chart.length, gain)
    learned = [parameter for parameter, _ in knobs]
    if torch.is_grad_enabled() and any(
        isinstance(t, Tensor) and t.requires_grad for t in (*inputs, *learned)
    ):
        return _Fused.apply(*inputs, options, [rates for _, rates in knobs], *learned)
    with torch.no_grad():
        return _forward(*inputs, options)[0]


def _forward(
    base: Tensor | None,
    x: Tensor,
    A: Tensor,
    B: Tensor,
    radius: Constant,
    length: Constant,
    gain: Constant,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """(update, u, n, q, G); G is None where the tokens were so few that B u itself was measured."""
    scaling, xp = options[2], backend(x)
    u, n = x @ A.T, row_norm(x)
    if few(x, B):
        v, wide, gram = u @ B.T, u, None
        square = torch.linalg.vector_norm(v, dim=-1, keepdim=True, dtype=torch.float64).square_()
    else:
        wide, gram = u.double(), gram_of(B)
        square = ((wide @ gram) * wide).sum(-1, keepdim=True)
    q = xp.sqrt(numbers(square, xp).clip(min=0.0))
    chart = _chart(options, radius, length, xp)
    c = evaluate(gain_of, chart, _norms(options, wide, n, q, xp), xp=xp)
    k = tensor((c if gain is None else c * constant(gain, xp)) * scaling)
    if gram is None:
        delta = v * k.to(geometry_dtype(x))
        return (delta if base is None else base + delta).to(x.dtype), u, n, tensor(q), None
    w = narrow(wide * k, u.dtype)
    return (w @ B.T if base is None else torch.addmm(base, w, B.T)), u, n, tensor(q), gram


def _chart(options: Options, radius: Constant, length: Constant, xp: ModuleType) -> Chart:
    return Chart(options[0], constant(radius, xp), constant(length, xp), options[1])


def _norms(options: Options, u: Tensor, n: Tensor, q: Numbers, xp: ModuleType) -> Norms:
    rank = torch.linalg.vector_norm(u, dim=-1, keepdim=True, dtype=torch.float64) if options[0].bounded else n
    return Norms(numbers(n, xp), numbers(rank, xp), q)


def few(x: Tensor, B: Tensor) -> bool:
    """Is measuring B u cheaper than B^T B in float64?"""
    return x.shape[0] <= B.shape[1]


def gram_of(B: Tensor) -> Tensor:
    """B^T B in float64."""
    wide = B.double()
    return wide.T @ wide


def narrow(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to a dtype; float16, whose range a large gain leaves, saturates: infinity times B = 0 is NaN."""
    if dtype == torch.float16:
        wide = wide.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max)
    return wide.to(dtype)


def refuse_second_derivative() -> None:
    """For a backward: refuse create_graph=True, where torch's once_differentiable would err in silence."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        hint = "update.use('rank_space') has derivatives of every order"
        raise ManifoldLoraError("derivative of the fused update", "a second one", "the first", hint)


class _Fused(torch.autograd.Function):
    """base + scaling gain c B A x."""

    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor | None,
        x: Tensor,
        A: Tensor,
        B: Tensor,
        radius: Constant,
        length: Constant,
        gain: Constant,
        options: Options,
        rates: list[tuple[float, float, float]],
        *learned_by: Tensor,
    ) -> Tensor:
        update, u, n, q, gram = _forward(base, x, A, B, radius, length, gain, options)
        constants = (radius, length, gain)
        learned = [c if isinstance(c, Tensor) else None for c in constants]
        ctx.save_for_backward(x, A, B, u, n, q, gram, *learned)
        ctx.fixed = [None if isinstance(c, Tensor) else c for c in constants]
        ctx.options, ctx.rates = options, rates
        ctx.knob_dtypes = [parameter.dtype for parameter in learned_by]
        return update

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        with torch.no_grad():
            return _backward(ctx, g)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs, in the order of ``forward`` (formulas in the module docstring)."""
    x, A, B, u, n, q, gram, *learned = ctx.saved_tensors
    xp, needs = backend(x), ctx.needs_input_grad
    constants = (f if c is None else c for c, f in zip(learned, ctx.fixed, strict=True))
    radius, length, gain = (constant(c, xp) for c in constants)
    wide = u.double()
    norms = _norms(ctx.options, wide, n, numbers(q, xp), xp)
    slopes = evaluate(slopes_of, _chart(ctx.options, radius, length, xp), norms, xp=xp)
    factor = ctx.options[2] if gain is None else ctx.options[2] * gain
    P = (g @ B).double() * factor
    gamma = numbers((P * wide).sum(-1, keepdim=True), xp)
    by_out = tensor(gamma * slopes.by_out)
    dx = dA = dB = None
    if needs[1] or needs[2]:
        dU = tensor(slopes.gain) * P + by_out * (wide @ (gram_of(B) if gram is None else gram))
        if slopes.by_rank is not None:
            dU += tensor(gamma * slopes.by_rank) * wide
        dU = narrow(dU, u.dtype)
        dA = dU.T @ x if needs[2] else None
        # In place: a fresh (tokens, n) tensor costs more than the arithmetic on it.
        dx = (x * tensor(gamma * slopes.by_x).to(x.dtype)).addmm_(dU, A) if needs[1] else None
    if needs[3]:
        w = narrow(wide * tensor(slopes.gain * factor), u.dtype)
        dB = (g.T @ w).addmm_(B, (wide.T @ (by_out * wide)).to(B.dtype))
    sums = ((slopes.by_radius, radius), (slopes.by_length, length), (slopes.gain, gain))
    learnt = [
        tensor((gamma * slope).sum(0) / value) if needed else None
        for (slope, value), needed in zip(sums, needs[4:7], strict=True)
    ]
    knobs = _by_knobs(ctx, gamma, (slopes.by_radius, slopes.by_length, slopes.gain))
    return g if needs[0] else None, dx, dA, dB, *learnt, None, None, *knobs


def _by_knobs(ctx: Any, gamma: Numbers, slopes: tuple[Numbers, ...]) -> list[Tensor]:
    """The chain rule through log R, log alpha and log gain, for each parameter behind them."""
    sums = [float((gamma * slope).sum()) for slope in slopes]
    return [
        torch.tensor([sum(rate * part for rate, part in zip(rates, sums, strict=True))], dtype=dtype)
        for rates, dtype in zip(ctx.rates, ctx.knob_dtypes, strict=True)
    ]
