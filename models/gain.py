"""The mean gain c of each adapted layer, and the control arm that gives LoRA the same gain."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import get_pattern_key
from torch import Tensor

from manifold_lora.manifolds.errors import ManifoldLoraError
from manifold_lora.models.variant import CONTAINER, Layer

# What a plain LoRA takes over from a manifold adapter.
_SHARED = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "use_rslora",
    "bias",
    "modules_to_save",
    "init_lora_weights",
    "task_type",
)


@torch.no_grad()
def measure_gain(model: PeftModel, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean over tokens of c, where update(x) = c B A x, for each adapted layer of the active adapter.

    Args:
        model: a base model with a manifold adapter, fresh or trained.
        batches: keyword arguments of the model's forward; tokens with ``attention_mask`` 0 do not count.

    Returns the mean gain by module name, as ``named_modules`` of the base model spells it. Raises
    ManifoldLoraError if the model has no manifold adapter or the batches are empty.
    Source: MATH.md section 4 (c also acts as a learning-rate gain).
    """
    layers = dict(_manifold_layers(model))
    if not layers:
        raise ManifoldLoraError("gain", type(model).__name__, "a model with an active manifold adapter")
    sums = {name: [0.0, 0] for name in layers}
    mask: list[Tensor | None] = [None]
    with _evaluating(model), ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(_recorder(layer, sums[name], mask)).remove)
        for batch in batches:
            inputs = {key: value.to(model.device) for key, value in batch.items()}
            mask[0] = inputs.get("attention_mask")
            model(**inputs)
    if not all(count for _, count in sums.values()):
        raise ManifoldLoraError("gain", "no tokens", "at least one batch with one unmasked token")
    return {name: total / count for name, (total, count) in sums.items()}


def gain_matched_alpha(config: LoraConfig, gains: Mapping[str, float]) -> dict[str, float]:
    """``alpha_pattern`` of the control arm: each layer's own alpha times its mean gain c."""
    patterns = config.alpha_pattern or {}
    matched = {}
    for name, gain in gains.items():
        alpha = patterns.get(get_pattern_key(list(patterns), name), config.lora_alpha)
        matched[name.replace(".", r"\.")] = alpha * gain
    return matched


def gain_matched_lora(config: LoraConfig, gains: Mapping[str, float]) -> LoraConfig:
    """A plain ``peft.LoraConfig`` with the ranks and targets of ``config`` and gain-matched alphas."""
    shared = {name: getattr(config, name) for name in _SHARED}
    return LoraConfig(**shared, alpha_pattern=gain_matched_alpha(config, gains))


def _manifold_layers(model: PeftModel) -> Iterator[tuple[str, Layer]]:
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and set(module.active_adapters) & set(
            getattr(module, CONTAINER, {})
        ):
            yield name, module


def _recorder(layer: Layer, total: list[Any], mask: list[Tensor | None]) -> Callable[..., None]:
    def record(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        gain = _gain(layer, inputs[0])
        if mask[0] is not None and mask[0].shape == gain.shape:
            gain = gain[mask[0].bool()]
        total[0] += float(gain.double().sum())
        total[1] += gain.numel()

    return record


def _gain(layer: Layer, x: Tensor) -> Tensor:
    """c per token, shape (...) for x (..., n)."""
    name = next(name for name in layer.active_adapters if name in getattr(layer, CONTAINER))
    update = getattr(layer, CONTAINER)[name]
    return update.gain(x, layer.lora_A[name].weight, layer.lora_B[name].weight).squeeze(-1)


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
