"""The local executor: a child process per job, a few at a time, each with a time limit and a log file."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from manifold_lora.manifolds.errors import ManifoldLoraError
from manifold_lora.manifolds.plugins import loaded_modules

# A fresh interpreter imports torch, transformers and peft for seconds; the fork server does it once.
PRELOAD = (
    "datasets",
    "manifold_lora.experiments.evaluate",
    "manifold_lora.experiments.gain_probe",
    "manifold_lora.experiments.run",
    "manifold_lora.experiments.tasks.arithmetic",
    "manifold_lora.experiments.tasks.taxonomy",
    "manifold_lora.experiments.tasks.word_problems",
    "manifold_lora.experiments.train",
    "manifold_lora.models.effective_kappa",
    "manifold_lora.models.load",
    "transformers.models.llama.modeling_llama",
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """A picklable function ``work(*arguments, progress)``, run after the job it needs has succeeded."""

    id: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    needs: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended: ``ok`` (with the work's value), ``failed``, ``timeout``, or the status
    of a ManifoldLoraError (``refused``, ``diverged``), with the error as its value.
    """

    id: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    value: Any = None


@dataclass
class _Running:
    job: Job
    process: BaseProcess
    pipe: Connection
    started: float = field(default_factory=time.monotonic)


def _child(job: Job, pipe: Connection, log: Path, threads: int) -> None:
    # Ctrl-C reaches the whole foreground group; only the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", buffering=1) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.stdout = sys.stderr = stream

        def progress(step: int, total: int) -> None:
            try:
                pipe.send(("progress", step, total))
            except OSError:  # the driver is gone: nobody would use this result's slot
                os._exit(3)

        try:
            import torch

            torch.set_num_threads(threads)
            value = job.work(*job.arguments, progress)
            pipe.send(("end", "ok", "", value))
        except ManifoldLoraError as error:
            traceback.print_exc()
            pipe.send(("end", error.status, str(error), error))
        except Exception as error:
            traceback.print_exc()
            pipe.send(("end", "failed", f"{type(error).__name__}: {error}", None))


class LocalExecutor:
    """Runs jobs in child processes of this machine.

    Args:
        jobs: how many at a time; each gets an equal share of the cores as torch threads.
        timeout: seconds after which a job is killed and ends as ``timeout``.
        logs: folder of one log file per job.
    """

    def __init__(self, jobs: int, timeout: float, logs: Path) -> None:
        self.jobs, self.timeout, self.logs = jobs, timeout, logs
        self._threads = max(1, (os.cpu_count() or 1) // jobs)
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([*PRELOAD, *loaded_modules()])
        self._running: list[_Running] = []
        self._ended: dict[str, Outcome] = {}

    def run(
        self, jobs: Sequence[Job], on_progress: Callable[[str, int, int], None] = lambda *_: None
    ) -> Iterator[Outcome]:
        """Yield each job's outcome as it ends; a job whose need failed ends as failed, never started."""
        waiting = list(jobs)
        names = {job.id for job in jobs}
        try:
            while waiting or self._running:
                yield from self._refuse(waiting)
                self._start(waiting, names)
                yield from self._collect(on_progress)
        finally:
            for running in self._running:
                running.process.kill()
                running.process.join()
            self._running.clear()

    def _refuse(self, waiting: list[Job]) -> Iterator[Outcome]:
        for job in list(waiting):
            need = self._ended.get(job.needs or "")
            if need is not None and need.status != "ok":
                waiting.remove(job)
                yield self._end(
                    Outcome(job.id, "failed", f"the cell it needs ({need.id}) ended as {need.status}")
                )

    def _start(self, waiting: list[Job], names: set[str]) -> None:
        for job in list(waiting):
            if len(self._running) == self.jobs:
                return
            if job.needs in names and job.needs not in self._ended:
                continue
            waiting.remove(job)
            ours, theirs = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=_child, args=(job, theirs, self.logs / f"{job.id}.log", self._threads), daemon=True
            )
            process.start()
            theirs.close()
            self._running.append(_Running(job, process, ours))

    def _collect(self, on_progress: Callable[[str, int, int], None]) -> Iterator[Outcome]:
        wait([running.pipe for running in self._running], timeout=0.5)
        for running in list(self._running):
            outcome = self._poll(running, on_progress)
            if outcome is not None:
                running.process.join()
                running.pipe.close()
                self._running.remove(running)
                yield self._end(outcome)

    def _poll(self, running: _Running, on_progress: Callable[[str, int, int], None]) -> Outcome | None:
        seconds = time.monotonic() - running.started
        try:
            while running.pipe.poll():
                kind, *message = running.pipe.recv()
                if kind == "end":
                    status, reason, value = message
                    return Outcome(running.job.id, status, reason, seconds, value)
                on_progress(running.job.id, *message)
        except EOFError:
            running.process.join()
            reason = f"the process ended with exit code {running.process.exitcode} before it wrote a result"
            return Outcome(running.job.id, "failed", reason, seconds)
        if seconds > self.timeout:
            running.process.kill()
            return Outcome(running.job.id, "timeout", f"no result within {self.timeout:g} s", seconds)
        return None

    def _end(self, outcome: Outcome) -> Outcome:
        self._ended[outcome.id] = outcome
        return outcome
