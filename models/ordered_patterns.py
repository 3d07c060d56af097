"""Patterns whose first match counts, through a file that sorts its keys."""

from typing import Any

from manifold_lora.manifolds.errors import ManifoldLoraError

PATTERNS = ("rank_pattern", "alpha_pattern", "curvature_pattern", "manifold_pattern")


def to_file(pattern: dict[str, Any] | None) -> Any:
    """The mapping itself, or a list of pairs where sorting its keys would change which match is the first.

    peft writes a config with sorted keys and reads patterns in the order of the file.
    """
    if not isinstance(pattern, dict) or list(pattern) == sorted(pattern, key=str):
        return pattern
    return [[key, value] for key, value in pattern.items()]


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
