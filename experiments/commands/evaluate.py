"""manifold-lora evaluate FOLDER [--flags]"""

from pathlib import Path
from typing import Annotated

from tyro.conf import Fixed, Suppress

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.folder import SETTINGS
from manifold_lora.experiments.settings.parse import load_settings, parse_flags
from manifold_lora.experiments.settings.run import (
    AdapterSettings,
    ModelSettings,
    RunSettings,
    TaskSettings,
    TrainSettings,
)

# What was trained, and how, is as it was saved: a flag that would change nothing is not taken.


class AnsweredTask(TaskSettings):
    """Which problems are answered."""

    completion_only: Annotated[bool, Fixed, Suppress] = True


class LoadedModel(ModelSettings):
    """How the base model is loaded; which one it is, the adapter says."""

    name: Annotated[str, Fixed, Suppress] = "embedded"


class EvaluateCommand(RunSettings):
    """Answer the test sets with the adapter that train saved in FOLDER; by default as train did."""

    arm: Annotated[str, Fixed, Suppress] = "custom"
    task: AnsweredTask = AnsweredTask()
    model: LoadedModel = LoadedModel()
    adapter: Annotated[AdapterSettings, Fixed, Suppress] = AdapterSettings()
    train: Annotated[TrainSettings, Fixed, Suppress] = TrainSettings()
    plugins: Annotated[tuple[str, ...], Fixed, Suppress] = ()


def main(argv: list[str]) -> int:
    """Answer the test sets with the adapter that ``train`` saved in FOLDER; flags change the settings."""
    folder = _folder(argv)
    saved = load_settings(EvaluateCommand, folder / SETTINGS) if folder else EvaluateCommand()
    flags = argv[1:] if folder else argv
    command = parse_flags(EvaluateCommand, saved, flags, "manifold-lora evaluate FOLDER")
    run = RunSettings.model_validate(command.model_dump())
    # Imported late: a typo is told before rich and torch are loaded.
    from rich.console import Console

    from manifold_lora.experiments.runs.single import evaluate

    return evaluate(run, folder or Path(), Console())


def _folder(argv: list[str]) -> Path | None:
    """The run's folder; None where help alone is asked for."""
    if argv and argv[0] in ("-h", "--help"):
        return None
    if not argv or argv[0].startswith("-"):
        raise ManifoldLoraError("arguments", " ".join(argv), "the output folder of manifold-lora train")
    return Path(argv[0])
