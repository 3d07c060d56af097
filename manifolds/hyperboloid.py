"""What the closed forms of the hyperboloid are made of, on space coordinates; k = -kappa = 1/R^2.

E = sqrt(1 + k |x|^2) is the time coordinate over R, and H = sinh^2(dist/2R) = k <y - x, y - x>_L / 4. Close
to the origin H is a difference that loses nothing. Far out it is a difference of large numbers, and is taken
along and across the radius instead:

    H = sinh^2((rho_y - rho_x)/2) + k |x| |y| sin^2(theta/2),   rho = asinh(sqrt(k) |x|).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.columns import over, square
from manifold_lora.manifolds.scratch import Scratch

# E_x + E_y up to which differences are right: to the last digits of float64; of float32 carried in float64.
_NEAR, _FAR = 3.65, 2.0**12
# k |x|^2 likewise, where a vector is measured, and the exponential magnifies what is lost.
_NEAR_ALONG, _FAR_ALONG = 1.0, 2.0**12
# E of the lower point above which the smooth form is split.
_SPLIT = 3.0


def longest(dtype: torch.dtype) -> float:
    """The largest coordinate that the dtype holds, and float64 its square."""
    return float(min(torch.finfo(dtype).max, torch.finfo(torch.float64).max ** 0.5))


def farthest(k: Any, dtype: torch.dtype) -> Any:
    """The largest angle a whose coordinates R sinh(a) the dtype holds, in float64 squared."""
    largest = math.log(longest(dtype)) - 3
    if isinstance(k, float):
        return largest - max(0.0, -0.5 * math.log(k))
    return largest + fn.capped(0.5 * k.log(), 0.0)


class Pair(NamedTuple):
    """Two points: d = y - x, |x|^2, |y|^2, E_x, E_y, delta = E_y - E_x, H; where split, its angular part."""

    d: Tensor
    xx: Tensor
    yy: Tensor
    ex: Tensor
    ey: Tensor
    delta: Tensor
    h: Tensor
    turned: Tensor | None = None


def measure(k: Any, exact: bool, pad: Scratch, x: Tensor, y: Tensor) -> Pair:
    """The pair of rows x, y."""
    d, xx, yy = pad.pair(torch.sub, x, y), square(x), square(y)
    ex, ey, dd = (xx * k).add_(1.0).sqrt_(), (yy * k).add_(1.0).sqrt_(), square(d)
    both = ex + ey
    near = isinstance(k, float) and both.amax().item() < (_NEAR if exact else _FAR)
    # |y|^2 - |x|^2, which has no digits as a difference where the points are close.
    apart = yy - xx if near and not exact else torch.add(dd, pad.dot(x, d), alpha=2)
    delta = (apart * k).div_(both)
    if near:
        h = dd.mul_(k).sub_(delta.square()).mul_(0.25).clamp_(min=0.0)
        return Pair(d, xx, yy, ex, ey, delta, h)
    nx, ny = xx.sqrt(), yy.sqrt()
    radial = (k**0.5 * over(apart, ny * ex + nx * ey)).square_()
    climb = over(apart, nx + ny) / 2
    across = pad.combine((None, d), (over(-climb, nx), x), (over(-climb, ny), y))
    turned = k * nx * ny * over(square(across), (nx + ny).square())
    return Pair(d, xx, yy, ex, ey, delta, radial / (2 + 2 * (1 + radial).sqrt()) + turned, turned)


def length(k: Any, exact: bool, pad: Scratch, x: Tensor, u: Tensor, xx: Tensor, xu: Tensor) -> Tensor:
    """|u|_L^2 of a vector tangent at x: the part along the radius is shortened by E."""
    e_square = (xx * k).add_(1.0)
    if isinstance(k, float) and k * xx.amax().item() < (_NEAR_ALONG if exact else _FAR_ALONG):
        return (square(u) - k * xu.square() / e_square).clamp_(min=0.0)
    return square(pad.combine((None, u), (over(-xu, xx), x))) + over(xu.square(), xx) / e_square


def seen(k: Any, pad: Scratch, pair: Pair, x: Tensor, y: Tensor, v: Tensor, xv: Tensor) -> Tensor:
    """<y, v>_L of a vector v tangent at x."""
    lean = xv / pair.ex
    if pair.turned is None:
        return pad.dot(pair.d, v) - pair.delta * lean
    nx, ny = pair.xx.sqrt(), pair.yy.sqrt()
    apart = over(pad.dot(pair.d, torch.add(x, y, out=pad.like(x))), ny * pair.ex + nx * pair.ey)
    across = pad.combine((None, v), (over(-xv, pair.xx), x))
    along = over(xv, nx) * (apart / pair.ex - over(2 * pair.turned, k * nx))
    return pad.dot(y, across) + along


def remeasure(k: Any, pad: Scratch, x: Tensor, y: Tensor, xx: Tensor, yy: Tensor, h: Tensor) -> Pair:
    """The pair once more from what was saved."""
    ex, ey = (xx * k).add_(1.0).sqrt_(), (yy * k).add_(1.0).sqrt_()
    return Pair(pad.pair(torch.sub, x, y), xx, yy, ex, ey, (yy - xx).mul_(k).div_(ex + ey), h)


def h_by_x(k: Any, pair: Pair, h_bar: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients of d and x in the gradient of x by way of H: -k/2 (d - delta/E_x x)."""
    by_d = h_bar * (-k / 2)
    return by_d, by_d * pair.delta / -pair.ex


