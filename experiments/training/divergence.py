"""Where a run stopped being finite: the first weight, module output or gradient that is NaN or infinite."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.models.tuner.variant import CONTAINER, Layer, factors

HINT = "lower the learning rate"
_UNSEEN = "norm: of the weights or gradients, each of which is finite"


class DivergedError(ManifoldLoraError):
    """Training met a value that is not finite; nothing was saved."""

    status = "diverged"


def diverged(
    model: nn.Module, step: int, inputs: Mapping[str, Any] | None = None, loss: Tensor | None = None
) -> DivergedError:
    """The error that names what is not finite in ``model`` and whether its geometry has to do with it.

    Looks, in this order, at the weights; at the output of every module, in a second forward pass on
    ``inputs``; at the loss; and at the gradients.
    """
    clips: dict[str, float] = {}
    first = _first_output(model, inputs, clips) if inputs is not None else ""
    found = _weight(model) or first or _loss(loss) or _gradient(model) or _UNSEEN
    kind, _, where = found.partition(": ")
    return DivergedError(
        f"{kind} at step {step}", where, "finite values", f"{_geometry(model, clips)}; {HINT}"
    )


def check_finite(model: nn.Module, step: int) -> None:
    """Raise DivergedError if any weight of the model, trained or not, is not finite."""
    if _weight(model):
        raise diverged(model, step)


def _weight(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not parameter.isfinite().all():
            return f"weight: {name} not finite"
    return ""


def _loss(loss: Tensor | None) -> str:
    if loss is None or loss.isfinite().all():
        return ""
    return f"loss: {loss.item()}, with finite weights and module outputs"


def _gradient(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"gradient: gradient of {name} not finite"
    return ""


@torch.no_grad()
def _first_output(model: nn.Module, inputs: Mapping[str, Any], clips: dict[str, float]) -> str:
    """The module whose output is the first that is not finite; fills in the share of clipped tokens."""
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(_: nn.Module, __: Any, output: Any) -> None:
            if not found and not all(tensor.isfinite().all() for tensor in _tensors(output)):
                found.append(f"activation: output of {name} not finite")

        return look

    def measure(name: str, layer: Layer) -> Callable[..., None]:
        def look(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if args and args[0].isfinite().all():
                clips[name] = max(
                    (_clipped(layer, adapter, args[0]) for adapter in _active(layer)), default=0.0
                )

        return look

    with ExitStack() as hooks:
        # Hooks of the failing pass itself stay in place, and run before these.
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(watch(name or "the model")).remove)
            if hasattr(module, CONTAINER):
                hooks.callback(module.register_forward_pre_hook(measure(name, module)).remove)
        model(**inputs)
    return found[0] if found else ""


def _active(layer: Layer) -> set[str]:
    return set(layer.active_adapters) & set(getattr(layer, CONTAINER))


def _clipped(layer: Layer, adapter: str, x: Tensor) -> float:
    update = getattr(layer, CONTAINER)[adapter]
    return float(update.clipped(x, *factors(layer, adapter)))


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        # A loss that is not finite while the logits are is no module's output.
        yield from (tensor for key, value in output.items() if key != "loss" for tensor in _tensors(value))
    elif isinstance(output, list | tuple):
        yield from (tensor for value in output for tensor in _tensors(value))


def _geometry(model: nn.Module, clips: Mapping[str, float]) -> str:
    curvatures = [(name, m) for name, m in model.named_modules() if isinstance(m, Curvature)]
    if not curvatures:
        return "no geometry involved"
    broken = [name for name, curvature in curvatures if not curvature.kappa.isfinite().all()]
    clipped = {name: share for name, share in clips.items() if share > 0}
    kappa = f"kappa not finite in {broken[0]}" if broken else f"kappa finite in {len(curvatures)} places"
    most = max(clipped, key=lambda name: clipped[name], default="")
    radius = f", most in {most} ({clipped[most]:.0%} of tokens)" if most else ""
    return f"{kappa}; radius clipped in {len(clipped)} of {len(clips)} layers{radius}"
