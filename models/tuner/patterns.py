"""A curvature for single layers: ``curvature_pattern`` of a config, matched as peft matches patterns."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from peft.utils.other import get_pattern_key

from manifold_lora.adapters.layer_map import check_pattern_key
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS, has_parts
from manifold_lora.numbers import is_number


def curvature_pattern(kappas: Mapping[str, float]) -> dict[str, float]:
    """The pattern that gives each module, by its full name in the base model, exactly its own kappa."""
    return {f"^{re.escape(name)}": kappa for name, kappa in kappas.items()}


def check_curvature_pattern(pattern: Any, spec: AdapterSpec) -> None:
    """Raise ManifoldLoraError unless every entry is a pattern and a kappa that the geometry can have.

    The error is a CurvatureError for a kappa that is no finite number or has the wrong sign.
    """
    if not isinstance(pattern, dict):
        raise ManifoldLoraError("curvature_pattern", pattern, "a mapping from module patterns to kappa")
    name = spec.manifold.name
    if pattern and not _has_kappa(name):
        curved = [known for known in MANIFOLDS if _has_kappa(known)]
        raise ManifoldLoraError(f"curvature_pattern of {name}", dict(pattern), curved)
    if pattern and spec.manifold.curvature.scope == "model":
        hint = "a shared curvature is one number for all layers"
        raise ManifoldLoraError("curvature_pattern", dict(pattern), "no pattern", hint)
    for key, kappa in pattern.items():
        _check_entry(key, kappa, spec)


def layer_spec(spec: AdapterSpec, pattern: Mapping[str, float], module: str) -> AdapterSpec:
    """``spec`` with the kappa of the first pattern that matches the module's name; its mode stays."""
    key = get_pattern_key(list(pattern), module)
    return _with_kappa(spec, pattern[key]) if key in pattern else spec


def _has_kappa(name: str) -> bool:
    return not has_parts(name) and MANIFOLDS.metadata(name).get("kappa_sign") != 0


def _check_entry(key: Any, kappa: Any, spec: AdapterSpec) -> None:
    where = f"curvature_pattern[{key!r}]"
    check_pattern_key("curvature_pattern", key)
    if not is_number(kappa):
        raise CurvatureError(where, kappa, "a finite number")
    try:
        _with_kappa(spec, kappa)
    except CurvatureError as error:
        hint = error.hint or f"the geometry is {spec.manifold.name}"
        raise CurvatureError(where, kappa, error.allowed, hint) from error


def _with_kappa(spec: AdapterSpec, kappa: float) -> AdapterSpec:
    curvature = replace(spec.manifold.curvature, kappa=float(kappa))
    return spec.with_(manifold=replace(spec.manifold, curvature=curvature))


PATTERNS = ("rank_pattern", "alpha_pattern", "curvature_pattern", "manifold_pattern")


def to_file(pattern: dict[str, Any] | None) -> Any:
    """The mapping itself, or a list of pairs where sorting its keys would change which match is the first.

    peft writes a config with sorted keys and reads patterns in the order of the file.
    """
    if not isinstance(pattern, dict) or list(pattern) == sorted(pattern, key=str):
        return pattern
    return [[key, value] for key, value in pattern.items()]


def in_order(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config with every set as a sorted list, so that a file has the same bytes each time."""
    return {key: sorted(value, key=str) if isinstance(value, set) else value for key, value in fields.items()}


def from_file(name: str, pattern: Any) -> Any:
    """The mapping that ``to_file`` wrote as pairs; whatever else is returned as it is."""
    if not isinstance(pattern, list):
        return pattern
    try:
        return dict(pattern)
    except (TypeError, ValueError) as error:
        raise ManifoldLoraError(
            name, pattern, "a mapping, or a list of [pattern, value]", str(error)
        ) from error
