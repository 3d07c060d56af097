"""manifold-lora train [CONFIG.yaml] [--flags]"""

from pathlib import Path

from manifold_lora.experiments.commands.arguments import parse
from manifold_lora.experiments.executors.interrupt import ended_by_its_signal
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.preflight import preflight
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.sweeps.cells import expand
from manifold_lora.experiments.tasks.registry import check_inputs


class TrainCommand(RunSettings):
    """One adapter, trained and evaluated once, saved as a PEFT checkpoint."""

    output: Path = Path("runs/train")
    """Folder of the adapter (adapter/), its settings and its result."""
    cache: Path = Path(".cache/bases")
    """Folder of the embedded bases."""


def main(argv: list[str]) -> int:
    """Train one adapter; exit 0, 1 if it diverged, 2 for bad input, 130 after Ctrl-C.

    SIGTERM and SIGHUP end it by themselves once it has said how to go on.
    """
    command = parse(TrainCommand, argv, "train")
    fields = {name: getattr(command, name) for name in RunSettings.model_fields}
    (cell,) = expand(AblationSettings(**fields), {})
    check_inputs(cell.run.task, cell.run.model.name)
    preflight(cell.run, command.output, command.cache)
    with ended_by_its_signal():
        # Imported late: a typo is reported before rich and torch are loaded.
        from manifold_lora.experiments.commands.console import wide_console
        from manifold_lora.experiments.runs.single import train

        return train(cell.run, command.output, command.cache, wide_console())
