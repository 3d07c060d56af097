"""Model and adapter folders: found, complete and free of pickles, or a reason why not."""

import json
import os
import re
from difflib import get_close_matches
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError, UnknownNameError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "manifold_lora.json")

# What lies in a folder that a GGUF file was converted to: the file's hash.
CONVERTED = "gguf.json"


def is_converted(name: str | None) -> bool:
    """Whether a model's name is the folder that a GGUF file was converted to."""
    return (Path(name or "") / CONVERTED).is_file()


def is_folder_name(name: str) -> bool:
    """Whether ``name`` means a folder rather than ``owner/model`` on the Hugging Face hub."""
    return (
        os.path.isdir(name)
        or name.startswith((".", "/", "~"))
        or name.count("/") > 1
        or os.sep == "\\" in name
    )


def existing_folder(what: str, name: str, *holding: str) -> Path:
    """The folder, or UnknownNameError naming the nearest folders beside where it should be.

    Args:
        holding: files of which a folder that is named must hold one; any folder without them.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    parent = folder.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    beside = [
        str(entry)
        for entry in parent.iterdir()
        if entry.is_dir() and (not holding or any((entry / file).is_file() for file in holding))
    ]
    raise UnknownNameError(what, str(folder), nearby_folders(str(folder), beside) or f"a folder in {parent}")


def adapter_folder(name: str, revision: str | None = None) -> Path:
    """The folder of an adapter by its path, or of ``owner/adapter`` fetched from the Hugging Face hub.

    Raises ManifoldLoraError for a missing folder, with the nearest name, or a hub name that cannot be had.
    """
    if is_folder_name(name) or not _HUB_NAME.fullmatch(name) or Path(name).parent.is_dir():
        return existing_folder("adapter folder", name, _ADAPTER_FILES[0])
    from huggingface_hub import snapshot_download

    try:
        # Nothing else is fetched: neither pickles nor code.
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(_ADAPTER_FILES)))
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:200]
        raise ManifoldLoraError(
            "adapter", name, "a folder, or a name on the Hugging Face hub", reason
        ) from error
    if not (folder / _ADAPTER_FILES[1]).is_file():
        hint = "pickled weights (adapter_model.bin) can run code: they are neither fetched nor opened"
        raise ManifoldLoraError("adapter", name, f"a repository with {_ADAPTER_FILES[1]}", hint)
    return folder


def nearby_folders(name: str, candidates: list[str]) -> list[str]:
    """The candidates that look most like ``name``, nearest first, so that messages stay short."""
    return get_close_matches(name, candidates, n=5, cutoff=0.6)


def check_model_folder(folder: Path) -> None:
    """Raise ManifoldLoraError unless the folder holds a config and safetensors weights."""
    _require(folder, "model folder", "config.json")
    _require_safetensors(
        folder, "model folder", ("model*.safetensors", "*.safetensors"), "pytorch_model*.bin"
    )


def check_adapter_folder(folder: Path) -> None:
    """Raise ManifoldLoraError unless the folder holds an adapter's config and safetensors weights."""
    config, weights, _ = _ADAPTER_FILES
    _require(folder, "adapter folder", config)
    _require_safetensors(folder, "adapter folder", (weights,), "adapter_model.bin")


def has_whole_tokenizer(folder: Path) -> bool:
    """Whether ``tokenizer.json`` is all there is to the tokenizer, as transformers 5 writes it.

    AutoTokenizer rebuilds the tokenizer of some families (Qwen2) from the family's own class even then, and
    drops whatever that class does not know.
    """
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    named = isinstance(config, dict) and config.get("tokenizer_class") == "TokenizersBackend"
    return named and (folder / "tokenizer.json").is_file()


def _require(folder: Path, what: str, filename: str) -> None:
    if not (folder / filename).is_file():
        raise ManifoldLoraError(what, str(folder), f"a folder with {filename}")


def _require_safetensors(folder: Path, what: str, wanted: tuple[str, ...], pickled: str) -> None:
    if any(path.is_file() for pattern in wanted for path in folder.glob(pattern)):
        return
    hint = "its weights are pickle files, which can run code; save them again as safetensors"
    raise ManifoldLoraError(
        what, str(folder), f"a folder with {wanted[0]}", hint if any(folder.glob(pickled)) else ""
    )
