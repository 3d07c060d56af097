"""Norms of tokens, accumulated in at least float32."""

import torch
from jaxtyping import Float
from torch import Tensor

# Rows per block: torch widens a half-precision input before it reduces, and a small copy stays in the cache.
_BLOCK = 256


def row_norm(x: Float[Tensor, "tokens n"]) -> Float[Tensor, "tokens 1"]:
    """|x| for each row, in float64 from a float32 (float64) accumulation; not differentiable by itself."""
    if x.dtype in (torch.float32, torch.float64):
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True).double()
    if x.is_cuda or torch.compiler.is_compiling() or x.shape[0] <= _BLOCK:
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).double()
    norms = x.new_empty(x.shape[0], 1, dtype=torch.float32)
    for rows, out in zip(x.split(_BLOCK), norms.split(_BLOCK), strict=True):
        torch.linalg.vector_norm(rows, dim=-1, keepdim=True, dtype=torch.float32, out=out)
    return norms.double()
