"""``direct`` on a product in rank space, in plain numbers, with slopes by hand: ``blocks`` for the processor.

Notation of ``blocks``; with a_p = s |x_p|/R_p the angle in the part p, s shortened so that all are within
their bounds, f_p = s phi_p(a_p)/a_p and b the factor on the way out,

    y = sum_p f_p u_p,  delta_q = b psi_q(z_q)/z_q B_q y,  z_q = |B_q y|/R_q.

With P_q the upstream gradient of the image q, T_q = psi_q(z_q)/z_q and gamma_q = <P_q, y>,

    dy = b sum_q T_q P_q + gamma_q T_q'/(z_q R_q^2) G_q y,  du_p = f_p dy,

and every number moves through h_p = <du_p, u_p>, through a_p in phi_p(a_p)/a_p, and through b and z_q.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from manifold_lora.adapters.fast.charts import SMALL_ANGLE, SMALL_RATIO
from manifold_lora.adapters.fast.fused import learned_of, radius_of
from manifold_lora.adapters.fast.images import Image, Lengths, Slopes, Tensors
from manifold_lora.adapters.fast.numbers import at_least, at_most, evaluate, some, tensor
from manifold_lora.adapters.fast.scalars import SMALLEST_IMAGE, SMALLEST_NORM
from manifold_lora.adapters.norm_scaling import NormScaling, ScaleLaw
from manifold_lora.adapters.token_scale import TokenNumbers, TokenScale
from manifold_lora.adapters.transforms import is_identity
from manifold_lora.manifolds.product import Product
from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.radial_law import Numbers, RadialLaw, bend, fall


class Part(NamedTuple):
    """A part of the product.

    Args:
        law: its radial functions.
        radius: R.
        edge: the largest length of coordinates over R.
        bound: the largest angle.
        width: its share of the rank.
        raw: R = |kappa0 exp(raw)|^(-1/2), where that is learned.
    """

    law: RadialLaw
    radius: float
    edge: float
    bound: float
    width: int
    raw: Tensor | None

    @property
    def reach(self) -> float:
        """The largest length of coordinates."""
        return self.edge * self.radius


class _Entry(NamedTuple):
    """Of each token and part n_p, a_p, phi_p(a_p) and f_p, (tokens, parts); |x|, b, (tokens, 1).

    ``first`` is the part whose bound shortened the token, one-hot, or None where no token is shortened.
    """

    n: Numbers
    a: Numbers
    phi: Numbers
    f: Numbers
    total: Numbers
    b: Numbers
    first: Numbers | None
    token: TokenNumbers | None


class BlocksByHand:
    """The images of tokens on a product (``images.ByHand``).

    Args:
        parts: the parts, on x and on the output alike.
        law: the norm scaling's numbers.
        scale: its learned number, and how fast log alpha and log gain move with it.
        token: what alpha is multiplied by for each token.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        law: ScaleLaw,
        scale: tuple[Tensor, tuple[int, int]] | None,
        token: TokenScale | None,
    ) -> None:
        self.parts, self.law, self.scale, self.token = parts, law, scale, token
        self.radii = np.array([part.radius for part in parts])
        self.bounds = np.array([part.bound for part in parts])
        raws = {id(part.raw): part.raw for part in parts if part.raw is not None}
        self.learned = [*raws.values(), *([] if scale is None else scale[:1])]
        self.learned += [] if token is None else token.learned()

    @classmethod
    def of(
        cls, manifold: Product, limit: float, rank: int, scaling: NormScaling, token: TokenScale | None
    ) -> "BlocksByHand":
        """The images on a product that ``blocks.serves``, scaled where ``fused.has_numbers``."""
        pairs = zip(cast(list[Radial], list(manifold.parts)), manifold.sizes(rank), strict=True)
        log_scale: Any = scaling._parameters.get("log_scale")
        stated = log_scale is not None and scaling.powers is not None
        learned: Any = (log_scale, scaling.powers) if stated else None
        return cls([_part(part, limit, width) for part, width in pairs], scaling.law(None), learned, token)

    def images(self, us: Tensors, norms: Tensors, lengths: Lengths) -> list[Image]:
        """y and b psi_q(z_q)/z_q."""
        at = evaluate(self._entry, torch.cat(list(norms), 1).numpy(), xp=np)
        y = self._inside(self._sum(us, at))
        found = []
        for q, part in enumerate(self.parts):
            z = at_least(lengths(q, y).numpy() / part.radius, SMALLEST_IMAGE, np)
            found.append(Image(y, tensor(evaluate(_ratio, part, z, xp=np) * at.b)))
        return found

    def slopes(self, us: Tensors, norms: Tensors, grams: Tensors, by_images: Tensors) -> Slopes:
        """The formulas of this module."""
        at = evaluate(self._entry, torch.cat(list(norms), 1).numpy(), xp=np)
        before = self._sum(us, at)
        y = self._inside(before)
        by_y, images, by_gram, through, by_exit = torch.zeros_like(y), [], [], [], []
        for part, gram, P in zip(self.parts, grams, by_images, strict=True):
            across, gamma = y @ gram, (P * y).sum(1, keepdim=True)
            square = (across * y).sum(1, keepdim=True).clamp_min_(0.0)
            z = at_least(square.sqrt_().numpy() / part.radius, SMALLEST_IMAGE, np)
            ratio, steep = evaluate(_ratio_and_slope, part, z, xp=np)
            factor = tensor(ratio * at.b)
            turn = steep * at.b * gamma.numpy()
            by_y.addcmul_(factor, P).addcmul_(tensor(turn / part.radius**2), across)
            images.append(factor * y)
            by_gram.append(y.T @ (tensor(turn / part.radius**2) * y) / 2)
            through.append(ratio * at.b * gamma.numpy())
            by_exit.append(-turn * z * z)
        by_y, by_middle = self._back_inside(before, y, by_y)
        by_radii = np.concatenate(by_exit, 1) + by_middle
        f = tensor(at.f)
        by_u = [f[:, p : p + 1] * by_y for p in range(len(us))]
        h = torch.cat([(by * u).sum(1, keepdim=True) for by, u in zip(by_u, us, strict=True)], 1).numpy()
        columns = evaluate(self._columns, at, h, sum(through), by_radii, xp=np)
        return Slopes(
            images, by_u, [tensor(one) for one in columns[0]], by_gram, self._by_learned(*columns[1:])
        )

    def _entry(self, n: Numbers, xp: Any) -> _Entry:
        n = at_least(n, SMALLEST_NORM, xp)
        total = xp.sqrt((n * n).sum(1, keepdims=True))
        token = None if self.token is None else self.token.in_numpy(total)
        alpha: Any = self.law.alpha if token is None else self.law.alpha * token.factor
        enters = alpha / total if self.law.unit else alpha
        a, s, b = n * (enters / self.radii), enters, self.law.gain / alpha * xp.ones_like(total)
        over = a / self.bounds
        first = some(over.max(1, keepdims=True) > 1, xp)
        if first is not None:
            shorter = 1 / at_least(over.max(1, keepdims=True), 1.0, xp)
            a, s, b = a * shorter, s * shorter, b / shorter
            first = first & (xp.arange(len(self.bounds)) == over.argmax(1)[:, None])
        phi = xp.concatenate(
            [_within(part, part.law.phi(xp, a[:, p : p + 1]), xp) for p, part in enumerate(self.parts)], 1
        )
        return _Entry(n, a, phi, s * (phi / a), total, b, first, token)

    def _sum(self, us: Tensors, at: _Entry) -> Tensor:
        f = tensor(at.f)
        y = f[:, :1] * us[0].double()
        for p, u in enumerate(us[1:], 1):
            y.addcmul_(f[:, p : p + 1], u.double())
        return y

    def _inside(self, y: Tensor) -> Tensor:
        """coords(lift(y)): each piece inside its part's chart."""
        lengths = self._lengths(y)
        if all(bool((length <= part.reach).all()) for part, _, length in lengths):
            return y
        return torch.cat([piece * (part.reach / length).clamp_max(1.0) for part, piece, length in lengths], 1)

    def _back_inside(self, before: Tensor, y: Tensor, by_y: Tensor) -> tuple[Tensor, Numbers]:
        """``by_y`` carried back to y before it was brought inside, and to the logarithms of the radii."""
        if before is y:
            return by_y, 0.0
        carried, by_radii = [], []
        inner = zip(self._lengths(before), self._cut(y), self._cut(by_y), strict=True)
        for (part, _, length), piece, by in inner:
            clipped, along = length > part.reach, (by * piece).sum(1, keepdim=True)
            turned = (by - piece * (along / part.reach**2)) * (part.reach / length)
            carried.append(torch.where(clipped, turned, by))
            by_radii.append(torch.where(clipped, along, 0.0).numpy())
        return torch.cat(carried, 1), np.concatenate(by_radii, 1)

    def _cut(self, y: Tensor) -> tuple[Tensor, ...]:
        return y.split([part.width for part in self.parts], 1)

    def _lengths(self, y: Tensor) -> list[tuple[Part, Tensor, Tensor]]:
        """The parts, their pieces of y, and the lengths of these, 0 where a chart has no end."""
        found = []
        for part, piece in zip(self.parts, self._cut(y), strict=True):
            bounded = part.edge < math.inf
            length = torch.linalg.vector_norm(piece, dim=1, keepdim=True) if bounded else y.new_zeros(1, 1)
            found.append((part, piece, length))
        return found

    def _columns(
        self, at: _Entry, h: Numbers, through: Numbers, by_radii: Numbers, xp: Any
    ) -> tuple[list[Numbers], Numbers, Numbers, Numbers, list[Numbers]]:
        """What each x_p is to be multiplied by, and of each token by log R_p, alpha, gain, token scale."""
        j = xp.concatenate([
            h[:, p : p + 1] * _turn(part, at.a[:, p : p + 1], at.phi[:, p : p + 1], xp)
            for p, part in enumerate(self.parts)
        ], 1)  # fmt: skip
        by_s = (h + j).sum(1, keepdims=True)
        by_n, by_radii, by_enters = j, by_radii - j, by_s
        if at.first is not None:
            # s = bound R/n of that part, and b is as much longer as s is shorter.
            moved = xp.where(at.first, by_s - through, 0.0)
            by_n, by_radii = by_n - moved, by_radii + moved
            by_enters = xp.where(at.first.any(1, keepdims=True), through, by_s)
        by_alpha, by_total, others = by_enters - through, 0.0, []
        if self.law.unit:
            by_total = -by_enters
        if at.token is not None:
            by_total = by_total + by_alpha * at.token.by_norm
            others = [by_alpha * one for one in at.token.by_learned]
        along = by_n / (at.n * at.n) + by_total / (at.total * at.total)
        return [along[:, p : p + 1] for p in range(len(self.parts))], by_radii, by_alpha, through, others

    def _by_learned(
        self, by_radii: Numbers, by_alpha: Numbers, through: Numbers, others: list[Numbers]
    ) -> list[Tensor]:
        sums: dict[int, float] = {}
        for part, by in zip(self.parts, by_radii.sum(0), strict=True):
            sums[id(part.raw)] = sums.get(id(part.raw), 0.0) - 0.5 * by
        found = [sums[id(one)] for one in self.learned if id(one) in sums]
        if self.scale is not None:
            alpha, gain = self.scale[1]
            found.append(alpha * by_alpha.sum() + gain * through.sum())
        found += [one.sum() for one in others]
        pairs = zip(found, self.learned, strict=True)
        return [torch.tensor([by], dtype=one.dtype) for by, one in pairs]


