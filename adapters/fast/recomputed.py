"""delta_q = B_q w_q(u, |x|, B^T B), u_p = A_p x_p, whatever w is: the backward computes w again.

x, the columns of A and the rows of B lie in one piece each, or in the parts of a product. Kept for the
backward are x, |x_p|, B^T B and, where there is one piece, u: what LoRA keeps or less, but for a number of
each token and part. Products are in the dtype of x, w is in float64.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from manifold_lora.adapters.fast.images import Plan, Slopes, Tensors
from manifold_lora.adapters.fast.numbers import finite, gram_of, is_transformed, narrow, row_norm
from manifold_lora.adapters.fast.places import Places, learned_in, parameters_in, standing_in
from manifold_lora.adapters.fast.products import product
from manifold_lora.adapters.fast.rank_space import norm_of, square_of
from manifold_lora.adapters.fast.readers import Reading, Share, reading_of
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.curvature import held


class Base(NamedTuple):
    """A frozen layer W x + b that the update is added to, and x as its readers know it."""

    weight: Float[Tensor, "m n"]
    bias: Float[Tensor, " m"] | None
    reading: Reading


def update(
    plan: Plan, x: Float[Tensor, "*tokens n"], A: Float[Tensor, "r n"], B: Float[Tensor, "m r"]
) -> Float[Tensor, "*tokens m"]:
    """delta in the dtype of x, A and B."""
    if is_transformed() or torch.compiler.is_compiling():
        return smooth(plan, x, A, B)
    return _applied(plan, x, A, B, None)


def of_layer(
    plan: Plan,
    x: Float[Tensor, "*tokens n"],
    weight: Float[Tensor, "m n"],
    bias: Float[Tensor, " m"] | None,
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
) -> Float[Tensor, "*tokens m"]:
    """W x + b + delta with W and b frozen, for plain tensors of one dtype."""
    base = Base(weight, bias, reading_of(x))
    if base.reading.gathered is not None:
        base.reading.gathered.readers += 1
    return _applied(plan, x, A, B, base)


def of_few_tokens(
    plan: Plan,
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    base: Float[Tensor, "*tokens m"] | None,
) -> Float[Tensor, "*tokens m"] | None:
    """base + delta by hand for tokens that ``few_tokens`` serves: B w is measured, not taken from B^T B.

    None where a number is not finite, or nobody has derived the slopes.
    """
    if plan.by_hand is None:
        return None
    pieces, columns, rows = plan.cut(_flat(x), A, B)
    ups: list[Tensor] = []

    def length(q: int, w: Tensor) -> Tensor:
        narrowed = w.to(x.dtype)
        up = narrowed[:, -B.shape[1] :] @ rows[q].T
        if plan.first is not None:
            up.addmm_(narrowed[:, :1], plan.first[None].to(x.dtype))
        ups.append(up)
        return torch.linalg.vector_norm(up, dim=-1, keepdim=True, dtype=torch.float64)

    us, norms = [u @ column.T for u, column in zip(pieces, columns, strict=True)], [*map(row_norm, pieces)]
    factors = [image.factor for image in plan.by_hand.images(us, norms, length)]
    if not all(math.isfinite(one) for one in torch.cat(factors).sum(1).tolist()):
        return None
    scaled = [up.mul_((factor * plan.scaling).to(x.dtype)) for up, factor in zip(ups, factors, strict=True)]
    delta = (scaled[0] if len(scaled) == 1 else torch.cat(scaled, 1)).view(*x.shape[:-1], B.shape[0])
    return delta if base is None else base + delta


def _applied(plan: Plan, x: Tensor, A: Tensor, B: Tensor, base: Base | None) -> Tensor:
    if plan.by_hand is None:
        places = learned_in(plan.owner)
    else:
        where = {id(kept[name]): (kept, name) for kept, name in parameters_in(plan.owner)}
        places = [where[id(one)] for one in plan.by_hand.learned]
    door = None if base is None else base.reading.door
    learned = [kept[name] for kept, name in places]
    output: Tensor = _Update.apply(x, door, A, B, plan.first, plan, base, places, *learned)
    return output


def smooth(plan: Plan, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """The same with derivatives of every order, and for images that depend on more than they are given."""
    pieces, columns, rows = plan.cut(x, A, plan.whole(B, plan.first))
    us = [piece @ column.T for piece, column in zip(pieces, columns, strict=True)]
    ws = plan.images(us, [norm_of(piece) for piece in pieces], [gram_of(row) for row in rows])
    scaled = [narrow(w * plan.scaling, x.dtype) for w in ws]
    return torch.cat([w @ row.T for w, row in zip(scaled, rows, strict=True)], -1)


# Before the learned numbers, in the order of ``forward``.
_ARGUMENTS = 8


class _Update(torch.autograd.Function):
    """``smooth`` (over a base layer's output), of which the backward keeps u and abs(x) beside the inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        door: Tensor | None,
        A: Tensor,
        B: Tensor,
        first: Tensor | None,
        plan: Plan,
        base: Base | None,
        places: Places,
        *learned: Tensor,
    ) -> Tensor:
        pieces, columns, rows = plan.cut(_flat(x), A, plan.whole(B, first))
        us, norms = _down(pieces, columns), [row_norm(piece) for piece in pieces]
        grams = [gram_of(row) for row in rows]
        ws = _images(plan, us, norms, grams)
        ctx.plan, ctx.places, ctx.gathered = plan, places, None if base is None else base.reading.gathered
        weight = base.weight if base is not None and x.requires_grad else None
        ctx.save_for_backward(
            x, A, B, first, weight, us[0] if len(us) == 1 else None, *norms, *grams, *learned
        )
        if base is None:
            output = x.new_empty(*x.shape[:-1], B.shape[0])
        else:
            output = functional.linear(x, base.weight, base.bias)
        for out, w, row in zip(_flat(output).split(list(plan.widths[1]), -1), ws, rows, strict=True):
            w = narrow(w * plan.scaling, x.dtype)
            torch.mm(w, row.T, out=out) if base is None else out.addmm_(w, row.T)
        return output

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        # Once: a checkpointed layer hands its saved tensors out a single time.
        x, A, B, first, weight, u, *others = ctx.saved_tensors
        k = len(ctx.plan.widths[0])
        if torch.is_grad_enabled():
            return _backward_of_any_order(ctx, g, (x, A, B, first, *others[2 * k :]), weight)
        return _backward(ctx, g, (x, A, B, first, weight), u, others)


