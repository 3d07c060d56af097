"""The adapted layer by itself, for any torch model: y = W x + scaling * delta(x)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from manifold_lora.adapters.spec import HYPLORA, AdapterSpec, check_rank
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.spec import ManifoldSpec
from manifold_lora.numbers import is_number


class ManifoldLoRA(nn.Module):
    """A linear layer W with a low-rank update carried through a geometry; by default HypLoRA.

    y = W x + bias + (alpha/rank) unscale(logmap0(T(expmap0(scale(x))))). W and bias are frozen; ``lora_B``
    starts at zero, so the output starts as the base's to the last bit, and ``lora_A`` starts as in LoRA.

    Args:
        in_features, out_features: sizes n, m; those of ``base`` where it is given.
        rank: r >= 1; also spelled ``r``, as in PEFT.
        alpha: LoRA's alpha, by default equal to the rank; also spelled ``lora_alpha``.
        manifold: a name, mapping or ManifoldSpec, or a ``Manifold`` to share one curvature among layers.
        curvature: kappa of a manifold given by name, as in ``ManifoldLoraConfig``.
        transform, norm_scaling: names in ``TRANSFORMS`` and ``NORM_SCALINGS``, or ``{name: ..., **options}``.
        token_norms: ``"own"`` or ``"shuffled"``.
        max_angle: the largest abs(v)/R at which a gain is computed; ``math.inf`` sets no limit.
        bias: does the base layer have one?
        base: the layer to adapt instead of a new one.

    Raises:
        ManifoldLoraError: unknown or unfitting parts, rank 0, an alpha that is no positive number, a base of
            another size; at the call, an input whose last axis is not in_features.
    """

    def __init__(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        rank: int | None = None,
        *,
        r: int | None = None,
        alpha: float | int | None = None,
        lora_alpha: float | int | None = None,
        manifold: Manifold | ManifoldSpec | str | dict[str, Any] = HYPLORA.manifold,
        curvature: float | dict[str, Any] | None = None,
        transform: str | dict[str, Any] = HYPLORA.transform,
        norm_scaling: str | dict[str, Any] = HYPLORA.norm_scaling,
        token_norms: str = HYPLORA.token_norms,
        max_angle: float | str = HYPLORA.max_angle,
        bias: bool = True,
        base: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        rank = check_rank(_either("rank", rank, "r", r))
        self.scaling = _scaling(_either("alpha", alpha, "lora_alpha", lora_alpha), rank)
        in_features, out_features = _sizes(in_features, out_features, base)
        self.base = nn.Linear(in_features, out_features, bias=bias) if base is None else base
        self.base.requires_grad_(False)
        weight = self.base.weight
        self.lora_A = nn.Parameter(torch.empty(rank, in_features, dtype=weight.dtype, device=weight.device))
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank, dtype=weight.dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        shared = manifold if isinstance(manifold, Manifold) else None
        parts = {
            "transform": transform,
            "norm_scaling": norm_scaling,
            "token_norms": token_norms,
            "max_angle": max_angle,
        }
        # A geometry that is given stands for itself: the spec then only says what is around it.
        spec = {
            "manifold": HYPLORA.manifold if shared is not None else manifold,
            "curvature": curvature,
            **parts,
        }
        if shared is not None and curvature is not None:
            hint = "the geometry that is given has its own"
            raise ManifoldLoraError("curvature", curvature, "none beside a Manifold", hint)
        self.update = ManifoldUpdate.from_spec(spec, in_features, out_features, rank, manifold=shared)
        self.update.to(weight.device)

    @classmethod
    def from_spec(
        cls, spec: AdapterSpec | str, in_features: int, out_features: int, rank: int, **others: Any
    ) -> "ManifoldLoRA":
        """The layer of a preset or spec, e.g. ``ManifoldLoRA.from_spec(HYPLORA, 768, 768, 8)``."""
        return cls(in_features, out_features, rank, **AdapterSpec.parse(spec).to_dict(), **others)

    def forward(self, x: Float[Tensor, "*tokens n"]) -> Float[Tensor, "*tokens m"]:
        """The adapted layer's output, in the dtype of the base layer's."""
        if x.shape[-1] != self.base.in_features:
            raise ManifoldLoraError("last axis of the input", x.shape[-1], f"{self.base.in_features}")
        base = functional.linear(x, self.base.weight, self.base.bias)
        return self.update(x, self.lora_A, self.lora_B, base=base, scaling=self.scaling, in_place=True)

    def delta(self, x: Float[Tensor, "*tokens n"]) -> Float[Tensor, "*tokens m"]:
        """What the adapter adds to the base layer's output."""
        return self.update(x, self.lora_A, self.lora_B, scaling=self.scaling)

    def extra_repr(self) -> str:
        """Rank and scaling, for ``print(model)``."""
        return f"rank={self.lora_A.shape[0]}, scaling={self.scaling:g}"


def _either(name: str, value: Any, other_name: str, other: Any) -> Any:
    if value is not None and other is not None and value != other:
        raise ManifoldLoraError(f"{name} and {other_name}", f"{value} and {other}", "one of the two")
    return other if value is None else value


def _sizes(in_features: int | None, out_features: int | None, base: nn.Linear | None) -> tuple[int, int]:
    asked = (in_features, out_features)
    has = asked if base is None else (base.in_features, base.out_features)
    for name, size, own in zip(("in_features", "out_features"), asked, has, strict=True):
        if own is None:
            raise ManifoldLoraError(name, size, "a size, or base=")
        if size not in (None, own):
            raise ManifoldLoraError("base layer", f"{has[0]} -> {has[1]}", f"{asked[0]} -> {asked[1]}")
    return has  # type: ignore[return-value]


def _scaling(alpha: float | int | None, rank: int) -> float:
    if alpha is None:
        return 1.0
    if not is_number(alpha) or alpha <= 0:
        raise ManifoldLoraError("alpha", alpha, "a positive number")
    return alpha / rank
