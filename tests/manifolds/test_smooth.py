"""What the geometry layer owed: smooth squares, the cut locus, broadcasting."""

import math

import pytest
import torch
from mpmath import mp

from manifold_lora.manifolds import (
    Euclidean,
    Lorentz,
    Manifold,
    Poincare,
    Product,
    Sphere,
    Stereographic,
    functions,
    fused,
)

MANIFOLDS = [
    Euclidean(),
    Lorentz(-0.7),
    Poincare(-0.7),
    Stereographic(0.4),
    Sphere(0.7),
    Product([(0.5, Lorentz(-0.5)), (0.5, Sphere(2.0))]),
]


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("radius", [0.0, 1e-4, 0.8])
def test_half_the_hessian_of_sqdist_is_the_metric(manifold: Manifold, radius: float) -> None:
    """In free coordinates about a point p: u -> sqdist(p, expmap(p, u))/2 has the metric as Hessian at 0."""
    n = 4
    p = manifold.expmap0(radius * torch.tensor([0.5, -0.5, 0.5, 0.5]).double())
    basis = manifold.proju(p, torch.eye(p.shape[-1], dtype=torch.float64))
    u = torch.zeros(p.shape[-1], dtype=torch.float64)

    def half(steps: torch.Tensor) -> torch.Tensor:
        return manifold.sqdist(p, manifold.expmap(p, steps @ basis)).squeeze() / 2

    hessian = torch.autograd.functional.hessian(half, u)
    want = manifold.inner(p.expand_as(basis)[:, None], basis[:, None], basis[None]).squeeze(-1)
    torch.testing.assert_close(hessian, want, rtol=1e-12, atol=1e-12)
    again = torch.func.hessian(half)(u)
    torch.testing.assert_close(again, want, rtol=1e-12, atol=1e-12)
    assert n == p.shape[-1] - manifold.extra_dims


@pytest.mark.parametrize("kappa", [1.0, 0.37])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logmap_to_the_antipode_leads_there(kappa: float, dtype: torch.dtype) -> None:
    """No direction is special, so one is chosen: of length pi R, tangent, and expmap follows it."""
    m = Sphere(kappa)
    x = m.random(6, 4, generator=torch.Generator().manual_seed(0), dtype=dtype).requires_grad_()
    u = m.logmap(x, -x)
    reach = torch.full((6, 1), math.pi / kappa**0.5, dtype=dtype)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(m.norm(x, u), reach, rtol=8 * eps, atol=0)
    torch.testing.assert_close(m.dist(x, -x), reach, rtol=8 * eps, atol=0)
    torch.testing.assert_close(m.expmap(x, u), -x, rtol=0, atol=16 * eps / kappa**0.5)
    (grad,) = torch.autograd.grad(u.sum(), x)
    assert grad.isfinite().all()
    smooth = torch.func.vmap(m.logmap)(x.detach(), -x.detach())
    torch.testing.assert_close(smooth, u.detach(), rtol=8 * eps, atol=8 * eps)


def test_sphere_transport_near_the_antipode_in_float32() -> None:
    m = Sphere(1.0)
    x = m.expmap0(torch.zeros(3))
    y = m.expmap0(torch.tensor([math.pi - 1e-3, 0.0, 0.0]))
    v = torch.tensor([0.0, 0.6, 0.8, 0.0])
    want = m.transp(x.double(), y.double(), v.double())
    torch.testing.assert_close(m.transp(x, y, v).double(), want, rtol=0, atol=1e-7)


