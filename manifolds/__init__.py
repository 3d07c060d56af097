"""Manifolds of constant curvature and their products: points, tangent vectors, geodesics, gradients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Names are imported at first use: reading a config must not wait for torch.
_EXPORTS: dict[str, str] = {
    "Curvature": "curvature",
    "CurvatureError": "errors",
    "CurvatureSpec": "spec",
    "Euclidean": "euclidean",
    "LinearOnlyError": "errors",
    "Lorentz": "lorentz",
    "MANIFOLDS": "registry",
    "Manifold": "base",
    "ManifoldLoraError": "errors",
    "ManifoldSpec": "spec",
    "Poincare": "poincare",
    "PointError": "errors",
    "Product": "product",
    "Radial": "base",
    "Sphere": "sphere",
    "Stereographic": "stereographic",
    "UnknownNameError": "errors",
    "build_manifold": "build",
    "load_plugins": "plugins",
}

__all__ = [
    "MANIFOLDS",
    "Curvature",
    "CurvatureError",
    "CurvatureSpec",
    "Euclidean",
    "LinearOnlyError",
    "Lorentz",
    "Manifold",
    "ManifoldLoraError",
    "ManifoldSpec",
    "Poincare",
    "PointError",
    "Product",
    "Radial",
    "Sphere",
    "Stereographic",
    "UnknownNameError",
    "build_manifold",
    "load_plugins",
]

if TYPE_CHECKING:
    from manifold_lora.manifolds.base import Manifold, Radial
    from manifold_lora.manifolds.build import build_manifold
    from manifold_lora.manifolds.curvature import Curvature
    from manifold_lora.manifolds.errors import (
        CurvatureError,
        LinearOnlyError,
        ManifoldLoraError,
        PointError,
        UnknownNameError,
    )
    from manifold_lora.manifolds.euclidean import Euclidean
    from manifold_lora.manifolds.lorentz import Lorentz
    from manifold_lora.manifolds.plugins import load_plugins
    from manifold_lora.manifolds.poincare import Poincare
    from manifold_lora.manifolds.product import Product
    from manifold_lora.manifolds.registry import MANIFOLDS
    from manifold_lora.manifolds.spec import CurvatureSpec, ManifoldSpec
    from manifold_lora.manifolds.sphere import Sphere
    from manifold_lora.manifolds.stereographic import Stereographic


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
