"""``boost`` on the hyperboloid in rank space, in plain numbers, with slopes by hand.

In units of R, with n = |x| and its angle a = n/R (length/R where tokens have one length) cut to the limit,

    y = phi(a)/n A x + C time_A,  C = sqrt(1 + phi(a)^2),  w = (sqrt(1 + |y|^2), y),
    delta = k psi(z)/z [time_B | B] w,  z = |[time_B | B] w|,  k = gain n/a  (gain length/a).

Equal to ``rank_space.boost_images``, which serves devices and every other geometry. With P the upstream
gradient of the image k psi(z)/z w, and gamma = <P, w>,

    dw = k psi(z)/z P + k gamma (psi'(z) - psi(z)/z)/z^2 G w,  dy = dw_1.. + dw_0 y/w_0,
    dU = phi(a)/n dy,  dtime_A = sum C dy,

and what a moves is a (phi'(a)/n <dy, A x> + phi'(a) phi(a)/C <dy, time_A>). Source: arXiv 2410.04010,
section 4.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from manifold_lora.adapters.fast.charts import SMALL_ANGLE, SMALL_RATIO
from manifold_lora.adapters.fast.gradients import LearnedScalar, by_learned
from manifold_lora.adapters.fast.images import Image, Lengths, Slopes, Tensors
from manifold_lora.adapters.fast.numbers import at_least, evaluate, some, tensor
from manifold_lora.adapters.fast.scalars import SMALLEST_IMAGE, SMALLEST_NORM, Chart
from manifold_lora.adapters.token_scale import TokenNumbers, TokenScale
from manifold_lora.manifolds.radial_law import Numbers, bend, fall


class _Entry(NamedTuple):
    """n, a, the tokens past the limit (None if none is), phi(a), C, k, and what a token scale says."""

    n: Numbers
    a: Numbers
    past: Numbers | None
    phi: Numbers
    time: Numbers
    k: Numbers
    token: TokenNumbers | None


class BoostByHand:
    """The images of tokens on one chart whose limit is within its cap (``images.ByHand``).

    Args:
        chart, gain: in numbers, those of ``fused.chart_of``.
        scalars: the parameters that they are functions of.
        token: what the radius is divided by for each token.
        time_A: the time column of A.
    """

    def __init__(
        self,
        chart: Chart,
        gain: float | None,
        scalars: list[LearnedScalar],
        token: TokenScale | None,
        time_A: Tensor,
    ) -> None:
        self.chart, self.gain, self.token, self.time_A = chart, gain or 1.0, token, time_A
        self.log_slopes = [slopes for _, slopes in scalars]
        self.numbers = [one for one, _ in scalars] + ([] if token is None else token.learned())
        self.learned = [*self.numbers, *([time_A] if time_A.requires_grad else [])]

    def images(self, us: Tensors, norms: Tensors, lengths: Lengths) -> list[Image]:
        """w and k psi(z)/z."""
        at = evaluate(self._entry, norms[0].numpy(), xp=np)
        w = self._middle(us[0], at)
        z = at_least(lengths(0, w).numpy(), SMALLEST_IMAGE, np)
        return [Image(w, tensor(evaluate(self._factor, at, z, xp=np)))]

    def slopes(self, us: Tensors, norms: Tensors, grams: Tensors, by_images: Tensors) -> Slopes:
        """The formulas of this module."""
        (u,), (P,), (gram,) = us, by_images, grams
        at = evaluate(self._entry, norms[0].numpy(), xp=np)
        w = self._middle(u, at)
        across = w @ gram
        z = at_least((across * w).sum(1, keepdim=True).clamp_min_(0.0).sqrt_().numpy(), SMALLEST_IMAGE, np)
        gamma = (P * w).sum(1, keepdim=True)
        factor, turn = evaluate(self._turn, at, z, gamma.numpy(), xp=np)
        factor, turn = tensor(factor), tensor(turn)
        by_w = (factor * P).addcmul_(turn, across)
        by_y = by_w[:, 1:].addcmul(by_w[:, :1] / w[:, :1], w[:, 1:])
        moves = (by_y * u).sum(1, keepdim=True), by_y @ self.time_A.double()[:, None]
        columns = evaluate(self._columns, at, *(one.numpy() for one in (factor * gamma, *moves)), xp=np)
        along, *summed = map(tensor, columns)
        learned: list[Any] = by_learned(torch.cat(summed, 1).sum(0), self.log_slopes, self.numbers)
        if self.time_A.requires_grad:
            learned.append((tensor(at.time).T @ by_y)[0].to(self.time_A.dtype))
        stretch = tensor(at.phi / at.n)
        return Slopes([factor * w], [stretch * by_y], [along], [w.T @ (turn * w) / 2], learned)

    def _entry(self, norm: Numbers, xp: Any) -> _Entry:
        chart, n = self.chart, at_least(norm, SMALLEST_NORM, xp)
        token = None if self.token is None else self.token.in_numpy(norm)
        radius = chart.radius if token is None else chart.radius / token.factor
        length = n if chart.length is None else xp.ones_like(n) * chart.length
        a = length / radius
        past = some(a > chart.limit, xp)
        a = a if past is None else xp.minimum(a, chart.limit)
        phi = chart.law.phi(xp, a)
        return _Entry(n, a, past, phi, xp.sqrt(1 + phi * phi), self.gain * (length / a), token)

    def _middle(self, u: Tensor, at: _Entry) -> Tensor:
        w = u.new_empty(u.shape[0], u.shape[1] + 1, dtype=torch.float64)
        y = torch.mul(u.double(), tensor(at.phi / at.n), out=w[:, 1:])
        y.addcmul_(tensor(at.time), self.time_A.detach().double())
        torch.linalg.vector_norm(y, dim=1, out=w[:, 0])
        w[:, 0].square_().add_(1.0).sqrt_()
        return w

    def _factor(self, at: _Entry, z: Numbers, xp: Any) -> Numbers:
        return self.chart.law.psi(xp, z) / z * at.k

    def _turn(self, at: _Entry, z: Numbers, gamma: Numbers, xp: Any) -> tuple[Numbers, Numbers]:
        """k psi(z)/z, and k gamma times its slope over z."""
        law = self.chart.law
        ratio, near = law.psi(xp, z) / z, some(z < SMALL_RATIO, xp)
        steep = (law.psi_slope(xp, z) - ratio) / (z * z)
        if near is not None:
            steep = xp.where(near, fall(law.exit, xp.where(near, z * z, 0.0)), steep)
        return ratio * at.k, steep * (at.k * gamma)

    def _columns(
        self, at: _Entry, through: Numbers, by_space: Numbers, by_time: Numbers, xp: Any
    ) -> list[Numbers]:
        """What x is to be multiplied by; then, of each token, by gain, radius and what a token scale learns.

        ``through`` is <P, image>, the others <dy, A x> and <dy, time_A>.
        """
        law = self.chart.law
        slope = law.phi_slope(xp, at.a)
        pushed = at.a * slope * (at.phi / at.time * by_time)
        moved, shallow = at.a * slope, some(at.a < SMALL_ANGLE, xp)
        turned = moved - at.phi
        if shallow is not None:
            turned = xp.where(shallow, at.phi * bend(law.entry, at.a * at.a), turned)
        whole = moved * (by_space / at.n) + pushed
        by_norm = turned * (by_space / at.n) + pushed
        if self.chart.length is not None:
            by_norm = -at.phi * (by_space / at.n)
        by_radius = through - whole
        if at.past is not None:
            by_radius = xp.where(at.past, 0.0, by_radius)
            if self.chart.length is None:
                by_norm = xp.where(at.past, through - at.phi * (by_space / at.n), by_norm)
        others = []
        if at.token is not None:
            by_norm = by_norm - by_radius * at.token.by_norm
            others = [-by_radius * one for one in at.token.by_learned]
        return [by_norm / (at.n * at.n), through, by_radius, *others]
