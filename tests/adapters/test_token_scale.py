"""A curvature for each token, norms shuffled among tokens: the oracles are the arms of one curvature."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.parameters import geometry_parameters
from manifold_lora.adapters.spec import HYPLORA, AdapterSpec
from manifold_lora.adapters.token_scale import ShuffledNorms, TokenCurvature
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import CurvatureError, ManifoldLoraError, UnknownNameError

ARMS = [
    (manifold, transform, norm_scaling)
    for manifold in ("lorentz", "poincare", "sphere", "stereographic")
    for transform in (("direct", "boost") if manifold in ("lorentz", "sphere") else ("direct",))
    for norm_scaling in ("identity", "learned", "unit")
]
KAPPA = {"lorentz": -0.6, "poincare": -0.6, "sphere": 0.4, "stereographic": -0.6}


def parts(arm, curvature):
    manifold, transform, norm_scaling = arm
    return {
        "manifold": manifold,
        "transform": transform,
        "norm_scaling": norm_scaling,
        "curvature": curvature,
    }


def pair(draw, arm, **options):
    """The same tokens and weights under one curvature, and under one for each token."""
    kappa = KAPPA[arm[0]]
    fixed = draw(AdapterSpec.parse(parts(arm, kappa)), **options)
    token = draw(AdapterSpec.parse(parts(arm, {"mode": "token", "kappa": kappa})), **options)
    return fixed, token


def open_gate(update, gate, reference=0.0):
    with torch.no_grad():
        update.token_scale.curvature.gate.fill_(gate)
        update.token_scale.curvature.log_reference.fill_(reference)


def values(drawn, path):
    leaves = [*drawn.requires_grad(), *drawn.update.norm_scaling.parameters()]
    value = drawn.update.use(path)(drawn.x, drawn.A, drawn.B)
    upstream = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(3))
    return [value, *torch.autograd.grad(value, leaves, upstream)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", ["rank_space", "general"])
@pytest.mark.parametrize("arm", ARMS, ids="-".join)
def test_gate_zero_is_the_fixed_arm_to_the_last_bit(draw, arm, path, dtype):
    fixed, token = pair(draw, arm, dtype=dtype)
    open_gate(token.update, 0.0, reference=0.7)
    (ours, *gradients), (theirs, *expected) = values(token, path), values(fixed, path)
    assert torch.equal(ours, theirs)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    for mine, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


@settings(max_examples=4)
@given(gate=st.floats(-2, 2), reference=st.floats(-1, 1), seed=st.integers(0, 99))
@pytest.mark.parametrize("arm", ARMS, ids="-".join)
def test_each_token_meets_its_own_curvature(draw, arm, gate, reference, seed):
    """The oracle writes kappa_t out with a logarithm and asks the arm of that one curvature."""
    fixed, token = pair(draw, arm, tokens=(3,), seed=seed, length=0.7)
    open_gate(token.update, gate, reference)
    found = token()
    width = token.x.shape[-1]
    for row in range(3):
        ratio = float(token.x[row].norm()) / (math.sqrt(width) * math.exp(reference))
        kappa = KAPPA[arm[0]] * math.exp(gate * math.tanh(math.log(ratio)))
        alone = ManifoldUpdate.from_spec(AdapterSpec.parse(parts(arm, kappa)), width, 6, 4).double()
        alone.transform.load_state_dict(fixed.update.transform.state_dict())
        one = slice(row, row + 1)
        expected = alone.use("general")(token.x[one], token.A, token.B)
        # float32 keeps gate and reference.
        torch.testing.assert_close(found[one], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("arm", "path"),
    [
        *((arm, "rank_space") for arm in ARMS),
        *((arm, "fused") for arm in ARMS if arm[1] == "direct"),
        (("lorentz", "boost", "learned"), "general"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_gradients_are_those_of_finite_differences(draw, arm, path):
    _, drawn = pair(draw, arm, tokens=(2,), sizes=(4, 3, 2), length=0.5)
    drawn.update.double()
    open_gate(drawn.update, 0.8, 0.3)
    curvature = drawn.update.use(path).token_scale.curvature
    assert curvature.gate.dtype == torch.float64
    leaves = [*drawn.requires_grad(), curvature.gate, curvature.log_reference]

    def apply(x, A, B, gate, reference):
        replaced = {"token_scale.curvature.gate": gate, "token_scale.curvature.log_reference": reference}
        return torch.func.functional_call(drawn.update, replaced, (x, A, B))

    assert torch.autograd.gradcheck(apply, leaves)


@settings(max_examples=20)
@given(
    gate=st.floats(-2, 2),
    reference=st.floats(-1, 1),
    exponent=st.floats(-9, 1),
    norms=st.sampled_from(["own", "shuffled"]),
)
@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm[1] == "direct"], ids="-".join)
def test_slopes_by_hand_are_those_of_autograd(draw, arm, gate, reference, exponent, norms):
    entry = {**parts(arm, {"mode": "token", "kappa": KAPPA[arm[0]]}), "token_norms": norms}
    drawn = draw(AdapterSpec.parse(entry), tokens=(9,), length=10**exponent)
    open_gate(drawn.update, gate, reference)
    leaves = [*drawn.requires_grad(), *drawn.update.parameters()]
    upstream = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def slopes(path):
        value = drawn.update.use(path)(drawn.x, drawn.A, drawn.B)
        return [value, *torch.autograd.grad(value, leaves, upstream)]

    value, *expected = slopes("rank_space")
    # What a learned number is summed from may cancel.
    summed = float((value.detach() * upstream).abs().sum())
    for one, other in zip(slopes("fused"), [value, *expected], strict=True):
        atol = 1e-9 * (summed if other.shape == (1,) else float(other.detach().abs().max()))
        torch.testing.assert_close(one, other, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("norms", ["own", "shuffled"])
def test_second_derivatives(draw, norms):
    """Another token's norm has no gradient by definition, so the oracle is autograd and no difference."""
    entry = {"token_norms": norms, "curvature": {"mode": "token", "kappa": -0.6}}
    drawn = draw(AdapterSpec.parse(entry), length=0.7)
    drawn.update.double()
    open_gate(drawn.update, 0.8, 0.3)
    leaves = [*drawn.requires_grad(), *drawn.update.parameters()]

    def slopes(path):
        value = drawn.update.use(path)(drawn.x, drawn.A, drawn.B)
        first = torch.autograd.grad(value.sin().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(one.sin().sum() for one in first), leaves)

    for one, other in zip(slopes("fused"), slopes("rank_space"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norms", ["own", "shuffled"])
@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm[1] == "direct"], ids="-".join)
def test_a_few_tokens_are_the_first_of_many(draw, arm, norms):
    entry = {**parts(arm, {"mode": "token", "kappa": KAPPA[arm[0]]}), "token_norms": norms}
    drawn = draw(AdapterSpec.parse(entry), tokens=(40,), length=0.9)
    open_gate(drawn.update, 0.8, 0.3)
    for count in (1, 5, 40):
        given = drawn.x[:count], drawn.A, drawn.B
        with torch.no_grad():
            assert drawn.update.serves_few_tokens(*given[:2])
            few = drawn.update.of_few_tokens(*given, None, 1.0)
        torch.testing.assert_close(few, drawn.update(*given).detach(), rtol=1e-12, atol=1e-14)


