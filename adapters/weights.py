"""Where the low-rank weights themselves live, as plain data: importing this module does not import torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.manifolds.registry import FRAMES

Core = Literal["full", "diagonal", "none"]
Step = Literal["retraction", "landing"]
CORES: tuple[Core, ...] = get_args(Core)
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class WeightSpec:
    """B core A in place of B A, the factors on manifolds of matrices: ``weight_manifold`` of a config.

    Whatever the geometry of the activations does with A, it does with ``core @ A``. Under a core all three
    start so that B core A is zero: A and B as random frames (free ones too), the core at 0.

    Args:
        A, B: ``"stiefel"`` (orthonormal rows of A, columns of B), ``"oblique"`` (of length 1) or ``"free"``.
        core: ``"full"`` (r x r), ``"diagonal"`` (r), or ``"none"``, where B has to be free and starts at 0.
        step: how an optimiser's step stays on Stiefel: ``"retraction"``, or ``"landing"`` near it.

    Raises ManifoldLoraError (UnknownNameError for a name) for parts that do not fit.
    Source: StelLA, arXiv 2510.01938; PoLAR, arXiv 2506.03133.
    """

    A: str = "stiefel"
    B: str = "stiefel"
    core: Core = "full"
    step: Step = "retraction"

    def __post_init__(self) -> None:
        for factor in ("A", "B"):
            if not isinstance(getattr(self, factor), str) or getattr(self, factor) not in FRAMES:
                raise UnknownNameError(f"weight_manifold.{factor}", getattr(self, factor), tuple(FRAMES))
        for part, names in (("core", CORES), ("step", STEPS)):
            if getattr(self, part) not in names:
                raise UnknownNameError(f"weight_manifold.{part}", getattr(self, part), names)
        if self.core == "none" and self.B != "free":
            hint = "without a core the update starts at zero only if B does"
            raise ManifoldLoraError("weight_manifold.B with core none", self.B, "free", hint)
        if self.core == "none" and self.A == "free":
            hint = "that is B A itself: leave weight_manifold out"
            raise ManifoldLoraError("weight_manifold.A with core none", "free", "stiefel, oblique", hint)
        if self.step == "landing" and "stiefel" not in (self.A, self.B):
            raise ManifoldLoraError("weight_manifold.step", "landing", "retraction", "no factor is stiefel")

    @classmethod
    def parse(cls, given: object) -> "WeightSpec | None":
        """The spec of a name (of both factors), a mapping or nothing."""
        if given is None or isinstance(given, WeightSpec):
            return given
        if isinstance(given, str):
            return cls(A=given, B=given)
        if not isinstance(given, Mapping):
            allowed = "a name, or a mapping of A, B, core and step"
            raise ManifoldLoraError("weight_manifold", given, allowed)
        known = tuple(cls.__dataclass_fields__)
        for key in given:
            if key not in known:
                raise UnknownNameError("key of weight_manifold", key, known)
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``parse`` reads back to an equal spec."""
        return asdict(self)

    def step_of(self, factor: Literal["A", "B"]) -> tuple[str, Step]:
        """(manifold, step) of a factor; a manifold without that step takes its retraction."""
        name = getattr(self, factor)
        return name, self.step if self.step in FRAMES.metadata(name).get("steps", ()) else "retraction"

    def check_rank(self, rank: int, in_features: int, out_features: int, where: str) -> None:
        """Raise ManifoldLoraError where a layer is too narrow for r orthonormal rows of A or columns of B."""
        width = min(in_features, out_features)
        if rank > width:
            hint = f"{in_features} -> {out_features} has no frame of {rank} vectors"
            raise ManifoldLoraError(f"rank of {where} with weight_manifold", rank, f"at most {width}", hint)
