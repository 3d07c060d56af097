"""Curvature and scale in effect while transformers' Trainer trains."""

from typing import Any

from peft import PeftModel
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.parameters import geometry_parameters
from manifold_lora.adapters.token_scale import TokenCurvature
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.models.tuner.variant import CONTAINER


class GeometryLog(TrainerCallback):
    """Adds the learned geometry to every log of a Trainer: ``kappa/mean``, ``/min``, ``/max`` and by layer.

    The same of s, the scale (on x a geometry acts as one of curvature kappa/s^2), and of the gates of tokens.
    ``trainer.state.log_history`` has them, and so has every reporter that hears after this callback:
    ``Trainer(callbacks=[GeometryLog(), WandbCallback()])`` with ``report_to="none"``.

    Args:
        layers: whether each layer is logged, or mean, min and max alone.
    """

    def __init__(self, layers: bool = True) -> None:
        self.layers = layers

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Trainer's call; the newest entry of its history is a copy made before."""
        logs, figures = kwargs.get("logs"), self._figures(kwargs["model"])
        if logs is not None:
            logs.update(figures)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(figures)

    def _figures(self, model: nn.Module) -> dict[str, float]:
        figures: dict[str, float] = {}
        for what, values in learned_geometry(model).items():
            numbers = list(values.values())
            figures[f"{what}/mean"] = sum(numbers) / len(numbers)
            figures[f"{what}/min"], figures[f"{what}/max"] = min(numbers), max(numbers)
            if self.layers:
                figures |= {f"{what}/{name}": value for name, value in values.items()}
        return figures


def learned_geometry(model: Any) -> dict[str, dict[str, float]]:
    """kappa, s and gate by layer and adapter; empty where nothing of the geometry is trained."""
    if not any(parameter.requires_grad for parameter in geometry_parameters(model)):
        return {}
    found = {"kappa": effective_kappa(model), "s": effective_scale(model), "gate": token_gates(model)}
    return {what: {_short(name): v for name, v in values.items()} for what, values in found.items() if values}


def _short(name: str) -> str:
    for part in (".manifold", ".curvature", ".norm_scaling", ".token_scale"):
        name = name.replace(part, "")
    return name


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
