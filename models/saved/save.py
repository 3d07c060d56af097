"""Adapters on disk: written whole, finite and described, or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.card import model_card, write_model_card
from manifold_lora.models.saved.folders import is_converted
from manifold_lora.models.saved.manifest import CONFIG, write_manifest
from manifold_lora.models.saved.weights_file import check_finite
from manifold_lora.models.saved.whole_folder import sweep, whole_folder
from manifold_lora.models.tuner.targets import check_new_tokens
from manifold_lora.models.vocabulary import added_tokens

# Fields of peft's configs that are sets in memory.
_SETS = {"target_modules", "exclude_modules", "feedforward_modules"}


def save_adapter(
    model: PeftModel,
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    gains: Mapping[str, float] | None = None,
) -> Path:
    """Write the adapters of ``model`` with their configs to the folder ``path``, replacing what was there.

    The folder appears under its name only when it is complete and on the disk. ``manifold_lora.json`` in it
    holds the hashes, shapes and dtypes, the base model and the versions that ``load_adapter`` checks, and
    ``README.md`` the geometry and curvature of every layer.

    Args:
        model: the adapted model.
        path: the folder; of several adapters, those not called ``default`` lie in folders within it.
        tokenizer: saved beside the adapter, if given.
        gains: module name -> median gain of the default adapter, for the model card, if measured.

    Raises ManifoldLoraError for a weight that is NaN or infinite, replicated layers, whose base a manifest
    cannot describe, and a folder that cannot be written.
    """
    folder = Path(path)
    for name in model.peft_config:
        _check_layers(model, name)
        state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        check_finite(f"adapter {name!r} to be saved", state)
    base = model.get_base_model()
    check_new_tokens(base, model.peft_config.values())
    grown = added_tokens(base) > 0
    try:
        with whole_folder(folder) as work:
            model.save_pretrained(str(work), safe_serialization=True, save_embedding_layers=grown)
            _order(work)
            for config in work.rglob(CONFIG):
                _name_base(config, base)
                write_manifest(config.parent, base)
                name = "default" if config.parent == work else config.parent.name
                known = gains if name == "default" else None
                write_model_card(config.parent, model_card(model, name, known))
            if tokenizer is not None:
                tokenizer.save_pretrained(work)
    except (OSError, SafetensorError) as error:
        hint = f"{error}; what was there before is unchanged"
        raise ManifoldLoraError(
            "adapter folder", str(folder), "a folder that can be written", hint
        ) from error
    sweep(folder.parent)
    return folder


def _order(folder: Path) -> None:
    """Sort what is a set in the configs that peft wrote: equal adapters have equal bytes."""
    for path in folder.rglob(CONFIG):
        data = json.loads(path.read_text(encoding="utf-8"))
        for field in _SETS & data.keys():
            if isinstance(data[field], list):
                data[field] = sorted(data[field])
        path.write_text(json.dumps(data, indent=2, sort_keys=True), encoding="utf-8")


def _name_base(path: Path, base: Any) -> None:
    """Have the config name a GGUF file, or what was fetched, and not the folder that it was converted to."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if is_converted(config.get("base_model_name_or_path")):
        config["base_model_name_or_path"] = base.config._name_or_path
        path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _check_layers(model: PeftModel, name: str) -> None:
    replicated = getattr(model.peft_config[name], "layer_replication", None)
    if replicated:
        hint = "the base it is loaded on has other layers than this one; model.save_pretrained writes it"
        raise ManifoldLoraError(f"layer_replication of {name}", replicated, "unset", hint)


def adapter_bytes(model: PeftModel, adapter_name: str = "default") -> int:
    """The size of an adapter's tensors as saved, geometry included."""
    state = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
