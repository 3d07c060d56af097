"""Before training: the curvature of each adapted module from what training prompts send through it."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.methods.config import adapter_spec, data_curvature, peft_config
from manifold_lora.experiments.settings.run import AdapterSettings
from manifold_lora.experiments.tasks.base import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def calibrate(
    settings: AdapterSettings,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    seed: int,
) -> dict[str, float]:
    """Module name -> kappa < 0 of every module that is adapted; empty without ``curvature: {mode: data}``.

    Args:
        model: the base model, before any adapter.
        examples: training examples, of which ``prompts`` are drawn by ``seed``; never those of a test set.

    Raises ManifoldLoraError for a target that cannot be adapted or that no drawn prompt reaches, and
    CurvatureError where delta is 0.
    """
    from manifold_lora.models.tuner.targets import check_targets

    data = data_curvature(settings)
    if data is None:
        return {}
    names = check_targets(model, peft_config(settings, {}))
    drawn = Random(seed).sample(list(examples), min(data.prompts, len(examples)))
    leaves = sorted({name.rpartition(".")[2] for name in names})
    prompts = [example.prompt for example in drawn]
    measured = data.measure(model, tokenizer, prompts, leaves, adapter_spec(settings).norm_scaling)
    for name in names:
        if name not in measured:
            raise ManifoldLoraError("kappa from data", name, "modules that the calibration prompts reach")
    return {name: measured[name] for name in names}
