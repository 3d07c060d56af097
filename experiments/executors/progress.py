"""What the person waiting sees of long work: bars on a terminal, a line now and then in a log file."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

TENTHS, EVERY, SELDOM = 10, 0, -1
_MINUTE = 60.0


class Shown(Protocol):
    """Long work as it is shown; a context manager."""

    def move(self, key: str, label: str, done: int, total: int, note: str = "", often: int = TENTHS) -> None:
        """Say how far something has come; the first call opens it, another label or total opens it anew.

        Args:
            key: which work.
            label: what it is called.
            note: what else there is to say, after a comma.
            often: a line in a log file at each tenth (TENTHS), at each call (EVERY), or by the minute
                alone (SELDOM).
        """

    def close(self, key: str) -> None:
        """It is over, or given up."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def shown_on(console: Console) -> Shown:
    """Bars where the console is a terminal, lines where it is a file or a pipe."""
    return Bars(console) if console.is_terminal else Lines(console)


class Bars:
    """A bar for each work under way."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._tasks: dict[str, tuple[TaskID, str, int]] = {}

    def move(self, key: str, label: str, done: int, total: int, note: str = "", often: int = TENTHS) -> None:
        """Move a bar."""
        line = escape(f"{label}, {note}" if note else label)
        if self._tasks.get(key, ())[1:] == (label, total):
            self._bars.update(self._tasks[key][0], completed=done, description=line)
        else:
            self.close(key)
            task = self._bars.add_task(line, total=total, completed=done)
            self._tasks[key] = (task, label, total)

    def close(self, key: str) -> None:
        """Remove a bar."""
        if key in self._tasks:
            self._bars.remove_task(self._tasks.pop(key)[0])

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()


@dataclass
class _Work:
    label: str
    total: int
    first: int
    started: float
    said: int = 0
    said_at: float = 0.0


class Lines:
    """A line at each tenth of the work, and one a minute where a tenth takes longer."""

    def __init__(self, console: Console) -> None:
        self._console, self._works = console, dict[str, _Work]()

    def move(self, key: str, label: str, done: int, total: int, note: str = "", often: int = TENTHS) -> None:
        """Print how far it has come and how long it takes yet, if a line is due."""
        now, work = time.monotonic(), self._works.get(key)
        if work is None or (work.label, work.total) != (label, total):
            work = self._works[key] = _Work(label, total, done, now, said_at=now)
        size = 1 if often == EVERY else max(1, -(-total // 10))
        reached = done // size > work.said // size or done == total > work.said
        if (often == SELDOM or not reached) and now - work.said_at < _MINUTE:
            return
        work.said, work.said_at = done, now
        parts = [f"{label}: {done} of {total}", note, _left(work, done, now - work.started)]
        line = ", ".join(filter(None, parts))
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self, key: str) -> None:
        """Forget it."""
        self._works.pop(key, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is open."""


def _left(work: _Work, done: int, seconds: float) -> str:
    if done == work.first or done >= work.total:
        return ""
    left = seconds * (work.total - done) / (done - work.first)
    return f"{timedelta(seconds=round(left))} left"
