"""The corners of PEFT that a LoRA reaches, each on a tiny model."""

import copy
import io

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel, get_peft_model, inject_adapter_in_model
from peft.tuners.lora.layer import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.config import ManifoldLoraConfig

LEARNED = {"mode": "learned", "kappa": -0.7}


def layers_of(model) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def test_auto_peft_model_finds_base_and_method(adapted, shake, tokens, tmp_path):
    model = shake(adapted(curvature=LEARNED)).eval()
    model.save_pretrained(tmp_path)
    again = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path))
    assert torch.equal(again(tokens).logits, model(tokens).logits)


def test_rank_and_alpha_patterns_reach_the_layers(adapted, tokens):
    model = adapted(
        r=4, lora_alpha=8, rank_pattern={"layers.1.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 3}
    )
    for name, layer in layers_of(model).items():
        rank = 2 if "layers.1.self_attn.q_proj" in name else 4
        assert layer.lora_A["default"].weight.shape[0] == rank
        assert layer.scaling["default"] == (3 if "v_proj" in name else 8) / rank
    assert torch.isfinite(model(tokens).logits).all()


def test_rank_stabilised_scaling(adapted, shake, tokens):
    plain, stable = shake(adapted(r=4, lora_alpha=8)), shake(adapted(r=4, lora_alpha=8, use_rslora=True))
    assert {layer.scaling["default"] for layer in layers_of(stable).values()} == {8 / 2}
    assert not torch.allclose(plain(tokens).logits, stable(tokens).logits)


def test_modules_to_save_are_trained_and_saved_beside_the_adapter(adapted, shake, tokens, base, tmp_path):
    model = shake(adapted(modules_to_save=["lm_head"])).eval()
    head = model.get_base_model().lm_head.modules_to_save["default"]
    assert head.weight.requires_grad
    with torch.no_grad():
        head.weight.mul_(2.0)
    folder = save_adapter(model, tmp_path / "adapter")
    assert torch.equal(PeftModel.from_pretrained(base(), folder)(tokens).logits, model(tokens).logits)
    assert torch.equal(load_adapter(folder)(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("transform", ["direct", "boost"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(adapted, shake, tokens, transform, reentrant):
    torch.manual_seed(1)
    model = shake(adapted(transform=transform, curvature=LEARNED)).train()
    model(tokens, labels=tokens).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model(tokens, labels=tokens).loss.backward()
    assert expected
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-7)


def test_dropout_acts_on_the_update_in_training_only(adapted, shake, tokens):
    model = shake(adapted(lora_dropout=0.5))
    assert not torch.equal(model.train()(tokens).logits, model(tokens).logits)
    assert torch.equal(model.eval()(tokens).logits, model(tokens).logits)


def test_transformers_own_add_adapter(base, shake, tokens, tmp_path):
    model = base()
    model.add_adapter(ManifoldLoraConfig(r=4, target_modules=["q_proj"], curvature=LEARNED))
    expected = shake(model).eval()(tokens).logits
    model.save_pretrained(tmp_path)
    again = base()
    again.load_adapter(str(tmp_path))
    assert torch.equal(again.eval()(tokens).logits, expected)
    again.disable_adapters()
    assert torch.equal(again(tokens).logits, base()(tokens).logits)


def test_injection_without_a_peft_model(base, shake, tokens):
    config = ManifoldLoraConfig(r=4, target_modules=["q_proj"], transform="boost")
    model = shake(inject_adapter_in_model(config, base())).eval()
    state = get_peft_model_state_dict(model)
    again = inject_adapter_in_model(config, base()).eval()
    assert not set_peft_model_state_dict(again, state).unexpected_keys
    assert torch.equal(again(tokens).logits, model(tokens).logits)


def test_a_model_can_be_copied_and_keeps_refusing_to_merge(adapted, shake, tokens):
    model = shake(adapted()).eval()
    twin = copy.deepcopy(model)
    assert torch.equal(twin(tokens).logits, model(tokens).logits)
    layer = next(iter(layers_of(twin).values()))
    assert layer.get_delta_weight.args[0] is layer


def test_a_state_dict_survives_a_file_opened_with_weights_only(adapted, shake, tokens):
    model = shake(adapted(curvature=LEARNED)).eval()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    again = adapted(curvature=LEARNED).eval()
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again(tokens).logits, model(tokens).logits)


def test_beam_search_mixes_adapters(adapted, shake, tokens):
    model = shake(adapted()).eval()
    options = {
        "max_new_tokens": 3,
        "num_beams": 2,
        "attention_mask": torch.ones_like(tokens),
        "pad_token_id": 0,
    }
    mixed = model.generate(input_ids=tokens, adapter_names=["default", "__base__", "default"], **options)
    assert mixed.shape == (3, tokens.shape[1] + 3)


def test_lora_and_manifold_models_live_side_by_side(base, adapted, tokens):
    from peft import LoraConfig

    plain = get_peft_model(base(), LoraConfig(r=4, target_modules=["q_proj"]))
    assert not any(".lora_manifold." in name for name in plain.state_dict())
    assert any(".lora_manifold." in name for name in adapted().state_dict())
    assert torch.equal(plain(tokens).logits, base()(tokens).logits)
    plain.merge_and_unload()
