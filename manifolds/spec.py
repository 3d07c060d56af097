"""A geometry as data: parsed and checked from a config without importing torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS

PRODUCT = "product"

MODES = ("fixed", "learned", "free")


SIGNS = {-1: "a negative number", 0: "0", 1: "a positive number"}


def only_keys(asked: str, mapping: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Raise ManifoldLoraError at the first key that is not allowed."""
    for key in mapping:
        if key not in keys:
            raise ManifoldLoraError(f"key of {asked}", key, keys)


def _number(asked: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CurvatureError(asked, value, "a finite number, or a mapping with keys kappa and mode")
    return float(value)


@dataclass(frozen=True)
class CurvatureSpec:
    """kappa as stated (None: the geometry's default) and how it is kept: fixed, learned or free."""

    kappa: float | None = None
    mode: str = "fixed"

    @classmethod
    def parse(cls, given: object, asked: str = "curvature") -> "CurvatureSpec":
        """Read None, a number, a mapping or a CurvatureSpec.

        Raises:
            CurvatureError: not a finite number.
            ManifoldLoraError: unknown key or mode.
        """
        if given is None or isinstance(given, CurvatureSpec):
            return given or cls()
        if not isinstance(given, Mapping):
            return cls(_number(asked, given))
        only_keys(asked, given, ("kappa", "mode"))
        mode, kappa = given.get("mode", "fixed"), given.get("kappa")
        if mode not in MODES:
            raise ManifoldLoraError(f"mode of {asked}", mode, MODES)
        return cls(None if kappa is None else _number(asked, kappa), mode)

    def resolved(self, name: str) -> "CurvatureSpec":
        """With the default of the named geometry filled in, its sign and mode checked.

        Raises:
            CurvatureError: sign or mode that the geometry does not have.
        """
        facts = MANIFOLDS.facts(name)
        if "kappa_sign" not in facts:  # A plugin without facts keeps its own default and its own checks.
            return self
        sign = facts["kappa_sign"]
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
        return CurvatureSpec(kappa, self.mode)

    def to_dict(self) -> float | dict[str, Any] | None:
        """A number (or None) when fixed, else a mapping."""
        return self.kappa if self.mode == "fixed" else {"kappa": self.kappa, "mode": self.mode}


@dataclass(frozen=True)
class ManifoldSpec:
    """A geometry by name, with its curvature or, for a product, its parts and their shares of the last axis.

    Attributes:
        name: a name of the registry.
        curvature: the geometry's default (the sign of its curvature) when not stated.
        parts: (share, geometry) of a product, in the order of the last axis.
    """

    name: str
    curvature: CurvatureSpec = field(default_factory=CurvatureSpec)
    parts: tuple[tuple[float, "ManifoldSpec"], ...] = ()

    def __post_init__(self) -> None:
        MANIFOLDS.check(self.name)
        if (self.name == PRODUCT) != bool(self.parts):
            got = f"{self.name} with {len(self.parts)} parts"
            raise ManifoldLoraError("parts", got, "parts for a product and only for it")
        if self.parts and self.curvature != CurvatureSpec():
            raise CurvatureError("kappa of product", self.curvature.kappa, "a curvature for each part")
        if not self.parts:
            object.__setattr__(self, "curvature", self.curvature.resolved(self.name))

    @classmethod
    def parse(cls, given: object) -> "ManifoldSpec":
        """Read a name, a mapping or a ManifoldSpec.

        ``"lorentz"``, ``{"name": "lorentz", "curvature": {"mode": "learned", "kappa": -0.5}}``,
        ``{"name": "product", "parts": [{"share": 0.5, "name": "lorentz", "curvature": -1.0}, ...]}``.

        Raises:
            UnknownNameError: no such geometry.
            CurvatureError: a curvature of the wrong sign.
            ManifoldLoraError: unknown key, missing name, shares that are not positive.
        """
        if isinstance(given, ManifoldSpec):
            return given
        if isinstance(given, str):
            return cls(given)
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ManifoldLoraError("manifold", given, "a name, or a mapping with a name")
        only_keys("manifold", given, ("name", "curvature", "parts"))
        curvature = CurvatureSpec.parse(given.get("curvature"), f"kappa of {given['name']}")
        listed = given.get("parts") or ()
        if not isinstance(listed, list | tuple):
            raise ManifoldLoraError("parts of product", listed, "a list of mappings with share and name")
        return cls(given["name"], curvature, tuple(_part(entry) for entry in listed))

    def to_dict(self) -> dict[str, Any]:
        """The mapping that parse reads back."""
        if not self.parts:
            stated = self.curvature.to_dict()
            return {"name": self.name} | ({} if stated is None else {"curvature": stated})
        return {
            "name": self.name,
            "parts": [{"share": share, **part.to_dict()} for share, part in self.parts],
        }


def _part(entry: object) -> tuple[float, ManifoldSpec]:
    if not isinstance(entry, Mapping):
        raise ManifoldLoraError("part of product", entry, "a mapping with share and name")
    share = entry.get("share")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < float("inf"):
        raise ManifoldLoraError("share of a part", share, "a positive number")
    return float(share), ManifoldSpec.parse({key: entry[key] for key in entry if key != "share"})
