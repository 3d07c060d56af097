"""The median gain of an adapter over the course of its training."""

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from manifold_lora.experiments.tasks.base import Example
from manifold_lora.experiments.training.divergence import DivergedError
from manifold_lora.experiments.training.encoding import encode_examples, pad_id, pad_right
from manifold_lora.models.gain import measure_gain
from manifold_lora.models.tuner.config import ManifoldLoraConfig


class GainProbe:
    """Median gain c = |delta| / |B A x| of each adapted layer over the course of training.

    c multiplies LoRA's update and its gradient alike, so it acts as a learning-rate factor; the gain-matched
    control gives plain LoRA the same one. It is the median over the tokens of a fixed validation batch, the
    first of each sequence left out, taken before training and after each quarter of it. Adapters without a
    geometry have no gain and report none.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: list[Example],
        steps: int,
    ) -> None:
        self.model = model
        self.has_geometry = isinstance(model.peft_config[model.active_adapter], ManifoldLoraConfig)
        self.batch = pad_right(encode_examples(tokenizer, examples), pad_id(tokenizer))
        self.at = {round(steps * quarter / 4) for quarter in range(5)}
        self.measured: dict[str, list[float]] = {}

    def __call__(self, step: int) -> None:
        """Measure if ``step`` is one of the probe's. Raises DivergedError for a gain that is not finite."""
        if not self.has_geometry or step not in self.at:
            return
        for layer, gain in measure_gain(self.model, [self.batch]).items():
            if not math.isfinite(gain):
                hint = "norm_scaling fixed or learned brings the inputs to length 1"
                raise DivergedError(f"gain of {layer} at step {step}", gain, "a finite number", hint)
            self.measured.setdefault(layer, []).append(gain)

    def state(self) -> dict[str, Any]:
        """What was measured so far, for a checkpoint."""
        return {"measured": self.measured}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; what was measured since is forgotten."""
        self.measured = {layer: list(gains) for layer, gains in state["measured"].items()}

    def median(self) -> dict[str, float]:
        """Layer -> median gain over the measured steps."""
        return {layer: median(gains) for layer, gains in self.measured.items()}