def test_the_gate_learns_from_the_first_update_on(draw):
    _, drawn = pair(draw, ("lorentz", "direct", "learned"))
    drawn().square().sum().backward()
    curvature = drawn.update.token_scale.curvature
    assert curvature.gate.grad.abs() > 0
    assert curvature.log_reference.grad == 0  # it has nothing to say before the gate opens


@pytest.mark.parametrize("length", [0.0, 1e-30, 1e6, 1e18])
@pytest.mark.parametrize("arm", [a for a in ARMS if a[1:] == ("direct", "learned")], ids="-".join)
def test_no_norm_breaks_it(draw, arm, length):
    _, drawn = pair(draw, arm, dtype=torch.float32, length=length)
    open_gate(drawn.update, 1.5)
    leaves = [*drawn.requires_grad(), *drawn.update.parameters()]
    value = drawn()
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value.sum(), leaves))


def test_kappa_stays_within_the_gate_and_keeps_its_sign():
    curvature = TokenCurvature(16)
    curvature.gate.data.fill_(-0.9)
    norms = torch.logspace(-20, 20, 99, dtype=torch.float64)[:, None]
    factor = curvature.log_factor(norms).exp()
    assert math.exp(-0.9) - 1e-6 <= float(factor.min().detach()) < float(factor.max().detach())
    assert float(factor.max().detach()) <= math.exp(0.9) + 1e-6
    torch.testing.assert_close(curvature(norms).square(), factor)


