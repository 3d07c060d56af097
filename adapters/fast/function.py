"""delta = c B A x with c from rank space, as one autograd function with a hand-derived backward.

Saved for the backward: x, u = A x, B^T B and of every token c, by_out, by_x, by_rank on a bounded chart and
R dc/dR if something is learned, each times k = scaling gain, in geometry's dtype: 12 to 20 bytes. With g the
upstream gradient, P = g B, gamma = <P, u> row by row, the backward is

    dU = k c P + gamma k (c_q/q u G + ...),  dA = dU^T x,  dX = dU A + gamma k (c_n/n) x,
    dB = g^T (k c u) + B (u^T diag(gamma k c_q/q) u),  dR = k sum gamma c_R.

The Gram matrix G = B^T B is float64: in float32 the gain of a token along B's weakest direction is wrong
by a half.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast import choice as kernels
from manifold_lora.adapters.fast.gradients import (
    Constant,
    LearnedScalar,
    LogSlopes,
    Options,
    by_learned,
    moving,
    rank_gradients,
)
from manifold_lora.adapters.fast.numbers import (
    at_least,
    backend,
    beside,
    constant,
    evaluate,
    finite,
    gram_of,
    narrow,
    numbers,
    row_norm,
    tensor,
)
from manifold_lora.adapters.fast.products import plus_product, product
from manifold_lora.adapters.fast.scalars import SMALLEST_NORM, Chart, Norms, at_tokens, gain_of, slopes_of
from manifold_lora.adapters.fast.smooth import smooth_update
from manifold_lora.adapters.precision import geometry_dtype
from manifold_lora.adapters.token_scale import TokenScale
from manifold_lora.manifolds.radial_law import Numbers, RadialLaw


class TokenNorms(NamedTuple):
    """What the tokens were found to be: u = A x, wide the same in float64, and their lengths.

    Of G = B^T B and v = B u there is one: v where the tokens were so few that B u itself was measured.
    """

    u: Tensor
    wide: Tensor
    gram: Tensor | None
    v: Tensor | None
    norms: Norms


def update(
    base: Float[Tensor, "*batch m"] | None,
    x: Float[Tensor, "*batch n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    chart: Chart,
    gain: Float[Tensor, "1"] | float | None,
    scaling: float,
    learned: Sequence[LearnedScalar] = (),
    in_place: bool = False,
    token: TokenScale | None = None,
) -> Float[Tensor, "*batch m"]:
    """base + scaling gain c B A x (no base: the second term alone), c the chart's gain for each token.

    base and x keep the shape that their owner gave them: autograd adds up the gradients of one input in
    place, but not those that went through a view.

    Args:
        learned: where chart and gain are numbers, the parameters that they are functions of.
        in_place: base is nobody else's, so that the sum may be written over it.
        token: what the radius is divided by for each token; for numpy's backend.
    """
    on_device = kernels.fused_for(x, A, B)
    if on_device is not None and not learned and on_device.serves(chart.law):
        output = on_device.update(_rows(base), _rows(x), A, B, chart, gain, scaling)
        return output.view(*x.shape[:-1], output.shape[-1])
    options = Options(chart.law, chart.edge, chart.limit, scaling, in_place, token)
    inputs = (base, x, A, B, chart.radius, chart.length, gain)
    parameters = [*(parameter for parameter, _ in learned), *([] if token is None else token.learned())]
    if torch.is_grad_enabled() and any(
        isinstance(t, Tensor) and t.requires_grad for t in (*inputs, *parameters)
    ):
        return _Fused.apply(*inputs, options, [slopes for _, slopes in learned], *parameters)
    with torch.no_grad():
        xp = backend(x)
        seen = see(x, A, B, options.law, xp)
        own = _chart(options, chart.radius, chart.length, xp)
        if token is not None:
            own = evaluate(at_tokens, own, seen.norms.x, token, xp=xp)
        c = evaluate(gain_of, own, seen.norms, xp=xp)
        return added(base, x, B, seen, c * _factor(scaling, gain, xp), in_place)


def _rows(x: Tensor | None) -> Any:
    return None if x is None else x.reshape(-1, x.shape[-1])


def _factor(scaling: float, gain: Constant, xp: ModuleType) -> Numbers:
    one: Numbers = 1.0 if gain is None else constant(gain, xp)
    return scaling * one


def see(
    x: Tensor, A: Tensor, B: Tensor, law: RadialLaw, xp: ModuleType, n: Tensor | None = None
) -> TokenNorms:
    """What the tokens are in rank space; ``n`` is ``row_norm`` of them where it is known."""
    x = x.reshape(-1, x.shape[-1])
    u, n = product(x, A.T), row_norm(x) if n is None else n
    wide, v, gram = u.double(), None, None
    if fewer_tokens_than_rank(x, B):
        v = u @ B.T
        square = torch.linalg.vector_norm(v, dim=-1, keepdim=True, dtype=torch.float64).square_()
    else:
        gram = gram_of(B)
        square = ((wide @ gram) * wide).sum(-1, keepdim=True)
    rank = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) if law.bounded else n
    q = xp.sqrt(at_least(numbers(square, xp), 0.0, xp))
    return TokenNorms(u, wide, gram, v, Norms(numbers(n, xp), numbers(rank, xp), q))


def added(
    base: Tensor | None, x: Tensor, B: Tensor, seen: TokenNorms, kc: Numbers, in_place: bool = False
) -> Tensor:
    """base + kc B u, over base itself if that is allowed."""
    factor = tensor(kc)
    if seen.v is not None:
        delta = (seen.v * factor.to(geometry_dtype(x))).view(*x.shape[:-1], B.shape[0])
        if base is None:
            return delta.to(x.dtype)
        return base.add_(delta) if in_place else (base + delta).to(x.dtype)
    w = narrow(seen.wide * factor, seen.u.dtype)
    if base is not None and in_place:
        base.view(-1, B.shape[0]).addmm_(w, B.T)
        return base
    rows = w @ B.T if base is None else torch.addmm(_rows(base), w, B.T)
    return rows.view(*x.shape[:-1], B.shape[0])


def _chart(options: Options, radius: Constant, length: Constant, xp: ModuleType) -> Chart:
    return Chart(options.law, constant(radius, xp), constant(length, xp), options.edge, options.limit)


def fewer_tokens_than_rank(x: Tensor, B: Tensor) -> bool:
    """Is measuring B u cheaper than B^T B in float64?"""
    return x.shape[0] <= B.shape[1]


def kept_of(
    chart: Chart,
    norms: Norms,
    by_constants: bool,
    factor: Numbers,
    x: Tensor,
    xp: ModuleType,
    token: TokenScale | None = None,
) -> tuple[Numbers, Tensor]:
    """(k c, the columns that the backward reads) with k = ``factor``."""
    columns = evaluate(_columns, chart, norms, by_constants, token, xp=xp)
    kept = finite(tensor(beside(columns, xp) * factor), geometry_dtype(x))
    return columns[0] * factor, kept


def _columns(
    chart: Chart, norms: Norms, by_constants: bool, token: TokenScale | None, xp: ModuleType
) -> list[Numbers]:
    """c, by_out, by_x, by_rank on a bounded chart, by_radius if needed, by what a token scale learns."""
    if token is None:
        slopes = slopes_of(chart, norms, by_constants, xp)
        return [one for one in slopes if one is not None]
    moved = token.in_numpy(norms.x)
    slopes = slopes_of(chart._replace(radius=chart.radius / moved.factor), norms, True, xp)
    by_radius: Numbers = slopes.by_radius
    # log of a token's radius = log R - log lambda.
    turned = slopes.by_x - by_radius * moved.by_norm / xp.square(at_least(norms.x, SMALLEST_NORM, xp))
    columns = slopes._replace(by_x=turned)
    return [*(one for one in columns if one is not None), *(-by_radius * one for one in moved.by_learned)]


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
        log_slopes: list[LogSlopes],
        *learned_by: Tensor,
    ) -> Tensor:
        xp = backend(x)
        seen = see(x, A, B, options.law, xp)
        chart = _chart(options, radius, length, xp)
        by_constants = bool(learned_by) or any(ctx.needs_input_grad[4:7])
        k = _factor(options.scaling, gain, xp)
        kc, kept = kept_of(chart, seen.norms, by_constants, k, x, xp, options.token)
        constants = [value if isinstance(value, Tensor) else None for value in (radius, length, gain)]
        ctx.save_for_backward(x, A, B, seen.u, seen.gram, kept, *constants, *learned_by)
        ctx.options, ctx.log_slopes = options, log_slopes
        ctx.numbers = [None if isinstance(value, Tensor) else value for value in (radius, length, gain)]
        if options.in_place:
            ctx.mark_dirty(base)
        return added(base, x, B, seen, kc, options.in_place)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _backward_of_any_order(ctx, g)
        with torch.no_grad():
            return _backward(ctx, g)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs, in the order of ``forward`` (formulas in the module docstring)."""
    # Once: a checkpointed layer hands its saved tensors out a single time.
    x, A, B, u, gram, kept, *others = ctx.saved_tensors
    constants, learned_by = others[:3], others[3:]
    needs = ctx.needs_input_grad
    found = rank_gradients(_rows(g), x, A, B, u, gram, kept, ctx.options.law, needs[1:4])
    dx = _by_x(x, found.along, found.dU, A) if needs[1] else None
    slopes = found.slopes
    moved = (
        _by_constants(ctx, slopes, constants, learned_by)
        if learned_by or any(needs[4:7])
        else (None, None, None)
    )
    return g if needs[0] else None, dx, found.dA, found.dB, *moved[:3], None, None, *moved[3:]


