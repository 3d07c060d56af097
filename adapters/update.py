"""The geometry of one adapted layer: delta = unscale(logmap0(T(expmap0(scale(x)))))."""

import math
from contextlib import nullcontext
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters import measure, plans
from manifold_lora.adapters.fast import blocks, few_tokens, fused, linear, recomputed
from manifold_lora.adapters.fast.choice import has_fused
from manifold_lora.adapters.fast.numbers import is_transformed
from manifold_lora.adapters.norm_scaling import NormScaling, ScaleLaw
from manifold_lora.adapters.precision import autocast_off
from manifold_lora.adapters.registry import NORM_SCALINGS, TRANSFORMS
from manifold_lora.adapters.spec import MAX_ANGLE, AdapterSpec, check_max_angle, check_rank
from manifold_lora.adapters.token_scale import TokenScale, token_scale
from manifold_lora.adapters.transforms import Boost, Direct, Transform, has_time, is_identity
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.build import build_manifold
from manifold_lora.manifolds.curvature import held
from manifold_lora.manifolds.radial import Radial

Path = Literal["linear", "fused", "rank_space", "general"]
PATHS: tuple[Path, ...] = ("linear", "fused", "rank_space", "general")

Tokens = Float[Tensor, "*tokens n"]
Output = Float[Tensor, "*tokens m"]
Down = Float[Tensor, "r n"]
Up = Float[Tensor, "m r"]


