"""Adapters on disk: written whole or not at all, and checked against the model they are loaded on."""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from manifold_lora.manifolds.errors import ManifoldLoraError

WEIGHTS = "adapter_model.safetensors"


def save_adapter(model: PeftModel, path: str | Path) -> Path:
    """Write the adapters of ``model`` with their configs to the folder ``path``, replacing what was there.

    The folder appears under its name only when it is complete.
    """
    folder = Path(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.save_pretrained(str(work / "new"), safe_serialization=True)
        if folder.exists():
            os.replace(folder, work / "old")
        try:
            os.replace(work / "new", folder)
        except OSError:
            if (work / "old").exists():
                os.replace(work / "old", folder)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def adapter_bytes(model: PeftModel, adapter_name: str = "default") -> int:
    """The size of an adapter's tensors as saved, geometry included."""
    state = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def check_loaded(model: PeftModel, folder: Path, adapter_name: str = "default") -> None:
    """Raise ManifoldLoraError unless ``folder`` holds exactly the adapter's tensors, all finite."""
    expected = set(get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False))
    saved = load_file(folder / WEIGHTS)
    embeddings = {key for key in saved if "lora_" not in key} - expected
    missing, extra = sorted(expected - set(saved)), sorted(set(saved) - expected - embeddings)
    if missing or extra:
        word, keys = ("missing", missing) if missing else ("unknown", extra)
        hint = f"{len(keys)} {word}, the first {keys[0]}"
        raise ManifoldLoraError("tensors of adapter", str(folder), "exactly the adapter's", hint)
    broken = [key for key, tensor in saved.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ManifoldLoraError(
            "tensors of adapter", str(folder), "finite numbers", f"NaN or Inf in {broken[0]}"
        )
