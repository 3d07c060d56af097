"""A geometry for some layers and another for the rest: ``manifold_pattern`` as data, torch-free."""

import re
from collections.abc import Mapping
from typing import Any

from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.errors import ManifoldLoraError


def check_pattern_key(where: str, key: object) -> None:
    """Raise ManifoldLoraError unless ``key`` is a module name or a regular expression."""
    try:
        re.compile(key)  # type: ignore[call-overload]
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise ManifoldLoraError(where, key, "module names or regular expressions", str(error)) from error


def layer_map(spec: AdapterSpec, pattern: Any) -> dict[str, AdapterSpec]:
    """Module pattern -> ``spec`` with the geometry that the pattern names, in the order given.

    Args:
        spec: the adapter; its transform and norm scaling hold in every layer.
        pattern: module name or regular expression -> a geometry by name, or a mapping with its curvature.

    Raises:
        UnknownNameError: a geometry that no registry knows.
        ManifoldLoraError: no mapping, a bad regular expression, or a geometry without the spec's transform.
    """
    if not isinstance(pattern, Mapping):
        raise ManifoldLoraError("manifold_pattern", pattern, "a mapping from module patterns to geometries")
    specs = {}
    for key, manifold in pattern.items():
        check_pattern_key("manifold_pattern", key)
        if not isinstance(manifold, str | Mapping):
            raise ManifoldLoraError(
                f"manifold_pattern[{key!r}]", manifold, "a name, or a mapping with a name"
            )
        specs[key] = spec.with_(manifold=manifold)
    return specs
