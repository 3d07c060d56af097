"""Token geometry of any model: frequency, norms, delta-hyperbolicity, and the null beside each reading."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = "manifold_lora.experiments.geometry"
_EXPORTS: dict[str, str] = {
    "DataCurvature": "data_curvature",
    "EmbeddingTable": "embeddings",
    "GeometrySettings": "settings",
    "Hyperbolicity": "gromov",
    "check_hierarchy": "hierarchy",
    "fit_power_law": "frequency",
    "hidden_states": "activations",
    "hyperbolicity": "gromov",
    "kappa_by_layer": "layer_curvature",
    "kappa_by_module": "layer_curvature",
    "module_inputs": "activations",
    "pairwise": "distances",
    "run_geometry": "cli",
    "sampled_hyperbolicity": "sampled",
    "suggest_kappa": "suggestion",
}

__all__ = [
    "DataCurvature",
    "EmbeddingTable",
    "GeometrySettings",
    "Hyperbolicity",
    "check_hierarchy",
    "fit_power_law",
    "hidden_states",
    "hyperbolicity",
    "kappa_by_layer",
    "kappa_by_module",
    "module_inputs",
    "pairwise",
    "run_geometry",
    "sampled_hyperbolicity",
    "suggest_kappa",
]

if TYPE_CHECKING:
    from manifold_lora.experiments.geometry.activations import hidden_states, module_inputs
    from manifold_lora.experiments.geometry.cli import run_geometry
    from manifold_lora.experiments.geometry.data_curvature import DataCurvature
    from manifold_lora.experiments.geometry.distances import pairwise
    from manifold_lora.experiments.geometry.embeddings import EmbeddingTable
    from manifold_lora.experiments.geometry.frequency import fit_power_law
    from manifold_lora.experiments.geometry.gromov import Hyperbolicity, hyperbolicity
    from manifold_lora.experiments.geometry.hierarchy import check_hierarchy
    from manifold_lora.experiments.geometry.layer_curvature import kappa_by_layer, kappa_by_module
    from manifold_lora.experiments.geometry.sampled import sampled_hyperbolicity
    from manifold_lora.experiments.geometry.settings import GeometrySettings
    from manifold_lora.experiments.geometry.suggestion import suggest_kappa


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{_HOME}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
