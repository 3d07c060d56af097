"""The geometry stays in float32 whatever the base model is cast to, saved in, or loaded through."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file

from manifold_lora.models.tuner.config import ManifoldLoraConfig

# bfloat16 has no -0.7: it would round it to -0.69921875.
CURVATURES = [-0.7, {"mode": "learned", "kappa": -0.7}]


def geometry(model) -> dict[str, torch.Tensor]:
    return {name: t for name, t in model.state_dict().items() if ".lora_manifold." in name}


@pytest.mark.parametrize("curvature", CURVATURES, ids=str)
def test_geometry_is_float32_on_a_bfloat16_base(base, shake, tokens, tmp_path, curvature):
    config = ManifoldLoraConfig(r=4, target_modules=["q_proj"], curvature=curvature, task_type="CAUSAL_LM")
    model = shake(get_peft_model(base(dtype=torch.bfloat16), config)).eval()
    expected, logits = geometry(model), model(tokens).logits
    assert logits.dtype == torch.bfloat16
    assert expected
    assert {t.dtype for t in expected.values()} == {torch.float32}
    model.save_pretrained(tmp_path)
    saved = {
        k: t for k, t in load_file(tmp_path / "adapter_model.safetensors").items() if "lora_manifold" in k
    }
    assert {t.dtype for t in saved.values()} == {torch.float32}
    for low in (False, True):
        again = PeftModel.from_pretrained(base(dtype=torch.bfloat16), tmp_path, low_cpu_mem_usage=low).eval()
        assert all(torch.equal(t, expected[name]) for name, t in geometry(again).items())
        # peft rounds A and B to the base's dtype on the low_cpu_mem_usage path, plain LoRA's too.
        torch.testing.assert_close(again(tokens).logits, logits, rtol=0, atol=0.02 if low else 0)


@pytest.mark.parametrize("cast", ["bfloat16", "half"])
@pytest.mark.parametrize("curvature", CURVATURES, ids=str)
def test_casting_the_whole_model_leaves_the_geometry(adapted, shake, tokens, cast, curvature):
    model = shake(adapted(curvature=curvature)).eval()
    expected = {name: t.clone() for name, t in geometry(model).items()}
    getattr(model, cast)()
    assert all(
        torch.equal(t, expected[name]) and t.dtype == torch.float32 for name, t in geometry(model).items()
    )
    assert all(p.dtype != torch.float32 for name, p in model.named_parameters() if ".lora_A." in name)
    assert torch.isfinite(model(tokens).logits).all()


def test_a_bfloat16_step_trains_a_float32_curvature(base, tokens):
    config = ManifoldLoraConfig(
        r=4, target_modules=["q_proj"], curvature={"mode": "learned", "kappa": -1.0}, init_lora_weights=False
    )
    model = get_peft_model(base(dtype=torch.bfloat16), config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(tokens, labels=tokens).loss.backward()
    learned = {n: p for n, p in model.named_parameters() if ".lora_manifold." in n and p.requires_grad}
    assert learned
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() and p.grad.abs().sum() > 0
        for p in learned.values()
    )


def test_a_trainer_that_rounds_every_trainable_does_not_keep_the_geometry_rounded(adapted, tokens):
    model = adapted(curvature={"mode": "learned", "kappa": -0.7})
    ours = {
        name: p for name, p in model.named_parameters() if ".curvature." in name or ".norm_scaling." in name
    }
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    model.train()
    assert ours
    assert {p.dtype for p in ours.values()} == {torch.float32}
    assert all(dict(model.named_parameters())[name] is p for name, p in ours.items())
    assert torch.isfinite(model(tokens).logits).all()


def test_an_adapter_kept_in_bfloat16_still_has_float32_geometry(base, tokens):
    config = ManifoldLoraConfig(r=4, target_modules=["q_proj"])
    model = get_peft_model(base(dtype=torch.bfloat16), config, autocast_adapter_dtype=False)
    kinds = {name: p.dtype for name, p in model.named_parameters() if ".lora_" in name}
    assert {d for n, d in kinds.items() if ".lora_manifold." in n} == {torch.float32}
    assert {d for n, d in kinds.items() if ".lora_A." in n} == {torch.bfloat16}
    assert model(tokens).logits.dtype == torch.bfloat16
