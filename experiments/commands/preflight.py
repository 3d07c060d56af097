"""manifold-lora preflight [CONFIG.yaml] [--flags]"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from manifold_lora.experiments.commands.arguments import parse
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.preflight import check_model, check_places
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.sweeps.cells import expand


class PreflightCommand(RunSettings):
    """What training rows meet in each adapted layer, before anything is trained."""

    cache: Path = Path(".cache/bases")
    """Folder of the embedded bases."""
    shown: Annotated[int, Field(ge=0, le=10**7)] = 8
    """Modules that the table shows: those with the largest angles."""


def main(argv: list[str]) -> int:
    """Measure one run before its first step; exit 0, 1 where it cannot work, or 2 for bad input."""
    command = parse(PreflightCommand, argv, "preflight")
    fields = {name: getattr(command, name) for name in RunSettings.model_fields}
    (cell,) = expand(AblationSettings(**fields), {})
    check_places(cache=command.cache)
    check_model(cell.run.model)
    # Imported late: a typo is reported before rich and torch are loaded.
    from manifold_lora.experiments.commands.console import wide_console
    from manifold_lora.experiments.runs.preflight_command import preflight_alone

    return preflight_alone(cell.run, command.cache, command.shown, wide_console())
