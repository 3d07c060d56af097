"""delta = c B A x with c from rank space, as one autograd function with a hand-derived backward.

Saved for the backward: x, u = A x, B^T B and two numbers a token. With s the LoRA scaling, k = s gain,
P = k g B, gamma = <P, u> row by row, the backward is

    dU = c P + gamma (c_q/q u G + ...),  dA = dU^T x,  dX = dU A + gamma (c_n/n) x,
    dB = g^T (k c u) + B (u^T diag(gamma c_q/q) u),  dR = sum gamma c_R.

The Gram matrix G = B^T B is float64: in float32 the gain of a token along B's weakest direction is wrong
by a half.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.precision import geometry_dtype
from manifold_lora.adapters.profile import RadialProfile
from manifold_lora.adapters.row_norm import row_norm
from manifold_lora.adapters.token_scalars import Chart, Norms, gain_of, slopes_of
from manifold_lora.manifolds.errors import ManifoldLoraError

# One row of options for the autograd function, whose arguments have to be flat.
Options = tuple[RadialProfile, float, float]


def update(
    base: Float[Tensor, "tokens m"] | None,
    x: Float[Tensor, "tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    chart: Chart,
    gain: Float[Tensor, "1"] | None,
    scaling: float,
) -> Float[Tensor, "tokens m"]:
    """base + scaling gain c B A x (no base: the second term alone), c the chart's gain for each token."""
    options = (chart.profile, chart.edge, scaling)
    inputs = (base, x, A, B, chart.radius, chart.length, gain)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return _Fused.apply(*inputs, options)
    return _forward(*inputs, options)[0]


def _forward(
    base: Tensor | None,
    x: Tensor,
    A: Tensor,
    B: Tensor,
    radius: Tensor,
    length: Tensor | None,
    gain: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """(update, u, n, q, G); G is None where the tokens were so few that B u itself was measured."""
    profile, edge, scaling = options
    chart = Chart(profile, radius, length, edge)
    u = x @ A.T
    wide = u.double()
    n = row_norm(x)
    rank = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) if profile.bounded else n
    if few(x, B):
        v = u @ B.T
        q = torch.linalg.vector_norm(v, dim=-1, keepdim=True, dtype=torch.float64)
        delta = v * _factor(gain_of(chart, Norms(n, rank, q)), gain, scaling).to(geometry_dtype(x))
        return (delta if base is None else base + delta).to(x.dtype), u, n, q, None
    gram = gram_of(B)
    q = ((wide @ gram) * wide).sum(-1, keepdim=True).clamp_min(0.0).sqrt()
    w = narrow(wide * _factor(gain_of(chart, Norms(n, rank, q)), gain, scaling), u.dtype)
    return (w @ B.T if base is None else torch.addmm(base, w, B.T)), u, n, q, gram


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


def _factor(c: Tensor, gain: Tensor | None, scaling: float) -> Tensor:
    return (c if gain is None else c * gain) * scaling


class _Fused(torch.autograd.Function):
    """base + scaling gain c B A x."""

    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor | None,
        x: Tensor,
        A: Tensor,
        B: Tensor,
        radius: Tensor,
        length: Tensor | None,
        gain: Tensor | None,
        options: Options,
    ) -> Tensor:
        update, u, n, q, gram = _forward(base, x, A, B, radius, length, gain, options)
        ctx.save_for_backward(x, A, B, radius, length, gain, u, n, q, gram)
        ctx.options = options
        return update

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        # Torch's own once_differentiable would treat this gradient as a constant and say nothing.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            hint = "update.use('rank_space') has derivatives of every order"
            raise ManifoldLoraError("derivative of the fused update", "a second one", "the first", hint)
        with torch.no_grad():
            return _backward(ctx, g)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs, in the order of ``forward`` (formulas in the module docstring)."""
    x, A, B, radius, length, gain, u, n, q, gram = ctx.saved_tensors
    profile, edge, scaling = ctx.options
    needs_base, needs_x, needs_A, needs_B, needs_radius, needs_length, needs_gain, _ = ctx.needs_input_grad
    wide = u.double()
    rank = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) if profile.bounded else n
    slopes = slopes_of(Chart(profile, radius, length, edge), Norms(n, rank, q))
    factor = scaling if gain is None else scaling * gain
    P = (g @ B).double() * factor
    gamma = (P * wide).sum(-1, keepdim=True)
    by_out = gamma * slopes.by_out
    dx = dA = dB = dradius = dlength = dgain = None
    if needs_x or needs_A:
        dU = slopes.gain * P + by_out * (wide @ (gram_of(B) if gram is None else gram))
        if slopes.by_rank is not None:
            dU = dU + gamma * slopes.by_rank * wide
        dU = narrow(dU, u.dtype)
        dA = dU.T @ x if needs_A else None
        dx = torch.addmm(x * (gamma * slopes.by_x).to(x.dtype), dU, A) if needs_x else None
    if needs_B:
        w = narrow(wide * (slopes.gain * factor), u.dtype)
        inner = (wide.T @ (by_out * wide)).to(B.dtype)
        dB = torch.addmm(g.T @ w, B, inner)
    if needs_radius:
        dradius = (gamma * slopes.by_radius).sum(0) / radius
    if needs_length:
        dlength = (gamma * slopes.by_length).sum(0) / length
    if needs_gain:
        dgain = (gamma * slopes.gain).sum(0) / gain
    return g if needs_base else None, dx, dA, dB, dradius, dlength, dgain, None
