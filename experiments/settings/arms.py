"""Arms: named tuples of parts that one ablation compares. Torch-free."""

from typing import Any


def _curved(transform: Any = "direct", manifold: Any = "lorentz", **fields: Any) -> dict[str, Any]:
    """A manifold adapter: HypLoRA unless it says otherwise."""
    return {"method": "manifold_lora", "manifold": manifold, "transform": transform, **fields}


def _dosed(share: float, transform: str = "direct") -> dict[str, Any]:
    """HypLoRA at the curvatures where this share of the update is no constant gain, or the largest share."""
    return _curved(transform, curvature={"mode": "dose", "share": share, "out_of_reach": "nearest"})


def _framed(weights: Any, manifold: str = "euclidean", scaling: str = "identity") -> dict[str, Any]:
    """LoRA, or a curved arm, whose A and B live on manifolds themselves."""
    return _curved(manifold=manifold, norm_scaling=scaling, weight_manifold=weights)


_PARTS = [
    {"share": 0.5, "name": "lorentz"},
    {"share": 0.25, "name": "sphere"},
    {"share": 0.25, "name": "euclidean"},
]
# Each arm states only what differs from the adapter block of the config; custom is that block itself.
ARMS: dict[str, dict[str, Any]] = {
    "custom": {},
    "lora": {"method": "lora"},
    "dora": {"method": "dora"},
    "lora-bias": {"method": "lora", "lora_bias": True},
    "lora-plus": {"method": "lora", "lora_plus_ratio": 16.0},
    "adalora": {"method": "adalora"},
    "prefix": {"method": "prefix"},
    "series": {"method": "series"},
    "parallel": {"method": "parallel"},
    "gain-matched-lora": {"method": "gain_matched_lora", "gain_from": "direct"},
    "euclidean": _curved(manifold="euclidean"),
    "tangent": _curved("tangent"),
    "direct": _curved(),
    # The paper's name of the same arm.
    "hyplora": _curved(),
    "boost": _curved("boost"),
    "frozen-boost": _curved("frozen_boost"),
    "direct-poincare": _curved(manifold="poincare"),
    "direct-klein": _curved(manifold="klein"),
    "direct-half-space": _curved(manifold="half_space"),
    "direct-sphere": _curved(manifold="sphere"),
    "direct-product": _curved(manifold={"name": "product", "parts": _PARTS}),
    "direct-flat": _curved(curvature=-1e-6),
    "direct-dose-0.03": _dosed(0.03),
    "direct-dose-0.15": _dosed(0.15),
    "direct-dose-0.3": _dosed(0.3),
    # The controls of the dose in the middle.
    "norm-blind-dose-0.15": _dosed(0.15, "norm_blind"),
    "power-dose-0.15": _dosed(0.15, "power"),
    "direct-data": _curved(curvature={"mode": "data"}),
    "direct-learned": _curved(curvature={"mode": "learned"}),
    "direct-shared": _curved(curvature={"mode": "learned", "shared": True}),
    "direct-token": _curved(curvature={"mode": "token"}),
    "stiefel": _framed("stiefel"),
    "stiefel-diagonal": _framed({"core": "diagonal"}),
    "landing": _framed({"step": "landing"}),
    "oblique": _framed("oblique"),
    # The control of these: the same three factors from the same start, none of them constrained.
    "three-factors": _framed("free"),
    "hyplora-stiefel": _framed("stiefel", "lorentz", "learned"),
    "norm-blind": _curved("norm_blind"),
    "power": _curved("power"),
    "power-learned": _curved({"name": "power", "learned": True}),
    "shuffled-norms": _curved(token_norms="shuffled"),
}
