"""The Ray executor: each job is a core task, and Ray starts it again when its worker or node is lost."""

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.base import Executor, Job, Limits, OnProgress, Outcome
from manifold_lora.experiments.executors.fork_server import PRELOAD
from manifold_lora.experiments.executors.interrupt import kept_handlers
from manifold_lora.experiments.executors.supervisor import Supervisor
from manifold_lora.experiments.settings.ablation import AblationSettings

# Read by Ray when it is imported and when it starts processes.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
RUNNING = "auto, or host:port of a running one"
# Makes a Ray of one machine listen on 127.0.0.1 alone, on every system; Ray offers no other way.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class RayExecutor(Executor):
    """Runs jobs as Ray tasks: in the running Ray, in the cluster at ``address``, or in one of its own.

    A Ray of its own is this machine alone, listens on 127.0.0.1, and ends with the run. Output and cache
    folders must be the same for all nodes. Usage statistics are off.

    Args:
        jobs: how many tasks at a time, here and in the queue of the cluster.
        limits: time and memory of each; ``retries`` counts lost workers and nodes too.
        logs: folder of one log file per job.
        address: ``auto`` or ``host:port`` of a cluster to join.
        gpus: of each task; may be a fraction.
        preload: modules that a worker's fork server imports once.

    Raises ManifoldLoraError if Ray is not installed, or no cluster answers at ``address``.
    """

    def __init__(
        self,
        jobs: int,
        limits: Limits,
        logs: Path,
        address: str | None = None,
        gpus: float = 0.0,
        preload: tuple[str, ...] = PRELOAD,
    ) -> None:
        super().__init__(jobs)
        self.cpus = limits.threads or 1
        limits = replace(limits, threads=self.cpus)
        self.address, self.gpus, self.limits = address, gpus, limits
        self.supervisor = Supervisor.here(limits, logs, preload)
        self._ray = _import_ray(ENVIRONMENT if address else ENVIRONMENT | LOOPBACK)
        self._own = False
        self._task: Any = None
        if address not in (None, "auto"):
            _check_answers(str(address))

    @classmethod
    def from_settings(cls, settings: AblationSettings, limits: Limits, logs: Path) -> "RayExecutor":
        """The executor that an ablation asks for."""
        return cls(settings.jobs, limits, logs, settings.execution.address, settings.execution.gpus)

    def start(self, job: Job) -> "RayRun":
        """Submit a job; the first one connects to Ray."""
        if self._task is None:
            self._connect()
            options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": self.limits.retries}
            self._task = self._ray.remote(**options)(Supervisor.run)
        return RayRun(self, job, self._task.remote(self.supervisor, job))

    def wait(self, runs: list["RayRun"], seconds: float) -> None:
        """Wait for the end of a task."""
        if runs:
            self._ray.wait([run.reference for run in runs], timeout=seconds)
        else:
            super().wait(runs, seconds)

    def close(self) -> None:
        """End a Ray of this executor's own."""
        if self._own:
            self._ray.shutdown()
        self._own, self._task = False, None

    def _connect(self) -> None:
        ray = self._ray
        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            quiet |= {"include_dashboard": False, "num_cpus": self.jobs * self.cpus}
        try:
            with kept_handlers():
                ray.init(address=self.address or "local", **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            hint = "start one with: ray start --head"
            raise ManifoldLoraError("Ray cluster", self.address, RUNNING, hint) from error
        self._own = True


class RayRun:
    """A job as a Ray task."""

    def __init__(self, executor: RayExecutor, job: Job, reference: Any) -> None:
        self.executor, self.job, self.reference = executor, job, reference

    def poll(self, on_progress: OnProgress) -> Outcome | None:
        """The outcome once the task has ended; no step is reported."""
        ray = self.executor._ray
        if not ray.wait([self.reference], timeout=0)[0]:
            return None
        try:
            outcome: Outcome = ray.get(self.reference)
        except ray.exceptions.OutOfMemoryError as error:
            return Outcome(self.job.id, "oom", _first_line(error))
        except ray.exceptions.RayError as error:
            return Outcome(self.job.id, "failed", f"{type(error).__name__}: {_first_line(error)}")
        return outcome

    def kill(self) -> None:
        """End the task; its child ends with the worker."""
        self.executor._ray.cancel(self.reference, force=True)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ManifoldLoraError("Ray cluster", address, RUNNING, str(error)) from error


def _import_ray(environment: dict[str, str]) -> Any:
    os.environ.update({name: value for name, value in environment.items() if name not in os.environ})
    try:
        import ray
    except ImportError as error:
        hint = "pip install 'manifold-lora[ray]'"
        raise ManifoldLoraError("executor", "ray", "local, or ray where it is installed", hint) from error
    return ray