def _images(plan: Plan, us: Tensors, norms: Tensors, grams: Tensors) -> Tensors:
    if plan.by_hand is None:
        return plan.images(us, norms, grams)
    found = plan.by_hand.images(us, norms, lambda q, w: square_of(w, grams[q]).sqrt())
    return [image.point * image.factor for image in found]


def _flat(x: Tensor) -> Tensor:
    return x[None] if x.dim() == 1 else x.flatten(0, -2)


def _down(pieces: Tensors, columns: Tensors) -> list[Tensor]:
    return [product(piece, column.T) for piece, column in zip(pieces, columns, strict=True)]


def _backward(
    ctx: Any, g: Tensor, saved: Sequence[Any], u: Tensor | None, others: Tensors
) -> tuple[Tensor | None, ...]:
    """``others`` are abs(x) and B^T B of each piece and what is learned."""
    (x, A, B, first, weight), plan, needs = saved, ctx.plan, ctx.needs_input_grad
    k = len(plan.widths[0])
    norms, grams, learned = others[:k], others[k : 2 * k], others[2 * k :]
    pieces, columns, rows = plan.cut(_flat(x), A, plan.whole(B, first))
    upstream = _flat(g).split(list(plan.widths[1]), -1)
    us = _down(pieces, columns) if u is None else [u]
    by_w = [product(piece, row).double() * plan.scaling for piece, row in zip(upstream, rows, strict=True)]
    if plan.by_hand is None:
        found = _by_autograd(plan, ctx.places, us, norms, grams, by_w, learned)
    else:
        found = plan.by_hand.slopes(us, norms, grams, by_w)
    shares = [
        Share(narrow(by_u, x.dtype), column, finite(along, x.dtype))
        for by_u, column, along in zip(found.by_u, columns, found.along, strict=True)
    ]
    dx = None
    if needs[0] and weight is not None:
        ctx.gathered.add(_flat(g), weight, shares, x)
    elif needs[0]:
        dx = _by_x(shares, pieces, x)
    dA = None
    if needs[2]:
        dAs = [product(share.dU.T, piece) for share, piece in zip(shares, pieces, strict=True)]
        dA = dAs[0] if len(dAs) == 1 else torch.cat(dAs, 1)
    dB, by_first = _by_up(plan, found, upstream, rows, first) if needs[3] or needs[4] else (None, None)
    return dx, None, dA, dB, by_first, None, None, None, *found.by_learned