def _part(part: Radial, limit: float, width: int) -> Part:
    law, radius = cast(RadialLaw, part.radial_law), radius_of(part)
    edge = float(part.max_coord_radius(torch.float64).detach()) / radius if law.bounded else math.inf
    bound = math.inf if is_identity(part) else min(limit, law.turn)
    raws = learned_of(part.curvature)
    return Part(law, radius, edge, bound, width, raws[0] if raws else None)


def _within(part: Part, phi: Numbers, xp: Any) -> Numbers:
    return at_most(phi, part.edge, xp) if part.edge < math.inf else phi


def _turn(part: Part, a: Numbers, phi: Numbers, xp: Any) -> Numbers:
    """a phi'(a)/phi(a) - 1."""
    turn, shallow = a * part.law.phi_slope(xp, a) / phi - 1, some(a < SMALL_ANGLE, xp)
    if shallow is not None:
        turn = xp.where(shallow, bend(part.law.entry, a * a), turn)
    return xp.where(phi >= part.edge, -1.0, turn) if part.edge < math.inf else turn


def _ratio(part: Part, z: Numbers, xp: Any) -> Numbers:
    """psi(z)/z."""
    return part.law.psi(xp, _within(part, z, xp)) / z


def _ratio_and_slope(part: Part, z: Numbers, xp: Any) -> tuple[Numbers, Numbers]:
    """psi(z)/z and its slope over z."""
    ratio, inside = _ratio(part, z, xp), _within(part, z, xp)
    steep, near = (part.law.psi_slope(xp, inside) - ratio) / (z * z), some(z < SMALL_RATIO, xp)
    if near is not None:
        steep = xp.where(near, fall(part.law.exit, xp.where(near, z * z, 0.0)), steep)
    if part.edge < math.inf:
        steep = xp.where(z > part.edge, -ratio / (z * z), steep)
    return ratio, steep
