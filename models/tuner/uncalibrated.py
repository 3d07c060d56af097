"""The warning of a training that starts with a geometry which its tokens hardly meet, or meet too hard."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from manifold_lora.models.token_inputs import active_update, manifold_layers, watch_inputs
from manifold_lora.models.tuner.variant import Layer

# The median length over s, where 1 is what calibration would make of it: idle below, extreme above.
IDLE, EXTREME = 0.3, 3.0


class UncalibratedWarning(UserWarning):
    """A norm scaling that was not calibrated meets tokens far shorter or longer than its s."""


@contextmanager
def warned_if_uncalibrated(model: nn.Module, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Watch the uncalibrated layers during one forward pass of training, and warn where s does not fit.

    It does not where the median module's median token is shorter than 0.3 s, so that its update is LoRA's, or
    that of any module longer than 3 s.
    """
    found: dict[str, Tensor] = {}

    def see(name: str, layer: Layer, x: Tensor) -> None:
        update = active_update(layer)[1]
        lengths = torch.linalg.vector_norm(x.detach(), dim=-1, dtype=torch.float32) / update.norm_scaling.law(None).s
        angles = update.angle(x.detach()).flatten()
        found[name] = torch.stack([lengths.median(), angles.median(), angles.max()]).cpu()

    layers = {name: layer for name, layer in manifold_layers(model) if _waits(layer)}
    with watch_inputs(layers, inputs, see):
        yield
    if not found:
        return
    lengths = sorted(float(of[0]) for of in found.values())
    if lengths[0] != lengths[0] or (median(lengths) >= IDLE and lengths[-1] <= EXTREME):
        return
    middles = sorted(float(of[1]) for of in found.values())
    warnings.warn(
        f"the norm scaling is not calibrated: a module's median token enters at an angle a = {middles[0]:.2g} to "
        f"{middles[-1]:.2g} (middle module {median(middles):.2g}), the longest at "
        f"{max(float(of[2]) for of in found.values()):.2g}; below about 0.3 the update is LoRA's, beyond the angle "
        "limit all tokens have one gain; call manifold_lora.calibrate(model, batches) before training, or train "
        "with CalibrationCallback()",
        UncalibratedWarning,
        stacklevel=4,
    )


def _waits(layer: Layer) -> bool:
    """Whether the layer has an s that could have been calibrated and matters."""
    update = active_update(layer)[1]
    return not update.is_linear and not update.norm_scaling.is_calibrated
