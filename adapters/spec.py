"""What an adapter is made of, as plain data: importing this module does not import torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from manifold_lora.adapters.norm_spec import NormScope, check_norm, join_norm, split_norm
from manifold_lora.adapters.registry import NORM_SCALINGS, TRANSFORMS
from manifold_lora.errors import CurvatureError, ManifoldLoraError, UnknownNameError
from manifold_lora.manifolds.registry import MANIFOLDS, is_radial
from manifold_lora.manifolds.spec import TOKEN, ManifoldSpec
from manifold_lora.numbers import is_number, is_whole
from manifold_lora.registry import Options

# Where c is at most sinh(3)/3 = 3.3 on Lorentz space: the few tokens that are far longer than the others
# (of a real model: the first one) keep a bounded gain.
MAX_ANGLE = 3.0
TOKEN_NORMS = ("own", "shuffled")
# kappa R^2 = 1: beyond this the square of a radius or of its inverse is no float32.
LARGEST_KAPPA = 1e30


def check_rank(rank: object) -> int:
    """Return ``rank`` if it is an integer of at least 1, else raise ManifoldLoraError."""
    if not is_whole(rank):
        raise ManifoldLoraError("rank", rank, "an integer of at least 1")
    return rank


def check_max_angle(angle: object) -> float:
    """Return the angle as a positive float, ``math.inf`` for ``"inf"``, else raise ManifoldLoraError."""
    if angle in ("inf", math.inf):
        return math.inf
    if not is_number(angle) or angle <= 0:
        raise ManifoldLoraError("max_angle", angle, "a positive number, or inf for no limit")
    return float(angle)


def transforms_of(manifold: ManifoldSpec) -> tuple[str, ...]:
    """The transforms that a geometry has: those on the time coordinate need exactly one of it."""
    return tuple(name for name in TRANSFORMS if _has(manifold, name))


def _has(manifold: ManifoldSpec, transform: str) -> bool:
    facts = TRANSFORMS.metadata(transform)
    if facts.get("radial", False) and not is_radial(manifold.name):
        return False
    if manifold.parts:
        return not facts.get("time", False)
    return not facts.get("time", False) or MANIFOLDS.metadata(manifold.name).get("extra_dims") == 1


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter as a tuple of parts: delta = unscale(logmap0(T(expmap0(scale(x))))).

    Args:
        manifold: the geometry with its curvature (``parse`` and ``with_`` also read names and mappings).
        transform: a name in ``TRANSFORMS`` (``parse`` and ``with_`` also read ``{name: ..., **options}``).
        norm_scaling: a name in ``NORM_SCALINGS``, likewise.
        token_norms: ``"own"``, or ``"shuffled"`` for the control that gives a token another one's norm.
        norm_scope: ``"layer"``, or ``"model"`` for one learned log(s/sqrt(n)) in all layers, which ``parse``
            reads from ``norm_scaling: {mode: learned, shared: true}``.
        max_angle: a token's gain is that at the angle min(a, max_angle), a = abs(v)/R; ``math.inf`` (in plain
            data ``"inf"``) sets no limit.
        transform_options, norm_options: what goes to the constructors of the two parts.

    Raises:
        UnknownNameError: a name that no registry knows.
        CurvatureError: a kappa whose radius is no float32.
        ManifoldLoraError: a transform that this geometry does not have, or a norm scaling with nothing to
            share.
    """

    manifold: ManifoldSpec
    transform: str = "direct"
    norm_scaling: str = "learned"
    token_norms: str = "own"
    norm_scope: NormScope = "layer"
    max_angle: float = MAX_ANGLE
    transform_options: Options = ()
    norm_options: Options = ()

    def __post_init__(self) -> None:
        if not isinstance(self.manifold, ManifoldSpec):
            hint = "AdapterSpec.parse reads names and mappings"
            raise ManifoldLoraError("manifold of a spec", self.manifold, "a ManifoldSpec", hint)
        object.__setattr__(self, "max_angle", check_max_angle(self.max_angle))
        _check_size(self.manifold)
        if self.token_norms not in TOKEN_NORMS:
            raise UnknownNameError("token_norms", self.token_norms, TOKEN_NORMS)
        check_norm(self.norm_scaling, self.norm_scope)
        TRANSFORMS.named({"name": self.transform, **dict(self.transform_options)})
        NORM_SCALINGS.named({"name": self.norm_scaling, **dict(self.norm_options)})
        if TRANSFORMS.metadata(self.transform).get("radial") and (
            self.manifold.curvature.scope == TOKEN or self.token_norms != "own"
        ):
            got = f"{self.transform} with token curvature or shuffled norms"
            raise ManifoldLoraError("transform", got, transforms_of(self.manifold), "one control at a time")
        if not _has(self.manifold, self.transform):
            name, allowed = self.manifold.name, transforms_of(self.manifold)
            time = TRANSFORMS.metadata(self.transform).get("time")
            lack = "time coordinate" if time else "radial geometry"
            hint = f"{self.transform} acts on one {lack}, which {name} does not have"
            raise ManifoldLoraError(f"transform on {name}", self.transform, allowed, hint)

    @classmethod
    def parse(cls, value: "AdapterSpec | str | Mapping[str, Any]") -> "AdapterSpec":
        """Read a preset's name or a mapping of the parts; ``curvature`` beside them goes to the manifold."""
        if isinstance(value, AdapterSpec):
            return value
        if isinstance(value, str):
            if value not in PRESETS:
                raise UnknownNameError("adapter preset", value, tuple(PRESETS))
            return PRESETS[value]
        if not isinstance(value, Mapping):
            raise ManifoldLoraError("adapter", value, "a preset's name or a mapping")
        for key in value:
            if key not in _KEYS:
                raise UnknownNameError("key of an adapter", key, _KEYS)
        manifold = ManifoldSpec.parse(value.get("manifold", "lorentz"), value.get("curvature"))
        given = {key: value[key] for key in ("token_norms", "max_angle") if key in value}
        parts = _transform(value.get("transform", cls.transform))
        parts |= _norm_scaling(value.get("norm_scaling", cls.norm_scaling))
        return cls(manifold, **parts, **given)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``parse`` reads back to an equal spec."""
        options = dict(self.transform_options)
        return {
            "manifold": self.manifold.to_dict(),
            "transform": {"name": self.transform, **options} if options else self.transform,
            "norm_scaling": join_norm(self.norm_scaling, self.norm_scope, self.norm_options),
            "token_norms": self.token_norms,
            "max_angle": "inf" if self.max_angle == math.inf else self.max_angle,
        }

    def with_(self, **changes: Any) -> "AdapterSpec":
        """The same spec with some fields changed, validated anew."""
        if "manifold" in changes:
            changes["manifold"] = ManifoldSpec.parse(changes["manifold"])
        if "norm_scaling" in changes:
            changes = {**changes, **_norm_scaling(changes["norm_scaling"])}
        if "transform" in changes:
            changes = {**changes, **_transform(changes["transform"])}
        return replace(self, **changes)

    @property
    def is_linear(self) -> bool:
        """True where delta(x) = M x with one matrix for all x, so that merging is exact.

        Logmap0 and expmap0 cancel under ``tangent`` and are the identity on Euclidean space; a norm scaling
        that multiplies by constants (``released`` too: M = B A / s) keeps that, ``unit`` divides by abs(x).
        """
        linear = TRANSFORMS.metadata(self.transform).get("linear", "never")
        flat = linear == "always" or (linear == "flat" and _is_identity(self.manifold))
        return flat and bool(NORM_SCALINGS.metadata(self.norm_scaling).get("linear", False))


def check_kappa(asked: str, kappa: float) -> None:
    """Raise CurvatureError for a curvature whose radius is no float32."""
    if abs(kappa) > LARGEST_KAPPA or 0 < abs(kappa) < 1 / LARGEST_KAPPA:
        raise CurvatureError(asked, kappa, f"0, or a size from {1 / LARGEST_KAPPA:g} to {LARGEST_KAPPA:g}")


def _check_size(manifold: ManifoldSpec) -> None:
    check_kappa(f"kappa of {manifold.name}", manifold.curvature.kappa or 0.0)
    for _, part in manifold.parts:
        _check_size(part)


def _transform(given: Any) -> dict[str, Any]:
    name, options = TRANSFORMS.named(given)
    return {"transform": name, "transform_options": options}


def _norm_scaling(given: Any) -> dict[str, Any]:
    named, scope = split_norm(given)
    name, options = NORM_SCALINGS.named(named)
    return {"norm_scaling": name, "norm_scope": scope, "norm_options": options}


def _is_identity(manifold: ManifoldSpec) -> bool:
    if manifold.parts:
        return all(_is_identity(part) for _, part in manifold.parts)
    return bool(MANIFOLDS.metadata(manifold.name).get("linear", False))


_KEYS = ("manifold", "curvature", "transform", "norm_scaling", "token_norms", "max_angle")

LORA = AdapterSpec(ManifoldSpec.parse("euclidean"), "direct", "identity")
TANGENT = AdapterSpec(ManifoldSpec.parse("lorentz"), "tangent", "learned")
HYPLORA = AdapterSpec(ManifoldSpec.parse("lorentz"), "direct", "learned")
BOOST = AdapterSpec(ManifoldSpec.parse("lorentz"), "boost", "learned")
PRESETS: dict[str, AdapterSpec] = {"lora": LORA, "tangent": TANGENT, "hyplora": HYPLORA, "boost": BOOST}
