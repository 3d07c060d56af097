"""The scale starts at a measured median, is saved with the layer, and an older file still loads."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.adapters.spec import HYPLORA, AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError

DIVIDED = [name for name in NORM_SCALINGS if NORM_SCALINGS[name].divides]


def built(norm_scaling="learned", **parts):
    return ManifoldUpdate.from_spec({"norm_scaling": norm_scaling, **parts}, 16, 6, 4)


@given(median=st.floats(1e-3, 1e4), log_scale=st.floats(-2, 2))
def test_s_is_the_median_times_what_was_learned(median, log_scale):
    update = built()
    update.calibrate(median)
    with torch.no_grad():
        update.norm_scaling.log_scale.fill_(log_scale)
    assert float(update.norm_scaling.law(None).s) == pytest.approx(median * math.exp(log_scale), rel=1e-6)
    assert update.norm_scaling.is_calibrated


@pytest.mark.parametrize("norm_scaling", DIVIDED)
def test_at_the_median_the_angle_is_one_over_R(norm_scaling):
    update = built(norm_scaling, curvature=-0.25)
    x = torch.randn(9, 16)
    x = x / x.norm(dim=-1, keepdim=True) * 0.3
    update.calibrate(0.3)
    torch.testing.assert_close(update.angle(x), torch.full((9, 1), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("norm_scaling", list(NORM_SCALINGS))
def test_before_calibration_s_is_the_root_of_the_width(norm_scaling):
    update = built(norm_scaling)
    assert update.norm_scaling.is_calibrated == (norm_scaling not in DIVIDED)
    if norm_scaling in DIVIDED:
        assert float(update.norm_scaling.law(None).s) == 4.0
    else:
        update.calibrate(7.0)
        assert not list(update.buffers(recurse=False))


def test_the_reference_of_token_curvature_is_calibrated_too():
    update = built(curvature={"mode": "token"}).double()
    update.calibrate(0.3)
    with torch.no_grad():
        update.token_scale.curvature.gate.fill_(1.3)
    # At the median kappa_t = kappa whatever the gate.
    norm = torch.full((1, 1), update.norm_scaling.median.item(), dtype=torch.float64)
    torch.testing.assert_close(update.token_scale.curvature(norm), torch.ones_like(norm))


def test_the_median_is_saved_and_a_file_without_one_still_loads():
    update, fresh = built(), built()
    update.calibrate(2.5)
    state = update.state_dict()
    fresh.load_state_dict(state)
    assert float(fresh.norm_scaling.law(None).s) == 2.5
    del state["norm_scaling.median"]
    fresh.load_state_dict(state)
    assert float(fresh.norm_scaling.law(None).s) == 4.0
    assert not fresh.norm_scaling.is_calibrated


def test_a_shared_scale_keeps_the_medians_of_its_layers_apart():
    first, second = built(), built()
    second.norm_scaling.share(first.norm_scaling)
    first.calibrate(2.0)
    second.calibrate(8.0)
    with torch.no_grad():
        first.norm_scaling.log_scale.fill_(math.log(3))
    scales = [float(update.norm_scaling.law(None).s) for update in (first, second)]
    assert scales == pytest.approx([6.0, 24.0], rel=1e-6)


@pytest.mark.parametrize("median", [0, -1.0, math.nan, math.inf, True, "2"])
def test_a_median_is_a_positive_number(median):
    with pytest.raises(ManifoldLoraError, match="median"):
        built().calibrate(median)


@pytest.mark.parametrize("angle", [0, -1.0, math.nan, True, "3", None])
def test_an_angle_limit_is_a_positive_number(angle):
    with pytest.raises(ManifoldLoraError, match="max_angle"):
        AdapterSpec.parse({"max_angle": angle})


@pytest.mark.parametrize("angle", [0.5, 2, math.inf, "inf"])
def test_an_angle_limit_reads_back(angle):
    spec = AdapterSpec.parse({"max_angle": angle})
    assert spec.max_angle == float(angle)
    assert AdapterSpec.parse(spec.to_dict()) == spec
    assert spec.with_(manifold="sphere").max_angle == spec.max_angle
    assert ManifoldLoRA(8, 6, 4, max_angle=angle).update.max_angle == float(angle)
    assert HYPLORA.max_angle == 3.0


def test_the_share_of_tokens_beyond_the_limit():
    x = torch.ones(10, 16) / 4 * torch.tensor([[0.5]] * 7 + [[8.0]] * 3)
    update = built(norm_scaling="identity", max_angle=2.0)
    torch.testing.assert_close(update.angle(x), x.double().norm(dim=-1, keepdim=True))
    assert update.capped(x) == pytest.approx(0.3)
    assert built(norm_scaling="identity", transform="tangent").capped(x) == 0
    assert built(norm_scaling="identity", manifold="euclidean").angle(x).max() == 0


def test_a_products_angle_is_its_largest():
    parts = [
        {"share": 1, "name": "lorentz", "curvature": -4.0},
        {"share": 1, "name": "sphere", "curvature": 0.25},
    ]
    update = built(norm_scaling="identity", manifold={"name": "product", "parts": parts})
    x = torch.zeros(2, 16)
    x[0, 0], x[1, 15] = 3.0, 3.0
    torch.testing.assert_close(update.angle(x), torch.tensor([[6.0], [1.5]], dtype=torch.float64))
