"""A geometry as data: parsed and checked from a config without importing torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS, curved_names, has_parts
from manifold_lora.numbers import is_number
from manifold_lora.registry import Options

MODES = ("fixed", "learned", "free")
# Over what a curvature is one number: each layer, all layers of a model, or each token.
SCOPES = ("layer", "model", "token")
TOKEN = "token"
SIGNS = {-1: "a negative number", 0: "0", 1: "a positive number"}


def only_keys(asked: str, mapping: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Raise ManifoldLoraError at the first key that is not allowed."""
    for key in mapping:
        if key not in keys:
            raise ManifoldLoraError(f"key of {asked}", key, keys)


def _number(asked: str, value: object) -> float:
    if not is_number(value):
        raise CurvatureError(asked, value, "a finite number, or a mapping with keys kappa and mode")
    return float(value)


@dataclass(frozen=True)
class CurvatureSpec:
    """A curvature as stated: its number, how that is kept, and over what it is one number.

    Attributes:
        kappa: the number; None for the geometry's default.
        mode: ``"fixed"``, ``"learned"`` (its sign stays) or ``"free"``.
        scope: ``"layer"``, ``"model"`` (written ``shared: true``) or ``"token"`` (written ``mode: token``).
    """

    kappa: float | None = None
    mode: str = "fixed"
    scope: str = "layer"

    @classmethod
    def parse(cls, given: object, asked: str = "curvature") -> "CurvatureSpec":
        """Read None, a number, ``{kappa, mode, shared}`` or a CurvatureSpec.

        Raises:
            CurvatureError: not a finite number.
            ManifoldLoraError: unknown key or mode, or ``shared`` that is no truth value.
        """
        if given is None or isinstance(given, CurvatureSpec):
            return given or cls()
        if not isinstance(given, Mapping):
            return cls(_number(asked, given))
        mode, kappa, shared = given.get("mode", "fixed"), given.get("kappa"), given.get("shared", False)
        only_keys(asked, given, ("kappa", "mode") if mode == TOKEN else ("kappa", "mode", "shared"))
        if mode not in (*MODES, TOKEN):
            raise ManifoldLoraError(f"mode of {asked}", mode, (*MODES, TOKEN))
        if not isinstance(shared, bool):
            raise ManifoldLoraError(f"shared of {asked}", shared, "true or false")
        number = None if kappa is None else _number(asked, kappa)
        return (
            cls(number, "fixed", TOKEN)
            if mode == TOKEN
            else cls(number, mode, "model" if shared else "layer")
        )

    def resolved(self, name: str) -> "CurvatureSpec":
        """With the default of the named geometry filled in; its sign, mode and scope checked.

        Raises:
            CurvatureError: a sign, mode or scope that the geometry does not have.
        """
        stated = MANIFOLDS.metadata(name)
        # A plugin that states no sign keeps its own default and its own checks.
        if has_parts(name) or "kappa_sign" not in stated:
            self._check_scope(name, None)
            if has_parts(name) and self != CurvatureSpec():
                raise CurvatureError(f"curvature of {name}", self.to_dict(), "a curvature for each part")
            return self
        sign = stated["kappa_sign"]
        kappa = float(sign or 0) if self.kappa is None else self.kappa
        if sign is not None and (kappa > 0) - (kappa < 0) != sign:
            raise CurvatureError(f"kappa of {name}", kappa, SIGNS[sign])
        modes = {None: MODES, 0: ("fixed",)}.get(sign, ("fixed", "learned"))
        if self.mode not in modes:
            raise CurvatureError(f"curvature mode of {name}", self.mode, ", ".join(modes))
        if self.mode == "learned" and kappa == 0:
            raise CurvatureError(
                f"learned kappa of {name}", kappa, "a non-zero number", "'free' may start at 0"
            )
        resolved = replace(self, kappa=kappa)
        resolved._check_scope(name, sign)
        return resolved

    def _check_scope(self, name: str, sign: int | None) -> None:
        if self.scope not in SCOPES:
            raise ManifoldLoraError("curvature scope", self.scope, SCOPES)
        if self.scope == "layer":
            return
        if sign == 0 or has_parts(name):
            what = "mode token" if self.scope == TOKEN else "shared"
            raise CurvatureError(f"manifold of a curvature with {what}", name, ", ".join(curved_names()))
        alone = replace(self, scope="layer").to_dict()
        if self.scope == TOKEN and (self.mode != "fixed" or self.kappa == 0):
            raise CurvatureError("kappa with mode token", alone, "a non-zero number")
        if self.scope == "model" and self.mode == "fixed":
            hint = "a fixed one is the same number in every layer already"
            raise CurvatureError("shared curvature", alone, "mode learned or free", hint)

    def to_dict(self) -> float | dict[str, Any] | None:
        """What ``parse`` reads back: a number (or None) for a fixed one of a layer, else a mapping."""
        if self.scope == TOKEN:
            return {"kappa": self.kappa, "mode": TOKEN}
        shared = {"shared": True} if self.scope == "model" else {}
        return (
            {"kappa": self.kappa, "mode": self.mode, **shared}
            if shared or self.mode != "fixed"
            else self.kappa
        )


