"""Which implementation of the fused update serves a batch: Triton's kernels on CUDA, torch everywhere else.

Both have one signature and one mathematics. ``torch_only`` and MANIFOLD_LORA_TRITON=0 keep Triton out.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from manifold_lora.adapters.transforms import Boost, Direct, Transform
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.lorentz import Lorentz
from manifold_lora.manifolds.radial import Radial

SWITCH = "MANIFOLD_LORA_TRITON"
# What the kernels have tiles for.
LARGEST_RANK = 256
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# bfloat16 matrix products on the processor.
_CAPABILITY = (8, 0)
_TORCH_ONLY: ContextVar[bool] = ContextVar("torch_only", default=False)


@contextmanager
def torch_only() -> Iterator[None]:
    """Forward passes inside take the torch path, and their backward passes with them."""
    token = _TORCH_ONLY.set(True)
    try:
        yield
    finally:
        _TORCH_ONLY.reset(token)


def fused_for(x: Tensor, A: Tensor, B: Tensor) -> Any | None:
    """``triton_update``, whose ``update`` is ``fused_function``'s, or None where torch is to compute.

    Torch computes off CUDA, in float64, for no more tokens than the rank, for ranks above 256, for
    subclasses of Tensor, and under torch.compile, which fuses the numbers per token by itself.
    """
    if not x.is_cuda or torch.compiler.is_compiling() or _TORCH_ONLY.get() or os.environ.get(SWITCH) == "0":
        return None
    plain = all(_is_plain(tensor) for tensor in (x, A, B))
    return _module() if plain and fits(x, A, B) and _device_serves(x.device) else None


def fits(x: Tensor, A: Tensor, B: Tensor) -> bool:
    """Are the kernels written for these dtypes and sizes?"""
    one_dtype = x.dtype == A.dtype == B.dtype
    return one_dtype and x.dtype in _DTYPES and B.shape[1] <= min(LARGEST_RANK, x.shape[0] - 1)


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter)


@cache
def _device_serves(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= _CAPABILITY


@cache
def _module() -> Any | None:
    return import_module("manifold_lora.adapters.cuda.update") if find_spec("triton") else None


def has_fused(manifold: Manifold, transform: Transform) -> bool:
    """Is there an update with a gradient of its own for these parts?"""
    if not isinstance(manifold, Radial) or not manifold.follows_law():
        return False
    if type(transform) is Boost:
        return isinstance(manifold, Lorentz)
    return type(transform) is Direct
