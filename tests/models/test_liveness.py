"""Liveness: layers that the model bypasses or that get no gradient stop a training before its first step."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BambaConfig,
    FalconMambaConfig,
    GemmaConfig,
    GPT2Config,
    JambaConfig,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MixtralConfig,
    Qwen3NextConfig,
    T5Config,
    Trainer,
    TrainingArguments,
)

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.liveness import DeadLayerError, LivenessCallback, watch_layers
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MAMBA = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
MAMBA2 = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 4}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
# Config, targets, and how many layers are adapted.
ALIVE = {
    "llama": (lambda: LlamaConfig(**SMALL), "all-linear", 14),
    "gemma": (lambda: GemmaConfig(**SMALL, head_dim=8), "all-linear", 14),
    "gpt2": (lambda: GPT2Config(**GPT2), ["c_attn", "c_proj", "c_fc"], 8),
    "mixtral": (lambda: MixtralConfig(**SMALL, num_local_experts=2), ["q_proj", "k_proj", "v_proj"], 6),
    "mamba": (lambda: MambaConfig(**MAMBA), ["in_proj", "x_proj"], 4),
    "t5": (lambda: T5Config(**T5, decoder_start_token_id=0), ["q", "k", "v", "o", "wi", "wo"], 32),
}
STATE_SPACE = {
    "mamba": (lambda: MambaConfig(**MAMBA), "out_proj"),
    "mamba, dt": (lambda: MambaConfig(**MAMBA), "dt_proj"),
    "falcon_mamba": (lambda: FalconMambaConfig(**MAMBA), "out_proj"),
    "mamba2": (lambda: Mamba2Config(**MAMBA, **MAMBA2), "out_proj"),
    "bamba": (
        lambda: BambaConfig(
            **SMALL, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=4, attn_layer_indices=[1]
        ),
        "out_proj",
    ),
}
JAMBA = {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4}


def build(config):
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return kind.from_config(config)


@pytest.mark.parametrize("family", ALIVE)
@pytest.mark.parametrize("transform", ["tangent", "direct"])
def test_every_layer_of_six_families_is_alive_after_one_step(family, transform, tokens):
    config, targets, count = ALIVE[family]
    model = adapt(build(config()), ManifoldLoraConfig(r=2, target_modules=targets, transform=transform))
    with watch_layers(model) as layers:
        model(input_ids=tokens, labels=tokens).loss.backward()
    assert len(layers.layers) == count
    layers.check()
    assert not any(module._forward_pre_hooks for module in layers.layers.values())


@pytest.mark.parametrize("kind", STATE_SPACE)
@pytest.mark.parametrize("method", [ManifoldLoraConfig, BottleneckConfig])
def test_a_projection_that_a_kernel_reads_is_refused_and_nothing_is_touched(kind, method):
    config, target = STATE_SPACE[kind]
    model = build(config())
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(ManifoldLoraError, match=rf"{target}.weight to a state-space kernel"):
        get_peft_model(model, method(target_modules=["in_proj", target]))
    assert [name for name, _ in model.named_modules()] == before


def test_mixers_that_call_their_projection_keep_it(tokens):
    jamba = build(JambaConfig(**SMALL, **JAMBA))
    with watch_layers(
        adapt(jamba, ManifoldLoraConfig(r=2, target_modules=["in_proj", "x_proj", "out_proj"]))
    ) as layers:
        jamba(input_ids=tokens, labels=tokens).loss.backward()
    layers.check()
    with pytest.raises(ManifoldLoraError, match=r"dt_proj\.weight"):
        adapt(build(JambaConfig(**SMALL, **JAMBA)), ManifoldLoraConfig(target_modules=["dt_proj"]))
    options = {**SMALL, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "head_dim": 8}
    small = {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 2,
        "moe_intermediate_size": 8,
    }
    delta = build(Qwen3NextConfig(**options, **small, shared_expert_intermediate_size=8))
    assert adapt(delta, ManifoldLoraConfig(r=2, target_modules=["linear_attn.out_proj"]))


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
    ("target", "told"),
    [("bypassed", "never called"), ("detached", "no gradient"), ("zeroed", "no gradient"), ("good", None)],
)
def test_dead_layers_are_named_with_the_reason(method, target, told, tokens):
    model = adapted_net("good", target, "experts.0", "experts.1", method=method)
    with watch_layers(model) as layers:
        model(input_ids=tokens)["loss"].backward()
    dead = layers.dead()
    # The expert that was not chosen counts with the one that was.
    assert [name.rpartition(".")[2] for name in dead] == ([target] if told else [])
    if told:
        with pytest.raises(DeadLayerError, match=f"{target}.*{told}.*1 of 4 adapted layers"):
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
