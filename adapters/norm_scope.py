"""Whether a learned norm scale is one number of a layer or of the whole model; torch-free."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.manifolds.curvature_spec import only_keys
from manifold_lora.manifolds.errors import ManifoldLoraError

NormScope = Literal["layer", "model"]
NORM_SCOPES: tuple[NormScope, ...] = get_args(NormScope)
# Those that have nothing to share.
_CONSTANT = ("identity", "fixed")


def split_norm(norm_scaling: Any) -> tuple[Any, NormScope]:
    """(name, scope) of a name, or of ``{mode: learned, shared: true}``.

    Raises:
        ManifoldLoraError: an unknown key, or ``shared`` that is no truth value.
    """
    if not isinstance(norm_scaling, Mapping):
        return norm_scaling, "layer"
    only_keys("norm_scaling", norm_scaling, ("mode", "shared"))
    shared = norm_scaling.get("shared", False)
    if not isinstance(shared, bool):
        raise ManifoldLoraError("shared of norm_scaling", shared, "true or false")
    return norm_scaling.get("mode"), "model" if shared else "layer"


def join_norm(name: str, scope: NormScope) -> Any:
    """The entry that ``split_norm`` takes apart."""
    return name if scope == "layer" else {"mode": name, "shared": True}


def check_norm(name: object, scope: object) -> None:
    """Raise ManifoldLoraError for a norm scaling that no registry knows, or that has nothing to share."""
    if not isinstance(name, str):
        raise ManifoldLoraError("norm scaling", name, (*NORM_SCALINGS, "{mode: ..., shared: true}"))
    NORM_SCALINGS.check(name)
    if scope not in NORM_SCOPES:
        raise ManifoldLoraError("norm scope", scope, NORM_SCOPES)
    if scope == "model" and name in _CONSTANT:
        allowed = [known for known in NORM_SCALINGS if known not in _CONSTANT]
        raise ManifoldLoraError("shared norm scaling", name, allowed, "it has no number that is learned")
