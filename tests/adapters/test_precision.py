"""Dtype, device and shape are the caller's; geometry stays in float32 whatever the model is cast to."""

import copy
import io

import pytest
import torch

from manifold_lora.adapters.parameters import geometry_parameters
from manifold_lora.adapters.spec import HYPLORA, AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate

LEARNED = AdapterSpec.parse(
    {"manifold": {"name": "lorentz", "curvature": {"kappa": -0.3, "mode": "learned"}}, "transform": "boost"}
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 3), (2, 1, 20)], ids=str)
def test_dtype_device_and_shape_are_kept(shape, dtype, draw):
    for spec in (HYPLORA, LEARNED, AdapterSpec.parse("tangent")):
        drawn = draw(spec, tokens=shape, dtype=dtype)
        value = drawn()
        assert (value.shape, value.dtype, value.device) == ((*shape, 6), dtype, drawn.x.device)


def test_float32_adapters_serve_a_half_precision_model(spec, draw):
    drawn = draw(spec, dtype=torch.float32, length=0.5)
    half = drawn.update(drawn.x.bfloat16(), drawn.A, drawn.B)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), drawn(), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16], ids=str)
def test_geometry_stays_float32_when_the_model_is_cast(spec, cast, draw):
    update = draw(spec, dtype=torch.float32).update
    before = [parameter.detach().clone() for parameter in geometry_parameters(update)]
    update.to(cast)
    after = geometry_parameters(update)
    assert all(p.dtype == torch.float32 for p in after)
    assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))


def test_geometry_parameters_are_curvature_and_scale_each_once():
    update = ManifoldUpdate.from_spec(LEARNED, 8, 6, 4)
    shared = ManifoldUpdate.from_spec(LEARNED, 8, 6, 4, manifold=update.manifold)
    found = geometry_parameters(torch.nn.ModuleList([update, shared]))
    expected = [update.manifold.curvature.raw, update.norm_scaling.log_scale, shared.norm_scaling.log_scale]
    assert {id(p) for p in found} == {id(p) for p in expected}
    assert len(found) == 3


def test_autocast_leaves_the_geometry_alone(spec, draw):
    drawn = draw(spec, dtype=torch.float32, tokens=(9,), length=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = drawn()
    drawn.requires_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recorded = drawn()
    assert cast.dtype == drawn.x.dtype
    torch.testing.assert_close(cast, drawn().detach(), rtol=0.05, atol=0.02)
    torch.testing.assert_close(recorded, cast, rtol=0, atol=0)
    assert torch.autograd.grad(recorded.sum(), drawn.x)[0].isfinite().all()


def test_the_state_dict_is_the_whole_state(spec, draw):
    drawn = draw(spec)
    with torch.no_grad():
        for number, parameter in enumerate(drawn.update.parameters()):
            parameter.add_(0.1 * (number + 1))
    file = io.BytesIO()
    torch.save(drawn.update.state_dict(), file)
    file.seek(0)
    fresh = draw(spec, columns=False).update
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(drawn.x, drawn.A, drawn.B), drawn())
    assert torch.equal(copy.deepcopy(drawn.update)(drawn.x, drawn.A, drawn.B), drawn())
