"""The mean gain c of each adapted layer, and the control arm that gives LoRA the same gain."""

from collections.abc import Iterable, Mapping

from peft import LoraConfig, PeftModel
from peft.utils.other import get_pattern_key
from torch import Tensor

from manifold_lora.models.token_inputs import active_update, visit_inputs
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
    """The mean over tokens of c, where update(x) = c B A x, for each adapted layer of the active adapter.

    Args:
        model: a base model with a manifold adapter, fresh or trained.
        batches: keyword arguments of the model's forward; tokens with ``attention_mask`` 0 do not count.

    Returns the mean gain by module name, as ``named_modules`` of the base model spells it. Raises
    ManifoldLoraError if the model has no manifold adapter or the batches are empty.
    Source: MATH.md section 4 (c also acts as a learning-rate gain).
    """
    sums: dict[str, list[float]] = {}

    def see(name: str, layer: Layer, x: Tensor) -> None:
        _, update, lora_A, lora_B = active_update(layer)
        gain = update.gain(x, lora_A, lora_B)
        total = sums.setdefault(name, [0.0, 0])
        total[0] += float(gain.sum())
        total[1] += gain.numel()

    visit_inputs(model, batches, see)
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
