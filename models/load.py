"""Loading a base model of any causal architecture, or an adapter on its base, by name or folder."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.base_config import check_base_config, check_generation_config
from manifold_lora.models.checkpoint import one_line, read_model, read_tokenizer
from manifold_lora.models.gguf_file import base_folder
from manifold_lora.models.saved.folders import (
    adapter_folder,
    check_model_folder,
    existing_folder,
    is_converted,
    is_folder_name,
)
from manifold_lora.models.saved.verify import AdapterFiles
from manifold_lora.models.tuner import bottleneck, config  # noqa: F401  (registers methods, so checkpoints load)
from manifold_lora.models.tuner.apply import strict_peft


def load_base(
    name_or_path: str,
    dtype: torch.dtype | str = "auto",
    *,
    device: torch.device | str | None = None,
    revision: str | None = None,
    **options: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, from safetensors and without running code of the checkpoint.

    Args:
        name_or_path: a folder, a GGUF file, ``owner/model`` on the Hugging Face hub (read from its cache when
            offline), or the name of a model that ``manifold-lora fetch`` has fetched (``"smollm2"``).
        dtype: the dtype of the weights; ``"auto"`` keeps the one they were saved in.
        device: where to put the model; by default the CPU, or what ``device_map`` among the options says.
        revision: the hub revision.
        options: passed to ``AutoModelForCausalLM.from_pretrained`` (``quantization_config``, ``device_map``).

    Raises ManifoldLoraError for a missing or incomplete folder (with the nearest name), pickled weights, an
    architecture that is not a causal language model, weights that do not fit it, or a missing tokenizer.
    """
    name, common = _found(str(name_or_path), revision)
    if common["local_files_only"]:
        check_model_folder(Path(name))
        check_base_config(Path(name))
        check_generation_config(Path(name))
    tokenizer = read_tokenizer(name, common)
    model = read_model(name, {**common, "dtype": dtype, "use_safetensors": True, **options})
    if is_converted(name):
        # What save_adapter writes: another machine can have the file, but not this one's cache.
        model.config._name_or_path = str(name_or_path)
    if device is not None:
        nn.Module.to(model, device)
    return model, tokenizer


def load_tokenizer(name_or_path: str, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model alone, by the names that ``load_base`` takes.

    Raises ManifoldLoraError for a missing folder or tokenizer.
    """
    return read_tokenizer(*_found(str(name_or_path), revision))


def _found(name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What to read a base model from, and how."""
    name = base_folder(name)
    local = is_folder_name(name)
    if local:
        name = str(existing_folder("model folder", name))
    options = {"revision": revision} if revision else {}
    return name, {**options, "trust_remote_code": False, "local_files_only": local}


def load_adapter(
    path: str | Path,
    model: PreTrainedModel | None = None,
    *,
    is_trainable: bool = False,
    check_base: bool = True,
    require_manifest: bool = False,
    revision: str | None = None,
    **options: Any,
) -> PeftModel:
    """A saved adapter, ours or peft's own, on its base model.

    Args:
        path: the folder that ``save_adapter`` or ``save_pretrained`` wrote, or ``owner/adapter`` on the hub.
        model: the base model; by default the one named in the adapter's config, by ``load_base``.
        is_trainable: whether to go on training it.
        check_base: refuse a base that is not the one the adapter's manifest describes.
        require_manifest: refuse an adapter without a manifest, whose hashes, base and versions nobody knows.
            By default it loads, all other checks made, with a warning.
        revision: of the adapter, on the hub.
        options: passed to ``load_base``.

    Raises ManifoldLoraError, with neither a weight nor a module of the model touched, for a missing folder,
    pickled weights, a config with an unknown key or value, hashes or versions that do not hold, another base,
    or tensors that are missing, unknown, not finite or of another shape than the model's.
    """
    folder = adapter_folder(str(path), revision)
    files = AdapterFiles(folder, require_manifest)
    with one_line("adapter config", str(folder), "a config that save_pretrained wrote"), strict_peft():
        config = PeftConfig.from_pretrained(str(folder))
    if model is None:
        if not config.base_model_name_or_path:
            raise ManifoldLoraError("base model of adapter", None, "a name in its config", "pass model=")
        options = {"revision": config.revision, **options}
        model, _ = load_base(config.base_model_name_or_path, **options)
        files.add_tokens(model)
    if is_converted(model.name_or_path):
        # peft looks there when it saves, and would ask the hub for a name that it does not know.
        config.base_model_name_or_path = model.name_or_path
    if check_base:
        with one_line("adapter manifest", str(folder), "what save_adapter wrote"):
            files.check_base(model)
    with one_line("adapter", str(folder), "weights that fit the model"), strict_peft():
        files.check_fit(model, config)
        return PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable, config=config)
