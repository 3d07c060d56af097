"""Numbers per token in numpy or torch: numpy where the processor would spend its time on torch's overhead."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from manifold_lora.manifolds.radial_law import Numbers

Result = TypeVar("Result")


def backend(x: Tensor) -> ModuleType:
    """Numpy for a plain tensor on the CPU; torch on devices, under tracing, and for tensor subclasses."""
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return np if is_plain(x) and not traced else torch


def is_plain(x: Tensor) -> bool:
    """Is x on the CPU and of no class of its own?"""
    return x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter)


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


def some(tokens: Numbers, xp: ModuleType) -> Numbers | None:
    """The tokens that are marked, or None where numpy finds none, whose formula is not needed then."""
    return None if xp is np and not tokens.any() else tokens


def beside(columns: list[Numbers], xp: ModuleType) -> Numbers:
    """Columns (tokens, 1) as one array (tokens, k)."""
    return np.concatenate(columns, axis=-1) if xp is np else torch.cat(columns, -1)


# Entries a block: torch widens a half-precision input before it reduces, and a small copy stays in the cache.
_BLOCK = 2**19


def row_norm(x: Float[Tensor, "tokens n"]) -> Float[Tensor, "tokens 1"]:
    """|x| for each row, in float64 from a float32 (float64) accumulation; not differentiable by itself."""
    if x.dtype in (torch.float32, torch.float64):
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True).double()
    if x.is_cuda or torch.compiler.is_compiling() or x.numel() <= _BLOCK:
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).double()
    norms, rows_each = x.new_empty(x.shape[0], 1, dtype=torch.float32), max(1, _BLOCK // x.shape[-1])
    for rows, out in zip(x.split(rows_each), norms.split(rows_each), strict=True):
        torch.linalg.vector_norm(rows, dim=-1, keepdim=True, dtype=torch.float32, out=out)
    return norms.double()


def narrow(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to a dtype; float16, whose range a large gain leaves, saturates: infinity times B = 0 is NaN."""
    if dtype == torch.float16:
        wide = wide.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max)
    return wide.to(dtype)


def finite(columns: Tensor, dtype: torch.dtype) -> Tensor:
    """Round; where B = 0 some slopes are of any size, to be multiplied by 0, which infinity is not."""
    limit = torch.finfo(dtype).max
    return columns.clamp(-limit, limit).to(dtype)


def is_transformed() -> bool:
    """Is a torch.func transform (vmap, grad, jvp) or forward-mode differentiation under way?"""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.maybe_current_level() is not None or forward_ad._current_level >= 0


def gram_of(B: Tensor) -> Tensor:
    """B^T B in float64."""
    wide = B.double()
    return wide.T @ wide
