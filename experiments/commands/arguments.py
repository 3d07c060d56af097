"""What every verb's command line shares: an optional config file first, then flags over its fields."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from manifold_lora.experiments.settings.parse import load_settings, parse_flags

Settings = TypeVar("Settings", bound=BaseModel)


def parse(model: type[Settings], argv: list[str], verb: str) -> Settings:
    """Settings from ``[CONFIG.yaml] [--flags]``: default < YAML < flag. Raises ManifoldLoraError."""
    config = None
    if argv and not argv[0].startswith("-"):
        config, argv = Path(argv[0]), argv[1:]
    return parse_flags(model, load_settings(model, config), argv, f"manifold-lora {verb} [CONFIG.yaml]")
