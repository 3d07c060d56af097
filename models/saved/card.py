"""The model card of a manifold adapter: its geometry and the curvature in effect, layer by layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel

from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.manifolds.base import Manifold
from manifold_lora.models.notice import HOW_TO_LOAD, write_first
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.variant import CONTAINER


def model_card(
    model: PeftModel, adapter_name: str | None = None, gains: Mapping[str, float] | None = None
) -> str:
    """Markdown on one manifold adapter: base model, parts, and of each layer geometry, kappa, rank and gain.

    Args:
        model: the adapted model.
        adapter_name: by default the first active adapter.
        gains: module name -> median gain c, as ``measure_gain`` returns it, where it is known.

    Returns "" for an adapter of another method.
    """
    name = model.active_adapters[0] if adapter_name is None else adapter_name
    config: Any = model.peft_config[name]
    if not isinstance(config, ManifoldLoraConfig):
        return ""
    spec = config.spec()
    facts = {
        "base model": f"`{config.base_model_name_or_path or 'unknown'}`",
        "geometry": "by layer, below" if config.manifold_pattern else spec.manifold.name,
        "transform": spec.transform,
        "norm scaling": spec.norm_scaling + (", one for all layers" if spec.norm_scope == "model" else ""),
        "curvature": _scope(config),
        "rank, alpha": f"{config.r}, {config.lora_alpha:g}",
    }
    if spec.token_norms != "own":
        facts["token norms"] = f"{spec.token_norms} (a control, not a method)"
    return "\n".join(
        [
            "# Manifold adapter (manifold-lora)",
            "",
            HOW_TO_LOAD,
            *(f"- {fact}: {value}" for fact, value in facts.items()),
            "",
            *_layers(model, name, gains or {}),
            "",
            *_reading(spec),
            "",
        ]
    )


def write_model_card(folder: str | Path, card: str) -> None:
    """Put ``card`` first into ``folder/README.md``, in place of an earlier one; nothing if it is empty."""
    if card:
        write_first(Path(folder) / "README.md", card)


def _scope(config: ManifoldLoraConfig) -> str:
    manifold = config.spec().manifold
    scope = manifold.curvature.scope
    if scope == "token":
        return "kappa exp(gate h) for each token, h = (|x|^2 - s^2)/(|x|^2 + s^2)"
    mode = "of its parts" if manifold.parts else manifold.curvature.mode
    return f"{mode}, one for all layers" if scope == "model" else f"{mode}, layer by layer"


def _reading(spec: AdapterSpec) -> list[str]:
    """What the columns mean."""
    enters = "v = s x/|x|" if spec.norm_scaling == "unit" else "v = x/s, so that on x it is one of kappa/s^2"
    return [f"The geometry of curvature kappa acts on {enters}."]


def _layers(model: PeftModel, adapter: str, gains: Mapping[str, float]) -> list[str]:
    columns = ("layer", "geometry", "kappa", "s", "gate", "rank", "median gain c")
    rows = [f"| {' | '.join(columns)} |", "|---|---|---:|---:|---:|---:|---:|"]
    for name, layer in model.get_base_model().named_modules():
        update = getattr(layer, CONTAINER, {})
        if adapter not in update:
            continue
        part: ManifoldUpdate = update[adapter]
        kappa = ", ".join(f"{value:.6g}" for value in part.manifold.kappa.detach().flatten().tolist())
        scale = part.token_scale.curvature if part.token_scale is not None else None
        gate = "" if scale is None else f"{float(scale.gate.detach()):.4g}"
        gain = f"{gains[name]:.4g}" if name in gains else ""
        rank = len(layer.get_submodule("lora_A")[adapter].weight)
        s = f"{float(part.norm_scaling.law(None).s):.6g}"
        rows.append(f"| `{name}` | {_geometry(part.manifold)} | {kappa} | {s} | {gate} | {rank} | {gain} |")
    return rows


def _geometry(manifold: Manifold) -> str:
    parts = list(getattr(manifold, "parts", ()))
    if not parts:
        return type(manifold).__name__.lower()
    shares: tuple[float, ...] = getattr(manifold, "shares", ())
    return " x ".join(f"{_geometry(part)} ({share:.0%})" for share, part in zip(shares, parts, strict=True))
