"""What an ablation is made of: a run, a grid over it, and how cells are executed."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator
from tyro.conf import arg

from manifold_lora.experiments.settings.arms import ARMS
from manifold_lora.experiments.settings.executors import EXECUTORS
from manifold_lora.experiments.settings.run import RunSettings, Strict, YamlMapping


class ExecutionSettings(Strict):
    """Where cells run, and what each may use."""

    executor: Annotated[str, AfterValidator(EXECUTORS.check), arg(aliases=("--executor",))] = "local"
    """local: child processes of this machine; ray, slurm: a cluster (extras), by a shared output folder; or
    one that a plugin registers."""
    memory_mb: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Resident memory above which a cell is ended and counted as oom."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 2
    """How often a cell whose process or machine died is started again; one that raised an error is not."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Threads of each cell; empty: an equal share of the cores (one on a cluster)."""
    gpus: Annotated[float, Field(ge=0, le=4096)] = 0.0
    """GPUs of each cell; a fraction shares one (local: 0 or whole numbers)."""
    stale: Annotated[float, Field(ge=1, le=1e9)] = 120.0
    """Seconds of silence after which another machine's driver counts as dead and its cells are taken over."""
    address: str | None = None
    """Ray cluster to join: auto or host:port; empty: a local one on 127.0.0.1."""
    slurm: YamlMapping = {}  # noqa: RUF012 (pydantic copies it)
    """sbatch parameters by submitit's names without slurm_, e.g. {partition: gpu, account: me}."""


class AblationSettings(RunSettings):
    """Arms x learning rates x seeds on one task: a run with a grid over its fields."""

    grid: YamlMapping = {}  # noqa: RUF012 (pydantic copies it)
    """Dotted field -> values, e.g. {arm: [lora, direct], train.learning_rate: [1e-3, 1e-2]}; not the task nor
    the model, which all cells share. Combinations that cannot exist (boost on euclidean) are left out."""
    arms: YamlMapping = {}  # noqa: RUF012 (pydantic copies it)
    """Extra arms: name -> adapter fields that differ."""
    baseline: str = "lora"
    """Arm that paired differences are taken against: one of the grid's, where it has several."""
    output: Path = Path("runs/ablation")
    """Folder of results, logs, tables, figures and report.html."""
    cache: Path = Path(".cache/bases")
    """Folder of the embedded bases, pre-trained once per recipe."""
    null: Literal["none", "distilled"] = "none"
    """distilled: all of it once more with the answers of the best arm that is blind to norms as the truth
    (output/null): an arm's lead must exceed the one it has there."""
    jobs: Annotated[int, Field(ge=1, le=4096)] = 2
    """Cells at a time, one process and one thread each."""
    timeout: Annotated[float, Field(gt=0, le=1e9)] = 3600.0
    """Seconds after which a cell is ended and counted as timeout."""
    execution: ExecutionSettings = ExecutionSettings()

    @field_validator("grid")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        for key, values in value.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"a non-empty list of values for each key, not {key}: {values!r}")
        return value

    def all_arms(self) -> dict[str, dict[str, Any]]:
        """The built-in arms and this config's own, by name; a config's arm may replace a built-in one."""
        return {**ARMS, **self.arms}
