"""Folders that are whole or absent: filled under another name, flushed to the disk, then renamed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".folder-tmp"


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of ``path`` if the block ends well.

    If it does not, or the machine stops, what was at ``path`` is there as before; ``sweep`` removes the rest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent))
    try:
        (work / "new").mkdir()
        yield work / "new"
        flush(work / "new")
        _replace(work, path)
        flush_folder(path.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep(parent: Path, older_than: float = 600.0) -> None:
    """Remove what writers that were killed left in ``parent``, and finish a replacement cut in the middle.

    Args:
        parent: the folder that holds the whole folders.
        older_than: seconds without a change, so that a writer at work is left alone.
    """
    for work in parent.glob(f".*{_SUFFIX}"):
        path = parent / work.name.removeprefix(".").removesuffix(_SUFFIX).rpartition(".")[0]
        if (work / "old").is_dir() and not path.exists():
            os.replace(work / "old", path)
        elif time.time() - _changed(work) < older_than:
            continue
        shutil.rmtree(work, ignore_errors=True)


def flush(folder: Path) -> None:
    """Have the disk hold all files below a folder, and their names."""
    for entry in [*folder.rglob("*"), folder]:
        _fsync(entry)


def flush_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder."""
    _fsync(folder)


def _replace(work: Path, path: Path) -> None:
    if path.exists():
        os.replace(path, work / "old")
    try:
        os.replace(work / "new", path)
    except OSError:
        if (work / "old").exists():
            os.replace(work / "old", path)
        raise


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _changed(folder: Path) -> float:
    try:
        return max(entry.stat().st_mtime for entry in [folder, *folder.rglob("*")])
    except OSError:
        return time.time()
