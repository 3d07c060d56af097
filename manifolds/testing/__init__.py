"""The contract of a geometry, as a product: properties, strategies, a checker and a pytest factory."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        ".agreement": "Check PropertyFailure",
        ".case": "Case cases with_curvature",
        ".contract": "ContractError Outcome check_manifold manifold_contract",
        ".properties": "PROPERTIES",
    },
)

if TYPE_CHECKING:
    from manifold_lora.manifolds.testing.agreement import Check as Check
    from manifold_lora.manifolds.testing.agreement import PropertyFailure as PropertyFailure
    from manifold_lora.manifolds.testing.case import Case as Case
    from manifold_lora.manifolds.testing.case import cases as cases
    from manifold_lora.manifolds.testing.case import with_curvature as with_curvature
    from manifold_lora.manifolds.testing.contract import ContractError as ContractError
    from manifold_lora.manifolds.testing.contract import Outcome as Outcome
    from manifold_lora.manifolds.testing.contract import check_manifold as check_manifold
    from manifold_lora.manifolds.testing.contract import manifold_contract as manifold_contract
    from manifold_lora.manifolds.testing.properties import PROPERTIES as PROPERTIES
