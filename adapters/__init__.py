"""The adapter layer: low-rank updates carried through a geometry, assembled from named parts."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS: dict[str, str] = {
    "AdapterSpec": "config",
    "BOOST": "config",
    "HYPLORA": "config",
    "LORA": "config",
    "PRESETS": "config",
    "TANGENT": "config",
    "check_rank": "config",
    "transforms_of": "config",
    "NORM_SCALINGS": "registry",
    "TRANSFORMS": "registry",
    "ManifoldLoRA": "manifold_lora",
    "ManifoldUpdate": "manifold_update",
    "NormScaling": "norm_scaling",
    "ScaleLaw": "norm_scaling",
    "TokenCurvature": "token_scale",
    "TokenScale": "token_scale",
    "Transform": "transforms",
    "geometry_parameters": "parameters",
}

__all__ = [
    "BOOST",
    "HYPLORA",
    "LORA",
    "NORM_SCALINGS",
    "PRESETS",
    "TANGENT",
    "TRANSFORMS",
    "AdapterSpec",
    "ManifoldLoRA",
    "ManifoldUpdate",
    "NormScaling",
    "ScaleLaw",
    "TokenCurvature",
    "TokenScale",
    "Transform",
    "check_rank",
    "geometry_parameters",
    "transforms_of",
]

if TYPE_CHECKING:
    from manifold_lora.adapters.config import (
        BOOST,
        HYPLORA,
        LORA,
        PRESETS,
        TANGENT,
        AdapterSpec,
        check_rank,
        transforms_of,
    )
    from manifold_lora.adapters.manifold_lora import ManifoldLoRA
    from manifold_lora.adapters.manifold_update import ManifoldUpdate
    from manifold_lora.adapters.norm_scaling import NormScaling, ScaleLaw
    from manifold_lora.adapters.parameters import geometry_parameters
    from manifold_lora.adapters.registry import NORM_SCALINGS, TRANSFORMS
    from manifold_lora.adapters.token_scale import TokenCurvature, TokenScale
    from manifold_lora.adapters.transforms import Transform


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'manifold_lora.adapters' has no attribute {name!r}")
    return getattr(import_module(f"manifold_lora.adapters.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
