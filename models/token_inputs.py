"""What the adapted layers of a model see when it runs on some text."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor

from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.tuner.variant import CONTAINER, Layer

# Called with the layer's name in the base model, the layer, and its inputs (tokens, n).
See = Callable[[str, Layer, Tensor], None]


@torch.no_grad()
def visit_inputs(model: PeftModel, batches: Iterable[Mapping[str, Tensor]], see: See) -> None:
    """Run ``model`` on ``batches`` and show ``see`` the inputs of each layer with an active manifold adapter.

    Args:
        model: a base model with a manifold adapter, fresh or trained; evaluated without dropout.
        batches: keyword arguments of the model's forward; tokens with ``attention_mask`` 0 are left out.

    Raises ManifoldLoraError if the model has no active manifold adapter, or no token was seen.
    """
    layers = dict(manifold_layers(model))
    if not layers:
        raise ManifoldLoraError(
            "adapted layers", type(model).__name__, "a model with an active manifold adapter"
        )
    mask: list[Tensor | None] = [None]
    counts = dict.fromkeys(layers, 0)

    def hook(name: str, layer: Layer) -> Callable[..., None]:
        def look(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            masked = mask[0] is not None and mask[0].shape == x.shape[:-1]
            x = x[mask[0].bool()] if masked and mask[0] is not None else x.reshape(-1, x.shape[-1])
            counts[name] += len(x)
            if len(x):
                see(name, layer, x)

        return look

    with evaluating(model), ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(hook(name, layer)).remove)
        for batch in batches:
            inputs = {key: value.to(model.device) for key, value in batch.items()}
            mask[0] = inputs.get("attention_mask")
            model(**inputs)
    if not all(counts.values()):
        raise ManifoldLoraError("tokens", 0, "at least one batch with one unmasked token")


def manifold_layers(model: PeftModel) -> Iterator[tuple[str, Layer]]:
    """Name in the base model and layer, for every layer with an active manifold adapter."""
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and set(module.active_adapters) & set(
            getattr(module, CONTAINER, {})
        ):
            yield name, module


def active_update(layer: Layer) -> tuple[str, ManifoldUpdate, Tensor, Tensor]:
    """(adapter name, geometry, A, B) of the layer's first active manifold adapter."""
    name = next(name for name in layer.active_adapters if name in getattr(layer, CONTAINER))
    return name, getattr(layer, CONTAINER)[name], layer.lora_A[name].weight, layer.lora_B[name].weight


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and then as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
