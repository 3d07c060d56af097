"""The code of parts from other packages, by content: results of other code are other results."""

import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manifold_lora.manifolds.plugins import loaded_modules
from manifold_lora.models.shipped import file_sha256

_GROUP, _SELF = "manifold_lora.", "manifold_lora"
_CODE = {".py", ".so", ".pyd"}


def plugin_inputs(settings: dict[str, Any]) -> dict[str, str]:
    """``{"plugins": hash of their sources}``, or nothing where no part comes from outside.

    Args:
        settings: what is run, as plain data; of installed packages, those count that it names.
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


def _sources(module: str) -> Iterator[Path]:
    """The files of a module's package, and of what is loaded from beside it unless others install there.

    Of an installed package all files count, of another one its code: results may be written beside that.
    """
    top = module.partition(".")[0]
    for root in _roots(top):
        installed = str(root.parent) in _installed_in()
        yield from _files(root, code_only=not installed)
        if installed:
            continue
        for other in {name.partition(".")[0] for name in list(sys.modules)} - {top, _SELF}:
            for beside in _roots(other):
                if beside.parent == root.parent:
                    yield from _files(beside, code_only=True)


def _roots(top: str) -> list[Path]:
    """The folders of a package, or the file of a module."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):  # __main__ has none
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _files(root: Path, code_only: bool) -> Iterator[Path]:
    for path in [root] if root.is_file() else root.rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and (path.suffix in _CODE or not code_only):
            yield path


def _installed_in() -> tuple[str, str]:
    return sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
