"""The warning of a training that starts with a geometry which its tokens hardly meet, or meet too hard."""

import warnings
from contextlib import ExitStack
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from manifold_lora.models.tuner.token_inputs import active_update, manifold_layers, watch_inputs
from manifold_lora.models.tuner.variant import Layer

# The median length over s, where 1 is what calibration would make of it: idle below, extreme above.
IDLE, EXTREME = 0.5, 3.0


class UncalibratedWarning(UserWarning):
    """A norm scaling that was not calibrated meets tokens far shorter or longer than its s."""


class FirstLook:
    """A hook on a model that watches its first forward pass in training, and then is gone.

    It warns where the median module's median token is shorter than s/2, so that its update is LoRA's, or
    that of any module longer than 3 s.
    """

    def __init__(self) -> None:
        self.handles: list[Any] = []
        self.watched = ExitStack()
        self.found: dict[str, Tensor] = {}

    @classmethod
    def at(cls, model: nn.Module) -> None:
        """Wait for the next forward pass of ``model`` that has gradients."""
        look = cls()
        look.handles = [
            model.register_forward_pre_hook(look.begin, with_kwargs=True),
            model.register_forward_hook(look.end, always_call=True),
        ]

    def begin(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Before the forward pass."""
        if model.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            layers = {name: layer for name, layer in manifold_layers(model) if _waits(layer)}
            self.watched.enter_context(watch_inputs(layers, kwargs, self.see))
            self.watched.callback(self.leave)

    def see(self, name: str, layer: Layer, x: Tensor) -> None:
        """Keep the median length over s, and the median and largest angle, of a layer's tokens."""
        update = active_update(layer)[1]
        lengths = norms_of_tokens(x) / update.norm_scaling.law(None).s
        angles = update.angle(x.detach()).flatten()
        self.found[name] = torch.stack([lengths.median(), angles.median(), angles.max()]).cpu()

    def end(self, model: nn.Module, args: Any, output: Any) -> None:
        """After it, also where it failed."""
        self.watched.close()

    def leave(self) -> None:
        """Take the hooks off, and warn."""
        for handle in self.handles:
            handle.remove()
        warn_of(list(self.found.values()))


def norms_of_tokens(x: Tensor) -> Tensor:
    """abs(x) of each token, in float64."""
    return torch.linalg.vector_norm(x.detach(), dim=-1, dtype=torch.float64)


def warn_of(modules: list[Tensor]) -> None:
    """Warn of modules, (median length over s, median angle, largest angle) each, if s does not fit them."""
    lengths, middles, largest = (sorted(float(of[place]) for of in modules) for place in range(3))
    if not modules or (median(lengths) >= IDLE and lengths[-1] <= EXTREME):
        return
    warnings.warn(
        "the norm scaling is not calibrated: a module's median token enters at an angle a = "
        f"{middles[0]:.2g} to {middles[-1]:.2g} (middle module {median(middles):.2g}), the longest at "
        f"{largest[-1]:.2g}; far below 1 the update is LoRA's, and beyond the angle limit all tokens have "
        "one gain; call manifold_lora.calibrate(model, batches) before training, or train with "
        "CalibrationCallback()",
        UncalibratedWarning,
        stacklevel=2,
    )


def _waits(layer: Layer) -> bool:
    """Whether the layer has an s that could have been calibrated and matters."""
    update = active_update(layer)[1]
    return not update.is_linear and not update.norm_scaling.is_calibrated
