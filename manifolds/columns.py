"""Functions of columns for closed forms that carry their own gradient: nothing here is differentiated."""

import torch
from torch import Tensor

# Below, a quotient of differences loses digits that its power series keeps.
_SERIES = 1e-3
# A length that is 0 to every sum, and not to a quotient.
TINY = 1e-300
# An angle whose sinh still has a square in float64.
_LARGEST = 350.0


def norm(x: Tensor) -> Tensor:
    """|x| over the last axis, axis kept, in one pass."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def square(x: Tensor) -> Tensor:
    """|x|^2 over the last axis, axis kept, in one pass."""
    return norm(x).square_()


def over(a: Tensor, b: Tensor) -> Tensor:
    """a / b, 0 where b is 0."""
    return torch.where(b == 0, 0.0, a / b)


def asinhc(h: Tensor) -> Tensor:
    """A = asinh(sqrt h)/sqrt h, 1 at 0."""
    root = h.sqrt().clamp_(min=TINY)
    return root.asinh().div_(root)


def asinh(exact: bool, root: Tensor, h: Tensor, flat_root: Tensor) -> Tensor:
    """asinh(sqrt h) from sqrt h, h, sqrt(1 + h); by log1p, which is quicker, where its last digit is free."""
    return root.asinh() if exact else (flat_root + 1.0).reciprocal_().mul_(h).add_(root).log1p_()


def asinhc_slope(h: Tensor, flat: Tensor, value: Tensor) -> Tensor:
    """dA/dh = (1/sqrt(1 + h) - A)/2h, for h of either sign, from flat = 1 + h and A."""
    series = -1 / 6 + h * (3 / 20 + h * (-15 / 112 + h * (35 / 288)))
    return torch.where(h.abs() < _SERIES, series, (flat.rsqrt() - value) / (2 * h))


def rolled(q: Tensor) -> tuple[Tensor, Tensor]:
    """cosh(a) and sinh(a)/a at q = a^2 >= 0."""
    a = q.sqrt().clamp_(TINY, _LARGEST)
    return a.cosh(), a.sinh().div_(a)


def sinhc_slope(q: Tensor, cosh: Tensor, sinhc: Tensor) -> Tensor:
    """The derivative of sinh(sqrt q)/sqrt q by q, for q of either sign."""
    series = 1 / 6 + q * (1 / 60 + q * (1 / 1680 + q * (1 / 90720)))
    return torch.where(q.abs() < _SERIES, series, (cosh - sinhc) / (2 * q))


def tanhc_slope(q: Tensor, tanhc: Tensor, beyond: Tensor) -> Tensor:
    """The derivative of tanh(sqrt q)/sqrt q by q, for q of either sign; ``beyond`` is 1 - tanh^2."""
    series = -1 / 3 + q * (4 / 15 + q * (-17 / 105 + q * (248 / 2835)))
    return torch.where(q.abs() < _SERIES, series, (beyond - tanhc) / (2 * q))
