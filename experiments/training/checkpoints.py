"""Resumable checkpoints of one run: whole or absent, hashed, and believed only if every hash holds."""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.whole_folder import sweep, whole_folder

FORMAT, MANIFEST = 1, "checkpoint.json"
_NAME = re.compile(r"checkpoint-(\d{6,})")

log = logging.getLogger(__name__)


class CheckpointError(ManifoldLoraError):
    """A checkpoint that could not be written; those before it stay valid."""

    status = "failed"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: the steps done, its folder, and its files by name."""

    step: int
    folder: Path
    files: Mapping[str, bytes]


class Checkpoints:
    """The checkpoints ``folder/checkpoint-000010``, ... of a run that nobody else writes at the same time.

    Args:
        folder: theirs alone.
        keep: how many of the newest to keep; more than one, so that a damaged one has a predecessor.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        self.refused: list[str] = []

    def save(self, step: int, files: Mapping[str, bytes]) -> Path:
        """Write the checkpoint of a step and drop the oldest beyond ``keep``.

        Raises CheckpointError, naming the path, where the disk is full or does not let us write.
        """
        path = self.folder / f"checkpoint-{step:06d}"
        manifest = {"format": FORMAT, "step": step, "files": {n: _facts(data) for n, data in files.items()}}
        try:
            with whole_folder(path) as work:
                for name, data in files.items():
                    (work / name).write_bytes(data)
                (work / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            last = max(self._folders(), default=None)
            kept = f"; the checkpoint of step {last} stays" if last is not None else ""
            hint = f"{error.strerror or error}{kept}; make room, then run the same command again"
            raise CheckpointError(
                f"checkpoint of step {step}", str(path), "a disk with room", hint
            ) from error
        for old in sorted(self._folders())[: -self.keep]:
            shutil.rmtree(self._folders()[old], ignore_errors=True)
        return path

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies; why newer ones do not is logged and put in ``refused``.

        What a killed run left half-written is removed.
        """
        sweep(self.folder, older_than=0.0)
        self.refused = []
        for step, folder in sorted(self._folders().items(), reverse=True):
            try:
                return Checkpoint(step, folder, _verified(step, folder))
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.refused.append(f"{folder.name}: {_reason(error)}")
                log.warning("checkpoint set aside: %s: %s", folder, _reason(error))
        return None

    def summary(self) -> str:
        """Where the same run goes on from."""
        newest = self.newest()
        if newest is None:
            return "no checkpoint (train.checkpoint_every): the same command starts at step 0 again"
        return f"the same command goes on from step {newest.step}"

    def clear(self) -> None:
        """Remove them all: the run's result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _folders(self) -> dict[int, Path]:
        if not self.folder.is_dir():
            return {}
        matches = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(match[1]): path for match, path in matches if match}


def _facts(data: bytes) -> dict[str, object]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _verified(step: int, folder: Path) -> dict[str, bytes]:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if (manifest["format"], manifest["step"]) != (FORMAT, step):
        raise ValueError(f"{MANIFEST} is of format {manifest['format']} and step {manifest['step']}")
    files = {}
    for name, facts in manifest["files"].items():
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no file name")
        files[name] = (folder / name).read_bytes()
        if _facts(files[name]) != facts:
            raise ValueError(f"{name} is not as it was written ({len(files[name])} bytes)")
    return files


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    return f"no {error}" if isinstance(error, KeyError) else str(error)
