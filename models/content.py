"""What a model is, by the content of every file that loading it may open."""

import hashlib
from pathlib import Path

from manifold_lora.models.shipped import file_sha256

# Weights, configs, vocabularies of all kinds of tokenizers, chat templates; no pickles, no code, no prose.
_READ = {".safetensors", ".gguf", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".vocab"}


def content_sha256(folder: Path) -> str:
    """One hash of the names and contents of a model's or an adapter's files, subfolders left out but for
    ``additional_chat_templates``."""
    digest = hashlib.sha256()
    for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*")]):
        if path.is_file() and (path.suffix in _READ or path.name.startswith("tokenizer")):
            digest.update(f"{path.relative_to(folder)}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()
