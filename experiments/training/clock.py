"""The clock that the costs of a run are read from."""

import time

import torch


def clock_of(device: torch.device) -> str:
    """``"cpu"``: seconds of this process on all its threads, for a model on the CPU; else ``"wall"``."""
    return "cpu" if device.type == "cpu" else "wall"


def now(device: torch.device) -> float:
    """Seconds of the device's clock. What else the machine runs does not count on a CPU."""
    return time.process_time() if clock_of(device) == "cpu" else time.perf_counter()
