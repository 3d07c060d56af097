"""Arms: named tuples of parts that one ablation compares. Torch-free."""

from typing import Any


def _dosed(share: float, transform: str = "direct") -> dict[str, Any]:
    """HypLoRA at the curvatures where this share of the update is no constant gain, or the largest share."""
    curvature = {"mode": "dose", "share": share, "out_of_reach": "nearest"}
    return {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": transform,
        "curvature": curvature,
    }


def _framed(weights: Any, manifold: str = "euclidean", scaling: str = "identity") -> dict[str, Any]:
    """LoRA, or a curved arm, whose A and B live on manifolds themselves."""
    return {
        "method": "manifold_lora",
        "manifold": manifold,
        "transform": "direct",
        "norm_scaling": scaling,
        "weight_manifold": weights,
    }


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
    "euclidean": {"method": "manifold_lora", "manifold": "euclidean", "transform": "direct"},
    "tangent": {"method": "manifold_lora", "manifold": "lorentz", "transform": "tangent"},
    "direct": {"method": "manifold_lora", "manifold": "lorentz", "transform": "direct"},
    # The paper's name of the same arm.
    "hyplora": {"method": "manifold_lora", "manifold": "lorentz", "transform": "direct"},
    "boost": {"method": "manifold_lora", "manifold": "lorentz", "transform": "boost"},
    "frozen-boost": {"method": "manifold_lora", "manifold": "lorentz", "transform": "frozen_boost"},
    "direct-poincare": {"method": "manifold_lora", "manifold": "poincare", "transform": "direct"},
    "direct-klein": {"method": "manifold_lora", "manifold": "klein", "transform": "direct"},
    "direct-half-space": {"method": "manifold_lora", "manifold": "half_space", "transform": "direct"},
    "direct-sphere": {"method": "manifold_lora", "manifold": "sphere", "transform": "direct"},
    "direct-product": {
        "method": "manifold_lora",
        "manifold": {
            "name": "product",
            "parts": [
                {"share": 0.5, "name": "lorentz"},
                {"share": 0.25, "name": "sphere"},
                {"share": 0.25, "name": "euclidean"},
            ],
        },
        "transform": "direct",
    },
    "direct-flat": {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": "direct",
        "curvature": -1e-6,
    },
    "direct-dose-0.03": _dosed(0.03),
    "direct-dose-0.15": _dosed(0.15),
    "direct-dose-0.3": _dosed(0.3),
    # The controls of the dose in the middle.
    "norm-blind-dose-0.15": _dosed(0.15, "norm_blind"),
    "power-dose-0.15": _dosed(0.15, "power"),
    "direct-data": {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": "direct",
        "curvature": {"mode": "data"},
    },
    "direct-learned": {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": "direct",
        "curvature": {"mode": "learned"},
    },
    "direct-shared": {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": "direct",
        "curvature": {"mode": "learned", "shared": True},
    },
    "direct-token": {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": "direct",
        "curvature": {"mode": "token"},
    },
    "stiefel": _framed("stiefel"),
    "stiefel-diagonal": _framed({"core": "diagonal"}),
    "landing": _framed({"step": "landing"}),
    "oblique": _framed("oblique"),
    # The control of these: the same three factors from the same start, none of them constrained.
    "three-factors": _framed("free"),
    "hyplora-stiefel": _framed("stiefel", "lorentz", "learned"),
    "norm-blind": {"method": "manifold_lora", "manifold": "lorentz", "transform": "norm_blind"},
    "power": {"method": "manifold_lora", "manifold": "lorentz", "transform": "power"},
    "power-learned": {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": {"name": "power", "learned": True},
    },
    "shuffled-norms": {
        "method": "manifold_lora",
        "manifold": "lorentz",
        "transform": "direct",
        "token_norms": "shuffled",
    },
}
