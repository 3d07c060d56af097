"""Operations with their own gradient: against their smooth form, gradcheck, every way torch calls them."""

import copy
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from manifold_lora.experiments.bench.memory import saved_bytes
from manifold_lora.manifolds import (
    Curvature,
    Lorentz,
    Manifold,
    Poincare,
    Sphere,
    Stereographic,
    fused,
)
from manifold_lora.manifolds.scratch import BLOCK

GEOMETRIES = [Lorentz(-0.7), Poincare(-0.7), Stereographic(0.6), Stereographic(0.0), Sphere(0.7)]
LEARNED = [
    *(
        kind(Curvature(kappa, "learned"))
        for kind, kappa in [(Lorentz, -0.7), (Poincare, -0.7), (Sphere, 0.7)]
    ),
    Stereographic(Curvature(0.6, "learned")),
    Stereographic(Curvature(0.0, "free")),
]
NAMES = ("dist", "sqdist", "logmap", "expmap", "transp", "expmap0", "logmap0")
RADII = (1e-6, 0.5, 1.0, 2.5, 4.0)


def arguments(
    manifold: Manifold, name: str, radius: float = 1.0, rows: int = 4, n: int = 3, **keywords: torch.dtype
) -> tuple[Tensor, ...]:
    """Points about a radius in units of R (inside the sphere's cut locus) and a tangent vector."""
    generator = torch.Generator().manual_seed(3)
    unit = abs(manifold.kappa.item()) ** -0.5 if manifold.kappa.item() else 1.0
    v = torch.randn(3, rows, n, generator=generator, dtype=torch.float64)
    v = v / v.norm(dim=-1, keepdim=True) * torch.tensor([1.0, 0.8, 0.6])[:, None, None] * radius * unit
    x, y, z = manifold.expmap0(v).to(keywords.get("dtype", torch.float64))
    u, free = manifold.logmap(x, z), v[0].to(x.dtype)
    few = {"expmap": (x, u), "transp": (x, y, u), "expmap0": (free,), "logmap0": (x,)}
    return few.get(name, (x, y))


