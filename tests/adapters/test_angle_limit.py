"""Beyond ``max_angle`` a token enters shortened and leaves as much longer: its gain is that at the limit."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters.spec import BOOST, HYPLORA, AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate

CURVED = {"lorentz": -0.6, "poincare": -0.6, "sphere": 0.4, "stereographic": -0.6}
ARMS = [(name, "direct") for name in CURVED] + [("lorentz", "boost"), ("sphere", "boost")]
PRODUCT = {
    "name": "product",
    "parts": [
        {"share": 1, "name": "lorentz", "curvature": -4.0},
        {"share": 1, "name": "sphere", "curvature": 0.25},
    ],
}


def learned(name, transform="direct", norm_scaling="learned", limit=1.1):
    curvature = {"kappa": CURVED[name], "mode": "learned"}
    return AdapterSpec.parse(
        {
            "manifold": name,
            "curvature": curvature,
            "transform": transform,
            "norm_scaling": norm_scaling,
            "max_angle": limit,
        }
    )


def results(drawn, path):
    leaves = [*drawn.requires_grad(), *drawn.update.parameters()]
    value = drawn.update.use(path)(drawn.x, drawn.A, drawn.B)
    upstream = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(3))
    return [value, *torch.autograd.grad(value, leaves, upstream)]


@settings(max_examples=6)
@given(exponent=st.floats(0.2, 1.5), seed=st.integers(0, 99), tokens=st.sampled_from([3, 9]))
@pytest.mark.parametrize("norm_scaling", ["identity", "learned", "released", "unit"])
@pytest.mark.parametrize(("name", "transform"), ARMS, ids="-".join)
def test_every_path_has_the_values_and_gradients_of_the_definition(
    name, transform, norm_scaling, exponent, seed, tokens, draw
):
    spec = learned(name, transform, norm_scaling)
    drawn = draw(spec, tokens=(tokens,), length=10**exponent, seed=seed)
    # Smaller products keep the chart's own edge, which has a test of its own, out of sight.
    drawn.A, drawn.B = drawn.A * 0.3, drawn.B * 0.3
    if norm_scaling == "unit":
        with torch.no_grad():
            drawn.update.norm_scaling.log_scale.fill_(exponent)
    expected = results(drawn, "general")
    for path in drawn.update.paths():
        for ours, theirs in zip(results(drawn, path), expected, strict=True):
            scale = max(1.0, float(theirs.detach().abs().max()))
            torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-9, atol=1e-9 * scale)


@given(n=st.floats(0.01, 1e4), rho=st.floats(1e-9, 10), limit=st.floats(0.1, 20))
@settings(max_examples=60)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("tokens", [1, 3])
def test_lorentz_against_thirty_digits(n, rho, limit, dtype, tokens):
    """A token e1 of length n, B A = rho I: c = asinh(rho sinh a)/(rho a) at a = min(n, limit)."""
    update = ManifoldUpdate.from_spec(HYPLORA.with_(norm_scaling="identity", max_angle=limit), 2, 2, 1)
    x = torch.tensor([[n, 0.0]], dtype=dtype).expand(tokens, 2).contiguous()
    A, B = torch.tensor([[1.0, 0.0]], dtype=dtype), torch.tensor([[rho], [0.0]], dtype=dtype)
    with mpmath.workdps(40):
        a, ratio = min(mpmath.mpf(float(x[0, 0])), mpmath.mpf(limit)), mpmath.mpf(float(B[0, 0]))
        expected = mpmath.asinh(ratio * mpmath.sinh(a)) / (ratio * a) * ratio * mpmath.mpf(float(x[0, 0]))
    with torch.no_grad():
        found = update(x, A, B)[:, 0].double()
    tolerance = {torch.float32: 1e-6, torch.float64: 3e-14}[dtype]
    torch.testing.assert_close(found, torch.full_like(found, float(expected)), rtol=tolerance, atol=0)


@pytest.mark.parametrize(("name", "transform"), ARMS, ids="-".join)
def test_beyond_the_limit_a_gain_depends_on_direction_alone(name, transform, draw):
    drawn = draw(learned(name, transform, "identity"), columns=False)
    drawn.A, drawn.B = drawn.A * 0.3, drawn.B * 0.3
    unit = torch.nn.functional.normalize(drawn.x, dim=-1)
    at = drawn.update.gain(unit * 1.0001 * 1.1 / abs(CURVED[name]) ** 0.5, drawn.A, drawn.B)
    far = drawn.update.gain(unit * 1e3, drawn.A, drawn.B)
    torch.testing.assert_close(far, at, rtol=1e-9, atol=0)
    assert (drawn.update.gain(unit, drawn.A, drawn.B) != at).all()


@pytest.mark.parametrize("path", ["fused", "rank_space", "general"])
@pytest.mark.parametrize("name", CURVED)
def test_beyond_the_limit_neither_length_nor_scale_nor_curvature_has_a_gradient(name, path, draw):
    drawn = draw(learned(name), length=300.0)
    drawn.A, drawn.B = drawn.A * 0.3, drawn.B * 0.3
    learned_numbers = list(drawn.update.parameters())
    stretched = torch.ones(7, 1, dtype=torch.float64, requires_grad=True)
    value = drawn.update.use(path)(drawn.x * stretched, drawn.A, drawn.B)
    by_stretch, *others = torch.autograd.grad(value.square().sum(), [stretched, *learned_numbers])
    # delta = c B A x with c fixed: twice the square of the value.
    torch.testing.assert_close(by_stretch, 2 * value.detach().square().sum(-1, keepdim=True))
    for gradient in others:
        assert gradient.abs() < 1e-10 * value.square().sum()


@pytest.mark.parametrize("name", ["lorentz", "poincare", "sphere"])
@pytest.mark.parametrize("norm_scaling", ["learned", "released", "unit"])
def test_gradients_are_those_of_finite_differences(name, norm_scaling, draw):
    drawn = draw(learned(name, "direct", norm_scaling), tokens=(5,), sizes=(4, 5, 3), length=20.0)
    if norm_scaling == "unit":
        with torch.no_grad():
            drawn.update.norm_scaling.log_scale.fill_(1.0)
    drawn.A, drawn.B = drawn.A * 0.1, drawn.B * 0.3
    assert drawn.update.capped(drawn.x) == 1
    names = [name for name, _ in drawn.update.named_parameters()]

    def evaluate(x, A, B, *values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(drawn.update, state, (x, A, B), {"scaling": 1.7})

    leaves = (*drawn.requires_grad(), *drawn.update.parameters())
    assert torch.autograd.gradcheck(evaluate, leaves, atol=1e-6, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_sink_token_keeps_a_bounded_gain_in_every_dtype(dtype, draw):
    for spec in (HYPLORA, BOOST, HYPLORA.with_(manifold="sphere"), HYPLORA.with_(manifold=PRODUCT)):
        drawn = draw(spec, tokens=(40,), sizes=(64, 32, 8), length=8.0, dtype=dtype, columns=False)
        drawn.x[0] *= 80
        drawn.B = torch.zeros_like(drawn.B).requires_grad_()
        (gradient,) = torch.autograd.grad(drawn().float().sum(), drawn.B)
        lora = (drawn.x.float() @ drawn.A.float().T).sum(0)
        assert gradient.float().abs().max() <= 3.4 * lora.abs().max() + 3.4 * 40 * lora.abs().mean()
    assert drawn.update.gain(drawn.x, drawn.A, drawn.B).max() < 3.4


def test_a_products_token_is_shortened_until_no_part_is_beyond(draw):
    spec = HYPLORA.with_(manifold=PRODUCT, norm_scaling="identity", max_angle=1.0)
    drawn = draw(spec, tokens=(5,), length=1.0)
    drawn.x[:, 4:] = 0.1
    angle = drawn.update.angle(drawn.x)
    torch.testing.assert_close(angle, 2 * drawn.x[:, :4].norm(dim=-1, keepdim=True))
    short = drawn.update(drawn.x / angle.clamp_min(1.0), drawn.A, drawn.B) * angle.clamp_min(1.0)
    torch.testing.assert_close(drawn(), short, rtol=1e-9, atol=1e-12)


def test_tokens_of_their_own_curvature_meet_the_limit_too(draw):
    spec = AdapterSpec.parse(
        {"curvature": {"mode": "token", "kappa": -0.6}, "norm_scaling": "identity", "max_angle": 1.0}
    )
    drawn = draw(spec, length=3.0)
    with torch.no_grad():
        drawn.update.token_scale.curvature.gate.fill_(0.8)
    cut = drawn.update.angle(drawn.x).clamp_min(1.0)
    own = drawn.update.token_scale(drawn.x.norm(dim=-1, keepdim=True))
    law = drawn.update.norm_scaling.law(torch.float64).times(own)
    entered = law.times(1 / cut).scale(drawn.x)
    torch.testing.assert_close(
        entered.norm(dim=-1, keepdim=True) * 0.6**0.5,
        drawn.update.angle(drawn.x).clamp_max(1.0),
        rtol=1e-6,
        atol=0,
    )
    general, rank_space = (
        drawn.update.use(path)(drawn.x, drawn.A, drawn.B) for path in ("general", "rank_space")
    )
    torch.testing.assert_close(rank_space, general, rtol=1e-9, atol=1e-12)


def test_clipped_and_capped_are_counted_apart(draw):
    drawn = draw(AdapterSpec.parse({"manifold": "poincare", "norm_scaling": "identity"}), tokens=(10,))
    unit = drawn.x / drawn.x.norm(dim=-1, keepdim=True)
    lengths = torch.where(torch.arange(10) < 4, 9.0, 0.1)[:, None]
    assert drawn.update.capped(unit * lengths) == pytest.approx(0.4)
    assert drawn.update.clipped(unit * lengths, drawn.A * 0.1, drawn.B * 0.1) == 0
    assert drawn.update.capped(unit * 0.1) == 0
    assert drawn.update.clipped(unit * 0.1, drawn.A, drawn.B * 1e3) > 0


def test_no_limit_is_no_limit_but_the_spheres_antipode(draw):
    drawn = draw(HYPLORA.with_(norm_scaling="identity", max_angle=math.inf), tokens=(1,))
    unit = drawn.x / drawn.x.norm()
    gain = drawn.update.gain(unit * 12.0, drawn.A, torch.zeros_like(drawn.B))
    assert gain.item() == pytest.approx(math.sinh(12) / 12, rel=1e-4)
    assert drawn.update.capped(unit * 1e6) == 0
    sphere = draw(HYPLORA.with_(manifold="sphere", norm_scaling="identity", max_angle=math.inf)).update
    assert sphere.capped(unit * 3.2) == 1
    assert sphere.capped(unit * 3.1) == 0
