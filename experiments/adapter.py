"""From adapter settings to a PEFT config: one place where a method's name becomes an object."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from manifold_lora.adapters.config import AdapterSpec
from manifold_lora.experiments.config import AdapterSettings

if TYPE_CHECKING:
    from peft import LoraConfig


def check_adapter(settings: AdapterSettings) -> None:
    """Refuse unknown geometries, transforms, scalings and curvatures of the wrong sign, without torch."""
    if settings.method == "manifold_lora":
        adapter_spec(settings)


def adapter_spec(settings: AdapterSettings) -> AdapterSpec:
    """The geometry of the settings as the adapters floor takes it."""
    fields: dict[str, Any] = {"manifold": settings.manifold, "curvature": settings.curvature}
    return AdapterSpec.parse(
        fields | {"transform": settings.transform, "norm_scaling": settings.norm_scaling}
    )


def peft_config(settings: AdapterSettings, gains: Mapping[str, float]) -> "LoraConfig":
    """The PEFT config of an arm.

    Args:
        settings: a validated adapter block.
        gains: module name -> gain c that multiplies alpha there, for gain_matched_lora; empty for the others.
    """
    from peft import LoraConfig

    from manifold_lora.models.gain import gain_matched_lora
    from manifold_lora.models.peft_config import ManifoldLoraConfig

    targets = settings.target_modules
    shared: dict[str, Any] = {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    if settings.method == "manifold_lora":
        return ManifoldLoraConfig.from_spec(adapter_spec(settings), **shared)
    plain = LoraConfig(use_dora=settings.method == "dora", **shared)
    return gain_matched_lora(plain, gains) if settings.method == "gain_matched_lora" else plain
