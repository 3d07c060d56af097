"""Parameter groups: which weights decay, and at which learning rate the geometry moves."""

from typing import Any

import torch
from torch import nn

from manifold_lora.adapters.parameters import geometry_parameters
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.numbers import is_number


def parameter_groups(
    model: nn.Module,
    lr: float,
    *,
    weight_decay: float = 0.0,
    geometry_lr_factor: float = 1.0,
    lora_plus_ratio: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups of the trainable parameters for a torch optimiser, empty groups left out.

    Args:
        model: any module, adapted or not.
        lr: the learning rate of A and of whatever else is trainable.
        weight_decay: for A, B and other matrices; curvatures, norm scales and biases never decay.
        geometry_lr_factor: the learning rate of geometric parameters is ``lr`` times this.
        lora_plus_ratio: the learning rate of B is ``lr`` times this (LoRA+, arXiv 2402.12354, section 4).

    Raises ManifoldLoraError if nothing is trainable or a rate is no finite number or negative.
    """
    factors = {"lr": lr, "geometry_lr_factor": geometry_lr_factor, "lora_plus_ratio": lora_plus_ratio}
    for name, value in {**factors, "weight_decay": weight_decay}.items():
        if not is_number(value) or value < 0:
            raise ManifoldLoraError(name, value, "a finite number that is not negative")
    rates = {"geometry": lr * geometry_lr_factor, "b": lr * lora_plus_ratio, "matrices": lr, "vectors": lr}
    decays = {"b": weight_decay, "matrices": weight_decay}
    members: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    geometric = {id(parameter) for parameter in geometry_parameters(model)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_kind(name, parameter, geometric)].append(parameter)
    if not any(members.values()):
        raise ManifoldLoraError("optimiser", "no trainable parameter", "a model with trainable parameters")
    return [
        {"name": name, "params": params, "lr": rates[name], "weight_decay": decays.get(name, 0.0)}
        for name, params in members.items()
        if params
    ]


def create_optimizer(
    model: nn.Module, lr: float, betas: tuple[float, float] = (0.9, 0.999), **groups: Any
) -> torch.optim.AdamW:
    """AdamW over ``parameter_groups``, also for ``Trainer(optimizers=(optimizer, None))``."""
    return torch.optim.AdamW(parameter_groups(model, lr, **groups), lr=lr, betas=betas)


def _kind(name: str, parameter: nn.Parameter, geometric: set[int]) -> str:
    if id(parameter) in geometric:
        return "geometry"
    # time_A and time_B are the extra columns of A and B that a boost adds; a bias of B is no column.
    if name.endswith(".time_B") or ("lora_B" in name.split(".") and not name.endswith(".bias")):
        return "b"
    return "matrices" if parameter.dim() > 1 or name.endswith(".time_A") else "vectors"
