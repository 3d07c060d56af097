"""Hyperboloid formulas in space coordinates that neither cancel far out nor lose gradients at the origin.

Far from the origin vectors are split along and across the radius, because -t^2 + |s|^2 is a difference of
large numbers. That split has no derivative at the origin, so within a distance of about R the direct,
smooth form is used: there it loses no digits. Throughout, ``s`` is 1/R and lengths come as tensors (..., 1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds import functions as fn

# Where the direct forms still lose less than a digit, in units of R.
_NEAR = 1.0
_LOW = 0.1


class Chord(NamedTuple):
    """The chord y - x between two points.

    Attributes:
        step: y - x in space coordinates.
        half: R sinh(dist/2R), half the chord's length: <y - x, y - x>_L = 4 half^2.
    """

    step: Tensor
    half: Tensor

    @classmethod
    def between(cls, x: Tensor, y: Tensor, s: Tensor) -> "Chord":
        """From space coordinates of shape (..., n) and s of shape (1,)."""
        x, y = torch.broadcast_tensors(x, y)
        stretch_x, stretch_y = stretch(x, s), stretch(y, s)
        step = y - x
        # t_y - t_x as a product with y - x: no digits are lost where the times are close.
        slope = s * (x + y) / (stretch_x + stretch_y)
        near, low, far, first = _regions(s * fn.norm(x), s * fn.norm(y))
        half = torch.where(near, _half_near(step, slope, near), 0.0)
        half = torch.where(low, _half_low(x, y, stretch_x * stretch_y, s, low), half)
        polar = _half_far(torch.where(first, x, y), torch.where(first, y, x), s, far)
        return cls(step, torch.where(far, polar, half))


def stretch(x: Tensor, s: Tensor) -> Tensor:
    """sqrt(1 + s^2 |x|^2), the time coordinate over R."""
    return fn.hypot(torch.ones_like(s), s * fn.norm(x))


def _regions(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both near; the lower one low and the other far; the rest, NaN included; and whether x is the lower."""
    first = x < y
    lower, upper = torch.where(first, x, y), torch.where(first, y, x)
    near = upper < _NEAR
    low = (lower < _LOW) & (upper >= _NEAR)
    return near, low, ~(near | low), first


def _half_near(step: Tensor, slope: Tensor, used: Tensor) -> Tensor:
    """|d|/2 sqrt(1 - c^2), c the climb per length of the chord: smooth at the origin and in kappa."""
    climb = fn.dot(fn.unit(step), slope)
    return fn.norm(step) / 2 * torch.sqrt(torch.where(used, (1 - climb) * (1 + climb), 1.0))


def _half_low(x: Tensor, y: Tensor, stretches: Tensor, s: Tensor, used: Tensor) -> Tensor:
    """half^2 = (t_x t_y - R^2 - <x, y>)/2, which does not cancel when only one point is far."""
    square = (stretches - 1 - fn.dot(s * x, s * y)) / 2
    return torch.sqrt(torch.where(used, square, 1.0)) / s


def _half_far(low: Tensor, high: Tensor, s: Tensor, used: Tensor) -> Tensor:
    """half^2 = R^2 sinh^2((r_hi - r_lo)/2R) + |d_perp|^2 n_lo/4n_hi: radii apart, then angle."""
    low, high = torch.where(used, low, 1.0), torch.where(used, high, 1.0)
    n_low, n_high, step = fn.norm(low), fn.norm(high), high - low
    total = n_low + n_high
    climb = fn.dot(step, (low + high) / total)  # n_hi - n_lo
    weight = fn.ratio(n_high, total) * stretch(low, s) + fn.ratio(n_low, total) * stretch(high, s)
    radial = fn.ratio(s * climb, weight)
    across = fn.norm(step - climb * (low / n_low)) * fn.root(fn.ratio(n_low, n_high))
    sinh_half = radial / torch.sqrt(2 * (1 + fn.hypot(torch.ones_like(radial), radial)))
    return fn.hypot(sinh_half / s, across / 2)


