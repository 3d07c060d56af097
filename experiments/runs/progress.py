"""What the person waiting sees of cells: how many are done, those under way with step, loss and time left."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from rich.console import Console

from manifold_lora.experiments.executors.base import Outcome
from manifold_lora.experiments.executors.progress import EVERY, SELDOM, TENTHS, shown_on
from manifold_lora.experiments.training.logs import RunLogs

_CELLS = "cells"
ANSWERING = "answering "


class CellProgress:
    """Cells and what goes before them; use as a context manager.

    Args:
        logs: folder of the cells' `RunLogs`, which the loss is read from.
    """

    def __init__(self, console: Console, logs: Path | None = None) -> None:
        self.console, self.logs = console, logs
        self._shown = shown_on(console)
        self._names: dict[str, str] = {}
        self._losses: dict[str, str] = {}
        self._looked: dict[str, float] = {}
        self._done, self._total = 0, 0

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for job in self._names:
            self._shown.close(job)
        self._shown.__exit__(*error)

    def name(self, names: Mapping[str, str]) -> None:
        """Announce jobs by id and name."""
        self._names |= names

    def begin(self, names: Mapping[str, str], done: int, total: int) -> None:
        """Announce the cells to do, ``done`` of them finished before."""
        self.name(names)
        self._done, self._total = done, total
        self._shown.move(_CELLS, _CELLS, done, total, often=EVERY)

    def wait(self, jobs: int) -> None:
        """Say that what is left is under way elsewhere."""
        self.console.print(f"the last {jobs} cells are under way in other drivers; waiting for them")

    def step(self, job: str, step: int, steps: int, what: str = "") -> None:
        """Say how far a job has come; ``what`` it does, where that is not training."""
        label = f"{self._names[job]}: {what}" if what else self._names[job]
        often = SELDOM if self._total else TENTHS
        self._shown.move(job, label, step, steps, "" if what else self._loss(job), often)

    def _loss(self, job: str) -> str:
        """The loss that the run noted last; looked up at most five times a second."""
        now = time.monotonic()
        if self.logs is not None and now - self._looked.get(job, 0.0) > 0.2:
            self._looked[job] = now
            newest = RunLogs(self.logs, job).last()
            self._losses[job] = f"loss {newest['loss']:.3g}" if newest else ""
        return self._losses.get(job, "")

    def end(self, outcome: Outcome) -> None:
        """Close a job, count it, and print what went wrong, if anything."""
        self._shown.close(outcome.id)
        if outcome.status != "ok":
            line = f"{self._names[outcome.id]}: {outcome.status}: {outcome.reason}"
            self.console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        if self._total:
            self._done += 1
            self._shown.move(_CELLS, _CELLS, self._done, self._total, often=EVERY)
