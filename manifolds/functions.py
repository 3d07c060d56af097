"""Functions that stay right where textbook forms cancel, overflow or lose their gradient.

Every ``where`` and every guard of the manifolds lives in this file. The radial functions take the *signed
square* ``q`` of their argument, so one smooth function serves both signs of curvature::

    sinhc(q) = sinh(t)/t   for q =  t^2          sinhc(q) = sin(t)/t   for q = -t^2

and likewise cosh/cos, tanh/tan, asinh/asin, atanh/atan. They are analytic at ``q = 0``, where a power series
gives the value and every derivative.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

Scalar = Float[Tensor, "... 1"]
Vector = Float[Tensor, "... n"]
Unary = Callable[[Tensor], Tensor]

# Below this |q| the series is used: its closed form's derivative loses 3/q ulps to cancellation.
SERIES = 0.16


def _asinh_term(n: int) -> Fraction:
    return Fraction((-1) ** n * math.factorial(2 * n), 4**n * math.factorial(n) ** 2 * (2 * n + 1))


def _tanh_terms(count: int) -> list[Fraction]:
    """Coefficients of tanh(t)/t in t^2: quotient of the series of sinh(t)/t and cosh(t)."""
    terms: list[Fraction] = []
    for n in range(count):
        known = sum(
            (terms[j] / math.factorial(2 * (n - j)) for j in range(n)),
            start=Fraction(0),
        )
        terms.append(Fraction(1, math.factorial(2 * n + 1)) - known)
    return terms


def truncate(terms: Sequence[Fraction | float]) -> dict[torch.dtype, tuple[float, ...]]:
    """As many leading terms as a dtype can see at |q| = SERIES, highest power first."""
    kept = {}
    for dtype in (torch.float32, torch.float64):
        floor = torch.finfo(dtype).eps / 16
        seen = [float(c) for n, c in enumerate(terms) if abs(float(c)) * max(n, 1) * SERIES**n > floor]
        kept[dtype] = tuple(reversed(seen))
    return kept


_TERMS = 32
_SINH = truncate([Fraction(1, math.factorial(2 * n + 1)) for n in range(_TERMS)])
_COSH = truncate([Fraction(1, math.factorial(2 * n)) for n in range(_TERMS)])
_TANH = truncate(_tanh_terms(_TERMS))
_ASINH = truncate([_asinh_term(n) for n in range(_TERMS)])
_ATANH = truncate([Fraction(1, 2 * n + 1) for n in range(_TERMS)])


def _horner(q: Tensor, terms: tuple[float, ...]) -> Tensor:
    total = torch.full_like(q, terms[0])
    for term in terms[1:]:
        total = total * q + term
    return total


def even(
    q: Tensor, terms: dict[torch.dtype, tuple[float, ...]], hyperbolic: Unary, circular: Unary
) -> Tensor:
    """Series near 0, ``hyperbolic(sqrt q)`` above, ``circular(sqrt -q)`` below; NaN stays NaN."""
    above, below = q >= SERIES, ~(q > -SERIES)
    near = _horner(torch.where(above | below, 0.0, q), terms[q.dtype])
    high = hyperbolic(torch.sqrt(torch.where(above, q, 0.25)))
    low = circular(torch.sqrt(torch.where(below, -q, 0.25)))
    return torch.where(above, high, torch.where(below, low, near))


def sinhc(q: Scalar) -> Scalar:
    """sinh(t)/t at q = t^2, sin(t)/t at q = -t^2; inf where sinh overflows."""
    return even(q, _SINH, lambda t: torch.sinh(t) / t, lambda t: torch.sin(t) / t)


def coshc(q: Scalar) -> Scalar:
    """cosh(t) at q = t^2, cos(t) at q = -t^2."""
    return even(q, _COSH, torch.cosh, torch.cos)


def tanhc(q: Scalar) -> Scalar:
    """tanh(t)/t at q = t^2, tan(t)/t at q = -t^2."""
    return even(q, _TANH, lambda t: torch.tanh(t) / t, lambda t: torch.tan(t) / t)


def asinhc(q: Scalar) -> Scalar:
    """asinh(t)/t at q = t^2, asin(t)/t at q = -t^2 with t <= 1."""
    return even(q, _ASINH, lambda t: torch.asinh(t) / t, lambda t: torch.asin(t) / t)


def atanhc(q: Scalar) -> Scalar:
    """atanh(t)/t at q = t^2 < 1, atan(t)/t at q = -t^2; log1p(t) - log(1 - t^2)/2 keeps the edge."""
    edge = torch.log1p(-torch.where(q >= SERIES, q, 0.5)) / 2
    return even(q, _ATANH, lambda t: (torch.log1p(t) - edge) / t, lambda t: torch.atan(t) / t)


def dot(x: Vector, y: Vector) -> Scalar:
    """Sum of products over the last axis, axis kept."""
    return (x * y).sum(-1, keepdim=True)


def square(x: Vector) -> Scalar:
    """Squared Euclidean norm over the last axis, axis kept."""
    return dot(x, x)


def root(q: Scalar) -> Scalar:
    """sqrt(q) with gradient 0 at 0."""
    zero = q == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, q)))


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 with gradient 0 where b = 0."""
    zero = b == 0
    return torch.where(zero, 0.0, a / torch.where(zero, 1.0, b))


