"""Norms from zero to ten thousand: finite everywhere, and on Lorentz space exact."""

import math

import mpmath
import pytest
import torch

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.spec import BOOST, HYPLORA, AdapterSpec

LENGTHS = torch.tensor([0.0, 1e-20, 1e-8, 1e-4, 1.0, 10.0, 100.0, 1e3, 1e4])[:, None]


def test_nothing_is_nan_or_infinite(spec, draw):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        drawn = draw(spec, tokens=(9,), dtype=dtype)
        unit = torch.nn.functional.normalize(drawn.x.double(), dim=-1)
        drawn.x = (unit * LENGTHS).to(dtype)
        assert drawn.update.gain(drawn.x, drawn.A, drawn.B).isfinite().all()
        for path in drawn.update.paths():
            learned = [*drawn.requires_grad(), *drawn.update.parameters()]
            value = drawn.update.use(path)(drawn.x, drawn.A, drawn.B)
            assert value.isfinite().all(), path
            # Where sinh overflows the primitives saturate and keep values only; closed forms keep both.
            kept = value if path != "general" else value[drawn.x.norm(dim=-1) < 30]
            gradients = torch.autograd.grad(kept.float().sum(), learned, allow_unused=True)
            assert all(g.isfinite().all() for g in gradients if g is not None), path


def exact_gain(n: float, q: float) -> mpmath.mpf:
    with mpmath.workdps(60):
        n, q = mpmath.mpf(n), mpmath.mpf(q)
        return mpmath.asinh(q / n * mpmath.sinh(n)) / q


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("path", ["fused", "rank_space", "general"])
def test_lorentz_is_exact_against_sixty_digits(path, dtype, draw):
    drawn = draw(HYPLORA.with_(norm_scaling="identity", max_angle=math.inf), tokens=(9,), dtype=dtype)
    unit = torch.nn.functional.normalize(drawn.x.double(), dim=-1)
    drawn.x = (unit * LENGTHS.clamp_min(1e-3)).to(dtype)
    lora = drawn.x.double() @ drawn.A.double().T @ drawn.B.double().T
    norms = zip(drawn.x.double().norm(dim=-1), lora.norm(dim=-1), strict=True)
    gains = torch.tensor([[float(exact_gain(float(n), float(q)))] for n, q in norms], dtype=torch.float64)
    ours = drawn.update.use(path)(drawn.x, drawn.A, drawn.B).double()
    error = (ours - gains * lora).norm(dim=-1) / (gains * lora).norm(dim=-1)
    assert error.max() < {torch.float32: 1e-6, torch.float64: 1e-13}[dtype]


def test_boost_is_exact_where_sinh_overflows(draw):
    # At |x| = 1000 point and image are e^1000 far out: only logarithms of them exist in any float.
    drawn = draw(BOOST.with_(norm_scaling="identity", max_angle=math.inf), tokens=(4,), length=1000.0)
    boost = drawn.update.transform
    with mpmath.workdps(500):
        for row, delta in zip(drawn.x, drawn(), strict=True):
            n = mpmath.sqrt(sum(mpmath.mpf(float(v)) ** 2 for v in row))
            space = mpmath.matrix([mpmath.mpf(float(v)) * mpmath.sinh(n) / n for v in row])
            y = matrix(drawn.A) * space + matrix(boost.time_A[:, None]) * mpmath.cosh(n)
            z = matrix(drawn.B) * y + matrix(boost.time_B[:, None]) * mpmath.sqrt(1 + mpmath.norm(y) ** 2)
            exact = z * (mpmath.asinh(mpmath.norm(z)) / mpmath.norm(z))
            expected = torch.tensor([float(v) for v in exact], dtype=torch.float64)
            torch.testing.assert_close(delta, expected, rtol=1e-12, atol=1e-10)


def matrix(values: torch.Tensor) -> mpmath.matrix:
    return mpmath.matrix(values.detach().double().tolist())


@pytest.mark.parametrize("manifold", ["poincare", "sphere"])
def test_tokens_at_the_edge_are_counted(manifold, draw):
    drawn = draw(AdapterSpec.parse({"manifold": manifold, "norm_scaling": "identity"}), tokens=(50,))
    drawn.x = drawn.x / drawn.x.norm(dim=-1, keepdim=True)
    lengths = torch.where(torch.arange(50) < 10, 1.5, 1e-3)[:, None]
    pushed = drawn.B * 100
    share = drawn.update.clipped(drawn.x * lengths, drawn.A, pushed)
    torch.testing.assert_close(share, torch.tensor(0.2))
    assert drawn.update.clipped(drawn.x * 1e-6, drawn.A, drawn.B) == 0


def test_lorentz_clips_nothing(draw):
    drawn = draw(HYPLORA, length=50.0)
    assert drawn.update.clipped(drawn.x, drawn.A, drawn.B * 100) == 0


def test_the_weakest_direction_of_B_gets_its_own_gain():
    # In float32 the Gram matrix would hide the small singular value behind the large one's rounding.
    layer = ManifoldLoRA.from_spec(HYPLORA.with_(norm_scaling="identity"), 2, 2, 2, bias=False)
    with torch.no_grad():
        layer.lora_A.copy_(torch.eye(2))
        layer.lora_B.copy_(torch.diag(torch.tensor([1e5, 1e-3])))
    x = torch.tensor([[1e-9, 2.0]] * 3)
    expected = torch.asinh(torch.sinh(torch.tensor(2.0)) * 1e-3 * torch.ones(3))
    torch.testing.assert_close(layer.delta(x)[:, 1], expected, rtol=1e-2, atol=0)


def test_a_gain_beyond_float32_is_reported():
    spec = HYPLORA.with_(norm_scaling="identity", max_angle=math.inf)
    layer = ManifoldLoRA.from_spec(spec, 64, 8, 2)
    x = torch.nn.functional.normalize(torch.ones(1, 64), dim=-1) * 100.0
    gain = layer.update.gain(x, torch.eye(2, 64), torch.zeros(8, 2))
    assert gain.item() == pytest.approx(float(mpmath.sinh(100) / 100), rel=1e-4)
