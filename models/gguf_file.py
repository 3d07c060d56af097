"""GGUF files as base models: converted once to a folder of safetensors, which loads twenty times as fast."""

import importlib.util
import json
import tempfile
from pathlib import Path

import torch
from filelock import FileLock
from transformers import __version__ as transformers_version

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.checkpoint import one_line, read_model, read_tokenizer
from manifold_lora.models.saved.folders import CONVERTED, nearby_folders
from manifold_lora.models.saved.whole_folder import sweep, whole_folder
from manifold_lora.models.shipped import SHIPPED, cache_folder, fetched, file_sha256


def base_folder(name: str) -> str:
    """The folder or hub name to read a base model from.

    Args:
        name: a name in SHIPPED, ``FILE.gguf``, or a folder whose only weights are one such file, each of
            which is converted in the cache folder unless that was done before; anything else is returned.

    Raises ManifoldLoraError for a model that is not fetched, a file that is missing, damaged or of an
    architecture that transformers does not read, and where the package gguf is missing.
    """
    file = gguf_file(name)
    return name if file is None else str(converted(file, SHIPPED[name].sha256 if name in SHIPPED else None))


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a name stands for, or None; a folder goes before a shipped model of its name."""
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(path.glob("*.gguf"))
        if not found or any(path.glob("*.safetensors")):
            return None
        if len(found) > 1:
            names = [file.name for file in found]
            raise ManifoldLoraError(
                "GGUF files in folder", str(path), "one", f"name one of {', '.join(names)}"
            )
        return found[0]
    if name in SHIPPED:
        return fetched(name)
    if path.suffix != ".gguf":
        return None
    if not path.is_file():
        beside = [str(file) for file in path.parent.glob("*.gguf")]
        raise UnknownNameError("GGUF file", str(path), nearby_folders(str(path), beside) or "a file")
    return path


def converted(file: Path, sha256: str | None = None) -> Path:
    """A folder with the model in float32, its tokenizer and its chat template, equal to what the file holds.

    Args:
        file: the GGUF file.
        sha256: what its content has to be.
    """
    with one_line("GGUF file", str(file), "a file that can be read"):
        found = file_sha256(file)
    if sha256 is not None and found != sha256:
        hint = "remove it and fetch it again"
        raise ManifoldLoraError("GGUF file", f"{file} with sha256 {found}", f"sha256 {sha256}", hint)
    # Another transformers may read other weights from the same file.
    folder = cache_folder() / "converted" / f"{found[:32]}-transformers-{transformers_version}"
    if folder.is_dir():
        return folder
    if importlib.util.find_spec("gguf") is None:
        hint = "pip install 'manifold-lora[gguf]'"
        raise ManifoldLoraError("package gguf", "not installed", f"it, to read {file}", hint)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                sweep(folder.parent)
                _convert(file, found, folder)
    except OSError as error:
        allowed = f"{folder.parent} can be written, or MANIFOLD_LORA_CACHE names another folder"
        raise ManifoldLoraError("cache folder", str(error), allowed) from error
    return folder


def _convert(file: Path, sha256: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as alone:
        # Alone in its folder, so that nothing but the file itself decides what is read.
        (Path(alone) / file.name).symlink_to(file.absolute())
        options = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
        tokenizer = read_tokenizer(alone, options, str(file))
        model = read_model(alone, {**options, "dtype": torch.float32}, str(file))
    # The weights are plain numbers by now, which these marks deny: save_pretrained would refuse.
    model.hf_quantizer, model.is_quantized = None, False  # type: ignore[assignment]
    del model.config.quantization_config
    with whole_folder(folder) as work:
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        (work / CONVERTED).write_text(json.dumps({"sha256": sha256}) + "\n", encoding="utf-8")
