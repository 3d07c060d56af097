"""What an arm is there for: baseline, control (of what) or geometry, read from its adapter settings."""

from collections.abc import Mapping
from typing import Any, Literal

from manifold_lora.experiments.settings.arms import ARMS
from manifold_lora.experiments.settings.methods import has_geometry, needs_gain

Group = Literal["baseline", "control", "geometry"]
Role = Literal[
    "baseline",
    "gain",
    "tangent",
    "flat",
    "blind",
    "power",
    "power-learned",
    "norms",
    "bias",
    "frozen",
    "factors",
    "weights",
    "geometry",
]

GROUPS: dict[Group, str] = {"baseline": "Baselines", "control": "Controls", "geometry": "Geometries"}
ROLES: dict[Role, str] = {
    "baseline": "an adapter without geometry",
    "gain": "LoRA times the median gain c of a geometry arm: what a larger step alone does",
    "tangent": "the maps without their curvature: a linear arm, LoRA by another road",
    "flat": "curvature so small that the geometry is flat",
    "blind": "the geometry's gain and saturation at one norm for all tokens: what does not depend on a "
    "token's norm",
    "power": "sinh(a)/a replaced by a power of the norm, its exponent fixed: another dependence on the norm",
    "power-learned": "the same with the exponent learned at the adapter's own rate",
    "norms": "each token scaled by the norm of another one: the gain's dependence on the token, made noise",
    "bias": "LoRA with a bias: what the time column of boost does without curvature",
    "frozen": "boost with the time coordinate of every token at its mean: a bias and its curvature",
    "factors": "B core A, three free factors: what the weights on a manifold are compared with",
    "weights": "A and B on a manifold themselves: a linear update like LoRA's",
    "geometry": "a curved update",
}
_FLAT = 1e-4
LINEAR_SCALINGS = ("identity", "fixed", "learned")


def role_of(run: Mapping[str, Any], arm: str) -> Role:
    """The role of an arm by the settings of one of its runs, and by its name where they are silent."""
    adapter = {**ARMS.get(arm, {}), **run.get("adapter", {})}
    method = adapter.get("method", "manifold_lora")
    if needs_gain(method):
        return "gain"
    if not has_geometry(method):
        return "bias" if adapter.get("lora_bias") else "baseline"
    if adapter.get("transform") == "tangent":
        return "tangent"
    if adapter.get("token_norms", "own") == "shuffled":
        return "norms"
    linear = _is_flat(adapter) and adapter.get("weight_manifold") is not None
    if linear:
        return "factors" if adapter["weight_manifold"] == "free" else "weights"
    special = _special(adapter)
    if special is not None:
        return special
    return "flat" if _is_flat(adapter) else "geometry"


def is_plain_lora(adapter: Mapping[str, Any]) -> bool:
    """Whether the algebra makes a manifold arm LoRA itself: only rounding can tell the two apart.

    ``tangent`` on any geometry and every transform on flat space give B A x where the norm scaling puts back
    what it took (identity, fixed, learned).
    """
    linear = adapter.get("transform") == "tangent" or adapter.get("manifold") == "euclidean"
    ours = adapter.get("method", "manifold_lora") == "manifold_lora"
    # Frames have LoRA's updates and another way to them.
    ours = ours and adapter.get("weight_manifold") is None
    return ours and linear and part_name(adapter.get("norm_scaling", "learned")) in LINEAR_SCALINGS


def part_name(part: Any) -> str:
    """The name of a part that is stated as ``name`` or ``{name, **options}`` (``mode`` in older results)."""
    return str(part.get("name", part.get("mode"))) if isinstance(part, Mapping) else str(part)


def _special(adapter: Mapping[str, Any]) -> Role | None:
    """The role of a control that is a part of its own: norm-blind, power law, time-frozen boost."""
    for key in ("transform", "norm_scaling"):
        part = adapter.get(key, "")
        match part_name(part):
            case "norm_blind":
                return "blind"
            case "power":
                return "power-learned" if isinstance(part, Mapping) and part.get("learned") else "power"
            case "frozen_boost":
                return "frozen"
    return None


def group_of(role: Role) -> Group:
    """The block of the table that a role stands in."""
    if role in ("baseline", "geometry"):
        return role
    if role == "weights":
        return "geometry"
    return "control"


def _is_flat(adapter: Mapping[str, Any]) -> bool:
    curvature = adapter.get("curvature")
    if isinstance(curvature, Mapping):
        return curvature.get("mode") == "fixed" and _small(curvature.get("kappa"))
    return adapter.get("manifold") == "euclidean" or _small(curvature)


def _small(kappa: Any) -> bool:
    return isinstance(kappa, int | float) and abs(kappa) <= _FLAT
