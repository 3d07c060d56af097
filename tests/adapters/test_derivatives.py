"""Derivatives of other kinds and orders, at B = 0, at vanishing angles; and a scaling that is a tensor."""

import math

import mpmath
import pytest
import torch

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.spec import BOOST, HYPLORA, AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate

ARMS = {
    "lorentz": HYPLORA,
    "sphere": HYPLORA.with_(manifold="sphere"),
    "poincare": HYPLORA.with_(manifold="poincare"),
    "unit": HYPLORA.with_(norm_scaling="unit"),
    "boost": BOOST,
    "token": AdapterSpec.parse({"curvature": {"mode": "token"}}),
}


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("tokens", [2, 9])
def test_transforms_of_torch_func_give_what_autograd_gives(name, tokens, draw):
    drawn = draw(ARMS[name], tokens=(tokens,), sizes=(5, 4, 3))

    def output(x):
        return drawn.update(x, drawn.A, drawn.B)

    x = drawn.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(output(x).square().sum(), x)
    per_token = torch.func.vmap(torch.func.grad(lambda row: output(row[None]).square().sum()))
    torch.testing.assert_close(per_token(drawn.x), expected, rtol=1e-10, atol=1e-12)
    tangent = torch.randn_like(drawn.x)
    jacobian = torch.func.jacrev(output)(drawn.x)
    value, along = torch.func.jvp(output, (drawn.x,), (tangent,))
    torch.testing.assert_close(value, output(drawn.x), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(along, torch.tensordot(jacobian, tangent, 2), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("length", [0.0, 0.7, 2.0, 40.0])
def test_boost_has_second_derivatives(length, draw):
    curvature = {"kappa": -0.6, "mode": "learned"}
    spec = AdapterSpec.parse({"curvature": curvature, "transform": "boost", "max_angle": 5.0})
    drawn = draw(spec, tokens=(2,), sizes=(4, 3, 2), length=length)
    assert drawn.update.path == "fused"
    names = [name for name, _ in drawn.update.named_parameters()]

    def evaluate(A, B, *values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(drawn.update, state, (drawn.x, A, B))

    leaves = (*drawn.requires_grad()[1:], *drawn.update.parameters())
    assert torch.autograd.gradgradcheck(evaluate, leaves, atol=1e-6, rtol=1e-4, fast_mode=True)
    if length > 0:
        by_x = torch.autograd.gradgradcheck(
            lambda x: drawn.update(x, drawn.A, drawn.B), drawn.x, atol=1e-5, rtol=1e-4
        )
        assert by_x


@pytest.mark.parametrize("a", [1e-3, 1.0, 26.0, 30.0, 40.0, 80.0])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("path", ["fused", "rank_space"])
def test_the_first_gradient_of_B_is_exact_at_every_angle(path, tokens, a):
    update = ManifoldUpdate.from_spec(HYPLORA.with_(norm_scaling="identity", max_angle=math.inf), 4, 3, 2)
    x = torch.tensor([[a, 0.0, 0.0, 0.0]], dtype=torch.float64).expand(tokens, 4)
    A, B = torch.eye(2, 4, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(update.use(path)(x, A, B).sum(), B)
    expected = torch.full((3,), tokens * float(mpmath.sinh(a)), dtype=torch.float64)
    torch.testing.assert_close(gradient[:, 0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("a", [1e-6, 1e-4, 1e-2, 0.029, 0.031, 0.5])
@pytest.mark.parametrize("path", ["fused", "rank_space"])
@pytest.mark.parametrize("tokens", [1, 5])
def test_learned_scale_and_curvature_have_exact_gradients_at_tiny_angles(a, path, tokens):
    spec = AdapterSpec.parse({"curvature": {"kappa": -1.0, "mode": "learned"}})
    update = ManifoldUpdate.from_spec(spec, 4, 2, 2).use(path)
    length, ratio = 2 * a, 0.37  # s = 2
    x = torch.tensor([[length, 0.0, 0.0, 0.0]], dtype=torch.float64).expand(tokens, 4)
    A, B = torch.eye(2, 4, dtype=torch.float64), torch.eye(2, dtype=torch.float64) * ratio
    parameters = [update.manifold.curvature.raw, update.norm_scaling.log_scale]
    by_raw, by_scale = torch.autograd.grad(update(x, A, B).sum() / tokens, parameters)

    def delta(log_angle):
        """|delta| = n asinh(ratio sinh a)/a."""
        angle = mpmath.exp(log_angle)
        return length * mpmath.asinh(ratio * mpmath.sinh(angle)) / angle

    with mpmath.workdps(60):
        by_log = mpmath.diff(delta, mpmath.log(mpmath.mpf(a)))
    # a = n sqrt(-kappa)/s: log a moves by half of raw and by minus log_scale.
    assert float(by_raw) == pytest.approx(float(by_log) / 2, rel=3e-7)
    assert float(by_scale) == pytest.approx(-float(by_log), rel=3e-7)


@pytest.mark.parametrize("a", [1e-4, 1e-2, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transform", ["direct", "boost"])
@pytest.mark.parametrize(("name", "kappa", "there", "back"), [
    ("sphere", 1.0, mpmath.sin, mpmath.asin), ("lorentz", -1.0, mpmath.sinh, mpmath.asinh),
])  # fmt: skip
def test_kappa_has_an_exact_gradient_on_every_path(name, kappa, there, back, transform, dtype, a):
    """A sphere's formulas hold its radius at both ends, whose gradients cancel to a^2 of their size."""
    spec = AdapterSpec.parse(
        {"manifold": name, "transform": transform, "curvature": {"kappa": kappa, "mode": "learned"}}
    )
    update, s = ManifoldUpdate.from_spec(spec, 4, 2, 2), 2  # s = sqrt(n)
    x = torch.tensor([[s * a, 0.0, 0.0, 0.0]], dtype=dtype)
    A, B = torch.eye(2, 4, dtype=dtype), torch.eye(2, dtype=dtype) * 0.37
    length, ratio = mpmath.mpf(x[0, 0].item()), mpmath.mpf(B[0, 0].item())

    def delta(log_angle):
        angle = mpmath.exp(log_angle)
        return length * back(ratio * there(angle)) / angle

    with mpmath.workdps(60):
        wanted = float(mpmath.diff(delta, mpmath.log(length / s)) / 2)
    for path in set(update.paths()) - {"linear"}:
        (by_raw,) = torch.autograd.grad(update.use(path)(x, A, B).sum(), update.manifold.curvature.raw)
        assert float(by_raw) == pytest.approx(wanted, rel=1e-5), path


@pytest.mark.parametrize("name", [*ARMS, "tangent", "product"])
def test_a_scaling_may_be_a_tensor(name, draw):
    product = {"name": "product", "parts": [{"share": 1, "name": "lorentz"}, {"share": 1, "name": "sphere"}]}
    others = {"tangent": AdapterSpec.parse("tangent"), "product": HYPLORA.with_(manifold=product)}
    spec = (ARMS | others)[name]
    for tokens in (1, 9):
        drawn = draw(spec, tokens=(tokens,))
        base = torch.ones(tokens, 6, dtype=torch.float64)
        expected = drawn.update(drawn.x, drawn.A, drawn.B, base=base, scaling=1.7)
        for scaling in (torch.tensor(1.7, dtype=torch.float64), torch.tensor([1.7], dtype=torch.float64)):
            found = drawn.update(drawn.x, drawn.A, drawn.B, base=base, scaling=scaling)
            torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
        learned = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
        value = drawn.update(drawn.x, drawn.A, drawn.B, base=base, scaling=learned)
        (gradient,) = torch.autograd.grad(value.sum(), learned)
        torch.testing.assert_close(gradient, drawn().sum(), rtol=1e-12, atol=1e-13)


def test_a_layer_has_hessians():
    layer = ManifoldLoRA(6, 4, 2).double()
    torch.nn.init.normal_(layer.lora_B)
    x = torch.randn(3, 6, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda x: layer(x).square().sum(), x)
    torch.testing.assert_close(hessian, hessian.permute(2, 3, 0, 1))
    assert hessian.isfinite().all()
