"""Names of adapters that peft can tell from all else in a model, and of their tensors in a file."""

import re
from collections.abc import Iterable, Iterator

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from manifold_lora.errors import ManifoldLoraError

# What the names of an adapter's tensors begin with in a file.
WRAPPER = "base_model.model."
# What stands in the names of tensors beside modules of the model and the parts of an adapter.
_WRAPPERS = {"base_layer", "bias", "modules_to_save", "original_module", "weight"}
# By these peft finds the end of a layer's name in a tensor's, from the right.
_PREFIXES = ("lora_", "bottleneck_")
# Without what a path, Windows or a terminal takes for something else.
_IS_FOLDER = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]{1,100}").fullmatch
_KEYS = "its tensors would be saved under names that cannot be loaded"


def weight_key(module: str, part: str) -> str:
    """The name in a file of A or B (``part``) of a module of the base model."""
    return f"{WRAPPER}{module}.lora_{part}.weight"


def adapter_names(model: nn.Module) -> set[str]:
    """The adapters whose layers are in ``model``."""
    layers = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
    return {name for layer in layers for name in layer._all_available_adapter_names()}


def check_name(model: nn.Module, adapter_name: str, parts: Iterable[str]) -> None:
    """Raise ManifoldLoraError for a name that is a part of other tensors' names too.

    peft takes every tensor with that part for the adapter's: saving another adapter would leave it out.

    Args:
        model: what is going to be adapted.
        adapter_name: the adapter to be put on it; those that are there are looked at too.
        parts: the names of the new adapter's modules and parameters.
    """
    if not adapter_name or "." in adapter_name:
        raise ManifoldLoraError("adapter name", adapter_name, "a name without dots")
    if not _IS_FOLDER(adapter_name):
        hint = "it is saved in a folder of that name"
        raise ManifoldLoraError(
            "adapter name", adapter_name, "up to 100 signs that a folder's name may have", hint
        )
    for prefix in _PREFIXES:
        if prefix in adapter_name:
            raise ManifoldLoraError("adapter name", adapter_name, f"a name without {prefix!r}", _KEYS)
    taken = _WRAPPERS.union(parts, *(name.split(".") for name, _ in own_modules(model)))
    for _, module in own_modules(model):
        taken.update(module._parameters, module._buffers)
    for name in (adapter_name, *sorted(adapter_names(model))):
        if name in taken:
            hint = f"tensors that are not the adapter's have {name!r} between the dots of their names"
            raise ManifoldLoraError("adapter name", name, "a name that nothing in the model has", hint)


def own_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Named modules of the base model; of an adapted layer the layer itself."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if not name or name.startswith(inside or ("\0",)):
            continue
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            inside += (f"{name}.",)
        yield name, module
