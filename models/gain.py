"""The median gain c of each adapted layer, and the control arm that gives LoRA the same gain."""

from collections.abc import Iterable, Mapping

import torch
from peft import LoraConfig, PeftModel
from peft.utils.other import get_pattern_key
from torch import Tensor

from manifold_lora.models.tuner.token_inputs import active_update, visit_inputs
from manifold_lora.models.tuner.variant import Layer

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


def measure_gain(model: PeftModel, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """The median over tokens of c, where update(x) = c B A x, for each adapted layer of the active adapter.

    Not the mean: in language models that is the gain of the first token alone ("attention sink"), which is
    left out for the same reason.

    Args:
        model: a base model with a manifold adapter, fresh or trained.
        batches: keyword arguments of the model's forward; tokens with ``attention_mask`` 0 do not count.

    Returns the median gain by module name, as ``named_modules`` of the base model spells it. Raises
    ManifoldLoraError if the model has no manifold adapter, the batches are empty, or no token reaches a
    layer.
    Source: MATH.md sections 4 and 10 (c also acts as a learning-rate gain).
    """
    gains: dict[str, list[Tensor]] = {}

    def see(name: str, layer: Layer, x: Tensor) -> None:
        _, update, lora_A, lora_B = active_update(layer)
        gains.setdefault(name, []).append(update.gain(x, lora_A, lora_B).flatten())

    visit_inputs(model, batches, see, first_token=False)
    return {name: median(torch.cat(some)) for name, some in gains.items()}


def median(values: Tensor) -> float:
    """The median, the mean of the two in the middle where there are two; NaN where there is a NaN."""
    return float(values.double().quantile(0.5))


def gain_matched_alpha(config: LoraConfig, gains: Mapping[str, float]) -> dict[str, float]:
    """``alpha_pattern`` of the control arm: each layer's own alpha times its median gain c."""
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
