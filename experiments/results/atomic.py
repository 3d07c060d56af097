"""Files that are whole or absent: temp file in the same folder, fsync, rename, fsync of the folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.owner import Owner
from manifold_lora.models.saved.whole_folder import flush_folder

SUFFIX = ".tmp"
# How long a temp file of a machine that cannot be asked counts as being written.
ABANDONED = 3600.0


class StorageError(ManifoldLoraError):
    """A file that could not be written: disk full, no permission, file too large."""

    status = "failed"


@contextmanager
def errors_name_path(path: Path) -> Iterator[None]:
    """Raise OSErrors of the block as StorageError that names ``path`` and says what still holds."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "make room and give the same command again: it goes on from here" if full else ""
        old = "the file that was there before is whole" if path.exists() else "nothing was left there"
        raise StorageError(
            f"writing {path}", error.strerror or str(error), f"a folder with room; {old}", hint
        ) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step; a crash leaves the old file or none, never half of one.

    Raises StorageError, naming the path, where the disk is full or the folder cannot be written.
    """
    temporary = temporary_beside(path)
    with errors_name_path(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_through(temporary, data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def temporary_beside(path: Path) -> Path:
    """A new name in the same folder that tells who writes it."""
    return path.with_name(f".{path.name}.{Owner.current().tag}.{token_hex(4)}{SUFFIX}")


def write_through(path: Path, data: bytes) -> None:
    """Write a new file down to the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sweep_temporaries(*folders: Path) -> list[Path]:
    """Remove the temp files that dead writers left in ``folders``; returns their paths.

    A file whose writer still runs is left alone; where the writer is another machine's or unknown, one that
    was touched within the last hour.
    """
    left = [path for folder in folders for path in folder.glob(f".*{SUFFIX}") if _abandoned(path)]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _abandoned(path: Path) -> bool:
    owner = Owner.parse(path.name.split(".")[-3])
    alive = owner.alive() if owner else None
    if alive is not None:
        return not alive
    try:
        os.utime(path.parent)  # the clock of the file system, which another machine's writer goes by too
        return path.parent.stat().st_mtime - path.stat().st_mtime > ABANDONED
    except OSError:
        return False
