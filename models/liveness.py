"""Whether every adapted layer takes part in training: called by the model and reached by the gradient."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manifold_lora.errors import ManifoldLoraError

# One batch need not reach every expert of a mixture, so experts of one block count together.
_EXPERT = re.compile(r"(?<=experts\.)\d+")
_NEVER_CALLED = "never called: the model reads its weight without calling the layer, or skips the layer"
_NO_GRADIENT = "called, but no gradient reaches its adapter"


class DeadLayerError(ManifoldLoraError):
    """An adapted layer that the model never calls, or whose adapter gets no gradient."""


class Liveness:
    """Watches the adapted layers of a model during one forward and backward pass.

    Use it through ``watch_layers``, or let ``LivenessCallback`` do so in a Trainer.

    Args:
        model: the adapted model, of any PEFT method that wraps layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers: dict[str, Any] = {
            n: layer for n, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)
        }
        self.called: set[str] = set()

    def dead(self, gradients: bool = True) -> dict[str, str]:
        """Layer name -> why it learns nothing; empty where every layer was called and has a gradient.

        Args:
            gradients: whether to look at the gradients, which have to be there still. A layer with a
                ``lora_B`` counts by it, since A has none while B is zero, or by the core between the two;
                other layers by all they train.
        """
        alive = {_place(name) for name, layer in self.layers.items() if not gradients or _learns(layer)}
        called = {_place(name) for name in self.called}
        reasons = {}
        for name in self.layers:
            if _place(name) not in called:
                reasons[name] = _NEVER_CALLED
            elif _place(name) not in alive:
                reasons[name] = _NO_GRADIENT
        return reasons

    def check(self, gradients: bool = True) -> None:
        """Raise DeadLayerError naming the first of the ``dead`` layers, how many there are, and why."""
        dead = self.dead(gradients)
        if dead:
            name, reason = next(iter(dead.items()))
            hint = f"{len(dead)} of {len(self.layers)} adapted layers learn nothing; leave them out"
            raise DeadLayerError("adapted layer", name, "layers that learn", f"{reason}; {hint}")


@contextmanager
def watch_layers(model: nn.Module) -> Iterator[Liveness]:
    """A ``Liveness`` that records which adapted layers are called inside the ``with`` block.

    Example::

        with watch_layers(model) as layers:
            model(**batch).loss.backward()
        layers.check()
    """
    watched = Liveness(model)
    with ExitStack() as hooks:
        for name, layer in watched.layers.items():
            record = watched.called.add
            hooks.callback(layer.register_forward_pre_hook(lambda *_, n=name, add=record: add(n)).remove)
        yield watched


class LivenessCallback(TrainerCallback):
    """Stops a Trainer before its first optimiser step if an adapted layer learns nothing.

    Raises DeadLayerError, no weight changed. Under DeepSpeed, which keeps gradients to itself, calls alone
    count.
    """

    def __init__(self) -> None:
        self._hooks = ExitStack()
        self._watched: Liveness | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Trainer's call: starts to watch."""
        self._watched = self._hooks.enter_context(watch_layers(kwargs["model"]))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Trainer's call, gradients computed and no weight moved: checks once."""
        if self._watched is not None:
            watched, self._watched = self._watched, None
            self._hooks.close()
            watched.check(gradients=not getattr(args, "deepspeed", None))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Trainer's call: stops watching where no step was made."""
        self._hooks.close()


def _place(name: str) -> str:
    return _EXPERT.sub("*", name)


def _learns(layer: BaseTunerLayer) -> bool:
    parameters = list(_trained(layer))
    # What is not trained now (a frozen second adapter) cannot be dead.
    return not parameters or any(_has_gradient(parameter.grad) for parameter in parameters)


def _trained(layer: Any) -> Iterator[nn.Parameter]:
    low_rank = hasattr(layer, "lora_B") and len(layer.lora_B)
    names = ("lora_B", "lora_core") if low_rank else layer.adapter_layer_names
    for name in filter(partial(hasattr, layer), names):
        yield from (p for p in getattr(layer, name).parameters() if p.requires_grad)


def _has_gradient(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.count_nonzero())
