"""What an arm is there for: baseline, control (of what) or geometry, read from its adapter settings."""

from collections.abc import Mapping
from typing import Any, Literal

from manifold_lora.experiments.settings.arms import ARMS

Group = Literal["baseline", "control", "geometry"]
Role = Literal["baseline", "gain", "tangent", "flat", "norms", "bias", "geometry"]

GROUPS: dict[Group, str] = {"baseline": "Baselines", "control": "Controls", "geometry": "Geometries"}
ROLES: dict[Role, str] = {
    "baseline": "an adapter without geometry",
    "gain": "LoRA times the median gain c of a geometry arm: what a larger step alone does",
    "tangent": "the maps without their curvature: a linear arm, LoRA by another road",
    "flat": "curvature so small that the geometry is flat",
    "norms": "each token scaled by the norm of another one: what the gain's dependence on the token does",
    "bias": "LoRA with a bias: what the time column of boost does without curvature",
    "geometry": "a curved update",
}
_FLAT = 1e-4


def role_of(run: Mapping[str, Any], arm: str) -> Role:
    """The role of an arm by the settings of one of its runs, and by its name where they are silent."""
    adapter = {**ARMS.get(arm, {}), **run.get("adapter", {})}
    method = adapter.get("method", "manifold_lora")
    if method == "gain_matched_lora":
        return "gain"
    if method != "manifold_lora":
        return "bias" if adapter.get("lora_bias") else "baseline"
    if adapter.get("transform") == "tangent":
        return "tangent"
    if adapter.get("token_norms", "own") == "shuffled":
        return "norms"
    return "flat" if _is_flat(adapter) else "geometry"


def group_of(role: Role) -> Group:
    """The block of the table that a role stands in."""
    if role in ("baseline", "geometry"):
        return role
    return "control"


def _is_flat(adapter: Mapping[str, Any]) -> bool:
    curvature = adapter.get("curvature")
    if isinstance(curvature, Mapping):
        return curvature.get("mode") == "fixed" and _small(curvature.get("kappa"))
    return adapter.get("manifold") == "euclidean" or _small(curvature)


def _small(kappa: Any) -> bool:
    return isinstance(kappa, int | float) and abs(kappa) <= _FLAT