class ManifoldUpdate(nn.Module):
    """What an adapted layer adds, given A (rank, in_features) and B (out_features, rank) that live elsewhere.

    There are four ways to compute it, equal up to rounding; ``path`` is the cheapest that the parts allow:
    ``linear`` (B A x and a factor), ``fused`` (own backward), ``rank_space`` (any radial geometry) and
    ``general`` (the formula above, through the geometry's primitives, which defines the others). Off the CPU
    ``fused`` is ``rank_space`` for tokens that differ in curvature.

    Args:
        manifold: the geometry; give one to several updates to share its curvature.
        transform: the map around A and B.
        norm_scaling: the lengths on the way in and out.
        token_scale: a curvature of its own for each token, or other tokens' norms; None for neither.
        max_angle: the largest abs(v)/R at which a gain is computed; ``math.inf`` sets no limit.

    Raises:
        ManifoldLoraError: a transform that the geometry does not have, or an angle that is not positive.
    """

    def __init__(
        self,
        manifold: Manifold,
        transform: Transform,
        norm_scaling: NormScaling,
        token_scale: TokenScale | None = None,
        max_angle: float = MAX_ANGLE,
    ) -> None:
        super().__init__()
        self.max_angle = check_max_angle(max_angle)
        if transform.time and not has_time(manifold):
            hint = f"{type(manifold).__name__} has no single time coordinate"
            raise ManifoldLoraError("transform", type(transform).__name__, "one without time", hint)
        if transform.radial and not isinstance(manifold, Radial):
            hint = f"{type(manifold).__name__} is not radial"
            raise ManifoldLoraError("transform", type(transform).__name__, "direct, tangent", hint)
        transform.max_angle = self.max_angle
        self.manifold, self.transform, self.norm_scaling = manifold, transform, norm_scaling
        self.token_scale = token_scale
        self._has_fused = has_fused(manifold, transform)
        self.path: Path = self.paths()[0]

    @classmethod
    def from_spec(
        cls,
        spec: AdapterSpec | str | dict[str, Any],
        in_features: int,
        out_features: int,
        rank: int,
        *,
        manifold: Manifold | None = None,
        scaled_as: NormScaling | None = None,
    ) -> "ManifoldUpdate":
        """The update of a spec for a layer of these sizes.

        ``manifold`` replaces the spec's own geometry; the learned scale of ``scaled_as`` is this one's too.

        Raises ManifoldLoraError for a bad spec or rank.
        """
        spec = AdapterSpec.parse(spec)
        options = dict(spec.transform_options)
        transform = TRANSFORMS[spec.transform](in_features, out_features, check_rank(rank), **options)
        norm_scaling = NORM_SCALINGS[spec.norm_scaling](in_features, **dict(spec.norm_options))
        if scaled_as is not None:
            norm_scaling.share(scaled_as)
        scale = token_scale(in_features, spec.manifold.curvature.scope == "token", spec.token_norms)
        geometry = build_manifold(spec.manifold) if manifold is None else manifold
        for size in (in_features, out_features, rank):
            geometry.width(size)  # Raises where there is no such dimension.
        return cls(geometry, transform, norm_scaling, scale, spec.max_angle)

    @property
    def is_linear(self) -> bool:
        """Is delta = M x with one matrix M for all x, so that merging is exact?"""
        return self._cancels() and self.norm_scaling.linear

    def _cancels(self) -> bool:
        linear = self.transform.linear
        return linear == "always" or (linear == "flat" and is_identity(self.manifold))

    def paths(self) -> tuple[Path, ...]:
        """The ways that these parts can be computed, the cheapest first."""
        radial = isinstance(self.manifold, Radial) and self.manifold.follows_chart()
        in_blocks = blocks.serves(self.manifold, self.transform, self.max_angle)
        able = {
            "linear": self._cancels(),
            "fused": self._has_fused,
            "rank_space": (radial and isinstance(self.transform, Direct | Boost)) or in_blocks,
            "general": True,
        }
        return tuple(path for path in PATHS if able[path])

    def use(self, path: Path) -> "ManifoldUpdate":
        """Compute by the given path from now on. Raises ManifoldLoraError if these parts do not allow it."""
        if path not in self.paths():
            raise ManifoldLoraError("path", path, self.paths())
        self.path = path
        return self

    def forward(
        self,
        x: Tokens,
        A: Down,
        B: Up,
        *,
        base: Output | None = None,
        scaling: float | int | Tensor = 1.0,
        in_place: bool = False,
    ) -> Output:
        """base + scaling * delta (without ``base``: scaling * delta), in the dtype of x.

        Under autocast the products with A and B are in autocast's dtype, as LoRA's are; the geometry is in
        float32, or float64 where x is.

        Args:
            x: the tokens.
            A, B: the low-rank maps.
            base: what the update is added to.
            scaling: LoRA's alpha over rank; a tensor of one element too, as PEFT's hot-swapping gives.
            in_place: base is nobody else's: the sum may be written over it, which saves a tensor of its size.
        """
        if isinstance(scaling, Tensor):
            if torch.compiler.is_compiling() or scaling.requires_grad:
                delta = self(x, A, B) * scaling
                return delta if base is None else base + delta
            scaling = scaling.item()
        of_few = self.of_few_tokens(x, A, B, base, scaling) if self.serves_few_tokens(x, A) else None
        if of_few is not None:
            return of_few
        unlike = self.token_scale is not None and not fused.has_numbers(self.norm_scaling, x)
        if self._is_direct() and not unlike and not is_transformed():
            given = cast(Radial, self.manifold), self.norm_scaling, x, A, B, base, scaling
            return fused.update(*given, self.limit(), in_place, self.token_scale)
        if self.path == "linear":
            learned = [one for one in self.parameters() if one.requires_grad]
            delta = linear.update(self.norm_scaling, learned, x, A, B)
            return delta * scaling if base is None else torch.add(base, delta, alpha=scaling)
        wide = fused.product_dtype(x, A, torch.is_autocast_enabled(x.device.type))
        with autocast_off(x), held(self.manifold):
            delta = self.curved(x.to(wide), A.to(wide), B.to(wide), scaling).to(x.dtype)
        if base is not None and in_place and base.dtype == delta.dtype and fused.may_be_overwritten(base):
            return base.add_(delta)
        return delta if base is None else base + delta

    def serves_few_tokens(self, x: Tokens, A: Down) -> bool:
        """Is x a few tokens without gradient, for which ``of_few_tokens`` can be called?"""
        return (self._is_direct() or plans.may_be_by_hand(self)) and few_tokens.serves(x, A)

    def of_few_tokens(self, x: Tokens, A: Down, B: Up, base: Output | None, scaling: float) -> Output | None:
        """As ``forward`` where ``serves_few_tokens``; None if a length or the base's dtype needs that."""
        if not self._is_direct():
            if base is not None and base.dtype != x.dtype:
                return None
            return recomputed.of_few_tokens(plans.plan_of(self, x, A, B, scaling), x, A, B, base)
        parts: dict[str, Any] = self._modules
        own = parts["manifold"], parts["norm_scaling"]
        return fused.of_few_tokens(*own, x, A, B, base, scaling, self.limit(), self.token_scale)

    def _is_direct(self) -> bool:
        return self.path == "fused" and type(self._modules["transform"]) is not Boost

    def of_layer(
        self, x: Tokens, weight: Tensor, bias: Tensor | None, A: Down, B: Up, scaling: float | Tensor
    ) -> Output | None:
        """W x + b + scaling * delta in training as one node, W and b frozen; None if ``forward`` serves."""
        able = self._is_direct() or plans.is_recomputed(self)
        if not (able and fused.serves_layer(x, weight, bias, A, B, scaling)):
            return None
        scaling = cast(float, scaling)
        if self._is_direct():
            own = cast(Radial, self.manifold), self.norm_scaling, self.limit(), self.token_scale
            return fused.of_layer(*own, x, weight, bias, A, B, scaling)
        plan = plans.plan_of(self, x, A, B, scaling)
        with nullcontext() if plan.by_hand is not None else held(self.manifold):
            return recomputed.of_layer(plan, x, weight, bias, A, B)

    def limit(self) -> float:
        """The largest angle at which a token enters a geometry with a law."""
        law: Any = self._modules["manifold"].radial_law  # type: ignore[union-attr]
        return self.max_angle if self.max_angle < law.turn else law.turn

    def gain(self, x: Tokens, A: Down, B: Up) -> Float[Tensor, "*tokens 1"]:
        """c = abs(delta) / abs(B A x) for each token, its limit where B A x = 0; detached, in float64.

        Under ``direct`` on a radial geometry delta = c B A x exactly; c may leave the range of float32.
        """
        return measure.gain(self, x, A, B)

    def clipped(self, x: Tokens, A: Down, B: Up) -> Float[Tensor, ""]:
        """The share of tokens that were brought back to the edge of a bounded chart, before or after B."""
        return measure.clipped(self, x, A, B)

    def calibrate(self, median: float) -> None:
        """Start every scale at the median abs(x) of the layer's tokens (``NormScaling.calibrate``).

        Raises ManifoldLoraError for no positive finite number.
        """
        self.norm_scaling.calibrate(median)
        if self.token_scale is not None and self.token_scale.curvature is not None:
            self.token_scale.curvature.calibrate(median)

    def angle(self, x: Tokens) -> Float[Tensor, "*tokens 1"]:
        """a = abs(v)/R for each token, before any limit, in float64; a product's largest; 0 on flat space."""
        return measure.angle(self, x)

    def capped(self, x: Tokens) -> Float[Tensor, ""]:
        """The share of tokens beyond ``max_angle``; 0 where logmap0 and expmap0 cancel: there is no gain."""
        return torch.zeros(()) if self._cancels() else measure.capped(self, x, self.max_angle)

    def law(self, x: Tokens, dtype: torch.dtype = torch.float64) -> ScaleLaw:
        """The lengths in effect for the tokens x: the norm scaling's, times token scale and angle limit.

        A token beyond the limit enters shortened and leaves as much longer: its gain is that at the limit.
        """
        law = self.law_before_limit(functions.norm(x).to(dtype))
        factor = measure.cut(self.manifold, law, x.to(dtype), self.max_angle)
        return law if factor is None else law.times(factor)

    def law_before_limit(self, norm: Tensor) -> ScaleLaw:
        """``law`` without the angle limit, from abs(x) alone."""
        law = self.norm_scaling.law(norm.dtype)
        return law if self.token_scale is None else law.times(self.token_scale(norm))

    def law_of_norm(self, norm: Tensor) -> ScaleLaw:
        """``law`` on a radial geometry, from abs(x) alone."""
        law, manifold = self.law_before_limit(norm), cast(Radial, self.manifold)
        limit = self.max_angle if manifold.radial_law is None else self.limit()
        if is_identity(manifold) or limit == math.inf:
            return law
        length = law.alpha if law.unit else law.alpha * norm
        angle = length * manifold.inverse_square_radius(norm.dtype).sqrt()
        return law.times(functions.within(angle * torch.ones_like(norm), norm.new_full((1,), limit)))

    def curved(self, x: Tensor, A: Tensor, B: Tensor, scaling: float = 1.0) -> Tensor:
        """scaling * delta, x, A and B in one dtype, by any path but the linear and the fused one."""
        if self.path == "general":
            return self._general(x, A, B) * scaling
        compute = recomputed.update if plans.is_recomputed(self) else recomputed.smooth
        return compute(plans.plan_of(self, x, A, B, scaling), x, A, B)

    def _general(self, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        """The formula of the class, in float64 whatever the tokens are in: it defines the other paths."""
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        x, A, B = x.to(wide), A.to(wide), B.to(wide)
        law = self.law(x, wide)
        v, excess = law.scale(x), None
        cuts = type(self.transform) is Direct or isinstance(self.transform, Boost)
        if isinstance(self.manifold, Radial) and cuts:
            v, excess = measure.representable(self.manifold, v)
        delta = self.manifold.logmap0(self.transform(self.manifold, self.manifold.expmap0(v), A, B))
        if excess is not None:
            delta = delta + excess * functions.unit(delta)
        return self.norm_scaling.unscale(delta, law)
