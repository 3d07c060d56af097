"""On radial geometries delta = c B A x; the paper's second-order statement about c, coefficient and all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters.spec import HYPLORA
from manifold_lora.errors import PointError
from manifold_lora.manifolds.radial import Radial

# c = 1 + coefficient * kappa (n^2 - q^2) + O(kappa^2), n = |x|, q = |B A x|.
SECOND_ORDER = {"lorentz": -1 / 6, "sphere": -1 / 6, "poincare": 1 / 12, "klein": 1 / 3, "euclidean": 0.0}


def test_the_update_is_parallel_to_loras_with_the_gain_as_factor(spec, draw):
    drawn = draw(spec, columns=False)
    gain = drawn.update.gain(drawn.x, drawn.A, drawn.B)
    drawn.update.use("general")
    off = (drawn() - gain * drawn.lora).norm() / drawn.lora.norm()
    if isinstance(drawn.update.manifold, Radial) or spec.transform == "tangent":
        assert off < 1e-10
    else:
        assert off > 1e-4, "a product bends its parts by different factors, a half-space its heights"


@pytest.mark.parametrize("name", SECOND_ORDER)
@settings(max_examples=20)
@given(radius=st.floats(300, 3000), seed=st.integers(0, 99))
def test_second_order_coefficient(name, draw, flattened, radius, seed):
    spec = HYPLORA.with_(manifold=name, norm_scaling="identity")
    spec = flattened(spec, 1 / radius**2)
    kappa = spec.manifold.curvature.kappa
    drawn = draw(spec, seed=seed, length=3.0)
    n, q = (v.norm(dim=-1, keepdim=True) for v in (drawn.x, drawn.lora))
    expected = SECOND_ORDER[name] * kappa * (n.square() - q.square())
    slope = drawn.update.gain(drawn.x, drawn.A, drawn.B) - 1
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-4 / radius**2)


def test_lorentz_by_hand():
    # |x| = 3, |B A x| = 1.5, R = 1: c = sinh(3) / 3 * asinh(w) / w with w = sinh(3) / 2.
    from manifold_lora.adapters.update import ManifoldUpdate

    update = ManifoldUpdate.from_spec(HYPLORA.with_(norm_scaling="identity"), 2, 2, 1)
    x = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    A = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    B = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    w = torch.sinh(torch.tensor(3.0, dtype=torch.float64)) / 2
    expected = torch.tensor([[0.0, 1.0]], dtype=torch.float64) * torch.asinh(w)
    torch.testing.assert_close(update(x, A, B), expected, rtol=1e-14, atol=0)


def test_an_adapter_on_complex_hyperbolic_space_is_the_balls(draw):
    """From the origin one looks as the other; sizes that complex numbers do not fill are refused."""
    ball, complexes = (
        draw(HYPLORA.with_(manifold={"name": name, "curvature": -0.6}))
        for name in ("poincare", "complex_hyperbolic")
    )
    assert torch.equal(ball(), complexes())
    with pytest.raises(PointError, match=r"dimension of complex hyperbolic space: got 5; allowed: an even"):
        draw(HYPLORA.with_(manifold="complex_hyperbolic"), sizes=(8, 5, 4))
