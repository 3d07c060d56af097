"""Slopes derived by hand, of boost and of products, are those that autograd finds."""

import math
from unittest import mock

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manifold_lora.adapters import plans
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.token_scale import TokenCurvature, TokenScale

LEARNED = {"kappa": -0.7, "mode": "learned"}
PRODUCT = {
    "name": "product",
    "parts": [
        {"share": 0.4, "name": "lorentz", "curvature": LEARNED},
        {"share": 0.3, "name": "poincare", "curvature": {"kappa": -0.5, "mode": "learned"}},
        {"share": 0.15, "name": "sphere", "curvature": 0.4},
        {"share": 0.15, "name": "euclidean"},
    ],
}
ARMS = {
    "boost": {"manifold": {"name": "lorentz", "curvature": LEARNED}, "transform": "boost"},
    "boost of a token": {"curvature": {"kappa": -0.7, "mode": "token"}, "transform": "boost"},
    "boost, shuffled": {"curvature": LEARNED, "transform": "boost", "token_norms": "shuffled"},
    "product": {"manifold": PRODUCT},
    "product, shuffled": {"manifold": PRODUCT, "token_norms": "shuffled"},
}


def by_autograd():
    return mock.patch.object(plans, "_by_hand", return_value=None)


@settings(max_examples=25)
@given(
    norm_scaling=st.sampled_from(["identity", "fixed", "learned", "released", "unit"]),
    exponent=st.floats(-9, 1.5),
    down=st.sampled_from([1.0, 9.0]),
    size=st.sampled_from([0.0, 1e-6, 1.0, 30.0]),
    limit=st.sampled_from([0.4, 3.0, 5.0]),
    seed=st.integers(0, 99),
)
@example(norm_scaling="identity", exponent=1.0, down=1.0, size=1.0, limit=0.4, seed=0)
@example(norm_scaling="learned", exponent=0.3, down=9.0, size=1.0, limit=3.0, seed=0)
@example(norm_scaling="unit", exponent=0.0, down=9.0, size=30.0, limit=3.0, seed=1)
@pytest.mark.parametrize("arm", ARMS)
def test_a_step_by_hand_is_that_of_autograd(draw, arm, norm_scaling, exponent, down, size, limit, seed):
    spec = AdapterSpec.parse({**ARMS[arm], "norm_scaling": norm_scaling, "max_angle": limit})
    drawn = draw(spec, tokens=(9,), sizes=(13, 11, 8), length=10**exponent, seed=seed)
    with torch.no_grad():
        # A and B so large that some images are brought back into the charts of a product, before and after B.
        drawn.A.mul_(down)
        drawn.B.mul_(size)
        for one in drawn.update.parameters():
            one.add_(0.3 * torch.randn(one.shape, generator=torch.Generator().manual_seed(seed)))
    leaves = [*drawn.requires_grad(), *drawn.update.parameters()]
    upstream = torch.randn(9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def step():
        value = drawn()
        return [value.detach(), *torch.autograd.grad(value, leaves, upstream)]

    made = plans.plan_of(drawn.update, drawn.x, drawn.A, drawn.B, 1.0).by_hand
    assert made is not None
    with by_autograd():
        expected = step()
    # What a learned number is summed from may cancel.
    summed = float((expected[0] * upstream).abs().sum())
    for one, other in zip(step(), expected, strict=True):
        atol = 1e-9 * (summed if other.shape == (1,) else float(other.abs().max()))
        torch.testing.assert_close(one, other, rtol=2e-6, atol=atol)


@pytest.mark.parametrize("norm_scaling", ["learned", "unit"])
def test_a_product_whose_tokens_differ_in_curvature(draw, norm_scaling):
    """No spec says it, parts put together by hand do."""
    drawn = draw(AdapterSpec.parse({**ARMS["product"], "norm_scaling": norm_scaling}))
    drawn.update.token_scale = TokenScale(TokenCurvature(8), None)
    with torch.no_grad():
        drawn.update.token_scale.curvature.gate.fill_(0.8)
        drawn.update.token_scale.curvature.log_reference.fill_(-0.9)
    leaves = [*drawn.requires_grad(), *drawn.update.parameters()]
    found = torch.autograd.grad(drawn().square().sum(), leaves)
    with by_autograd():
        expected = torch.autograd.grad(drawn().square().sum(), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("frozen", ["log_scale", "raw", "time_A", "time_B"])
@pytest.mark.parametrize("arm", ["boost", "product"])
def test_what_is_frozen_stays_and_the_rest_learns(draw, arm, frozen):
    drawn = draw(AdapterSpec.parse({**ARMS[arm], "norm_scaling": "learned"}))
    for name, one in drawn.update.named_parameters():
        one.requires_grad_(frozen not in name)
    leaves = [*drawn.requires_grad(), *(p for p in drawn.update.parameters() if p.requires_grad)]
    found = torch.autograd.grad(drawn().square().sum(), leaves)
    with by_autograd():
        expected = torch.autograd.grad(drawn().square().sum(), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("arm", ARMS)
def test_a_few_tokens_are_the_first_of_many(draw, arm, dtype):
    drawn = draw(AdapterSpec.parse(ARMS[arm]), tokens=(64,), sizes=(16, 12, 4), length=0.9, dtype=dtype)
    base = torch.randn(64, 12, generator=torch.Generator().manual_seed(1)).to(dtype)
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}[dtype]
    for count in (1, 3, 64):
        x = drawn.x[:count]
        with torch.no_grad():
            assert drawn.update.serves_few_tokens(x, drawn.A)
            few = drawn.update.of_few_tokens(x, drawn.A, drawn.B, base[:count], 2.0)
        many = drawn.update(x, drawn.A.clone().requires_grad_(), drawn.B, base=base[:count], scaling=2.0)
        size = float(many.detach().abs().max())
        torch.testing.assert_close(few, many.detach(), rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("size", [1e18, math.inf, math.nan])
@pytest.mark.parametrize("arm", ["boost", "product"])
def test_what_is_not_finite_is_left_to_the_way_of_many_tokens(draw, arm, size):
    drawn = draw(AdapterSpec.parse({**ARMS[arm], "norm_scaling": "identity"}), dtype=torch.float32)
    x = drawn.x * size
    with torch.no_grad():
        few = drawn.update(x, drawn.A, drawn.B)
        many = drawn.update(x.repeat(10, 1), drawn.A, drawn.B)[: len(x)]
    torch.testing.assert_close(few, many, equal_nan=True, rtol=1e-5, atol=0)


def test_a_limit_beyond_what_points_hold_is_left_to_autograd(draw):
    drawn = draw(AdapterSpec.parse({**ARMS["boost"], "max_angle": "inf"}))
    assert plans.plan_of(drawn.update, drawn.x, drawn.A, drawn.B, 1.0).by_hand is None
