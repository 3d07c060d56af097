"""A geometry as data: parsed and checked from a config without importing torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifold_lora.manifolds.curvature_spec import CurvatureSpec, only_keys
from manifold_lora.manifolds.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS

PRODUCT = "product"

__all__ = ["PRODUCT", "CurvatureSpec", "ManifoldSpec"]


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