def _backward_of_any_order(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients as functions of everything they depend on, for create_graph=True."""
    x, A, B, _, _, _, *others = ctx.saved_tensors
    given = [
        number if tensor is None else tensor for tensor, number in zip(others[:3], ctx.numbers, strict=True)
    ]
    inputs = [None, x, A, B, *others[:3], None, None, *others[3:]]
    wanted = [i for i, needed in enumerate(ctx.needs_input_grad) if needed and i > 0]
    chart, gain = moving(ctx.options, given, others[3:], ctx.log_slopes, x)
    delta = smooth_update(x, A, B, chart, gain, ctx.options.scaling)
    found = torch.autograd.grad(delta, [inputs[i] for i in wanted], g, create_graph=True, allow_unused=True)
    moved: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
    for i, gradient in zip(wanted, found, strict=True):
        moved[i] = gradient
    moved[0] = g if ctx.needs_input_grad[0] else None
    return tuple(moved)


def _by_x(x: Tensor, along: Tensor, dU: Tensor, A: Tensor) -> Tensor:
    """dU A + along x."""
    dx = (x * along.to(x.dtype).view(*x.shape[:-1], 1)).contiguous()
    # In place: a fresh (tokens, n) tensor costs more than the arithmetic on it.
    return plus_product(dx.view(-1, x.shape[-1]), dU, A).view(x.shape)


def _by_constants(
    ctx: Any, slopes: Tensor, constants: Sequence[Tensor | None], learned_by: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients of radius, length and gain, then of the learned: R c_R + alpha c_alpha = c."""
    sums = slopes.sum(0, dtype=torch.float64)
    moved: list[Tensor | None] = [None, None, None]
    if any(ctx.needs_input_grad[4:7]):
        logs = (sums[-1:], sums[:1] - sums[-1:], sums[:1])
        moved = [
            log / value if needed and value is not None else None
            for log, value, needed in zip(logs, constants, ctx.needs_input_grad[4:7], strict=True)
        ]
    return [*moved, *by_learned(sums, ctx.log_slopes, learned_by)]