def test_its_parameters_are_geometry_and_stay_float32():
    layer = ManifoldLoRA(8, 6, 4, manifold={"name": "sphere", "curvature": {"mode": "token", "kappa": 0.5}})
    layer.to(torch.bfloat16)
    scalars = dict(layer.update.token_scale.curvature.named_parameters())
    assert scalars.keys() == {"gate", "log_reference"}
    assert {id(p) for p in scalars.values()} <= {id(p) for p in geometry_parameters(layer)}
    assert all(p.dtype == torch.float32 and p.shape == (1,) for p in scalars.values())
    assert layer(torch.randn(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "entry",
    [
        {"curvature": {"mode": "token", "kappa": -0.3}},
        {"manifold": {"name": "sphere", "curvature": {"mode": "token"}}, "transform": "boost"},
        {"curvature": {"mode": "learned", "kappa": -0.3, "shared": True}},
        {"manifold": "stereographic", "curvature": {"mode": "free", "shared": True}},
        {"manifold": "lorentz", "token_norms": "shuffled"},
    ],
    ids=str,
)
def test_specs_survive_plain_data(entry):
    spec = AdapterSpec.parse(entry)
    assert AdapterSpec.parse(spec.to_dict()) == spec
    assert ManifoldLoRA.from_spec(spec, 4, 4, 2)(torch.ones(1, 4)).shape == (1, 4)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (
            {"manifold": "euclidean", "curvature": {"mode": "token"}},
            CurvatureError,
            "got 'euclidean'.*lorentz",
        ),
        (
            {"manifold": "stereographic", "curvature": {"mode": "token", "kappa": 0.0}},
            CurvatureError,
            "non-zero",
        ),
        ({"curvature": {"mode": "token", "kappa": 1.0}}, CurvatureError, "negative"),
        ({"curvature": {"mode": "token", "gate": 1.0}}, ManifoldLoraError, "'gate'.*kappa, mode"),
        ({"curvature": {"mode": "tokens"}}, ManifoldLoraError, "fixed, learned, free"),
        ({"curvature": {"mode": "fixed", "kappa": -1.0, "shared": True}}, CurvatureError, "learned or free"),
        ({"curvature": {"mode": "learned", "shared": "yes"}}, ManifoldLoraError, "true or false"),
        ({"token_norms": "shufled"}, UnknownNameError, "did you mean 'shuffled'"),
    ],
    ids=str,
)
def test_bad_entries_are_reported(entry, error, message):
    with pytest.raises(error, match=message):
        AdapterSpec.parse(entry)


SHUFFLED = HYPLORA.with_(token_norms="shuffled")


def test_the_permutation_is_one_cycle_and_always_the_same():
    norms = torch.arange(1.0, 13).reshape(3, 4, 1)
    taken = ShuffledNorms()(norms)
    assert torch.equal(taken.flatten().sort().values, norms.flatten())
    assert not (taken == norms).any()
    assert torch.equal(ShuffledNorms()(norms), taken)
    assert not torch.equal(ShuffledNorms(1)(norms), taken)
    assert torch.equal(ShuffledNorms()(norms[:1, :1]), norms[:1, :1])


@pytest.mark.parametrize("transform", ["direct", "boost"])
@pytest.mark.parametrize("norm_scaling", ["identity", "learned", "released"])
def test_a_token_with_a_strangers_norm_has_the_strangers_gain(draw, transform, norm_scaling):
    spec = SHUFFLED.with_(transform=transform, norm_scaling=norm_scaling)
    drawn, plain = draw(spec, tokens=(5,)), draw(spec.with_(token_norms="own"), tokens=(5,))
    norms = drawn.x.norm(dim=-1, keepdim=True)
    taken = drawn.update.token_scale.norms(norms)
    stretched = plain.update(drawn.x / norms * taken, drawn.A, drawn.B) * norms / taken
    torch.testing.assert_close(drawn(), stretched, rtol=1e-10, atol=1e-12)
    assert (drawn() - plain()).abs().max() > 1e-4
    if transform == "direct":
        torch.testing.assert_close(drawn.update.gain(drawn.x, drawn.A, drawn.B) * drawn.lora, drawn())


def test_tokens_of_one_norm_lose_nothing(draw):
    drawn, plain = draw(SHUFFLED), draw(HYPLORA)
    drawn.x = drawn.x / drawn.x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(drawn(), plain.update(drawn.x, drawn.A, drawn.B), rtol=1e-12, atol=1e-14)


def test_tokens_without_length_stay_finite(draw):
    drawn = draw(SHUFFLED, dtype=torch.float32)
    drawn.x[2:5] = 0.0
    value = drawn.update(*drawn.requires_grad())
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), drawn.x)[0].isfinite().all()


def test_shuffled_norms_leave_a_linear_arm_as_it_is(draw):
    tangent = HYPLORA.with_(transform="tangent")
    drawn, plain = draw(tangent.with_(token_norms="shuffled")), draw(tangent)
    assert drawn.update.is_linear
    assert torch.equal(drawn(), plain())
