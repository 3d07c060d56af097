"""What a result depends on beside its settings, by content: the base, and texts."""

from pathlib import Path

from manifold_lora.experiments.settings.run import AUTO, NONE
from manifold_lora.models.content import content_sha256
from manifold_lora.models.shipped import file_sha256


def fingerprint(base: str, commit: str | None) -> str:
    """Hash of a folder's content, or of what a GGUF file was converted to; for a hub name, its commit."""
    from manifold_lora.models.gguf_file import base_folder

    folder = Path(base_folder(base)).expanduser()
    return content_sha256(folder) if folder.is_dir() else f"{base}@{commit}"


def text_inputs(retention: str) -> dict[str, str]:
    """``{"retention": hash of the text}`` where ``evaluation.retention`` names a file."""
    return {} if retention in (AUTO, NONE) else {"retention": file_sha256(Path(retention))}
