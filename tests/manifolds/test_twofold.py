"""106-bit arithmetic against mpmath, and what it is for: float64 results right to the last digit."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from mpmath import mp, mpf

from manifold_lora.manifolds import Lorentz, Poincare, Stereographic
from manifold_lora.manifolds.exact.twofold import Twofold, dot

mp.dps = 60
numbers = st.floats(1e-6, 600.0)
shares = st.integers(-500, 500).map(lambda n: n / 1000)
signs = st.sampled_from([-1.0, 1.0])


def twofold(high: float, share: float) -> Twofold:
    return Twofold(*(torch.tensor([part], dtype=torch.float64) for part in (high, high * share * 2.0**-53)))


def exact(number: Twofold) -> mpf:
    return mpf(number.high.item()) + mpf(number.low.item())


@settings(max_examples=200, deadline=None)
@given(numbers, numbers, shares, signs)
def test_arithmetic_is_right_to_30_digits(a: float, b: float, share: float, sign: float) -> None:
    x, y = twofold(a, share), twofold(sign * b, -share)
    p, q = exact(x), exact(y)
    for got, want in [(x + y, p + q), (x - y, p - q), (x * y, p * q), (x / y, p / q), (x.sqrt(), mp.sqrt(p))]:
        assert abs(exact(got) - want) <= mpf(10) ** -30 * abs(want)


@settings(max_examples=200, deadline=None)
@given(st.floats(0.0, 690.0), shares)
def test_exp_is_right_to_27_digits(a: float, share: float) -> None:
    x = twofold(a, share)
    assert abs(exact(x.exp()) - mp.exp(exact(x))) <= mpf(10) ** -27 * mp.exp(exact(x))


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_dot_does_not_cancel(n: int) -> None:
    x, y = torch.randn(2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    y = torch.cat([y, -y + 1e-20 * x])  # Half of every product takes the other half away.
    x = torch.cat([x, x])
    want = mp.fdot([mpf(v) for v in x.tolist()], [mpf(v) for v in y.tolist()])
    assert abs(exact(dot(x, y)) - want) <= 1e-28 * n


def test_overflow_is_not_finite() -> None:
    assert not Twofold.of(torch.tensor([1e200], dtype=torch.float64)).exp().value.isfinite()


@pytest.mark.parametrize("manifold", [Lorentz(-0.6), Poincare(-0.6), Stereographic(-0.6)])
def test_there_and_back_far_out(manifold: Lorentz) -> None:
    """A geodesic of length 20 R through the origin ends where it should; float64 alone keeps 2 digits."""
    v = torch.tensor([[0.6, -0.8]], dtype=torch.float64) * 10 / 0.6**0.5
    x, y = manifold.expmap0(v), manifold.expmap0(-v)
    torch.testing.assert_close(
        manifold.dist(x, y), torch.full((1, 1), 20 / 0.6**0.5).double(), rtol=4e-8, atol=0
    )
    back = manifold.expmap(x, manifold.logmap(x, manifold.origin(2, dtype=torch.float64)))
    # The rounding of the tangent vector, magnified by exp(10), is what is left.
    assert manifold.logmap0(back).abs().max() < 1e-7


def test_gradient_is_that_of_the_plain_formula() -> None:
    v = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    manifold = Lorentz(-1.0)
    (slope,) = torch.autograd.grad(manifold.expmap0(v)[1:].norm(), v)
    torch.testing.assert_close(
        slope, torch.cosh(torch.tensor(5.0).double()) * v.detach() / 5, rtol=1e-14, atol=0
    )


def test_narrower_results_do_without() -> None:
    """Counting calls: float32 is carried in float64, whose last digits it would round away."""
    asked: list[str] = []

    class Counted(Lorentz):
        def exactly(self, operation: str, *arguments: torch.Tensor) -> torch.Tensor | None:
            asked.append(operation)
            return super().exactly(operation, *arguments)

    x = Counted().expmap0(torch.tensor([1.0, 2.0]))
    Counted().midpoint(x, x)
    assert asked == []
    Counted().midpoint(x.double(), x.double())
    assert [name for name in asked if name != "coords"] == ["logmap", "expmap"]


def test_a_geometry_of_its_own_is_left_alone() -> None:
    class Shifted(Lorentz):
        def logmap0(self, x: torch.Tensor) -> torch.Tensor:
            return super().logmap0(x) + 1.0

    v = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert Lorentz.is_exact
    assert not Shifted.is_exact
    torch.testing.assert_close(Shifted().logmap0(Lorentz().expmap0(v)), v + 1.0)
