"""Where a model is put, and how many processes share a training."""

import os

from manifold_lora.errors import ManifoldLoraError


def device_of(setting: str) -> str | None:
    """The torch device of ``auto``, ``cpu`` or ``cuda`` in this process; None is the CPU.

    Raises ManifoldLoraError where ``cuda`` is asked for and there is none.
    """
    import torch

    if setting == "cpu" or (setting == "auto" and not torch.cuda.is_available()):
        return None
    if not torch.cuda.is_available():
        raise ManifoldLoraError("model.device", setting, "auto or cpu", "torch finds no GPU here")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def processes() -> int:
    """How many processes train together (torchrun says so); 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes the files of a training; so is the only one."""
    return os.environ.get("RANK", "0") == "0"
