"""A curvature as data, checked against the facts of its geometry without importing torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifold_lora.manifolds.errors import CurvatureError, ManifoldLoraError
from manifold_lora.manifolds.registry import MANIFOLDS

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
