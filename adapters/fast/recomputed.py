"""delta_q = B_q w_q(u, |x|, B^T B), u_p = A_p x_p, whatever w is: the backward computes w again.

x, the columns of A and the rows of B lie in one piece each, or in the parts of a product. Kept for the
backward are x, u_p and |x_p|: a number for each token and part beside LoRA's own. Products are in the dtype
of x, w is in float64.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters.fast.numbers import finite, gram_of, is_transformed, narrow, row_norm
from manifold_lora.adapters.fast.places import Places, learned_in, standing_in
from manifold_lora.adapters.fast.rank_space import Images, norm_of
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.curvature import held


class Plan(NamedTuple):
    """How an update is computed in rank space.

    Args:
        images: w as a function of differentiable tensors and of what ``owner`` learns.
        owner: the module whose parameters the images read, when they are called.
        widths: the sizes of the pieces of x, and of those of the output.
        scaling: what delta is multiplied by.
    """

    images: Images
    owner: nn.Module
    widths: tuple[Sequence[int], Sequence[int]]
    scaling: float = 1.0

    def cut(self, x: Tensor, A: Tensor, B: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """The pieces of x, of A's columns and of B's rows."""
        inner, outer = self.widths
        return x.split(list(inner), -1), A.split(list(inner), 1), B.split(list(outer), 0)


def update(
    plan: Plan, x: Float[Tensor, "*tokens n"], A: Float[Tensor, "r n"], B: Float[Tensor, "m s"]
) -> Float[Tensor, "*tokens m"]:
    """delta in the dtype of x, A and B."""
    if is_transformed() or torch.compiler.is_compiling():
        return smooth(plan, x, A, B)
    places = learned_in(plan.owner)
    delta: Tensor = _Update.apply(x, A, B, plan, places, *(kept[name] for kept, name in places))
    return delta


def smooth(plan: Plan, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """The same with derivatives of every order, and for images that depend on more than they are given."""
    pieces, columns, rows = plan.cut(x, A, B)
    us = [piece @ column.T for piece, column in zip(pieces, columns, strict=True)]
    ws = plan.images(us, [norm_of(piece) for piece in pieces], [gram_of(row) for row in rows])
    scaled = [narrow(w * plan.scaling, x.dtype) for w in ws]
    return torch.cat([w @ row.T for w, row in zip(scaled, rows, strict=True)], -1)


class _Update(torch.autograd.Function):
    """``smooth``, of which the backward keeps u and abs(x) beside the inputs."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, A: Tensor, B: Tensor, plan: Plan, places: Places, *learned: Tensor
    ) -> Tensor:
        pieces, columns, rows = plan.cut(x, A, B)
        us = [piece @ column.T for piece, column in zip(pieces, columns, strict=True)]
        norms = [row_norm(_flat(piece)).view(*x.shape[:-1], 1) for piece in pieces]
        ws = plan.images(us, norms, [gram_of(row) for row in rows])
        ctx.plan, ctx.places = plan, places
        ctx.save_for_backward(x, A, B, *us, *norms, *learned)
        delta = x.new_empty(*x.shape[:-1], B.shape[0])
        for out, w, row in zip(delta.split(list(plan.widths[1]), -1), ws, rows, strict=True):
            torch.mm(_flat(narrow(w * plan.scaling, x.dtype)), row.T, out=_flat(out))
        return delta

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        # Once: a checkpointed layer hands its saved tensors out a single time.
        x, A, B, *others = ctx.saved_tensors
        k = len(ctx.plan.widths[0])
        if torch.is_grad_enabled():
            needed = [*ctx.needs_input_grad[:3], *ctx.needs_input_grad[5:]]
            moved = _backward_of_any_order(ctx, g, (x, A, B, *others[2 * k :]), needed)
            return *moved[:3], None, None, *moved[3:]
        return _backward(ctx, g, x, A, B, others)


def _flat(x: Tensor) -> Tensor:
    return x[None] if x.dim() == 1 else x.flatten(0, -2)


def _backward(
    ctx: Any, g: Tensor, x: Tensor, A: Tensor, B: Tensor, others: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """``others`` are all u, all abs(x) and what is learned."""
    plan, k = ctx.plan, len(ctx.plan.widths[0])
    pieces, columns, rows = plan.cut(x, A, B)
    upstream = g.split(list(plan.widths[1]), -1)
    by_w = [(piece @ row).double() * plan.scaling for piece, row in zip(upstream, rows, strict=True)]
    grams = [gram_of(row) for row in rows]
    moving = [one.detach().requires_grad_() for one in (*others[: 2 * k], *grams, *others[2 * k :])]
    with torch.enable_grad(), standing_in(ctx.places, moving[3 * k :]), held(plan.owner):
        ws = plan.images(moving[:k], moving[k : 2 * k], moving[2 * k : 3 * k])
        moved = torch.autograd.grad(ws, moving, by_w, allow_unused=True, materialize_grads=True)
    by_u, by_norm, by_gram = ([*map(_flat, moved[:k])], moved[k : 2 * k], moved[2 * k : 3 * k])
    dx, dA, dB = (
        torch.empty_like(one) if needed else None
        for one, needed in zip((x, A, B), ctx.needs_input_grad, strict=False)
    )
    if dx is not None:
        for p, out in enumerate(plan.cut(dx, A, B)[0]):
            torch.mm(by_u[p], columns[p], out=_flat(out))
            out.addcmul_(pieces[p], finite(functions.ratio(by_norm[p], others[k + p]), x.dtype))
    if dA is not None:
        for p, out in enumerate(plan.cut(x, dA, B)[1]):
            torch.mm(by_u[p].T, _flat(pieces[p]), out=out)
    if dB is not None:
        for p, out in enumerate(plan.cut(x, A, dB)[2]):
            torch.mm(_flat(upstream[p]).T, _flat(narrow(ws[p].detach() * plan.scaling, x.dtype)), out=out)
            out.addmm_(rows[p], (by_gram[p] + by_gram[p].T).to(B.dtype))
    return dx, dA, dB, None, None, *moved[3 * k :]


def _backward_of_any_order(
    ctx: Any, g: Tensor, inputs: Sequence[Tensor], needed: Sequence[bool]
) -> list[Tensor | None]:
    """The same gradients as functions of all they depend on, for create_graph=True."""
    wanted = [one for one, need in zip(inputs, needed, strict=True) if need]
    with standing_in(ctx.places, inputs[3:]):
        delta = smooth(ctx.plan, *inputs[:3])
    found = iter(torch.autograd.grad(delta, wanted, g, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
