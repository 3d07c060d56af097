"""A norm scale that layers share: one learned log(s/sqrt(n)) in layers of different widths."""

import copy
import math

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from manifold_lora.models.geometry_log import effective_scale
from manifold_lora.models.load import load_adapter
from manifold_lora.models.optim import create_optimizer
from manifold_lora.models.saved.card import model_card
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.config import ManifoldLoraConfig

SHARED = {"mode": "learned", "shared": True}
# Widths 32 and 48.
TARGETS = ["q_proj", "down_proj"]


@pytest.fixture
def sharing(adapted, shake):
    def build(mode="learned", **options):
        return shake(adapted(target_modules=TARGETS, norm_scaling={**SHARED, "mode": mode}, **options))

    return build


def scales(model):
    return [p for name, p in model.named_parameters() if "log_scale" in name]


@pytest.mark.parametrize("mode", ["learned", "released", "unit"])
@pytest.mark.parametrize("transform", ["direct", "boost", "tangent"])
def test_its_gradient_is_the_sum_over_the_layers(sharing, adapted, tokens, mode, transform):
    model = sharing(mode, transform=transform)
    (scale,) = scales(model)
    model(tokens, labels=tokens).loss.backward()
    alone = adapted(target_modules=TARGETS, norm_scaling=mode, transform=transform)
    own = {name: tensor for name, tensor in model.state_dict().items() if "lora" in name}
    alone.load_state_dict(own, strict=False)
    alone(tokens, labels=tokens).loss.backward()
    assert len(scales(alone)) == 4
    torch.testing.assert_close(sum(p.grad for p in scales(alone)), scale.grad, rtol=1e-4, atol=1e-8)


def test_a_step_moves_every_layer_and_the_start_is_each_layers_own(sharing, tokens):
    model = sharing()
    scales(model)[0].data.zero_()
    starts = {round(s**2) for s in effective_scale(model).values()}
    assert starts == {32, 48}
    optimizer = create_optimizer(model, 1e-2, geometry_lr_factor=10.0, weight_decay=0.5)
    (group,) = [group for group in optimizer.param_groups if group["name"] == "geometry"]
    assert (group["params"], group["lr"], group["weight_decay"]) == (scales(model), 0.1, 0.0)
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()
    factors = {s / math.sqrt(48 if "down" in name else 32) for name, s in effective_scale(model).items()}
    assert max(factors) == pytest.approx(min(factors))
    assert max(factors) != pytest.approx(1.0, rel=1e-3)


def test_it_is_saved_with_every_layer_and_loads_as_one(sharing, base, tokens, tmp_path):
    model = sharing(curvature={"mode": "learned", "shared": True}).eval()
    folder = save_adapter(model, tmp_path / "adapter")
    saved = [t for name, t in load_file(folder / "adapter_model.safetensors").items() if "log_scale" in name]
    assert len(saved) == 4
    for again in (
        PeftModel.from_pretrained(base(), folder),
        PeftModel.from_pretrained(base(), folder, low_cpu_mem_usage=True, is_trainable=True),
        AutoPeftModelForCausalLM.from_pretrained(folder),
        load_adapter(folder),
        copy.deepcopy(model),
    ):
        assert len(scales(again)) == 1
        assert torch.equal(again.eval()(tokens).logits, model(tokens).logits)
        assert scales(again.double())[0].dtype == torch.float64
        assert len(scales(again)) == 1
    assert "norm scaling: learned, one for all layers" in model_card(model)


def test_adapters_do_not_share_with_each_other(sharing, tokens):
    model = sharing()
    model.add_adapter("second", ManifoldLoraConfig(r=2, target_modules=["q_proj"], norm_scaling=SHARED))
    assert len(scales(model)) == 2
    assert not any("_scaled" in name for name in model.state_dict())
    model.set_adapter("second")
    model.delete_adapter("default")
    assert len(scales(model)) == 1


@pytest.mark.parametrize(
    "options",
    [{"norm_scaling": SHARED}, {"curvature": {"mode": "learned", "shared": True}, "norm_scaling": SHARED}],
    ids=str,
)
def test_transformers_own_add_adapter_trains_and_saves_it(base, shake, tokens, tmp_path, options):
    """No PeftModel anywhere: the model itself saves its adapter, at every checkpoint of a Trainer too."""
    model = base()
    model.add_adapter(ManifoldLoraConfig(r=2, target_modules=TARGETS, **options))
    rows = [{"input_ids": row, "labels": row} for row in tokens.tolist()]
    arguments = TrainingArguments(
        str(tmp_path / "run"),
        max_steps=2,
        save_steps=1,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    Trainer(model, arguments, train_dataset=rows).train()
    shake(model).eval().save_pretrained(tmp_path / "saved")
    for folder in (tmp_path / "run" / "checkpoint-2", tmp_path / "saved"):
        again = PeftModel.from_pretrained(base(), folder).eval()
        assert len(scales(again)) == 1
    assert torch.equal(again(tokens).logits, model(tokens).logits)
