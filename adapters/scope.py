"""Over what a curvature is one number: the layer, all layers of a model, or a token; torch-free."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS
from manifold_lora.manifolds.spec import CurvatureSpec, ManifoldSpec, only_keys
from manifold_lora.registry import Options

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
    return bool(NORM_SCALINGS.facts(name).get("shareable", False))
