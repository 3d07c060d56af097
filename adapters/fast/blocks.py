"""``direct`` on a product in rank space: factors for each token and part, and no vector of the width n + 1.

With x_p, A_p and B_q the pieces of x, of A's columns and of B's rows that lie in the parts p and q, f_p and
g_q the factors of ``rank_space``, and s what the norm scaling and the angle limit make of a token,

    y = s sum_p f_p A_p x_p,  delta_q = g_q B_q y,  |B_q y|^2 = y^T (B_q^T B_q) y,

y brought into the parts' charts on the way. Kept for the backward are x, A_p x_p and |x_p| alone; it does the
arithmetic of rank space again.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.numbers import finite, gram_of, is_transformed, narrow, row_norm
from manifold_lora.adapters.fast.rank_space import norm_of
from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.adapters.transforms import Direct, Transform, is_identity
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.curvature import held
from manifold_lora.manifolds.product import Product
from manifold_lora.manifolds.radial import Radial

PerToken = Float[Tensor, "*tokens 1"]


class Blocks(NamedTuple):
    """What the update is made of beside x, A and B.

    Args:
        manifold: a product that ``serves``.
        law: the lengths in effect for tokens of the norms given, before the limit.
        limit: the largest angle at which a token enters a part.
    """

    manifold: Product
    law: Callable[[PerToken], ScaleLaw]
    limit: float

    @property
    def parts(self) -> list[Radial]:
        """The parts, each radial."""
        return cast(list[Radial], list(self.manifold.parts))


def serves(manifold: Manifold, transform: Transform, limit: float) -> bool:
    """Are the parts radial, and is no angle beyond what their points hold?"""
    if type(manifold) is not Product or type(transform) is not Direct:
        return False
    parts = list(manifold.parts)
    laws = [part.radial_law for part in parts if isinstance(part, Radial) and part.follows_chart()]
    return len(laws) == len(parts) and all(law is not None and limit <= law.cap for law in laws)


def update(
    blocks: Blocks,
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    learned: Sequence[Tensor],
) -> Float[Tensor, "*tokens m"]:
    """delta in the dtype of x, A and B; ``learned`` are the parameters behind manifold and law."""
    if is_transformed() or torch.compiler.is_compiling():
        return _smooth(blocks, x, A, B)
    delta: Tensor = _Update.apply(x, A, B, blocks, *learned)
    return delta


def _smooth(blocks: Blocks, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """The same with derivatives of every order."""
    pieces, columns, rows = _cut(blocks.manifold, x, A, B)
    us = [piece @ column.T for piece, column in zip(pieces, columns, strict=True)]
    ws = _images(blocks, us, [norm_of(piece) for piece in pieces], [gram_of(row) for row in rows])
    return torch.cat([narrow(w, x.dtype) @ row.T for w, row in zip(ws, rows, strict=True)], -1)


def _cut(manifold: Product, x: Tensor, A: Tensor, B: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    sizes = manifold.sizes(x.shape[-1])
    return x.split(sizes, -1), A.split(sizes, 1), B.split(manifold.sizes(B.shape[0]), 0)


def _images(
    blocks: Blocks, us: Sequence[Tensor], norms: Sequence[Tensor], grams: Sequence[Tensor]
) -> list[Float[Tensor, "*tokens r"]]:
    """beta g_q y for each part q in float64, from A_p x_p, |x_p| and B_q^T B_q."""
    total = functions.root(torch.cat(list(norms), -1).square().sum(-1, keepdim=True))
    law = blocks.law(total)
    enters = functions.ratio(law.alpha * torch.ones_like(total), total) if law.unit else law.alpha
    shorter = _shortened(blocks, [enters * norm for norm in norms])
    law, enters = law.times(shorter), enters * shorter
    stretched = [
        part.chart_exp((enters * norm).square()) * u.double()
        for part, norm, u in zip(blocks.parts, norms, us, strict=True)
    ]
    y = _lifted(blocks, enters * sum(stretched[1:], stretched[0]))
    squares = [((y @ gram) * y).sum(-1, keepdim=True).clamp_min(0.0) for gram in grams]
    return [
        y * (part.chart_log(square) * law.beta) for part, square in zip(blocks.parts, squares, strict=True)
    ]


def _shortened(blocks: Blocks, lengths: Sequence[PerToken]) -> PerToken:
    """The factor that brings a token, as a whole, within the limit of every part (``measure.cut``)."""
    factor = torch.ones_like(lengths[0])
    for part, length in zip(blocks.parts, lengths, strict=True):
        bound = min(blocks.limit, part.radial_law.turn)  # type: ignore[union-attr]
        if not is_identity(part) and bound < math.inf:
            angle = length * part.inverse_square_radius(length.dtype).sqrt()
            factor = torch.minimum(factor, functions.within(angle, angle.new_full((1,), bound)))
    return factor


def _lifted(blocks: Blocks, y: Float[Tensor, "*tokens r"]) -> Float[Tensor, "*tokens r"]:
    """coords(lift(y)): each piece inside its part's chart."""
    if not any(part.radial_law.bounded for part in blocks.parts):  # type: ignore[union-attr]
        return y
    pieces = []
    for part, piece in zip(blocks.parts, blocks.manifold.split_free(y), strict=True):
        edge = part.max_coord_radius(y.dtype).to(y.dtype)
        inside = part.radial_law.bounded  # type: ignore[union-attr]
        pieces.append(piece * functions.within(functions.norm(piece), edge) if inside else piece)
    return torch.cat(pieces, -1)


