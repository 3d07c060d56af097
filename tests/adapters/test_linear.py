"""Where the geometry cancels, the adapter is LoRA; where it does not, it is no matrix at all."""

import pytest
import torch

from manifold_lora.adapters.spec import LORA, AdapterSpec
from manifold_lora.manifolds.registry import is_radial


def cancels(spec):
    # A power of the norm is no constant, whatever the geometry.
    return spec.transform == "tangent" or (spec.manifold.name == "euclidean" and spec.transform != "power")


def plain(drawn):
    """LoRA times what the norm scaling alone does to it."""
    law = drawn.update.norm_scaling.law(torch.float64)
    factor = law.gain / drawn.x.norm(dim=-1, keepdim=True) if law.unit else law.gain
    return factor * drawn.lora


def test_tangent_on_any_geometry_and_anything_on_the_flat_one_is_lora(spec, draw):
    drawn = draw(spec)
    for path in drawn.update.paths() if cancels(spec) else ():
        drawn.update.use(path)
        torch.testing.assert_close(drawn(), plain(drawn), rtol=1e-10, atol=1e-12)
    assert cancels(spec) == ("linear" in drawn.update.paths())


@pytest.mark.parametrize("norm_scaling", ["identity", "fixed", "learned"])
@pytest.mark.parametrize("transform", ["tangent", "direct"])
def test_the_factor_is_one_where_scaling_is_undone(draw, transform, norm_scaling):
    drawn = draw(LORA.with_(transform=transform, norm_scaling=norm_scaling), dtype=torch.float32)
    torch.testing.assert_close(drawn(), drawn.lora, rtol=0, atol=0)


def test_is_linear_says_whether_sums_and_multiples_go_through(spec, draw):
    drawn = draw(spec)
    other = drawn.x.flip(0) * 0.7
    together = drawn.update(drawn.x - 2 * other, drawn.A, drawn.B)
    apart = drawn() - 2 * drawn.update(other, drawn.A, drawn.B)
    excess = (together - apart).norm() / apart.norm()
    assert drawn.update.is_linear == spec.is_linear
    if spec.is_linear:
        assert excess < 1e-12
    elif spec.norm_scaling == "unit" or spec.manifold.curvature.kappa != 0:
        # A geometry whose curvature happens to be 0 is not called linear: it may be learned or shared.
        assert excess > 1e-4


def test_a_product_of_flat_spaces_is_flat(draw):
    parts = [{"share": 1, "name": "euclidean"}, {"share": 2, "name": "euclidean"}]
    drawn = draw(LORA.with_(manifold={"name": "product", "parts": parts}))
    assert drawn.update.is_linear
    assert drawn.update.path == "linear"
    torch.testing.assert_close(drawn.update.use("general")(drawn.x, drawn.A, drawn.B), drawn.lora)


def test_an_update_without_use_for_its_numbers_still_gives_them_a_gradient(draw):
    drawn = draw(AdapterSpec.parse("tangent"))
    (gradient,) = torch.autograd.grad(drawn().sum(), list(drawn.update.parameters()))
    assert torch.equal(gradient, torch.zeros(1, dtype=gradient.dtype))


def test_curvature_going_to_zero_is_lora(spec, draw, flattened):
    drawn = draw(flattened(spec, 1e-9), columns=False)
    # A chart that looks different in opposite directions bends by the angle, which goes with sqrt(-kappa).
    centred = spec.manifold.parts or is_radial(spec.manifold.name)
    rtol, atol = (1e-7, 1e-9) if centred else (1e-3, 1e-4)
    torch.testing.assert_close(drawn(), plain(drawn), rtol=rtol, atol=atol)
