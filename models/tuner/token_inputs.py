"""What the adapted layers of a model see when it runs on some text."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.tuner.variant import CONTAINER, Layer, factors

# Called with the layer's name in the base model, the layer, and its inputs (tokens, n).
See = Callable[[str, Layer, Tensor], None]


@torch.no_grad()
def visit_inputs(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], see: See, *, first_token: bool = True
) -> None:
    """Run ``model`` on ``batches`` and show ``see`` the inputs of each layer with an active manifold adapter.

    Layers that read one tensor one after the other (q, k and v) are shown one tensor too.

    Args:
        model: a base model with a manifold adapter, fresh or trained; evaluated without dropout.
        batches: keyword arguments of the model's forward; tokens with ``attention_mask`` 0 are left out.
        first_token: whether the first token of each sequence is shown, which language models make an
            "attention sink" of up to 400 times the median length.

    Raises ManifoldLoraError if the model has no active manifold adapter, there is no batch, or no token
    reaches one of the layers.
    """
    layers = dict(manifold_layers(model))
    if not layers:
        raise ManifoldLoraError(
            "adapted layers", type(model).__name__, "a model with an active manifold adapter"
        )
    counts = dict.fromkeys(layers, 0)

    def count(name: str, layer: Layer, x: Tensor) -> None:
        counts[name] += len(x)
        see(name, layer, x)

    seen = 0
    with evaluating(model):
        for batch in batches:
            inputs = moved(batch, device_of(model))
            with watch_inputs(layers, inputs, count, first_token=first_token):
                model(**inputs)
            seen += 1
    if not seen:
        raise ManifoldLoraError("batches", 0, "at least one")
    for name, tokens in counts.items():
        if not tokens:
            others = "" if first_token else ", the first of each sequence left out"
            raise ManifoldLoraError(
                f"tokens that reach {name}", 0, f"at least one unmasked token in all batches{others}"
            )


@contextmanager
def watch_inputs(
    layers: Mapping[str, Layer], inputs: Mapping[str, Any], see: See, *, first_token: bool = False
) -> Iterator[None]:
    """Call ``see`` with the tokens these layers read while a model runs on ``inputs`` (`visit_inputs`)."""
    chosen = _Chosen(first_token, inputs)

    def hook(name: str, layer: Layer) -> Callable[..., None]:
        # Checkpointed layers are run again without the hook, and have to save the same tensors then.
        @torch.no_grad()
        def look(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            x = chosen.of(arguments[0])
            if len(x):
                see(name, layer, x)

        return look

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(hook(name, layer)).remove)
        yield


class _Chosen:
    """Which tokens of a layer's input count: no padding, and no first one where it is left out."""

    def __init__(self, first_token: bool, inputs: Mapping[str, Any]) -> None:
        self.first_token = first_token
        self.masks: list[Tensor] = []
        self.last: tuple[weakref.ref[Tensor], Tensor] | None = None
        for given in _MASKS:
            mask = next((inputs[key] for key in given if isinstance(inputs.get(key), Tensor)), None)
            if mask is not None and mask.dim() > 1:  # labels of images and whole texts are one number each
                known = given[0] in inputs and mask.dim() == 2
                mask = mask.bool() if known else torch.ones(mask.shape[:2], device=mask.device).bool()
                self.masks.append(self._without_first(mask, inputs.get("position_ids")))

    def of(self, x: Tensor) -> Tensor:
        """The tokens (tokens, n) of an input that count; one tensor for calls with the same input."""
        if self.last is None or self.last[0]() is not x:
            self.last = weakref.ref(x), self._choose(x)
        return self.last[1]

    def _choose(self, x: Tensor) -> Tensor:
        for mask in self.masks:
            if mask.shape == x.shape[:-1]:
                return x[mask]
            # A mixture of experts flattens the batch before it routes.
            if x.dim() == 2 and len(x) == mask.numel():
                return x[mask.flatten()]
        if x.dim() == 3 and not self.first_token:
            x = x[:, 1:]
        return x.reshape(-1, x.shape[-1])

    def _without_first(self, mask: Tensor, positions: Any) -> Tensor:
        if self.first_token:
            return mask
        first = mask.long().cumsum(-1) == 1
        # Sequences that are packed in one row say where each begins.
        if isinstance(positions, Tensor) and positions.shape[-1:] == mask.shape[-1:] and positions.dim() == 2:
            first = first | (positions == 0)
        return mask & ~first


# What says which tokens there are: the mask, else whatever has the shape of one.
_MASKS = (
    ("attention_mask", "input_ids", "inputs_embeds"),
    ("decoder_attention_mask", "decoder_input_ids", "labels"),
)


def moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch's entries, the tensors among them on ``device``."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def device_of(model: nn.Module) -> torch.device:
    """Where a model takes its inputs."""
    found = getattr(model, "device", None)
    return found if isinstance(found, torch.device) else next(model.parameters()).device


def manifold_layers(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Name in the base model and layer, for every layer with an active manifold adapter."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer) and set(module.active_adapters) & set(
            getattr(module, CONTAINER, {})
        ):
            yield name, module


def active_update(layer: Layer) -> tuple[str, ManifoldUpdate, Tensor, Tensor]:
    """(adapter name, geometry, A, B) of the layer's first active manifold adapter, as it takes them."""
    name = next(name for name in layer.active_adapters if name in getattr(layer, CONTAINER))
    return name, getattr(layer, CONTAINER)[name], *factors(layer, name)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and then as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