class _Update(torch.autograd.Function):
    """``_smooth``, of which the backward keeps A_p x_p and |x_p| beside the inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, B: Tensor, blocks: Blocks, *learned: Tensor) -> Tensor:
        pieces, columns, rows = _cut(blocks.manifold, x, A, B)
        us = [piece @ column.T for piece, column in zip(pieces, columns, strict=True)]
        norms = [row_norm(piece.reshape(-1, piece.shape[-1])).view(*x.shape[:-1], 1) for piece in pieces]
        ws = _images(blocks, us, norms, [gram_of(row) for row in rows])
        ctx.blocks, ctx.parts = blocks, len(us)
        ctx.save_for_backward(x, A, B, *us, *norms, *learned)
        delta = x.new_empty(*x.shape[:-1], B.shape[0])
        for out, w, row in zip(delta.split([len(row) for row in rows], -1), ws, rows, strict=True):
            torch.mm(_flat(narrow(w, x.dtype)), row.T, out=_flat(out))
        return delta

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        # Once: a checkpointed layer hands its saved tensors out a single time.
        x, A, B, *others = ctx.saved_tensors
        us, norms, learned = others[: ctx.parts], others[ctx.parts : 2 * ctx.parts], others[2 * ctx.parts :]
        if torch.is_grad_enabled():
            needed = [*ctx.needs_input_grad[:3], *ctx.needs_input_grad[4:]]
            moved = _backward_of_any_order(ctx.blocks, g, (x, A, B, *learned), needed)
            return *moved[:3], None, *moved[3:]
        return _backward(ctx, g, x, A, B, us, norms, learned)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(0, -2)


def _backward(
    ctx: Any, g: Tensor, x: Tensor, A: Tensor, B: Tensor, us: list[Tensor], norms: list[Tensor], learned: Any
) -> tuple[Tensor | None, ...]:
    blocks, k = ctx.blocks, ctx.parts
    pieces, columns, rows = _cut(blocks.manifold, x, A, B)
    upstream = g.split([len(row) for row in rows], -1)
    by_w = [(piece @ row).double() for piece, row in zip(upstream, rows, strict=True)]
    moving = [one.detach().requires_grad_() for one in (*us, *norms, *map(gram_of, rows))]
    with torch.enable_grad(), held(blocks.manifold):
        ws = _images(blocks, moving[:k], moving[k : 2 * k], moving[2 * k :])
        moved = torch.autograd.grad(ws, [*moving, *learned], by_w, allow_unused=True, materialize_grads=True)
    by_u, by_norm, by_gram = ([*map(_flat, moved[:k])], moved[k : 2 * k], moved[2 * k : 3 * k])
    dx, dA, dB = (
        torch.empty_like(one) if needed else None
        for one, needed in zip((x, A, B), ctx.needs_input_grad, strict=False)
    )
    if dx is not None:
        for p, out in enumerate(_cut(blocks.manifold, dx, A, B)[0]):
            torch.mm(by_u[p], columns[p], out=_flat(out))
            out.addcmul_(pieces[p], finite(functions.ratio(by_norm[p], norms[p]), x.dtype))
    if dA is not None:
        for p, out in enumerate(_cut(blocks.manifold, x, dA, B)[1]):
            torch.mm(by_u[p].T, _flat(pieces[p]), out=out)
    if dB is not None:
        for p, out in enumerate(_cut(blocks.manifold, x, A, dB)[2]):
            torch.mm(_flat(upstream[p]).T, _flat(narrow(ws[p].detach(), x.dtype)), out=out)
            out.addmm_(rows[p], (by_gram[p] + by_gram[p].T).to(B.dtype))
    return dx, dA, dB, None, *moved[3 * k :]


def _backward_of_any_order(
    blocks: Blocks, g: Tensor, inputs: Sequence[Tensor], needed: Sequence[bool]
) -> list[Tensor | None]:
    """The same gradients as functions of all they depend on, for create_graph=True."""
    wanted = [one for one, need in zip(inputs, needed, strict=True) if need]
    delta = _smooth(blocks, *inputs[:3])
    found = iter(torch.autograd.grad(delta, wanted, g, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
