"""Before the first step: what training rows meet in each adapted layer, and what cannot work."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.methods import has_geometry
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.training.encoding import Encoded, pad_id, pad_right

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from manifold_lora.models.module_geometry import ModuleGeometry

# A first gradient of this many times LoRA's is not trained at any rate that LoRA is.
LARGEST_RATIO = 10.0


@dataclass(frozen=True)
class Preflight:
    """What was measured before the first step.

    Attributes:
        modules: module name -> lengths, angles, gains and dose of the calibration tokens there.
        gradient_ratio: the first gradient's length over that of LoRA at the same A and B.
        faults: what cannot work, a clause each; empty where nothing was found.
    """

    modules: Mapping[str, "ModuleGeometry"]
    gradient_ratio: float
    faults: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the result file; figures that are not finite are None, and among the faults."""
        data = {
            "modules": {name: one.to_dict() for name, one in self.modules.items()},
            "gradient_ratio": self.gradient_ratio,
            "faults": list(self.faults),
        }
        return _finite(data)

    def line(self) -> str:
        """One line for a log."""
        if not self.modules:
            return "preflight: no geometry"
        some = dose_summary(self.modules)
        return (
            f"preflight: dose {some['median']:.3g} (median of {len(self.modules)} modules), "
            f"{some['p90']:.3g} (90 %), {some['largest']:.3g} (largest); "
            f"{100 * some['capped']:.2g} % of tokens beyond the angle limit; "
            f"first gradient {self.gradient_ratio:.3g} x LoRA's"
        )

    def check(self) -> None:
        """Raise ManifoldLoraError for the first fault, where there is one."""
        if self.faults:
            hint = "--preflight warn goes on all the same"
            raise ManifoldLoraError("preflight", self.faults[0], "a run that can work", hint)


def calibration_batch(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Encoded], count: int, seed: int
) -> dict[str, Any]:
    """A batch of ``count`` training rows, drawn by ``seed``: prompts and their targets."""
    drawn = Random(seed).sample(range(len(rows)), min(count, len(rows)))
    return pad_right([rows[place] for place in sorted(drawn)], pad_id(tokenizer))


def preflight(
    model: "PeftModel",
    batch: Mapping[str, Any],
    run: RunSettings,
    calibrated: "Mapping[str, ModuleGeometry] | None" = None,
) -> Preflight:
    """Measure a model before its first step; an arm without a geometry has nothing to measure.

    ``calibrated`` is what calibration found on the same batch, which need not be measured again.
    """
    if not has_geometry(run.adapter.method):
        return Preflight({}, 1.0, ())
    from manifold_lora.models.first_gradient import gradient_ratio
    from manifold_lora.models.module_geometry import measure_geometry

    modules = measure_geometry(model, [batch]) if calibrated is None else calibrated
    ratio = gradient_ratio(model, batch)
    return Preflight(modules, ratio, tuple(_faults(modules, ratio)))


def _faults(modules: Mapping[str, "ModuleGeometry"], ratio: float) -> list[str]:
    faults = [
        f"the gain of {name} is {one.gain.largest} for tokens at a = {one.angle.largest:.3g}"
        for name, one in modules.items()
        if not math.isfinite(one.gain.largest) or not math.isfinite(one.dose)
    ]
    if not ratio <= LARGEST_RATIO:
        worst = max(modules, key=lambda name: modules[name].gain.largest)
        faults.append(
            f"the first gradient is {ratio:.3g} times that of LoRA, more than {LARGEST_RATIO:g}; "
            f"the largest gain, {modules[worst].gain.largest:.3g}, is at {worst}"
        )
    return faults


def dose_summary(modules: Mapping[str, "ModuleGeometry"]) -> dict[str, float]:
    """Median, 90 % and largest dose over modules, and the share of their tokens beyond the angle limit."""
    doses = sorted(one.dose for one in modules.values())
    tokens = sum(one.tokens for one in modules.values())
    return {
        "median": median(doses),
        "p90": doses[math.ceil(0.9 * len(doses)) - 1],
        "largest": doses[-1],
        "capped": sum(one.capped * one.tokens for one in modules.values()) / tokens,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
