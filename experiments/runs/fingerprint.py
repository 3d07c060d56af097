"""What a result depends on beside its settings, by content: the base, parts from other packages, texts."""

import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manifold_lora.experiments.settings.run import AUTO, NONE
from manifold_lora.manifolds.plugins import loaded_modules
from manifold_lora.models.content import content_sha256
from manifold_lora.models.shipped import file_sha256

_GROUP = "manifold_lora."
_CODE = {".py", ".so", ".pyd"}


def fingerprint(base: str, commit: str | None) -> str:
    """Hash of a folder's content, or of what a GGUF file was converted to; for a hub name, its commit."""
    from manifold_lora.models.gguf_file import base_folder

    folder = Path(base_folder(base)).expanduser()
    return content_sha256(folder) if folder.is_dir() else f"{base}@{commit}"


def plugin_inputs(settings: dict[str, Any]) -> dict[str, str]:
    """``{"plugins": hash of their sources}``, or nothing where no part comes from outside.

    Args:
        settings: a run or an ablation as plain data; of installed packages, those count that it names.
    """
    text = json.dumps(settings)
    named = [
        point.module
        for group in entry_points().groups
        if group.startswith(_GROUP)
        for point in entry_points(group=group)
        if json.dumps(point.name) in text
    ]
    digest, files = hashlib.sha256(), set()
    for module in [*loaded_modules(), *named]:
        files |= {(path.name, file_sha256(path)) for path in _sources(module)}
    for name, sha256 in sorted(files):
        digest.update(f"{name}:{sha256}\n".encode())
    return {"plugins": digest.hexdigest()} if files else {}


def text_inputs(retention: str) -> dict[str, str]:
    """``{"retention": hash of the text}`` where ``evaluation.retention`` names a file."""
    return {} if retention in (AUTO, NONE) else {"retention": file_sha256(Path(retention))}


def _sources(module: str) -> Iterator[Path]:
    """The code of a module's package; of a module alone, its own and that of its loaded neighbours."""
    spec = find_spec(module.partition(".")[0])
    if spec is None:
        return
    if spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            yield from (path for path in Path(folder).rglob("*") if path.suffix in _CODE)
        return
    if spec.origin is None:
        return
    yield (own := Path(spec.origin))
    if str(own.parent) not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        loaded = [getattr(other, "__file__", None) for other in list(sys.modules.values())]
        yield from (Path(file) for file in loaded if file and Path(file).parent == own.parent)
