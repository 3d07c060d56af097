"""Merging: exact where the update is linear, refused with no weight changed where it is not."""

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer

from manifold_lora.errors import LinearOnlyError

NON_LINEAR = [
    {"manifold": "lorentz", "transform": "direct"},
    {"manifold": "lorentz", "transform": "boost"},
    {"manifold": "sphere", "transform": "direct"},
    {"manifold": "poincare", "transform": "direct"},
    {"manifold": "lorentz", "transform": "tangent", "norm_scaling": "unit"},
]
LINEAR = [
    {"manifold": "euclidean", "transform": "direct", "norm_scaling": "identity"},
    {"manifold": "euclidean", "transform": "direct", "norm_scaling": "learned"},
    {"manifold": "lorentz", "transform": "tangent"},
    {"manifold": "poincare", "transform": "tangent", "norm_scaling": "released"},
    {"manifold": "sphere", "transform": "tangent", "norm_scaling": "fixed"},
]
MERGES = {
    "merge_and_unload": lambda model: model.merge_and_unload(),
    "safe merge_and_unload": lambda model: model.merge_and_unload(safe_merge=True),
    "merge_adapter": lambda model: model.merge_adapter(),
    "named merge_adapter": lambda model: model.merge_adapter(["default"]),
    "add_weighted_adapter": lambda model: model.add_weighted_adapter(["default"], [1.0], "sum", "linear"),
    "layer.merge": lambda model: a_layer(model).merge(),
    "layer.merge safe": lambda model: a_layer(model).merge(safe_merge=True),
    "layer.get_delta_weight": lambda model: a_layer(model).get_delta_weight("default"),
}


def a_layer(model) -> LoraLayer:
    return next(module for module in model.modules() if isinstance(module, LoraLayer))


@pytest.mark.parametrize("arm", NON_LINEAR, ids=lambda arm: "-".join(arm.values()))
@pytest.mark.parametrize("merge", MERGES)
def test_a_non_linear_adapter_refuses_to_merge_and_changes_nothing(adapted, shake, tokens, merge, arm):
    model = shake(adapted(**arm)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model(tokens).logits
    with pytest.raises(LinearOnlyError, match="norm of each token"):
        MERGES[merge](model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert list(model.peft_config) == ["default"]
    assert torch.equal(model(tokens).logits, expected)
    assert not model.base_model.supports_lora_conversion()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("arm", LINEAR, ids=lambda arm: "-".join(arm.values()))
def test_a_linear_adapter_merges_and_unmerges(adapted, shake, tokens, family, arm, safe):
    model = shake(adapted(family, **arm)).eval()
    expected = model(tokens).logits
    with model.disable_adapter():
        without = model(tokens).logits
    assert (expected - without).abs().max() > 1e-3
    model.merge_adapter(safe_merge=safe)
    assert a_layer(model).merged
    torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    merged = model.merge_and_unload(safe_merge=safe)
    assert not any(isinstance(module, LoraLayer) for module in merged.modules())
    torch.testing.assert_close(merged(tokens).logits, expected, rtol=1e-5, atol=1e-5)


def test_linear_adapters_add_up(adapted, shake, tokens):
    plain = {"manifold": "euclidean", "norm_scaling": "identity"}
    model = shake(adapted(**plain)).eval()
    expected = model(tokens).logits
    model.add_weighted_adapter(["default"], [1.0], "same", "linear")
    model.set_adapter("same")
    torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_linear_adapter_with_a_factor_of_its_own_refuses_to_be_added_up(adapted, shake):
    model = shake(adapted(manifold="euclidean", norm_scaling="released"))
    with pytest.raises(LinearOnlyError, match="norm scaling"):
        model.add_weighted_adapter(["default"], [1.0], "same", "linear")
    assert list(model.peft_config) == ["default"]


def test_unloading_gives_the_base_back(base, adapted, shake, tokens):
    model = shake(adapted()).unload()
    assert torch.equal(model(tokens).logits, base()(tokens).logits)