@dataclass(frozen=True)
class ManifoldSpec:
    """A geometry by name, with its curvature or its parts and their shares of the last axis.

    Attributes:
        name: a name of the registry.
        curvature: the geometry's default (the sign of its curvature) when not stated.
        parts: (share, geometry) of one that is made of others, in the order of the last axis.
        options: what else goes to the geometry's constructor, as its registry row allows.
    """

    name: str
    curvature: CurvatureSpec = field(default_factory=CurvatureSpec)
    parts: tuple[tuple[float, "ManifoldSpec"], ...] = ()
    options: Options = ()

    def __post_init__(self) -> None:
        MANIFOLDS.check(self.name)
        if has_parts(self.name) != bool(self.parts):
            got = f"{self.name} with {len(self.parts)} parts"
            made = [name for name in MANIFOLDS if has_parts(name)]
            raise ManifoldLoraError("parts", got, f"parts for {' and '.join(made)}, and for no other")
        object.__setattr__(self, "curvature", self.curvature.resolved(self.name))
        MANIFOLDS.named({"name": self.name, **dict(self.options)})

    @classmethod
    def parse(cls, given: object, curvature: object = None) -> "ManifoldSpec":
        """Read a name, a mapping or a ManifoldSpec, and the curvature stated beside it.

        ``"lorentz"``, ``{"name": "lorentz", "curvature": {"mode": "learned", "kappa": -0.5}}``,
        ``{"name": "product", "parts": [{"share": 0.5, "name": "lorentz", "curvature": -1.0}, ...]}``.
        A curvature beside a ManifoldSpec replaces the spec's own.

        Raises:
            UnknownNameError: no such geometry.
            CurvatureError: a curvature of the wrong sign.
            ManifoldLoraError: unknown key, missing name, shares that are not positive.
        """
        if isinstance(given, ManifoldSpec):
            return given if curvature is None else replace(given, curvature=CurvatureSpec.parse(curvature))
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ManifoldLoraError("manifold", given, "a name, or a mapping with a name")
        if curvature is not None and ("curvature" in given or "parts" in given):
            hint = "the manifold states its own curvature: give it in one place"
            raise ManifoldLoraError("curvature", curvature, "", hint)
        name, options = MANIFOLDS.named(given, ("curvature", "parts"))
        stated = given.get("curvature") if curvature is None else curvature
        listed = given.get("parts") or ()
        if not isinstance(listed, list | tuple):
            raise ManifoldLoraError(f"parts of {name}", listed, "a list of mappings with share and name")
        parts = tuple(_part(entry) for entry in listed)
        return cls(name, CurvatureSpec.parse(stated, f"kappa of {name}"), parts, options)

    def to_dict(self) -> dict[str, Any]:
        """The mapping that parse reads back."""
        curvature = self.curvature.to_dict()
        parts = [{"share": share, **part.to_dict()} for share, part in self.parts]
        return {
            "name": self.name,
            **dict(self.options),
            **({} if curvature is None else {"curvature": curvature}),
            **({"parts": parts} if parts else {}),
        }


def _part(entry: object) -> tuple[float, ManifoldSpec]:
    if not isinstance(entry, Mapping):
        raise ManifoldLoraError("part of a geometry", entry, "a mapping with share and name")
    share = entry.get("share")
    if not is_number(share) or share <= 0:
        raise ManifoldLoraError("share of a part", share, "a positive number")
    part = ManifoldSpec.parse({key: entry[key] for key in entry if key != "share"})
    if part.curvature.scope != "layer":
        raise CurvatureError(
            f"curvature of a part, {part.name}", part.curvature.to_dict(), "one of its layer"
        )
    return float(share), part
