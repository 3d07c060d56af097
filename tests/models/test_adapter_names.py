"""Names of adapters: one may begin like another, and none may be a part of other tensors' names."""

import pytest
import torch
from peft import PeftModel, get_peft_model

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig

LEARNED = {"mode": "learned", "kappa": -0.7}
CONFIG = {"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize(("there", "new"), [("v10", "v1"), ("v1", "v10"), ("default", "d")])
def test_a_name_that_begins_like_another_is_loaded(base, adapted, shake, tokens, tmp_path, there, new):
    saved = shake(adapted(curvature=LEARNED)).eval()
    saved.save_pretrained(tmp_path)
    model = get_peft_model(base(), ManifoldLoraConfig(**CONFIG), adapter_name=there)
    model.load_adapter(str(tmp_path), new)
    model.set_adapter(new)
    assert torch.equal(model.eval()(tokens).logits, saved(tokens).logits)


BAD = [
    "curvature",
    "manifold",
    "raw",
    "weight",
    "norm_scaling",
    "lora_A",
    "q_proj",
    "layers",
    "0",
    "a.b",
    "lora_head",
    "my_lora_x",
    "a/b",
    "a\\b",
    "a\nb",
    "a:b",
    "x" * 101,
]


@pytest.mark.parametrize("name", BAD)
def test_a_name_within_other_names_is_refused_and_nothing_is_touched(base, adapted, tokens, name):
    model = adapted(curvature=LEARNED)
    before = [key for key, _ in model.named_modules()]
    with pytest.raises(ManifoldLoraError, match="adapter name"):
        model.add_adapter(name, ManifoldLoraConfig(**CONFIG))
    assert [key for key, _ in model.named_modules()] == before
    assert list(model.peft_config) == ["default"]
    with pytest.raises(ManifoldLoraError, match="adapter name"):
        get_peft_model(base(), ManifoldLoraConfig(**CONFIG), adapter_name=name)


def test_a_name_that_the_new_adapter_s_parts_have_is_refused(base):
    model = get_peft_model(base(), ManifoldLoraConfig(**CONFIG), adapter_name="gate")
    with pytest.raises(ManifoldLoraError, match="adapter name: got 'gate'"):
        model.add_adapter("tokens", ManifoldLoraConfig(**CONFIG, curvature={"mode": "token"}))


def test_bottlenecks_refuse_them_too(base):
    for name in ("bottleneck_up", "a_bottleneck_b"):
        with pytest.raises(ManifoldLoraError, match="adapter name"):
            get_peft_model(base(), BottleneckConfig(), adapter_name=name)


def test_two_adapters_are_saved_whole(base, adapted, shake, tokens, tmp_path):
    model = adapted(curvature=LEARNED, modules_to_save=["lm_head"])
    model.add_adapter("round", ManifoldLoraConfig(**CONFIG, manifold="sphere", modules_to_save=["lm_head"]))
    shake(model).eval().save_pretrained(tmp_path)
    for name, folder in (("default", tmp_path), ("round", tmp_path / "round")):
        model.set_adapter(name)
        again = PeftModel.from_pretrained(base(), folder).eval()
        assert torch.equal(again(tokens).logits, model(tokens).logits)
