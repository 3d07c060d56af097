"""The drivers at work in a folder: each keeps a file there and touches it as long as it lives."""

import contextlib
import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from types import TracebackType

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.experiments.results.owner import Owner


class DriverHeartbeat:
    """This driver among the drivers of a folder; use as a context manager.

    A driver of this machine lives while its file is there and its process runs, whatever the clock says; one
    of another machine while its file was touched within ``stale`` seconds, by the clock of the file system.
    Leaving the block removes the file: whatever the
    driver held is free at once. Entering raises ManifoldLoraError where a living driver does other work.

    Args:
        folder: the folder the drivers share.
        work: what this driver does, e.g. a hash of its cells.
        stale: seconds of silence after which a driver of another machine counts as dead; the file is touched
            six times as often.
    """

    def __init__(self, folder: Path, work: str, stale: float) -> None:
        self.folder, self.work, self.stale = folder / ".drivers", work, stale
        self.token = token_hex(8)
        self.path = self._path(self.token)
        self._text = json.dumps({**asdict(Owner.current()), "work": work})
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "DriverHeartbeat":
        write_text(self.path, self._text)
        # After the file is there: of two that start at once with different work, one at least sees the other.
        if set(self.others().values()) - {self.work}:
            self.path.unlink(missing_ok=True)
            raise ManifoldLoraError(
                "output folder",
                str(self.folder.parent),
                "a folder where no driver is at work on other cells",
                "wait for it, give it the same settings, or give another --output",
            )
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join()
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(self.stale / 6):
            # A folder that is away for a moment must not end the beat: the others judge by its age.
            with contextlib.suppress(OSError, ValueError):
                try:
                    os.utime(self.path)
                except FileNotFoundError:
                    write_text(self.path, self._text)

    def lives(self, token: str) -> bool:
        """Whether the driver of that token, this one included, is at work."""
        if token == self.token:
            return True
        path = self._path(token)
        try:
            # Opened, because a network file system looks afresh at what is opened.
            with path.open(encoding="utf-8") as file:
                data = json.load(file)
                touched = os.fstat(file.fileno()).st_mtime
            owner = Owner(data["host"], data["pid"], data["started"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        except OSError:  # away for a moment: nobody's death
            return True
        alive = owner.alive()
        return self._now() - touched <= self.stale if alive is None else alive

    def others(self) -> dict[str, str]:
        """The other drivers at work: their tokens and what each does. Files of dead ones are removed."""
        found = {}
        for path in self.folder.glob("*.json"):
            token = path.stem
            if token == self.token:
                continue
            if not self.lives(token):
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(OSError, ValueError, KeyError):
                found[token] = str(json.loads(path.read_text(encoding="utf-8"))["work"])
        return found

    def age(self, path: Path) -> float:
        """Seconds since a file was touched, by the clock of the file system."""
        return self._now() - path.stat().st_mtime

    def _path(self, token: str) -> Path:
        return self.folder / f"{token}.json"

    def _now(self) -> float:
        # The clocks of two machines may differ; that of the file system is the same for both.
        try:
            os.utime(self.path)
        except FileNotFoundError:
            write_text(self.path, self._text)
        return self.path.stat().st_mtime
