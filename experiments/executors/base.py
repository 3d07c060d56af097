"""What every executor does: run jobs, a few at a time, and tell how each ended."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from manifold_lora.experiments.settings.ablation import AblationSettings

# Called with (id of the job, step, steps), and with what is done where that is not training.
OnProgress = Callable[..., None]
PAUSE = 0.5


@dataclass(frozen=True)
class Job:
    """A picklable function ``work(*arguments, progress)``, which may run once the job it needs succeeded.

    ``settings`` are plain data that a record of the job begins with; ``name`` is what a person sees.
    """

    id: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    needs: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: ``ok`` (with the work's value), ``failed``, ``timeout``, ``oom``, or the status of a
    ManifoldLoraError (``refused``, ``diverged``), with the error as its value.
    """

    id: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    value: Any = None
    traceback: str = ""


@dataclass(frozen=True)
class Limits:
    """What one job may use.

    Args:
        timeout: seconds after which an attempt is ended, as ``timeout``.
        memory_mb: resident memory above which it is ended, as ``oom``; None for no limit.
        retries: how often a job is started again whose process died by no fault of its own (killed, machine
            lost). A job that raised an error is not started again.
        threads: torch threads; None for an equal share of the cores.
    """

    timeout: float = 3600.0
    memory_mb: int | None = None
    retries: int = 2
    threads: int | None = None


class Run(Protocol):
    """A job under way."""

    def poll(self, on_progress: OnProgress) -> Outcome | None:
        """Pass on its steps; its outcome once it has ended."""

    def kill(self) -> None:
        """End it now and for good."""


class Executor(ABC):
    """Runs jobs, ``jobs`` of them at a time."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: AblationSettings, limits: Limits, logs: Path) -> "Executor":
        """The executor that an ablation asks for; ``logs`` is the folder of one log file per job."""

    @abstractmethod
    def start(self, job: Job) -> Run:
        """Start a job."""

    def wait(self, runs: list[Any], seconds: float) -> None:
        """Wait until a run has something to tell, ``seconds`` at most."""
        time.sleep(min(seconds, 0.1))

    def close(self) -> None:  # noqa: B027
        """Let go of what the executor opened."""

    def run(
        self, jobs: Iterable[Job | None], on_progress: OnProgress = lambda *_: None
    ) -> Generator[Outcome, None, None]:
        """Yield each job's outcome as it ends.

        Args:
            jobs: taken one by one as slots become free; None where there is none to start at the moment, but
                there may be later.
            on_progress: called with (id, step, steps).

        Leaving the iteration early, by an error or Ctrl-C too, ends all jobs under way.
        """
        source, running, more = iter(jobs), dict[str, Run](), True
        try:
            while more or running:
                more = more and self._fill(source, running)
                if more or running:
                    self.wait(list(running.values()), PAUSE)
                for name, run in list(running.items()):
                    outcome = run.poll(on_progress)
                    if outcome is not None:
                        del running[name]
                        yield outcome
        finally:
            for run in running.values():
                run.kill()
            self.close()

    def _fill(self, source: Iterator[Job | None], running: dict[str, Run]) -> bool:
        """Start jobs while slots are free; whether there may be more."""
        while len(running) < self.jobs:
            try:
                job = next(source)
            except StopIteration:
                return False
            if job is None:
                break
            running[job.id] = self.start(job)
        return True
