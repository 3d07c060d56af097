"""The sphere's float32 without copies in float64: against float64, and where it steps aside."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from manifold_lora.manifolds import Sphere
from manifold_lora.manifolds.operation import Operation
from manifold_lora.manifolds.scratch import BLOCK, Scratch
from manifold_lora.manifolds.sphere_operations import Dist, Transp

OPERATIONS = ("dist", "sqdist", "transp")


def arguments(m: Sphere, rows: int, n: int, angle: float, seed: int = 0) -> list[Tensor]:
    """Points so far apart, in R, and a tangent vector of length 1, in float32."""
    generator = torch.Generator().manual_seed(seed)
    x, u, v = torch.randn(3, rows, n + 1, generator=generator, dtype=torch.float64)
    x = m.projx(x).float().double()
    u, v = (torch.nn.functional.normalize(m.proju(x, w), dim=-1) for w in (u, v))
    y = m.expmap(x, u * angle * m.kappa.double().rsqrt())
    return [tensor.float() for tensor in (x, y, v)]


def found(m: Sphere, name: str, given: Sequence[Tensor]) -> list[Tensor]:
    """The value and the gradients of its product with numbers that float32 holds."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in given[: 3 if name == "transp" else 2]]
    value = getattr(m, name)(*leaves)
    weight = torch.linspace(-1, 2, value.numel(), dtype=torch.float32).view_as(value).to(value.dtype)
    return [value.detach(), *torch.autograd.grad(value, leaves, weight)]


def worst(m: Sphere, name: str, given: Sequence[Tensor], angle: float) -> list[float]:
    """How far value and gradients are from those of float64: relatively, but for gradients of a transport.

    Theirs may cancel: they are asked for |g| |v|/R over the cosine of half the angle, which bounds them.
    """
    got, want = found(m, name, given), found(m, name, [tensor.double() for tensor in given])
    sizes = [one.norm(dim=-1) for one in want]
    if name == "transp":
        pull = torch.linspace(-1, 2, want[0].numel(), dtype=torch.float64).view_as(want[0]).norm(dim=-1)
        sizes[1:] = [pull * m.kappa.item() ** 0.5 / math.cos(angle / 2)] * 2 + [pull]
    off = [(one.double() - other).norm(dim=-1) for one, other in zip(got, want, strict=True)]
    return [(error / size).max().item() for error, size in zip(off, sizes, strict=True)]


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(31, 300),
    angle=st.floats(1e-6, math.pi - 1e-6),
    kappa=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**20),
)
def test_as_right_as_float32_is_asked_to_be(n: int, angle: float, kappa: float, seed: int) -> None:
    m = Sphere(kappa)
    given = arguments(m, 8, n, angle, seed)
    for name in OPERATIONS:
        value, *gradients = worst(m, name, given, angle)
        assert value <= (1e-6 if name == "sqdist" else 5e-7)
        assert max(gradients) <= 1e-6


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_row_is_copied_in_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m = Sphere(0.7)
    given, of_few = arguments(m, 8, 64, 1.3), arguments(m, 8, 3, 1.3)
    widen = Scratch.widen

    def columns_alone(pad: Scratch, row: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        wide = widen(pad, row, dtype)
        assert row.shape[-1] == 1 or wide.dtype == torch.float32
        return wide

    monkeypatch.setattr(Scratch, "widen", columns_alone)
    found(m, name, given)
    with pytest.raises(AssertionError):
        found(m, name, of_few)


def odd_rows(m: Sphere, kind: str, n: int) -> list[Tensor]:
    """Arguments of which float32 alone would make nothing, or less."""
    x, y, v = arguments(m, 8, n, 1.2)
    if kind == "equal":
        y = torch.cat([x[:1], y[1:]])
    if kind == "opposite":
        y = torch.cat([-x[:1], y[1:]])
    if kind == "radial":
        y = torch.cat([x[:1] * (1 + 2**-20), y[1:]])
    if kind == "short":
        y = y * 1e-20
    if kind == "long":
        y = y * 1e19
    if kind == "uneven":
        y = y * 1.25
    if kind == "columns":
        x, y, v = (tensor.t().contiguous().t() for tensor in (x, y, v))
    if kind == "close":
        y = torch.cat([x[:1], y[1:]])
        y[0, 0] += 1e-30
    return [x, y, v]


@pytest.mark.parametrize("kind", ["equal", "opposite", "radial", "short", "uneven", "columns", "close"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_odd_points_are_no_worse(name: str, kind: str) -> None:
    m = Sphere(0.7)
    given = odd_rows(m, kind, 2000)
    got, want = found(m, name, given), found(m, name, [tensor.double() for tensor in given])
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=7e-7 * other.abs().max().item())


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (Dist(), kind)
        for kind in ("equal", "opposite", "radial", "close", "short", "few", "many", "large", "small")
    ]
    + [
        (Transp(), kind) for kind in ("opposite", "short", "long", "columns", "few", "many", "large", "small")
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_it_steps_aside_where_float32_does_not_tell(operation: Operation, kind: str) -> None:
    m = Sphere({"large": 1e-9, "small": 1e9}.get(kind, 0.7))
    rows = odd_rows(m, kind, {"few": 30, "many": 2049}.get(kind, 64))
    rows = rows if isinstance(operation, Transp) else rows[:2]
    assert operation.in_float32(m.kappa.item(), Scratch(), *rows) is None
    near = arguments(Sphere(0.7), 8, 64, 1.2)[: len(rows)]
    assert operation.in_float32(0.7, Scratch(), *near) is not None


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_block_for_itself_and_again_later(name: str) -> None:
    """One block of several holds an equal pair; a backward pass finds its rows or reads them again."""
    m, rows = Sphere(0.7), 2 * BLOCK // 64
    given = arguments(m, rows, 63, 1.2)
    given[1][rows // 2 + 1] = given[0][rows // 2 + 1]
    leaves = [tensor.requires_grad_() for tensor in given[: 3 if name == "transp" else 2]]
    value = getattr(m, name)(*leaves)
    grads = torch.autograd.grad(value.sum(), leaves)
    for part in (slice(0, 5), slice(rows // 2, rows // 2 + 5)):
        few = [tensor[part].detach().requires_grad_() for tensor in leaves]
        loss = getattr(m, name)(*few)
        torch.testing.assert_close(value[part], loss, rtol=1e-6, atol=1e-6)
        for between in (lambda: None, lambda: m.dist(given[1][:9], given[0][:9])):
            between()
            for whole, own in zip(
                grads, torch.autograd.grad(loss.sum(), few, retain_graph=True), strict=True
            ):
                torch.testing.assert_close(whole[part], own, rtol=2e-6, atol=2e-6)