def scale(x: Vector) -> Scalar:
    """Largest absolute entry, detached, 1 for the zero vector: dividing by it keeps squares in range."""
    if x.shape[-1] == 0:
        return x.new_ones(*x.shape[:-1], 1)
    largest = x.detach().abs().amax(-1, keepdim=True)
    return torch.where((largest == 0) | largest.isinf(), 1.0, largest)


def norm(x: Vector) -> Scalar:
    """Euclidean norm over the last axis, right from the smallest to the largest float; gradient 0 at 0."""
    size = scale(x)
    return size * root(square(x / size))


def hypot(a: Tensor, b: Tensor) -> Tensor:
    """sqrt(a^2 + b^2) without overflow; gradient 0 where both are 0."""
    size = torch.maximum(a.detach().abs(), b.detach().abs())
    size = torch.where((size == 0) | size.isinf(), 1.0, size)
    return size * root((a / size).square() + (b / size).square())


def unit(x: Vector) -> Vector:
    """x / |x|, and 0 with gradient 0 at 0."""
    return ratio(x, norm(x))


def within(size: Scalar, bound: Scalar) -> Scalar:
    """The factor min(1, bound/size) that brings a vector of this size back to the bound."""
    over = size > bound
    return torch.where(over, bound / torch.where(over, size, 1.0), 1.0)


def capped(size: Scalar, bound: Scalar | float) -> Scalar:
    """min(size, bound), gradient 0 beyond the bound; NaN stays NaN."""
    return torch.where(size > bound, bound, size)


def nearer(x: Vector, y: Vector) -> tuple[Vector, Scalar]:
    """y - x or y + x, whichever subtracts numbers of one sign, and the sign taken off: exact in both ends."""
    sign = torch.where(dot(x, y) < 0, -1.0, 1.0).to(y.dtype)
    return y - sign * x, sign


def from_norm(t: Scalar, near: Unary, far: Unary) -> Scalar:
    """near(t^2) up to 1, far(t) beyond, where t^2 may not fit."""
    beyond = ~(t <= 1.0)
    return torch.where(beyond, far(torch.where(beyond, t, 1.0)), near(torch.where(beyond, 0.0, t).square()))


def positive(alpha: Scalar) -> Scalar:
    """alpha held above a quarter of eps: what is left of 1 - k |x|^2 when rounding reaches the boundary."""
    floor = torch.finfo(alpha.dtype).eps / 4
    return torch.where(alpha < floor, floor, alpha)


def sech_square(q: Scalar) -> Scalar:
    """1/cosh(t)^2 at q = t^2, 1/cos(t)^2 at q = -t^2; 0 where cosh overflows."""
    return coshc(q).square().reciprocal()


def quarter_radius(kappa: Tensor, dtype: torch.dtype) -> Tensor:
    """R/4 of the most curved part, detached; 1/4 where all are flat."""
    largest = kappa.detach().abs().amax().to(dtype)
    return 0.25 * torch.where(largest == 0, 1.0, largest).rsqrt()
