"""A model or a tokenizer as transformers reads it from a folder or the hub: whole and finite, or refused."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.folders import has_whole_tokenizer

# The stack of layers and the index in it.
_LAYER = re.compile(r"(.*?\.)(\d+)\.").match


def read_model(name: str, options: dict[str, Any], shown: str = "") -> PreTrainedModel:
    """A causal language model with every weight from the checkpoint, and all of them finite.

    Args:
        name: a folder or hub name.
        options: of ``from_pretrained``.
        shown: what errors call the checkpoint; by default its name.

    Raises ManifoldLoraError for what transformers cannot read, and for weights that are missing, of another
    shape, NaN or infinite, or of layers that the config leaves out.
    """
    shown = shown or name
    with one_line("model", shown, "whole weights of a causal language model that transformers knows"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, output_loading_info=True, **options)
    model, found = loaded
    for problem in ("missing_keys", "mismatched_keys"):
        if found.get(problem):
            some = ", ".join(sorted(str(key) for key in found[problem])[:3])
            hint = f"{problem.replace('_', ' ')}: {some}; the model would start from random weights there"
            raise ManifoldLoraError("weights of model", shown, "weights for every parameter", hint)
    _check_depth(model, found.get("unexpected_keys") or (), shown)
    _check_finite(model, shown)
    return model


def _check_depth(model: nn.Module, unexpected: Iterable[str], name: str) -> None:
    """Refuse weights of layers beyond those that the config tells of: without them it is another model."""
    layers = {found.groups() for found in map(_LAYER, model.state_dict()) if found}
    stacks = {stack for stack, _ in layers}
    for key in sorted(unexpected):
        found = _LAYER(key)
        if found and found[1] in stacks and found.groups() not in layers:
            allowed = f"a config with all layers of {name}"
            raise ManifoldLoraError("weights of model", f"{found[1]}{found[2]}", allowed, f"it holds {key}")


def _check_finite(model: nn.Module, name: str) -> None:
    """Buffers too: a base of 0 for the rotary angles makes them infinite, and then every output NaN."""
    for key, tensor in chain(model.named_parameters(), model.named_buffers()):
        plain = tensor.is_floating_point() and tensor.element_size() > 1 and not tensor.is_meta
        # The extremes carry NaN and infinity along, at a quarter of the cost of looking at each number.
        if plain and tensor.numel() and not all(map(torch.isfinite, torch.aminmax(tensor.detach()))):
            raise ManifoldLoraError("weights of model", f"NaN or infinity in {key}", "finite numbers", name)


def read_tokenizer(name: str, options: dict[str, Any], shown: str = "") -> PreTrainedTokenizerBase:
    """A tokenizer that can pad, read as `read_model` reads; raises ManifoldLoraError."""
    reader = PreTrainedTokenizerFast if has_whole_tokenizer(Path(name)) else AutoTokenizer
    with one_line("tokenizer", shown or name, "a folder with tokenizer.json, or a whole GGUF file"):
        tokenizer: PreTrainedTokenizerBase = reader.from_pretrained(name, **options)
    if not len(tokenizer):
        raise ManifoldLoraError(
            "tokenizer", shown or name, "one with a vocabulary", "no tokenizer files there"
        )
    if tokenizer.pad_token_id is None:
        # Padding is masked wherever we use it, so any token will do.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


@contextmanager
def one_line(asked: str, got: str, allowed: str) -> Iterator[None]:
    """Raise what transformers, peft, gguf or safetensors raise as one line of ours."""
    try:
        yield
    except ManifoldLoraError:
        raise
    except Exception as error:  # whatever a library raises about a file is the file's refusal
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first = f"{type(error).__name__}: {lines[0] if lines else ''}"
        raise ManifoldLoraError(asked, got, allowed, first[:300]) from error
