"""``curvature: {mode: data}``: an adapter's curvature, module by module, measured before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.experiments.token_geometry.suggestion import RULES
from manifold_lora.manifolds.spec import only_keys
from manifold_lora.numbers import is_number, is_whole

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

MODE = "data"


@dataclass(frozen=True)
class DataCurvature:
    """What ``{mode: data, rule: khrulkov, prompts: 32}`` asks for; parsing it needs no torch.

    A module's kappa is kappa0 (kappa_data / kappa0)^strength: at strength 1, the default, the measured one;
    at strength 0 the arm of one curvature, ``kappa``.
    """

    rule: str = "khrulkov"
    prompts: int = 32
    strength: float = 1.0
    kappa: float = -1.0

    @classmethod
    def parse(cls, given: object) -> "DataCurvature | None":
        """Read a ``curvature`` entry; None where it states no ``mode: data``.

        Raises ManifoldLoraError for an unknown key or rule, no prompts, a strength outside [0, 1], or a kappa
        that is not negative or does not matter at strength 1.
        """
        if not isinstance(given, Mapping) or given.get("mode") != MODE:
            return None
        only_keys("curvature with mode data", given, ("mode", "rule", "prompts", "strength", "kappa"))
        rule, prompts = given.get("rule", cls.rule), given.get("prompts", cls.prompts)
        if rule not in RULES:
            raise ManifoldLoraError("rule of curvature", rule, tuple(RULES))
        if not is_whole(prompts):
            raise ManifoldLoraError("prompts of curvature", prompts, "a whole number from 1 up")
        strength, kappa = given.get("strength", cls.strength), given.get("kappa", cls.kappa)
        if not is_number(strength) or not 0 <= strength <= 1:
            raise ManifoldLoraError("strength of curvature", strength, "a number from 0 to 1")
        if not is_number(kappa) or kappa >= 0:
            raise CurvatureError("kappa with mode data", kappa, "a negative number")
        if "kappa" in given and strength == 1:
            hint = "at strength 1 the kappa of each module is the measured one"
            raise ManifoldLoraError("kappa with mode data", kappa, "a strength below 1 beside it", hint)
        return cls(rule, prompts, float(strength), float(kappa))

    def check(self, norm_scaling: str) -> None:
        """Raise ManifoldLoraError for ``log2`` with ``unit``.

        Under ``unit`` every input has the same length, so the delta of x is not that of the points.
        """
        if self.rule == "log2" and norm_scaling == "unit":
            raise ManifoldLoraError("rule of curvature", "log2 with norm scaling unit", ("khrulkov",))

    def measure(
        self,
        model: "nn.Module",
        tokenizer: "PreTrainedTokenizerBase",
        texts: Sequence[str],
        targets: Sequence[str],
        norm_scaling: str = "learned",
    ) -> dict[str, float]:
        """Module name -> kappa < 0 for every module of ``model`` whose last name is in ``targets``.

        Args:
            model: the base model, before any adapter.
            texts: training texts, never those of a test set; the first ``prompts`` are used.
            norm_scaling: the adapter's, which sets the scale that the rule ``log2`` is read on.

        Raises ManifoldLoraError for texts without tokens, no such modules, or what `check` refuses.
        """
        from manifold_lora.experiments.token_geometry.layer_curvature import kappa_by_module

        self.check(norm_scaling)
        options: dict[str, Any] = {"targets": targets, "rule": self.rule}
        scaled = NORM_SCALINGS[norm_scaling].divides
        found = kappa_by_module(model, tokenizer, texts[: self.prompts], norm_scaled=scaled, **options)
        return {name: self.between(kappa) for name, kappa in found.items()}

    def between(self, measured: float) -> float:
        """kappa0 (measured / kappa0)^strength, to the last bit at both ends."""
        if self.strength in (0.0, 1.0):
            return measured if self.strength else self.kappa
        return self.kappa * (measured / self.kappa) ** self.strength
