"""How long the first gradient of a manifold adapter is beside that of the plain LoRA with its A and B."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor, nn
from torch.nn import functional

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.tuner.token_inputs import (
    active_update,
    device_of,
    evaluating,
    manifold_layers,
    moved,
)
from manifold_lora.models.tuner.variant import CORE, Layer, factors


class _Plain(LoraVariant):
    """LoRA itself, by the factors that a geometry would take."""

    @staticmethod
    def forward(module: Layer, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:
        """W x + scaling B A x."""
        A, B = factors(module, active_adapter)
        delta = functional.linear(functional.linear(x.to(A.dtype), A), B)
        return result + (module.scaling[active_adapter] * delta).to(result.dtype)


def gradient_ratio(model: nn.Module, batch: Mapping[str, Any]) -> float:
    """abs(gradient of A and B) of the active manifold adapter over that of plain LoRA at the same A and B.

    Under ``direct`` it is about c at B = 0; a core between the two counts with them. Beyond some tens,
    LoRA's learning rates do not apply. NaN or inf where a gradient is not finite, 1 where both are 0.
    Dropout is off; no ``.grad`` is touched.

    Args:
        model: a base model with a manifold adapter.
        batch: keyword arguments of the model's forward, ``labels`` among them.

    Raises ManifoldLoraError for a model without a manifold adapter, or a batch without a loss.
    """
    layers = [layer for _, layer in manifold_layers(model)]
    if not layers:
        raise ManifoldLoraError("adapted layers", type(model).__name__, "a model with a manifold adapter")
    weights = [weight for layer in layers for weight in _weights(layer)]
    inputs = moved(batch, device_of(model))
    with evaluating(model):
        ours = _gradient(model, inputs, weights)
        with plain_lora(layers):
            plain = _gradient(model, inputs, weights)
    return ours / plain if plain else (1.0 if ours == 0 else math.inf)


def _weights(layer: Layer) -> list[Tensor]:
    adapter = active_update(layer)[0]
    core = getattr(layer, CORE, {})
    own = [layer.lora_A[adapter].weight, layer.lora_B[adapter].weight]
    return [*own, *(core[adapter].parameters() if adapter in core else ())]


def _gradient(model: nn.Module, inputs: Mapping[str, Any], weights: Sequence[Tensor]) -> float:
    frozen = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        with torch.enable_grad():
            loss = model(**inputs).loss
        if loss is None:
            raise ManifoldLoraError("batch", ", ".join(inputs), "one with labels")
        found = torch.autograd.grad(loss, weights, allow_unused=True)
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
    lengths = [float(gradient.double().norm()) for gradient in found if gradient is not None]
    return math.hypot(*lengths)


@contextmanager
def plain_lora(layers: list[Any]) -> Iterator[None]:
    """These layers computing W x + scaling B A x (B core A x), and then what they did before."""
    taken = []
    try:
        for layer in layers:
            adapter = active_update(layer)[0]
            taken.append((layer, adapter, layer.lora_variant[adapter]))
            layer.lora_variant[adapter] = _Plain()
        yield
    finally:
        for layer, adapter, variant in taken:
            layer.lora_variant[adapter] = variant
