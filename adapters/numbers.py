"""Numbers per token in numpy or torch: numpy where the processor would spend its time on torch's overhead."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from manifold_lora.adapters.profile import Numbers

Result = TypeVar("Result")


def backend(x: Tensor) -> ModuleType:
    """Numpy for a plain tensor on the CPU; torch on devices, under tracing, and for tensor subclasses."""
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    plain = x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter)
    return np if plain and not traced else torch


def numbers(value: Tensor, xp: ModuleType) -> Numbers:
    """A detached tensor as the backend's array, memory shared."""
    return value.numpy() if xp is np else value


def constant(value: Tensor | float | None, xp: ModuleType) -> Numbers | None:
    """A one-element tensor as a float where the backend is numpy."""
    return value.item() if xp is np and isinstance(value, Tensor) else value


def evaluate(function: Callable[..., Result], *arguments: Any, xp: ModuleType) -> Result:
    """function(*arguments, xp), infinities and NaN passing without a warning, as they do in torch."""
    if xp is not np:
        return function(*arguments, xp)
    with np.errstate(all="ignore"):
        return function(*arguments, xp)


def tensor(value: Numbers) -> Tensor:
    """Back to torch, memory shared."""
    return value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))


def at_least(value: Numbers, least: float, xp: ModuleType) -> Numbers:
    """max(value, least); numpy's own clip costs four times its maximum."""
    return np.maximum(value, least) if xp is np else value.clip(min=least)


def at_most(value: Numbers, most: float, xp: ModuleType) -> Numbers:
    """min(value, most)."""
    return np.minimum(value, most) if xp is np else value.clip(max=most)


def beside(columns: list[Numbers], xp: ModuleType) -> Numbers:
    """Columns (tokens, 1) as one array (tokens, k)."""
    return np.concatenate(columns, axis=-1) if xp is np else torch.cat(columns, -1)
