"""A base model's config against its weights before a model is built, which might be endless or too large."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.checkpoint import one_line
from manifold_lora.models.saved.weights_file import read_json

# What families call the number of their layers; each layer has a tensor at least.
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers", "encoder_layers")
# Packed weights hold up to sixteen numbers in one.
_PACKED = 16


def check_base_config(folder: Path) -> None:
    """Raise ManifoldLoraError where the config tells of far more layers or numbers than the weights hold.

    Args:
        folder: a model folder with config.json and safetensors.
    """
    config = read_json(folder / "config.json", "config of model")
    with one_line("model", str(folder), "whole safetensors files"):
        tensors, numbers = _stored(folder)
    for key, layers in _layer_counts(config):
        if not 1 <= layers <= tensors:
            raise ManifoldLoraError(f"{key} of model", layers, f"1 to {tensors}, the tensors of {folder}")
    with one_line("model", str(folder), "a causal language model in safetensors"), torch.device("meta"):
        options = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **options))
    wanted = sum(parameter.numel() for parameter in model.parameters())
    if wanted > _PACKED * numbers:
        raise ManifoldLoraError(
            "config of model", f"{wanted} numbers", f"about the {numbers} that {folder} holds"
        )


def check_generation_config(folder: Path) -> None:
    """Raise ManifoldLoraError for a generation_config.json that transformers would pass over in silence.

    The tokens that end an answer stand in it.
    """
    path = folder / "generation_config.json"
    if not path.exists():
        return
    stated = read_json(path, "generation config of model").get("eos_token_id")
    several = stated if isinstance(stated, list) else [stated]
    if any(type(token) is not int for token in several if stated is not None):
        allowed = "a token's number, or a list of them"
        raise ManifoldLoraError("eos_token_id of generation config", stated, allowed, str(path))


def _stored(folder: Path) -> tuple[int, int]:
    tensors = numbers = 0
    for path in folder.glob("*.safetensors"):
        if not path.is_file():  # reading a pipe would wait without end
            raise ManifoldLoraError("weights of model", str(path), "a file")
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensors += 1
                numbers += torch.Size(file.get_slice(name).get_shape()).numel()
    return tensors, numbers


def _layer_counts(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _layer_counts(value)
        elif key in _LAYERS and isinstance(value, int):
            yield key, value
