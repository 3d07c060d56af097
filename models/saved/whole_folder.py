"""Folders that are whole or absent: filled under another name, flushed to the disk, then renamed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_SUFFIX, _LOCK = ".folder-tmp", "lock"


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of ``path`` if the block ends well.

    If it does not, whatever ends it, or the machine stops, what was at ``path`` is there as before; ``sweep``
    removes the rest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent))
    try:
        with FileLock(work / _LOCK):
            (work / "new").mkdir()
            yield work / "new"
            flush(work / "new")
            if path.exists():
                os.replace(path, work / "old")
            os.replace(work / "new", path)
            flush_folder(path.parent)
    finally:
        if (work / "old").exists() and not path.exists():
            os.replace(work / "old", path)
        shutil.rmtree(work, ignore_errors=True)


def sweep(parent: Path, older_than: float = 600.0) -> None:
    """Remove what writers that were killed left in ``parent``, and finish a replacement cut in the middle.

    Args:
        parent: the folder that holds the whole folders.
        older_than: seconds without a change, so that a writer of another machine is left alone; one of this
            machine is, whatever the clock says.
    """
    for work in parent.glob(f".*{_SUFFIX}"):
        path = parent / work.name.removeprefix(".").removesuffix(_SUFFIX).rpartition(".")[0]
        cut = (work / "old").is_dir() and not path.exists()
        if not (cut or time.time() - _changed(work) >= older_than) or _is_held(work):
            continue
        if cut:
            os.replace(work / "old", path)
        shutil.rmtree(work, ignore_errors=True)


def flush(folder: Path) -> None:
    """Have the disk hold all files below a folder, and their names."""
    for entry in [*folder.rglob("*"), folder]:
        _fsync(entry)


def flush_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder."""
    _fsync(folder)


def _is_held(work: Path) -> bool:
    """Whether the writer still runs; what an older version left has no lock."""
    if not (work / _LOCK).exists():
        return False
    try:
        with FileLock(work / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


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
