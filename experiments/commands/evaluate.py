"""manifold-lora evaluate [FOLDER] [--flags]"""

from pathlib import Path
from typing import Annotated

from tyro.conf import Fixed, Suppress

from manifold_lora.experiments.runs.folder import SETTINGS, RunFolder
from manifold_lora.experiments.settings.parse import load_settings, parse_flags
from manifold_lora.experiments.settings.preflight import check_model, check_places
from manifold_lora.experiments.settings.run import (
    AUTO,
    AdapterSettings,
    EvaluationSettings,
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


class Answering(EvaluationSettings):
    """How answers are generated and scored: without sampling."""

    retention: Annotated[str, Fixed, Suppress] = AUTO


class EvaluateCommand(RunSettings):
    """Answer the test sets with the adapter that train saved in FOLDER; by default as train did."""

    arm: Annotated[str, Fixed, Suppress] = "custom"
    task: AnsweredTask = AnsweredTask()
    model: LoadedModel = LoadedModel()
    adapter: Annotated[AdapterSettings, Fixed, Suppress] = AdapterSettings()
    train: Annotated[TrainSettings, Fixed, Suppress] = TrainSettings()
    evaluation: Answering = Answering()
    plugins: Annotated[tuple[str, ...], Fixed, Suppress] = ()


class EvaluateBaseCommand(EvaluateCommand):
    """Answer the test sets with a base model as it is; with the output FOLDER of train first, its adapter."""

    model: ModelSettings = ModelSettings()  # type: ignore[assignment]
    output: Path | None = None
    """Folder to write evaluation.json to; without one the scores are printed alone."""
    cache: Path = Path(".cache/bases")
    """Folder of the embedded bases."""


def main(argv: list[str]) -> int:
    """Answer the test sets with the adapter that ``train`` saved in FOLDER, or by a base model alone."""
    # Imported late: a typo is reported before rich and torch are loaded.
    if argv and not argv[0].startswith("-"):
        folder = Path(argv[0])
        saved = load_settings(EvaluateCommand, folder / SETTINGS)
        command = parse_flags(EvaluateCommand, saved, argv[1:], "manifold-lora evaluate FOLDER")
        run = RunSettings.model_validate(command.model_dump())
        check_places(output=folder)
        RunFolder(folder).check_finished()
        from rich.console import Console

        from manifold_lora.experiments.runs.single import evaluate

        return evaluate(run, folder, Console())
    base = parse_flags(EvaluateBaseCommand, EvaluateBaseCommand(), argv, "manifold-lora evaluate [FOLDER]")
    run = RunSettings.model_validate(base.model_dump(exclude={"output", "cache"}))
    check_places(output=base.output, cache=base.cache)
    check_model(run.model)
    from rich.console import Console

    from manifold_lora.experiments.runs.single import evaluate_base

    return evaluate_base(run, base.output, base.cache, Console())
