"""The contract of a geometry, as a product: properties, strategies, a checker and a pytest factory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "PROPERTIES": "contract",
    "Case": "case",
    "Check": "agreement",
    "ContractError": "contract",
    "Outcome": "contract",
    "PropertyFailure": "agreement",
    "cases": "case",
    "check_manifold": "contract",
    "manifold_contract": "contract",
    "with_curvature": "case",
}

__all__ = [
    "PROPERTIES",
    "Case",
    "Check",
    "ContractError",
    "Outcome",
    "PropertyFailure",
    "cases",
    "check_manifold",
    "manifold_contract",
    "with_curvature",
]

if TYPE_CHECKING:
    from manifold_lora.manifolds.testing.agreement import Check, PropertyFailure
    from manifold_lora.manifolds.testing.case import Case, cases, with_curvature
    from manifold_lora.manifolds.testing.contract import (
        ContractError,
        Outcome,
        check_manifold,
        manifold_contract,
    )
    from manifold_lora.manifolds.testing.properties import PROPERTIES


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
