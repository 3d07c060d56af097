"""The PEFT configuration of a manifold adapter: LoRA's fields and the four parts of the geometry."""

from dataclasses import dataclass, field
from typing import Any

from peft import LoraConfig

from manifold_lora.adapters.config import AdapterSpec
from manifold_lora.manifolds.spec import ManifoldSpec
from manifold_lora.models.curvature_pattern import check_curvature_pattern, layer_spec
from manifold_lora.models.lora_options import check_numbers, refuse_linear_only
from manifold_lora.models.peft_tuner import ManifoldLoraModel
from manifold_lora.models.peft_type import MANIFOLD_LORA
from manifold_lora.models.registration import register_method


@dataclass
class ManifoldLoraConfig(LoraConfig):
    """LoRA on a manifold, y = W x + (alpha/r) unscale(logmap0(T(expmap0(scale(x))))), for ``get_peft_model``.

    All fields of ``peft.LoraConfig`` keep their meaning. Importing this module registers the method with
    peft, so ``PeftModel.from_pretrained`` and ``AutoPeftModel`` read its checkpoints.

    Args:
        manifold: a name (``"lorentz"``) or a mapping that a ``ManifoldSpec`` parses.
        curvature: kappa of a manifold given by name, or ``{"mode": "learned", "kappa": -1.0}``.
        transform: ``"tangent"``, ``"direct"`` or ``"boost"``.
        norm_scaling: ``"identity"``, ``"fixed"``, ``"learned"``, ``"released"`` or ``"unit"``.
        curvature_pattern: module pattern -> kappa that replaces ``curvature``'s there, matched like peft's
            ``alpha_pattern``; for one geometry that has a curvature, not for products.

    Raises ManifoldLoraError (asked, got, allowed) for a bad value or an option only plain LoRA can honour.
    Source: HypLoRA, arXiv 2410.04010, section 4.
    """

    manifold: str | dict[str, Any] = field(default="lorentz", metadata={"help": "Geometry of the adapter."})
    curvature: float | dict[str, Any] | None = field(
        default=None, metadata={"help": "Sectional curvature kappa of a manifold given by name."}
    )
    transform: str = field(default="direct", metadata={"help": "How A and B act around the origin."})
    norm_scaling: str = field(default="learned", metadata={"help": "Scaling of norms before expmap0."})
    curvature_pattern: dict[str, float] = field(
        default_factory=dict, metadata={"help": "Module name or pattern -> kappa of the layers it matches."}
    )

    def __post_init__(self) -> None:
        refuse_linear_only(self)
        check_numbers(self)
        super().__post_init__()
        self.peft_type = MANIFOLD_LORA
        if isinstance(self.manifold, ManifoldSpec):
            self.manifold = self.manifold.to_dict()
        check_curvature_pattern(self.curvature_pattern, self.spec())

    @classmethod
    def from_spec(cls, spec: AdapterSpec, **lora: Any) -> "ManifoldLoraConfig":
        """The config of a named method, e.g. ``ManifoldLoraConfig.from_spec(HYPLORA, r=16)``."""
        return cls(**spec.to_dict(), **lora)

    def spec(self) -> AdapterSpec:
        """The geometry as the adapters floor takes it. Raises ManifoldLoraError for parts that do not fit."""
        parts = {"manifold": self.manifold, "transform": self.transform, "norm_scaling": self.norm_scaling}
        return AdapterSpec.parse({**parts, "curvature": self.curvature})

    def layer_spec(self, module: str) -> AdapterSpec:
        """The geometry of one layer, by its name in the base model: ``spec`` with the kappa of its own."""
        return layer_spec(self.spec(), self.curvature_pattern, module)


register_method(MANIFOLD_LORA, ManifoldLoraConfig, ManifoldLoraModel)
