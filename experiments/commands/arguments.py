"""What every verb's command line shares: an optional config file first, then flags over its fields."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from manifold_lora.errors import UnknownNameError
from manifold_lora.experiments.settings.parse import load_settings, parse_flags

Settings = TypeVar("Settings", bound=BaseModel)

SHIPPED = Path(__file__).parents[1] / "configs"


def parse(model: type[Settings], argv: list[str], verb: str) -> Settings:
    """Settings from ``[CONFIG] [--flags]``: default < YAML < flag. Raises ManifoldLoraError."""
    config = None
    if argv and not argv[0].startswith("-"):
        config, argv = config_file(argv[0]), argv[1:]
    return parse_flags(model, load_settings(model, config), argv, f"manifold-lora {verb} [CONFIG]")


def config_file(given: str) -> Path:
    """The file ``given``, or the shipped config of that name (``taxonomy``, ``paper/llama3_8b``).

    Raises:
        UnknownNameError: neither; a path with a suffix is left to whoever reads the file.
    """
    path = Path(given)
    if path.is_file() or path.suffix:
        return path
    shipped = {file.relative_to(SHIPPED).with_suffix("").as_posix(): file for file in SHIPPED.rglob("*.yaml")}
    if given not in shipped:
        raise UnknownNameError("config", given, ("a YAML file", *sorted(shipped)))
    return shipped[given]
