"""From adapter settings to a PEFT config: one place where a method's name becomes an object."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from manifold_lora.adapters.config import AdapterSpec
from manifold_lora.experiments.config import AdapterSettings
from manifold_lora.experiments.geometry.data_curvature import DataCurvature
from manifold_lora.manifolds.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS
from manifold_lora.manifolds.spec import PRODUCT

if TYPE_CHECKING:
    from peft import LoraConfig


def check_adapter(settings: AdapterSettings) -> None:
    """Refuse unknown geometries, transforms, scalings and curvatures of the wrong sign, without torch."""
    if settings.method == "manifold_lora":
        adapter_spec(settings)


def adapter_spec(settings: AdapterSettings) -> AdapterSpec:
    """The geometry of the settings as the adapters floor takes it.

    Under ``curvature: {mode: data}`` its kappa is the default, which no layer is going to have.
    """
    data = data_curvature(settings)
    stated = None if data else settings.curvature
    fields: dict[str, Any] = {"manifold": settings.manifold, "curvature": stated}
    spec = AdapterSpec.parse(
        fields | {"transform": settings.transform, "norm_scaling": settings.norm_scaling}
    )
    if data:
        data.check(spec.norm_scaling)
        _check_hyperbolic(spec.manifold.name)
        if not isinstance(settings.manifold, str) and "curvature" in settings.manifold:
            hint = "the manifold states its own curvature: give it in one place"
            raise ManifoldLoraError("curvature", settings.curvature, "", hint)
    return spec


def data_curvature(settings: AdapterSettings) -> DataCurvature | None:
    """What ``curvature: {mode: data}`` asks to be measured; None where curvature is stated or unused."""
    return DataCurvature.parse(settings.curvature) if settings.method == "manifold_lora" else None


def _check_hyperbolic(name: str) -> None:
    if not _may_be_negative(name):
        allowed = ", ".join(known for known in MANIFOLDS if _may_be_negative(known))
        hint = "delta speaks for a negative kappa; state kappa instead"
        raise CurvatureError("manifold of curvature mode data", name, allowed, hint)


def _may_be_negative(name: str) -> bool:
    return name != PRODUCT and MANIFOLDS.facts(name).get("kappa_sign") in (-1, None)


def peft_config(
    settings: AdapterSettings, gains: Mapping[str, float], kappas: Mapping[str, float] | None = None
) -> "LoraConfig":
    """The PEFT config of an arm.

    Args:
        settings: a validated adapter block.
        gains: module name -> gain c that multiplies alpha there, for gain_matched_lora; empty for the others.
        kappas: module name -> kappa of a layer that does not take the geometry's own.
    """
    from peft import LoraConfig

    from manifold_lora.models.curvature_pattern import curvature_pattern
    from manifold_lora.models.gain import gain_matched_lora
    from manifold_lora.models.peft_config import ManifoldLoraConfig

    targets = settings.target_modules
    shared: dict[str, Any] = {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    if settings.method == "manifold_lora":
        pattern = curvature_pattern(kappas or {})
        return ManifoldLoraConfig.from_spec(adapter_spec(settings), curvature_pattern=pattern, **shared)
    plain = LoraConfig(use_dora=settings.method == "dora", **shared)
    return gain_matched_lora(plain, gains) if settings.method == "gain_matched_lora" else plain
