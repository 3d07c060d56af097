"""A few tokens without gradient take a short way, with gains from Python's floats; nothing else changes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters import ManifoldUpdate
from manifold_lora.adapters.fast import few_tokens
from manifold_lora.adapters.fast.scalars import Chart, Norms, gain_of
from manifold_lora.manifolds import Lorentz, Poincare, Sphere

LAWS = {"lorentz": Lorentz.radial_law, "poincare": Poincare.radial_law, "sphere": Sphere.radial_law}
SCALINGS = ["identity", "fixed", "learned", "released", "unit"]
length = st.one_of(st.just(0.0), st.floats(-9, 4).map(lambda power: 10**power))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(LAWS)),
    st.floats(0.1, 10.0),
    st.none() | st.floats(1e-9, 5.0),
    st.sampled_from([0.5, 3.0, math.inf]),
    length,
    length,
    length,
)
def test_gain_is_that_of_many_tokens(
    name: str, radius: float, angle: float | None, limit: float, n: float, rank: float, q: float
) -> None:
    law = LAWS[name]
    edge = 1 - 1e-6 if law.bounded else math.inf
    chart = Chart(law, radius, None if angle is None else angle * radius, edge, min(limit, law.turn))
    norms = Norms(*(np.array([[value]]) for value in (n, rank, q)))
    want = gain_of(chart, norms, np).item()
    # Near an edge the two modules' last digit of phi is worth 1/(1 - z).
    message = pytest.approx(want, rel=1e-9 if law.bounded else 1e-12)
    assert few_tokens.gain(chart, n, rank, q) == message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", sorted(LAWS))
def test_one_token_and_several_equal_their_rows_in_a_batch(
    name: str, scaling: str, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, A, B = (torch.randn(size, generator=generator).to(dtype) / 3 for size in ((66, 16), (4, 16), (8, 4)))
    base = torch.randn(66, 8, generator=generator).to(dtype)
    update = ManifoldUpdate.from_spec({"manifold": name, "norm_scaling": scaling}, 16, 8, 4)
    with torch.no_grad():
        many = update(x, A, B, base=base, scaling=2.0)
        single = torch.cat([update(x[i, None], A, B, base=base[i, None], scaling=2.0) for i in range(66)])
        several = update(x[:64].view(4, 16, 16), A, B, base=base[:64].view(4, 16, 8), scaling=2.0)
        alone = update(x[:64], A, B, scaling=2.0)
        assert few_tokens.serves(x[0, None], A)
        assert few_tokens.serves(x[:64], A)
        assert not few_tokens.serves(x[:65], A)
        assert not few_tokens.serves(x[:0], A)
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(single, many, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(several.view(64, 8), many[:64], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(alone + base[:64], many[:64], rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("among", [1, 9])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e4, 1e18, math.inf, math.nan])
def test_any_length_is_as_in_a_batch(size: float, among: int) -> None:
    x = torch.tensor([[0.6, 0.8]]) * size
    A, B = torch.eye(2), torch.eye(2) / 2
    update = ManifoldUpdate.from_spec({"manifold": "lorentz", "norm_scaling": "learned"}, 2, 2, 2)
    with torch.no_grad():
        few, many = update(x.expand(among, 2), A, B)[:1], update(x.expand(70, 2), A, B)[:1]
    torch.testing.assert_close(few, many, equal_nan=True, rtol=1e-6, atol=0)


def test_under_vmap_each_call_is_as_by_itself() -> None:
    x, A, B = torch.randn(5, 1, 4), torch.randn(2, 4), torch.randn(3, 2)
    update = ManifoldUpdate.from_spec({"manifold": "lorentz"}, 4, 3, 2)
    with torch.no_grad():
        mapped = torch.vmap(lambda one: update(one, A, B))(x)
        torch.testing.assert_close(mapped, torch.stack([update(one, A, B) for one in x]))


def test_a_gradient_is_never_lost() -> None:
    x, A, B = torch.randn(1, 4), torch.randn(2, 4, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    update = ManifoldUpdate.from_spec({"manifold": "lorentz"}, 4, 3, 2)
    update(x, A, B).sum().backward()
    assert A.grad is not None
    assert B.grad is not None
