"""R15: adapters that do not fit their model are refused in one line, before a weight is touched."""

from dataclasses import fields

import pytest
import torch
from peft import LoraConfig
from torch import nn

from manifold_lora.errors import LinearOnlyError, ManifoldLoraError
from manifold_lora.models.tiny import tiny_model
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig

Q = ["q_proj"]
# Options -> what the message has to name. The nearest name where one was misspelt.
TARGETS = [
    ({"target_modules": ["q_porj"]}, "did you mean 'q_proj'"),
    ({"target_modules": ["q_proj", "up_prj"]}, "did you mean 'up_proj'"),
    ({"target_modules": r".*\.q_porj"}, "did you mean 'q_proj'"),
    ({"target_modules": r"nothing\.like\.this"}, "no layer would be adapted"),
    ({"target_modules": []}, "no layer would be adapted"),
    ({"target_modules": Q, "exclude_modules": Q}, "see exclude_modules"),
    ({"target_modules": Q, "layers_to_transform": [7]}, "see layers_to_transform"),
    ({"target_modules": Q, "modules_to_save": ["lm_haed"]}, "did you mean 'lm_head'"),
    ({"target_modules": ["embed_tokens"]}, "no input vector"),
    ({"target_modules": ["self_attn"]}, "block of layers"),
    ({"target_modules": ["input_layernorm"]}, "no linear layer"),
    *(
        ({"target_modules": ["q_proj"], pattern: {"q_porj": value}}, "did you mean 'q_proj'")
        for pattern, value in (
            ("rank_pattern", 2),
            ("alpha_pattern", 2),
            ("curvature_pattern", -1.0),
            ("manifold_pattern", "sphere"),
        )
    ),
]
# Every option of LoraConfig that only a linear update can honour.
LINEAR_ONLY = {
    "init_lora_weights": "pissa",
    "use_dora": True,
    "use_qalora": True,
    "lora_bias": True,
    "velora_config": {"num_groups": 2},
    "alora_invocation_tokens": [1, 2],
    "monteclora_config": {"x": 1},
    "use_bdlora": {"x": 1},
    "arrow_config": {"x": 1},
    "kasa_config": {"x": 1},
    "loftq_config": {"loftq_bits": 4},
    "eva_config": {"rho": 2.0},
    "corda_config": {"x": 1},
    "lora_ga_config": {"x": 1},
    "target_parameters": ["experts.gate_up_proj"],
    "megatron_config": {"x": 1},
    "ensure_weight_tying": True,
}
HONOURED = {
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "bias",
    "use_rslora",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "trainable_token_indices",
    "layer_replication",
}
# They say nothing unless another option, which is refused, is set.
IDLE = {"megatron_core", "qalora_group_size", "runtime_config"}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_model(32, hidden_size=16, heads=2, intermediate_size=16)


def state_of(model: nn.Module) -> tuple[list[tuple[str, type]], dict[str, torch.Tensor]]:
    modules = [(name, type(module)) for name, module in model.named_modules()]
    return modules, {name: value.clone() for name, value in model.state_dict().items()}


def refused(make, model: nn.Module, wording: str, error: type = ManifoldLoraError) -> bool:
    """Was it refused in one line that tells what is wrong, and the model left alone?"""
    modules, weights = state_of(model)
    with pytest.raises(error) as caught:
        make()
    after, values = state_of(model)
    message = str(caught.value)
    same = after == modules and all(torch.equal(values[name], value) for name, value in weights.items())
    return same and wording in message and "\n" not in message


def test_targets_that_are_not_there_are_named_with_the_nearest(model, tally):
    passed = sum(
        refused(lambda options=options: adapt(model, ManifoldLoraConfig(**options)), model, wording)
        for options, wording in TARGETS
    )
    tally("R15", "targets and patterns that name nothing", passed, len(TARGETS))


def test_bottlenecks_are_as_strict(model, tally):
    cases = [
        case
        for case in TARGETS
        if not any("pattern" in name and name != "layers_pattern" for name in case[0])
    ]
    passed = sum(
        refused(lambda options=options: adapt(model, BottleneckConfig(**options)), model, wording)
        for options, wording in cases
    )
    tally("R15", "the same for bottleneck adapters", passed, len(cases))


def test_every_option_of_lora_is_honoured_or_refused(model, tally):
    """A new version of peft with a new option fails here, instead of being ignored in silence."""
    known = {field.name for field in fields(LoraConfig)}
    assert known == set(LINEAR_ONLY) | HONOURED | IDLE
    passed = sum(
        refused(
            lambda n=n: ManifoldLoraConfig(target_modules=Q, **{n: LINEAR_ONLY[n]}), model, n, LinearOnlyError
        )
        for n in LINEAR_ONLY
    )
    tally("R15", "options that only plain LoRA can honour", passed, len(LINEAR_ONLY))


@pytest.mark.parametrize("config", [ManifoldLoraConfig, BottleneckConfig])
def test_an_adapter_is_not_put_in_twice(config, tally):
    model = tiny_model(32, hidden_size=16, heads=2, intermediate_size=16)
    adapted = adapt(model, config(target_modules=Q))
    base = adapted.get_base_model()
    cases = [
        (lambda: adapt(adapted, config(target_modules=Q)), "model.add_adapter"),
        (lambda: adapt(adapted, config(target_modules=Q), "second"), "model.add_adapter"),
        (lambda: adapted.base_model.inject_adapter(base, "default"), "not in use"),
    ]
    passed = sum(refused(make, adapted, wording) for make, wording in cases)
    tally("R15", f"a second injection of {config.__name__}", passed, len(cases))
    adapted.add_adapter("second", config(target_modules=["q_proj", "v_proj"]))
    assert list(adapted.peft_config) == ["default", "second"]
