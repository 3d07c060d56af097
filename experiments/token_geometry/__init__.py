"""Token geometry of any model: frequency, norms, delta-hyperbolicity, and the null beside each reading."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        ".activations": "hidden_states module_inputs",
        ".data_curvature": "DataCurvature",
        ".delta.distances": "pairwise",
        ".delta.gromov": "Hyperbolicity hyperbolicity",
        ".delta.sampled": "sampled_hyperbolicity",
        ".embeddings": "EmbeddingTable",
        ".frequency": "fit_power_law",
        ".hierarchy": "check_hierarchy",
        ".layer_curvature": "kappa_by_layer kappa_by_module",
        ".run": "run_geometry",
        ".settings": "GeometrySettings",
        ".suggestion": "suggest_kappa",
    },
)

if TYPE_CHECKING:
    from manifold_lora.experiments.token_geometry.activations import hidden_states as hidden_states
    from manifold_lora.experiments.token_geometry.activations import module_inputs as module_inputs
    from manifold_lora.experiments.token_geometry.data_curvature import DataCurvature as DataCurvature
    from manifold_lora.experiments.token_geometry.delta.distances import pairwise as pairwise
    from manifold_lora.experiments.token_geometry.delta.gromov import Hyperbolicity as Hyperbolicity
    from manifold_lora.experiments.token_geometry.delta.gromov import hyperbolicity as hyperbolicity
    from manifold_lora.experiments.token_geometry.delta.sampled import (
        sampled_hyperbolicity as sampled_hyperbolicity,
    )
    from manifold_lora.experiments.token_geometry.embeddings import EmbeddingTable as EmbeddingTable
    from manifold_lora.experiments.token_geometry.frequency import fit_power_law as fit_power_law
    from manifold_lora.experiments.token_geometry.hierarchy import check_hierarchy as check_hierarchy
    from manifold_lora.experiments.token_geometry.layer_curvature import kappa_by_layer as kappa_by_layer
    from manifold_lora.experiments.token_geometry.layer_curvature import kappa_by_module as kappa_by_module
    from manifold_lora.experiments.token_geometry.run import run_geometry as run_geometry
    from manifold_lora.experiments.token_geometry.settings import GeometrySettings as GeometrySettings
    from manifold_lora.experiments.token_geometry.suggestion import suggest_kappa as suggest_kappa
