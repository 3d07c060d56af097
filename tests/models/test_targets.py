"""Targets: an adapter lands where its config says, or nothing is touched and the nearest layer is named."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.geometry_log import effective_kappa
from manifold_lora.models.tiny import tiny_model
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.layer_support import unsupported_reason
from manifold_lora.models.tuner.targets import check_targets


def refusal(model: nn.Module, **options) -> str:
    before = [(name, type(module)) for name, module in model.named_modules()]
    with pytest.raises(ManifoldLoraError) as caught:
        get_peft_model(model, ManifoldLoraConfig(**options))
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_modules": ["q_porj"]}, "did you mean 'q_proj'"),
        ({"target_modules": ["q_proj", "w_proj"]}, "'w_proj'"),
        ({"target_modules": r".*\.q_porj"}, "did you mean 'q_proj'"),
        ({"target_modules": []}, "no layer would be adapted"),
        ({"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}, "exclude_modules"),
        ({"target_modules": ["q_proj"], "exclude_modules": ["v_porj"]}, "did you mean 'v_proj'"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [7]}, "layers_to_transform"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 7]}, "layers_to_transform: got 7"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, -1]}, "layers_to_transform: got -1"),
        ({"target_modules": ["q_proj"], "layers_to_transform": []}, "layers_to_transform: got []"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [True]}, "layers_to_transform: got [True]"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1.0]}, "layers_to_transform: got [1.0]"),
        (
            {
                "target_modules": ["q_proj"],
                "layers_to_transform": [1],
                "layers_pattern": ["layers", "blocks"],
            },
            "layers_pattern: got 'blocks'",
        ),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 2, "layers.0.self_attn.q_proj": 3}},
            "rank_pattern: got 'layers.0.self_attn.q_proj'; allowed: an entry that some layer has",
        ),
        (
            {"target_modules": ["q_proj"], "curvature_pattern": {".*": -2.0, "q_proj": -3.0}},
            "curvature_pattern: got 'q_proj'; allowed: an entry that some layer has",
        ),
        ({"target_modules": ["q_proj"], "exclude_modules": r"layers\.0"}, "whole name of a module"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_haed"]}, "did you mean 'lm_head'"),
        ({"target_modules": ["q_proj"], "rank_pattern": {"v_proj": 2}}, "rank_pattern"),
        ({"target_modules": ["q_proj"], "alpha_pattern": {"v_proj": 2}}, "alpha_pattern"),
        ({"target_modules": ["embed_tokens"]}, "looks rows up"),
        ({"target_modules": ["self_attn"]}, "block of layers"),
        ({"target_modules": ["norm"]}, "no linear layer"),
    ],
    ids=str,
)
def test_a_target_that_cannot_be_adapted_is_refused_and_the_model_left_alone(base, options, message):
    assert message in refusal(base(), **options)


def test_fused_experts_are_refused_by_their_real_nature(base):
    assert "fused mixture-of-experts parameter" in refusal(base("mixtral"), target_modules=["down_proj"])
    assert "fused mixture-of-experts weights" in refusal(base("mixtral"), target_modules=["experts"])


def test_all_linear_does_not_pass_over_fused_experts_in_silence(base):
    assert "fused mixture-of-experts" in refusal(base("mixtral"), target_modules="all-linear")


def test_an_unknown_architecture_must_name_its_targets():
    class Plain(nn.Sequential):
        pass

    assert "'0'" not in (message := refusal(Plain(nn.Linear(4, 4))))
    assert "target_modules" in message


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv1d(2, 2, 1), "convolution"),
        (nn.Conv2d(2, 2, 1), "convolution"),
        (nn.MultiheadAttention(4, 1), "MultiheadAttention"),
        (nn.MultiheadAttention(4, 1).out_proj, "MultiheadAttention"),
        (type("WQLinear_GEMM", (nn.Module,), {})(), "WQLinear_GEMM"),
        (nn.LayerNorm(3), "LayerNorm"),
    ],
    ids=str,
)
def test_every_refused_class_has_its_reason(module, message):
    assert message in unsupported_reason(module)


def test_a_tensor_parallel_shard_is_refused():
    layer = nn.Linear(4, 4)
    layer._hf_tp_plan = "colwise"
    assert "tensor-parallel" in unsupported_reason(layer)


def test_a_layer_class_of_peft_that_ignores_variants_is_refused(base, monkeypatch):
    class DeafLoraLinear(nn.Module, LoraLayer):
        def __init__(self, target):
            super().__init__()
            LoraLayer.__init__(self, target)

    monkeypatch.setattr(LoraModel, "_create_new_module", staticmethod(lambda c, a, t, **k: DeafLoraLinear(t)))
    assert "DeafLoraLinear ignores LoRA variants" in refusal(base(), target_modules=["q_proj"])


def test_all_linear_adapts_every_linear_layer_but_the_head(base, tokens):
    model = get_peft_model(
        base(), ManifoldLoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    adapted = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert torch.isfinite(model(tokens).logits).all()


def test_checking_targets_changes_neither_model_nor_config(base):
    model, config = base(), LoraConfig(target_modules="all-linear")
    names = check_targets(model, config)
    assert {name.rpartition(".")[2] for name in names} >= {"q_proj", "down_proj"}
    assert config.target_modules == "all-linear"
    assert not any(isinstance(module, LoraLayer) for module in model.modules())


def test_default_targets_are_those_of_lora(base):
    model = get_peft_model(base("mistral"), ManifoldLoraConfig(r=2))
    adapted = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert adapted == {"q_proj", "v_proj"}


def test_a_second_adapter_with_a_bad_target_leaves_the_first_one_working(adapted, shake, tokens):
    model = shake(adapted()).eval()
    expected = model(tokens).logits
    with pytest.raises(UnknownNameError, match="k_proj"):
        model.add_adapter("second", ManifoldLoraConfig(target_modules=["k_porj"]))
    assert list(model.peft_config) == ["default"]
    assert torch.equal(model(tokens).logits, expected)


def test_a_bottleneck_takes_layers_by_number_only_beside_names(base):
    with pytest.raises(ManifoldLoraError, match="put the layers into the pattern"):
        get_peft_model(base(), BottleneckConfig(target_modules=".*down_proj", layers_to_transform=[0]))
    model = get_peft_model(base(), BottleneckConfig(target_modules=["down_proj"], layers_to_transform=[1]))
    adapted = [name for name, _ in model.named_modules() if name.endswith("bottleneck_up")]
    assert [name.split(".")[4] for name in adapted] == ["1"]


@pytest.mark.parametrize(
    ("pattern", "layers"), [(r"layers\.1\..*q_proj", {1}), ("layers.1.*q_proj", {1, 10, 11})]
)
def test_an_escaped_pattern_is_one_layer_and_an_unescaped_one_its_namesakes(pattern, layers):
    model = tiny_model(16, hidden_size=8, layers=12, heads=1, intermediate_size=8)
    config = ManifoldLoraConfig(r=1, target_modules=["q_proj"], curvature_pattern={pattern: -0.5})
    kappas = effective_kappa(get_peft_model(model, config))
    assert {int(name.split(".")[2]) for name, kappa in kappas.items() if kappa == -0.5} == layers
