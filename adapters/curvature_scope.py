"""Over what a curvature is one number: the layer, all layers of a model, or a token; torch-free."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from manifold_lora.manifolds.curvature_spec import CurvatureSpec, only_keys
from manifold_lora.manifolds.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS
from manifold_lora.manifolds.spec import ManifoldSpec

Scope = Literal["layer", "model", "token"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
TOKEN = "token"
TOKEN_NORMS = ("own", "shuffled")


def split_scope(curvature: Any) -> tuple[Any, Scope]:
    """(what a ManifoldSpec reads, the scope) of ``{mode: token}`` or ``{mode: learned, shared: true}``.

    Raises:
        ManifoldLoraError: an unknown key beside ``mode: token``, or ``shared`` that is no truth value.
    """
    if not isinstance(curvature, Mapping):
        return curvature, "layer"
    if curvature.get("mode") == TOKEN:
        only_keys("curvature with mode token", curvature, ("mode", "kappa"))
        kappa = curvature.get("kappa")
        return (None if kappa is None else {"kappa": kappa}), "token"
    rest = {key: curvature[key] for key in curvature if key != "shared"}
    shared = curvature.get("shared", False)
    if not isinstance(shared, bool):
        raise ManifoldLoraError("shared of curvature", shared, "true or false")
    return rest, "model" if shared else "layer"


def join_scope(curvature: Any, scope: Scope) -> Any:
    """The entry that ``split_scope`` takes apart."""
    if scope == "layer":
        return curvature
    given = dict(curvature) if isinstance(curvature, Mapping) else {"kappa": curvature}
    return {**given, "mode": TOKEN} if scope == "token" else {**given, "shared": True}


def check_scope(manifold: ManifoldSpec, scope: object) -> None:
    """Raise CurvatureError for a scope that the curvature of a geometry cannot have."""
    if scope not in SCOPES:
        raise ManifoldLoraError("curvature scope", scope, SCOPES)
    if scope == "layer":
        return
    what = "mode token" if scope == "token" else "shared"
    name, curvature = manifold.name, manifold.curvature
    if manifold.parts or MANIFOLDS.facts(name).get("kappa_sign") == 0:
        curved = [known for known in MANIFOLDS if MANIFOLDS.facts(known).get("kappa_sign") in (-1, 1)]
        raise CurvatureError(f"manifold of a curvature with {what}", name, ", ".join(curved))
    if scope == "token" and (curvature.mode != "fixed" or curvature.kappa == 0):
        raise CurvatureError("kappa with mode token", _shown(curvature), "a non-zero number")
    if scope == "model" and curvature.mode == "fixed":
        hint = "a fixed one is the same number in every layer already"
        raise CurvatureError("shared curvature", _shown(curvature), "mode learned or free", hint)


def _shown(curvature: CurvatureSpec) -> object:
    return curvature.to_dict()
