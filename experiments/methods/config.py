"""From adapter settings to a PEFT config: one place where a method's name becomes an object."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from manifold_lora.adapters.layer_map import layer_map
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.weights import WeightSpec
from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.experiments.methods.dose_curvature import MODE as DOSE
from manifold_lora.experiments.methods.dose_curvature import DoseCurvature
from manifold_lora.experiments.settings.methods import METHODS, PEFT, has_geometry
from manifold_lora.experiments.settings.preflight import check_kappas, check_pattern, check_targets
from manifold_lora.experiments.settings.run import AdapterSettings
from manifold_lora.experiments.token_geometry.data_curvature import MODE, DataCurvature
from manifold_lora.manifolds.registry import MANIFOLDS, curved_names, has_parts, is_radial
from manifold_lora.manifolds.spec import MODES, TOKEN

if TYPE_CHECKING:
    from peft import PeftConfig

# What has a dose, and the controls that are made from it at the same curvature.
_DOSED = ("direct", "norm_blind", "power")


def check_adapter(settings: AdapterSettings) -> None:
    """Refuse targets, geometries, transforms, scalings and curvatures that cannot be, without torch."""
    check_targets(settings.target_modules)
    check_kappas("adapter.curvature", settings.curvature)
    if settings.method.startswith(PEFT):
        peft_config(settings, {})
    elif settings.options:
        hint = "options are those of a method peft.NAME"
        raise ManifoldLoraError("adapter.options", settings.options, f"none with {settings.method}", hint)
    weights = WeightSpec.parse(settings.weight_manifold)
    if not has_geometry(settings.method):
        if weights is not None:
            got = f"{settings.weight_manifold} with {settings.method}"
            raise ManifoldLoraError("adapter.weight_manifold", got, "none, or method manifold_lora")
        return
    patterns = settings.manifold_pattern
    check_kappas("adapter", {"manifold": settings.manifold, "manifold_pattern": patterns})
    for pattern in patterns if isinstance(patterns, dict) else ():
        check_pattern("adapter.manifold_pattern", pattern)
    layer_map(adapter_spec(settings), settings.manifold_pattern)
    if settings.manifold_pattern and (data_curvature(settings) or wanted_dose(settings)):
        hint = "the pattern's geometries state their own curvature"
        raise ManifoldLoraError(
            "manifold_pattern", settings.manifold_pattern, "none with mode data or dose", hint
        )


def adapter_spec(settings: AdapterSettings) -> AdapterSpec:
    """The geometry of the settings as the adapters floor takes it.

    Under ``curvature: {mode: data}`` or ``{mode: dose}`` its kappa is the default, which no layer is going to
    have.
    """
    _check_mode(settings.curvature)
    data, dosed = data_curvature(settings), wanted_dose(settings)
    stated = None if data or dosed else settings.curvature
    fields: dict[str, Any] = {"manifold": settings.manifold, "curvature": stated}
    names = ("transform", "norm_scaling", "token_norms", "max_angle")
    spec = AdapterSpec.parse(fields | {name: getattr(settings, name) for name in names})
    if data:
        data.check(spec.norm_scaling)
        _check_hyperbolic(spec.manifold.name)
    if dosed:
        _check_dosed(settings, spec)
    if (data or dosed) and not isinstance(settings.manifold, str) and "curvature" in settings.manifold:
        hint = "the manifold states its own curvature: give it in one place"
        raise ManifoldLoraError("curvature", settings.curvature, "", hint)
    return spec


def data_curvature(settings: AdapterSettings) -> DataCurvature | None:
    """What ``curvature: {mode: data}`` asks to be measured; None where curvature is stated or unused."""
    return DataCurvature.parse(settings.curvature) if has_geometry(settings.method) else None


def wanted_dose(settings: AdapterSettings) -> DoseCurvature | None:
    """What ``curvature: {mode: dose}`` asks for; None where curvature is stated or unused."""
    return DoseCurvature.parse(settings.curvature) if has_geometry(settings.method) else None


def _check_dosed(settings: AdapterSettings, spec: AdapterSpec) -> None:
    name = spec.manifold.name
    able = [known for known in curved_names() if is_radial(known)]
    if name not in able:
        raise CurvatureError("manifold of curvature mode dose", name, ", ".join(able))
    if spec.transform not in _DOSED:
        hint = "the gain of other transforms is no function of the token's length alone"
        raise ManifoldLoraError("transform with curvature mode dose", spec.transform, _DOSED, hint)
    if not settings.calibration_rows:
        hint = "the dose is measured on them"
        raise ManifoldLoraError("calibration_rows with curvature mode dose", 0, "1 or more", hint)


def _check_mode(curvature: Any) -> None:
    # Each floor knows only its own modes: here all of them are named.
    modes = (*MODES, TOKEN, MODE, DOSE)
    if isinstance(curvature, Mapping) and curvature.get("mode", MODES[0]) not in modes:
        raise ManifoldLoraError("adapter.curvature.mode", curvature["mode"], modes)


def _check_hyperbolic(name: str) -> None:
    if not _may_be_negative(name):
        allowed = ", ".join(known for known in MANIFOLDS if _may_be_negative(known))
        hint = "delta speaks for a negative kappa; state kappa instead"
        raise CurvatureError("manifold of curvature mode data", name, allowed, hint)


def _may_be_negative(name: str) -> bool:
    return not has_parts(name) and MANIFOLDS.metadata(name).get("kappa_sign") in (-1, None)


def peft_config(
    settings: AdapterSettings,
    gains: Mapping[str, float],
    kappas: Mapping[str, float] | None = None,
    steps: int = 1,
    seed: int = 0,
) -> "PeftConfig":
    """The PEFT config of an arm.

    Args:
        settings: a validated adapter block.
        gains: module name -> gain c that multiplies alpha there, for gain_matched_lora; empty for the others.
        kappas: module name -> kappa of a layer that does not take the geometry's own.
        steps: how long it is going to be trained, which AdaLoRA's schedule has to know.
        seed: the run's, for the methods of peft that draw something of their own.
    """
    if settings.method.startswith(PEFT):
        from manifold_lora.experiments.methods.any_peft import peft_method

        return peft_method(settings, seed)
    config: PeftConfig = METHODS[settings.method](settings, gains, kappas or {}, steps)
    return config


def curved(
    settings: AdapterSettings, gains: Mapping[str, float], kappas: Mapping[str, float], steps: int
) -> "PeftConfig":
    """The config of a manifold adapter."""
    from manifold_lora.models.tuner.config import ManifoldLoraConfig
    from manifold_lora.models.tuner.patterns import curvature_pattern

    patterns = {
        "curvature_pattern": curvature_pattern(kappas),
        "manifold_pattern": settings.manifold_pattern,
    }
    weights = {"weight_manifold": settings.weight_manifold}
    return ManifoldLoraConfig.from_spec(adapter_spec(settings), **patterns, **weights, **low_rank(settings))


def low_rank(settings: AdapterSettings) -> dict[str, Any]:
    """What all methods with A and B have in common."""
    return {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": targets(settings),
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }


def targets(settings: AdapterSettings) -> str | list[str]:
    """The target modules as peft takes them."""
    given = settings.target_modules
    return given if isinstance(given, str) else list(given)
