"""delta = c B A x with c from rank space, as one autograd function with a hand-derived backward.

Saved for the backward: x, u = A x, B^T B and the slopes of every token in geometry's dtype: c, by_out,
by_x, by_rank on a bounded chart, and one for each learned number: 12 to 24 bytes. With s the LoRA scaling,
k = s gain, P = k g B, gamma = <P, u> row by row, the backward is

    dU = c P + gamma (c_q/q u G + ...),  dA = dU^T x,  dX = dU A + gamma (c_n/n) x,
    dB = g^T (k c u) + B (u^T diag(gamma c_q/q) u),  dR = sum gamma c_R.

The Gram matrix G = B^T B is float64: in float32 the gain of a token along B's weakest direction is wrong
by a half.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters import kernels
from manifold_lora.adapters.numbers import backend, beside, constant, evaluate, numbers, tensor
from manifold_lora.adapters.precision import geometry_dtype
from manifold_lora.adapters.profile import Numbers, RadialProfile
from manifold_lora.adapters.row_norm import row_norm
from manifold_lora.adapters.token_scalars import Chart, Norms, Slopes, gain_of, slopes_of
from manifold_lora.manifolds.errors import ManifoldLoraError

# Radius, length and gain: tensors where they are learned.
Constant = Tensor | float | None
# A parameter and how fast log R, log alpha and log gain move with it.
Rates = tuple[float, float, float]
Knob = tuple[Tensor, Rates]
# What the autograd function, whose arguments have to be flat, is told beside tensors: profile, edge, scaling.
Options = tuple[RadialProfile, float, float]


class _Seen(NamedTuple):
    """What the tokens were found to be: u = A x, wide the same in float64, and their lengths.

    Of G = B^T B and v = B u there is one: v where the tokens were so few that B u itself was measured.
    """

    u: Tensor
    wide: Tensor
    gram: Tensor | None
    v: Tensor | None
    norms: Norms


def update(
    base: Float[Tensor, "tokens m"] | None,
    x: Float[Tensor, "*batch n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    chart: Chart,
    gain: Float[Tensor, "1"] | float | None,
    scaling: float,
    knobs: Sequence[Knob] = (),
) -> Float[Tensor, "tokens m"]:
    """base + scaling gain c B A x (no base: the second term alone), c the chart's gain for each token.

    x keeps the shape that its owner gave it: autograd adds up the gradients of one input in place, but not
    those that went through a view.

    Args:
        knobs: where chart and gain are numbers, the parameters that they are functions of.
    """
    on_device = kernels.fused_for(x, A, B)
    if on_device is not None and not knobs:
        return on_device.update(base, x.reshape(-1, x.shape[-1]), A, B, chart, gain, scaling)
    options = (chart.profile, chart.edge, scaling)
    inputs = (base, x, A, B, chart.radius, chart.length, gain)
    learned = [parameter for parameter, _ in knobs]
    if torch.is_grad_enabled() and any(
        isinstance(t, Tensor) and t.requires_grad for t in (*inputs, *learned)
    ):
        return _Fused.apply(*inputs, options, [rates for _, rates in knobs], *learned)
    with torch.no_grad():
        xp = backend(x)
        seen = _see(x, A, B, options[0], xp)
        c = evaluate(gain_of, _chart(options, chart.radius, chart.length, xp), seen.norms, xp=xp)
        return _added(base, x, B, seen, c, constant(gain, xp), scaling)


def _see(x: Tensor, A: Tensor, B: Tensor, profile: RadialProfile, xp: ModuleType) -> _Seen:
    x = x.reshape(-1, x.shape[-1])
    u, n = x @ A.T, row_norm(x)
    wide, v, gram = u.double(), None, None
    if few(x, B):
        v = u @ B.T
        square = torch.linalg.vector_norm(v, dim=-1, keepdim=True, dtype=torch.float64).square_()
    else:
        gram = gram_of(B)
        square = ((wide @ gram) * wide).sum(-1, keepdim=True)
    rank = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) if profile.bounded else n
    q = xp.sqrt(numbers(square, xp).clip(min=0.0))
    return _Seen(u, wide, gram, v, Norms(numbers(n, xp), numbers(rank, xp), q))


def _added(
    base: Tensor | None, x: Tensor, B: Tensor, seen: _Seen, c: Numbers, gain: Numbers | None, scaling: float
) -> Tensor:
    k = tensor((c if gain is None else c * gain) * scaling)
    if seen.v is not None:
        delta = seen.v * k.to(geometry_dtype(x))
        return (delta if base is None else base + delta).to(x.dtype)
    w = narrow(seen.wide * k, seen.u.dtype)
    return w @ B.T if base is None else torch.addmm(base, w, B.T)


def _chart(options: Options, radius: Constant, length: Constant, xp: ModuleType) -> Chart:
    return Chart(options[0], constant(radius, xp), constant(length, xp), options[1])


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
        rates: list[Rates],
        *learned_by: Tensor,
    ) -> Tensor:
        xp = backend(x)
        seen = _see(x, A, B, options[0], xp)
        chart = _chart(options, radius, length, xp)
        slopes = evaluate(slopes_of, chart, seen.norms, xp=xp)
        moved = _moved(slopes, (chart.radius, chart.length, constant(gain, xp)), ctx.needs_input_grad[4:7])
        turned = [_turned(slopes, one) for one in rates]
        columns = [slopes.gain, slopes.by_out, slopes.by_x]
        columns += [] if slopes.by_rank is None else [slopes.by_rank]
        kept = _finite(tensor(beside([*columns, *moved, *turned], xp)), geometry_dtype(x))
        ctx.save_for_backward(x, A, B, seen.u, seen.gram, kept, gain if isinstance(gain, Tensor) else None)
        ctx.options, ctx.gain = options, gain if isinstance(gain, float) else 1.0
        ctx.knob_dtypes = [parameter.dtype for parameter in learned_by]
        return _added(base, x, B, seen, slopes.gain, constant(gain, xp), options[2])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        with torch.no_grad():
            return _backward(ctx, g)


def _finite(columns: Tensor, dtype: torch.dtype) -> Tensor:
    """Round; where B = 0 some slopes are of any size, to be multiplied by 0, which infinity is not."""
    limit = torch.finfo(dtype).max
    return columns.clamp(-limit, limit).to(dtype)


def _moved(slopes: Slopes, constants: tuple[Numbers, ...], needs: Sequence[bool]) -> list[Numbers]:
    """dc by each of radius, length and gain that is learned as a tensor, over c's own factor."""
    by = (slopes.by_radius, slopes.by_length, slopes.gain)
    return [slope / value for slope, value, needed in zip(by, constants, needs, strict=True) if needed]