def _by_x(shares: Sequence[Share], pieces: Tensors, x: Tensor) -> Tensor:
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    for share, piece, out in zip(
        shares, pieces, _flat(dx).split([piece.shape[-1] for piece in pieces], -1), strict=True
    ):
        torch.mm(share.dU, share.A, out=out)
        out.addcmul_(piece, share.along)
    return dx


def _by_up(
    plan: Plan, found: Slopes, upstream: Tensors, rows: Tensors, first: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The gradients of B and of the column before it."""
    turned = []
    for w, piece, row, by_gram in zip(found.images, upstream, rows, found.by_gram, strict=True):
        # Transposed: a product with few rows costs a third of one with few columns.
        dB = product(narrow(w * plan.scaling, row.dtype).T, piece)
        turned.append(dB.addmm_((by_gram + by_gram.T).to(row.dtype), row.T).T)
    whole = turned[0].contiguous() if len(turned) == 1 else torch.cat(turned, 0)
    return (whole, None) if first is None else (whole[:, 1:], whole[:, 0].to(first.dtype))


def _by_autograd(
    plan: Plan,
    places: Places,
    us: Tensors,
    norms: Tensors,
    grams: Tensors,
    by_w: Tensors,
    learned: Tensors,
) -> Slopes:
    k = len(us)
    moving = [one.detach().requires_grad_() for one in (*us, *norms, *grams, *learned)]
    with torch.enable_grad(), standing_in(places, moving[3 * k :]), held(plan.owner):
        ws = plan.images(moving[:k], moving[k : 2 * k], moving[2 * k : 3 * k])
        moved = torch.autograd.grad(ws, moving, by_w, allow_unused=True, materialize_grads=True)
    along = [functions.ratio(by, norm) for by, norm in zip(moved[k : 2 * k], norms, strict=True)]
    return Slopes([w.detach() for w in ws], moved[:k], along, moved[2 * k : 3 * k], moved[3 * k :])


def _backward_of_any_order(
    ctx: Any, g: Tensor, inputs: Sequence[Any], weight: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The same gradients as functions of all they depend on, past the door; for create_graph=True."""
    x, A, B, first, *learned = inputs
    needed = [need for i, need in enumerate(ctx.needs_input_grad) if i in (0, 2, 3, 4) or i >= _ARGUMENTS]
    wanted = [one for one, need in zip(inputs, needed, strict=True) if need]
    with standing_in(ctx.places, learned):
        delta = smooth(ctx.plan._replace(first=first), x, A, B)
    found = iter(torch.autograd.grad(delta, wanted, g, create_graph=True, allow_unused=True))
    dx, dA, dB, by_first, *by_learned = (next(found) if need else None for need in needed)
    if dx is not None and weight is not None:
        dx = dx + g @ weight
    return dx, None, dA, dB, by_first, None, None, None, *by_learned
