"""Claims on cells: each cell is one driver's at a time, and a dead driver's claim is taken over once."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.atomic import errors_name_path, temporary_beside, write_through
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.sweeps.heartbeat import DriverHeartbeat

PLACE = ".claims"
# Seconds between a working cell's looks at its claim.
LOOK = 10.0
RELEASED = ".released"
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class Claims:
    """Claims of the drivers that share a folder: ``.claims/<cell>/<n>`` names the driver that holds a cell.

    Numbers only grow. The highest one holds; a claim that is released (renamed ``<n>.released``) or whose
    driver died is followed by ``n + 1``, and of all drivers that try, the file system lets one make that
    name. So no driver ever removes another's claim, which could by then be a third one's.
    """

    def __init__(self, folder: Path, driver: DriverHeartbeat) -> None:
        self.folder, self.driver = folder / PLACE, driver

    def take(self, cell: str) -> bool:
        """Claim a cell; False where a living driver holds it, this one too."""
        last = self._last(cell)
        if last and self._holder(cell, last) is not None:
            return False
        mine = last + 1
        if not self._create(self._path(cell, mine)):
            return False
        if self._last(cell) != mine:
            # Somebody went further while this driver slept between looking and claiming.
            self._path(cell, mine).unlink(missing_ok=True)
            return False
        for number, path in _claims(self.folder / cell):
            if number < mine:
                path.unlink(missing_ok=True)
        return True

    def release(self, cell: str) -> None:
        """Give a cell free if this driver still holds it."""
        last = self._last(cell)
        if last and self._holder(cell, last) == self.driver.token:
            path = self._path(cell, last)
            path.replace(path.with_name(path.name + RELEASED))

    def holds(self, cell: str) -> bool:
        """Whether this driver holds a cell: it may have slept so long that another took it over."""
        last = self._last(cell)
        return bool(last) and self._holder(cell, last) == self.driver.token

    def _holder(self, cell: str, number: int) -> str | None:
        """The token of the living driver that holds a claim, or None."""
        path = self._path(cell, number)
        try:
            token = path.read_text(encoding="utf-8")
            if not token and self.driver.age(path) <= self.driver.stale:
                return "about to be written"
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            return "not readable for the moment"
        return token if self.driver.lives(token) else None

    def _create(self, path: Path) -> bool:
        """Make a claim that must not be there yet, whole at once; False if another made it."""
        temporary, token = temporary_beside(path), self.driver.token.encode()
        with errors_name_path(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                write_through(temporary, token)
                os.link(temporary, path)
                return True
            except FileExistsError:
                # A network file system may lose its answer to a link that it made.
                return temporary.stat().st_nlink == 2
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return _create_in_steps(path, token)
            finally:
                temporary.unlink(missing_ok=True)

    def _last(self, cell: str) -> int:
        return max((number for number, _ in _claims(self.folder / cell)), default=0)

    def _path(self, cell: str, number: int) -> Path:
        return self.folder / cell / str(number)


def _claims(folder: Path) -> Iterator[tuple[int, Path]]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        number = name.removesuffix(RELEASED)
        if number.isdecimal():
            yield int(number), folder / name


@dataclass(frozen=True)
class LockedWork:
    """A cell's work, done only as long as it has to be: a queue may start it late, and outlive its driver."""

    work: Callable[..., Any]
    folder: Path
    cell: str
    driver: str

    def __call__(self, *arguments: Any) -> Any:
        """Do the work; raises ManifoldLoraError once another driver has taken the cell over.

        Args:
            arguments: the work's own; the last one is a function of (step, steps) that the work calls.
        """
        if ResultStore(self.folder).done(self.cell):
            return None
        *given, progress = arguments
        looked = 0.0

        def look_and_tell(*at: Any) -> None:
            nonlocal looked
            if time.monotonic() - looked > LOOK:
                self._look()
                looked = time.monotonic()
            progress(*at)

        self._look()
        return self.work(*given, look_and_tell)

    def _look(self) -> None:
        last = max(_claims(self.folder / PLACE / self.cell), default=None)
        try:
            holder = last[1].read_text(encoding="utf-8") if last else self.driver
        except FileNotFoundError:  # just released: by this driver, or for another to take
            return
        if holder != self.driver:
            hint = "this driver was taken for dead"
            raise ManifoldLoraError(f"cell {self.cell}", holder, f"held by {self.driver}", hint)


def _create_in_steps(path: Path, token: bytes) -> bool:
    """As `Claims._create` on a file system without links: there the claim is empty for a moment."""
    try:
        write_through(path, token)
    except FileExistsError:
        return False
    return True
