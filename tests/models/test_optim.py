"""Parameter groups: what decays, what has its own learning rate, and that nothing trainable is left out."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.optim import create_optimizer, parameter_groups

LEARNED = {"mode": "learned", "kappa": -1.0}


def members(model, groups) -> dict[str, set[str]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {group["name"]: {names[id(p)].split(".lora_")[-1] for p in group["params"]} for group in groups}


@pytest.mark.parametrize("transform", ["direct", "boost", "tangent"])
@pytest.mark.parametrize("scaling", ["fixed", "learned", "released", "unit"])
def test_every_trainable_parameter_is_in_one_group(adapted, transform, scaling):
    model = adapted(transform=transform, norm_scaling=scaling, curvature=LEARNED)
    groups = parameter_groups(model, 1e-3, weight_decay=0.1)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    for group in groups:
        assert group["weight_decay"] == (0.1 if group["name"] in ("matrices", "b") else 0.0)


def test_geometry_and_b_have_their_own_learning_rates(adapted):
    model = adapted(transform="boost", curvature=LEARNED)
    groups = parameter_groups(model, 0.5, geometry_lr_factor=0.1, lora_plus_ratio=16.0)
    assert {group["name"]: group["lr"] for group in groups} == {"geometry": 0.05, "b": 8.0, "matrices": 0.5}
    kinds = members(model, groups)
    assert all("manifold" in name for name in kinds["geometry"])
    assert kinds["b"] == {"B.default.weight", "manifold.default.transform.time_B"}
    assert kinds["matrices"] == {"A.default.weight", "manifold.default.transform.time_A"}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("transform", ["direct", "boost"])
def test_a_layer_without_peft_has_the_same_groups(transform, inside):
    layer = ManifoldLoRA(8, 6, rank=2, transform=transform)
    model = torch.nn.Sequential(layer) if inside else layer
    groups = {group["name"]: group for group in parameter_groups(model, 0.5, lora_plus_ratio=16.0)}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "geometry": 0.5,
        "b": 8.0,
        "matrices": 0.5,
    }
    assert any(p is layer.lora_B for p in groups["b"]["params"])
    assert any(p is layer.lora_A for p in groups["matrices"]["params"])
    assert len(groups["b"]["params"]) == len(groups["matrices"]["params"]) == 1 + (transform == "boost")


def test_a_step_moves_the_geometry_by_its_own_rate(adapted, shake, tokens):
    model = shake(adapted(curvature=LEARNED))
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    optimizer = create_optimizer(model, 1e-2, geometry_lr_factor=0.0, weight_decay=0.5)
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            still = ".curvature." in name or ".norm_scaling." in name
            assert torch.equal(parameter, before[name]) == still, name


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": -1.0},
        {"geometry_lr_factor": float("nan")},
        {"geometry_lr_factor": float("inf")},
        {"lora_plus_ratio": -2},
        {"lora_plus_ratio": True},
        {"lr": "1"},
    ],
    ids=str,
)
def test_senseless_rates_are_refused(adapted, options):
    with pytest.raises(ManifoldLoraError, match=next(iter(options))):
        create_optimizer(adapted(), **{"lr": 1e-3, **options})


# llama's layers have none, which peft finds worth a warning.
@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed:UserWarning")
def test_no_bias_decays_nor_takes_the_rate_of_b(base):
    model = get_peft_model(base(), LoraConfig(r=2, target_modules=["q_proj"], lora_bias=True))
    groups = parameter_groups(model, 0.5, weight_decay=0.1, lora_plus_ratio=16.0)
    assert members(model, groups)["vectors"] == {"B.default.bias"}
    (vectors,) = [group for group in groups if group["name"] == "vectors"]
    assert (vectors["weight_decay"], vectors["lr"]) == (0.0, 0.5)


def test_a_model_without_trainable_parameters_is_refused(base):
    model = base().requires_grad_(False)
    with pytest.raises(ManifoldLoraError, match="trainable"):
        parameter_groups(model, 1e-3)
