"""The update of a radial geometry computed in rank space: no vector of the width n + 1 is ever built.

Around its origin a radial geometry only stretches: coords(expmap0 v) = f v and logmap0(lift z) = g z. So
A acts on x itself, f and g are numbers per token, and |z|^2 = w^T (B^T B) w for the rank-space point w.
Any geometry with ``chart_exp`` and ``chart_log`` takes this path, and it has derivatives of every order;
``fused`` is its hand-derived special case.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.numbers import finite, is_transformed, row_norm
from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.adapters.transforms import Boost, Direct
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.radial import Radial

Tokens = Float[Tensor, "*tokens n"]
PerToken = Float[Tensor, "*tokens 1"]
# A factor as a function of a squared length.
Factor = Callable[[Tensor], Tensor]
# The lengths in effect for tokens of the norms given.
LawOf = Callable[[PerToken], ScaleLaw]
# From all u = A x (*tokens, r), abs(x) (*tokens, 1) and B^T B, one for each piece of x and of the output, to
# what B acts on in each piece of the output, (*tokens, r), in float64.
Images = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


def norm_of(x: Tokens) -> Float[Tensor, "*tokens 1"]:
    """abs(x) in float64 from an accumulation in float32 (float64 for float64), gradient 0 at 0."""
    if is_transformed() or torch.compiler.is_compiling():
        wide = torch.promote_types(x.dtype, torch.float32)
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).double()
    norm: Tensor = _Norm.apply(x)
    return norm


class _Norm(torch.autograd.Function):
    """abs(x) without a float32 copy of a half-precision x, of which autograd would keep a second one."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        norm = row_norm(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], 1)
        ctx.save_for_backward(x, norm)
        return norm

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> Tensor:
        x, norm = ctx.saved_tensors  # type: ignore[attr-defined]
        return x * finite(functions.ratio(g, norm), x.dtype)


def direct_gain(
    stretch: Factor,
    shrink: Factor,
    length: PerToken,
    reach: PerToken,
    square: PerToken,
    inner: PerToken | None = None,
    edge: Tensor | None = None,
    cap: Tensor | None = None,
) -> PerToken:
    """c in logmap0(lift(B coords(lift(A coords(expmap0 v))))) = c B A v.

    Args:
        stretch, shrink: f and g of the module docstring.
        length: abs(v).
        reach: abs(v)/abs(x).
        square: abs(B A x)^2.
        inner: abs(A x)^2 on a bounded chart, whose coordinates end at ``edge``.
        cap: beyond this length all of a point grows by one factor; None if it does not.
    """
    excess = None
    if cap is not None:
        excess, beyond = (length - cap).clamp_min(0.0), functions.within(length, cap)
        length, reach = functions.capped(length, cap), reach * beyond
    f = stretch(length.square())
    if inner is not None and edge is not None:
        f = f * functions.within((f * reach).abs() * functions.root(inner), edge)
    sq = (f * reach).square() * square
    factor = shrink(sq)
    if excess is not None:
        factor = factor + functions.ratio(excess, functions.root(sq))
        f = f * beyond
    return f * factor


def direct_images(manifold: Radial, law_of: LawOf, transform: Direct) -> Images:
    """c gain A x, for B to act on."""

    def image(u: Tensor, norm: PerToken, gram: Tensor) -> Tensor:
        return u.double() * direct_factor(manifold, law_of(norm), transform, u, gram, norm)

    return of_one_piece(image)


def direct_factor(
    manifold: Radial, law: ScaleLaw, transform: Direct, u: Tensor, gram: Tensor, norm: PerToken
) -> PerToken:
    """c gain in delta = c gain B u, from u = A x, B^T B and ``norm_of(x)``; its limit where B u = 0."""
    length, reach = entry(law, norm)
    wide = u.double()
    square = square_of(wide, gram)
    radial = manifold.radial_law
    bounded = radial is None or radial.bounded
    c = direct_gain(
        lambda sq: transform.stretch(manifold, sq),
        manifold.chart_log,
        length,
        reach,
        square,
        wide.square().sum(-1, keepdim=True) if bounded else None,
        manifold.max_coord_radius(wide.dtype).to(wide.dtype),
        _cap(manifold) if type(transform) is Direct else None,
    )
    return c * (functions.ratio(law.gain * torch.ones_like(norm), norm) if law.unit else law.gain)


def boost_images(manifold: Radial, law_of: LawOf, boost: Boost, A: Tensor) -> Images:
    """beta g lift(f alpha A x + t time_A) for [time_B | B] to act on, t the time of expmap0(v)."""

    def image(u: Tensor, norm: PerToken, gram: Tensor) -> Tensor:
        law = law_of(norm)
        length, reach = entry(law, norm)
        cap, excess = _cap(manifold), None
        if cap is not None:
            excess, reach = (length - cap).clamp_min(0.0), reach * functions.within(length, cap)
            length = functions.capped(length, cap)
        # By symmetry the time coordinate is that of a one-dimensional vector of the same length.
        time = boost.entry_time(manifold, manifold.expmap0(length))
        y = manifold.chart_exp(length.square()) * reach * u.double() + time * boost.time_A
        w = boost.middle(manifold, y, A)
        sq = square_of(w, gram)
        factor = manifold.chart_log(sq)
        if excess is not None:
            factor = factor + functions.ratio(excess, functions.root(sq))
        return w * (factor * law.beta)

    return of_one_piece(image)


def of_one_piece(image: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Images:
    """The images of a geometry in one part, from u, abs(x) and B^T B."""
    return lambda us, norms, grams: [image(*us, *norms, *grams)]


def square_of(w: Float[Tensor, "*tokens r"], gram: Float[Tensor, "r r"]) -> PerToken:
    """abs(B w)^2 from B^T B."""
    return ((w @ gram) * w).sum(-1, keepdim=True).clamp_min(0.0)


def entry(law: ScaleLaw, norm: PerToken) -> tuple[PerToken, PerToken]:
    """(|v|, |v|/|x|)."""
    if law.unit:
        length = law.alpha * torch.ones_like(norm)
        return length, functions.ratio(length, norm)
    return law.alpha * norm, law.alpha * torch.ones_like(norm)


def _cap(manifold: Radial) -> Tensor | None:
    law = manifold.radial_law
    if law is None or not law.grows:
        return None
    return law.cap * manifold.inverse_square_radius(torch.float64).rsqrt()
