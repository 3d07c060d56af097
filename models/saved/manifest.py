"""manifold_lora.json: what an adapter's files are, what base they belong to, and what wrote them."""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version
from torch import Tensor, nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.base_identity import describe_base
from manifold_lora.models.saved.weights_file import read_json, read_tensors

FORMAT, MANIFEST = 1, "manifold_lora.json"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_FILES = (CONFIG, WEIGHTS)
_PACKAGES = ("manifold-lora", "peft", "torch", "transformers")
# Those whose next minor version may give the same files another meaning.
_MEANING = ("manifold-lora", "peft")


def write_manifest(folder: Path, base: nn.Module) -> None:
    """Describe the adapter in ``folder``, trained on ``base``, in ``folder/manifold_lora.json``."""
    manifest = {
        "format": FORMAT,
        "files": {name: _file_facts(folder / name) for name in _FILES},
        "tensors": tensor_facts(read_tensors(folder / WEIGHTS)),
        "base": describe_base(base),
        "versions": {name: version(name) for name in _PACKAGES},
    }
    text = json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an adapter, its files checked against it; None if there is none.

    Raises ManifoldLoraError for a manifest of a format or of versions that this one cannot read, that was
    changed, that names other files than an adapter's, or whose files have other hashes.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    manifest: dict[str, Any] = read_json(path, "adapter manifest")
    if manifest.get("format") != FORMAT:
        hint = "install the version of manifold-lora that wrote it"
        raise ManifoldLoraError("format of adapter manifest", manifest.get("format"), f"{FORMAT}", hint)
    if manifest.get("sha256") != _digest(manifest):
        raise ManifoldLoraError(
            "adapter manifest", str(path), "as it was written", "its own hash does not hold"
        )
    try:
        _check_versions(manifest["versions"])
        _check_files(folder, manifest["files"])
        manifest["base"]["config"], manifest["base"]["weights"], manifest["tensors"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ManifoldLoraError):
            raise
        hint = f"{type(error).__name__}: {error}"
        raise ManifoldLoraError("adapter manifest", str(path), "all of its parts", hint) from error
    return manifest


def tensor_facts(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Shape and dtype of tensors, as JSON data."""
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in sorted(tensors.items())
    }


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    for name in files:
        if name not in _FILES:
            raise ManifoldLoraError("file in adapter manifest", name, _FILES, "no other file, no path")
    for name in _FILES:
        try:
            found = _file_facts(folder / name)
        except OSError as error:
            path, reason = str(folder / name), error.strerror or "unreadable"
            raise ManifoldLoraError("adapter file", path, "one that can be read", reason) from error
        if found != files[name]:
            hint = f"its size or sha256 is not that of {MANIFEST}: damaged, or changed after it was saved"
            raise ManifoldLoraError("adapter file", str(folder / name), "as it was saved", hint)


def _check_versions(versions: Mapping[str, str]) -> None:
    for name in _MEANING:
        try:
            written, installed = Version(versions[name]).release[:2], Version(version(name)).release[:2]
        except InvalidVersion:
            raise ManifoldLoraError(f"{name} of adapter", versions[name], "a version") from None
        if written > installed:
            allowed, hint = f"at most {version(name)}, which is installed", f"pip install -U {name}"
            raise ManifoldLoraError(f"{name} that wrote the adapter", versions[name], allowed, hint)


def _file_facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _digest(manifest: Mapping[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()
