"""Tensors that peft is about to load into a manifold adapter: whole, finite and bounded, or refused."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from manifold_lora.manifolds.errors import ManifoldLoraError
from manifold_lora.models.exponents import check_exponents

_WRAPPER = "base_model.model."


def check_incoming(model: nn.Module, adapter_name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise ManifoldLoraError, none of them copied, unless ``tensors`` are all of the adapter's and bounded.

    peft itself passes over missing and unknown tensors with a warning at most, whatever path it loads by.

    Args:
        model: the adapted model, wrapped by peft or not.
        adapter_name: the adapter to be loaded.
        tensors: by their names in the model, the adapter's among them.
    """
    given = {name.removeprefix(_WRAPPER): tensor for name, tensor in tensors.items() if ".lora_" in name}
    names = (name.removeprefix(_WRAPPER) for name in model.state_dict())
    own = re.compile(rf"\.lora_\w+\.{re.escape(adapter_name)}(\.|$)")
    expected = {name for name in names if own.search(name)}
    missing, unknown = sorted(expected - set(given)), sorted(set(given) - expected)
    if missing or unknown:
        word, odd = ("missing", missing) if missing else ("unknown", unknown)
        hint = f"{len(odd)} {word}, the first {odd[0]}"
        raise ManifoldLoraError("tensors of adapter", adapter_name, "exactly the adapter's", hint)
    for name, tensor in given.items():
        if not tensor.is_meta and not torch.isfinite(tensor).all():
            raise ManifoldLoraError("tensors of adapter", f"NaN or Inf in {name}", "finite numbers")
    check_exponents(model, given, lambda name: name.removeprefix(_WRAPPER))
