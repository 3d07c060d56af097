"""From settings to the executor that cells run on."""

from manifold_lora.experiments.executors.base import Executor, Limits
from manifold_lora.experiments.executors.devices import Devices
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.experiments.settings.ablation import AblationSettings


def build_executor(settings: AblationSettings) -> Executor:
    """The executor of an ablation, not started.

    Raises ManifoldLoraError where Ray, submitit or sbatch is not installed, or GPUs are missing.
    """
    asked, logs = settings.execution, settings.output / "logs"
    limits = Limits(settings.timeout, asked.memory_mb, asked.retries, asked.threads)
    if asked.executor == "ray":
        from manifold_lora.experiments.executors.ray_cluster import RayExecutor

        return RayExecutor(settings.jobs, limits, logs, asked.address, asked.gpus)
    if asked.executor == "slurm":
        from manifold_lora.experiments.executors.slurm import SlurmExecutor

        return SlurmExecutor(settings.jobs, limits, logs, asked.gpus, asked.slurm)
    return LocalExecutor(settings.jobs, limits, logs, devices=Devices.of_machine(asked.gpus, settings.jobs))
