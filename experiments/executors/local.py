"""The local executor: a child process per job, a few at a time, each with its limits and a log file."""

import os
import signal
import time
from collections.abc import Sequence
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from manifold_lora.experiments.executors.base import Executor, Job, Limits, OnProgress, Outcome
from manifold_lora.experiments.executors.child import Ending, Surroundings, child
from manifold_lora.experiments.executors.devices import Devices
from manifold_lora.experiments.executors.fork_server import PRELOAD, fork_server
from manifold_lora.experiments.settings.ablation import AblationSettings

# What multiprocessing reports where the fork server was killed, and nobody saw how its child ended.
UNSEEN = 255
# Seconds that a child may take to exit after its last word.
LEAVING = 5.0


class LocalExecutor(Executor):
    """Runs jobs in child processes of this machine.

    Args:
        jobs: how many at a time; each gets an equal share of the cores as torch threads.
        limits: time, memory and retries of each.
        logs: folder of one log file per job.
        environment: variables of the children, beyond this process's own.
        devices: the GPUs that are divided among them; None to let all see all.
        preload: modules that the fork server imports once, for all children.
    """

    def __init__(
        self,
        jobs: int,
        limits: Limits,
        logs: Path,
        environment: dict[str, str] | None = None,
        devices: Devices | None = None,
        preload: Sequence[str] = PRELOAD,
    ) -> None:
        super().__init__(jobs)
        self.limits, self.logs, self.preload = limits, logs, preload
        self.threads = limits.threads or max(1, (os.cpu_count() or 1) // jobs)
        self.environment = environment or {}
        self.devices = devices or Devices([], 0)

    @classmethod
    def from_settings(cls, settings: AblationSettings, limits: Limits, logs: Path) -> "LocalExecutor":
        """The executor that an ablation asks for."""
        devices = Devices.of_machine(settings.execution.gpus, settings.jobs)
        return cls(settings.jobs, limits, logs, devices=devices)

    def start(self, job: Job) -> "ChildRun":
        """Start a job's first attempt."""
        return ChildRun(self, job)

    def wait(self, runs: list["ChildRun"], seconds: float) -> None:
        """Wait for a message of a child; briefly where memory is watched."""
        pause = seconds if self.limits.memory_mb is None else 0.05
        if runs:
            connection.wait([run.pipe for run in runs], timeout=pause)
        else:
            time.sleep(pause)


class ChildRun:
    """A job in a child process, started again as often as the limits allow if that is killed."""

    def __init__(self, executor: LocalExecutor, job: Job) -> None:
        self.executor, self.job = executor, job
        self.attempts = 0
        self.gpus = executor.devices.lend()
        self._start()

    def _start(self) -> None:
        executor = self.executor
        surroundings = Surroundings(
            executor.logs / f"{self.job.id}.log", executor.threads, executor.environment | self.gpus
        )
        self.attempts += 1
        self.kernel_kills = kernel_kills()
        for left in reversed(range(20)):
            try:
                self.process, self.pipe = self._fork(surroundings)
                # Not before: a fork server that has just been started imports for seconds.
                self.started = time.monotonic()
                return
            except (OSError, EOFError):  # the fork server was killed, and may not look dead yet
                if not left:
                    raise
                time.sleep(0.1)

    def _fork(self, surroundings: Surroundings) -> tuple[BaseProcess, connection.Connection]:
        fork_server(self.executor.preload)
        context = get_context("forkserver")
        ours, theirs = context.Pipe(duplex=True)
        process = context.Process(target=child, args=(self.job, theirs, surroundings), daemon=True)
        with theirs:
            process.start()
        return process, ours

    @property
    def seconds(self) -> float:
        """Since the start of this attempt."""
        return time.monotonic() - self.started

    def poll(self, on_progress: OnProgress) -> Outcome | None:
        """Pass on steps, look at the limits; an outcome once the job has ended."""
        limits = self.executor.limits
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Ending):
                    self.process.join(LEAVING)  # killed at once it would leave semaphores behind
                    return self._outcome(message)
                on_progress(self.job.id, *message)
        except (EOFError, OSError):
            return self._lost()
        if self.seconds > limits.timeout:
            return self._outcome(Ending("timeout", f"no result within {limits.timeout:g} s"))
        if limits.memory_mb is not None and (memory := self._memory_mb()) > limits.memory_mb:
            return self._outcome(Ending("oom", f"{memory:.0f} MB, over the limit of {limits.memory_mb} MB"))
        return None

    def kill(self) -> None:
        """End the child, if it has not ended, and free its GPUs."""
        self._kill()
        self.executor.devices.take_back(self.gpus)
        self.gpus = {}

    def _kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _outcome(self, ending: Ending) -> Outcome:
        outcome = Outcome(
            self.job.id, ending.status, ending.reason, self.seconds, ending.value, ending.traceback
        )
        self.kill()
        return outcome

    def _lost(self) -> Outcome | None:
        """The process ended without a last word: start it again if it was killed, and may be."""
        self.process.join()
        code = self.process.exitcode
        killed = code is not None and (code < 0 or code == UNSEEN)
        if code == -signal.SIGKILL and kernel_kills() > self.kernel_kills:
            return self._outcome(Ending("oom", "the kernel ended the process: out of memory"))
        if killed and self.attempts <= self.executor.limits.retries:
            self._kill()
            self._start()
            return None
        reason = f"the process ended with exit code {code} before it wrote a result"
        if killed:
            name = "an unseen signal" if code == UNSEEN else signal.Signals(-(code or 0)).name
            reason = f"the process was ended by {name}, {self.attempts} of {self.attempts} times"
        return self._outcome(Ending("failed", reason))

    def _memory_mb(self) -> float:
        try:
            return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0


def kernel_kills() -> int:
    """How many processes the kernel of this machine has ended for want of memory; 0 where it does not say."""
    try:
        words = Path("/proc/vmstat").read_text(encoding="ascii").split()
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError):
        return 0
