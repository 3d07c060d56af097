"""How the update of an adapter's parts is computed in rank space."""

from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor, nn

from manifold_lora.adapters.fast import blocks, fused, rank_space
from manifold_lora.adapters.fast.blocks_by_hand import BlocksByHand
from manifold_lora.adapters.fast.boost import BoostByHand
from manifold_lora.adapters.fast.images import ByHand, Plan
from manifold_lora.adapters.fast.numbers import is_transformed
from manifold_lora.adapters.measure import Measured
from manifold_lora.adapters.token_scale import TokenScale
from manifold_lora.adapters.transforms import Boost, Direct
from manifold_lora.manifolds.product import Product
from manifold_lora.manifolds.radial import Radial


@runtime_checkable
class Planned(Measured, Protocol):
    """What is asked of a ``ManifoldUpdate``, which asks this file in its turn."""

    token_scale: TokenScale | None
    max_angle: float

    def limit(self) -> float:
        """The largest angle on a geometry with a law."""


def is_recomputed(update: Planned) -> bool:
    """Do the images depend on u, abs(x) and B^T B alone? A boost of another class may read A."""
    once = isinstance(update.transform, Direct) or type(update.transform) is Boost
    return once and update.path in ("fused", "rank_space")


def may_be_by_hand(update: Planned) -> bool:
    """Are there parts among these whose slopes somebody has derived?"""
    boost = type(update.transform) is Boost and update.path == "fused"
    return boost or (isinstance(update.manifold, Product) and is_recomputed(update))


def plan_of(update: Planned, x: Tensor, A: Tensor, B: Tensor, scaling: float) -> Plan:
    """The plan for tokens like x, A and B in one dtype with them."""
    manifold, transform = update.manifold, update.transform
    cut: Any = manifold.sizes if isinstance(manifold, Product) else lambda size: [size]
    first = transform.time_B if isinstance(transform, Boost) else None
    widths = cut(x.shape[-1]), cut(B.shape[0])
    return Plan(
        _images(update, A), cast(nn.Module, update), widths, scaling, first, _by_hand(update, x, A.shape[0])
    )


def _by_hand(update: Planned, x: Tensor, rank: int) -> ByHand | None:
    """The images in numbers, with slopes, where they are known for tokens like x."""
    scaling, token = update.norm_scaling, update.token_scale
    if not may_be_by_hand(update) or is_transformed() or not fused.has_numbers(scaling, x):
        return None
    if isinstance(update.manifold, Product):
        return BlocksByHand.of(update.manifold, update.max_angle, rank, scaling, token)
    radial, boost = cast(Radial, update.manifold), cast(Boost, update.transform)
    chart, gain, learned = fused.chart_of(radial, scaling, update.limit(), x)
    if chart.limit > chart.law.cap:
        return None
    return BoostByHand(chart, cast(float, gain), learned, token, boost.time_A)


def _images(update: Planned, A: Tensor) -> rank_space.Images:
    manifold, transform = update.manifold, update.transform
    if isinstance(manifold, Product):
        return blocks.Blocks(manifold, update.law_before_limit, update.max_angle).images
    if isinstance(transform, Direct):
        return rank_space.direct_images(cast(Radial, manifold), update.law_of_norm, transform)
    return rank_space.boost_images(cast(Radial, manifold), update.law_of_norm, cast(Boost, transform), A)
