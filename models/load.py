"""Loading a base model of any causal architecture, or an adapter on its base, by name or folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.folders import (
    adapter_folder,
    check_model_folder,
    existing_folder,
    has_whole_tokenizer,
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
        name_or_path: a folder, or ``owner/model`` on the Hugging Face hub (read from its cache when offline).
        dtype: the dtype of the weights; ``"auto"`` keeps the one they were saved in.
        device: where to put the model; by default the CPU, or what ``device_map`` among the options says.
        revision: the hub revision.
        options: passed to ``AutoModelForCausalLM.from_pretrained`` (``quantization_config``, ``device_map``).

    Raises ManifoldLoraError for a missing or incomplete folder (with the nearest name), pickled weights, an
    architecture that is not a causal language model, weights that do not fit it, or a missing tokenizer.
    """
    name = str(name_or_path)
    local = is_folder_name(name)
    if local:
        folder = existing_folder("model folder", name)
        check_model_folder(folder)
        name = str(folder)
    common = {"revision": revision, "trust_remote_code": False, "local_files_only": local}
    common = {key: value for key, value in common.items() if value is not None}
    tokenizer = _tokenizer(name, common)
    model = _model(name, {**common, "dtype": dtype, "use_safetensors": True, **options})
    if device is not None:
        nn.Module.to(model, device)
    return model, tokenizer


def _model(name: str, options: dict[str, Any]) -> PreTrainedModel:
    with _told("model", name, "a causal language model in safetensors"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, output_loading_info=True, **options)
    model, found = loaded
    for problem in ("missing_keys", "mismatched_keys"):
        if found.get(problem):
            some = ", ".join(sorted(str(key) for key in found[problem])[:3])
            hint = f"{problem.replace('_', ' ')}: {some}; the model would start from random weights there"
            raise ManifoldLoraError("weights of model", name, "weights for every parameter", hint)
    return model


def load_tokenizer(name_or_path: str, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model alone: a folder, or ``owner/model`` on the hub.

    Raises ManifoldLoraError for a missing folder or tokenizer.
    """
    local = is_folder_name(str(name_or_path))
    name = str(existing_folder("model folder", str(name_or_path))) if local else str(name_or_path)
    options = {"revision": revision} if revision else {}
    return _tokenizer(name, {**options, "trust_remote_code": False, "local_files_only": local})


def _tokenizer(name: str, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    reader = PreTrainedTokenizerFast if has_whole_tokenizer(Path(name)) else AutoTokenizer
    with _told("tokenizer", name, "a folder with tokenizer.json"):
        tokenizer = reader.from_pretrained(name, **options)
    if tokenizer.pad_token_id is None:
        # Padding is masked wherever we use it, so any token will do.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


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
    with _told("adapter config", str(folder), "a config that save_pretrained wrote"), strict_peft():
        config = PeftConfig.from_pretrained(str(folder))
    if model is None:
        if not config.base_model_name_or_path:
            raise ManifoldLoraError("base model of adapter", None, "a name in its config", "pass model=")
        options = {"revision": config.revision, **options}
        model, _ = load_base(config.base_model_name_or_path, **options)
        files.add_tokens(model)
    if check_base:
        with _told("adapter manifest", str(folder), "what save_adapter wrote"):
            files.check_base(model)
    with _told("adapter", str(folder), "weights that fit the model"), strict_peft():
        files.check_fit(model, config)
        return PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable, config=config)


@contextmanager
def _told(asked: str, got: str, allowed: str) -> Iterator[None]:
    """Tell what transformers, peft or safetensors raise as one line of ours."""
    try:
        yield
    except ManifoldLoraError:
        raise
    except Exception as error:  # whatever a library raises about a file is the file's refusal
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first = f"{type(error).__name__}: {lines[0] if lines else ''}"
        raise ManifoldLoraError(asked, got, allowed, first[:300]) from error
