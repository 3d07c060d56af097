"""The fused update's backward in rank space (formulas: ``function``), and that of its learned scalars."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.adapters.fast.numbers import finite, gram_of, narrow
from manifold_lora.adapters.fast.places import learned_in, standing_in
from manifold_lora.adapters.fast.products import product
from manifold_lora.adapters.fast.rank_space import norm_of
from manifold_lora.adapters.fast.scalars import Chart
from manifold_lora.adapters.precision import geometry_dtype
from manifold_lora.adapters.token_scale import TokenScale
from manifold_lora.manifolds.radial_law import RadialLaw

# Radius, length and gain: tensors where they are learned.
Constant = Tensor | float | None
# A parameter and how fast log R, log alpha and log gain move with it.
LogSlopes = tuple[float, float, float]
LearnedScalar = tuple[Tensor, LogSlopes]


class Options(NamedTuple):
    """What the autograd function, whose arguments have to be flat, gets beside tensors."""

    law: RadialLaw
    edge: float
    limit: float
    scaling: float
    in_place: bool
    token: TokenScale | None = None


class RankGradients(NamedTuple):
    """dU (tokens, r), what x is multiplied by (tokens, 1), dA, dB, and <P, u> times every column kept."""

    dU: Tensor
    along: Tensor
    dA: Tensor | None
    dB: Tensor | None
    slopes: Tensor


def rank_gradients(
    g: Tensor,
    x: Tensor,
    A: Tensor,
    B: Tensor,
    u: Tensor,
    gram: Tensor | None,
    kept: Tensor,
    law: RadialLaw,
    needs: Sequence[bool],
) -> RankGradients:
    """From the upstream gradient (tokens, m) and what was saved; ``needs`` says whether of x, A and B."""
    fine = geometry_dtype(u)
    P, near = product(g, B).to(fine), u.to(fine)
    # As exact as g is.
    slopes = (P * near).sum(-1, keepdim=True) * kept
    carried, bent, along = kept[:, :1], finite(slopes[:, 1:2], fine), slopes[:, 2:3]
    dU, dA, dB = u, None, None
    if needs[0] or needs[1]:
        dU = (carried * P).addcmul_(bent, near @ (gram_of(B) if gram is None else gram).to(fine))
        if law.bounded:
            dU.addcmul_(finite(slopes[:, 3:4], fine), near)
        dU = narrow(dU, u.dtype)
        dA = product(dU.T, x.reshape(-1, x.shape[-1])) if needs[1] else None
    if needs[2]:
        w = narrow(near * carried, u.dtype)
        # Transposed: a product with few rows costs a third of one with few columns.
        dB = product(w.T, g).addmm_((near.T @ (bent * near)).to(B.dtype), B.T).T.contiguous()
    return RankGradients(dU, along, dA, dB, slopes)


def by_learned(
    sums: Tensor, log_slopes: Sequence[LogSlopes], learned_by: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients of the learned scalars from the slopes' sums over tokens: R c_R + alpha c_alpha = c.

    The last of ``learned_by`` are those of a token scale, whose sums come last.
    """
    if not learned_by:
        return []
    by_gain, *others = sums.tolist()
    last = len(others) - (len(learned_by) - len(log_slopes))
    by_radius = others[last - 1]
    turned = [
        (radius - length) * by_radius + (length + gain) * by_gain for radius, length, gain in log_slopes
    ]
    pairs = zip([*turned, *others[last:]], learned_by, strict=True)
    return [torch.tensor([by], dtype=parameter.dtype) for by, parameter in pairs]


def moving(
    options: Options,
    constants: Sequence[Any],
    learned_by: Sequence[Tensor],
    log_slopes: Sequence[LogSlopes],
    x: Tensor,
) -> tuple[Chart, Any]:
    """Chart and gain as functions of x and what is learned, whose present values the constants contain."""
    moved: list[Any] = [0.0, 0.0, 0.0]
    for parameter, slopes in zip(learned_by, log_slopes, strict=False):
        step = parameter.double() - parameter.detach().double()
        moved = [log + slope * step for log, slope in zip(moved, slopes, strict=True)]
    radius, length, gain = (
        None if value is None else value * torch.exp(torch.as_tensor(log, dtype=torch.float64))
        for value, log in zip(constants, moved, strict=True)
    )
    if options.token is not None:
        with standing_in(learned_in(options.token), learned_by[len(log_slopes) :]):
            radius = radius / options.token(norm_of(x))
    return Chart(options.law, radius, length, options.edge, options.limit), gain
