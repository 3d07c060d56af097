"""The curvature in effect in each adapted layer."""

from peft import PeftModel

from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.models.variant import CONTAINER


def effective_kappa(model: PeftModel) -> dict[str, float]:
    """Module path -> kappa of every curvature of the model's manifold adapters; empty if it has none.

    A product geometry has one entry for each of its parts.
    """
    return {
        name.replace(f".{CONTAINER}", ""): float(module.kappa.detach())
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, Curvature) and f".{CONTAINER}." in name
    }
