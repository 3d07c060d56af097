"""Low-rank adapters on curved spaces: y = W x + scaling * unscale(logmap0(T(expmap0(scale(x)))))."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names are imported at first use: reading a config or printing --help must not wait for torch.
_EXPORTS: dict[str, str] = {
    "ManifoldLoRA": "manifold_lora.adapters.manifold_lora",
    "AdapterSpec": "manifold_lora.adapters.config",
    "LORA": "manifold_lora.adapters.config",
    "TANGENT": "manifold_lora.adapters.config",
    "HYPLORA": "manifold_lora.adapters.config",
    "BOOST": "manifold_lora.adapters.config",
    "ManifoldLoraConfig": "manifold_lora.models.peft_config",
    "ManifoldLoraModel": "manifold_lora.models.peft_tuner",
    "ManifoldLoraError": "manifold_lora.manifolds.errors",
    "MANIFOLDS": "manifold_lora.manifolds.registry",
}

__all__ = [
    "BOOST",
    "HYPLORA",
    "LORA",
    "MANIFOLDS",
    "TANGENT",
    "AdapterSpec",
    "ManifoldLoRA",
    "ManifoldLoraConfig",
    "ManifoldLoraError",
    "ManifoldLoraModel",
    "__version__",
]

if TYPE_CHECKING:
    from manifold_lora.adapters.config import BOOST, HYPLORA, LORA, TANGENT, AdapterSpec
    from manifold_lora.adapters.manifold_lora import ManifoldLoRA
    from manifold_lora.manifolds.errors import ManifoldLoraError
    from manifold_lora.manifolds.registry import MANIFOLDS
    from manifold_lora.models.peft_config import ManifoldLoraConfig
    from manifold_lora.models.peft_tuner import ManifoldLoraModel


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'manifold_lora' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
