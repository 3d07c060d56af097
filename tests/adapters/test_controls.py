"""The controls norm_blind and power, against their formulas written out; and what they refuse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters.parameters import geometry_parameters
from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.adapters.spec import HYPLORA, AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError, UnknownNameError


def arm(transform, kappa=-1.0, norm_scaling="fixed", **parts):
    return AdapterSpec.parse(
        {"curvature": kappa, "transform": transform, "norm_scaling": norm_scaling, **parts}
    )


def calibrated(draw, spec, median, length, tokens=(6,)):
    drawn = draw(spec, tokens=tokens, length=length)
    drawn.x = drawn.x * torch.linspace(0.3, 3.0, len(drawn.x))[:, None].double()
    drawn.update.calibrate(median)
    return drawn, drawn.update.norm_scaling.median.double(), drawn.x.norm(dim=-1, keepdim=True)


def formula(drawn, entry, s, R, n, limit):
    """c B A x with coordinates entry(n) alpha x_c, x_c the token cut to the limit, psi the arc sinh."""
    n_c = n.clamp_max(limit * R * s)
    q_c = drawn.lora.norm(dim=-1, keepdim=True) * n_c / n
    z = entry(n_c) * q_c / (s * R)
    return R * s * torch.asinh(z) / q_c * drawn.lora


@settings(max_examples=20)
@given(kappa=st.floats(-9, -0.1), median=st.floats(0.1, 10), exponent=st.floats(-1, 0.7))
def test_norm_blind_has_the_medians_gain_and_the_arms_saturation(kappa, median, exponent, draw):
    spec = arm("norm_blind", kappa)
    drawn, s, n = calibrated(draw, spec, median, median * 10**exponent)
    R, a = abs(kappa) ** -0.5, min(abs(kappa) ** 0.5, 3.0)
    expected = formula(drawn, lambda n: math.sinh(a) / a, s, R, n, 3.0)
    for path in drawn.update.paths():
        drawn.update.use(path)
        torch.testing.assert_close(drawn(), expected, rtol=1e-9, atol=1e-12)


def test_norm_blind_equals_direct_where_all_tokens_have_the_median_norm(draw):
    for manifold, kappa in (("lorentz", -0.7), ("sphere", 0.7), ("poincare", -0.7), ("stereographic", 0.7)):
        both = [
            draw(arm(transform, kappa, "learned", manifold=manifold))
            for transform in ("direct", "norm_blind")
        ]
        for drawn in both:
            drawn.x = drawn.x / drawn.x.norm(dim=-1, keepdim=True) * 2.5
            drawn.update.calibrate(2.5)
        torch.testing.assert_close(both[0](), both[1](), rtol=1e-9, atol=1e-12)


@settings(max_examples=20)
@given(kappa=st.floats(-8.9, -0.1), median=st.floats(0.1, 10), p=st.none() | st.floats(-1, 3))
def test_power_is_a_power_of_the_norm(kappa, median, p, draw):
    drawn, s, n = calibrated(draw, arm({"name": "power", "p": p}, kappa), median, median)
    R, a = abs(kappa) ** -0.5, abs(kappa) ** 0.5
    exponent = a / math.tanh(a) - 1 if p is None else p
    expected = formula(drawn, lambda n: math.sinh(a) / a * (n / s) ** exponent, s, R, n, 3.0)
    for path in drawn.update.paths():
        drawn.update.use(path)
        torch.testing.assert_close(drawn(), expected, rtol=1e-9, atol=1e-12)


def test_power_touches_the_geometrys_gain_at_the_median(draw):
    power, direct = (draw(arm(transform, -2.0)).update for transform in ("power", "direct"))
    for update in (power, direct):
        update.calibrate(1.0)
    A, B = torch.eye(4, 8, dtype=torch.float64), torch.zeros(6, 4, dtype=torch.float64)
    x = torch.zeros(3, 8, dtype=torch.float64)
    x[:, 0] = torch.tensor([0.99, 1.0, 1.01])
    ours, theirs = power.gain(x, A, B), direct.gain(x, A, B)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=0)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    assert (ours != theirs)[[0, 2]].all()


@settings(max_examples=20)
@given(kappa=st.floats(-9, -0.1), median=st.floats(0.1, 10), exponent=st.floats(-1, 0.7))
def test_frozen_boost_has_the_times_of_a_token_of_median_length(kappa, median, exponent, draw):
    spec = arm("frozen_boost", kappa)
    drawn, s, n = calibrated(draw, spec, median, median * 10**exponent)
    R, a = abs(kappa) ** -0.5, min(abs(kappa) ** 0.5, 3.0)
    time_A, time_B = drawn.update.transform.time_A.double(), drawn.update.transform.time_B.double()
    # x_c is the token cut to the limit.
    cut = (3.0 * R * s / n).clamp_max(1.0)
    v = drawn.x * cut / s
    length = v.norm(dim=-1, keepdim=True)
    y = R * torch.sinh(length / R) / length * v @ drawn.A.T + R * math.cosh(a) * time_A
    middle = (R * math.sinh(a)) ** 2 * drawn.A.square().sum() / 8 + (R * math.cosh(a) * time_A).square().sum()
    z = y @ drawn.B.T + torch.sqrt(R**2 + middle) * time_B
    q = z.norm(dim=-1, keepdim=True)
    expected = s / cut * R * torch.asinh(q / R) / q * z
    for path in drawn.update.paths():
        drawn.update.use(path)
        torch.testing.assert_close(drawn(), expected, rtol=1e-9, atol=1e-12)


def test_frozen_times_are_one_for_all_tokens_and_boosts_are_not(draw):
    spread = {}
    for transform in ("frozen_boost", "boost"):
        drawn = draw(arm(transform))
        drawn.update.calibrate(1.0)
        drawn.x = drawn.x * torch.linspace(0.3, 2.0, 7)[:, None].double()
        # What is left of the tokens is their time.
        spread[transform] = drawn.update(drawn.x, torch.zeros_like(drawn.A), drawn.B).std(0).max()
    assert spread["frozen_boost"] < 1e-12
    assert spread["boost"] > 1e-3


def test_a_learned_exponent_trains_at_the_adapters_own_rate(draw):
    drawn = draw(arm({"name": "power", "learned": True}))
    added = drawn.update.transform.added
    (gradient,) = torch.autograd.grad(drawn().square().sum(), added)
    assert gradient.abs() > 0
    assert id(added) not in {id(parameter) for parameter in geometry_parameters(drawn.update)}
    assert draw(arm("power")).update.transform.added is None

    def evaluate(x, A, B, added):
        return torch.func.functional_call(drawn.update, {"transform.added": added}, (x, A, B))

    leaves = (*drawn.requires_grad(), added.double().detach().requires_grad_())
    assert torch.autograd.gradcheck(evaluate, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(evaluate, leaves, fast_mode=True)


@pytest.mark.parametrize("transform", ["norm_blind", {"name": "power", "p": 1.5, "learned": True}], ids=str)
def test_a_control_reads_back(transform):
    spec = arm(transform)
    assert AdapterSpec.parse(spec.to_dict()) == spec
    assert spec.with_(manifold="sphere").transform_options == spec.transform_options
    assert spec.with_(transform="direct").transform_options == ()
    assert hash(spec)


PRODUCT = {"name": "product", "parts": [{"share": 1, "name": "lorentz"}, {"share": 1, "name": "sphere"}]}


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"transform": {"name": "power", "q": 1}}, UnknownNameError, "option of transform power: got 'q'"),
        ({"transform": {"name": "direct", "p": 1}}, UnknownNameError, "option of transform direct"),
        ({"transform": {"p": 1}}, ManifoldLoraError, "transform: got"),
        ({"transform": {"name": "power", "p": [1]}}, ManifoldLoraError, "plain value"),
        ({"transform": "power", "manifold": PRODUCT}, ManifoldLoraError, "allowed: direct, tangent"),
        ({"transform": "power", "curvature": {"mode": "token"}}, ManifoldLoraError, "one control at a time"),
        ({"transform": "norm_blind", "token_norms": "shuffled"}, ManifoldLoraError, "one control at a time"),
        ({"transform": "frozen_boost", "manifold": "poincare"}, ManifoldLoraError, "time coordinate"),
        ({"norm_scaling": {"mode": "learned", "p": 1}}, UnknownNameError, "option of norm scaling learned"),
    ],
)
def test_what_a_control_cannot_have_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        AdapterSpec.parse(value)


@pytest.mark.parametrize("options", [{"p": math.inf}, {"p": "2"}, {"learned": 1}], ids=str)
def test_a_bad_option_is_named_when_the_part_is_built(options):
    with pytest.raises(ManifoldLoraError, match="of transform power"):
        ManifoldUpdate.from_spec(arm({"name": "power", **options}), 4, 3, 2)


def test_a_spec_wants_a_geometry_and_not_its_name():
    with pytest.raises(ManifoldLoraError, match=r"manifold of a spec: got 'lorenz'.*AdapterSpec.parse"):
        AdapterSpec("lorenz")


def test_a_scaling_from_outside_states_its_options_and_whether_it_is_shared(monkeypatch):
    learned = NORM_SCALINGS["learned"]

    class Half(learned):
        shareable = False

        def __init__(self, in_features, factor=0.5):
            super().__init__(in_features)
            self.factor = factor

        def law(self, dtype):
            """Half as long."""
            law = super().law(dtype)
            return law._replace(alpha=law.alpha * self.factor)

    monkeypatch.setitem(NORM_SCALINGS._parts, "half", Half)
    monkeypatch.setitem(NORM_SCALINGS._metadata, "half", {"linear": True, "options": ("factor",)})
    spec = AdapterSpec.parse({"norm_scaling": {"name": "half", "factor": 0.25}})
    assert AdapterSpec.parse(spec.to_dict()) == spec
    assert ManifoldUpdate.from_spec(spec, 4, 3, 2).norm_scaling.factor == 0.25
    with pytest.raises(ManifoldLoraError, match="shared norm scaling: got 'half'"):
        AdapterSpec.parse({"norm_scaling": {"mode": "half", "shared": True}})
    with pytest.raises(ManifoldLoraError, match="shared norm scaling"):
        Half(4).share(Half(4))


def test_a_scaling_writes_its_law_and_nothing_that_paths_would_pass_by():
    with pytest.raises(ManifoldLoraError, match="scale"):

        class Doubled(NORM_SCALINGS["learned"]):
            def scale(self, x):
                """Ignored by every path but one."""
                return 2 * x, self.law(x.dtype)

    assert HYPLORA.norm_scaling == "learned"
