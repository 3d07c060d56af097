"""R31: after one step every adapted layer was called and has a gradient, or the dead ones are named."""

import pytest
import torch
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
    PreTrainedConfig,
    Qwen3NextConfig,
    T5Config,
)

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.liveness import DeadLayerError, watch_layers
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


TOKENS = torch.randint(4, 64, (3, 9), generator=torch.Generator().manual_seed(3))


def build(config: PreTrainedConfig) -> nn.Module:
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return kind.from_config(config)


def step(model: nn.Module) -> None:
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()


@pytest.mark.parametrize("family", ALIVE)
def test_every_layer_of_six_families_lives(family: str, tally) -> None:
    config, targets, count = ALIVE[family]
    passed = 0
    for transform in ("tangent", "direct", "boost"):
        options = {"target_modules": targets, "transform": transform, "norm_scaling": "fixed"}
        model = adapt(build(config()), ManifoldLoraConfig(r=2, **options))
        with watch_layers(model) as layers:
            step(model)
        layers.check()
        hooks = [hook for layer in layers.layers.values() for hook in layer._forward_pre_hooks]
        passed += len(layers.layers) == count and not hooks
    tally("R31", f"{family}: all layers live, three transforms", passed, 3)


class Bypassed(nn.Module):
    """In the place of an adapted layer: the model reads its weight and leaves the layer out."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.weight = layer, layer.get_base_layer().weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer.get_base_layer()(x)


class Detached(Bypassed):
    """The layer is called, and its output cut off from the loss."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).detach() + 0 * x.sum()


@pytest.mark.parametrize("family", ALIVE)
def test_a_bypassed_layer_is_named(family: str, tally) -> None:
    config, targets, count = ALIVE[family]
    passed = 0
    for stand_in, reason in ((Bypassed, "never called"), (Detached, "no gradient")):
        model = adapt(build(config()), ManifoldLoraConfig(r=2, target_modules=targets))
        with watch_layers(model) as layers:
            name = list(layers.layers)[count // 2]
            model.set_submodule(name, stand_in(layers.layers[name]))
            step(model)
        passed += [(dead, reason in why) for dead, why in layers.dead().items()] == [(name, True)]
        with pytest.raises(DeadLayerError, match=f"1 of {count} adapted layers"):
            layers.check()
    tally("R31", f"{family}: a bypassed and a detached layer named", passed, 2)


@pytest.mark.parametrize("kind", STATE_SPACE)
def test_a_projection_that_a_kernel_reads_is_refused_and_nothing_is_touched(kind: str, tally) -> None:
    config, target = STATE_SPACE[kind]
    passed = 0
    for method in (ManifoldLoraConfig, BottleneckConfig):
        model = build(config())
        before = [name for name, _ in model.named_modules()]
        with pytest.raises(ManifoldLoraError, match=rf"{target}\.weight to a state-space kernel"):
            adapt(model, method(target_modules=["in_proj", target]))
        passed += [name for name, _ in model.named_modules()] == before
    tally("R31", f"{kind}: {target} refused", passed, 2)


def test_mixers_that_call_their_projection_keep_it():
    jamba = build(JambaConfig(**SMALL, **JAMBA))
    with watch_layers(
        adapt(jamba, ManifoldLoraConfig(r=2, target_modules=["in_proj", "x_proj", "out_proj"]))
    ) as layers:
        jamba(input_ids=TOKENS, labels=TOKENS).loss.backward()
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