@pytest.mark.parametrize("ordinary", [True, False])
@pytest.mark.parametrize("gap", [1e-9, 1e-6, 1e-3, 1.0])
def test_sphere_transport_near_the_antipode_in_float64(
    gap: float, ordinary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x/|x| + y/|y| cancels there, and what is left is the direction of the reflection."""
    m = Sphere(1.0)
    v, w, u = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, y = m.expmap0(v[1:] * gap), -m.expmap0(w[1:] * gap)
    u = m.proju(x, u)
    mp.dps = 60
    p, q, exact = ([mp.mpf(one) for one in tensor.tolist()] for tensor in (x, y, u))
    middle = [a / mp.norm(p) + b / mp.norm(q) for a, b in zip(p, q, strict=True)]
    f = 2 * mp.fdot(middle, exact) / mp.fdot(middle, middle)
    want = [float(a - f * b) for a, b in zip(exact, middle, strict=True)]
    if not ordinary:
        monkeypatch.setattr(fused, "_is_ordinary", lambda tensors: False)
    torch.testing.assert_close(m.transp(x, y, u), torch.tensor(want, dtype=torch.float64), rtol=0, atol=8e-15)


@pytest.mark.parametrize(("dtype", "slack"), [(torch.float64, 8e-16), (torch.float32, 6e-8)])
@pytest.mark.parametrize(
    "angle", [1e-8, 1e-3, 0.31, 0.32, 1.5, 1.6, 2.09, 2.1, 3.13, math.pi - 1e-2, math.pi - 1e-6]
)
def test_sphere_distance_at_every_angle(angle: float, dtype: torch.dtype, slack: float) -> None:
    """Against mpmath, on both sides of every angle where another form takes over."""
    m = Sphere(1.0)
    v = torch.tensor([[0.6, -0.8, 0.0], [0.0, 0.28, 0.96]], dtype=dtype) * angle
    x = m.expmap0(torch.zeros(3, dtype=dtype)).expand(2, 4)
    y = m.expmap0(v)
    mp.dps = 60
    want = []
    for p, q in zip(x.tolist(), y.tolist(), strict=True):
        p, q = mp.matrix(p) / mp.norm(p), mp.matrix(q) / mp.norm(q)
        want.append([float(2 * mp.atan2(mp.norm(p - q), mp.norm(p + q)))])
    exact = torch.tensor(want, dtype=torch.float64)
    torch.testing.assert_close(m.dist(x, y).double(), exact, rtol=slack, atol=0)
    torch.testing.assert_close(m.norm(x, m.logmap(x, y)).double(), exact, rtol=2 * slack, atol=0)


@pytest.mark.parametrize("name", ["dist", "sqdist", "logmap", "transp"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_pair_on_the_sphere_is_told_the_same_beside_close_and_opposite_ones(
    name: str, dtype: torch.dtype
) -> None:
    """Rows share the choice of a form, and nothing but rounding comes of it."""
    m = Sphere(0.7)
    x, y, v = (m.random(8, 4, generator=torch.Generator().manual_seed(i), dtype=dtype) for i in range(3))
    y, v = m.expmap(x, 0.5 * m.logmap(x, y)), m.proju(x, v)

    def told(*given: torch.Tensor) -> list[torch.Tensor]:
        leaves = [t.detach().requires_grad_() for t in given[: 3 if name == "transp" else 2]]
        value = getattr(m, name)(*leaves)
        return [t[:8] for t in (value, *torch.autograd.grad(value[:8].sum(), leaves))]

    crowd = told(torch.cat([x, x]), torch.cat([y, x[:4], -x[4:]]), torch.cat([v, v]))
    slack = 64 * torch.finfo(dtype).eps
    for alone, beside in zip(told(x, y, v), crowd, strict=True):
        torch.testing.assert_close(beside, alone, rtol=slack, atol=slack)


def test_euclidean_operations_broadcast() -> None:
    m = Euclidean()
    x, y, v = torch.randn(3, 1, 4), torch.randn(1, 5, 4), torch.randn(4)
    assert m.transp(x, y, v).shape == (3, 5, 4)
    assert m.egrad2rgrad(x, v).shape == (3, 1, 4)
    assert m.sqdist(x, y).shape == (3, 5, 1)


@pytest.mark.parametrize("t", [0.0, 1e-3, 0.9, 1.0, 1.1, 30.0, 1e30, 1e200])
def test_functions_of_a_length_reach_the_largest_float(t: float) -> None:
    """Beyond t = 1 the square is never asked for: at 1e200 there is none."""
    length = torch.tensor([t], dtype=torch.float64)
    with mp.workdps(400):
        want = [float(mp.asinh(t) / t), float(mp.sin(mp.mpf(t)) / t)] if t else [1.0, 1.0]
    sinc = functions.from_norm(length, lambda sq: functions.sinhc(-sq), lambda far: torch.sin(far) / far)
    asinhc = functions.from_norm(length, functions.asinhc, lambda far: torch.asinh(far) / far)
    got = torch.cat([asinhc, sinc])
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-14, atol=1e-17)
