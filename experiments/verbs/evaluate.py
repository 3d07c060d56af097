"""manifold-lora evaluate FOLDER [--flags]"""

from pathlib import Path

from rich.console import Console

from manifold_lora.experiments.config import RunSettings
from manifold_lora.experiments.settings import load_settings, parse_flags
from manifold_lora.experiments.single import SETTINGS, evaluate
from manifold_lora.manifolds.errors import ManifoldLoraError


def main(argv: list[str]) -> int:
    """Answer the test sets with the adapter that ``train`` saved in FOLDER; flags change the settings."""
    if not argv or argv[0].startswith("-"):
        raise ManifoldLoraError("arguments", " ".join(argv), "the output folder of manifold-lora train")
    folder = Path(argv[0])
    run = load_settings(RunSettings, folder / SETTINGS)
    return evaluate(
        parse_flags(RunSettings, run, argv[1:], "manifold-lora evaluate FOLDER"), folder, Console()
    )
