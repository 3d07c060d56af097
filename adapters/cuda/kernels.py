# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
"""The passes over x, in Triton: (A x, |x|^2) on the way up, (dX, dA) on the way down; and Gram matrices.

Each pass reads x once. Tiles are multiplied in their own dtype and accumulated in float32; WIDEN makes them
float32 first, for Triton's interpreter, which multiplies bfloat16 as integers.
"""

import triton
import triton.language as tl


@triton.jit
def _tile(pointers, mask, WIDEN: tl.constexpr):
    tile = tl.load(pointers, mask=mask, other=0.0)
    return tile.to(tl.float32) if WIDEN else tile


@triton.jit
def project(
    x_ptr,
    A_ptr,
    u_ptr,
    square_ptr,
    tokens,
    width,
    rank,
    stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    RANKS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """U = x A^T and abs(x)^2 for ROWS tokens a program."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    ranks = tl.arange(0, RANKS)
    live, inside = rows < tokens, ranks < rank
    lines = x_ptr + rows.to(tl.int64)[:, None] * stride
    u = tl.zeros((ROWS, RANKS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, width, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        within = columns < width
        x = _tile(lines + columns[None, :], live[:, None] & within[None, :], WIDEN)
        down = _tile(
            A_ptr + ranks[None, :] * width + columns[:, None], within[:, None] & inside[None, :], WIDEN
        )
        u = tl.dot(x, down, u, input_precision="ieee")
        wide = x.to(tl.float32)
        squares += wide * wide
    tile = rows.to(tl.int64)[:, None] * rank + ranks[None, :]
    tl.store(u_ptr + tile, u.to(u_ptr.dtype.element_ty), mask=live[:, None] & inside[None, :])
    tl.store(square_ptr + rows, tl.sum(squares, axis=1), mask=live)


@triton.jit
def pull_back(
    x_ptr,
    A_ptr,
    dU_ptr,
    along_ptr,
    dx_ptr,
    dA_ptr,
    tokens,
    width,
    rank,
    stride,
    share,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    RANKS: tl.constexpr,
    WIDEN: tl.constexpr,
    WANT_X: tl.constexpr,
    WANT_A: tl.constexpr,
):
    """DX = dU A + along x, and dA = dU^T x over each of the shares of the tokens, to be summed."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    ranks = tl.arange(0, RANKS)
    within, inside = columns < width, ranks < rank
    down_at = ranks[:, None] * width + columns[None, :]
    down_mask = inside[:, None] & within[None, :]
    down = _tile(A_ptr + down_at, down_mask, WIDEN)
    dA = tl.zeros((RANKS, COLUMNS), tl.float32)
    start = tl.program_id(1) * share
    for first in range(start, min(start + share, tokens), ROWS):
        rows = first + tl.arange(0, ROWS)
        live = rows < tokens
        wide_rows = rows.to(tl.int64)[:, None]
        mask = live[:, None] & within[None, :]
        x = _tile(x_ptr + wide_rows * stride + columns[None, :], mask, WIDEN)
        dU = _tile(dU_ptr + wide_rows * rank + ranks[None, :], live[:, None] & inside[None, :], WIDEN)
        if WANT_X:
            along = tl.load(along_ptr + rows, mask=live, other=0.0)
            dx = along[:, None] * x.to(tl.float32)
            dx = tl.dot(dU, down, dx, input_precision="ieee")
            tl.store(dx_ptr + wide_rows * width + columns[None, :], dx.to(dx_ptr.dtype.element_ty), mask=mask)
        if WANT_A:
            dA = tl.dot(tl.trans(dU), x, dA, input_precision="ieee")
    if WANT_A:
        part = tl.program_id(1).to(tl.int64) * rank * width
        tl.store(dA_ptr + part + down_at, dA, mask=down_mask)


@triton.jit
def cross(
    left_ptr,
    right_ptr,
    parts_ptr,
    count,
    rank,
    share,
    LINES: tl.constexpr,
    TILE: tl.constexpr,
):
    """Left^T right over each share of the rows, a tile of it, in float64; parts to be summed."""
    ones = tl.program_id(1) * TILE + tl.arange(0, TILE)
    others = tl.program_id(2) * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), tl.float64)
    start = tl.program_id(0) * share
    for first in range(start, min(start + share, count), LINES):
        lines = first + tl.arange(0, LINES)
        at, live = lines.to(tl.int64)[:, None] * rank, (lines < count)[:, None]
        left = tl.load(left_ptr + at + ones[None, :], mask=live & (ones < rank)[None, :], other=0.0)
        right = tl.load(right_ptr + at + others[None, :], mask=live & (others < rank)[None, :], other=0.0)
        # tl.dot has float64 in some versions of Triton on some processors.
        left, right = left.to(tl.float32).to(tl.float64), right.to(tl.float32).to(tl.float64)
        total += tl.sum(left[:, :, None] * right[:, None, :], axis=0)
    part = parts_ptr + tl.program_id(0).to(tl.int64) * rank * rank
    mask = (ones < rank)[:, None] & (others < rank)[None, :]
    tl.store(part + ones[:, None] * rank + others[None, :], total, mask=mask)