def inner(x: Tensor, u: Tensor, v: Tensor, s: Tensor) -> Tensor:
    """<u, v>_L of tangent vectors at x from space parts: the part along the radius is shortened by R/t."""
    slope = s * x / stretch(x, s)
    near = fn.dot(u, v) - fn.dot(slope, u) * fn.dot(slope, v)
    far = s * fn.norm(x) > _NEAR
    ray = fn.unit(torch.where(far, x, 1.0))
    u_along, v_along, shrink = fn.dot(ray, u), fn.dot(ray, v), stretch(x, s)
    across = fn.dot(u - u_along * ray, v - v_along * ray)
    return torch.where(far, across + (u_along / shrink) * (v_along / shrink), near)


def pairing(x: Tensor, y: Tensor, v: Tensor, s: Tensor) -> Tensor:
    """<y, v>_L for a point y and a vector v tangent at x, from space parts."""
    x, y, v = torch.broadcast_tensors(x, y, v)
    n_x, n_y, t_x, t_y = fn.norm(x), fn.norm(y), stretch(x, s), stretch(y, s)
    near = fn.dot(y, v) - t_y * fn.dot(x / t_x, v)
    far = (s * n_x > _NEAR) & (s * n_y > _NEAR)
    x, y = torch.where(far, x, 1.0), torch.where(far, y, 1.0)
    n_x, n_y, t_x, t_y = fn.norm(x), fn.norm(y), stretch(x, s), stretch(y, s)
    ray, total = x / n_x, n_x + n_y
    v_along, climb = fn.dot(ray, v), fn.dot(y - x, (x + y) / total)
    # y_ray - |x| t_y/t_x, the radial part of y as v sees it: radii apart, less what the angle takes.
    apart = fn.ratio(climb / t_x, fn.ratio(n_y, total) * t_x + fn.ratio(n_x, total) * t_y)
    low = torch.where(n_x < n_y, ray, y / n_y)
    turned = fn.ratio(fn.norm(y - x - climb * low), torch.maximum(n_x, n_y))
    seen = apart - n_y * turned.square() / 2
    return torch.where(far, fn.dot(y, v - v_along * ray) + v_along * seen, near)


def advance(x: Tensor, u: Tensor, s: Tensor) -> Tensor:
    """cosh(a) x + sinh(a)/a u with a = s |u|_L, in space coordinates."""
    x, u = torch.broadcast_tensors(x, u)
    far = s * fn.norm(x) > _NEAR
    q = s.square() * inner(x, u, u, s)
    near = fn.coshc(q) * x + fn.sinhc(q) * u
    return torch.where(far, _advance_far(torch.where(far, x, 1.0), u, s), near)


def _advance_far(x: Tensor, u: Tensor, s: Tensor) -> Tensor:
    """The same, along and across the radius.

    With rho = asinh(s|x|), b the length of u along the radius, p across, a^2 = b^2 + p^2, the radius becomes

        sinh(rho + b) + sinh(rho) (cosh a - cosh b) + cosh(rho) (b sinh(a)/a - sinh b)

    and both differences are written as multiples of a - |b| = p^2/(a + |b|).
    """
    size, grown = s * fn.norm(x), stretch(x, s)
    ray = s * x / size
    along = fn.dot(ray, u)
    across = u - along * ray
    b, p_square = s * along / grown, fn.square(s * across)
    a, b_abs = fn.root(b.square() + p_square), b.abs()
    gap = fn.ratio(p_square, a + b_abs)
    half_gap, half_sum = fn.sinhc(gap.square() / 4), (a + b_abs) / 2
    cosh_gap = torch.sinh(half_sum) * gap * half_gap
    sinh_gap = (b_abs * torch.cosh(half_sum) * half_gap - torch.sinh(b_abs)) * fn.ratio(gap, a)
    radius = torch.sinh(torch.asinh(size) + b) + size * cosh_gap + grown * torch.sign(b) * sinh_gap
    return radius / s * ray + fn.sinhc(a.square()) * across
