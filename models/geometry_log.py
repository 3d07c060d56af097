"""Curvature and scale in effect while transformers' Trainer trains."""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manifold_lora.adapters.parameters import geometry_parameters
from manifold_lora.models.effective_kappa import effective_kappa, effective_scale, token_gates


class GeometryLog(TrainerCallback):
    """Adds the learned geometry to every log of a Trainer: ``kappa/mean``, ``/min``, ``/max`` and by layer.

    The same of s, the scale (on x a geometry acts as one of curvature kappa/s^2), and of the gates of tokens.
    ``trainer.state.log_history`` has them, and so has every reporter that hears after this callback:
    ``Trainer(callbacks=[GeometryLog(), WandbCallback()])`` with ``report_to="none"``.

    Args:
        layers: whether each layer is told, or mean, min and max alone.
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
