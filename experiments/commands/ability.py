"""manifold-lora ability [CONFIG.yaml] [--flags]"""

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo, field_validator

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.commands.arguments import parse
from manifold_lora.experiments.settings.preflight import check_places
from manifold_lora.experiments.settings.run import Count, Seed, Strict, YamlValue


class AbilitySettings(Strict):
    """Delta of each prompt against right or wrong and the likelihood of the gold text, over runs."""

    runs: tuple[str, ...] = ()
    """Folders of train, or of evaluate --output; changes are measured from the first one to each other."""
    pretraining: str | None = None
    """In place of runs: the task whose embedded base is pre-trained, kept at `steps`, and asked its task."""
    steps: YamlValue = (0, 100, 300)
    """Steps of that pre-training after which the base is kept; the end is one more."""
    layers: YamlValue = "auto"
    """Hidden states: a list of layers, or auto for the embeddings, the middle and the last one."""
    prompts: Count = 200
    """Measure at most this many prompts of every set, the first ones."""
    null_draws: Count = 2
    """Draws of each null per prompt."""
    resamples: Count = 1000
    """Bootstrap draws of the prompts, for the intervals."""
    seed: Seed = 0
    output: Path = Path("runs/ability")
    """Folder of prompts.csv (every prompt), deltas.csv, correlations.csv and the settings, ability.yaml."""

    @field_validator("layers", "steps")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        numbers = isinstance(value, list | tuple) and value and all(type(one) is int for one in value)
        if not numbers and (info.field_name, value) != ("layers", "auto"):
            raise ValueError("a list of whole numbers")
        return value


def main(argv: list[str]) -> int:
    """Measure, write and print a line for each run and layer; exit 0."""
    settings = parse(AbilitySettings, argv, "ability")
    if bool(settings.runs) == (settings.pretraining is not None):
        hint = "pass --runs FOLDER FOLDER, or --pretraining TASK"
        raise ManifoldLoraError("what to measure", settings.runs or "nothing", "runs or a pre-training", hint)
    check_places(output=settings.output)
    # Imported late: a typo is reported before rich and torch are loaded.
    from rich.console import Console

    from manifold_lora.experiments.executors.progress import shown_on
    from manifold_lora.experiments.reports.csv_files import csv_text
    from manifold_lora.experiments.results.atomic import write_text
    from manifold_lora.experiments.runs.ability import correlations, deltas, measure_run
    from manifold_lora.experiments.settings.parse import dump_yaml
    from manifold_lora.experiments.token_geometry.ability import PromptRow
    from manifold_lora.experiments.token_geometry.prompts import DeltaOptions

    folders = [Path(run) for run in settings.runs] or _pretrained(settings)
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise ManifoldLoraError("runs", ", ".join(names), "folders of different names")
    options = DeltaOptions(draws=settings.null_draws, seed=settings.seed)
    layers = None if settings.layers == "auto" else settings.layers
    rows: list[PromptRow] = []
    with shown_on(Console(stderr=True)) as shown:
        for place, folder in enumerate(folders, start=1):
            tick = partial(shown.move, "prompts", f"prompts of {folder.name}")
            rows += measure_run(folder, layers, settings.prompts, options, tick)
            shown.move("runs", "runs", place, len(folders))
    found = {
        "prompts": [vars(row) for row in rows],
        "deltas": deltas(rows, settings.resamples, settings.seed),
        "correlations": correlations(rows, settings.resamples, settings.seed),
    }
    for name, lines in found.items():
        write_text(settings.output / f"{name}.csv", csv_text(lines))
    write_text(settings.output / "ability.yaml", dump_yaml(settings))
    for line in found["deltas"]:
        print(
            "{run}, {layer}: delta {delta:.3f}, Gaussian null {gaussian:.3f}, excess {excess:+.3f} "
            "[{excess_low:+.3f}, {excess_high:+.3f}]; {right:.1%} right".format(**line)
        )
    print(f"{len(found['correlations'])} correlations in {settings.output / 'correlations.csv'}")
    return 0


def _pretrained(settings: AbilitySettings) -> list[Path]:
    """Folders of evaluations of the embedded base at its steps, each of its first items."""
    from rich.console import Console

    from manifold_lora.experiments.runs.single import evaluate_base
    from manifold_lora.experiments.settings.run import (
        EvaluationSettings,
        ModelSettings,
        RunSettings,
        TaskSettings,
    )
    from manifold_lora.experiments.tasks.registry import build_task
    from manifold_lora.experiments.training.pretrain import pretrain_in_steps

    name = str(settings.pretraining)
    bases = pretrain_in_steps(build_task(name), settings.output / "bases", settings.steps)
    folders = []
    for base in bases.values():
        run = RunSettings(
            task=TaskSettings(name=name),
            model=ModelSettings(name=str(base)),
            evaluation=EvaluationSettings(limit=settings.prompts),
        )
        folders.append(settings.output / base.name)
        evaluate_base(run, folders[-1], settings.output / "cache", Console(stderr=True))
    return folders
