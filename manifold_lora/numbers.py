"""What counts as a number in settings: no truth value, no NaN, no infinity."""

import sys
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is an int or a float that float64 holds, and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def is_whole(value: object, least: int = 1) -> TypeGuard[int]:
    """Whether a value is an int of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