def found(manifold: Manifold, name: str, radius: float) -> list[Tensor]:
    """Value and gradients, by kappa too."""
    fresh = [tensor.detach().requires_grad_() for tensor in arguments(manifold, name, radius)]
    value = getattr(manifold, name)(*fresh)
    weight = torch.linspace(-1.0, 2.0, value.numel(), dtype=torch.float64).view_as(value)
    by = [*fresh, *manifold.parameters()]
    return [value, *torch.autograd.grad(value, by, weight, allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("manifold", LEARNED, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_own_gradient_is_that_of_the_smooth_form(
    manifold: Manifold, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifold = copy.deepcopy(manifold).double()
    for radius in RADII:
        if manifold.kappa > 0 and radius > 1.5:
            continue
        ours = found(manifold, name, radius)
        with monkeypatch.context() as patch:
            patch.setattr(fused, "_is_ordinary", lambda tensors: False)
            smooth = found(manifold, name, radius)
        for got, want in zip(ours, smooth, strict=True):
            size = want.abs().max().item()
            # Far out the two forms round what cosh(radius) magnifies differently.
            slack = 1e-13 * torch.cosh(torch.tensor(2 * radius)).item()
            torch.testing.assert_close(got, want, rtol=0, atol=slack * size + 1e-280)


@pytest.mark.parametrize("manifold", GEOMETRIES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives(manifold: Manifold, name: str) -> None:
    given = [tensor.requires_grad_() for tensor in arguments(manifold, name, rows=2)]
    act = getattr(manifold, name)
    assert gradcheck(act, given)
    assert gradgradcheck(act, given)


@pytest.mark.parametrize("manifold", GEOMETRIES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_at_most_64_bytes_a_row_are_saved(manifold: Manifold, name: str) -> None:
    if manifold.kappa == 0 and name.endswith("0"):
        pytest.skip("where kappa may pass through zero the chart is a series")
    given = [
        t.clone().requires_grad_() for t in arguments(manifold, name, rows=256, n=16, dtype=torch.float32)
    ]
    inputs = sum(t.numel() * t.element_size() for t in given)
    saved = saved_bytes(manifold, lambda: getattr(manifold, name)(*given))
    assert saved - inputs <= 64 * 256 + 64


@pytest.mark.parametrize("manifold", GEOMETRIES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_broadcast_all_pairs_and_more_than_a_block(manifold: Manifold, name: str) -> None:
    given = arguments(manifold, name, rows=5)
    act = getattr(manifold, name)
    left = given[0][:, None].clone().requires_grad_()
    rest = [t[None, :].clone().requires_grad_() for t in given[1:]]
    value = act(left, *rest)
    assert value.shape[:2] == (5, 5 if rest else 1)
    grads = torch.autograd.grad(value.square().sum(), [left, *rest])
    wanted = [torch.zeros_like(t) for t in (left, *rest)]
    for i in range(5):
        for j in range(value.shape[1]):
            one = [t.clone().requires_grad_() for t in (left[i, 0], *(t[0, j] for t in rest))]
            single = act(*one)
            torch.testing.assert_close(value[i, j], single, rtol=1e-13, atol=1e-15)
            for total, place, grad in zip(
                wanted,
                ((i, 0), *(((0, j),) * len(rest))),
                torch.autograd.grad(single.square().sum(), one),
                strict=True,
            ):
                total[place] += grad
    for got, want in zip(grads, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-13)
    rows = 2 * BLOCK // 64 + 3
    many = arguments(manifold, name, rows=rows, n=64)
    last = act(*(t[-2:] for t in many))
    torch.testing.assert_close(act(*many)[-2:], last, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("manifold", GEOMETRIES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_changed_and_no_row_is_fine(manifold: Manifold, name: str) -> None:
    given = arguments(manifold, name)
    before = [t.clone() for t in given]
    act = getattr(manifold, name)
    act(*given)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert act(*(t[:0] for t in given)).shape[0] == 0


def test_one_tensor_twice() -> None:
    m, x = Lorentz(-1.0), Lorentz(-1.0).expmap0(torch.tensor([[0.3, 0.4]]).double()).requires_grad_()
    (grad,) = torch.autograd.grad(m.sqdist(x, x).sum(), x, create_graph=True)
    assert torch.equal(grad, torch.zeros_like(grad))
    (second,) = torch.autograd.grad(grad.sum(), x)
    assert torch.equal(second, torch.zeros_like(second))


def test_buffers_serve_inference_mode_and_threads_apart() -> None:
    m = Poincare(-1.0)
    x, y = m.random(64, 8), m.random(64, 8)
    with torch.inference_mode():
        first = m.logmap(x, y)
    found: list[Tensor] = []
    workers = [threading.Thread(target=lambda: found.append(m.logmap(x, y))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(first, again) for again in (m.logmap(x, y), *found))


@pytest.mark.parametrize("manifold", GEOMETRIES, ids=str)
def test_a_backward_pass_finds_its_rows_or_reads_them_again(manifold: Manifold) -> None:
    """The rows in float64 are kept until another operation needs the room."""
    given = [t.requires_grad_() for t in arguments(manifold, "logmap", rows=6, dtype=torch.float32)]
    others = arguments(manifold, "transp", radius=0.3, rows=6, dtype=torch.float32)
    at_once = torch.autograd.grad(manifold.logmap(*given).square().sum(), given)
    for between in (lambda: manifold.transp(*others), lambda: manifold.logmap(*(t[:3] for t in given)).sum()):
        loss = manifold.logmap(*given).square().sum()
        between()
        for _ in range(2):
            later = torch.autograd.grad(loss, given, retain_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(at_once, later, strict=True))


def test_curvature_learns_through_every_operation() -> None:
    """d/dkappa of dist at 1e-30: cancelling formulas are half a per cent off there."""
    kappa = 1e-30
    m = Lorentz(Curvature(-kappa, "learned")).double()
    x, y = torch.tensor([[1.0, 0.2]]).double(), torch.tensor([[-0.4, 0.9]]).double()
    dist = m.dist(m.lift(x), m.lift(y))
    (slope,) = torch.autograd.grad(dist, m.curvature.raw)  # d dist/d log kappa
    # dist = |d| + kappa/24 (...) for small kappa: from the series of asinh and of the chord.
    d, squares = (y - x).norm(), (y.square().sum() - x.square().sum())
    want = -kappa * (squares.square() / (8 * d) + d**3 / 24)
    torch.testing.assert_close(slope, want.view(1), rtol=1e-12, atol=0)


@given(radius=st.floats(0.05, 1.25), gap=st.floats(-10, -2), angle=st.floats(-12, -2), n=st.integers(1, 5))
def test_close_points_of_the_hyperboloid_keep_their_digits(
    radius: float, gap: float, angle: float, n: int
) -> None:
    """Along the radius |y|^2 - |x|^2 as a difference has none left; what is left counts in any direction."""
    m, turn = Lorentz(-1.0), torch.tensor(10.0**angle).double()
    ray = torch.nn.functional.normalize(torch.linspace(1, 2, n + 1).double(), dim=-1)
    aside = torch.nn.functional.normalize(ray.flip(0) - (ray * ray.flip(0)).sum() * ray, dim=-1)
    x, y = m.expmap0(radius * ray), m.expmap0((radius + 10.0**gap) * (turn.cos() * ray + turn.sin() * aside))
    with mp.workdps(60):
        a, b = ([mp.mpf(c) for c in point[1:].tolist()] for point in (x, y))
        e, f = (mp.sqrt(1 + sum(c * c for c in point)) for point in (a, b))
        chord = sum((c - d) ** 2 for c, d in zip(a, b, strict=True)) - (e - f) ** 2
        want = 2 * mp.asinh(mp.sqrt(chord) / 2)
        assert abs(m.dist(x, y).item() - want) <= 8 * torch.finfo(torch.float64).eps * want
