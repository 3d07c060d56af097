"""The SLURM executor: each job is one submission, through submitit; a lost one is submitted again."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.base import Executor, Job, Limits, OnProgress, Outcome
from manifold_lora.experiments.executors.fork_server import PRELOAD
from manifold_lora.experiments.executors.supervisor import Supervisor
from manifold_lora.experiments.settings.ablation import AblationSettings

# What SLURM says of a job that left no outcome, and what it means; anything else is a lost machine.
ENDINGS = {"OUT_OF_MEMORY": "oom", "TIMEOUT": "timeout"}
# Minutes that starting Python on a node may take beyond a cell's own time.
STARTING = 10


class SlurmExecutor(Executor):
    """Runs jobs on a SLURM cluster whose nodes share the output and cache folders with this machine.

    Args:
        jobs: how many submissions at a time.
        limits: time and memory of each; ``retries`` counts lost nodes and preemptions too.
        logs: folder of log files; submitit's own lie in ``logs/submitit``.
        gpus: of each job, whole.
        parameters: of sbatch, by submitit's names without ``slurm_``: partition, account, qos, ...
        cluster: submitit's cluster; ``local`` runs the same path on this machine.
        preload: modules that a node imports before a job starts.

    Raises ManifoldLoraError where submitit or sbatch is missing, or a parameter is unknown.
    """

    def __init__(
        self,
        jobs: int,
        limits: Limits,
        logs: Path,
        gpus: float = 0.0,
        parameters: Mapping[str, Any] | None = None,
        cluster: str = "slurm",
        preload: tuple[str, ...] = PRELOAD,
    ) -> None:
        super().__init__(jobs)
        threads = limits.threads or 1
        self.limits = replace(limits, threads=threads)
        self.supervisor = Supervisor.here(self.limits, logs, preload)
        self.submitit = _submitit(cluster)
        if gpus != int(gpus):
            raise ManifoldLoraError("execution.gpus of the slurm executor", gpus, "a whole number")
        attempts = limits.timeout * (limits.retries + 1) / 60
        asked = {"timeout_min": math.ceil(attempts) + STARTING, "cpus_per_task": threads}
        asked |= {"gpus_per_node": int(gpus)} if gpus else {}
        # The child's own limit comes first: it tells which cell, and how much it took.
        asked |= {"mem_gb": math.ceil(limits.memory_mb / 1024) + 2} if limits.memory_mb else {}
        named = {f"slurm_{name}": value for name, value in (parameters or {}).items()}
        try:
            self.queue = self.submitit.AutoExecutor(logs.absolute() / "submitit", cluster=cluster)
            self.queue.update_parameters(**asked, **named)
        except (NameError, TypeError, ValueError, AssertionError) as error:
            raise ManifoldLoraError("execution.slurm", dict(parameters or {}), str(error)) from error

    @classmethod
    def from_settings(cls, settings: AblationSettings, limits: Limits, logs: Path) -> "SlurmExecutor":
        """The executor that an ablation asks for."""
        return cls(settings.jobs, limits, logs, settings.execution.gpus, settings.execution.slurm)

    def start(self, job: Job) -> "SlurmRun":
        """Submit a job."""
        return SlurmRun(self, job)


class SlurmRun:
    """A job in SLURM's queue or on a node, submitted again as often as the limits allow if that is lost."""

    def __init__(self, executor: SlurmExecutor, job: Job) -> None:
        self.executor, self.job = executor, job
        self.attempts = 0
        self._submit()

    def _submit(self) -> None:
        self.attempts += 1
        self.submitted = self.executor.queue.submit(Supervisor.run, self.executor.supervisor, self.job)

    def poll(self, on_progress: OnProgress) -> Outcome | None:
        """The outcome once the submission has ended; no step is reported."""
        if not self.submitted.done():
            return None
        errors = self.executor.submitit.core.utils
        try:
            outcome: Outcome = self.submitted.result()
        except errors.FailedJobError as error:
            return Outcome(self.job.id, "failed", "it could not be started", traceback=str(error))
        except errors.UncompletedJobError as error:
            return self._lost(str(error).splitlines()[0])
        return outcome

    def kill(self) -> None:
        """Cancel the submission; its child ends with it."""
        self.submitted.cancel(check=False)

    def _lost(self, reason: str) -> Outcome | None:
        state = str(self.submitted.state).upper()
        status = next((status for word, status in ENDINGS.items() if state.startswith(word)), "")
        if not status and self.attempts <= self.executor.limits.retries:
            self._submit()
            return None
        return Outcome(self.job.id, status or "failed", f"{state}: {reason}")


def _submitit(cluster: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        hint = "pip install 'manifold-lora[slurm]'"
        raise ManifoldLoraError("executor", "slurm", "local, or slurm with submitit", hint) from error
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ManifoldLoraError(
            "executor", "slurm", "a machine that has sbatch", "start it on the cluster's login node"
        )
    return submitit
