"""The curvature in effect in each adapted layer, and the scale that it acts on."""

from peft import PeftModel

from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.token_scale import TokenCurvature
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.models.variant import CONTAINER


def effective_kappa(model: PeftModel) -> dict[str, float]:
    """Module path -> kappa of every curvature of the model's manifold adapters; empty if it has none.

    A product geometry has one entry for each of its parts, a shared curvature one for each layer. Under
    ``curvature: {mode: token}`` it is the kappa that the tokens' own lie around: see ``token_gates``. On x
    itself the geometry acts as one of curvature kappa/s^2, s of ``effective_scale``.
    """
    return {
        name: float(module.kappa.detach())
        for name, module in _geometry(model)
        if isinstance(module, Curvature)
    }


def effective_scale(model: PeftModel) -> dict[str, float]:
    """Module path -> s of every norm scaling: v = x/s, or v = s x/abs(x) under ``unit``."""
    return {
        name: float(module.law(None).s)
        for name, module in _geometry(model)
        if isinstance(module, NormScaling)
    }


def token_gates(model: PeftModel) -> dict[str, float]:
    """Module path -> gate of every curvature of tokens: kappa_t = kappa exp(gate h_t) with abs(h_t) < 1."""
    return {
        name: float(module.gate.detach())
        for name, module in _geometry(model)
        if isinstance(module, TokenCurvature)
    }


def _geometry(model: PeftModel) -> list[tuple[str, object]]:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    # Duplicates too: a shared curvature belongs to every layer that has it.
    modules = base.named_modules(remove_duplicate=False)
    return [(name.replace(f".{CONTAINER}", ""), part) for name, part in modules if f".{CONTAINER}." in name]
