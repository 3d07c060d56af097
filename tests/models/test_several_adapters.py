"""Several adapters on one model: switched, mixed in a batch, disabled, deleted, of different geometry."""

import pytest
import torch

from manifold_lora.models.tuner.config import ManifoldLoraConfig

ARMS = {
    "default": {},
    "round": {"manifold": "sphere", "curvature": 0.5},
    "boosted": {"transform": "boost"},
    "flat": {"manifold": "euclidean", "norm_scaling": "identity", "r": 3},
}


@pytest.fixture
def several(adapted, shake):
    model = adapted()
    for name, options in list(ARMS.items())[1:]:
        model.add_adapter(
            name, ManifoldLoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"], **options})
        )
    return shake(model).eval()


def test_each_adapter_has_its_own_output_and_only_the_active_one_trains(several, tokens):
    seen = {}
    for name in ARMS:
        several.set_adapter(name)
        seen[name] = several(tokens).logits
        trainable = {n for n, p in several.named_parameters() if p.requires_grad}
        assert trainable
        assert all(f".{name}." in n for n in trainable)
        if name != "flat":
            assert any(".lora_manifold." in n for n in trainable)
    names = list(seen)
    for i, one in enumerate(names):
        assert all(not torch.allclose(seen[one], seen[other]) for other in names[i + 1 :])


def test_a_mixed_batch_equals_one_adapter_at_a_time(several, tokens, base):
    names = ["round", "__base__", "flat"]
    with torch.no_grad():
        mixed = several(tokens, adapter_names=names).logits
        for i, name in enumerate(names):
            if name == "__base__":
                alone = base()(tokens[i : i + 1]).logits
            else:
                several.set_adapter(name)
                alone = several(tokens[i : i + 1]).logits
            torch.testing.assert_close(mixed[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_disabled_adapters_leave_the_base(several, tokens, base):
    expected = base()(tokens).logits
    with several.disable_adapter():
        assert torch.equal(several(tokens).logits, expected)
    assert not torch.allclose(several(tokens).logits, expected)


def test_deleting_an_adapter_leaves_nothing_of_it_and_the_others_as_they_were(several, tokens):
    several.set_adapter("boosted")
    expected = several(tokens).logits
    several.delete_adapter("round")
    assert list(several.peft_config) == ["default", "boosted", "flat"]
    assert not any(".round" in name for name in several.state_dict())
    assert torch.equal(several(tokens).logits, expected)


def test_two_active_adapters_add_their_updates(several, tokens):
    several.base_model.set_adapter(["default", "round"])
    both = several(tokens).logits
    assert torch.isfinite(both).all()
    several.base_model.set_adapter(["default"])
    assert not torch.allclose(both, several(tokens).logits)


def test_a_saved_adapter_loads_under_another_name(several, tokens, tmp_path):
    several.set_adapter("boosted")
    expected = several(tokens).logits
    several.save_pretrained(tmp_path, selected_adapters=["boosted"])
    several.load_adapter(str(tmp_path / "boosted"), "again")
    several.set_adapter("again")
    assert torch.equal(several(tokens).logits, expected)


def test_a_saved_adapter_holds_nothing_of_the_others(several, tmp_path):
    from safetensors.torch import load_file

    several.save_pretrained(tmp_path)
    for folder in (tmp_path, *(tmp_path / name for name in ARMS if name != "default")):
        keys = load_file(folder / "adapter_model.safetensors")
        assert not [key for key in keys for name in ARMS if f".{name}." in key]
