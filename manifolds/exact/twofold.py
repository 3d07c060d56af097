"""Numbers of 106 bits as unevaluated sums of two float64: what float64 is checked against and refined by.

Source: Dekker, "A floating-point technique for extending the available precision", 1971; Knuth, TAOCP 2,
4.2.2 (two_sum); Joldes, Muller, Popescu, "Tight and rigorous error bounds for basic building blocks of
double-word arithmetic", 2017.
"""

from decimal import Context, Decimal
from typing import Union

import torch
from torch import Tensor

_SPLIT = 2.0**27 + 1
_STEPS = 64  # exp is tabulated at integers, 64ths and 4096ths: what is left is below 1/8192.
_DIGITS = Context(prec=45)


def _table(arguments: list[Decimal]) -> tuple[Tensor, Tensor]:
    """exp at exact arguments, as high and low float64 parts."""
    exact = [_DIGITS.exp(argument) for argument in arguments]
    high = [float(value) for value in exact]
    low = [float(_DIGITS.subtract(value, Decimal(top))) for value, top in zip(exact, high, strict=True)]
    return torch.tensor(high, dtype=torch.float64), torch.tensor(low, dtype=torch.float64)


_TABLES = (
    _table([Decimal(n) for n in range(710)]),
    _table([Decimal(n) / _STEPS for n in range(_STEPS)]),
    _table([Decimal(n) / _STEPS**2 for n in range(_STEPS)]),
)


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a + b and its rounding error."""
    total = a + b
    seen = total - a
    return total, (a - (total - seen)) + (b - seen)


def _renormal(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a + b and its rounding error, for |a| >= |b|."""
    total = a + b
    return total, b - (total - a)


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    """a as a sum of two numbers of 26 bits, whose products are exact."""
    shifted = _SPLIT * a
    high = shifted - (shifted - a)
    return high, a - high


def _two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a b and its rounding error."""
    product = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


# A tensor is not among them: torch.compile would look for its own product with ours. Wrap it by `Twofold.of`.
Real = Union["Twofold", float]


class Twofold:
    """high + low, two float64 tensors of one shape with |low| at most half a unit in the last place of high.

    Sums, products, quotients and roots are right to about 2^-102, exp to 1e-27; neither overflow nor
    underflow is handled: a result that is not finite says that plain float64 must serve.
    """

    def __init__(self, high: Tensor, low: Tensor) -> None:
        self.high, self.low = high, low

    @classmethod
    def of(cls, value: "Twofold | Tensor | float") -> "Twofold":
        """A float64 tensor or a float, exactly."""
        if isinstance(value, Twofold):
            return value
        high = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        return cls(high, torch.zeros_like(high))

    @property
    def value(self) -> Tensor:
        """The nearest float64."""
        return self.high + self.low

    def __add__(self, other: Real) -> "Twofold":
        other = Twofold.of(other)
        high, error = _two_sum(self.high, other.high)
        low, lost = _two_sum(self.low, other.low)
        high, error = _renormal(high, error + low)
        return Twofold(*_renormal(high, error + lost))

    def __neg__(self) -> "Twofold":
        return Twofold(-self.high, -self.low)

    def __sub__(self, other: Real) -> "Twofold":
        return self + -Twofold.of(other)

    def __mul__(self, other: Real) -> "Twofold":
        other = Twofold.of(other)
        high, error = _two_product(self.high, other.high)
        return Twofold(*_renormal(high, error + (self.high * other.low + self.low * other.high)))

    def __truediv__(self, other: Real) -> "Twofold":
        other = Twofold.of(other)
        first = Twofold.of(self.high / other.high)
        rest = self - other * first
        second = Twofold.of(rest.high / other.high)
        rest = rest - other * second
        return first + second + Twofold.of(rest.high / other.high)

    def sqrt(self) -> "Twofold":
        """The square root of a positive number, by one step of Newton's."""
        root = self.high.sqrt()
        return Twofold(*_renormal(root, (self - Twofold(*_two_product(root, root))).high / (2 * root)))

    def exp(self) -> "Twofold":
        """exp for 0 <= value < 690: exp(n) exp(i/64) exp(j/4096) (1 + r + r^2/2 + ...) with |r| < 1/8192."""
        grid = float(_STEPS**2)
        steps = torch.clamp(torch.nan_to_num(torch.round(self.high * grid)), 0, 709 * grid)
        rest = self - Twofold.of(steps / grid)
        r = rest.high
        tail = r * r * r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r / 720)))
        result = rest + rest * rest * 0.5 + Twofold.of(tail) + 1.0
        place = steps.long()
        indices = place // _STEPS**2, place // _STEPS % _STEPS, place % _STEPS
        for (high, low), index in zip(_TABLES, indices, strict=True):
            result = result * Twofold(high.to(r.device)[index], low.to(r.device)[index])
        return result

    def total(self) -> "Twofold":
        """The sum over the last axis, axis kept, by halves."""
        high, low = self.high, self.low
        while high.shape[-1] > 1:
            if high.shape[-1] % 2:
                high, low = (torch.nn.functional.pad(part, (0, 1)) for part in (high, low))
            half = high.shape[-1] // 2
            left = Twofold(high[..., :half], low[..., :half])
            both = left + Twofold(high[..., half:], low[..., half:])
            high, low = both.high, both.low
        return Twofold(high, low)


def dot(x: Tensor, y: Tensor) -> Twofold:
    """Sum of products over the last axis, axis kept."""
    x, y = torch.broadcast_tensors(x, y)
    return Twofold(*_two_product(x, y)).total()
