"""Formulas of the ball in 106 bits: near its edge 1 - k |x|^2 is the geometry, and float64 loses its digits.

Every formula is that of conformal.py; ``k`` is -kappa > 0, of shape (1,). Where k is not positive the result
is NaN and not used.
"""

import torch
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.exact.twofold import Twofold, dot

# k |x|^2 above which 1 - k |x|^2 starts to lose digits.
_INNER = 0.25


def _gap(x: Tensor, k: Tensor) -> Twofold:
    """alpha = 1 - k |x|^2."""
    return dot(x, x) * Twofold.of(-k) + 1.0


def _used(outer: Tensor, values: Tensor, k: Tensor) -> Tensor:
    """The values at outer points of a ball, NaN elsewhere."""
    return torch.where(outer & (k > 0), values, torch.nan)


def _edge(*gaps: Twofold) -> Tensor:
    """Whether one of the points is outside the inner ball, and all are inside the ball."""
    highs = [gap.high for gap in gaps]
    least = highs[0]
    for high in highs[1:]:
        least = torch.minimum(least, high)
    return (least < 1 - _INNER) & (least > 0)


def logmap0(x: Tensor, k: Tensor) -> Tensor:
    """2 atanh(t)/t x with t = |x|/R and atanh t = log1p(t) - log(1 - t^2)/2."""
    alpha, t = _gap(x, k), fn.norm(x) * k.sqrt()
    return _used(_edge(alpha), 2 * (torch.log1p(t) - torch.log(alpha.value) / 2) / t * x, k)


def inner(x: Tensor, u: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """4 <u, v>/alpha^2."""
    alpha = _gap(x, k)
    return _used(_edge(alpha), 4 * (dot(u, v) / (alpha * alpha)).value, k)


def egrad2rgrad(x: Tensor, g: Tensor, k: Tensor) -> Tensor:
    """alpha^2 g/4."""
    alpha = _gap(x, k)
    return _used(_edge(alpha), (alpha.value / 2).square() * g, k)


def _chord(x: Tensor, y: Tensor, k: Tensor) -> tuple[Twofold, Twofold, Tensor]:
    """alpha, beta and h = k |y - x|^2/(alpha beta)."""
    alpha, beta = _gap(x, k), _gap(y, k)
    return alpha, beta, k * fn.square(y - x) / (alpha * beta).value


def arc(x: Tensor, y: Tensor, k: Tensor) -> Tensor:
    """2R asinh(sqrt h)."""
    alpha, beta, h = _chord(x, y, k)
    return _used(_edge(alpha, beta), 2 * fn.norm(y - x) * fn.asinhc(h) * (alpha * beta).value.rsqrt(), k)


def logmap(x: Tensor, y: Tensor, k: Tensor) -> Tensor:
    """asinhc(h)/(beta sqrt(1 + h)) (alpha d - k |d|^2 x) with d = y - x."""
    x, y = torch.broadcast_tensors(x, y)
    alpha, beta, h = _chord(x, y, k)
    d = y - x
    away = alpha.value * d - k * fn.square(d) * x
    return _used(_edge(alpha, beta), fn.asinhc(h) / torch.sqrt(1 + h) / beta.value * away, k)


def expmap(x: Tensor, u: Tensor, k: Tensor) -> Tensor:
    """x + alpha (w + k |w|^2 x)/(alpha (1 - k |w|^2) + k |x + w|^2), w = tanh(a/2)/(sqrt(k) |u|) u.

    a = 2 sqrt(k) |u|/alpha is the length over R; with E = exp(a), tanh(a/2) = (E - 1)/(E + 1) and
    1 - k |w|^2 = 4 E/(E + 1)^2.
    """
    x, u = torch.broadcast_tensors(x, u)
    alpha, wide, origin = _gap(x, k), Twofold.of(k), Twofold.of(x)
    size = (dot(u, u) * wide).sqrt()
    grown = (size / alpha * 2.0).exp()
    risen = grown + 1.0
    half = (grown - 1.0) / risen
    w = half / size * Twofold.of(u)
    beyond = origin + w
    below = alpha * grown * 4.0 / (risen * risen) + (beyond * beyond).total() * wide
    point = origin + alpha * (w + half * half * origin) / below
    return _used(_edge(alpha) & (size.high > 0), point.value, k)


def transp(x: Tensor, y: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """(beta/alpha) gyr[y, -x] v, written in d = y - x."""
    x, y, v = torch.broadcast_tensors(x, y, v)
    alpha, beta, wide = _gap(x, k), _gap(y, k), Twofold.of(k)
    start, vector = Twofold.of(x), Twofold.of(v)
    d = Twofold.of(y) - start
    sq, xd, xv, dv = (d * d).total(), (d * start).total(), dot(x, v), (d * vector).total()
    along_x = (alpha * dv - sq * xv * wide) * wide
    along_d = (dot(x, x) * dv * wide + xv * (alpha - xd * wide * 2.0)) * wide
    turn = Twofold.of(2.0) / (alpha * beta + sq * wide)
    moved = beta / alpha * (turn * (along_x * start - along_d * d) + vector)
    return _used(_edge(alpha, beta), moved.value, k)
