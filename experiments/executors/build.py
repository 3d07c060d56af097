"""From settings to the executor that cells run on."""

from manifold_lora.experiments.executors.base import Executor, Limits
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.executors import EXECUTORS


def build_executor(settings: AblationSettings) -> Executor:
    """The executor of an ablation, not started.

    Raises ManifoldLoraError where a package or a program that it needs is not installed, or GPUs are missing.
    """
    asked = settings.execution
    limits = Limits(settings.timeout, asked.memory_mb, asked.retries, asked.threads)
    made: Executor = EXECUTORS[asked.executor].from_settings(settings, limits, settings.output / "logs")
    return made
