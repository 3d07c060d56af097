"""What the person waiting sees: cells done, the cells under way with their steps, time left."""

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from manifold_lora.experiments.executors.base import Outcome
from manifold_lora.experiments.training.logs import RunLogs


class CellProgress:
    """A rich progress bar of cells, with one line for each cell under way; use as a context manager.

    Args:
        logs: folder of the cells' `RunLogs`, which the loss is read from.
    """

    def __init__(self, console: Console, logs: Path | None = None) -> None:
        self.console, self.logs = console, logs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._names: dict[str, str] = {}
        self._lines: dict[str, TaskID] = {}
        self._losses: dict[str, str] = {}
        self._looked: dict[str, float] = {}
        self._cells: TaskID | None = None

    def __enter__(self) -> "CellProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines.values():
            self._bar.remove_task(line)
        self._bar.stop()

    def name(self, names: dict[str, str]) -> None:
        """Announce jobs by id and name."""
        self._names |= names

    def begin(self, names: dict[str, str], done: int, total: int) -> None:
        """Announce the cells to do and open the bar of all, ``done`` of them finished before."""
        self.name(names)
        self._cells = self._bar.add_task("[bold]cells", total=total, completed=done)

    def wait(self, jobs: int) -> None:
        """Say that what is left is under way elsewhere."""
        self.console.print(f"the last {jobs} cells are under way in other drivers; waiting for them")

    def step(self, job: str, step: int, steps: int) -> None:
        """Move the line of a job; the first call opens it."""
        if job not in self._lines:
            self._lines[job] = self._bar.add_task(self._names[job], total=steps)
        told = f"{self._names[job]}{self._loss(job)}"
        self._bar.update(self._lines[job], completed=step, total=steps, description=told)

    def _loss(self, job: str) -> str:
        """The loss that the run noted last; looked up at most five times a second."""
        now = time.monotonic()
        if self.logs is not None and now - self._looked.get(job, 0.0) > 0.2:
            self._looked[job] = now
            newest = RunLogs(self.logs, job).last()
            self._losses[job] = f"  loss {newest['loss']:.3g}" if newest else ""
        return self._losses.get(job, "")

    def end(self, outcome: Outcome) -> None:
        """Close a job's line, count it, and print what went wrong, if anything."""
        if outcome.id in self._lines:
            self._bar.remove_task(self._lines.pop(outcome.id))
        if self._cells is not None:
            self._bar.advance(self._cells)
        if outcome.status != "ok":
            self.console.print(f"[red]{self._names[outcome.id]}: {outcome.status}: {outcome.reason}")
