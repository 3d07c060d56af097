"""manifold-lora export FOLDER --to lora [--flags]"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.commands.console import wide_console
from manifold_lora.experiments.runs.folder import SETTINGS
from manifold_lora.experiments.settings.parse import parse_flags
from manifold_lora.experiments.settings.preflight import check_places
from manifold_lora.experiments.settings.run import Strict
from manifold_lora.models.saved.folders import adapter_folder, check_adapter_folder


class ExportCommand(Strict):
    """The nearest ordinary LoRA of a saved manifold adapter, and how far from it it is."""

    to: Literal["lora"] = "lora"
    """What to write: a PEFT LoRA, which any server loads and merges."""
    output: Path | None = None
    """Folder of the LoRA; FOLDER/lora by default."""
    text: Path | None = None
    """Text to fit on, one passage a line; by default the training examples of the run in FOLDER."""
    examples: Annotated[int, Field(ge=2, le=10**7)] = 256
    """Passages to fit to, and at most as many others to choose and to measure by."""
    max_length: Annotated[int, Field(ge=2, le=10**7)] = 512
    """Longer passages are cut after so many tokens."""
    batch_size: Annotated[int, Field(ge=1, le=10**7)] = 16


def main(argv: list[str]) -> int:
    """Export the adapter in FOLDER, of manifold-lora train or any saved one; exit 0, or 2 for bad input."""
    if not argv or argv[0].startswith("-"):
        if {"-h", "--help"} & set(argv):
            parse_flags(ExportCommand, ExportCommand(), argv, "manifold-lora export FOLDER")
        allowed = "the output folder of manifold-lora train, or an adapter's folder"
        raise ManifoldLoraError("arguments", " ".join(argv), allowed)
    folder, flags = Path(argv[0]), argv[1:]
    command = parse_flags(ExportCommand, ExportCommand(), flags, "manifold-lora export FOLDER")
    if not (folder / SETTINGS).is_file():
        check_adapter_folder(adapter_folder(str(folder)))
    check_places(output=command.output or folder / "lora")
    # Imported late: a typo is reported before torch is loaded.
    from manifold_lora.experiments.export.export import ExportOptions, export

    options = ExportOptions(
        command.output or folder / "lora",
        command.text,
        command.examples,
        command.max_length,
        command.batch_size,
    )
    return export(folder, options, wide_console())
