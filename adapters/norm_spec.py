"""A norm scaling as data: its name, its options, and whether all layers share its number; torch-free."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.registry import Options

NormScope = Literal["layer", "model"]
NORM_SCOPES: tuple[NormScope, ...] = get_args(NormScope)


def split_norm(norm_scaling: Any) -> tuple[Any, NormScope]:
    """(name, scope) of a name, or of ``{mode: learned, shared: true}``.

    Raises:
        ManifoldLoraError: an unknown key, or ``shared`` that is no truth value.
    """
    if not isinstance(norm_scaling, Mapping):
        return norm_scaling, "layer"
    rest = {key: norm_scaling[key] for key in norm_scaling if key not in ("mode", "shared")}
    shared = norm_scaling.get("shared", False)
    if not isinstance(shared, bool):
        raise ManifoldLoraError("shared of norm_scaling", shared, "true or false")
    named = rest if "mode" not in norm_scaling else {**rest, "name": norm_scaling["mode"]}
    return named, "model" if shared else "layer"


def join_norm(name: str, scope: NormScope, options: Options = ()) -> Any:
    """The entry that ``split_norm`` takes apart."""
    shared = {} if scope == "layer" else {"shared": True}
    return {"mode": name, **shared, **dict(options)} if shared or options else name


def check_norm(name: object, scope: object) -> None:
    """Raise ManifoldLoraError for a norm scaling that no registry knows, or that has nothing to share."""
    if not isinstance(name, str):
        raise ManifoldLoraError("norm scaling", name, (*NORM_SCALINGS, "{mode: ..., shared: true}"))
    NORM_SCALINGS.check(name)
    if scope not in NORM_SCOPES:
        raise ManifoldLoraError("norm scope", scope, NORM_SCOPES)
    if scope == "model" and not _shareable(name):
        allowed = [known for known in NORM_SCALINGS if _shareable(known)]
        raise ManifoldLoraError("shared norm scaling", name, allowed, "it has no number that is learned")


def _shareable(name: str) -> bool:
    return bool(NORM_SCALINGS.metadata(name).get("shareable", False))
