"""The PEFT configuration of a manifold adapter: LoRA's fields and the four parts of the geometry."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft import LoraConfig
from peft.utils.other import get_pattern_key

from manifold_lora.adapters.layer_map import layer_map
from manifold_lora.adapters.spec import MAX_ANGLE, AdapterSpec
from manifold_lora.adapters.weights import WeightSpec
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.spec import ManifoldSpec
from manifold_lora.models.notice import write_notice
from manifold_lora.models.tuner.lora_options import check_numbers, refuse_linear_only
from manifold_lora.models.tuner.model import ManifoldLoraModel
from manifold_lora.models.tuner.patterns import (
    PATTERNS,
    check_curvature_pattern,
    from_file,
    in_order,
    layer_spec,
    to_file,
)
from manifold_lora.models.tuner.registration import MANIFOLD_LORA, register_method


@dataclass
class ManifoldLoraConfig(LoraConfig):
    """LoRA on a manifold, y = W x + (alpha/r) unscale(logmap0(T(expmap0(scale(x))))), for ``get_peft_model``.

    All fields of ``peft.LoraConfig`` keep their meaning. Importing this module registers the method with
    peft, so ``PeftModel.from_pretrained`` and ``AutoPeftModel`` read its checkpoints.

    Args:
        manifold: a name (``"lorentz"``) or a mapping that a ``ManifoldSpec`` parses.
        curvature: kappa of a manifold given by name; or ``{"mode": "learned", "kappa": -1.0}``, with
            ``"shared": True`` for one in all layers (under FSDP2 shard such a model as one group); or
            ``{"mode": "token"}`` for one of each token.
        transform: ``"tangent"``, ``"direct"`` or ``"boost"``; the controls ``"norm_blind"``,
            ``"frozen_boost"`` and ``"power"`` (also ``{"name": "power", "p": 0.3, "learned": True}``).
        norm_scaling: ``"identity"``, ``"fixed"``, ``"learned"``, ``"released"`` or ``"unit"``; or
            ``{"mode": "learned", "shared": True}`` for one log(s/sqrt(n)) in all layers.
        curvature_pattern: module pattern -> kappa that replaces ``curvature``'s there, matched like peft's
            ``alpha_pattern``; for one geometry that has a curvature, not for products.
        manifold_pattern: module pattern -> geometry (a name or a mapping) that replaces ``manifold`` there;
            the first pattern that matches counts.
        token_norms: ``"own"``, or ``"shuffled"`` for the control where each token has another one's norm.
        max_angle: the largest abs(v)/R at which a token's gain is computed; ``"inf"`` sets no limit.
        weight_manifold: where A and B themselves live (``WeightSpec``): ``"stiefel"``, ``"oblique"``, or
            ``{"A": "stiefel", "B": "stiefel", "core": "diagonal", "step": "landing"}``, to be trained with
            ``FramesCallback()``; ``"free"`` is the control, three unconstrained factors.

    Raises ManifoldLoraError (asked, got, allowed) for a bad value or an option only plain LoRA can honour.
    Source: HypLoRA, arXiv 2410.04010, section 4.
    """

    manifold: str | dict[str, Any] = field(default="lorentz", metadata={"help": "Geometry of the adapter."})
    curvature: float | dict[str, Any] | None = field(
        default=None, metadata={"help": "Sectional curvature kappa of a manifold given by name."}
    )
    transform: str | dict[str, Any] = field(
        default="direct", metadata={"help": "How A and B act around the origin."}
    )
    norm_scaling: str | dict[str, Any] = field(
        default="learned", metadata={"help": "Scaling of norms before expmap0."}
    )
    curvature_pattern: dict[str, float] = field(
        default_factory=dict, metadata={"help": "Module name or pattern -> kappa of the layers it matches."}
    )
    manifold_pattern: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Module name or pattern -> geometry of the layers it matches."},
    )
    token_norms: str = field(default="own", metadata={"help": "Whose norm a token has: own or shuffled."})
    max_angle: float | str = field(
        default=MAX_ANGLE, metadata={"help": "Largest abs(v)/R at which a gain is computed; inf: no limit."}
    )
    weight_manifold: str | dict[str, Any] | None = field(
        default=None, metadata={"help": "Manifolds of A and B, and the core between them."}
    )

    def __post_init__(self) -> None:
        for name in PATTERNS:
            setattr(self, name, from_file(name, getattr(self, name)))
        refuse_linear_only(self)
        check_numbers(self)
        super().__post_init__()
        self.peft_type = MANIFOLD_LORA
        if isinstance(self.manifold, ManifoldSpec):
            self.manifold = self.manifold.to_dict()
        # As text: JSON has no infinity.
        self.max_angle = "inf" if self.max_angle == math.inf else self.max_angle
        check_curvature_pattern(self.curvature_pattern, self.spec())
        layer_map(self.spec(), self.manifold_pattern)
        weights = self.weights()
        self.weight_manifold = None if weights is None else weights.to_dict()
        if self.manifold_pattern and self.curvature_pattern:
            hint = "state each geometry's curvature in manifold_pattern"
            raise ManifoldLoraError("curvature_pattern", self.curvature_pattern, "one of the two", hint)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON data, sets in order; patterns keep their order through a file."""
        fields = in_order(super().to_dict())
        return fields | {name: to_file(fields[name]) for name in PATTERNS}

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """peft's, and a README.md that says how to load the adapter."""
        super().save_pretrained(save_directory, **kwargs)
        write_notice(save_directory)

    @classmethod
    def from_spec(cls, spec: AdapterSpec, **lora: Any) -> "ManifoldLoraConfig":
        """The config of a named method, e.g. ``ManifoldLoraConfig.from_spec(HYPLORA, r=16)``."""
        return cls(**spec.to_dict(), **lora)

    def spec(self) -> AdapterSpec:
        """The geometry as the adapters floor takes it. Raises ManifoldLoraError for parts that do not fit."""
        parts = ("manifold", "curvature", "transform", "norm_scaling", "token_norms", "max_angle")
        return AdapterSpec.parse({name: getattr(self, name) for name in parts})

    def weights(self) -> WeightSpec | None:
        """Where A and B live; None for B A itself. Raises ManifoldLoraError for parts that do not fit."""
        return WeightSpec.parse(self.weight_manifold)

    def check_frames(self, sizes: Mapping[str, tuple[int, int]]) -> None:
        """Raise ManifoldLoraError where a layer, (in, out) features by name, is narrower than its rank."""
        weights, pattern = self.weights(), self.rank_pattern or {}
        for name, (n, m) in sizes.items() if weights is not None else ():
            rank = pattern.get(get_pattern_key(list(pattern), name), self.r)
            weights.check_rank(rank, n, m, name)  # type: ignore[union-attr]

    def layer_spec(self, module: str) -> AdapterSpec:
        """The geometry of one layer, by its name in the base model: ``spec`` with what patterns replace."""
        specs = layer_map(self.spec(), self.manifold_pattern)
        key = get_pattern_key(list(specs), module)
        return specs[key] if key in specs else layer_spec(self.spec(), self.curvature_pattern, module)


register_method(MANIFOLD_LORA, ManifoldLoraConfig, ManifoldLoraModel)
