"""Liveness: layers that the model bypasses or that get no gradient stop a training before its first step."""

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import Trainer, TrainingArguments

from manifold_lora.models.liveness import DeadLayerError, LivenessCallback, watch_layers
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig


class Net(nn.Module):
    """Layers that are called, bypassed, detached, multiplied by zero, and two experts, of which one runs."""

    def __init__(self):
        super().__init__()
        self.good, self.bypassed, self.detached, self.zeroed = (nn.Linear(4, 4) for _ in range(4))
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.config = type("Config", (), {"to_dict": lambda self: {}, "get": lambda self, *_: None})()

    def forward(self, input_ids, labels=None):
        x = nn.functional.one_hot(input_ids % 4, 4).float()
        x = self.good(x) + 0.0 * self.zeroed(x) + self.detached(x).detach() + x @ self.bypassed.weight.T
        return {"loss": self.experts[0](x).square().mean()}


def adapted_net(*targets, method=ManifoldLoraConfig):
    return adapt(Net(), method(target_modules=list(targets)))


@pytest.mark.parametrize("method", [ManifoldLoraConfig, LoraConfig, BottleneckConfig])
@pytest.mark.parametrize(
    ("target", "message"),
    [("bypassed", "never called"), ("detached", "no gradient"), ("zeroed", "no gradient"), ("good", None)],
)
def test_dead_layers_are_named_with_the_reason(method, target, message, tokens):
    model = adapted_net("good", target, "experts.0", "experts.1", method=method)
    with watch_layers(model) as layers:
        model(input_ids=tokens)["loss"].backward()
    dead = layers.dead()
    # The expert that was not chosen counts with the one that was.
    assert [name.rpartition(".")[2] for name in dead] == ([target] if message else [])
    if message:
        with pytest.raises(DeadLayerError, match=f"{target}.*{message}.*1 of 4 adapted layers"):
            layers.check()
    assert layers.dead(gradients=False) == {n: r for n, r in dead.items() if "never called" in r}


def test_a_shared_curvature_does_not_make_a_dead_layer_look_alive(tokens):
    model = adapt(
        Net(),
        ManifoldLoraConfig(
            target_modules=["good", "detached"],
            curvature={"mode": "learned", "shared": True},
            init_lora_weights=False,
        ),
    )
    with watch_layers(model) as layers:
        model(input_ids=tokens)["loss"].backward()
    assert [name.rpartition(".")[2] for name in layers.dead()] == ["detached"]


def test_experts_of_which_none_runs_are_dead(tokens):
    model = adapted_net("good", "experts.1")
    with watch_layers(model) as layers:
        model(input_ids=tokens)["loss"].backward()
    assert [name.rpartition("model.")[2] for name in layers.dead()] == ["experts.1"]


def test_a_second_adapter_that_is_not_trained_is_not_missed(tokens):
    model = adapted_net("good")
    model.add_adapter("second", ManifoldLoraConfig(target_modules=["detached"]))
    with watch_layers(model) as layers:
        model(input_ids=tokens)["loss"].backward()
    layers.check()


def trainer(model, folder, steps=2):
    rows = [{"input_ids": list(range(4, 12)), "labels": list(range(4, 12))}] * 4
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    return Trainer(model, arguments, train_dataset=rows, callbacks=[LivenessCallback()])


def test_a_trainer_stops_before_a_weight_moves(tmp_path):
    model = adapted_net("good", "zeroed")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(DeadLayerError, match="zeroed"):
        trainer(model, tmp_path).train()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_trainer_goes_on_where_all_layers_live(adapted, tmp_path):
    model = adapted()
    trainer(model, tmp_path).train()
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(p.count_nonzero() for name, p in model.named_parameters() if ".lora_B." in name)
