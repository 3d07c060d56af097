"""Manifold adapters in PEFT, loading of base models, parameter groups and control arms."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = [
    "BottleneckConfig",
    "GeometryLog",
    "ManifoldLoraConfig",
    "ManifoldLoraModel",
    "adapt",
    "adapter_bytes",
    "create_optimizer",
    "effective_kappa",
    "effective_scale",
    "export_lora",
    "fit_layers",
    "gain_matched_alpha",
    "gain_matched_lora",
    "load_adapter",
    "load_base",
    "measure_gain",
    "model_card",
    "parameter_groups",
    "save_adapter",
    "token_gates",
]

# Names are imported at first use: transformers and peft take seconds, and a bad config must fail before.
_EXPORTS: dict[str, str] = {
    "BottleneckConfig": "manifold_lora.models.bottleneck",
    "GeometryLog": "manifold_lora.models.geometry_log",
    "ManifoldLoraConfig": "manifold_lora.models.peft_config",
    "ManifoldLoraModel": "manifold_lora.models.peft_tuner",
    "adapt": "manifold_lora.models.adapt",
    "adapter_bytes": "manifold_lora.models.checkpoint",
    "create_optimizer": "manifold_lora.models.optim",
    "effective_kappa": "manifold_lora.models.effective_kappa",
    "effective_scale": "manifold_lora.models.effective_kappa",
    "export_lora": "manifold_lora.models.export",
    "fit_layers": "manifold_lora.models.export",
    "gain_matched_alpha": "manifold_lora.models.gain",
    "gain_matched_lora": "manifold_lora.models.gain",
    "load_adapter": "manifold_lora.models.load",
    "load_base": "manifold_lora.models.load",
    "measure_gain": "manifold_lora.models.gain",
    "model_card": "manifold_lora.models.model_card",
    "parameter_groups": "manifold_lora.models.optim",
    "save_adapter": "manifold_lora.models.checkpoint",
    "token_gates": "manifold_lora.models.effective_kappa",
}


if TYPE_CHECKING:
    from manifold_lora.models.adapt import adapt
    from manifold_lora.models.bottleneck import BottleneckConfig
    from manifold_lora.models.checkpoint import adapter_bytes, save_adapter
    from manifold_lora.models.effective_kappa import effective_kappa, effective_scale, token_gates
    from manifold_lora.models.export import export_lora, fit_layers
    from manifold_lora.models.gain import gain_matched_alpha, gain_matched_lora, measure_gain
    from manifold_lora.models.geometry_log import GeometryLog
    from manifold_lora.models.load import load_adapter, load_base
    from manifold_lora.models.model_card import model_card
    from manifold_lora.models.optim import create_optimizer, parameter_groups
    from manifold_lora.models.peft_config import ManifoldLoraConfig
    from manifold_lora.models.peft_tuner import ManifoldLoraModel


class _Package(ModuleType):
    """Keeps ``adapt`` the function: an import of the file of that name would set the file in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _EXPORTS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'manifold_lora.models' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
