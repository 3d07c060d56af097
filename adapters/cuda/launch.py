"""Tile sizes, grids and buffers of the Triton kernels: a function each."""

import os
from functools import cache
from typing import NamedTuple

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.cuda import kernels as triton_kernels
from manifold_lora.adapters.cuda import scalars as triton_scalars

_SCALAR_TILE = 512
# Tokens in a tile of the passes over x, which are bound by memory: few, for many programs.
_ROWS = 32
# A stage of ``project``, and the block of A in ``pull_back``, in bytes: all stages fit on sm_80 and later.
_STAGE_BYTES = 16384
_BLOCK_BYTES = 16384
# Rows of a program of ``cross``, and the side of its cubes of float64.
_SHARE = 64
_TILE = 16
# As Triton reads it, in every version.
_INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "y", "yes")


class Constants(NamedTuple):
    """The chart and the factor: one-element float64 tensors, and what the kernels are compiled for."""

    radius: Tensor
    length: Tensor
    factor: Tensor
    kind: str
    unit: bool
    cap: float
    edge: float
    limit: float
    bent: float


class Slopes(NamedTuple):
    """What the backward needs of the tokens.

    Args:
        dU, w: (tokens, r), in the dtype of u.
        bent: gamma c_q/q u, (tokens, r) in float32.
        along: gamma c_n/n, (tokens,) in float32.
        sums: over the tokens, of gamma R c_R, gamma alpha c_alpha and gamma c / factor, (3,) in float64.
    """

    dU: Tensor
    w: Tensor
    bent: Tensor
    along: Tensor
    sums: Tensor


def project(x: Float[Tensor, "tokens n"], A: Float[Tensor, "r n"]) -> tuple[Tensor, Tensor]:
    """(u, |x|^2): (tokens, r) in the dtype of x and (tokens,) in float32, from one pass over x."""
    x, A = _rows_contiguous(x), A.contiguous()
    (tokens, width), rank = x.shape, A.shape[0]
    u = x.new_empty(tokens, rank)
    square = x.new_empty(tokens, dtype=torch.float32)
    ranks = _ranks(rank)
    columns = min(128, max(16, _power_below(_STAGE_BYTES // (x.element_size() * (_ROWS + ranks)))))
    with torch.cuda.device_of(x):
        triton_kernels.project[(triton.cdiv(tokens, _ROWS),)](
            x, A, u, square, tokens, width, rank, x.stride(0), ROWS=_ROWS, COLUMNS=columns, RANKS=ranks,
            WIDEN=_INTERPRETED, num_warps=4, num_stages=4,
        )  # fmt: skip
    return u, square


def pull_back(
    x: Float[Tensor, "tokens n"],
    A: Float[Tensor, "r n"],
    dU: Float[Tensor, "tokens r"],
    along: Float[Tensor, " tokens"],
    want_x: bool,
    want_A: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """(dX, dA) = (dU A + along x, dU^T x), None where not wanted, from one pass over x."""
    if not (want_x or want_A):
        return None, None
    x, A = _rows_contiguous(x), A.contiguous()
    (tokens, width), rank = x.shape, A.shape[0]
    ranks = _ranks(rank)
    columns = min(128, _BLOCK_BYTES // (x.element_size() * ranks))
    across = triton.cdiv(width, columns)
    blocks = triton.cdiv(tokens, _ROWS)
    share = triton.cdiv(blocks, max(1, 2 * _processors(x.device) // across)) * _ROWS
    shares = triton.cdiv(tokens, share)
    dx = x.new_empty(tokens, width) if want_x else x
    parts = x.new_empty(shares, rank, width, dtype=torch.float32) if want_A else x
    with torch.cuda.device_of(x):
        triton_kernels.pull_back[(across, shares)](
            x, A, dU, along, dx, parts, tokens, width, rank, x.stride(0), share, ROWS=_ROWS, COLUMNS=columns,
            RANKS=ranks, WIDEN=_INTERPRETED, WANT_X=want_x, WANT_A=want_A,
            num_warps=4 if x.element_size() == 2 else 8, num_stages=3,
        )  # fmt: skip
    return dx if want_x else None, parts.sum(0).to(A.dtype) if want_A else None


def cross(left: Float[Tensor, "lines r"], right: Float[Tensor, "lines r"]) -> Float[Tensor, "r r"]:
    """left^T right in float64, in two launches: cuBLAS has little to share out where r is small."""
    left, right = left.contiguous(), right.contiguous()
    count, rank = left.shape
    shares, tiles = triton.cdiv(count, _SHARE), triton.cdiv(rank, _TILE)
    parts = left.new_empty(shares, rank, rank, dtype=torch.float64)
    with torch.cuda.device_of(left):
        triton_kernels.cross[(shares, tiles, tiles)](
            left, right, parts, count, rank, _SHARE, LINES=_TILE, TILE=_TILE, num_warps=4
        )
    return parts.sum(0)


def gains(u: Tensor, gram: Tensor, square: Tensor, constants: Constants) -> Tensor:
    """W = factor c u, in the dtype of u."""
    w = torch.empty_like(u)
    grid, sizes = _scalar_grid(u)
    with torch.cuda.device_of(u):
        triton_scalars.gains[grid](
            u, gram, square, *constants[:3], w, *u.shape, *constants[3:-1], *sizes, num_warps=4
        )
    return w


def slopes(P: Tensor, u: Tensor, gram: Tensor, square: Tensor, constants: Constants) -> Slopes:
    """From P = g B and what the forward kept to ``Slopes``."""
    grid, sizes = _scalar_grid(u)
    dU, w, bent = torch.empty_like(u), torch.empty_like(u), torch.empty_like(u, dtype=torch.float32)
    along = torch.empty_like(square)
    sums = u.new_empty(*grid, 3, dtype=torch.float64)
    with torch.cuda.device_of(u):
        triton_scalars.slopes[grid](
            P.contiguous(), u, gram, square, *constants[:3], dU, w, bent, along, sums,
            *u.shape, *constants[3:], *sizes, num_warps=4,
        )  # fmt: skip
    return Slopes(dU, w, bent, along, sums.sum(0))


def _scalar_grid(u: Tensor) -> tuple[tuple[int], tuple[int, int]]:
    tokens, rank = u.shape
    ranks = _ranks(rank)
    rows = max(1, _SCALAR_TILE // ranks)
    return (triton.cdiv(tokens, rows),), (rows, ranks)


def _ranks(rank: int) -> int:
    """The rank as tl.dot takes it: a power of 2 and 16 or more."""
    return max(16, triton.next_power_of_2(rank))


def _power_below(value: int) -> int:
    return 1 << (value.bit_length() - 1)


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8
