"""Manifold adapters in PEFT, loading of base models, parameter groups and control arms."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "ManifoldLoraConfig",
    "ManifoldLoraModel",
    "adapt",
    "adapter_bytes",
    "create_optimizer",
    "gain_matched_alpha",
    "gain_matched_lora",
    "load_adapter",
    "load_base",
    "measure_gain",
    "parameter_groups",
    "save_adapter",
]

# Names are imported at first use: transformers and peft take seconds, and a bad config must fail before.
_EXPORTS: dict[str, str] = {
    "ManifoldLoraConfig": "manifold_lora.models.peft_config",
    "ManifoldLoraModel": "manifold_lora.models.peft_tuner",
    "adapt": "manifold_lora.models.adapt",
    "adapter_bytes": "manifold_lora.models.checkpoint",
    "create_optimizer": "manifold_lora.models.optim",
    "gain_matched_alpha": "manifold_lora.models.gain",
    "gain_matched_lora": "manifold_lora.models.gain",
    "load_adapter": "manifold_lora.models.load",
    "load_base": "manifold_lora.models.load",
    "measure_gain": "manifold_lora.models.gain",
    "parameter_groups": "manifold_lora.models.optim",
    "save_adapter": "manifold_lora.models.checkpoint",
}


if TYPE_CHECKING:
    from manifold_lora.models.adapt import adapt
    from manifold_lora.models.checkpoint import adapter_bytes, save_adapter
    from manifold_lora.models.gain import gain_matched_alpha, gain_matched_lora, measure_gain
    from manifold_lora.models.load import load_adapter, load_base
    from manifold_lora.models.optim import create_optimizer, parameter_groups
    from manifold_lora.models.peft_config import ManifoldLoraConfig
    from manifold_lora.models.peft_tuner import ManifoldLoraModel


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'manifold_lora.models' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
