"""A manifold adapter as an ordinary LoRA: the nearest linear stand-in of each layer, fitted and written."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.linear_fit import LinearFit, Moments, fit_linear
from manifold_lora.models.saved.manifest import WEIGHTS, write_manifest
from manifold_lora.models.saved.whole_folder import whole_folder
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.names import weight_key
from manifold_lora.models.tuner.token_inputs import active_update, manifold_layers, visit_inputs
from manifold_lora.models.tuner.variant import CONTAINER, CORE, Layer

Batches = Iterable[Mapping[str, Tensor]]

# Bytes of all layers' Gram matrices of x up to which maps of any row space are looked for too.
FULL_BYTES = 2**30
# What stands in the names of tensors that a plain LoRA does not have.
_OURS = {CONTAINER, CORE}


def fit_layers(
    model: PeftModel, seen: Batches, held_out: Batches, on_layer: Callable[[int, int], None] | None = None
) -> dict[str, LinearFit]:
    """Module name -> the best linear stand-in of its update, on the inputs that it gets in the adapted model.

    Args:
        model: a base model with one active manifold adapter.
        seen: batches to fit to, keyword arguments of the model's forward; padding does not count.
        held_out: other batches, by which the kind of map is chosen and its error is stated.
        on_layer: called with (layers fitted, layers).

    Raises ManifoldLoraError if no manifold adapter is active or there are no tokens.
    """
    layers = dict(manifold_layers(model))
    whole = sum(2 * 8 * layer.in_features**2 for layer in layers.values()) <= FULL_BYTES
    known, others = _moments(model, seen, whole), _moments(model, held_out, whole)
    fits = {}
    for count, (name, layer) in enumerate(layers.items(), start=1):
        adapter, update, lora_A, lora_B = active_update(layer)
        up = lora_B.detach().double() * layer.scaling[adapter]
        if update.is_linear:
            gain = float(torch.as_tensor(update.norm_scaling.law(torch.float64).gain).detach())
            fits[name] = LinearFit("exact", gain * up, lora_A.detach().double(), gain)
        else:
            fits[name] = fit_linear(known[name], others[name], lora_A.detach(), up)
        if on_layer:
            on_layer(count, len(layers))
    return fits


def _moments(model: PeftModel, batches: Batches, whole: bool) -> dict[str, Moments]:
    found: dict[str, Moments] = {}

    def see(name: str, layer: Layer, x: Tensor) -> None:
        adapter, update, lora_A, lora_B = active_update(layer)
        wide, down = x.double(), lora_A.double()
        delta = update(wide, down, lora_B.double(), scaling=layer.scaling[adapter])
        found.setdefault(name, Moments(whole)).add(wide, wide @ down.T, delta)

    visit_inputs(model, batches, see)
    return found


@contextmanager
def linearised(model: PeftModel, fits: Mapping[str, LinearFit]) -> Iterator[PeftModel]:
    """The model as the exported LoRA makes it, and then as it was."""
    undo = []
    try:
        for name, layer in list(manifold_layers(model)):
            adapter = active_update(layer)[0]
            lora_A, lora_B = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
            undo.append((layer, adapter, layer.lora_variant.pop(adapter), lora_A.data, lora_B.data))
            down, up = _factors(fits[name], layer, adapter)
            lora_A.data, lora_B.data = down.to(lora_A), up.to(lora_B)
        yield model
    finally:
        for layer, adapter, variant, down, up in undo:
            layer.lora_variant[adapter] = variant
            layer.lora_A[adapter].weight.data, layer.lora_B[adapter].weight.data = down, up


def _factors(fit: LinearFit, layer: Layer, adapter: str) -> tuple[Tensor, Tensor]:
    return fit.down, fit.up / layer.scaling[adapter]


@torch.no_grad()
def logits_error(model: PeftModel, fits: Mapping[str, LinearFit], batches: Batches) -> tuple[float, float]:
    """(relative error, share of tokens with the same likeliest next token) of the linearised model's logits.

    The error is sqrt(sum abs(l - l')^2 / sum abs(l - l0)^2): l the adapted model's logits, l' the exported
    one's and l0 the base's, so that 1 is as far off as no adapter.
    """
    model.eval()
    wrong = size = same = tokens = 0.0
    for batch in batches:
        inputs = {key: value.to(model.device) for key, value in batch.items() if key != "labels"}
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        adapted = model(**inputs).logits[mask].float()
        with model.disable_adapter():
            base = model(**inputs).logits[mask].float()
        with linearised(model, fits):
            exported = model(**inputs).logits[mask].float()
        wrong += float((adapted - exported).square().sum())
        size += float((adapted - base).square().sum())
        same += int((adapted.argmax(-1) == exported.argmax(-1)).sum())
        tokens += len(adapted)
    return (wrong / size) ** 0.5 if size else 0.0, same / max(tokens, 1)


def exportable(model: PeftModel) -> str:
    """The name of the manifold adapter to export. Raises ManifoldLoraError unless exactly one is active."""
    active = model.active_adapters
    config = model.peft_config[active[0]] if len(active) == 1 else None
    if not isinstance(config, ManifoldLoraConfig):
        got = ", ".join(f"{name} ({model.peft_config[name].peft_type!s})" for name in active)
        raise ManifoldLoraError("adapter to export", got, "one active MANIFOLD_LORA adapter")
    return active[0]


def export_lora(
    model: PeftModel,
    fits: Mapping[str, LinearFit],
    folder: str | Path,
    card: str = "",
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Path:
    """Write the fits as a PEFT LoRA that any program loads, whole or not at all.

    Args:
        model: the model that was fitted; ranks, scalings, targets and modules trained whole are its own.
        fits: of ``fit_layers``.
        folder: replaced if it is there.
        card: the text of its README.md.
        tokenizer: saved beside it, if given.

    Raises ManifoldLoraError unless exactly one manifold adapter is active.
    """
    adapter = exportable(model)
    saved = get_peft_model_state_dict(model, adapter_name=adapter)
    state = {key: value.detach() for key, value in saved.items() if not _OURS & set(key.split("."))}
    layers = dict(manifold_layers(model))
    for name, layer in layers.items():
        for part, factor in zip("AB", _factors(fits[name], layer, adapter), strict=True):
            key = weight_key(name, part)
            state[key] = factor.to(state[key])
    folder = Path(folder)
    with whole_folder(folder) as work:
        _lora_config(model.peft_config[adapter], layers, adapter).save_pretrained(str(work))
        contiguous = {key: value.cpu().contiguous() for key, value in state.items()}
        save_file(contiguous, work / WEIGHTS, metadata={"format": "pt"})
        write_manifest(work, model.get_base_model())
        (work / "README.md").write_text(card, encoding="utf-8")
        if tokenizer is not None:
            tokenizer.save_pretrained(work)
    return folder


def _lora_config(config: Any, layers: Mapping[str, nn.Module], adapter: str) -> LoraConfig:
    """LoraConfig with the fields of ours; patterns by full names, whose order in the file cannot matter."""
    left_out = {
        "peft_type",
        "peft_version",
        "auto_mapping",
        "rank_pattern",
        "alpha_pattern",
        "runtime_config",
    }
    shared = {
        f.name: getattr(config, f.name) for f in fields(LoraConfig) if f.init and f.name not in left_out
    }
    plain = LoraConfig(**shared)
    plain.inference_mode = True
    for pattern, attribute in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha")):
        if getattr(config, pattern):
            values = {re.escape(name): getattr(layer, attribute)[adapter] for name, layer in layers.items()}
            setattr(plain, pattern, values)
    return plain