def _turned(slopes: Slopes, rates: Rates) -> Numbers:
    """The chain rule through log R, log alpha and log gain, for the parameter behind them."""
    by_radius, by_length, by_gain = rates
    turned = by_gain * slopes.gain
    if by_radius:
        turned = turned + by_radius * slopes.by_radius
    return turned + by_length * slopes.by_length if by_length else turned


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs, in the order of ``forward`` (formulas in the module docstring)."""
    x, A, B, u, gram, kept, gain = ctx.saved_tensors
    xp, needs = backend(x), ctx.needs_input_grad
    factor = ctx.options[2] * (ctx.gain if gain is None else constant(gain, xp))
    kept, wide = numbers(kept, xp), u.double()
    c, by_out, by_x, *rest = (kept[:, i : i + 1] for i in range(kept.shape[1]))
    P = (g @ B).double()
    gamma = numbers((P * wide).sum(-1, keepdim=True), xp) * factor
    carried, bent = tensor(c * factor), tensor(gamma * by_out)
    by_rank = rest.pop(0) if ctx.options[0].bounded else None
    dx = dA = dB = None
    if needs[1] or needs[2]:
        dU = (carried * P).addcmul_(bent, wide @ (gram_of(B) if gram is None else gram))
        if by_rank is not None:
            dU += tensor(gamma * by_rank) * wide
        dU = narrow(dU, u.dtype)
        dA = dU.T @ x.reshape(-1, x.shape[-1]) if needs[2] else None
        dx = _by_x(x, tensor(gamma * by_x), dU, A) if needs[1] else None
    if needs[3]:
        w = narrow(wide * carried, u.dtype)
        dB = (g.T @ w).addmm_(B, (wide.T @ (bent * wide)).to(B.dtype))
    sums = iter([tensor((gamma * slope).sum(0)) for slope in rest])
    moved = [next(sums) if needed else None for needed in needs[4:7]]
    turned = [by.to(dtype) for by, dtype in zip(sums, ctx.knob_dtypes, strict=True)]
    return g if needs[0] else None, dx, dA, dB, *moved, None, None, *turned


def _by_x(x: Tensor, along: Tensor, dU: Tensor, A: Tensor) -> Tensor:
    """dU A + along x."""
    dx = (x * along.to(x.dtype).view(*x.shape[:-1], 1)).contiguous()
    # In place: a fresh (tokens, n) tensor costs more than the arithmetic on it.
    dx.view(-1, x.shape[-1]).addmm_(dU, A)
    return dx
