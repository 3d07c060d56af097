"""Baselines by peft and by our bottleneck, and what AdaLoRA asks of the training loop."""

import math
from collections.abc import Mapping
from typing import Any

from peft import AdaLoraConfig, AdaLoraModel, LoraConfig, PeftModel, PrefixTuningConfig
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.methods.config import low_rank, targets
from manifold_lora.experiments.settings.methods import needs_gain
from manifold_lora.experiments.settings.run import AdapterSettings
from manifold_lora.models.gain import gain_matched_lora
from manifold_lora.models.tuner.bottleneck import BottleneckConfig

Numbers = Mapping[str, float]


def lora(settings: AdapterSettings, gains: Numbers, kappas: Numbers, steps: int) -> LoraConfig:
    """PEFT's LoRA or DoRA, or LoRA with each layer's alpha times the gain that another arm had there."""
    plain = LoraConfig(use_dora=settings.method == "dora", lora_bias=settings.lora_bias, **low_rank(settings))
    return gain_matched_lora(plain, gains) if needs_gain(settings.method) else plain


def adalora(settings: AdapterSettings, gains: Numbers, kappas: Numbers, steps: int) -> AdaLoraConfig:
    """AdaLoRA that starts at 1.5 times the rank and ends at the rank on average (arXiv 2303.10512).

    A tenth of the steps warms up, the last third keeps the ranks found.
    """
    plan: dict[str, Any] = {
        "tinit": steps // 10,
        "tfinal": steps // 3,
        "deltaT": max(1, steps // 100),
        "total_step": steps,
    }
    shared = {name: value for name, value in low_rank(settings).items() if name != "r"}
    return AdaLoraConfig(init_r=math.ceil(1.5 * settings.rank), target_r=settings.rank, **plan, **shared)


def prefix(settings: AdapterSettings, gains: Numbers, kappas: Numbers, steps: int) -> PrefixTuningConfig:
    """Prefix tuning without re-parametrisation (arXiv 2101.00190): keys and values of virtual tokens."""
    return PrefixTuningConfig(num_virtual_tokens=settings.virtual_tokens, task_type="CAUSAL_LM")


def bottleneck(settings: AdapterSettings, gains: Numbers, kappas: Numbers, steps: int) -> BottleneckConfig:
    """A bottleneck at each target: beside a layer n -> m it has LoRA's parameters and two biases."""
    return BottleneckConfig(
        placement=settings.method,
        bottleneck_size=settings.rank,
        non_linearity=settings.non_linearity,
        scaling=settings.alpha / settings.rank,
        dropout=settings.dropout,
        target_modules=targets(settings),
        task_type="CAUSAL_LM",
    )


class RankAllocation(TrainerCallback):
    """AdaLoRA's choice of ranks, made between the optimiser's step and the clearing of gradients."""

    def __init__(self, tuner: AdaLoraModel) -> None:
        self.tuner = tuner

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Score the ranks by weights and gradients; the step that was just made is not counted yet."""
        self.tuner.update_and_allocate(state.global_step + 1)


def callbacks(model: nn.Module, resumable: bool) -> list[TrainerCallback]:
    """What a model's method does in the training loop beside learning.

    Raises ManifoldLoraError for AdaLoRA where the run writes checkpoints.
    """
    tuner = model.base_model if isinstance(model, PeftModel) else None
    if not isinstance(tuner, AdaLoraModel):
        return []
    if resumable:
        hint = "the scores by which AdaLoRA chooses ranks are not part of a checkpoint"
        raise ManifoldLoraError("train.checkpoint_every", "a number with adalora", "0", hint)
    return [RankAllocation(tuner)]
