"""The modules of a base model, without the inner life of adapters that are already there."""

from collections.abc import Iterator

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn


def own_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Named modules of the base model; of an adapted layer the layer itself."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if not name or name.startswith(inside or ("\0",)):
            continue
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            inside += (f"{name}.",)
        yield name, module