def h_by_y(k: Any, pair: Pair, h_bar: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients of d and x in the gradient of y by way of H: k/2 (d - delta/E_y y)."""
    lean = pair.delta / pair.ey
    half = h_bar * (k / 2)
    return (1 - lean) * half, -lean * half


def h_by_k(k: Any, pair: Pair) -> tuple[Tensor, Tensor]:
    """The derivatives of H and of H/k by k."""
    flat = -(pair.delta / k).square() / (4 * pair.ex * pair.ey)
    return pair.h / k + k * flat, flat


def stretch(x: Tensor, k: Tensor) -> Tensor:
    """E = sqrt(1 + k |x|^2), differentiable."""
    return torch.sqrt(1 + k * fn.square(x))


def smooth_h(k: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """H and H/k in differentiable steps: as on the ball near the origin, split where both points are far."""
    x, y = torch.broadcast_tensors(x, y)
    ex, ey, d = stretch(x, k), stretch(y, k), y - x
    # The chord of the ball, x/(1 + E_x), written from the point that is farther out.
    first = ex > ey
    high, e_high = torch.where(first, x, y), torch.where(first, ex, ey)
    low, e_low = torch.where(first, y, x), torch.where(first, ey, ex)
    delta = k * fn.dot(high - low, high + low) / (ex + ey)
    chord = (high - low) / (1 + e_high) - delta / ((1 + ex) * (1 + ey)) * low
    near = 0.25 * (1 + ex) * (1 + ey) * fn.square(chord)
    far = e_low > _SPLIT
    x, y = torch.where(far, x, 1.0), torch.where(far, y, 1.0)
    ex, ey, nx, ny = stretch(x, k), stretch(y, k), fn.norm(x), fn.norm(y)
    d = torch.where(far, d, 0.0)
    apart = fn.dot(d, x + y)
    s_square = k * (apart / (ny * ex + nx * ey)).square()
    climb = apart / (nx + ny) / 2
    across = d - climb / nx * x - climb / ny * y
    turned = k * nx * ny * fn.square(across) / (nx + ny).square()
    flat = torch.where(far, (s_square / (2 + 2 * (1 + s_square).sqrt()) + turned) / k, near)
    return k * flat, flat


def smooth_inner(k: Tensor, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """<u, v>_L of vectors tangent at x, from space parts: the part along the radius is shortened by E."""
    e = stretch(x, k)
    near = fn.dot(u, v) - k * (fn.dot(x, u) / e) * (fn.dot(x, v) / e)
    far = e > _SPLIT
    ray = fn.unit(torch.where(far, x, 1.0))
    u_along, v_along = fn.dot(ray, u), fn.dot(ray, v)
    across = fn.dot(u - u_along * ray, v - v_along * ray)
    return torch.where(far, across + (u_along / e) * (v_along / e), near)


def smooth_seen(k: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    """<y, v>_L of a vector v tangent at x, differentiable."""
    ex, ey, d = stretch(x, k), stretch(y, k), y - x
    near = fn.dot(d, v) - k * fn.dot(d, x + y) / (ex + ey) * (fn.dot(x, v) / ex)
    far = (ex > _SPLIT) & (ey > _SPLIT)
    x, y, d = torch.where(far, x, 1.0), torch.where(far, y, 1.0), torch.where(far, d, 0.0)
    ex, ey, nx, ny = stretch(x, k), stretch(y, k), fn.norm(x), fn.norm(y)
    ray, apart = x / nx, fn.dot(d, x + y)
    climb = apart / (nx + ny) / 2
    across = fn.square((d - climb * ray - climb / ny * y) / (nx + ny))
    along = fn.dot(ray, v)
    split = fn.dot(y, v - along * ray) + along * (apart / (ny * ex + nx * ey) / ex - 2 * ny * across)
    return torch.where(far, split, near)
