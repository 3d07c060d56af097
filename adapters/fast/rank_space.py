"""The update of a radial geometry computed in rank space: no vector of the width n + 1 is ever built.

Around its origin a radial geometry only stretches: coords(expmap0 v) = f v and logmap0(lift z) = g z. So
A acts on x itself, f and g are numbers per token, and |z|^2 = w^T (B^T B) w for the rank-space point w.
Any geometry with ``chart_exp`` and ``chart_log`` takes this path; ``fused`` is its hand-derived special case.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.profile import profile_of
from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.adapters.transforms import Boost
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.radial import Radial

Tokens = Float[Tensor, "*tokens n"]
PerToken = Float[Tensor, "*tokens 1"]
Output = Float[Tensor, "*tokens m"]
Down = Float[Tensor, "r n"]
Up = Float[Tensor, "m r"]


def norm_of(x: Tokens) -> Float[Tensor, "*tokens 1"]:
    """abs(x) in float64 from an accumulation in the dtype of x, gradient 0 at 0."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).double()


def direct_update(
    manifold: Radial, law: ScaleLaw, x: Tokens, A: Down, B: Up, norm: PerToken | None = None
) -> Output:
    """delta = beta g f alpha B A x; ``norm`` is ``norm_of(x)`` where that is known already."""
    length, reach, excess = _entry(manifold, law, norm_of(x) if norm is None else norm)
    y = manifold.chart_exp(length.square()) * reach * (x @ A.T).double()
    return _exit(manifold, law, manifold.coords(manifold.lift(y)), B, excess)


def boost_update(
    manifold: Radial,
    law: ScaleLaw,
    boost: Boost,
    x: Tokens,
    A: Down,
    B: Up,
    norm: PerToken | None = None,
) -> Output:
    """delta = beta g [time_B | B] lift(f alpha A x + t time_A), t the time coordinate of expmap0(v)."""
    length, reach, excess = _entry(manifold, law, norm_of(x) if norm is None else norm)
    # By symmetry the time coordinate is that of a one-dimensional vector of the same length.
    time = manifold.expmap0(length)[..., :1]
    y = manifold.chart_exp(length.square()) * reach * (x @ A.T).double() + time * boost.time_A
    columns = torch.cat([boost.time_B[:, None].to(B.dtype), B], dim=-1)
    return _exit(manifold, law, manifold.lift(y), columns, excess)


def _entry(manifold: Radial, law: ScaleLaw, norm: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """(|v|, v/x, the length above the cap): beyond it all of a hyperbolic point grows by one factor."""
    length = law.alpha * (torch.ones_like(norm) if law.unit else norm)
    reach = functions.ratio(length, norm) if law.unit else law.alpha * torch.ones_like(norm)
    profile = profile_of(manifold)
    if profile is None or profile.bounded:
        return length, reach, None
    cap = profile.cap * manifold.curvature.at(torch.float64).abs().rsqrt()
    excess = (length - cap).clamp_min(0.0)
    return functions.capped(length, cap), reach * functions.within(length, cap), excess


def _exit(manifold: Radial, law: ScaleLaw, w: Tensor, matrix: Tensor, excess: Tensor | None) -> Tensor:
    wide = matrix.double()
    sq = ((w @ (wide.T @ wide)) * w).sum(-1, keepdim=True).clamp_min(0.0)
    factor = manifold.chart_log(sq)
    if excess is not None:
        factor = factor + functions.ratio(excess, functions.root(sq))
    return (w * (factor * law.beta)).to(matrix.dtype) @ matrix.T
