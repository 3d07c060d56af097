"""Embedding tensors in an adapter's file: the rows of tokens that were added, and no others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from manifold_lora.errors import ManifoldLoraError


def embeddings(model: nn.Module) -> dict[int, Tensor]:
    """The weights of the input embeddings and the output head of a base model, by their ``id``."""
    found = {}
    for name in ("get_input_embeddings", "get_output_embeddings"):
        try:
            layer = getattr(model, name)()
        except (AttributeError, NotImplementedError):
            continue
        if layer is not None:
            found.update({id(parameter): parameter for parameter in layer.parameters()})
    return found


def stated_vocabulary(model: nn.Module) -> int | None:
    """The number of tokens that the base model has on disk; None if that is not known here.

    Nothing is fetched. peft asks the same file whether a vocabulary was resized.
    """
    config: Any = getattr(model, "config", None)
    name = getattr(config, "_name_or_path", None)
    if not name:
        return None
    try:
        on_disk = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        size = on_disk.get_text_config().vocab_size
    except Exception:  # no such folder, no such cache, or a config of no known kind
        return None
    return int(size)


def added_tokens(model: nn.Module) -> int:
    """How many tokens the base model has beyond those on disk; 0 where that is not known."""
    stated, config = stated_vocabulary(model), getattr(model, "config", None)
    return 0 if stated is None or config is None else config.get_text_config().vocab_size - stated


def check_embeddings(model: nn.Module, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise ManifoldLoraError for an embedding tensor that would change a token of the base model.

    peft saves whole embeddings beside an adapter if a vocabulary was resized or they are targets. Rows of
    tokens that the base has not on disk may differ from the model's; all others have to be equal, so that
    loading them changes nothing.

    Args:
        model: the base model.
        tensors: what is going to be loaded, by name.
        own: those of the base model under the same names.
    """
    known = stated_vocabulary(model) if tensors else None
    for name, tensor in tensors.items():
        rows = len(tensor) if known is None else known
        if not torch.equal(tensor[:rows].to(own[name]), own[name][:rows]):
            hint = "an adapter may bring new tokens only; train the others by modules_to_save"
            raise ManifoldLoraError("tensors of adapter", f"another {name}", "the base model's", hint)
